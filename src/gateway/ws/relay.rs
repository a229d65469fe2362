//! The relay's browser socket: one session, watched and led.
//!
//! Every message of the dialect is here. What is asked is done by `app`, and said as an error, with the id
//! of the request, when it could not be done: a message that is not understood changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde_json::{Map, Value, json};

use super::message::{self, text};
use super::outbox::HIGH_BYTES;
use super::socket::{Frame, Talk as Talking};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::events::{Cursor, Item, Reader, ReaderOptions};
use crate::app::pace::Pace;
use crate::base::id::{PromptId, SessionId};
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Json, Result};
use crate::domain::prompt::{AnswerBody, Decision, PromptKind, PromptState, QuestionAnswer};
use crate::domain::{Delivery, Event, EventBody, Prompt, Scope, Session};
use crate::gateway::rendering::Renderings;
use crate::gateway::views::{relay as view, stream_json};
use crate::wire::EventBatch;
use crate::wire::event::event_from_pb;

/// How much of a transcript goes into one message at most, in bytes; an event that is longer has one for itself.
const MESSAGE_BYTES: usize = HIGH_BYTES / 4;

/// Batches as all sockets say them.
pub type Transcripts = Renderings<Transcript>;

/// A batch as messages, as it is told to all for whom it is past.
#[derive(Clone)]
pub struct Transcript {
    messages: Arc<[Utf8Bytes]>,
    /// The last event that a socket may announce while it is news, by its seq; 0 if there is none.
    announced: u64,
}

/// What is said on the socket of one session.
pub struct Talk {
    app: App,
    transcripts: Arc<Transcripts>,
    pace: Arc<Pace>,
    caller: Caller,
    session: Session,
    reader: Reader,
    /// Said before anything else.
    greeting: Vec<Frame>,
    /// Events up to here are told, not lived: they ask and announce nothing any more.
    past: u64,
    asked: HashSet<PromptId>,
    over: bool,
}

impl Talk {
    /// Begins to talk about a session.
    pub async fn open(
        app: App,
        transcripts: Arc<Transcripts>,
        pace: Arc<Pace>,
        caller: Caller,
        id: SessionId,
    ) -> Result<Self> {
        let cursor = Cursor {
            tail: true,
            ..Cursor::default()
        };
        let reader = app
            .read_session(&caller, id, cursor, ReaderOptions::default())
            .await?;
        let head = reader.head().last_seq;
        // Read after the log's head: what changes from here on is an event that comes.
        let (session, _) = app.get_session(&caller, id).await?;
        let mut talk = Talk {
            app,
            transcripts,
            pace,
            caller,
            session,
            reader,
            greeting: Vec::new(),
            past: head,
            asked: HashSet::new(),
            over: false,
        };
        let mut connected = json!({
            "type": "connected",
            "session_id": id.to_string(),
            "status": view::status(&talk.session),
            "message_count": head,
            "last_index": head,
            "is_spawned": true,
        });
        if !talk.session.provider_session_id.is_empty() {
            connected["claude_session_id"] = talk.session.provider_session_id.as_str().into();
        }
        talk.greeting.push(Frame::must(connected));
        for prompt in talk.pending().await? {
            talk.asked.insert(prompt.id);
            talk.greeting.push(Frame::must(view::prompt(&prompt)));
        }
        if talk.session.detached_since.is_some() {
            let lost = talk.disconnected();
            talk.greeting.push(Frame::must(lost));
        }
        Ok(talk)
    }

