//! Any program: its lines become events, input goes to its standard input.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Action, Draft, Driver, Output, Record, RecordBody, Write, WriteOutcome};
use crate::base::id::InputId;
use crate::base::{Code, Error};
use crate::domain::command::CommandBody;
use crate::domain::content::{ContentRef, floor_char};
use crate::domain::input::InputState;
use crate::domain::session::{Activity, ActivitySource};
use crate::domain::{Command as SessionCommand, EventBody};

/// The longest text of one event, in bytes; longer lines go on in the next.
const MAX_TEXT_BYTES: usize = 64 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// The first bytes of a character whose others come with the next part.
    stdout_rest: Vec<u8>,
    stderr_rest: Vec<u8>,
}

/// What comes back with the record of a write.
#[derive(Serialize, Deserialize)]
struct Note {
    input_id: InputId,
}

/// The interpreter of a plain program.
pub struct CommandDriver {
    cwd: String,
    state: State,
}

impl CommandDriver {
    /// A driver at the start of a session in `cwd`, or going on from a snapshot.
    pub fn new(cwd: &str, snapshot: Option<&[u8]>) -> Result<Self, Error> {
        let state = match snapshot {
            None => State::default(),
            Some(bytes) => serde_json::from_slice(bytes).map_err(Error::internal)?,
        };
        Ok(CommandDriver {
            cwd: cwd.to_owned(),
            state,
        })
    }
}

impl Driver for CommandDriver {
    fn begin(&mut self) -> Vec<Write> {
        Vec::new()
    }

    fn resync(&mut self, _generation: u64) -> Vec<Write> {
        Vec::new()
    }

    fn record(&mut self, record: &Record) -> Vec<Output> {
        let bodies = match &record.body {
            RecordBody::Spawned { pid } => vec![
                EventBody::Started {
                    provider_session_id: String::new(),
                    model: String::new(),
                    cwd: self.cwd.clone(),
                    tools: Vec::new(),
                    pid: *pid,
                    version: String::new(),
                },
                // Whether a program works or waits for input cannot be told from outside.
                EventBody::ActivityChanged {
                    activity: Activity::Unknown,
                    source: ActivitySource::Protocol,
                    confidence: 0,
                },
            ],
            RecordBody::Stdout { data, continues } => {
                let bytes = whole_characters(&mut self.state.stdout_rest, data, *continues);
                return said(&bytes, *continues, |text, continues| EventBody::Output {
                    text,
                    continues,
                });
            }
            RecordBody::Stderr { data, continues } => {
                let bytes = whole_characters(&mut self.state.stderr_rest, data, *continues);
                return said(&bytes, *continues, |text, continues| EventBody::Stderr {
                    text,
                    continues,
                });
            }
            RecordBody::Written {
                note,
                outcome,
                reason,
                ..
            } => match serde_json::from_slice::<Note>(note) {
                Ok(note) => vec![EventBody::InputChanged {
                    input_id: note.input_id,
                    state: match outcome {
                        WriteOutcome::Done => InputState::Applied,
                        WriteOutcome::Failed => InputState::Rejected,
                        WriteOutcome::Unknown => InputState::Indeterminate,
                    },
                    text: String::new(),
                    reason: reason.clone(),
                }],
                Err(_) => Vec::new(),
            },
            RecordBody::Missing { .. } => {
                self.state = State::default();
                Vec::new()
            }
            RecordBody::Exited { .. } | RecordBody::Shown => Vec::new(),
        };
        bodies
            .into_iter()
            .map(|body| Output::Event(Box::new(Draft::new(body))))
            .collect()
    }

    fn command(&mut self, command: &SessionCommand) -> Result<Action, Error> {
        match &command.body {
            CommandBody::Input { input_id, text, .. } => {
                let note = Note {
                    input_id: *input_id,
                };
                Ok(Action::Write(Write {
                    id: command.id.to_string(),
                    data: format!("{text}\n").into(),
                    close: false,
                    note: serde_json::to_vec(&note).map_err(Error::internal)?.into(),
                }))
            }
            CommandBody::End { force, .. } => Ok(Action::Stop {
                polite: Bytes::new(),
                force: *force,
                note: Bytes::new(),
            }),
            CommandBody::Interrupt => Err(Error::new(
                Code::NotInteractive,
                "a plain command has no turn to interrupt; end it instead",
            )),
            other => Err(Error::new(
                Code::NotInteractive,
                format!("a plain command does not take {}", other.name()),
            )),
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&self.state).unwrap_or_default()
    }
}

