//! Records: comparing, scanning, following.

use super::*;

pub(super) async fn records_compare_and_set(provider: Box<dyn Provider>) {
    let store = provider.store();
    let one = commit(&store, ops(vec![op("t/x", Expect::Absent, Some("1"))])).await;
    assert_eq!(value(&store, "t/x").await, Some((one.revision, "1".into())));
    let stale = Err(Error::Stale {
        key: "t/x".into(),
        revision: Some(one.revision),
    });
    assert_eq!(
        store
            .commit(ops(vec![op("t/x", Expect::Absent, Some("2"))]))
            .await,
        stale
    );
    let wrong = Expect::Revision(one.revision + 1);
    assert_eq!(
        store.commit(ops(vec![op("t/x", wrong, Some("2"))])).await,
        stale
    );
    let two = commit(
        &store,
        ops(vec![op("t/x", Expect::Revision(one.revision), Some(""))]),
    )
    .await;
    assert_eq!(
        value(&store, "t/x").await,
        Some((two.revision, "".into())),
        "an empty value is a value"
    );
    commit(
        &store,
        ops(vec![op("t/x", Expect::Revision(two.revision), None)]),
    )
    .await;
    assert_eq!(value(&store, "t/x").await, None);
    let gone = Err(Error::Stale {
        key: "t/x".into(),
        revision: None,
    });
    assert_eq!(
        store
            .commit(ops(vec![op(
                "t/x",
                Expect::Revision(two.revision),
                Some("3")
            )]))
            .await,
        gone
    );
    commit(&store, ops(vec![op("t/x", Expect::Absent, Some("4"))])).await;
    commit(
        &store,
        ops(vec![
            op("t/x", Expect::Any, None),
            op("t/none", Expect::Any, None),
        ]),
    )
    .await;
    assert_eq!(value(&store, "t/x").await, None);
}

