//! The agent protocol over stdio: the real Claude Code against the stand-in for its model, and the demo
//! agent where both behave alike.
//!
//! What a driver builds on is promised here, so that a new version of the CLI that breaks a promise is
//! found here first, and so that the demo agent cannot drift away from the real one.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use baton::daemon::harness::demo::{DemoOptions, run_with_stderr};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::model_api::ModelApi;
use crate::support::stdio_agent::{StdioAgent, clean_command};

/// The CLI: the one a variable names, or the one installed beside these tests.
///
/// Its absence is a failure, never a test passed over.
pub fn claude_program() -> PathBuf {
    if let Some(named) = std::env::var_os("BATON_TEST_CLAUDE") {
        let named = PathBuf::from(named);
        assert!(
            named.exists(),
            "BATON_TEST_CLAUDE names no file: {}",
            named.display()
        );
        return named;
    }
    let installed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/node_modules/.bin/claude");
    if !installed.exists() {
        let required = std::env::var_os("CI").is_some()
            || std::env::var_os("BATON_REQUIRE_CLAUDE").is_some_and(|value| value == "1");
        if required {
            panic!(
                "Claude Code is not installed, and this run must have it: npm ci in tests/e2e failed or was left out"
            );
        }
        panic!(
            "Claude Code is not installed: run `scripts/test`, or `npm ci` in tests/e2e, or set BATON_TEST_CLAUDE to the program"
        );
    }
    installed
}

