//! What tasks and agents cost by their number: `cargo bench --bench tasks -- 100000`. Of ten tasks there is an agent.
//! Prints a table; measures with a store on disk, as a server has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use baton::app::access::{Access, Caller};
use baton::app::agents::AgentFilter;
use baton::app::search::Search;
use baton::app::tasks::{ReadyFilter, Target, TaskFilter};
use baton::app::{App, records};
use baton::base::id::{AgentId, TaskId, TokenId};
use baton::base::page::PageRequest;
use baton::base::{Clock as _, SystemClock, Timestamp};
use baton::domain::task::{Draft, On, Outcome, Relation, Status, Update};
use baton::domain::{Actor, Agent, AgentRole, AgentRun, AgentSettings, Scope, Task};
use baton::store::local::{self, LocalStore};
use baton::store::{Commit, Expect, RecordOp, SharedStore};

/// How often each thing is done; the middle one is shown.
const ROUNDS: usize = 25;

fn id(n: u128) -> TaskId {
    TaskId::new(Timestamp::from_millis(1_700_000_000_000 + n as i64), n)
}

/// A board like one finds: one in ten closed, chains of five, children, labels.
fn task(n: u128) -> Task {
    let dependency = match n % 10 {
        1..=4 if n > 10 => Some((Relation::Blocks, n - 1)),
        5..=7 if n > 10 => Some((Relation::ParentChild, n - n % 10)),
        _ => None,
    };
    let draft = Draft {
        title: format!("Task number {n} of a board with many"),
        body: "What is to be done, in a sentence or two, as people write it down.\n".repeat(4),
        priority: (n % 5) as u8 + 1,
        labels: [("team".to_owned(), format!("t{}", n % 50))].into(),
        directory: "/srv/projects/app".to_owned(),
        dependencies: dependency
            .map(|(relation, n)| On::Task {
                relation,
                id: id(n),
            })
            .into_iter()
            .collect(),
        ..Draft::default()
    };
    let by = Actor::server();
    let now = SystemClock.now();
    let mut task = Task::new(id(n), draft, &by, now);
    if n % 10 == 8 {
        task.complete("", Outcome::Closed, &by, now)
            .expect("an open task can be closed");
    }
    task
}

fn agent_id(n: u128) -> AgentId {
    AgentId::new(Timestamp::from_millis(1_700_000_000_000 + n as i64), n)
}

/// A worker that a scheduler gives tasks to, as its records are.
fn agent_records(n: u128) -> [RecordOp; 2] {
    let mut settings = AgentSettings::new(&format!("worker {n}"), AgentRole::Worker, "demo");
    settings.capabilities = vec!["rust".to_owned()];
    settings.directory = "/srv/projects/app".to_owned();
    let now = SystemClock.now();
    let agent = Agent {
        id: agent_id(n),
        settings: settings.checked().expect("settings"),
        created_by: Actor::server(),
        created_at: now,
        updated_at: now,
    };
    let run = AgentRun::default();
    [
        records::put(records::agent_key(agent.id), &agent, Expect::Any),
        records::put(records::agent_run_key(agent.id), &run, Expect::Any),
    ]
    .map(|op| op.expect("a record"))
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or_default()
}

async fn middle<F: Future>(mut work: impl FnMut(usize) -> F) -> Duration {
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let begun = Instant::now();
        work(round).await;
        all.push(begun.elapsed());
    }
    all.sort_unstable();
    all[ROUNDS / 2]
}

async fn open(store: SharedStore) -> App {
    let clock = SystemClock::shared();
    let access = Access::new(store.clone(), clock.clone());
    let search = Search::in_memory().expect("an index in memory");
    App::new(
        store,
        clock,
        access,
        Default::default(),
        search,
        Default::default(),
        Default::default(),
    )
    .await
    .expect("a server starts")
}

#[tokio::main]
async fn main() {
    let counts: Vec<u128> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let counts = match counts.as_slice() {
        [] => vec![1_000, 100_000],
        given => given.to_vec(),
    };
    for count in counts {
        measure(count).await;
    }
}

