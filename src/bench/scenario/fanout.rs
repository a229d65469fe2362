//! One event to many readers.

use anyhow::{Context as _, Result};

use super::figure::{ARRIVAL_P50, ARRIVAL_P99, BYTES, CPU_PER_DELIVERY, DELIVERIES};
use super::load::{Padding, Rate, Round, Stage};
use crate::bench::drain::{Readers, Transport};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::{Kind, Subject, data_dir};

/// Windows as a client has them that leaves them as HTTP/2 begins.
const SMALL_WINDOW: u32 = 65_535;

/// A condition.
#[derive(Clone, Copy)]
struct Load {
    transport: Transport,
    readers: usize,
    rate: Rate,
    /// Whether the readers' windows are small.
    is_narrow: bool,
}

impl Load {
    fn name(self) -> String {
        let readers = match self.readers {
            1 => "1 reader".to_owned(),
            readers => format!("{readers} readers"),
        };
        let how = match self.rate {
            Rate::Saturated => "saturated".to_owned(),
            Rate::Paced(rate) => format!("{rate} events a second"),
        };
        let narrow = if self.is_narrow {
            ", windows of 64 KiB"
        } else {
            ""
        };
        format!("{}, {readers}, {how}{narrow}", self.transport.name())
    }
}

/// All transports, numbers of readers and rates.
pub async fn fanout(bench: &Bench<'_>) {
    let all = [
        Transport::Grpc,
        Transport::GrpcWeb,
        Transport::Sse,
        Transport::Ws,
    ];
    hot(bench).await;
    let load = |transport, readers, rate| Load {
        transport,
        readers,
        rate,
        is_narrow: false,
    };
    for transport in all {
        for readers in bench.plan.size([1, 10, 100, 1_000], [1, 10, 50, 100]) {
            point(bench, load(transport, readers, Rate::Saturated)).await;
        }
        for (readers, rate) in bench
            .plan
            .size([(100, 200), (1_000, 25)], [(10, 200), (100, 25)])
        {
            point(bench, load(transport, readers, Rate::Paced(rate))).await;
        }
    }
    let narrow = Load {
        is_narrow: true,
        ..load(Transport::Grpc, bench.plan.size(100, 50), Rate::Saturated)
    };
    point(bench, narrow).await;
}

/// A session in which much happens, with many readers: what gathering its news saves, and what it costs in time.
async fn hot(bench: &Bench<'_>) {
    let (readers, rate) = bench.plan.size((100, 2_000), (20, 500));
    let name = format!("gRPC, {readers} readers, {rate} events a second, gathered or not");
    let measure = async |point: &mut Point| {
        for round in bench.plan.rounds() {
            for (subject, options) in [
                ("gathered", &[][..]),
                ("each at once", &["readers.gather=0"]),
            ] {
                let measured = hot_round(bench, readers, rate, options).await?;
                if round > 0 {
                    point.add(CPU_PER_DELIVERY, subject, measured.cpu_per_delivery());
                    point.add(ARRIVAL_P50, subject, measured.latency_us(0.5));
                    point.add(ARRIVAL_P99, subject, measured.latency_us(0.99));
                }
            }
        }
        hot_goals(point);
        Ok(())
    };
    bench.point("fanout", &name, measure).await;
}

fn hot_goals(point: &mut Point) {
    let ratio = point.ratio(CPU_PER_DELIVERY, "gathered", "each at once");
    point.at_most(
        "P5",
        "CPU per delivery, to telling each at once",
        ratio,
        0.35,
    );
    let (with, without) = (
        point.median(ARRIVAL_P50, "gathered"),
        point.median(ARRIVAL_P50, "each at once"),
    );
    let later = with
        .zip(without)
        .map(|(with, without)| (with - without) / 1e3);
    point.at_most("P5", "ms later at p50", later, 10.0);
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

async fn point(bench: &Bench<'_>, load: Load) {
    let mut kinds = vec![Kind::Baton, Kind::Bare];
    if load.transport == Transport::Ws && bench.plan.baselines.is_some() {
        kinds.push(Kind::Node);
    }
    let measure = async |point: &mut Point| {
        let mut padding = Padding::default();
        for round in bench.plan.rounds() {
            for kind in kinds.iter().copied() {
                let measured = one(bench, kind, load, padding.of(kind))
                    .await
                    .with_context(|| kind.name())?;
                // The round that only warms up is not counted.
                match round {
                    0 => padding.learn(kind, &measured),
                    _ => add(point, kind.name(), load.rate, &measured),
                }
            }
        }
        goals(point, load);
        Ok(())
    };
    bench.point("fanout", &load.name(), measure).await;
}

async fn one(bench: &Bench<'_>, kind: Kind, load: Load, padding: usize) -> Result<Round> {
    let mut stage = Stage::set(bench, kind).await?;
    stage.padding = padding;
    let mut target = stage.target(load.transport, load.rate);
    if load.is_narrow {
        target.window = SMALL_WINDOW;
    }
    let readers = Readers::open(&target, load.readers).await?;
    stage.watched(bench, readers, load.rate).await
}

/// What a round of deliveries brought.
pub fn add(point: &mut Point, subject: &str, rate: Rate, round: &Round) {
    point.add(CPU_PER_DELIVERY, subject, round.cpu_per_delivery());
    point.add(BYTES, subject, round.bytes_per_delivery());
    match rate {
        Rate::Saturated => {
            let per_second = round.delivered as f64 / round.wall.as_secs_f64();
            point.add(DELIVERIES, subject, per_second);
        }
        Rate::Paced(_) => {
            point.add(ARRIVAL_P50, subject, round.latency_us(0.5));
            point.add(ARRIVAL_P99, subject, round.latency_us(0.99));
        }
    }
}

fn goals(point: &mut Point, load: Load) {
    let bare = point.ratio(CPU_PER_DELIVERY, "bare", "baton");
    let node = point.ratio(CPU_PER_DELIVERY, "node ws", "baton");
    match (load.rate, load.transport) {
        (Rate::Saturated, _) if load.is_narrow => {
            point.say("deliveries per CPU second, to bare tonic", bare);
        }
        (Rate::Saturated, _) if load.readers < 100 => {}
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
            let most = point.ratio(CPU_PER_DELIVERY, "baton", "bare");
            point.at_most("P4", "CPU per delivery, to the bare transport", most, 1.15);
            if load.transport == Transport::Ws {
                let node = point.ratio(CPU_PER_DELIVERY, "baton", "node ws");
                point.at_most("P4", "CPU per delivery, to the older design", node, 1.0);
            }
        }
    }
}
