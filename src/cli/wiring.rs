//! Where the command line meets the rooms that do the work in this process: server, daemon, runner, demo
//! agent, store. Each function is one call; nothing else in `cli` names those rooms.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::args::{DaemonArgs, Global, ServeArgs, StoreAction};
use super::output::Out;
use crate::base::{Code, Error, Secret};

/// A server that runs in this process.
pub struct Running {
    /// Its address, as a client on this machine reaches it.
    pub url: String,
    /// A token that opens everything.
    pub admin: Secret,
    /// Ends when the server has ended, whatever the reason.
    pub ended: BoxFuture<'static, anyhow::Result<()>>,
    /// Asks it to end.
    pub stop: Box<dyn FnOnce() + Send>,
}

/// How long a daemon that was asked to end may take.
pub const DAEMON_STOP: Duration = Duration::from_secs(15);

fn absent(what: &str) -> anyhow::Error {
    Error::new(
        Code::UnknownMethod,
        format!("this build of baton has no {what} in it"),
    )
    .into()
}

/// Starts the server in this process and returns when it listens.
pub async fn start_server(_global: &Global, _args: ServeArgs) -> anyhow::Result<Running> {
    Err(absent("server"))
}

/// `baton serve`: the server until it ends.
pub async fn serve(_global: &Global, _out: &Out, _args: ServeArgs) -> anyhow::Result<u8> {
    Err(absent("server"))
}

/// `baton daemon`: the daemon until it ends. `join_token` enrols it, if it is not enrolled yet.
pub async fn daemon(
    _global: &Global,
    _args: DaemonArgs,
    _join_token: Option<Secret>,
) -> anyhow::Result<u8> {
    Err(absent("daemon"))
}

/// `baton runner`: holds one agent process.
pub fn runner(_arguments: &[String]) -> anyhow::Result<u8> {
    Err(absent("runner"))
}

/// `baton demo-agent`: the scripted agent, on standard input and output.
pub fn demo_agent(_arguments: &[String]) -> anyhow::Result<u8> {
    Err(absent("demo agent"))
}

/// `baton store …`: works on the store in `data_dir`, with progress on standard error.
pub async fn store(_out: &Out, _data_dir: &Path, _action: StoreAction) -> anyhow::Result<u8> {
    Err(absent("local store"))
}
