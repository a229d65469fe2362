//! Tools: what is asked about them, and what they do.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent::{Agent, Event, Flow, OpenAsk, Stop, Task};
use super::file;
use super::permission::{self, Ruling, Verdict};
use super::protocol::mode_changed;
use super::script::Call;
use super::shell::{Outcome, Running};
use super::turn::Turn;

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// How many background tasks may run at once.
const TASKS_MAX: usize = 16;

/// A call that has no result yet.
#[derive(Clone, Debug)]
pub struct OpenCall {
    id: String,
    tool: &'static str,
    input: Value,
    /// The ask about it, once there was one.
    ask: Option<String>,
}

impl OpenCall {
    fn denial(&self) -> Value {
        json!({ "tool_name": self.tool, "tool_use_id": self.id, "tool_input": self.input })
    }
}

/// What a tool reports.
struct Report {
    text: String,
    /// Shown instead of the text, for who can see.
    picture: Option<Value>,
    is_error: bool,
    structured: Value,
}

impl Report {
    fn of(text: impl Into<String>, structured: Value) -> Report {
        Report {
            text: text.into(),
            picture: None,
            is_error: false,
            structured,
        }
    }

    fn error(text: impl Into<String>) -> Report {
        let text = text.into();
        Report {
            structured: json!(format!("Error: {text}")),
            picture: None,
            is_error: true,
            text,
        }
    }
}

impl Agent {
    /// Calls tools, all at once: those that must be asked about are asked about together and run in the
    /// order of their answers.
    pub(super) fn call_tools(&mut self, turn: &mut Turn, calls: Vec<Call>) -> Flow {
        let mut open = Vec::new();
        for call in calls {
            let (tool, input) = self.describe(call);
            let id = self.conversation.next_id("toolu");
            self.say_call(turn, &id, tool, &input)?;
            let ask = None;
            open.push(OpenCall {
                id,
                tool,
                input,
                ask,
            });
        }
        self.close_message(turn, "tool_use")?;
        turn.calls.clone_from(&open);
        for (at, call) in open.iter().enumerate() {
            match self.permissions.ruling(call.tool, &call.input) {
                Ruling::Allowed => {
                    let report = self.run_tool(call.tool, &call.input, false)?;
                    self.report(turn, &call.id, report, Some(("accept", "config")))?;
                }
                Ruling::Refused(reason) => {
                    turn.denials.push(call.denial());
                    self.report(
                        turn,
                        &call.id,
                        Report::error(reason),
                        Some(("reject", "config")),
                    )?;
                }
                Ruling::Ask => {
                    let ask = self.ask(call)?;
                    // Calls before this one may have their results, and be gone.
                    if let Some(known) = turn.calls.iter_mut().find(|known| known.id == open[at].id)
                    {
                        known.ask = Some(ask);
                    }
                }
            }
        }
        while !turn.calls.is_empty() {
            self.wait_until(None, |agent| !agent.answers.is_empty())?;
            if let Some((ask, verdict)) = self.answers.pop_front() {
                self.settle(turn, &ask, verdict)?;
            }
        }
        self.take_in(turn)
    }

    fn describe(&self, call: Call) -> (&'static str, Value) {
        match call {
            Call::Run(command) => (
                "Bash",
                json!({ "command": command, "description": "Run a command" }),
            ),
            Call::Write { file, text } => file::call(&self.cwd, &file, &text),
            Call::Ask(input) => ("AskUserQuestion", input),
            Call::Plan(plan) => ("ExitPlanMode", json!({ "plan": plan })),
            Call::Todo(input) => ("TodoWrite", input),
            Call::Show(file) => ("Read", json!({ "file_path": self.cwd.join(file) })),
        }
    }

    fn ask(&mut self, call: &OpenCall) -> Flow<String> {
        let request_id = self.conversation.next_uuid();
        if self.closed {
            // Nobody can answer any more.
            let verdict = Verdict::failed(permission::STREAM_CLOSED);
            self.answers.push_back((request_id.clone(), verdict));
            return Ok(request_id);
        }
        let mut request = json!({
            "subtype": "can_use_tool",
            "tool_name": call.tool,
            "display_name": call.tool,
            "input": call.input,
            "permission_suggestions": permission::suggestions(call.tool, &call.input),
            "tool_use_id": call.id,
        });
        match call.tool {
            "Bash" => request["description"] = call.input["description"].clone(),
            "Write" | "Edit" => request["description"] = call.input["file_path"].clone(),
            _ => request["requires_user_interaction"] = json!(true),
        }
        let line =
            json!({ "type": "control_request", "request_id": request_id, "request": request });
        self.asks.push(OpenAsk {
            request_id: request_id.clone(),
            line: line.clone(),
        });
        self.send(line)?;
        Ok(request_id)
    }

