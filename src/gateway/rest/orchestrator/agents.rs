//! Making, showing, changing and deleting agents.

use std::time::Duration;

use serde_json::{Value, json};

use super::call::{Answer, Call, Named, created, done, ok};
use super::fields::{Asked, Fields, missing};
use super::{all, paged};
use crate::app::agents::AgentFilter;
use crate::base::id::DaemonId;
use crate::base::{Error, Result};
use crate::domain::agent::{RoleDefinition, StewardFocus, WorkerMode};
use crate::domain::session::{LimitAction, Limits, Mode};
use crate::domain::{AgentRole, AgentSettings, PermissionMode};
use crate::gateway::views::orchestrator as view;

/// The program of an agent that names none.
const PROVIDER: &str = "claude-code";

pub(super) async fn list(call: Call, asked: Asked) -> Answer {
    let Call { app, caller, .. } = &call;
    let filter = AgentFilter {
        role: asked.text("role")?.map(role).transpose()?,
        name: asked.text("name")?.unwrap_or_default().to_owned(),
        active: asked.flag("active")?,
        ..AgentFilter::default()
    };
    // There is an end to them: a list without a limit has all.
    if asked.text("limit")?.is_none() && asked.text("pageToken")?.is_none() {
        let found = all(async |page| app.list_agents(caller, &filter, &page).await).await?;
        let agents: Vec<Value> = found.iter().map(view::agent).collect();
        return ok(json!({ "agents": agents }));
    }
    let found = app.list_agents(caller, &filter, &asked.page()?).await?;
    let agents: Vec<Value> = found.items.iter().map(view::agent).collect();
    ok(paged(json!({ "agents": agents }), found.next.as_deref()))
}

pub(super) async fn create(call: Call, asked: Fields) -> Answer {
    let role = asked.either(&["role", "agentRole"])?;
    let role = role.ok_or_else(|| missing("role"))?;
    let mut settings = AgentSettings::new(asked.required("name")?, self::role(role)?, PROVIDER);
    change(&mut settings, &asked)?;
    let request = asked.request_id()?;
    let made = call.app.create_agent(&call.caller, request, settings);
    created(json!({ "success": true, "agent": view::agent(&made.await?) }))
}

pub(super) async fn get(call: Call, path: Named) -> Answer {
    let shown = call.agent(&path).await?;
    ok(json!({ "agent": view::agent(&shown) }))
}

pub(super) async fn update(call: Call, path: Named, asked: Fields) -> Answer {
    let id = call.agent(&path).await?.agent.id;
    let detail = asked.whole();
    let (request, etag) = (asked.request_id()?, asked.etag()?);
    let changed = call
        .app
        .update_agent(&call.caller, request, id, etag, &detail, |settings| {
            let mut settings = settings.clone();
            change(&mut settings, &asked)?;
            Ok(settings)
        })
        .await?;
    ok(json!({ "success": true, "agent": view::agent(&changed) }))
}

pub(super) async fn delete(call: Call, path: Named, asked: Asked) -> Answer {
    let id = call.agent(&path).await?.agent.id;
    let etag = asked.etag()?;
    call.app.delete_agent(&call.caller, "", id, etag).await?;
    done()
}

pub(super) fn role(word: &str) -> Result<AgentRole> {
    AgentRole::parse(word)
        .ok_or_else(|| Error::invalid("role", "must be director, worker or steward"))
}

/// A word that a field may have; null takes it away.
fn word<T>(
    asked: &Fields,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    words: &str,
) -> Result<Option<T>> {
    asked
        .text(name)?
        .map(|text| parse(text).ok_or_else(|| Error::invalid(name, format!("must be {words}"))))
        .transpose()
}

