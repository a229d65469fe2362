//! A long log: from its start, and its last part; from memory, and from the disk.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::figure::{CPU_PER_EVENT, EVENTS};
use super::load::Stage;
use crate::bench::disk;
use crate::bench::drain::{Readers, Target, Transport};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::{Kind, Subject};

const ALL: [Transport; 3] = [Transport::Grpc, Transport::Sse, Transport::Ws];
const UNTIL: &str = "until all are read, ms";
/// Events of a log's last part.
const TAIL: u64 = 1_000;

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

/// What is read of a server's session.
struct Part {
    transport: Transport,
    session: String,
    /// Behind which seq; over gRPC only.
    after: u64,
    events: u64,
}

impl Part {
    async fn read(&self, subject: &Subject) -> Result<Taken> {
        let mut target = Target::of(subject, self.transport, &self.session);
        target.after = self.after;
        read(subject, &target, self.events).await
    }
}

/// What a read took.
struct Taken {
    wall: Duration,
    cpu: Duration,
    events: u64,
}

impl Taken {
    fn add_to(&self, point: &mut Point, name: &str) {
        let events = self.events as f64;
        point.add(EVENTS, name, events / self.wall.as_secs_f64());
        point.add(CPU_PER_EVENT, name, self.cpu.as_secs_f64() * 1e6 / events);
        point.add(UNTIL, name, self.wall.as_secs_f64() * 1e3);
    }
}

async fn log(bench: &Bench<'_>, events: u64) -> Result<()> {
    let mut stage = Stage::set(bench, Kind::Baton).await?;
    stage.fill(bench.plan.event_bytes, events).await?;
    let part = |transport, after, events| Part {
        transport,
        session: stage.session.clone(),
        after,
        events,
    };
    let wholes = ALL.map(|transport| (events.to_string(), part(transport, 0, events)));
    // The log's last events are the reader's, no change of the link.
    let after = stage.head().await?.saturating_sub(TAIL);
    let tail = part(Transport::Grpc, after, TAIL);
    let tail = (format!("the last {TAIL} of {events}"), tail);
    warm(bench, &stage.subject, &wholes, &tail).await?;
    let parts: Vec<_> = wholes.into_iter().chain([tail]).collect();
    cold(bench, stage.into_subject(), &parts).await
}

/// Beside what the same costs elsewhere.
async fn warm(
    bench: &Bench<'_>,
    subject: &Subject,
    wholes: &[(String, Part)],
    (tail_name, tail): &(String, Part),
) -> Result<()> {
    let bare = Subject::start(Kind::Bare, bench.plan, bench.machine)?;
    let events = wholes.first().map_or(0, |(_, part)| part.events);
    let older = match bench.plan.baselines.is_some() && events <= 100_000 {
        true => {
            let subject = Subject::older(bench.plan, bench.machine, "normal", true)?;
            let mut stage = Stage::on(subject).await?;
            stage.fill(bench.plan.event_bytes, events).await?;
            Some(stage)
        }
        false => None,
    };
    for (name, part) in wholes {
        let transport = part.transport;
        let mut point = Point::new(
            "replay",
            format!("{}, {name} events, warm", transport.name()),
        );
        for round in bench.plan.rounds() {
            let ours = part.read(subject).await?;
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
                for (name, taken) in std::iter::once(("baton", ours)).chain(theirs) {
                    taken.add_to(&mut point, name);
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
    let transport = tail.transport.name();
    let mut point = Point::new("replay", format!("{transport}, {tail_name} events, warm"));
    for round in bench.plan.rounds() {
        let taken = tail.read(subject).await?;
        if round > 0 {
            taken.add_to(&mut point, "baton");
        }
    }
    bench.done(point);
    Ok(())
}

/// Each on a server that was just started, of whose files the system has nothing in memory.
async fn cold(bench: &Bench<'_>, subject: Subject, parts: &[(String, Part)]) -> Result<()> {
    let mut dir = subject.stop()?.context("a data directory")?;
    for (name, part) in parts {
        let transport = part.transport.name();
        let mut point = Point::new("replay", format!("{transport}, {name} events, cold"));
        for _ in 0..bench.plan.rounds {
            if !disk::drop_caches() {
                point
                    .notes
                    .push("caches could not be dropped: not measured".to_owned());
                break;
            }
            let subject = Subject::baton(bench.plan, bench.machine, dir, &[])?;
            part.read(&subject).await?.add_to(&mut point, "baton");
            dir = subject.stop()?.context("a data directory")?;
        }
        bench.done(point);
    }
    Ok(())
}

/// Reads everything.
async fn read(subject: &Subject, target: &Target, events: u64) -> Result<Taken> {
    let (cpu, begun) = (subject.process.cpu()?, Instant::now());
    let mut readers = Readers::open(target, 1).await?;
    tokio::time::timeout(Duration::from_secs(120), readers.reach(events))
        .await
        .context("a log was not read in two minutes")??;
    let wall = begun.elapsed();
    let cpu = subject.process.cpu()?.saturating_sub(cpu);
    readers.close().await?;
    Ok(Taken { wall, cpu, events })
}
