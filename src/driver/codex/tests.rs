//! The driver's promises, by hand, and lines that nobody meant to write.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::interpreter::CodexDriver;
use super::items::command;
use crate::base::Timestamp;
use crate::base::id::{CommandId, InputId, SessionId};
use crate::domain::command::StartCommand;
use crate::domain::prompt::{AnswerBody, Decision, Prompt, QuestionAnswer};
use crate::domain::session::Mode;
use crate::domain::{Actor, Command, CommandBody, EventBody, PermissionMode, PromptAnswer};
use crate::driver::{Action, Driver, Output, Place, Record, RecordBody, Write, WriteOutcome};

fn place() -> Place {
    Place {
        session_id: SessionId::from_bits(7),
        origin_epoch: 3,
    }
}

fn start() -> StartCommand {
    StartCommand {
        harness: "codex".to_owned(),
        cwd: "/srv/proj".to_owned(),
        model: String::new(),
        permission_mode: PermissionMode::Ask,
        mode: Mode::Headless,
        argv: Vec::new(),
        env_names: Vec::new(),
        provider_session_id: String::new(),
        fork: false,
        one_shot: false,
        replaces: None,
        instructions: String::new(),
        terminal: None,
    }
}

struct Rig {
    driver: CodexDriver,
    seq: u64,
    written: Vec<Value>,
    events: Vec<EventBody>,
}

impl Rig {
    fn of(start: &StartCommand) -> Self {
        let mut rig = Rig {
            driver: CodexDriver::open(place(), start, None).unwrap(),
            seq: 0,
            written: Vec::new(),
            events: Vec::new(),
        };
        let begun = rig.driver.begin();
        rig.feed(RecordBody::Spawned { pid: 42 });
        begun.into_iter().for_each(|write| rig.wrote(write));
        rig
    }

    fn ready() -> Self {
        let mut rig = Rig::of(&start());
        rig.says(json!({"id": "drv-initialize", "result": {"userAgent": "baton/0.169.0 (x)"}}));
        rig.says(json!({"id": "drv-session-1", "result": {"thread": {"id": "t1"}, "model": "m"}}));
        rig
    }

    /// Feeds a record; the state is put away and taken out again after each.
    fn feed(&mut self, body: RecordBody) {
        self.seq += 1;
        let time = Timestamp::from_millis(1_795_240_000_000 + i64::try_from(self.seq).unwrap());
        let outputs = self.driver.record(&Record {
            seq: self.seq,
            time,
            body,
        });
        let snapshot = self.driver.snapshot();
        self.driver = CodexDriver::open(place(), &start(), Some(&snapshot)).unwrap();
        assert_eq!(self.driver.snapshot(), snapshot);
        let mut writes = Vec::new();
        for output in outputs {
            match output {
                Output::Event(draft) => self.events.push(draft.body),
                Output::Write(write) => writes.push(write),
                _ => {}
            }
        }
        writes.into_iter().for_each(|write| self.wrote(write));
    }

    fn wrote(&mut self, write: Write) {
        for line in std::str::from_utf8(&write.data).unwrap().lines() {
            self.written.push(serde_json::from_str(line).unwrap());
        }
        self.feed(RecordBody::Written {
            id: write.id,
            note: write.note,
            outcome: WriteOutcome::Done,
            reason: String::new(),
        });
    }

    fn line(&mut self, line: &[u8]) {
        self.feed(RecordBody::Stdout {
            data: Bytes::copy_from_slice(line),
            continues: false,
        });
    }

    fn says(&mut self, value: Value) {
        self.line(value.to_string().as_bytes());
    }

    fn does(&mut self, body: CommandBody) -> crate::base::Result<()> {
        let command = Command {
            id: CommandId::from_bits(u128::from(self.seq) + 100),
            session_id: place().session_id,
            deadline: None,
            body,
        };
        if let Action::Write(write) = self.driver.command(&command)? {
            self.wrote(write);
        }
        Ok(())
    }

    fn input(&mut self, text: &str) {
        let input_id = InputId::from_bits(u128::from(self.seq));
        let text = text.to_owned();
        self.does(CommandBody::Input {
            input_id,
            text,
            steer: false,
        })
        .unwrap();
    }

    /// Sends an input, and has the agent begin a turn with it.
    fn turn(&mut self) {
        self.input("go");
        let id = self.written.last().unwrap()["id"].clone();
        self.says(json!({"id": id, "result": {"turn": {"id": "turn-1"}}}));
    }

    fn ends(&mut self, status: &str, error: Value) {
        self.says(json!({"method": "turn/completed", "params": {"turn": {"id": "turn-1", "status": status, "error": error}}}));
    }

    fn asks(&mut self, method: &str, params: Value) -> Option<Prompt> {
        let before = self.events.len();
        self.says(json!({"id": 5, "method": method, "params": params}));
        self.events[before..].iter().find_map(|event| match event {
            EventBody::PromptRequested { prompt } => Some((**prompt).clone()),
            _ => None,
        })
    }