    async fn pending(&self) -> Result<Vec<Prompt>> {
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut all = Vec::new();
        loop {
            let found = self
                .app
                .list_prompts(
                    &self.caller,
                    Some(self.session.id),
                    &[PromptState::Pending],
                    &page,
                )
                .await?;
            all.extend(found.items.into_iter().map(|(prompt, _)| prompt));
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    fn disconnected(&self) -> Value {
        let can_resume =
            self.session.capabilities.resume && !self.session.provider_session_id.is_empty();
        let mut lost = json!({
            "type": "daemon_disconnected",
            "session_id": self.session.id.to_string(),
            "message": "Connection to daemon lost",
            "can_resume": can_resume,
        });
        if !self.session.provider_session_id.is_empty() {
            lost["claude_session_id"] = self.session.provider_session_id.as_str().into();
        }
        lost
    }

    fn state(&self) -> Value {
        json!({
            "type": "state",
            "session_id": self.session.id.to_string(),
            "status": view::status(&self.session),
        })
    }

    /// A batch as frames. Without waiting for anything, so that no batch is lost half-way.
    fn frames(&mut self, batch: &EventBatch) -> Result<Vec<Frame>> {
        let shared = self.transcripts.of(batch, transcript)?;
        if shared.announced > self.past {
            return self.own_frames(batch);
        }
        Ok(shared.messages.iter().cloned().map(Frame::text).collect())
    }

    /// The same, with what this socket alone has to say.
    fn own_frames(&mut self, batch: &EventBatch) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut messages = Messages::default();
        for event in events(batch) {
            let event = event?;
            frames.extend(messages.add(&event)?.map(Frame::text));
            let announced = self.announce(&event);
            if !announced.is_empty() {
                frames.extend(messages.take()?.map(Frame::text));
                frames.extend(announced);
            }
        }
        frames.extend(messages.take()?.map(Frame::text));
        Ok(frames)
    }

    /// What an event announces beside the transcript.
    fn announce(&mut self, event: &Event) -> Vec<Frame> {
        // What was is no longer so, and what still is was said at the beginning.
        if event.seq <= self.past {
            return Vec::new();
        }
        match &event.body {
            EventBody::Started {
                provider_session_id,
                ..
            } => {
                if !provider_session_id.is_empty() {
                    self.session
                        .provider_session_id
                        .clone_from(provider_session_id);
                }
                Vec::new()
            }
            EventBody::LifecycleChanged { to, .. } => {
                self.session.lifecycle = *to;
                // An end is said with its reason.
                match to.is_living() {
                    true => vec![Frame::low(self.state())],
                    false => Vec::new(),
                }
            }
            EventBody::ActivityChanged { activity, .. } => {
                self.session.activity = *activity;
                vec![Frame::low(self.state())]
            }
            EventBody::LinkChanged { attached: true, .. } => vec![Frame::must(self.state())],
            EventBody::LinkChanged { .. } => vec![Frame::must(self.disconnected())],
            EventBody::PromptRequested { prompt } if self.asked.insert(prompt.id) => {
                vec![Frame::must(view::prompt(prompt))]
            }
            EventBody::PromptAnswered { prompt_id, answer } => {
                vec![self.resolved(*prompt_id, "answered", Some(&answer.by.name))]
            }
            EventBody::PromptExpired { prompt_id } => {
                vec![self.resolved(*prompt_id, "expired", None)]
            }
            EventBody::PromptWithdrawn { prompt_id, .. } => {
                vec![self.resolved(*prompt_id, "withdrawn", None)]
            }
            EventBody::LimitExceeded { limit, .. } => {
                let limit = match limit.as_str() {
                    "runtime" => "max_runtime",
                    "output_bytes" => "max_output",
                    "idle" => "idle_timeout",
                    "turns" => "max_turns",
                    "cost" => "max_cost",
                    other => other,
                };
                vec![Frame::must(
                    json!({ "type": "limit_exceeded", "limit": limit }),
                )]
            }
            // What a daemon of this dialect says of its working tree.
            EventBody::Notice { kind, .. } if kind == "diff_updated" => {
                vec![Frame::must(view::diff_update(event))]
            }
            EventBody::Ended { end } => {
                self.over = true;
                vec![Frame::must(view::complete(end))]
            }
            _ => Vec::new(),
        }
    }

    fn resolved(&mut self, id: PromptId, outcome: &str, by: Option<&str>) -> Frame {
        self.asked.remove(&id);
        let mut said = json!({
            "type": "prompt_resolved", "request_id": id.to_string(), "outcome": outcome,
        });
        if let Some(by) = by {
            said["by"] = by.into();
        }
        Frame::must(said)
    }

    async fn obey(&mut self, message: &Map<String, Value>) -> Result<Vec<Frame>> {
        self.pace.message(&self.caller)?;
        let kind = text(message, "type")?;
        match kind {
            "ping" => return Ok(vec![Frame::must(json!({ "type": "pong" }))]),
            "subscribe" => return self.subscribe(message).await,
            _ => {}
        }
        const LEADING: &[&str] = &[
            "user_message",
            "interrupt",
            "end_session",
            "question_response",
            "permission_response",
            "control_response",
            "diff_comment",
            "suggested_edit",
        ];
        if !LEADING.contains(&kind) {
            return Err(Error::new(
                Code::UnknownMethod,
                format!("there is no message of the type {kind:?}"),
            ));
        }
        self.caller.require(Scope::Operator)?;
        let id = self.session.id;
        match kind {
            "user_message" => self.input(text(message, "content")?.to_owned()).await,
            "interrupt" => self.app.interrupt_turn(&self.caller, "", id).await,
            "end_session" => self.app.end_session(&self.caller, "", id, false).await,
            "diff_comment" => {
                let (file, content) = (text(message, "file")?, text(message, "content")?);
                let line = message.get("line").and_then(Value::as_u64);
                let line = line.map(|line| format!(":{line}")).unwrap_or_default();
                self.input(format!("Comment on {file}{line}:\n\n{content}"))
                    .await
            }
            "suggested_edit" => {
                let file = text(message, "file")?;
                let (old, new) = (text(message, "old_content")?, text(message, "new_content")?);
                self.input(format!(
                    "Suggested edit of {file}. Replace:\n\n{old}\n\nwith:\n\n{new}"
                ))
                .await
            }
            "question_response" => {
                let prompt = self.prompt(text(message, "tool_use_id")?).await?;
                let body = answers(&prompt, message.get("answers"), message.get("answer"))?;
                self.answer(prompt.id, body).await
            }
            // A permission or control response.
            _ => {
                let prompt = self.prompt(text(message, "request_id")?).await?;
                let body = decision(&prompt, message)?;
                self.answer(prompt.id, body).await
            }
        }?;
        Ok(Vec::new())
    }

    async fn input(&self, text: String) -> Result<()> {
        self.pace.input(self.session.id)?;
        self.app
            .send_input(&self.caller, "", self.session.id, text, Delivery::Queue)
            .await
            .map(drop)
    }

    /// The prompt under its id, or under what its harness calls it.
    async fn prompt(&self, name: &str) -> Result<Prompt> {
        let found = match PromptId::parse("request_id", name) {
            Ok(id) => self
                .app
                .get_prompt(&self.caller, id)
                .await
                .ok()
                .map(|it| it.0),
            Err(_) => {
                let mut pending = self.pending().await?.into_iter();
                pending.find(|prompt| prompt.call_id == name || prompt.request_key == name)
            }
        };
        // A prompt of another session is none of this one's.
        found
            .filter(|prompt| prompt.session_id == self.session.id)
            .ok_or_else(|| Error::not_found("prompt", name))
    }

    async fn answer(&self, id: PromptId, body: AnswerBody) -> Result<()> {
        let session = Some(self.session.id);
        self.app
            .answer_prompt(&self.caller, "", id, session, body)
            .await
            .map(drop)
    }

    /// Goes on from a place in the log; what lies between it and now is told again.
    async fn subscribe(&mut self, message: &Map<String, Value>) -> Result<Vec<Frame>> {
        let from = match message.get("from_index") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(value) => value.as_u64().ok_or_else(|| {
                Error::invalid("from_index", "must be a whole number that is not negative")
            })?,
        };
        let cursor = Cursor {
            after_seq: from,
            ..Cursor::default()
        };
        self.reader = self
            .app
            .read_session(
                &self.caller,
                self.session.id,
                cursor,
                ReaderOptions::default(),
            )
            .await?;
        Ok(Vec::new())
    }
}

