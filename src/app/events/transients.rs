//! What is live and never stored: the text an agent is writing right now.
//!
//! A board a session holds the text so far of every block that is being written; a reader remembers how
//! much of each it has sent and takes the rest when it is woken. So a slow reader gets fewer, longer
//! pieces, and one who joins in the middle gets the text so far. A block leaves the board when its message
//! is in the log. Overflow policy: a board holds at most [`BOARD_BYTES`]; beyond that the oldest block goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::base::id::SessionId;
use crate::domain::event::TransientBody;
use crate::domain::{Event, EventBody, Transient};

/// The most text a board holds, in bytes.
pub const BOARD_BYTES: usize = 256 * 1024;

/// The boards of all sessions that have something live.
#[derive(Default)]
pub struct Transients {
    boards: Mutex<HashMap<SessionId, Arc<Board>>>,
}

/// What is live in one session.
pub(super) struct Board {
    text: Mutex<Text>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Text {
    blocks: BTreeMap<(String, u32), Block>,
    bytes: usize,
    born: u64,
    progress: Option<(u64, String)>,
}

struct Block {
    born: u64,
    text: String,
    thinking: bool,
}

/// What a reader has sent of a board.
#[derive(Default)]
pub(super) struct Sent {
    blocks: HashMap<(String, u32), (u64, usize)>,
    progress: u64,
}

impl Transients {
    /// Takes something live from a daemon.
    pub fn put(&self, transient: Transient) {
        metrics::counter!("baton_transients_total").increment(1);
        let board = self.board(transient.session_id);
        {
            let mut text = board.text.lock();
            match transient.body {
                TransientBody::MessageDelta {
                    message_id,
                    block,
                    offset,
                    text: piece,
                    thinking,
                } => text.add((message_id, block), offset, &piece, thinking),
                TransientBody::Progress { text: note } => {
                    text.born += 1;
                    text.progress = Some((text.born, note));
                }
            }
        }
        board.version.send_modify(|version| *version += 1);
    }

    /// Events are in the log: what they say is no longer live.
    pub(crate) fn committed(&self, events: &[Event]) {
        for event in events {
            let all = match &event.body {
                EventBody::TurnEnded { .. } | EventBody::Ended { .. } => true,
                EventBody::Message { .. } | EventBody::ToolCall { .. } => false,
                _ => continue,
            };
            let Some(board) = self.boards.lock().get(&event.session_id).cloned() else {
                continue;
            };
            let mut text = board.text.lock();
            if all {
                *text = Text {
                    born: text.born,
                    ..Text::default()
                };
            } else if let EventBody::Message { message_id, .. } = &event.body {
                text.drop_message(message_id);
            }
        }
    }

    /// A session is over: nobody writes any more.
    pub(crate) fn ended(&self, id: SessionId) {
        self.boards.lock().remove(&id);
    }

