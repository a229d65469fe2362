//! From a runner's records to what goes up the link. Deterministic: the same records from the same saved
//! state give the same events.

use bytes::Bytes;

use super::ending::{STDERR_TAIL_BYTES, StopNote, end_info};
use super::state::{Saved, SavedGap, Wrote};
use crate::base::id::SessionId;
use crate::base::{Result, Timestamp};
use crate::daemon::harness::HarnessKind;
use crate::domain::command::StartCommand;
use crate::domain::content::ceil_char;
use crate::domain::event::{Origin, Transient};
use crate::domain::terminal::Output;
use crate::domain::{CommandResult, Event, EventBody, link};
use crate::driver::{
    Driver, Gathered, Place, Record, RecordBody, Write, WriteOutcome, link_record,
};
use crate::wire::runner_v1::{self as pb, Pipe, SpoolRecord, spool_record::Body};

/// Most writes that are remembered by their id.
const MAX_WROTE: usize = 512;

/// What a record led to.
#[derive(Debug, Default)]
pub struct Interpreted {
    /// What goes up; `None` for missing records, which go with the next one.
    pub record: Option<link::Record>,
    /// Content to send before it.
    pub content: Vec<(String, Bytes)>,
    /// What is only for those who watch now.
    pub transients: Vec<Transient>,
    /// What the driver writes by itself.
    pub writes: Vec<Write>,
    /// Commands that have ended.
    pub done: Vec<CommandResult>,
}

/// The driver of a session with what surrounds it.
pub struct Interpreter {
    place: Place,
    /// The interpreter of the harness's protocol.
    pub driver: Box<dyn Driver>,
    /// The state after the last record, but for the driver's.
    pub state: Saved,
    /// Events of missing records, to go with the next one.
    carried: Vec<Event>,
}

impl Interpreter {
    /// Goes on from `saved`, in the spool `origin_epoch`.
    pub fn new(
        session_id: SessionId,
        kind: &dyn HarnessKind,
        start: &StartCommand,
        saved: Saved,
        origin_epoch: u64,
    ) -> Result<Self> {
        let place = Place {
            session_id,
            origin_epoch,
        };
        let mut state = saved;
        if state.origin_epoch != origin_epoch {
            // Another numbering; what the driver knows still holds.
            (state.seq, state.acked, state.origin_epoch) = (0, 0, origin_epoch);
        }
        let driver = match kind.driver(place, start, state.driver.as_deref()) {
            Ok(driver) => driver,
            Err(error) if state.driver.is_some() => {
                tracing::warn!(session = %session_id, %error, "a driver's state cannot be read, starting anew");
                kind.driver(place, start, None)?
            }
            Err(error) => return Err(error),
        };
        Ok(Interpreter {
            place,
            driver,
            state,
            carried: Vec::new(),
        })
    }

    /// The state to go on from later.
    pub fn save(&self) -> Saved {
        Saved {
            driver: Some(self.driver.snapshot()),
            ..self.state.clone()
        }
    }

    /// Whether [`Interpreter::save`] says everything now.
    pub fn can_save(&self) -> bool {
        self.carried.is_empty()
    }

    /// Interprets the next record. One that was interpreted before is passed over.
    pub fn record(&mut self, record: SpoolRecord) -> Interpreted {
        if record.seq <= self.state.seq {
            return Interpreted::default();
        }
        let seq = record.seq;
        let time = Timestamp::from_micros(record.time_us);
        let body = record.body.unwrap_or_else(|| {
            Body::Missing(pb::Missing {
                from_seq: seq,
                to_seq: seq,
                reason: "a newer runner wrote a record that this daemon does not know".to_owned(),
            })
        });
        let is_missing = matches!(body, Body::Missing(_));
        let exited = match &body {
            Body::Exited(exited) => Some(exited.clone()),
            _ => None,
        };
        let (body, output) = match body {
            Body::Output(output) => {
                let output = Output {
                    offset: output.offset,
                    data: output.data,
                };
                (RecordBody::Shown, Some(output))
            }
            body => (self.note(body), None),
        };
        let origin = match &body {
            RecordBody::Stdout { .. } | RecordBody::Stderr { .. } | RecordBody::Shown => {
                Origin::Harness
            }
            _ => Origin::Daemon,
        };
        let outputs = self.driver.record(&Record { seq, time, body });

        let mut gathered = Gathered::of(self.place.session_id, origin, time, outputs);
        if let Some(exited) = exited {
            let end = end_info(&exited, self.state.stop.as_ref(), &self.state.stderr_tail);
            gathered.add(Origin::Daemon, EventBody::Ended { end });
            self.state.exited = true;
        }
        self.note_conversation(&gathered.events);
        self.state.seq = seq;
        let mut events = std::mem::take(&mut self.carried);
        events.append(&mut gathered.events);
        let record = match is_missing {
            true => {
                self.carried = events;
                None
            }
            false => {
                let gap = self.state.gap.take().map(Into::into);
                Some(link_record(seq, events, output, gap, time))
            }
        };
        Interpreted {
            record,
            content: gathered.content,
            transients: gathered.transients,
            writes: gathered.writes,
            done: gathered.done,
        }
    }

