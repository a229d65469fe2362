//! Agents on the wire.

use super::common::actor_to_pb;
use super::enums;
use super::field::{self, optional_id};
use super::session::{limits_from_pb, limits_to_pb};
use super::time::time_to_pb;
pub use super::trigger::trigger_to_pb;
use super::trigger::triggers_from_pb;
use crate::base::id::{AgentId, DaemonId, SessionId};
use crate::base::{Error, Result};
use crate::domain::agent::{Agent, AgentRole, AgentSettings, RoleDefinition, SessionAgent};
use crate::wire::v1;

/// An agent as protobuf writes it; `revision` becomes the etag.
pub fn agent_to_pb(agent: &Agent, active: Option<SessionId>, revision: u64) -> v1::Agent {
    v1::Agent {
        id: agent.id.to_string(),
        settings: Some(settings_to_pb(&agent.settings)),
        active_session_id: active.map(|id| id.to_string()).unwrap_or_default(),
        created_by: Some(actor_to_pb(&agent.created_by)),
        created_at: Some(time_to_pb(agent.created_at)),
        updated_at: Some(time_to_pb(agent.updated_at)),
        etag: field::etag_of(revision),
    }
}

/// Settings as protobuf writes them.
pub fn settings_to_pb(settings: &AgentSettings) -> v1::AgentSettings {
    v1::AgentSettings {
        name: settings.name.clone(),
        role: enums::agent_role_to_pb(settings.role).into(),
        worker_mode: settings
            .worker_mode
            .map_or(0, |mode| enums::worker_mode_to_pb(mode).into()),
        focus: settings
            .focus
            .map_or(0, |focus| enums::steward_focus_to_pb(focus).into()),
        harness: settings.harness.clone(),
        model: settings.model.clone(),
        permission_mode: enums::permission_mode_to_pb(settings.permission_mode).into(),
        mode: enums::mode_to_pb(settings.mode).into(),
        directory: settings.directory.clone(),
        daemon_id: settings
            .daemon_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        selector: settings.selector.clone().into_iter().collect(),
        env_names: settings.env_names.clone(),
        argv: settings.argv.clone(),
        limits: Some(limits_to_pb(&settings.limits)),
        definition: Some(definition_to_pb(&settings.definition)),
        capabilities: settings.capabilities.clone(),
        disabled: settings.disabled,
        labels: settings.labels.clone().into_iter().collect(),
        triggers: settings.triggers.iter().map(trigger_to_pb).collect(),
    }
}

/// Settings from the wire.
pub fn settings_from_pb(settings: Option<v1::AgentSettings>) -> Result<AgentSettings> {
    let settings = field::required(settings, "settings")?;
    Ok(AgentSettings {
        name: settings.name,
        role: enums::required(
            enums::agent_role_from_pb(settings.role, "settings.role"),
            "settings.role",
        )?,
        worker_mode: enums::worker_mode_from_pb(settings.worker_mode, "settings.worker_mode")?,
        focus: enums::steward_focus_from_pb(settings.focus, "settings.focus")?,
        harness: settings.harness,
        model: settings.model,
        permission_mode: enums::permission_mode_from_pb(
            settings.permission_mode,
            "settings.permission_mode",
        )?
        .unwrap_or_default(),
        mode: enums::mode_from_pb(settings.mode, "settings.mode")?.unwrap_or_default(),
        directory: settings.directory,
        daemon_id: optional_id(&settings.daemon_id, "settings.daemon_id", DaemonId::parse)?,
        selector: settings.selector.into_iter().collect(),
        env_names: settings.env_names,
        argv: settings.argv,
        limits: limits_from_pb(settings.limits, "settings.limits")?,
        definition: definition_from_pb(settings.definition.unwrap_or_default()),
        capabilities: settings.capabilities,
        disabled: settings.disabled,
        labels: settings.labels.into_iter().collect(),
        triggers: triggers_from_pb(settings.triggers)?,
    })
}

/// The settings that a change leads to: `paths` are the fields to take from `changes`, by their names in the
/// message; none means all. `INVALID_INPUT`: there is no such field.
pub fn merged_settings(
    now: &AgentSettings,
    changes: Option<v1::AgentSettings>,
    paths: &[String],
) -> Result<AgentSettings> {
    if paths.is_empty() {
        return settings_from_pb(changes);
    }
    let changes = field::required(changes, "settings")?;
    let mut merged = settings_to_pb(now);
    for path in paths {
        match path.as_str() {
            "name" => merged.name.clone_from(&changes.name),
            "role" => merged.role = changes.role,
            "worker_mode" => merged.worker_mode = changes.worker_mode,
            "focus" => merged.focus = changes.focus,
            "harness" => merged.harness.clone_from(&changes.harness),
            "model" => merged.model.clone_from(&changes.model),
            "permission_mode" => merged.permission_mode = changes.permission_mode,
            "mode" => merged.mode = changes.mode,
            "directory" => merged.directory.clone_from(&changes.directory),
            "daemon_id" => merged.daemon_id.clone_from(&changes.daemon_id),
            "selector" => merged.selector.clone_from(&changes.selector),
            "env_names" => merged.env_names.clone_from(&changes.env_names),
            "argv" => merged.argv.clone_from(&changes.argv),
            "limits" => merged.limits = changes.limits,
            "definition" => merged.definition.clone_from(&changes.definition),
            nested if nested.starts_with("definition.") => {
                let from = changes.definition.clone().unwrap_or_default();
                let into = merged.definition.get_or_insert_default();
                match &nested["definition.".len()..] {
                    "instructions" => into.instructions = from.instructions,
                    "on_startup" => into.on_startup = from.on_startup,
                    "on_task_assigned" => into.on_task_assigned = from.on_task_assigned,
                    "on_stuck" => into.on_stuck = from.on_stuck,
                    "on_handoff" => into.on_handoff = from.on_handoff,
                    "on_error" => into.on_error = from.on_error,
                    _ => return Err(no_such_field(nested)),
                }
            }
            "capabilities" => merged.capabilities.clone_from(&changes.capabilities),
            "disabled" => merged.disabled = changes.disabled,
            "labels" => merged.labels.clone_from(&changes.labels),
            "triggers" => merged.triggers.clone_from(&changes.triggers),
            other => return Err(no_such_field(other)),
        }
    }
    settings_from_pb(Some(merged))
}