    fn answer(&mut self, prompt: &Prompt, body: AnswerBody) -> crate::base::Result<Value> {
        self.does(CommandBody::Answer {
            prompt_id: prompt.id,
            request_key: prompt.request_key.clone(),
            answer: PromptAnswer {
                by: Actor::server(),
                at: Timestamp::EPOCH,
                body,
            },
        })?;
        Ok(self.written.last().unwrap().clone())
    }

    fn end(&self) -> Option<(bool, String, String, u32)> {
        self.events.iter().rev().find_map(|event| match event {
            EventBody::TurnEnded {
                is_error,
                reason,
                text,
                api_status,
                ..
            } => Some((*is_error, reason.clone(), text.clone(), *api_status)),
            _ => None,
        })
    }
}

fn decide(allow: bool, interrupt: bool) -> AnswerBody {
    AnswerBody::Decision(Decision {
        allow,
        interrupt,
        ..Decision::default()
    })
}

#[test]
fn codex_gets_a_sandbox_in_which_it_has_to_ask() {
    let mut rig = Rig::of(&StartCommand {
        model: "m2".to_owned(),
        ..start()
    });
    rig.input("first");
    rig.input("second");
    rig.says(json!({"id": "drv-initialize", "result": {"userAgent": "baton/0.169.0 (x)"}}));
    assert_eq!(rig.written[1]["method"], "initialized");
    let params = &rig.written[2]["params"];
    assert_eq!(rig.written[2]["method"], "thread/start");
    assert_eq!(
        (
            &params["sandbox"],
            &params["approvalPolicy"],
            &params["approvalsReviewer"],
            &params["model"]
        ),
        (
            &json!("read-only"),
            &json!("on-request"),
            &json!("user"),
            &json!("m2")
        )
    );
    rig.says(json!({"id": "drv-session-1", "result": {"thread": {"id": "t1"}}}));
    assert_eq!(rig.written.len(), 4, "one input at a time");
    assert_eq!(rig.written[3]["params"]["input"][0]["text"], "first");
    let mut rig = Rig::of(&StartCommand {
        provider_session_id: "t9".to_owned(),
        ..start()
    });
    rig.says(json!({"id": "drv-initialize", "result": {}}));
    assert_eq!(
        (
            &rig.written[2]["method"],
            &rig.written[2]["params"]["threadId"]
        ),
        (&json!("thread/resume"), &json!("t9"))
    );
}

#[test]
fn answers_are_the_words_that_codex_knows() {
    for (body, word) in [
        (decide(true, false), "accept"),
        (decide(false, false), "decline"),
        (decide(false, true), "cancel"),
    ] {
        let mut rig = Rig::ready();
        rig.turn();
        let prompt = rig.asks(
            "item/commandExecution/requestApproval",
            json!({"itemId": "c", "command": "/bin/bash -lc 'git push'", "cwd": "/p"}),
        );
        let prompt = prompt.unwrap();
        assert_eq!(prompt.summary, "Bash: git push");
        let sent = rig.answer(&prompt, body).unwrap();
        assert_eq!(
            (&sent["id"], &sent["result"]["decision"]),
            (&json!(5), &json!(word))
        );
        assert!(
            rig.answer(&prompt, decide(true, false)).is_err(),
            "an answer is given once"
        );
    }
}

#[test]
fn a_request_for_more_than_a_rule_knows_has_a_name_of_its_own() {
    let mut rig = Rig::ready();
    rig.turn();
    let network = rig.asks("item/commandExecution/requestApproval",
        json!({"itemId": "c", "command": "curl x", "networkApprovalContext": {"host": "example.com"}})).unwrap();
    assert_eq!(network.tool, "Network");
    rig.answer(&network, decide(false, false)).unwrap();
    rig.says(
        json!({"method": "item/started", "params": {"item": {"type": "fileChange", "id": "f",
        "changes": [{"path": "/p/x", "kind": {"type": "add"}, "diff": "+1"}]}}}),
    );
    let change = rig
        .asks("item/fileChange/requestApproval", json!({"itemId": "f"}))
        .unwrap();
    assert_eq!(
        (
            change.tool.as_str(),
            change.input.to_value()["file_path"].as_str()
        ),
        ("Edit", Some("/p/x"))
    );
    rig.answer(&change, decide(true, false)).unwrap();
    let root = rig
        .asks(
            "item/fileChange/requestApproval",
            json!({"itemId": "f", "grantRoot": "/p"}),
        )
        .unwrap();
    assert_eq!(root.tool, "GrantRoot");
}

#[test]
fn a_question_is_answered_by_its_id() {
    let mut rig = Rig::ready();
    rig.turn();
    let prompt = rig.asks("item/tool/requestUserInput", json!({"itemId": "q", "questions": [
        {"id": "q1", "header": "Which", "question": "Which colour?", "options": [{"label": "red", "description": ""}]},
    ]})).unwrap();
    let answer = QuestionAnswer {
        question: "Which colour?".to_owned(),
        labels: vec!["red".to_owned()],
        text: "dark".to_owned(),
    };
    let sent = rig
        .answer(&prompt, AnswerBody::Answers(vec![answer]))
        .unwrap();
    assert_eq!(
        sent["result"],
        json!({"answers": {"q1": {"answers": ["red", "dark"]}}})
    );
    assert!(
        rig.asks("account/chatgptAuthTokens/refresh", json!({}))
            .is_none()
    );
    assert_eq!(rig.written.last().unwrap()["error"]["code"], -32601);
}

