//! What the rules cost when there is much history, and what they leave behind.

mod busy;
mod facts;
mod links;
mod lots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::access::{Access, Caller};
use super::retention::Retention;
use super::search::Search;
use super::sessions::{self, Resume, SessionFilter};
use super::{App, records};
use crate::base::clock::ManualClock;
use crate::base::id::{DaemonId, InputId, SessionId, TokenId};
use crate::base::page::PageRequest;
use crate::base::{Code, Timestamp};
use crate::domain::content::ContentRef;
use crate::domain::event::{Origin, Role};
use crate::domain::{
    Actor, Block, Delivery, EndInfo, EndReason, Event, EventBody, Input, InputState, Lifecycle,
    Scope, Session,
};
use crate::relay;
use crate::store::local::LocalStore;
use crate::store::local::compact::Compaction;
use crate::store::memory::MemoryStore;
use crate::store::{
    Append, Commit, Contents as _, Expect, Journal as _, RecordOp, SharedStore, Store as _, Stream,
    memory,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOW))
}

async fn app(store: SharedStore, options: sessions::Options) -> App {
    let clock = clock();
    App::new(
        store.clone(),
        clock.clone(),
        Access::new(store, clock),
        relay::Options::default(),
        Search::in_memory().unwrap(),
        options,
        Default::default(),
    )
    .await
    .unwrap()
}

fn session(n: u128, daemon: u128, lifecycle: Lifecycle) -> Session {
    let daemon = DaemonId::from_bits(daemon);
    let mut session = Session::new(
        SessionId::from_bits(n),
        daemon,
        "demo".to_owned(),
        Actor::server(),
        NOW,
    );
    session.lifecycle = lifecycle;
    if lifecycle == Lifecycle::Ended {
        session.end = Some(EndInfo::because(EndReason::Completed, ""));
    }
    session
}

/// What a store of an earlier version has of a session: its record, its mark if it lives, and one event.
fn stored(session: &Session) -> Commit {
    let mut ops =
        vec![records::put(records::session_key(session.id), session, Expect::Absent).unwrap()];
    if session.lifecycle.is_living() {
        let key = records::living_key(session.daemon_id, session.id);
        ops.push(records::mark(key, ""));
    }
    let created = EventBody::SessionCreated {
        daemon_id: session.daemon_id,
        harness: session.harness.clone(),
        cwd: String::new(),
        resumed_from: None,
        forked_from: None,
    };
    Commit {
        appends: vec![append(session.id, 0, vec![created])],
        ops,
        trims: Vec::new(),
    }
}

fn append(id: SessionId, last: u64, bodies: Vec<EventBody>) -> Append {
    let entries = bodies.into_iter().enumerate().map(|(index, body)| {
        let mut event = Event::new(id, Origin::Server, NOW, body);
        event.seq = last + index as u64 + 1;
        crate::wire::encode_event(&event)
    });
    Append {
        stream: Stream::session(id),
        expected_last: last,
        fence: 0,
        entries: entries.collect(),
        origin: None,
        time: NOW,
    }
}

fn input(session: SessionId, n: u128, state: InputState, position: u32) -> RecordOp {
    let input = Input {
        id: InputId::from_bits(n),
        session_id: session,
        text: n.to_string(),
        delivery: Delivery::Queue,
        state,
        actor: Actor::server(),
        created_at: NOW,
        position,
        reason: String::new(),
        command_id: None,
    };
    records::put(records::input_key(session, input.id), &input, Expect::Any).unwrap()
}

fn first(size: usize) -> PageRequest {
    PageRequest { size, after: None }
}

