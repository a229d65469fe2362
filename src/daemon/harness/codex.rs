//! Codex, through its app-server: how it is found, probed and started. [`crate::driver::codex`] reads what it writes.

use std::path::PathBuf;

use super::acp::Machine;
use super::program::{npm_version, on_path, version};
use super::{HarnessKind, Launch};
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::domain::command::StartCommand;
use crate::domain::harness::Login;
use crate::domain::session::Mode;
use crate::domain::{Capabilities, Harness, field};
use crate::driver::codex::CodexDriver;
use crate::driver::{Driver, Place};

/// The longest conversation id, in bytes.
const MAX_CONVERSATION_BYTES: usize = 128;

const CAPABILITIES: Capabilities = Capabilities {
    steer: false,
    queue: true,
    permission: true,
    // Codex asks questions when it plans only, which it is not told to.
    question: false,
    plan: false,
    resume: true,
    fork: false,
    model_switch: true,
    mode_switch: true,
    usage: true,
    quota: true,
    interrupt: true,
    instructions: false,
    terminal: false,
};

/// Codex as it is installed on this machine.
#[derive(Clone, Debug)]
pub struct Codex {
    machine: Machine,
}

impl Codex {
    /// The kind for this machine.
    pub fn new(machine: Machine) -> Self {
        Codex { machine }
    }

    fn find(&self) -> std::result::Result<PathBuf, String> {
        on_path(&self.machine.path, "codex").ok_or_else(|| {
            "there is no program `codex` on the daemon's PATH; install it with `npm install -g @openai/codex`"
                .to_owned()
        })
    }
}

impl HarnessKind for Codex {
    fn name(&self) -> &str {
        "codex"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn probe(&self) -> Harness {
        let mut harness = Harness {
            name: self.name().to_owned(),
            login: Login::Unknown,
            capabilities: CAPABILITIES,
            ..Harness::default()
        };
        let found = self.find().and_then(|program| match npm_version(&program) {
            Some(version) => Ok(version),
            None => {
                let home = self.machine.home.clone();
                let env = home.map(|home| ("HOME".into(), home.into_os_string()));
                version(&program, &self.machine.path, env.into_iter().collect())
            }
        });
        match found {
            Ok(version) => {
                harness.available = true;
                harness.version = version;
                harness.login = self.machine.codex_login();
                if harness.login == Login::SignedOut {
                    harness.unavailable_reason = "nobody is signed in: run `codex login` as the daemon's user, or let the daemon pass OPENAI_API_KEY on".to_owned();
                }
            }
            Err(why) => harness.unavailable_reason = why,
        }
        harness
    }

    fn launch(&self, _session_id: SessionId, start: &StartCommand) -> Result<Launch> {
        if start.mode == Mode::Interactive {
            return Err(Error::invalid(
                "mode",
                "is interactive, which this harness does not run in yet",
            ));
        }
        if start.fork {
            return Err(Error::invalid(
                "fork",
                "is not something that this harness can do",
            ));
        }
        field::word("model", &start.model)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let id = &start.provider_session_id;
        if id.len() > MAX_CONVERSATION_BYTES || !id.bytes().all(plain) {
            return Err(Error::invalid(
                "provider_session_id",
                "is not a conversation id of this harness",
            ));
        }
        let unavailable = |why| Error::new(Code::HarnessUnavailable, why);
        let program = self.find().map_err(unavailable)?;
        let program = program
            .into_os_string()
            .into_string()
            .map_err(|path| unavailable(format!("the path {path:?} is not UTF-8")))?;
        Ok(Launch {
            argv: vec![program, "app-server".to_owned()],
            env: Vec::new(),
        })
    }

    fn driver(
        &self,
        place: Place,
        start: &StartCommand,
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn Driver>> {
        Ok(Box::new(CodexDriver::open(place, start, snapshot)?))
    }
}