pub(super) async fn records_are_scanned_both_ways_in_pages(provider: Box<dyn Provider>) {
    let store = provider.store();
    let keys = ["a/1", "a/2", "a/3", "a/\u{10ffff}", "ab/1", "b/1"];
    commit(
        &store,
        ops(keys
            .iter()
            .map(|key| op(key, Expect::Any, Some(key)))
            .collect()),
    )
    .await;
    let scan = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = store.scan(prefix, after, limit).await.expect("readable");
        assert!(found.iter().all(|record| record.value == record.key));
        found.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(scan("a/", None, 9).await, keys[..4]);
    assert_eq!(scan("a/", None, 2).await, keys[..2]);
    assert_eq!(scan("a/", Some("a/2"), 9).await, keys[2..4]);
    assert_eq!(scan("a/", Some("a/15"), 1).await, ["a/2"]);
    assert_eq!(scan("a/", Some("0"), 1).await, ["a/1"], "before the prefix");
    assert_eq!(
        scan("a/", Some("zz"), 9).await,
        [""; 0],
        "behind the prefix"
    );
    assert_eq!(scan("", None, 9).await, keys);
    assert_eq!(scan("c", None, 9).await, [""; 0]);
    let back = async |prefix: &str, before: Option<&str>, limit| -> Vec<String> {
        let found = store
            .scan_back(prefix, before, limit)
            .await
            .expect("readable");
        found.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(back("a/", None, 2).await, [keys[3], keys[2]]);
    assert_eq!(back("a/", Some("a/2"), 9).await, ["a/1"]);
    assert_eq!(back("a/", Some("zz"), 1).await, [keys[3]]);
    assert_eq!(back("a/", Some("a/"), 1).await, [""; 0]);
    assert_eq!(back("a/", Some("0"), 1).await, [""; 0]);
    assert_eq!(back("", None, 1).await, ["b/1"]);
}

pub(super) async fn changes_tell_the_newest_of_each_key(provider: Box<dyn Provider>) {
    let store = provider.store();
    let change = async |revision, limit| -> Vec<(String, u64, Option<Bytes>)> {
        let changes = store
            .changes("t/", revision, limit)
            .await
            .expect("readable");
        changes
            .into_iter()
            .map(|change| (change.key, change.revision, change.value))
            .collect()
    };
    let one = commit(
        &store,
        ops(vec![
            op("t/a", Expect::Any, Some("1")),
            op("t/b", Expect::Any, Some("1")),
        ]),
    )
    .await
    .revision;
    let two = commit(
        &store,
        ops(vec![
            op("t/c", Expect::Any, Some("2")),
            op("u/a", Expect::Any, Some("2")),
        ]),
    )
    .await
    .revision;
    let a = ("t/a".to_owned(), one, Some("1".into()));
    let b = ("t/b".to_owned(), one, Some("1".into()));
    let c = ("t/c".to_owned(), two, Some("2".into()));
    assert_eq!(change(0, 9).await, [a.clone(), b.clone(), c.clone()]);
    assert_eq!(change(0, 1).await, [a, b.clone()], "a commit is not split");
    assert_eq!(change(one, 9).await, std::slice::from_ref(&c));
    assert_eq!(change(two, 9).await, []);
    let three = commit(&store, ops(vec![op("t/a", Expect::Any, None)]))
        .await
        .revision;
    let gone = ("t/a".to_owned(), three, None);
    assert_eq!(change(0, 9).await, [b.clone(), c.clone(), gone]);
    let four = commit(&store, ops(vec![op("t/a", Expect::Absent, Some("4"))]))
        .await
        .revision;
    let back = ("t/a".to_owned(), four, Some("4".into()));
    assert_eq!(change(0, 9).await, [b, c, back]);
    assert_eq!(change(u64::MAX, 9).await, []);
}

pub(super) async fn forgotten_deletions_are_said(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let before = commit(&store, ops(vec![op("t/gone", Expect::Any, Some("1"))]))
        .await
        .revision;
    commit(&store, ops(vec![op("t/gone", Expect::Any, None)])).await;
    let remembered = store.changes("t/", before, 9).await.expect("readable");
    assert_eq!(remembered.len(), 1);
    for lot in 0..12 {
        let all = |value| {
            (0..1_000)
                .map(|n| op(&format!("u/{lot}/{n}"), Expect::Any, value))
                .collect()
        };
        commit(&store, ops(all(Some("1")))).await;
        commit(&store, ops(all(None))).await;
    }
    for _ in 0..2 {
        let store = provider.store();
        let through = match store.changes("t/", before, 9).await {
            Err(Error::Forgotten { through }) => through,
            other => panic!("{other:?}"),
        };
        assert!(through > before);
        // Whoever reads from the beginning has nothing that could be gone; from there on all is known.
        assert_eq!(store.changes("t/", 0, 9).await, Ok(Vec::new()));
        assert_eq!(store.changes("t/", through, 9).await, Ok(Vec::new()));
        drop(store);
        provider.reopen().await;
    }
}

pub(super) async fn large_values_are_kept(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let large = "v".repeat(4 << 20);
    let medium = "m".repeat(17 << 10);
    let done = commit(
        &store,
        ops(vec![
            op("t/large", Expect::Any, Some(&large)),
            op("t/medium", Expect::Any, Some(&medium)),
            op("t/small", Expect::Any, Some("s")),
        ]),
    )
    .await;
    let check = async |store: &SharedStore| {
        assert_eq!(
            value(store, "t/large").await,
            Some((done.revision, large.clone().into()))
        );
        let found = store.scan("t/", None, 9).await.expect("readable");
        let sizes: Vec<usize> = found.iter().map(|record| record.value.len()).collect();
        assert_eq!(sizes, [4 << 20, 17 << 10, 1]);
        let changes = store.changes("t/", 0, 9).await.expect("readable");
        assert_eq!(changes.len(), 3);
        assert_eq!(changes[1].value.as_ref().map(Bytes::len), Some(17 << 10));
    };
    check(&store).await;
    drop(store);
    provider.reopen().await;
    check(&provider.store()).await;
    let store = provider.store();
    let too_large = "v".repeat((4 << 20) + 1);
    let refused = store
        .commit(ops(vec![op("t/large", Expect::Any, Some(&too_large))]))
        .await;
    assert!(matches!(refused, Err(Error::Malformed(_))));
}
