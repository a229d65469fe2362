//! What people may do while a session's machine is away.

use baton::domain::{EventBody, InputState};
use baton::wire::v1;

use crate::support::baton::{Baton, eventually};

/// Input for a machine that is away stays in the queue: shown, edited, moved and taken back; what is left
/// is delivered in its order when the machine is back, to the same agent.
#[tokio::test]
async fn input_for_a_machine_that_is_away_waits_in_the_queue_and_is_a_persons_to_change() {
    let mut baton = Baton::start().await;
    let session = baton.session("demo", "say: first").await.id;
    let said = |text: &'static str| {
        move |body: &EventBody| {
            matches!(body, EventBody::Message { .. }) && format!("{body:?}").contains(text)
        }
    };
    baton
        .wait_for(&session, "the first turn", said("first"))
        .await;
    let client = baton.client();
    let get = || async {
        let request = v1::GetSessionRequest {
            session_id: session.clone(),
        };
        client.get_session(request).await.unwrap().session.unwrap()
    };
    eventually("the agent waits for input", || async {
        (get().await.activity() == v1::Activity::AwaitingInput).then_some(())
    })
    .await;
    let links = || async {
        let daemons = client.list_daemons(v1::ListDaemonsRequest::default());
        daemons.await.unwrap().daemons.remove(0).link_changes
    };
    let before = links().await;
    assert!(before.last().is_some_and(|change| change.attached));
    baton.kill_daemon();
    eventually("the machine is away", || async {
        get().await.detached_since.is_some().then_some(())
    })
    .await;
    // The machine's own record says since when, and why.
    let changes = eventually("the loss is in the machine's record", || async {
        let changes = links().await;
        (changes.len() > before.len()).then_some(changes)
    })
    .await;
    let lost = changes.last().unwrap();
    assert!(!lost.attached);
    assert_eq!(lost.epoch, before.last().unwrap().epoch);
    assert_eq!(lost.reason, "the connection was lost");

    let mut ids = Vec::new();
    for text in ["say: second", "say: wrong", "say: third", "say: mistake"] {
        let sent = client
            .send_input(v1::SendInputRequest {
                session_id: session.clone(),
                text: text.to_owned(),
                ..Default::default()
            })
            .await
            .unwrap();
        let input = sent.input.unwrap();
        assert_eq!(input.state(), v1::InputState::Queued, "{text}");
        ids.push(input.id);
    }
    client
        .withdraw_input(v1::WithdrawInputRequest {
            session_id: session.clone(),
            input_id: ids[1].clone(),
        })
        .await
        .unwrap();
    client
        .update_input(v1::UpdateInputRequest {
            session_id: session.clone(),
            input_id: ids[3].clone(),
            text: "say: zeroth".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    let moved = client
        .move_input(v1::MoveInputRequest {
            session_id: session.clone(),
            input_id: ids[3].clone(),
            position: 1,
        })
        .await
        .unwrap();
    let queue: Vec<&str> = moved.inputs.iter().map(|input| &*input.text).collect();
    assert_eq!(queue, ["say: zeroth", "say: second", "say: third"]);

    baton.start_daemon().await;
    baton
        .wait_for(&session, "the last turn", said("third"))
        .await;
    let events = baton.events(&session).await;
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
    assert_eq!(applied, [&ids[3], &ids[0], &ids[2]].map(String::clone));
    let starts = events
        .iter()
        .filter(|event| matches!(event.body, EventBody::LifecycleChanged { .. }))
        .count();
    assert_eq!(starts, 2, "the agent was started once and never ended");
}

/// An agent whose daemon never comes back is not left for ever: its runner ends it after the time that the
/// daemon was given, with what it left running, and the log says why.
#[tokio::test]
async fn an_agent_without_a_daemon_is_ended_after_the_time_that_was_set() {
    let mut baton = Baton::new().daemon_flags(&["--orphan-after", "1s", "--spool-size", "2MiB"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let client = baton.client();
    let session = client
        .create_session(v1::CreateSessionRequest {
            harness: "command".to_owned(),
            argv: ["sh", "-c", "echo pid $$; sleep 600"]
                .map(str::to_owned)
                .to_vec(),
            cwd: baton.project().to_string_lossy().into_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap()
        .id;
    let pid = |body: &EventBody| match body {
        EventBody::Output { text, .. } => text.trim().strip_prefix("pid ")?.parse::<i32>().ok(),
        _ => None,
    };
    let said = baton
        .wait_for(&session, "the agent's pid", |body| pid(body).is_some())
        .await;
    let pid = nix::unistd::Pid::from_raw(pid(&said.body).unwrap());
    baton.kill_daemon();
    eventually("the agent is gone", || async {
        nix::sys::signal::kill(pid, None).is_err().then_some(())
    })
    .await;
    baton.start_daemon().await;
    let ended = baton
        .wait_for(&session, "the end", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    assert!(
        format!("{:?}", ended.body).contains("no daemon came for 1 s"),
        "{ended:?}"
    );
}

/// The newest events are listed without knowing where the log ends: an upper bound beyond it is its end.
#[tokio::test]
async fn the_newest_events_are_listed_without_knowing_the_end() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "say: first").await.id;
    baton
        .wait_for(&session, "the end of the turn", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let client = baton.client();
    let newest = |before_seq: u64| {
        let request = v1::ListEventsRequest {
            session_id: session.clone(),
            before_seq,
            page_size: 3,
            ..Default::default()
        };
        let answer = client.list_events(request);
        async move {
            let page = answer.await.unwrap();
            let seqs = page
                .events
                .iter()
                .map(|event| event.seq)
                .collect::<Vec<_>>();
            (page.head_seq, seqs)
        }
    };
    eventually("the newest are listed", || async {
        let (head, seqs) = newest(u64::MAX).await;
        // The log may grow between two looks.
        let same = newest(head + 1).await == (head, seqs.clone());
        let ends = seqs == [head - 2, head - 1, head];
        (same && ends && newest(head + 1_000).await == (head, seqs)).then_some(())
    })
    .await;
}
