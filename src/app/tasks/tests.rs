use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::app::access::{Access, Caller};
use crate::app::events::{ChangeBatch, Changed, Tables};
use crate::app::search::Search;
use crate::app::sessions;
use crate::base::clock::ManualClock;
use crate::base::id::{SessionId, TokenId};
use crate::base::page::PageRequest;
use crate::domain::narrowing::{Narrowing, Project};
use crate::domain::task::{Draft, Gate, On, Outcome, Relation, Status, Update};
use crate::domain::{Actor, Agent, AgentRole, AgentRun, AgentSettings, Scope};
use crate::relay;
use crate::store::{Expect, memory};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

struct Rig {
    app: App,
    store: SharedStore,
    clock: Arc<ManualClock>,
}

async fn rig() -> Rig {
    let clock = Arc::new(ManualClock::new(NOW));
    let store: SharedStore = memory::shared(clock.clone());
    for n in 0..60 {
        let kept = Agent {
            id: agent(n),
            settings: AgentSettings::new(&format!("agent {n}"), AgentRole::Worker, "demo"),
            created_by: ana().actor(),
            created_at: NOW,
            updated_at: NOW,
        };
        let ops = vec![
            records::put(records::agent_key(kept.id), &kept, Expect::Absent).unwrap(),
            records::put(
                records::agent_run_key(kept.id),
                &AgentRun::default(),
                Expect::Absent,
            )
            .unwrap(),
        ];
        let commit = Commit {
            ops,
            ..Commit::default()
        };
        store.commit(commit).await.unwrap();
    }
    Rig {
        app: open(store.clone(), clock.clone()).await,
        store,
        clock,
    }
}

async fn open(store: SharedStore, clock: Arc<ManualClock>) -> App {
    let access = Access::new(store.clone(), clock.clone());
    App::new(
        store,
        clock,
        access,
        relay::Options::default(),
        Search::in_memory().unwrap(),
        sessions::Options::default(),
        Default::default(),
    )
    .await
    .unwrap()
}

fn ana() -> Caller {
    Caller {
        token_id: TokenId::from_bits(1),
        name: "ana".to_owned(),
        scope: Scope::Admin,
        daemon_id: None,
        expires_at: None,
        kind: Default::default(),
        made_with: None,
        narrowing: None,
    }
}

fn narrowed(directory: &str) -> Caller {
    let project = Project {
        directory: directory.to_owned(),
        daemon_id: None,
    };
    Caller {
        token_id: TokenId::from_bits(2),
        narrowing: Some(Narrowing {
            projects: vec![project],
            sessions: Vec::new(),
        }),
        ..ana()
    }
}

fn draft(title: &str) -> Draft {
    Draft {
        title: title.to_owned(),
        ..Draft::default()
    }
}

fn to(id: TaskId) -> Target<'static> {
    Target {
        id,
        revision: None,
        request_id: "",
    }
}

fn blocks(id: TaskId) -> On {
    On::Task {
        relation: Relation::Blocks,
        id,
    }
}

