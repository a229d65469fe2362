//! A server on a free port, and callers of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use baton::app::access::{ADMIN_TOKEN_FILE, Access, Caller};
use baton::app::system::{About, Counting, Counts};
use baton::base::{Result, Secret, SharedClock, SystemClock};
use baton::gateway::Route;
use baton::server::drain::Drain;
use baton::server::tls::Tls;
use baton::server::{Builder, Options};
use baton::store::SharedStore;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

/// The longest a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);
pub const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Waits for what must happen.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("did not happen in time: {what}"),
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub access: Access,
    pub routes: Vec<Route>,
    pub drain: Drain,
    pub tls: Option<Tls>,
    pub admin: Secret,
    _data: tempfile::TempDir,
    pub serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Nothing;

impl Counting for Nothing {
    fn counts<'a>(&'a self, _: &'a Caller) -> BoxFuture<'a, Result<Counts>> {
        Box::pin(async {
            Ok(Counts {
                living_sessions: 3,
                ..Counts::default()
            })
        })
    }
}

pub fn about() -> About {
    About {
        version: "1.2.3".to_owned(),
        capabilities: vec!["demo".to_owned()],
        max_request_bytes: 1,
        max_input_bytes: 2,
        max_queued_inputs: 3,
        grace: Duration::from_secs(300),
        link_protocol_min: 1,
        link_protocol_max: 1,
    }
}

/// A server with these options.
pub async fn start(change: impl FnOnce(&mut Options)) -> Running {
    start_with(change, SystemClock::shared(), |builder| builder).await
}

/// A server with these options, this clock, and whatever else.
pub async fn start_with(
    change: impl FnOnce(&mut Options),
    clock: SharedClock,
    more: impl FnOnce(Builder) -> Builder,
) -> Running {
    let data = tempfile::tempdir().unwrap();
    let mut options = Options::local(data.path()).unwrap();
    options.drain_deadline = Duration::from_secs(2);
    change(&mut options);
    let store: SharedStore = baton::store::memory::shared(baton::base::SystemClock::shared());
    let access = Access::with_recheck(store.clone(), clock.clone(), Duration::from_millis(50));
    let builder = Builder::new(options, store, clock)
        .with_access(access.clone())
        .add_foundation(about(), Arc::new(Nothing))
        .unwrap();
    serve(more(builder), data).await
}

/// What was put together, on a free port; its files are in `data`.
pub async fn serve(builder: Builder, data: tempfile::TempDir) -> Running {
    let access = builder.access().clone();
    let server = builder.bind().await.unwrap();
    let text = std::fs::read_to_string(data.path().join(ADMIN_TOKEN_FILE)).unwrap();
    Running {
        address: server.address(),
        routes: server.routes().to_vec(),
        drain: server.drain().clone(),
        tls: server.tls().cloned(),
        serving: tokio::spawn(server.serve()),
        admin: Secret::new(text.trim()),
        access,
        _data: data,
    }
}

impl Running {
    /// A connection that speaks HTTP/2.
    pub async fn h2(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        send
    }

    /// One gRPC call with nothing in it, on a connection of its own: its status.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut send = self.h2().await;
        let message = frame(&());
        answer(
            send.send_request(self.request(path, headers, message))
                .await
                .unwrap(),
        )
        .await
    }

    pub fn request(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).unwrap()
    }
}

/// A gRPC answer.
#[derive(Debug)]
pub struct Answer {
    pub http: u16,
    pub code: tonic::Code,
    pub status: tonic::Status,
    pub body: Bytes,
}

pub async fn answer(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = soon("an answer", body.collect()).await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = tonic::Status::from_header_map(&trailers)
        .or_else(|| tonic::Status::from_header_map(&parts.headers))
        .unwrap_or_else(|| tonic::Status::unknown("no status"));
    Answer {
        http: parts.status.as_u16(),
        code: status.code(),
        status,
        body: body.to_bytes(),
    }
}

/// `authorization` for a token.
pub fn bearer(secret: &Secret) -> String {
    format!("Bearer {}", secret.expose())
}

/// A message as gRPC frames it.
pub fn frame(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(bytes.len()).unwrap());
    framed.put_slice(&bytes);
    framed.freeze()
}

/// A request to the reflection service, which answers each.
pub fn list_services(padding: usize) -> Bytes {
    frame(&ServerReflectionRequest {
        host: "x".repeat(padding),
        message_request: Some(MessageRequest::ListServices("*".to_owned())),
    })
}

/// A live stream: the reflection service, on an h2 connection whose windows the test controls.
pub struct Live {
    pub send: h2::SendStream<Bytes>,
    pub receive: h2::RecvStream,
    pub client: h2::client::SendRequest<Bytes>,
    pub connection: JoinHandle<std::result::Result<(), h2::Error>>,
}

/// Opens a live stream and sees its first answer.
pub async fn open_live(running: &Running, secret: &Secret) -> Live {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (client, connection) = h2::client::Builder::new()
        .initial_connection_window_size(16 * 1024 * 1024)
        .handshake(stream)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let client = client.ready().await.unwrap();
    open_on(client, connection, running, secret).await
}

async fn open_on(
    mut client: h2::client::SendRequest<Bytes>,
    connection: JoinHandle<std::result::Result<(), h2::Error>>,
    running: &Running,
    secret: &Secret,
) -> Live {
    let request = Request::post(format!("http://{}{REFLECT}", running.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", bearer(secret))
        .body(())
        .unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data(list_services(0), false).unwrap();
    let response = soon("the head of a stream", response).await.unwrap();
    let mut live = Live {
        send,
        receive: response.into_body(),
        client,
        connection,
    };
    live.hear().await;
    live
}

impl Live {
    /// Another live stream on the same connection.
    pub async fn beside(&self, running: &Running, secret: &Secret) -> Live {
        let client = self.client.clone().ready().await.unwrap();
        open_on(client, tokio::spawn(async { Ok(()) }), running, secret).await
    }

    /// Sends without reading answers until the service no longer reads and nothing more goes; how much went.
    pub async fn fill(&mut self) -> usize {
        let mut sent = 0;
        let mut message = Bytes::new();
        loop {
            if message.is_empty() {
                message = list_services(32 * 1024);
            }
            self.send.reserve_capacity(message.len());
            let room = std::future::poll_fn(|cx| self.send.poll_capacity(cx));
            match tokio::time::timeout(Duration::from_millis(500), room).await {
                Ok(Some(Ok(room))) => {
                    let part = message.split_to(room.min(message.len()));
                    sent += part.len();
                    self.send.send_data(part, false).unwrap();
                }
                Ok(other) => panic!("the stream ended: {other:?}"),
                Err(_) => return sent,
            }
        }
    }

    /// Waits for some data and makes room for more.
    pub async fn hear(&mut self) {
        let data = soon("data", self.receive.data()).await.unwrap().unwrap();
        self.receive
            .flow_control()
            .release_capacity(data.len())
            .unwrap();
    }

    /// Reads to the end: the status.
    pub async fn status(&mut self) -> tonic::Status {
        while let Some(data) = soon("the end of a stream", self.receive.data()).await {
            let length = data.unwrap().len();
            self.receive
                .flow_control()
                .release_capacity(length)
                .unwrap();
        }
        let trailers = soon("trailers", self.receive.trailers()).await.unwrap();
        tonic::Status::from_header_map(&trailers.unwrap()).unwrap()
    }
}
