//! The relay's dialect: start, list, look at and continue sessions; which daemons there are; and the way to
//! its sockets.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::app::App;
use crate::app::access::{Caller, Need};
use crate::app::daemons::ShownDaemon;
use crate::app::pace::Pace;
use crate::app::sessions::{NewSession, Resume, SessionFilter};
use crate::base::id::SessionId;
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::policy::is_within;
use crate::domain::{Lifecycle, PermissionMode, Scope, Session};
use crate::gateway::Routes;
use crate::gateway::fail::{self, Dialect};
use crate::gateway::views::relay as view;
use crate::gateway::ws::daemon::{self, Bridges};
use crate::gateway::ws::{self, Held, Sockets, relay as socket};

/// The harness of a session that names none.
const HARNESS: &str = "claude-code";

/// What the handlers share.
#[derive(Clone)]
struct Relay {
    app: App,
    pace: Arc<Pace>,
    sockets: Sockets,
    bridges: Bridges,
    transcripts: Arc<socket::Transcripts>,
}

/// The routes; their sockets belong to `sockets`.
pub fn routes(app: App, sockets: Sockets, pace: Arc<Pace>) -> Routes {
    let viewer = Need::Scope(Scope::Viewer);
    let operator = Need::Scope(Scope::Operator);
    Routes::default()
        .post("/api/sessions/spawn", operator, spawn)
        .get("/api/sessions/spawned", viewer, spawned)
        .get("/api/sessions/{id}/info", viewer, info)
        .post("/api/sessions/{id}/resume", operator, resume)
        // What is said on it asks for more, message by message.
        .get("/api/sessions/{id}/ws", viewer, connect)
        .get("/api/daemon/status", viewer, daemon_status)
        .get("/api/daemon/list", viewer, daemon_list)
        .post("/api/daemon/enroll", Need::Scope(Scope::Join), enroll)
        .get("/api/daemon/ws", Need::Scope(Scope::Daemon), link)
        .with_state(Relay {
            app,
            pace,
            sockets,
            bridges: Bridges::default(),
            transcripts: Arc::default(),
        })
}

