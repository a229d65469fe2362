//! The orchestrator's dialect against the real programs: a scenario for every route and message of its text, with
//! the shapes and status codes as they are written there.

mod agents;
mod changes;
mod overview;
mod sessions;
mod socket;
mod streams;
mod tasks;
mod worktrees;

use baton::base::Secret;
use baton::wire::v1;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::serving::bearer;
use crate::support::baton::{Baton, PATIENCE, eventually};
use crate::support::http::{Got, ask, h1};

async fn call(baton: &Baton, token: &Secret, method: Method, path: &str, body: &Value) -> Got {
    let body = match body {
        Value::Null => String::new(),
        // As it is, to send what is no JSON.
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let bearer = bearer(token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    ask(baton.address(), method, path, &headers, body).await
}

async fn get(baton: &Baton, path: &str) -> Got {
    call(baton, &baton.admin(), Method::GET, path, &Value::Null).await
}

async fn post(baton: &Baton, path: &str, body: Value) -> Got {
    call(baton, &baton.admin(), Method::POST, path, &body).await
}

async fn patch(baton: &Baton, path: &str, body: Value) -> Got {
    call(baton, &baton.admin(), Method::PATCH, path, &body).await
}

async fn delete(baton: &Baton, path: &str) -> Got {
    call(baton, &baton.admin(), Method::DELETE, path, &Value::Null).await
}

async fn token(baton: &Baton, scope: v1::TokenScope) -> Secret {
    let request = v1::CreateTokenRequest {
        name: scope.as_str_name().to_owned(),
        scope: scope.into(),
        ..Default::default()
    };
    let made = baton.client().create_token(request).await;
    Secret::new(made.unwrap().secret)
}

/// An operator's token that sees one directory only.
async fn narrowed(baton: &Baton, directory: &str) -> Secret {
    let request = v1::CreateTokenRequest {
        name: "narrowed".to_owned(),
        scope: v1::TokenScope::Operator.into(),
        narrowing: Some(v1::Narrowing {
            projects: vec![v1::TokenProject {
                directory: directory.to_owned(),
                daemon_id: String::new(),
            }],
            session_ids: Vec::new(),
        }),
        ..Default::default()
    };
    let made = baton.client().create_token(request).await;
    Secret::new(made.unwrap().secret)
}

/// A directory of the project's; its path.
fn directory(baton: &Baton, name: &str) -> String {
    let path = baton.project().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The names of an object's fields, in their order.
fn fields(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// Checks that an answer is an error of this dialect; its message.
fn refused(got: &Got, status: u16, code: &str) -> String {
    let body = got.json();
    assert_eq!(got.status, status, "{body}");
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(fields(&body), ["error"], "{body}");
    assert_eq!(fields(&body["error"]), ["code", "message"], "{body}");
    assert_eq!(body["error"]["code"], code, "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// What a path segment becomes in a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// An agent of the demo program; its id.
async fn agent(baton: &Baton, name: &str, more: Value) -> String {
    let mut body = json!({
        "name": name, "role": "worker", "provider": "demo",
        "workingDirectory": baton.project().to_string_lossy(),
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let made = post(baton, "/api/agents", body).await;
    let shown = made.json();
    assert_eq!(made.status, 201, "{shown}");
    shown["agent"]["id"].as_str().unwrap().to_owned()
}

/// An agent that is a shell in a terminal; its id.
async fn shell(baton: &Baton, name: &str) -> String {
    let more = json!({
        "role": "director", "provider": "command", "command": ["sh"], "mode": "interactive",
    });
    agent(baton, name, more).await
}

/// Starts an agent; its session's id.
async fn start(baton: &Baton, agent: &str, body: Value) -> String {
    let got = post(baton, &format!("/api/agents/{agent}/start"), body).await;
    let shown = got.json();
    assert_eq!(got.status, 201, "{shown}");
    shown["session"]["id"].as_str().unwrap().to_owned()
}

/// Stops an agent and waits until its session is over.
async fn stop(baton: &Baton, agent: &str) {
    let got = post(baton, &format!("/api/agents/{agent}/stop"), json!({})).await;
    let shown = got.json();
    assert_eq!(got.status, 200, "{shown}");
    if let Some(session) = shown["sessionId"].as_str() {
        baton.reaches(session, v1::Lifecycle::Ended).await;
    }
}

/// One server-sent event: id, name, data.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    id: Option<String>,
    name: String,
    data: Value,
}

/// A stream of server-sent events, read as it comes.
struct Stream {
    body: Incoming,
    buffer: String,
    headers: http::HeaderMap,
}

impl Stream {
    /// Opens one; what was answered instead otherwise.
    async fn open(baton: &Baton, path: &str, last: Option<&str>) -> Result<Self, Got> {
        Self::open_as(baton, &baton.admin(), path, last).await
    }

    /// Opens one with a token.
    async fn open_as(
        baton: &Baton,
        token: &Secret,
        path: &str,
        last: Option<&str>,
    ) -> Result<Self, Got> {
        let mut request = Request::get(path)
            .header("host", baton.address().to_string())
            .header("authorization", bearer(token));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let answer = h1(baton.address())
            .await
            .send_request(request)
            .await
            .unwrap();
        if answer.status() != 200 {
            return Err(Got::of(answer).await);
        }
        let (parts, body) = answer.into_parts();
        Ok(Stream {
            body,
            buffer: String::new(),
            headers: parts.headers,
        })
    }

    /// Opens an agent's.
    async fn of(baton: &Baton, agent: &str, last: Option<&str>) -> Self {
        let path = format!("/api/agents/{agent}/stream");
        match Self::open(baton, &path, last).await {
            Ok(stream) => stream,
            Err(got) => panic!("{} {:?}", got.status, got.body),
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = field("data: ") {
                    return Some(Sent {
                        id: field("id: ").map(str::to_owned),
                        name: field("event: ").unwrap().to_owned(),
                        data: serde_json::from_str(data).unwrap(),
                    });
                }
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("an event in time")?;
            let data = frame.unwrap().into_data().unwrap();
            self.buffer.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// All events up to and with the first that fits.
    async fn until(&mut self, what: &str, fits: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let mut all = Vec::new();
        loop {
            let Some(sent) = self.next().await else {
                panic!("the stream ended before {what}: {all:?}");
            };
            let done = fits(&sent);
            all.push(sent);
            if done {
                return all;
            }
        }
    }
}

#[tokio::test]
async fn health_is_a_word_for_everybody_and_the_services_for_whoever_has_a_token() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let bare = ask(baton.address(), Method::GET, "/api/health", &[], "").await;
    assert_eq!((bare.status, bare.json()), (200, json!({ "status": "ok" })));
    let got = get(&baton, "/api/health").await;
    assert_eq!((got.status, got.header("cache-control")), (200, "no-store"));
    let shown = got.json();
    assert_eq!(
        fields(&shown),
        ["status", "timestamp", "database", "services"]
    );
    assert_eq!(shown["status"], "ok");
    let time = shown["timestamp"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    assert_eq!(shown["database"], baton.data_dir().to_str().unwrap());
    // Nothing is linked: there is no repository.
    let services = |worktrees: &str| {
        json!({
            "agentRegistry": "ready", "sessionManager": "ready", "spawnerService": "ready",
            "worktreeManager": worktrees, "taskAssignment": "ready", "dispatch": "ready",
            "roleDefinition": "ready",
        })
    };
    assert_eq!(shown["services"], services("disabled"));

    // A daemon whose root is no repository, and then one.
    baton.start_daemon().await;
    let shown = get(&baton, "/api/health").await.json();
    assert_eq!(shown["services"], services("disabled"));
    crate::worktrees::repository(&baton.project());
    eventually("the repository is seen", || async {
        let shown = get(&baton, "/api/health").await.json();
        (shown["services"] == services("ready")).then_some(())
    })
    .await;
    let viewer = token(&baton, v1::TokenScope::Viewer).await;
    let got = call(&baton, &viewer, Method::GET, "/api/health", &Value::Null).await;
    assert!(got.json()["services"].is_object());
    let junk = Secret::new("junk");
    let got = call(&baton, &junk, Method::GET, "/api/health", &Value::Null).await;
    refused(&got, 401, "UNAUTHENTICATED");
}