fn caller() -> Caller {
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

/// All pages of sessions, and the most records that one page read.
async fn pages(app: &App, store: &MemoryStore, filter: &SessionFilter) -> (Vec<SessionId>, u64) {
    pages_of(app, store, &caller(), filter).await
}

async fn pages_of(
    app: &App,
    store: &MemoryStore,
    caller: &Caller,
    filter: &SessionFilter,
) -> (Vec<SessionId>, u64) {
    let (mut ids, mut most, mut page) = (Vec::new(), 0, first(10));
    loop {
        let before = store.records_read();
        let answer = app.list_sessions(caller, filter, &page).await.unwrap();
        most = most.max(store.records_read() - before);
        ids.extend(answer.items.iter().map(|shown| shown.session.id));
        match answer.next {
            Some(next) => page.after = Some(next),
            None => return (ids, most),
        }
    }
}

#[tokio::test]
async fn few_sessions_among_many_are_found_without_reading_all() {
    let store = memory::shared(clock());
    let mut expected = BTreeMap::new();
    for n in 1..=5_000 {
        let (daemon, lifecycle) = match n % 1_000 {
            3 => (7, Lifecycle::Running),
            5 => (7, Lifecycle::Suspended),
            8 => (7, Lifecycle::Ended),
            _ => (1, Lifecycle::Ended),
        };
        if daemon == 7 {
            expected.insert(SessionId::from_bits(n), lifecycle);
        }
        store
            .commit(stored(&session(n, daemon, lifecycle)))
            .await
            .unwrap();
    }
    let app = app(store.clone(), sessions::Options::default()).await;
    let of = |wanted: &dyn Fn(Lifecycle) -> bool| -> Vec<SessionId> {
        let found = expected.iter().rev().filter(|(_, state)| wanted(**state));
        found.map(|(id, _)| *id).collect()
    };
    let living = SessionFilter {
        lifecycles: vec![Lifecycle::Running, Lifecycle::Suspended],
        ..SessionFilter::default()
    };
    let (found, read) = pages(&app, &store, &living).await;
    assert_eq!(found, of(&|state| state != Lifecycle::Ended));
    assert!(read <= 50, "{read} records read for a page of ten");
    let daemon = SessionFilter {
        daemon_id: Some(DaemonId::from_bits(7)),
        ..SessionFilter::default()
    };
    let (found, read) = pages(&app, &store, &daemon).await;
    assert_eq!(found, of(&|_| true));
    assert!(read <= 50, "{read} records read for a page of ten");
    let (found, read) = pages(&app, &store, &SessionFilter::default()).await;
    assert_eq!(found.len(), 5_000);
    assert!(read <= 300, "{read} records read for a page of ten");

    // The marks follow: one ends, one is deleted.
    assert_eq!(app.sessions().living_count(None), 5);
    let id = SessionId::from_bits(3);
    let end = |step: &mut sessions::Step<'_>| {
        step.end(EndInfo::because(EndReason::Stopped, "enough"), false)
    };
    app.sessions().step(id, end).await.unwrap();
    app.delete_session(&caller(), SessionId::from_bits(8))
        .await
        .unwrap();
    let (found, _) = pages(&app, &store, &living).await;
    assert_eq!(found.len(), 9);
    assert!(!found.contains(&id));
    let (found, _) = pages(&app, &store, &daemon).await;
    assert_eq!(found.len(), 14);
    assert!(found.contains(&id) && !found.contains(&SessionId::from_bits(8)));

    // How many live is known without reading anything.
    let before = store.records_read();
    assert_eq!(app.sessions().living_count(None), 4);
    assert_eq!(app.sessions().living_count(Some(DaemonId::from_bits(7))), 4);
    assert_eq!(app.sessions().living(Some(DaemonId::from_bits(1))), []);
    assert_eq!(store.records_read(), before);
}