#[test]
fn an_interrupt_waits_for_the_name_of_the_turn() {
    let mut rig = Rig::ready();
    rig.input("go");
    let request = rig.written.last().unwrap()["id"].clone();
    rig.does(CommandBody::Interrupt).unwrap();
    assert_eq!(rig.written.last().unwrap()["method"], "turn/start");
    rig.says(json!({"id": request, "result": {"turn": {"id": "turn-1"}}}));
    let sent = rig.written.last().unwrap();
    assert_eq!(
        (&sent["method"], &sent["params"]["turnId"]),
        (&json!("turn/interrupt"), &json!("turn-1"))
    );
    rig.ends("interrupted", Value::Null);
    assert_eq!(rig.end().unwrap().1, "interrupted");
}

#[test]
fn a_turn_that_fails_says_why_and_what_to_do() {
    let mut rig = Rig::ready();
    rig.turn();
    rig.ends(
        "failed",
        json!({"message": "no", "codexErrorInfo": "unauthorized"}),
    );
    let (is_error, _, text, _) = rig.end().unwrap();
    assert!(is_error && text.contains("codex login"), "{text}");
    let mut rig = Rig::ready();
    rig.turn();
    rig.ends("failed", json!({"message": "bad", "codexErrorInfo": {"responseStreamConnectionFailed": {"httpStatusCode": 529}}}));
    assert_eq!(rig.end().unwrap().3, 529);
}

#[test]
fn what_a_thread_consumed_before_is_not_counted_again() {
    let mut rig = Rig::of(&StartCommand {
        provider_session_id: "t1".to_owned(),
        ..start()
    });
    rig.says(json!({"id": "drv-initialize", "result": {}}));
    rig.says(json!({"id": "drv-session-1", "result": {"thread": {"id": "t1"}}}));
    rig.turn();
    for (total, last) in [(110, 10), (130, 20), (130, 20)] {
        rig.says(
            json!({"method": "thread/tokenUsage/updated", "params": {"tokenUsage": {
            "total": {"inputTokens": total}, "last": {"inputTokens": last}}}}),
        );
    }
    let total = rig.events.iter().rev().find_map(|event| match event {
        EventBody::UsageUpdated { total } => Some(total.input_tokens),
        _ => None,
    });
    assert_eq!(total, Some(30));
}

#[test]
fn a_command_is_what_the_shell_is_given_where_that_is_plain() {
    for (whole, given) in [
        ("/bin/bash -lc 'git status'", "git status"),
        ("/bin/bash -lc ls", "ls"),
        (
            "/bin/bash -lc 'a '\\''b'\\'''",
            "/bin/bash -lc 'a '\\''b'\\'''",
        ),
        ("/bin/bash -lc \"x $(y)\"", "/bin/bash -lc \"x $(y)\""),
        ("/bin/bash -lc ls;rm", "/bin/bash -lc ls;rm"),
        ("git status", "git status"),
    ] {
        assert_eq!(command(whole, "/p")["command"], given);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "turn-1",
            "agentMessage",
            "reasoning",
            "commandExecution",
            "fileChange",
            "mcpToolCall",
            "completed"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        let keys = prop::sample::select(vec![
            "item",
            "id",
            "type",
            "turn",
            "status",
            "text",
            "changes",
            "path",
            "kind",
            "diff",
            "questions",
            "question",
            "options",
            "plan",
            "tokenUsage",
            "total",
            "last",
            "inputTokens",
            "itemId",
            "delta",
            "summaryIndex",
            "error",
            "codexErrorInfo",
            "command",
            "summary",
            "content",
            "thread",
            "userAgent",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6).prop_map(|fields| {
                let fields = fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(fields.collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_does_harm(messages in prop::collection::vec((prop::sample::select(vec![
        "item/started", "item/completed", "item/agentMessage/delta", "item/reasoning/summaryTextDelta", "turn/started",
        "turn/completed", "turn/plan/updated", "thread/tokenUsage/updated", "error", "x",
        "item/commandExecution/requestApproval", "item/fileChange/requestApproval", "item/tool/requestUserInput",
    ]), any_json(), any_json()), 0..12), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut rig = Rig::ready();
        rig.turn();
        rig.line(&bytes);
        for (method, id, params) in messages {
            rig.says(json!({"id": id, "method": method, "params": params}));
            rig.says(json!({"method": method, "params": params}));
            rig.says(json!({"id": "drv-session-1", "result": params}));
        }
        for sent in &rig.written {
            prop_assert_ne!(&sent["result"]["decision"], "accept");
        }
    }
}
