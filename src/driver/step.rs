//! One record on its way through a driver: what it changes and what comes out of it.

use bytes::Bytes;

use super::pieces::{MAX_LINE_BYTES, unfinished};
use super::{Draft, Output, Place, Record, Write};
use crate::base::id::{CommandId, InputId, PromptId, TurnId};
use crate::base::{Code, Json};
use crate::domain::content::{MAX_INLINE_TEXT_BYTES, floor_char};
use crate::domain::event::{MAX_RAW_BYTES, TransientBody};
use crate::domain::session::{Activity, ActivitySource};
use crate::domain::{Block, CommandOutcome, CommandResult, ContentRef, EventBody, InputState};

/// The most text that one event carries over all its blocks, in bytes; more becomes content.
const MAX_EVENT_TEXT_BYTES: usize = 128 * 1024;
/// The most text of a notice, in bytes.
const MAX_NOTICE_BYTES: usize = 8 * 1024;

/// The interpretation of one record by a driver whose state is `S`.
pub(super) struct Step<'a, S> {
    pub(super) place: Place,
    pub(super) record: &'a Record,
    pub(super) state: &'a mut S,
    pub(super) out: Vec<Output>,
    prompts: u32,
    turns: u32,
    writes: u32,
}

impl<'a, S> Step<'a, S> {
    pub(super) fn new(place: Place, record: &'a Record, state: &'a mut S) -> Self {
        Step {
            place,
            record,
            state,
            out: Vec::new(),
            prompts: 0,
            turns: 0,
            writes: 0,
        }
    }

    /// The id of the next prompt of this record.
    pub(super) fn next_prompt_id(&mut self) -> PromptId {
        self.prompts += 1;
        self.place.prompt_id(self.record, self.prompts - 1)
    }

    /// The id of the next turn of this record.
    pub(super) fn next_turn_id(&mut self) -> TurnId {
        self.turns += 1;
        self.place.turn_id(self.record, self.turns - 1)
    }

    /// Makes an event.
    pub(super) fn event(&mut self, body: EventBody) {
        self.out.push(Output::Event(Box::new(Draft::new(body))));
    }

    /// Makes an event that keeps what the harness wrote, if that is JSON and not too large.
    pub(super) fn event_with(&mut self, body: EventBody, raw: Option<&str>) {
        let mut draft = Draft::new(body);
        draft.raw = raw.and_then(|raw| Json::parse("raw", raw, MAX_RAW_BYTES).ok());
        self.out.push(Output::Event(Box::new(draft)));
    }

    /// Makes a notice of a line. A line too large to be kept in the event is kept as content.
    pub(super) fn notice(&mut self, kind: &str, text: &str, line: &str) {
        let body = EventBody::Notice {
            kind: cut(kind, 128),
            text: cut(text, MAX_NOTICE_BYTES),
        };
        if line.len() <= MAX_RAW_BYTES {
            self.event_with(body, Some(line));
        } else {
            let reference = self.content(line.as_bytes(), "application/json");
            self.event_of(body, reference);
        }
    }

    /// Makes an event of what is kept whole as content.
    pub(super) fn event_of(&mut self, body: EventBody, whole: ContentRef) {
        let mut draft = Draft::new(body);
        draft.raw_content = Some(whole);
        self.out.push(Output::Event(Box::new(draft)));
    }

    /// Keeps large content beside the event that refers to it.
    pub(super) fn content(&mut self, data: &[u8], media_type: &str) -> ContentRef {
        let reference = ContentRef::of(data, media_type);
        let data = Bytes::copy_from_slice(data);
        self.out.push(Output::Content(reference.clone(), data));
        reference
    }

    /// Makes something live.
    pub(super) fn transient(&mut self, body: TransientBody) {
        self.out.push(Output::Transient(body));
    }

    /// Tells what goes on, live.
    pub(super) fn progress(&mut self, text: String) {
        self.transient(TransientBody::Progress {
            text: cut(&text, MAX_NOTICE_BYTES),
        });
    }

