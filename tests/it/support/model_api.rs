//! A stand-in for the Anthropic Messages API (and, for Codex, the Responses API), so that the real agent program runs without a network.
//!
//! It answers by script (see [`super::model_script`]), on a port of its own, from a thread of its own:
//! it serves tests that are async and tests that are not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::model_script::{Step, answer};
use super::responses_api;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The query, or nothing.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null if it was no JSON.
    pub body: Value,
}

/// The running stand-in; it stops when this is dropped.
pub struct ModelApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    requests: Vec<Recorded>,
    /// How often each failing directive has failed.
    failures: HashMap<String, u32>,
    ids: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, prefix: &str) -> String {
        let mut state = self.lock();
        state.ids += 1;
        format!("{prefix}_stub{:06}", state.ids)
    }
}

impl ModelApi {
    /// Starts one on a free port of this machine.
    pub fn start() -> ModelApi {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, address) = std::sync::mpsc::sync_channel(1);
        let state = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
                    .await
                    .expect("a free port");
                let _ = bound.send(listener.local_addr().expect("an address"));
                let router = Router::new()
                    .route("/v1/messages", post(messages))
                    .route("/v1/messages/count_tokens", post(count_tokens))
                    .route("/v1/responses", post(responses))
                    .fallback(not_found)
                    .with_state(state);
                tokio::select! {
                    served = axum::serve(listener, router) => served.expect("serving"),
                    _ = stopped => {}
                }
            });
        });
        ModelApi {
            address: address.recv().expect("the stand-in starts"),
            shared,
            stop: Some(stop),
        }
    }

    /// What an agent takes as its base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.lock().requests.clone()
    }

    /// Waits until a request satisfies `wanted`; panics, naming `what`, if none does in time.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Recorded) -> bool) -> Recorded {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = state.requests.iter().find(|request| wanted(request)) {
                return found.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no request in time: {what}");
            state = match self.shared.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Drop for ModelApi {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

fn record(shared: &Shared, method: Method, uri: &Uri, headers: HeaderMap, body: &Bytes) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    shared.lock().requests.push(Recorded {
        method,
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.clone(),
    });
    shared.changed.notify_all();
    body
}

async fn not_found(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    record(&shared, method, &uri, headers, &body);
    failure(
        StatusCode::NOT_FOUND,
        "not_found_error",
        "the stub has no such path",
        None,
    )
}

async fn count_tokens(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = record(&shared, method, &uri, headers, &body);
    whole(&json!({ "input_tokens": tokens(&body) }))
}

async fn messages(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = record(&shared, method, &uri, headers, &body);
    let mut steps = answer(&body);
    match steps.first() {
        Some(&Step::Limit { seconds }) => {
            return failure(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "the stub says: too many requests",
                Some(seconds),
            );
        }
        Some(&Step::Fail { status, times }) => {
            let failed = {
                let mut state = shared.lock();
                let count = state
                    .failures
                    .entry(format!("{status} {times:?}"))
                    .or_default();
                *count += 1;
                *count
            };
            if times.is_none_or(|times| failed <= times) {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                return failure(
                    status,
                    error_type(status),
                    &format!("stub says {}", status.as_u16()),
                    None,
                );
            }
            steps = vec![Step::Say("no more failures".to_owned())];
        }
        _ => {}
    }
    let message = Message {
        id: shared.id("msg"),
        model: body["model"].as_str().unwrap_or("claude-stub").to_owned(),
        input_tokens: tokens(&body),
    };
    let blocks = steps
        .into_iter()
        .filter_map(|step| Block::of(step, &shared))
        .collect::<Vec<_>>();
    if body["stream"] == true {
        streamed(message, blocks)
    } else {
        whole(&message.whole(&blocks))
    }
}

