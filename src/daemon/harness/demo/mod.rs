//! The built-in scripted agent: it speaks the protocol of a real agent and needs no account.
//!
//! It is a program of its own (`baton demo-agent`) that reads and writes the lines Claude Code does in
//! headless mode, so that one driver serves both. What it does in a turn is written in the message it is
//! sent, one directive a line (see `script`). It runs commands and writes files for real, asks before it
//! does, and sleeps only where a script says so. It calls no model and no network.
//!
//! The rooms: `script` reads directives, `protocol` reads and shapes lines, `permission` decides what
//! must be asked, `history` keeps conversations, `shell` runs commands, `file` changes files,
//! `ledger` counts what it would have cost, `agent` owns the loop, `control` answers the host, `tool` asks and
//! runs, `turn` plays a script.

mod agent;
mod control;
mod file;
mod history;
mod ledger;
mod permission;
mod protocol;

#[cfg(test)]
mod fuzz;
mod script;
mod shell;
mod tool;
mod turn;

#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};
use std::path::PathBuf;

use crate::base::SystemClock;

/// The variable that names the directory conversations are kept in.
pub const HOME_VARIABLE: &str = "BATON_DEMO_HOME";

/// How the demo agent is started.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The directory it works in; files are only written beneath it.
    pub cwd: PathBuf,
    /// The directory its conversations are kept in.
    pub home: PathBuf,
    /// The conversation to go on with.
    pub resume: Option<String>,
    /// Go on under a new id, and leave the resumed conversation as it is.
    pub fork_session: bool,
    /// The id of the new conversation, a UUID.
    pub session_id: Option<String>,
    /// The model to name; it changes nothing else.
    pub model: Option<String>,
    /// What is asked about: `default`, `acceptEdits`, `plan`, `bypassPermissions`, `dontAsk` or `auto`.
    pub permission_mode: Option<String>,
}

impl DemoOptions {
    /// A new conversation in `cwd`, kept in `home`.
    pub fn new(cwd: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Self {
        DemoOptions {
            cwd: cwd.into(),
            home: home.into(),
            resume: None,
            fork_session: false,
            session_id: None,
            model: None,
            permission_mode: None,
        }
    }

    /// Where conversations are kept when [`HOME_VARIABLE`] names no place: a folder of this user in the
    /// system's temporary directory.
    pub fn default_home() -> PathBuf {
        std::env::temp_dir().join(format!("baton-demo-{}", nix::unistd::Uid::current()))
    }
}

/// Runs the agent until its input ends or it is told to end; gives the exit code. What it has to say
/// about itself goes to stderr.
pub fn run(
    options: DemoOptions,
    stdin: impl BufRead + Send + 'static,
    stdout: impl Write + Send + 'static,
) -> i32 {
    run_with_stderr(options, stdin, stdout, std::io::stderr())
}

/// Runs the agent with a stderr of its own; see [`run`].
pub fn run_with_stderr(
    options: DemoOptions,
    stdin: impl BufRead + Send + 'static,
    stdout: impl Write + Send + 'static,
    stderr: impl Write + Send + 'static,
) -> i32 {
    agent::Agent::run(
        options,
        SystemClock::shared(),
        stdin,
        stdout,
        Box::new(stderr),
    )
}
