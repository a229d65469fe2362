//! Worktrees on the wire: the public record, and what a server and a daemon say about them on the link.

use std::time::Duration;

use super::common::actor_to_pb;
use super::field::{optional_id, required, text};
use super::time::{duration_from_pb, duration_to_pb, required_time, time_from_pb, time_to_pb};
use super::{enums, link_v1 as pb, v1};
use crate::base::id::{CommandId, WorktreeId};
use crate::base::{Code, Error, Result};
use crate::domain::worktree::order::{
    Kept, MAX_COPIED_FILES, MAX_DIFF_BYTES, MAX_DIFF_FILES, MAX_LISTED, MAX_OUTPUT_BYTES,
};
use crate::domain::worktree::{
    Answer, Candidate, Create, Delete, Deleted, Diff, FileChange, Look, Looked, Merge, MergeReport,
    Merged, Order, OrderBody, Outcome, Place, Plan, Recoverable, State, Support,
};
use crate::domain::{Worktree, field};

/// The longest sentence for people, in bytes.
const MAX_REASON_BYTES: usize = 4 * 1024;
/// The longest name of a commit, branch or ref, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// The longest grace period.
const MAX_GRACE: Duration = Duration::from_secs(3_650 * 24 * 3_600);
/// How much of a diff is asked for if nothing else is said.
const DIFF_BYTES: u32 = 256 * 1024;

/// A worktree as protobuf writes it; `state` and `session_ids` are found out by the caller.
pub fn worktree_to_pb(
    worktree: &Worktree,
    state: State,
    session_ids: Vec<String>,
    revision: u64,
) -> v1::Worktree {
    v1::Worktree {
        id: worktree.id.to_string(),
        daemon_id: worktree.daemon_id.to_string(),
        place: Some(place_to_pb(&worktree.place)),
        state: enums::worktree_state_to_pb(state).into(),
        agent_name: worktree.agent_name.clone(),
        task_id: worktree.task_id.clone(),
        title: worktree.title.clone(),
        look: Some(look_to_pb(&worktree.look)),
        looked_at: worktree.looked_at.map(time_to_pb),
        merged: worktree.merged.as_ref().map(merged_to_pb),
        failure: worktree.failure.clone(),
        recover_ref: worktree.recover_ref.clone(),
        session_ids,
        created_at: Some(time_to_pb(worktree.created_at)),
        updated_at: Some(time_to_pb(worktree.updated_at)),
        created_by: Some(actor_to_pb(&worktree.created_by)),
        etag: super::field::etag_of(revision),
    }
}

fn merged_to_pb(merged: &Merged) -> v1::WorktreeMerge {
    v1::WorktreeMerge {
        target: merged.target.clone(),
        commit: merged.commit.clone(),
        head: merged.head.clone(),
        at: Some(time_to_pb(merged.at)),
    }
}

fn place_to_pb(place: &Place) -> v1::WorktreePlace {
    v1::WorktreePlace {
        repository: place.repository.clone(),
        path: place.path.clone(),
        branch: place.branch.clone(),
        branch_created: place.branch_created,
        base: place.base.clone(),
        base_commit: place.base_commit.clone(),
        target: place.target.clone(),
    }
}

fn place_from_pb(place: v1::WorktreePlace) -> Result<Place> {
    const NAME: &str = "place";
    field::path("place.path", &place.path)?;
    field::path("place.repository", &place.repository)?;
    Ok(Place {
        repository: place.repository,
        path: place.path,
        branch: text(place.branch, NAME, MAX_NAME_BYTES)?,
        branch_created: place.branch_created,
        base: text(place.base, NAME, MAX_NAME_BYTES)?,
        base_commit: text(place.base_commit, NAME, MAX_NAME_BYTES)?,
        target: text(place.target, NAME, MAX_NAME_BYTES)?,
    })
}