/// Messages of the transcript on their way into one, as the text that it is.
#[derive(Default)]
struct Messages {
    /// [`Messages::HEAD`] and what was added; empty while nothing was.
    text: Vec<u8>,
}

impl Messages {
    const HEAD: &[u8] = br#"{"type":"message","messages":["#;
    const TAIL: &[u8] = b"]}";

    /// Adds an event's message, if it has one; what was full before it.
    fn add(&mut self, event: &Event) -> Result<Option<Utf8Bytes>> {
        let Some(message) = stream_json::message(event) else {
            return Ok(None);
        };
        let before = self.text.len();
        let lead = if before == 0 { Self::HEAD } else { b"," };
        self.text.extend_from_slice(lead);
        let begin = self.text.len();
        serde_json::to_writer(&mut self.text, &message).map_err(Error::internal)?;
        if before == 0 || self.text.len() + Self::TAIL.len() <= MESSAGE_BYTES {
            return Ok(None);
        }
        // How long it is was not known before it was written: the one that is too much is moved.
        let mut next = Vec::with_capacity(MESSAGE_BYTES);
        next.extend_from_slice(Self::HEAD);
        next.extend(self.text.drain(begin..));
        self.text.truncate(before);
        let full = self.take();
        self.text = next;
        full
    }

    /// What was added since the last, as one message.
    fn take(&mut self) -> Result<Option<Utf8Bytes>> {
        let mut text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return Ok(None);
        }
        text.extend_from_slice(Self::TAIL);
        Utf8Bytes::try_from(text).map(Some).map_err(Error::internal)
    }
}

