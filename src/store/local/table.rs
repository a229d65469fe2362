//! One sled tree, with what was written last before it in memory.
//!
//! sled takes as long for one commit as for many. So a commit is written to memory, where readers find it at once, and sled
//! hears of many commits together, later and from another thread. What was written together is never torn apart.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Bound;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use parking_lot::Mutex;
use sled::{Batch, IVec};

use crate::store::{Error, Result};

/// After so many keys sled lets readers have their turn.
const BATCH_KEYS: usize = if cfg!(test) { 8 } else { 128 };
/// How often sled gives room back. Each time it syncs its whole file, in need of it or not, and while the file system does
/// that, the journal's sync takes tens of milliseconds. Half of it is the longest that closing waits for it.
const TIDY_EVERY_MS: u64 = 4_000;
/// What a key costs in memory beside its bytes and those of its value, about.
const KEY_COST: usize = 150;
/// How often a range is read while something leaves for sled, before that has to wait for the reader.
const MAX_LOOKS: usize = 4;

/// Keys with their values; `None`: removed.
type Layer = BTreeMap<IVec, Option<IVec>>;
/// A key and what became of it.
type Change = (IVec, Option<IVec>);

/// Changes that reach readers together, and sled.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    /// Sets a key.
    pub(super) fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        self.0.push((key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: impl Into<IVec>) {
        self.0.push((key.into(), None));
    }

    fn cost(&self) -> usize {
        let cost =
            |(key, value): &Change| KEY_COST + key.len() + value.as_ref().map_or(0, |v| v.len());
        self.0.iter().map(cost).sum()
    }
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The least key.
    Up,
    /// The greatest.
    Down,
}

/// Keys from here to there.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) from: Bound<Vec<u8>>,
    pub(super) to: Bound<Vec<u8>>,
}

impl Range {
    /// From a key, which is in it, up to another, which is not.
    pub(super) fn until(from: Vec<u8>, to: Vec<u8>) -> Self {
        Range {
            from: Bound::Included(from),
            to: Bound::Excluded(to),
        }
    }

    /// From a key to another, which both are in it.
    pub(super) fn through(from: Vec<u8>, to: Vec<u8>) -> Self {
        Range {
            from: Bound::Included(from),
            to: Bound::Included(to),
        }
    }

    fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (
                Bound::Included(from) | Bound::Excluded(from),
                Bound::Included(to) | Bound::Excluded(to),
            ) => from >= to,
            _ => false,
        }
    }

    fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (
            self.from.as_ref().map(Vec::as_slice),
            self.to.as_ref().map(Vec::as_slice),
        )
    }
}

/// The tree. Locks are taken in the order of the fields.
pub(super) struct Table {
    db: sled::Db,
    /// Held by whoever writes to sled what is in the layers.
    settling: Mutex<()>,
    layers: Mutex<Layers>,
}

/// The moment at which it is settled what goes to sled.
pub(super) struct Departure<'a>(&'a Table);

impl Departure<'_> {
    /// All that was written goes, `first` before it and `last` behind it; `first` says nothing of what was written.
    pub(super) fn with(self, first: Changes, last: Changes) {
        let mut layers = self.0.layers.lock();
        let layers = &mut *layers;
        // Nothing is on its way, for that is waited for before: what is fresh leaves as it is.
        layers.leaving = mem::take(&mut layers.fresh);
        layers.leaving_changes = mem::take(&mut layers.fresh_changes);
        layers.cost = 0;
        if !first.0.is_empty() {
            layers.leaving.extend(first.0.iter().cloned());
            layers.leaving_changes.push_front(first);
        }
        if !last.0.is_empty() {
            layers.leaving.extend(last.0.iter().cloned());
            layers.leaving_changes.push_back(last);
        }
        layers.departures += u64::from(!layers.leaving_changes.is_empty());
    }
}

/// What sled does not have yet.
#[derive(Default)]
struct Layers {
    /// What was written last, and the same in the order in which it came.
    fresh: Layer,
    fresh_changes: VecDeque<Changes>,
    /// What is on its way to sled: older than what is fresh, newer than what is in sled.
    leaving: Layer,
    leaving_changes: VecDeque<Changes>,
    /// What is fresh costs about so many bytes.
    cost: usize,
    /// How often something has begun to leave: from then on sled has what is newer than a look before.
    departures: u64,
}

