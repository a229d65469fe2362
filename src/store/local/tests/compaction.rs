//! Compaction: space comes back, nothing else changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::super::LocalStore;
use super::super::check::check;
use super::super::compact::{Compaction, compact};
use super::super::recover::{Trust, mark_index};
use super::{add, entry, options, put, segments, size_of, trim};
use crate::store::conformance::{append, dump, entries, sha256, stream};
use crate::store::{Commit, Contents as _, Error, Journal as _, SharedStore};

/// Compacts whatever can be.
pub(super) fn all() -> Compaction {
    Compaction {
        min_live: 0.9,
        seal_active: true,
    }
}

async fn filled(dir: &std::path::Path) -> Arc<LocalStore> {
    let store = Arc::new(LocalStore::open(options(dir)).expect("opened"));
    let large = "l".repeat(20_000);
    for last in 0..100 {
        for name in ["kept", "trimmed", "dropped"] {
            add(&store, name, last, 300).await;
        }
        put(&store, "t/often", &"v".repeat(1000)).await;
        put(&store, "large/often", &large).await;
        if last == 5 {
            put(&store, "large/once", &large).await;
        }
    }
    store
}

#[tokio::test]
async fn space_comes_back_and_everything_else_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = filled(dir.path()).await;
    let full = size_of(&dir.path().join("journal"));
    trim(&store, "trimmed", Some(90)).await;
    trim(&store, "dropped", None).await;
    let expected = dump(&(store.clone() as SharedStore)).await;
    let mut phases = Vec::new();
    let compacted = store
        .compact(&all(), &mut |progress| phases.push(progress.phase))
        .expect("compacted");
    assert!(
        compacted.deleted > 0 && compacted.rewritten > 0,
        "{compacted:?}"
    );
    assert_eq!(compacted.damaged, 0);
    assert!(phases.contains(&"snapshot") && phases.contains(&"segments"));
    let left = size_of(&dir.path().join("journal"));
    // What is alive: 100 and 11 entries of 300 bytes, two large values.
    assert!(
        left < 120_000 && full > 2_000_000,
        "{full} bytes became {left}"
    );
    assert_eq!(dump(&(store.clone() as SharedStore)).await, expected);

    // Once more changes nothing, and so does a start, with or without the index.
    store.compact(&all(), &mut |_| {}).expect("compacted");
    for forget in [false, true] {
        add(&store, "other", 0, 10).await;
        trim(&store, "other", None).await;
        store.close_blocking().expect("closed");
        if forget {
            mark_index(dir.path(), Trust::Bad).expect("marked");
        }
        let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
        assert_eq!(store.damage(), []);
        assert_eq!(dump(&(store.clone() as SharedStore)).await, expected);
        store.close_blocking().expect("closed");
        if !forget {
            // For the next round, the same store again.
            break;
        }
    }
    let report = check(&options(dir.path()), &mut |_| {}).expect("checked");
    assert_eq!(report.problems, []);
    mark_index(dir.path(), Trust::Bad).expect("marked");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("rebuilt"));
    assert_eq!(store.damage(), []);
    assert_eq!(dump(&(store as SharedStore)).await, expected);
}

