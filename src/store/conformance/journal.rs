//! Streams: appending, reading, trimming, watching.

use super::*;

pub(super) async fn appended_entries_are_read_back(provider: Box<dyn Provider>) {
    let store = provider.store();
    assert_eq!(store.head(&stream("a")).await, Ok(None));
    let done = commit(&store, appends(vec![append("a", 0, &["one", "", "three"])])).await;
    let expected = Head {
        log_epoch: done.heads[0].log_epoch,
        first_seq: 1,
        last_seq: 3,
        fence: 0,
        origin: Origin::default(),
        last_time: Timestamp::from_millis(1),
    };
    assert_eq!(done.heads, [expected]);
    assert_eq!(head(&store, "a").await, expected);
    let both = commit(
        &store,
        appends(vec![
            append("b/x", 0, &["other"]),
            append("a", 3, &["four"]),
        ]),
    )
    .await;
    assert!(both.revision > done.revision);
    assert_eq!(both.heads[1].last_seq, 4);
    assert_eq!(both.heads[1].log_epoch, expected.log_epoch);
    for (after, left) in [(0, 4), (1, 3), (2, 2), (3, 1), (4, 0)] {
        let all = read_all(&store, &stream("a"), after, 1 << 20)
            .await
            .expect("readable");
        assert_eq!(all, ["one", "", "three", "four"][4 - left..]);
    }
    let all = read_all(&store, &stream("b/x"), 0, 1)
        .await
        .expect("readable");
    assert_eq!(all, ["other"]);
}

pub(super) async fn a_commit_is_whole_or_nothing(provider: Box<dyn Provider>) {
    let store = provider.store();
    commit(&store, appends(vec![append("a", 0, &["one"])])).await;
    let first = commit(&store, ops(vec![op("t/x", Expect::Absent, Some("old"))])).await;
    let before = head(&store, "a").await;

    let good = || {
        (
            append("a", 1, &["two"]),
            op("t/x", Expect::Revision(first.revision), Some("new")),
        )
    };
    let (append_good, op_good) = good();
    let refused = Commit {
        appends: vec![append_good, append("b", 5, &["x"])],
        ops: vec![op_good],
        trims: vec![],
    };
    let conflict = Error::Conflict {
        stream: stream("b"),
        last: 0,
    };
    assert_eq!(store.commit(refused).await, Err(conflict));
    let (append_good, _) = good();
    let refused = Commit {
        appends: vec![append_good],
        ops: vec![
            op("t/y", Expect::Any, Some("y")),
            op("t/x", Expect::Absent, None),
        ],
        trims: vec![],
    };
    let stale = Error::Stale {
        key: "t/x".into(),
        revision: Some(first.revision),
    };
    assert_eq!(store.commit(refused).await, Err(stale));
    let (append_good, op_good) = good();
    let refused = Commit {
        appends: vec![append_good],
        ops: vec![op_good],
        trims: vec![Trim {
            stream: stream("nowhere"),
            first_seq: 1,
            drop: false,
        }],
    };
    let missing = Error::NoStream {
        stream: stream("nowhere"),
    };
    assert_eq!(store.commit(refused).await, Err(missing));

    assert_eq!(head(&store, "a").await, before);
    assert_eq!(store.head(&stream("b")).await, Ok(None));
    assert_eq!(
        value(&store, "t/x").await,
        Some((first.revision, "old".into()))
    );
    assert_eq!(value(&store, "t/y").await, None);

    let (append_good, op_good) = good();
    let done = commit(
        &store,
        Commit {
            appends: vec![append_good],
            ops: vec![op_good],
            trims: vec![Trim {
                stream: stream("a"),
                first_seq: 2,
                drop: false,
            }],
        },
    )
    .await;
    assert_eq!(done.heads[0], head(&store, "a").await);
    assert_eq!((done.heads[0].first_seq, done.heads[0].last_seq), (2, 2));
    assert_eq!(
        value(&store, "t/x").await,
        Some((done.revision, "new".into()))
    );
}