fn no_such_field(path: &str) -> Error {
    Error::invalid(
        "update_mask",
        format!("names {path:?}, which the settings of an agent do not have"),
    )
}

fn definition_to_pb(definition: &RoleDefinition) -> v1::RoleDefinition {
    v1::RoleDefinition {
        instructions: definition.instructions.clone(),
        on_startup: definition.on_startup.clone(),
        on_task_assigned: definition.on_task_assigned.clone(),
        on_stuck: definition.on_stuck.clone(),
        on_handoff: definition.on_handoff.clone(),
        on_error: definition.on_error.clone(),
    }
}

fn definition_from_pb(definition: v1::RoleDefinition) -> RoleDefinition {
    RoleDefinition {
        instructions: definition.instructions,
        on_startup: definition.on_startup,
        on_task_assigned: definition.on_task_assigned,
        on_stuck: definition.on_stuck,
        on_handoff: definition.on_handoff,
        on_error: definition.on_error,
    }
}

/// A role to look for; unspecified is any.
pub fn role_filter(value: i32) -> Result<Option<AgentRole>> {
    enums::agent_role_from_pb(value, "role")
}

/// The agent of a session as protobuf writes it.
pub fn session_agent_to_pb(agent: &SessionAgent) -> v1::SessionAgent {
    v1::SessionAgent {
        id: agent.id.to_string(),
        name: agent.name.clone(),
        role: enums::agent_role_to_pb(agent.role).into(),
        worker_mode: agent
            .worker_mode
            .map_or(0, |mode| enums::worker_mode_to_pb(mode).into()),
    }
}

/// The agent of a session from the wire.
pub fn session_agent_from_pb(agent: v1::SessionAgent) -> Result<SessionAgent> {
    Ok(SessionAgent {
        id: AgentId::parse("session.agent.id", &agent.id)?,
        name: agent.name,
        role: enums::required(
            enums::agent_role_from_pb(agent.role, "session.agent.role"),
            "session.agent.role",
        )?,
        worker_mode: enums::worker_mode_from_pb(agent.worker_mode, "session.agent.worker_mode")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::trigger::{Occasion, Schedule, TaskEvent, TaskEvents, Trigger};

    fn alice() -> AgentSettings {
        AgentSettings::new("Alice", AgentRole::Worker, "demo")
            .checked()
            .unwrap()
    }

    #[test]
    fn settings_go_over_the_wire_and_back() {
        let mut settings = alice();
        settings.definition.on_stuck = "Ask.".to_owned();
        settings.labels.insert("a".to_owned(), "b".to_owned());
        settings.limits.turns = Some(3);
        settings.triggers = vec![
            Trigger {
                on: Occasion::Cron(Schedule {
                    cron: "0 7 * * *".to_owned(),
                    time_zone: "Europe/Berlin".to_owned(),
                }),
                input: "Look.".to_owned(),
            },
            Trigger {
                on: Occasion::Event(TaskEvents {
                    event: TaskEvent::TaskClosed,
                    labels: [("a".to_owned(), "b".to_owned())].into(),
                }),
                input: String::new(),
            },
        ];
        let back = settings_from_pb(Some(settings_to_pb(&settings))).unwrap();
        assert_eq!(back, settings);
    }

    /// Every field of the message can be changed by its name, and only by its name.
    #[test]
    fn a_mask_changes_what_it_names() {
        use prost_reflect::DescriptorPool;
        let pool = DescriptorPool::decode(crate::wire::DESCRIPTORS).unwrap();
        let message = pool.get_message_by_name("baton.v1.AgentSettings").unwrap();
        let changes = || {
            let mut other = settings_to_pb(&alice());
            other.model = "other".to_owned();
            Some(other)
        };
        for named in message.fields() {
            let path = named.name().to_owned();
            let merged = merged_settings(&alice(), changes(), std::slice::from_ref(&path));
            let merged = merged.unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(merged.model == "other", path == "model", "{path}");
        }
        let error = merged_settings(&alice(), changes(), &["nonsense".to_owned()]).unwrap_err();
        assert_eq!(error.fields()[0].field, "update_mask");
    }
}
