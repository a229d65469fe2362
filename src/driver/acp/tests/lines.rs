//! The driver's promises, line by line.

use serde_json::json;

use super::rig::*;
use crate::base::Code;
use crate::base::id::InputId;
use crate::domain::command::StartCommand;
use crate::domain::event::TransientBody;
use crate::domain::prompt::{Decision, Remember};
use crate::domain::{CommandBody, CommandOutcome, EventBody, PermissionMode};
use crate::driver::{Action, Driver, Output, RecordBody, WriteOutcome};

#[test]
fn an_input_waits_until_the_agent_is_ready_and_idle() {
    let mut rig = Rig::of(&start());
    assert_eq!(rig.written[0]["method"], "initialize");
    // Nothing is offered that is not done.
    let offered = &rig.written[0]["params"]["clientCapabilities"];
    for it in ["terminal", "elicitation"] {
        assert!(offered[it].is_null() || offered[it] == false, "{offered}");
    }
    for it in ["readTextFile", "writeTextFile"] {
        assert!(
            offered["fs"].is_null() || offered["fs"][it] == false,
            "{offered}"
        );
    }
    rig.input("first");
    rig.input("second");
    assert_eq!(rig.written.len(), 1, "it is not ready");
    rig.initialized(json!({}));
    assert_eq!(rig.written[1]["method"], "session/new");
    assert_eq!(rig.written[1]["params"]["cwd"], "/srv/proj");
    assert_eq!(rig.written[1]["params"]["mcpServers"], json!([]));
    rig.answers("drv-session-1", json!({"sessionId": CONVERSATION}));
    assert_eq!(rig.written.len(), 3);
    assert_eq!(rig.written[2]["params"]["prompt"][0]["text"], "first");
    rig.ends("end_turn");
    assert_eq!(rig.written[3]["params"]["prompt"][0]["text"], "second");
    rig.ends("refusal");
    assert_eq!(
        rig.told(),
        [
            "started",
            "Working",
            "started conv-1",
            "input applied",
            "turn",
            "end false end_turn",
            "input applied",
            "turn",
            "end true refusal",
            "AwaitingInput",
        ]
    );
}

