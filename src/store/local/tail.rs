//! Wake-ups and tails: for streams that somebody watches, and for no others.
//!
//! A watched stream keeps its newest chunks in memory, so that readers near the end never touch the disk.
//! Bounds: bytes a stream, and bytes over all; beyond them the oldest go, and readers find them in the
//! journal. A stream that nobody watches keeps nothing: it is forgotten at its next commit or a sweep.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Chunk, Stream};

/// So many readers make waking them cost more than what they read.
const MANY: usize = 16;
/// A stream that grows again so soon after its readers were woken is busy.
const SOON: Duration = Duration::from_millis(10);
/// With so many bytes that nobody was told of, readers are woken at once.
const ENOUGH_BYTES: usize = 64 << 10;

/// The watched streams.
#[derive(Debug)]
pub(super) struct Tails {
    stream_bytes: usize,
    total_bytes: usize,
    /// How long the news of a busy stream is gathered for its many readers; zero tells each at once.
    gather: Duration,
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
    /// Streams whose readers are to be woken, and when. In that order, since all wait equally long.
    held: VecDeque<(Instant, Stream)>,
}

#[derive(Debug)]
struct Tail {
    wake: watch::Sender<u64>,
    /// When its readers were woken last.
    woken: Option<Instant>,
    /// The last seq that they are to be told, while that is held.
    held: Option<u64>,
    /// Bytes that came since, and in how many chunks.
    untold: usize,
    untold_chunks: usize,
    log_epoch: u64,
    chunks: VecDeque<Chunk>,
    bytes: usize,
    turn: u64,
}

impl Tail {
    fn clear(&mut self) -> usize {
        self.chunks = VecDeque::new();
        self.untold_chunks = 0;
        std::mem::take(&mut self.bytes)
    }

    fn tell(&mut self, last_seq: u64, now: Instant) {
        self.join();
        self.wake.send_replace(last_seq);
        self.woken = Some(now);
        self.held = None;
        (self.untold, self.untold_chunks) = (0, 0);
    }

    /// Makes one chunk of those that nobody was told of: once here, instead of a message of each for each reader.
    fn join(&mut self) {
        let count = self.untold_chunks.min(self.chunks.len());
        if count < 2 {
            return;
        }
        let parts = self.chunks.split_off(self.chunks.len() - count);
        let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.bytes.len()).sum());
        for part in &parts {
            bytes.extend_from_slice(&part.bytes);
        }
        // There are two or more.
        if let (Some(first), Some(last)) = (parts.front(), parts.back()) {
            self.chunks.push_back(Chunk {
                first_seq: first.first_seq,
                last_seq: last.last_seq,
                bytes: bytes.freeze(),
            });
        }
    }

    /// Whether its readers hear of this a little later, together with what comes until then.
    fn is_busy(&self, now: Instant) -> bool {
        self.untold < ENOUGH_BYTES
            && self.woken.is_some_and(|woken| now < woken + SOON)
            && self.wake.receiver_count() >= MANY
    }
}

