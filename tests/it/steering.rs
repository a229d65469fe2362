//! What changes under a session that lives: its options, its running turn, and its queue beside tasks in
//! the background.

use baton::base::Code;
use baton::domain::{Event, EventBody, InputState};
use baton::wire::v1;

use crate::support::baton::Baton;
use crate::support::sessions::{allowed, count, ended_turns};

fn options(id: &str) -> v1::SetSessionOptionsRequest {
    v1::SetSessionOptionsRequest {
        session_id: id.to_owned(),
        ..Default::default()
    }
}

/// The inputs that each turn answered.
fn answered(events: &[Event]) -> Vec<Vec<String>> {
    let ends = events.iter().filter_map(|event| match &event.body {
        EventBody::TurnEnded { input_ids, .. } => Some(input_ids),
        _ => None,
    });
    ends.map(|ids| ids.iter().map(ToString::to_string).collect())
        .collect()
}

#[tokio::test]
async fn options_of_a_living_session_change_are_told_and_hold_from_the_next_request() {
    let baton = Baton::start().await;
    let client = baton.client();
    let id = baton.create(baton.demo("run: touch first")).await;
    let waiting = baton.prompt(&id).await;
    let request = v1::SetSessionOptionsRequest {
        request_id: "once".to_owned(),
        model: Some("demo-2".to_owned()),
        permission_mode: v1::PermissionMode::Auto.into(),
        ..options(&id)
    };
    client.set_session_options(request.clone()).await.unwrap();
    // A repeat is the same change, not a second one.
    let changed = client.set_session_options(request).await.unwrap();
    let changed = changed.session.unwrap();
    assert_eq!(changed.permission_mode(), v1::PermissionMode::Auto);
    baton
        .record_is(&id, "the model is changed", |session| {
            session.model == "demo-2"
        })
        .await;
    // What was asked before the change still waits for a person.
    assert_eq!(baton.pending(&id).await[0].id, waiting.id);
    baton.decide(&waiting, allowed()).await;
    baton.turns(&id, 1).await;
    baton.say(&id, "run: touch second").await;
    let events = baton.turns(&id, 2).await;
    assert!(baton.project().join("second").exists());
    let told: Vec<(Option<String>, bool)> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::OptionsChanged {
                model,
                permission_mode,
            } => Some((model.clone(), permission_mode.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [(None, true), (Some("demo-2".to_owned()), false)],
        "each change once"
    );
    let by = events.iter().find_map(|event| match &event.body {
        EventBody::OptionsChanged { .. } => event.actor.clone(),
        _ => None,
    });
    assert_eq!(by.unwrap().name, "bootstrap");
    // The agent itself says which model its second turn used.
    let models: Vec<&str> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Started { model, .. } if !model.is_empty() => Some(model.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(models.last(), Some(&"demo-2"), "{models:?}");
    assert_ne!(models.first(), Some(&"demo-2"), "{models:?}");
}

#[tokio::test]
async fn options_that_cannot_change_are_refused_and_nothing_changes() {
    let baton = Baton::start().await;
    let client = baton.client();
    let plain = baton.create(baton.shell("read line")).await;
    baton.reaches(&plain, v1::Lifecycle::Running).await;
    let over = baton.create(baton.demo("say: over")).await;
    baton.turns(&over, 1).await;
    baton.end(&over).await;
    let model = |id: &str, model: &str| v1::SetSessionOptionsRequest {
        model: Some(model.to_owned()),
        ..options(id)
    };
    let auto = v1::SetSessionOptionsRequest {
        permission_mode: v1::PermissionMode::Auto.into(),
        ..options(&over)
    };
    for (what, request, code) in [
        (
            "a harness without models",
            model(&plain, "m"),
            Code::InvalidState,
        ),
        (
            "an ended session",
            model(&over, "demo-2"),
            Code::InvalidState,
        ),
        ("an ended session's mode", auto, Code::InvalidState),
        ("nothing to change", options(&plain), Code::InvalidInput),
        (
            "a name that is none",
            model(&plain, "a\nb"),
            Code::InvalidInput,
        ),
    ] {
        let before = baton.record(&request.session_id).await;
        let refused = client.set_session_options(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused}");
        let after = baton.record(&before.id).await;
        assert_eq!(
            (before.etag, before.head_seq),
            (after.etag, after.head_seq),
            "{what}"
        );
    }
}

#[tokio::test]
async fn what_is_steered_joins_the_running_turn_and_what_is_queued_does_not() {
    let baton = Baton::start().await;
    let id = baton.create(baton.demo("run: touch one")).await;
    let prompt = baton.prompt(&id).await;
    let queued = baton.say(&id, "say: queued").await;
    let steered = baton.send(&id, "say: steered", v1::Delivery::Steer).await;
    assert_eq!(queued.state(), v1::InputState::Queued);
    assert_eq!(steered.state(), v1::InputState::Delivered);
    baton.decide(&prompt, allowed()).await;
    let events = baton.turns(&id, 2).await;
    assert_eq!(ended_turns(&events), 2);
    let turns = answered(&events);
    assert_eq!(turns[0].len(), 2, "the first input and the steered one");
    assert_eq!(turns[0][1], steered.id);
    assert_eq!(turns[1], [queued.id]);
    let applied = |body: &EventBody| {
        matches!(
            body,
            EventBody::InputChanged {
                state: InputState::Applied,
                ..
            }
        )
    };
    assert_eq!(count(&events, applied), 3, "each once");
}

#[tokio::test]
async fn where_nothing_can_be_steered_an_input_goes_the_usual_way_or_is_refused() {
    let baton = Baton::start().await;
    let id = baton.create(baton.shell("read line; echo got $line")).await;
    baton.reaches(&id, v1::Lifecycle::Running).await;
    assert!(!baton.record(&id).await.capabilities.unwrap().steer);
    baton.send(&id, "steered", v1::Delivery::Steer).await;
    baton.reaches(&id, v1::Lifecycle::Ended).await;
    let events = baton.events(&id).await;
    let got =
        |body: &EventBody| matches!(body, EventBody::Output { text, .. } if text == "got steered");
    assert_eq!(count(&events, got), 1, "{events:#?}");
    let late = v1::SendInputRequest {
        session_id: id,
        text: "late".to_owned(),
        delivery: v1::Delivery::Steer.into(),
        ..Default::default()
    };
    let refused = baton.client().send_input(late).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
}

#[tokio::test]
async fn a_background_task_that_never_ends_does_not_hold_the_queue() {
    let baton = Baton::start().await;
    let id = baton.create(baton.demo("background: 3600000 never")).await;
    baton.turns(&id, 1).await;
    let first = baton.say(&id, "say: first").await;
    let second = baton.say(&id, "say: second").await;
    let events = baton.turns(&id, 3).await;
    assert_eq!(answered(&events)[1..], [[first.id], [second.id]]);
    // The task still runs, and the session says so.
    let record = baton.record(&id).await;
    assert_eq!(record.activity(), v1::Activity::Working);
    assert_eq!(record.queued_inputs, 0);
}