#[test]
fn an_agent_that_nobody_is_signed_in_with_says_what_to_do_and_is_asked_again() {
    let mut rig = Rig::of(&start());
    rig.answers(
        "drv-initialize",
        json!({"protocolVersion": 1, "authMethods": [
            {"id": "x", "name": "Log in", "description": "Run `x login`"},
        ]}),
    );
    rig.input("hello");
    rig.fails("drv-session-1", -32000, "Authentication required");
    let refused = rig
        .told()
        .into_iter()
        .find(|word| word.starts_with("input rejected"))
        .unwrap();
    for part in [
        "Authentication required",
        "sign in",
        "Log in (Run `x login`)",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(rig.told().last().unwrap(), "AwaitingInput");
    rig.forget();
    rig.input("again");
    assert_eq!(rig.written[0]["id"], "drv-session-2");
    rig.answers("drv-session-2", json!({"sessionId": CONVERSATION}));
    assert_eq!(rig.written[1]["params"]["prompt"][0]["text"], "again");
    // One that lost its login in mid-conversation.
    let id = rig.running();
    rig.fails(&id, -32000, "Authentication required");
    let end = rig
        .told()
        .into_iter()
        .find(|word| word.starts_with("end true"))
        .unwrap();
    assert!(
        end.contains("auth_required") && end.contains("sign in"),
        "{end}"
    );
}

#[test]
fn another_version_of_the_protocol_is_refused() {
    let mut rig = Rig::of(&start());
    rig.answers("drv-initialize", json!({"protocolVersion": 2}));
    rig.input("hello");
    let told = rig.told();
    assert!(
        told.iter()
            .any(|word| word.starts_with("input rejected the agent speaks version 2")),
        "{told:#?}"
    );
    assert_eq!(rig.written.len(), 1);
}

#[test]
fn the_agent_is_put_into_a_mode_that_asks() {
    let modes = |current: &str| {
        json!({"sessionId": CONVERSATION, "modes": {"currentModeId": current, "availableModes": [
            {"id": "agent", "name": "Agent"}, {"id": "read-only", "name": "Read only"}, {"id": "plan", "name": "Plan"},
        ]}})
    };
    let mut rig = Rig::of(&start());
    rig.initialized(json!({}));
    rig.input("hello");
    rig.answers("drv-session-1", modes("agent"));
    assert_eq!(rig.written[2]["method"], "session/set_mode");
    assert_eq!(rig.written[2]["params"]["modeId"], "read-only");
    assert_eq!(rig.written.len(), 3, "the input waits for it");
    rig.answers("drv-mode-1-0", json!({}));
    assert_eq!(rig.written[3]["method"], "session/prompt");
    // It leaves that mode, and is put back; planning is narrower and stays.
    rig.update(json!({"sessionUpdate": "current_mode_update", "currentModeId": "agent"}));
    assert_eq!(rig.written[4]["method"], "session/set_mode");
    rig.update(json!({"sessionUpdate": "current_mode_update", "currentModeId": "plan"}));
    assert_eq!(rig.written.len(), 5);
    for _ in 0..100 {
        rig.update(json!({"sessionUpdate": "current_mode_update", "currentModeId": "agent"}));
    }
    assert!(rig.written.len() < 50, "it is not fought for ever");
    let mut rig = Rig::of(&start());
    rig.initialized(json!({}));
    rig.answers(
        "drv-session-1",
        json!({"sessionId": CONVERSATION, "modes": {"currentModeId": "yolo", "availableModes": [{"id": "yolo", "name": "Yolo"}]}}),
    );
    assert!(
        rig.told()
            .iter()
            .any(|word| word.starts_with("notice mode")),
        "{:#?}",
        rig.told()
    );
}

fn with_model(model: &str) -> StartCommand {
    StartCommand {
        model: model.to_owned(),
        ..start()
    }
}

fn models(current: &str) -> serde_json::Value {
    json!([{"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": current,
        "options": [{"value": "small", "name": "S"}, {"value": "large", "name": "L"}]}])
}

#[test]
fn a_model_is_chosen_before_the_first_input_and_changed_by_command() {
    let mut rig = Rig::of(&with_model("large"));
    rig.initialized(json!({}));
    rig.input("hello");
    rig.answers(
        "drv-session-1",
        json!({"sessionId": CONVERSATION, "configOptions": models("small")}),
    );
    let sent = &rig.written[2];
    assert_eq!(sent["method"], "session/set_config_option");
    assert_eq!(
        (&sent["params"]["configId"], &sent["params"]["value"]),
        (&json!("model"), &json!("large"))
    );
    rig.answers("drv-model-1", json!({"configOptions": models("large")}));
    assert_eq!(rig.written[3]["method"], "session/prompt");
    rig.forget();
    let options = |model: Option<&str>| CommandBody::Options {
        model: model.map(str::to_owned),
        permission_mode: None,
    };
    let sent = rig.does(options(Some("small"))).unwrap();
    let id = sent[0]["id"].as_str().unwrap().to_owned();
    rig.answers(&id, json!({"configOptions": models("small")}));
    let done = rig.outputs.iter().find_map(|output| match output {
        Output::Done(result) => Some(result.outcome),
        _ => None,
    });
    assert_eq!(done, Some(CommandOutcome::Applied));
    assert!(rig.told().contains(&"options_changed".to_owned()));
    assert_eq!(
        rig.does(options(Some("huge"))).unwrap_err().code(),
        Code::InvalidInput
    );
    // Modes are the server's.
    let sent = rig
        .does(CommandBody::Options {
            model: None,
            permission_mode: Some(PermissionMode::Auto),
        })
        .unwrap();
    assert!(sent.is_empty());

    let mut rig = Rig::of(&with_model("huge"));
    rig.initialized(json!({}));
    rig.input("hello");
    rig.answers(
        "drv-session-1",
        json!({"sessionId": CONVERSATION, "configOptions": models("small")}),
    );
    let told = rig.told();
    assert!(
        told.iter().any(
            |word| word.contains("input rejected the model huge is none")
                && word.contains("small, large")
        ),
        "{told:#?}"
    );
}

#[test]
fn every_answer_is_one_of_the_options() {
    for (decision, option) in [
        (allow(), "y"),
        (
            Decision {
                remember: Remember::Session,
                ..allow()
            },
            "y",
        ),
        (Decision::default(), "n"),
        (
            Decision {
                message: "because".to_owned(),
                ..Decision::default()
            },
            "n",
        ),
    ] {
        let mut rig = Rig::ready();
        rig.input("go");
        let prompt = rig.asks(0, "make");
        assert_eq!(prompt.tool, "Bash");
        let labels: Vec<&str> = prompt
            .suggestions
            .iter()
            .map(|s| s.label.as_str())
            .collect();
        assert_eq!(labels, ["Always", "Never"]);
        let sent = rig.answer(&prompt, decision).unwrap();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0]["id"], 0);
        assert_eq!(
            sent[0]["result"]["outcome"],
            json!({"outcome": "selected", "optionId": option})
        );
        let again = rig.answer(&prompt, allow()).unwrap_err();
        assert_eq!(again.code(), Code::InvalidState, "an answer is given once");
    }
}

