//! A reader over a WebSocket.

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{Sink, Target};
use crate::bench::address::Address;
use crate::bench::bare::SOCKET;
use crate::bench::subject::Kind;

pub(super) async fn read(target: &Target, to: &mut Sink) -> Result<()> {
    let mut socket = open_silent(target).await?;
    if target.kind == Kind::Bare {
        to.opened();
    }
    if target.kind == Kind::Baton && !target.tail {
        // It begins at the end unless it is asked to go further back.
        let back = r#"{"type":"subscribe","from_index":0}"#;
        socket.send(Message::text(back)).await?;
    }
    while let Some(message) = socket.next().await {
        match message.context("reading")? {
            Message::Text(text) => {
                to.opened();
                to.feed(text.as_bytes());
            }
            Message::Close(why) => anyhow::bail!("closed: {why:?}"),
            _ => {}
        }
    }
    Ok(())
}

/// A socket on which nothing is said or read yet.
pub async fn open_silent(target: &Target) -> Result<WebSocketStream<TcpStream>> {
    let path = match target.kind {
        Kind::Baton => format!("/api/sessions/{}/ws", target.session),
        Kind::Bare => SOCKET.to_owned(),
        Kind::Node if target.replays.is_some() => {
            format!("/viewer?session={}&after=0", target.session)
        }
        Kind::Node => format!("/viewer?session={}", target.session),
    };
    open(&target.address, &path, target.bearer.as_deref()).await
}

/// Opens a socket to this machine, in clear text.
pub async fn open(
    address: &Address,
    path: &str,
    bearer: Option<&str>,
) -> Result<WebSocketStream<TcpStream>> {
    let stream = address.dial().await?;
    let mut request = format!("ws://{}{path}", address.host()).into_client_request()?;
    if let Some(bearer) = bearer {
        request
            .headers_mut()
            .insert("authorization", bearer.parse()?);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(64 * 1024)
        .write_buffer_size(0);
    let opened = client_async_with_config(request, stream, Some(config)).await;
    Ok(opened.context("opening a WebSocket")?.0)
}
