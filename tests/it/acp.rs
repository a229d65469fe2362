//! A real agent that speaks ACP, driven through Baton: the adapter for Claude Code as its users install it, with the
//! real Claude Code behind it and a stand-in for the model behind that.
//!
//! Where the programs are missing these tests fail; they are never passed over.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use baton::domain::event::Role;
use baton::domain::prompt::AnswerDelivery;
use baton::domain::{Activity, Block, Event, EventBody};
use baton::wire::v1;
use serde_json::Value;

use crate::claude_cli::claude_program;
use crate::support::baton::eventually;
use crate::support::claude::{Place, Talk, said};
use crate::support::sessions::{allowed, count, denied};

const HARNESS: &str = "acp:claude";

/// The adapter, installed beside these tests.
fn adapter() -> PathBuf {
    let installed = installed("node_modules/.bin/claude-agent-acp");
    assert!(
        installed.exists(),
        "the ACP adapter for Claude Code is not installed: run `scripts/test`, or `npm ci` in tests/e2e/acp"
    );
    installed
}

fn installed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/e2e/acp")
        .join(path)
}

/// A daemon that finds the adapter by its name, and the same one as `acp:loads`, without the words by which it would
/// take a conversation up in silence.
async fn place() -> Place {
    Place::with(&Value::Null, |baton, programs, _| {
        symlink(adapter(), programs.join("claude-agent-acp")).unwrap();
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        let loads = serde_json::json!([
            "node",
            text(installed("without-resume.mjs")),
            text(adapter())
        ]);
        baton
            .daemon_env("CLAUDE_CODE_EXECUTABLE", text(claude_program()))
            .daemon_flags(&["--pass-env", "CLAUDE_CODE_EXECUTABLE"])
            .daemon_flags(&["--acp", &format!("loads={loads}")])
    })
    .await
}

async fn session<'a>(place: &'a Place, input: &str) -> Talk<'a> {
    place.session_of(HARNESS, input).await
}

fn results(events: &[Event]) -> Vec<(bool, String)> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolResult {
                blocks, is_error, ..
            } => Some((*is_error, text_of(blocks))),
            _ => None,
        })
        .collect()
}

fn text_of(blocks: &[Block]) -> String {
    let texts = blocks.iter().map(|block| match block {
        Block::Text(text) | Block::Thinking(text) => text.as_str(),
        Block::Content(_) => "",
    });
    texts.collect()
}