impl Layers {
    fn get(&self, key: &[u8]) -> Option<Option<IVec>> {
        let found = self.fresh.get(key).or_else(|| self.leaving.get(key));
        found.cloned()
    }

    fn put(&mut self, changes: Changes) {
        self.cost += changes.cost();
        self.fresh.extend(changes.0.iter().cloned());
        self.fresh_changes.push_back(changes);
    }

    /// What they say of a range, up to the `limit`th value.
    fn within(&self, range: &Range, direction: Direction, limit: usize) -> Vec<Change> {
        let owned = |(key, value): (&IVec, &Option<IVec>)| (key.clone(), value.clone());
        let newer = self.fresh.range::<[u8], _>(range.bounds()).map(owned);
        let older = self.leaving.range::<[u8], _>(range.bounds()).map(owned);
        match direction {
            Direction::Up => up_to(
                Merged::new(newer, older.map(Ok), direction).flatten(),
                limit,
            ),
            Direction::Down => {
                let older = older.rev().map(Ok);
                up_to(Merged::new(newer.rev(), older, direction).flatten(), limit)
            }
        }
    }
}

/// The first changes, until there are `limit` values among them.
fn up_to(changes: impl Iterator<Item = Change>, limit: usize) -> Vec<Change> {
    let mut values = 0;
    let mut taken = Vec::new();
    for change in changes {
        if values == limit {
            break;
        }
        values += usize::from(change.1.is_some());
        taken.push(change);
    }
    taken
}

/// Two sorted rows as one; of a key that both have, the newer row's.
struct Merged<N: Iterator, O: Iterator> {
    newer: std::iter::Peekable<N>,
    older: std::iter::Peekable<O>,
    direction: Direction,
}

impl<N, O> Merged<N, O>
where
    N: Iterator<Item = Change>,
    O: Iterator<Item = sled::Result<Change>>,
{
    fn new(newer: N, older: O, direction: Direction) -> Self {
        Merged {
            newer: newer.peekable(),
            older: older.peekable(),
            direction,
        }
    }
}

impl<N, O> Iterator for Merged<N, O>
where
    N: Iterator<Item = Change>,
    O: Iterator<Item = sled::Result<Change>>,
{
    type Item = sled::Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.newer.peek(), self.older.peek()) {
            (Some(newer), Some(Ok(older))) => match self.direction {
                Direction::Up => newer.0.cmp(&older.0),
                Direction::Down => older.0.cmp(&newer.0),
            },
            (Some(_), None) => Ordering::Less,
            (_, older) => {
                older?;
                Ordering::Greater
            }
        };
        match order {
            Ordering::Less => self.newer.next().map(Ok),
            Ordering::Greater => self.older.next(),
            Ordering::Equal => {
                self.older.next();
                self.newer.next().map(Ok)
            }
        }
    }
}

