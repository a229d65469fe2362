//! What TLS costs: every connection speaks it, the daemon's link too, and the bare server's as well.

use anyhow::Result;

use super::fanout;
use super::figure::{CPU_PER_DELIVERY, CPU_PER_EVENT};
use super::load::{Padding, Rate, Stage};
use crate::bench::certificate::Certificate;
use crate::bench::drain::Transport;
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::Kind;

const OURS: &str = "baton, TLS";
const THEIRS: &str = "bare, TLS";

/// Readers over gRPC, saturated and at an even rate, with TLS; beside it in the same rounds without.
pub async fn tls(bench: &Bench<'_>) {
    let many = bench.plan.size(100, 20);
    for (readers, rate) in [
        (1, Rate::Saturated),
        (many, Rate::Saturated),
        (many, Rate::Paced(200)),
    ] {
        let how = match rate {
            Rate::Saturated => "saturated".to_owned(),
            Rate::Paced(rate) => format!("{rate} events a second"),
        };
        let name = format!("gRPC with TLS, {readers} reader(s), {how}");
        let measure = async |point: &mut Point| {
            rounds(bench, readers, rate, point).await?;
            said(point);
            Ok(())
        };
        bench.point("tls", &name, measure).await;
    }
}

async fn rounds(bench: &Bench<'_>, readers: usize, rate: Rate, point: &mut Point) -> Result<()> {
    let certificate = Certificate::make(bench.plan)?;
    let mut paddings = [Padding::default(); 2];
    for round in bench.plan.rounds() {
        let pairs = [Some(&certificate), None].into_iter().zip(&mut paddings);
        for (certificate, padding) in pairs {
            for kind in [Kind::Baton, Kind::Bare] {
                let mut stage = Stage::with_tls(bench, kind, certificate).await?;
                stage.padding = padding.of(kind);
                let measured = stage.round(bench, Transport::Grpc, readers, rate).await?;
                if round == 0 {
                    padding.learn(kind, &measured);
                    continue;
                }
                let subject = match (kind, certificate) {
                    (Kind::Baton, Some(_)) => OURS,
                    (_, Some(_)) => THEIRS,
                    (kind, None) => kind.name(),
                };
                fanout::add(point, subject, rate, &measured);
                point.add(CPU_PER_EVENT, subject, measured.cpu_per_event());
            }
        }
    }
    Ok(())
}

fn said(point: &mut Point) {
    let delivery = point.ratio(CPU_PER_DELIVERY, OURS, THEIRS);
    point.say("CPU per delivery with TLS, to bare with TLS", delivery);
    for (whose, with, without) in [("baton's", OURS, "baton"), ("bare's", THEIRS, "bare")] {
        let more = point.ratio(CPU_PER_DELIVERY, with, without);
        let what = format!("{whose} CPU per delivery with TLS, to without");
        point.say(&what, more);
    }
    point.notes.push(
        "CPU per event is the whole path: one in, over the link and into the journal, and as many out as there are readers"
            .to_owned(),
    );
}
