//! Agents.

use serde_json::{Value, json};

use super::Shown;
use crate::app::agents::ShownAgent;
use crate::domain::session::{LimitAction, Limits, Mode};
use crate::gateway::views::iso;

/// One agent.
pub fn agent(shown: &ShownAgent) -> Value {
    let agent = &shown.agent;
    let settings = &agent.settings;
    let definition = &settings.definition;
    let mut it = Shown::default();
    it.put("id", agent.id.to_string())
        .put("name", settings.name.as_str())
        .put("role", settings.role.as_str())
        .some("workerMode", settings.worker_mode.map(|mode| mode.as_str()))
        .some("stewardFocus", settings.focus.map(|focus| focus.as_str()))
        .put("provider", settings.harness.as_str())
        .text("model", &settings.model)
        .put("permissionMode", settings.permission_mode.as_str())
        .put("mode", mode(settings.mode))
        .text("workingDirectory", &settings.directory)
        .some("daemonId", settings.daemon_id.map(|id| id.to_string()))
        .put("selector", json!(settings.selector))
        .put("envNames", json!(settings.env_names))
        .put("command", json!(settings.argv))
        .put("limits", limits(&settings.limits))
        .put(
            "roleDefinition",
            json!({
                "systemPrompt": definition.instructions, "onStartup": definition.on_startup,
                "onTaskAssigned": definition.on_task_assigned, "onStuck": definition.on_stuck,
                "onHandoff": definition.on_handoff, "onError": definition.on_error,
            }),
        )
        .put("capabilities", json!(settings.capabilities))
        .put("disabled", settings.disabled)
        .put("labels", json!(settings.labels))
        .put("hasActiveSession", shown.active.is_some())
        .some("activeSessionId", shown.active.map(|id| id.to_string()))
        .put("createdAt", iso(agent.created_at))
        .put("updatedAt", iso(agent.updated_at))
        .put("createdBy", agent.created_by.name.as_str())
        .put("etag", shown.revision.to_string());
    it.done()
}

pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Headless => "headless",
        Mode::Interactive => "interactive",
    }
}

fn limits(limits: &Limits) -> Value {
    let mut it = Shown::default();
    it.some("runtimeSeconds", limits.runtime.map(|it| it.as_secs()))
        .some("idleSeconds", limits.idle.map(|it| it.as_secs()))
        .some("outputBytes", limits.output_bytes)
        .some("turns", limits.turns)
        .some(
            "costUsd",
            limits.cost_micro_usd.map(|micro| micro as f64 / 1e6),
        )
        .put(
            "action",
            match limits.action {
                LimitAction::End => "end",
                LimitAction::Suspend => "suspend",
                LimitAction::Park => "park",
            },
        );
    it.done()
}
