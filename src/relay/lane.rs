//! What waits to be done for the sessions of one link: in order within a session, side by side between
//! sessions. The bounds are those of `domain::link`, which drops or refuses before a lane grows.

use std::collections::{HashMap, VecDeque};

use crate::base::id::SessionId;
use crate::domain::CommandResult;
use crate::domain::link::{ContentChunk, Records, SessionReport};

/// Records of one session are stored together up to this many bytes.
const MAX_GROUP_BYTES: u64 = 1024 * 1024;
/// With so many bytes of records that wait, a session rests no longer.
const ENOUGH_BYTES: u64 = 64 * 1024;

/// Something to do for a session.
pub(super) enum Work {
    Records(Records),
    Content(ContentChunk),
    Result(CommandResult),
    Report(SessionReport),
}

impl Work {
    /// How many bytes of records it is; `None` if it is something that must not wait for more to come.
    fn patience(&self) -> Option<u64> {
        match self {
            Work::Records(records) => Some(size(records)),
            Work::Content(_) | Work::Result(_) | Work::Report(_) => None,
        }
    }
}

fn size(records: &Records) -> u64 {
    records.records.iter().map(|record| record.size_bytes).sum()
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Work>,
    state: State,
}

#[derive(Default, PartialEq, Eq)]
enum State {
    /// What waits is begun next.
    #[default]
    Open,
    /// Something is being done.
    Busy,
    /// Nothing is begun for a while, so that what comes is stored together.
    Resting {
        /// Which rest it is.
        turn: u64,
        /// Bytes of the records that wait.
        bytes: u64,
    },
}

/// The lanes of a link.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<SessionId, Lane>,
    /// Sessions that have work and nobody at it.
    ready: VecDeque<SessionId>,
    /// Grows with every rest.
    turn: u64,
}

impl Lanes {
    pub(super) fn push(&mut self, session: SessionId, work: Work) {
        let lane = self.lanes.entry(session).or_default();
        // Only the newest report counts.
        if let Work::Report(_) = work {
            lane.waiting.retain(|old| !matches!(old, Work::Report(_)));
        }
        let patience = work.patience();
        lane.waiting.push_back(work);
        match &mut lane.state {
            State::Open if lane.waiting.len() == 1 => self.ready.push_back(session),
            State::Open | State::Busy => {}
            State::Resting { bytes, .. } => {
                *bytes += patience.unwrap_or(ENOUGH_BYTES);
                if *bytes >= ENOUGH_BYTES {
                    lane.state = State::Open;
                    self.ready.push_back(session);
                }
            }
        }
    }

    /// Work of a session that has none going on; it is busy until [`Lanes::done`].
    pub(super) fn next(&mut self) -> Option<(SessionId, Work)> {
        while let Some(session) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&session) else {
                continue;
            };
            if lane.state != State::Open {
                continue;
            }
            let Some(work) = lane.waiting.pop_front() else {
                continue;
            };
            lane.state = State::Busy;
            return Some((session, gather(work, &mut lane.waiting)));
        }
        None
    }

    /// The session's work is done; `again` is done first if it is to be repeated.
    pub(super) fn done(&mut self, session: SessionId, again: Option<Work>) {
        let Some(lane) = self.lanes.get_mut(&session) else {
            return;
        };
        lane.state = State::Open;
        if let Some(work) = again {
            lane.waiting.push_front(work);
        }
        if lane.waiting.is_empty() {
            self.lanes.remove(&session);
        } else {
            self.ready.push_back(session);
        }
    }

    /// The session's work is done, and for a while nothing more is begun for it, unless enough waits or something does that
    /// is no record. Answers with the number of the rest, for [`Lanes::rested`]; `None` if there is none.
    pub(super) fn rest(&mut self, session: SessionId) -> Option<u64> {
        let lane = self.lanes.get_mut(&session)?;
        let bytes = lane
            .waiting
            .iter()
            .try_fold(0, |sum, work| Some(sum + work.patience()?))
            .filter(|bytes| *bytes < ENOUGH_BYTES);
        let Some(bytes) = bytes else {
            self.done(session, None);
            return None;
        };
        self.turn += 1;
        lane.state = State::Resting {
            turn: self.turn,
            bytes,
        };
        Some(self.turn)
    }

    /// A rest is over. One that was ended before is over already.
    pub(super) fn rested(&mut self, session: SessionId, turn: u64) {
        let state = self.lanes.get(&session).map(|lane| &lane.state);
        if matches!(state, Some(State::Resting { turn: this, .. }) if *this == turn) {
            self.done(session, None);
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
            lane.state == State::Busy
        });
    }
}