/// Sets what the body has; the rest stays.
fn change(settings: &mut AgentSettings, asked: &Fields) -> Result<()> {
    if let Some(name) = asked.text("name")? {
        name.clone_into(&mut settings.name);
    }
    if let Some(word) = asked.either(&["role", "agentRole"])? {
        settings.role = role(word)?;
    }
    if asked.has("workerMode") {
        settings.worker_mode = word(
            asked,
            "workerMode",
            WorkerMode::parse,
            "ephemeral or persistent",
        )?;
    }
    if asked.has("stewardFocus") {
        settings.focus = word(
            asked,
            "stewardFocus",
            StewardFocus::parse,
            "merge, docs, recovery or custom",
        )?;
    }
    if let Some(harness) = asked.either(&["provider", "harness"])? {
        harness.clone_into(&mut settings.harness);
    }
    if asked.has("model") {
        settings.model = asked.text("model")?.unwrap_or_default().to_owned();
    }
    let modes = "ask, auto_safe, auto or deny";
    if let Some(mode) = word(asked, "permissionMode", PermissionMode::parse, modes)? {
        settings.permission_mode = mode;
    }
    let mode = |text: &str| match text {
        "headless" => Some(Mode::Headless),
        "interactive" => Some(Mode::Interactive),
        _ => None,
    };
    if let Some(mode) = word(asked, "mode", mode, "headless or interactive")? {
        settings.mode = mode;
    }
    if asked.has("workingDirectory") {
        settings.directory = asked
            .text("workingDirectory")?
            .unwrap_or_default()
            .to_owned();
    }
    if asked.has("daemonId") {
        let id = asked.text("daemonId")?;
        settings.daemon_id = id.map(|id| DaemonId::parse("daemonId", id)).transpose()?;
    }
    if asked.has("selector") {
        settings.selector = asked.map("selector")?.unwrap_or_default();
    }
    if asked.has("labels") {
        settings.labels = asked.map("labels")?.unwrap_or_default();
    }
    if asked.has("envNames") {
        settings.env_names = asked.texts("envNames")?.unwrap_or_default();
    }
    if asked.has("command") {
        settings.argv = asked.texts("command")?.unwrap_or_default();
    }
    if asked.has("capabilities") {
        settings.capabilities = asked.texts("capabilities")?.unwrap_or_default();
    }
    if let Some(disabled) = asked.flag("disabled")? {
        settings.disabled = disabled;
    }
    if asked.has("limits") {
        settings.limits = match asked.within("limits")? {
            Some(limits) => self::limits(&limits)?,
            None => Limits::default(),
        };
    }
    if asked.has("roleDefinition") {
        settings.definition = match asked.within("roleDefinition")? {
            Some(definition) => self::definition(&definition)?,
            None => RoleDefinition::default(),
        };
    }
    Ok(())
}

fn limits(asked: &Fields) -> Result<Limits> {
    let seconds = |name: &str| Ok::<_, Error>(asked.number(name)?.map(Duration::from_secs));
    let action = |text: &str| match text {
        "end" => Some(LimitAction::End),
        "suspend" => Some(LimitAction::Suspend),
        _ => None,
    };
    Ok(Limits {
        runtime: seconds("runtimeSeconds")?,
        idle: seconds("idleSeconds")?,
        output_bytes: asked.number("outputBytes")?,
        turns: asked.number("turns")?,
        // Rounded; what is more than can be counted is the most that can be.
        cost_micro_usd: asked
            .amount("costUsd")?
            .map(|usd| (usd * 1e6).round() as u64),
        action: word(asked, "action", action, "end or suspend")?.unwrap_or_default(),
    })
}

fn definition(asked: &Fields) -> Result<RoleDefinition> {
    let text = |names: &[&str]| Ok::<_, Error>(asked.either(names)?.unwrap_or_default().to_owned());
    Ok(RoleDefinition {
        instructions: text(&["systemPrompt", "instructions"])?,
        on_startup: text(&["onStartup"])?,
        on_task_assigned: text(&["onTaskAssigned"])?,
        on_stuck: text(&["onStuck"])?,
        on_handoff: text(&["onHandoff"])?,
        on_error: text(&["onError"])?,
    })
}
