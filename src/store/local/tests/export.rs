//! Export and import.

use std::sync::Arc;

use bytes::Bytes;

use super::super::LocalStore;
use super::super::check::check;
use super::super::export::{export, import};
use super::{add, change, options, put, trim};
use crate::store::conformance::{append, dump, op, sha256, stream};
use crate::store::{Commit, Contents as _, Error, Expect, Journal as _, SharedStore};

#[tokio::test]
async fn an_import_is_the_store_that_was_exported() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    for last in 0..60 {
        add(&store, "a", last, 1000).await;
        add(&store, "b", last, 10).await;
        put(&store, &format!("t/{}", last % 7), &last.to_string()).await;
    }
    put(&store, "large", &"l".repeat(50_000)).await;
    change(&store, op("t/3", Expect::Any, None)).await;
    trim(&store, "a", Some(31)).await;
    add(&store, "gone", 0, 10).await;
    trim(&store, "gone", None).await;
    let content = Bytes::from(vec![7; 600_000]);
    let name = sha256(&content);
    store
        .stage(&name, 600_000, 0, content.clone())
        .await
        .expect("staged");
    store
        .commit(Commit {
            appends: vec![append("c", 0, &["x"])],
            ops: vec![store.refer_op(&stream("c"), &name)],
            trims: vec![],
        })
        .await
        .expect("committed");
    let expected = dump(&(store.clone() as SharedStore)).await;
    store.close_blocking().expect("closed");
    let mut file = Vec::new();
    let exported = export(options(dir.path()), &mut file, &mut |_| {}).expect("exported");
    assert_eq!((exported.streams, exported.contents), (3, 1));
    assert_eq!(exported.damaged, []);

    let copy = tempfile::tempdir().expect("a directory");
    let imported = import(&options(copy.path()), &mut &file[..], &mut |_| {}).expect("imported");
    assert_eq!(imported, exported);
    let report = check(&options(copy.path()), &mut |_| {}).expect("checked");
    assert_eq!(report.problems, []);
    let store = Arc::new(LocalStore::open(options(copy.path())).expect("opened"));
    assert_eq!(store.damage(), []);
    assert_eq!(dump(&(store.clone() as SharedStore)).await, expected);
    assert_eq!(store.read_content(&name, 0, 1 << 20).await, Ok(content));
    assert_eq!(store.refers(&stream("c"), &name).await, Ok(true));
    // It goes on where it was, and the same can be exported again.
    assert!(
        add(&store, "a", 60, 10).await.revision > expected.changes[expected.changes.len() - 1].1
    );
    store
        .compact(&super::compaction::all(), &mut |_| {})
        .expect("compacted");
    assert_eq!(
        dump(&(store.clone() as SharedStore)).await.records,
        expected.records
    );

    // Only into nothing.
    let again = import(&options(copy.path()), &mut &file[..], &mut |_| {});
    assert!(matches!(again, Err(Error::Unusable(_))));
}

#[tokio::test]
async fn a_damaged_export_is_refused_and_what_it_left_is_no_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..10 {
        add(&store, "a", last, 20).await;
        put(&store, "t/x", &last.to_string()).await;
    }
    store.close_blocking().expect("closed");
    let mut file = Vec::new();
    export(options(dir.path()), &mut file, &mut |_| {}).expect("exported");
    let mut tries: Vec<Vec<u8>> = (0..file.len())
        .step_by(7)
        .map(|cut| file[..cut].to_vec())
        .collect();
    for at in (0..file.len()).step_by(5) {
        let mut flipped = file.clone();
        flipped[at] ^= 16;
        tries.push(flipped);
    }
    for bytes in tries {
        let copy = tempfile::tempdir().expect("a directory");
        let imported = import(&options(copy.path()), &mut &bytes[..], &mut |_| {});
        assert!(matches!(imported, Err(Error::Unusable(_))), "{imported:?}");
        assert!(matches!(
            LocalStore::open(options(copy.path())),
            Err(Error::Unusable(_))
        ));
    }
}
