//! What the process is told from outside.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::drain::Drain;
use super::tls::Tls;
use crate::base::{Error, Result};

/// The signals, caught from now on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP.
    pub fn catch() -> Result<Self> {
        let catch = |kind| signal(kind).map_err(Error::internal);
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// The first SIGTERM or SIGINT begins the shutdown; returns at the second, which wants the end now.
    /// SIGHUP reads the certificates again.
    pub async fn obey(mut self, drain: &Drain, tls: Option<&Tls>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hangup.recv() => {
                    match tls.map(Tls::reload) {
                        None => tracing::info!("SIGHUP: there are no certificates to read again"),
                        Some(Ok(())) => tracing::info!("SIGHUP: certificates read again"),
                        Some(Err(error)) => tracing::error!(%error, "SIGHUP: the old certificates stay"),
                    }
                    continue;
                }
            }
            if drain.has_begun() {
                tracing::warn!("second signal: exiting now");
                return;
            }
            tracing::info!(deadline = ?drain.deadline(), "shutting down");
            drain.begin();
        }
    }
}
