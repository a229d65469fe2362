//! One event to many readers.

use anyhow::Result;

use super::load::{Padding, Rate, Round, Stage};
use crate::bench::drain::Transport;
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::{Kind, Subject, data_dir};

const CPU: &str = "server CPU per delivery, µs";
const RATE: &str = "deliveries a second";
const BYTES: &str = "bytes read for a delivery";
const P50: &str = "arrival p50, µs";
const P99: &str = "arrival p99, µs";

/// All transports, numbers of readers and rates.
pub async fn fanout(bench: &Bench<'_>) {
    let all = [
        Transport::Grpc,
        Transport::GrpcWeb,
        Transport::Sse,
        Transport::Ws,
    ];
    hot(bench).await;
    for transport in all {
        for readers in bench.plan.size([1, 10, 100, 1_000], [1, 10, 50, 100]) {
            point(bench, transport, readers, Rate::Saturated).await;
        }
        for (readers, rate) in bench
            .plan
            .size([(100, 200), (1_000, 25)], [(10, 200), (100, 25)])
        {
            point(bench, transport, readers, Rate::Paced(rate)).await;
        }
    }
}

/// A session in which much happens, with many readers: what gathering its news saves, and what it costs in time.
async fn hot(bench: &Bench<'_>) {
    let (readers, rate) = bench.plan.size((100, 2_000), (20, 500));
    let name = format!("gRPC, {readers} readers, {rate} events a second, gathered or not");
    if !bench.wants(&name) {
        return;
    }
    bench.tell(&format!("fanout · {name} …"));
    let mut point = Point::new("fanout", &name);
    for round in bench.plan.rounds() {
        for (subject, options) in [
            ("gathered", &[][..]),
            ("each at once", &["readers.gather=0"]),
        ] {
            match hot_round(bench, readers, rate, options).await {
                Err(error) => return bench.failed(&format!("fanout · {name}"), &error),
                Ok(measured) if round > 0 => {
                    point.add(CPU, subject, measured.cpu_per_delivery());
                    point.add(P50, subject, measured.latency_us(0.5));
                    point.add(P99, subject, measured.latency_us(0.99));
                }
                Ok(_) => {}
            }
        }
    }
    let ratio = point.ratio(CPU, "gathered", "each at once");
    point.at_most(
        "P5",
        "CPU per delivery, to telling each at once",
        ratio,
        0.35,
    );
    let (with, without) = (
        point.median(P50, "gathered"),
        point.median(P50, "each at once"),
    );
    let later = with
        .zip(without)
        .map(|(with, without)| (with - without) / 1e3);
    point.at_most("P5", "ms later at p50", later, 10.0);
    bench.done(point);
}

async fn hot_round(
    bench: &Bench<'_>,
    readers: usize,
    rate: u64,
    options: &[&str],
) -> Result<Round> {
    let dir = data_dir(bench.plan)?;
    let subject = Subject::baton(bench.plan, bench.machine, dir, options)?;
    let mut stage = Stage::on(subject).await?;
    stage
        .round(bench, Transport::Grpc, readers, Rate::Paced(rate))
        .await
}

async fn point(bench: &Bench<'_>, transport: Transport, readers: usize, rate: Rate) {
    let how = match rate {
        Rate::Saturated => "saturated".to_owned(),
        Rate::Paced(rate) => format!("{rate} events a second"),
    };
    let readers_in_words = if readers == 1 {
        "1 reader".to_owned()
    } else {
        format!("{readers} readers")
    };
    let name = format!("{}, {readers_in_words}, {how}", transport.name());
    if !bench.wants(&name) {
        return;
    }
    bench.tell(&format!("fanout · {name} …"));
    let mut point = Point::new("fanout", &name);
    let mut kinds = vec![Kind::Baton, Kind::Bare];
    if transport == Transport::Ws && bench.plan.baselines.is_some() {
        kinds.push(Kind::Node);
    }
    let mut padding = Padding::default();
    for round in bench.plan.rounds() {
        for kind in kinds.iter().copied() {
            match one(bench, kind, transport, readers, rate, padding.of(kind)).await {
                Err(error) => {
                    return bench.failed(&format!("fanout · {name}, {}", kind.name()), &error);
                }
                // The round that only warms up is not counted.
                Ok(measured) if round == 0 => padding.learn(kind, &measured),
                Ok(measured) => add(&mut point, kind, rate, &measured),
            }
        }
    }
    goals(&mut point, transport, readers, rate);
    bench.done(point);
}

async fn one(
    bench: &Bench<'_>,
    kind: Kind,
    transport: Transport,
    readers: usize,
    rate: Rate,
    padding: usize,
) -> Result<Round> {
    let mut stage = Stage::set(bench, kind).await?;
    stage.padding = padding;
    stage.round(bench, transport, readers, rate).await
}

fn add(point: &mut Point, kind: Kind, rate: Rate, round: &Round) {
    point.add(CPU, kind.name(), round.cpu_per_delivery());
    point.add(BYTES, kind.name(), round.bytes_per_delivery());
    match rate {
        Rate::Saturated => {
            let per_second = round.delivered as f64 / round.wall.as_secs_f64();
            point.add(RATE, kind.name(), per_second);
        }
        Rate::Paced(_) => {
            point.add(P50, kind.name(), round.latency_us(0.5));
            point.add(P99, kind.name(), round.latency_us(0.99));
        }
    }
}

fn goals(point: &mut Point, transport: Transport, readers: usize, rate: Rate) {
    let bare = point.ratio(CPU, "bare", "baton");
    let node = point.ratio(CPU, "node ws", "baton");
    match (rate, transport) {
        (Rate::Saturated, _) if readers < 100 => {}
        (Rate::Saturated, Transport::Grpc | Transport::GrpcWeb) => {
            point.at_least("P1", "deliveries per CPU second, to bare tonic", bare, 0.8);
        }
        (Rate::Saturated, Transport::Ws) => {
            point.at_least(
                "P2",
                "deliveries per CPU second, to a bare axum WebSocket",
                bare,
                0.8,
            );
            point.at_least(
                "P2",
                "deliveries per CPU second, to the older design",
                node,
                10.0,
            );
        }
        (Rate::Saturated, Transport::Sse) => {
            point.at_least("P2", "deliveries per CPU second, to axum's Sse", bare, 3.0);
        }
        (Rate::Paced(_), _) => {
            let most = point.ratio(CPU, "baton", "bare");
            point.at_most("P4", "CPU per delivery, to the bare transport", most, 1.15);
            if transport == Transport::Ws {
                let node = point.ratio(CPU, "baton", "node ws");
                point.at_most("P4", "CPU per delivery, to the older design", node, 1.0);
            }
        }
    }
}