    fn settle(&mut self, turn: &mut Turn, ask: &str, verdict: Verdict) -> Flow {
        let mut calls = turn.calls.iter();
        let Some(call) = calls.find(|call| call.ask.as_deref() == Some(ask)).cloned() else {
            return Ok(());
        };
        match verdict {
            Verdict::Allow { input, updates } => {
                if self.permissions.update(&updates) {
                    let mode = self.permissions.mode().to_owned();
                    self.say(mode_changed(&mode))?;
                }
                let report =
                    self.run_tool(call.tool, input.as_ref().unwrap_or(&call.input), true)?;
                self.report(turn, &call.id, report, Some(("accept", "user_temporary")))
            }
            Verdict::Deny {
                interrupt: true, ..
            } => {
                self.withdraw_asks()?;
                Err(Stop::Interrupted)
            }
            Verdict::Deny { message, .. } => {
                turn.denials.push(call.denial());
                self.report(
                    turn,
                    &call.id,
                    Report::error(message),
                    Some(("reject", "user_reject")),
                )
            }
            Verdict::Failed(reason) => {
                turn.denials.push(call.denial());
                self.report(
                    turn,
                    &call.id,
                    Report::error(reason),
                    Some(("reject", "config")),
                )
            }
        }
    }

    fn run_tool(&mut self, tool: &str, input: &Value, asked: bool) -> Flow<Report> {
        match tool {
            "Bash" => self.run_command(input["command"].as_str().unwrap_or_default()),
            "Write" | "Edit" => Ok(match file::apply(&self.cwd, tool, input) {
                Ok(text) => Report::of(text, json!({ "filePath": input["file_path"] })),
                Err(problem) => Report::error(problem),
            }),
            "AskUserQuestion" => Ok(answers(input)),
            "TodoWrite" => Ok(Report::of(
                "Todos have been modified successfully.",
                json!({ "newTodos": input["todos"] }),
            )),
            "Read" => Ok(match file::picture(&self.cwd, input) {
                Ok(picture) => Report {
                    picture: Some(picture),
                    ..Report::of("a picture", json!({ "type": "image" }))
                },
                Err(problem) => Report::error(problem),
            }),
            _ => {
                debug_assert!(asked, "a plan is always asked about");
                if self.permissions.mode() == "plan" && self.permissions.set_mode("default").is_ok()
                {
                    self.say(mode_changed("default"))?;
                }
                let text = "User has approved exiting plan mode. You can now proceed.";
                Ok(Report::of(text, json!({ "plan": input["plan"] })))
            }
        }
    }

    fn run_command(&mut self, command: &str) -> Flow<Report> {
        self.serial += 1;
        self.ended = None;
        let events: SyncSender<Event> = self.events.clone();
        // Dropped on every early way out of here, which kills the command.
        let running = match Running::start(command, &self.cwd, self.serial, events) {
            Ok(running) => running,
            Err(problem) => return Ok(Report::error(format!("cannot start sh: {problem}"))),
        };
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        let in_time = self.wait_until(Some(deadline), |agent| agent.ended.is_some())?;
        if !in_time {
            running.kill();
            self.wait_until(None, |agent| agent.ended.is_some())?;
        }
        running.ended();
        let Some(outcome) = self.ended.take() else {
            return Ok(Report::error("the command's end was not seen"));
        };
        Ok(command_report(&outcome, in_time))
    }

    /// Sends the result of a call; the call is done with it.
    fn report(
        &mut self,
        turn: &mut Turn,
        id: &str,
        report: Report,
        decision: Option<(&str, &str)>,
    ) -> Flow {
        let mut line = json!({
            "type": "user",
            "message": { "role": "user", "content": [{
                "tool_use_id": id,
                "type": "tool_result",
                "content": report.picture.map_or_else(|| json!(report.text), |picture| json!([picture])),
                "is_error": report.is_error,
            }] },
            "parent_tool_use_id": null,
            "timestamp": self.timestamp(),
            "tool_use_result": report.structured,
        });
        if let Some((decision, source)) = decision {
            line["tool_result_meta"] = json!([{
                "id": id,
                "permission_decision": { "decision": decision, "source": source },
            }]);
        }
        self.say(line)?;
        turn.calls.retain(|call| call.id != id);
        turn.tool_texts.push(report.text);
        Ok(())
    }