#[tokio::test]
async fn an_allowed_tool_runs_and_a_denied_one_does_not() {
    let place = place().await;
    let talk = session(&place, "run: mkfifo allowed").await;
    let prompt = talk.prompt().await;
    assert_eq!(prompt.tool, "Bash");
    assert_eq!(prompt.summary, "Bash: mkfifo allowed");
    assert!(!place.file("allowed").exists(), "it waits for the answer");
    let offered: Vec<&str> = prompt
        .suggestions
        .iter()
        .map(|s| s.label.as_str())
        .collect();
    assert_eq!(offered.len(), 1, "what would be remembered: {offered:?}");
    let asking: i32 = v1::Activity::AwaitingPrompt.into();
    eventually("the session shows that it asks", || async {
        (talk.record().await.activity == asking).then_some(())
    })
    .await;
    talk.decide(&prompt, allowed()).await;
    let turn = talk.turn(1).await;
    assert_eq!(
        (turn.is_error, turn.reason.as_str()),
        (false, "end_turn"),
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
    let failed: Vec<bool> = results(&events).iter().map(|(failed, _)| *failed).collect();
    assert_eq!(failed, [false, true], "{events:#?}");
    let delivered = count(&events, |body| {
        matches!(
            body,
            EventBody::PromptDelivered {
                delivery: AnswerDelivery::Applied,
                ..
            }
        )
    });
    assert_eq!(delivered, 2, "{events:#?}");
    let calls: Vec<(&str, String)> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolCall { tool, input, .. } => {
                let input = input.as_ref().map(|input| input.to_value());
                let command = input.and_then(|input| input["command"].as_str().map(str::to_owned));
                Some((tool.as_str(), command.unwrap_or_default()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        calls,
        [
            ("Bash", "mkfifo allowed".to_owned()),
            ("Bash", "mkfifo denied".to_owned())
        ],
        "each call once, with its whole input"
    );
    // What the agent told of itself is in the record.
    let record = talk.record().await;
    assert!(!record.provider_session_id.is_empty());
    assert!(record.usage.is_some_and(|usage| usage.input_tokens > 0));
}

#[tokio::test]
async fn what_is_said_comes_live_and_then_once() {
    let place = place().await;
    let talk = session(&place, "think: let me see\n+ stream: 60 25").await;
    talk.streaming().await;
    let turn = talk.turn(1).await;
    let told: String = (1..=60).map(|n| format!("chunk {n}. ")).collect();
    assert_eq!((turn.text.as_str(), turn.inputs), (told.as_str(), 1));
    let events = talk.events().await;
    let thoughts = count(&events, |body| {
        matches!(body, EventBody::Message { role: Role::Agent, blocks, .. }
            if matches!(&blocks[..], [Block::Thinking(text)] if text == "let me see"))
    });
    assert_eq!(thoughts, 1, "{events:#?}");
    assert_eq!(said(&events).concat(), told);
    eventually("the agent waits again", || async {
        let events = talk.events().await;
        let last = events.iter().rev().find_map(|event| match event.body {
            EventBody::ActivityChanged { activity, .. } => Some(activity),
            _ => None,
        });
        (last == Some(Activity::AwaitingInput)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_change_of_a_file_is_asked_about_as_a_diff() {
    let place = place().await;
    let file = place.file("new.txt");
    let talk = session(&place, &format!("write: {} words", file.display())).await;
    let prompt = talk.prompt().await;
    assert_eq!(prompt.tool, "Write");
    let input: Value = serde_json::from_str(&prompt.input.clone().unwrap().text).unwrap();
    assert_eq!(input["file_path"].as_str(), file.to_str());
    let diff = input["diff"].as_str().unwrap_or_default();
    assert!(diff.contains("+words"), "{input}");
    talk.decide(&prompt, allowed()).await;
    talk.turn(1).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "words");
    let events = talk.events().await;
    let shown = results(&events);
    assert!(shown[0].1.contains("+words"), "{shown:?}");
}

#[tokio::test]
async fn a_cancelled_turn_ends_in_mid_stream_and_with_a_question_open() {
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
        (true, "cancelled"),
        "{turn:?}"
    );

    talk.say("run: mkfifo never").await;
    talk.prompt().await;
    interrupt().await;
    let turn = talk.turn(2).await;
    assert_eq!(
        (turn.is_error, turn.reason.as_str()),
        (true, "cancelled"),
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

/// A conversation that has ended goes on in a new session, and is not told twice.
async fn goes_on(harness: &str) {
    let place = place().await;
    let old = place.session_of(harness, "say: apricot").await;
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
    let sent = place.last_request()["messages"].to_string();
    assert!(sent.contains("say: apricot"), "{sent}");
    assert_eq!(new.said().await, ["continued"], "the old log has the rest");
    let record = new.record().await;
    assert_eq!(record.resumed_from, old.id);
    assert_eq!(record.provider_session_id, conversation);
}

#[tokio::test]
async fn a_conversation_goes_on_in_a_new_process() {
    goes_on(HARNESS).await;
}

#[tokio::test]
async fn a_conversation_that_is_loaded_is_not_told_twice() {
    goes_on("acp:loads").await;
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

#[tokio::test]
async fn doctor_says_what_is_installed_and_what_to_do() {
    let place = place().await;
    let output = place.baton.cli(&["doctor"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = |name: &str| {
        let found = said.lines().find(|line| line.contains(name));
        found
            .unwrap_or_else(|| panic!("no {name} in {said}"))
            .to_owned()
    };
    let claude = line("harness: acp:claude on");
    assert!(claude.contains("0.100.0, signed in"), "{claude}");
    let claude = line("harness: claude-code on");
    assert!(claude.contains("signed in"), "{claude}");
    assert!(line("harness: acp:codex on").contains("install it with `npm install -g"));
    assert!(line("harness: acp:loads on").starts_with('✓'));
}
