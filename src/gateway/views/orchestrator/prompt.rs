//! What agents ask people.

use serde_json::Value;

use super::Shown;
use crate::domain::Prompt;
use crate::domain::prompt::{PromptKind, PromptState};
use crate::gateway::views::iso;

/// One prompt, without what it is answered with: that is the console's and the API's.
pub fn prompt(prompt: &Prompt) -> Value {
    let mut it = Shown::default();
    it.put("promptId", prompt.id.to_string())
        .put("sessionId", prompt.session_id.to_string())
        .put("kind", kind(prompt.kind))
        .put("state", state(prompt.state))
        .text("toolName", &prompt.tool)
        .text("summary", asked(prompt))
        .put("requestedAt", iso(prompt.requested_at))
        .time("expiresAt", prompt.expires_at);
    it.done()
}

/// What is asked, in one line.
pub fn asked(prompt: &Prompt) -> &str {
    match prompt.summary.as_str() {
        "" => &prompt.reason,
        summary => summary,
    }
}

const fn kind(kind: PromptKind) -> &'static str {
    match kind {
        PromptKind::Permission => "permission",
        PromptKind::Question => "question",
        PromptKind::Plan => "plan",
        PromptKind::Decision => "decision",
    }
}

const fn state(state: PromptState) -> &'static str {
    match state {
        PromptState::Pending => "pending",
        PromptState::Answered => "answered",
        PromptState::Expired => "expired",
        PromptState::Withdrawn => "withdrawn",
    }
}
