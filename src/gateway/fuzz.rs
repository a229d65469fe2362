//! What browsers, pages and older daemons say over plain HTTP and WebSockets, as any bytes: an answer or an error
//! that names what is wrong, and never one of our own.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::ws::{Sockets, Talk, changes, daemon, orchestrator, relay};
use super::{auth, rest, sse};
use crate::app::access::{Access, Caller};
use crate::app::pace::Pace;
use crate::app::search::Search;
use crate::app::{App, records};
use crate::base::clock::ManualClock;
use crate::base::fuzz::Target;
use crate::base::id::{DaemonId, PromptId, SessionId, TokenId};
use crate::base::page::PageRequest;
use crate::base::{Json, Timestamp};
use crate::domain::daemon::Offer;
use crate::domain::event::Origin;
use crate::domain::prompt::{AnswerDelivery, Choice, PromptKind, PromptState, Question};
use crate::domain::{Actor, Daemon, Event, EventBody, Lifecycle, Prompt, Scope, Session};
use crate::store::{Append, Commit, Expect, Journal as _, Stream, memory};

const NOW: Timestamp = Timestamp::from_millis(1_795_240_000_000);

#[test]
fn places_tokens_and_codes() {
    let id = SessionId::from_bits(7);
    let own = format!("{id}:12");
    let seeds = [
        own.as_str(),
        "12",
        "18446744073709551616",
        "ses_:1",
        "{\"code\":\"x\"}",
        "c2VzXzE",
        "Bearer x",
    ];
    Target::new("gateway_places").seeds(seeds).run(|bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            for known in [None, Some(id)] {
                if let Ok((session, seq)) = sse::place(text, known, "field") {
                    let again =
                        sse::place(&format!("{session}:{seq}"), None, "field").expect("it is one");
                    assert_eq!(again, (session, seq));
                }
            }
            if let Ok(page) = PageRequest::parse(0, text)
                && let Some(after) = page.after
            {
                let again = PageRequest::parse(0, &PageRequest::token(&after)).expect("it is one");
                assert_eq!(again.after, Some(after));
            }
            if let Ok(read) = Json::parse("json", text, 1 << 20) {
                assert_eq!(read.as_str(), text, "the text is kept as it came");
                // As a part of other JSON it is the same, or what it is as a tree.
                let raw = read.as_raw().get();
                let is_whole = raw == text.trim_matches([' ', '\t', '\r', '\n']);
                assert!(is_whole || (raw == "null" && read.to_value().is_null()));
                // (A number may be larger than those that a value can have; as a text it is kept.)
                if let Ok(value) = serde_json::from_str::<serde_json::Value>(text) {
                    let again = Json::from_value(&value);
                    assert!(Json::parse("json", again.as_str(), 16 << 20).is_ok());
                }
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let _ = auth::code(&headers, bytes);
        if let Ok(value) = HeaderValue::from_bytes(bytes) {
            headers.insert("last-event-id", value.clone());
            headers.insert("content-type", value);
            let _ = sse::last_event_id(&headers);
            let _ = auth::code(&headers, b"{}");
        }
    });
}

/// A server's inside with one session that asks two things.
struct Rig {
    router: Router,
    app: App,
    pace: Arc<Pace>,
    bridges: daemon::Bridges,
    runtime: tokio::runtime::Runtime,
}

fn session_id() -> SessionId {
    SessionId::from_bits(7)
}

fn caller(scope: Scope) -> Caller {
    Caller {
        token_id: TokenId::from_bits(1),
        name: "ana".to_owned(),
        scope,
        daemon_id: (scope == Scope::Daemon).then(|| DaemonId::from_bits(1)),
        expires_at: None,
        kind: Default::default(),
        made_with: None,
        narrowing: None,
    }
}

