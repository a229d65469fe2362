//! Requests of the host about the session.

use serde_json::{Value, json};

use super::agent::{Agent, Flow, MODEL, Stop};
use super::protocol::{lifecycle, mode_changed, refusal, success};

/// What the agent can do beyond the first version of the protocol, as Claude Code names it.
pub const CAPABILITIES: [&str; 2] = ["interrupt_receipt_v1", "msg_lifecycle_v1"];

impl Agent {
    /// Answers a request.
    pub(super) fn control(&mut self, id: &Value, request: &Value) -> Flow {
        match request["subtype"].as_str().unwrap_or_default() {
            "initialize" => {
                if let Some(told) = request["appendSystemPrompt"].as_str() {
                    told.clone_into(&mut self.instructions);
                }
                self.initialize(id)
            }
            "interrupt" => self.interrupt(id),
            "set_permission_mode" => self.set_permission_mode(id, &request["mode"]),
            "set_model" => self.set_model(id, &request["model"]),
            "set_max_thinking_tokens" => self.send(success(id, json!({}))),
            "list_models" => self.send(success(id, json!({ "models": models() }))),
            "cancel_async_message" => self.cancel_message(id, &request["message_uuid"]),
            "end_session" => {
                self.send(success(id, json!({})))?;
                Err(Stop::Exit(0))
            }
            unknown => self.send(refusal(
                id,
                "unsupported_request",
                &format!("Unsupported control request subtype: {unknown}"),
            )),
        }
    }

    fn initialize(&mut self, id: &Value) -> Flow {
        let state = match (self.in_turn, self.asks.is_empty()) {
            (true, false) => "requires_action",
            (true, true) => "running",
            (false, _) => "idle",
        };
        let mut line = success(
            id,
            json!({
                "commands": [{
                    "name": "clear",
                    "description": "Forget the conversation and begin a new one",
                    "argumentHint": "",
                    "builtin": true,
                }],
                "agents": [],
                "output_style": "default",
                "available_output_styles": ["default"],
                "models": models(),
                "account": { "tokenSource": "none", "apiProvider": "demo" },
                "pid": std::process::id(),
                "claude_code_version": version(),
                "current_permission_mode": self.permissions.mode(),
                "session_state": state,
                "capabilities": CAPABILITIES,
            }),
        );
        // Beside the body, not in it: that is where Claude Code puts them.
        let asks: Vec<&Value> = self.asks.iter().map(|ask| &ask.line).collect();
        line["response"]["pending_permission_requests"] = json!(asks);
        self.send(line)
    }

    fn interrupt(&mut self, id: &Value) -> Flow {
        if self.in_turn {
            self.withdraw_asks()?;
            self.interrupted = true;
        }
        let queued: Vec<&str> = self
            .queue
            .iter()
            .filter_map(|message| message.uuid.as_deref())
            .collect();
        let line = success(id, json!({ "still_queued": queued }));
        self.send(line)
    }

    fn set_permission_mode(&mut self, id: &Value, mode: &Value) -> Flow {
        match self.permissions.set_mode(mode.as_str().unwrap_or_default()) {
            Ok(()) => {
                let mode = self.permissions.mode().to_owned();
                self.send(success(id, json!({ "mode": mode })))?;
                self.say(mode_changed(&mode))
            }
            Err((code, error)) => self.send(refusal(id, code, &error)),
        }
    }

    fn set_model(&mut self, id: &Value, model: &Value) -> Flow {
        model.as_str().unwrap_or(MODEL).clone_into(&mut self.model);
        let told = format!(
            "<local-command-stdout>Set model to `{}`</local-command-stdout>",
            self.model
        );
        self.say(json!({
            "type": "user",
            "message": { "role": "user", "content": told },
            "parent_tool_use_id": null,
            "timestamp": self.timestamp(),
            "isReplay": true,
        }))?;
        let line = success(id, json!({ "model": self.model }));
        self.send(line)
    }

    fn cancel_message(&mut self, id: &Value, uuid: &Value) -> Flow {
        let found = uuid.as_str().and_then(|uuid| {
            let mut queued = self.queue.iter();
            queued.position(|message| message.uuid.as_deref() == Some(uuid))
        });
        let Some(message) = found.and_then(|at| self.queue.remove(at)) else {
            return self.send(success(id, json!({ "cancelled": false })));
        };
        if let Some(uuid) = &message.uuid {
            self.say(lifecycle(uuid, "cancelled"))?;
        }
        self.send(success(
            id,
            json!({ "cancelled": true, "message_uuid": uuid }),
        ))
    }
}

/// The version the agent gives for itself; it is never that of a real agent.
pub fn version() -> String {
    format!("{}-demo", env!("CARGO_PKG_VERSION"))
}

fn models() -> Value {
    json!([
        {
            "value": "default",
            "resolvedModel": MODEL,
            "displayName": "Demo (default)",
            "description": "Does what the message says",
        },
        {
            "value": "demo-2",
            "resolvedModel": "demo-2",
            "displayName": "Demo 2",
            "description": "Does the same under another name",
        },
    ])
}
