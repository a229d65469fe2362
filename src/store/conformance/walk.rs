//! A random walk, compared with a model that is nothing but maps.

use super::*;

/// All that a store says, to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Heads and entries.
    pub streams: BTreeMap<Stream, (Head, Vec<Bytes>)>,
    /// Records.
    pub records: BTreeMap<String, (u64, Bytes)>,
    /// Changes of records: key, revision, value.
    pub changes: Vec<(String, u64, Option<Bytes>)>,
}

/// Reads everything of a store.
pub async fn dump(store: &SharedStore) -> Dump {
    let mut streams = BTreeMap::new();
    for stream in store.streams(None, usize::MAX).await.expect("readable") {
        let head = store
            .head(&stream)
            .await
            .expect("readable")
            .expect("a listed stream has a head");
        let entries = read_all(store, &stream, head.first_seq - 1, 10_000)
            .await
            .expect("readable");
        assert_eq!(entries.len() as u64, head.last_seq + 1 - head.first_seq);
        streams.insert(stream, (head, entries));
    }
    let records = store.scan("", None, usize::MAX).await.expect("readable");
    let changes = store.changes("", 0, usize::MAX).await.expect("readable");
    Dump {
        streams,
        records: records
            .into_iter()
            .map(|record| (record.key, (record.revision, record.value)))
            .collect(),
        changes: changes
            .into_iter()
            .map(|change| (change.key, change.revision, change.value))
            .collect(),
    }
}

/// A step of a random walk.
#[derive(Clone, Debug)]
pub enum Step {
    /// Appends to a stream, at its end or elsewhere.
    Append {
        /// Which of a few streams.
        stream: u8,
        /// Entries.
        entries: Vec<u16>,
        /// How far off the expected end is.
        off: i8,
        /// Fence.
        fence: u8,
    },
    /// Changes a record.
    Put {
        /// Which of a few keys.
        key: u8,
        /// Size of the value; `None` deletes.
        size: Option<u32>,
        /// `Some(true)`: expects its revision; `Some(false)`: expects that it is absent.
        expect: Option<bool>,
    },
    /// Trims a stream by some entries of what it has.
    Trim {
        /// Which stream.
        stream: u8,
        /// How many entries.
        count: u8,
    },
    /// Drops a stream.
    Drop {
        /// Which stream.
        stream: u8,
    },
    /// Closes and opens the store.
    Reopen,
    /// Opens what a killed process leaves.
    Crash,
    /// Compares everything.
    Compare,
}

impl Step {
    /// A step, drawn from `rng`.
    pub fn random(rng: &mut impl Rng) -> Self {
        let stream = rng.random_range(0..4);
        match rng.random_range(0..100) {
            0..45 => Step::Append {
                stream,
                entries: (0..rng.random_range(0..6))
                    .map(|_| rng.random_range(0..2000))
                    .collect(),
                off: if rng.random_ratio(1, 8) {
                    rng.random_range(-2..3)
                } else {
                    0
                },
                fence: rng.random_range(0..3),
            },
            45..80 => Step::Put {
                key: rng.random_range(0..12),
                size: match rng.random_range(0..10) {
                    0..3 => None,
                    9 => Some(rng.random_range(16_000..40_000)),
                    _ => Some(rng.random_range(0..200)),
                },
                expect: match rng.random_range(0..3) {
                    0 => None,
                    1 => Some(true),
                    _ => Some(false),
                },
            },
            80..88 => Step::Trim {
                stream,
                count: rng.random_range(0..8),
            },
            88..91 => Step::Drop { stream },
            91..93 => Step::Reopen,
            93..95 => Step::Crash,
            _ => Step::Compare,
        }
    }
}

/// What a store should say: nothing but maps.
#[derive(Default)]
struct Model {
    streams: BTreeMap<Stream, (Head, Vec<Bytes>)>,
    records: BTreeMap<String, (u64, Bytes)>,
    changes: BTreeMap<String, (u64, Option<Bytes>)>,
}

