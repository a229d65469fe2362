//! `baton agents`: lasting identities with a role that run sessions.

use std::path::Path;

use super::session::state;
use super::{request_id, text};
use crate::cli::args::{AgentChanges, AgentsAction, AgentsArgs, Global};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, usage};
use crate::cli::output::style::{Tone, visible_line};
use crate::cli::output::table::Table;
use crate::cli::output::{Out, json};
use crate::cli::resolve;
use crate::client::Client;
use crate::domain::AgentRole;
use crate::domain::agent::{StewardFocus, WorkerMode};
use crate::domain::trigger::TaskEvent;
use crate::wire::agent::trigger_to_pb;
use crate::wire::enums;
use crate::wire::time::time_from_pb;
use crate::wire::v1;
use crate::wire::v1::trigger::On;

/// `baton agents`
pub async fn run(global: &Global, out: &Out, args: AgentsArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let action = args.action.unwrap_or(AgentsAction::List {
        role: None,
        active: false,
    });
    match action {
        AgentsAction::List { role, active } => list(&client, out, role.as_deref(), active).await,
        AgentsAction::Show { agent } => show(&client, out, &agent).await,
        AgentsAction::Create {
            name,
            role,
            harness,
            changes,
        } => {
            let mut settings = v1::AgentSettings {
                name,
                role: role_number(&role),
                harness,
                ..Default::default()
            };
            changed(&client, &mut settings, *changes).await?;
            let request = v1::CreateAgentRequest {
                request_id: request_id(),
                settings: Some(settings),
            };
            one(out, client.create_agent(request).await?.agent.as_ref())
        }
        AgentsAction::Update {
            agent,
            name,
            harness,
            changes,
        } => {
            let mut settings = v1::AgentSettings::default();
            let mut paths = changed(&client, &mut settings, *changes).await?;
            for (value, field, path) in [
                (name, &mut settings.name, "name"),
                (harness, &mut settings.harness, "harness"),
            ] {
                if let Some(value) = value {
                    *field = value;
                    paths.push(path.to_owned());
                }
            }
            if paths.is_empty() {
                return Err(usage("there is nothing to change; see --help"));
            }
            let now = found(&client, &agent).await?;
            let request = v1::UpdateAgentRequest {
                request_id: request_id(),
                agent_id: now.id,
                settings: Some(settings),
                update_mask: Some(prost_types::FieldMask { paths }),
                etag: now.etag,
            };
            one(out, client.update_agent(request).await?.agent.as_ref())
        }
        AgentsAction::Delete { agent } => {
            let id = found(&client, &agent).await?.id;
            let request = v1::DeleteAgentRequest {
                request_id: request_id(),
                agent_id: id.clone(),
                etag: String::new(),
            };
            client.delete_agent(request).await?;
            out.show(&serde_json::json!({ "deleted": id }), || {
                format!("{id} is gone")
            })?;
            Ok(DONE)
        }
        AgentsAction::Start {
            agent,
            text: input,
            cwd,
            force,
        } => {
            let request = v1::StartAgentRequest {
                request_id: request_id(),
                agent_id: found(&client, &agent).await?.id,
                input: input.as_deref().map(text).transpose()?.unwrap_or_default(),
                cwd: cwd.unwrap_or_default(),
                mode: 0,
                force,
            };
            session(out, client.start_agent(request).await?.session.as_ref())
        }
        AgentsAction::Stop { agent, force } => {
            let request = v1::StopAgentRequest {
                request_id: request_id(),
                agent_id: found(&client, &agent).await?.id,
                force,
            };
            session(out, client.stop_agent(request).await?.session.as_ref())
        }
        AgentsAction::Resume {
            agent,
            text: input,
            session: continued,
            force,
            no_ready_check,
        } => {
            let session_id = match continued {
                Some(typed) => resolve::session(&client, &typed).await?.to_string(),
                None => String::new(),
            };
            let request = v1::ResumeAgentRequest {
                request_id: request_id(),
                agent_id: found(&client, &agent).await?.id,
                session_id,
                provider_session_id: String::new(),
                input: input.as_deref().map(text).transpose()?.unwrap_or_default(),
                force,
                check_ready_queue: Some(!no_ready_check),
            };
            let resumed = client.resume_agent(request).await?;
            if let Some(ready) = resumed.ready_check.filter(|ready| ready.process_first)
                && let Some(task) = ready.tasks.first()
            {
                out.note(&format!(
                    "it begins with the task {}: {}",
                    task.id, task.title
                ));
            }
            session(out, resumed.session.as_ref())
        }
        AgentsAction::Send { agent, text: said } => {
            let request = v1::SendInputRequest {
                request_id: request_id(),
                session_id: running(&client, &agent).await?,
                text: text(&said)?,
                delivery: 0,
            };
            let input = client.send_input(request).await?.input.unwrap_or_default();
            out.show(&json::input(&input), || format!("{} is accepted", input.id))?;
            Ok(DONE)
        }
        AgentsAction::Interrupt { agent } => {
            let request = v1::InterruptTurnRequest {
                request_id: request_id(),
                session_id: running(&client, &agent).await?,
            };
            let response = client.interrupt_turn(request).await?;
            session(out, response.session.as_ref())
        }
    }
}

