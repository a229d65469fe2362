//! How Claude Code and the demo agent are found and started.

use std::path::PathBuf;

use super::probe::ClaudeOptions;
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::daemon::harness::{HarnessKind, Launch, terminal_env};
use crate::domain::command::StartCommand;
use crate::domain::harness::{Login, PermissionMode};
use crate::domain::session::Mode;
use crate::domain::{Capabilities, Harness};
use crate::driver::claude::{ClaudeDriver, check_model};
use crate::driver::terminal::TerminalDriver;
use crate::driver::{Driver, Place};

/// The longest conversation id, in bytes.
const MAX_CONVERSATION_BYTES: usize = 128;

/// What the program and the demo agent can do alike.
const CAPABILITIES: Capabilities = Capabilities {
    steer: true,
    queue: true,
    permission: true,
    question: true,
    plan: true,
    resume: true,
    fork: true,
    model_switch: true,
    mode_switch: true,
    usage: true,
    quota: true,
    instructions: true,
    interrupt: true,
    terminal: false,
};

/// Claude Code as it is installed on this machine.
#[derive(Clone, Debug)]
pub struct ClaudeCode {
    options: ClaudeOptions,
}

impl ClaudeCode {
    /// The kind for a machine described by `options`.
    pub fn new(options: ClaudeOptions) -> Self {
        ClaudeCode { options }
    }
}

impl HarnessKind for ClaudeCode {
    fn name(&self) -> &str {
        "claude-code"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            terminal: true,
            ..CAPABILITIES
        }
    }

    fn probe(&self) -> Harness {
        self.options.probe(self.name(), self.capabilities())
    }

    fn launch(&self, session_id: SessionId, start: &StartCommand) -> Result<Launch> {
        let program = self.options.find().map_err(unavailable)?;
        let mut argv = vec![path_text(program)?];
        if start.mode == Mode::Interactive {
            // Its own configuration, as its user has it: what it asks about trust and sign-in, it asks in the
            // terminal.
            argv.extend(terminal_flags(session_id, start)?);
            let mut env = terminal_env();
            env.push(("DISABLE_AUTOUPDATER".to_owned(), "1".to_owned()));
            return Ok(Launch { argv, env });
        }
        argv.extend(
            [
                "-p",
                "--input-format=stream-json",
                "--output-format=stream-json",
                "--verbose",
                "--permission-prompt-tool=stdio",
                "--include-partial-messages",
                "--replay-user-messages",
            ]
            .map(str::to_owned),
        );
        argv.extend(conversation_flags(start)?);
        Ok(Launch {
            argv,
            // A program that replaces itself while it runs cannot be told from a crash. What it sends
            // home is its user's to decide, in its own settings.
            env: vec![("DISABLE_AUTOUPDATER".to_owned(), "1".to_owned())],
        })
    }

    fn driver(
        &self,
        place: Place,
        start: &StartCommand,
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn Driver>> {
        if start.mode == Mode::Interactive {
            let conversation = terminal_conversation(place.session_id, start);
            let driver = TerminalDriver::new(&start.cwd, &start.model, conversation);
            return Ok(Box::new(driver));
        }
        Ok(Box::new(ClaudeDriver::open(place, start, snapshot)?))
    }
}

/// The scripted agent within this binary, for trying and testing without an account.
#[derive(Clone, Debug)]
pub struct Demo {
    program: PathBuf,
    home: Option<PathBuf>,
}

impl Demo {
    /// The demo agent in `program` (this binary's own path), with its conversations in `home`, or in
    /// its own default place.
    pub fn new(program: PathBuf, home: Option<PathBuf>) -> Self {
        Demo { program, home }
    }
}

