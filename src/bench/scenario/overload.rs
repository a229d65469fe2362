//! Twice as many calls as can be answered: what is accepted is done, and the rest is refused in words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::Semaphore;

use super::load::Stage;
use crate::base::Code;
use crate::bench::pace;
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::stamp::{histogram, now_ns};
use crate::bench::subject::Kind;
use crate::client::Client;
use crate::wire::v1;

const RATE: &str = "answered a second";
const P99: &str = "p99 of what is answered, ms";
const REFUSED: &str = "refused, of a hundred";
const OTHER: &str = "lost or failed, of a hundred";

/// Calls under way when the capacity is found.
const CLOSED: usize = 64;
/// Calls under way at the most when more come than can be answered: beyond it the load itself is the limit.
const OPEN: usize = 20_000;

/// At the capacity, and at twice of it.
pub async fn overload(bench: &Bench<'_>) {
    let name = "ListSessions, open loop";
    let measure = async |point: &mut Point| {
        for round in bench.plan.rounds().take(4) {
            let mut aside = Point::new("", "");
            let to = if round > 0 { &mut *point } else { &mut aside };
            self::round(bench, to).await?;
        }
        Ok(())
    };
    bench.point("overload", name, measure).await;
}

#[derive(Default)]
struct Counts {
    answered: u64,
    refused: u64,
    other: u64,
}

async fn round(bench: &Bench<'_>, point: &mut Point) -> Result<()> {
    let stage = Stage::set(bench, Kind::Baton).await?;
    let client = stage.subject.client().await?;
    let capacity = closed(bench, &client).await?;
    point.add(RATE, "capacity (closed loop)", capacity);
    let rate = (capacity * 2.0).max(1.0);
    let count = (rate * bench.plan.duration.as_secs_f64()) as u64;
    let mut dues = pace::every(Duration::from_secs_f64(1.0 / rate), count);
    let room = Arc::new(Semaphore::new(OPEN));
    let mut jobs = tokio::task::JoinSet::new();
    let begun = Instant::now();
    let (mut counts, mut taken) = (Counts::default(), histogram());
    while let Some((due, _)) = dues.recv().await {
        let permit = room.clone().acquire_owned().await?;
        let client = client.clone();
        jobs.spawn(async move {
            let _permit = permit;
            (due, call(&client).await)
        });
        while let Some(done) = jobs.try_join_next() {
            count_in(done?, &mut counts, &mut taken);
        }
    }
    while let Some(done) = jobs.join_next().await {
        count_in(done?, &mut counts, &mut taken);
    }
    let all = (counts.answered + counts.refused + counts.other) as f64;
    let seconds = begun.elapsed().as_secs_f64();
    point.add(
        RATE,
        "at twice the capacity",
        counts.answered as f64 / seconds,
    );
    point.add(
        P99,
        "at twice the capacity",
        taken.value_at_quantile(0.99) as f64 / 1e6,
    );
    point.add(
        REFUSED,
        "at twice the capacity",
        counts.refused as f64 * 100.0 / all,
    );
    point.add(
        OTHER,
        "at twice the capacity",
        counts.other as f64 * 100.0 / all,
    );
    Ok(())
}

fn count_in(
    (due, outcome): (u64, Option<Code>),
    counts: &mut Counts,
    taken: &mut hdrhistogram::Histogram<u64>,
) {
    match outcome {
        None => {
            counts.answered += 1;
            taken.saturating_record(now_ns().saturating_sub(due).max(1));
        }
        Some(Code::RateLimited | Code::AtCapacity | Code::LimitExceeded) => counts.refused += 1,
        Some(_) => counts.other += 1,
    }
}

async fn call(client: &Client) -> Option<Code> {
    let request = v1::ListSessionsRequest {
        page_size: 50,
        ..Default::default()
    };
    client
        .list_sessions(request)
        .await
        .err()
        .map(|error| error.code())
}

async fn closed(bench: &Bench<'_>, client: &Client) -> Result<f64> {
    let end = Instant::now() + bench.plan.duration;
    let mut jobs = tokio::task::JoinSet::new();
    for _ in 0..CLOSED {
        let client = client.clone();
        jobs.spawn(async move {
            let mut answered = 0_u64;
            while Instant::now() < end {
                answered += u64::from(call(&client).await.is_none());
            }
            answered
        });
    }
    let mut answered = 0;
    while let Some(done) = jobs.join_next().await {
        answered += done?;
    }
    Ok(answered as f64 / bench.plan.duration.as_secs_f64())
}
