//! A disk that is full, fails, or is watched.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::{Condvar, Mutex};

use super::super::disk::{Disk, SystemDisk};
use super::super::{LocalStore, Options};
use super::{add, options, put, trim};
use crate::store::conformance::{append, dump, op, read_all, stream};
use crate::store::{Commit, Durability, Error, Expect, Journal as _, Records as _, SharedStore};

/// What the disk does.
#[derive(Debug, Default)]
struct Orders {
    /// Bytes that still fit; `None`: all.
    room: Option<u64>,
    /// Syncs fail.
    bad_sync: bool,
    /// Syncs wait.
    held_sync: bool,
    /// Syncs that wait now.
    waiting: usize,
    /// Syncs that were done.
    syncs: u64,
    /// Writes panic.
    is_cursed: bool,
    /// What `free_bytes` says.
    free: Option<u64>,
}

/// A disk that takes orders.
#[derive(Debug, Default)]
struct OrderedDisk {
    orders: Mutex<Orders>,
    changed: Condvar,
}

impl OrderedDisk {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock());
        self.changed.notify_all();
    }

    /// Waits until a sync waits.
    fn await_sync(&self) {
        let mut orders = self.orders.lock();
        while orders.waiting == 0 {
            self.changed.wait(&mut orders);
        }
    }

    fn syncs(&self) -> u64 {
        self.orders.lock().syncs
    }
}

impl Disk for OrderedDisk {
    fn write_at(&self, file: &File, data: &[u8], offset: u64) -> io::Result<()> {
        let mut orders = self.orders.lock();
        assert!(!orders.is_cursed, "a defect that the test asked for");
        if let Some(room) = orders.room {
            let fits = (data.len() as u64).min(room);
            orders.room = Some(room - fits);
            SystemDisk.write_at(file, &data[..fits as usize], offset)?;
            if fits < data.len() as u64 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            return Ok(());
        }
        SystemDisk.write_at(file, data, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut orders = self.orders.lock();
        orders.waiting += 1;
        self.changed.notify_all();
        while orders.held_sync {
            self.changed.wait(&mut orders);
        }
        orders.waiting -= 1;
        if orders.bad_sync {
            return Err(io::Error::other("the disk is broken"));
        }
        orders.syncs += 1;
        SystemDisk.sync(file)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        match self.orders.lock().free {
            Some(free) => Ok(free),
            None => SystemDisk.free_bytes(dir),
        }
    }
}

fn open(dir: &Path, change: impl FnOnce(&mut Options)) -> (Arc<LocalStore>, Arc<OrderedDisk>) {
    let disk = Arc::new(OrderedDisk::default());
    let mut options = options(dir);
    options.disk = disk.clone();
    change(&mut options);
    (Arc::new(LocalStore::open(options).expect("opened")), disk)
}

fn one(last: u64) -> Commit {
    Commit {
        appends: vec![append("a", last, &["x"])],
        ops: vec![op("t/x", Expect::Any, Some("x"))],
        trims: vec![],
    }
}

#[tokio::test]
async fn a_commit_is_neither_answered_nor_seen_before_its_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |_| {});
    let watch = store.watch(&stream("a"));
    for last in 0..20 {
        let synced = disk.syncs();
        disk.order(|orders| orders.held_sync = true);
        let mut commit = store.commit(one(last));
        assert!((&mut commit).now_or_never().is_none());
        disk.await_sync();
        // Written by now, and still nobody knows.
        assert!((&mut commit).now_or_never().is_none());
        let seen = store
            .head(&stream("a"))
            .await
            .expect("readable")
            .map_or(0, |head| head.last_seq);
        assert_eq!((seen, *watch.borrow()), (last, last));
        assert_eq!(
            store.get("t/x").await.expect("readable").is_some(),
            last > 0
        );
        if last > 0 {
            assert_eq!(store.read(&stream("a"), last, 9).await, Ok(vec![]));
        }
        disk.order(|orders| orders.held_sync = false);
        commit.await.expect("committed");
        assert_eq!(disk.syncs(), synced + 1);
        assert_eq!(*watch.borrow(), last + 1);
    }
}

#[tokio::test]
async fn with_an_interval_it_is_seen_at_once_and_answered_after_the_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |options| {
        options.durability = Durability::Interval(Duration::from_millis(1));
    });
    let mut watch = store.watch(&stream("a"));
    disk.order(|orders| orders.held_sync = true);
    let mut commit = store.commit(one(0));
    assert!((&mut commit).now_or_never().is_none());
    watch.changed().await.expect("it is seen");
    assert_eq!(
        read_all(&(store.clone() as SharedStore), &stream("a"), 0, 9)
            .await
            .expect("readable")
            .len(),
        1
    );
    disk.await_sync();
    assert!((&mut commit).now_or_never().is_none());
    disk.order(|orders| orders.held_sync = false);
    commit.await.expect("committed");
    assert_eq!(disk.syncs(), 1);
}

