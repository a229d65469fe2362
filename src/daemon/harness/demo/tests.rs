//! The demo agent over pipes: what a host may rely on.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DemoOptions, run_with_stderr};

/// Only a failure ever waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host of one agent.
struct Host {
    stdin: Option<PipeWriter>,
    lines: Receiver<Value>,
    agent: Option<JoinHandle<i32>>,
    stderr: Option<JoinHandle<String>>,
    said: Vec<Value>,
}

struct Ask {
    id: String,
    request: Value,
}

impl Host {
    fn start(options: DemoOptions) -> Host {
        let (agent_in, stdin) = std::io::pipe().expect("a pipe");
        let (stdout, agent_out) = std::io::pipe().expect("a pipe");
        let (mut stderr, agent_err) = std::io::pipe().expect("a pipe");
        let agent = std::thread::spawn(move || {
            run_with_stderr(options, BufReader::new(agent_in), agent_out, agent_err)
        });
        let (sender, lines) = sync_channel(4_096);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = serde_json::from_str(&line.expect("text")).expect("JSON");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("text");
            text
        });
        Host {
            stdin: Some(stdin),
            lines,
            agent: Some(agent),
            stderr: Some(stderr),
            said: Vec::new(),
        }
    }

    fn send_text(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("open");
        stdin
            .write_all(format!("{text}\n").as_bytes())
            .expect("read by the agent");
    }

    fn send(&mut self, line: Value) {
        self.send_text(&line.to_string());
    }

    fn user(&mut self, uuid: &str, text: &str) {
        self.send(json!({
            "type": "user",
            "message": { "role": "user", "content": text },
            "uuid": uuid,
        }));
    }

    /// The next line that `wanted` accepts.
    fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(problem) => panic!("{problem} behind {:#?}", self.said),
            };
            self.said.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    fn result(&mut self) -> Value {
        self.wait(|line| line["type"] == "result")
    }

    /// Sends a message and gives its result.
    fn turn(&mut self, text: &str) -> Value {
        self.send(json!({ "type": "user", "message": { "role": "user", "content": text } }));
        self.result()
    }

    fn ask(&mut self) -> Ask {
        let line = self.wait(|line| line["type"] == "control_request");
        Ask {
            id: line["request_id"].as_str().expect("an id").to_owned(),
            request: line["request"].clone(),
        }
    }

    fn answer(&mut self, ask: &Ask, body: Value) {
        self.send(json!({
            "type": "control_response",
            "response": { "subtype": "success", "request_id": ask.id, "response": body },
        }));
    }

    fn allow(&mut self, ask: &Ask) {
        self.answer(
            ask,
            json!({ "behavior": "allow", "updatedInput": ask.request["input"] }),
        );
    }

    /// Sends a request and gives the response.
    fn control(&mut self, request: Value) -> Value {
        self.send(json!({ "type": "control_request", "request_id": "r", "request": request }));
        let line = self.wait(|line| {
            line["type"] == "control_response" && line["response"]["request_id"] == "r"
        });
        line["response"].clone()
    }

    fn lifecycle(&mut self, uuid: &str, state: &str) {
        self.wait(|line| line["command_uuid"] == uuid && line["state"] == state);
    }

    /// Waits for the end; gives the exit code and what was written to stderr.
    fn wait_end(&mut self) -> (i32, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        let code = self.agent.take().expect("once").join().expect("no panic");
        let stderr = self.stderr.take().expect("once").join().expect("no panic");
        (code, stderr)
    }

    fn end(mut self) -> (i32, String, Vec<Value>) {
        self.stdin = None;
        let (code, stderr) = self.wait_end();
        (code, stderr, self.said)
    }
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("work")).expect("a folder");
        Place { folder }
    }

    fn options(&self) -> DemoOptions {
        DemoOptions::new(
            self.folder.path().join("work"),
            self.folder.path().join("home"),
        )
    }

    fn start(&self) -> Host {
        Host::start(self.options())
    }

    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("work").join(file)).ok()
    }
}