#[tokio::test]
async fn offline_compaction_gives_the_index_back_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = filled(dir.path()).await;
    let expected = dump(&(store.clone() as SharedStore)).await;
    store.close_blocking().expect("closed");
    let before = size_of(dir.path());
    let compacted = compact(options(dir.path()), &mut |_| {}).expect("compacted");
    assert!(!dir.path().join("index").exists());
    assert!(size_of(dir.path()) < before / 2 && compacted.freed_bytes > 0);
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(store.damage(), []);
    assert_eq!(dump(&(store as SharedStore)).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_go_on_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = filled(dir.path()).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, is_done) = (store.clone(), is_done.clone());
        async move {
            let mut rounds = 0u64;
            while !is_done.load(Ordering::Relaxed) || rounds == 0 {
                let mut seq = 0;
                while seq < 100 {
                    let chunks = store
                        .read(&stream("kept"), seq, 3000)
                        .await
                        .expect("readable");
                    for found in entries(seq, &chunks) {
                        seq += 1;
                        assert_eq!(found, entry("kept", seq, 300));
                    }
                }
                for key in ["large/once", "large/often"] {
                    let record = crate::store::Records::get(&*store, key)
                        .await
                        .expect("readable");
                    assert_eq!(record.map(|record| record.value.len()), Some(20_000));
                }
                // While it is trimmed away it is there, or it is told that it is gone.
                let head = store
                    .head(&stream("trimmed"))
                    .await
                    .expect("readable")
                    .expect("there");
                match store
                    .read(&stream("trimmed"), head.first_seq - 1, 3000)
                    .await
                {
                    Ok(chunks) if head.first_seq <= head.last_seq => {
                        assert_eq!(
                            entries(head.first_seq - 1, &chunks)[0],
                            entry("trimmed", head.first_seq, 300)
                        );
                    }
                    Ok(_) | Err(Error::Truncated { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                rounds += 1;
            }
            rounds
        }
    });
    for round in 1..=8u64 {
        trim(&store, "trimmed", Some(round * 10)).await;
        for last in (round - 1) * 20..round * 20 {
            add(&store, "new", last, 300).await;
            put(&store, "large/often", &"n".repeat(20_000)).await;
        }
        let compacting = store.clone();
        tokio::task::spawn_blocking(move || compacting.compact(&all(), &mut |_| {}))
            .await
            .expect("it did not panic")
            .expect("compacted");
    }
    is_done.store(true, Ordering::Relaxed);
    assert!(reader.await.expect("the reader was right") > 0);
    let expected = dump(&(store.clone() as SharedStore)).await;
    assert_eq!(expected.streams[&stream("new")].1.len(), 160);
    store.close_blocking().expect("closed");
    mark_index(dir.path(), Trust::Bad).expect("marked");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("rebuilt"));
    assert_eq!(dump(&(store as SharedStore)).await, expected);
}

#[tokio::test]
async fn content_that_nobody_refers_to_is_removed_after_its_grace() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    let contents: Vec<Bytes> = (0..3).map(|n| Bytes::from(vec![n; 1000])).collect();
    let names: Vec<String> = contents.iter().map(|bytes| sha256(bytes)).collect();
    for (name, bytes) in names.iter().zip(&contents) {
        assert_eq!(store.stage(name, 1000, 0, bytes.clone()).await, Ok(true));
    }
    let refer = Commit {
        appends: vec![append("a", 0, &["x"]), append("b", 0, &["x"])],
        ops: vec![
            store.refer_op(&stream("a"), &names[0]),
            store.refer_op(&stream("b"), &names[1]),
        ],
        trims: vec![],
    };
    store.commit(refer).await.expect("committed");
    trim(&store, "b", None).await;
    store.close_blocking().expect("closed");
    let young = crate::store::local::Options {
        content_grace: Duration::from_secs(3600),
        ..options(dir.path())
    };
    let store = LocalStore::open(young).expect("opened");
    assert_eq!(
        store
            .compact(&all(), &mut |_| {})
            .expect("compacted")
            .contents,
        0
    );
    store.close_blocking().expect("closed");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    assert_eq!(
        store
            .compact(&all(), &mut |_| {})
            .expect("compacted")
            .contents,
        2
    );
    assert_eq!(store.size(&names[0]).await, Ok(Some(1000)));
    assert_eq!(store.size(&names[1]).await, Ok(None));
    assert_eq!(store.size(&names[2]).await, Ok(None));
}

#[tokio::test]
async fn a_segment_with_damage_is_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = filled(dir.path()).await;
    trim(&store, "dropped", None).await;
    store.close_blocking().expect("closed");
    let first = segments(dir.path())[0].clone();
    let mut data = std::fs::read(&first).expect("readable");
    let at = data
        .windows(8)
        .position(|window| window == b"kept 3 .")
        .expect("the entry");
    data[at + 9] ^= 1;
    std::fs::write(&first, &data).expect("written");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    let compacted = store.compact(&all(), &mut |_| {}).expect("compacted");
    assert_eq!(compacted.damaged, 1);
    assert!(first.exists());
}
