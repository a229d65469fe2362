//! The orchestrator's dialect: agents and their sessions, worktrees and tasks in camelCase, with errors as
//! `{"error": {"code", "message"}}`.

mod agents;
mod call;
mod events;
mod fields;
mod health;
mod runs;
mod scheduler;
mod sessions;
mod tasks;
mod worktrees;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use http::request::Parts;
use serde_json::Value;

use self::call::{Call, Refused};
use crate::app::App;
use crate::app::access::{Caller, Need};
use crate::app::pace::Pace;
use crate::app::worktrees::WorktreeFilter;
use crate::base::id::SessionId;
use crate::base::page::{MAX_PAGE_SIZE, Page, PageRequest};
use crate::base::{Error, Result};
use crate::domain::policy::is_within;
use crate::domain::{EventBody, EventKind, Scope, Session, Worktree};
use crate::gateway::Routes;
use crate::gateway::sse::Lines;
use crate::gateway::views::orchestrator as view;
use crate::gateway::ws::{self, Held, Sockets};
use crate::wire::event::event_from_pb;

/// Before this event a session's log says which process it has.
const AT_THE_BEGINNING: u64 = 100;

/// What the handlers share.
#[derive(Clone)]
struct Orchestrator {
    app: App,
    pace: Arc<Pace>,
    sockets: Sockets,
    lines: Arc<Lines>,
    data_dir: PathBuf,
}

/// The routes; their sockets belong to `sockets`.
pub fn routes(app: App, sockets: Sockets, pace: Arc<Pace>, data_dir: PathBuf) -> Routes {
    let viewer = Need::Scope(Scope::Viewer);
    let operator = Need::Scope(Scope::Operator);
    Routes::default()
        .get("/api/health", Need::Offered, health::health)
        .get("/api/agents", viewer, agents::list)
        .post("/api/agents", operator, agents::create)
        .get("/api/agents/{id}", viewer, agents::get)
        .patch("/api/agents/{id}", operator, agents::update)
        .delete("/api/agents/{id}", operator, agents::delete)
        .get("/api/agents/{id}/status", viewer, runs::status)
        .post("/api/agents/{id}/start", operator, runs::start)
        .post("/api/agents/{id}/stop", operator, runs::stop)
        .post("/api/agents/{id}/resume", operator, runs::resume)
        .post("/api/agents/{id}/input", operator, runs::input)
        .post("/api/agents/{id}/interrupt", operator, runs::interrupt)
        .get("/api/agents/{id}/stream", viewer, runs::stream)
        .get("/api/sessions", viewer, sessions::list)
        .get("/api/sessions/latest-messages", viewer, sessions::latest)
        .post("/api/sessions/stop-all", operator, sessions::stop_all)
        .get("/api/sessions/{id}", viewer, sessions::get)
        .get("/api/sessions/{id}/messages", viewer, sessions::messages)
        .get("/api/sessions/{id}/stream", viewer, sessions::stream)
        .get("/api/worktrees", viewer, worktrees::list)
        .post("/api/worktrees", operator, worktrees::create)
        .get("/api/worktrees/{path}", viewer, worktrees::get)
        .delete("/api/worktrees/{path}", operator, worktrees::delete)
        .get("/api/tasks", viewer, tasks::list)
        .post("/api/tasks", operator, tasks::create)
        .get("/api/tasks/unassigned", viewer, tasks::unassigned)
        .get("/api/tasks/ready", viewer, tasks::ready)
        .get("/api/tasks/{id}", viewer, tasks::get)
        .patch("/api/tasks/{id}", operator, tasks::update)
        .delete("/api/tasks/{id}", operator, tasks::delete)
        .post("/api/tasks/{id}/assign", operator, tasks::assign)
        .post("/api/tasks/{id}/start", operator, tasks::start)
        .post("/api/tasks/{id}/dispatch", operator, tasks::dispatch)
        .get("/api/scheduler/status", viewer, scheduler::status)
        .post("/api/scheduler/pause", operator, scheduler::pause)
        .post("/api/scheduler/resume", operator, scheduler::resume)
        .post("/api/tasks/{id}/complete", operator, tasks::complete)
        .post("/api/tasks/{id}/reopen", operator, tasks::reopen)
        .post("/api/tasks/{id}/handoff", operator, tasks::hand_off)
        .get("/api/tasks/{id}/dependencies", viewer, tasks::dependencies)
        .post("/api/tasks/{id}/dependencies", operator, tasks::depend)
        .delete(
            "/api/tasks/{id}/dependencies/{other}",
            operator,
            tasks::undepend,
        )
        .get("/api/events/stream", viewer, events::stream)
        // What is said on it asks for more, message by message.
        .get("/ws", viewer, connect)
        .get("/ws/events", viewer, connect_to_changes)
        .with_state(Orchestrator {
            app,
            pace,
            sockets,
            lines: Arc::default(),
            data_dir,
        })
}

