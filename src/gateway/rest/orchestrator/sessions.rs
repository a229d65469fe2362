//! Sessions: which there are, what was said in them, and what comes.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::fields::{Asked, RawQuery};
use super::{
    Named, Orchestrator, agents, answer, failed, named, no_session, paged, place, session_id,
};
use crate::app::access::Caller;
use crate::app::sessions::SessionFilter;
use crate::base::id::{AgentId, SessionId};
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::Session;
use crate::gateway::sse;
use crate::gateway::views::orchestrator as view;
use crate::wire::event::event_from_pb;

/// The most sessions whose newest message is asked for at once.
const MAX_LATEST: usize = 50;
/// How many events before its end a session's newest message is looked for among.
const LATEST_AMONG: usize = 500;

pub(super) async fn list(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    query: RawQuery,
) -> Response {
    let made = async {
        let asked = Asked::read(query)?;
        let mut filter = SessionFilter {
            role: asked.text("role")?.map(agents::role).transpose()?,
            resumable: asked.flag("resumable")?,
            ..SessionFilter::default()
        };
        for word in asked.words("status")? {
            let found = view::lifecycles(word);
            if found.is_empty() {
                return Err(Error::invalid(
                    "status",
                    "must be of starting, running, suspended, terminating and terminated",
                ));
            }
            filter.lifecycles.extend(found);
        }
        let mut page = asked.page()?;
        if let Some(agent) = asked.text("agentId")? {
            match AgentId::parse("agentId", agent) {
                Ok(agent) => filter.agent_id = Some(agent),
                // It has no sessions.
                Err(_) => return Ok(json!({ "sessions": [] })),
            }
        }
        let places = orchestrator.places(&caller).await?;
        let mut sessions = Vec::new();
        // A page may be shorter than was asked for although there are more.
        loop {
            let app = &orchestrator.app;
            let found = app.list_sessions(&caller, &filter, &page).await?;
            page.size -= found.items.len().min(page.size);
            sessions.extend(found.items.iter().map(|it| {
                let session = &it.session;
                view::session(session, place(&places, session), None)
            }));
            match found.next {
                Some(next) if page.size > 0 => page.after = Some(next),
                next => return Ok(paged(json!({ "sessions": sessions }), next.as_deref())),
            }
        }
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn get(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
) -> Response {
    let made = async {
        let session = orchestrator.session_named(&caller, path).await?;
        let session = orchestrator.session(&caller, &session).await?;
        Ok(json!({ "session": session }))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn messages(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    query: RawQuery,
) -> Response {
    let made = async {
        let session = orchestrator.session_named(&caller, path).await?;
        let asked = Asked::read(query)?;
        let limit = asked.page()?.size;
        let mut after = asked
            .text("after")?
            .map(|text| sse::place(text, Some(session.id), "after"))
            .transpose()?;
        // The conversation from its beginning: the sessions that it was in, one after the other.
        let mut chain: Vec<SessionId> = session.lineage().collect();
        chain.reverse();
        chain.push(session.id);
        if let Some((from, _)) = after {
            let at = chain.iter().position(|id| *id == from);
            let at =
                at.ok_or_else(|| Error::invalid("after", "is not a message of this conversation"))?;
            chain.drain(..at);
        }
        let mut messages = Vec::new();
        for id in chain {
            let from = after.take().map_or(0, |(_, seq)| seq);
            let more = orchestrator
                .transcript(&caller, id, from, limit, &mut messages)
                .await?;
            if more {
                return Ok(json!({ "messages": messages, "hasMore": true }));
            }
        }
        Ok(json!({ "messages": messages, "hasMore": false }))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn latest(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    query: RawQuery,
) -> Response {
    let made = async {
        let asked = Asked::read(query)?;
        let ids = asked.words("sessionIds")?;
        if ids.is_empty() {
            return Err(super::fields::missing("sessionIds"));
        }
        if ids.len() > MAX_LATEST {
            return Err(Error::invalid(
                "sessionIds",
                format!("names {}; the most is {MAX_LATEST}", ids.len()),
            ));
        }
        let mut messages = Map::new();
        for text in ids {
            // A session that is not there has said nothing.
            let Ok(id) = session_id(text) else { continue };
            if let Some(message) = orchestrator.newest(&caller, id).await? {
                messages.insert(text.to_owned(), message);
            }
        }
        Ok(json!({ "messages": messages }))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn stream(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    headers: HeaderMap,
) -> Response {
    let opened = async {
        let session = orchestrator.session_named(&caller, path).await?;
        sse::session(&orchestrator.app, &caller, &session, &headers).await
    };
    match opened.await {
        Ok(response) => response,
        Err(error) => failed(&error),
    }
}

/// An event as a message; what is no part of the conversation is none.
fn message(event: &crate::domain::Event) -> Option<Value> {
    let (kind, mut message) = view::event(event)?;
    if kind == "exit" {
        return None;
    }
    message["id"] = view::event_id(event.session_id, event.seq).into();
    Some(message)
}

impl Orchestrator {
    async fn session_named(&self, caller: &Caller, path: Named) -> Result<Session> {
        let id = session_id(&named(path)?)?;
        match self.app.get_session(caller, id).await {
            Ok((session, _)) => Ok(session),
            Err(error) if error.code() == Code::NotFound => Err(no_session()),
            Err(error) => Err(error),
        }
    }

    /// Adds the messages of one session after a place, until there are `limit`; whether there are more. A session
    /// that is gone, or not the caller's to see, has none.
    async fn transcript(
        &self,
        caller: &Caller,
        id: SessionId,
        after: u64,
        limit: usize,
        messages: &mut Vec<Value>,
    ) -> Result<bool> {
        let mut after = after;
        loop {
            let page = PageRequest {
                size: MAX_PAGE_SIZE,
                after: None,
            };
            let app = &self.app;
            let found = match app.list_events(caller, id, 0, after, 0, &[], &page).await {
                Ok(found) => found,
                Err(error) if error.code() == Code::NotFound => return Ok(false),
                // Retention has removed the beginning: it goes on with what is left.
                Err(error) if error.code() == Code::OutOfRange => {
                    let first = error.details().get("first");
                    let first: u64 = first.and_then(|it| it.parse().ok()).unwrap_or_default();
                    if after + 1 >= first {
                        return Err(error);
                    }
                    after = first - 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for event in found.events {
                let Some(message) = message(&event_from_pb(event)?) else {
                    continue;
                };
                if messages.len() == limit {
                    return Ok(true);
                }
                messages.push(message);
            }
            match found.next {
                Some(next) => after = next,
                None => return Ok(false),
            }
        }
    }

    /// The newest message of a session.
    async fn newest(&self, caller: &Caller, id: SessionId) -> Result<Option<Value>> {
        let page = PageRequest {
            size: LATEST_AMONG,
            after: None,
        };
        let mut newest = None;
        let (mut after, mut before) = (0, u64::MAX);
        loop {
            let app = &self.app;
            let found = app.list_events(caller, id, 0, after, before, &[], &page);
            let found = match found.await {
                Ok(found) => found,
                Err(error) if error.code() == Code::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            for event in found.events {
                newest = message(&event_from_pb(event)?).or(newest);
            }
            match found.next {
                Some(next) => (after, before) = (next, 0),
                None => return Ok(newest),
            }
        }
    }
}
