//! Starting with much stored; what it costs to have it; how soon a reader has its first event.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::load::Stage;
use crate::bench::disk;
use crate::bench::drain::{Connection, Target, Transport};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::stamp::histogram;
use crate::bench::subject::{Kind, Subject};

const FROM_START: &str = "baton, from the start";
const FROM_TAIL: &str = "baton, from the tail";
const BARE: &str = "bare, one message";

const START: &str = "from start to ready, s";
const MEMORY: &str = "memory when started, MiB";
/// How soon a reader has its first event, on a connection that is there.
const FIRST: Figures = Figures {
    p50: "first event p50, ms",
    p99: "first event p99, ms",
};
/// The same with its connection.
const CONNECTED: Figures = Figures {
    p50: "with its connection p50, ms",
    p99: "with its connection p99, ms",
};

/// Two quantiles of one thing.
struct Figures {
    p50: &'static str,
    p99: &'static str,
}

/// How long it is quiet between two readers: what was under way to the last one is not to be in the way of the next.
const BETWEEN: Duration = Duration::from_millis(5);

/// After a clean stop and after a kill, with cold and with warm caches.
pub async fn startup(bench: &Bench<'_>) {
    let mut before = None;
    for events in bench
        .plan
        .size(vec![10_000, 1_000_000, 10_000_000], vec![1_000, 20_000])
    {
        let name = format!("{events} stored events");
        let measure = async |point: &mut Point| {
            rounds(bench, events, point).await?;
            goals(point, events, before);
            before = before.or(point.median(MEMORY, "baton, stopped, cold"));
            Ok(())
        };
        bench.point("startup", &name, measure).await;
    }
}

async fn rounds(bench: &Bench<'_>, events: u64, point: &mut Point) -> Result<()> {
    let mut stage = Stage::set(bench, Kind::Baton).await?;
    stage.fill(bench.plan.event_bytes, events).await?;
    let session = stage.session.clone();
    // Its log's last event is the reader's, not a change of the link.
    let head = stage.head().await?;
    let mut dir = into_dir(stage.into_subject(), false)?;
    let bare = Subject::start(Kind::Bare, bench.plan, bench.machine)?;
    for _ in 0..bench.plan.rounds.min(3) {
        for (name, kill, cold) in [
            ("baton, stopped, cold", false, true),
            ("baton, stopped, warm", false, false),
            ("baton, killed, cold", true, true),
        ] {
            if kill {
                // Something is written before it is killed, so that there is a tail to look through.
                let subject = Subject::baton(bench.plan, bench.machine, dir, &[])?;
                let mut stage = Stage::on(subject).await?;
                stage.fill(bench.plan.event_bytes, 1_000).await?;
                dir = into_dir(stage.into_subject(), true)?;
            }
            if cold && !disk::drop_caches() {
                point
                    .notes
                    .push("caches could not be dropped: warm only".to_owned());
                continue;
            }
            let begun = Instant::now();
            let subject = Subject::baton(bench.plan, bench.machine, dir, &[])?;
            point.add(START, name, begun.elapsed().as_secs_f64());
            tokio::time::sleep(Duration::from_secs(1)).await;
            let memory = subject.process.memory()?;
            point.add(MEMORY, name, memory as f64 / f64::from(1 << 20));
            if !cold {
                let mut target = Target::of(&subject, Transport::Grpc, &session);
                first_events(bench, &target, FROM_START, point).await?;
                target.after = head.saturating_sub(1);
                first_events(bench, &target, FROM_TAIL, point).await?;
                let mut target = Target::of(&bare, Transport::Grpc, "");
                target.replays = Some((1, bench.plan.event_bytes));
                first_events(bench, &target, BARE, point).await?;
            }
            dir = into_dir(subject, false)?;
        }
    }
    Ok(())
}

/// Readers that come one after the other: how long each waits for its first event, on one connection for all and on a
/// connection of its own.
async fn first_events(
    bench: &Bench<'_>,
    target: &Target,
    name: &str,
    point: &mut Point,
) -> Result<()> {
    let mut there = Connection::open(target).await?;
    let (mut first, mut connected) = (histogram(), histogram());
    let (uncounted, counted) = bench.plan.size((20, 400), (2, 20));
    for at in 0..uncounted + counted {
        tokio::time::sleep(BETWEEN).await;
        let on_it = took(there.first(target)).await?;
        tokio::time::sleep(BETWEEN).await;
        let with_connection = async { Connection::open(target).await?.first(target).await };
        let with_connection = took(with_connection).await?;
        // The first ones wait for the system to read the program from the disk.
        if at >= uncounted {
            first.saturating_record(on_it);
            connected.saturating_record(with_connection);
        }
    }
    for (figures, taken) in [(FIRST, first), (CONNECTED, connected)] {
        for (figure, quantile) in [(figures.p50, 0.5), (figures.p99, 0.99)] {
            point.add(figure, name, taken.value_at_quantile(quantile) as f64 / 1e6);
        }
    }
    Ok(())
}

/// How long a reader waits for its first event, in nanoseconds.
async fn took(first: impl Future<Output = Result<()>>) -> Result<u64> {
    let begun = Instant::now();
    tokio::time::timeout(Duration::from_secs(20), first)
        .await
        .context("a reader had nothing for 20 s")??;
    Ok(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

fn into_dir(subject: Subject, kill: bool) -> Result<TempDir> {
    let dir = if kill {
        subject.kill()?
    } else {
        subject.stop()?
    };
    dir.context("a data directory")
}

fn goals(point: &mut Point, events: u64, before: Option<f64>) {
    let cold = point.median(START, "baton, stopped, cold");
    let most = if events > 1_000_000 { 0.5 } else { 0.2 };
    point.at_most("P19", "seconds to start, cold", cold, most);
    let killed = point.median(START, "baton, killed, cold");
    let more = killed.zip(cold).map(|(killed, cold)| killed - cold);
    point.at_most("P19", "seconds more after a kill", more, 0.2);
    if let Some(before) = before {
        let memory = point.median(MEMORY, "baton, stopped, cold");
        let more = memory.map(|memory| memory - before);
        point.at_most("P16", "MiB more than with 10,000 events", more, 64.0);
    }
    let start = point.median(FIRST.p99, FROM_START);
    point.at_most("P14", "ms to a first event from the start, p99", start, 5.0);
    let tail = point.median(FIRST.p99, FROM_TAIL);
    point.at_most("P14", "ms to a first event from the tail, p99", tail, 2.0);
    let bare = tail.zip(point.median(FIRST.p99, BARE));
    point.say(
        "a first event from the tail, p99, to the bare server's",
        bare.map(|(tail, bare)| tail / bare),
    );
}
