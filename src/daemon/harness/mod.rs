//! The kinds of agent program a daemon can run, behind one trait: how to find, probe and launch a program, and
//! which [driver](crate::driver) reads it.

pub mod acp;
pub mod claude;
pub mod codex;
pub mod command;
pub mod demo;
pub mod registry;

mod program;

use crate::base::Error;
use crate::base::id::SessionId;
use crate::domain::command::StartCommand;
use crate::domain::{Capabilities, Harness};
use crate::driver::{Driver, Place};

/// How to start a harness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program (absolute path) and arguments; options as `--flag=value`, never text from people.
    pub argv: Vec<String>,
    /// Environment variables the harness needs beside the session's own.
    pub env: Vec<(String, String)>,
}

/// What tells a program which terminal it has: one that xterm, and whatever calls itself so, understands.
pub fn terminal_env() -> Vec<(String, String)> {
    [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// A kind of agent program.
pub trait HarnessKind: Send + Sync {
    /// Its name: claude-code, codex, command, demo, acp:NAME.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Looks whether it can be used on this machine: version, login, and why not. May start the program
    /// for a moment; called at the daemon's start and now and then.
    fn probe(&self) -> Harness;

    /// How to start it for this command. Refuses what it cannot do.
    fn launch(&self, session_id: SessionId, start: &StartCommand) -> Result<Launch, Error>;

    /// The interpreter of a session, new or from a snapshot.
    fn driver(
        &self,
        place: Place,
        start: &StartCommand,
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn Driver>, Error>;
}
