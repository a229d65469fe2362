//! The daemon's side of a runner: start one, see whether one lives, talk to it.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::codec::{read_frame, write_frame};
use super::{LOCK_FILE, LOG_FILE, SOCKET_FILE, fault};
use crate::wire::runner_v1::{
    RunnerRequest, RunnerResponse, Status, runner_request::Body as Request,
    runner_response::Body as Response,
};

/// How long a runner may take to come up, and to say how things are.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest path that a socket address takes for sure, in bytes.
const MAX_SOCKET_PATH: usize = 100;

/// A connection to a runner that has said how things are.
#[derive(Debug)]
pub struct Connection {
    /// How things were when it was made.
    pub status: Status,
    /// What the runner says.
    pub from: Incoming,
    /// What it is told.
    pub to: Outgoing,
}

/// The reading half. Reading is not safe to cancel, so it belongs into a task of its own.
#[derive(Debug)]
pub struct Incoming(OwnedReadHalf);

/// The writing half.
#[derive(Debug)]
pub struct Outgoing(OwnedWriteHalf);

impl Incoming {
    /// The next message; `None` when the runner has gone. What a newer runner says is passed over.
    pub async fn next(&mut self) -> io::Result<Option<Response>> {
        loop {
            match read_frame::<RunnerResponse>(&mut self.0).await? {
                None => return Ok(None),
                Some(response) => {
                    if let Some(body) = response.body {
                        return Ok(Some(body));
                    }
                }
            }
        }
    }
}

impl Outgoing {
    /// Tells the runner something.
    pub async fn send(&mut self, body: Request) -> io::Result<()> {
        write_frame(&mut self.0, &RunnerRequest { body: Some(body) }).await
    }
}

/// Starts the runner of the session directory `dir` with `program` (this binary) and returns once it
/// listens.
pub async fn spawn(program: &Path, dir: &Path) -> io::Result<()> {
    let mut launcher = std::process::Command::new(program);
    launcher
        .arg0("baton")
        .arg("runner")
        .arg("--dir")
        .arg(dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    fault::give(&mut launcher);
    let mut launcher = tokio::process::Command::from(launcher).spawn()?;
    let status = timeout(PATIENCE, launcher.wait())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the runner did not come up"))??;
    if status.success() {
        return Ok(());
    }
    let log = tail(&dir.join(LOG_FILE));
    Err(io::Error::other(format!(
        "the runner did not come up: {log}"
    )))
}

/// Connects to the runner of the session directory `dir`.
pub async fn connect(dir: &Path) -> io::Result<Connection> {
    let stream = timeout(PATIENCE, open(dir))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if stream.peer_cred()?.uid() != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the socket is held by another user",
        ));
    }
    let (from, to) = stream.into_split();
    let mut from = Incoming(from);
    let first = timeout(PATIENCE, from.next())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match first {
        Some(Response::Status(status)) => Ok(Connection {
            status,
            from,
            to: Outgoing(to),
        }),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the runner did not say how things are",
        )),
    }
}

async fn open(dir: &Path) -> io::Result<UnixStream> {
    let path = dir.join(SOCKET_FILE);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return UnixStream::connect(path).await;
    }
    // The same directory under a short name.
    let handle = File::open(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd())).join(SOCKET_FILE);
    UnixStream::connect(short).await
}

/// Takes the lock of a session directory whose runner is gone, so that none can come up in it. `None`
/// while a runner lives.
pub fn lock_dead(dir: &Path) -> io::Result<Option<File>> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK_FILE))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let from = text.len().saturating_sub(1_000);
    String::from_utf8_lossy(&text[from..]).trim().to_owned()
}
