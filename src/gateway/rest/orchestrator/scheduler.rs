//! The scheduler: what it does, and whether it does it.

use serde_json::{Value, json};

use super::call::{Answer, Call, ok};
use super::fields::Fields;
use crate::app::dispatch::Scheduler;
use crate::gateway::views::iso;

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
        "changedAt": switch.map(|switch| iso(switch.at)),
        "lastPollAt": scheduler.looked_at.map(iso),
        "runningAgents": scheduler.running,
        "maxRunningAgents": scheduler.max_running,
        "escalatedTaskIds": escalated,
    })
}

pub(super) async fn status(call: Call) -> Answer {
    ok(one(&call.app.get_scheduler(&call.caller).await?))
}

pub(super) async fn pause(call: Call, asked: Fields) -> Answer {
    let reason = asked.text("reason")?.unwrap_or_default().to_owned();
    let paused = call.app.switch_scheduler(&call.caller, true, reason);
    ok(one(&paused.await?))
}

pub(super) async fn resume(call: Call) -> Answer {
    let resumed = call
        .app
        .switch_scheduler(&call.caller, false, String::new());
    ok(one(&resumed.await?))
}