/// A place of one test's own: a home, a working directory, and a model for the real agent.
struct Place {
    folder: TempDir,
    cwd: PathBuf,
    api: ModelApi,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let cwd = folder.path().join("project");
        std::fs::create_dir(&cwd).expect("a folder");
        Place {
            folder,
            cwd,
            api: ModelApi::start(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.cwd.join(name)
    }

    /// The real agent.
    fn claude(&self, more: &[&str]) -> StdioAgent {
        let mut command = clean_command(&claude_program(), self.folder.path(), &self.cwd);
        command
            .args(["-p", "--verbose", "--permission-prompt-tool", "stdio"])
            .args([
                "--input-format",
                "stream-json",
                "--output-format",
                "stream-json",
            ])
            .args(["--include-partial-messages", "--replay-user-messages"])
            .args(more)
            .env("ANTHROPIC_BASE_URL", self.api.base_url())
            .env("ANTHROPIC_API_KEY", "stub-key-of-no-account")
            .env("CLAUDE_CODE_MAX_RETRIES", "1")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .env("DISABLE_TELEMETRY", "1")
            .env("DISABLE_ERROR_REPORTING", "1");
        StdioAgent::spawn(&mut command)
    }

    /// The demo agent, in a thread of this process.
    fn demo(&self, more: &[&str]) -> StdioAgent {
        let mut options = DemoOptions::new(&self.cwd, self.folder.path().join("demo"));
        let mut words = more.iter();
        while let Some(word) = words.next() {
            match *word {
                "--resume" => options.resume = words.next().map(|id| (*id).to_owned()),
                "--fork-session" => options.fork_session = true,
                "--session-id" => options.session_id = words.next().map(|id| (*id).to_owned()),
                other => panic!("no such option: {other}"),
            }
        }
        StdioAgent::threaded(move |stdin, stdout, stderr| {
            run_with_stderr(options, BufReader::new(stdin), stdout, stderr)
        })
    }
}

/// A way to start an agent.
type Start = fn(&Place, &[&str]) -> StdioAgent;

/// Makes each promise a test for the real agent and one for the demo agent.
macro_rules! promised_by_both {
    ($($name:ident;)*) => {
        mod claude {
            $(#[test]
            fn $name() {
                super::$name(super::Place::claude);
            })*
        }
        mod demo {
            $(#[test]
            fn $name() {
                super::$name(super::Place::demo);
            })*
        }
    };
}

promised_by_both! {
    a_turn_is_told_from_its_message_to_its_result;
    an_allowed_tool_runs_as_asked_and_as_changed;
    a_refused_tool_does_not_end_the_turn;
    a_denial_with_interrupt_ends_the_turn;
    a_rule_in_an_answer_holds_for_the_next_command;
    questions_are_answered_in_the_updated_input;
    open_asks_are_told_again_on_request;
    an_interrupt_ends_the_turn_and_not_the_agent;
    an_interrupt_withdraws_an_open_ask;
    messages_join_the_turn_at_a_tool_and_wait_behind_text;
    a_queued_message_can_be_cancelled;
    a_conversation_is_resumed_and_forked;
    an_unknown_conversation_is_an_error;
    an_error_of_the_model_is_told_and_survived;
    clearing_changes_the_session;
    the_host_can_change_the_mode_and_the_model;
    an_unknown_request_is_refused_by_code;
    the_end_of_input_refuses_what_is_open;
    a_line_that_is_no_json_is_fatal;
    a_message_sent_twice_runs_once;
    long_text_is_one_line;
}

const FIRST: &str = "00000000-0000-4000-8000-000000000001";
const SECOND: &str = "00000000-0000-4000-8000-000000000002";
const THIRD: &str = "00000000-0000-4000-8000-000000000003";

fn allowed(input: &Value) -> Value {
    json!({ "behavior": "allow", "updatedInput": input })
}

/// The position of the first line that `wanted` accepts.
fn position(lines: &[Value], what: &str, wanted: impl Fn(&Value) -> bool) -> usize {
    let found = lines.iter().position(wanted);
    found.unwrap_or_else(|| panic!("no {what} in {lines:#?}"))
}

fn is_lifecycle(line: &Value, uuid: &str, state: &str) -> bool {
    line["type"] == "command_lifecycle" && line["command_uuid"] == uuid && line["state"] == state
}

fn text_of(result: &Value) -> &str {
    result["result"].as_str().unwrap_or_default()
}

fn a_turn_is_told_from_its_message_to_its_result(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user_as(FIRST, "think: let me see\n+ say: hello");
    let lines = agent.until("the end of the message", |line| {
        is_lifecycle(line, FIRST, "completed")
    });
    let order = [
        position(&lines, "queued", |line| is_lifecycle(line, FIRST, "queued")),
        position(&lines, "started", |line| {
            is_lifecycle(line, FIRST, "started")
        }),
        position(&lines, "init", |line| line["subtype"] == "init"),
        position(&lines, "echo", |line| {
            line["uuid"] == FIRST && line["isReplay"] == true
        }),
        position(&lines, "start", |line| {
            line["event"]["type"] == "message_start"
        }),
        position(&lines, "thinking", |line| {
            line["event"]["delta"]["type"] == "thinking_delta"
        }),
        position(&lines, "thought", |line| {
            line["type"] == "assistant" && line["message"]["content"][0]["type"] == "thinking"
        }),
        position(&lines, "text", |line| {
            line["event"]["delta"]["text"] == "hello"
        }),
        position(&lines, "block", |line| {
            line["message"]["content"][0]["text"] == "hello"
        }),
        position(&lines, "stop", |line| {
            line["event"]["type"] == "message_stop"
        }),
        position(&lines, "result", |line| line["type"] == "result"),
        lines.len() - 1,
    ];
    assert!(order.is_sorted(), "{order:?}");
    let init = &lines[order[2]];
    assert_eq!(init["permissionMode"], "default");
    assert_eq!(
        init["cwd"].as_str().map(Path::new),
        Some(place.cwd.as_path())
    );
    let result = &lines[order[10]];
    assert_eq!(
        (&result["subtype"], &result["is_error"]),
        (&json!("success"), &json!(false))
    );
    assert_eq!(text_of(result), "hello");
    assert_eq!(result["user_message_uuids"], json!([FIRST]));
    assert_eq!(result["terminal_reason"], "completed");
    assert_eq!(result["session_id"], init["session_id"]);
    for field in [
        "num_turns",
        "duration_ms",
        "total_cost_usd",
        "usage",
        "modelUsage",
    ] {
        assert!(!result[field].is_null(), "{field}");
    }
    let (code, _) = agent.finish();
    assert_eq!(code, 0);
}

fn an_allowed_tool_runs_as_asked_and_as_changed(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("run: touch one.txt && echo made");
    let ask = agent.ask();
    assert_eq!(ask.tool, "Bash");
    assert!(ask.request["tool_use_id"].is_string());
    agent.answer(&ask, allowed(&ask.input));
    assert_eq!(text_of(&agent.result()), "tool said: made");
    assert!(place.file("one.txt").exists());

    agent.user("run: touch two.txt");
    let ask = agent.ask();
    agent.answer(
        &ask,
        allowed(&json!({ "command": "touch changed.txt", "description": "x" })),
    );
    agent.result();
    assert!(place.file("changed.txt").exists() && !place.file("two.txt").exists());

    agent.user("write: new.txt words");
    let ask = agent.ask();
    assert_eq!(ask.tool, "Write");
    agent.answer(&ask, allowed(&ask.input));
    agent.result();
    let written = std::fs::read_to_string(place.file("new.txt")).expect("written");
    assert_eq!(written, "words");
}

fn a_refused_tool_does_not_end_the_turn(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("run: touch a.txt");
    let ask = agent.ask();
    agent.answer(&ask, json!({ "behavior": "deny", "message": "not today" }));
    let result = agent.result();
    assert_eq!(text_of(&result), "tool said: not today");
    assert_eq!(result["permission_denials"][0]["tool_name"], "Bash");
    agent.user("run: touch a.txt");
    let ask = agent.ask();
    agent.answer_error(&ask, "nobody is there");
    let result = agent.result();
    let told = "tool said: Tool permission request failed: Error: nobody is there";
    assert_eq!(text_of(&result), told);
    agent.user("run: touch a.txt");
    let ask = agent.ask();
    agent.answer(&ask, json!({ "behaviour": "yes" }));
    let result = agent.result();
    assert!(
        text_of(&result).contains("invalid permission result"),
        "{result}"
    );
    assert!(!place.file("a.txt").exists());
}

fn a_denial_with_interrupt_ends_the_turn(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("run: touch a.txt\nsay: never");
    let ask = agent.ask();
    agent.answer(
        &ask,
        json!({ "behavior": "deny", "message": "stop", "interrupt": true }),
    );
    let result = agent.result();
    assert_eq!(result["subtype"], "error_during_execution");
    assert_eq!(result["terminal_reason"], "aborted_tools");
    agent.user("say: alive");
    assert_eq!(text_of(&agent.result()), "alive");
}

fn a_rule_in_an_answer_holds_for_the_next_command(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("run: mkfifo one");
    let ask = agent.ask();
    let rules = json!([{ "toolName": "Bash", "ruleContent": "mkfifo:*" }]);
    let mut answer = allowed(&ask.input);
    answer["updatedPermissions"] = json!([
        { "type": "addRules", "rules": rules, "behavior": "allow", "destination": "session" },
        { "type": "setMode", "mode": "acceptEdits", "destination": "session" },
    ]);
    agent.answer(&ask, answer);
    agent.wait_for("the mode", |line| line["permissionMode"] == "acceptEdits");
    agent.result();
    for message in ["run: mkfifo two", "write: three.txt words"] {
        agent.user(message);
        let lines = agent.turn();
        assert!(
            !lines.iter().any(|line| line["type"] == "control_request"),
            "{lines:#?}"
        );
    }
    assert!(place.file("two").exists() && place.file("three.txt").exists());
}

fn questions_are_answered_in_the_updated_input(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("ask: Which colour?|red|blue ;; Which sizes?*|S|L");
    let ask = agent.ask();
    assert_eq!(ask.tool, "AskUserQuestion");
    assert_eq!(ask.request["requires_user_interaction"], true);
    assert_eq!(ask.input["questions"][0]["options"][1]["label"], "blue");
    assert_eq!(ask.input["questions"][1]["multiSelect"], true);
    let mut input = ask.input.clone();
    input["answers"] = json!({ "Which colour?": "green", "Which sizes?": "S, L" });
    agent.answer(&ask, allowed(&input));
    let result = agent.result();
    assert!(
        text_of(&result).contains("\"Which colour?\"=\"green\""),
        "{result}"
    );
    assert!(
        text_of(&result).contains("\"Which sizes?\"=\"S, L\""),
        "{result}"
    );
    agent.user("ask: Shall I?|yes|no");
    let ask = agent.ask();
    agent.answer(&ask, allowed(&ask.input));
    let told = "tool said: The user did not answer the questions.";
    assert_eq!(text_of(&agent.result()), told);
}

fn open_asks_are_told_again_on_request(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    let response = agent.control(json!({ "subtype": "initialize" }));
    let body = &response["response"];
    assert_eq!(body["session_state"], "idle");
    assert_eq!(body["current_permission_mode"], "default");
    assert!(body["models"][0]["value"].is_string() && body["commands"].is_array());
    if let Some(pid) = agent.pid() {
        assert_eq!(body["pid"], pid);
    }
    agent.user("run: mkfifo one");
    let ask = agent.ask();
    let response = agent.control(json!({ "subtype": "initialize" }));
    assert_eq!(response["response"]["session_state"], "requires_action");
    let pending = &response["pending_permission_requests"][0];
    assert_eq!(pending["request_id"], ask.request_id.as_str());
    assert_eq!(pending["request"], ask.request);
    // Answers are echoed, so whoever shares the stream sees that the ask is settled.
    agent.answer(&ask, allowed(&ask.input));
    agent.response(&ask.request_id);
    agent.result();
}

fn an_interrupt_ends_the_turn_and_not_the_agent(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user_as(FIRST, "slow: 400 25");
    agent.wait_for("text", |line| {
        line["event"]["type"] == "content_block_delta"
    });
    agent.user_as(SECOND, "say: after it");
    agent.wait_for("queued", |line| is_lifecycle(line, SECOND, "queued"));
    let id = agent.request(json!({ "subtype": "interrupt" }));
    let lines = agent.until("cancelled", |line| is_lifecycle(line, FIRST, "cancelled"));
    let order = [
        position(&lines, "response", |line| {
            line["response"]["request_id"] == id
        }),
        position(&lines, "partial text", |line| line["aborted"] == true),
        position(&lines, "notice", |line| {
            line["message"]["content"][0]["text"] == "[Request interrupted by user]"
        }),
        position(&lines, "result", |line| line["type"] == "result"),
    ];
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(
        lines[order[0]]["response"]["response"]["still_queued"],
        json!([SECOND])
    );
    let result = &lines[order[3]];
    assert_eq!(result["subtype"], "error_during_execution");
    assert_eq!(result["terminal_reason"], "aborted_streaming");
    assert_eq!(text_of(&agent.result()), "after it");
    // With nothing running it succeeds, and no result follows.
    let response = agent.control(json!({ "subtype": "interrupt" }));
    assert_eq!(response["subtype"], "success");
    let (code, lines) = agent.finish();
    assert_eq!(code, 0);
    assert!(
        !lines.iter().any(|line| line["type"] == "result"),
        "{lines:#?}"
    );
}

fn an_interrupt_withdraws_an_open_ask(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("run: mkfifo one");
    let ask = agent.ask();
    let id = agent.request(json!({ "subtype": "interrupt" }));
    let lines = agent.turn();
    let withdrawn = position(&lines, "withdrawal", |line| {
        line["type"] == "control_cancel_request" && line["request_id"] == ask.request_id.as_str()
    });
    let answered = position(&lines, "response", |line| {
        line["response"]["request_id"] == id
    });
    assert!(withdrawn < answered);
    let result = &lines[lines.len() - 1];
    assert_eq!(result["terminal_reason"], "aborted_tools");
    assert_eq!(result["permission_denials"][0]["tool_name"], "Bash");
    agent.answer(&ask, allowed(&ask.input));
    agent.user("say: on");
    assert_eq!(text_of(&agent.result()), "on");
    assert!(!place.file("one").exists());
}

fn messages_join_the_turn_at_a_tool_and_wait_behind_text(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user_as(FIRST, "run: mkfifo one");
    let ask = agent.ask();
    agent.user_as(SECOND, "say: steered");
    agent.wait_for("queued", |line| is_lifecycle(line, SECOND, "queued"));
    agent.answer(&ask, allowed(&ask.input));
    let lines = agent.turn();
    let started = position(&lines, "started", |line| {
        is_lifecycle(line, SECOND, "started")
    });
    let ended = position(&lines, "completed", |line| {
        is_lifecycle(line, SECOND, "completed")
    });
    assert!(started < ended);
    let result = &lines[lines.len() - 1];
    assert_eq!(result["user_message_uuids"], json!([FIRST, SECOND]));
    assert_eq!(text_of(result), "steered");
    agent.wait_for("completed", |line| is_lifecycle(line, FIRST, "completed"));

    let fourth = "00000000-0000-4000-8000-000000000004";
    agent.user_as(THIRD, "slow: 20 25");
    agent.wait_for("text", |line| {
        line["event"]["type"] == "content_block_delta"
    });
    agent.user_as(fourth, "say: mine");
    assert_eq!(agent.result()["user_message_uuids"], json!([THIRD]));
    assert_eq!(agent.result()["user_message_uuids"], json!([fourth]));
}

fn a_queued_message_can_be_cancelled(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user_as(FIRST, "run: mkfifo one");
    let ask = agent.ask();
    agent.user_as(SECOND, "say: never");
    let cancel = json!({ "subtype": "cancel_async_message", "message_uuid": SECOND });
    let id = agent.request(cancel.clone());
    agent.wait_for("cancelled", |line| is_lifecycle(line, SECOND, "cancelled"));
    assert_eq!(agent.response(&id)["response"]["cancelled"], true);
    assert_eq!(agent.control(cancel)["response"]["cancelled"], false);
    agent.answer(&ask, allowed(&ask.input));
    assert_eq!(agent.result()["user_message_uuids"], json!([FIRST]));
}

fn a_conversation_is_resumed_and_forked(start: Start) {
    let place = Place::new();
    let own = "abcdef01-2345-4678-89ab-cdef01234567";
    let mut agent = start(&place, &["--session-id", own]);
    agent.user("say: apricot");
    assert_eq!(agent.result()["session_id"], own);
    assert_eq!(agent.finish().0, 0);
    let mut agent = start(&place, &["--resume", own]);
    agent.user("say: resumed");
    assert_eq!(agent.result()["session_id"], own);
    assert_eq!(agent.finish().0, 0);
    let mut agent = start(&place, &["--resume", own, "--fork-session"]);
    agent.user("say: forked");
    let fork = agent.result()["session_id"].clone();
    assert!(fork.is_string() && fork != own, "{fork}");
    assert_eq!(agent.finish().0, 0);
    let mut agent = start(&place, &["--session-id", own]);
    agent.wait_for_stderr("already in use");
    assert_eq!(agent.wait_exit().0, 1);
}

fn an_unknown_conversation_is_an_error(start: Start) {
    let place = Place::new();
    let nobody = "00000000-0000-4000-8000-000000000000";
    let mut agent = start(&place, &["--resume", nobody]);
    agent.user("say: never");
    let result = agent.result();
    assert_eq!(result["subtype"], "error_during_execution");
    let told = format!("No conversation found with session ID: {nobody}");
    assert_eq!(result["errors"], json!([told]));
    assert_eq!(agent.wait_exit().0, 1);
    assert!(agent.transcript().contains(&format!("err {told}")));
}

fn an_error_of_the_model_is_told_and_survived(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    for (message, status, retried) in [("error: 400", 400, false), ("limit: 1", 429, true)] {
        agent.user(message);
        let lines = agent.turn();
        let result = &lines[lines.len() - 1];
        assert_eq!(
            (&result["subtype"], &result["is_error"]),
            (&json!("success"), &json!(true))
        );
        assert_eq!(result["api_error_status"], status);
        assert_eq!(result["terminal_reason"], "api_error");
        position(&lines, "error message", |line| {
            line["is_api_error_message"] == true
        });
        // The real one retries a limit; the demo announces it as accounts with a plan are told.
        let announced =
            |line: &Value| line["subtype"] == "api_retry" || line["type"] == "rate_limit_event";
        assert_eq!(lines.iter().any(announced), retried, "{lines:#?}");
    }
    agent.user("say: alive");
    assert_eq!(text_of(&agent.result()), "alive");
    assert_eq!(agent.finish().0, 0);
}

fn clearing_changes_the_session(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("say: before");
    let before = agent.result();
    agent.user_as(FIRST, "/clear");
    let lines = agent.turn();
    position(&lines, "reset", |line| line["type"] == "conversation_reset");
    let cleared = &lines[lines.len() - 1];
    assert_eq!(cleared["local_command"], "clear");
    assert_ne!(cleared["session_id"], before["session_id"]);
    agent.wait_for("completed", |line| is_lifecycle(line, FIRST, "completed"));
    agent.user("say: after");
    assert_eq!(agent.result()["session_id"], cleared["session_id"]);
}

fn the_host_can_change_the_mode_and_the_model(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    let mode = |mode: &str| json!({ "subtype": "set_permission_mode", "mode": mode });
    assert_eq!(
        agent.control(mode("nonsense"))["error_code"],
        "invalid_mode"
    );
    assert_eq!(
        agent.control(mode("bypassPermissions"))["error_code"],
        "bypass_not_launched"
    );
    assert_eq!(agent.control(mode("plan"))["response"]["mode"], "plan");
    let model = agent.control(json!({ "subtype": "set_model", "model": "some-model" }));
    assert_eq!(model["response"]["model"], "some-model");
    agent.user("plan: build it");
    let init = agent.wait_for("init", |line| line["subtype"] == "init");
    assert_eq!(
        (&init["permissionMode"], &init["model"]),
        (&json!("plan"), &json!("some-model"))
    );
    let ask = agent.ask();
    assert_eq!(ask.tool, "ExitPlanMode");
    let mut answer = allowed(&ask.input);
    answer["updatedPermissions"] =
        json!([{ "type": "setMode", "mode": "default", "destination": "session" }]);
    agent.answer(&ask, answer);
    agent.wait_for("the mode", |line| line["permissionMode"] == "default");
    assert!(text_of(&agent.result()).contains("approved exiting plan mode"));
}

fn an_unknown_request_is_refused_by_code(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.send(json!({ "type": "keep_alive" }));
    let response = agent.control(json!({ "subtype": "no_such_request" }));
    assert_eq!(
        (&response["subtype"], &response["error_code"]),
        (&json!("error"), &json!("unsupported_request"))
    );
    let response = agent.control(json!({ "subtype": "end_session", "reason": "done" }));
    assert_eq!(response["subtype"], "success");
    assert_eq!(agent.wait_exit().0, 0);
}

fn the_end_of_input_refuses_what_is_open(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("run: mkfifo one");
    agent.ask();
    let (code, lines) = agent.finish();
    assert_eq!(code, 0);
    let result = position(&lines, "result", |line| line["type"] == "result");
    assert!(text_of(&lines[result]).contains("stream closed before response received"));
    assert!(!place.file("one").exists());
}

fn a_line_that_is_no_json_is_fatal(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.send_line("this is not json");
    agent.wait_for_stderr("Error parsing streaming input line");
    assert_eq!(agent.wait_exit().0, 1);
}

fn a_message_sent_twice_runs_once(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user_as(FIRST, "say: once");
    agent.wait_for("completed", |line| is_lifecycle(line, FIRST, "completed"));
    agent.user_as(FIRST, "say: once");
    let echo = agent.wait_for("echo", |line| line["uuid"] == FIRST);
    assert_eq!(echo["isReplay"], true);
    let (code, lines) = agent.finish();
    assert_eq!(code, 0);
    assert!(
        !lines.iter().any(|line| line["type"] == "result"),
        "{lines:#?}"
    );
}

fn long_text_is_one_line(start: Start) {
    let place = Place::new();
    let mut agent = start(&place, &[]);
    agent.user("big: 1000000");
    let lines = agent.turn();
    let block = position(&lines, "block", |line| line["type"] == "assistant");
    let text = lines[block]["message"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default();
    assert_eq!(text.len(), 1_000_000);
}

/// What only the real agent can show: that it calls nothing but the stand-in, and with the key it was given.
#[test]
fn the_real_agent_calls_only_the_model() {
    let place = Place::new();
    let mut agent = place.claude(&[]);
    agent.user("say: hello");
    agent.result();
    assert_eq!(agent.finish().0, 0);
    let called = place
        .api
        .wait_for("a message", |request| request.path == "/v1/messages");
    assert_eq!(called.method, http::Method::POST);
    let key = called
        .headers
        .get("x-api-key")
        .and_then(|key| key.to_str().ok());
    assert_eq!(key, Some("stub-key-of-no-account"));
    assert_eq!(
        (called.query.as_str(), &called.body["stream"]),
        ("beta=true", &json!(true))
    );
    for request in place.api.requests() {
        assert!(
            request.path.starts_with("/v1/messages"),
            "{} {}",
            request.method,
            request.path
        );
    }
}

/// The real agent's background command ends in a turn of its own, as the demo's `background:` does.
#[test]
fn a_background_command_of_the_real_agent_starts_a_turn() {
    let place = Place::new();
    let mut agent = place.claude(&[]);
    agent.user("background: read line < held; echo over");
    std::process::Command::new("mkfifo")
        .arg(place.file("held"))
        .status()
        .expect("a pipe");
    let ask = agent.ask();
    agent.answer(&ask, allowed(&ask.input));
    let listed = agent.wait_for("the task", |line| {
        line["subtype"] == "background_tasks_changed" && line["tasks"] != json!([])
    });
    assert_eq!(listed["tasks"][0]["task_type"], "local_bash");
    assert!(agent.result()["origin"].is_null());
    std::fs::write(place.file("held"), "go\n").expect("read by the command");
    agent.wait_for("its end", |line| line["subtype"] == "task_notification");
    agent.wait_for("no tasks", |line| {
        line["subtype"] == "background_tasks_changed" && line["tasks"] == json!([])
    });
    assert_eq!(agent.result()["origin"]["kind"], "task-notification");
}
