//! A daemon of the older relay, as its documents tell: it holds a WebSocket, starts an agent for each session,
//! hands on what the agent writes, and knows neither numbers nor acknowledgements. The agent is the real demo
//! agent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use baton::base::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::baton::Baton;
use super::http::Ws;

/// What may wait for an agent or for the server; more is lost, as with the older daemons.
const QUEUE: usize = 16 * 1024;

/// How its agents ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As they are: control requests.
    Control,
    /// As the first version of the relay had it.
    Legacy,
}

/// Lines for an agent; the end closes its input.
type Stdin = mpsc::Sender<Option<Value>>;

struct Shared {
    program: PathBuf,
    home: PathBuf,
    style: Style,
    agents: Mutex<HashMap<String, Stdin>>,
    /// What the server said.
    heard: Mutex<Vec<Value>>,
    /// Takes what is for the server, while there is a connection.
    out: Mutex<Option<mpsc::Sender<Value>>>,
}

/// The daemon.
pub struct OldDaemon {
    address: SocketAddr,
    credential: Secret,
    shared: Arc<Shared>,
    connection: Option<AbortOnDropHandle<Option<u16>>>,
}

impl OldDaemon {
    /// One that is not connected yet.
    pub fn new(baton: &Baton, credential: Secret, style: Style) -> Self {
        let program = baton.command(&[]).get_program().into();
        OldDaemon {
            address: baton.url().trim_start_matches("http://").parse().unwrap(),
            credential,
            shared: Arc::new(Shared {
                program,
                home: baton.dir().join("old-daemon"),
                style,
                agents: Mutex::default(),
                heard: Mutex::default(),
                out: Mutex::default(),
            }),
            connection: None,
        }
    }

    /// How it introduces itself.
    pub fn hello() -> Value {
        json!({
            "type": "daemon_connected",
            "client_id": "old-laptop",
            "capabilities": {
                "can_spawn_sessions": true,
                "spawnable_harnesses": [
                    { "id": "claude-code", "name": "Claude Code", "available": true,
                      "supports_permission_relay": true, "supports_streaming": true,
                      "default_model": "opus" },
                    { "id": "other", "name": "Other", "available": false,
                      "supports_permission_relay": false, "supports_streaming": false },
                ],
            },
        })
    }

    /// Connects and introduces itself; `more` is added to that.
    pub async fn connect(&mut self, more: Value) {
        let mut ws = Ws::with(self.address, "/api/daemon/ws", &self.credential)
            .await
            .expect("a socket");
        let mut hello = OldDaemon::hello();
        for (key, value) in more.as_object().into_iter().flatten() {
            hello[key] = value.clone();
        }
        ws.send(hello).await;
        let (out, mut outgoing) = mpsc::channel(QUEUE);
        *self.shared.out.lock() = Some(out);
        let shared = self.shared.clone();
        let job = tokio::spawn(async move {
            loop {
                tokio::select! {
                    message = ws.next_whenever() => match message {
                        Some(message) => shared.clone().obey(message),
                        None => return ws.closed,
                    },
                    Some(value) = outgoing.recv() => ws.send(value).await,
                }
            }
        });
        self.connection = Some(AbortOnDropHandle::new(job));
    }

    /// Its credential.
    pub fn credential(&self) -> &Secret {
        &self.credential
    }

    /// Loses the connection without a word. The agents go on; what they write is lost.
    pub fn cut(&mut self) {
        *self.shared.out.lock() = None;
        self.connection = None;
    }

    /// Waits until the server closes the connection; with which code.
    pub async fn is_closed(&mut self) -> Option<u16> {
        self.connection.take().expect("a connection").await.unwrap()
    }

    /// Says something by itself.
    pub fn say(&self, value: Value) {
        self.shared.say(value);
    }

    /// What the server said, of a type.
    pub fn heard(&self, kind: &str) -> Vec<Value> {
        let heard = self.shared.heard.lock();
        heard
            .iter()
            .filter(|message| message["type"] == kind)
            .cloned()
            .collect()
    }
}

impl Shared {
    fn say(&self, value: Value) {
        if let Some(out) = &*self.out.lock() {
            let _ = out.try_send(value);
        }
    }

    fn tell(&self, session: &str, line: Value) {
        if let Some(agent) = self.agents.lock().get(session) {
            let _ = agent.try_send(Some(line));
        }
    }