#[test]
fn an_agent_without_an_option_gets_what_is_narrower() {
    let always = json!([{"optionId": "Y", "name": "Always", "kind": "allow_always"}]);
    let mut rig = Rig::ready();
    rig.input("go");
    let prompt = rig.asks_with(1, "make", always.clone());
    assert!(rig.answer(&prompt, allow()).is_err(), "once was meant");
    let updated = Decision {
        updated_input: Some(Default::default()),
        ..allow()
    };
    assert!(rig.answer(&prompt, updated).is_err());
    let sent = rig.answer(&prompt, Decision::default()).unwrap();
    assert_eq!(sent[0]["result"]["outcome"]["outcome"], "cancelled");
    let prompt = rig.asks_with(2, "make", always);
    let remembered = Decision {
        remember: Remember::Rule,
        ..allow()
    };
    let sent = rig.answer(&prompt, remembered).unwrap();
    assert_eq!(sent[0]["result"]["outcome"]["optionId"], "Y");
    let prompt = rig.asks_with(
        3,
        "make",
        json!([{"optionId": "?", "name": "Maybe", "kind": "maybe"}]),
    );
    let _ = prompt;
    let refused = rig.written.iter().rev().find(|sent| sent["id"] == 3);
    assert!(
        refused.is_some_and(|sent| sent["error"]["code"] == -32602),
        "{:?}",
        rig.written
    );
}

#[test]
fn a_cancel_answers_every_question_and_those_that_come_too_late() {
    let mut rig = Rig::ready();
    assert!(
        rig.does(CommandBody::Interrupt).unwrap().is_empty(),
        "nothing runs"
    );
    rig.input("go");
    rig.asks(1, "one");
    rig.asks(2, "two");
    let sent = rig.does(CommandBody::Interrupt).unwrap();
    assert_eq!(sent[0]["method"], "session/cancel");
    assert_eq!((&sent[1]["id"], &sent[2]["id"]), (&json!(1), &json!(2)));
    for sent in &sent[1..] {
        assert_eq!(sent["result"]["outcome"], json!({"outcome": "cancelled"}));
    }
    rig.forget();
    rig.says(
        json!({"jsonrpc": "2.0", "id": 3, "method": "session/request_permission", "params": {
            "sessionId": CONVERSATION, "toolCall": {"toolCallId": "late"}, "options": [],
        }}),
    );
    assert_eq!(rig.written[0]["result"]["outcome"]["outcome"], "cancelled");
    assert!(rig.prompts().is_empty());
}

#[test]
fn a_denial_may_end_the_turn() {
    let mut rig = Rig::ready();
    rig.input("go");
    let prompt = rig.asks(1, "one");
    rig.asks(2, "two");
    rig.forget();
    let sent = rig
        .answer(
            &prompt,
            Decision {
                interrupt: true,
                ..Decision::default()
            },
        )
        .unwrap();
    assert_eq!(sent[0]["result"]["outcome"]["optionId"], "n");
    assert_eq!(sent[1]["method"], "session/cancel");
    // The other one was not answered with it.
    let other = sent
        .iter()
        .chain(&rig.written)
        .find(|sent| sent["id"] == 2)
        .unwrap();
    assert_eq!(other["result"]["outcome"]["outcome"], "cancelled");
}

#[test]
fn what_the_agent_takes_back_is_withdrawn() {
    let mut rig = Rig::ready();
    rig.input("go");
    rig.asks(1, "one");
    rig.says(json!({"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": 1}}));
    assert!(
        rig.told()
            .contains(&"withdrawn the agent no longer asks".to_owned())
    );
    rig.asks(2, "two");
    rig.ends("end_turn");
    assert!(
        rig.told()
            .contains(&"withdrawn the turn has ended".to_owned())
    );
}