/// Joins records that follow, so that one commit takes them.
fn gather(work: Work, waiting: &mut VecDeque<Work>) -> Work {
    let Work::Records(mut group) = work else {
        return work;
    };
    let mut total = size(&group);
    while let Some(Work::Records(next)) = waiting.front() {
        let more = size(next);
        if next.origin_epoch != group.origin_epoch || total + more > MAX_GROUP_BYTES {
            break;
        }
        total += more;
        if let Some(Work::Records(next)) = waiting.pop_front() {
            group.records.extend(next.records);
        }
    }
    Work::Records(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::domain::link::{Position, Record};

    fn session() -> SessionId {
        SessionId::from_bits(1)
    }

    fn records(numbers: std::ops::RangeInclusive<u64>, bytes: u64) -> Work {
        let numbers_before = numbers.start() - 1;
        let records = numbers.map(|origin_seq| Record {
            origin_seq,
            events: Vec::new(),
            gap: None,
            time: Timestamp::default(),
            output: None,
            size_bytes: bytes,
        });
        Work::Records(Records {
            session_id: session(),
            origin_epoch: 1,
            previous: Position::new(1, numbers_before),
            records: records.collect(),
        })
    }

    fn report() -> Work {
        Work::Report(SessionReport {
            session_id: session(),
            origin_epoch: 1,
            last_origin_seq: 1,
            acked_origin_seq: 0,
            alive: true,
        })
    }

    /// The numbers of the records that are begun next; `None` if nothing is.
    fn next(lanes: &mut Lanes) -> Option<Vec<u64>> {
        match lanes.next()?.1 {
            Work::Records(group) => Some(
                group
                    .records
                    .iter()
                    .map(|record| record.origin_seq)
                    .collect(),
            ),
            _ => Some(Vec::new()),
        }
    }

    /// A session whose first record was stored, and which rests; and which rest that is.
    fn resting() -> (Lanes, u64) {
        let mut lanes = Lanes::default();
        lanes.push(session(), records(1..=1, 10));
        assert_eq!(next(&mut lanes), Some(vec![1]));
        lanes.push(session(), records(2..=2, 10));
        let turn = lanes.rest(session()).expect("little waits");
        (lanes, turn)
    }

    #[test]
    fn what_comes_during_a_rest_is_begun_together() {
        let (mut lanes, turn) = resting();
        lanes.push(session(), records(3..=3, 10));
        assert_eq!(next(&mut lanes), None);
        lanes.rested(session(), turn);
        assert_eq!(next(&mut lanes), Some(vec![2, 3]));
        let turn = lanes.rest(session()).expect("nothing waits");
        lanes.rested(session(), turn);
        assert!(
            lanes.lanes.is_empty(),
            "a session that is silent takes no room"
        );
    }

    #[test]
    fn enough_bytes_end_a_rest() {
        let (mut lanes, turn) = resting();
        lanes.push(session(), records(3..=3, ENOUGH_BYTES));
        assert_eq!(next(&mut lanes), Some(vec![2, 3]));
        // The old rest's end ends no other.
        let later = lanes.rest(session()).expect("nothing waits");
        lanes.push(session(), records(4..=4, 10));
        lanes.rested(session(), turn);
        assert_eq!(next(&mut lanes), None);
        lanes.rested(session(), later);
        assert_eq!(next(&mut lanes), Some(vec![4]));
        lanes.push(session(), records(5..=5, ENOUGH_BYTES));
        assert_eq!(lanes.rest(session()), None, "enough waits already");
        assert_eq!(next(&mut lanes), Some(vec![5]));
    }

    #[test]
    fn what_is_no_record_waits_for_nothing() {
        let (mut lanes, _) = resting();
        lanes.push(session(), report());
        assert_eq!(next(&mut lanes), Some(vec![2]));
        assert_eq!(lanes.rest(session()), None, "a report waits");
        assert_eq!(next(&mut lanes), Some(vec![]));
    }
}