fn answer(code: StatusCode, made: Result<Value>) -> Response {
    match made {
        Ok(value) => {
            let mut response = (code, Json(value)).into_response();
            response
                .headers_mut()
                .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => fail::respond(Dialect::Relay, &error),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|problem| Error::invalid("body", format!("is not what this takes: {problem}")))
}

fn required(field: &'static str, text: Option<String>) -> Result<String> {
    match text {
        Some(text) if !text.trim().is_empty() => Ok(text),
        _ => Err(Error::new(
            Code::InvalidInput,
            format!("{field} is required"),
        )),
    }
}

fn mode(text: Option<&str>) -> Result<Option<PermissionMode>> {
    text.map(|text| {
        PermissionMode::parse(text).ok_or_else(|| {
            Error::invalid("permission_mode", "must be relay, auto-safe, auto or deny")
        })
    })
    .transpose()
}

/// A session's id; one that cannot be an id names no session.
fn session_id(text: &str) -> Result<SessionId> {
    SessionId::parse("id", text).map_err(|_| no_session())
}

fn no_session() -> Error {
    Error::new(Code::NotFound, "Session not found")
}

impl Relay {
    async fn session(&self, caller: &Caller, id: &str) -> Result<Session> {
        let id = session_id(id)?;
        match self.app.get_session(caller, id).await {
            Ok((session, _)) => Ok(session),
            Err(error) if error.code() == Code::NotFound => Err(no_session()),
            Err(error) => Err(error),
        }
    }

    /// The daemons, all of them.
    async fn daemons(&self, caller: &Caller) -> Result<Vec<ShownDaemon>> {
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut all = Vec::new();
        loop {
            let found = self.app.list_daemons(caller, false, &page).await?;
            all.extend(found.items);
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    async fn linked(&self, caller: &Caller) -> Result<Vec<ShownDaemon>> {
        let mut daemons = self.daemons(caller).await?;
        daemons.retain(|shown| self.app.relay().is_linked(shown.daemon.id));
        Ok(daemons)
    }
}

/// Tells apart what no daemon could take. Which one takes it is decided when it is made.
fn takeable(daemons: &[ShownDaemon], harness: &str, cwd: &str) -> Result<()> {
    let able: Vec<&ShownDaemon> = daemons
        .iter()
        .filter(|shown| {
            let mut harnesses = shown.daemon.offer.harnesses.iter();
            harnesses.any(|it| it.name == harness && it.available)
        })
        .collect();
    if able.is_empty() {
        return Err(Error::new(
            Code::HarnessUnavailable,
            format!("Harness '{harness}' is not available"),
        ));
    }
    let mut roots = able.iter().flat_map(|shown| &shown.daemon.offer.roots);
    if !roots.any(|root| is_within(cwd, root)) {
        return Err(Error::invalid(
            "cwd",
            "is not beneath a directory that a connected daemon allows",
        ));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Spawn {
    prompt: Option<String>,
    cwd: Option<String>,
    harness: Option<String>,
    model: Option<String>,
    permission_mode: Option<String>,
    #[serde(default)]
    request_id: String,
}

async fn spawn(
    State(relay): State<Relay>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let made = async {
        // The order of the dialect: first whether anybody is there at all.
        let daemons = relay.linked(&caller).await?;
        if daemons.is_empty() {
            return Err(Error::new(Code::NoDaemon, "No daemon connected"));
        }
        let asked: Spawn = read(&body)?;
        let input = required("prompt", asked.prompt)?;
        let cwd = required("cwd", asked.cwd)?;
        let harness = match asked.harness {
            Some(harness) if !harness.is_empty() => harness,
            _ => HARNESS.to_owned(),
        };
        takeable(&daemons, &harness, &cwd)?;
        let permission_mode = mode(asked.permission_mode.as_deref())?;
        relay.pace.spawn(&caller)?;
        let new = NewSession {
            input,
            cwd,
            harness,
            model: asked.model.unwrap_or_default(),
            permission_mode,
            ..NewSession::default()
        };
        let session = relay
            .app
            .create_session(&caller, &asked.request_id, new)
            .await?;
        Ok(json!({
            "session_id": session.id.to_string(),
            "status": "starting",
            "harness": session.harness,
        }))
    };
    answer(StatusCode::CREATED, made.await)
}

async fn spawned(State(relay): State<Relay>, Extension(caller): Extension<Caller>) -> Response {
    let made = async {
        let filter = SessionFilter {
            lifecycles: Lifecycle::ALL
                .into_iter()
                .filter(|lifecycle| lifecycle.is_living())
                .collect(),
            ..SessionFilter::default()
        };
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut shown = Vec::new();
        loop {
            let found = relay.app.list_sessions(&caller, &filter, &page).await?;
            shown.extend(found.items.iter().map(|it| view::spawned(&it.session)));
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(json!({ "sessions": shown })),
            }
        }
    };
    answer(StatusCode::OK, made.await)
}

async fn info(
    State(relay): State<Relay>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    let session = relay.session(&caller, &id).await;
    answer(StatusCode::OK, session.map(|session| view::info(&session)))
}

#[derive(Default, Deserialize)]
struct Continue {
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    model: String,
    permission_mode: Option<String>,
    #[serde(default)]
    request_id: String,
}

async fn resume(
    State(relay): State<Relay>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let made = async {
        let id = relay.session(&caller, &id).await?.id;
        let asked = if body.is_empty() {
            Continue::default()
        } else {
            read(&body)?
        };
        let permission_mode = mode(asked.permission_mode.as_deref())?;
        relay.pace.spawn(&caller)?;
        let resume = Resume {
            input: asked.prompt,
            model: asked.model,
            permission_mode,
            ..Resume::default()
        };
        let session = relay
            .app
            .resume_session(&caller, &asked.request_id, id, resume)
            .await?;
        Ok(json!({
            "session_id": session.id.to_string(),
            "status": "starting",
            "harness": session.harness,
            "resumed_from": id.to_string(),
        }))
    };
    answer(StatusCode::CREATED, made.await)
}

async fn daemon_status(
    State(relay): State<Relay>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let linked = relay.linked(&caller).await;
    let made = linked.map(|daemons| match daemons.first() {
        Some(first) => json!({
            "connected": true,
            "client_id": first.daemon.id.to_string(),
            "daemons": daemons.len(),
            "capabilities": view::capabilities(first),
        }),
        None => json!({ "connected": false, "daemons": 0 }),
    });
    answer(StatusCode::OK, made)
}

async fn daemon_list(State(relay): State<Relay>, Extension(caller): Extension<Caller>) -> Response {
    let made = relay.daemons(&caller).await.map(|daemons| {
        let shown: Vec<Value> = daemons
            .iter()
            .map(|it| view::daemon(it, relay.app.relay().is_linked(it.daemon.id)))
            .collect();
        json!({ "daemons": shown })
    });
    answer(StatusCode::OK, made)
}

async fn connect(
    State(relay): State<Relay>,
    Path(id): Path<String>,
    Extension(caller): Extension<Caller>,
    held: Option<Extension<Held>>,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let session = match relay.session(&caller, &id).await {
        Ok(session) => session,
        Err(error) => return fail::respond(Dialect::Relay, &error),
    };
    if session.is_over() {
        let error =
            Error::state("Session has ended; its transcript is in the stream and in ListEvents");
        let mut response = fail::respond(Dialect::Relay, &error);
        *response.status_mut() = StatusCode::GONE;
        return response;
    }
    let upgrade = match is_upgrade(upgrade) {
        Ok(upgrade) => upgrade,
        Err(error) => return fail::respond(Dialect::Relay, &error),
    };
    let end = relay.app.access().watch_validity(&caller);
    let talk = socket::Talk::open(
        relay.app.clone(),
        relay.transcripts.clone(),
        relay.pace.clone(),
        caller,
        session.id,
    );
    let held = held.map(|Extension(held)| held);
    match talk.await {
        Ok(talk) => relay
            .sockets
            .open(upgrade, held, end, ws::MAX_MESSAGE_BYTES, talk),
        Err(error) => fail::respond(Dialect::Relay, &error),
    }
}

fn is_upgrade(
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade> {
    upgrade.map_err(|_| {
        Error::invalid(
            "upgrade",
            "is missing: this path speaks WebSocket, version 13",
        )
    })
}

#[derive(Deserialize)]
struct Enroll {
    #[serde(default)]
    name: String,
    #[serde(default)]
    hostname: String,
    nonce: String,
}

async fn enroll(
    State(relay): State<Relay>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let made = async {
        let asked: Enroll = read(&body)?;
        let (name, host) = (&asked.name, &asked.hostname);
        let enrolled = relay
            .app
            .access()
            .enroll(&caller, name, host, asked.nonce.as_bytes())
            .await?;
        Ok(json!({
            "client_id": enrolled.daemon_id.to_string(),
            "name": enrolled.name,
            "credential": enrolled.credential.expose(),
        }))
    };
    answer(StatusCode::CREATED, made.await)
}

async fn link(
    State(relay): State<Relay>,
    Extension(caller): Extension<Caller>,
    held: Option<Extension<Held>>,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let opened = async {
        let upgrade = is_upgrade(upgrade)?;
        let talk = daemon::Talk::open(relay.app.clone(), &relay.bridges, &caller).await?;
        Ok((upgrade, talk))
    };
    let end = relay.app.access().watch_validity(&caller);
    let held = held.map(|Extension(held)| held);
    match opened.await {
        Ok((upgrade, talk)) => {
            let most = daemon::MAX_MESSAGE_BYTES;
            relay.sockets.open(upgrade, held, end, most, talk)
        }
        Err(error) => fail::respond(Dialect::Relay, &error),
    }
}
