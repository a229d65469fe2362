//! The whole path: from a daemon through the journal to readers.

use anyhow::Result;

use super::figure::{CPU_PER_EVENT, EVENTS};
use super::load::{Padding, Rate, Stage};
use crate::bench::drain::Transport;
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::Kind;

/// With 1, 10 and 100 readers over gRPC.
///
/// The bare server's figure holds both parts of the baseline: one message in, and N deliveries.
pub async fn relay(bench: &Bench<'_>) {
    for readers in [1, 10, 100] {
        let name = format!("gRPC, {readers} readers, durable");
        let measure = async |point: &mut Point| {
            rounds(bench, readers, point).await?;
            let ratio = point.ratio(CPU_PER_EVENT, "baton", "bare");
            point.at_most(
                "P6",
                "CPU per event, to bare in and N deliveries",
                ratio,
                1.3,
            );
            Ok(())
        };
        bench.point("relay", &name, measure).await;
    }
}

async fn rounds(bench: &Bench<'_>, readers: usize, point: &mut Point) -> Result<()> {
    let mut padding = Padding::default();
    for round in bench.plan.rounds() {
        for kind in [Kind::Baton, Kind::Bare] {
            let mut stage = Stage::set(bench, kind).await?;
            stage.padding = padding.of(kind);
            let measured = stage
                .round(bench, Transport::Grpc, readers, Rate::Saturated)
                .await?;
            if round == 0 {
                padding.learn(kind, &measured);
            } else {
                point.add(CPU_PER_EVENT, kind.name(), measured.cpu_per_event());
                let per_second = measured.events as f64 / measured.wall.as_secs_f64();
                point.add(EVENTS, kind.name(), per_second);
            }
        }
    }
    Ok(())
}