fn look_to_pb(look: &Look) -> v1::WorktreeLook {
    v1::WorktreeLook {
        head: look.head.clone(),
        size_bytes: look.size_bytes,
        uncommitted: look.uncommitted,
        untracked: look.untracked,
        unmerged: look.unmerged,
        last_used: Some(time_to_pb(look.last_used)),
        missing: look.missing,
    }
}

fn look_from_pb(look: v1::WorktreeLook) -> Result<Look> {
    Ok(Look {
        head: text(look.head, "look.head", MAX_NAME_BYTES)?,
        size_bytes: look.size_bytes,
        uncommitted: look.uncommitted,
        untracked: look.untracked,
        unmerged: look.unmerged,
        last_used: required_time(look.last_used, "look.last_used")?,
        missing: look.missing,
    })
}

/// What a worktree is to be made like, from a request; checked by the rules.
pub fn create_from_pb(request: v1::CreateWorktreeRequest) -> Result<Create> {
    Ok(Create {
        repository: request.repository,
        agent_name: request.agent_name,
        task_id: request.task,
        title: request.title,
        branch: request.branch,
        directory: request.directory,
        base: request.base,
        target: request.target,
        fetch: request.fetch,
        setup: request.setup,
        setup_time: duration_from_pb(request.setup_time, "setup_time")?,
        copy_files: request.copy_files,
        ..Create::default()
    })
}

fn create_to_pb(create: &Create) -> pb::CreateOrder {
    pb::CreateOrder {
        request: Some(v1::CreateWorktreeRequest {
            request_id: String::new(),
            daemon_id: String::new(),
            repository: create.repository.clone(),
            agent_name: create.agent_name.clone(),
            task: create.task_id.clone(),
            title: create.title.clone(),
            branch: create.branch.clone(),
            directory: create.directory.clone(),
            base: create.base.clone(),
            target: create.target.clone(),
            fetch: create.fetch,
            setup: create.setup.clone(),
            setup_time: create.setup_time.map(duration_to_pb),
            copy_files: create.copy_files.clone(),
        }),
        snapshot: create.snapshot.clone(),
        asked_at: Some(time_to_pb(create.asked_at)),
    }
}

/// A merge to do, from a request; checked by the rules.
pub fn merge_from_pb(request: v1::MergeWorktreeRequest) -> Result<Merge> {
    Ok(Merge {
        strategy: enums::merge_strategy_from_pb(request.strategy, "strategy")?.unwrap_or_default(),
        target: request.target,
        subject: request.subject,
        test: request.test,
        test_time: duration_from_pb(request.test_time, "test_time")?,
        allow_uncommitted: request.allow_uncommitted,
    })
}

/// How much of a diff a request wants.
pub fn diff_bytes(asked: u32) -> Result<u32> {
    match asked {
        0 => Ok(DIFF_BYTES),
        bytes if bytes as usize <= MAX_DIFF_BYTES => Ok(bytes),
        bytes => Err(Error::invalid(
            "max_bytes",
            format!("is {bytes}; the most is {MAX_DIFF_BYTES}"),
        )),
    }
}

/// How long a worktree must have been left alone, from a request.
pub fn grace_from_pb(grace: Option<prost_types::Duration>) -> Result<Option<Duration>> {
    let grace = duration_from_pb(grace, "grace")?;
    if grace.is_some_and(|grace| grace > MAX_GRACE) {
        return Err(Error::invalid("grace", "is more than ten years"));
    }
    Ok(grace)
}

/// A merge's result as protobuf writes it.
pub fn report_to_pb(report: &MergeReport) -> v1::MergeReport {
    v1::MergeReport {
        verdict: enums::merge_verdict_to_pb(report.verdict).into(),
        target: report.target.clone(),
        commit: report.commit.clone(),
        head: report.head.clone(),
        conflicts: report.conflicts.clone(),
        output: report.output.clone(),
    }
}

