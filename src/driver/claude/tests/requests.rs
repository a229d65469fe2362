//! Requests of the harness: asked, refused, withdrawn, found again after a take-over.

use super::super::interpreter::ClaudeDriver;
use super::rig::*;
use crate::domain::EventBody;
use crate::domain::content::MAX_EVENT_BYTES;
use crate::domain::prompt::PromptKind;
use crate::driver::{Driver, WriteOutcome};

fn withdrawn(events: &[EventBody]) -> usize {
    let withdrawn = events.iter();
    withdrawn
        .filter(|event| matches!(event, EventBody::PromptWithdrawn { .. }))
        .count()
}

fn request(key: &str, request: &str) -> String {
    format!(r#"{{"type":"control_request","request_id":"{key}","request":{request}}}"#)
}

fn pending(requests: &[String]) -> String {
    format!(
        r#"{{"type":"control_response","response":{{"subtype":"success","request_id":"drv-init-resync-1","response":{{}},"pending_permission_requests":[{}]}}}}"#,
        requests.join(",")
    )
}

#[test]
fn what_is_odd_or_incomplete_is_refused_and_shown() {
    for (line, told) in [
        (request("k", r#"{"subtype":"can_use_tool"}"#), r#""behavior":"deny""#),
        (request("k", r#"{"subtype":"can_use_tool","tool_name":"Bash"}"#), r#""behavior":"deny""#),
        (request("k", r#"{"subtype":"can_use_tool","tool_name":"Bash","input":null}"#), r#""behavior":"deny""#),
        (request("k", r#"{"subtype":"can_use_tool","tool_name":"Bash","input":[]}"#), r#""behavior":"deny""#),
        (request("k", r#"{"subtype":"can_use_tool","tool_name":"","input":{}}"#), r#""behavior":"deny""#),
        (request("k", r#"{"subtype":"can_use_tool","tool_name":7,"input":{}}"#), r#""behavior":"deny""#),
        (request("k", r#"{"subtype":"hook_callback","callback_id":"x"}"#), r#""subtype":"error""#),
        (request("k", r#"{"subtype":"elicitation"}"#), r#""subtype":"error""#),
        (request("k", "null"), r#""subtype":"error""#),
        (r#"{"type":"control_request","request_id":7,"request":{"subtype":"can_use_tool","tool_name":"Bash","input":{}}}"#.to_owned(),
            r#""subtype":"error","request_id":7"#),
    ] {
        let mut rig = Rig::new();
        let outputs = rig.line(&line);
        let written = writes(&outputs);
        assert_eq!(written.len(), 1, "{line}");
        assert!(written[0].contains(told), "{line}: {}", written[0]);
        assert!(!written[0].contains(r#""allow""#));
        assert!(matches!(events(&outputs)[..], [EventBody::Notice { .. }]), "{line}");
        // The id it is written under follows from the record alone.
        let mut again = Rig::new();
        assert_eq!(again.line(&line), outputs);
    }
    let nobody = r#"{"type":"control_request","request":{"subtype":"can_use_tool"}}"#;
    let outputs = Rig::new().line(nobody);
    assert!(writes(&outputs).is_empty() && events(&outputs).len() == 1);
}

#[test]
fn a_question_that_cannot_be_read_is_asked_as_a_permission() {
    for input in [
        r#"{"questions":[{"header":"no text"}]}"#,
        r#"{"questions":7}"#,
        "{}",
    ] {
        let line = request(
            "k",
            &format!(
                r#"{{"subtype":"can_use_tool","tool_name":"AskUserQuestion","input":{input}}}"#
            ),
        );
        let asked = prompts(&Rig::new().events(&line));
        assert_eq!(asked[0].kind, PromptKind::Permission, "{input}");
    }
}

#[test]
fn what_a_person_is_shown_hides_nothing() {
    let line = request(
        "k",
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls \u202e\u001b[2K\n rm"},"description":"just lists","blocked_path":"/x\u200b"}"#,
    );
    let asked = prompts(&Rig::new().events(&line));
    assert_eq!(asked[0].summary, r"Bash: ls \u{202e}\u{1b}[2K\n rm");
    assert_eq!(asked[0].reason, r"it is about /x\u{200b}");
    // Hidden or not, what goes back is what came.
    assert!(asked[0].input.as_str().contains(r"\u202e\u001b[2K\n"));
}

#[test]
fn a_large_input_is_shown_in_part_and_goes_back_whole() {
    let input = format!(
        r#"{{"file_path":"/a/b","content":"{}","list":[{}1]}}"#,
        "q".repeat(300_000),
        "1,".repeat(20_000)
    );
    let line = request(
        "k",
        &format!(r#"{{"subtype":"can_use_tool","tool_name":"Write","input":{input}}}"#),
    );
    let mut rig = Rig::new();
    let events = rig.events(&line);
    assert!(format!("{events:?}").len() < MAX_EVENT_BYTES);
    let prompt = prompts(&events).remove(0);
    let shown = prompt.input.to_value();
    assert_eq!(shown["file_path"], "/a/b");
    assert!(shown["content"]["sha256"].is_string() || shown["content"].is_string());
    let write = write_of(rig.command(1, answer(&prompt, allow())).unwrap());
    let sent = String::from_utf8(write.data.to_vec()).unwrap();
    assert!(sent.contains(&format!(r#""updatedInput":{input}"#)));
}

#[test]
fn a_plan_in_a_file_is_found() {
    let mut rig = Rig::new();
    rig.line(r##"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"w","name":"Write","input":{"file_path":"/h/.claude/plans/x.md","content":"# from the file"}}]}}"##);
    let line = request(
        "k",
        r#"{"subtype":"can_use_tool","tool_name":"ExitPlanMode","input":{}}"#,
    );
    assert_eq!(prompts(&rig.events(&line))[0].plan, "# from the file");
}

#[test]
fn requests_are_asked_once_and_taken_back_once() {
    let mut rig = Rig::new();
    let first = rig.ask("a");
    let second = rig.ask("b");
    assert_ne!(first.id, second.id);
    let again = request(
        "a",
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"true"}}"#,
    );
    assert!(rig.events(&again).is_empty());
    let other = request(
        "a",
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"false"}}"#,
    );
    let events = rig.events(&other);
    assert_eq!(withdrawn(&events), 1);
    assert_eq!(prompts(&events).len(), 1);
    let cancel = r#"{"type":"control_cancel_request","request_id":"b"}"#;
    assert_eq!(withdrawn(&rig.events(cancel)), 1);
    assert_eq!(withdrawn(&rig.events(cancel)), 0);
}

#[test]
fn after_a_take_over_the_harness_says_what_is_open() {
    let mut rig = Rig::new();
    let (kept, gone, answered) = (rig.ask("kept"), rig.ask("gone"), rig.ask("answered"));
    let write = write_of(rig.command(1, answer(&answered, allow())).unwrap());
    rig.written(&write, WriteOutcome::Done);
    rig.driver = ClaudeDriver::restore(place(), &rig.driver.snapshot()).unwrap();
    let resync = rig.driver.resync(1);
    assert_ne!(resync[0].id, rig.driver.resync(2)[0].id);

    let open = |key: &str| {
        request(
            key,
            r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"true"}}"#,
        )
    };
    let line = pending(&[open("kept"), open("answered"), open("new")]);
    let events = rig.events(&line);
    assert!(events.iter().any(
        |event| matches!(event, EventBody::PromptWithdrawn { prompt_id, .. } if *prompt_id == gone.id)
    ));
    assert_eq!(withdrawn(&events), 1);
    let asked = prompts(&events);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].request_key, "new");
    assert!(
        rig.command(2, answer(&kept, allow())).is_ok(),
        "it kept its id"
    );
    assert!(rig.command(3, answer(&gone, allow())).is_err());
    // One that does not tell what is open has not forgotten it.
    let silent = r#"{"type":"control_response","response":{"subtype":"success","request_id":"drv-init-2","response":{}}}"#;
    assert_eq!(withdrawn(&rig.events(silent)), 0);
}

#[test]
fn an_answer_that_may_be_lost_is_asked_for_again_if_it_was() {
    for arrived in [true, false] {
        let mut rig = Rig::new();
        let prompt = rig.ask("k");
        let write = write_of(rig.command(1, answer(&prompt, allow())).unwrap());
        rig.written(&write, WriteOutcome::Unknown);
        assert!(rig.command(2, answer(&prompt, allow())).is_err());
        let open = request(
            "k",
            r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"true"}}"#,
        );
        let line = pending(if arrived {
            &[]
        } else {
            std::slice::from_ref(&open)
        });
        let events = rig.events(&line);
        assert_eq!(withdrawn(&events), 0, "it was answered");
        let asked = prompts(&events);
        assert_eq!(asked.len(), usize::from(!arrived));
        if let Some(again) = asked.first() {
            assert_ne!(again.id, prompt.id);
            assert!(rig.command(3, answer(again, allow())).is_ok());
        }
    }
}

/// The harness echoes an answer once it has read it, perhaps before the write is on record: a list of
/// open requests that follows takes nothing back that was answered.
#[test]
fn an_answer_is_known_by_its_echo() {
    let mut rig = Rig::new();
    let prompt = rig.ask("k");
    let write = write_of(rig.command(1, answer(&prompt, allow())).unwrap());
    let echo = std::str::from_utf8(&write.data).unwrap();
    assert_eq!(withdrawn(&rig.events(echo)), 0);
    assert!(rig.command(2, answer(&prompt, allow())).is_err());
    assert_eq!(withdrawn(&rig.events(&pending(&[]))), 0);
    rig.written(&write, WriteOutcome::Done);
    assert_eq!(withdrawn(&events(&rig.exit(Some(0)))), 0);
}

#[test]
fn more_open_requests_than_the_bound_are_refused() {
    let mut rig = Rig::new();
    for n in 0..super::super::state::MAX_OPEN {
        rig.ask(&format!("k{n}"));
    }
    let line = request(
        "one-more",
        r#"{"subtype":"can_use_tool","tool_name":"Bash","input":{}}"#,
    );
    let outputs = rig.line(&line);
    assert!(prompts(&events(&outputs)).is_empty());
    assert!(writes(&outputs)[0].contains(r#""behavior":"deny""#));
}