impl Table {
    /// Opens or makes it. Damage is an error, also where sled would panic.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let db = guard(|| {
            sled::Config::new()
                .path(path)
                .cache_capacity(cache_bytes)
                .flush_every_ms(Some(TIDY_EVERY_MS))
                .open()
        })?;
        Ok(Table {
            db,
            settling: Mutex::new(()),
            layers: Mutex::default(),
        })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>> {
        let found = self.layers.lock().get(key);
        match found {
            Some(value) => Ok(value),
            None => guard(|| self.db.get(key)),
        }
    }

    /// The first `limit` keys of a range with their values, as they were together at one moment.
    pub(super) fn read(
        &self,
        range: &Range,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<(IVec, IVec)>> {
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        for _ in 1..MAX_LOOKS {
            let (found, departures) = self.look(range, direction, limit)?;
            // What has left since was written since, in part at least.
            if self.layers.lock().departures == departures {
                return Ok(found);
            }
        }
        let _settling = self.settling.lock();
        self.look(range, direction, limit).map(|(found, _)| found)
    }

    fn look(
        &self,
        range: &Range,
        direction: Direction,
        limit: usize,
    ) -> Result<(Vec<(IVec, IVec)>, u64)> {
        let (layers, departures) = {
            let layers = self.layers.lock();
            (layers.within(range, direction, limit), layers.departures)
        };
        let found = guard(|| {
            let stored = self.db.range::<&[u8], _>(range.bounds());
            let value =
                |item: sled::Result<(IVec, IVec)>| item.map(|(key, value)| (key, Some(value)));
            let layers = layers.into_iter();
            match direction {
                Direction::Up => present(Merged::new(layers, stored.map(value), direction), limit),
                Direction::Down => present(
                    Merged::new(layers, stored.rev().map(value), direction),
                    limit,
                ),
            }
        })?;
        Ok((found, departures))
    }

    /// Writes changes: readers see all of them at once.
    pub(super) fn apply(&self, changes: Changes) {
        if !changes.0.is_empty() {
            self.layers.lock().put(changes);
        }
    }

    /// What sled was not given yet costs about so many bytes of memory.
    pub(super) fn cost(&self) -> usize {
        self.layers.lock().cost
    }

    /// Sets a key that has a value to another, unless it has changed.
    pub(super) fn swap(&self, key: &[u8], old: &IVec, new: Vec<u8>) -> Result<bool> {
        // What is in the layers stays there meanwhile; what comes to them is newer, and wins.
        let _settling = self.settling.lock();
        let mut layers = self.layers.lock();
        if let Some(value) = layers.get(key) {
            let is_same = value.as_ref() == Some(old);
            if is_same {
                let mut changes = Changes::default();
                changes.insert(key, new);
                layers.put(changes);
            }
            return Ok(is_same);
        }
        drop(layers);
        let swapped = guard(|| self.db.compare_and_swap(key, Some(old), Some(new)))?;
        Ok(swapped.is_ok())
    }

    /// Writes to sled at once, for keys that nothing else writes.
    pub(super) fn write_through(&self, changes: Changes) -> Result<()> {
        guard(|| self.db.apply_batch(batch(&[changes])))
    }

    /// Writes to sled what it does not have, in the order in which it came. `depart` adds to it, within the lock, when it is
    /// settled what goes; what comes later waits for the next time.
    pub(super) fn settle(&self, depart: impl FnOnce(Departure<'_>)) -> Result<()> {
        let _settling = self.settling.lock();
        // If the last time has failed, this is left of it.
        self.write_leaving()?;
        depart(Departure(self));
        self.write_leaving()
    }

    fn write_leaving(&self) -> Result<()> {
        loop {
            let next: Vec<Changes> = {
                let mut layers = self.layers.lock();
                let mut keys = 0;
                let next = layers.leaving_changes.iter().take_while(|changes| {
                    let is_room = keys < BATCH_KEYS;
                    keys += changes.0.len();
                    is_room
                });
                let next = next.count();
                layers.leaving_changes.drain(..next).collect()
            };
            if next.is_empty() {
                // Freed when nobody waits for the lock.
                let left = mem::take(&mut self.layers.lock().leaving);
                drop(left);
                return Ok(());
            }
            if let Err(error) = guard(|| self.db.apply_batch(batch(&next))) {
                let changes = &mut self.layers.lock().leaving_changes;
                next.into_iter()
                    .rev()
                    .for_each(|one| changes.push_front(one));
                return Err(error);
            }
        }
    }

    /// Hands what sled has to the operating system, so that it survives the process.
    pub(super) fn flush(&self) -> Result<()> {
        guard(|| self.db.flush()).map(drop)
    }
}

fn present(
    merged: impl Iterator<Item = sled::Result<Change>>,
    limit: usize,
) -> sled::Result<Vec<(IVec, IVec)>> {
    let present = merged.filter_map(|item| match item {
        Ok((key, Some(value))) => Some(Ok((key, value))),
        Ok((_, None)) => None,
        Err(error) => Some(Err(error)),
    });
    present.take(limit).collect()
}

fn batch(all: &[Changes]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in all.iter().flat_map(|changes| &changes.0) {
        match value {
            Some(value) => batch.insert(key.clone(), value.clone()),
            None => batch.remove(key.clone()),
        }
    }
    batch
}

/// Calls sled; a panic of it (it has some for damaged files) is an error like any other.
fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T> {
    match panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Io(format!("the index failed: {error}"))),
        Err(_) => Err(Error::Io("the index is damaged: sled panicked".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use proptest::prelude::*;

    use super::*;
    use crate::store::local::tests::copy_tree;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    #[derive(Clone, Debug)]
    enum Step {
        Apply(Vec<(u8, Option<u8>)>),
        Settle(Option<u8>),
        Swap(u8, u8),
        Read(u8, u8, bool, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || 0..40_u8;
        let change = (key(), proptest::option::of(any::<u8>()));
        prop_oneof![
            4 => proptest::collection::vec(change, 1..6).prop_map(Step::Apply),
            1 => proptest::option::of(key()).prop_map(Step::Settle),
            1 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Swap(key, value)),
            4 => (key(), key(), any::<bool>(), 0..12_usize)
                .prop_map(|(from, to, up, limit)| Step::Read(from, to, up, limit)),
        ]
    }

    fn check(table: &Table, model: &Model, from: u8, to: u8, up: bool, limit: usize) {
        let range = Range::until(vec![from], vec![to]);
        let bounds = (from < to).then(|| model.range(vec![from]..vec![to]));
        let expected = bounds.into_iter().flatten();
        let expected: Vec<_> = match up {
            true => expected.take(limit).collect(),
            false => expected.rev().take(limit).collect(),
        };
        let direction = if up { Direction::Up } else { Direction::Down };
        let found = table.read(&range, direction, limit).expect("readable");
        let found: Vec<_> = found
            .iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(found, expected, "{range:?} {direction:?} {limit}");
        let one = table.get(&[from]).expect("readable");
        assert_eq!(one.as_deref(), model.get(&vec![from]).map(Vec::as_slice));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_says_what_was_written_wherever_that_is(steps in proptest::collection::vec(step(), 1..60)) {
            let dir = tempfile::tempdir().expect("a directory");
            let table = Table::open(&dir.path().join("t"), 1 << 20).expect("opened");
            let mut model = Model::new();
            for step in steps {
                match step {
                    Step::Apply(all) => {
                        let mut changes = Changes::default();
                        for (key, value) in all {
                            match value {
                                Some(value) => {
                                    changes.insert(&[key][..], &[value][..]);
                                    model.insert(vec![key], vec![value]);
                                }
                                None => {
                                    changes.remove(&[key][..]);
                                    model.remove(&vec![key]);
                                }
                            }
                        }
                        table.apply(changes);
                    }
                    Step::Settle(extra) => {
                        let mut last = Changes::default();
                        if let Some(key) = extra {
                            last.remove(&[key][..]);
                            model.remove(&vec![key]);
                        }
                        // What is on its way is read as what is there.
                        let settled = table.settle(|departure| {
                            departure.with(Changes::default(), last);
                            check(&table, &model, 0, 40, true, 100);
                            check(&table, &model, 0, 40, false, 3);
                        });
                        settled.expect("written");
                        prop_assert_eq!(table.cost(), 0);
                    }
                    Step::Swap(key, value) => {
                        let Some(old) = table.get(&[key]).expect("readable") else { continue };
                        prop_assert!(table.swap(&[key], &old, vec![value]).expect("written"));
                        prop_assert_eq!(table.swap(&[key], &old, vec![value]).expect("written"), *old == [value]);
                        model.insert(vec![key], vec![value]);
                    }
                    Step::Read(from, to, up, limit) => check(&table, &model, from, to, up, limit),
                }
            }
            let none = || Changes::default();
            table.settle(|departure| departure.with(none(), none())).expect("written");
            table.flush().expect("written");
            // Another file: threads of sled may hold the lock on this one for a moment longer.
            let copy = tempfile::tempdir().expect("a directory");
            copy_tree(&dir.path().join("t"), copy.path());
            let table = Table::open(copy.path(), 1 << 20).expect("opened again");
            check(&table, &model, 0, 40, true, 100);
        }
    }

    #[test]
    fn a_reader_sees_no_later_key_without_the_earlier_ones() {
        const KEYS: u32 = 20_000;
        let dir = tempfile::tempdir().expect("a directory");
        let table = Table::open(&dir.path().join("t"), 1 << 20).expect("opened");
        let is_over = AtomicBool::new(false);
        let none = Changes::default;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let settled = table.settle(|departure| departure.with(none(), none()));
                    settled.expect("written");
                }
            });
            scope.spawn(|| {
                let mut seen = 0;
                while seen < KEYS {
                    let range = Range::until(seen.to_be_bytes().to_vec(), vec![0xff]);
                    let found = table.read(&range, Direction::Up, usize::MAX);
                    for (key, _) in found.expect("readable") {
                        assert_eq!(*key, seen.to_be_bytes());
                        seen += 1;
                    }
                }
                is_over.store(true, Relaxed);
            });
            for key in 0..KEYS {
                let mut changes = Changes::default();
                changes.insert(&key.to_be_bytes()[..], &[][..]);
                table.apply(changes);
            }
        });
    }
}
