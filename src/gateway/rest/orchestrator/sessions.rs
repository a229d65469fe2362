//! Sessions: which there are, what was said in them, and what comes.

use axum::response::Response;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::call::{Answer, Call, Named, Refused, ok, session_id};
use super::fields::{Asked, Fields, missing};
use super::{agents, paged, place};
use crate::app::events::after_what_was_removed;
use crate::app::sessions::{SessionFilter, StopOfMany};
use crate::base::id::{AgentId, SessionId};
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::Lifecycle;
use crate::gateway::sse;
use crate::gateway::views::orchestrator as view;
use crate::wire::event::event_from_pb;

/// The most sessions whose newest message is asked for at once.
const MAX_LATEST: usize = 50;
/// Why a session was stopped, where nobody says more.
const STOPPED_WITH_ALL: &str = "all agents were stopped";
/// How many events before its end a session's newest message is looked for among.
const LATEST_AMONG: usize = 500;

pub(super) async fn list(call: Call, asked: Asked) -> Answer {
    let mut filter = SessionFilter {
        role: asked.text("role")?.map(agents::role).transpose()?,
        resumable: asked.flag("resumable")?,
        ..SessionFilter::default()
    };
    for word in asked.words("status")? {
        filter.lifecycles.extend(lifecycles(word)?);
    }
    let mut page = asked.page()?;
    if let Some(agent) = asked.text("agentId")? {
        match AgentId::parse("agentId", agent) {
            Ok(agent) => filter.agent_id = Some(agent),
            // It has no sessions.
            Err(_) => return ok(json!({ "sessions": [] })),
        }
    }
    let places = call.places().await?;
    let mut sessions = Vec::new();
    // A page may be shorter than was asked for although there are more.
    loop {
        let app = &call.app;
        let found = app.list_sessions(&call.caller, &filter, &page).await?;
        page.size -= found.items.len().min(page.size);
        sessions.extend(found.items.iter().map(|it| {
            let session = &it.session;
            view::session(session, place(&places, session), None)
        }));
        match found.next {
            Some(next) if page.size > 0 => page.after = Some(next),
            next => return ok(paged(json!({ "sessions": sessions }), next.as_deref())),
        }
    }
}

pub(super) async fn get(call: Call, path: Named) -> Answer {
    let session = call.session(&path).await?;
    ok(json!({ "session": call.show(&session).await? }))
}

pub(super) async fn messages(call: Call, path: Named, asked: Asked) -> Answer {
    let session = call.session(&path).await?;
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
        let more = call.transcript(id, from, limit, &mut messages).await?;
        if more {
            return ok(json!({ "messages": messages, "hasMore": true }));
        }
    }
    ok(json!({ "messages": messages, "hasMore": false }))
}

pub(super) async fn latest(call: Call, asked: Asked) -> Answer {
    let ids = asked.words("sessionIds")?;
    if ids.is_empty() {
        return Err(missing("sessionIds").into());
    }
    if ids.len() > MAX_LATEST {
        let many = format!("names {}; the most is {MAX_LATEST}", ids.len());
        return Err(Error::invalid("sessionIds", many).into());
    }
    let mut messages = Map::new();
    for text in ids {
        // A session that is not there has said nothing.
        let Ok(id) = session_id(text) else { continue };
        if let Some(message) = call.newest(id).await? {
            messages.insert(text.to_owned(), message);
        }
    }
    ok(json!({ "messages": messages }))
}

/// Stops what all agents do that the caller sees.
pub(super) async fn stop_all(call: Call, asked: Fields) -> Answer {
    let graceful = asked.flag("graceful")?.unwrap_or(true);
    let reason = asked.text("reason")?.unwrap_or(STOPPED_WITH_ALL);
    let stops = call
        .app
        .stop_agents(&call.caller, !graceful, reason)
        .await?;
    let results: Vec<Value> = stops.iter().map(stopped).collect();
    let failed = stops.iter().filter(|stop| stop.refused.is_some()).count();
    let mut body = json!({
        "success": failed == 0,
        "stoppedCount": stops.len() - failed,
        "failedCount": failed,
        "results": results,
    });
    if stops.is_empty() {
        body["message"] = "No running sessions".into();
    }
    ok(body)
}

fn stopped(stop: &StopOfMany) -> Value {
    let mut result = json!({
        "sessionId": stop.session.to_string(),
        "agentId": stop.agent.to_string(),
        "success": stop.refused.is_none(),
    });
    if let Some(error) = &stop.refused {
        result["error"] = error.message().into();
    }
    result
}

pub(super) async fn stream(
    call: Call,
    path: Named,
    headers: HeaderMap,
) -> std::result::Result<Response, Refused> {
    let session = call.session(&path).await?;
    Ok(sse::session(&call.app, &call.lines, &call.caller, &session, &headers).await?)
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

fn lifecycles(word: &str) -> Result<Vec<Lifecycle>> {
    let found = view::lifecycles(word);
    if found.is_empty() {
        return Err(Error::invalid(
            "status",
            "must be of starting, running, suspended, terminating and terminated",
        ));
    }
    Ok(found)
}

impl Call {
    /// Adds the messages of one session after a place, until there are `limit`; whether there are more. A session
    /// that is gone, or not the caller's to see, has none.
    async fn transcript(
        &self,
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
            let Call { app, caller, .. } = self;
            let found = match app.list_events(caller, id, 0, after, 0, &[], &page).await {
                Ok(found) => found,
                Err(error) if error.code() == Code::NotFound => return Ok(false),
                Err(error) => {
                    after = after_what_was_removed(&error, after).ok_or(error)?;
                    continue;
                }
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
    async fn newest(&self, id: SessionId) -> Result<Option<Value>> {
        let page = PageRequest {
            size: LATEST_AMONG,
            after: None,
        };
        let mut newest = None;
        let (mut after, mut before) = (0, u64::MAX);
        loop {
            let Call { app, caller, .. } = self;
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