async fn list(client: &Client, out: &Out, role: Option<&str>, active: bool) -> anyhow::Result<u8> {
    let mut agents = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client
            .list_agents(v1::ListAgentsRequest {
                role: role.map_or(0, role_number),
                active,
                page_size: 500,
                page_token,
                ..Default::default()
            })
            .await?;
        agents.extend(page.agents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if out.json {
        for agent in &agents {
            out.value(&json::agent(agent))?;
        }
        return Ok(DONE);
    }
    if agents.is_empty() {
        out.note("there are no agents; make one with `baton agents create`");
        return Ok(DONE);
    }
    let mut table = Table::new(&["ID", "ROLE", "HARNESS", "RUNS", "DIRECTORY", "NAME"]);
    for agent in &agents {
        let settings = agent.settings.clone().unwrap_or_default();
        let (tone, runs) = match (agent.active_session_id.as_str(), settings.disabled) {
            ("", true) => (Tone::Bad, "disabled".to_owned()),
            ("", false) => (Tone::Dim, "idle".to_owned()),
            (session, _) => (Tone::Good, resolve::short(session).to_owned()),
        };
        table.row([
            (Tone::Name, resolve::short(&agent.id).to_owned()),
            (Tone::Plain, role_of(&settings)),
            (Tone::Plain, settings.harness),
            (tone, runs),
            (Tone::Dim, visible_line(&settings.directory)),
            (Tone::Plain, settings.name),
        ]);
    }
    out.line(&table.render(out.style, 0))?;
    Ok(DONE)
}

async fn show(client: &Client, out: &Out, typed: &str) -> anyhow::Result<u8> {
    let request = v1::GetAgentStatusRequest {
        agent_id: found(client, typed).await?.id,
        history: 0,
    };
    let status = client.get_agent_status(request).await?;
    let agent = status.agent.unwrap_or_default();
    if out.json {
        out.value(&serde_json::json!({
            "agent": json::agent(&agent),
            "active": status.active.as_ref().map(json::session),
            "history": status.history.iter().map(json::session).collect::<Vec<_>>(),
            "triggers": status.triggers.iter().map(json::trigger_state).collect::<Vec<_>>(),
        }))?;
        return Ok(DONE);
    }
    let settings = agent.settings.clone().unwrap_or_default();
    let mut lines = vec![
        format!("{}  {}", agent.id, settings.name),
        format!("role       {}", role_of(&settings)),
        format!("harness    {} {}", settings.harness, settings.model),
    ];
    if !settings.directory.is_empty() {
        lines.push(format!("directory  {}", visible_line(&settings.directory)));
    }
    if !settings.capabilities.is_empty() {
        lines.push(format!("can        {}", settings.capabilities.join(", ")));
    }
    let idle = if settings.disabled {
        "disabled"
    } else {
        "idle"
    };
    lines.push(match &status.active {
        Some(session) => format!("now        {} {}", session.id, state(session)),
        None => format!("now        {idle}"),
    });
    for state in &status.triggers {
        lines.extend(trigger_lines(state));
    }
    for session in &status.history {
        let title = visible_line(&session.title);
        lines.push(format!(
            "before     {} {}  {title}",
            session.id,
            state(session)
        ));
    }
    out.line(&lines.join("\n"))?;
    Ok(DONE)
}

/// A time, to the minute.
fn moment(time: prost_types::Timestamp) -> String {
    let time = time_from_pb(Some(time), "time").ok().flatten();
    let text = time.map(|time| time.to_string()).unwrap_or_default();
    text.chars().take(16).collect()
}

/// A trigger and how it stands.
fn trigger_lines(state: &v1::TriggerState) -> Vec<String> {
    let trigger = state.trigger.clone().unwrap_or_default();
    let on = match &trigger.on {
        Some(On::Cron(cron)) => format!("{} {}", cron.schedule, cron.time_zone),
        Some(On::Event(of)) => {
            let event = enums::task_event_from_pb(of.event, "event").ok().flatten();
            let name = event.map_or("", TaskEvent::as_str);
            let labels = of
                .labels
                .iter()
                .map(|(key, value)| format!(" {key}={value}"));
            format!("{name}{}", labels.collect::<String>())
        }
        None => String::new(),
    };
    let mut first = format!("starts     {}", visible_line(on.trim_end()));
    if let Some(next) = state.next_at {
        first.push_str(&format!(", next {}", moment(next)));
    }
    if let Some(fired) = state.fired_at {
        first.push_str(&format!(", last {}", moment(fired)));
    }
    if state.tasks > 0 {
        first.push_str(&format!(", {} to tell of", state.tasks));
    }
    let mut lines = vec![first];
    if !trigger.input.is_empty() {
        lines.push(format!("           {}", visible_line(&trigger.input)));
    }
    if !state.obstacle.is_empty() {
        lines.push(format!("           but {}", visible_line(&state.obstacle)));
    }
    lines
}

/// The agent that a person meant: by its name, or by its id, which may be shortened.
pub(super) async fn found(client: &Client, typed: &str) -> anyhow::Result<v1::Agent> {
    let named = client
        .list_agents(v1::ListAgentsRequest {
            name: typed.to_owned(),
            ..Default::default()
        })
        .await?;
    if let Some(agent) = named.agents.into_iter().next() {
        return Ok(agent);
    }
    let id = resolve::agent(client, typed).await?;
    let request = v1::GetAgentRequest {
        agent_id: id.to_string(),
    };
    Ok(client.get_agent(request).await?.agent.unwrap_or_default())
}

/// The session that an agent runs.
async fn running(client: &Client, typed: &str) -> anyhow::Result<String> {
    let agent = found(client, typed).await?;
    if agent.active_session_id.is_empty() {
        let name = agent.settings.unwrap_or_default().name;
        return Err(crate::base::Error::new(
            crate::base::Code::NoSession,
            format!("the agent {name} runs no session; start it first"),
        )
        .into());
    }
    Ok(agent.active_session_id)
}

/// Puts what was asked for into the settings; the names of the fields.
async fn changed(
    client: &Client,
    settings: &mut v1::AgentSettings,
    changes: AgentChanges,
) -> anyhow::Result<Vec<String>> {
    let mut paths: Vec<&str> = Vec::new();
    if let Some(mode) = changes.worker_mode.as_deref().and_then(WorkerMode::parse) {
        settings.worker_mode = enums::worker_mode_to_pb(mode).into();
        paths.push("worker_mode");
    }
    if let Some(focus) = changes.focus.as_deref().and_then(StewardFocus::parse) {
        settings.focus = enums::steward_focus_to_pb(focus).into();
        paths.push("focus");
    }
    if let Some(model) = changes.model {
        settings.model = model;
        paths.push("model");
    }
    if let Some(mode) = changes.permission_mode {
        settings.permission_mode = enums::permission_mode_to_pb(mode).into();
        paths.push("permission_mode");
    }
    if let Some(cwd) = changes.cwd {
        settings.directory = cwd;
        paths.push("directory");
    }
    if let Some(daemon) = changes.daemon {
        settings.daemon_id = match daemon.as_str() {
            "" => String::new(),
            typed => resolve::daemon(client, typed).await?.to_string(),
        };
        paths.push("daemon_id");
    }
    if !changes.select.is_empty() {
        settings.selector = changes.select.into_iter().collect();
        paths.push("selector");
    }
    if !changes.env_names.is_empty() {
        settings.env_names = changes.env_names;
        paths.push("env_names");
    }
    let definition = settings.definition.get_or_insert_default();
    if let Some(file) = changes.instructions {
        definition.instructions = read(&file)?;
        paths.push("definition.instructions");
    }
    if let Some(on_startup) = changes.on_startup {
        definition.on_startup = on_startup;
        paths.push("definition.on_startup");
    }
    if !changes.capabilities.is_empty() {
        settings.capabilities = changes.capabilities;
        paths.push("capabilities");
    }
    if !changes.labels.is_empty() {
        settings.labels = changes.labels.into_iter().collect();
        paths.push("labels");
    }
    if changes.disable || changes.enable {
        settings.disabled = changes.disable;
        paths.push("disabled");
    }
    let triggers = changes.cron.iter().chain(&changes.when);
    settings.triggers = triggers.map(trigger_to_pb).collect();
    if changes.no_triggers || !settings.triggers.is_empty() {
        paths.push("triggers");
    }
    if !changes.argv.is_empty() {
        settings.argv = changes.argv;
        paths.push("argv");
    }
    Ok(paths.into_iter().map(str::to_owned).collect())
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        return text("-");
    }
    std::fs::read_to_string(file)
        .map_err(|problem| usage(format!("{} cannot be read: {problem}", file.display())))
}