/// The events of a batch, each made when it is asked for.
fn events(batch: &EventBatch) -> impl Iterator<Item = Result<Event>> {
    let events = batch.each_event();
    events.map(|event| event_from_pb(event.map_err(Error::internal)?))
}

/// A batch as every socket says it.
fn transcript(batch: &EventBatch) -> Result<Transcript> {
    let (mut said, mut messages) = (Vec::new(), Messages::default());
    let mut announced = 0;
    for event in events(batch) {
        let event = event?;
        if !is_transcript(&event.body) {
            announced = event.seq;
        }
        said.extend(messages.add(&event)?);
    }
    said.extend(messages.take()?);
    Ok(Transcript {
        messages: said.into(),
        announced,
    })
}

/// Whether an event is only a part of the transcript: nothing is announced because of it ([`Talk::announce`]), whatever
/// a socket knows.
fn is_transcript(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::Message { .. }
            | EventBody::ToolCall { .. }
            | EventBody::ToolResult { .. }
            | EventBody::Output { .. }
            | EventBody::Stderr { .. }
            | EventBody::PlanUpdated { .. }
            | EventBody::UsageUpdated { .. }
            | EventBody::TurnStarted { .. }
            | EventBody::TurnEnded { .. }
    )
}

impl Talking for Talk {
    async fn next(&mut self) -> Result<Vec<Frame>> {
        if !self.greeting.is_empty() {
            return Ok(std::mem::take(&mut self.greeting));
        }
        if self.over {
            return std::future::pending().await;
        }
        match self.reader.next().await? {
            Item::Events(batch) => self.frames(&batch),
            Item::Truncated { oldest, .. } => {
                let error = Error::new(
                    Code::OutOfRange,
                    format!(
                        "events before {oldest} were removed by retention; it goes on with {oldest}"
                    ),
                );
                Ok(vec![Frame::must(self.error(&error))])
            }
            Item::Started { .. } | Item::Progress(_) | Item::Transient(_) => Ok(Vec::new()),
        }
    }

