//! Heads of the streams that were written lately. Only the writer puts heads in, so a reader that found
//! an older one in the index can never undo a newer one here.
//!
//! A commit changes records, in the index, and heads, here. Whoever has seen the one must see the other, in
//! whichever order it asks: so the heads of such a commit are held while the index takes its records, and who
//! asks for one of them waits until the commit is there whole.

use std::collections::{HashMap, HashSet};

use parking_lot::{Condvar, Mutex};

use crate::store::{Head, Stream};

/// Bounded in entries: two generations, of which the older is let go when the younger is full.
#[derive(Debug)]
pub(super) struct Heads {
    capacity: usize,
    generations: Mutex<Generations>,
    let_go: Condvar,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Stream, Option<Head>>,
    old: HashMap<Stream, Option<Head>>,
    /// Streams whose heads are about to change.
    held: HashSet<Stream>,
}

/// The heads of a group of commits, which nobody reads until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Held<'a>(&'a Heads);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.generations.lock().held.clear();
        self.0.let_go.notify_all();
    }
}

impl Heads {
    /// Keeps at least `capacity` heads, at most twice as many.
    pub(super) fn new(capacity: usize) -> Self {
        Heads {
            capacity: capacity.max(1),
            generations: Mutex::default(),
            let_go: Condvar::new(),
        }
    }

    /// Has everybody wait who asks for the head of one of these. For the writer, which holds one group at a time, and
    /// no longer than the index takes for a batch.
    pub(super) fn hold(&self, streams: impl IntoIterator<Item = Stream>) -> Held<'_> {
        self.generations.lock().held.extend(streams);
        Held(self)
    }

    /// What is known: `None` nothing, `Some(None)` there is no such stream. Waits while the head is held.
    pub(super) fn get(&self, stream: &Stream) -> Option<Option<Head>> {
        let mut generations = self.generations.lock();
        while generations.held.contains(stream) {
            self.let_go.wait(&mut generations);
        }
        generations
            .young
            .get(stream)
            .or_else(|| generations.old.get(stream))
            .copied()
    }

    /// Notes a head; `None`: the stream was dropped.
    pub(super) fn put(&self, stream: &Stream, head: Option<Head>) {
        let mut generations = self.generations.lock();
        generations.young.insert(stream.clone(), head);
        if generations.young.len() >= self.capacity {
            generations.old = std::mem::take(&mut generations.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_newest_and_stays_bounded() {
        let heads = Heads::new(10);
        let stream = |n: usize| Stream::new(&format!("s{n}")).expect("a valid name");
        for n in 0..1000 {
            heads.put(&stream(n), None);
        }
        assert!((990..1000).all(|n| heads.get(&stream(n)).is_some()));
        assert!(
            (0..1000)
                .filter(|n| heads.get(&stream(*n)).is_some())
                .count()
                <= 20
        );
    }
}