    /// Takes from a record what the daemon itself needs, and gives the rest to the driver.
    fn note(&mut self, body: Body) -> RecordBody {
        match body {
            Body::Spawned(spawned) => RecordBody::Spawned { pid: spawned.pid },
            Body::Line(line) => {
                let (pipe, data, continues) = (line.pipe(), line.data, line.continues);
                if pipe == Pipe::Stderr {
                    self.keep_tail(&data, continues);
                    RecordBody::Stderr { data, continues }
                } else {
                    RecordBody::Stdout { data, continues }
                }
            }
            Body::Written(written) => {
                let outcome = outcome_of(written.outcome());
                let mut note = written.note;
                if let Some(mut stop) = StopNote::decode(&note) {
                    note = std::mem::take(&mut stop.driver).into();
                    if outcome != WriteOutcome::Failed {
                        self.state.stop = Some(stop);
                    }
                }
                self.state.wrote.push_back(Wrote {
                    id: written.command_id.clone(),
                    outcome: written.outcome,
                    reason: written.reason.clone(),
                });
                if self.state.wrote.len() > MAX_WROTE {
                    self.state.wrote.pop_front();
                }
                RecordBody::Written {
                    id: written.command_id,
                    note,
                    outcome,
                    reason: written.reason,
                }
            }
            Body::Output(_) => RecordBody::Shown,
            Body::Exited(exited) => RecordBody::Exited {
                code: exited.code,
                signal: exited.signal,
                step: exited.step,
                message: exited.message,
            },
            Body::Missing(missing) => {
                let (from, reason) = match self.state.gap.take() {
                    Some(gap) => (gap.from, gap.reason),
                    None => (missing.from_seq, missing.reason.clone()),
                };
                self.state.gap = Some(SavedGap {
                    from,
                    to: missing.to_seq,
                    reason,
                });
                RecordBody::Missing {
                    from: missing.from_seq,
                    to: missing.to_seq,
                    reason: missing.reason,
                }
            }
        }
    }

    /// Keeps the conversation's id, once the harness has said it.
    fn note_conversation(&mut self, events: &[Event]) {
        for event in events {
            if let EventBody::Started {
                provider_session_id: id,
                ..
            } = &event.body
                && !id.is_empty()
            {
                self.state.provider_session_id.clone_from(id);
            }
        }
    }

    fn keep_tail(&mut self, data: &[u8], continues: bool) {
        let tail = &mut self.state.stderr_tail;
        let from = data.len().saturating_sub(STDERR_TAIL_BYTES);
        tail.push_str(&String::from_utf8_lossy(&data[from..]));
        if !continues {
            tail.push('\n');
        }
        let cut = ceil_char(tail, tail.len().saturating_sub(STDERR_TAIL_BYTES));
        tail.drain(..cut);
    }
}

/// How a write ended, as drivers see it.
pub fn outcome_of(outcome: pb::WriteOutcome) -> WriteOutcome {
    match outcome {
        pb::WriteOutcome::Done => WriteOutcome::Done,
        pb::WriteOutcome::Failed => WriteOutcome::Failed,
        pb::WriteOutcome::Unknown | pb::WriteOutcome::Unspecified => WriteOutcome::Unknown,
    }
}