/// Takes steps on a provider and on a model, and compares what they say.
pub async fn walk(provider: &mut dyn Provider, steps: &[Step]) {
    let mut model = Model::default();
    for (at, step) in steps.iter().enumerate() {
        let store = provider.store();
        match step {
            Step::Append {
                stream: number,
                entries,
                off,
                fence,
            } => {
                let name = stream(&format!("s/{number}"));
                let entries: Vec<Bytes> = entries
                    .iter()
                    .map(|size| Bytes::from(vec![(at % 251) as u8; usize::from(*size)]))
                    .collect();
                let known = model.streams.get(&name).map(|(head, _)| *head);
                let last = known.map_or(0, |head| head.last_seq);
                let change = Append {
                    stream: name.clone(),
                    expected_last: last.saturating_add_signed((*off).into()),
                    fence: (*fence).into(),
                    entries: entries.clone().into(),
                    origin: (at % 2 == 0).then_some(Origin {
                        epoch: 1,
                        seq: at as u64 + 1,
                    }),
                    time: Timestamp::from_millis(at as i64),
                };
                let fits = change.expected_last == last;
                let is_fenced = known.is_some_and(|head| u64::from(*fence) < head.fence);
                let origin = change.origin;
                let outcome = store.commit(appends(vec![change])).await;
                if is_fenced {
                    assert!(matches!(outcome, Err(Error::Fenced { .. })), "{outcome:?}");
                } else if !fits {
                    assert_eq!(outcome, Err(Error::Conflict { stream: name, last }));
                } else {
                    let done = outcome.expect("committed");
                    let has_time = known.is_none() || !entries.is_empty();
                    let expected = Head {
                        log_epoch: known.map_or(done.heads[0].log_epoch, |head| head.log_epoch),
                        first_seq: known.map_or(1, |head| head.first_seq),
                        last_seq: last + entries.len() as u64,
                        fence: (*fence).into(),
                        origin: origin
                            .unwrap_or(known.map_or(Origin::default(), |head| head.origin)),
                        last_time: match known {
                            Some(head) if !has_time => head.last_time,
                            _ => Timestamp::from_millis(at as i64),
                        },
                    };
                    assert_eq!(done.heads, [expected]);
                    let stream = model.streams.entry(name).or_insert((expected, Vec::new()));
                    stream.0 = expected;
                    stream.1.extend(entries);
                }
            }
            Step::Put { key, size, expect } => {
                let key = format!("t/{key}");
                let known = model.records.get(&key).map(|(revision, _)| *revision);
                let value = size.map(|size| Bytes::from(vec![(at % 251) as u8; size as usize]));
                let expect = match expect {
                    None => Expect::Any,
                    Some(true) => Expect::Revision(known.unwrap_or(77)),
                    Some(false) => Expect::Absent,
                };
                let fits = match expect {
                    Expect::Any => true,
                    Expect::Absent => known.is_none(),
                    Expect::Revision(_) => known.is_some(),
                };
                let change = RecordOp {
                    key: key.clone(),
                    expect,
                    value: value.clone(),
                };
                let outcome = store.commit(ops(vec![change])).await;
                if !fits {
                    let stale = Error::Stale {
                        key,
                        revision: known,
                    };
                    assert_eq!(outcome, Err(stale));
                } else {
                    let revision = outcome.expect("committed").revision;
                    match &value {
                        Some(value) => {
                            model.records.insert(key.clone(), (revision, value.clone()));
                        }
                        None => {
                            model.records.remove(&key);
                        }
                    }
                    if known.is_some() || value.is_some() {
                        model.changes.insert(key, (revision, value));
                    }
                }
            }
            Step::Trim {
                stream: number,
                count,
            } => {
                let name = format!("s/{number}");
                match model.streams.get_mut(&stream(&name)) {
                    None => assert!(matches!(
                        store.commit(trim(&name, 1)).await,
                        Err(Error::NoStream { .. })
                    )),
                    Some((head, entries)) => {
                        let first_seq = head.first_seq + u64::from(*count);
                        let outcome = store.commit(trim(&name, first_seq)).await;
                        if first_seq > head.last_seq + 1 {
                            assert!(matches!(outcome, Err(Error::Future { .. })), "{outcome:?}");
                        } else {
                            outcome.expect("committed");
                            entries.drain(..usize::from(*count));
                            head.first_seq = first_seq;
                        }
                    }
                }
            }
            Step::Drop { stream: number } => {
                let name = format!("s/{number}");
                commit(&store, drop_stream(&name)).await;
                model.streams.remove(&stream(&name));
            }
            Step::Reopen => {
                drop(store);
                provider.reopen().await;
            }
            Step::Crash => {
                drop(store);
                provider.crash().await;
            }
            Step::Compare => compare(&store, &model).await,
        }
    }
    compare(&provider.store(), &model).await;
}

async fn compare(store: &SharedStore, model: &Model) {
    let dump = dump(store).await;
    assert_eq!(dump.streams, model.streams);
    assert_eq!(dump.records, model.records);
    let mut changes: Vec<_> = model
        .changes
        .iter()
        .map(|(key, (revision, value))| (key.clone(), *revision, value.clone()))
        .collect();
    changes.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    assert_eq!(dump.changes, changes);
}
