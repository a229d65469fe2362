//! Any program, run as it is.

use super::{HarnessKind, Launch, terminal_env};
use crate::base::Error;
use crate::base::id::SessionId;
use crate::domain::command::StartCommand;
use crate::domain::harness::Login;
use crate::domain::session::Mode;
use crate::domain::{Capabilities, Harness};
use crate::driver::command::CommandDriver;
use crate::driver::terminal::TerminalDriver;
use crate::driver::{Driver, Place};

/// The kind `command`.
#[derive(Debug)]
pub struct Command {
    /// Why the owner does not allow it; `None` if it is allowed.
    pub refused: Option<String>,
}

impl HarnessKind for Command {
    fn name(&self) -> &str {
        "command"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            queue: true,
            terminal: true,
            ..Capabilities::default()
        }
    }

    fn probe(&self) -> Harness {
        Harness {
            name: self.name().to_owned(),
            available: self.refused.is_none(),
            unavailable_reason: self.refused.clone().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            login: Login::None,
            capabilities: self.capabilities(),
            models: Vec::new(),
        }
    }

    fn launch(&self, _session_id: SessionId, start: &StartCommand) -> Result<Launch, Error> {
        if start.mode == Mode::Interactive && start.argv.is_empty() {
            // The owner's own shell, as the daemon knows it; never one that the caller names.
            let shell = std::env::var("SHELL")
                .ok()
                .filter(|shell| shell.starts_with('/') && std::path::Path::new(shell).is_file())
                .unwrap_or_else(|| "/bin/sh".to_owned());
            return Ok(Launch {
                argv: vec![shell],
                env: terminal_env(),
            });
        }
        if start.argv.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("argv", "must name a program"));
        }
        if !start.provider_session_id.is_empty() {
            return Err(Error::state("a command has no conversation to continue"));
        }
        Ok(Launch {
            argv: start.argv.clone(),
            env: match start.mode {
                Mode::Interactive => terminal_env(),
                Mode::Headless => Vec::new(),
            },
        })
    }

    fn driver(
        &self,
        _place: Place,
        start: &StartCommand,
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn Driver>, Error> {
        if start.mode == Mode::Interactive {
            let driver = TerminalDriver::new(&start.cwd, "", String::new());
            return Ok(Box::new(driver));
        }
        Ok(Box::new(CommandDriver::new(&start.cwd, snapshot)?))
    }
}
