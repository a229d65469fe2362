//! A server is killed and started anew, and all its daemons come back at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand::Rng as _;

use super::idle::many;
use crate::bench::address::Address;
use crate::bench::publish::{Enrolled, Machine};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::{Subject, data_dir};

const ALL: &str = "until all are back, s";
const CPU: &str = "server CPU for each, ms";
const TRIES: &str = "tries of each";
const MEMORY: &str = "peak memory, MiB";

/// The longest pause between two tries, as the real daemon's first ones.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one may take to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// 2,000 daemons, each with a session.
pub async fn storm(bench: &Bench<'_>) {
    let count = bench.plan.size(2_000, 100);
    let name = format!("{count} daemons come back");
    let measure = async |point: &mut Point| {
        for _ in 0..bench.plan.rounds.min(3) {
            round(bench, count, point).await?;
        }
        Ok(())
    };
    bench.point("storm", &name, measure).await;
}

/// A daemon, and how far its session's records were acknowledged.
struct Known {
    enrolled: Enrolled,
    session: String,
    acked: u64,
}

async fn round(bench: &Bench<'_>, count: usize, point: &mut Point) -> Result<()> {
    let subject = Subject::baton(bench.plan, bench.machine, data_dir(bench.plan)?, &[])?;
    let client = subject.client().await?;
    let (client, address) = (&client, &subject.address);
    let known = many(count, |at| async move {
        let enrolled = Machine::enroll(client, address, &format!("storm{at}")).await?;
        let machine = Machine::link(address, &enrolled, 1, &[]).await?;
        let mut session = machine.session(client).await?;
        session.send(vec!["one line".to_owned()]).await?;
        session.settle(0).await?;
        let known = Known {
            enrolled,
            session: session.id.clone(),
            acked: session.acked(),
        };
        // The link stays until the server is gone.
        Ok((known, machine))
    });
    let known = known.await?;
    let port = subject.address.port;
    let dir = subject.kill()?.context("a data directory")?;
    let known: Vec<Known> = known.into_iter().map(|(known, _)| known).collect();
    let listen = format!("listen=127.0.0.1:{port}");
    let subject = Subject::baton(bench.plan, bench.machine, dir, &[&listen])?;
    let (cpu, begun) = (subject.process.cpu()?, Instant::now());
    let mut jobs = tokio::task::JoinSet::new();
    for known in known {
        let address = subject.address.clone();
        jobs.spawn(async move { come_back(&address, known).await });
    }
    let (mut machines, mut tries) = (Vec::new(), 0);
    while let Some(done) = jobs.join_next().await {
        let (machine, tried) = done??;
        machines.push(machine);
        tries += tried;
    }
    point.add(ALL, "baton", begun.elapsed().as_secs_f64());
    let cpu = subject.process.cpu()?.saturating_sub(cpu);
    point.add(CPU, "baton", cpu.as_secs_f64() * 1e3 / count as f64);
    point.add(TRIES, "baton", f64::from(tries) / count as f64);
    let peak = subject.process.peak_memory()?;
    point.add(MEMORY, "baton", peak as f64 / f64::from(1 << 20));
    Ok(())
}

/// With full jitter, as daemons do; then nothing that was acknowledged may be missing, and the next record is taken.
async fn come_back(address: &Address, known: Known) -> Result<(Machine, u32)> {
    let end = Instant::now() + PATIENCE;
    let mut tries = 0;
    loop {
        tries += 1;
        let pause = rand::rng().random_range(Duration::ZERO..PAUSE);
        tokio::time::sleep(pause).await;
        let reports = [(known.session.clone(), known.acked)];
        match Machine::link(address, &known.enrolled, u64::from(tries) + 1, &reports).await {
            Ok(machine) => {
                let mut session = machine
                    .known(&known.session, known.acked)
                    .context("the server does not know a session that it had acknowledged")?;
                anyhow::ensure!(
                    session.acked() == known.acked,
                    "the server has {} records of {} that it had acknowledged",
                    session.acked(),
                    known.acked
                );
                session.send(vec!["one more line".to_owned()]).await?;
                session.settle(0).await?;
                return Ok((machine, tries));
            }
            Err(error) if Instant::now() > end => return Err(error).context("coming back"),
            Err(_) => {}
        }
    }
}