#[tokio::test]
async fn a_page_of_inputs_reads_about_a_page() {
    let store = memory::shared(clock());
    let session = session(1, 1, Lifecycle::Running);
    store.commit(stored(&session)).await.unwrap();
    let mut queue = Vec::new();
    let mut settled = Vec::new();
    for n in 1..=5_000 {
        // Some of the oldest still wait, in another order than they came in.
        let (state, position) = match n {
            n if n % 100 == 0 => (InputState::Queued, 1_000 - u32::try_from(n / 100).unwrap()),
            _ => (InputState::Applied, 0),
        };
        match state {
            InputState::Queued => queue.insert(0, InputId::from_bits(n)),
            _ => settled.insert(0, InputId::from_bits(n)),
        }
        let ops = vec![input(session.id, n, state, position)];
        store
            .commit(Commit {
                ops,
                ..Commit::default()
            })
            .await
            .unwrap();
    }
    let app = app(store.clone(), sessions::Options::default()).await;
    let (mut found, mut page) = (Vec::new(), first(30));
    loop {
        let before = store.records_read();
        let answer = app
            .list_inputs(&caller(), session.id, &[], &page)
            .await
            .unwrap();
        let read = store.records_read() - before;
        assert!(read <= 330, "{read} records read for a page of thirty");
        found.extend(answer.items.iter().map(|(input, _)| input.id));
        match answer.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let all: Vec<InputId> = queue.iter().chain(&settled).copied().collect();
    assert_eq!(found, all);
    let waiting = app
        .list_inputs(&caller(), session.id, &[InputState::Queued], &first(1_000))
        .await
        .unwrap();
    assert_eq!(waiting.items.len(), queue.len());

    // Its actor reads what is open, and nothing else.
    let before = store.records_read();
    app.sessions().step(session.id, |_| Ok(())).await.unwrap();
    let read = store.records_read() - before;
    assert!(read <= 2 * queue.len() as u64 + 10, "{read} records read");
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_over_leave_nothing_in_memory() {
    let store = memory::shared(clock());
    let count = 1_000;
    for n in 1..=count {
        let running = session(n, 1, Lifecycle::Running);
        store.commit(stored(&running)).await.unwrap();
    }
    let app = app(store, sessions::Options::default()).await;
    for n in 1..=count {
        let end = |step: &mut sessions::Step<'_>| {
            step.end(EndInfo::because(EndReason::Stopped, "enough"), false)
        };
        app.sessions()
            .step(SessionId::from_bits(n), end)
            .await
            .unwrap();
    }
    assert_eq!(app.sessions().actors() as u128, count);
    // Time is the test's: this takes none.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(app.sessions().actors(), 0);
    assert_eq!(app.sessions().living_count(None), 0);
    assert!(app.transients().is_empty());
}

#[tokio::test]
async fn a_server_that_is_full_continues_no_session_either() {
    let store = memory::shared(clock());
    let old = session(1, 1, Lifecycle::Ended);
    store.commit(stored(&old)).await.unwrap();
    store
        .commit(stored(&session(2, 1, Lifecycle::Running)))
        .await
        .unwrap();
    let options = sessions::Options {
        max_living: 1,
        ..sessions::Options::default()
    };
    let app = app(store, options).await;
    let caller = caller();
    let resumed = app.resume_session(&caller, "", old.id, Resume::default());
    assert_eq!(resumed.await.unwrap_err().code(), Code::AtCapacity);
    let forked = app.fork_session(&caller, "", old.id, String::new());
    assert_eq!(forked.await.unwrap_err().code(), Code::AtCapacity);
}

/// Names of the contents on the disk.
fn contents(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for shard in std::fs::read_dir(dir.join("content")).unwrap() {
        let shard = shard.unwrap();
        if shard.file_name() != "staging" && shard.path().is_dir() {
            for file in std::fs::read_dir(shard.path()).unwrap() {
                names.insert(file.unwrap().file_name().into_string().unwrap());
            }
        }
    }
    names
}

/// Adds an event after `last` that refers to 100,000 of each letter; the contents' names.
async fn says(store: &LocalStore, id: SessionId, last: u64, letters: &[u8]) -> Vec<String> {
    let (mut blocks, mut ops, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for letter in letters {
        let data = Bytes::from(vec![*letter; 100_000]);
        let content = ContentRef::of(&data, "text/plain");
        let whole = store.stage(&content.sha256, content.size_bytes, 0, data);
        assert_eq!(whole.await, Ok(true));
        ops.push(store.refer_op(&Stream::session(id), &content.sha256));
        names.push(content.sha256.clone());
        blocks.push(Block::Content(content));
    }
    let said = EventBody::Message {
        role: Role::Agent,
        blocks,
        message_id: String::new(),
        parent_call_id: String::new(),
    };
    let commit = Commit {
        appends: vec![append(id, last, vec![said])],
        ops,
        trims: Vec::new(),
    };
    store.commit(commit).await.unwrap();
    names
}

#[tokio::test]
async fn content_goes_with_the_last_session_that_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = crate::store::local::Options {
        content_grace: Duration::ZERO,
        ..crate::store::local::Options::new(dir.path())
    };
    let store = Arc::new(LocalStore::open(options).unwrap());
    let (one, two) = (SessionId::from_bits(1), SessionId::from_bits(2));
    for n in [1, 2] {
        store
            .commit(stored(&session(n, 1, Lifecycle::Ended)))
            .await
            .unwrap();
    }
    says(&store, one, 1, b"own").await;
    let shared = says(&store, one, 2, b"s").await;
    says(&store, two, 1, b"early").await;
    says(&store, two, 2, b"t").await;
    let late = says(&store, two, 3, b"ts").await;
    let app = app(store.clone(), sessions::Options::default()).await;
    let sweep = || {
        store.compact(&Compaction::default(), &mut |_| {}).unwrap();
        contents(dir.path())
    };
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
    assert_eq!(sweep().len(), "owneartlys".len(), "each letter once");

    // Trimmed: what only the beginning needed goes; what is said again later stays.
    let retention = Retention {
        max_age: None,
        max_session_bytes: Some(1),
    };
    let removed = app.retain(retention).await.unwrap();
    assert_eq!((removed.sessions, removed.trimmed), (0, 2));
    assert_eq!(sweep(), set(&late));

    // Deleted: what the other one needs stays.
    app.delete_session(&caller(), two).await.unwrap();
    assert_eq!(sweep(), set(&shared));
    app.delete_session(&caller(), one).await.unwrap();
    assert_eq!(sweep(), BTreeSet::new());
    app.sessions().stop().await;
    store.close().await.unwrap();
}
