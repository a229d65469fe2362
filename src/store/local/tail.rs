//! Wake-ups and tails: for streams that somebody watches, and for no others.
//!
//! A watched stream keeps its newest chunks in memory, so that readers near the end never touch the disk.
//! Bounds: bytes a stream, and bytes over all; beyond them the oldest go, and readers find them in the
//! journal. A stream that nobody watches keeps nothing: it is forgotten at its next commit or a sweep.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Chunk, Stream};

/// The watched streams.
#[derive(Debug)]
pub(super) struct Tails {
    stream_bytes: usize,
    total_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tails: HashMap<Stream, Tail>,
    /// Bytes over all tails.
    bytes: usize,
    /// How many tails may there be before the next sweep.
    sweep_at: usize,
    /// Grows with every chunk; tells which tail was written last.
    turn: u64,
}

#[derive(Debug)]
struct Tail {
    wake: watch::Sender<u64>,
    log_epoch: u64,
    chunks: VecDeque<Chunk>,
    bytes: usize,
    turn: u64,
}

impl Tail {
    fn clear(&mut self) -> usize {
        self.chunks = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }
}

impl Tails {
    /// Keeps at most `stream_bytes` of a stream and `total_bytes` over all.
    pub(super) fn new(stream_bytes: usize, total_bytes: usize) -> Self {
        Tails {
            stream_bytes,
            total_bytes,
            state: Mutex::default(),
        }
    }

    /// A wake-up for a stream whose last seq `last_seq` tells. It is asked for after the watch exists, so
    /// that no growth falls between.
    pub(super) fn watch(
        &self,
        stream: &Stream,
        last_seq: impl FnOnce() -> u64,
    ) -> watch::Receiver<u64> {
        let mut state = self.state.lock();
        if let Some(tail) = state.tails.get(stream) {
            return tail.wake.subscribe();
        }
        if state.tails.len() >= state.sweep_at {
            state.sweep();
        }
        let (wake, receiver) = watch::channel(0);
        let tail = Tail {
            wake: wake.clone(),
            log_epoch: 0,
            chunks: VecDeque::new(),
            bytes: 0,
            turn: 0,
        };
        state.tails.insert(stream.clone(), tail);
        drop(state);
        let last_seq = last_seq();
        wake.send_if_modified(|seq| {
            *seq = (*seq).max(last_seq);
            false
        });
        receiver
    }

    /// Adds entries of a commit, if somebody watches the stream. Readers are not woken yet.
    pub(super) fn push(
        &self,
        stream: &Stream,
        log_epoch: u64,
        first_seq: u64,
        last_seq: u64,
        entries: &[u8],
    ) {
        let mut state = self.state.lock();
        state.turn += 1;
        let turn = state.turn;
        let Some(tail) = state.tails.get_mut(stream) else {
            return;
        };
        if tail.wake.receiver_count() == 0 {
            let freed = tail.clear();
            state.bytes -= freed;
            state.tails.remove(stream);
            return;
        }
        let mut freed = 0;
        let follows = tail
            .chunks
            .back()
            .is_none_or(|last| last.last_seq + 1 == first_seq);
        if tail.log_epoch != log_epoch || !follows {
            freed += tail.clear();
            tail.log_epoch = log_epoch;
        }
        tail.turn = turn;
        if entries.len() > self.stream_bytes {
            freed += tail.clear();
            state.bytes -= freed;
            return;
        }
        // A copy, so that a small tail does not keep a whole group of commits alive.
        tail.chunks.push_back(Chunk {
            first_seq,
            last_seq,
            bytes: Bytes::copy_from_slice(entries),
        });
        tail.bytes += entries.len();
        while tail.bytes > self.stream_bytes
            && let Some(chunk) = tail.chunks.pop_front()
        {
            tail.bytes -= chunk.bytes.len();
            freed += chunk.bytes.len();
        }
        state.bytes = state.bytes + entries.len() - freed;
        if state.bytes > self.total_bytes {
            state.shrink(self.total_bytes / 4 * 3);
        }
    }

    /// Wakes the readers of a stream.
    pub(super) fn wake(&self, stream: &Stream, last_seq: u64) {
        if let Some(tail) = self.state.lock().tails.get(stream) {
            tail.wake.send_replace(last_seq);
        }
    }

    /// How many watch a stream.
    pub(super) fn readers(&self, stream: &Stream) -> usize {
        let state = self.state.lock();
        state
            .tails
            .get(stream)
            .map_or(0, |tail| tail.wake.receiver_count())
    }