fn kinds(lines: &[Value]) -> Vec<String> {
    let kind = |line: &Value| {
        let kind = line["type"].as_str().unwrap_or_default();
        match kind {
            "stream_event" => line["event"]["type"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            "system" => format!("{kind}/{}", line["subtype"].as_str().unwrap_or_default()),
            "command_lifecycle" => line["state"].as_str().unwrap_or_default().to_owned(),
            _ => kind.to_owned(),
        }
    };
    lines.iter().map(kind).collect()
}

#[test]
fn a_turn_has_the_lines_of_a_real_one_in_their_order() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u-1", "think: hm\nsay: hello");
    host.lifecycle("u-1", "completed");
    assert_eq!(
        kinds(&host.said),
        [
            "queued",
            "started",
            "system/init",
            "system/status",
            "user",
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "assistant",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "assistant",
            "content_block_stop",
            "message_delta",
            "message_stop",
            "result",
            "completed",
        ]
    );
    let result = &host.said[17];
    assert_eq!(result["subtype"], "success");
    assert_eq!(result["is_error"], false);
    assert_eq!(result["result"], "hello");
    assert_eq!(result["terminal_reason"], "completed");
    assert_eq!(result["user_message_uuids"], json!(["u-1"]));
    assert_eq!(result["num_turns"], 1);
    assert_eq!(
        host.said[9]["message"]["id"],
        host.said[13]["message"]["id"]
    );
    assert_eq!(host.said[4]["uuid"], "u-1");
    assert_eq!(host.said[4]["isReplay"], true);
    let (code, stderr, _) = host.end();
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn the_same_conversation_makes_the_same_ids_and_costs() {
    let play = || {
        let place = Place::new();
        let mut options = place.options();
        options.session_id = Some("abcdef01-2345-4678-89ab-cdef01234567".to_owned());
        let mut host = Host::start(options);
        host.turn("cost: 0.25\nsay: a");
        let second = host.turn("say: b");
        let ids: Vec<Value> = host.said.iter().map(|line| line["uuid"].clone()).collect();
        (ids, second["total_cost_usd"].clone())
    };
    let (ids, cost) = play();
    assert_eq!(play(), (ids, cost.clone()));
    assert!(cost.as_f64().expect("a number") > 0.25, "{cost}");
}

#[test]
fn an_allowed_command_runs_with_the_input_the_answer_changed() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "run: touch asked");
    let ask = host.ask();
    assert_eq!(ask.request["subtype"], "can_use_tool");
    assert_eq!(ask.request["tool_name"], "Bash");
    assert_eq!(ask.request["input"]["command"], "touch asked");
    assert_eq!(
        ask.request["permission_suggestions"][0]["rules"][0]["ruleContent"],
        "touch:*"
    );
    host.answer(
        &ask,
        json!({ "behavior": "allow", "updatedInput": { "command": "touch changed; echo done" } }),
    );
    let result = host.result();
    assert_eq!(result["result"], "tool said: done");
    assert_eq!(result["num_turns"], 2);
    assert!(place.read("changed").is_some() && place.read("asked").is_none());
    // A second answer, and one to nothing, are passed over.
    host.allow(&ask);
    assert_eq!(host.turn("say: on")["result"], "on");
}

#[test]
fn a_refused_tool_does_not_end_the_turn() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "run: touch a\nsay: went on");
    let ask = host.ask();
    host.answer(&ask, json!({ "behavior": "deny", "message": "not today" }));
    let result = host.result();
    assert_eq!(result["result"], "went on");
    assert_eq!(
        result["permission_denials"][0]["tool_use_id"],
        ask.request["tool_use_id"]
    );
    assert!(
        host.said
            .iter()
            .any(|line| line["message"]["content"][0]["content"] == "not today")
    );

    host.user("u2", "run: touch a");
    let ask = host.ask();
    host.answer(&ask, json!({ "behaviour": "yes" }));
    let told = host.result()["result"].as_str().expect("text").to_owned();
    assert!(told.contains("invalid permission result"), "{told}");

    host.user("u3", "run: touch a");
    let ask = host.ask();
    host.send(json!({
        "type": "control_response",
        "response": { "subtype": "error", "request_id": ask.id, "error": "nobody is there" },
    }));
    let told = host.result()["result"].as_str().expect("text").to_owned();
    assert!(
        told.contains("Tool permission request failed: Error: nobody is there"),
        "{told}"
    );
    assert!(place.read("a").is_none());
}

