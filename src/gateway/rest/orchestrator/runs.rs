//! Starting, stopping and continuing agents, talking with them, and what they do.

use axum::response::Response;
use http::HeaderMap;
use serde_json::{Value, json};

use super::call::{Answer, Call, Named, Refused, accepted, created, ok, renamed};
use super::fields::{Asked, Fields, missing};
use super::place;
use crate::app::agents::{ReadyCheck, ResumeAgent, StartAgent};
use crate::app::dispatch::Dispatch;
use crate::app::worktrees::WorktreeFilter;
use crate::base::id::{DaemonId, SessionId, TaskId};
use crate::base::{Code, Error, Result};
use crate::domain::policy::is_within;
use crate::domain::session::Mode;
use crate::domain::terminal::Size;
use crate::domain::{Agent, Session};
use crate::gateway::sse;
use crate::gateway::views::orchestrator as view;

/// Sessions of a status that are over.
const HISTORY: usize = 20;

pub(super) async fn status(call: Call, path: Named) -> Answer {
    let id = call.agent(&path).await?.agent.id;
    let status = call.app.agent_status(&call.caller, id, HISTORY).await?;
    let places = call.places().await?;
    let active = match &status.active {
        Some(active) => call.show(&active.session).await?,
        None => Value::Null,
    };
    let history: Vec<Value> = status
        .history
        .iter()
        .map(|it| view::session(&it.session, place(&places, &it.session), None))
        .collect();
    ok(json!({
        "agentId": id.to_string(),
        "hasActiveSession": status.active.is_some(),
        "activeSession": active,
        "recentHistory": history,
    }))
}

pub(super) async fn start(call: Call, path: Named, asked: Fields) -> Answer {
    let agent = call.agent(&path).await?.agent;
    let input = asked
        .either(&["initialPrompt", "initialMessage"])?
        .unwrap_or_default()
        .to_owned();
    let begun = match asked.text("taskId")? {
        Some(task) => {
            let task = TaskId::parse("taskId", task)?;
            call.start_with(&agent, task, input, &asked).await
        }
        None => call.start_alone(&agent, input, &asked).await,
    };
    let session = call.begun(begun).await?;
    created(json!({ "success": true, "session": session }))
}

/// Columns and rows, both or none.
fn size(asked: &Fields) -> Result<Option<Size>> {
    match (asked.number("cols")?, asked.number("rows")?) {
        (None, None) => Ok(None),
        (Some(cols), Some(rows)) => Size::checked("terminal", cols, rows).map(Some),
        (None, Some(_)) => Err(missing("cols")),
        (Some(_), None) => Err(missing("rows")),
    }
}

pub(super) async fn stop(call: Call, path: Named, asked: Fields) -> Answer {
    let id = call.agent(&path).await?.agent.id;
    let graceful = asked.flag("graceful")?.unwrap_or(true);
    let reason = asked.text("reason")?.unwrap_or_default();
    let stopped = call
        .app
        .stop_agent_because(&call.caller, asked.request_id()?, id, !graceful, reason)
        .await?;
    ok(match stopped {
        Some(session) => json!({ "success": true, "sessionId": session.to_string() }),
        None => json!({ "success": true, "message": "No active session to stop" }),
    })
}

pub(super) async fn resume(call: Call, path: Named, asked: Fields) -> Answer {
    let agent = call.agent(&path).await?.agent;
    let session = asked.text("sessionId")?;
    let resume = ResumeAgent {
        session_id: session
            .map(|session| SessionId::parse("sessionId", session))
            .transpose()?,
        provider_session_id: conversation(&asked)?,
        cwd: call.where_to(&agent, &asked).await?.1,
        input: asked.text("resumePrompt")?.unwrap_or_default().to_owned(),
        unchecked: !asked.flag("checkReadyQueue")?.unwrap_or(true),
        ..ResumeAgent::default()
    };
    let resumed = call
        .app
        .resume_agent(&call.caller, asked.request_id()?, agent.id, resume)
        .await
        .map_err(|error| renamed(error, &[("input", "resumePrompt")]));
    let (begun, check) = match resumed {
        Ok(resumed) => (Ok(resumed.session), uwp_check(&resumed.ready)),
        Err(error) => (Err(error), Value::Null),
    };
    let session = call.begun(begun).await?;
    created(json!({ "success": true, "session": session, "uwpCheck": check }))
}

/// Which conversation is meant, by either of its names; empty is any.
fn conversation(asked: &Fields) -> Result<String> {
    match (
        asked.text("claudeSessionId")?,
        asked.text("providerSessionId")?,
    ) {
        (Some(one), Some(other)) if one != other => Err(Error::invalid(
            "providerSessionId",
            "and claudeSessionId name two conversations",
        )),
        (one, other) => Ok(one.or(other).unwrap_or_default().to_owned()),
    }
}

