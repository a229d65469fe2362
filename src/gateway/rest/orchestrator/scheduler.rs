//! The scheduler: what it does, and whether it does it.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::fields::Fields;
use super::{Orchestrator, answer};
use crate::app::access::Caller;
use crate::app::dispatch::Scheduler;

fn one(scheduler: &Scheduler) -> Value {
    let switch = scheduler.switch.as_ref();
    let escalated: Vec<String> = scheduler
        .escalated
        .iter()
        .map(ToString::to_string)
        .collect();
    json!({
        "isRunning": !scheduler.paused,
        "paused": scheduler.paused,
        "reason": switch.map(|switch| switch.reason.as_str()).filter(|why| !why.is_empty()),
        "changedBy": switch.map(|switch| switch.by.name.as_str()),
        "changedAt": switch.map(|switch| switch.at.to_string()),
        "lastPollAt": scheduler.looked_at.map(|at| at.to_string()),
        "runningAgents": scheduler.running,
        "maxRunningAgents": scheduler.max_running,
        "escalatedTaskIds": escalated,
    })
}

pub(super) async fn status(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let made = orchestrator.app.get_scheduler(&caller).await;
    answer(StatusCode::OK, made.map(|scheduler| one(&scheduler)))
}

pub(super) async fn pause(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let made = async {
        let asked = Fields::read(&body)?;
        let reason = asked.text("reason")?.unwrap_or_default().to_owned();
        let paused = orchestrator.app.switch_scheduler(&caller, true, reason);
        Ok(one(&paused.await?))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn resume(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let resumed = orchestrator
        .app
        .switch_scheduler(&caller, false, String::new());
    answer(
        StatusCode::OK,
        resumed.await.map(|scheduler| one(&scheduler)),
    )
}