#[test]
fn a_denial_with_interrupt_ends_the_turn_and_not_the_agent() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "run: touch a\nsay: never");
    let ask = host.ask();
    host.answer(
        &ask,
        json!({ "behavior": "deny", "message": "stop", "interrupt": true }),
    );
    let result = host.result();
    assert_eq!(result["subtype"], "error_during_execution");
    assert_eq!(result["terminal_reason"], "aborted_tools");
    host.lifecycle("u", "cancelled");
    assert_eq!(host.turn("say: alive")["result"], "alive");
}

#[test]
fn rules_and_modes_of_an_answer_hold_for_what_comes_next() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "run: touch a");
    let ask = host.ask();
    host.answer(
        &ask,
        json!({ "behavior": "allow", "updatedPermissions": ask.request["permission_suggestions"] }),
    );
    host.result();
    assert_eq!(
        host.turn("run: touch b")["result"],
        "tool said: (Bash completed with no output)"
    );
    assert!(place.read("b").is_some());

    host.user("u2", "write: c.txt one");
    let ask = host.ask();
    assert_eq!(ask.request["tool_name"], "Write");
    host.answer(
        &ask,
        json!({ "behavior": "allow", "updatedPermissions": ask.request["permission_suggestions"] }),
    );
    host.wait(|line| line["permissionMode"] == "acceptEdits");
    host.result();
    host.turn("write: c.txt two");
    assert_eq!(place.read("c.txt").as_deref(), Some("two"));
    assert!(
        host.said
            .iter()
            .any(|line| line["message"]["content"][0]["name"] == "Edit")
    );
}

#[test]
fn questions_are_answered_in_the_updated_input() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "ask: Which colour?|red|blue ;; Which sizes?*|S|L");
    let ask = host.ask();
    assert_eq!(ask.request["tool_name"], "AskUserQuestion");
    assert_eq!(ask.request["requires_user_interaction"], true);
    assert_eq!(ask.request["input"]["questions"][1]["multiSelect"], true);
    let mut input = ask.request["input"].clone();
    input["answers"] = json!({ "Which colour?": "my own: green", "Which sizes?": "S, L" });
    host.answer(&ask, json!({ "behavior": "allow", "updatedInput": input }));
    let told = host.result()["result"].as_str().expect("text").to_owned();
    assert!(
        told.contains("\"Which colour?\"=\"my own: green\", \"Which sizes?\"=\"S, L\""),
        "{told}"
    );

    host.user("u2", "ask: Shall I?|yes|no");
    let ask = host.ask();
    host.allow(&ask);
    assert_eq!(
        host.result()["result"],
        "tool said: The user did not answer the questions."
    );
}

#[test]
fn a_plan_is_asked_about_and_leaves_plan_mode() {
    let place = Place::new();
    let mut host = place.start();
    let response = host.control(json!({ "subtype": "set_permission_mode", "mode": "plan" }));
    assert_eq!(response["response"]["mode"], "plan");
    host.user("u", "plan: build it");
    let ask = host.ask();
    assert_eq!(ask.request["tool_name"], "ExitPlanMode");
    assert_eq!(ask.request["input"]["plan"], "build it");
    host.allow(&ask);
    host.wait(|line| line["permissionMode"] == "default" && line["subtype"] == "status");
    host.result();
}

#[test]
fn several_asks_are_open_at_once_and_answered_in_any_order() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "parallel: echo one ;; echo two");
    let (one, two) = (host.ask(), host.ask());
    let response = host.control(json!({ "subtype": "initialize" }));
    let pending = response["pending_permission_requests"]
        .as_array()
        .expect("a list");
    assert_eq!(pending.len(), 2);
    assert_eq!(pending[0]["request_id"], one.id.as_str());
    assert_eq!(pending[1]["request"], two.request);
    assert_eq!(response["response"]["session_state"], "requires_action");
    assert!(response["response"]["models"].is_array() && response["response"]["pid"].is_u64());
    host.allow(&two);
    host.allow(&one);
    assert_eq!(host.result()["result"], "tool said: two | one");
    let response = host.control(json!({ "subtype": "initialize" }));
    assert_eq!(response["pending_permission_requests"], json!([]));
    assert_eq!(response["response"]["session_state"], "idle");
}

