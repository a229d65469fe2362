//! A long log from its start.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::figure::{CPU_PER_EVENT, EVENTS};
use super::load::Stage;
use crate::bench::drain::{Readers, Target, Transport};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::{Kind, Subject};

/// Logs of two lengths over gRPC, server-sent events and WebSocket.
pub async fn replay(bench: &Bench<'_>) {
    for events in bench.plan.size([100_000, 1_000_000], [10_000, 20_000]) {
        if !bench.wants(&format!("{events} events")) {
            continue;
        }
        bench.tell(&format!("replay · {events} events …"));
        if let Err(error) = log(bench, events).await {
            bench.failed(&format!("replay · {events} events"), &error);
        }
    }
}

async fn log(bench: &Bench<'_>, events: u64) -> Result<()> {
    let mut stage = Stage::set(bench, Kind::Baton).await?;
    stage.fill(bench.plan.event_bytes, events).await?;
    let older = match bench.plan.baselines.is_some() && events <= 100_000 {
        true => {
            let subject = Subject::older(bench.plan, bench.machine, "normal", true)?;
            let mut stage = Stage::on(subject).await?;
            stage.fill(bench.plan.event_bytes, events).await?;
            Some(stage)
        }
        false => None,
    };
    let bare = Subject::start(Kind::Bare, bench.plan, bench.machine)?;
    for transport in [Transport::Grpc, Transport::Sse, Transport::Ws] {
        let mut point = Point::new(
            "replay",
            format!("{}, {events} events, warm", transport.name()),
        );
        for round in bench.plan.rounds() {
            let target = Target::of(&stage.subject, transport, &stage.session);
            let ours = read(&stage.subject, &target, events).await?;
            let mut theirs = Vec::new();
            if transport == Transport::Grpc {
                let mut target = Target::of(&bare, transport, "");
                target.replays = Some((events, bench.plan.event_bytes));
                theirs.push(("stored frames, bare", read(&bare, &target, events).await?));
            } else if let Some(older) = &older {
                let mut target = Target::of(&older.subject, Transport::Ws, &older.session);
                target.replays = Some((events, 0));
                theirs.push(("older design", read(&older.subject, &target, events).await?));
            }
            if round > 0 {
                for (name, (rate, cpu)) in std::iter::once(("baton", ours)).chain(theirs) {
                    point.add(EVENTS, name, rate);
                    point.add(CPU_PER_EVENT, name, cpu);
                }
            }
        }
        if transport == Transport::Grpc {
            let ratio = point.ratio(CPU_PER_EVENT, "stored frames, bare", "baton");
            point.at_least("P12", "events per CPU second, to stored frames", ratio, 0.3);
        } else if older.is_some() {
            let ratio = point.ratio(CPU_PER_EVENT, "older design", "baton");
            point.at_least(
                "P13",
                "events per CPU second, to the older design",
                ratio,
                2.5,
            );
        }
        bench.done(point);
    }
    Ok(())
}

/// Reads everything; events a second, and processor time of each in microseconds.
async fn read(subject: &Subject, target: &Target, events: u64) -> Result<(f64, f64)> {
    let (cpu, begun) = (subject.process.cpu()?, Instant::now());
    let mut readers = Readers::open(target, 1).await?;
    tokio::time::timeout(Duration::from_secs(120), readers.reach(events))
        .await
        .context("a log was not read in two minutes")??;
    let wall = begun.elapsed();
    let cpu = subject.process.cpu()?.saturating_sub(cpu);
    readers.close().await?;
    Ok((
        events as f64 / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / events as f64,
    ))
}
