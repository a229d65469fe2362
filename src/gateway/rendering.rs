//! Batches of events in a dialect's own form, made once for all readers that stand at the same place.
//!
//! A batch near the end of a log is the same piece of memory for every reader, so its address says which batch it is. What
//! was made of it is kept beside the batch, which keeps that address from meaning anything else; the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::base::Result;
use crate::wire::EventBatch;

/// Bytes of batches that are kept; what is made of them is a few times as large.
const MAX_BYTES: usize = 2 << 20;

/// What was made of batches lately.
pub struct Renderings<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    made: HashMap<Place, Arc<Made<T>>>,
    /// In the order in which they came.
    order: VecDeque<Place>,
    bytes: usize,
}

/// Where a batch lies in memory, and how long it is.
type Place = (usize, usize);

struct Made<T> {
    // Keeps its place its own.
    batch: EventBatch,
    value: OnceLock<Result<T>>,
}

impl<T> Default for Renderings<T> {
    fn default() -> Self {
        Renderings {
            state: Mutex::new(State {
                made: HashMap::new(),
                order: VecDeque::new(),
                bytes: 0,
            }),
        }
    }
}

impl<T: Clone> Renderings<T> {
    /// What `make` makes of a batch, or made of it a moment ago. Who wants the same batch meanwhile waits for it; nobody
    /// else does.
    pub fn of(&self, batch: &EventBatch, make: impl FnOnce(&EventBatch) -> Result<T>) -> Result<T> {
        let made = self.entry(batch);
        made.value.get_or_init(|| make(batch)).clone()
    }

    fn entry(&self, batch: &EventBatch) -> Arc<Made<T>> {
        let place = (batch.encoded().as_ptr() as usize, batch.encoded().len());
        let mut state = self.state.lock();
        if let Some(made) = state.made.get(&place) {
            return made.clone();
        }
        let made = Arc::new(Made {
            batch: batch.clone(),
            value: OnceLock::new(),
        });
        state.made.insert(place, made.clone());
        state.order.push_back(place);
        state.bytes += place.1;
        while state.bytes > MAX_BYTES
            && state.order.len() > 1
            && let Some(oldest) = state.order.pop_front()
        {
            if let Some(gone) = state.made.remove(&oldest) {
                state.bytes -= gone.batch.encoded().len();
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;

    use super::*;
    use crate::base::Error;

    #[test]
    fn a_batch_is_rendered_once_for_all_who_have_it() {
        let renderings = Renderings::default();
        let times = Cell::new(0);
        let make = |batch: &EventBatch| {
            times.set(times.get() + 1);
            Ok(batch.encoded().len())
        };
        let batch = EventBatch::from_encoded(Bytes::from(vec![1; 10]));
        for _ in 0..3 {
            assert_eq!(renderings.of(&batch.clone(), make).unwrap(), 10);
        }
        assert_eq!(times.get(), 1);
        // A part of it is another batch, and so is one that says the same elsewhere.
        let part = EventBatch::from_encoded(batch.encoded().slice(..5));
        assert_eq!(renderings.of(&part, make).unwrap(), 5);
        let twin = EventBatch::from_encoded(Bytes::from(vec![1; 10]));
        assert_eq!(renderings.of(&twin, make).unwrap(), 10);
        assert_eq!(times.get(), 3);
        let refused = EventBatch::from_encoded(Bytes::from(vec![2; 3]));
        let fail = |_: &EventBatch| Err(Error::internal("no"));
        assert!(renderings.of(&refused, fail).is_err());
    }

    #[test]
    fn it_stays_bounded_and_never_gives_what_was_made_of_another() {
        let renderings = Renderings::default();
        for n in 0..2_000_u32 {
            let batch = EventBatch::from_encoded(Bytes::from(vec![n as u8; 10_000]));
            // The allocator uses the same places again and again.
            assert_eq!(renderings.of(&batch, |_| Ok(n)).unwrap(), n);
        }
        let state = renderings.state.lock();
        assert!(state.bytes <= MAX_BYTES && state.made.len() == state.order.len());
    }
}