pub(super) async fn an_older_fence_is_refused(provider: Box<dyn Provider>) {
    let store = provider.store();
    let fenced = |fence, last| Append {
        fence,
        ..append("a", last, &["x"])
    };
    commit(&store, appends(vec![fenced(5, 0)])).await;
    let refused = Error::Fenced {
        stream: stream("a"),
        fence: 5,
    };
    // Also when it does not know the end either: the fence tells more.
    assert_eq!(
        store.commit(appends(vec![fenced(4, 1)])).await,
        Err(refused.clone())
    );
    assert_eq!(
        store.commit(appends(vec![fenced(4, 7)])).await,
        Err(refused)
    );
    commit(&store, appends(vec![fenced(5, 1)])).await;
    commit(&store, appends(vec![fenced(9, 2)])).await;
    assert_eq!(head(&store, "a").await.fence, 9);
    // A new owner may raise the fence before it writes.
    let raised = Append {
        fence: 10,
        ..append("a", 3, &[])
    };
    commit(&store, appends(vec![raised])).await;
    assert_eq!(
        (
            head(&store, "a").await.fence,
            head(&store, "a").await.last_seq
        ),
        (10, 3)
    );
    assert!(matches!(
        store.commit(appends(vec![fenced(9, 3)])).await,
        Err(Error::Fenced { fence: 10, .. })
    ));
}

pub(super) async fn a_spool_moves_without_entries(provider: Box<dyn Provider>) {
    let store = provider.store();
    let origin = |seq| Some(Origin { epoch: 7, seq });
    let with = |origin, append: Append| Append { origin, ..append };
    commit(
        &store,
        appends(vec![with(origin(3), append("a", 0, &["x"]))]),
    )
    .await;
    let time = head(&store, "a").await.last_time;
    commit(&store, appends(vec![with(origin(8), append("a", 1, &[]))])).await;
    let now = head(&store, "a").await;
    assert_eq!(now.origin, Origin { epoch: 7, seq: 8 });
    assert_eq!((now.last_seq, now.last_time), (1, time));
    // What the server appends itself leaves it.
    commit(&store, appends(vec![append("a", 1, &["y"])])).await;
    assert_eq!(head(&store, "a").await.origin, Origin { epoch: 7, seq: 8 });
    assert_eq!(head(&store, "a").await.last_time, Timestamp::from_millis(2));
    // A stream may begin without any entry.
    commit(
        &store,
        appends(vec![with(origin(1), append("empty", 0, &[]))]),
    )
    .await;
    let empty = head(&store, "empty").await;
    assert_eq!((empty.first_seq, empty.last_seq), (1, 0));
    assert_eq!(store.read(&stream("empty"), 0, 100).await, Ok(vec![]));
}

pub(super) async fn positions_outside_the_log_are_refused_with_the_head(
    provider: Box<dyn Provider>,
) {
    let store = provider.store();
    for seq in 0..10 {
        commit(
            &store,
            appends(vec![append("a", seq, &[&format!("entry {}", seq + 1)])]),
        )
        .await;
    }
    commit(&store, trim("a", 4)).await;
    let head = head(&store, "a").await;
    assert_eq!((head.first_seq, head.last_seq), (4, 10));
    let a = stream("a");
    let truncated = Err(Error::Truncated {
        stream: a.clone(),
        head,
    });
    let future = Err(Error::Future {
        stream: a.clone(),
        head,
    });
    assert_eq!(store.read(&a, 0, 100).await, truncated);
    assert_eq!(store.read(&a, 2, 100).await, truncated);
    assert_eq!(
        read_all(&store, &a, 3, 100).await.expect("readable").len(),
        7
    );
    assert_eq!(
        read_all(&store, &a, 9, 100).await.expect("readable"),
        ["entry 10"]
    );
    assert_eq!(store.read(&a, 10, 100).await, Ok(vec![]));
    assert_eq!(store.read(&a, 11, 100).await, future);
    assert_eq!(store.read(&a, u64::MAX, 100).await, future);
    // Trimmed to nothing it still knows where it is.
    commit(&store, trim("a", 11)).await;
    assert_eq!(store.read(&a, 10, 100).await, Ok(vec![]));
    assert!(
        matches!(store.read(&a, 9, 100).await, Err(Error::Truncated { head, .. }) if head.first_seq == 11)
    );
    commit(&store, appends(vec![append("a", 10, &["entry 11"])])).await;
    assert_eq!(
        read_all(&store, &a, 10, 100).await.expect("readable"),
        ["entry 11"]
    );
    let nowhere = stream("nowhere");
    let missing = Err(Error::NoStream {
        stream: nowhere.clone(),
    });
    assert_eq!(store.read(&nowhere, 0, 100).await, missing);
}

