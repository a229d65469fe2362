//! What happens in a session, what an agent does from session to session, or what all of them do, as server-sent
//! events: everything after `Last-Event-ID`, then what comes.
//!
//! A cursor is all that a reader costs. The body is made when the connection takes it, so a reader that does
//! not read holds nothing up; its connection's end, its token's end and the server's end are the layers'.

mod agents;

pub use agents::{Category, agents};

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::rendering::Renderings;
use super::views::iso;
use super::views::orchestrator as view;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::agents::{AgentItem, AgentReader, Begin};
use crate::app::events::{AgentsReader, Cursor, Item, Reader, ReaderOptions};
use crate::base::id::{AgentId, SessionId};
use crate::base::{Error, Result};
use crate::domain::{Event, EventBody, Session};
use crate::wire::EventBatch;
use crate::wire::event::event_from_pb;

/// Where a reader goes on from.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that gather output would hold events back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long a browser waits before it comes back.
const RETRY_MILLIS: u32 = 2_000;
/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Batches as all streams of sessions send them; `None` where a stream may end with one of its events.
pub type Lines = Renderings<Option<Bytes>>;

/// The stream of one session. A session that is over and was read to its end is answered with 204, which
/// tells a browser not to come back.
pub async fn session(
    app: &App,
    lines: &Arc<Lines>,
    caller: &Caller,
    session: &Session,
    headers: &HeaderMap,
) -> Result<Response> {
    let after_seq = match last_event_id(headers)? {
        Some(text) => match place(text, Some(session.id), "Last-Event-ID")? {
            (id, seq) if id == session.id => seq,
            _ => return Err(not_given("Last-Event-ID")),
        },
        None => 0,
    };
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
    // Of a session that is over, the reader knows where the end is; of a living one, the end says it.
    let last = session.is_over().then_some(reader.head().last_seq);
    let reader = Box::new(reader);
    let lines = lines.clone();
    let source = Source::Session {
        reader,
        lines,
        last,
    };
    Ok(Stream::new(app, source, &greeting(app, Some(session))).response())
}

/// The stream of an agent. Without a place to go on from it begins with the session that the agent runs, and
/// there must be one; `after` is that place for a program that cannot send the header. It has no end of its own:
/// after a session it waits for the agent's next.
pub async fn agent(
    app: &App,
    caller: &Caller,
    id: AgentId,
    headers: &HeaderMap,
    after: Option<&str>,
) -> Result<Response> {
    let after = match last_event_id(headers)? {
        Some(text) => Some(place(text, None, "Last-Event-ID")?),
        None => after.map(|text| place(text, None, "after")).transpose()?,
    };
    let begin = match after {
        Some((session, seq)) => Begin::After(session, seq),
        None => {
            app.running_session(caller, id).await?;
            Begin::Running
        }
    };
    let reader = app.follow_agent(caller, id, begin).await?;
    let hello = greeting(app, reader.session());
    let source = Source::Agent(Box::new(reader));
    Ok(Stream::new(app, source, &hello).response())
}

/// What is said of the session that a stream begins with.
fn greeting(app: &App, session: Option<&Session>) -> String {
    let mut text = String::new();
    if let Some(session) = session {
        connected(app, session, &mut text);
    }
    text
}

/// What the header says, if it says anything.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(value) = headers.get(&LAST_EVENT_ID) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| not_given("Last-Event-ID"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A place in a log: `<session>:<seq>`, or `<seq>` where it is clear in whose.
pub fn place(text: &str, own: Option<SessionId>, field: &str) -> Result<(SessionId, u64)> {
    let (session, digits) = match text.split_once(':') {
        Some((id, digits)) => (SessionId::parse(field, id).ok(), digits),
        None => (own, text),
    };
    let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match (session, digits.parse()) {
        (Some(session), Ok(seq)) if is_plain => Ok((session, seq)),
        _ => Err(not_given(field)),
    }
}

fn not_given(field: &str) -> Error {
    Error::invalid(field, "is not an id that this stream gave")
}

enum Source {
    Session {
        reader: Box<Reader>,
        lines: Arc<Lines>,
        /// The last seq of a session that was over when the stream began.
        last: Option<u64>,
    },
    Agent(Box<AgentReader>),
    Agents {
        reader: Box<AgentsReader>,
        category: Category,
    },
}