fn uwp_check(ready: &ReadyCheck) -> Value {
    let tasks: Vec<Value> = ready.tasks.iter().map(|it| view::task(it, false)).collect();
    json!({
        "checked": ready.checked,
        "hasReadyTasks": !ready.tasks.is_empty(),
        "tasks": tasks,
        "processFirst": ready.process_first,
    })
}

pub(super) async fn input(call: Call, path: Named, asked: Fields) -> Answer {
    let id = call.agent(&path).await?.agent.id;
    let text = asked.required("input")?.to_owned();
    asked.flag("isUserMessage")?;
    let session = call.app.running_session(&call.caller, id).await?;
    call.pace.input(session)?;
    let session = call
        .app
        .tell_agent(&call.caller, asked.request_id()?, id, text)
        .await
        .map_err(|error| renamed(error, &[("text", "input"), ("data", "input")]))?;
    accepted(json!({ "success": true, "sessionId": session.to_string() }))
}

pub(super) async fn interrupt(call: Call, path: Named, asked: Fields) -> Answer {
    let id = call.agent(&path).await?.agent.id;
    let session = call
        .app
        .interrupt_agent(&call.caller, asked.request_id()?, id)
        .await?;
    ok(json!({ "success": true, "sessionId": session.to_string() }))
}

pub(super) async fn stream(
    call: Call,
    path: Named,
    asked: Asked,
    headers: HeaderMap,
) -> std::result::Result<Response, Refused> {
    let id = call.agent(&path).await?.agent.id;
    let after = asked.text("after")?;
    Ok(sse::agent(&call.app, &call.caller, id, &headers, after).await?)
}

impl Call {
    /// Starts an agent with a task, or tells it of one.
    async fn start_with(
        &self,
        agent: &Agent,
        task: TaskId,
        note: String,
        asked: &Fields,
    ) -> Result<Session> {
        let how = Dispatch {
            agent: Some(agent.id),
            note,
            ..Dispatch::default()
        };
        let done = self
            .app
            .dispatch_task(&self.caller, asked.request_id()?, task, how)
            .await
            .map_err(|error| renamed(error, &[("note", "initialPrompt")]))?;
        Ok(self.app.get_session(&self.caller, done.session).await?.0)
    }

    /// Starts an agent.
    async fn start_alone(&self, agent: &Agent, input: String, asked: &Fields) -> Result<Session> {
        let (daemon_id, cwd) = self.where_to(agent, asked).await?;
        let mode = |interactive| match interactive {
            true => Mode::Interactive,
            false => Mode::Headless,
        };
        let start = StartAgent {
            input,
            cwd,
            daemon_id,
            mode: asked.flag("interactive")?.map(mode),
            size: size(asked)?,
            ..StartAgent::default()
        };
        self.app
            .start_agent(&self.caller, asked.request_id()?, agent.id, start)
            .await
            .map_err(|error| renamed(error, &[("input", "initialPrompt")]))
    }

    /// Where a session is to run: in the directory or the worktree that is named, or as the agent is set.
    async fn where_to(&self, agent: &Agent, asked: &Fields) -> Result<(Option<DaemonId>, String)> {
        let directory = asked
            .text("workingDirectory")?
            .unwrap_or_default()
            .to_owned();
        let Some(name) = asked.text("worktree")?.filter(|name| !name.is_empty()) else {
            return Ok((None, directory));
        };
        let filter = WorktreeFilter {
            daemon_id: agent.settings.daemon_id,
            ..WorktreeFilter::default()
        };
        let found = self.app.find_worktree(&self.caller, &filter, name).await?;
        let worktree = found.worktree;
        if directory.is_empty() {
            return Ok((Some(worktree.daemon_id), worktree.place.path));
        }
        if !is_within(&directory, &worktree.place.path) {
            return Err(Error::invalid(
                "workingDirectory",
                "lies outside the worktree",
            ));
        }
        Ok((Some(worktree.daemon_id), directory))
    }

    /// A session that was begun, as it is shown; or which one there is already.
    async fn begun(&self, made: Result<Session>) -> std::result::Result<Value, Refused> {
        let error = match made {
            Ok(session) => return Ok(self.show(&session).await?),
            Err(error) if error.code() == Code::SessionExists => error,
            Err(error) => return Err(error.into()),
        };
        let id = error.details().get("existing_session");
        let id = id.and_then(|id| SessionId::parse("id", id).ok());
        let existing = match id {
            Some(id) => self.existing(id).await.unwrap_or_default(),
            None => Value::Null,
        };
        Err(Refused::running(error, existing))
    }

    async fn existing(&self, id: SessionId) -> Result<Value> {
        let (session, _) = self.app.get_session(&self.caller, id).await?;
        self.show(&session).await
    }
}