fn report_from_pb(report: v1::MergeReport) -> Result<MergeReport> {
    const NAME: &str = "merged";
    Ok(MergeReport {
        verdict: enums::required(
            enums::merge_verdict_from_pb(report.verdict, NAME),
            "merged.verdict",
        )?,
        target: text(report.target, NAME, MAX_NAME_BYTES)?,
        commit: text(report.commit, NAME, MAX_NAME_BYTES)?,
        head: text(report.head, NAME, MAX_NAME_BYTES)?,
        conflicts: report
            .conflicts
            .into_iter()
            .take(MAX_LISTED)
            .map(|file| text(file, NAME, field::MAX_PATH_BYTES * 4))
            .collect::<Result<_>>()?,
        output: text(report.output, NAME, MAX_OUTPUT_BYTES * 2)?,
    })
}

/// A difference as protobuf writes it.
pub fn diff_to_pb(diff: &Diff) -> v1::WorktreeDiff {
    v1::WorktreeDiff {
        base_commit: diff.base_commit.clone(),
        head: diff.head.clone(),
        patch: diff.patch.clone(),
        truncated: diff.truncated,
        files: diff
            .files
            .iter()
            .map(|file| v1::FileChange {
                path: file.path.clone(),
                added: file.added,
                removed: file.removed,
                binary: file.binary,
            })
            .collect(),
    }
}

fn diff_from_pb(diff: v1::WorktreeDiff) -> Result<Diff> {
    const NAME: &str = "diff";
    Ok(Diff {
        base_commit: text(diff.base_commit, NAME, MAX_NAME_BYTES)?,
        head: text(diff.head, NAME, MAX_NAME_BYTES)?,
        // What is no UTF-8 is three bytes for each that it was.
        patch: text(diff.patch, NAME, MAX_DIFF_BYTES * 3)?,
        truncated: diff.truncated,
        files: diff
            .files
            .into_iter()
            .take(MAX_DIFF_FILES)
            .map(|file| FileChange {
                path: file.path,
                added: file.added,
                removed: file.removed,
                binary: file.binary,
            })
            .collect(),
    })
}

/// What a removal has kept as protobuf writes it.
pub fn recoverable_to_pb(found: &Recoverable) -> v1::RecoverableWorktree {
    v1::RecoverableWorktree {
        recover_ref: found.recover_ref.clone(),
        worktree_id: found.worktree_id.clone(),
        commit: found.commit.clone(),
        head: found.head.clone(),
        branch: found.branch.clone(),
        at: Some(time_to_pb(found.at)),
    }
}

fn recoverable_from_pb(found: v1::RecoverableWorktree) -> Result<Recoverable> {
    const NAME: &str = "recoverable";
    Ok(Recoverable {
        recover_ref: text(found.recover_ref, NAME, MAX_NAME_BYTES)?,
        worktree_id: text(found.worktree_id, NAME, MAX_NAME_BYTES)?,
        commit: text(found.commit, NAME, MAX_NAME_BYTES)?,
        head: text(found.head, NAME, MAX_NAME_BYTES)?,
        branch: text(found.branch, NAME, MAX_NAME_BYTES)?,
        at: required_time(found.at, "recoverable.at")?,
    })
}

/// What a daemon says of its worktrees as the link writes it.
pub fn support_to_pb(support: &Support) -> pb::WorktreeSupport {
    pb::WorktreeSupport {
        available: support.available,
        unavailable_reason: support.unavailable_reason.clone(),
        commands: support.commands,
    }
}

/// What a daemon says of its worktrees; one that says nothing is too old for them.
pub fn support_from_pb(support: Option<pb::WorktreeSupport>) -> Result<Support> {
    let Some(support) = support else {
        return Ok(Support {
            unavailable_reason: "the daemon's version has no worktrees; upgrade it".to_owned(),
            ..Support::default()
        });
    };
    Ok(Support {
        available: support.available,
        unavailable_reason: text(
            support.unavailable_reason,
            "capabilities.worktrees",
            MAX_REASON_BYTES,
        )?,
        commands: support.commands,
    })
}

