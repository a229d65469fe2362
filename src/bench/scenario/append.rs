//! Durable ingest: how many events a second are acknowledged, and what each costs.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::figure::CPU_PER_EVENT;
use crate::bench::disk::Disk;
use crate::bench::publish::{Machine, OlderDaemon, Session};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::stamp;
use crate::bench::subject::{Subject, data_dir};

const RATE: &str = "acknowledged events a second";
const GROUP: &str = "events in a sync";
const WRITTEN: &str = "bytes written per byte of events";
const HELD: &str = "bytes held per byte of events";
/// How often the journal was synced.
const SYNCS: &str = "baton_journal_sync_seconds_count";

/// A load: so many daemons with so many sessions each, batches of so many events.
struct Load {
    daemons: usize,
    sessions: usize,
    batch: usize,
    durability: &'static str,
}

/// Numbers of sessions, batches, and both ways to sync.
pub async fn append(bench: &Bench<'_>) {
    let many = bench.plan.size(1_000, 100);
    let load = |daemons, sessions, batch, durability| Load {
        daemons,
        sessions,
        batch,
        durability,
    };
    let loads = [
        load(1, 1, 1, "fsync"),
        load(1, 1, 64, "fsync"),
        load(4, 64, 64, "fsync"),
        load(4, many, 64, "fsync"),
        load(4, 64, 256, "fsync"),
        load(4, 64, 64, "50ms"),
    ];
    for load in loads {
        let name = format!(
            "{} daemon(s), {} session(s), batches of {}, sync {}",
            load.daemons, load.sessions, load.batch, load.durability
        );
        let measure = async |point: &mut Point| {
            rounds(bench, &load, point).await?;
            goals(&load, point);
            Ok(())
        };
        bench.point("append", &name, measure).await;
    }
}

async fn rounds(bench: &Bench<'_>, load: &Load, point: &mut Point) -> Result<()> {
    for round in bench.plan.rounds() {
        let mut aside = Point::new("", "");
        let to = if round > 0 { &mut *point } else { &mut aside };
        let group = baton(bench, load, to).await?;
        raw(bench, load, group, to)?;
        if bench.plan.baselines.is_some() && load.durability == "fsync" && load.daemons > 1 {
            older(bench, "normal", to).await?;
            older(bench, "full", to).await?;
        }
    }
    Ok(())
}

/// What Baton does; how many events it wrote at once, on average.
async fn baton(bench: &Bench<'_>, load: &Load, point: &mut Point) -> Result<u64> {
    let durability = format!("durability={}", load.durability);
    let dir = data_dir(bench.plan)?;
    let subject = Subject::baton(bench.plan, bench.machine, dir, &[&durability])?;
    let client = subject.client().await?;
    let (mut machines, mut sessions) = (Vec::new(), Vec::new());
    for at in 0..load.daemons {
        let enrolled = Machine::enroll(&client, &subject.address, &format!("bench{at}")).await?;
        let machine = Machine::link(&subject.address, &enrolled, 1, &[]).await?;
        for _ in (at..load.sessions).step_by(load.daemons) {
            sessions.push(machine.session(&client).await?);
        }
        machines.push(machine);
    }
    sessions = ingest(bench, load, sessions, bench.plan.warm_up()).await?;
    let before: u64 = sessions.iter().map(Session::acked).sum();
    let (cpu, begun) = (subject.process.cpu()?, Instant::now());
    let disk = Disk::of(subject.dir().context("a data directory")?)?;
    let (written, held) = (disk.map(Disk::written).transpose()?, held(&subject)?);
    let (syncs, bytes) = (Subject::counted(&client, SYNCS).await?, bytes_of(&sessions));
    let sessions = ingest(bench, load, sessions, bench.plan.duration).await?;
    let wall = begun.elapsed();
    let events = sessions.iter().map(Session::acked).sum::<u64>() - before;
    let cpu = subject.process.cpu()?.saturating_sub(cpu);
    point.add(RATE, "baton", events as f64 / wall.as_secs_f64());
    let each = cpu.as_secs_f64() * 1e6 / events as f64;
    point.add(CPU_PER_EVENT, "baton", each);
    let syncs = Subject::counted(&client, SYNCS).await? - syncs;
    let group = (load.durability == "fsync").then(|| events as f64 / syncs.max(1.0));
    if let Some(group) = group {
        point.add(GROUP, "baton", group);
    }
    let payload = (bytes_of(&sessions) - bytes) as f64;
    if let Some((disk, before)) = disk.zip(written) {
        let written = disk.written()?.saturating_sub(before);
        point.add(WRITTEN, "baton", written as f64 / payload);
    }
    let held = self::held(&subject)?.saturating_sub(held);
    point.add(HELD, "baton", held as f64 / payload);
    Ok(group.map_or(4_096, |group| group.round() as u64).max(1))
}

