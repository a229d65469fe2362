//! The runner: a small process that owns one harness's pipes, so that the daemon may come and go.
//!
//! It is deliberately dumb: it numbers what it reads and keeps it in a spool, writes what it is told to
//! and notes that, ends the harness step by step, and answers on a socket. It never interprets a byte.
//! Its protocol is `proto/baton/runner/v1`.
//!
//! `baton runner --dir DIR` starts it: that process makes a session of its own, starts the runner proper
//! in it, waits until it listens and ends, so that the runner is nobody's child. In `DIR` (mode 0700):
//! `spec.json`, `spool/`, `ledger`, `runner.sock`, `runner.lock` (locked while it lives), `runner.log`.
//!
//! It is the subreaper of all it starts. When the harness has ended, whatever it left running is ended
//! too. Without a daemon for a time that the spec says, it ends the harness and itself.

pub mod client;
pub mod codec;
pub mod fault;
pub mod ledger;
pub mod spec;

mod hold;
mod input;
mod ladder;
mod lines;
mod pipes;
mod pty;
mod recorder;
mod socket;

#[cfg(test)]
mod fuzz;

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

pub use hold::{LOCK_FILE, SPOOL_DIR};
pub use ledger::Ledger;
pub use socket::{PROTOCOL, SOCKET_FILE};
pub use spec::Spec;

/// Tells the second process from the first.
const HOLD_VARIABLE: &str = "BATON_RUNNER_HOLDS";
/// Name of the file that takes what a runner has to say.
pub const LOG_FILE: &str = "runner.log";

/// The runner's program: with success once the runner listens (first process), or when all is over
/// (second process).
pub fn run(dir: &Path) -> ExitCode {
    let done = match std::env::var_os(HOLD_VARIABLE) {
        None => launch(dir),
        Some(_) => start(dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("the runner in {} failed: {error}", dir.display()));
            ExitCode::FAILURE
        }
    }
}

/// The first process: a new session, the runner in it, and the end once that listens.
fn launch(dir: &Path) -> io::Result<()> {
    // Fails only for the leader of a process group, which then stays in its session.
    let _ = nix::unistd::setsid();
    let dir = &dir.canonicalize()?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(dir.join(LOG_FILE))?;
    let mut runner = Command::new(std::env::current_exe()?);
    runner
        .arg0("baton")
        .arg("runner")
        .arg("--dir")
        .arg(dir)
        .env_clear()
        .env(HOLD_VARIABLE, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    fault::hand_on(&mut runner);
    let mut runner = runner.spawn()?;
    let mut line = String::new();
    if let Some(stdout) = runner.stdout.take() {
        BufReader::new(stdout.take(64)).read_line(&mut line)?;
    }
    if line == "ready\n" {
        return Ok(());
    }
    let _ = runner.wait();
    Err(io::Error::other(format!(
        "it did not come up; {LOG_FILE} says why"
    )))
}

/// The second process.
fn start(dir: &Path) -> io::Result<()> {
    close_inherited();
    // A path to a socket may have 108 bytes at most; from within the directory it is short.
    std::env::set_current_dir(dir)?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(hold::hold(io::stdout()))
}

/// Closes what was open in the process that started this one and leaked through it: a runner lives for
/// days, and somebody's lock or pipe must not live as long.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for number in open.into_iter().filter(|number| *number > 2) {
        // The one that was listed for the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
}

/// A line for whoever looks into `runner.log`. Never what a harness wrote or was given.
fn log(text: &str) {
    use std::io::Write as _;
    let now = crate::base::Clock::now(&crate::base::SystemClock);
    let _ = writeln!(io::stderr(), "{now} {text}");
}