fn role_number(name: &str) -> i32 {
    AgentRole::parse(name).map_or(0, |role| enums::agent_role_to_pb(role).into())
}

fn role_of(settings: &v1::AgentSettings) -> String {
    let role = enums::agent_role_from_pb(settings.role, "role")
        .ok()
        .flatten();
    let mode = enums::worker_mode_from_pb(settings.worker_mode, "worker_mode");
    let focus = enums::steward_focus_from_pb(settings.focus, "focus");
    let role = role.map_or("", AgentRole::as_str);
    match (mode.ok().flatten(), focus.ok().flatten()) {
        (Some(mode), _) => format!("{role}, {}", mode.as_str()),
        (_, Some(focus)) => format!("{role}, {}", focus.as_str()),
        _ => role.to_owned(),
    }
}

fn one(out: &Out, agent: Option<&v1::Agent>) -> anyhow::Result<u8> {
    if let Some(agent) = agent {
        let name = agent.settings.clone().unwrap_or_default().name;
        out.show(&json::agent(agent), || format!("{} {name}", agent.id))?;
    }
    Ok(DONE)
}

fn session(out: &Out, session: Option<&v1::Session>) -> anyhow::Result<u8> {
    match session {
        Some(session) => out.show(&json::session(session), || {
            format!("{} {}", session.id, state(session))
        })?,
        None => out.note("it is idle"),
    }
    Ok(DONE)
}