/// All items of a list that has an end, page by page.
async fn all<T, F: Future<Output = Result<Page<T>>>>(
    mut list: impl FnMut(PageRequest) -> F,
) -> Result<Vec<T>> {
    let mut page = PageRequest {
        size: MAX_PAGE_SIZE,
        after: None,
    };
    let mut items = Vec::new();
    loop {
        let found = list(page.clone()).await?;
        items.extend(found.items);
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(items),
        }
    }
}

/// Adds where a list goes on, if it does.
fn paged(mut value: Value, next: Option<&str>) -> Value {
    if let Some(next) = next {
        value["nextPageToken"] = PageRequest::token(next).into();
    }
    value
}

impl Call {
    /// The worktrees that the caller sees, to say of sessions in which of them they are.
    async fn places(&self) -> Result<Vec<Worktree>> {
        let (app, caller) = (&self.app, &self.caller);
        let filter = WorktreeFilter::default();
        let found = all(async |page| app.list_worktrees(caller, &filter, &page).await).await?;
        Ok(found.into_iter().map(|shown| shown.worktree).collect())
    }

    /// One session, with its process while it has one.
    async fn show(&self, session: &Session) -> Result<Value> {
        let places = self.places().await?;
        let pid = match session.lifecycle.is_living() {
            true => self.process(session.id).await?,
            false => None,
        };
        Ok(view::session(session, place(&places, session), pid))
    }

    /// A session's process, as its log tells at the beginning.
    async fn process(&self, id: SessionId) -> Result<Option<u32>> {
        let page = PageRequest {
            size: 10,
            after: None,
        };
        let kinds = [EventKind::Started];
        let found = self
            .app
            .list_events(&self.caller, id, 0, 0, AT_THE_BEGINNING, &kinds, &page)
            .await?;
        let mut process = None;
        for event in found.events {
            if let EventBody::Started { pid, .. } = event_from_pb(event)?.body
                && pid > 0
            {
                process = Some(pid);
            }
        }
        Ok(process)
    }
}

/// The worktree that a session works in.
fn place<'a>(places: &'a [Worktree], session: &Session) -> Option<&'a Worktree> {
    places.iter().find(|worktree| {
        worktree.daemon_id == session.daemon_id
            && !worktree.place.path.is_empty()
            && is_within(&session.cwd, &worktree.place.path)
    })
}

/// A request that asks to become a socket, and what its connection holds.
struct Dial {
    orchestrator: Orchestrator,
    caller: Caller,
    held: Option<Held>,
    upgrade: WebSocketUpgrade,
}

impl FromRequestParts<Orchestrator> for Dial {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Orchestrator,
    ) -> std::result::Result<Self, Refused> {
        let Call { caller, .. } = Call::from_request_parts(parts, state).await?;
        let held = parts.extensions.get::<Held>().cloned();
        let upgrade = WebSocketUpgrade::from_request_parts(parts, state).await;
        let upgrade = upgrade.map_err(|_| {
            Error::invalid(
                "upgrade",
                "is missing: this path speaks WebSocket, version 13",
            )
        })?;
        Ok(Dial {
            orchestrator: state.clone(),
            caller,
            held,
            upgrade,
        })
    }
}

impl Dial {
    fn open<T: ws::Talk>(self, talk: impl FnOnce(App, Arc<Pace>, Caller) -> T) -> Response {
        let Orchestrator {
            app, pace, sockets, ..
        } = self.orchestrator;
        let end = app.access().watch_validity(&self.caller);
        let talk = talk(app, pace, self.caller);
        sockets.open(self.upgrade, self.held, end, ws::MAX_MESSAGE_BYTES, talk)
    }
}

async fn connect(dial: Dial) -> Response {
    dial.open(ws::orchestrator::Talk::new)
}

async fn connect_to_changes(dial: Dial) -> Response {
    dial.open(ws::changes::Talk::new)
}