fn prompt(n: u128, kind: PromptKind) -> Prompt {
    Prompt {
        id: PromptId::from_bits(n),
        session_id: session_id(),
        kind,
        request_key: format!("req-{n}"),
        call_id: String::new(),
        tool: "Bash".to_owned(),
        input: Json::from_value(&serde_json::json!({"command": "ls"})),
        plan: String::new(),
        questions: vec![Question {
            header: "h".to_owned(),
            text: "Which?".to_owned(),
            options: vec![Choice {
                label: "One".to_owned(),
                description: String::new(),
            }],
            multi_select: true,
        }],
        suggestions: Vec::new(),
        summary: String::new(),
        reason: String::new(),
        requested_at: NOW,
        expires_at: None,
        state: PromptState::Pending,
        answer: None,
        delivery: AnswerDelivery::None,
        note: String::new(),
        command_id: None,
        budget: None,
    }
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let clock = Arc::new(ManualClock::new(NOW));
        let store = memory::shared(clock.clone());
        let mut session = Session::new(
            session_id(),
            DaemonId::from_bits(1),
            "claude-code".to_owned(),
            Actor::server(),
            NOW,
        );
        session.lifecycle = Lifecycle::Running;
        session.cwd = "/srv/proj".to_owned();
        let here = Daemon {
            id: DaemonId::from_bits(1),
            name: "here".to_owned(),
            token_id: TokenId::from_bits(2),
            offer: Offer::default(),
            attached: false,
            since: NOW,
            link_epoch: 1,
            boot_generation: 1,
            draining: false,
            created_at: NOW,
            link_changes: Vec::new(),
        };
        let mut ops = vec![
            records::put(records::session_key(session.id), &session, Expect::Absent)
                .expect("a record"),
            records::mark(records::living_key(session.daemon_id, session.id), ""),
            records::put(records::daemon_key(here.id), &here, Expect::Absent).expect("a record"),
        ];
        for (n, kind) in [(3, PromptKind::Permission), (4, PromptKind::Question)] {
            let prompt = prompt(n, kind);
            ops.push(
                records::put(records::prompt_key(prompt.id), &prompt, Expect::Any)
                    .expect("a record"),
            );
            ops.push(records::mark(
                records::session_prompt_key(prompt.session_id, prompt.id),
                "",
            ));
            ops.push(records::mark(records::pending_prompt_key(prompt.id), ""));
        }
        let mut created = Event::new(
            session.id,
            Origin::Server,
            NOW,
            EventBody::SessionCreated {
                daemon_id: session.daemon_id,
                harness: session.harness.clone(),
                cwd: session.cwd.clone(),
                resumed_from: None,
                forked_from: None,
            },
        );
        created.seq = 1;
        let (router, app) = runtime.block_on(async {
            let commit = Commit {
                appends: vec![Append {
                    stream: Stream::session(session_id()),
                    expected_last: 0,
                    fence: 0,
                    entries: vec![crate::wire::encode_event(&created)].into(),
                    origin: None,
                    time: NOW,
                }],
                ops,
                trims: Vec::new(),
            };
            store.commit(commit).await.expect("stored");
            let app = App::new(
                store.clone(),
                clock.clone(),
                Access::new(store, clock),
                Default::default(),
                Search::in_memory().expect("a search"),
                Default::default(),
                Default::default(),
            )
            .await
            .expect("an app");
            let pace = Arc::new(Pace::default());
            let sockets = Sockets::default();
            let routes = rest::relay::routes(app.clone(), sockets.clone(), pace.clone()).merge(
                rest::orchestrator::routes(app.clone(), sockets, pace, "/nowhere".into()),
            );
            (routes.into_parts().0, app)
        });
        Rig {
            router,
            app,
            pace: Arc::new(Pace::default()),
            bridges: daemon::Bridges::default(),
            runtime,
        }
    }

    /// One request: its method and path in the first line, its body behind.
    fn request(&self, bytes: &[u8]) {
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(bytes.len());
        let (line, body) = bytes.split_at(end);
        let Ok(line) = std::str::from_utf8(line) else {
            return;
        };
        let (method, path) = line.split_once(' ').unwrap_or(("GET", line));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(caller(Scope::Admin))
            .body(Body::from(body.get(1..).unwrap_or_default().to_vec()));
        // What is no HTTP is hyper's to refuse.
        let Ok(request) = request else { return };
        self.runtime.block_on(async {
            let response = self
                .router
                .clone()
                .oneshot(request)
                .await
                .expect("infallible");
            let status = response.status();
            assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{line}");
            let is_json = response
                .headers()
                .get("content-type")
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
            if is_json {
                let body = response
                    .into_body()
                    .collect()
                    .await
                    .expect("a body")
                    .to_bytes();
                let said: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                assert!(
                    status.is_success() || said.is_object(),
                    "an error says what it is: {said}"
                );
            }
        });
    }

    fn say(&self, talk: &mut impl Talk, text: &str) -> usize {
        self.runtime.block_on(async {
            let answer = talk.hear(text).await;
            // What became of it, as far as it has come.
            for _ in 0..4 {
                let Some(next) = talk.next().now_or_never() else {
                    break;
                };
                if next.is_err() {
                    break;
                }
                talk.written();
            }
            tokio::task::yield_now().await;
            answer.len()
        })
    }
}

