//! Sessions with very much of something: deleted, and looked at a page at a time.

use super::*;
use crate::base::id::PromptId;
use crate::base::json::Json;
use crate::domain::Prompt;
use crate::domain::narrowing::{Narrowing, Project};
use crate::domain::prompt::{AnswerDelivery, PromptKind, PromptState};
use crate::domain::session::Gone;
use crate::store::Records as _;

fn prompt(session: SessionId, id: PromptId, state: PromptState) -> Vec<RecordOp> {
    let prompt = Prompt {
        id,
        session_id: session,
        kind: PromptKind::Permission,
        request_key: "k".to_owned(),
        call_id: String::new(),
        tool: "Bash".to_owned(),
        input: Json::from_value(&serde_json::json!({})),
        plan: String::new(),
        questions: Vec::new(),
        suggestions: Vec::new(),
        summary: String::new(),
        reason: String::new(),
        requested_at: NOW,
        expires_at: None,
        state,
        answer: None,
        delivery: AnswerDelivery::None,
        note: String::new(),
        command_id: None,
        budget: None,
    };
    let mut ops = vec![
        records::put(records::prompt_key(id), &prompt, Expect::Any).unwrap(),
        records::mark(records::session_prompt_key(session, id), ""),
    ];
    if state == PromptState::Pending {
        ops.push(records::mark(records::pending_prompt_key(id), session));
    }
    ops
}

async fn commit(store: &MemoryStore, ops: Vec<RecordOp>) {
    let commit = Commit {
        ops,
        ..Commit::default()
    };
    store.commit(commit).await.unwrap();
}

/// An ended session with many inputs and prompts.
async fn heavy(store: &MemoryStore, inputs: u128, prompts: u128) -> SessionId {
    let session = session(1, 1, Lifecycle::Ended);
    store.commit(stored(&session)).await.unwrap();
    let mut ops = Vec::new();
    for n in 1..=inputs {
        ops.push(input(session.id, n, InputState::Applied, 0));
    }
    for n in 1..=prompts {
        ops.extend(prompt(
            session.id,
            PromptId::from_bits(n),
            PromptState::Answered,
        ));
    }
    let mut ops = ops.into_iter();
    loop {
        let lot: Vec<_> = ops.by_ref().take(10_000).collect();
        if lot.is_empty() {
            return session.id;
        }
        commit(store, lot).await;
    }
}

async fn left(store: &MemoryStore, session: SessionId) -> usize {
    let mut left = 0;
    for prefix in [
        records::session_key(session),
        records::input_prefix(session),
        records::session_prompt_prefix(session),
        records::PROMPTS.to_owned(),
        records::DELETING.to_owned(),
    ] {
        left += store.scan(&prefix, None, 10).await.unwrap().len();
    }
    left + usize::from(
        store
            .head(&Stream::session(session))
            .await
            .unwrap()
            .is_some(),
    )
}

#[tokio::test]
async fn a_session_with_many_records_is_deleted_in_commits_that_a_store_takes() {
    let store = memory::shared(clock());
    let prompts = 2_500;
    let id = heavy(&store, 2_600, prompts).await;
    let app = app(store.clone(), sessions::Options::default()).await;
    let before = *store.watch_revision().borrow();
    app.delete_session(&caller(), id).await.unwrap();
    assert_eq!(left(&store, id).await, 0);
    // Two lots of at most 5,000, and the mark. At the most about 512 bytes each, they are far below 16 MiB.
    let commits = *store.watch_revision().borrow() - before;
    assert_eq!(commits, 3);
    // Who watched it is told of every prompt.
    let gone = store.scan(records::GONE, None, 1_000).await.unwrap();
    let told = gone
        .iter()
        .map(|record| records::decode::<Gone>(record).unwrap().prompts.len());
    assert_eq!(told.sum::<usize>() as u128, prompts);
    let again = app.delete_session(&caller(), id).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
}

#[tokio::test]
async fn a_deletion_that_a_crash_interrupted_is_finished_at_the_next_start() {
    let store = memory::shared(clock());
    let id = heavy(&store, 5_500, 100).await;
    let key = records::session_key(id);
    let mark = records::mark(records::deleting_key(id), "");
    commit(&store, vec![records::remove(key), mark]).await;
    app(store.clone(), sessions::Options::default()).await;
    assert_eq!(left(&store, id).await, 0);
}

#[tokio::test]
async fn a_session_with_a_long_log_is_deleted_with_its_content() {
    let store = memory::shared(clock());
    let session = session(1, 1, Lifecycle::Ended);
    store.commit(stored(&session)).await.unwrap();
    let stream = Stream::session(session.id);
    let mut last = 1;
    let mut names = Vec::new();
    for lot in 0..11 {
        let (mut bodies, mut ops) = (Vec::new(), Vec::new());
        for n in 0..1_000 {
            let mut blocks = Vec::new();
            if n % 50 == 0 {
                let content = ContentRef::of(format!("{lot}/{n}").as_bytes(), "text/plain");
                ops.push(store.refer_op(&stream, &content.sha256));
                names.push(content.sha256.clone());
                blocks.push(Block::Content(content));
            }
            bodies.push(EventBody::Message {
                role: Role::Agent,
                blocks,
                message_id: String::new(),
                parent_call_id: String::new(),
            });
        }
        let commit = Commit {
            appends: vec![append(session.id, last, bodies)],
            ops,
            trims: Vec::new(),
        };
        store.commit(commit).await.unwrap();
        last += 1_000;
    }
    let app = app(store.clone(), sessions::Options::default()).await;
    let before = *store.watch_revision().borrow();
    app.delete_session(&caller(), session.id).await.unwrap();
    assert_eq!(left(&store, session.id).await, 0);
    // Its references do not go in the commit that drops the log, which may not be able to hold them.
    assert!(*store.watch_revision().borrow() - before > 2);
    for name in &names {
        assert!(!store.refers(&stream, name).await.unwrap());
    }
}