/// What a source has for the stream.
enum Piece {
    Begun(Box<Session>),
    Events(Vec<Event>),
    Truncated(u64),
    /// As it goes out.
    Text(String),
    /// As it goes out to all who read this.
    Shared(Bytes),
    Nothing,
}

impl Source {
    /// What comes next. Cancelling the wait loses nothing.
    async fn next(&mut self) -> Result<Piece> {
        match self {
            Source::Session {
                reader,
                lines,
                last,
            } => match reader.next().await? {
                Item::Events(batch) => {
                    // Of a session that is over, the stream ends with an event that may be in any batch.
                    if last.is_none()
                        && let Some(shared) = lines.of(&batch, lines_of)?
                    {
                        return Ok(Piece::Shared(shared));
                    }
                    let events = batch.each_event();
                    let events = events.map(|event| event_from_pb(event.map_err(Error::internal)?));
                    Ok(Piece::Events(events.collect::<Result<_>>()?))
                }
                Item::Truncated { oldest, .. } => Ok(Piece::Truncated(oldest)),
                Item::Started { .. } | Item::Progress(_) | Item::Transient(_) => Ok(Piece::Nothing),
            },
            Source::Agent(reader) => Ok(match reader.next().await? {
                AgentItem::Session(session) => Piece::Begun(session),
                AgentItem::Events(events) => Piece::Events(events),
                AgentItem::Truncated(oldest) => Piece::Truncated(oldest),
            }),
            Source::Agents { reader, category } => {
                agents::next(reader, *category).await.map(Piece::Text)
            }
        }
    }

    /// Whether an event is the last there is. Of a session that was over, an earlier end was taken back.
    fn is_last(&self, event: &Event) -> bool {
        match self {
            Source::Session { last: None, .. } => matches!(event.body, EventBody::Ended { .. }),
            Source::Session {
                last: Some(last), ..
            } => event.seq >= *last,
            Source::Agent(_) | Source::Agents { .. } => false,
        }
    }

    fn id(&self, event: &Event) -> String {
        match self {
            Source::Session { .. } => event.seq.to_string(),
            Source::Agent(_) | Source::Agents { .. } => view::event_id(event.session_id, event.seq),
        }
    }
}

struct Stream {
    app: App,
    /// Said before anything else.
    hello: Option<String>,
    /// `None` when the last piece was given.
    source: Option<Source>,
    /// When the next sign of life is due.
    beat: Instant,
}

impl Stream {
    fn new(app: &App, source: Source, hello: &str) -> Self {
        Stream {
            app: app.clone(),
            hello: Some(format!("retry: {RETRY_MILLIS}\n\n{hello}")),
            source: Some(source),
            beat: Instant::now() + HEARTBEAT,
        }
    }

    fn response(self) -> Response {
        let body = Body::from_stream(stream::unfold(self, Stream::next));
        let mut response = Response::new(body);
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(BUFFERING, HeaderValue::from_static("no"));
        response
    }

    async fn next(mut self) -> Option<(Result<Bytes>, Self)> {
        if let Some(hello) = self.hello.take() {
            return Some((Ok(hello.into()), self));
        }
        let mut source = self.source.take()?;
        let mut text = String::new();
        while text.is_empty() {
            let Ok(found) = timeout_at(self.beat, source.next()).await else {
                self.beat = Instant::now() + HEARTBEAT;
                let now = json!({ "timestamp": iso(self.app.clock().now()) });
                piece(None, "heartbeat", &now, &mut text);
                break;
            };
            match found {
                Ok(Piece::Begun(session)) => connected(&self.app, &session, &mut text),
                Ok(Piece::Events(events)) => {
                    if write(&source, &events, &mut text) {
                        return Some((Ok(text.into()), self));
                    }
                }
                Ok(Piece::Truncated(oldest)) => {
                    piece(None, "truncated", &json!({ "oldest": oldest }), &mut text);
                }
                Ok(Piece::Text(said)) => text.push_str(&said),
                // Nothing to show in any of them.
                Ok(Piece::Shared(shared)) if shared.is_empty() => {}
                Ok(Piece::Shared(shared)) => {
                    self.source = Some(source);
                    return Some((Ok(shared), self));
                }
                Ok(Piece::Nothing) => {}
                Err(error) => {
                    tracing::debug!(%error, "a stream ends");
                    let said = json!({
                        "type": "error", "content": error.message(), "code": error.code().as_str(),
                    });
                    piece(None, "agent_error", &said, &mut text);
                    return Some((Ok(text.into()), self));
                }
            }
        }
        self.source = Some(source);
        Some((Ok(text.into()), self))
    }
}

