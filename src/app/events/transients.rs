//! What is live and never stored: the text an agent is writing right now.
//!
//! A board a session holds the text so far of every block that is being written; a reader remembers how
//! much of each it has sent and takes the rest when it is woken. So a slow reader gets fewer, longer
//! pieces, and one who joins in the middle gets the text so far. A block leaves the board when its message
//! is in the log. A board holds at most [`LIVE_BYTES`], and there is one only while something is being written
//! or somebody watches: what is over leaves nothing in memory.
//!
//! [`LIVE_BYTES`]: crate::domain::live::LIVE_BYTES

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::base::id::SessionId;
use crate::domain::live::{LiveText, Sent};
use crate::domain::{Event, EventBody, Transient};

/// The boards of all sessions that have something live, or somebody who watches.
#[derive(Default)]
pub struct Transients {
    boards: Mutex<HashMap<SessionId, Board>>,
}

/// What is live in one session.
struct Board {
    text: LiveText,
    version: watch::Sender<u64>,
}

impl Board {
    fn is_needed(&self) -> bool {
        !self.text.is_empty() || self.version.receiver_count() > 0
    }
}

/// A reader's view of a board; the board goes with the last of them, unless something is being written.
pub(super) struct Watching {
    transients: Arc<Transients>,
    session_id: SessionId,
    /// `None` only while it is dropped.
    wake: Option<watch::Receiver<u64>>,
    sent: Sent,
}

impl Transients {
    /// Takes something live from a daemon.
    pub fn put(&self, transient: Transient) {
        let mut is_dropped = false;
        self.change(transient.session_id, true, |text| {
            is_dropped = text.add(transient.body);
        });
        metrics::counter!("baton_transients_total").increment(1);
        if is_dropped {
            metrics::counter!("baton_transients_dropped_total").increment(1);
        }
    }

    /// Events are in the log: what they say is no longer live.
    pub(crate) fn committed<'a>(&self, events: impl IntoIterator<Item = &'a Event>) {
        for event in events {
            let says = matches!(
                event.body,
                EventBody::TurnEnded { .. } | EventBody::Ended { .. } | EventBody::Message { .. }
            );
            if says {
                self.change(event.session_id, false, |text| text.finished(&event.body));
            }
        }
    }

    /// A session is over: nobody writes any more.
    pub(crate) fn ended(&self, id: SessionId) {
        self.change(id, false, LiveText::clear);
    }

    fn change(&self, id: SessionId, make: bool, change: impl FnOnce(&mut LiveText)) {
        let mut boards = self.boards.lock();
        let board = match boards.get_mut(&id) {
            Some(board) => board,
            None if make => boards.entry(id).or_insert_with(Board::new),
            None => return,
        };
        change(&mut board.text);
        if board.is_needed() {
            board.version.send_modify(|version| *version += 1);
        } else {
            boards.remove(&id);
        }
    }

    /// How many boards there are.
    pub fn len(&self) -> usize {
        self.boards.lock().len()
    }

    /// Whether there is no board.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins to watch a session's board.
    pub(super) fn watch(self: &Arc<Self>, id: SessionId) -> Watching {
        let mut boards = self.boards.lock();
        let board = boards.entry(id).or_insert_with(Board::new);
        Watching {
            transients: self.clone(),
            session_id: id,
            wake: Some(board.version.subscribe()),
            sent: Sent::default(),
        }
    }
}

impl Board {
    fn new() -> Self {
        Board {
            text: LiveText::default(),
            version: watch::Sender::new(0),
        }
    }
}

impl Watching {
    /// What this reader has not sent yet; what comes after that ends [`Watching::changed`].
    pub(super) fn news(&mut self) -> Vec<Transient> {
        if let Some(wake) = &mut self.wake {
            wake.mark_unchanged();
        }
        let news: Vec<_> = {
            let boards = self.transients.boards.lock();
            let Some(board) = boards.get(&self.session_id) else {
                return Vec::new();
            };
            std::iter::from_fn(|| board.text.next(&mut self.sent))
                .map(|body| Transient {
                    session_id: self.session_id,
                    body,
                })
                .collect()
        };
        metrics::counter!("baton_transients_sent_total").increment(news.len() as u64);
        news
    }

    /// Waits until there may be news. Cancelling the wait loses nothing.
    pub(super) async fn changed(&mut self) {
        let changed = match &mut self.wake {
            Some(wake) => wake.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            // Never: the board stays while this is subscribed.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut boards = self.transients.boards.lock();
        self.wake = None;
        if boards
            .get(&self.session_id)
            .is_some_and(|board| !board.is_needed())
        {
            boards.remove(&self.session_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::domain::event::{Origin, TransientBody};

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

    fn id(n: u128) -> SessionId {
        SessionId::from_bits(n)
    }

    #[test]
    fn who_joins_after_a_restart_of_the_server_gets_the_text_so_far() {
        let transients = Arc::new(Transients::default());
        let mut early = transients.watch(id(1));
        // What a daemon of an older version sends: only what came after the restart.
        transients.put(delta(id(1), 4, "two "));
        assert_eq!(early.news(), [delta(id(1), 4, "two ")]);
        // What a daemon sends first on a new link: all it has.
        transients.put(delta(id(1), 0, "one two three"));
        let all = [delta(id(1), 0, "one two three")];
        assert_eq!(transients.watch(id(1)).news(), all);
        assert_eq!(early.news(), all);
        assert_eq!(early.news(), []);
    }

    #[test]
    fn sessions_that_are_over_leave_no_board() {
        let transients = Arc::new(Transients::default());
        let mut readers = Vec::new();
        for n in 0..1_000 {
            transients.put(delta(id(n), 0, "text"));
            readers.push(transients.watch(id(n)));
            transients.ended(id(n));
            assert_eq!(readers.last_mut().map(Watching::news), Some(Vec::new()));
        }
        assert_eq!(transients.len(), 1_000);
        // A session that is found again goes on for those who stayed.
        transients.put(delta(id(7), 0, "again"));
        assert_eq!(readers[7].news(), [delta(id(7), 0, "again")]);
        transients.ended(id(7));
        readers.clear();
        assert!(transients.is_empty());
        // Without a reader, and for a turn that ends in a session that lives on.
        transients.put(delta(id(1), 0, "text"));
        let end = Event::new(
            id(1),
            Origin::Harness,
            Timestamp::EPOCH,
            EventBody::Ended {
                end: crate::domain::EndInfo::because(crate::domain::EndReason::Completed, ""),
            },
        );
        transients.committed(&[end]);
        assert!(transients.is_empty());
    }
}
