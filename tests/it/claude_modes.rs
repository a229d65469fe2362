//! The real Claude Code behind Baton, and what is decided about it: plans, models, what may be read unasked,
//! and input beside a task in the background.

use baton::domain::event::EventKind;
use baton::domain::prompt::AnswerDelivery;
use baton::domain::{ActorKind, EventBody};
use baton::wire::v1;
use serde_json::json;

use crate::support::claude::{Place, Talk};
use crate::support::sessions::{allowed, count, denied};

/// Brings the agent into plan mode, where it hands in a plan.
async fn planned<'a>(place: &'a Place, plan: &str) -> (Talk<'a>, v1::Prompt) {
    let talk = place.session(&format!("plan-mode:\nplan: {plan}")).await;
    let mut prompt = talk.prompt().await;
    // Planning itself may be asked about first.
    if prompt.kind() == v1::PromptKind::Permission {
        assert_eq!(prompt.tool, "EnterPlanMode");
        talk.decide(&prompt, allowed()).await;
        let first = prompt.id.clone();
        prompt = crate::support::baton::eventually("the plan", || async {
            let pending = place.baton.pending(&talk.id).await.pop()?;
            (pending.id != first).then_some(pending)
        })
        .await;
    }
    assert_eq!(prompt.kind(), v1::PromptKind::Plan, "{prompt:?}");
    assert_eq!(prompt.tool, "ExitPlanMode");
    assert!(prompt.plan.contains(plan), "{prompt:?}");
    (talk, prompt)
}

#[tokio::test]
async fn an_approved_plan_is_carried_out_and_asks_as_before() {
    let place = Place::new().await;
    let (talk, prompt) = planned(&place, "build a bridge").await;
    talk.decide(&prompt, allowed()).await;
    let turn = talk.turn(1).await;
    assert!(!turn.is_error, "{turn:?}");
    assert!(turn.text.contains("approved"), "{turn:?}");
    let delivered = |body: &EventBody| {
        matches!(body, EventBody::PromptDelivered { prompt_id, delivery: AnswerDelivery::Applied, .. }
            if prompt_id.to_string() == prompt.id)
    };
    assert_eq!(count(&talk.events().await, delivered), 1);
    // Plan mode is left for the mode that asks, not for one that lets everything pass.
    talk.say("run: mkfifo asked").await;
    let asked = talk.prompt().await;
    assert_eq!(asked.tool, "Bash");
    talk.decide(&asked, allowed()).await;
    talk.turn(2).await;
    assert!(place.file("asked").exists());
}

#[tokio::test]
async fn a_refused_plan_tells_the_agent_why() {
    let place = Place::new().await;
    let (talk, prompt) = planned(&place, "build a tower").await;
    talk.decide(&prompt, denied("make it lower")).await;
    let turn = talk.turn(1).await;
    assert!(turn.text.contains("make it lower"), "{turn:?}");
    let record = place
        .baton
        .client()
        .get_prompt(v1::GetPromptRequest {
            prompt_id: prompt.id,
        })
        .await
        .unwrap()
        .prompt
        .unwrap();
    let decision = record.answer.unwrap().decision.unwrap();
    assert_eq!(
        (decision.allow, decision.message.as_str()),
        (false, "make it lower")
    );
}

#[tokio::test]
async fn the_mode_that_reads_lets_a_read_beneath_the_directory_pass_and_no_other() {
    // Of itself this agent asks about no file of its directory.
    let place = Place::with_settings(&json!({ "permissions": { "ask": ["Read"] } })).await;
    std::fs::write(place.file("within.txt"), "inner words\n").unwrap();
    let outside = place.baton.dir().join("outside.txt");
    std::fs::write(&outside, "outer words\n").unwrap();
    let request = v1::CreateSessionRequest {
        harness: "claude-code".to_owned(),
        permission_mode: v1::PermissionMode::AutoSafe.into(),
        ..place.baton.demo(&format!(
            "read: {}",
            place.file("within.txt").to_string_lossy()
        ))
    };
    let talk = Talk {
        id: place.baton.create(request).await,
        place: &place,
    };
    let turn = talk.turn(1).await;
    assert!(turn.text.contains("inner words"), "{turn:?}");
    let events = talk.events().await;
    let by = events.iter().find_map(|event| match &event.body {
        EventBody::PromptAnswered { answer, .. } => Some(answer.by.clone()),
        _ => None,
    });
    let by = by.expect("it was asked and answered");
    assert_eq!(
        (by.kind, by.name.as_str()),
        (ActorKind::Rule, "permission mode auto_safe")
    );
    for input in [
        format!("read: {}", outside.to_string_lossy()),
        "run: mkfifo made".to_owned(),
    ] {
        talk.say(&input).await;
        let prompt = talk.prompt().await;
        talk.decide(&prompt, denied("no")).await;
        place
            .baton
            .record_is(&talk.id, "it waits again", |session| {
                session.activity() == v1::Activity::AwaitingInput
            })
            .await;
    }
    assert_eq!(
        count(&talk.events().await, |body| {
            body.kind() == EventKind::PromptAnswered
        }),
        3
    );
}

#[tokio::test]
async fn another_model_answers_the_next_request() {
    let place = Place::new().await;
    let talk = place.session("say: one").await;
    talk.turn(1).await;
    let before = place.last_request()["model"].clone();
    place
        .baton
        .client()
        .set_session_options(v1::SetSessionOptionsRequest {
            session_id: talk.id.clone(),
            model: Some("claude-other-1".to_owned()),
            ..Default::default()
        })
        .await
        .unwrap();
    // Sent at once: the change goes before what is sent behind it.
    talk.say("say: two").await;
    assert_eq!(talk.turn(2).await.text, "two");
    assert_eq!(place.last_request()["model"], "claude-other-1");
    assert_ne!(before, "claude-other-1");
    assert_eq!(talk.record().await.model, "claude-other-1");
}

#[tokio::test]
async fn a_background_command_that_never_ends_does_not_hold_the_queue() {
    let place = Place::new().await;
    let made = std::process::Command::new("mkfifo")
        .arg(place.file("held"))
        .status();
    assert!(made.unwrap().success());
    let talk = place.session("background: read line < held").await;
    let prompt = talk.prompt().await;
    talk.decide(&prompt, allowed()).await;
    talk.turn(1).await;
    talk.say("say: meanwhile").await;
    assert_eq!(talk.turn(2).await.text, "meanwhile");
    assert_eq!(talk.record().await.activity(), v1::Activity::Working);
    // Its end is told as ever, in a turn of its own.
    std::fs::write(place.file("held"), "go\n").unwrap();
    talk.turn(3).await;
    place
        .baton
        .record_is(&talk.id, "it waits again", |session| {
            session.activity() == v1::Activity::AwaitingInput
        })
        .await;
}
