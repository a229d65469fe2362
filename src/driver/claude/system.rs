//! `system` lines: what the harness tells of itself.

use super::state::Announced;
use super::step::Step;
use crate::domain::EventBody;
use crate::driver::line::Object;

impl Step<'_> {
    /// A `system` line.
    pub(super) fn system(&mut self, line: &Object<'_>, text: &str) {
        let subtype = line.text_or_empty("subtype");
        match subtype.as_str() {
            "init" => self.init(line),
            "status" => self.status(line, text),
            "thinking_tokens" => {
                let tokens = line.number("estimated_tokens").unwrap_or(0);
                self.progress(format!("thinking ({tokens} tokens)"));
            }
            "task_progress" => self.progress(line.text_or_empty("description")),
            "background_tasks_changed" => {
                let tasks = line.array("tasks").unwrap_or_default().len() as u64;
                if std::mem::replace(&mut self.state.tasks, tasks) != tasks {
                    let said = format!("{tasks} background tasks run");
                    self.notice(&subtype, &said, text);
                }
            }
            "task_notification" => {
                // A task that finished is told to the agent in a turn of its own, or in the running one
                // with its next request.
                let status = line.text_or_empty("status");
                self.state.notified = matches!(status.as_str(), "completed" | "failed");
                self.notice(&subtype, &line.text_or_empty("summary"), text);
            }
            "api_retry" => {
                if !self.limited_retry(line) {
                    let said = line.text_or_empty("error");
                    self.notice(&subtype, &said, text);
                }
            }
            _ => {
                let said = [
                    "content",
                    "message",
                    "text",
                    "title",
                    "summary",
                    "description",
                ]
                .into_iter()
                .find_map(|key| line.text(key))
                .unwrap_or_default();
                let kind = if subtype.is_empty() {
                    "system"
                } else {
                    &subtype
                };
                self.notice(kind, &said, text);
            }
        }
    }

    /// `system/init` comes at the start of every turn.
    fn init(&mut self, line: &Object<'_>) {
        let now = Announced {
            provider_session_id: line.text_or_empty("session_id"),
            model: line.text_or_empty("model"),
            cwd: line.text_or_empty("cwd"),
            tools: line.texts("tools"),
            version: line.text_or_empty("claude_code_version"),
        };
        if now != self.state.announced {
            self.state.announced = now;
            self.announce();
        }
        self.turn(None);
    }

    /// Tells what is known of the harness.
    pub(super) fn announce(&mut self) {
        let now = self.state.announced.clone();
        self.event(EventBody::Started {
            provider_session_id: now.provider_session_id,
            model: now.model,
            cwd: now.cwd,
            tools: now.tools,
            pid: self.state.pid,
            version: now.version,
        });
    }

    fn status(&mut self, line: &Object<'_>, text: &str) {
        match line.text("status").as_deref() {
            Some("requesting") => {
                if self.state.turn.is_some() {
                    self.state.notified = false;
                }
                self.progress("waiting for the model".to_owned());
            }
            Some(status) => self.notice("status", status, text),
            None => {
                let said = match line.text("permissionMode") {
                    Some(mode) => format!("the agent's own permission mode is {mode}"),
                    None => line.text_or_empty("compact_result"),
                };
                self.notice("status", &said, text);
            }
        }
    }
}
