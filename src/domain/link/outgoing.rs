//! One session's records on their way up, as the daemon keeps them until they are stored.

use std::collections::VecDeque;

use bytes::Bytes;

use super::credit::Credit;
use super::frame::{ContentAck, ContentChunk, Position, Record, Records, SessionReport, Up};
use super::limits::DaemonLimits;
use crate::base::Timestamp;
use crate::base::id::SessionId;

/// A message ends before it would hold more bytes than this, unless one record alone does.
const MAX_MESSAGE_BYTES: u64 = 1024 * 1024;

enum Item {
    /// Large content; no later item passes it before it is stored for good.
    Content {
        sha256: String,
        data: Bytes,
        sent: u64,
        acked: u64,
    },
    Record {
        position: Position,
        /// The one pushed before it.
        previous: Position,
        cost: Credit,
        record: Record,
        since: Timestamp,
    },
}

/// What a session has to say next.
pub(super) enum Next {
    /// This; the cost was added to what flies.
    Send(Up, Credit),
    /// Something, but not before this time.
    Wait(Timestamp),
    /// Something that the link's credit does not admit now.
    LinkFull,
    /// Nothing until something is pushed or acknowledged.
    Nothing,
}

/// Where the pump has to go on after the server said what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// On where it is.
    Stay,
    /// After this record.
    Rewind(Position),
    /// The spool lacks what the server has.
    Behind,
}

pub(super) struct Outgoing {
    pub(super) report: SessionReport,
    /// Whether the server said on this link what it has.
    pub(super) open: bool,
    /// Where the pump is: the last record pushed; `None` until it was told where to begin.
    pushed: Option<Position>,
    stored: Position,
    items: VecDeque<Item>,
    /// Items at the front that were sent whole on this link.
    sent: usize,
    held: Credit,
    flying: Credit,
    credit: Credit,
}

impl Outgoing {
    pub(super) fn new(report: SessionReport) -> Self {
        Outgoing {
            report,
            open: false,
            pushed: None,
            stored: Position::default(),
            items: VecDeque::new(),
            sent: 0,
            held: Credit::ZERO,
            flying: Credit::ZERO,
            credit: Credit::SESSION,
        }
    }

    pub(super) fn wants(&self) -> bool {
        self.open && self.pushed.is_some() && self.credit.exceeds(self.held)
    }

    /// Whether an item waits that was not sent whole.
    pub(super) fn has_unsent(&self) -> bool {
        self.open && self.sent < self.items.len()
    }

    /// Records and bytes that are not acknowledged.
    pub(super) fn backlog(&self) -> (u64, u64) {
        let unread = self
            .report
            .last_origin_seq
            .saturating_sub(self.pushed.unwrap_or(self.stored).origin_seq);
        (unread + self.items.len() as u64, self.held.bytes)
    }

    pub(super) fn stored(&self) -> Position {
        self.stored
    }

    pub(super) fn flying(&self) -> Credit {
        self.flying
    }

    /// The link is gone: nothing flies any more. What is held stays.
    pub(super) fn unlink(&mut self) {
        self.open = false;
        self.unsend();
    }

    fn unsend(&mut self) {
        self.sent = 0;
        self.flying = Credit::ZERO;
        let mut regained = 0;
        for item in &mut self.items {
            if let Item::Content { sent, acked, .. } = item {
                regained += *acked;
                (*sent, *acked) = (0, 0);
            }
        }
        self.held.bytes = self.held.bytes.saturating_add(regained);
    }

    fn clear(&mut self) {
        self.items.clear();
        self.sent = 0;
        self.held = Credit::ZERO;
        self.flying = Credit::ZERO;
    }

    /// The server said what it has, at the begin of a link or in a reset: everything after it flies anew.
    pub(super) fn resume(&mut self, stored: Position, credit: Option<Credit>) -> Course {
        self.credit = credit.unwrap_or(self.credit);
        self.open = true;
        let epoch = self.report.origin_epoch;
        let newest = self
            .pushed
            .unwrap_or_default()
            .max(Position::new(epoch, self.report.last_origin_seq));
        self.drop_stored(stored);
        self.unsend();
        self.stored = self.stored.max(stored);
        if stored > newest {
            self.clear();
            self.pushed = Some(stored);
            return Course::Behind;
        }
        let first = self.items.iter().find_map(|item| match item {
            Item::Record {
                position, record, ..
            } => Some(follows(stored, *position, record)),
            Item::Content { .. } => None,
        });
        let stays = match (first, self.pushed) {
            (Some(follows), _) => follows,
            (None, Some(pushed)) => pushed == stored,
            (None, None) => false,
        };
        if stays {
            return Course::Stay;
        }
        self.clear();
        // Records of an older spool that were not stored come first.
        self.pushed = Some(stored);
        Course::Rewind(stored)
    }

