//! Text that the agent is writing right now, and the finished message, without showing anything twice.
//!
//! Deltas are shown as they come; when the message event follows, only what was not shown yet is added.

use super::output::style::safe;
use crate::domain::Block;
use crate::domain::event::{EventBody, Role, Transient, TransientBody};

/// The most of a block that is remembered; beyond it, the rest waits for the message.
const MAX_SHOWN_BYTES: usize = 1024 * 1024;
/// The most blocks that are remembered; the oldest is forgotten first.
const MAX_BLOCKS: usize = 64;

struct Shown {
    message_id: String,
    block: u32,
    thinking: bool,
    text: String,
    /// A piece was missed: nothing more is shown live, the message has the rest.
    broken: bool,
}

/// A piece to show.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whether a new line is to be begun first.
    pub fresh: bool,
    /// Whether it is thinking.
    pub thinking: bool,
    /// The text, harmless to show.
    pub text: String,
}

/// What was shown live.
#[derive(Default)]
pub struct Live {
    blocks: Vec<Shown>,
    /// The block that the cursor stands in, as (message, block).
    open: Option<(String, u32)>,
}

impl Live {
    /// Whether the cursor stands within a line of live text.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Something else was shown: the cursor stands at the beginning of a line.
    pub fn closed(&mut self) {
        self.open = None;
    }

    /// What to show of a transient.
    pub fn transient(&mut self, transient: &Transient) -> Option<Piece> {
        let TransientBody::MessageDelta {
            message_id,
            block,
            offset,
            text,
            thinking,
        } = &transient.body
        else {
            return None;
        };
        let key = (message_id.clone(), *block);
        let at = self
            .blocks
            .iter()
            .position(|shown| shown.message_id == *message_id && shown.block == *block);
        let shown = match at {
            Some(at) => &mut self.blocks[at],
            None => {
                if self.blocks.len() == MAX_BLOCKS {
                    self.blocks.remove(0);
                }
                self.blocks.push(Shown {
                    message_id: message_id.clone(),
                    block: *block,
                    thinking: *thinking,
                    text: String::new(),
                    broken: false,
                });
                self.blocks.last_mut()?
            }
        };
        let have = shown.text.len();
        let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
        if offset > have || have + text.len() > MAX_SHOWN_BYTES {
            shown.broken = true;
        }
        if shown.broken {
            return None;
        }
        // What was shown already (a repeat, or the text so far after a reconnect) is left out.
        let skip = have - offset;
        let new = text.get(skip..).unwrap_or_default();
        if new.is_empty() {
            return None;
        }
        shown.text.push_str(new);
        let fresh = self.open.as_ref() != Some(&key);
        self.open = Some(key);
        Some(Piece {
            fresh,
            thinking: *thinking,
            text: safe(new),
        })
    }

    /// What is left to show of a finished message of the agent; `None` if the event is another.
    pub fn message(&mut self, body: &EventBody) -> Option<Vec<Piece>> {
        let EventBody::Message {
            role: Role::Agent,
            blocks,
            message_id,
            ..
        } = body
        else {
            return None;
        };
        let mut pieces = Vec::new();
        for block in blocks {
            let (text, thinking) = match block {
                Block::Text(text) => (text, false),
                Block::Thinking(text) => (text, true),
                Block::Content(_) => continue,
            };
            let shown = self.blocks.iter().position(|shown| {
                shown.message_id == *message_id
                    && shown.thinking == thinking
                    && !shown.text.is_empty()
                    && text.starts_with(&shown.text)
            });
            let (rest, fresh) = match shown {
                Some(at) => {
                    let shown = self.blocks.remove(at);
                    let is_open = self.open == Some((shown.message_id, shown.block));
                    (&text[shown.text.len()..], !is_open)
                }
                None => (text.as_str(), true),
            };
            if !rest.is_empty() {
                pieces.push(Piece {
                    fresh,
                    thinking,
                    text: safe(rest),
                });
                self.open = Some((message_id.clone(), u32::MAX));
            }
        }
        Some(pieces)
    }

    /// A turn is over: nothing live is continued after it.
    pub fn forget(&mut self) {
        self.blocks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::SessionId;

    fn delta(block: u32, offset: u64, text: &str) -> Transient {
        Transient {
            session_id: SessionId::from_bits(1),
            body: TransientBody::MessageDelta {
                message_id: "m".into(),
                block,
                offset,
                text: text.into(),
                thinking: false,
            },
        }
    }

    fn message(texts: &[&str]) -> EventBody {
        EventBody::Message {
            role: Role::Agent,
            blocks: texts
                .iter()
                .map(|text| Block::Text((*text).to_owned()))
                .collect(),
            message_id: "m".into(),
            parent_call_id: String::new(),
        }
    }

    /// All that a terminal would show, a new line as `|`.
    fn shown(steps: &[Result<Transient, EventBody>]) -> String {
        let mut live = Live::default();
        let mut screen = String::new();
        for step in steps {
            let pieces = match step {
                Ok(transient) => live.transient(transient).into_iter().collect(),
                Err(body) => live.message(body).unwrap(),
            };
            for piece in pieces {
                if piece.fresh {
                    screen.push('|');
                }
                screen.push_str(&piece.text);
            }
        }
        screen
    }

    #[test]
    fn the_finished_message_adds_only_what_was_not_shown() {
        let steps = [
            Ok(delta(0, 0, "Hel")),
            Ok(delta(0, 3, "lo")),
            Err(message(&["Hello there"])),
        ];
        assert_eq!(shown(&steps), "|Hello there");
        let steps = [Ok(delta(0, 0, "Hello")), Err(message(&["Hello"]))];
        assert_eq!(shown(&steps), "|Hello");
        assert_eq!(shown(&[Err(message(&["Hello"]))]), "|Hello");
    }

    #[test]
    fn repeats_and_joining_late_show_nothing_twice() {
        let steps = [
            Ok(delta(0, 0, "He")),
            Ok(delta(0, 0, "Hell")),
            Ok(delta(0, 2, "llo")),
            Err(message(&["Hello"])),
        ];
        assert_eq!(shown(&steps), "|Hello");
    }

    #[test]
    fn a_missed_piece_waits_for_the_message() {
        let steps = [
            Ok(delta(0, 0, "He")),
            Ok(delta(0, 9, "zz")),
            Ok(delta(0, 2, "l")),
            Err(message(&["Hello"])),
        ];
        assert_eq!(shown(&steps), "|Hello");
    }

    #[test]
    fn another_text_than_was_shown_is_shown_whole() {
        let steps = [Ok(delta(0, 0, "Hx")), Err(message(&["Hello"]))];
        assert_eq!(shown(&steps), "|Hx|Hello");
    }

    #[test]
    fn blocks_that_come_as_messages_of_their_own_find_their_text() {
        let steps = [
            Ok(delta(0, 0, "one")),
            Ok(delta(1, 0, "two")),
            Err(message(&["one"])),
            Err(message(&["two!"])),
        ];
        assert_eq!(shown(&steps), "|one|two!");
    }

    #[test]
    fn cuts_within_a_character_never_panic() {
        let steps = [
            Ok(delta(0, 0, "é")),
            Ok(delta(0, 1, "éa")),
            Err(message(&["éa"])),
        ];
        assert_eq!(shown(&steps), "|éa");
    }
}