const SAID: &[&str] = &[
    r#"{"type":"subscribe","after":0}"#,
    r#"{"type":"user_input","text":"hello"}"#,
    r#"{"type":"permission_response","request_id":"req-3","allow":true,"updatedInput":{"command":"ls"}}"#,
    r#"{"type":"control_response","request_id":"req-4","allow":true,"updatedInput":{"answers":{"Which?":["One","x"]}}}"#,
    r#"{"type":"question_response","tool_use_id":"req-4","answer":"One"}"#,
    r#"{"type":"interrupt"}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"subscribe","agentId":"agt_01KAJZ0000000000000000AAAA"}"#,
    r#"{"type":"input","input":"ls\n","isUserMessage":true}"#,
    r#"{"type":"resize","cols":80,"rows":24}"#,
    r#"{"type":"subscribe","channels":["tasks","task:x","*"],"after":0}"#,
    r#"{"type":"unsubscribe","channels":["tasks"]}"#,
    r#"{"type":"daemon_connected","client_id":"here","capabilities":{"can_spawn_sessions":true,"spawnable_harnesses":[{"id":"claude-code","available":true}]},"active_sessions":["SESSION"]}"#,
    r#"{"type":"session_output","session_id":"SESSION","messages":[{"type":"system","subtype":"init","session_id":"c"},{"type":"assistant","message":{"id":"m","role":"assistant","content":[{"type":"text","text":"hi"}]}}]}"#,
    r#"{"type":"session_ended","session_id":"SESSION","exit_code":0}"#,
    r#"{"type":"control_request","session_id":"SESSION","request_id":"r1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"true"}}}"#,
    r#"{"type":"question_prompt","session_id":"SESSION","tool_use_id":"t","question":"Which?","options":["a"]}"#,
    r#"{"type":"permission_prompt","session_id":"SESSION","request_id":"r2","tool":"Bash","details":{"command":"ls"}}"#,
    r#"{"type":"session_diff","session_id":"SESSION","diff":"--- a","modified_files":["a"]}"#,
    r#"{"type":"session_metadata","session_id":"SESSION","agent_session_id":"c","branch":"main"}"#,
];

