//! Commits: what is refused, races, dropped futures.

use super::*;

pub(super) async fn malformed_commits_are_refused(provider: Box<dyn Provider>) {
    let store = provider.store();
    let bad = [
        appends(vec![append("a", 0, &["1"]), append("a", 1, &["2"])]),
        ops(vec![
            op("t/a", Expect::Any, None),
            op("t/a", Expect::Any, Some("x")),
        ]),
        ops(vec![op("", Expect::Any, Some("x"))]),
        ops(vec![op(&"k".repeat(513), Expect::Any, Some("x"))]),
        Commit {
            appends: vec![append("a", 0, &["1"])],
            trims: drop_stream("a").trims,
            ops: vec![],
        },
        Commit {
            trims: [trim("a", 1).trims, drop_stream("a").trims].concat(),
            ..Commit::default()
        },
        appends(vec![Append {
            entries: vec![Bytes::from(vec![0; 9 << 20]); 2].into(),
            ..append("a", 0, &[])
        }]),
    ];
    for commit in bad {
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
    }
    assert_eq!(store.streams(None, 9).await, Ok(vec![]));
    commit(
        &store,
        ops(vec![op(&"k".repeat(512), Expect::Any, Some("x"))]),
    )
    .await;
    // One that says nothing is fine and has a number.
    commit(&store, Commit::default()).await;
}

pub(super) async fn racing_appends_leave_no_gap(provider: Box<dyn Provider>) {
    let store = provider.store();
    let racers = (0..8).map(|racer| {
        let store = &store;
        async move {
            let mut won = Vec::new();
            let mut last = 0;
            while won.len() < 25 {
                let text = format!("{racer}/{}", won.len());
                match store
                    .commit(appends(vec![append("a", last, &[&text])]))
                    .await
                {
                    Ok(done) => {
                        last = done.heads[0].last_seq;
                        won.push((last, text));
                    }
                    Err(Error::Conflict { last: now, .. }) => last = now,
                    Err(error) => panic!("{error}"),
                }
            }
            won
        }
    });
    let mut won: Vec<(u64, String)> = join_all(racers).await.into_iter().flatten().collect();
    won.sort();
    let all = read_all(&store, &stream("a"), 0, 100)
        .await
        .expect("readable");
    assert_eq!(all.len(), 200);
    for (seq, (won_seq, text)) in won.iter().enumerate() {
        assert_eq!(*won_seq, seq as u64 + 1);
        assert_eq!(all[seq], *text);
    }
}

pub(super) async fn a_dropped_future_does_not_undo_its_commit(provider: Box<dyn Provider>) {
    let store = provider.store();
    let mut watch = store.watch(&stream("a"));
    let mut future = store.commit(appends(vec![append("a", 0, &["kept"])]));
    let _ = (&mut future).now_or_never();
    drop(future);
    if *watch.borrow_and_update() == 0 {
        watch.changed().await.expect("the store is there");
    }
    assert_eq!(
        read_all(&store, &stream("a"), 0, 9)
            .await
            .expect("readable"),
        ["kept"]
    );
}