    /// Everything up to `stored` is stored. False if that is nothing new.
    pub(super) fn ack(&mut self, stored: Position, credit: Credit) -> bool {
        self.credit = credit;
        if stored <= self.stored {
            return false;
        }
        self.stored = stored;
        self.drop_stored(stored);
        true
    }

    fn drop_stored(&mut self, stored: Position) {
        let through = self
            .items
            .iter()
            .rposition(|item| matches!(item, Item::Record { position, .. } if *position <= stored));
        for _ in 0..through.map_or(0, |index| index + 1) {
            let was_sent = self.sent > 0;
            self.sent = self.sent.saturating_sub(1);
            match self.items.pop_front() {
                Some(Item::Record { cost, .. }) => {
                    self.held = self.held.minus(cost);
                    if was_sent {
                        self.flying = self.flying.minus(cost);
                    }
                }
                Some(Item::Content {
                    data, sent, acked, ..
                }) => {
                    self.held.bytes = self.held.bytes.saturating_sub(data.len() as u64 - acked);
                    self.flying.bytes = self.flying.bytes.saturating_sub(sent - acked);
                }
                None => {}
            }
        }
        // A gap that the server stored may lie beyond what the pump has read.
        if let Some(pushed) = &mut self.pushed {
            *pushed = (*pushed).max(stored);
        }
        self.report.acked_origin_seq = match stored.origin_epoch == self.report.origin_epoch {
            true => self.report.acked_origin_seq.max(stored.origin_seq),
            false => self.report.acked_origin_seq,
        };
    }

    /// Content is staged up to an offset. False if there is no such content here.
    pub(super) fn content_ack(&mut self, ack: &ContentAck) -> bool {
        let Some(Item::Content {
            sha256,
            data,
            sent,
            acked,
        }) = self.items.get_mut(self.sent)
        else {
            return false;
        };
        let (next, size) = (ack.next_offset, data.len() as u64);
        if *sha256 != ack.sha256 || next > size {
            return false;
        }
        if next > *sent && next < size {
            // Said of pieces that were sent before the content began anew; the server takes none that skips.
            return false;
        }
        let (flew, was) = (*sent - *acked, *acked);
        *acked = next;
        // Whole content that the server had already is acknowledged at the first piece.
        *sent = match ack.resend {
            true => next,
            false => (*sent).max(next),
        };
        self.flying.bytes = (self.flying.bytes + (*sent - *acked)).saturating_sub(flew);
        self.held.bytes = (self.held.bytes + was).saturating_sub(next);
        if next == size {
            self.sent += 1;
        }
        true
    }

    /// Where the pump is; `None` while the server has not said on this link what it has.
    pub(super) fn position(&self) -> Option<Position> {
        self.pushed.filter(|_| self.open)
    }

    /// Takes the next record with its content; `false` if it is not the next one, and then nothing is taken.
    pub(super) fn push(
        &mut self,
        now: Timestamp,
        epoch: u64,
        record: Record,
        content: &[(String, Bytes)],
    ) -> bool {
        let position = Position::new(epoch, record.origin_seq);
        let Some(pushed) = self.pushed else {
            return false;
        };
        if !follows(pushed, position, &record) {
            return false;
        }
        // Empty content is known to everybody.
        for (sha256, data) in content.iter().filter(|(_, data)| !data.is_empty()) {
            self.held.bytes = self.held.bytes.saturating_add(data.len() as u64);
            self.items.push_back(Item::Content {
                sha256: sha256.clone(),
                data: data.clone(),
                sent: 0,
                acked: 0,
            });
        }
        self.pushed = Some(position);
        self.report.last_origin_seq = match self.report.origin_epoch == epoch {
            true => self.report.last_origin_seq.max(record.origin_seq),
            false => record.origin_seq,
        };
        self.report.origin_epoch = epoch;
        let cost = record.cost();
        self.held = self.held.plus(cost);
        self.items.push_back(Item::Record {
            position,
            previous: pushed,
            cost,
            record,
            since: now,
        });
        true
    }

