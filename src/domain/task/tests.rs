use proptest::prelude::*;

use super::*;
use crate::base::id::{AgentId, AssignmentId, SessionId, WorktreeId};
use crate::base::{Code, Result};

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn draft() -> Draft {
    Draft {
        title: "Mend the door".to_owned(),
        ..Draft::default()
    }
}

fn task() -> Task {
    Task::new(TaskId::from_bits(1), draft(), &by(), NOW)
}

fn by() -> Actor {
    Actor::server()
}

fn agent(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

fn asg(n: u128) -> AssignmentId {
    AssignmentId::from_bits(n)
}

fn started() -> Task {
    let mut task = task();
    task.start(asg(1), agent(1), SessionId::from_bits(1), &by(), NOW)
        .unwrap();
    task
}

fn refuses<T: std::fmt::Debug>(result: Result<T>, code: Code) {
    assert_eq!(result.unwrap_err().code(), code);
}

#[test]
fn a_task_moves_by_its_edges_only() {
    use Status::*;
    let edges: [(Status, &[Status]); 6] = [
        (Open, &[InProgress, Deferred, Backlog, Closed]),
        (InProgress, &[Open, Deferred, Review, Closed]),
        (Deferred, &[Open, InProgress, Backlog]),
        (Backlog, &[Open, Deferred, Closed]),
        (Review, &[Closed, InProgress, Open]),
        (Closed, &[Open]),
    ];
    for (from, to) in edges {
        for other in Status::ALL {
            assert_eq!(
                from.may_become(other),
                to.contains(&other),
                "{from:?} {other:?}"
            );
        }
    }
}

#[test]
fn a_task_is_done_reviewed_and_merged() {
    let mut task = task();
    task.assign(asg(1), agent(1), "agent/a/1", None, &by(), NOW)
        .unwrap();
    assert_eq!(task.status, Status::Open);
    task.start(asg(9), agent(1), SessionId::from_bits(1), &by(), NOW)
        .unwrap();
    assert_eq!(task.assignments.len(), 1, "it was given already");
    task.complete("all done", Outcome::Done, &by(), NOW)
        .unwrap();
    assert_eq!(task.status, Status::Review);
    assert_eq!(task.merge_status, MergeStatus::Pending);
    refuses(
        task.complete("", Outcome::Done, &by(), NOW),
        Code::InvalidState,
    );
    refuses(
        task.assign(asg(2), agent(2), "", None, &by(), NOW),
        Code::InvalidState,
    );
    task.complete("", Outcome::Merged, &by(), NOW).unwrap();
    assert_eq!(
        (task.status, task.merge_status),
        (Status::Closed, MergeStatus::Merged)
    );
    assert_eq!(task.assignments[0].state, AssignmentState::Merged);
    assert_eq!(task.summary, "all done");
    assert_eq!(task.closed_at, Some(NOW));
    refuses(
        task.complete("", Outcome::Closed, &by(), NOW),
        Code::InvalidState,
    );
}

#[test]
fn what_needs_no_review_is_closed_at_once_and_what_nobody_began_has_none() {
    let mut quick = started();
    quick.skip_review = true;
    quick.complete("", Outcome::Done, &by(), NOW).unwrap();
    assert_eq!(quick.status, Status::Closed);
    let mut untouched = task();
    refuses(
        untouched.complete("", Outcome::Done, &by(), NOW),
        Code::InvalidState,
    );
    untouched.complete("", Outcome::Closed, &by(), NOW).unwrap();
    assert_eq!(untouched.status, Status::Closed);
}

#[test]
fn one_agent_at_a_time_has_a_task() {
    let mut task = task();
    task.assign(asg(1), agent(1), "", None, &by(), NOW).unwrap();
    let error = task
        .assign(asg(2), agent(2), "", None, &by(), NOW)
        .unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    assert_eq!(error.details()["holder"], agent(1).to_string());
    refuses(
        task.start(asg(2), agent(2), SessionId::from_bits(2), &by(), NOW),
        Code::AlreadyExists,
    );
    // Sessions follow one another under one assignment.
    for session in [1, 2, 2] {
        task.start(asg(9), agent(1), SessionId::from_bits(session), &by(), NOW)
            .unwrap();
    }
    assert_eq!(task.assignments[0].session_ids.len(), 2);
    refuses(
        task.begin(asg(2), agent(1), SessionId::from_bits(3), &by(), NOW),
        Code::InvalidState,
    );
}

#[test]
fn a_hand_off_keeps_branch_and_worktree() {
    let mut task = task();
    let tree = Some(WorktreeId::from_bits(5));
    task.assign(asg(1), agent(1), "agent/a/1", tree, &by(), NOW)
        .unwrap();
    task.start(asg(1), agent(1), SessionId::from_bits(1), &by(), NOW)
        .unwrap();
    // Who had it before says nothing of where it is any more.
    refuses(
        task.set_place(asg(9), "elsewhere", None),
        Code::InvalidState,
    );
    task.hand_off("half of it", None, &by(), NOW).unwrap();
    assert_eq!(task.status, Status::Open);
    assert!(task.living().is_none());
    assert_eq!(task.assignments[0].state, AssignmentState::HandedOff);
    assert_eq!(task.assignments[0].note, "half of it");
    refuses(task.hand_off("", None, &by(), NOW), Code::InvalidState);
    task.assign(asg(2), agent(2), "", None, &by(), NOW).unwrap();
    task.hand_off("to you", Some((asg(3), agent(3))), &by(), NOW)
        .unwrap();
    let holder = task.living().unwrap();
    assert_eq!(
        (holder.agent_id, holder.branch.as_str(), holder.worktree_id),
        (agent(3), "agent/a/1", tree)
    );
    let what: Vec<What> = task.history.iter().map(|entry| entry.what).collect();
    assert_eq!(
        what,
        [
            What::Created,
            What::Assigned,
            What::Started,
            What::HandedOff,
            What::Assigned,
            What::HandedOff,
            What::Assigned
        ]
    );
}

#[test]
fn reopening_may_give_it_to_the_same_agent() {
    let mut task = started();
    refuses(task.reopen("", None, &by(), NOW), Code::InvalidState);
    task.complete("", Outcome::Done, &by(), NOW).unwrap();
    task.reopen("tests are missing", Some(asg(2)), &by(), NOW)
        .unwrap();
    assert_eq!(task.status, Status::Open);
    assert_eq!(task.living().unwrap().agent_id, agent(1));
    task.release("gone", &by(), NOW).unwrap();
    task.complete("", Outcome::Closed, &by(), NOW).unwrap();
    assert!(task.closed_at.is_some());
    task.reopen("", None, &by(), NOW).unwrap();
    assert!(task.living().is_none() && task.closed_at.is_none());
}

#[test]
fn an_update_moves_between_open_deferred_and_backlog_only() {
    let to = |status| Update {
        status: Some(status),
        ..Update::default()
    };
    let mut open = task();
    for status in [Status::Deferred, Status::Backlog, Status::Open] {
        open.update(to(status), &by(), NOW).unwrap();
        assert_eq!(open.status, status);
    }
    for status in [Status::InProgress, Status::Review, Status::Closed] {
        refuses(open.update(to(status), &by(), NOW), Code::InvalidState);
    }
    let mut busy = started();
    refuses(
        busy.update(to(Status::Deferred), &by(), NOW),
        Code::InvalidState,
    );
    assert_eq!(busy.status, Status::InProgress);
    assert!(Update::default().check().is_err());
    let entries = open.history.len();
    // Nothing new is no entry.
    let same = Update {
        priority: Some(3),
        ..Update::default()
    };
    open.update(same, &by(), NOW).unwrap();
    assert_eq!(open.history.len(), entries);
}

#[test]
fn dependencies_are_bounded_and_there_is_one_parent() {
    let mut task = task();
    let on = |relation, n| On::Task {
        relation,
        id: TaskId::from_bits(n),
    };
    task.depend(on(Relation::ParentChild, 2), &by(), NOW)
        .unwrap();
    refuses(
        task.depend(on(Relation::ParentChild, 3), &by(), NOW),
        Code::AlreadyExists,
    );
    assert_eq!(task.parent(), Some(TaskId::from_bits(2)));
    for n in 0..99 {
        task.depend(on(Relation::Blocks, 10 + n), &by(), NOW)
            .unwrap();
    }
    refuses(
        task.depend(on(Relation::Blocks, 200), &by(), NOW),
        Code::LimitExceeded,
    );
    refuses(
        task.depend(on(Relation::Blocks, 10), &by(), NOW),
        Code::AlreadyExists,
    );
    task.undepend(&on(Relation::Blocks, 10), &by(), NOW)
        .unwrap();
    refuses(
        task.undepend(&on(Relation::Blocks, 10), &by(), NOW),
        Code::NotFound,
    );
}

#[test]
fn gates_open_in_their_time() {
    let mut task = task();
    let until = Timestamp::from_millis(5_000);
    let approval = On::Gate(Gate::Approval {
        name: "legal".to_owned(),
    });
    task.depend(On::Gate(Gate::Timer { until }), &by(), NOW)
        .unwrap();
    task.depend(approval.clone(), &by(), NOW).unwrap();
    assert_eq!(task.closed_gates(NOW).count(), 2);
    assert_eq!(task.closed_gates(until).count(), 1);
    assert_eq!(task.wakes_at(), Some(until));
    task.scheduled_for = Some(Timestamp::from_millis(6_000));
    assert_eq!(task.wakes_at(), task.scheduled_for);
    task.undepend(&approval, &by(), NOW).unwrap();
    assert_eq!(task.closed_gates(until).count(), 0);
}

#[test]
fn a_draft_is_checked() {
    type Spoil = fn(&mut Draft);
    assert!(draft().check().is_ok());
    let bad: [(&str, Spoil); 16] = [
        ("title", |d| d.title = " ".to_owned()),
        ("title", |d| d.title = "a\u{202e}b".to_owned()),
        ("body", |d| d.body = "x".repeat(MAX_BODY_BYTES + 1)),
        ("body", |d| d.body = "a\0".to_owned()),
        ("priority", |d| d.priority = 0),
        ("priority", |d| d.priority = 6),
        ("complexity", |d| d.complexity = 6),
        ("status", |d| d.status = Status::Review),
        ("labels", |d| {
            d.labels = BTreeMap::from([("a b".into(), "".into())])
        }),
        ("required_capabilities[0]", |d| {
            d.required_capabilities = vec!["-x".into()]
        }),
        ("preferred_capabilities[1]", |d| {
            d.preferred_capabilities = vec!["x".into(), "x".into()];
        }),
        ("acceptance", |d| d.acceptance = "a\0".to_owned()),
        ("attachments[0].uri", |d| {
            d.attachments = vec![Attachment {
                name: String::new(),
                body: AttachmentBody::Uri("javascript:alert(1)".into()),
            }];
        }),
        ("directory", |d| d.directory = "a/../b".to_owned()),
        ("dependencies[0].gate.name", |d| {
            d.dependencies = vec![On::Gate(Gate::External {
                name: String::new(),
            })];
        }),
        ("dependencies[1]", |d| {
            let parent = |n| On::Task {
                relation: Relation::ParentChild,
                id: TaskId::from_bits(n),
            };
            d.dependencies = vec![parent(1), parent(2)];
        }),
    ];
    for (field, spoil) in bad {
        let mut draft = draft();
        spoil(&mut draft);
        let error = draft.check().unwrap_err();
        assert_eq!(error.fields()[0].field, field, "{error}");
    }
}

#[test]
fn branches_are_names_that_git_takes() {
    for good in ["", "main", "agent/alice/tsk_1-mend", "a.b/ö"] {
        assert!(branch("branch", good).is_ok(), "{good}");
    }
    for bad in [
        "-evil",
        "a..b",
        "a@{1}",
        "@",
        "a b",
        "a\nb",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "a.lock",
        "a.",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "\u{202e}a",
    ] {
        assert!(branch("branch", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_record_comes_back_from_its_json() {
    let mut task = started();
    task.depend(On::Gate(Gate::Timer { until: NOW }), &by(), NOW)
        .unwrap();
    let text = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
}

#[derive(Clone, Debug)]
enum Verb {
    Assign(u128),
    Start(u128),
    Release,
    HandOff(Option<u128>),
    Complete(u8),
    Reopen(bool),
    Move(usize),
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        (1..4u128).prop_map(Verb::Assign),
        (1..4u128).prop_map(Verb::Start),
        Just(Verb::Release),
        proptest::option::of(1..4u128).prop_map(Verb::HandOff),
        (0..3u8).prop_map(Verb::Complete),
        any::<bool>().prop_map(Verb::Reopen),
        (0..6usize).prop_map(Verb::Move),
    ]
}

proptest! {
    /// Whatever is done in whatever order: by edges only, one holder at most, and a refusal changes nothing.
    #[test]
    fn no_order_of_verbs_breaks_a_task(
        skip_review: bool,
        verbs in proptest::collection::vec(verb(), 0..300),
    ) {
        let mut task = task();
        task.skip_review = skip_review;
        for (n, verb) in verbs.into_iter().enumerate() {
            let before = task.clone();
            let id = asg(100 + n as u128);
            let session = SessionId::from_bits(n as u128);
            let done = match verb {
                Verb::Assign(to) => task.assign(id, agent(to), "", None, &by(), NOW),
                Verb::Start(to) => task.start(id, agent(to), session, &by(), NOW),
                Verb::Release => task.release("", &by(), NOW),
                Verb::HandOff(to) => {
                    task.hand_off("n", to.map(|to| (id, agent(to))), &by(), NOW)
                }
                Verb::Complete(how) => {
                    let outcome = [Outcome::Done, Outcome::Closed, Outcome::Merged][how as usize];
                    task.complete("", outcome, &by(), NOW)
                }
                Verb::Reopen(same) => task.reopen("", same.then_some(id), &by(), NOW),
                Verb::Move(to) => {
                    let update = Update { status: Some(Status::ALL[to]), ..Update::default() };
                    task.update(update, &by(), NOW)
                }
            };
            if done.is_err() {
                prop_assert_eq!(&task, &before);
                continue;
            }
            let same = task.status == before.status;
            prop_assert!(
                same || before.status.may_become(task.status),
                "{:?} to {:?}", before.status, task.status
            );
            let living = task.assignments.iter().filter(|a| a.state.is_living()).count();
            prop_assert!(living <= 1);
            prop_assert_eq!(living == 1, task.living().is_some());
            let works = task.living().is_some_and(|a| a.state == AssignmentState::InProgress);
            prop_assert_eq!(works, task.status == Status::InProgress);
            prop_assert!(task.living().is_none()
                || !matches!(task.status, Status::Review | Status::Closed));
            prop_assert_eq!(task.closed_at.is_some(), task.status == Status::Closed);
            prop_assert!(task.history.len() <= MAX_HISTORY);
            prop_assert!(task.assignments.len() <= MAX_ASSIGNMENTS);
        }
    }
}
