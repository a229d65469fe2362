//! Options, the one-port accept loop, tower layers, background jobs, drain.
//!
//! [`Builder`] puts a server together, [`run`] runs it as a process does: with signals. Absent by design:
//! rules. What a call does is in `app`; here is who may call, how often, and for how long.

pub mod config;
pub mod options;

mod builder;
mod compose;
mod gauges;
mod prices;

pub mod bind;
pub mod connection;
pub mod drain;
mod io;
pub mod listener;
pub mod tls;

pub mod layers;

pub mod logging;
pub mod metrics_page;
pub mod signals;

pub use builder::{Builder, Server};
pub use compose::{close, compose};
pub use options::Options;

use self::signals::Signals;
use crate::base::Result;

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It drained.
    Drained,
    /// It was told twice, and stopped in the middle.
    Forced,
}

/// Runs a server until signals end it. `announce` is called when the port is open. The caller closes the
/// store afterwards.
pub async fn run(builder: Builder, announce: impl FnOnce(&Server)) -> Result<Ended> {
    let signals = Signals::catch()?;
    let server = builder.bind().await?;
    announce(&server);
    tracing::info!(
        address = %server.address(),
        tls = server.tls().is_some(),
        "listening"
    );
    let drain = server.drain().clone();
    let tls = server.tls().cloned();
    tokio::select! {
        () = server.serve() => Ok(Ended::Drained),
        () = signals.obey(&drain, tls.as_ref()) => Ok(Ended::Forced),
    }
}
