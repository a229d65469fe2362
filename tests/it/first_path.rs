//! The thinnest real path: a server process, a daemon process, an agent, and what a client sees of it.

use baton::domain::{EventBody, InputState};
use baton::wire::v1;

use crate::support::baton::Baton;
use crate::support::sessions::{allowed, ended_turns};

fn texts(events: &[baton::domain::Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Output { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_command_runs_and_its_output_and_exit_arrive() {
    let baton = Baton::start().await;
    let id = baton.create(baton.shell("seq 1 1000; exit 7")).await;
    let ended = baton
        .wait_for(&id, "the command ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    let EventBody::Ended { end } = ended.body else {
        unreachable!()
    };
    assert_eq!(end.exit_code, Some(7));
    let expected: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
    assert_eq!(texts(&baton.events(&id).await), expected);
}

#[tokio::test]
async fn a_permission_is_asked_once_and_the_first_answer_wins() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "run: touch made.txt").await;
    let prompt = baton.prompt(&session.id).await;
    let answer = v1::AnswerPromptRequest {
        prompt_id: prompt.id.clone(),
        answer: Some(v1::answer_prompt_request::Answer::Decision(allowed())),
        ..Default::default()
    };
    let client = baton.client();
    let (first, second) = tokio::join!(
        client.answer_prompt(answer.clone()),
        client.answer_prompt(answer)
    );
    let errors: Vec<_> = [first.err(), second.err()].into_iter().flatten().collect();
    assert_eq!(errors.len(), 1, "one of two answers is refused");
    assert_eq!(
        errors[0].code(),
        baton::base::Code::PromptAnswered,
        "{:?}",
        errors[0]
    );
    baton
        .wait_for(&session.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    assert!(baton.project().join("made.txt").exists());
    let answers = baton
        .events(&session.id)
        .await
        .iter()
        .filter(|event| matches!(event.body, EventBody::PromptAnswered { .. }))
        .count();
    assert_eq!(answers, 1);
}

#[tokio::test]
async fn a_killed_server_and_a_killed_daemon_lose_and_double_nothing() {
    let mut baton = Baton::start().await;
    let session = baton.session("demo", "stream: 60 50").await;
    let started = baton
        .wait_for(&session.id, "the agent works", |body| {
            matches!(body, EventBody::TurnStarted { .. })
        })
        .await;
    baton.kill_server();
    baton.start_server().await;
    baton.kill_daemon();
    baton.start_daemon().await;
    let ended = baton
        .wait_for(&session.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    assert!(started.seq < ended.seq);
    let events = baton.events(&session.id).await;
    let count = |is: fn(&EventBody) -> bool| events.iter().filter(|event| is(&event.body)).count();
    assert_eq!(
        count(|body| matches!(body, EventBody::TurnStarted { .. })),
        1
    );
    assert_eq!(count(|body| matches!(body, EventBody::TurnEnded { .. })), 1);
    assert_eq!(count(|body| matches!(body, EventBody::Gap { .. })), 0);
    assert_eq!(
        count(|body| matches!(
            body,
            EventBody::InputChanged {
                state: InputState::Applied,
                ..
            }
        )),
        1
    );
    // The same process takes the next input.
    baton.say(&session.id, "say: still here").await;
    let events = baton.turns(&session.id, 2).await;
    assert_eq!(ended_turns(&events), 2);
}

#[tokio::test]
async fn a_server_that_is_asked_to_end_says_so_and_its_sessions_go_on() {
    let mut baton = Baton::start().await;
    let session = baton.session("demo", "stream: 40 50").await;
    baton
        .wait_for(&session.id, "the agent works", |body| {
            matches!(body, EventBody::TurnStarted { .. })
        })
        .await;
    assert_eq!(
        baton.stop_server().await,
        Some(0),
        "a drained server exits with 0"
    );
    baton.start_server().await;
    baton
        .wait_for(&session.id, "the turn ends", |body| {
            matches!(
                body,
                EventBody::TurnEnded {
                    is_error: false,
                    ..
                }
            )
        })
        .await;
}
