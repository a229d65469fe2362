//! What waits to be done for the sessions of one link: in order within a session, side by side between
//! sessions. The bounds are those of `domain::link`, which drops or refuses before a lane grows.

use std::collections::{HashMap, VecDeque};

use crate::base::id::SessionId;
use crate::domain::CommandResult;
use crate::domain::link::{ContentChunk, Records, SessionReport};

/// Records of one session are stored together up to this many bytes.
const MAX_GROUP_BYTES: u64 = 1024 * 1024;

/// Something to do for a session.
pub(super) enum Work {
    Records(Records),
    Content(ContentChunk),
    Result(CommandResult),
    Report(SessionReport),
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Work>,
    busy: bool,
}

/// The lanes of a link.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<SessionId, Lane>,
    /// Sessions that have work and nobody at it.
    ready: VecDeque<SessionId>,
}

impl Lanes {
    pub(super) fn push(&mut self, session: SessionId, work: Work) {
        let lane = self.lanes.entry(session).or_default();
        // Only the newest report counts.
        if let Work::Report(_) = work {
            lane.waiting.retain(|old| !matches!(old, Work::Report(_)));
        }
        lane.waiting.push_back(work);
        if !lane.busy && lane.waiting.len() == 1 {
            self.ready.push_back(session);
        }
    }

    /// Work of a session that has none going on; it is busy until [`Lanes::done`].
    pub(super) fn next(&mut self) -> Option<(SessionId, Work)> {
        while let Some(session) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&session) else {
                continue;
            };
            if lane.busy {
                continue;
            }
            let Some(work) = lane.waiting.pop_front() else {
                continue;
            };
            lane.busy = true;
            return Some((session, gather(work, &mut lane.waiting)));
        }
        None
    }

    /// The session's work is done; `again` is done first if it is to be repeated.
    pub(super) fn done(&mut self, session: SessionId, again: Option<Work>) {
        let Some(lane) = self.lanes.get_mut(&session) else {
            return;
        };
        lane.busy = false;
        if let Some(work) = again {
            lane.waiting.push_front(work);
        }
        if lane.waiting.is_empty() {
            self.lanes.remove(&session);
        } else {
            self.ready.push_back(session);
        }
    }

    /// Drops the records and content that wait: they come again.
    pub(super) fn drop_records(&mut self, session: SessionId) {
        if let Some(lane) = self.lanes.get_mut(&session) {
            lane.waiting
                .retain(|work| matches!(work, Work::Result(_) | Work::Report(_)));
        }
    }

    /// Drops the pieces of content that wait: they come again.
    pub(super) fn drop_content(&mut self, session: SessionId) {
        if let Some(lane) = self.lanes.get_mut(&session) {
            lane.waiting
                .retain(|work| !matches!(work, Work::Content(_)));
        }
    }

    /// Drops everything that nobody is at.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.lanes.retain(|_, lane| {
            lane.waiting.clear();
            lane.busy
        });
    }
}

/// Joins records that follow, so that one commit takes them.
fn gather(work: Work, waiting: &mut VecDeque<Work>) -> Work {
    let Work::Records(mut group) = work else {
        return work;
    };
    let bytes = |records: &Records| records.records.iter().map(|r| r.size_bytes).sum::<u64>();
    let mut total = bytes(&group);
    while let Some(Work::Records(next)) = waiting.front() {
        let size = bytes(next);
        if next.origin_epoch != group.origin_epoch || total + size > MAX_GROUP_BYTES {
            break;
        }
        total += size;
        if let Some(Work::Records(next)) = waiting.pop_front() {
            group.records.extend(next.records);
        }
    }
    Work::Records(group)
}