#[test]
fn an_interrupt_withdraws_asks_then_answers_then_ends_the_turn() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "run: touch a");
    let ask = host.ask();
    host.user("later", "say: later");
    host.lifecycle("later", "queued");
    let before = host.said.len();
    let response = host.control(json!({ "subtype": "interrupt" }));
    assert_eq!(response["response"]["still_queued"], json!(["later"]));
    let result = host.result();
    assert_eq!(result["terminal_reason"], "aborted_tools");
    assert_eq!(result["permission_denials"][0]["tool_name"], "Bash");
    let said = &host.said[before..];
    assert_eq!(said[0]["type"], "control_cancel_request");
    assert_eq!(said[0]["request_id"], ask.id.as_str());
    assert_eq!(said[1]["type"], "control_response");
    assert_eq!(said[2]["message"]["content"][0]["type"], "tool_result");
    assert_eq!(
        said[3]["message"]["content"][0]["text"],
        "[Request interrupted by user for tool use]"
    );
    // A late answer runs nothing; the queued message has its turn.
    host.allow(&ask);
    assert_eq!(host.result()["result"], "later");
    assert!(place.read("a").is_none());
    // While nothing runs, an interrupt succeeds and nothing follows.
    let response = host.control(json!({ "subtype": "interrupt" }));
    assert_eq!(response["subtype"], "success");
    let (code, _, said) = host.end();
    assert_eq!(code, 0);
    assert_eq!(
        said.iter().filter(|line| line["type"] == "result").count(),
        2
    );
}

#[test]
fn an_interrupt_cuts_a_stream_and_kills_a_command() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "stream: 1000 20");
    host.wait(|line| line["event"]["delta"]["text"] == "chunk 2. ");
    host.control(json!({ "subtype": "interrupt" }));
    let partial = host.wait(|line| line["aborted"] == true);
    let text = partial["message"]["content"][0]["text"]
        .as_str()
        .expect("text")
        .to_owned();
    assert!(text.starts_with("chunk 1. chunk 2. "), "{text}");
    assert_eq!(host.result()["terminal_reason"], "aborted_streaming");

    host.user("u2", "run: echo started > f; sleep 600; echo ended > f");
    let ask = host.ask();
    host.allow(&ask);
    host.wait(|line| line["type"] == "control_response");
    host.control(json!({ "subtype": "interrupt" }));
    assert_eq!(host.result()["terminal_reason"], "aborted_tools");
    assert_eq!(host.turn("say: alive")["result"], "alive");
}

#[test]
fn what_is_sent_while_a_tool_runs_joins_the_turn() {
    let place = Place::new();
    let mut host = place.start();
    host.user("first", "run: echo made");
    let ask = host.ask();
    host.user("second", "say: steered");
    host.user("third", "say: not this");
    host.lifecycle("third", "queued");
    let response =
        host.control(json!({ "subtype": "cancel_async_message", "message_uuid": "third" }));
    assert_eq!(response["response"]["cancelled"], true);
    let response =
        host.control(json!({ "subtype": "cancel_async_message", "message_uuid": "third" }));
    assert_eq!(response["response"]["cancelled"], false);
    host.allow(&ask);
    host.lifecycle("second", "started");
    host.lifecycle("second", "completed");
    let result = host.result();
    assert_eq!(result["user_message_uuids"], json!(["first", "second"]));
    assert_eq!(result["result"], "steered");
    host.lifecycle("first", "completed");
}

#[test]
fn what_is_sent_while_text_streams_has_a_turn_of_its_own() {
    let place = Place::new();
    let mut host = place.start();
    host.user("first", "stream: 20 10");
    host.wait(|line| line["event"]["delta"]["text"] == "chunk 1. ");
    host.user("second", "say: mine");
    assert_eq!(host.result()["user_message_uuids"], json!(["first"]));
    assert_eq!(host.result()["user_message_uuids"], json!(["second"]));
    // The same message again is known, and does nothing.
    host.lifecycle("second", "completed");
    host.user("second", "say: mine");
    host.wait(|line| line["isReplay"] == true);
    let (_, _, said) = host.end();
    assert_eq!(
        said.iter().filter(|line| line["type"] == "result").count(),
        2
    );
}