    async fn hear(&mut self, text: &str) -> Vec<Frame> {
        let message = match message::object(text) {
            Ok(message) => message,
            Err(error) => return vec![Frame::must(self.error(&error))],
        };
        match self.obey(&message).await {
            Ok(frames) => frames,
            Err(error) => {
                message::note(&error);
                let mut said = self.error(&error);
                let request = ["request_id", "tool_use_id", "id"]
                    .iter()
                    .find_map(|key| message.get(*key).and_then(Value::as_str));
                if let Some(request) = request.filter(|request| request.len() <= 128) {
                    said["request_id"] = request.into();
                }
                vec![Frame::must(said)]
            }
        }
    }

    fn heartbeat(&self) -> Option<Value> {
        Some(view::heartbeat(self.app.clock().now()))
    }

    fn error(&self, error: &Error) -> Value {
        json!({ "type": "error", "code": error.code().as_str(), "message": error.message() })
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

fn flag(message: &Map<String, Value>, field: &str) -> Result<bool> {
    match message.get(field) {
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Error::invalid(field, "must be true or false")),
        None => Err(Error::invalid(field, "is missing")),
    }
}

/// An allow or deny; of a question, its answers are in the input that is given back.
fn decision(prompt: &Prompt, message: &Map<String, Value>) -> Result<AnswerBody> {
    let allow = flag(message, "allow")?;
    let updated = message.get("updatedInput").filter(|it| !it.is_null());
    if prompt.kind == PromptKind::Question && allow {
        return answers(prompt, updated.and_then(|it| it.get("answers")), None);
    }
    let reason = match message.get("message") {
        None | Some(Value::Null) => String::new(),
        Some(_) => text(message, "message")?.to_owned(),
    };
    Ok(AnswerBody::Decision(Decision {
        allow,
        message: reason,
        updated_input: updated.map(Json::from_value),
        ..Decision::default()
    }))
}

/// The answers to a prompt's questions: by the question's text, or one to the first of them.
fn answers(prompt: &Prompt, all: Option<&Value>, one: Option<&Value>) -> Result<AnswerBody> {
    let mut answers = Vec::new();
    match (all, one) {
        (Some(Value::Object(all)), _) => {
            for (question, answer) in all {
                answers.push(answer_to(prompt, question, answer)?);
            }
        }
        (Some(_), _) => {
            return Err(Error::invalid("answers", "must be an object by question"));
        }
        (None, Some(answer)) => {
            let question = prompt.questions.first().map(|it| it.text.as_str());
            answers.push(answer_to(prompt, question.unwrap_or_default(), answer)?);
        }
        (None, None) => return Err(Error::invalid("answer", "is missing")),
    }
    Ok(AnswerBody::Answers(answers))
}

/// What is offered is a label; anything else is a text of one's own.
fn answer_to(prompt: &Prompt, question: &str, answer: &Value) -> Result<QuestionAnswer> {
    let parts: Vec<&str> = match answer {
        Value::String(text) => vec![text],
        Value::Array(parts) => {
            let texts: Option<Vec<&str>> = parts.iter().map(Value::as_str).collect();
            texts.ok_or_else(|| Error::invalid("answer", "must be texts"))?
        }
        _ => {
            return Err(Error::invalid(
                "answer",
                "must be a text or a list of texts",
            ));
        }
    };
    let offered = prompt.questions.iter().find(|it| it.text == question);
    let is_label = |part: &str| {
        offered.is_some_and(|question| question.options.iter().any(|it| it.label == part))
    };
    let (labels, texts): (Vec<&str>, Vec<&str>) = parts.into_iter().partition(|it| is_label(it));
    Ok(QuestionAnswer {
        question: question.to_owned(),
        labels: labels.into_iter().map(str::to_owned).collect(),
        text: texts.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::domain::event::Origin;
    use crate::wire::event::event_to_pb;

    fn batch(bodies: impl IntoIterator<Item = EventBody>) -> EventBatch {
        let session = SessionId::from_bits(7);
        let events: Vec<_> = (1..)
            .zip(bodies)
            .map(|(seq, body)| {
                let mut event = Event::new(session, Origin::Harness, Timestamp::EPOCH, body);
                event.seq = seq;
                event_to_pb(&event)
            })
            .collect();
        EventBatch::from_events(&events)
    }

    fn line(text: String) -> EventBody {
        EventBody::Output {
            text,
            continues: false,
        }
    }

    /// What each message of a batch has: the index and the text of every part.
    fn said(batch: &EventBatch) -> Vec<Vec<(u64, String)>> {
        let messages = transcript(batch).unwrap().messages;
        let read = |text: &Utf8Bytes| {
            let message: Value = serde_json::from_str(text).unwrap();
            let keys: Vec<&String> = message.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["type", "messages"]);
            assert_eq!(message["type"], "message");
            let parts = message["messages"].as_array().unwrap().iter();
            let part = |part: &Value| {
                let text = part["message"]["content"][0]["text"].as_str().unwrap();
                (part["index"].as_u64().unwrap(), text.to_owned())
            };
            let parts: Vec<_> = parts.map(part).collect();
            assert!(
                text.len() <= MESSAGE_BYTES || parts.len() == 1,
                "{}",
                text.len()
            );
            parts
        };
        messages.iter().map(read).collect()
    }

    #[test]
    fn a_long_batch_becomes_several_messages_with_every_event_once_and_in_order() {
        // As text they are up to six times as long as they came.
        let texts: Vec<String> = (0..1_000_usize)
            .map(|n| format!("{n} \"\u{1}\u{1f980}\\").repeat(n % 40 + 1))
            .collect();
        let said = said(&batch(texts.iter().cloned().map(line)));
        let whole: usize = texts.iter().map(String::len).sum();
        assert!(said.len() > whole / MESSAGE_BYTES, "{}", said.len());
        // None is begun while there is room in the one before.
        assert!(said.iter().all(|parts| parts.len() > 1));
        let parts: Vec<_> = said.into_iter().flatten().collect();
        let expected: Vec<_> = (1..).zip(texts).collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn an_event_that_is_longer_than_a_message_has_one_for_itself() {
        let sizes = [10, 2 * MESSAGE_BYTES, 10, 10, 3 * MESSAGE_BYTES];
        let said = said(&batch(sizes.map(|size| line("x".repeat(size)))));
        let indices: Vec<Vec<u64>> = said
            .iter()
            .map(|parts| parts.iter().map(|(index, _)| *index).collect())
            .collect();
        assert_eq!(indices, [vec![1], vec![2], vec![3, 4], vec![5]]);
        let lengths = said.iter().flatten().map(|(_, text)| text.len());
        assert!(lengths.eq(sizes));
    }

    #[test]
    fn what_has_no_message_is_left_out_and_what_may_be_announced_is_known() {
        let silent = || EventBody::UsageUpdated {
            total: Default::default(),
        };
        let texts = |it: Vec<Vec<(u64, String)>>| it.into_iter().flatten().collect::<Vec<_>>();
        let mixed = batch([
            silent(),
            line("a".to_owned()),
            silent(),
            line("b".to_owned()),
        ]);
        let expected = [(2, "a".to_owned()), (4, "b".to_owned())];
        assert_eq!(texts(said(&mixed)), expected);
        assert!(said(&batch([silent()])).is_empty());
        assert!(said(&batch([])).is_empty());
        assert_eq!(transcript(&mixed).unwrap().announced, 0);
        let linked = || EventBody::LinkChanged {
            attached: true,
            epoch: 1,
        };
        let news = batch([
            linked(),
            line("a".to_owned()),
            linked(),
            line("b".to_owned()),
        ]);
        assert_eq!(transcript(&news).unwrap().announced, 3);
        assert_eq!(texts(said(&news)), expected);
        let damaged = EventBatch::from_encoded(news.encoded().slice(..news.encoded().len() - 1));
        assert!(transcript(&damaged).is_err());
    }
}
