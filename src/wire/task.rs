//! Tasks on the wire.

use super::common::actor_to_pb;
use super::enums;
use super::field::{etag_of, required};
use super::time::{required_time, time_from_pb, time_to_pb};
use crate::base::id::{TaskId, WorktreeId};
use crate::base::{Error, Result};
use crate::domain::Task;
use crate::domain::task::{
    Assignment, Attachment, AttachmentBody, Dependency, Draft, Entry, Gate, On, Relation, Standing,
    Status, Update,
};
use crate::wire::v1;

/// A task as protobuf writes it. A `brief` one is without what may be long.
pub fn task_to_pb(task: &Task, revision: u64, standing: &Standing, brief: bool) -> v1::Task {
    let living = task.living();
    let past = match living {
        Some(_) => &task.assignments[..task.assignments.len() - 1],
        None => &task.assignments[..],
    };
    let long = |text: &String| match brief {
        true => String::new(),
        false => text.clone(),
    };
    v1::Task {
        id: task.id.to_string(),
        title: task.title.clone(),
        body: long(&task.body),
        r#type: enums::task_type_to_pb(task.kind).into(),
        priority: task.priority.into(),
        complexity: task.complexity.into(),
        status: enums::task_status_to_pb(task.status).into(),
        blocked: standing.blocked,
        blocked_by_ids: ids(&standing.blocked_by),
        effective_priority: standing.effective_priority.into(),
        labels: task.labels.clone().into_iter().collect(),
        scheduled_for: task.scheduled_for.map(time_to_pb),
        required_capabilities: task.required_capabilities.clone(),
        preferred_capabilities: task.preferred_capabilities.clone(),
        acceptance: long(&task.acceptance),
        attachments: match brief {
            true => Vec::new(),
            false => task.attachments.iter().map(attachment_to_pb).collect(),
        },
        skip_review: task.skip_review,
        directory: task.directory.clone(),
        dependencies: task.dependencies.iter().map(dependency_to_pb).collect(),
        parent_id: task.parent().map(|id| id.to_string()).unwrap_or_default(),
        assignment: living.map(assignment_to_pb),
        past_assignments: match brief {
            true => Vec::new(),
            false => past.iter().map(assignment_to_pb).collect(),
        },
        summary: long(&task.summary),
        merge_status: enums::merge_status_to_pb(task.merge_status).into(),
        created_by: Some(actor_to_pb(&task.created_by)),
        created_at: Some(time_to_pb(task.created_at)),
        updated_at: Some(time_to_pb(task.updated_at)),
        closed_at: task.closed_at.map(time_to_pb),
        history: match brief {
            true => Vec::new(),
            false => task.history.iter().map(entry_to_pb).collect(),
        },
        history_dropped: task.history_dropped,
        etag: etag_of(revision),
    }
}

/// Ids as protobuf writes them.
pub fn ids(ids: &[TaskId]) -> Vec<String> {
    ids.iter().map(TaskId::to_string).collect()
}

fn attachment_to_pb(attachment: &Attachment) -> v1::TaskAttachment {
    use v1::task_attachment::Body;
    v1::TaskAttachment {
        name: attachment.name.clone(),
        body: Some(match &attachment.body {
            AttachmentBody::Uri(uri) => Body::Uri(uri.clone()),
            AttachmentBody::Text(text) => Body::Text(text.clone()),
        }),
    }
}

fn attachments_from_pb(list: Vec<v1::TaskAttachment>) -> Result<Vec<Attachment>> {
    use v1::task_attachment::Body;
    list.into_iter()
        .enumerate()
        .map(|(index, attachment)| {
            let body = required(attachment.body, &format!("attachments[{index}].body"))?;
            Ok(Attachment {
                name: attachment.name,
                body: match body {
                    Body::Uri(uri) => AttachmentBody::Uri(uri),
                    Body::Text(text) => AttachmentBody::Text(text),
                },
            })
        })
        .collect()
}

const fn relation_to_pb(relation: Relation) -> v1::DependencyKind {
    match relation {
        Relation::Blocks => v1::DependencyKind::Blocks,
        Relation::ParentChild => v1::DependencyKind::ParentChild,
        Relation::RelatesTo => v1::DependencyKind::RelatesTo,
        Relation::References => v1::DependencyKind::References,
        Relation::Supersedes => v1::DependencyKind::Supersedes,
        Relation::Duplicates => v1::DependencyKind::Duplicates,
        Relation::CausedBy => v1::DependencyKind::CausedBy,
        Relation::Validates => v1::DependencyKind::Validates,
    }
}