#[tokio::test]
async fn commits_that_wait_share_one_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |options| options.segment_bytes = 1 << 20);
    disk.order(|orders| orders.held_sync = true);
    let mut first = store.commit(one(0));
    assert!((&mut first).now_or_never().is_none());
    disk.await_sync();
    // These arrive during the sync. One of them is refused and takes nobody along.
    let mut rest: Vec<_> = (1..=20).map(|last| store.commit(one(last))).collect();
    rest.insert(3, store.commit(one(77)));
    for commit in &mut rest {
        assert!(commit.now_or_never().is_none());
    }
    disk.order(|orders| orders.held_sync = false);
    first.await.expect("committed");
    let mut done = 0;
    for (at, commit) in rest.into_iter().enumerate() {
        match commit.await {
            Ok(_) => done += 1,
            Err(Error::Conflict { last, .. }) => assert_eq!((at, last), (3, 4)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((done, disk.syncs()), (20, 2));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_any_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |_| {});
    add(&store, "a", 0, 10).await;
    disk.order(|orders| orders.bad_sync = true);
    assert!(matches!(store.commit(one(1)).await, Err(Error::Io(_))));
    disk.order(|orders| orders.bad_sync = false);
    let syncs = disk.syncs();
    for _ in 0..3 {
        assert!(matches!(store.commit(one(1)).await, Err(Error::Io(_))));
    }
    assert_eq!(
        disk.syncs(),
        syncs,
        "it is not tried again as if nothing had happened"
    );
    assert!(matches!(store.failure(), Some(Error::Io(_))));
    // What was committed before can be read, and nothing else.
    let shared = store.clone() as SharedStore;
    assert_eq!(
        read_all(&shared, &stream("a"), 0, 9)
            .await
            .expect("readable")
            .len(),
        1
    );
    assert_eq!(store.get("t/x").await, Ok(None));
}

#[tokio::test]
async fn while_a_sync_is_slow_everything_that_is_synced_can_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |_| {});
    for last in 0..30 {
        add(&store, "a", last, 100).await;
        add(&store, "b", last, 100).await;
    }
    put(&store, "t/x", "before").await;
    let shared = store.clone() as SharedStore;
    let before = dump(&shared).await;
    for round in 0..5 {
        disk.order(|orders| orders.held_sync = true);
        let mut slow: Vec<_> = (0..3)
            .map(|more| store.commit(one(30 + 3 * round + more)))
            .collect();
        for commit in &mut slow {
            assert!(commit.now_or_never().is_none());
        }
        disk.await_sync();
        // As long as the disk takes, others read: all of it, and what they read is as if nothing went on.
        let during = dump(&shared).await;
        assert_eq!(during.streams[&stream("b")], before.streams[&stream("b")]);
        assert_eq!(during.streams[&stream("a")].0.last_seq, 30 + 3 * round);
        disk.order(|orders| orders.held_sync = false);
        for commit in slow {
            commit.await.expect("committed");
        }
    }
}

#[tokio::test]
async fn after_a_failed_sync_a_restart_finds_what_was_acknowledged_and_goes_on() {
    for already in [0, 1, 7] {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, disk) = open(dir.path(), |_| {});
        for last in 0..already {
            store.commit(one(last)).await.expect("committed");
        }
        disk.order(|orders| orders.held_sync = true);
        let mut group: Vec<_> = (already..already + 4)
            .map(|last| store.commit(one(last)))
            .collect();
        for commit in &mut group {
            assert!(commit.now_or_never().is_none());
        }
        disk.await_sync();
        disk.order(|orders| (orders.held_sync, orders.bad_sync) = (false, true));
        for commit in group {
            assert!(
                matches!(commit.await, Err(Error::Io(_))),
                "nobody is told that it is done"
            );
        }
        disk.order(|orders| orders.bad_sync = false);
        let _ = store.close_blocking();
        drop(store);
        let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
        assert_eq!(store.damage(), []);
        // What failed may be there, for it was written, or not: whole commits from the front, and not acknowledged.
        let head = store.head(&stream("a")).await.expect("readable");
        let last = head.map_or(0, |head| head.last_seq);
        assert!(
            (already..=already + 4).contains(&last),
            "{last} of {already}"
        );
        store.commit(one(last)).await.expect("it works again");
        let shared = store as SharedStore;
        let all = read_all(&shared, &stream("a"), 0, 1000)
            .await
            .expect("readable");
        assert_eq!(all.len() as u64, last + 1);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_whole_commits_and_works_again_with_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |_| {});
    let shared = store.clone() as SharedStore;
    for last in 0..5 {
        add(&store, "a", last, 100).await;
    }
    put(&store, "t/x", "before").await;
    let before = dump(&shared).await;
    for room in [0, 1, 7, 8, 20, 30] {
        disk.order(|orders| orders.room = Some(room));
        assert_eq!(store.commit(one(5)).await, Err(Error::Full), "{room} bytes");
        assert_eq!(dump(&shared).await, before);
        // Also a crash right now must not bring it back.
        let copy = tempfile::tempdir().expect("a directory");
        super::copy_tree(dir.path(), copy.path());
        let copied = Arc::new(LocalStore::open(options(copy.path())).expect("recovered"));
        assert_eq!(copied.damage(), []);
        assert_eq!(dump(&(copied as SharedStore)).await, before);
    }
    disk.order(|orders| orders.room = None);
    store.commit(one(5)).await.expect("there is room");
    drop(shared);
    store.close_blocking().expect("closed");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(store.damage(), []);
    assert_eq!(
        read_all(&(store as SharedStore), &stream("a"), 0, 1000)
            .await
            .expect("readable")
            .len(),
        6
    );
}

