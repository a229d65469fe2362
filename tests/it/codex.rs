//! The real Codex, driven through Baton: its app-server as its users install it, and a stand-in for the model
//! behind it.
//!
//! Where the program is missing these tests fail; they are never passed over.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use baton::domain::{Block, EventBody};
use baton::wire::v1;
use serde_json::Value;

use crate::support::baton::Baton;
use crate::support::claude::{Place, Talk};
use crate::support::sessions::{allowed, denied};

fn program() -> PathBuf {
    let installed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/codex/node_modules/.bin/codex");
    assert!(
        installed.exists(),
        "Codex is not installed: run `scripts/test`, or `npm ci` in tests/e2e/codex"
    );
    installed
}

/// A daemon that finds Codex by its name, whose model is the stand-in.
async fn place() -> Place {
    Place::with(&Value::Null, |baton: Baton, programs: &Path, api: &str| {
        symlink(program(), programs.join("codex")).unwrap();
        let home = baton.dir().join("codex");
        std::fs::create_dir(&home).unwrap();
        let config = format!(
            r#"model = "gpt-5.5"
model_provider = "stub"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.stub]
name = "stub"
base_url = "{api}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"#
        );
        std::fs::write(home.join("config.toml"), config).unwrap();
        baton
            .daemon_env("CODEX_HOME", home.to_str().unwrap())
            .daemon_env("OPENAI_API_KEY", "stub-key-of-no-account")
            .daemon_flags(&["--pass-env", "CODEX_HOME", "--pass-env", "OPENAI_API_KEY"])
    })
    .await
}

async fn session<'a>(place: &'a Place, input: &str) -> Talk<'a> {
    place.session_of("codex", input).await
}

#[tokio::test]
async fn an_allowed_command_runs_and_a_denied_one_does_not() {
    let place = place().await;
    let talk = session(&place, "run: mkfifo allowed").await;
    let prompt = talk.prompt().await;
    assert_eq!(prompt.summary, "Bash: mkfifo allowed");
    assert!(!place.file("allowed").exists(), "it waits for the answer");
    talk.decide(&prompt, allowed()).await;
    let turn = talk.turn(1).await;
    assert_eq!(
        (turn.is_error, turn.reason.as_str()),
        (false, "completed"),
        "{turn:?}"
    );
    assert!(place.file("allowed").exists());
    let pid = talk.pid().await;
    talk.say("run: mkfifo denied").await;
    let prompt = talk.prompt().await;
    talk.decide(&prompt, denied("not on my machine")).await;
    let turn = talk.turn(2).await;
    assert!(!turn.is_error, "a denial does not end the turn: {turn:?}");
    assert!(!place.file("denied").exists());
    assert_eq!(talk.pid().await, pid, "one process");
    let events = talk.events().await;
    let failed: Vec<bool> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolResult { is_error, .. } => Some(*is_error),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [false, true], "{events:#?}");
    let record = talk.record().await;
    assert!(record.usage.is_some_and(|usage| usage.input_tokens > 0));
}

#[tokio::test]
async fn a_change_of_a_file_is_asked_about_and_shown() {
    let place = place().await;
    let talk = session(&place, "write: new.txt words").await;
    let prompt = talk.prompt().await;
    assert_eq!(prompt.tool, "Edit");
    let input: Value = serde_json::from_str(&prompt.input.clone().unwrap().text).unwrap();
    assert!(
        input["file_path"].as_str().unwrap().ends_with("/new.txt"),
        "{input}"
    );
    assert!(
        input["changes"][0]["diff"]
            .as_str()
            .unwrap()
            .contains("words"),
        "{input}"
    );
    talk.decide(&prompt, allowed()).await;
    talk.turn(1).await;
    assert_eq!(
        std::fs::read_to_string(place.file("new.txt"))
            .unwrap()
            .trim(),
        "words"
    );
    let events = talk.events().await;
    let shown = events.iter().any(|event| {
        matches!(&event.body, EventBody::ToolResult { blocks, .. }
            if matches!(&blocks[..], [Block::Text(text)] if text.contains("words")))
    });
    assert!(shown, "{events:#?}");
}

#[tokio::test]
async fn an_interrupted_turn_ends_in_mid_stream_and_with_a_question_open() {
    let place = place().await;
    let talk = session(&place, "stream: 2000 25").await;
    talk.streaming().await;
    let pid = talk.pid().await;
    let interrupt = || async {
        let request = v1::InterruptTurnRequest {
            session_id: talk.id.clone(),
            ..Default::default()
        };
        place.baton.client().interrupt_turn(request).await.unwrap();
    };
    interrupt().await;
    let turn = talk.turn(1).await;
    assert_eq!(
        (turn.is_error, turn.reason.as_str()),
        (true, "interrupted"),
        "{turn:?}"
    );
    talk.say("run: mkfifo never").await;
    talk.prompt().await;
    interrupt().await;
    let turn = talk.turn(2).await;
    assert_eq!(
        (turn.is_error, turn.reason.as_str()),
        (true, "interrupted"),
        "{turn:?}"
    );
    assert!(!place.file("never").exists());
    assert!(place.baton.pending(&talk.id).await.is_empty());
    talk.say("say: still here").await;
    let turn = talk.turn(3).await;
    assert_eq!(
        (turn.text.as_str(), turn.is_error),
        ("still here", false),
        "{turn:?}"
    );
    assert_eq!(talk.pid().await, pid, "the process lives on");
}

#[tokio::test]
async fn a_thread_goes_on_in_a_new_process() {
    let place = place().await;
    let old = session(&place, "say: apricot").await;
    assert_eq!(old.turn(1).await.text, "apricot");
    let conversation = old.record().await.provider_session_id;
    old.end().await;
    let request = v1::ResumeSessionRequest {
        session_id: old.id.clone(),
        input: "say: continued".to_owned(),
        ..Default::default()
    };
    let made = place.baton.client().resume_session(request).await.unwrap();
    let new = place.talk(made.session.unwrap());
    assert_eq!(new.turn(1).await.text, "continued");
    assert_eq!(new.said().await, ["continued"], "the old log has the rest");
    let requests = place.api.requests();
    let sent = requests.last().unwrap().body["input"].to_string();
    assert!(sent.contains("say: apricot"), "{sent}");
    assert_eq!(new.record().await.provider_session_id, conversation);
}

#[tokio::test]
async fn a_question_survives_the_daemon() {
    let mut place = place().await;
    let id = session(&place, "run: mkfifo later").await.id;
    let prompt = place.baton.prompt(&id).await;
    place.baton.kill_daemon();
    place.baton.start_daemon().await;
    place.baton.decide(&prompt, allowed()).await;
    let record = place.baton.record(&id).await;
    let talk = place.talk(record);
    assert!(!talk.turn(1).await.is_error);
    assert!(place.file("later").exists());
}