fn agent(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

impl Rig {
    async fn make(&self, title: &str) -> TaskId {
        self.make_with(draft(title)).await
    }

    async fn make_with(&self, draft: Draft) -> TaskId {
        // Another millisecond for each, so that age is the order they were made in.
        self.clock.advance(Duration::from_millis(1));
        self.app
            .create_task(&ana(), "", draft)
            .await
            .unwrap()
            .task
            .id
    }

    /// An agent is given a task and begins it.
    async fn begin(&self, id: TaskId, agent: AgentId) -> Task {
        let by = Actor::server();
        let (given, _) = self.app.take_task(id, agent, &by).await.unwrap();
        let assignment = given.living().unwrap().id;
        let session = SessionId::from_bits(1);
        let begun = self
            .app
            .begin_assignment(id, assignment, agent, session, &by);
        begun.await.unwrap()
    }

    async fn ready(&self) -> Vec<TaskId> {
        let page = PageRequest {
            size: 1_000,
            after: None,
        };
        let filter = ReadyFilter::default();
        let page = self.app.list_ready_tasks(&ana(), &filter, &page).await;
        let items = page.unwrap().items;
        items.iter().map(|shown| shown.task.id).collect()
    }

    async fn close(&self, id: TaskId) {
        self.app
            .complete_task(&ana(), to(id), "", Outcome::Closed)
            .await
            .unwrap();
    }
}

// On one thread all fifty read the task before the first of them commits.
#[tokio::test]
async fn of_fifty_who_are_given_a_task_at_once_one_has_it() {
    let rig = rig().await;
    let id = rig.make("wanted").await;
    let mut given = tokio::task::JoinSet::new();
    for n in 1..=50 {
        let app = rig.app.clone();
        given.spawn(async move { (n, app.assign_task(&ana(), to(id), agent(n), "", None).await) });
    }
    let (mut winners, mut holders) = (Vec::new(), BTreeSet::new());
    while let Some(done) = given.join_next().await {
        match done.unwrap() {
            (n, Ok(_)) => winners.push(agent(n).to_string()),
            (_, Err(error)) => {
                assert_eq!(error.code(), Code::AlreadyExists, "{error}");
                holders.insert(error.details()["holder"].clone());
            }
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(holders, winners.into_iter().collect());
    let task = rig.app.task(id).await.unwrap().unwrap();
    assert_eq!(task.assignments.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_dependencies_that_would_make_a_circle_are_never_both_added() {
    let rig = rig().await;
    for round in 0..50 {
        let mut ids = Vec::new();
        for n in 0..4 {
            ids.push(rig.make(&format!("{round} {n}")).await);
        }
        let mut adding = tokio::task::JoinSet::new();
        for n in 0..4 {
            let (app, from, on) = (rig.app.clone(), ids[n], ids[(n + 1) % 4]);
            adding.spawn(async move { app.add_dependency(&ana(), to(from), blocks(on)).await });
        }
        let mut refused = 0;
        while let Some(done) = adding.join_next().await {
            if let Err(error) = done.unwrap() {
                assert_eq!(error.code(), Code::Cycle, "{error}");
                refused += 1;
            }
        }
        assert!(refused >= 1, "round {round}");
        // One of them at least can begin.
        let ready: BTreeSet<_> = rig.ready().await.into_iter().collect();
        assert!(ids.iter().any(|id| ready.contains(id)));
    }
    // What was refused left nothing behind: the other way round is a circle no more than before.
    let (a, b) = (rig.make("a").await, rig.make("b").await);
    rig.app
        .add_dependency(&ana(), to(a), blocks(b))
        .await
        .unwrap();
    let error = rig
        .app
        .add_dependency(&ana(), to(b), blocks(a))
        .await
        .unwrap_err();
    assert_eq!(error.details()["cycle"], format!("{b},{a}"));
    rig.app
        .remove_dependency(&ana(), to(a), blocks(b))
        .await
        .unwrap();
    rig.app
        .add_dependency(&ana(), to(b), blocks(a))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_repeat_is_answered_and_not_done_again() {
    let rig = rig().await;
    let made = rig
        .app
        .create_task(&ana(), "once", draft("t"))
        .await
        .unwrap();
    let again = rig
        .app
        .create_task(&ana(), "once", draft("t"))
        .await
        .unwrap();
    assert_eq!(made.task.id, again.task.id);
    assert_eq!(rig.app.tasks().count(), 1);
    let other = rig
        .app
        .create_task(&ana(), "once", draft("u"))
        .await
        .unwrap_err();
    assert_eq!(other.code(), Code::InvalidInput);
    let target = Target {
        request_id: "assign",
        ..to(made.task.id)
    };
    for _ in 0..2 {
        rig.app
            .assign_task(&ana(), target, agent(1), "", None)
            .await
            .unwrap();
    }
    let delete = Target {
        request_id: "delete",
        ..to(made.task.id)
    };
    for _ in 0..2 {
        rig.app.delete_task(&ana(), delete, true).await.unwrap();
    }
    let gone = rig.app.delete_task(&ana(), to(made.task.id), true).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_change_of_something_that_was_changed_meanwhile_is_refused() {
    let rig = rig().await;
    let id = rig.make("t").await;
    let read = rig.app.get_task(&ana(), id).await.unwrap().revision;
    let update = Update {
        priority: Some(1),
        ..Update::default()
    };
    let target = Target {
        revision: Some(read),
        ..to(id)
    };
    rig.app
        .update_task(&ana(), target, update.clone())
        .await
        .unwrap();
    let error = rig
        .app
        .update_task(&ana(), target, update)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Stale);
    let error = rig
        .app
        .delete_task(&ana(), target, false)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Stale);
}

#[tokio::test]
async fn what_others_depend_on_is_deleted_by_force_only_and_in_one_commit() {
    let rig = rig().await;
    let first = rig.make("first").await;
    let second = rig
        .make_with(Draft {
            dependencies: vec![blocks(first)],
            ..draft("second")
        })
        .await;
    let child = On::Task {
        relation: Relation::ParentChild,
        id: first,
    };
    let third = rig
        .make_with(Draft {
            dependencies: vec![child],
            ..draft("third")
        })
        .await;
    assert_eq!(rig.ready().await, [third]);
    let error = rig
        .app
        .delete_task(&ana(), to(first), false)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    assert_eq!(error.details()["dependents"], format!("{second},{third}"));
    let before = *rig.store.watch_revision().borrow();
    rig.app.delete_task(&ana(), to(first), true).await.unwrap();
    assert_eq!(*rig.store.watch_revision().borrow(), before + 1);
    assert_eq!(rig.ready().await, [second, third]);
    for id in [second, third] {
        assert!(
            rig.app
                .task(id)
                .await
                .unwrap()
                .unwrap()
                .dependencies
                .is_empty()
        );
    }
    // What somebody works on too.
    rig.begin(second, agent(1)).await;
    let error = rig
        .app
        .delete_task(&ana(), to(second), false)
        .await
        .unwrap_err();
    assert_eq!(error.details()["holder"], agent(1).to_string());
    rig.app.delete_task(&ana(), to(second), true).await.unwrap();
    assert_eq!(rig.app.tasks().count(), 1);
}

#[tokio::test]
async fn the_queue_of_an_agent_has_its_own_first_and_then_what_it_can_do() {
    let rig = rig().await;
    let with = |title: &str, priority, needs: &[&str]| Draft {
        priority,
        required_capabilities: needs.iter().map(|need| (*need).to_owned()).collect(),
        ..draft(title)
    };
    let urgent = rig.make_with(with("urgent", 1, &["rust"])).await;
    let python = rig.make_with(with("python", 1, &["python"])).await;
    let minor = rig.make_with(with("minor", 5, &[])).await;
    let other = rig.make_with(with("other's", 1, &[])).await;
    let late = rig.make_with(with("late", 2, &[])).await;
    for (id, to_agent) in [(minor, 1), (other, 2), (late, 1)] {
        rig.app
            .assign_task(&ana(), to(id), agent(to_agent), "", None)
            .await
            .unwrap();
    }
    let skills = ["rust".to_owned()];
    let ready = async |unassigned, limit| {
        let tasks = rig
            .app
            .ready_tasks_for(agent(1), &skills, unassigned, limit);
        let tasks = tasks.await.unwrap();
        tasks.iter().map(|task| task.id).collect::<Vec<_>>()
    };
    assert_eq!(ready(false, 10).await, [late, minor]);
    assert_eq!(ready(true, 10).await, [late, minor, urgent]);
    assert_eq!(ready(true, 1).await, [late]);
    let by = Actor::server();
    let task = rig.begin(late, agent(1)).await;
    assert_eq!(task.status, Status::InProgress);
    // What it works on is not to be begun.
    assert_eq!(ready(true, 10).await, [minor, urgent]);
    let assignment = task.living().unwrap().id;
    rig.app
        .begin_assignment(late, assignment, agent(1), SessionId::from_bits(2), &by)
        .await
        .unwrap();
    let task = rig
        .app
        .release_assignment(late, assignment, "crashed", &by)
        .await
        .unwrap();
    assert_eq!((task.status, task.living()), (Status::Open, None));
    assert_eq!(ready(true, 10).await, [minor, urgent, late]);
    assert!(!ready(true, 10).await.contains(&python));
    let error = rig
        .app
        .begin_assignment(late, assignment, agent(1), SessionId::from_bits(3), &by)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
}

#[tokio::test]
async fn why_says_what_keeps_a_task() {
    let rig = rig().await;
    let first = rig.make("first").await;
    let until = NOW.saturating_add(Duration::from_secs(60));
    let second = rig
        .make_with(Draft {
            priority: 1,
            scheduled_for: Some(until),
            dependencies: vec![
                blocks(first),
                On::Gate(Gate::Approval {
                    name: "legal".to_owned(),
                }),
            ],
            ..draft("second")
        })
        .await;
    let explain = async |id| rig.app.explain_task(&ana(), id).await.unwrap();
    let why = explain(second).await;
    assert!(!why.ready && why.shown.standing.blocked);
    assert_eq!(why.shown.standing.blocked_by, [first]);
    let kinds: Vec<ReasonKind> = why.reasons.iter().map(|reason| reason.kind).collect();
    assert_eq!(
        kinds,
        [ReasonKind::Blocked, ReasonKind::Gate, ReasonKind::Scheduled]
    );
    let why = explain(first).await;
    assert!(why.ready);
    assert_eq!(
        (why.shown.standing.effective_priority, why.urged_by),
        (1, vec![second])
    );
    rig.close(first).await;
    let gate = On::Gate(Gate::Approval {
        name: "legal".to_owned(),
    });
    rig.app
        .remove_dependency(&ana(), to(second), gate)
        .await
        .unwrap();
    assert!(!explain(second).await.ready);
    rig.clock.advance(Duration::from_secs(60));
    assert!(explain(second).await.ready);
    assert_eq!(rig.ready().await, [second]);
}

#[tokio::test]
async fn a_narrowed_caller_sees_and_changes_the_tasks_of_its_directories() {
    let rig = rig().await;
    let in_dir = |title: &str, directory: &str, on: &[TaskId]| Draft {
        directory: directory.to_owned(),
        dependencies: on.iter().map(|id| blocks(*id)).collect(),
        ..draft(title)
    };
    let foreign = rig.make_with(in_dir("foreign", "/srv/b", &[])).await;
    let nowhere = rig.make("nowhere").await;
    let own = rig.make_with(in_dir("own", "/srv/a/x", &[foreign])).await;
    let bob = narrowed("/srv/a");
    let page = PageRequest {
        size: 10,
        after: None,
    };
    let listed = rig
        .app
        .list_tasks(&bob, &TaskFilter::default(), &page)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 1);
    let shown = &listed.items[0];
    // It is blocked, and by what is not said.
    assert!(shown.standing.blocked && shown.standing.blocked_by.is_empty());
    assert!(shown.task.dependencies.is_empty());
    for id in [foreign, nowhere] {
        let error = rig.app.get_task(&bob, id).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let error = rig
            .app
            .add_dependency(&bob, to(own), blocks(id))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let error = rig.app.delete_task(&bob, to(id), true).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
    }
    let error = rig
        .app
        .remove_dependency(&bob, to(own), blocks(foreign))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    for directory in ["", "/srv", "/srv/b"] {
        let error = rig
            .app
            .create_task(&bob, "", in_dir("t", directory, &[]))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Forbidden);
    }
    let mine = rig
        .app
        .create_task(&bob, "", in_dir("t", "/srv/a", &[]))
        .await
        .unwrap()
        .task
        .id;
    // A foreign task that waits for it is not the caller's to change.
    rig.app
        .add_dependency(&ana(), to(foreign), blocks(mine))
        .await
        .unwrap();
    let error = rig.app.delete_task(&bob, to(mine), true).await.unwrap_err();
    assert_eq!(error.code(), Code::Forbidden);
    assert!(!error.to_string().contains(&foreign.to_string()));
}

/// What a start makes of the records is what was there before.
#[tokio::test]
async fn after_a_restart_everything_stands_as_before() {
    let rig = rig().await;
    let mut ids = Vec::new();
    for n in 0..30_usize {
        let on = match n {
            0..=4 => vec![],
            _ => vec![
                blocks(ids[n / 2]),
                On::Task {
                    relation: Relation::ParentChild,
                    id: ids[n - 3],
                },
            ],
        };
        let draft = Draft {
            priority: (n % 5) as u8 + 1,
            dependencies: on,
            scheduled_for: (n % 7 == 0).then(|| NOW.saturating_add(Duration::from_secs(n as u64))),
            ..draft(&n.to_string())
        };
        // Some would wait in a circle with their parents.
        ids_push(&mut ids, rig.app.create_task(&ana(), "", draft).await, &rig).await;
    }
    for n in [3, 7, 11] {
        rig.close(ids[n]).await;
    }
    rig.app
        .assign_task(&ana(), to(ids[1]), agent(1), "b", None)
        .await
        .unwrap();
    rig.app.delete_task(&ana(), to(ids[4]), true).await.unwrap();
    let again = open(rig.store.clone(), rig.clock.clone()).await;
    for id in &ids {
        let (old, new) = (
            rig.app
                .explain_task(&ana(), *id)
                .await
                .map(|e| format!("{e:?}")),
            again
                .explain_task(&ana(), *id)
                .await
                .map(|e| format!("{e:?}")),
        );
        match (old, new) {
            (Ok(old), Ok(new)) => assert_eq!(old, new),
            (Err(old), Err(new)) => assert_eq!(old.code(), new.code()),
            other => panic!("{other:?}"),
        }
    }
    // Not only what is asked: the whole index.
    let whole = |app: &App| app.tasks().ask(|index, _| index::tests::picture(index));
    assert_eq!(whole(&rig.app), whole(&again));
    let before = rig.ready().await;
    let rig = Rig { app: again, ..rig };
    assert_eq!(rig.ready().await, before);
    assert!(before.len() > 2);
}

async fn ids_push(ids: &mut Vec<TaskId>, made: Result<ShownTask>, rig: &Rig) {
    match made {
        Ok(shown) => ids.push(shown.task.id),
        Err(error) => {
            assert_eq!(error.code(), Code::Cycle, "{error}");
            ids.push(rig.make("alone").await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_watches_is_told_of_what_is_blocked_no_longer() {
    let rig = rig().await;
    let first = rig.make("first").await;
    let second = rig
        .make_with(Draft {
            dependencies: vec![blocks(first)],
            ..draft("second")
        })
        .await;
    let closed = rig.make("closed").await;
    rig.close(closed).await;
    let mut all = rig
        .app
        .follow_changes(&ana(), Tables::Tasks(None), 0)
        .await
        .unwrap();
    let mut one = rig
        .app
        .follow_changes(&ana(), Tables::Tasks(Some(second)), 0)
        .await
        .unwrap();
    let missing = rig
        .app
        .follow_changes(&ana(), Tables::Tasks(Some(TaskId::from_bits(9))), 0)
        .await;
    assert_eq!(missing.err().unwrap().code(), Code::NotFound);
    let mut seen = Vec::new();
    while let Ok(batch) = all.next().await {
        match batch {
            ChangeBatch::Changes(changes) => seen.extend(changes),
            ChangeBatch::Progress(_) => break,
            _ => {}
        }
    }
    let ids = |changes: &[crate::app::events::Change]| -> Vec<(TaskId, bool)> {
        changes
            .iter()
            .filter_map(|change| match &change.changed {
                Changed::Task(shown) => Some((shown.task.id, shown.standing.blocked)),
                _ => None,
            })
            .collect()
    };
    // What is closed is not sent first.
    assert_eq!(ids(&seen), [(first, false), (second, true)]);
    while !matches!(one.next().await.unwrap(), ChangeBatch::Progress(_)) {}
    rig.close(first).await;
    for (reader, expected) in [
        (&mut all, vec![(first, false), (second, false)]),
        (&mut one, vec![(second, false)]),
    ] {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            match reader.next().await.unwrap() {
                ChangeBatch::Changes(changes) => seen.extend(ids(&changes)),
                other => panic!("{other:?} after {seen:?}"),
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }
    rig.app
        .delete_task(&ana(), to(second), false)
        .await
        .unwrap();
    loop {
        if let ChangeBatch::Changes(changes) = one.next().await.unwrap() {
            assert!(
                matches!(&changes[..], [c] if matches!(&c.changed, Changed::Deleted(id) if *id == second.to_string()))
            );
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_task_is_remembered_for_a_day() {
    let rig = rig().await;
    let id = rig
        .make_with(Draft {
            directory: "/srv/a".to_owned(),
            ..draft("t")
        })
        .await;
    let bob = narrowed("/srv/a");
    let from = *rig.store.watch_revision().borrow();
    rig.app.delete_task(&ana(), to(id), false).await.unwrap();
    for (caller, told) in [(bob, true), (narrowed("/srv/b"), false)] {
        let mut reader = rig
            .app
            .follow_changes(&caller, Tables::Tasks(None), from)
            .await
            .unwrap();
        let mut all = String::new();
        loop {
            match reader.next().await.unwrap() {
                ChangeBatch::Progress(_) => break,
                batch => all.push_str(&format!("{batch:?}")),
            }
        }
        assert_eq!(all.contains(&id.to_string()), told, "{all}");
    }
    assert_eq!(rig.app.forget_gone_tasks().await.unwrap(), 0);
    rig.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(rig.app.forget_gone_tasks().await.unwrap(), 1);
    assert!(rig.store.scan("task", None, 10).await.unwrap().is_empty());
}
