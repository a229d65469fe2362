//! Tasks as JSON and for people.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::json::{actor, number, time};
use super::style::{Style, Tone, safe, visible_line};
use super::table::Table;
use crate::cli::resolve::short;
use crate::wire::v1;

/// The word of an enum's value, without its prefix; empty if unspecified.
fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix) {
        None | Some("UNSPECIFIED") => String::new(),
        Some(rest) => rest.to_lowercase(),
    }
}

fn text(text: &str) -> Value {
    match text {
        "" => Value::Null,
        text => Value::from(text),
    }
}

/// The word of a status.
fn status(task: &v1::Task) -> String {
    word(task.status().as_str_name(), "TASK_STATUS_")
}

fn kind(task: &v1::Task) -> String {
    word(task.r#type().as_str_name(), "TASK_TYPE_")
}

fn assignment(a: &v1::Assignment) -> Value {
    json!({
        "id": a.id,
        "agent_id": a.agent_id,
        "state": text(&word(a.state().as_str_name(), "ASSIGNMENT_STATE_")),
        "session_ids": a.session_ids,
        "branch": text(&a.branch),
        "worktree_id": text(&a.worktree_id),
        "note": text(&a.note),
        "assigned_by": actor(a.assigned_by.as_ref()),
        "assigned_at": time(a.assigned_at),
        "started_at": time(a.started_at),
        "ended_at": time(a.ended_at),
        "restarts": a.restarts,
        "parked_until": time(a.parked_until),
        "escalation": text(&a.escalation),
    })
}

fn dependency(d: &v1::Dependency) -> Value {
    let on = d.on.clone().unwrap_or_default();
    json!({
        "kind": text(&word(on.kind().as_str_name(), "DEPENDENCY_KIND_")),
        "on_task_id": text(&on.on_task_id),
        "gate": on.gate.as_ref().map(|gate| json!({
            "kind": text(&word(gate.kind().as_str_name(), "GATE_KIND_")),
            "name": text(&gate.name),
            "until": time(gate.until),
        })),
        "created_by": actor(d.created_by.as_ref()),
        "created_at": time(d.created_at),
    })
}

fn attachment(a: &v1::TaskAttachment) -> Value {
    use v1::task_attachment::Body;
    let (uri, inline) = match &a.body {
        Some(Body::Uri(uri)) => (Some(uri), None),
        Some(Body::Text(text)) => (None, Some(text)),
        None => (None, None),
    };
    json!({ "name": text(&a.name), "uri": uri, "text": inline })
}

/// A task.
pub fn task(t: &v1::Task) -> Value {
    json!({
        "id": t.id,
        "title": t.title,
        "body": text(&t.body),
        "type": text(&kind(t)),
        "priority": t.priority,
        "effective_priority": t.effective_priority,
        "complexity": t.complexity,
        "status": text(&status(t)),
        "blocked": t.blocked,
        "blocked_by_ids": t.blocked_by_ids,
        "labels": t.labels.iter().collect::<BTreeMap<_, _>>(),
        "scheduled_for": time(t.scheduled_for),
        "required_capabilities": t.required_capabilities,
        "preferred_capabilities": t.preferred_capabilities,
        "acceptance": text(&t.acceptance),
        "attachments": t.attachments.iter().map(attachment).collect::<Vec<_>>(),
        "skip_review": t.skip_review,
        "directory": text(&t.directory),
        "dependencies": t.dependencies.iter().map(dependency).collect::<Vec<_>>(),
        "parent_id": text(&t.parent_id),
        "assignment": t.assignment.as_ref().map(assignment),
        "past_assignments": t.past_assignments.iter().map(assignment).collect::<Vec<_>>(),
        "summary": text(&t.summary),
        "merge_status": text(&word(t.merge_status().as_str_name(), "MERGE_STATUS_")),
        "created_by": actor(t.created_by.as_ref()),
        "created_at": time(t.created_at),
        "updated_at": time(t.updated_at),
        "closed_at": time(t.closed_at),
        "history": t.history.iter().map(|entry| json!({
            "at": time(entry.at),
            "by": actor(entry.actor.as_ref()),
            "kind": text(&word(entry.kind().as_str_name(), "TASK_HISTORY_KIND_")),
            "text": text(&entry.text),
            "agent_id": text(&entry.agent_id),
        })).collect::<Vec<_>>(),
        "history_dropped": number(t.history_dropped),
        "etag": t.etag,
    })
}

/// Why a task is ready, or not.
pub fn explained(e: &v1::ExplainTaskResponse) -> Value {
    json!({
        "task": e.task.as_ref().map(task),
        "ready": e.ready,
        "reasons": e.reasons.iter().map(|reason| json!({
            "kind": text(&word(reason.kind().as_str_name(), "TASK_REASON_KIND_")),
            "message": reason.message,
            "task_id": text(&reason.task_id),
            "agent_id": text(&reason.agent_id),
            "until": time(reason.until),
        })).collect::<Vec<_>>(),
        "priority_from_ids": e.priority_from_ids,
        "candidates": e.candidates.iter().map(|candidate| json!({
            "agent_id": candidate.agent_id,
            "name": candidate.name,
            "score": candidate.score,
            "eligible": candidate.eligible,
            "obstacle": text(&candidate.obstacle),
            "place": text(&candidate.place),
        })).collect::<Vec<_>>(),
    })
}

fn shown_status(task: &v1::Task) -> (Tone, String) {
    let word = status(task).replace('_', " ");
    match task.status() {
        _ if task.blocked => (Tone::Bad, format!("{word}, blocked")),
        v1::TaskStatus::InProgress => (Tone::Good, word),
        v1::TaskStatus::Review => (Tone::Warn, word),
        v1::TaskStatus::Open => (Tone::Plain, word),
        _ => (Tone::Dim, word),
    }
}

/// Its own priority, and the one it has from others.
fn shown_priority(task: &v1::Task) -> String {
    if task.effective_priority == task.priority {
        task.priority.to_string()
    } else {
        format!("{} ({})", task.effective_priority, task.priority)
    }
}

/// Tasks as a table.
pub fn table(tasks: &[v1::Task], style: Style, columns: usize) -> String {
    let mut table = Table::new(&["ID", "P", "STATUS", "TYPE", "AGENT", "TITLE"]);
    for task in tasks {
        let agent = match &task.assignment {
            Some(holder) => short(&holder.agent_id).to_owned(),
            None => String::new(),
        };
        table.row([
            (Tone::Name, short(&task.id).to_owned()),
            (Tone::Plain, shown_priority(task)),
            shown_status(task),
            (Tone::Dim, kind(task)),
            (Tone::Plain, agent),
            (Tone::Plain, task.title.clone()),
        ]);
    }
    table.render(style, columns)
}

fn at(stamp: Option<prost_types::Timestamp>) -> String {
    match time(stamp) {
        Value::String(time) => time.chars().take(19).collect(),
        _ => String::new(),
    }
}

fn dependency_line(d: &v1::Dependency) -> String {
    let on = d.on.clone().unwrap_or_default();
    let word = word(on.kind().as_str_name(), "DEPENDENCY_KIND_").replace('_', "-");
    match &on.gate {
        None => format!("{word} {}", on.on_task_id),
        Some(gate) if gate.until.is_some() => format!("{word} the time {}", at(gate.until)),
        Some(gate) => format!("{word} {}", visible_line(&gate.name)),
    }
}

/// All there is of a task, for people.
pub fn everything(task: &v1::Task, style: Style) -> String {
    let (tone, status) = shown_status(task);
    let mut lines = vec![
        format!("{} {}", task.id, visible_line(&task.title)),
        format!(
            "  {}, {}, priority {}, complexity {}",
            style.paint(tone, &status),
            kind(task),
            shown_priority(task),
            task.complexity
        ),
    ];
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {name}: {value}"));
        }
    };
    line("blocked by", task.blocked_by_ids.join(", "));
    line("not before", at(task.scheduled_for));
    line("directory", visible_line(&task.directory));
    let labels: BTreeMap<_, _> = task.labels.iter().collect();
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    line("labels", visible_line(&labels.join(", ")));
    line("requires", task.required_capabilities.join(", "));
    line("prefers", task.preferred_capabilities.join(", "));
    for dependency in &task.dependencies {
        line("dependency", dependency_line(dependency));
    }
    for held in task.past_assignments.iter().chain(&task.assignment) {
        let state = word(held.state().as_str_name(), "ASSIGNMENT_STATE_").replace('_', " ");
        let branch = match held.branch.as_str() {
            "" => String::new(),
            branch => format!(", branch {}", visible_line(branch)),
        };
        line("agent", format!("{} {state}{branch}", held.agent_id));
        line("note", visible_line(&held.note));
    }
    line("summary", visible_line(&task.summary));
    let merge = word(task.merge_status().as_str_name(), "MERGE_STATUS_");
    if merge != "not_applicable" {
        line("merge", merge.replace('_', " "));
    }
    for attachment in &task.attachments {
        use v1::task_attachment::Body;
        let body = match &attachment.body {
            Some(Body::Uri(text) | Body::Text(text)) => visible_line(text),
            None => String::new(),
        };
        line(
            "attachment",
            format!("{} {body}", visible_line(&attachment.name)),
        );
    }
    for (name, body) in [("", &task.body), ("done when:", &task.acceptance)] {
        if !body.is_empty() {
            lines.push(String::new());
            if !name.is_empty() {
                lines.push(name.to_owned());
            }
            lines.push(safe(body));
        }
    }
    lines.push(String::new());
    if task.history_dropped > 0 {
        lines.push(format!(
            "  {} older entries are not kept",
            task.history_dropped
        ));
    }
    for entry in &task.history {
        let what = word(entry.kind().as_str_name(), "TASK_HISTORY_KIND_").replace('_', " ");
        let by = entry.actor.as_ref().map(|actor| visible_line(&actor.name));
        let mut text = format!("  {} {what}", at(entry.at));
        for part in [&entry.agent_id, &visible_line(&entry.text)] {
            if !part.is_empty() {
                text.push(' ');
                text.push_str(part);
            }
        }
        lines.push(format!(
            "{text} {}",
            style.paint(Tone::Dim, &format!("({})", by.unwrap_or_default()))
        ));
    }
    lines.join("\n")
}
