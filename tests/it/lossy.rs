//! The store in memory loses in a crash whatever was not synced, as a disk does in a power cut; so what the store
//! promises of crashes is held to random schedules in milliseconds: D1, D3, D5 and D7.

use std::sync::Arc;

use baton::base::Timestamp;
use baton::base::clock::ManualClock;
use baton::store::conformance::{self, entries, read_all, rounds, stream};
use baton::store::memory::{MemoryStore, Sync};
use baton::store::{Append, Commit, Committed, Error, Journal as _, Result, SharedStore, Trim};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::history::{Fact, History, hash, validate};

/// Streams that are written at once.
const STREAMS: usize = 2;

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    /// Hands over a commit with so many entries, and with a trim of so many.
    Commit {
        stream: usize,
        count: u64,
        trim: u64,
    },
    /// The disk syncs some commits.
    Sync(usize),
    /// A reader reads at most so many bytes.
    Read { stream: usize, bytes: usize },
    /// A reader forgets its stream and comes back where it was.
    Reopen { stream: usize },
    /// The power is cut, after so many more syncs of which nobody hears.
    Crash { kept: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let of = 0..STREAMS;
    let step = prop_oneof![
        5 => (of.clone(), 1..4_u64, prop_oneof![4 => Just(0), 1 => 1..4_u64])
            .prop_map(|(stream, count, trim)| Step::Commit { stream, count, trim }),
        3 => (1..4_usize).prop_map(Step::Sync),
        4 => (of.clone(), 1..200_usize).prop_map(|(stream, bytes)| Step::Read { stream, bytes }),
        1 => of.prop_map(|stream| Step::Reopen { stream }),
        1 => (0..3_usize).prop_map(|kept| Step::Crash { kept }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// A commit that was handed over, and what it says of its stream.
struct Waiting {
    answer: BoxFuture<'static, Result<Committed>>,
    stream: usize,
    first: u64,
    hashes: Vec<u64>,
}

/// A reader of a stream.
#[derive(Clone, Copy, Default)]
struct Place {
    at: u64,
    is_open: bool,
}

struct World {
    history: History,
    store: Arc<MemoryStore>,
    waiting: Vec<Waiting>,
    /// The last entry of each stream that was handed over.
    last: [u64; STREAMS],
    readers: [Place; STREAMS],
    made: u64,
    /// Whether commits are acknowledged when they are handed over: what must not be.
    is_hasty: bool,
}

fn name(stream: usize) -> String {
    format!("lossy/{stream}")
}

impl World {
    fn new(is_hasty: bool) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        World {
            history: History::in_memory("lossy"),
            store: Arc::new(MemoryStore::new(clock, Sync::Manual)),
            waiting: Vec::new(),
            last: [0; STREAMS],
            readers: [Place::default(); STREAMS],
            made: 0,
            is_hasty,
        }
    }

    fn tell(&self, who: &str, fact: Fact) {
        self.history.note(who, fact);
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Commit {
                stream,
                count,
                trim,
            } => self.commit(stream, count, trim).await,
            Step::Sync(count) => {
                self.store.sync_some(count);
                self.hear();
            }
            Step::Read { stream, bytes } => self.read(stream, bytes).await,
            Step::Reopen { stream } => self.readers[stream].is_open = false,
            Step::Crash { kept } => self.crash(kept).await,
        }
    }

    async fn commit(&mut self, at: usize, count: u64, trim: u64) {
        let head = self.store.head(&stream(&name(at))).await.unwrap();
        let trim = head.filter(|_| trim > 0).map(|head| Trim {
            stream: stream(&name(at)),
            first_seq: (head.first_seq + trim).min(head.last_seq + 1),
            drop: false,
        });
        if let Some(trim) = &trim {
            let first = trim.first_seq;
            let log = name(at);
            self.tell("writer", Fact::Trimmed { log, first });
        }
        let expected_last = self.last[at];
        self.last[at] += count;
        let mut entry = || {
            self.made += 1;
            Bytes::from(format!("entry {} of {at}", self.made))
        };
        let entries: Vec<Bytes> = (0..count).map(|_| entry()).collect();
        let hashes = entries.iter().map(|entry| hash(&entry[..])).collect();
        let first = expected_last + 1;
        let sent = Fact::Sent {
            log: name(at),
            first,
            last: self.last[at],
        };
        self.tell("writer", sent);
        let commit = Commit {
            appends: vec![Append {
                stream: stream(&name(at)),
                expected_last,
                fence: 0,
                entries: entries.into(),
                origin: None,
                time: Timestamp::EPOCH,
            }],
            ops: Vec::new(),
            trims: trim.into_iter().collect(),
        };
        let store = self.store.clone();
        let mut answer = async move { store.commit(commit).await }.boxed();
        let at_once = (&mut answer).now_or_never();
        assert!(at_once.is_none(), "answered before a sync: {at_once:?}");
        self.waiting.push(Waiting {
            answer,
            stream: at,
            first,
            hashes,
        });
        if self.is_hasty {
            self.acknowledge(self.waiting.len() - 1);
        }
    }

    fn acknowledge(&self, index: usize) {
        let Waiting {
            stream,
            first,
            hashes,
            ..
        } = &self.waiting[index];
        let acked = Fact::Acked {
            log: name(*stream),
            first: *first,
            hashes: hashes.clone(),
        };
        self.tell("store", acked);
    }

    /// Hears what was answered.
    fn hear(&mut self) {
        let mut index = 0;
        while index < self.waiting.len() {
            match (&mut self.waiting[index].answer).now_or_never() {
                None => index += 1,
                Some(answer) => {
                    if answer.is_ok() {
                        self.acknowledge(index);
                    }
                    self.waiting.remove(index);
                }
            }
        }
    }

    async fn read(&mut self, at: usize, bytes: usize) {
        let (log, who) = (name(at), format!("reader of {at}"));
        let mut place = self.readers[at];
        if !place.is_open {
            let (log, after) = (log.clone(), place.at);
            self.tell(&who, Fact::Opened { log, after });
            place.is_open = true;
        }
        match self.store.read(&stream(&log), place.at, bytes).await {
            Ok(chunks) => {
                for (seq, entry) in (place.at + 1..).zip(entries(place.at, &chunks)) {
                    let (log, hash) = (log.clone(), hash(&entry[..]));
                    self.tell(&who, Fact::Saw { log, seq, hash });
                    place.at = seq;
                }
                let seq = place.at;
                self.tell(&who, Fact::ReadTo { log, seq });
            }
            Err(Error::Truncated { head, .. }) => {
                let oldest = head.first_seq;
                self.tell(&who, Fact::Truncated { log, oldest });
                place.at = oldest - 1;
                // What was before is not missed: a new place, of which it was told.
                place.is_open = true;
            }
            Err(Error::NoStream { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        self.readers[at] = place;
    }

    async fn crash(&mut self, kept: usize) {
        self.store.sync_some(kept);
        self.store = Arc::new(self.store.crash());
        self.tell("test", Fact::killed("store"));
        // Nobody hears what was synced in that moment.
        self.waiting.clear();
        self.look().await;
    }

    /// Reads everything there is.
    async fn look(&mut self) {
        let shared: SharedStore = self.store.clone();
        for at in 0..STREAMS {
            self.readers[at].is_open = false;
            let stream = stream(&name(at));
            let head = self.store.head(&stream).await.unwrap();
            let (epoch, first, last) = head.map_or((1, 1, 0), |head| {
                (head.log_epoch, head.first_seq, head.last_seq)
            });
            self.last[at] = last;
            let found = match head {
                Some(_) => read_all(&shared, &stream, first - 1, 1_000).await.unwrap(),
                None => Vec::new(),
            };
            assert_eq!(found.len() as u64, last + 1 - first);
            let stored = Fact::Stored {
                log: name(at),
                epoch,
                first,
                hashes: found.iter().map(|entry| hash(&entry[..])).collect(),
            };
            self.tell("store", stored);
        }
    }
}

/// What a schedule breaks.
fn run(steps: &[Step], is_hasty: bool) -> Vec<String> {
    let world = async {
        let mut world = World::new(is_hasty);
        for step in steps {
            world.step(step).await;
        }
        world.crash(0).await;
        world
    };
    let world = world.now_or_never().expect("it waits for nobody");
    validate::all(&world.history.lines())
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn what_was_acknowledged_or_seen_outlives_any_power_cut() {
    let held = runner(rounds(256)).run(&steps(), |steps| {
        let broken = run(&steps, false);
        prop_assert!(broken.is_empty(), "{}", broken.join("\n"));
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}

/// The schedules would find it out: a commit is acknowledged, and then lost.
#[test]
fn a_store_that_acknowledged_before_its_sync_would_be_found_out() {
    let held = runner(256).run(&steps(), |steps| {
        let broken = run(&steps, true);
        prop_assert!(broken.is_empty(), "{}", broken.join("\n"));
        Ok(())
    });
    let proptest::test_runner::TestError::Fail(why, steps) = held.expect_err("it is found out")
    else {
        panic!("it gave up");
    };
    assert!(why.message().starts_with("D1 acknowledged"), "{why}");
    let is_commit = |step: &Step| matches!(step, Step::Commit { .. });
    assert!(steps.iter().any(is_commit), "{steps:?}");
}

/// A store of which only what was synced survives, as a provider of the conformance suite: every call is followed by the
/// sync that answers it, and every restart is a power cut.
struct Lossy {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
}

impl conformance::Provider for Lossy {
    fn store(&self) -> SharedStore {
        self.store.clone()
    }

    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    fn reopen(&mut self) -> BoxFuture<'_, ()> {
        self.crash()
    }

    fn crash(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // What waits when the power is cut was not acknowledged; nothing of it may be found.
            self.store.set_sync(Sync::Manual);
            let stream = stream("lost");
            let commit = Commit {
                appends: vec![Append {
                    stream: stream.clone(),
                    expected_last: 0,
                    fence: 0,
                    entries: vec![Bytes::from_static(b"lost")].into(),
                    origin: None,
                    time: Timestamp::EPOCH,
                }],
                ..Commit::default()
            };
            let store = self.store.clone();
            let mut lost = async move { store.commit(commit).await }.boxed();
            assert!((&mut lost).now_or_never().is_none());
            self.store = Arc::new(self.store.crash());
            assert!(lost.await.is_err());
            self.store.set_sync(Sync::Immediate);
            assert_eq!(self.store.head(&stream).await, Ok(None));
        })
    }
}

#[tokio::test]
async fn the_lossy_store_keeps_every_promise() {
    let factory = || {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let store = MemoryStore::new(clock.clone(), Sync::Immediate);
        let store = Arc::new(store);
        Box::new(Lossy { store, clock }) as Box<dyn conformance::Provider>
    };
    conformance::run(&factory).await;
}
