//! Commits that become visible slowly: who has seen a part of one can rely on the rest.
#![cfg(feature = "failpoints")]

use baton::wire::v1;
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

#[tokio::test]
async fn no_more_are_made_than_the_daemon_takes() {
    const TAKES: usize = 16;
    let mut baton = slow().await;
    baton.start_daemon().await;
    let daemons = v1::ListDaemonsRequest::default();
    let daemons = baton.client().list_daemons(daemons).await;
    let daemon = daemons.expect("listed").daemons.remove(0).id;
    let made = (0..TAKES + 8).map(|at| {
        let (client, mut request) = (baton.client(), baton.demo("say: hi"));
        // One half says where, the other leaves it to the server.
        if at % 2 == 0 {
            request.daemon_id.clone_from(&daemon);
        }
        async move { client.create_session(request).await }
    });
    let (made, refused): (Vec<_>, Vec<_>) =
        join_all(made).await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), TAKES);
    for refused in refused {
        let message = refused.expect_err("refused").to_string();
        assert!(message.contains("as many living sessions"), "{message}");
    }
    for made in made {
        let id = made.expect("made").session.expect("a session").id;
        baton.turns(&id, 1).await;
    }
}
