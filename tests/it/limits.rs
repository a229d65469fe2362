//! What a session may use, who may do what in it, and the order of what waits.

use baton::base::Code;
use baton::domain::{EndReason, EventBody, InputState, Lifecycle};
use baton::wire::v1;

use crate::support::baton::{Baton, eventually};
use crate::support::sessions::denied;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn every_limit_ends_or_suspends_and_keeps_what_was_produced() {
    let baton = Baton::start().await;
    let end = v1::LimitAction::End.into();
    let limits = |limits: v1::Limits, request: v1::CreateSessionRequest| v1::CreateSessionRequest {
        limits: Some(limits),
        ..request
    };
    let cases = [
        (
            "runtime",
            limits(
                v1::Limits {
                    runtime: seconds(1),
                    action: end,
                    ..Default::default()
                },
                baton.shell("echo kept; sleep 600"),
            ),
            v1::Lifecycle::Ended,
        ),
        (
            "output_bytes",
            limits(
                v1::Limits {
                    output_bytes: 1_000,
                    action: end,
                    ..Default::default()
                },
                baton.shell("echo kept; seq 1 2000; sleep 600"),
            ),
            v1::Lifecycle::Ended,
        ),
        (
            "idle",
            limits(
                v1::Limits {
                    idle: seconds(1),
                    action: end,
                    ..Default::default()
                },
                baton.demo("say: kept"),
            ),
            v1::Lifecycle::Ended,
        ),
        (
            "turns",
            limits(
                v1::Limits {
                    turns: 1,
                    action: end,
                    ..Default::default()
                },
                baton.demo("say: kept"),
            ),
            v1::Lifecycle::Ended,
        ),
        (
            "cost",
            limits(
                v1::Limits {
                    cost_micro_usd: 200_000,
                    action: v1::LimitAction::Suspend.into(),
                    ..Default::default()
                },
                baton.demo("say: kept\ncost: 0.25"),
            ),
            v1::Lifecycle::Suspended,
        ),
    ];
    for (name, request, lifecycle) in cases {
        let id = baton.create(request).await;
        let session = baton.reaches(&id, lifecycle).await;
        let events = baton.events(&id).await;
        let reached: Vec<&String> = events
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::LimitExceeded { limit, .. } => Some(limit),
                _ => None,
            })
            .collect();
        assert_eq!(reached, [name]);
        assert!(
            format!("{events:?}").contains("kept"),
            "{name}: what came before is gone"
        );
        if lifecycle == v1::Lifecycle::Ended {
            assert_eq!(
                session.end.unwrap().reason(),
                v1::EndReason::Limit,
                "{name}"
            );
            assert!(events.iter().any(|event| matches!(
                &event.body,
                EventBody::Ended { end } if end.reason == EndReason::Limit
            )));
        } else {
            assert!(events.iter().any(|event| matches!(
                &event.body,
                EventBody::LifecycleChanged {
                    to: Lifecycle::Suspended,
                    ..
                }
            )));
        }
    }
}

#[tokio::test]
async fn a_request_id_makes_one_session_however_often_it_is_used() {
    let baton = Baton::start().await;
    let request = v1::CreateSessionRequest {
        request_id: "r-1".to_owned(),
        ..baton.demo("say: once")
    };
    let client = baton.client();
    let calls = (0..8).map(|_| client.create_session(request.clone()));
    let answers = futures_util::future::join_all(calls).await;
    let ids: std::collections::BTreeSet<String> = answers
        .into_iter()
        .map(|answer| answer.unwrap().session.unwrap().id)
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let list = client
        .list_sessions(v1::ListSessionsRequest::default())
        .await
        .unwrap();
    assert_eq!(list.sessions.len(), 1);
    let other = v1::CreateSessionRequest {
        input: "say: another".to_owned(),
        ..request
    };
    let refused = client.create_session(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidInput);
    assert_eq!(refused.fields()[0].field, "request_id");
    let id = ids.into_iter().next().unwrap();
    let send = v1::SendInputRequest {
        request_id: "r-1".to_owned(),
        session_id: id.clone(),
        text: "say: two".to_owned(),
        ..Default::default()
    };
    let (one, two) = tokio::join!(client.send_input(send.clone()), client.send_input(send));
    assert_eq!(
        one.unwrap().input.unwrap().id,
        two.unwrap().input.unwrap().id
    );
}