/// Events of what a program wrote. Bytes that are no text are kept as they are, beside one event that shows
/// them as far as they can be read.
fn said(bytes: &[u8], continues: bool, event: impl Fn(String, bool) -> EventBody) -> Vec<Output> {
    let of = |draft: Draft| Output::Event(Box::new(draft));
    match std::str::from_utf8(bytes) {
        Ok(text) => cut(text, continues, event)
            .into_iter()
            .map(|body| of(Draft::new(body)))
            .collect(),
        Err(_) => {
            let whole = ContentRef::of(bytes, "application/octet-stream");
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            text.truncate(floor_char(&text, MAX_TEXT_BYTES));
            let mut draft = Draft::new(event(text, continues));
            draft.raw_content = Some(whole.clone());
            vec![
                Output::Content(whole, Bytes::copy_from_slice(bytes)),
                of(draft),
            ]
        }
    }
}

/// The bytes of a part; a character that the end of a part cuts waits in `rest` for the next part.
fn whole_characters(rest: &mut Vec<u8>, data: &[u8], continues: bool) -> Vec<u8> {
    let mut bytes = std::mem::take(rest);
    bytes.extend_from_slice(data);
    if continues {
        let tail = bytes.len().saturating_sub(3);
        let cut = (tail..bytes.len()).find(|&at| {
            std::str::from_utf8(&bytes[at..])
                .is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
        });
        if let Some(cut) = cut {
            *rest = bytes.split_off(cut);
        }
    }
    bytes
}

fn cut(text: &str, continues: bool, event: impl Fn(String, bool) -> EventBody) -> Vec<EventBody> {
    let mut events = Vec::new();
    let mut rest = text;
    while rest.len() > MAX_TEXT_BYTES {
        let (now, later) = rest.split_at(floor_char(rest, MAX_TEXT_BYTES));
        events.push(event(now.to_owned(), true));
        rest = later;
    }
    events.push(event(rest.to_owned(), continues));
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_that_a_part_cuts_is_whole_again() {
        let text = "äöü€𝄞x".repeat(3);
        let bytes = text.as_bytes();
        for at in 0..bytes.len() {
            let mut rest = Vec::new();
            let first = whole_characters(&mut rest, &bytes[..at], true);
            let second = whole_characters(&mut rest, &bytes[at..], false);
            for part in [&first, &second] {
                assert!(std::str::from_utf8(part).is_ok(), "cut at {at}");
            }
            assert_eq!([first, second].concat(), bytes);
            assert!(rest.is_empty());
        }
    }

    /// What the events of a record give back: their text, or the content beside them.
    fn given_back(outputs: &[Output]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, output) in outputs.iter().enumerate() {
            let Output::Event(draft) = output else {
                continue;
            };
            match (&draft.raw_content, &draft.body, index.checked_sub(1)) {
                (Some(whole), _, Some(before)) => match &outputs[before] {
                    Output::Content(reference, data) if reference == whole => {
                        bytes.extend_from_slice(data);
                    }
                    other => panic!("{other:?}"),
                },
                (None, EventBody::Output { text, .. }, _) => {
                    bytes.extend_from_slice(text.as_bytes());
                }
                other => panic!("{other:?}"),
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_however_they_are_parted(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            at in 0..60_usize,
        ) {
            let at = at.min(bytes.len());
            let mut rest = Vec::new();
            let mut joined = Vec::new();
            for (part, continues) in [(&bytes[..at], true), (&bytes[at..], false)] {
                let part = whole_characters(&mut rest, part, continues);
                joined.extend(given_back(&said(&part, continues, |text, continues| {
                    EventBody::Output { text, continues }
                })));
            }
            prop_assert_eq!(joined, bytes);
        }
    }

    #[test]
    fn a_long_line_goes_on_in_the_next_event() {
        let events = cut(&"ä".repeat(70_000), false, |text, continues| {
            EventBody::Output { text, continues }
        });
        assert_eq!(events.len(), 3);
        let flags: Vec<bool> = events
            .iter()
            .map(|event| {
                matches!(
                    event,
                    EventBody::Output {
                        continues: true,
                        ..
                    }
                )
            })
            .collect();
        assert_eq!(flags, [true, true, false]);
    }
}