#[tokio::test]
async fn the_prompts_of_one_session_are_found_without_reading_those_of_others() {
    let store = memory::shared(clock());
    let mut expected = Vec::new();
    let few = session(1, 1, Lifecycle::Running);
    for n in [1, 2] {
        let session = session(n, 1, Lifecycle::Running);
        store.commit(stored(&session)).await.unwrap();
    }
    for n in 1..=5_000 {
        let id = PromptId::from_bits(n);
        let (of, state) = match n % 500 {
            7 => (few.id, PromptState::Answered),
            9 => (few.id, PromptState::Pending),
            10 => (SessionId::from_bits(2), PromptState::Pending),
            _ => (SessionId::from_bits(2), PromptState::Answered),
        };
        if of == few.id {
            expected.push((state != PromptState::Pending, id));
        }
        commit(&store, prompt(of, id, state)).await;
    }
    // Those that wait, oldest first; then the others, newest first.
    let (settled, waiting): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(is, _)| *is);
    let expected: Vec<PromptId> = waiting
        .iter()
        .chain(settled.iter().rev())
        .map(|(_, id)| *id)
        .collect();
    let app = app(store.clone(), sessions::Options::default()).await;
    let (mut found, mut page) = (Vec::new(), first(4));
    loop {
        let before = store.records_read();
        let answer = app.list_prompts(&caller(), Some(few.id), &[], &page).await;
        let answer = answer.unwrap();
        let read = store.records_read() - before;
        assert!(read <= 60, "{read} records read for a page of four");
        found.extend(answer.items.iter().map(|(prompt, _)| prompt.id));
        match answer.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, expected);

    // Who does not see the session learns nothing of how many there are.
    let narrowed = Caller {
        narrowing: Some(Narrowing::default()),
        ..caller()
    };
    let before = store.records_read();
    let many = Some(SessionId::from_bits(2));
    let answer = app.list_prompts(&narrowed, many, &[], &first(1)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.items.len(), answer.next), (0, None));
    assert_eq!(store.records_read() - before, 1);
}

#[tokio::test]
async fn a_narrowed_list_looks_at_so_much_at_a_time_and_misses_nothing() {
    let store = memory::shared(clock());
    let at = |n: u64| Timestamp::from_millis(1_000 + i64::try_from(n / 10).unwrap());
    let (mut sessions, mut prompts) = (Vec::new(), Vec::new());
    // Its marks are not looked at.
    commit(
        &store,
        vec![records::mark("index/sessions".to_owned(), "1")],
    )
    .await;
    for lot in 0..12_u64 {
        let mut ops = Vec::new();
        for n in lot * 1_000..(lot + 1) * 1_000 {
            let mut session = session(1, 1, Lifecycle::Ended);
            session.id = SessionId::new(at(n), u128::from(n));
            let is_own = n % 3_001 == 5;
            session.cwd = if is_own { "/own" } else { "/other" }.to_owned();
            let id = PromptId::new(at(n), u128::from(n));
            if is_own {
                sessions.insert(0, session.id);
                prompts.insert(0, id);
            }
            let key = records::session_key(session.id);
            ops.push(records::put(key, &session, Expect::Absent).unwrap());
            ops.extend(prompt(session.id, id, PromptState::Answered));
        }
        commit(&store, ops).await;
    }
    let app = app(store.clone(), sessions::Options::default()).await;
    let narrowed = Caller {
        narrowing: Some(Narrowing {
            projects: vec![Project {
                directory: "/own".to_owned(),
                daemon_id: None,
            }],
            sessions: Vec::new(),
        }),
        ..caller()
    };
    let most = 10_600;
    let (found, read) = pages_of(&app, &store, &narrowed, &SessionFilter::default()).await;
    assert_eq!(found, sessions);
    assert!(read <= most, "{read} records read for a page");

    let (mut found, mut page) = (Vec::new(), first(10));
    loop {
        let before = store.records_read();
        let answer = app.list_prompts(&narrowed, None, &[], &page).await.unwrap();
        // Beside each prompt its session is looked at.
        let read = store.records_read() - before;
        assert!(read <= 2 * most, "{read} records read for a page");
        found.extend(answer.items.iter().map(|(prompt, _)| prompt.id));
        let Some(next) = answer.next else { break };
        let id: PromptId = next.trim_start_matches("o/").parse().unwrap();
        assert!(
            found.contains(&id) || id == id.first_of_its_time(),
            "a page's key names no prompt that is not seen"
        );
        page.after = Some(next);
    }
    assert_eq!(found, prompts);
}