    /// What to send next, when `link_flying` of `link_credit` is used on the whole link.
    pub(super) fn next(
        &mut self,
        now: Timestamp,
        limits: &DaemonLimits,
        link_flying: Credit,
        link_credit: Credit,
    ) -> Next {
        if !self.open {
            return Next::Nothing;
        }
        match self.items.get(self.sent) {
            None => Next::Nothing,
            Some(Item::Content { .. }) => self.next_chunk(limits, link_flying, link_credit),
            Some(Item::Record { since, .. }) => {
                let due = since.saturating_add(limits.batch_delay);
                if !self.flying.is_zero()
                    && now < due
                    && self.held.minus(self.flying).bytes < limits.batch_bytes
                {
                    return Next::Wait(due);
                }
                self.next_records(limits, link_flying, link_credit)
            }
        }
    }

    fn next_chunk(
        &mut self,
        limits: &DaemonLimits,
        link_flying: Credit,
        link_credit: Credit,
    ) -> Next {
        let Some(Item::Content {
            sha256, data, sent, ..
        }) = self.items.get_mut(self.sent)
        else {
            return Next::Nothing;
        };
        let size = data.len() as u64;
        let end = size.min(sent.saturating_add(limits.content_chunk_bytes.max(1) as u64));
        let cost = Credit {
            events: 0,
            bytes: end - *sent,
        };
        if cost.is_zero() || !self.credit.admits(self.flying, cost) {
            return Next::Nothing;
        }
        if !link_credit.admits(link_flying, cost) {
            return Next::LinkFull;
        }
        let offset = std::mem::replace(sent, end);
        self.flying = self.flying.plus(cost);
        let chunk = ContentChunk {
            session_id: self.report.session_id,
            sha256: sha256.clone(),
            size_bytes: size,
            offset,
            // Both ends lie within the data.
            data: data.slice(offset as usize..end as usize),
        };
        Next::Send(Up::ContentChunk(chunk), cost)
    }

    fn next_records(
        &mut self,
        limits: &DaemonLimits,
        link_flying: Credit,
        link_credit: Credit,
    ) -> Next {
        let mut records = Vec::new();
        let mut total = Credit::ZERO;
        let mut epoch = 0;
        let mut before = Position::default();
        let mut link_full = false;
        for item in self.items.iter().skip(self.sent) {
            let Item::Record {
                position,
                previous,
                cost,
                record,
                ..
            } = item
            else {
                break;
            };
            let first = records.is_empty();
            if (!first && position.origin_epoch != epoch)
                || total.bytes >= limits.batch_bytes
                || (!first && total.bytes.saturating_add(cost.bytes) > MAX_MESSAGE_BYTES)
                || !self.credit.admits(self.flying.plus(total), *cost)
            {
                break;
            }
            if !link_credit.admits(link_flying.plus(total), *cost) {
                link_full = first;
                break;
            }
            if first {
                (epoch, before) = (position.origin_epoch, *previous);
            }
            total = total.plus(*cost);
            records.push(record.clone());
        }
        if records.is_empty() {
            return match link_full {
                true => Next::LinkFull,
                false => Next::Nothing,
            };
        }
        self.sent += records.len();
        self.flying = self.flying.plus(total);
        let records = Records {
            session_id: self.session_id(),
            origin_epoch: epoch,
            previous: before,
            records,
        };
        Next::Send(Up::Records(records), total)
    }

    fn session_id(&self) -> SessionId {
        self.report.session_id
    }
}

/// Whether a record may come right after `last`: it is the next of the same spool, the first of a younger
/// one, or says what is missing between.
pub(super) fn follows(last: Position, position: Position, record: &Record) -> bool {
    if position <= last {
        return false;
    }
    // The first record of a younger spool may come whatever is left of the older one.
    let next = match position.origin_epoch == last.origin_epoch {
        true => last.origin_seq.saturating_add(1),
        false => 1,
    };
    position.origin_seq == next
        || record.gap.as_ref().is_some_and(|gap| {
            gap.from_origin_seq <= next
                && gap.to_origin_seq.checked_add(1) == Some(position.origin_seq)
        })
}
