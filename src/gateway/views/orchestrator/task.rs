//! Tasks.

use serde_json::{Value, json};

use super::{Shown, ids};
use crate::app::tasks::ShownTask;
use crate::domain::Task;
use crate::domain::task::{
    Assignment, AssignmentState, Attachment, AttachmentBody, Dependency, Gate, MergeStatus, On,
    Type, What,
};
use crate::gateway::views::iso;

/// The one word for where a task is: one that waits for others is blocked.
fn status(shown: &ShownTask) -> &'static str {
    match shown.standing.blocked {
        true => "blocked",
        false => shown.task.status.as_str(),
    }
}

/// One task; with its whole history where `whole`.
pub fn task(shown: &ShownTask, whole: bool) -> Value {
    let task = &shown.task;
    let holder = task.living();
    let mut it = Shown::default();
    it.put("id", task.id.to_string())
        .put("type", "task")
        .put("title", task.title.as_str())
        .text("description", &task.body)
        .put("taskType", kind(task.kind))
        .put("status", status(shown))
        .put("priority", task.priority)
        .put("effectivePriority", shown.standing.effective_priority)
        .put("complexity", task.complexity)
        .put("assignee", json!(holder.map(|it| it.agent_id.to_string())))
        .text("branch", holder.map_or("", |it| it.branch.as_str()))
        .some(
            "worktreeId",
            holder.and_then(|it| it.worktree_id.map(|id| id.to_string())),
        )
        .put("labels", json!(task.labels))
        .time("scheduledFor", task.scheduled_for)
        .put("requiredCapabilities", json!(task.required_capabilities))
        .put("preferredCapabilities", json!(task.preferred_capabilities))
        .text("acceptanceCriteria", &task.acceptance)
        .put("skipReview", task.skip_review)
        .text("directory", &task.directory)
        .some("parentId", task.parent().map(|id| id.to_string()))
        .put("dependencies", dependencies(task))
        .put("blockedBy", ids(&shown.standing.blocked_by))
        .put("assignments", assignments(task))
        .text("summary", &task.summary)
        .put("mergeStatus", merge_status(task.merge_status))
        .put("createdBy", task.created_by.name.as_str())
        .put("createdAt", iso(task.created_at))
        .put("updatedAt", iso(task.updated_at))
        .time("closedAt", task.closed_at)
        .put("etag", shown.revision.to_string());
    if whole {
        let attachments: Vec<Value> = task.attachments.iter().map(attachment).collect();
        let history: Vec<Value> = task
            .history
            .iter()
            .map(|entry| {
                let mut it = Shown::default();
                it.put("at", iso(entry.at))
                    .put("by", entry.by.name.as_str())
                    .put("what", what(entry.what))
                    .text("text", &entry.text)
                    .some("agentId", entry.agent_id.map(|id| id.to_string()));
                it.done()
            })
            .collect();
        it.put("attachments", attachments)
            .put("history", history)
            .put("historyDropped", task.history_dropped);
    }
    it.done()
}

/// What a task waits for, belongs to, or refers to.
pub fn dependencies(task: &Task) -> Value {
    task.dependencies.iter().map(dependency).collect()
}

fn dependency(dependency: &Dependency) -> Value {
    let mut it = Shown::default();
    match &dependency.on {
        On::Task { relation, id } => {
            it.put("type", relation.as_str())
                .put("taskId", id.to_string());
        }
        On::Gate(gate) => {
            it.put("type", "awaits");
            match gate {
                Gate::Timer { until } => it.put("gate", "timer").put("until", iso(*until)),
                Gate::Approval { name } => it.put("gate", "approval").put("name", name.as_str()),
                Gate::External { name } => it.put("gate", "external").put("name", name.as_str()),
            };
        }
    }
    it.put("createdBy", dependency.by.name.as_str())
        .put("createdAt", iso(dependency.at));
    it.done()
}

fn assignments(task: &Task) -> Value {
    task.assignments.iter().map(assignment).collect()
}

fn assignment(assignment: &Assignment) -> Value {
    let state = match assignment.state {
        AssignmentState::Assigned => "assigned",
        AssignmentState::InProgress => "in_progress",
        AssignmentState::Completed => "completed",
        AssignmentState::Merged => "merged",
        AssignmentState::HandedOff => "handed_off",
        AssignmentState::Released => "released",
    };
    let mut it = Shown::default();
    it.put("id", assignment.id.to_string())
        .put("agentId", assignment.agent_id.to_string())
        .put("state", state)
        .put("sessionIds", ids(&assignment.session_ids))
        .text("branch", &assignment.branch)
        .some(
            "worktreeId",
            assignment.worktree_id.map(|id| id.to_string()),
        )
        .text("note", &assignment.note)
        .put("assignedAt", iso(assignment.assigned_at))
        .time("startedAt", assignment.started_at)
        .time("endedAt", assignment.ended_at);
    it.done()
}

fn attachment(attachment: &Attachment) -> Value {
    let mut it = Shown::default();
    it.put("name", attachment.name.as_str());
    match &attachment.body {
        AttachmentBody::Uri(uri) => it.put("uri", uri.as_str()),
        AttachmentBody::Text(text) => it.put("text", text.as_str()),
    };
    it.done()
}

const fn kind(kind: Type) -> &'static str {
    match kind {
        Type::Bug => "bug",
        Type::Feature => "feature",
        Type::Task => "task",
        Type::Chore => "chore",
    }
}

const fn merge_status(status: MergeStatus) -> &'static str {
    match status {
        MergeStatus::NotApplicable => "not_applicable",
        MergeStatus::Pending => "pending",
        MergeStatus::Testing => "testing",
        MergeStatus::Merging => "merging",
        MergeStatus::Merged => "merged",
        MergeStatus::Conflict => "conflict",
        MergeStatus::TestFailed => "test_failed",
        MergeStatus::Failed => "failed",
        MergeStatus::AwaitingApproval => "awaiting_approval",
    }
}

const fn what(what: What) -> &'static str {
    match what {
        What::Created => "created",
        What::Updated => "updated",
        What::Moved => "moved",
        What::Assigned => "assigned",
        What::Started => "started",
        What::SessionLinked => "session_linked",
        What::HandedOff => "handed_off",
        What::Released => "released",
        What::Completed => "completed",
        What::Reopened => "reopened",
        What::DependencyAdded => "dependency_added",
        What::DependencyRemoved => "dependency_removed",
        What::MergeMoved => "merge_moved",
        What::Retried => "retried",
        What::Parked => "parked",
        What::Escalated => "escalated",
    }
}
