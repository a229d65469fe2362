//! Pages of many sessions, and search.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::idle::many;
use super::load::Stage;
use crate::bench::publish::Machine;
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::stamp::{histogram, text};
use crate::bench::subject::Kind;
use crate::client::Client;
use crate::wire::v1;

/// Sessions of one daemon.
const LOT: usize = 4_000;

const P95: &str = "p95, ms";
const CPU: &str = "server CPU of a page, ms";

/// Many sessions: the first page, the last, filters; many events: search.
pub async fn list(bench: &Bench<'_>) {
    let count = bench.plan.size(100_000, 500);
    let name = format!("{count} sessions");
    let measure = async |point: &mut Point| sessions(bench, count, point).await;
    bench.point("list", &name, measure).await;
    let events = bench.plan.size(1_000_000, 10_000);
    let name = format!("search in {events} events");
    let measure = async |point: &mut Point| {
        search(bench, events, point).await?;
        let p95 = point.median(P95, "baton");
        point.at_most("P24", "ms, p95", p95, 50.0);
        Ok(())
    };
    bench.point("list", &name, measure).await;
}

async fn sessions(bench: &Bench<'_>, count: usize, point: &mut Point) -> Result<()> {
    let stage = Stage::set(bench, Kind::Baton).await?;
    let client = stage.subject.client().await?;
    let mut daemon = String::new();
    for lot in 0..count.div_ceil(LOT) {
        let address = &stage.subject.address;
        let enrolled = Machine::enroll(&client, address, &format!("lot{lot}")).await?;
        // A link carries 4,096 sessions: each lot has a daemon of its own, which then goes away.
        let machine = Machine::link(address, &enrolled, 1, &[]).await?;
        daemon = enrolled.id;
        let (to, machine) = (&client, &machine);
        many(LOT.min(count - lot * LOT), |_| async move {
            machine.session(to).await.map(drop)
        })
        .await?;
    }
    let last = last_page(&client, count).await?;
    let away = v1::ListSessionsRequest {
        daemon_id: daemon,
        page_size: 50,
        ..Default::default()
    };
    let living = v1::ListSessionsRequest {
        lifecycles: vec![v1::Lifecycle::Running.into()],
        page_size: 50,
        ..Default::default()
    };
    let first = v1::ListSessionsRequest {
        page_size: 50,
        ..Default::default()
    };
    for _ in 0..bench.plan.rounds {
        for (name, request) in [
            ("the first page", &first),
            ("the last page", &last),
            ("of one daemon", &away),
            ("those that run", &living),
        ] {
            let mut taken = histogram();
            let calls = bench.plan.size(200, 20);
            let cpu = stage.subject.process.cpu()?;
            for _ in 0..calls {
                let begun = Instant::now();
                client.list_sessions(request.clone()).await?;
                taken.saturating_record(nanos(begun.elapsed()));
            }
            let cpu = stage.subject.process.cpu()?.saturating_sub(cpu);
            point.add(P95, name, taken.value_at_quantile(0.95) as f64 / 1e6);
            point.add(CPU, name, cpu.as_secs_f64() * 1e3 / f64::from(calls));
        }
    }
    Ok(())
}

/// The request for the page before the end.
async fn last_page(client: &Client, count: usize) -> Result<v1::ListSessionsRequest> {
    let mut request = v1::ListSessionsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    for _ in 0..=count / 1_000 {
        let page = client.list_sessions(request.clone()).await?;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    request.page_size = 50;
    Ok(request)
}

async fn search(bench: &Bench<'_>, events: u64, point: &mut Point) -> Result<()> {
    let mut stage = Stage::set(bench, Kind::Baton).await?;
    stage.fill(bench.plan.event_bytes, events).await?;
    let client = stage.subject.client().await?;
    let (begun, cpu) = (Instant::now(), stage.subject.process.cpu()?);
    // The first search makes the index, which was put off. It follows the log; the last event's number is a word of its own.
    let newest = format!("{:012x}", events - 1);
    let find = |query: String| {
        let request = v1::SearchEventsRequest {
            query,
            page_size: 20,
            ..Default::default()
        };
        client.search_events(request)
    };
    while find(newest.clone()).await?.hits.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    point.add(
        "until the index has all, s",
        "baton",
        begun.elapsed().as_secs_f64(),
    );
    let cpu = stage.subject.process.cpu()?.saturating_sub(cpu);
    let each = cpu.as_secs_f64() * 1e6 / events as f64;
    point.add("server CPU to index an event, µs", "baton", each);
    for _ in 0..bench.plan.rounds {
        let mut taken = histogram();
        for number in 0..bench.plan.size(200, 20) {
            // A word that some events have.
            let words = text(0, number * 7_919 % events, 200);
            let word = words.split(' ').nth(3).unwrap_or("a").to_owned();
            let begun = Instant::now();
            find(word).await?;
            taken.saturating_record(nanos(begun.elapsed()));
        }
        point.add(P95, "baton", taken.value_at_quantile(0.95) as f64 / 1e6);
    }
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
