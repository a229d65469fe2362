//! Those who bring events: a simulated daemon, a bare stream, a daemon of the older design.

mod bare;
mod link;
mod older;

use anyhow::Result;

pub use bare::BareStream;
pub use link::{Enrolled, Machine, Session};
pub use older::OlderDaemon;

/// Someone who brings the events of one session.
pub enum Publisher {
    /// To Baton.
    Link(Session),
    /// To the bare server.
    Bare(BareStream),
    /// To the older design.
    Older(OlderDaemon),
}

impl Publisher {
    /// Brings events, as soon as the other side has room for them. What is acknowledged is another question.
    pub async fn send(&mut self, texts: Vec<String>) -> Result<()> {
        match self {
            Publisher::Link(session) => session.send(texts).await,
            Publisher::Bare(stream) => stream.send(texts).await,
            Publisher::Older(daemon) => daemon.send(texts).await,
        }
    }

    /// Brings pieces of live text: over the bare server a message like any other.
    pub async fn send_live(&mut self, texts: Vec<String>) -> Result<()> {
        match self {
            Publisher::Link(session) => session.send_live(texts).await,
            Publisher::Bare(_) | Publisher::Older(_) => self.send(texts).await,
        }
    }

    /// Waits until everything that was brought is acknowledged. The bare server acknowledges nothing.
    pub async fn settle(&mut self) -> Result<()> {
        match self {
            Publisher::Link(session) => session.settle(0).await,
            Publisher::Bare(_) => Ok(()),
            Publisher::Older(daemon) => {
                daemon.settle(0).await;
                Ok(())
            }
        }
    }

    /// Events that were brought and are not acknowledged.
    pub fn behind(&self) -> u64 {
        match self {
            Publisher::Link(session) => session.sent().saturating_sub(session.acked()),
            Publisher::Bare(_) => 0,
            Publisher::Older(daemon) => daemon.sent().saturating_sub(daemon.acked()),
        }
    }
}
