//! A caller of plain HTTP/1.1, and of WebSockets.

use std::net::SocketAddr;
use std::time::Duration;

use baton::base::Secret;
use bytes::{Buf as _, Bytes};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::serving::soon;

/// A connection that speaks HTTP/1.1, as a browser's to a plain port does.
pub async fn h1(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    send
}

/// An answer, read to its end.
pub struct Got {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub async fn of(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Got {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: soon("a body", body.collect()).await.unwrap().to_bytes(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request on a connection of its own.
pub async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Got {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    let response = soon("an answer", h1(address).await.send_request(request)).await;
    Got::of(response.unwrap()).await
}

/// The frames of a gRPC-Web body: messages, and the trailers as text.
pub fn frames(mut body: Bytes) -> (Vec<Bytes>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while body.has_remaining() {
        let flag = body.get_u8();
        let length = body.get_u32() as usize;
        let data = body.split_to(length);
        if flag & 0x80 == 0 {
            messages.push(data);
        } else {
            trailers = String::from_utf8(data.to_vec()).unwrap();
        }
    }
    (messages, trailers)
}

/// A program's WebSocket.
pub struct Ws<S = TcpStream> {
    socket: WebSocketStream<S>,
    /// Set when the peer closed.
    pub closed: Option<u16>,
}

/// The longest wait for one message.
const PATIENCE: Duration = Duration::from_secs(30);

impl Ws {
    /// Opens one; what the server answered instead otherwise.
    pub async fn open(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (u16, Value)> {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(stream, &format!("ws://{address}{path}"), headers).await
    }

    /// Opens one with a token.
    pub async fn with(
        address: SocketAddr,
        path: &str,
        token: &Secret,
    ) -> Result<Self, (u16, Value)> {
        let bearer = crate::serving::bearer(token);
        Self::open(address, path, &[("authorization", &bearer)]).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ws<S> {
    /// Opens one on a connection.
    pub async fn over(
        stream: S,
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, (u16, Value)> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let opening = tokio_tungstenite::client_async(request, stream);
        match soon("a handshake", opening).await {
            Ok((socket, _)) => Ok(Ws {
                socket,
                closed: None,
            }),
            Err(WsError::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                Err((response.status().as_u16(), body))
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn send(&mut self, value: Value) {
        self.say(value.to_string()).await;
    }

    pub async fn say(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn say_bytes(&mut self, bytes: &'static [u8]) {
        let bytes = Bytes::from_static(bytes);
        self.socket.send(Message::Binary(bytes)).await.unwrap();
    }

    /// The next message; `None` when the socket is closed.
    pub async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.next_whenever())
            .await
            .expect("a message in time")
    }

    /// The next message, however long it takes.
    pub async fn next_whenever(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    self.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
                    return None;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next message of a type; what comes before it is passed over.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let Some(value) = self.next().await else {
                panic!("closed before {kind}");
            };
            if value["type"] == kind {
                return value;
            }
        }
    }
}
