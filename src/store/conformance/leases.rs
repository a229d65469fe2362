//! Leases and the outbox.

use super::*;

pub(super) async fn leases_have_one_owner_and_a_growing_fence(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let clock = provider.clock();
    let ttl = Duration::from_secs(10);
    let first = store
        .acquire("l", "ann", ttl)
        .await
        .expect("readable")
        .expect("free");
    assert_eq!(first.expires, clock.now().saturating_add(ttl));
    assert_eq!(store.acquire("l", "bob", ttl).await, Ok(None));
    clock.advance(Duration::from_secs(6));
    let renewed = store
        .renew(&first, ttl)
        .await
        .expect("readable")
        .expect("held");
    assert_eq!(renewed.fence, first.fence);
    clock.advance(Duration::from_secs(6));
    assert_eq!(
        store.acquire("l", "bob", ttl).await,
        Ok(None),
        "it was renewed"
    );
    clock.advance(Duration::from_secs(6));
    let second = store
        .acquire("l", "bob", ttl)
        .await
        .expect("readable")
        .expect("expired");
    assert!(second.fence > first.fence);
    assert_eq!(store.renew(&renewed, ttl).await, Ok(None));
    store.release(&renewed).await.expect("nothing happens");
    assert_eq!(store.acquire("l", "ann", ttl).await, Ok(None));
    drop(store);
    provider.reopen().await;
    let store = provider.store();
    store.release(&second).await.expect("released");
    let third = store
        .acquire("l", "ann", ttl)
        .await
        .expect("readable")
        .expect("free");
    assert!(third.fence > second.fence, "the fence outlives the release");
    let again = store
        .acquire("l", "ann", ttl)
        .await
        .expect("readable")
        .expect("its own");
    assert!(again.fence > third.fence);
    let race = join_all((0..8).map(|n| {
        let store = &store;
        async move { store.acquire("race", &format!("owner {n}"), ttl).await }
    }));
    let winners = race
        .await
        .into_iter()
        .filter(|lease| matches!(lease, Ok(Some(_))))
        .count();
    assert_eq!(winners, 1);
}

pub(super) async fn the_outbox_is_in_order_and_per_daemon(provider: Box<dyn Provider>) {
    let store = provider.store();
    for (daemon, order) in [("d1", "02"), ("d1", "01"), ("d10", "00"), ("d1", "03")] {
        let put = store.put_op(daemon, order, Bytes::copy_from_slice(order.as_bytes()));
        commit(&store, ops(vec![put])).await;
    }
    let pending = async |daemon: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = store.pending(daemon, after, limit).await.expect("readable");
        assert!(found.iter().all(|record| record.key == record.value));
        found.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(pending("d1", None, 9).await, ["01", "02", "03"]);
    assert_eq!(pending("d1", Some("01"), 1).await, ["02"]);
    assert_eq!(pending("d10", None, 9).await, ["00"]);
    commit(&store, ops(vec![store.remove_op("d1", "02")])).await;
    assert_eq!(pending("d1", None, 9).await, ["01", "03"]);
}