    fn obey(self: Arc<Self>, message: Value) {
        let session = message["session_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.heard.lock().push(message.clone());
        match message["type"].as_str().unwrap_or_default() {
            "start_session" => {
                let (stdin, lines) = mpsc::channel(QUEUE);
                self.agents.lock().insert(session.clone(), stdin);
                tokio::spawn(self.clone().agent(message.clone(), lines));
                self.input(&session, &message["prompt"]);
            }
            "send_input" => self.input(&session, &message["content"]),
            "interrupt_session" => self.tell(
                &session,
                json!({ "type": "control_request", "request_id": "old-int", "request": { "subtype": "interrupt" } }),
            ),
            "end_session" => {
                if let Some(agent) = self.agents.lock().get(&session) {
                    let _ = agent.try_send(None);
                }
            }
            "control_response" => self.tell(
                &session,
                json!({ "type": "control_response", "response": message["response"] }),
            ),
            "permission_response" => {
                let request = message["request_id"].as_str().unwrap();
                let (key, input) = request.split_once(' ').unwrap();
                let input: Value = serde_json::from_str(input).unwrap();
                let response = match message["allow"].as_bool().unwrap() {
                    true => json!({ "behavior": "allow", "updatedInput": input }),
                    false => json!({ "behavior": "deny", "message": "no" }),
                };
                self.respond(&session, key, response);
            }
            "question_response" => {
                let call = message["tool_use_id"].as_str().unwrap();
                let (key, input) = call.split_once(' ').unwrap();
                let mut input: Value = serde_json::from_str(input).unwrap();
                let question = input["questions"][0]["question"].as_str().unwrap().to_owned();
                input["answers"] = json!({ question: message["answer"] });
                self.respond(&session, key, json!({ "behavior": "allow", "updatedInput": input }));
            }
            _ => {}
        }
    }

    fn respond(&self, session: &str, key: &str, response: Value) {
        self.tell(
            session,
            json!({ "type": "control_response", "response": {
                "subtype": "success", "request_id": key, "response": response,
            } }),
        );
    }

    fn input(&self, session: &str, text: &Value) {
        let line = json!({ "type": "user", "message": { "role": "user", "content": text } });
        self.tell(session, line.clone());
        self.say(json!({ "type": "session_output", "session_id": session, "messages": [line] }));
    }

    async fn agent(self: Arc<Self>, start: Value, mut lines: mpsc::Receiver<Option<Value>>) {
        let session = start["session_id"].as_str().unwrap().to_owned();
        let mut command = Command::new(&self.program);
        command
            .args(["demo-agent", "--permission-mode=default"])
            .current_dir(start["cwd"].as_str().unwrap())
            .env("BATON_DEMO_HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if let Some(id) = start["resume_session_id"].as_str() {
            command.arg(format!("--resume={id}"));
        }
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            tokio::select! {
                line = stdout.next_line() => match line.unwrap() {
                    Some(line) => self.say(self.told(&session, serde_json::from_str(&line).unwrap())),
                    None => break,
                },
                line = lines.recv(), if stdin.is_some() => match line {
                    Some(Some(line)) => {
                        let text = format!("{line}\n");
                        // An agent that has ended takes nothing.
                        let _ = stdin.as_mut().unwrap().write_all(text.as_bytes()).await;
                    }
                    Some(None) | None => stdin = None,
                },
            }
        }
        let code = child.wait().await.unwrap().code();
        self.agents.lock().remove(&session);
        self.say(json!({
            "type": "session_ended", "session_id": session, "exit_code": code,
            "reason": if code == Some(0) { "completed" } else { "error" },
        }));
    }

    /// A line of an agent as a message.
    fn told(&self, session: &str, line: Value) -> Value {
        if line["type"] != "control_request" {
            return json!({ "type": "session_output", "session_id": session, "messages": [line] });
        }
        let request = &line["request"];
        let key = line["request_id"].as_str().unwrap();
        match self.style {
            Style::Control => json!({
                "type": "control_request", "session_id": session, "request_id": key, "request": request,
            }),
            // What is needed to answer the agent travels in the id.
            Style::Legacy if request["tool_name"] == "AskUserQuestion" => {
                let question = &request["input"]["questions"][0];
                let labels: Vec<&Value> = question["options"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|option| &option["label"])
                    .collect();
                json!({
                    "type": "question_prompt", "session_id": session,
                    "tool_use_id": format!("{key} {}", request["input"]),
                    "question": question["question"], "options": labels,
                })
            }
            Style::Legacy => json!({
                "type": "permission_prompt", "session_id": session,
                "request_id": format!("{key} {}", request["input"]),
                "tool": request["tool_name"], "description": "it wants to", "details": request["input"],
            }),
        }
    }
}
