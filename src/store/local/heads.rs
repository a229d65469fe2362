//! Heads of the streams that were written lately. Only the writer puts heads in, so a reader that found
//! an older one in the index can never undo a newer one here.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::store::{Head, Stream};

/// Bounded in entries: two generations, of which the older is let go when the younger is full.
#[derive(Debug)]
pub(super) struct Heads {
    capacity: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Stream, Option<Head>>,
    old: HashMap<Stream, Option<Head>>,
}

impl Heads {
    /// Keeps at least `capacity` heads, at most twice as many.
    pub(super) fn new(capacity: usize) -> Self {
        Heads {
            capacity: capacity.max(1),
            generations: Mutex::default(),
        }
    }

    /// What is known: `None` nothing, `Some(None)` there is no such stream.
    pub(super) fn get(&self, stream: &Stream) -> Option<Option<Head>> {
        let generations = self.generations.lock();
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
