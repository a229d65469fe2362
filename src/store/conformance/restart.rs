//! Restarts and the end of a store.

use super::*;

pub(super) async fn everything_survives_a_restart(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    for seq in 0..30 {
        let done = commit(
            &store,
            Commit {
                appends: vec![
                    append("a", seq, &[&seq.to_string()]),
                    append("b", seq * 2, &["x", "y"]),
                ],
                ops: vec![
                    op("t/count", Expect::Any, Some(&seq.to_string())),
                    op(&format!("t/{seq:02}"), Expect::Absent, Some("x")),
                ],
                trims: vec![],
            },
        )
        .await;
        if seq % 3 == 0 {
            commit(
                &store,
                ops(vec![op(
                    &format!("t/{seq:02}"),
                    Expect::Revision(done.revision),
                    None,
                )]),
            )
            .await;
        }
    }
    commit(&store, trim("b", 7)).await;
    let before = dump(&store).await;
    drop(store);
    for round in 0..4 {
        if round % 2 == 0 {
            provider.crash().await;
        } else {
            provider.reopen().await;
        }
        let store = provider.store();
        assert_eq!(dump(&store).await, before, "round {round}");
    }
    let store = provider.store();
    let done = commit(&store, appends(vec![append("a", 30, &["after"])])).await;
    assert!(done.revision > before.changes[before.changes.len() - 1].1);
    assert_eq!(*store.watch(&stream("a")).borrow(), 31);
}

pub(super) async fn a_closed_store_says_so(provider: Box<dyn Provider>) {
    let store = provider.store();
    commit(&store, appends(vec![append("a", 0, &["x"])])).await;
    store.close().await.expect("closed");
    store.close().await.expect("closed already");
    assert_eq!(
        store.commit(appends(vec![append("a", 1, &["y"])])).await,
        Err(Error::Closed)
    );
    assert_eq!(store.head(&stream("a")).await, Err(Error::Closed));
    assert_eq!(store.read(&stream("a"), 0, 9).await, Err(Error::Closed));
    assert_eq!(store.get("t/x").await, Err(Error::Closed));
    assert_eq!(store.scan("", None, 9).await, Err(Error::Closed));
}