    /// Lets go of a stream's chunks: it was dropped.
    pub(super) fn forget(&self, stream: &Stream) {
        let mut state = self.state.lock();
        if let Some(tail) = state.tails.get_mut(stream) {
            let freed = tail.clear();
            tail.wake.send_replace(0);
            state.bytes -= freed;
        }
    }

    /// Chunks from `from_seq` on, up to `max_bytes` (at least one), if the tail reaches back that far. It may be ahead of a
    /// head that was looked up before: what is here is committed.
    pub(super) fn read(
        &self,
        stream: &Stream,
        log_epoch: u64,
        from_seq: u64,
        max_bytes: usize,
    ) -> Option<Vec<Chunk>> {
        let state = self.state.lock();
        let tail = state.tails.get(stream)?;
        let is_here = tail.log_epoch == log_epoch && tail.chunks.front()?.first_seq <= from_seq;
        if !is_here {
            return None;
        }
        let at = tail
            .chunks
            .partition_point(|chunk| chunk.last_seq < from_seq);
        let mut chunks = Vec::new();
        let mut bytes = 0;
        for chunk in tail.chunks.range(at..) {
            if bytes >= max_bytes && !chunks.is_empty() {
                break;
            }
            bytes += chunk.bytes.len();
            chunks.push(chunk.clone());
        }
        (!chunks.is_empty()).then_some(chunks)
    }

    /// Streams that are kept, and bytes of their chunks.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.tails.len(), state.bytes)
    }
}

impl State {
    /// Forgets the streams that nobody watches any more.
    fn sweep(&mut self) {
        let mut freed = 0;
        self.tails.retain(|_, tail| {
            let is_watched = tail.wake.receiver_count() > 0;
            if !is_watched {
                freed += tail.bytes;
            }
            is_watched
        });
        self.bytes -= freed;
        self.sweep_at = (self.tails.len() * 2).max(64);
    }

    /// Lets go of chunks until `target` bytes are left: unwatched streams first, then those that were
    /// written longest ago.
    fn shrink(&mut self, target: usize) {
        self.sweep();
        let mut turns: Vec<u64> = self
            .tails
            .values()
            .filter(|tail| tail.bytes > 0)
            .map(|tail| tail.turn)
            .collect();
        turns.sort_unstable();
        // Half of the streams at a time until it fits; a few rounds at most.
        let mut kept = &turns[..];
        while self.bytes > target && !kept.is_empty() {
            let middle = kept[kept.len() / 2];
            kept = &kept[kept.len() / 2 + 1..];
            for tail in self.tails.values_mut().filter(|tail| tail.turn <= middle) {
                self.bytes -= tail.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(n: usize) -> Stream {
        Stream::new(&format!("s{n}")).expect("a valid name")
    }

    #[test]
    fn an_unwatched_stream_keeps_nothing() {
        let tails = Tails::new(1000, 10_000);
        tails.push(&stream(1), 1, 1, 1, b"abc");
        assert_eq!(tails.size(), (0, 0));
        let watch = tails.watch(&stream(1), || 1);
        tails.push(&stream(1), 1, 2, 2, b"abc");
        assert_eq!(tails.size(), (1, 3));
        drop(watch);
        tails.push(&stream(1), 1, 3, 3, b"abc");
        assert_eq!(tails.size(), (0, 0));
    }

    #[test]
    fn watches_that_ended_are_swept() {
        let tails = Tails::new(1000, 10_000);
        for n in 0..10_000 {
            drop(tails.watch(&stream(n), || 0));
        }
        assert!(tails.size().0 <= 64, "{:?}", tails.size());
    }

    #[test]
    fn bytes_stay_below_both_bounds() {
        let tails = Tails::new(1000, 5000);
        let watches: Vec<_> = (0..20).map(|n| tails.watch(&stream(n), || 0)).collect();
        for seq in 1..=50 {
            for n in 0..watches.len() {
                tails.push(&stream(n), 1, seq, seq, &[7; 100]);
                assert!(tails.size().1 <= 5000);
            }
        }
        // The stream written last still has its end.
        let chunks = tails.read(&stream(19), 1, 50, 1).expect("the newest chunk");
        assert_eq!(chunks[0].first_seq, 50);
        assert!(tails.read(&stream(19), 2, 50, 1).is_none(), "another epoch");
        assert!(tails.read(&stream(19), 1, 1, 1).is_none(), "too far back");
    }
}