/// An order as the link writes it.
pub fn order_to_pb(order: &Order) -> pb::WorktreeOrder {
    use pb::worktree_order::Body;
    let body = match &order.body {
        OrderBody::Create(create) => Body::Create(create_to_pb(create)),
        OrderBody::Look => Body::Look(pb::LookOrder {}),
        OrderBody::Diff { max_bytes } => Body::Diff(v1::GetWorktreeDiffRequest {
            worktree_id: String::new(),
            max_bytes: *max_bytes,
        }),
        OrderBody::Merge(merge) => Body::Merge(v1::MergeWorktreeRequest {
            strategy: enums::merge_strategy_to_pb(merge.strategy).into(),
            target: merge.target.clone(),
            subject: merge.subject.clone(),
            test: merge.test.clone(),
            test_time: merge.test_time.map(duration_to_pb),
            allow_uncommitted: merge.allow_uncommitted,
            ..Default::default()
        }),
        OrderBody::Delete(delete) => Body::Delete(v1::DeleteWorktreeRequest {
            force: delete.force,
            delete_branch: delete.delete_branch,
            ..Default::default()
        }),
        OrderBody::Plan(plan) => Body::Plan(pb::PlanOrder {
            repository: plan.repository.clone(),
            grace: plan.grace.map(duration_to_pb),
            keep_ids: plan.keep.iter().map(WorktreeId::to_string).collect(),
        }),
        OrderBody::ListRecoverable { repository } => {
            Body::ListRecoverable(v1::ListRecoverableRequest {
                daemon_id: String::new(),
                repository: repository.clone(),
            })
        }
    };
    let or_empty = |id: Option<String>| id.unwrap_or_default();
    pb::WorktreeOrder {
        worktree_id: or_empty(order.worktree_id.map(|id| id.to_string())),
        operation_id: or_empty(order.operation_id.map(|id| id.to_string())),
        body: Some(body),
    }
}

/// An order from the link. What it may ask for is checked where it is done.
pub fn order_from_pb(order: pb::WorktreeOrder) -> Result<Order> {
    use pb::worktree_order::Body;
    let body = match required(order.body, "order.body")? {
        Body::Create(create) => {
            let request = required(create.request, "order.create.request")?;
            if request.copy_files.len() > MAX_COPIED_FILES {
                return Err(Error::invalid("copy_files", "has too many entries"));
            }
            OrderBody::Create(Box::new(Create {
                snapshot: text(create.snapshot, "order.snapshot", MAX_NAME_BYTES)?,
                asked_at: time_from_pb(create.asked_at, "order.asked_at")?.unwrap_or_default(),
                ..create_from_pb(request)?
            }))
        }
        Body::Look(_) => OrderBody::Look,
        Body::Diff(diff) => OrderBody::Diff {
            max_bytes: diff_bytes(diff.max_bytes)?,
        },
        Body::Merge(merge) => OrderBody::Merge(merge_from_pb(merge)?),
        Body::Delete(delete) => OrderBody::Delete(Delete {
            force: delete.force,
            delete_branch: delete.delete_branch,
        }),
        Body::Plan(plan) => OrderBody::Plan(Plan {
            repository: text(plan.repository, "order.repository", field::MAX_PATH_BYTES)?,
            grace: grace_from_pb(plan.grace)?,
            keep: plan
                .keep_ids
                .iter()
                .map(|id| WorktreeId::parse("order.keep_ids", id))
                .collect::<Result<_>>()?,
        }),
        Body::ListRecoverable(list) => OrderBody::ListRecoverable {
            repository: text(list.repository, "order.repository", field::MAX_PATH_BYTES)?,
        },
    };
    Ok(Order {
        worktree_id: optional_id(&order.worktree_id, "order.worktree_id", WorktreeId::parse)?,
        operation_id: optional_id(&order.operation_id, "order.operation_id", CommandId::parse)?,
        body,
    })
}

