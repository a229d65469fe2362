//! `session/update`: what the agent tells while it works.

use agent_client_protocol_schema::v1::{
    PlanEntryStatus, SessionNotification, SessionUpdate, UsageUpdate,
};

use super::said::Voice;
use super::step::{Step, cut};
use crate::domain::EventBody;
use crate::domain::event::PlanItem;
use crate::driver::line::{Object, value};

/// The longest plan list, and the longest entry, in bytes.
const MAX_PLAN_ITEMS: usize = 200;
const MAX_PLAN_TEXT_BYTES: usize = 1_000;

impl Step<'_> {
    /// A `session/update` notification.
    pub(super) fn update(&mut self, params: &str, text: &str) {
        if self.state.is_replaying {
            // The conversation so far: the session before this one has it in its log.
            return;
        }
        let notification = match value::<SessionNotification>(params) {
            Ok(notification) => notification,
            Err(_) => {
                let params = Object::parse(params).unwrap_or_default();
                let kind = params
                    .object("update")
                    .map(|update| update.text_or_empty("sessionUpdate"))
                    .unwrap_or_default();
                return self.notice(&kind, "an update of a kind that is not known", text);
            }
        };
        let is_ours = *notification.session_id.0 == *self.state.conversation;
        if !is_ours {
            return self.notice("session/update", "an update of another conversation", text);
        }
        match notification.update {
            SessionUpdate::AgentMessageChunk(chunk) => {
                self.tell_turn();
                self.chunk(Voice::Agent, chunk);
            }
            SessionUpdate::AgentThoughtChunk(chunk) => {
                self.tell_turn();
                self.chunk(Voice::Thought, chunk);
            }
            // An input is in the log already; what else is put in a person's place is worth a line.
            SessionUpdate::UserMessageChunk(chunk) if self.state.turn.is_none() => {
                self.chunk(Voice::User, chunk);
            }
            SessionUpdate::UserMessageChunk(_) => {}
            SessionUpdate::ToolCall(call) => {
                self.tell_turn();
                self.tool_call(call);
            }
            SessionUpdate::ToolCallUpdate(update) => {
                self.tell_turn();
                self.tool_call_update(update);
            }
            SessionUpdate::Plan(plan) => {
                self.flush();
                let entries = plan.entries.into_iter().take(MAX_PLAN_ITEMS);
                let items = entries.map(|entry| PlanItem {
                    text: cut(&entry.content, MAX_PLAN_TEXT_BYTES),
                    status: match entry.status {
                        PlanEntryStatus::InProgress => "in_progress",
                        PlanEntryStatus::Completed => "completed",
                        _ => "pending",
                    }
                    .to_owned(),
                });
                let items = items.collect();
                self.event(EventBody::PlanUpdated { items });
            }
            SessionUpdate::AvailableCommandsUpdate(update) => {
                let names = update.available_commands.iter();
                let names: Vec<String> =
                    names.map(|command| format!("/{}", command.name)).collect();
                self.notice("available_commands_update", &names.join(" "), text);
            }
            SessionUpdate::CurrentModeUpdate(update) => {
                self.state.mode = cut(&update.current_mode_id.0, 512);
                let mode = self.state.mode.clone();
                self.notice("current_mode_update", &mode, text);
                self.ask_first();
            }
            SessionUpdate::ConfigOptionUpdate(_) => {
                let params = Object::parse(params).unwrap_or_default();
                self.options_of(params.raw("update").unwrap_or("{}"));
            }
            SessionUpdate::SessionInfoUpdate(_) => {
                let params = Object::parse(params).unwrap_or_default();
                let update = params.object("update").unwrap_or_default();
                self.notice("session_info_update", &update.text_or_empty("title"), text);
            }
            SessionUpdate::UsageUpdate(update) => self.usage_update(&update, text),
            _ => {
                let params = Object::parse(params).unwrap_or_default();
                let update = params.object("update").unwrap_or_default();
                self.notice(&update.text_or_empty("sessionUpdate"), "", text);
            }
        }
    }

    /// How full the context is, and what the conversation has cost.
    fn usage_update(&mut self, update: &UsageUpdate, text: &str) {
        let cost = update.cost.as_ref().filter(|cost| cost.currency == "USD");
        match cost.map(|cost| micros(cost.amount)) {
            Some(cost) if cost > self.state.total.cost_micro_usd => {
                self.state.total.cost_micro_usd = cost;
                let total = self.state.total;
                let params = Object::parse(text).unwrap_or_default();
                self.event_with(EventBody::UsageUpdated { total }, params.raw("params"));
            }
            _ => {
                let says = format!("{} of {} tokens of context", update.used, update.size);
                self.progress(says);
            }
        }
    }
}

fn micros(usd: f64) -> u64 {
    // Saturates, and is zero for what is no cost.
    (usd * 1_000_000.0).round().max(0.0) as u64
}