/// How a task relates to another; `None` for a gate.
fn relation_from_pb(kind: i32, at: &str) -> Result<Option<Relation>> {
    use v1::DependencyKind as Kind;
    let field = format!("{at}.kind");
    Ok(Some(match Kind::try_from(kind) {
        Ok(Kind::Unspecified) => return Err(Error::invalid(&field, "is missing")),
        Ok(Kind::Awaits) => return Ok(None),
        Ok(Kind::Blocks) => Relation::Blocks,
        Ok(Kind::ParentChild) => Relation::ParentChild,
        Ok(Kind::RelatesTo) => Relation::RelatesTo,
        Ok(Kind::References) => Relation::References,
        Ok(Kind::Supersedes) => Relation::Supersedes,
        Ok(Kind::Duplicates) => Relation::Duplicates,
        Ok(Kind::CausedBy) => Relation::CausedBy,
        Ok(Kind::Validates) => Relation::Validates,
        Err(_) => {
            return Err(Error::invalid(
                &field,
                format!("is {kind}, a value that this version does not know"),
            ));
        }
    }))
}

fn gate_to_pb(gate: &Gate) -> v1::Gate {
    match gate {
        Gate::Timer { until } => v1::Gate {
            kind: v1::GateKind::Timer.into(),
            name: String::new(),
            until: Some(time_to_pb(*until)),
        },
        Gate::Approval { name } => v1::Gate {
            kind: v1::GateKind::Approval.into(),
            name: name.clone(),
            until: None,
        },
        Gate::External { name } => v1::Gate {
            kind: v1::GateKind::External.into(),
            name: name.clone(),
            until: None,
        },
    }
}

fn gate_from_pb(gate: v1::Gate, at: &str) -> Result<Gate> {
    let kind = v1::GateKind::try_from(gate.kind).map_err(|_| {
        Error::invalid(
            &format!("{at}.kind"),
            format!("is {}, a value that this version does not know", gate.kind),
        )
    })?;
    if kind == v1::GateKind::Timer && !gate.name.is_empty() {
        return Err(Error::invalid(&format!("{at}.name"), "is not a timer's"));
    }
    if kind != v1::GateKind::Timer && gate.until.is_some() {
        return Err(Error::invalid(&format!("{at}.until"), "is a timer's only"));
    }
    let gate = match kind {
        v1::GateKind::Unspecified => {
            return Err(Error::invalid(&format!("{at}.kind"), "is missing"));
        }
        v1::GateKind::Timer => Gate::Timer {
            until: required_time(gate.until, &format!("{at}.until"))?,
        },
        v1::GateKind::Approval => Gate::Approval { name: gate.name },
        v1::GateKind::External => Gate::External { name: gate.name },
    };
    Ok(gate)
}

fn target_to_pb(on: &On) -> v1::DependencyTarget {
    match on {
        On::Task { relation, id } => v1::DependencyTarget {
            kind: relation_to_pb(*relation).into(),
            on_task_id: id.to_string(),
            gate: None,
        },
        On::Gate(gate) => v1::DependencyTarget {
            kind: v1::DependencyKind::Awaits.into(),
            on_task_id: String::new(),
            gate: Some(gate_to_pb(gate)),
        },
    }
}

/// What a dependency is on, from the wire.
pub fn target_from_pb(target: v1::DependencyTarget, at: &str) -> Result<On> {
    match relation_from_pb(target.kind, at)? {
        None => {
            if !target.on_task_id.is_empty() {
                return Err(Error::invalid(
                    &format!("{at}.on_task_id"),
                    "is for the other kinds; what is awaited is a gate",
                ));
            }
            let at = format!("{at}.gate");
            Ok(On::Gate(gate_from_pb(required(target.gate, &at)?, &at)?))
        }
        Some(relation) => {
            if target.gate.is_some() {
                return Err(Error::invalid(
                    &format!("{at}.gate"),
                    "is for the kind awaits only",
                ));
            }
            let id = TaskId::parse(&format!("{at}.on_task_id"), &target.on_task_id)?;
            Ok(On::Task { relation, id })
        }
    }
}

fn dependency_to_pb(dependency: &Dependency) -> v1::Dependency {
    v1::Dependency {
        on: Some(target_to_pb(&dependency.on)),
        created_by: Some(actor_to_pb(&dependency.by)),
        created_at: Some(time_to_pb(dependency.at)),
    }
}

