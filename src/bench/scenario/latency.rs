//! How much later an event arrives than over a bare hop.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use tokio_stream::StreamExt as _;

use super::load::{Rate, Stage};
use crate::bench::drain::Transport;
use crate::bench::pace;
use crate::bench::publish::{Machine, Publisher};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::stamp::{histogram, now_ns, text};
use crate::bench::subject::{Kind, data_dir};
use crate::wire::time::time_to_pb;
use crate::wire::v1;

const P50: &str = "p50, µs";
const P99: &str = "p99, µs";
const TOGETHER: &str = "pieces in a message";
const RAW: &str = "raw fdatasync";
const FLOOR: &str = "bare hop + fdatasync";

/// Events a second.
const RATE: u64 = 1_000;
/// Prompts a second.
const PROMPTS: u32 = 100;

/// Committed events and live text at an even rate, and a prompt's way there and back.
pub async fn latency(bench: &Bench<'_>) {
    let name = format!("gRPC, 1 reader, {RATE} events a second");
    let measure = async |point: &mut Point| {
        events(bench, point).await?;
        let p50 = point.ratio(P50, "baton", FLOOR);
        point.at_most("P9", "arrival p50, to a bare hop and a raw sync", p50, 1.3);
        let p99 = point.ratio(P99, "baton", FLOOR);
        point.at_most("P9", "arrival p99, to a bare hop and a raw sync", p99, 1.5);
        Ok(())
    };
    bench.point("latency", &name, measure).await;
    let name = format!("gRPC, 1 reader, {RATE} pieces of live text a second");
    let measure = async |point: &mut Point| {
        live(bench, point).await?;
        let p50 = point.ratio(P50, "baton", "bare");
        point.at_most("P10", "arrival p50, to a bare hop", p50, 1.2);
        let p99 = point.ratio(P99, "baton", "bare");
        point.say("arrival p99, to a bare hop", p99);
        Ok(())
    };
    bench.point("latency", &name, measure).await;
    let measure = async |point: &mut Point| {
        prompts(bench, point).await?;
        let p50 = point.ratio(P50, "baton", FLOOR);
        point.at_most("P11", "p50, to two bare hops and two raw syncs", p50, 1.5);
        Ok(())
    };
    bench
        .point("latency", "prompt, answer, daemon", measure)
        .await;
}

async fn events(bench: &Bench<'_>, point: &mut Point) -> Result<()> {
    let round = async |point: &mut Point| {
        for kind in [Kind::Bare, Kind::Baton] {
            let mut stage = Stage::set(bench, kind).await?;
            let measured = stage
                .round(bench, Transport::Grpc, 1, Rate::Paced(RATE))
                .await?;
            let synced = match kind {
                Kind::Bare => Some(sync(bench)?),
                _ => None,
            };
            for (figure, quantile) in [(P50, 0.5), (P99, 0.99)] {
                let arrival = measured.latency_us(quantile);
                point.add(figure, kind.name(), arrival);
                if let Some(synced) = &synced {
                    let raw = synced.value_at_quantile(quantile) as f64 / 1e3;
                    point.add(figure, RAW, raw);
                    point.add(figure, FLOOR, arrival + raw);
                }
            }
        }
        Ok(())
    };
    bench.calm_rounds(point, round).await
}

/// Pieces of live text, which nobody stores.
async fn live(bench: &Bench<'_>, point: &mut Point) -> Result<()> {
    let round = async |point: &mut Point| {
        for kind in [Kind::Bare, Kind::Baton] {
            let mut stage = Stage::set(bench, kind).await?;
            stage.is_live = true;
            let measured = stage
                .round(bench, Transport::Grpc, 1, Rate::Paced(RATE))
                .await?;
            point.add(P50, kind.name(), measured.latency_us(0.5));
            point.add(P99, kind.name(), measured.latency_us(0.99));
            point.add(TOGETHER, kind.name(), measured.per_message());
        }
        Ok(())
    };
    bench.calm_rounds(point, round).await?;
    point.notes.push(
        "pieces of a part that come before the reader is woken reach it as one message; each counts from when it was due"
            .to_owned(),
    );
    Ok(())
}

/// Small writes at the same even rate, each synced: what the disk itself takes.
fn sync(bench: &Bench<'_>) -> Result<Histogram<u64>> {
    let dir = data_dir(bench.plan)?;
    let file = File::create(dir.path().join("segment"))?;
    let record = text(0, 0, bench.plan.event_bytes).into_bytes();
    let count = (RATE as f64 * bench.plan.duration.as_secs_f64()).max(1.0) as u64;
    let mut dues = pace::every(Duration::from_secs(1) / RATE as u32, count);
    // As a journal has it: the room is there and filled.
    let room = vec![0; record.len() * usize::try_from(count).unwrap_or(0)];
    file.write_all_at(&room, 0)?;
    file.sync_all()?;
    let mut taken = histogram();
    bench.machine.as_server(|| {
        // It runs where the server runs.
        std::thread::scope(|scope| {
            let job = scope.spawn(|| {
                let mut at = 0;
                while dues.blocking_recv().is_some() {
                    let begun = now_ns();
                    file.write_all_at(&record, at)?;
                    file.sync_data()?;
                    taken.saturating_record((now_ns() - begun).max(1));
                    at += record.len() as u64;
                }
                std::io::Result::Ok(())
            });
            job.join()
                .map_err(|_| std::io::Error::other("the job panicked"))?
        })
    })?;
    Ok(taken)
}

