//! Commits that become visible slowly: who has seen a part of one can rely on the rest.
#![cfg(feature = "failpoints")]

use futures_util::future::join_all;

use crate::support::baton::Baton;

/// A server in which the index has a commit long before anything else has it.
async fn slow() -> Baton {
    let mut baton = Baton::new();
    baton.spawn_server_with(&[("BATON_FAULT", "store::mid_projection=sleep(30)")]);
    baton.server_answers().await;
    baton
}

#[tokio::test]
async fn a_daemon_that_is_listed_as_linked_is_given_sessions() {
    let mut baton = slow().await;
    for _ in 0..3 {
        // Waits until the list has it, and no longer.
        baton.start_daemon().await;
        baton.create(baton.demo("say: hi")).await;
        baton.kill_daemon();
        baton.daemon_is_away().await;
    }
}

#[tokio::test]
async fn sessions_that_are_made_and_begin_at_once_are_all_made() {
    let mut baton = slow().await;
    baton.start_daemon().await;
    let made = (0..12).map(|_| baton.create(baton.demo("say: hi")));
    for id in join_all(made).await {
        baton.turns(&id, 1).await;
    }
}