const REQUESTS: &[&str] = &[
    "POST /api/sessions/spawn\n{\"harness\":\"claude-code\",\"cwd\":\"/srv\",\"task\":\"go\",\"permission_mode\":\"ask\"}",
    "GET /api/sessions/spawned",
    "GET /api/sessions/SESSION/info",
    "POST /api/sessions/SESSION/resume\n{\"task\":\"on\"}",
    "GET /api/daemon/list",
    "POST /api/daemon/enroll\n{\"name\":\"x\"}",
    "GET /api/health",
    "GET /api/agents?role=worker&limit=5&offset=0",
    "POST /api/agents\n{\"name\":\"alice\",\"role\":\"worker\",\"workerMode\":\"ephemeral\",\"triggers\":[{\"type\":\"cron\",\"schedule\":\"0 9 * * *\"}],\"tags\":[\"a\"]}",
    "PATCH /api/agents/alice\n{\"name\":\"bob\"}",
    "GET /api/agents/alice/status",
    "POST /api/agents/alice/start\n{\"taskId\":\"tsk_01KAJZ0000000000000000AAAA\",\"cols\":80,\"rows\":24}",
    "GET /api/sessions?status=running&limit=10&cursor=x",
    "GET /api/sessions/SESSION/messages?after=SESSION:0",
    "GET /api/worktrees/%2e%2e%2fetc?x=%00",
    "POST /api/worktrees\n{\"agentName\":\"alice\",\"taskId\":\"t\",\"branch\":\"-x\",\"path\":\"../x\"}",
    "GET /api/tasks?status=open,closed&assignee=x&limit=1000&page=c2Vz",
    "POST /api/tasks\n{\"title\":\"t\",\"priority\":3,\"complexity\":2,\"labels\":{\"a\":\"b\"},\"tags\":[\"x\"],\"scheduledFor\":\"2026-01-01T00:00:00Z\"}",
    "POST /api/tasks/tsk_1/dependencies\n{\"blockerId\":\"tsk_2\",\"type\":\"blocks\"}",
    "POST /api/tasks/unassigned/assign\n{\"agentId\":\"alice\",\"branch\":\"main\"}",
    "DELETE /api/tasks/tsk_1/dependencies/tsk_2?etag=3",
];

fn named(texts: &[&str]) -> Vec<String> {
    let id = session_id().to_string();
    texts
        .iter()
        .map(|text| text.replace("SESSION", &id))
        .collect()
}

/// One rig serves so many inputs, so that none has all that came before.
const INPUTS_OF_A_RIG: usize = 100;

#[test]
fn rest_requests() {
    let mut rig = Rig::new();
    let mut served = 0;
    Target::new("gateway_rest")
        .seeds(named(REQUESTS))
        .pieces(3)
        .weighs(10)
        .run_all(|pieces| {
            served += 1;
            if served % INPUTS_OF_A_RIG == 0 {
                rig = Rig::new();
            }
            pieces.iter().for_each(|piece| rig.request(piece));
        });
}

#[test]
fn websocket_messages() {
    let mut rig = Rig::new();
    let mut served = 0;
    Target::new("gateway_ws")
        .seeds(named(SAID))
        .pieces(6)
        .weighs(10)
        .run_all(|pieces| {
            served += 1;
            if served % INPUTS_OF_A_RIG == 0 {
                rig = Rig::new();
            }
            let texts: Vec<&str> = pieces
                .iter()
                .filter_map(|piece| std::str::from_utf8(piece).ok())
                .collect();
            let open = relay::Talk::open(
                rig.app.clone(),
                Default::default(),
                rig.pace.clone(),
                caller(Scope::Operator),
                session_id(),
            );
            let mut relay = rig.runtime.block_on(open).expect("a socket");
            let mut orchestrator =
                orchestrator::Talk::new(rig.app.clone(), rig.pace.clone(), caller(Scope::Operator));
            let mut changes =
                changes::Talk::new(rig.app.clone(), rig.pace.clone(), caller(Scope::Viewer));
            for text in &texts {
                for answered in [
                    rig.say(&mut relay, text),
                    rig.say(&mut orchestrator, text),
                    rig.say(&mut changes, text),
                ] {
                    assert!(answered <= 64, "one message, {answered} frames");
                }
            }
            let daemon = caller(Scope::Daemon);
            let mut daemon = rig
                .runtime
                .block_on(daemon::Talk::open(rig.app.clone(), &rig.bridges, &daemon))
                .expect("a daemon's socket");
            for text in &texts {
                let answered = rig.say(&mut daemon, text);
                assert!(answered <= 64, "one message, {answered} frames");
            }
        });
}