/// An answer as the link writes it.
pub fn answer_to_pb(answer: &Answer) -> pb::WorktreeAnswer {
    use pb::worktree_answer::Body;
    let body = match &answer.result {
        Ok(Outcome::Created(place, look)) => Body::Created(pb::WorktreeCreated {
            place: Some(place_to_pb(place)),
            look: Some(look_to_pb(look)),
        }),
        Ok(Outcome::Looked(looked)) => Body::Looked(Box::new(pb::WorktreeLooked {
            look: looked.look.as_ref().map(look_to_pb),
            busy: looked.busy,
            finished: looked.finished.as_ref().map(|kept| {
                Box::new(answer_to_pb(&Answer {
                    result: kept.result(),
                }))
            }),
        })),
        Ok(Outcome::Diff(diff)) => Body::Diff(diff_to_pb(diff)),
        Ok(Outcome::Merged(report)) => Body::Merged(report_to_pb(report)),
        Ok(Outcome::Deleted(deleted)) => Body::Deleted(pb::WorktreeDeleted {
            recover_ref: deleted.recover_ref.clone(),
            branch_deleted: deleted.branch_deleted,
        }),
        Ok(Outcome::Plan(found)) => Body::Plan(pb::WorktreePlan {
            candidates: found
                .iter()
                .map(|found| v1::PrunedWorktree {
                    worktree_id: found.worktree_id.to_string(),
                    reason: found.reason.clone(),
                    size_bytes: found.size_bytes,
                    ..Default::default()
                })
                .collect(),
        }),
        Ok(Outcome::Recoverable(found)) => Body::Recoverable(v1::ListRecoverableResponse {
            recoverable: found.iter().map(recoverable_to_pb).collect(),
        }),
        Err(error) => Body::Error(pb::QueryError {
            code: error.code().to_string(),
            message: error.message().chars().take(MAX_REASON_BYTES / 4).collect(),
            // What is said of an order is certain.
            maybe_done: false,
        }),
    };
    pb::WorktreeAnswer { body: Some(body) }
}

/// An answer from the link.
pub fn answer_from_pb(answer: pb::WorktreeAnswer) -> Result<Answer> {
    // What an operation came to is no look again, which bounds the nesting.
    answer_within(answer, true)
}