#[tokio::test]
async fn the_queue_is_bounded_and_can_be_changed_while_it_waits() {
    let baton = Baton::start().await;
    let client = baton.client();
    let session = baton.session("demo", "run: touch waits").await;
    let prompt = baton.prompt(&session.id).await;
    let send = |text: String| v1::SendInputRequest {
        session_id: session.id.clone(),
        text,
        ..Default::default()
    };
    let mut ids = Vec::new();
    for n in 0..100 {
        let sent = client.send_input(send(format!("say: {n}"))).await.unwrap();
        ids.push(sent.input.unwrap().id);
    }
    let refused = client.send_input(send("say: too much".to_owned())).await;
    assert_eq!(refused.unwrap_err().code(), Code::LimitExceeded);
    // Of the queue only the last four stay; the very last is changed and goes first.
    for id in &ids[..96] {
        client
            .withdraw_input(v1::WithdrawInputRequest {
                session_id: session.id.clone(),
                input_id: id.clone(),
            })
            .await
            .unwrap();
    }
    let changed = client
        .update_input(v1::UpdateInputRequest {
            session_id: session.id.clone(),
            input_id: ids[99].clone(),
            text: "say: changed".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(changed.input.unwrap().text, "say: changed");
    let moved = client
        .move_input(v1::MoveInputRequest {
            session_id: session.id.clone(),
            input_id: ids[99].clone(),
            position: 1,
        })
        .await
        .unwrap();
    let order: Vec<&str> = moved.inputs.iter().map(|input| &*input.text).collect();
    assert_eq!(order, ["say: changed", "say: 96", "say: 97", "say: 98"]);
    baton.decide(&prompt, denied("")).await;
    let events = baton.turns(&session.id, 5).await;
    let applied: Vec<String> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::InputChanged {
                input_id,
                state: InputState::Applied,
                ..
            } => Some(input_id.to_string()),
            _ => None,
        })
        .skip(1)
        .collect();
    assert_eq!(
        applied,
        [&ids[99], &ids[96], &ids[97], &ids[98]].map(String::clone)
    );
}

#[tokio::test]
async fn a_session_is_suspended_resumed_branched_off_and_deleted() {
    let baton = Baton::start().await;
    let client = baton.client();
    let id = baton.session("demo", "say: remember plums").await.id;
    baton.turns(&id, 1).await;
    let fork = client
        .fork_session(v1::ForkSessionRequest {
            session_id: id.clone(),
            input: "recall:".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    assert_eq!(fork.forked_from, id);
    let told = baton.turns(&fork.id, 1).await;
    assert!(format!("{told:?}").contains("plums"));
    let suspend = v1::SuspendSessionRequest {
        session_id: id.clone(),
        ..Default::default()
    };
    client.suspend_session(suspend).await.unwrap();
    baton.reaches(&id, v1::Lifecycle::Suspended).await;
    let resumed = client
        .resume_session(v1::ResumeSessionRequest {
            session_id: id.clone(),
            input: "recall:".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    assert_eq!(resumed.resumed_from, id);
    let told = baton.turns(&resumed.id, 1).await;
    assert!(format!("{told:?}").contains("plums"));
    let old = baton.reaches(&id, v1::Lifecycle::Ended).await;
    assert_eq!(old.resumed_by, resumed.id);
    let gone = v1::DeleteSessionRequest {
        session_id: id.clone(),
    };
    client.delete_session(gone).await.unwrap();
    let look = client
        .get_session(v1::GetSessionRequest { session_id: id })
        .await;
    assert!([Code::NotFound, Code::NoSession].contains(&look.unwrap_err().code()));
}

#[tokio::test]
async fn search_finds_words_and_is_made_anew_when_it_is_lost() {
    let mut baton = Baton::start().await;
    let id = baton
        .session("demo", "say: a zephyr in the garden")
        .await
        .id;
    baton.turns(&id, 1).await;
    for round in ["as it is", "after a kill", "after the loss of the index"] {
        if round != "as it is" {
            baton.kill_server();
        }
        if round.ends_with("index") {
            let data = baton.data_dir();
            for file in ["search.db", "search.db-wal", "search.db-shm"] {
                let _ = std::fs::remove_file(data.join(file));
            }
        }
        if round != "as it is" {
            baton.start_server().await;
        }
        eventually(&format!("the word is found {round}"), || async {
            let request = v1::SearchEventsRequest {
                query: "zephyr garden".to_owned(),
                ..Default::default()
            };
            let found = baton.client().search_events(request).await.ok()?;
            found
                .hits
                .iter()
                .any(|hit| hit.session_id == id)
                .then_some(())
        })
        .await;
        let request = v1::SearchEventsRequest {
            query: "nowhere".to_owned(),
            ..Default::default()
        };
        assert!(
            baton
                .client()
                .search_events(request)
                .await
                .unwrap()
                .hits
                .is_empty()
        );
    }
}
