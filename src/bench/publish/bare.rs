//! One stream of messages to the bare server.

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;

use crate::bench::address::Address;
use crate::bench::bare::{BytesCodec, PUBLISH};

/// Messages on their way.
const ROOM: usize = 1_024;

/// A stream of messages.
pub struct BareStream {
    messages: mpsc::Sender<Bytes>,
}

impl BareStream {
    /// Opens one.
    pub async fn open(to: &Address) -> Result<Self> {
        let channel = to
            .endpoint()?
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .connect()
            .await?;
        let (messages, waiting) = mpsc::channel(ROOM);
        let mut grpc = Grpc::new(channel);
        grpc.ready().await?;
        tokio::spawn(async move {
            let request = tonic::Request::new(ReceiverStream::new(waiting));
            let path = http::uri::PathAndQuery::from_static(PUBLISH);
            let ended = grpc
                .client_streaming::<_, _, Bytes, _>(request, path, BytesCodec)
                .await;
            if let Err(status) = ended {
                tracing::debug!(%status, "a bare stream ended");
            }
        });
        Ok(BareStream { messages })
    }

    /// Sends each text as a message.
    pub async fn send(&mut self, texts: Vec<String>) -> Result<()> {
        for text in texts {
            self.messages
                .send(text.into())
                .await
                .context("the bare stream has ended")?;
        }
        Ok(())
    }
}