fn answer_within(answer: pb::WorktreeAnswer, may_look: bool) -> Result<Answer> {
    use pb::worktree_answer::Body;
    let outcome = match required(answer.body, "answer.body")? {
        Body::Created(created) => Outcome::Created(
            place_from_pb(required(created.place, "answer.created.place")?)?,
            look_from_pb(required(created.look, "answer.created.look")?)?,
        ),
        Body::Looked(looked) if may_look => Outcome::Looked(Box::new(Looked {
            look: looked.look.map(look_from_pb).transpose()?,
            busy: looked.busy,
            finished: match looked.finished {
                Some(answer) => Some(Kept::of(&answer_within(*answer, false)?.result)),
                None => None,
            },
        })),
        Body::Looked(_) => return Err(Error::invalid("answer.finished", "is a look")),
        Body::Diff(diff) => Outcome::Diff(diff_from_pb(diff)?),
        Body::Merged(report) => Outcome::Merged(report_from_pb(report)?),
        Body::Deleted(deleted) => Outcome::Deleted(Deleted {
            recover_ref: text(deleted.recover_ref, "answer.deleted", MAX_NAME_BYTES)?,
            branch_deleted: deleted.branch_deleted,
        }),
        Body::Plan(plan) => Outcome::Plan(
            plan.candidates
                .into_iter()
                .take(MAX_LISTED)
                .map(|found| {
                    Ok(Candidate {
                        worktree_id: WorktreeId::parse("answer.plan", &found.worktree_id)?,
                        reason: text(found.reason, "answer.plan", MAX_REASON_BYTES)?,
                        size_bytes: found.size_bytes,
                    })
                })
                .collect::<Result<_>>()?,
        ),
        Body::Recoverable(list) => Outcome::Recoverable(
            list.recoverable
                .into_iter()
                .take(MAX_LISTED)
                .map(recoverable_from_pb)
                .collect::<Result<_>>()?,
        ),
        Body::Error(error) => {
            return Ok(Answer {
                result: Err(Error::new(
                    Code::parse(&error.code).unwrap_or(Code::GitError),
                    text(error.message, "answer.error", MAX_REASON_BYTES)?,
                )),
            });
        }
    };
    Ok(Answer {
        result: Ok(outcome),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::domain::worktree::{MergeVerdict, Strategy};

    fn there_and_back(body: OrderBody) {
        let order = Order {
            worktree_id: Some(WorktreeId::from_bits(7)),
            operation_id: Some(CommandId::from_bits(9)),
            body,
        };
        assert_eq!(order_from_pb(order_to_pb(&order)).unwrap(), order);
    }

    #[test]
    fn a_daemon_that_says_nothing_of_worktrees_has_none() {
        let support = support_from_pb(None).unwrap();
        assert!(!support.available && support.unavailable_reason.contains("upgrade"));
    }

    #[test]
    fn orders_come_back_as_they_went() {
        there_and_back(OrderBody::Create(Box::new(Create {
            repository: "/srv/x".to_owned(),
            agent_name: "a".to_owned(),
            setup: vec!["true".to_owned()],
            setup_time: Some(Duration::from_secs(3)),
            copy_files: vec![".env".to_owned()],
            snapshot: "refs/x".to_owned(),
            fetch: true,
            asked_at: Timestamp::from_millis(5),
            ..Create::default()
        })));
        there_and_back(OrderBody::Look);
        there_and_back(OrderBody::Diff { max_bytes: 7 });
        there_and_back(OrderBody::Merge(Merge {
            strategy: Strategy::FastForward,
            test: vec!["x".to_owned()],
            ..Merge::default()
        }));
        there_and_back(OrderBody::Delete(Delete {
            force: true,
            delete_branch: true,
        }));
        there_and_back(OrderBody::Plan(Plan {
            repository: String::new(),
            grace: Some(Duration::ZERO),
            keep: vec![WorktreeId::from_bits(3)],
        }));
        there_and_back(OrderBody::ListRecoverable {
            repository: "/x".to_owned(),
        });
    }

    #[test]
    fn answers_come_back_as_they_went() {
        let place = Place {
            repository: "/r".to_owned(),
            path: "/r/w".to_owned(),
            branch: "b".to_owned(),
            branch_created: true,
            ..Place::default()
        };
        let merged = Outcome::Merged(MergeReport {
            verdict: MergeVerdict::Conflict,
            conflicts: vec!["f".to_owned()],
            ..MergeReport::default()
        });
        for outcome in [
            Outcome::Created(place, Look::default()),
            Outcome::Looked(Box::new(Looked {
                look: Some(Look::default()),
                busy: true,
                finished: Some(Kept::of(&Ok(merged.clone()))),
            })),
            merged,
            Outcome::Diff(Diff::default()),
            Outcome::Deleted(Deleted {
                recover_ref: "refs/x".to_owned(),
                branch_deleted: true,
            }),
            Outcome::Plan(vec![Candidate {
                worktree_id: WorktreeId::from_bits(1),
                reason: "r".to_owned(),
                size_bytes: 4,
            }]),
            Outcome::Recoverable(vec![Recoverable::default()]),
        ] {
            let answer = Answer {
                result: Ok(outcome.clone()),
            };
            let back = answer_from_pb(answer_to_pb(&answer)).unwrap();
            assert_eq!(back.result.unwrap(), outcome);
        }
        let refused = Answer {
            result: Err(Error::new(Code::WorktreesDisabled, "none")),
        };
        let back = answer_from_pb(answer_to_pb(&refused)).unwrap();
        assert_eq!(back.result.unwrap_err().code(), Code::WorktreesDisabled);
    }
}