    pub(super) fn board(&self, id: SessionId) -> Arc<Board> {
        self.boards
            .lock()
            .entry(id)
            .or_insert_with(|| {
                Arc::new(Board {
                    text: Mutex::default(),
                    version: watch::Sender::new(0),
                })
            })
            .clone()
    }
}

impl Board {
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What a reader has not sent yet.
    pub(super) fn news(&self, session_id: SessionId, sent: &mut Sent) -> Vec<Transient> {
        let text = self.text.lock();
        let mut news = Vec::new();
        sent.blocks.retain(|key, _| text.blocks.contains_key(key));
        for (key, block) in &text.blocks {
            let (born, from) = sent.blocks.get(key).copied().unwrap_or((block.born, 0));
            let from = if born == block.born { from } else { 0 };
            let rest = block.text.get(from..).unwrap_or_default();
            if rest.is_empty() {
                continue;
            }
            news.push(Transient {
                session_id,
                body: TransientBody::MessageDelta {
                    message_id: key.0.clone(),
                    block: key.1,
                    offset: from as u64,
                    text: rest.to_owned(),
                    thinking: block.thinking,
                },
            });
            sent.blocks
                .insert(key.clone(), (block.born, block.text.len()));
        }
        if let Some((born, note)) = &text.progress
            && *born > sent.progress
        {
            sent.progress = *born;
            news.push(Transient {
                session_id,
                body: TransientBody::Progress { text: note.clone() },
            });
        }
        metrics::counter!("baton_transients_sent_total").increment(news.len() as u64);
        news
    }
}

fn dropped() {
    metrics::counter!("baton_transients_dropped_total").increment(1);
}

impl Text {
    fn add(&mut self, key: (String, u32), offset: u64, piece: &str, thinking: bool) {
        let so_far = self.blocks.get(&key).map_or(0, |block| block.text.len());
        if offset == 0 {
            self.drop_block(&key);
            self.born += 1;
            self.blocks.insert(
                key.clone(),
                Block {
                    born: self.born,
                    text: piece.to_owned(),
                    thinking,
                },
            );
            self.bytes += piece.len();
        } else if offset == so_far as u64
            && let Some(block) = self.blocks.get_mut(&key)
        {
            block.text.push_str(piece);
            self.bytes += piece.len();
        } else {
            // What was before this piece was lost on its way; the finished text comes in the log anyway.
            dropped();
        }
        while self.bytes > BOARD_BYTES {
            let oldest = self
                .blocks
                .iter()
                .min_by_key(|(_, block)| block.born)
                .map(|(key, _)| key.clone());
            match oldest {
                Some(key) => {
                    self.drop_block(&key);
                    dropped();
                }
                None => break,
            }
        }
    }

    fn drop_block(&mut self, key: &(String, u32)) {
        if let Some(block) = self.blocks.remove(key) {
            self.bytes -= block.text.len();
        }
    }

    fn drop_message(&mut self, message_id: &str) {
        let gone: Vec<_> = self
            .blocks
            .keys()
            .filter(|(id, _)| id == message_id)
            .cloned()
            .collect();
        // Blocks of one message are finished one by one and in order: the first is the finished one.
        if let Some(key) = gone.first() {
            self.drop_block(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    fn delta(session_id: SessionId, offset: u64, text: &str) -> Transient {
        Transient {
            session_id,
            body: TransientBody::MessageDelta {
                message_id: "m".to_owned(),
                block: 0,
                offset,
                text: text.to_owned(),
                thinking: false,
            },
        }
    }

    fn texts(news: Vec<Transient>) -> Vec<(u64, String)> {
        news.into_iter()
            .filter_map(|transient| match transient.body {
                TransientBody::MessageDelta { offset, text, .. } => Some((offset, text)),
                TransientBody::Progress { .. } => None,
            })
            .collect()
    }

    #[test]
    fn who_joins_late_gets_the_text_so_far_and_then_the_rest() {
        let id = SessionId::generate(Timestamp::EPOCH);
        let transients = Transients::default();
        transients.put(delta(id, 0, "one "));
        transients.put(delta(id, 4, "two "));
        let board = transients.board(id);
        let mut sent = Sent::default();
        assert_eq!(
            texts(board.news(id, &mut sent)),
            [(0, "one two ".to_owned())]
        );
        transients.put(delta(id, 8, "three"));
        assert_eq!(texts(board.news(id, &mut sent)), [(8, "three".to_owned())]);
        assert!(board.news(id, &mut sent).is_empty());
    }

    #[test]
    fn a_board_is_bounded() {
        let id = SessionId::generate(Timestamp::EPOCH);
        let transients = Transients::default();
        let mut offset = 0;
        for _ in 0..1_000 {
            transients.put(delta(id, offset, &"x".repeat(1_000)));
            offset += 1_000;
        }
        assert!(transients.board(id).text.lock().bytes <= BOARD_BYTES);
    }
}