#[test]
fn text_is_live_while_it_is_written_and_an_event_when_it_ends() {
    let mut rig = Rig::ready();
    rig.input("go");
    rig.chunk("agent_thought_chunk", "hm ");
    rig.chunk("agent_thought_chunk", "so");
    rig.chunk("agent_message_chunk", "one ");
    rig.chunk("agent_message_chunk", "two");
    rig.update(json!({"sessionUpdate": "plan", "entries": [
        {"content": "a", "priority": "high", "status": "in_progress"},
        {"content": "b", "priority": "what", "status": "pending"},
    ]}));
    rig.chunk("agent_message_chunk", "three");
    rig.ends("end_turn");
    let told = rig.told();
    assert_eq!(
        told[3..],
        [
            "Agent: (hm so)",
            "Agent: one two",
            "plan 1",
            "Agent: three",
            "end false end_turn three",
            "AwaitingInput"
        ]
    );
    let live: Vec<(u64, &str)> = rig
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Transient(TransientBody::MessageDelta { offset, text, .. }) => {
                Some((*offset, text.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        live,
        [(0, "hm "), (3, "so"), (0, "one "), (4, "two"), (0, "three")]
    );
}

#[test]
fn a_text_without_end_is_told_in_parts_that_fit() {
    let mut rig = Rig::ready();
    rig.input("go");
    rig.chunk("agent_message_chunk", &"é".repeat(100_000));
    rig.ends("end_turn");
    let texts: Vec<usize> = rig
        .events
        .iter()
        .filter_map(|event| match event {
            EventBody::Message { blocks, .. } => match &blocks[0] {
                crate::domain::Block::Text(text) => Some(text.len()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(texts.iter().sum::<usize>(), 200_000);
    assert!(texts.iter().all(|len| *len <= 64 * 1024), "{texts:?}");
}

#[test]
fn a_turn_says_what_it_consumed() {
    let mut rig = Rig::ready();
    rig.input("go");
    let id = rig.running();
    rig.update(json!({"sessionUpdate": "usage_update", "used": 5, "size": 10, "cost": {"amount": 0.25, "currency": "USD"}}));
    rig.answers(
        &id,
        json!({"stopReason": "end_turn", "usage": {
            "totalTokens": 10, "inputTokens": 7, "outputTokens": 3, "cachedReadTokens": 2,
        }}),
    );
    let total = rig.events.iter().rev().find_map(|event| match event {
        EventBody::UsageUpdated { total } => Some(*total),
        _ => None,
    });
    let total = total.unwrap();
    assert_eq!(
        (
            total.input_tokens,
            total.output_tokens,
            total.cache_read_tokens
        ),
        (7, 3, 2)
    );
    assert_eq!(total.cost_micro_usd, 250_000);
}

#[test]
fn an_agent_that_dies_leaves_nothing_open() {
    let mut rig = Rig::ready();
    rig.input("go");
    rig.input("later");
    rig.asks(1, "one");
    rig.exits(None);
    let told = rig.told();
    for word in [
        "end true harness_ended",
        "withdrawn the turn has ended",
        "input rejected the agent ended before it took this",
    ] {
        assert!(told.iter().any(|told| told == word), "{word}: {told:#?}");
    }
    let refused = rig.does(CommandBody::Interrupt);
    assert!(refused.is_err());
}

#[test]
fn a_prompt_that_never_reached_the_agent_says_so() {
    for (outcome, state) in [
        (WriteOutcome::Failed, "input rejected why"),
        (
            WriteOutcome::Unknown,
            "input indeterminate nobody can tell whether the agent got this",
        ),
    ] {
        let mut rig = Rig::ready();
        let input_id = InputId::from_bits(5);
        let body = CommandBody::Input {
            input_id,
            text: "go".to_owned(),
            steer: false,
        };
        let command = crate::domain::Command {
            id: crate::base::id::CommandId::from_bits(1),
            session_id: place().session_id,
            deadline: None,
            body,
        };
        let Action::Write(held) = rig.driver.command(&command).unwrap() else {
            panic!("a write");
        };
        assert!(
            held.data.is_empty(),
            "nothing is written before it is the agent's turn"
        );
        let outputs = rig.driver.record(&record(
            1_000,
            RecordBody::Written {
                id: held.id,
                note: held.note,
                outcome: WriteOutcome::Done,
                reason: String::new(),
            },
        ));
        let prompt = outputs.into_iter().find_map(|output| match output {
            Output::Write(write) => Some(write),
            _ => None,
        });
        rig.wrote_with(prompt.unwrap(), outcome);
        assert!(rig.told().contains(&state.to_owned()), "{:#?}", rig.told());
        // The next one is not held up for ever.
        rig.does(CommandBody::Interrupt).unwrap();
        rig.input("next");
        let sent = rig.written.last().unwrap();
        assert_eq!(sent["params"]["prompt"][0]["text"], "next");
    }
}

#[test]
fn missing_output_ends_what_nobody_can_wait_for() {
    let mut rig = Rig::ready();
    rig.input("go");
    rig.feed(RecordBody::Missing {
        from: 1,
        to: 2,
        reason: "gone".to_owned(),
    });
    let told = rig.told();
    assert!(
        told.contains(&"gap".to_owned()) && told.contains(&"end true output_missing".to_owned()),
        "{told:#?}"
    );
    rig.input("next");
    assert_eq!(
        rig.written.last().unwrap()["params"]["prompt"][0]["text"],
        "next"
    );
}