pub(super) async fn a_read_takes_whole_runs_up_to_its_limit(provider: Box<dyn Provider>) {
    let store = provider.store();
    let text = "x".repeat(20_000);
    for run in 0..10 {
        commit(&store, appends(vec![append("a", run * 2, &[&text, &text])])).await;
    }
    let a = stream("a");
    let one = store.read(&a, 0, 1).await.expect("readable");
    assert_eq!(entries(0, &one).len(), 2, "at least one run");
    let some = store.read(&a, 1, 100_000).await.expect("readable");
    let bytes: usize = some.iter().map(|chunk| chunk.bytes.len()).sum();
    assert!((100_000..200_000).contains(&bytes), "{bytes}");
    assert_eq!(some[0].first_seq, 2, "it begins within a run");
    assert_eq!(
        read_all(&store, &a, 0, 1).await.expect("readable").len(),
        20
    );
    assert_eq!(store.seq_within(&a, 90_000).await, Ok(17));
    assert_eq!(store.seq_within(&a, 1).await, Ok(19));
    assert_eq!(store.seq_within(&a, u64::MAX).await, Ok(1));
}

pub(super) async fn a_dropped_stream_comes_back_with_another_epoch(provider: Box<dyn Provider>) {
    let store = provider.store();
    let old = commit(&store, appends(vec![append("a", 0, &["old 1", "old 2"])])).await;
    commit(&store, drop_stream("a")).await;
    assert_eq!(store.head(&stream("a")).await, Ok(None));
    assert!(matches!(
        store.read(&stream("a"), 0, 9).await,
        Err(Error::NoStream { .. })
    ));
    assert_eq!(store.streams(None, 9).await, Ok(vec![]));
    let new = commit(&store, appends(vec![append("a", 0, &["new"])])).await;
    assert_ne!(new.heads[0].log_epoch, old.heads[0].log_epoch);
    assert_eq!((new.heads[0].first_seq, new.heads[0].last_seq), (1, 1));
    assert_eq!(
        read_all(&store, &stream("a"), 0, 9)
            .await
            .expect("readable"),
        ["new"]
    );
}

pub(super) async fn trims_of_what_is_not_there(provider: Box<dyn Provider>) {
    let store = provider.store();
    assert!(matches!(
        store.commit(trim("a", 1)).await,
        Err(Error::NoStream { .. })
    ));
    // Dropping twice is dropping once.
    commit(&store, drop_stream("a")).await;
    commit(&store, appends(vec![append("a", 0, &["1", "2", "3"])])).await;
    assert!(
        matches!(store.commit(trim("a", 5)).await, Err(Error::Future { head, .. }) if head.last_seq == 3)
    );
    commit(&store, trim("a", 3)).await;
    // A trim never gives anything back.
    commit(&store, trim("a", 1)).await;
    assert_eq!(head(&store, "a").await.first_seq, 3);
    assert_eq!(
        read_all(&store, &stream("a"), 2, 9)
            .await
            .expect("readable"),
        ["3"]
    );
}

pub(super) async fn a_watch_wakes_when_the_stream_grows(provider: Box<dyn Provider>) {
    let store = provider.store();
    let a = stream("a");
    let mut early = store.watch(&a);
    assert_eq!(*early.borrow_and_update(), 0);
    commit(&store, appends(vec![append("a", 0, &["1", "2"])])).await;
    early.changed().await.expect("the store is there");
    assert_eq!(*early.borrow_and_update(), 2);
    let late = store.watch(&a);
    assert_eq!(*late.borrow(), 2);
    let other = store.watch(&stream("b"));
    // Near the end, from one reader's view: what it was woken for is there.
    for seq in 2..50 {
        commit(&store, appends(vec![append("a", seq, &["x"])])).await;
        early.changed().await.expect("the store is there");
        let last = *early.borrow_and_update();
        let got = store.read(&a, seq, 1000).await.expect("readable");
        assert_eq!(entries(seq, &got).len() as u64, last - seq);
    }
    assert!(!other.has_changed().expect("the store is there"));

    let mut revision = store.watch_revision();
    revision.borrow_and_update();
    let done = commit(&store, ops(vec![op("t/x", Expect::Any, Some("1"))])).await;
    revision.changed().await.expect("the store is there");
    assert_eq!(*revision.borrow(), done.revision);
}

pub(super) async fn streams_are_listed_in_pages(provider: Box<dyn Provider>) {
    let store = provider.store();
    for name in ["b", "a/2", "a", "c", "a/1"] {
        commit(&store, appends(vec![append(name, 0, &["x"])])).await;
    }
    let mut all = Vec::new();
    let mut after: Option<Stream> = None;
    loop {
        let page = store.streams(after.as_ref(), 2).await.expect("readable");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.clone());
        all.extend(page);
    }
    let names: Vec<&str> = all.iter().map(Stream::as_str).collect();
    assert_eq!(names, ["a", "a/1", "a/2", "b", "c"]);
}