/// Bytes of the events that were sent, as they are encoded.
fn bytes_of(sessions: &[Session]) -> u64 {
    sessions.iter().map(Session::bytes).sum()
}

/// Every session brings batches as fast as they are acknowledged; returns when all are.
async fn ingest(
    bench: &Bench<'_>,
    load: &Load,
    sessions: Vec<Session>,
    duration: Duration,
) -> Result<Vec<Session>> {
    let end = Instant::now() + duration;
    let mut jobs = tokio::task::JoinSet::new();
    let (bytes, batch) = (bench.plan.event_bytes, load.batch as u64);
    for mut session in sessions {
        jobs.spawn(async move {
            while Instant::now() < end {
                let next = session.sent();
                let texts = (next..next + batch)
                    .map(|n| stamp::text(0, n, bytes))
                    .collect();
                session.send(texts).await?;
                if batch == 1 {
                    // Each by itself: the next goes when this one is acknowledged.
                    session.settle(0).await?;
                }
            }
            session.settle(0).await?;
            anyhow::Ok(session)
        });
    }
    let mut sessions = Vec::new();
    while let Some(done) = jobs.join_next().await {
        sessions.push(done??);
    }
    Ok(sessions)
}

/// Bytes that the journal holds.
fn held(subject: &Subject) -> Result<u64> {
    let dir = subject.dir().context("a data directory")?.join("store");
    size_of(&dir)
}

fn size_of(dir: &std::path::Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() {
            size_of(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(bytes)
}

/// The least that a durable log can cost: batches as large as the journal's to the end of a file, each synced.
fn raw(bench: &Bench<'_>, load: &Load, at_once: u64, point: &mut Point) -> Result<()> {
    let dir = data_dir(bench.plan)?;
    let record: Vec<u8> = stamp::text(0, 0, bench.plan.event_bytes).into_bytes();
    let mut batch = Vec::new();
    for _ in 0..at_once {
        batch.extend_from_slice(&(record.len() as u32).to_le_bytes());
        batch.extend_from_slice(&crc32c::crc32c(&record).to_le_bytes());
        batch.extend_from_slice(&record);
    }
    let mut file = File::create(dir.path().join("segment"))?;
    let disk = Disk::of(dir.path())?;
    let written = disk.map(Disk::written).transpose()?;
    let (begun, mut events) = (Instant::now(), 0);
    while begun.elapsed() < bench.plan.duration {
        file.write_all(&batch)?;
        if load.durability == "fsync" {
            file.sync_data()?;
        }
        events += at_once;
    }
    if let Some((disk, before)) = disk.zip(written) {
        let written = disk.written()?.saturating_sub(before);
        let payload = events as f64 * bench.plan.event_bytes as f64;
        point.add(WRITTEN, "raw append + fdatasync", written as f64 / payload);
    }
    point.add(
        RATE,
        "raw append + fdatasync",
        events as f64 / begun.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// The older design under Bun, a commit for each event.
async fn older(bench: &Bench<'_>, store: &str, point: &mut Point) -> Result<()> {
    let subject = Subject::older(bench.plan, bench.machine, store, false)?;
    let mut daemon = OlderDaemon::connect(&subject.address, "bench").await?;
    let bytes = bench.plan.event_bytes;
    let mut measured = (0, Instant::now());
    for duration in [bench.plan.warm_up(), bench.plan.duration] {
        measured = (daemon.acked(), Instant::now());
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let next = daemon.sent();
            daemon
                .send(
                    (next..next + 64)
                        .map(|n| stamp::text(0, n, bytes))
                        .collect(),
                )
                .await?;
            daemon.settle(4_096).await;
        }
        daemon.settle(0).await;
    }
    let events = daemon.acked() - measured.0;
    let name = format!("older design, {store}");
    point.add(
        RATE,
        &name,
        events as f64 / measured.1.elapsed().as_secs_f64(),
    );
    Ok(())
}

fn goals(load: &Load, point: &mut Point) {
    if load.daemons < 4 || load.durability != "fsync" {
        return;
    }
    let raw = point.ratio(RATE, "baton", "raw append + fdatasync");
    point.at_least(
        "P7",
        "acknowledged a second, to a raw synced append",
        raw,
        0.5,
    );
    let normal = point.ratio(RATE, "baton", "older design, normal");
    point.at_least(
        "P8",
        "acknowledged a second, to the older design, NORMAL",
        normal,
        4.0,
    );
    let full = point.ratio(RATE, "baton", "older design, full");
    point.at_least(
        "P8",
        "acknowledged a second, to the older design, FULL",
        full,
        50.0,
    );
    if load.batch >= 64 {
        let (held, written) = (point.median(HELD, "baton"), point.median(WRITTEN, "baton"));
        point.at_most("P20", "bytes held per payload byte", held, 1.3);
        point.at_most("P20", "bytes written per payload byte", written, 1.5);
    }
}