#[test]
fn a_background_task_starts_a_turn_that_nobody_asked_for() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "background: 50 the task is done");
    let listed = host.wait(|line| line["subtype"] == "background_tasks_changed");
    assert_eq!(listed["tasks"].as_array().map(Vec::len), Some(1));
    assert!(host.result().get("origin").is_none());
    host.wait(|line| line["subtype"] == "task_notification" && line["status"] == "completed");
    let listed = host.wait(|line| line["subtype"] == "background_tasks_changed");
    assert_eq!(listed["tasks"], json!([]));
    let result = host.result();
    assert_eq!(result["origin"]["kind"], "task-notification");
    assert_eq!(result["result"], "the task is done");
    assert_eq!(result["user_message_uuids"], json!([]));
}

#[test]
fn failures_of_the_endpoint_are_successes_that_are_errors() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "error: 529\nsay: never");
    let result = host.result();
    assert_eq!(
        (&result["subtype"], &result["is_error"]),
        (&json!("success"), &json!(true))
    );
    assert_eq!(result["api_error_status"], 529);
    assert_eq!(result["terminal_reason"], "api_error");
    assert_eq!(
        kinds(&host.said)
            .iter()
            .filter(|kind| *kind == "system/api_retry")
            .count(),
        2
    );
    assert!(
        host.said
            .iter()
            .any(|line| line["is_api_error_message"] == true)
    );
    host.lifecycle("u", "cancelled");

    host.user("u2", "limit: 60");
    let limit = host.wait(|line| line["type"] == "rate_limit_event");
    assert_eq!(limit["rate_limit_info"]["status"], "rejected");
    assert!(
        limit["rate_limit_info"]["resetsAt"].is_i64()
            || limit["rate_limit_info"]["resetsAt"].is_u64()
    );
    assert_eq!(host.result()["api_error_status"], 429);
    assert_eq!(host.turn("error: 400")["api_error_status"], 400);
    assert_eq!(
        kinds(&host.said)
            .iter()
            .filter(|kind| *kind == "system/api_retry")
            .count(),
        2
    );
}

#[test]
fn clearing_changes_the_session_id_and_the_totals() {
    let place = Place::new();
    let mut host = place.start();
    let before = host.turn("cost: 1\nsay: a");
    host.user("u", "/clear");
    host.wait(|line| line["type"] == "conversation_reset");
    let cleared = host.result();
    assert_eq!(cleared["local_command"], "clear");
    assert_ne!(cleared["session_id"], before["session_id"]);
    host.lifecycle("u", "completed");
    let after = host.turn("recall:");
    assert_eq!(after["session_id"], cleared["session_id"]);
    assert_eq!(after["result"], "asked before: /clear");
    assert!(after["total_cost_usd"].as_f64().expect("a number") < 1.0);
}

