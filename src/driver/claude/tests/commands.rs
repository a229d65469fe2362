//! What commands write, and how they end.

use serde_json::{Value, json};

use super::super::ClaudeDriver;
use super::rig::*;
use crate::base::id::InputId;
use crate::domain::command::CommandBody;
use crate::domain::session::EndReason;
use crate::domain::{CommandOutcome, EventBody, InputState, PermissionMode};
use crate::driver::{Action, Driver, WriteOutcome};

fn value(data: &[u8]) -> Value {
    assert_eq!(data.last(), Some(&b'\n'));
    assert_eq!(data.iter().filter(|b| **b == b'\n').count(), 1, "one line");
    serde_json::from_slice(data).unwrap()
}

fn input(id: InputId) -> CommandBody {
    CommandBody::Input {
        input_id: id,
        text: "--help\n\u{0} \"x\"".to_owned(),
        steer: false,
    }
}

fn options(model: Option<&str>) -> CommandBody {
    CommandBody::Options {
        model: model.map(str::to_owned),
        permission_mode: Some(PermissionMode::Auto),
    }
}

fn states(events: &[EventBody]) -> Vec<InputState> {
    let states = events.iter().filter_map(|event| match event {
        EventBody::InputChanged { state, .. } => Some(*state),
        _ => None,
    });
    states.collect()
}