/// Writes events; whether the stream is over with them.
fn write(source: &Source, events: &[Event], text: &mut String) -> bool {
    for event in events {
        if let Some((kind, data)) = view::event(event) {
            let id = source.id(event);
            piece(Some(&id), &format!("agent_{kind}"), &data, text);
        }
        if source.is_last(event) {
            return true;
        }
    }
    false
}

/// A batch as every stream of its session sends it while the session lives.
fn lines_of(batch: &EventBatch) -> Result<Option<Bytes>> {
    let mut text = String::new();
    for event in batch.each_event() {
        let event = event_from_pb(event.map_err(Error::internal)?)?;
        if matches!(event.body, EventBody::Ended { .. }) {
            return Ok(None);
        }
        if let Some((kind, data)) = view::event(&event) {
            let id = event.seq.to_string();
            piece(Some(&id), &format!("agent_{kind}"), &data, &mut text);
        }
    }
    Ok(Some(text.into()))
}

fn connected(app: &App, session: &Session, text: &mut String) {
    let agent = session.agent.as_ref().map(|agent| agent.id.to_string());
    let data = json!({
        "sessionId": session.id.to_string(),
        "agentId": agent,
        "status": view::status(session.lifecycle),
        "timestamp": iso(app.clock().now()),
    });
    piece(None, "connected", &data, text);
}

fn piece(id: Option<&str>, name: &str, data: &Value, text: &mut String) {
    // Writing to a text cannot fail.
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::access::Access;
    use crate::app::search::Search;
    use crate::base::id::TokenId;
    use crate::base::{SystemClock, Timestamp};
    use crate::domain::{AgentRole, AgentSettings, Scope, TokenKind};
    use crate::store::SharedStore;

    #[tokio::test]
    async fn a_stream_on_which_nothing_comes_gives_a_sign_of_life() {
        let clock = SystemClock::shared();
        let store: SharedStore = crate::store::memory::shared(clock.clone());
        let access = Access::new(store.clone(), clock.clone());
        let search = Search::in_memory().unwrap();
        let options = crate::app::sessions::Options::default();
        let (links, dispatch) = (Default::default(), Default::default());
        let app = App::new(store, clock, access, links, search, options, dispatch)
            .await
            .unwrap();
        let caller = Caller {
            token_id: TokenId::generate(Timestamp::EPOCH),
            name: "it".to_owned(),
            scope: Scope::Operator,
            daemon_id: None,
            narrowing: None,
            expires_at: None,
            kind: TokenKind::Issued,
            made_with: None,
        };
        let settings = AgentSettings::new("Idle", AgentRole::Worker, "demo");
        let made = app.create_agent(&caller, "", settings).await.unwrap();
        let reader = app
            .follow_agent(&caller, made.agent.id, Begin::Now)
            .await
            .unwrap();
        let mut stream = Stream::new(&app, Source::Agent(Box::new(reader)), "");
        // Due at once.
        stream.beat = Instant::now();
        let (hello, stream) = stream.next().await.unwrap();
        assert_eq!(hello.unwrap(), "retry: 2000\n\n");
        let (sign, stream) = stream.next().await.unwrap();
        let sign = String::from_utf8(sign.unwrap().to_vec()).unwrap();
        assert!(
            sign.starts_with("event: heartbeat\ndata: {\"timestamp\":\""),
            "{sign}"
        );
        let next = stream.beat.saturating_duration_since(Instant::now());
        assert!(next > HEARTBEAT / 2 && next <= HEARTBEAT && HEARTBEAT.as_secs() == 30);
    }

    #[test]
    fn a_place_is_one_that_a_stream_gave() {
        let id = SessionId::new(Timestamp::EPOCH, 1);
        assert_eq!(place(&format!("{id}:7"), None, "x").unwrap(), (id, 7));
        assert_eq!(place("7", Some(id), "x").unwrap(), (id, 7));
        for odd in ["7", "", ":7", "ses_x:7", "+7", "x"] {
            assert!(place(odd, None, "x").is_err(), "{odd}");
        }
        for odd in ["", "+7", "-1", "1.5", "99999999999999999999999", "x:7"] {
            assert!(place(odd, Some(id), "x").is_err(), "{odd}");
        }
    }
}