#[test]
fn a_conversation_is_resumed_and_forked_by_its_id() {
    let place = Place::new();
    let mut host = place.start();
    let id = host.turn("say: apricot")["session_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(host.end().0, 0);

    let resume = |fork: bool| {
        let mut options = place.options();
        options.resume = Some(id.clone());
        options.fork_session = fork;
        let mut host = Host::start(options);
        let result = host.turn("recall:");
        assert_eq!(result["result"], "asked before: say: apricot");
        result["session_id"].as_str().expect("an id").to_owned()
    };
    assert_ne!(resume(true), id);
    assert_eq!(resume(false), id);

    let mut options = place.options();
    options.session_id = Some(id);
    let (code, stderr, said) = Host::start(options).end();
    assert_eq!((code, said.len()), (1, 0));
    assert!(stderr.contains("already in use"), "{stderr}");
}

#[test]
fn an_unknown_conversation_is_an_error_and_the_end() {
    let place = Place::new();
    for id in ["00000000-0000-4000-8000-000000000000", "../../etc/passwd"] {
        let mut options = place.options();
        options.resume = Some(id.to_owned());
        let (code, stderr, said) = Host::start(options).end();
        assert_eq!(code, 1);
        assert!(
            stderr.contains("No conversation found with session ID"),
            "{stderr}"
        );
        assert_eq!(said[0]["subtype"], "error_during_execution");
    }
}

#[test]
fn the_end_of_input_lets_the_turn_finish_and_refuses_what_is_open() {
    let place = Place::new();
    let mut host = place.start();
    host.user("u", "run: touch a\nstream: 2 5");
    host.ask();
    let (code, _, said) = host.end();
    assert_eq!(code, 0);
    assert!(said.iter().any(|line| {
        let told = line["message"]["content"][0]["content"].as_str();
        told.is_some_and(|told| told.contains("stream closed before response received"))
    }));
    let result = said
        .iter()
        .find(|line| line["type"] == "result")
        .expect("a result");
    assert_eq!(result["result"], "chunk 1. chunk 2. ");
    assert!(place.read("a").is_none());
}

#[test]
fn what_is_no_json_is_fatal() {
    let place = Place::new();
    let mut host = place.start();
    host.send_text("this is not json");
    let (code, stderr) = host.wait_end();
    assert_eq!(code, 1);
    assert!(
        stderr.contains("(type=unknown, 16 chars): SyntaxError"),
        "{stderr}"
    );
}

#[test]
fn requests_about_the_session_are_answered() {
    let place = Place::new();
    let mut host = place.start();
    host.send(json!({ "type": "keep_alive" }));
    let response = host.control(json!({ "subtype": "no_such_request" }));
    assert_eq!(response["error_code"], "unsupported_request");
    let response = host.control(json!({ "subtype": "set_permission_mode", "mode": "nonsense" }));
    assert_eq!(response["error_code"], "invalid_mode");
    let response =
        host.control(json!({ "subtype": "set_permission_mode", "mode": "bypassPermissions" }));
    assert_eq!(response["error_code"], "bypass_not_launched");
    let response = host.control(json!({ "subtype": "set_model", "model": "other" }));
    assert_eq!(response["response"]["model"], "other");
    host.user("u", "say: a");
    let init = host.wait(|line| line["subtype"] == "init");
    assert_eq!(init["model"], "other");
    let (init_mode, version) = (&init["permissionMode"], &init["claude_code_version"]);
    assert_eq!(init_mode, "default");
    assert!(
        version
            .as_str()
            .is_some_and(|version| version.ends_with("-demo"))
    );
    let response = host.control(json!({ "subtype": "end_session", "reason": "done" }));
    assert_eq!(response["subtype"], "success");
    assert_eq!(host.wait_end().0, 0);
}

#[test]
fn plain_words_are_answered_with_an_explanation_in_pieces() {
    let place = Place::new();
    let mut host = place.start();
    let result = host.turn("hello there");
    assert!(
        result["result"]
            .as_str()
            .expect("text")
            .contains("`run: COMMAND`")
    );
    let pieces = kinds(&host.said)
        .iter()
        .filter(|kind| *kind == "content_block_delta")
        .count();
    assert!(pieces > 3, "{pieces}");
}

#[test]
fn things_go_wrong_on_demand() {
    let place = Place::new();
    let mut host = place.start();
    assert_eq!(
        host.turn("big: 300000")["result"].as_str().map(str::len),
        Some(300_000)
    );
    host.turn("odd:\nstderr: to whom it may concern\nsay: a");
    assert!(host.said.iter().any(|line| line["type"] == "demo_oddity"));
    host.user("u", "say: last words\ncrash: 7\nsay: never");
    let (code, stderr) = host.wait_end();
    assert_eq!(code, 7);
    assert!(stderr.contains("to whom it may concern"));
    let results = host
        .said
        .iter()
        .filter(|line| line["type"] == "result")
        .count();
    assert_eq!(results, 2, "a crash has no result");
}

#[test]
fn commands_report_failures() {
    let place = Place::new();
    let mut options = place.options();
    options.permission_mode = Some("bypassPermissions".to_owned());
    let mut host = Host::start(options);
    let result = host.turn("run: echo out; echo err >&2; exit 3");
    assert_eq!(result["result"], "tool said: Exit code 3\nout\nerr");
    let result = host.turn("write: ../escaped x");
    assert!(
        result["result"]
            .as_str()
            .expect("text")
            .contains("not beneath the working directory")
    );
}