async fn measure(count: u128) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(local::Options::new(dir.path().join("store"))).expect("a store");
    let store: SharedStore = Arc::new(store);
    let mut lot = Vec::new();
    for n in 1..=count {
        let task = task(n);
        let op = records::put(records::task_key(task.id), &task, Expect::Any);
        lot.push(op.expect("a task is a record"));
        if lot.len() == 2_000 || n == count {
            let commit = Commit {
                ops: std::mem::take(&mut lot),
                ..Commit::default()
            };
            store.commit(commit).await.expect("a commit");
        }
    }
    let agents = count / 10;
    for first in (1..=agents).step_by(1_000) {
        let ops = (first..(first + 1_000).min(agents + 1)).flat_map(agent_records);
        let commit = Commit {
            ops: ops.collect(),
            ..Commit::default()
        };
        store.commit(commit).await.expect("a commit");
    }
    // One that stays, so that the store's own caches are full and what comes with the next is the index of tasks.
    let warm = open(store.clone()).await;
    let before = rss_kib();
    let begun = Instant::now();
    let app = open(store.clone()).await;
    let load = begun.elapsed();
    let memory = rss_kib().saturating_sub(before);
    drop(warm);
    println!("{count} tasks: start {load:?}, memory {memory} KiB more");

    let caller = Caller {
        token_id: TokenId::generate(SystemClock.now()),
        name: "bench".to_owned(),
        scope: Scope::Admin,
        daemon_id: None,
        narrowing: None,
        expires_at: None,
        kind: Default::default(),
        made_with: None,
    };
    let (app, caller) = (&app, &caller);
    let page = |after: Option<String>| PageRequest { size: 50, after };
    let to = |id| Target {
        id,
        revision: None,
        request_id: "",
    };
    let first = middle(|_| async {
        let filter = ReadyFilter::default();
        let found = app.list_ready_tasks(caller, &filter, &page(None)).await;
        assert_eq!(found.expect("a page").items.len(), 50);
    })
    .await;
    println!("  a page of 50 that are ready: {first:?}");
    let deep = {
        let mut after = None;
        for _ in 0..(count / 500) {
            let filter = ReadyFilter::default();
            let found = app.list_ready_tasks(caller, &filter, &page(after)).await;
            after = found.expect("a page").next;
        }
        middle(|_| {
            let after = after.clone();
            async move {
                let filter = ReadyFilter::default();
                let found = app.list_ready_tasks(caller, &filter, &page(after)).await;
                found.expect("a page");
            }
        })
        .await
    };
    println!("  such a page far in: {deep:?}");
    for (what, filter) in [
        ("a page of all", TaskFilter::default()),
        (
            "a page of those that are open",
            TaskFilter {
                statuses: vec![Status::Open],
                ..TaskFilter::default()
            },
        ),
        (
            "a page of a label that one in 50 has",
            TaskFilter {
                labels: [("team".to_owned(), "t7".to_owned())].into(),
                ..TaskFilter::default()
            },
        ),
        (
            "a search of titles that finds nothing, one call",
            TaskFilter {
                title_contains: "nowhere".to_owned(),
                ..TaskFilter::default()
            },
        ),
    ] {
        let taken = middle(|_| async {
            let found = app.list_tasks(caller, &filter, &page(None)).await;
            found.expect("a page");
        })
        .await;
        println!("  {what}: {taken:?}");
    }
    // Each round another chain, and the commit is part of it.
    let at = |round: usize, n: u128| id(100 + 10 * round as u128 + n);
    let urgent = middle(|round| async move {
        let update = Update {
            priority: Some(if round % 2 == 0 { 1 } else { 5 }),
            ..Update::default()
        };
        let done = app.update_task(caller, to(at(round, 4)), update).await;
        done.expect("a change");
    })
    .await;
    println!("  a change that makes a chain of five urgent: {urgent:?}");
    let circle = middle(|round| async move {
        let on = On::Task {
            relation: Relation::Blocks,
            id: at(round, 4),
        };
        let refused = app.add_dependency(caller, to(at(round, 0)), on).await;
        refused.expect_err("a circle");
    })
    .await;
    println!("  refusing a circle of five: {circle:?}");
    let assign = middle(|round| async move {
        let agent = agent_id(1 + round as u128);
        let done = app
            .assign_task(caller, to(at(round, 9)), agent, "", None)
            .await;
        done.expect("an assignment");
    })
    .await;
    println!("  giving one to an agent: {assign:?}");
    let queue = middle(|round| async move {
        let filter = ReadyFilter {
            agent_id: Some(agent_id(1 + round as u128)),
            unassigned: true,
            capabilities: Some(vec!["rust".to_owned()]),
            ..ReadyFilter::default()
        };
        let found = app.list_ready_tasks(caller, &filter, &page(None)).await;
        assert_eq!(found.expect("a page").items.len(), 50);
    })
    .await;
    println!("  a page of what is ready for one agent: {queue:?}");
    let list = |after: Option<String>| async move {
        let filter = AgentFilter::default();
        let found = app.list_agents(caller, &filter, &page(after)).await;
        found.expect("a page")
    };
    let first = middle(|_| list(None)).await;
    println!("  a page of 50 of {agents} agents: {first:?}");
    let mut after = None;
    for _ in 0..agents / 100 {
        after = list(after).await.next;
    }
    let deep = middle(|_| list(after.clone())).await;
    println!("  such a page in the middle: {deep:?}");
    let explained = middle(|round| async move {
        // One that is ready and that nobody has.
        let explained = app.explain_task(caller, at(round + ROUNDS, 9)).await;
        let explained = explained.expect("an explanation");
        assert!(!explained.candidates.is_empty());
    })
    .await;
    println!("  why a task is not given to any of {agents} agents: {explained:?}");
    let close = middle(|round| async move {
        let done = app
            .complete_task(caller, to(at(round, 2)), "", Outcome::Closed)
            .await;
        done.expect("a completion");
    })
    .await;
    println!("  closing one that another waits for: {close:?}");
}