fn assignment_to_pb(assignment: &Assignment) -> v1::Assignment {
    v1::Assignment {
        id: assignment.id.to_string(),
        agent_id: assignment.agent_id.to_string(),
        state: enums::assignment_state_to_pb(assignment.state).into(),
        session_ids: assignment
            .session_ids
            .iter()
            .map(ToString::to_string)
            .collect(),
        branch: assignment.branch.clone(),
        worktree_id: assignment
            .worktree_id
            .map(|id: WorktreeId| id.to_string())
            .unwrap_or_default(),
        note: assignment.note.clone(),
        assigned_by: Some(actor_to_pb(&assignment.by)),
        assigned_at: Some(time_to_pb(assignment.assigned_at)),
        started_at: assignment.started_at.map(time_to_pb),
        ended_at: assignment.ended_at.map(time_to_pb),
        restarts: assignment.restarts,
        parked_until: assignment.parked_until.map(time_to_pb),
        escalation: assignment.escalation.clone(),
    }
}

fn entry_to_pb(entry: &Entry) -> v1::TaskHistoryEntry {
    v1::TaskHistoryEntry {
        at: Some(time_to_pb(entry.at)),
        actor: Some(actor_to_pb(&entry.by)),
        kind: enums::task_history_kind_to_pb(entry.what).into(),
        text: entry.text.clone(),
        agent_id: entry.agent_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// A priority or complexity; 0 is `absent`. Whether there is such a one is not looked at here, only that it
/// can be said.
pub fn level_from_pb(value: u32, field: &str, absent: u8) -> Result<u8> {
    if value == 0 {
        return Ok(absent);
    }
    u8::try_from(value).map_err(|_| Error::invalid(field, format!("is {value}; it is 1 to 5")))
}

/// A task to be made, from a request.
pub fn draft_from_pb(request: v1::CreateTaskRequest) -> Result<Draft> {
    let default = Draft::default();
    Ok(Draft {
        title: request.title,
        body: request.body,
        kind: enums::task_type_from_pb(request.r#type, "type")?.unwrap_or_default(),
        priority: level_from_pb(request.priority, "priority", default.priority)?,
        complexity: level_from_pb(request.complexity, "complexity", default.complexity)?,
        status: enums::task_status_from_pb(request.status, "status")?.unwrap_or(Status::Open),
        labels: request.labels.into_iter().collect(),
        scheduled_for: time_from_pb(request.scheduled_for, "scheduled_for")?,
        required_capabilities: request.required_capabilities,
        preferred_capabilities: request.preferred_capabilities,
        acceptance: request.acceptance,
        attachments: attachments_from_pb(request.attachments)?,
        skip_review: request.skip_review,
        directory: request.directory,
        dependencies: request
            .dependencies
            .into_iter()
            .enumerate()
            .map(|(index, target)| target_from_pb(target, &format!("dependencies[{index}]")))
            .collect::<Result<_>>()?,
    })
}

/// What is to be changed of a task, from a request: the fields that its mask names.
pub fn update_from_pb(request: v1::UpdateTaskRequest) -> Result<Update> {
    let mut update = Update::default();
    let mask = request.update_mask.unwrap_or_default().paths;
    // There are not so many fields.
    if mask.len() > 64 {
        return Err(Error::invalid(
            "update_mask",
            format!("has {} entries; the most is 64", mask.len()),
        ));
    }
    let mut request = v1::UpdateTaskRequest {
        update_mask: None,
        ..request
    };
    for path in mask {
        match path.as_str() {
            "title" => update.title = Some(std::mem::take(&mut request.title)),
            "body" => update.body = Some(std::mem::take(&mut request.body)),
            "type" => {
                let kind = enums::task_type_from_pb(request.r#type, "type")?;
                update.kind = Some(kind.unwrap_or_default());
            }
            "priority" => update.priority = Some(level_from_pb(request.priority, "priority", 3)?),
            "complexity" => {
                update.complexity = Some(level_from_pb(request.complexity, "complexity", 3)?);
            }
            "status" => {
                let status = enums::task_status_from_pb(request.status, "status")?;
                update.status = Some(status.unwrap_or(Status::Open));
            }
            "labels" => {
                update.labels = Some(std::mem::take(&mut request.labels).into_iter().collect());
            }
            "scheduled_for" => {
                update.scheduled_for = Some(time_from_pb(request.scheduled_for, "scheduled_for")?);
            }
            "required_capabilities" => {
                update.required_capabilities =
                    Some(std::mem::take(&mut request.required_capabilities));
            }
            "preferred_capabilities" => {
                update.preferred_capabilities =
                    Some(std::mem::take(&mut request.preferred_capabilities));
            }
            "acceptance" => update.acceptance = Some(std::mem::take(&mut request.acceptance)),
            "attachments" => {
                let list = std::mem::take(&mut request.attachments);
                update.attachments = Some(attachments_from_pb(list)?);
            }
            "skip_review" => update.skip_review = Some(request.skip_review),
            _ => {
                return Err(Error::invalid(
                    "update_mask",
                    "names something that is no field, or not one that is changed so",
                ));
            }
        }
    }
    Ok(update)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::id::{AgentId, AssignmentId, SessionId};
    use crate::domain::Actor;

    fn names<T: std::fmt::Debug>(result: Result<T>, field: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.fields()[0].field, field, "{error}");
    }

    #[test]
    fn every_kind_of_dependency_comes_back() {
        let relations = [
            Relation::Blocks,
            Relation::ParentChild,
            Relation::RelatesTo,
            Relation::References,
            Relation::Supersedes,
            Relation::Duplicates,
            Relation::CausedBy,
            Relation::Validates,
        ];
        let tasks = relations.map(|relation| On::Task {
            relation,
            id: TaskId::from_bits(7),
        });
        let name = "legal".to_owned();
        let gates = [
            Gate::Timer {
                until: Timestamp::from_millis(5),
            },
            Gate::Approval { name: name.clone() },
            Gate::External { name },
        ];
        for on in tasks.into_iter().chain(gates.map(On::Gate)) {
            assert_eq!(target_from_pb(target_to_pb(&on), "on").unwrap(), on);
        }
    }

    #[test]
    fn a_dependency_that_says_two_things_is_refused() {
        let task = target_to_pb(&On::Task {
            relation: Relation::Blocks,
            id: TaskId::from_bits(7),
        });
        let gate = target_to_pb(&On::Gate(Gate::External {
            name: "x".to_owned(),
        }));
        let both = v1::DependencyTarget {
            gate: gate.gate.clone(),
            ..task.clone()
        };
        names(target_from_pb(both, "on"), "on.gate");
        let both = v1::DependencyTarget {
            on_task_id: task.on_task_id.clone(),
            ..gate
        };
        names(target_from_pb(both, "on"), "on.on_task_id");
        names(target_from_pb(Default::default(), "on"), "on.kind");
        let odd = v1::DependencyTarget { kind: 99, ..task };
        names(target_from_pb(odd, "on"), "on.kind");
    }

    #[test]
    fn an_update_changes_what_its_mask_names() {
        let request = v1::UpdateTaskRequest {
            title: "new".to_owned(),
            body: "not named".to_owned(),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["title".to_owned(), "scheduled_for".to_owned()],
            }),
            ..Default::default()
        };
        let update = update_from_pb(request.clone()).unwrap();
        let expected = Update {
            title: Some("new".to_owned()),
            scheduled_for: Some(None),
            ..Update::default()
        };
        assert_eq!(update, expected);
        let odd = v1::UpdateTaskRequest {
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["directory".to_owned()],
            }),
            ..request
        };
        names(update_from_pb(odd), "update_mask");
    }

    #[test]
    fn a_list_leaves_out_what_is_long() {
        let draft = Draft {
            title: "t".to_owned(),
            body: "long".to_owned(),
            ..Draft::default()
        };
        let by = Actor::server();
        let mut task = Task::new(TaskId::from_bits(1), draft, &by, Timestamp::EPOCH);
        for n in 1..=2 {
            let (id, agent) = (AssignmentId::from_bits(n), AgentId::from_bits(n));
            task.start(id, agent, SessionId::from_bits(n), &by, Timestamp::EPOCH)
                .unwrap();
            if n == 1 {
                task.hand_off("", None, &by, Timestamp::EPOCH).unwrap();
            }
        }
        let whole = task_to_pb(&task, 5, &Standing::default(), false);
        assert_eq!((whole.body.as_str(), whole.etag.as_str()), ("long", "5"));
        assert_eq!(whole.past_assignments.len(), 1);
        assert_eq!(
            whole.assignment.clone().unwrap().agent_id,
            AgentId::from_bits(2).to_string()
        );
        let brief = task_to_pb(&task, 5, &Standing::default(), true);
        assert!(brief.body.is_empty() && brief.history.is_empty());
        assert!(brief.past_assignments.is_empty());
        assert_eq!(brief.assignment, whole.assignment);
    }
}