#[tokio::test]
async fn of_a_group_that_does_not_fit_nothing_is_found_after_a_crash() {
    // With room for whole commits of the group, though not for all: what is readable on the disk is not
    // committed, for its callers were refused. Nothing is filled ahead, or zeros would hide it.
    for room in (0..).step_by(40) {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, disk) = open(dir.path(), |options| options.fill_bytes = 0);
        let shared = store.clone() as SharedStore;
        disk.order(|orders| orders.held_sync = true);
        let mut first = store.commit(one(0));
        assert!((&mut first).now_or_never().is_none());
        disk.await_sync();
        // These arrive during the sync and are one group.
        let mut group: Vec<_> = (1..=20).map(|last| store.commit(one(last))).collect();
        for commit in &mut group {
            assert!(commit.now_or_never().is_none());
        }
        disk.order(|orders| {
            orders.room = Some(room);
            orders.held_sync = false;
        });
        first.await.expect("committed");
        let mut refused = 0;
        for commit in group {
            refused += usize::from(commit.await == Err(Error::Full));
        }
        if refused == 0 {
            assert!(room > 400, "the group fits into {room} bytes");
            return;
        }
        assert_eq!(refused, 20, "{room} bytes");
        let before = dump(&shared).await;
        let recovered = async || {
            let copy = tempfile::tempdir().expect("a directory");
            super::copy_tree(dir.path(), copy.path());
            let copied = Arc::new(LocalStore::open(options(copy.path())).expect("recovered"));
            assert_eq!(copied.damage(), []);
            dump(&(copied as SharedStore)).await
        };
        assert_eq!(recovered().await, before, "{room} bytes");
        // And nothing of it is found behind what is written next.
        disk.order(|orders| orders.room = None);
        store.commit(one(1)).await.expect("there is room");
        assert_eq!(recovered().await, dump(&shared).await, "{room} bytes");
    }
}

#[tokio::test]
async fn a_writer_that_dies_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |_| {});
    add(&store, "a", 0, 10).await;
    disk.order(|orders| orders.is_cursed = true);
    assert!(matches!(store.commit(one(1)).await, Err(Error::Io(_))));
    // Taken before the queue was known to be dead, or not at all: it is answered either way.
    let after = store.commit(one(1)).await;
    assert!(
        matches!(after, Err(Error::Closed | Error::Io(_))),
        "{after:?}"
    );
    assert!(store.close_blocking().is_err());
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    add(&store, "a", 1, 10).await;
}

#[tokio::test]
async fn below_the_reserve_only_what_lets_go_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, disk) = open(dir.path(), |options| options.reserve_bytes = 1000);
    // Where there is plenty, it is not asked for each time.
    disk.order(|orders| orders.free = Some(3999));
    add(&store, "a", 0, 10).await;
    put(&store, "t/x", "1").await;
    disk.order(|orders| orders.free = Some(999));
    assert_eq!(store.commit(one(1)).await, Err(Error::Full));
    super::change(&store, op("t/x", Expect::Any, None)).await;
    trim(&store, "a", None).await;
    disk.order(|orders| orders.free = Some(1000));
    add(&store, "a", 0, 10).await;
}

#[tokio::test]
async fn opening_does_not_write_to_a_healthy_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..3 {
        add(&store, "a", last, 100).await;
    }
    drop(store);
    let read = || -> Vec<Vec<u8>> {
        super::segments(dir.path())
            .iter()
            .map(|path| fs::read(path).expect("readable"))
            .collect()
    };
    let before = read();
    drop(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(read(), before);
}