    /// Sends the results of calls that an interrupt cut off.
    pub(super) fn reject_calls(&mut self, turn: &mut Turn) -> Flow {
        for call in std::mem::take(&mut turn.calls) {
            if call.ask.is_some() {
                turn.denials.push(call.denial());
            }
            let report = Report {
                text: permission::REJECTED.to_owned(),
                picture: None,
                is_error: true,
                structured: json!("User rejected tool use"),
            };
            self.report(turn, &call.id, report, None)?;
        }
        Ok(())
    }

    /// Starts a task that ends by itself. Nothing is asked: it does nothing but wait.
    pub(super) fn start_task(&mut self, turn: &mut Turn, delay: Duration, text: String) -> Flow {
        let tool_use_id = self.conversation.next_id("toolu");
        let input = json!({
            "command": format!("wait {} ms", delay.as_millis()),
            "description": text,
            "run_in_background": true,
        });
        self.say_call(turn, &tool_use_id, "Bash", &input)?;
        self.close_message(turn, "tool_use")?;
        let report = if self.tasks.len() < TASKS_MAX {
            let id = self.conversation.next_id("task");
            let (events, due) = (self.events.clone(), id.clone());
            std::thread::spawn(move || {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the demo agent is a program of threads; this one waits for its task"
                )]
                std::thread::sleep(delay);
                // An agent that is gone misses nothing.
                let _ = events.send(Event::Due { task: due });
            });
            let task = Task {
                id,
                tool_use_id: tool_use_id.clone(),
                text,
            };
            let started = json!({
                "type": "system",
                "subtype": "task_started",
                "task_id": task.id,
                "tool_use_id": task.tool_use_id,
                "description": task.text,
                "is_backgrounded": true,
                "task_type": "local_bash",
            });
            let told = format!("Command running in background with ID: {}", task.id);
            let structured = json!({ "backgroundTaskId": task.id });
            self.tasks.push(task);
            self.say_tasks()?;
            self.say(started)?;
            Report::of(told, structured)
        } else {
            Report::error("too many background tasks are running")
        };
        self.report(turn, &tool_use_id, report, None)?;
        self.take_in(turn)
    }
}

fn command_report(outcome: &Outcome, in_time: bool) -> Report {
    let mut parts = Vec::new();
    if !in_time {
        parts.push(format!(
            "Command timed out after {}s",
            COMMAND_TIMEOUT.as_secs()
        ));
    } else if outcome.code != 0 {
        parts.push(format!("Exit code {}", outcome.code));
    }
    let streams = [&outcome.stdout, &outcome.stderr];
    parts.extend(streams.into_iter().filter(|text| !text.is_empty()).cloned());
    if parts.is_empty() {
        parts.push("(Bash completed with no output)".to_owned());
    }
    let text = parts.join("\n");
    if outcome.code != 0 || !in_time {
        return Report::error(text);
    }
    let structured = json!({
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "interrupted": false,
        "isImage": false,
        "noOutputExpected": false,
    });
    Report::of(text, structured)
}

/// What a person answered, as the tool tells it.
fn answers(input: &Value) -> Report {
    let told: Vec<String> = match &input["answers"] {
        Value::Object(answers) => answers
            .iter()
            .filter_map(|(question, answer)| {
                let answer = match answer {
                    Value::String(answer) => answer.clone(),
                    Value::Array(several) => several
                        .iter()
                        .filter_map(Value::as_str)
                        .collect::<Vec<_>>()
                        .join(", "),
                    _ => return None,
                };
                Some(format!("\"{question}\"=\"{answer}\""))
            })
            .collect(),
        _ => Vec::new(),
    };
    if told.is_empty() {
        return Report::of("The user did not answer the questions.", json!(input));
    }
    Report::of(
        format!(
            "Your questions have been answered: {}. You can now continue with these answers in mind.",
            told.join(", ")
        ),
        json!(input),
    )
}
