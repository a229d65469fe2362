//! One session's records as the server takes them: each once, in order, none missing unsaid.

use std::collections::VecDeque;

use super::credit::Credit;
use super::frame::{ContentChunk, Position, Record, Records};
use super::outgoing::follows;
use crate::base::Timestamp;

/// What became of a message of records.
#[derive(Debug)]
pub(super) struct Taken {
    /// The records to store, in order.
    pub(super) records: Vec<Record>,
    /// Whether a reset is to be sent now, and why.
    pub(super) reset: Option<&'static str>,
}

/// What became of a piece of content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// It comes next: the application is to stage it.
    Taken,
    /// It was dropped; the sender is told when what waits is done.
    Dropped,
    /// It was dropped and nothing waits: the sender is to go on from here.
    Again(u64),
}

struct Content {
    sha256: String,
    /// Every byte before this one was handed to the application.
    next: u64,
    /// Pieces were dropped; the sender was not told yet.
    dropped: bool,
    /// The sender was told to go on from `next`, and has not done so yet.
    asked: bool,
}

pub(super) struct Incoming {
    /// The last record handed to the application.
    accepted: Position,
    /// The last record known to be stored.
    stored: Position,
    waiting: VecDeque<(Position, Credit)>,
    /// What waits: records, and pieces of content in bytes.
    used: Credit,
    staging: u64,
    /// Records that do not come next are on their way still: they are dropped without another reset.
    resetting: bool,
    /// When to ask for the records again, after the application refused or was overrun.
    reset_at: Option<Timestamp>,
    overrun: bool,
    content: Option<Content>,
    /// The last record that was accepted tells the session's end.
    ended: bool,
    pub(super) ack_due: bool,
}

impl Incoming {
    pub(super) fn new(stored: Position) -> Self {
        Incoming {
            accepted: stored,
            stored,
            waiting: VecDeque::new(),
            used: Credit::ZERO,
            staging: 0,
            resetting: false,
            reset_at: None,
            overrun: false,
            content: None,
            ended: false,
            ack_due: false,
        }
    }

    pub(super) fn stored(&self) -> Position {
        self.stored
    }

    /// Whether the session's end is stored and acknowledged: nothing of it is on its way any more.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.stored == self.accepted && !self.ack_due && self.reset_at.is_none()
    }

    pub(super) fn reset_at(&self) -> Option<Timestamp> {
        self.reset_at
    }

    /// The reset that was due is sent.
    pub(super) fn reset_sent(&mut self) {
        self.reset_at = None;
        self.resetting = true;
        self.drop_content();
    }

    /// Pieces of content come again from their beginning.
    fn drop_content(&mut self) {
        self.content = None;
        self.staging = 0;
    }

    fn waits(&self) -> Credit {
        self.used.plus(Credit {
            events: 0,
            bytes: self.staging,
        })
    }

    /// Takes what comes next of `records`; `bound` is the most that may wait.
    pub(super) fn take(&mut self, message: Records, bound: Credit) -> Taken {
        let mut reset = None;
        let (epoch, previous) = (message.origin_epoch, message.previous);
        let mut records = message.records;
        records.retain(|record| {
            let position = Position::new(epoch, record.origin_seq);
            if position <= self.accepted {
                // What is stored already is acknowledged again, or the sender would keep it.
                self.ack_due |= position <= self.stored;
                return false;
            }
            if self.reset_at.is_some() || self.overrun {
                return false;
            }
            let skips = epoch != self.accepted.origin_epoch && previous > self.accepted;
            if skips || !follows(self.accepted, position, record) {
                if !self.resetting {
                    self.resetting = true;
                    reset = Some("records are missing before the one that came");
                }
                return false;
            }
            let cost = record.cost();
            // One record always passes, however much content is being staged: an overrun is settled when
            // the records that wait are stored, so there must be one that does.
            let waits = if self.waiting.is_empty() {
                Credit::ZERO
            } else {
                self.waits()
            };
            if !bound.admits(waits, cost) {
                self.overrun = true;
                return false;
            }
            self.resetting = false;
            self.accepted = position;
            self.ended = record.is_end();
            self.used = self.used.plus(cost);
            self.waiting.push_back((position, cost));
            true
        });
        Taken { records, reset }
    }

    /// Takes a piece of content if it comes next. What does not is dropped, and said once.
    pub(super) fn take_chunk(&mut self, chunk: &ContentChunk, bound: Credit) -> Piece {
        let cost = Credit {
            events: 0,
            bytes: chunk.data.len() as u64,
        };
        let fits = bound.admits(self.waits(), cost);
        let content = match &mut self.content {
            Some(content) if content.sha256 == chunk.sha256 => content,
            _ => self.content.insert(Content {
                sha256: chunk.sha256.clone(),
                next: 0,
                dropped: false,
                asked: false,
            }),
        };
        if chunk.offset == 0 {
            (content.next, content.dropped) = (0, false);
        }
        if chunk.offset == content.next && fits {
            content.next += cost.bytes;
            content.asked = false;
            self.staging += cost.bytes;
            return Piece::Taken;
        }
        if self.staging == 0 && self.waiting.is_empty() {
            // Nothing will be done after which the sender could be told.
            return match std::mem::replace(&mut content.asked, true) {
                false => Piece::Again(content.next),
                true => Piece::Dropped,
            };
        }
        content.dropped = true;
        // If records took the room, the reset that follows brings the content again too.
        self.overrun |= !self.waiting.is_empty();
        Piece::Dropped
    }

    /// The application has staged a piece up to `next`, or refused it. Where the sender is to go on if pieces
    /// are to be sent again.
    pub(super) fn chunk_done(&mut self, chunk: &ContentChunk, next: u64, ok: bool) -> Option<u64> {
        let bytes = chunk.data.len() as u64;
        self.staging = self.staging.saturating_sub(bytes);
        let sha256 = &chunk.sha256;
        let content = self.content.as_mut().filter(|c| c.sha256 == *sha256)?;
        if !ok {
            (content.next, content.dropped) = (next, true);
            self.staging = 0;
        }
        // Pieces that were dropped are asked for again once the last one taken before them is staged. What
        // was staged for an earlier round may be further than this one has come.
        let is_whole = ok && next == chunk.size_bytes;
        let resend = content.dropped && !is_whole && (next >= content.next || !ok);
        resend.then(|| {
            content.dropped = false;
            content.next = content.next.min(next);
            content.asked = true;
            content.next
        })
    }

    /// The application has stored everything up to here. Whether the sender overran and is to be reset.
    pub(super) fn stored_through(&mut self, position: Position) -> bool {
        while let Some((first, cost)) = self.waiting.front() {
            if *first > position {
                break;
            }
            self.used = self.used.minus(*cost);
            self.waiting.pop_front();
        }
        self.stored = self.stored.max(position);
        self.accepted = self.accepted.max(position);
        self.ack_due = true;
        let reset = self.overrun && self.waiting.is_empty();
        if reset {
            self.overrun = false;
            self.resetting = true;
            self.drop_content();
        }
        reset
    }

    /// The application did not store what waits: it is asked for again later.
    pub(super) fn refused(&mut self, again: Timestamp) {
        for (_, cost) in self.waiting.drain(..) {
            self.used = self.used.minus(cost);
        }
        self.accepted = self.stored;
        self.ended = false;
        self.drop_content();
        self.resetting = true;
        self.overrun = false;
        self.reset_at = Some(again);
    }
}
