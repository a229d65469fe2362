//! What browsers speak: a WebSocket that sends what is there and then flushes, and axum's own server-sent events.

use std::convert::Infallible;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use tokio_stream::wrappers::BroadcastStream;

use super::Hub;

/// The WebSocket.
pub const SOCKET: &str = "/ws";
/// The server-sent events.
pub const EVENTS: &str = "/sse";

pub fn routes(hub: Hub) -> Router {
    Router::new()
        .route(SOCKET, any(socket))
        .route(EVENTS, get(events))
        .with_state(hub)
}

async fn socket(State(hub): State<Hub>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .read_buffer_size(4 * 1024)
        .write_buffer_size(16 * 1024)
        .on_upgrade(|socket| async move {
            // Who has gone is gone.
            let _ = talk(hub, socket).await;
        })
}

async fn talk(hub: Hub, socket: WebSocket) -> Result<(), axum::Error> {
    let mut messages = hub.watch();
    let (mut to, mut from) = socket.split();
    loop {
        tokio::select! {
            message = messages.recv() => {
                let Ok(message) = message else { return Ok(()) };
                to.feed(text(message)).await?;
                while let Ok(message) = messages.try_recv() {
                    to.feed(text(message)).await?;
                }
                to.flush().await?;
            }
            said = from.next() => {
                if said.is_none() {
                    return Ok(());
                }
            }
        }
    }
}

/// The same bytes for every reader.
fn text(message: Bytes) -> Message {
    Message::Text(Utf8Bytes::try_from(message).unwrap_or_default())
}

async fn events(State(hub): State<Hub>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let messages = BroadcastStream::new(hub.watch());
    Sse::new(messages.filter_map(async |message| {
        let message = message.ok()?;
        let data = std::str::from_utf8(&message).ok()?;
        Some(Ok(Event::default().event("message").data(data)))
    }))
}
