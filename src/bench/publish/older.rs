//! A daemon of the older design: JSON over a WebSocket, one message an event, each acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitSink};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::bench::address::Address;
use crate::bench::drain::socket;

/// A daemon that sends events.
pub struct OlderDaemon {
    to: SplitSink<WebSocketStream<TcpStream>, Message>,
    next: u64,
    acked: Arc<AtomicU64>,
    moved: Arc<Notify>,
}

#[derive(Deserialize)]
struct Ack {
    seq: Option<u64>,
}

impl OlderDaemon {
    /// Connects for one session.
    pub async fn connect(to: &Address, session: &str) -> Result<Self> {
        let path = format!("/daemon?session={session}");
        let (to, mut from) = socket(to, &path, None).await?.split();
        let (acked, moved) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let (seen, told) = (acked.clone(), moved.clone());
        tokio::spawn(async move {
            while let Some(Ok(message)) = from.next().await {
                let Ok(text) = message.into_text() else { break };
                if let Ok(Ack { seq: Some(seq) }) = serde_json::from_str(text.as_str()) {
                    seen.fetch_max(seq, Ordering::Release);
                    told.notify_one();
                }
            }
        });
        Ok(OlderDaemon {
            to,
            next: 1,
            acked,
            moved,
        })
    }

    /// Sends each text as an event.
    pub async fn send(&mut self, texts: Vec<String>) -> Result<()> {
        for text in texts {
            let event = json!({ "seq": self.next, "t": "0", "payload": text });
            self.to
                .feed(Message::text(event.to_string()))
                .await
                .context("the older daemon's socket")?;
            self.next += 1;
        }
        self.to.flush().await.context("the older daemon's socket")
    }

    /// Events that were acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    /// Events that were sent.
    pub fn sent(&self) -> u64 {
        self.next - 1
    }

    /// Waits until no more than `most` events are sent and not acknowledged.
    pub async fn settle(&self, most: u64) {
        while self.sent().saturating_sub(self.acked()) > most {
            self.moved.notified().await;
        }
    }
}