impl HarnessKind for Demo {
    fn name(&self) -> &str {
        "demo"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn probe(&self) -> Harness {
        let available = self.program.is_absolute() && self.program.is_file();
        Harness {
            name: self.name().to_owned(),
            available,
            unavailable_reason: match available {
                true => String::new(),
                false => format!("there is no program {}", self.program.display()),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            login: Login::None,
            capabilities: CAPABILITIES,
            models: Vec::new(),
        }
    }

    fn launch(&self, _session_id: SessionId, start: &StartCommand) -> Result<Launch> {
        let mut argv = vec![path_text(self.program.clone())?, "demo-agent".to_owned()];
        argv.extend(conversation_flags(start)?);
        let env = match &self.home {
            Some(home) => vec![("BATON_DEMO_HOME".to_owned(), path_text(home.clone())?)],
            None => Vec::new(),
        };
        Ok(Launch { argv, env })
    }

    fn driver(
        &self,
        place: Place,
        start: &StartCommand,
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn Driver>> {
        Ok(Box::new(ClaudeDriver::open(place, start, snapshot)?))
    }
}

/// The conversation of a session in a terminal: known before it begins, so that it can be resumed whatever happens.
fn terminal_conversation(session_id: SessionId, start: &StartCommand) -> String {
    match start.fork || start.provider_session_id.is_empty() {
        true => uuid::Builder::from_random_bytes(session_id.bits().to_be_bytes())
            .into_uuid()
            .to_string(),
        false => start.provider_session_id.clone(),
    }
}

/// Flags for mode, model and conversation of a session in a terminal.
fn terminal_flags(session_id: SessionId, start: &StartCommand) -> Result<Vec<String>> {
    // In a terminal nothing but the program itself answers, so the mode is told to it. Without a flag it would let
    // a model decide. Never a mode that skips asking but where the session's own says so.
    let mode = match start.permission_mode {
        PermissionMode::Deny => "dontAsk",
        PermissionMode::Ask | PermissionMode::AutoSafe => "manual",
        PermissionMode::Auto => "auto",
    };
    let mut flags = vec![format!("--permission-mode={mode}")];
    if !start.model.is_empty() {
        check_model(&start.model)?;
        flags.push(format!("--model={}", start.model));
    }
    let conversation = terminal_conversation(session_id, start);
    if start.provider_session_id.is_empty() {
        if start.fork {
            return Err(Error::invalid(
                "fork",
                "needs a conversation to branch off from",
            ));
        }
        flags.push(format!("--session-id={conversation}"));
        return Ok(flags);
    }
    check_conversation(&start.provider_session_id)?;
    flags.push(format!("--resume={}", start.provider_session_id));
    if start.fork {
        flags.push("--fork-session".to_owned());
        flags.push(format!("--session-id={conversation}"));
    }
    Ok(flags)
}

/// Flags for mode, model and conversation; each value is within its flag, so it cannot be one itself.
fn conversation_flags(start: &StartCommand) -> Result<Vec<String>> {
    if start.mode == Mode::Interactive {
        return Err(Error::invalid(
            "mode",
            "is interactive, and this harness has no such form",
        ));
    }
    // Every mode of ours asks: the server answers by mode and rules. Never a mode that skips asking.
    let mut flags = vec!["--permission-mode=default".to_owned()];
    if !start.model.is_empty() {
        check_model(&start.model)?;
        flags.push(format!("--model={}", start.model));
    }
    if start.provider_session_id.is_empty() {
        if start.fork {
            return Err(Error::invalid(
                "fork",
                "needs a conversation to branch off from",
            ));
        }
        return Ok(flags);
    }
    check_conversation(&start.provider_session_id)?;
    flags.push(format!("--resume={}", start.provider_session_id));
    if start.fork {
        flags.push("--fork-session".to_owned());
    }
    Ok(flags)
}

fn check_conversation(id: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if id.len() > MAX_CONVERSATION_BYTES || id.starts_with('-') || !id.bytes().all(plain) {
        return Err(Error::invalid(
            "provider_session_id",
            "is not a conversation id of this harness",
        ));
    }
    Ok(())
}

fn path_text(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| unavailable(format!("the path {path:?} is not UTF-8")))
}

fn unavailable(why: String) -> Error {
    Error::new(Code::HarnessUnavailable, why)
}
