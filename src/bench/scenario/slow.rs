//! Readers that do not read, beside others that do.

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::load::{Rate, Stage};
use crate::bench::drain::{Readers, Target, Transport};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::Kind;

const P99: &str = "arrival p99 of the others, µs";
const MEMORY: &str = "memory of the server, MiB";
const ACKS: &str = "acknowledged behind the last event at the end";

/// Events a second.
const RATE: u64 = 2_000;
/// Readers that read.
const GOOD: usize = 99;

/// One that stalls beside 99 that do not.
pub async fn slow_readers(bench: &Bench<'_>) {
    let good = bench.plan.size(GOOD, 20);
    let name = format!("1 stalled beside {good}, {RATE} events a second");
    let measure = async |point: &mut Point| {
        rounds(bench, good, point).await?;
        let ratio = point.ratio(P99, "with a stalled one", "without");
        point.at_most(
            "P17",
            "arrival p99 of the others, to without it",
            ratio,
            1.2,
        );
        let with = point.median(MEMORY, "with a stalled one");
        let without = point.median(MEMORY, "without");
        let more = with.zip(without).map(|(with, without)| with - without);
        point.at_most("P17", "MiB that the stalled one costs", more, 1.0);
        Ok(())
    };
    bench.point("slow-readers", &name, measure).await;
}

async fn rounds(bench: &Bench<'_>, good: usize, point: &mut Point) -> Result<()> {
    let round = async |point: &mut Point| {
        for (subject, stalls) in [("without", false), ("with a stalled one", true)] {
            let mut stage = Stage::set(bench, Kind::Baton).await?;
            let mut target = Target::of(&stage.subject, Transport::Grpc, &stage.session);
            target.with_latency = true;
            let readers = Readers::open(&target, good).await?;
            let _stalled = match stalls {
                true => Some(stall(&target).await?),
                false => None,
            };
            let measured = stage.watched(bench, readers, Rate::Paced(RATE)).await?;
            let memory = stage.subject.process.memory()?;
            point.add(P99, subject, measured.latency_us(0.99));
            point.add(MEMORY, subject, memory as f64 / f64::from(1 << 20));
            point.add(ACKS, subject, stage.publisher.behind() as f64);
        }
        Ok(())
    };
    bench.calm_rounds(point, round).await
}

/// A connection that asks for the events of a session as server-sent events, and never reads.
async fn stall(target: &Target) -> Result<TcpStream> {
    let mut stream = target.address.dial().await?;
    let bearer = target.bearer.as_ref().context("a token")?;
    let request = format!(
        "GET /api/sessions/{}/stream HTTP/1.1\r\nhost: {}\r\nauthorization: {bearer}\r\n\r\n",
        target.session,
        target.address.host()
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}
