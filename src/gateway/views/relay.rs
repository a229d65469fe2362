//! What the relay's dialect shows: sessions, daemons, prompts, ends.

use serde_json::{Map, Value, json};

use super::iso;
use crate::app::daemons::ShownDaemon;
use crate::base::{Json, Timestamp};
use crate::domain::prompt::PromptKind;
use crate::domain::{Activity, EndInfo, EndReason, Event, Lifecycle, Prompt, Session};

/// What is said of a session whose daemon did not come back.
pub const DISCONNECTED: &str = "Daemon disconnected";

/// The one word for where a session is.
pub fn status(session: &Session) -> &'static str {
    match session.lifecycle {
        Lifecycle::Pending | Lifecycle::Starting => "starting",
        Lifecycle::Running => match session.activity {
            Activity::AwaitingInput | Activity::AwaitingPrompt => "waiting",
            Activity::Working | Activity::Unknown => "running",
        },
        Lifecycle::Stopping => "ending",
        Lifecycle::Suspended => "ended",
        Lifecycle::Ended => match session.end.as_ref().map(|end| reason(end.reason)) {
            Some("error" | "timeout") => "failed",
            _ => "ended",
        },
    }
}

/// Why a session is over, of the four words that there are.
pub fn reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Completed => "completed",
        EndReason::Stopped | EndReason::Canceled | EndReason::Resumed => "user_terminated",
        EndReason::Timeout | EndReason::Limit => "timeout",
        EndReason::Failed | EndReason::Crashed | EndReason::RateLimited | EndReason::Lost => {
            "error"
        }
    }
}

/// What went wrong; `None` if nothing did.
fn problem(end: &EndInfo) -> Option<&str> {
    match end.reason {
        EndReason::Lost => Some(DISCONNECTED),
        other if matches!(reason(other), "error" | "timeout") => Some(&end.message),
        _ => None,
    }
}

/// One session, with everything that is known; what is not known is left out.
pub fn info(session: &Session) -> Value {
    let kind = if session.is_over() {
        "archived"
    } else {
        "spawned"
    };
    let mut shown = Map::new();
    shown.insert("id".to_owned(), session.id.to_string().into());
    shown.insert("type".to_owned(), kind.into());
    shown.insert("status".to_owned(), status(session).into());
    shown.insert("cwd".to_owned(), session.cwd.as_str().into());
    shown.insert("harness".to_owned(), session.harness.as_str().into());
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            shown.insert(key.to_owned(), value);
        }
    };
    put("model", filled(&session.model));
    put("created_at", Some(iso(session.created_at).into()));
    put("claude_session_id", filled(&session.provider_session_id));
    put("last_activity_at", Some(iso(session.last_event_at).into()));
    put("ended_at", session.ended_at.map(|at| iso(at).into()));
    let end = session.end.as_ref();
    put(
        "exit_code",
        end.and_then(|end| end.exit_code).map(Value::from),
    );
    put("error", end.and_then(problem).map(Value::from));
    Value::Object(shown)
}

fn filled(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| text.into())
}

/// One session in the list of those that live.
pub fn spawned(session: &Session) -> Value {
    json!({
        "id": session.id.to_string(),
        "status": status(session),
        "cwd": session.cwd,
        "harness": session.harness,
        "created_at": iso(session.created_at),
        "last_activity_at": iso(session.last_event_at),
    })
}

/// One daemon.
pub fn daemon(shown: &ShownDaemon, connected: bool) -> Value {
    json!({
        "client_id": shown.daemon.id.to_string(),
        "name": shown.daemon.name,
        "connected": connected,
        "since": iso(shown.daemon.since),
        "draining": shown.daemon.draining,
        "active_sessions": shown.living,
        "capabilities": capabilities(shown),
    })
}

/// What a daemon can start.
pub fn capabilities(shown: &ShownDaemon) -> Value {
    let harnesses: Vec<Value> = shown
        .daemon
        .offer
        .harnesses
        .iter()
        .map(|harness| {
            json!({
                "id": harness.name,
                "name": harness.name,
                "available": harness.available,
                "supports_permission_relay": harness.capabilities.permission,
                // Every harness's output comes while it works.
                "supports_streaming": true,
            })
        })
        .collect();
    let any = shown.daemon.offer.harnesses.iter().any(|it| it.available);
    json!({
        "can_spawn_sessions": any && !shown.daemon.draining,
        "spawnable_harnesses": harnesses,
    })
}

/// What an agent asks.
pub fn prompt(prompt: &Prompt) -> Value {
    let id = prompt.id.to_string();
    if prompt.kind == PromptKind::Question {
        let first = prompt.questions.first();
        let options: Vec<&str> = first
            .map(|question| {
                question
                    .options
                    .iter()
                    .map(|it| it.label.as_str())
                    .collect()
            })
            .unwrap_or_default();
        let questions: Vec<Value> = prompt
            .questions
            .iter()
            .map(|question| {
                let options: Vec<Value> = question
                    .options
                    .iter()
                    .map(|it| json!({ "label": it.label, "description": it.description }))
                    .collect();
                json!({
                    "header": question.header, "question": question.text, "options": options,
                    "multi_select": question.multi_select,
                })
            })
            .collect();
        return json!({
            "type": "question_prompt",
            "tool_use_id": id,
            "question": first.map(|it| it.text.as_str()).unwrap_or_default(),
            "options": options,
            "questions": questions,
        });
    }
    let details = match prompt.input.to_value() {
        _ if prompt.kind == PromptKind::Plan => json!({ "plan": prompt.plan }),
        Value::Object(map) => Value::Object(map),
        other => json!({ "input": other }),
    };
    json!({
        "type": "permission_prompt",
        "request_id": id,
        "tool": prompt.tool,
        "description": if prompt.summary.is_empty() { &prompt.reason } else { &prompt.summary },
        "details": details,
    })
}

/// What an agent has changed. A diff too large for its event is named, to be fetched.
pub fn diff_update(event: &Event) -> Value {
    let told = event.raw.as_ref().map(Json::to_value).unwrap_or_default();
    let mut shown = json!({
        "type": "diff_update", "diff": told["diff"], "modified_files": told["modified_files"],
    });
    if let Some(content) = &event.raw_content {
        shown["content"] = json!(super::large(content));
    }
    shown
}

/// A session's end.
pub fn complete(end: &EndInfo) -> Value {
    let mut shown = json!({ "type": "complete", "reason": reason(end.reason) });
    if let Some(code) = end.exit_code {
        shown["exit_code"] = code.into();
    }
    if let Some(problem) = problem(end) {
        shown["error"] = problem.into();
    }
    shown
}

/// A sign of life.
pub fn heartbeat(now: Timestamp) -> Value {
    json!({ "type": "heartbeat", "timestamp": iso(now) })
}
