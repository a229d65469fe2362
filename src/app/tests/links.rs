//! What comes over a link, and its end.

use std::future::poll_fn;
use std::pin::pin;

use super::facts::{DAEMON, Rig};
use super::*;
use crate::domain::daemon::{Directory, DirectoryQuery, Offer};
use crate::domain::link::{Down, Found, Hello, PROTOCOL_MAX, PROTOCOL_MIN, QueryResult, Up};

/// What a daemon answered a moment before its link broke is an answer, though the actor sees both at once.
#[tokio::test]
async fn an_answer_that_came_with_the_end_of_the_link_counts() {
    let rig = Rig::new(&[], sessions::Options::default()).await;
    let relay = rig.app.relay();
    let (frames, mut down) = relay.open_queued(DAEMON);
    let hello = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        daemon_id: DAEMON,
        boot_generation: 1,
        attempt: 1,
        offer: Offer::default(),
        sessions: Vec::new(),
    };
    frames
        .send(Ok(Box::new(Up::Hello(Box::new(hello)))))
        .await
        .unwrap();
    let welcome = down.recv().await.unwrap().unwrap();
    assert!(matches!(*welcome, Down::Welcome(_)), "{welcome:?}");
    let query = DirectoryQuery {
        path: "/".to_owned(),
        hidden: false,
        brief: true,
    };
    let mut answer = pin!(relay.list_directory(DAEMON, query, Duration::from_secs(60)));
    let asked = poll_fn(|task| {
        assert!(answer.as_mut().poll(task).is_pending(), "nobody answered");
        down.poll_recv(task)
    });
    let asked = asked.await.unwrap().unwrap();
    let Down::Query(query) = *asked else {
        panic!("{asked:?}");
    };
    let result = QueryResult {
        id: query.id,
        result: Ok(Found::Directory(Directory::default())),
    };
    // The actor has no turn between these two.
    frames
        .try_send(Ok(Box::new(Up::QueryResult(result))))
        .unwrap();
    drop(frames);
    assert_eq!(answer.await.unwrap(), Directory::default());
}
