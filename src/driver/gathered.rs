//! What a driver made of one record, sorted by where it goes.

use bytes::Bytes;
use prost::Message as _;

use super::{Output as Made, Write};
use crate::base::Timestamp;
use crate::base::id::SessionId;
use crate::domain::event::{Origin, Transient};
use crate::domain::link::{Gap, Record, RecordEvent};
use crate::domain::terminal::Output;
use crate::domain::{CommandResult, Event, EventBody};
use crate::wire::event::event_to_pb;

/// The outputs of one record.
#[derive(Debug)]
pub struct Gathered {
    session_id: SessionId,
    time: Timestamp,
    /// Events, without seq.
    pub events: Vec<Event>,
    /// Content to send before them, with its hash.
    pub content: Vec<(String, Bytes)>,
    /// What is only for those who watch now.
    pub transients: Vec<Transient>,
    /// What the driver writes by itself.
    pub writes: Vec<Write>,
    /// Commands that have ended.
    pub done: Vec<CommandResult>,
}

impl Gathered {
    /// Sorts the outputs of a record that was read at `time`; `origin` is who made the record.
    pub fn of(session_id: SessionId, origin: Origin, time: Timestamp, outputs: Vec<Made>) -> Self {
        let mut gathered = Gathered {
            session_id,
            time,
            events: Vec::new(),
            content: Vec::new(),
            transients: Vec::new(),
            writes: Vec::new(),
            done: Vec::new(),
        };
        for output in outputs {
            match output {
                Made::Event(draft) => {
                    gathered.add(origin, draft.body);
                    if let Some(event) = gathered.events.last_mut() {
                        (event.raw, event.actor) = (draft.raw, draft.actor);
                        event.raw_content = draft.raw_content;
                    }
                }
                Made::Transient(body) => {
                    gathered.transients.push(Transient { session_id, body });
                }
                Made::Content(reference, data) => gathered.content.push((reference.sha256, data)),
                Made::Write(write) => gathered.writes.push(write),
                Made::Done(result) => gathered.done.push(result),
            }
        }
        gathered
    }

    /// Adds an event after those of the driver.
    pub fn add(&mut self, origin: Origin, body: EventBody) {
        let mut event = Event::new(self.session_id, origin, self.time, body);
        event.origin_time = Some(self.time);
        self.events.push(event);
    }
}

/// Events, and what a terminal was to show, as the record that goes up the link under `origin_seq`.
pub fn link_record(
    origin_seq: u64,
    events: Vec<Event>,
    output: Option<Output>,
    gap: Option<Gap>,
    time: Timestamp,
) -> Record {
    let size_bytes = events
        .iter()
        .map(|event| event_to_pb(event).encoded_len() as u64)
        .chain(output.iter().map(|output| output.data.len() as u64))
        .sum();
    Record {
        origin_seq,
        events: events.into_iter().map(RecordEvent::from).collect(),
        gap,
        time,
        output,
        size_bytes,
    }
}
