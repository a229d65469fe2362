//! Starting, stopping and continuing agents, talking with them, and what they do.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::fields::{Asked, Fields, RawQuery, missing};
use super::{Named, Orchestrator, agent_id, answer, failed, place, renamed, shown, success};
use crate::app::access::Caller;
use crate::app::agents::{ResumeAgent, StartAgent};
use crate::app::dispatch::Dispatch;
use crate::app::worktrees::WorktreeFilter;
use crate::base::id::{AgentId, DaemonId, SessionId, TaskId};
use crate::base::{Code, Error, Result};
use crate::domain::policy::is_within;
use crate::domain::session::Mode;
use crate::domain::terminal::Size;
use crate::gateway::fail;
use crate::gateway::sse;
use crate::gateway::views::orchestrator as view;

/// Sessions of a status that are over.
const HISTORY: usize = 20;

pub(super) async fn status(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
) -> Response {
    let made = async {
        let id = agent_id(path)?;
        let status = orchestrator.app.agent_status(&caller, id, HISTORY).await?;
        let places = orchestrator.places(&caller).await?;
        let active = match &status.active {
            Some(active) => orchestrator.session(&caller, &active.session).await?,
            None => Value::Null,
        };
        let history: Vec<Value> = status
            .history
            .iter()
            .map(|it| view::session(&it.session, place(&places, &it.session), None))
            .collect();
        Ok(json!({
            "agentId": id.to_string(),
            "hasActiveSession": status.active.is_some(),
            "activeSession": active,
            "recentHistory": history,
        }))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn start(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = agent_id(path)?;
        let asked = Fields::read(&body)?;
        if let Some(task) = asked.text("taskId")? {
            let how = Dispatch {
                agent: Some(id),
                note: asked
                    .either(&["initialPrompt", "initialMessage"])?
                    .unwrap_or_default()
                    .to_owned(),
                ..Dispatch::default()
            };
            let task = TaskId::parse("taskId", task)?;
            let app = &orchestrator.app;
            let done = app
                .dispatch_task(&caller, asked.request_id()?, task, how)
                .await?;
            return Ok(app.get_session(&caller, done.session).await?.0);
        }
        let (daemon_id, cwd) = orchestrator.where_to(&caller, id, &asked).await?;
        let start = StartAgent {
            input: asked
                .either(&["initialPrompt", "initialMessage"])?
                .unwrap_or_default()
                .to_owned(),
            cwd,
            daemon_id,
            mode: asked
                .flag("interactive")?
                .map(|interactive| match interactive {
                    true => Mode::Interactive,
                    false => Mode::Headless,
                }),
            size: size(&asked)?,
            ..StartAgent::default()
        };
        orchestrator
            .app
            .start_agent(&caller, asked.request_id()?, id, start)
            .await
            .map_err(|error| renamed(error, &[("input", "initialPrompt")]))
    };
    orchestrator.begun(&caller, made.await, json!({})).await
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

pub(super) async fn stop(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = agent_id(path)?;
        let asked = Fields::read(&body)?;
        let graceful = asked.flag("graceful")?.unwrap_or(true);
        let reason = asked.text("reason")?.unwrap_or_default();
        let stopped = orchestrator
            .app
            .stop_agent_because(&caller, asked.request_id()?, id, !graceful, reason)
            .await?;
        Ok(match stopped {
            Some(session) => json!({ "success": true, "sessionId": session.to_string() }),
            None => json!({ "success": true, "message": "No active session to stop" }),
        })
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn resume(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = agent_id(path)?;
        let asked = Fields::read(&body)?;
        let conversation = match (
            asked.text("claudeSessionId")?,
            asked.text("providerSessionId")?,
        ) {
            (Some(one), Some(other)) if one != other => {
                return Err(Error::invalid(
                    "providerSessionId",
                    "and claudeSessionId name two conversations",
                ));
            }
            (one, other) => one.or(other).unwrap_or_default().to_owned(),
        };
        let session = asked.text("sessionId")?;
        let resume = ResumeAgent {
            session_id: session
                .map(|session| SessionId::parse("sessionId", session))
                .transpose()?,
            provider_session_id: conversation,
            cwd: orchestrator.where_to(&caller, id, &asked).await?.1,
            input: asked.text("resumePrompt")?.unwrap_or_default().to_owned(),
            unchecked: !asked.flag("checkReadyQueue")?.unwrap_or(true),
            ..ResumeAgent::default()
        };
        orchestrator
            .app
            .resume_agent(&caller, asked.request_id()?, id, resume)
            .await
            .map_err(|error| renamed(error, &[("input", "resumePrompt")]))
    };
    let (made, more) = match made.await {
        Ok(resumed) => {
            let ready = resumed.ready;
            let tasks: Vec<Value> = ready.tasks.iter().map(|it| view::task(it, false)).collect();
            let check = json!({
                "checked": ready.checked,
                "hasReadyTasks": !ready.tasks.is_empty(),
                "tasks": tasks,
                "processFirst": ready.process_first,
            });
            (Ok(resumed.session), json!({ "uwpCheck": check }))
        }
        Err(error) => (Err(error), json!({})),
    };
    orchestrator.begun(&caller, made, more).await
}

pub(super) async fn input(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = agent_id(path)?;
        let asked = Fields::read(&body)?;
        let text = asked.required("input")?.to_owned();
        asked.flag("isUserMessage")?;
        let session = orchestrator.app.running_session(&caller, id).await?;
        orchestrator.pace.input(session)?;
        let session = orchestrator
            .app
            .tell_agent(&caller, asked.request_id()?, id, text)
            .await
            .map_err(|error| renamed(error, &[("text", "input"), ("data", "input")]))?;
        Ok(json!({ "success": true, "sessionId": session.to_string() }))
    };
    answer(StatusCode::ACCEPTED, made.await)
}

pub(super) async fn interrupt(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = agent_id(path)?;
        let asked = Fields::read(&body)?;
        orchestrator
            .app
            .interrupt_agent(&caller, asked.request_id()?, id)
            .await?;
        Ok(success())
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn stream(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    query: RawQuery,
    headers: HeaderMap,
) -> Response {
    let opened = async {
        let id = agent_id(path)?;
        let asked = Asked::read(query)?;
        sse::agent(
            &orchestrator.app,
            &caller,
            id,
            &headers,
            asked.text("after")?,
        )
        .await
    };
    match opened.await {
        Ok(response) => response,
        Err(error) => failed(&error),
    }
}

impl Orchestrator {
    /// Where a session is to run: in the directory or the worktree that is named, or as the agent is set.
    async fn where_to(
        &self,
        caller: &Caller,
        id: AgentId,
        asked: &Fields,
    ) -> Result<(Option<DaemonId>, String)> {
        let directory = asked
            .text("workingDirectory")?
            .unwrap_or_default()
            .to_owned();
        let Some(name) = asked.text("worktree")?.filter(|name| !name.is_empty()) else {
            return Ok((None, directory));
        };
        let agent = self.app.get_agent(caller, id).await?.agent;
        let filter = WorktreeFilter {
            daemon_id: agent.settings.daemon_id,
            ..WorktreeFilter::default()
        };
        let found = self.app.find_worktree(caller, &filter, name).await?;
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

    /// The answer with a session that was begun, and `more`; or which session there is already.
    async fn begun(
        &self,
        caller: &Caller,
        made: Result<crate::domain::Session>,
        more: Value,
    ) -> Response {
        match made {
            Ok(session) => {
                let made = self.session(caller, &session).await.map(|session| {
                    let mut body = json!({ "success": true, "session": session });
                    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
                        body.extend(more);
                    }
                    body
                });
                answer(StatusCode::CREATED, made)
            }
            Err(error) if error.code() == Code::SessionExists => {
                let id = error.details().get("existing_session");
                let id = id.and_then(|id| SessionId::parse("id", id).ok());
                let existing = match id {
                    Some(id) => self.session_shown(caller, id).await.unwrap_or_default(),
                    None => Value::Null,
                };
                let body = json!({
                    "error": { "code": error.code().as_str(), "message": error.message() },
                    "existingSession": existing,
                });
                shown(fail::http_status(error.code()), body)
            }
            Err(error) => failed(&error),
        }
    }
}