/// From a prompt's record on the daemon, over a person's program that answers at once, to the command on the daemon.
async fn prompts(bench: &Bench<'_>, point: &mut Point) -> Result<()> {
    let asked = bench.plan.size(500, 50);
    let round = async |point: &mut Point| {
        let mut stage = Stage::set(bench, Kind::Baton).await?;
        let taken = ask(&mut stage, asked).await?;
        drop(stage);
        let mut bare = Stage::set(bench, Kind::Bare).await?;
        let hop = bare
            .round(bench, Transport::Grpc, 1, Rate::Paced(PROMPTS.into()))
            .await?;
        let synced = sync(bench)?;
        for (figure, quantile) in [(P50, 0.5), (P99, 0.99)] {
            let raw = synced.value_at_quantile(quantile) as f64 / 1e3;
            let ours = taken.value_at_quantile(quantile) as f64 / 1e3;
            point.add(figure, "baton", ours);
            point.add(figure, FLOOR, 2.0 * (hop.latency_us(quantile) + raw));
        }
        Ok(())
    };
    bench.calm_rounds(point, round).await?;
    point.notes.push(
        "the floor is two hops and two syncs; a call that answers has a way back of its own"
            .to_owned(),
    );
    Ok(())
}

async fn ask(stage: &mut Stage, count: u64) -> Result<Histogram<u64>> {
    let client = stage.subject.client().await?;
    let scope = v1::SessionScope {
        session_id: stage.session.clone(),
        tail: true,
        ..Default::default()
    };
    let mut events = client
        .events()
        .watch(v1::WatchRequest {
            scopes: vec![v1::Scope {
                scope: Some(v1::scope::Scope::Session(scope)),
            }],
            kinds: vec![v1::EventKind::PromptRequested.into()],
            ..Default::default()
        })
        .await?
        .into_inner();
    let answering = client.clone();
    let person = tokio::spawn(async move {
        while let Some(Ok(message)) = events.next().await {
            let Some(v1::watch_response::Body::Events(batch)) = message.body else {
                continue;
            };
            for event in batch.events()? {
                let Some(v1::event::Body::PromptRequested(asked)) = event.body else {
                    continue;
                };
                let decision = v1::Decision {
                    allow: true,
                    ..Default::default()
                };
                answering
                    .answer_prompt(v1::AnswerPromptRequest {
                        request_id: uuid::Uuid::new_v4().to_string(),
                        prompt_id: asked.prompt.unwrap_or_default().id,
                        answer: Some(v1::answer_prompt_request::Answer::Decision(decision)),
                        ..Default::default()
                    })
                    .await?;
            }
        }
        anyhow::Ok(())
    });
    let mut answers = stage.machine().context("a daemon")?.answers();
    let mut taken = histogram();
    // At an even rate, as the floor is: the result of one answer is being stored when the next prompt would come at once.
    let mut due = tokio::time::interval(Duration::from_secs(1) / PROMPTS);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0..count {
        due.tick().await;
        answers.mark_unchanged();
        let begun = now_ns();
        let Publisher::Link(session) = &mut stage.publisher else {
            anyhow::bail!("a session of Baton");
        };
        session.record(prompt(&session.id, number)).await?;
        tokio::time::timeout(Duration::from_secs(10), answers.changed())
            .await
            .context("an answer did not reach the daemon")??;
        if number >= count / 10 {
            taken.saturating_record((now_ns() - begun).max(1));
        }
    }
    person.abort();
    Ok(taken)
}

fn prompt(session: &str, number: u64) -> v1::event::Body {
    v1::event::Body::PromptRequested(v1::PromptRequested {
        prompt: Some(v1::Prompt {
            id: crate::base::id::PromptId::generate(Machine::now()).to_string(),
            session_id: session.to_owned(),
            kind: v1::PromptKind::Permission.into(),
            tool: "Bash".to_owned(),
            input: Some(v1::Json {
                text: format!("{{\"command\":\"make {number}\"}}"),
            }),
            requested_at: Some(time_to_pb(Machine::now())),
            state: v1::PromptState::Pending.into(),
            request_key: format!("request-{number}"),
            summary: "make".to_owned(),
            ..Default::default()
        }),
    })
}
