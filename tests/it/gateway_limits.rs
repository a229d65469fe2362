//! What went wrong in servers of this kind, over the surfaces for browsers: upgrades that break, streams cut
//! by a connection's age, readers that freeze their neighbours, shutdowns that never end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use baton::base::Secret;
use baton::client::{Client, ServerAddress};
use baton::domain::EventBody;
use baton::wire::v1;
use bytes::{Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::serving::{bearer, frame, soon};
use crate::support::baton::{Baton, PATIENCE, eventually};
use crate::support::http::{Ws, ask, frames, h1};

fn rounds(usual: usize) -> usize {
    std::env::var("BATON_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

fn address(baton: &Baton) -> SocketAddr {
    baton.url().trim_start_matches("http://").parse().unwrap()
}

/// A session of a command that writes so many lines of one byte, and lives on.
async fn lines(baton: &Baton, count: usize) -> String {
    let script = format!("yes x | head -n {count}; sleep 600");
    let made = baton
        .client()
        .create_session(v1::CreateSessionRequest {
            harness: "command".to_owned(),
            argv: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            cwd: baton.project().to_string_lossy().into_owned(),
            ..Default::default()
        })
        .await;
    made.unwrap().session.unwrap().id
}

async fn has_written(baton: &Baton, session: &str, count: usize) {
    eventually("the lines are in the log", || async {
        let shown = baton
            .client()
            .get_session(v1::GetSessionRequest {
                session_id: session.to_owned(),
            })
            .await
            .unwrap();
        (shown.session.unwrap().head_seq >= count as u64).then_some(())
    })
    .await;
}

/// Opens a session's stream of server-sent events.
async fn open_sse(baton: &Baton, session: &str) -> Incoming {
    let request = Request::get(format!("/api/sessions/{session}/stream"))
        .header("host", "localhost")
        .header("authorization", bearer(&baton.admin()))
        .body(Full::<Bytes>::default())
        .unwrap();
    let mut send = h1(address(baton)).await;
    let response = soon("the head", send.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Opens a watch of a session over gRPC-Web.
async fn open_web(baton: &Baton, session: &str) -> Incoming {
    let watch = v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::Session(v1::SessionScope {
                session_id: session.to_owned(),
                ..Default::default()
            })),
        }],
        ..Default::default()
    };
    let request = Request::post("/baton.v1.EventService/Watch")
        .header("host", "localhost")
        .header("content-type", "application/grpc-web+proto")
        .header("authorization", bearer(&baton.admin()))
        .body(Full::new(frame(&watch)))
        .unwrap();
    let mut send = h1(address(baton)).await;
    let response = soon("the head", send.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

async fn open_ws(baton: &Baton, session: &str) -> Ws {
    let path = format!("/api/sessions/{session}/ws");
    Ws::with(address(baton), &path, &baton.admin())
        .await
        .unwrap()
}

/// Reads a body until its text has so many of what is looked for.
async fn read_until(body: &mut Incoming, what: &str, count: usize) {
    let mut found = 0;
    // What is looked for may lie across two pieces.
    let mut rest = String::new();
    while found < count {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
        let frame = frame.expect("in time").expect("no end").unwrap();
        let Ok(data) = frame.into_data() else {
            continue;
        };
        rest.push_str(&String::from_utf8_lossy(&data));
        found += rest.matches(what).count();
        let keep = rest.len().saturating_sub(what.len() - 1);
        let keep = (keep..=rest.len()).find(|at| rest.is_char_boundary(*at));
        let tail = rest.split_off(keep.unwrap());
        rest = if tail.contains(what) {
            String::new()
        } else {
            tail
        };
    }
}

#[tokio::test]
async fn a_hundred_thousand_tiny_events_arrive_intact_over_every_surface() {
    let baton = Baton::start().await;
    let count = rounds(20_000);
    let session = lines(&baton, count).await;
    // Two readers from the beginning, while it is written.
    let mut ws = open_ws(&baton, &session).await;
    ws.send(json!({ "type": "subscribe", "from_index": 0 }))
        .await;
    let mut sse = open_sse(&baton, &session).await;
    let reading = async {
        let (mut last, mut seen) = (0, 0);
        while seen < count {
            let message = ws.until("message").await;
            for part in message["messages"].as_array().unwrap() {
                let index = part["index"].as_u64().unwrap();
                assert!(index > last, "{index} after {last}");
                last = index;
                let text = &part["message"]["content"][0]["text"];
                if part["type"] == "assistant" {
                    assert_eq!(text, "x");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, count);
    };
    let streaming = read_until(&mut sse, "event: agent_output\n", count);
    tokio::join!(reading, streaming);
    // One that comes when all is written, over gRPC-Web.
    has_written(&baton, &session, count).await;
    let mut web = open_web(&baton, &session).await;
    let mut bytes = BytesMut::new();
    let mut outputs = 0;
    while outputs < count {
        let frame = tokio::time::timeout(PATIENCE, web.frame()).await;
        let piece = frame.expect("in time").expect("no end").unwrap();
        bytes.extend_from_slice(&piece.into_data().unwrap());
        while let Some(whole) = whole_frame(&mut bytes) {
            let (messages, trailers) = frames(whole);
            assert_eq!(trailers, "");
            let message = <v1::WatchResponse as prost::Message>::decode(messages[0].clone());
            if let Some(v1::watch_response::Body::Events(batch)) = message.unwrap().body {
                let events = batch.events().unwrap();
                let is_output =
                    |event: &&v1::Event| matches!(event.body, Some(v1::event::Body::Output(_)));
                outputs += events.iter().filter(is_output).count();
            }
        }
    }
    assert_eq!(outputs, count);
}

/// Takes one gRPC frame off the front, if it is there as a whole.
fn whole_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().unwrap()) as usize;
    (bytes.len() >= 5 + length).then(|| bytes.split_to(5 + length).freeze())
}

#[tokio::test]
async fn a_reader_that_does_not_read_freezes_nobody_and_misses_nothing() {
    let baton = Baton::start().await;
    let count = rounds(20_000);
    let session = lines(&baton, count).await;
    let mut slow = open_ws(&baton, &session).await;
    slow.send(json!({ "type": "subscribe", "from_index": 0 }))
        .await;

    // A stream that nobody reads, and a call beside it on the same connection.
    let stream = TcpStream::connect(address(&baton)).await.unwrap();
    // As browsers have it: a connection's window is far larger than a stream's.
    let (client, connection) = h2::client::Builder::new()
        .initial_connection_window_size(16 * 1024 * 1024)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = |path: &str| {
        Request::get(format!("{}{path}", baton.url()))
            .header("authorization", bearer(&baton.admin()))
            .body(())
            .unwrap()
    };
    let stream = request(&format!("/api/sessions/{session}/stream"));
    let (unread, _) = client.send_request(stream, true).unwrap();
    let unread = soon("the stream's head", unread).await.unwrap();
    has_written(&baton, &session, count).await;
    for _ in 0..5 {
        let info = request(&format!("/api/sessions/{session}/info"));
        let (answer, _) = client.send_request(info, true).unwrap();
        let answer = soon("an answer beside an unread stream", answer)
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        while let Some(data) = soon("its body", body.data()).await {
            let length = data.unwrap().len();
            body.flow_control().release_capacity(length).unwrap();
        }
    }
    drop(unread);
    connection.abort();

    // Who was slow reads on, from where it was.
    let (mut last, mut seen) = (0, 0);
    while seen < count {
        let message = slow.until("message").await;
        for part in message["messages"].as_array().unwrap() {
            let index = part["index"].as_u64().unwrap();
            assert!(index > last, "{index} after {last}");
            last = index;
            seen += usize::from(part["type"] == "assistant");
        }
    }
}

#[tokio::test]
async fn streams_outlive_the_age_of_their_connection() {
    let mut baton = Baton::new().server_flags(&[
        "--set",
        "connections.max_age=1s",
        "--set",
        "connections.age_grace=60s",
    ]);
    baton.start_server().await;
    baton.start_daemon().await;
    let session = baton.session("demo", "say: one").await;
    baton
        .wait_for(&session.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let mut ws = open_ws(&baton, &session.id).await;
    let mut sse = open_sse(&baton, &session.id).await;
    let mut web = open_web(&baton, &session.id).await;
    // An idle connection of the same age shows when the age has come: it is closed.
    let mut idle = TcpStream::connect(address(&baton)).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut idle, request)
        .await
        .unwrap();
    let mut answer = Vec::new();
    soon(
        "an aged connection is closed",
        idle.read_to_end(&mut answer),
    )
    .await
    .unwrap();

    ws.send(json!({ "type": "user_message", "content": "say: two" }))
        .await;
    loop {
        let message = ws.until("message").await;
        if message.to_string().contains("\"two\"") {
            break;
        }
    }
    read_until(&mut sse, "\"two\"", 1).await;
    read_until(&mut web, "two", 1).await;
}

#[tokio::test]
async fn a_shutdown_ends_in_time_with_silent_peers_of_each_kind() {
    let mut baton = Baton::new().server_flags(&["--drain-deadline", "4s"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let count = rounds(20_000);
    let session = lines(&baton, count).await;
    has_written(&baton, &session, count).await;
    // None of these reads anything.
    let silent = TcpStream::connect(address(&baton)).await.unwrap();
    let sse = open_sse(&baton, &session).await;
    let web = open_web(&baton, &session).await;
    let mut ws = open_ws(&baton, &session).await;
    ws.send(json!({ "type": "subscribe", "from_index": 0 }))
        .await;
    // And one that does is told to come back.
    let mut listening = open_ws(&baton, &session).await;
    listening.until("connected").await;
    let began = Instant::now();
    let stopping = tokio::spawn(async move { (baton.stop_server().await, baton) });
    let told = listening.until("error").await;
    assert_eq!(told["code"], "UNAVAILABLE");
    assert!(listening.next().await.is_none());
    assert_eq!(listening.closed, Some(1012));
    let (code, _baton) = tokio::time::timeout(PATIENCE, stopping)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(code, Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    drop((silent, sse, web, ws));
}

#[tokio::test]
async fn a_revoked_token_closes_its_sockets() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "say: one").await;
    let made = baton
        .client()
        .create_token(v1::CreateTokenRequest {
            name: "tab".to_owned(),
            scope: v1::TokenScope::Viewer.into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let secret = Secret::new(made.secret);
    let path = format!("/api/sessions/{}/ws", session.id);
    let mut ws = Ws::with(address(&baton), &path, &secret).await.unwrap();
    ws.until("connected").await;
    baton
        .client()
        .revoke_token(v1::RevokeTokenRequest {
            token_id: made.token.unwrap().id,
        })
        .await
        .unwrap();
    assert_eq!(ws.until("error").await["code"], "UNAUTHENTICATED");
    assert!(ws.next().await.is_none());
    assert_eq!(ws.closed, Some(1008));
}

#[tokio::test]
async fn no_page_of_somebody_else_gets_at_the_dialects() {
    let baton = Baton::start().await;
    let session = baton.session("demo", "say: one").await;
    baton
        .wait_for(&session.id, "it waits", |body| {
            matches!(
                body,
                EventBody::ActivityChanged {
                    activity: baton::domain::Activity::AwaitingInput,
                    ..
                }
            )
        })
        .await;
    let caller = baton.client();
    let code = caller
        .create_sign_in_code(v1::CreateSignInCodeRequest::default())
        .await
        .unwrap()
        .code;
    let json = [("content-type", "application/json")];
    let body = json!({ "code": code }).to_string();
    let signed = ask(address(&baton), Method::POST, "/auth/exchange", &json, body).await;
    let cookie = signed
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let own = baton.url();
    let of_session = |rest: &str| format!("/api/sessions/{}/{rest}", session.id);
    let before = baton.events(&session.id).await.len();
    // That every route refuses such a page is in `routes`; here a session that lives stays as it was.
    let path = of_session("ws");
    for headers in [
        &[
            ("cookie", cookie.as_str()),
            ("origin", "http://evil.example"),
        ] as &[_],
        &[("cookie", cookie.as_str())],
        &[("origin", own.as_str())],
    ] {
        let refused = Ws::open(address(&baton), &path, headers).await.err();
        let status = refused.expect("refused").0;
        assert!(matches!(status, 401 | 403), "{headers:?}");
    }
    assert_eq!(baton.events(&session.id).await.len(), before);
    let ours = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    let mut ws = Ws::open(address(&baton), &path, &ours).await.unwrap();
    ws.until("connected").await;
}

#[tokio::test]
async fn a_narrowed_token_and_the_browser_it_lets_in_see_their_session_only() {
    let baton = Baton::start().await;
    let own = baton.session("demo", "say: one").await;
    let foreign = baton.session("demo", "run: echo two").await;
    let prompt = eventually("it asks", || async {
        baton.pending(&foreign.id).await.pop()
    })
    .await;
    let made = baton
        .client()
        .create_token(v1::CreateTokenRequest {
            name: "narrow".to_owned(),
            scope: v1::TokenScope::Operator.into(),
            narrowing: Some(v1::Narrowing {
                session_ids: vec![own.id.clone()],
                ..Default::default()
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    let narrowed = ServerAddress::new(baton.url()).with_token(Secret::new(&made.secret));
    let code = Client::lazy(narrowed)
        .unwrap()
        .create_sign_in_code(v1::CreateSignInCodeRequest::default())
        .await
        .unwrap()
        .code;
    let json = [("content-type", "application/json")];
    let body = json!({ "code": code }).to_string();
    let signed = ask(address(&baton), Method::POST, "/auth/exchange", &json, body).await;
    let cookie = signed
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let token = format!("Bearer {}", made.secret);
    let url = baton.url();
    for who in [
        [("authorization", token.as_str()), ("origin", url.as_str())],
        [("cookie", cookie.as_str()), ("origin", url.as_str())],
    ] {
        let listed = ask(
            address(&baton),
            Method::GET,
            "/api/sessions/spawned",
            &who,
            "",
        )
        .await;
        let listed = listed.json();
        let listed = listed["sessions"].as_array().unwrap();
        assert!(listed.len() == 1 && listed[0]["id"] == own.id.as_str());
        for (method, rest) in [
            (Method::GET, "info"),
            (Method::GET, "stream"),
            (Method::GET, "ws"),
            (Method::POST, "resume"),
        ] {
            let path = format!("/api/sessions/{}/{rest}", foreign.id);
            let got = ask(address(&baton), method, &path, &who, "").await;
            assert_eq!(got.status, 404, "{rest}");
        }
        let path = format!("/api/sessions/{}/ws", foreign.id);
        assert_eq!(
            Ws::open(address(&baton), &path, &who)
                .await
                .err()
                .unwrap()
                .0,
            404
        );
        let path = format!("/api/sessions/{}/ws", own.id);
        let mut ws = Ws::open(address(&baton), &path, &who).await.unwrap();
        ws.send(json!({
            "type": "permission_response", "request_id": prompt.id, "allow": true
        }))
        .await;
        assert_eq!(ws.until("error").await["code"], "NOT_FOUND");
        let spawn = json!({ "prompt": "x", "cwd": baton.project(), "harness": "demo" });
        let got = ask(
            address(&baton),
            Method::POST,
            "/api/sessions/spawn",
            &who,
            spawn.to_string(),
        )
        .await;
        assert!(matches!(got.status, 403 | 503), "{}", got.status);
    }
}