impl Tails {
    /// Keeps at most `stream_bytes` of a stream and `total_bytes` over all, and holds the news of a busy stream with
    /// many readers for `gather`.
    pub(super) fn new(stream_bytes: usize, total_bytes: usize, gather: Duration) -> Self {
        Tails {
            stream_bytes,
            total_bytes,
            gather,
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
            woken: None,
            held: None,
            untold: 0,
            untold_chunks: 0,
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
        tail.untold += entries.len();
        tail.untold_chunks += 1;
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

    /// Wakes the readers of a stream, at once or, if it is busy and they are many, when it is due; [`Tails::release`] does
    /// that. What they read is there at once all the same: who is not waiting reads on.
    pub(super) fn wake(&self, stream: &Stream, last_seq: u64, now: Instant) {
        let mut state = self.state.lock();
        let Some(tail) = state.tails.get_mut(stream) else {
            return;
        };
        if tail.held.is_some() && tail.untold < ENOUGH_BYTES {
            tail.held = Some(last_seq);
        } else if !self.gather.is_zero() && tail.is_busy(now) {
            tail.held = Some(last_seq);
            state.held.push_back((now + self.gather, stream.clone()));
        } else {
            tail.tell(last_seq, now);
        }
    }

    /// Wakes the readers whose time has come; when the next ones' comes.
    pub(super) fn release(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        loop {
            let (due, _) = state.held.front()?;
            if *due > now {
                return Some(*due);
            }
            let (_, stream) = state.held.pop_front()?;
            if let Some(tail) = state.tails.get_mut(&stream)
                && let Some(last_seq) = tail.held
            {
                tail.tell(last_seq, now);
            }
        }
    }

    /// Lets go of a stream's chunks: it was dropped.
    pub(super) fn forget(&self, stream: &Stream) {
        let mut state = self.state.lock();
        if let Some(tail) = state.tails.get_mut(stream) {
            let freed = tail.clear();
            (tail.held, tail.untold) = (None, 0);
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

    const GATHER: Duration = Duration::from_millis(5);

    fn stream(n: usize) -> Stream {
        Stream::new(&format!("s{n}")).expect("a valid name")
    }

    #[test]
    fn the_news_of_a_busy_stream_is_gathered_for_many_readers() {
        let tails = Tails::new(1 << 20, 1 << 20, GATHER);
        let name = stream(1);
        let readers: Vec<_> = (0..MANY).map(|_| tails.watch(&name, || 0)).collect();
        let told = || *readers[0].borrow();
        let begin = Instant::now();
        let at = |micros| begin + Duration::from_micros(micros);
        let add = |seq, bytes: usize, now| {
            tails.push(&name, 1, seq, seq, &vec![0; bytes]);
            tails.wake(&name, seq, now);
        };
        add(1, 10, at(0));
        assert_eq!(told(), 1, "the first is told at once");
        add(2, 10, at(500));
        add(3, 10, at(1_000));
        assert_eq!((told(), tails.release(at(1_000))), (1, Some(at(5_500))));
        // It can be read before anybody is told, and is one chunk when they are.
        assert_eq!(tails.read(&name, 1, 2, 100).unwrap().len(), 2);
        assert_eq!((tails.release(at(5_500)), told()), (None, 3));
        let chunks = tails.read(&name, 1, 2, 100).unwrap();
        let place = |chunk: &Chunk| (chunk.first_seq, chunk.last_seq, chunk.bytes.len());
        assert_eq!(chunks.iter().map(place).collect::<Vec<_>>(), [(2, 3, 20)]);

        add(4, 10, at(6_000));
        assert_eq!(told(), 3, "still busy");
        add(5, ENOUGH_BYTES, at(6_100));
        assert_eq!(told(), 5, "so much is not held");
        add(6, 10, at(17_000));
        assert_eq!(told(), 6, "no longer busy");
    }

    #[test]
    fn few_readers_are_told_at_once() {
        let tails = Tails::new(1 << 20, 1 << 20, GATHER);
        let name = stream(1);
        let reader = tails.watch(&name, || 0);
        let now = Instant::now();
        for seq in 1..=3 {
            tails.push(&name, 1, seq, seq, b"x");
            tails.wake(&name, seq, now);
            assert_eq!(*reader.borrow(), seq);
        }
        let eager = Tails::new(1 << 20, 1 << 20, Duration::ZERO);
        let readers: Vec<_> = (0..MANY).map(|_| eager.watch(&name, || 0)).collect();
        for seq in 1..=3 {
            eager.push(&name, 1, seq, seq, b"x");
            eager.wake(&name, seq, now);
            assert_eq!(*readers[0].borrow(), seq);
        }
    }

    #[test]
    fn an_unwatched_stream_keeps_nothing() {
        let tails = Tails::new(1000, 10_000, GATHER);
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
        let tails = Tails::new(1000, 10_000, GATHER);
        for n in 0..10_000 {
            drop(tails.watch(&stream(n), || 0));
        }
        assert!(tails.size().0 <= 64, "{:?}", tails.size());
    }

    #[test]
    fn bytes_stay_below_both_bounds() {
        let tails = Tails::new(1000, 5000, GATHER);
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
