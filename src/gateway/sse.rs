//! A session's transcript as server-sent events: everything after `Last-Event-ID`, then what comes.
//!
//! A cursor is all that a reader costs. The body is made when the connection takes it, so a reader that does
//! not read holds nothing up; its connection's end, its token's end and the server's end are the layers'.

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::views::{iso, relay as view, stream_json};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::events::{Cursor, Item, Reader, ReaderOptions};
use crate::base::{Error, Result};
use crate::domain::{EventBody, Session};
use crate::wire::event::event_from_pb;

/// Where a reader goes on from.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that gather output would hold events back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long a browser waits before it comes back.
const RETRY_MILLIS: u32 = 2_000;

/// The stream of one session. A session that is over and was read to its end is answered with 204, which
/// tells a browser not to come back.
pub async fn session(
    app: &App,
    caller: &Caller,
    session: &Session,
    headers: &HeaderMap,
) -> Result<Response> {
    let after_seq = last_event_id(session, headers)?;
    let cursor = Cursor {
        after_seq,
        ..Cursor::default()
    };
    let reader = app
        .read_session(caller, session.id, cursor, ReaderOptions::default())
        .await?;
    if session.is_over() && after_seq > 0 && after_seq >= reader.head().last_seq {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let connected = json!({
        "sessionId": session.id.to_string(),
        "status": view::status(session),
        "timestamp": iso(app.clock().now()),
    });
    let hello = format!("retry: {RETRY_MILLIS}\nevent: connected\ndata: {connected}\n\n");
    let state = Stream {
        hello: Some(hello),
        reader: Some(reader),
        // Of a session that is over, the reader knows where the end is; of a living one, the end says it.
        last: session.is_over().then_some(()),
    };
    let body = Body::from_stream(stream::unfold(state, Stream::next));
    let mut response = Response::new(body);
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// `<seq>`, or `<session>:<seq>` as streams over several sessions write it.
fn last_event_id(session: &Session, headers: &HeaderMap) -> Result<u64> {
    let Some(value) = headers.get(&LAST_EVENT_ID) else {
        return Ok(0);
    };
    let text = value.to_str().unwrap_or("?");
    let digits = match text.split_once(':') {
        Some((id, digits)) if id == session.id.to_string() => digits,
        Some(_) => "?",
        None => text,
    };
    match digits.parse() {
        Ok(seq) => Ok(seq),
        Err(_) if text.is_empty() => Ok(0),
        Err(_) => Err(Error::invalid(
            "Last-Event-ID",
            "is not an id that this stream gave",
        )),
    }
}

struct Stream {
    hello: Option<String>,
    /// `None` when the last piece was given.
    reader: Option<Reader>,
    /// Set for a session that was over when the stream began.
    last: Option<()>,
}

impl Stream {
    async fn next(mut self) -> Option<(std::result::Result<Bytes, Error>, Self)> {
        if let Some(hello) = self.hello.take() {
            return Some((Ok(hello.into()), self));
        }
        let mut reader = self.reader.take()?;
        loop {
            let item = match reader.next().await {
                Ok(item) => item,
                Err(error) => return Some((Err(error), self)),
            };
            let mut text = String::new();
            let mut over = false;
            match item {
                Item::Events(batch) => {
                    let end = self.last.map(|()| reader.head().last_seq);
                    match pieces(&batch, end, &mut text) {
                        Ok(is_over) => over = is_over,
                        Err(error) => return Some((Err(error), self)),
                    }
                }
                Item::Truncated { oldest, .. } => {
                    let lost = json!({ "oldest": oldest });
                    text = format!("event: truncated\ndata: {lost}\n\n");
                }
                Item::Progress(_) => text.push_str(": heartbeat\n\n"),
                Item::Started { .. } | Item::Transient(_) => {}
            }
            if !over {
                self.reader = Some(reader);
                if !text.is_empty() {
                    return Some((Ok(text.into()), self));
                }
                reader = self.reader.take()?;
                continue;
            }
            return Some((Ok(text.into()), self));
        }
    }
}

/// Writes a batch; whether the stream is over with it. Of a session that was over, `end` is its last seq:
/// an earlier end was taken back.
fn pieces(batch: &crate::wire::EventBatch, end: Option<u64>, text: &mut String) -> Result<bool> {
    let mut over = false;
    for event in batch.events().map_err(Error::internal)? {
        let event = event_from_pb(event)?;
        if let Some(message) = stream_json::message(&event) {
            piece(event.seq, stream_json::word(&message), &message, text);
        }
        if let EventBody::Ended { end: how } = &event.body {
            let mut shown = view::complete(how);
            shown["type"] = "exit".into();
            piece(event.seq, "exit", &shown, text);
            over |= end.is_none();
        }
        over |= end.is_some_and(|end| event.seq >= end);
    }
    Ok(over)
}

fn piece(seq: u64, word: &str, data: &Value, text: &mut String) {
    use std::fmt::Write as _;
    // Writing to a text cannot fail.
    let _ = write!(text, "id: {seq}\nevent: agent_{word}\ndata: {data}\n\n");
}
