//! Batches of events in a dialect's own form, made once for all readers that stand at the same place.
//!
//! A batch near the end of a log is the same piece of memory for every reader, so its address says which batch it is. What
//! was made of it is kept beside the batch, which keeps that address from meaning anything else; it goes when it is old, for a
//! reader that stands still comes for it once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::base::Result;
use crate::wire::EventBatch;

/// Bytes of batches that are kept; what is made of them is a few times as large.
const MAX_BYTES: usize = 512 << 10;
/// How long they are kept: readers that keep up come one after the other within milliseconds.
const MAX_AGE: Duration = Duration::from_millis(250);

/// What was made of batches lately.
pub struct Renderings<T> {
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    made: HashMap<Place, Arc<Made<T>>>,
    /// In the order in which they came.
    order: VecDeque<(Place, Instant)>,
    bytes: usize,
    /// Whether somebody lets go of what is old.
    has_job: bool,
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
            state: Arc::new(Mutex::new(State {
                made: HashMap::new(),
                order: VecDeque::new(),
                bytes: 0,
                has_job: false,
            })),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Renderings<T> {
    /// What `make` makes of a batch, or made of it a moment ago. Who wants the same batch meanwhile waits for it; nobody
    /// else does. Within a runtime: what is old goes by itself.
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
        state.order.push_back((place, Instant::now()));
        state.bytes += place.1;
        while state.bytes > MAX_BYTES && state.order.len() > 1 {
            state.pop();
        }
        if !std::mem::replace(&mut state.has_job, true) {
            tokio::spawn(let_go(Arc::downgrade(&self.state)));
        }
        made
    }
}

impl<T> State<T> {
    fn pop(&mut self) {
        if let Some((oldest, _)) = self.order.pop_front()
            && let Some(gone) = self.made.remove(&oldest)
        {
            self.bytes -= gone.batch.encoded().len();
        }
    }
}

/// Lets go of what is old, until there is nothing.
async fn let_go<T>(state: Weak<Mutex<State<T>>>) {
    loop {
        tokio::time::sleep(MAX_AGE).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = state.lock();
        while (state.order.front()).is_some_and(|(_, since)| since.elapsed() >= MAX_AGE) {
            state.pop();
        }
        if state.order.is_empty() {
            state.has_job = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;

    use super::*;
    use crate::base::Error;

    #[tokio::test]
    async fn a_batch_is_rendered_once_for_all_who_have_it() {
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

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_for_who_does_not_come() {
        let renderings = Renderings::default();
        for round in 0..2 {
            let batch = EventBatch::from_encoded(Bytes::from(vec![round; 1_000]));
            let made = Arc::new(());
            let kept = Arc::downgrade(&made);
            renderings.of(&batch, |_| Ok(made)).unwrap();
            tokio::time::sleep(MAX_AGE / 2).await;
            assert!(kept.upgrade().is_some());
            tokio::time::sleep(2 * MAX_AGE).await;
            assert!(kept.upgrade().is_none());
        }
        assert_eq!(renderings.state.lock().bytes, 0);
    }

    #[tokio::test]
    async fn it_stays_bounded_and_never_gives_what_was_made_of_another() {
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