#[test]
fn commands_become_lines_and_change_nothing_by_themselves() {
    let mut rig = Rig::new();
    let before = rig.driver.snapshot();
    let id = InputId::from_bits(9);
    let write = write_of(rig.command(1, input(id)).unwrap());
    assert_eq!(write.id, command_id(1).to_string());
    assert_eq!(
        value(&write.data),
        json!({"type": "user", "message": {"role": "user", "content": "--help\n\u{0} \"x\""}, "uuid": id.to_uuid()})
    );
    let request = |action: Action| {
        let line = value(&write_of(action).data);
        (line["request_id"].clone(), line["request"].clone())
    };
    assert_eq!(
        request(rig.command(2, CommandBody::Interrupt).unwrap()),
        (
            json!(command_id(2).to_string()),
            json!({"subtype": "interrupt"})
        )
    );
    for (model, asked) in [
        ("opus", json!({"subtype": "set_model", "model": "opus"})),
        ("", json!({"subtype": "set_model"})),
    ] {
        assert_eq!(
            request(rig.command(3, options(Some(model))).unwrap()).1,
            asked
        );
    }
    assert!(rig.command(3, options(Some("a\nb"))).is_err());
    let cancel = CommandBody::CancelInput { input_id: id };
    assert_eq!(
        request(rig.command(4, cancel).unwrap()).1,
        json!({"subtype": "cancel_async_message", "message_uuid": id.to_uuid()})
    );
    let end = |force| CommandBody::End {
        force,
        reason: EndReason::Stopped,
        suspend: false,
        message: "enough".to_owned(),
    };
    match rig.command(5, end(false)).unwrap() {
        Action::Stop { polite, force, .. } => {
            assert_eq!(value(&polite)["request"]["subtype"], "end_session");
            assert!(!force);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(rig.command(5, end(true)).unwrap(),
        Action::Stop { polite, force: true, .. } if polite.is_empty()));
    let begun = rig.driver.begin();
    assert_eq!(begun[0].id, "drv-init-0");
    assert_eq!(
        value(&begun[0].data)["request"],
        json!({"subtype": "initialize"})
    );
    assert_eq!(rig.driver.snapshot(), before);
}

#[test]
fn an_answer_nobody_waits_for_is_refused() {
    let mut rig = Rig::new();
    let mut prompt = rig.ask("k");
    let right = prompt.clone();
    prompt.request_key = "other".to_owned();
    assert!(rig.command(1, answer(&prompt, allow())).is_err());
    prompt = right.clone();
    prompt.id = crate::base::id::PromptId::from_bits(5);
    assert!(rig.command(1, answer(&prompt, allow())).is_err());
    let write = write_of(rig.command(1, answer(&right, allow())).unwrap());
    rig.written(&write, WriteOutcome::Done);
    let error = rig.command(2, answer(&right, allow())).unwrap_err();
    assert!(error.message().contains("no longer asks"));
}

#[test]
fn waiting_commands_end_once_whichever_comes_first() {
    for response_first in [true, false] {
        for (body, ok) in [
            (r#""subtype":"success","response":{}"#, true),
            (r#""subtype":"error","error":"no such model""#, false),
        ] {
            let mut rig = Rig::new();
            let write = write_of(rig.command(6, options(Some("opus"))).unwrap());
            let id = write.id.clone();
            let line = format!(
                r#"{{"type":"control_response","response":{{"request_id":"{id}",{body}}}}}"#
            );
            let mut outputs = Vec::new();
            if response_first {
                outputs.extend(rig.line(&line));
                assert!(results(&outputs).is_empty());
                outputs.extend(rig.written(&write, WriteOutcome::Done));
            } else {
                outputs.extend(rig.written(&write, WriteOutcome::Done));
                outputs.extend(rig.line(&line));
            }
            outputs.extend(rig.line(&line));
            let ended = results(&outputs);
            assert_eq!(ended.len(), 1);
            assert_eq!(ended[0].command_id, command_id(6));
            assert_eq!(ended[0].outcome == CommandOutcome::Applied, ok);
            assert_eq!(ended[0].reason.contains("no such model"), !ok);
            let changed = events(&outputs).iter().any(|event| {
                matches!(event, EventBody::OptionsChanged { model: Some(model), permission_mode: Some(PermissionMode::Auto) } if model == "opus")
            });
            assert_eq!(changed, ok);
        }
    }
}

#[test]
fn a_waiting_command_whose_harness_goes_is_indeterminate() {
    let mut rig = Rig::new();
    let write = write_of(rig.command(1, CommandBody::Interrupt).unwrap());
    rig.written(&write, WriteOutcome::Done);
    let ended = results(&rig.exit(Some(0)));
    assert_eq!(ended[0].outcome, CommandOutcome::Indeterminate);
    assert!(
        rig.command(2, CommandBody::Interrupt).is_err(),
        "it has ended"
    );

    for (outcome, expected) in [
        (WriteOutcome::Failed, CommandOutcome::Rejected),
        (WriteOutcome::Unknown, CommandOutcome::Indeterminate),
    ] {
        let mut rig = Rig::new();
        let write = write_of(rig.command(1, CommandBody::Interrupt).unwrap());
        assert_eq!(results(&rig.written(&write, outcome))[0].outcome, expected);
    }
}

#[test]
fn a_mode_is_the_servers_and_is_told_once_the_harness_was_reached() {
    let mut rig = Rig::new();
    let write = write_of(rig.command(1, options(None)).unwrap());
    assert_eq!(value(&write.data), json!({"type": "keep_alive"}));
    let events = events(&rig.written(&write, WriteOutcome::Done));
    assert!(matches!(
        events[..],
        [EventBody::OptionsChanged {
            model: None,
            permission_mode: Some(PermissionMode::Auto)
        }]
    ));
}

#[test]
fn an_input_is_applied_once_and_a_doubt_is_settled() {
    let id = InputId::from_bits(77);
    let lifecycle = |state: &str| {
        format!(
            r#"{{"type":"command_lifecycle","command_uuid":"{}","state":"{state}"}}"#,
            id.to_uuid()
        )
    };
    let mut rig = Rig::new();
    let write = write_of(rig.command(1, input(id)).unwrap());
    use InputState::{Applied, Indeterminate, Rejected, Withdrawn};
    assert_eq!(
        states(&events(&rig.written(&write, WriteOutcome::Unknown))),
        [Indeterminate]
    );
    assert_eq!(states(&rig.events(&lifecycle("queued"))), []);
    assert_eq!(states(&rig.events(&lifecycle("started"))), [Applied]);
    assert_eq!(states(&rig.events(&lifecycle("started"))), []);
    // An interrupted turn cancels what it had taken: that is no withdrawal.
    assert_eq!(states(&rig.events(&lifecycle("cancelled"))), []);
    // A second write of the same input is only echoed.
    rig.written(&write, WriteOutcome::Done);
    let echo = format!(
        r#"{{"type":"user","isReplay":true,"uuid":"{}","message":{{"content":"x"}}}}"#,
        id.to_uuid()
    );
    assert_eq!(states(&rig.events(&echo)), []);

    for (stage, code, expected) in [
        ("queued", Some(0), vec![Rejected]),
        ("queued", None, vec![Indeterminate]),
        ("started", Some(0), vec![]),
        ("cancelled", Some(0), vec![]),
    ] {
        let mut rig = Rig::new();
        let write = write_of(rig.command(1, input(id)).unwrap());
        rig.written(&write, WriteOutcome::Done);
        let events_now = rig.events(&lifecycle(stage));
        if stage == "cancelled" {
            assert_eq!(states(&events_now), [Withdrawn]);
        }
        assert_eq!(states(&events(&rig.exit(code))), expected, "{stage}");
    }
}

#[test]
fn a_snapshot_that_is_broken_or_newer_is_refused() {
    for bad in [
        &b""[..],
        b"\n",
        b"{}\n",
        b"{\"version\":99,\"state\":{}}\n",
        b"\xff\n",
    ] {
        assert!(ClaudeDriver::open(place(), &start(), Some(bad)).is_err());
    }
    let older = b"{\"version\":1,\"state\":{}}\n";
    assert!(ClaudeDriver::open(place(), &start(), Some(older)).is_ok());
}

#[test]
fn input_is_taken_beside_a_background_task() {
    let mut rig = Rig::new();
    rig.line(r#"{"type":"system","subtype":"init","session_id":"s"}"#);
    rig.line(r#"{"type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"t"}]}"#);
    let ended = rig.events(r#"{"type":"result","subtype":"success","result":"ok"}"#);
    // The turn is over, which lets the next input go; that a task runs is not hidden by it.
    assert!(matches!(ended[0], EventBody::TurnEnded { .. }));
    assert!(
        !ended
            .iter()
            .any(|event| matches!(event, EventBody::ActivityChanged { .. })),
        "it goes on working: {ended:?}"
    );
    let id = InputId::from_bits(9);
    let write = write_of(rig.command(1, input(id)).unwrap());
    rig.written(&write, WriteOutcome::Done);
    let line = format!(
        r#"{{"type":"command_lifecycle","command_uuid":"{}","state":"started"}}"#,
        id.to_uuid()
    );
    let events = rig.events(&line);
    assert!(events.iter().any(
        |event| matches!(event, EventBody::TurnStarted { input_ids, .. } if *input_ids == [id])
    ));
}
