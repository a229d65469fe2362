//! The index can be thrown away at any time.

use std::fs;
use std::sync::Arc;

use super::super::LocalStore;
use super::super::recover::{Trust, mark_index};
use super::{add, change, copy_tree, options, put, trim};
use crate::store::conformance::{Dump, dump, op, stream};
use crate::store::{Error, Expect, Records as _, SharedStore};

async fn filled(dir: &std::path::Path) -> (Arc<LocalStore>, Dump) {
    let store = Arc::new(LocalStore::open(options(dir)).expect("opened"));
    let large = "l".repeat(20_000);
    for last in 0..50 {
        for name in ["a", "b/c", "d"] {
            add(&store, name, last, 200).await;
        }
        put(&store, &format!("t/{}", last % 13), &format!("{last}")).await;
        if last % 10 == 3 {
            put(&store, &format!("large/{last}"), &large).await;
            change(&store, op(&format!("t/{}", last % 13), Expect::Any, None)).await;
        }
        if last == 25 {
            store.snapshot(&mut |_| {}).expect("taken");
            trim(&store, "d", None).await;
            add(&store, "d", 0, 10).await;
            break;
        }
    }
    for last in 26..50 {
        add(&store, "a", last, 200).await;
    }
    trim(&store, "a", Some(20)).await;
    let dump = dump(&(store.clone() as SharedStore)).await;
    (store, dump)
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, expected) = filled(dir.path()).await;
    drop(store);
    for way in 0..6 {
        let copy = tempfile::tempdir().expect("a directory");
        copy_tree(dir.path(), copy.path());
        let index = copy.path().join("index");
        match way {
            0 => fs::remove_dir_all(&index).expect("removed"),
            1 => {
                fs::remove_dir_all(&index).expect("removed");
                fs::write(&index, "not a directory").expect("written");
            }
            2 => {
                for entry in fs::read_dir(&index).expect("readable") {
                    let path = entry.expect("readable").path();
                    if path.is_file() {
                        fs::write(path, [0xff; 5000]).expect("written");
                    }
                }
            }
            3 => mark_index(copy.path(), Trust::Bad).expect("marked"),
            // After a power failure: in use, by another run of the machine.
            4 => fs::write(copy.path().join("INDEX"), "in use 7\n").expect("written"),
            _ => fs::remove_file(copy.path().join("INDEX")).expect("removed"),
        }
        let store = Arc::new(LocalStore::open(options(copy.path())).expect("rebuilt"));
        assert_eq!(store.damage(), [], "way {way}");
        assert_eq!(
            dump(&(store.clone() as SharedStore)).await,
            expected,
            "way {way}"
        );
        assert!(!copy.path().join("index.old").exists());
        add(&store, "a", 50, 10).await;
    }
}

#[tokio::test]
async fn an_old_index_is_caught_up() {
    // sled may come back from a kill as it was some time ago.
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = filled(dir.path()).await;
    store.close_blocking().expect("closed");
    let old = tempfile::tempdir().expect("a directory");
    copy_tree(&dir.path().join("index"), old.path());
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    for last in 50..150 {
        add(&store, "a", last, 500).await;
        put(&store, "t/new", &last.to_string()).await;
    }
    trim(&store, "b/c", None).await;
    let expected = dump(&(store.clone() as SharedStore)).await;
    store.close_blocking().expect("closed");
    fs::remove_dir_all(dir.path().join("index")).expect("removed");
    copy_tree(old.path(), &dir.path().join("index"));
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(store.damage(), []);
    assert_eq!(dump(&(store as SharedStore)).await, expected);
}

#[tokio::test]
async fn without_snapshot_and_index_a_compacted_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, expected) = filled(dir.path()).await;
    store
        .compact(&super::compaction::all(), &mut |_| {})
        .expect("compacted");
    store.close_blocking().expect("closed");
    let snapshots = dir.path().join("snapshots");
    let snapshot = fs::read_dir(&snapshots)
        .expect("readable")
        .next()
        .expect("a snapshot")
        .expect("readable")
        .path();
    let good = fs::read(&snapshot).expect("readable");
    let mut bad = good.clone();
    bad[20] ^= 1;
    fs::write(&snapshot, bad).expect("written");
    // The index alone is enough.
    drop(LocalStore::open(options(dir.path())).expect("opened"));
    mark_index(dir.path(), Trust::Bad).expect("marked");
    let Err(Error::Unusable(message)) = LocalStore::open(options(dir.path())) else {
        panic!("it cannot be whole");
    };
    assert!(message.contains("restore a backup"), "{message}");
    assert!(dir.path().join("index").exists());
    fs::write(&snapshot, good).expect("written");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(dump(&(store as SharedStore)).await, expected);
}

#[tokio::test]
async fn old_deletions_are_forgotten_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(crate::store::local::Options {
        segment_bytes: 8 << 20,
        ..options(dir.path())
    })
    .expect("opened");
    let many = 12_000;
    for lot in 0..many / 1000 {
        let ops = |value: Option<&str>| {
            (0..1000)
                .map(|n| op(&format!("t/{:05}", lot * 1000 + n), Expect::Any, value))
                .collect()
        };
        for value in [Some("x"), None] {
            crate::store::Journal::commit(
                &store,
                crate::store::Commit {
                    ops: ops(value),
                    ..Default::default()
                },
            )
            .await
            .expect("committed");
        }
    }
    let changes = store.changes("", 0, usize::MAX).await.expect("readable");
    assert!(
        (10_000..11_000).contains(&changes.len()),
        "{}",
        changes.len()
    );
    assert_eq!(changes[changes.len() - 1].key, format!("t/{:05}", many - 1));
    assert!(changes.iter().all(|change| change.value.is_none()));
    let _ = stream("a");
}