    /// Writes to the harness by itself. The id follows from the record, so it happens once; `note` comes back
    /// with the record of the write.
    pub(super) fn write_noted(&mut self, data: Bytes, note: Bytes) {
        self.writes += 1;
        let id = format!("drv-{}-{}", self.record.seq, self.writes);
        self.write_as(id, data, note);
    }

    /// Writes to the harness by itself, under an id that is the same whenever this is said.
    pub(super) fn write_as(&mut self, id: String, data: Bytes, note: Bytes) {
        self.out.push(Output::Write(Write {
            id,
            data,
            close: false,
            note,
        }));
    }

    /// Says what the harness does now.
    pub(super) fn activity(&mut self, activity: Activity) {
        self.event(EventBody::ActivityChanged {
            activity,
            source: ActivitySource::Protocol,
            confidence: 100,
        });
    }

    /// A piece of standard error, as text. A character that is cut in two is put together again: `tail` has what the
    /// piece before ended in.
    pub(super) fn stderr(&mut self, tail: &mut Vec<u8>, data: &[u8], continues: bool) {
        let mut bytes = std::mem::take(tail);
        bytes.extend_from_slice(data);
        if continues {
            let keep = unfinished(&bytes);
            *tail = bytes.split_off(bytes.len() - keep);
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut rest: &str = &text;
        loop {
            let (piece, more) = rest.split_at(floor_char(rest, MAX_INLINE_TEXT_BYTES));
            rest = more;
            self.event(EventBody::Stderr {
                text: piece.to_owned(),
                continues: continues || !rest.is_empty(),
            });
            if rest.is_empty() {
                return;
            }
        }
    }

    /// A piece of a line that is too long to be read.
    pub(super) fn oversize(&mut self, bytes: &[u8]) {
        let reference = self.content(bytes, "application/octet-stream");
        let body = EventBody::Notice {
            kind: "oversize_line".to_owned(),
            text: format!(
                "a line of more than {MAX_LINE_BYTES} bytes was not read; this piece of {} bytes is kept as content {}",
                reference.size_bytes, reference.sha256
            ),
        };
        self.event_of(body, reference);
    }

    /// Says how a command ended that was waiting. What is no command's id says nothing.
    pub(super) fn done(&mut self, id: &str, outcome: CommandOutcome, code: &str, reason: &str) {
        if let Ok(command_id) = CommandId::parse("id", id) {
            self.out.push(Output::Done(CommandResult {
                command_id,
                session_id: self.place.session_id,
                outcome,
                reason: cut(reason, MAX_NOTICE_BYTES),
                code: code.to_owned(),
            }));
        }
    }

    /// Says that a command was applied.
    pub(super) fn applied(&mut self, id: &str) {
        self.done(id, CommandOutcome::Applied, "", "");
    }

    /// Says that the harness refused a command.
    pub(super) fn rejected(&mut self, id: &str, reason: &str) {
        let code = Code::InvalidState.as_str();
        self.done(id, CommandOutcome::Rejected, code, reason);
    }

    /// Says that an input moved on.
    pub(super) fn input_changed(&mut self, input_id: InputId, state: InputState, reason: &str) {
        self.event(EventBody::InputChanged {
            input_id,
            state,
            text: String::new(),
            reason: reason.to_owned(),
        });
    }

    /// A block of text; what does not fit into the event becomes content. `budget` is what the event
    /// has left.
    pub(super) fn text_block(&mut self, text: String, thinking: bool, budget: &mut usize) -> Block {
        if text.len() > MAX_INLINE_TEXT_BYTES || text.len() > *budget {
            return Block::Content(self.content(text.as_bytes(), "text/plain"));
        }
        *budget -= text.len();
        if thinking {
            Block::Thinking(text)
        } else {
            Block::Text(text)
        }
    }

    /// How much text an event may carry at its start.
    pub(super) const fn budget() -> usize {
        MAX_EVENT_TEXT_BYTES
    }
}

/// The text, or as much of its start as fits into `max` bytes, marked by `…`.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = floor_char(text, max.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}