/// The same by the Responses API.
async fn responses(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = record(&shared, method, &uri, headers, &body);
    let steps = answer(&responses_api::as_messages(&body));
    if let Some(&Step::Fail { status, .. }) = steps.first() {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        return failure(status, error_type(status), "the stub fails", None);
    }
    let said = responses_api::events(steps, |prefix| shared.id(prefix));
    let (events, body) = mpsc::channel::<Result<String, std::convert::Infallible>>(16);
    tokio::spawn(async move {
        for (pause, event) in said {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let name = event["type"].as_str().unwrap_or_default();
            // An agent that hangs up closes the channel, which ends the stream here.
            let text = format!("event: {name}\ndata: {event}\n\n");
            if events.send(Ok(text)).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(ReceiverStream::new(body)))
        .expect("a response")
}

/// About four bytes of a request make a token; the number only has to be plausible and repeatable.
fn tokens(body: &Value) -> usize {
    body["messages"].to_string().len() / 4
}

fn error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

struct Message {
    id: String,
    model: String,
    input_tokens: usize,
}

/// A block of content, and how it is streamed.
struct Block {
    start: Value,
    deltas: Vec<Value>,
    pause: Duration,
    whole: Value,
}

impl Block {
    fn of(step: Step, shared: &Shared) -> Option<Block> {
        let text = |pieces: Vec<String>, pause| Block {
            start: json!({ "type": "text", "text": "" }),
            whole: json!({ "type": "text", "text": pieces.concat() }),
            deltas: pieces
                .into_iter()
                .map(|piece| json!({ "type": "text_delta", "text": piece }))
                .collect(),
            pause,
        };
        Some(match step {
            Step::Say(said) => text(vec![said], Duration::ZERO),
            Step::Slow { chunks, pause_ms } => text(
                (1..=chunks).map(|n| format!("chunk {n}. ")).collect(),
                Duration::from_millis(pause_ms),
            ),
            Step::Think(thought) => Block {
                start: json!({ "type": "thinking", "thinking": "", "signature": "" }),
                deltas: vec![
                    json!({ "type": "thinking_delta", "thinking": thought }),
                    json!({ "type": "signature_delta", "signature": "c3R1Yg==" }),
                ],
                pause: Duration::ZERO,
                whole: json!({ "type": "thinking", "thinking": thought, "signature": "c3R1Yg==" }),
            },
            Step::Tool { name, input } => {
                let id = shared.id("toolu");
                Block {
                    start: json!({ "type": "tool_use", "id": id, "name": name, "input": {} }),
                    deltas: vec![
                        json!({ "type": "input_json_delta", "partial_json": input.to_string() }),
                    ],
                    pause: Duration::ZERO,
                    whole: json!({ "type": "tool_use", "id": id, "name": name, "input": input }),
                }
            }
            Step::Fail { .. } | Step::Limit { .. } => return None,
        })
    }
}

impl Message {
    fn usage(&self) -> Value {
        json!({
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
        })
    }

    fn stop_reason(blocks: &[Block]) -> &'static str {
        if blocks.iter().any(|block| block.whole["type"] == "tool_use") {
            "tool_use"
        } else {
            "end_turn"
        }
    }

    fn whole(&self, blocks: &[Block]) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": blocks.iter().map(|block| &block.whole).collect::<Vec<_>>(),
            "stop_reason": Self::stop_reason(blocks),
            "stop_sequence": null,
            "usage": self.usage(),
        })
    }
}

fn streamed(message: Message, blocks: Vec<Block>) -> Response {
    let (events, body) = mpsc::channel::<Result<String, std::convert::Infallible>>(16);
    tokio::spawn(async move {
        // An agent that hangs up closes the channel, which ends the stream here.
        let send = async |event: Value| {
            let name = event["type"].as_str().unwrap_or_default().to_owned();
            events
                .send(Ok(format!("event: {name}\ndata: {event}\n\n")))
                .await
        };
        let mut start = message.whole(&[]);
        start["stop_reason"] = Value::Null;
        send(json!({ "type": "message_start", "message": start })).await?;
        for (index, block) in blocks.iter().enumerate() {
            send(json!({ "type": "content_block_start", "index": index, "content_block": block.start }))
                .await?;
            for delta in &block.deltas {
                if !block.pause.is_zero() {
                    tokio::time::sleep(block.pause).await;
                }
                send(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
                    .await?;
            }
            send(json!({ "type": "content_block_stop", "index": index })).await?;
        }
        let stop = Message::stop_reason(&blocks);
        send(json!({
            "type": "message_delta",
            "delta": { "stop_reason": stop, "stop_sequence": null },
            "usage": { "output_tokens": 1 },
        }))
        .await?;
        send(json!({ "type": "message_stop" })).await
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(ReceiverStream::new(body)))
        .expect("a response")
}

fn whole(body: &Value) -> Response {
    Response::builder()
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a response")
}

fn failure(status: StatusCode, kind: &str, message: &str, retry_after: Option<u64>) -> Response {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("request-id", "req_stub");
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds.to_string());
    }
    let error = json!({ "type": "error", "error": { "type": kind, "message": message } });
    response
        .body(Body::from(error.to_string()))
        .expect("a response")
}
