//! What must not grow with what the server has: with the length of a session, with sessions beside it, with readers.

use anyhow::{Context as _, Result};

use super::figure::{CPU_PER_DELIVERY, CPU_PER_EVENT};
use super::idle::many;
use super::load::{Padding, Rate, Stage, bring};
use crate::bench::drain::Transport;
use crate::bench::publish::Publisher;
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::{Kind, Subject};

/// How much a delivery to many costs, to one to few.
const GROWTH: &str = "growth of CPU per delivery";
/// What a short session holds before it is measured.
const SHORT: u64 = 1_000;

/// Ingest into a long session and into a short one, beside many and beside none; fan-out to many readers and to few.
pub async fn flat(bench: &Bench<'_>) {
    let events = bench.plan.size(1_000_000, 10_000);
    let name = format!("ingest into a session of {events} events");
    let measure = async |point: &mut Point| {
        let (long, short) = lengths(bench, events, point).await?;
        let ratio = point.ratio(CPU_PER_EVENT, &long, &short);
        point.at_most("P18", "CPU per event, to a short session", ratio, 1.1);
        Ok(())
    };
    bench.point("flat", &name, measure).await;
    let sessions = bench.plan.size(1_000, 50);
    let name = format!("ingest beside {sessions} living sessions");
    let measure = async |point: &mut Point| {
        let (many, one) = crowds(bench, sessions, point).await?;
        let ratio = point.ratio(CPU_PER_EVENT, &many, one);
        point.at_most("P18", "CPU per event, to a session alone", ratio, 1.3);
        Ok(())
    };
    bench.point("flat", &name, measure).await;
    let (few, many) = bench.plan.size((100, 1_000), (10, 50));
    let name = format!("gRPC, {few} and {many} readers, saturated");
    let measure = async |point: &mut Point| {
        readers(bench, few, many, point).await?;
        let ratio = point.ratio(GROWTH, "baton", "bare");
        point.at_most("P18", "growth, to that of the bare server", ratio, 1.1);
        Ok(())
    };
    bench.point("flat", &name, measure).await;
}

/// Brings events to a session; processor time of the server for each in microseconds.
async fn cost(bench: &Bench<'_>, subject: &Subject, session: &mut Publisher) -> Result<f64> {
    let bytes = bench.plan.event_bytes;
    // Nobody wrote to it while the other was measured: what it has to find again first is not counted.
    bring(session, 0..SHORT, bytes).await?;
    let count = at_once(bench);
    let cpu = subject.process.cpu()?;
    bring(session, 0..count, bytes).await?;
    let cpu = subject.process.cpu()?.saturating_sub(cpu);
    Ok(cpu.as_secs_f64() * 1e6 / count as f64)
}

/// Events of one measurement: enough for the clock, few beside the long session.
fn at_once(bench: &Bench<'_>) -> u64 {
    bench.plan.size(20_000, 1_000)
}

/// A long session and a short one of the same server; their names.
async fn lengths(bench: &Bench<'_>, events: u64, point: &mut Point) -> Result<(String, String)> {
    let names = (format!("baton, {events}"), format!("baton, {SHORT}"));
    let mut stage = Stage::set(bench, Kind::Baton).await?;
    let client = stage.subject.client().await?;
    stage.fill(bench.plan.event_bytes, events).await?;
    for round in bench.plan.rounds() {
        // What is measured makes it long: each round has a new one.
        let machine = stage.machine().context("a daemon")?;
        let mut short = Publisher::Link(machine.session(&client).await?);
        for (name, session) in [(&names.0, &mut stage.publisher), (&names.1, &mut short)] {
            let cost = cost(bench, &stage.subject, session).await?;
            if round > 0 {
                point.add(CPU_PER_EVENT, name, cost);
            }
        }
    }
    point.notes.push(format!(
        "both grow by {} events while they are measured",
        at_once(bench)
    ));
    Ok(names)
}

/// A session that has others beside it, which are silent, and one that is alone on a server of its own; their names.
async fn crowds(
    bench: &Bench<'_>,
    sessions: usize,
    point: &mut Point,
) -> Result<(String, &'static str)> {
    let names = (format!("baton, {sessions} sessions"), "baton, 1 session");
    let crowded = Stage::set(bench, Kind::Baton).await?;
    let alone = Stage::set(bench, Kind::Baton).await?;
    let client = crowded.subject.client().await?;
    let machine = crowded.machine().context("a daemon")?;
    // With the one that is measured they are as many as was said.
    let (client, beside) = (&client, sessions.saturating_sub(1));
    many(beside, |_| async move {
        machine.session(client).await.map(drop)
    })
    .await?;
    let mut pair = [(names.0.as_str(), crowded), (names.1, alone)];
    for round in bench.plan.rounds() {
        for (name, stage) in &mut pair {
            let cost = cost(bench, &stage.subject, &mut stage.publisher).await?;
            if round > 0 {
                point.add(CPU_PER_EVENT, name, cost);
            }
        }
    }
    Ok(names)
}

/// Deliveries to few and to many, of Baton and of the bare server, each one server for both.
async fn readers(bench: &Bench<'_>, few: usize, many: usize, point: &mut Point) -> Result<()> {
    let mut stages = [
        Stage::set(bench, Kind::Baton).await?,
        Stage::set(bench, Kind::Bare).await?,
    ];
    let mut padding = Padding::default();
    for round in bench.plan.rounds() {
        for stage in &mut stages {
            let kind = stage.subject.kind;
            let mut costs = [0.0, 0.0];
            for (cost, readers) in costs.iter_mut().zip([few, many]) {
                stage.padding = padding.of(kind);
                let measured = stage
                    .round(bench, Transport::Grpc, readers, Rate::Saturated)
                    .await?;
                *cost = measured.cpu_per_delivery();
                if round == 0 {
                    // Only the first of a server is without padding.
                    if readers == few {
                        padding.learn(kind, &measured);
                    }
                } else {
                    let subject = format!("{}, {readers} readers", kind.name());
                    point.add(CPU_PER_DELIVERY, &subject, *cost);
                }
            }
            if round > 0 {
                let [few, many] = costs;
                point.add(GROWTH, kind.name(), many / few);
            }
        }
    }
    Ok(())
}
