//! How an agent that speaks ACP is found, probed and started.

use std::path::PathBuf;

use super::agent::AcpAgent;
use super::known::{Known, Machine};
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::daemon::harness::program::{is_program, npm_version, on_path, version};
use crate::daemon::harness::{HarnessKind, Launch};
use crate::domain::command::StartCommand;
use crate::domain::harness::Login;
use crate::domain::session::Mode;
use crate::domain::{Capabilities, Harness, field};
use crate::driver::acp::AcpDriver;
use crate::driver::{Driver, Place};

/// The longest conversation id, in bytes.
const MAX_CONVERSATION_BYTES: usize = 512;

/// What any such agent can do. Some cannot continue a conversation; that is known when they are asked to.
const CAPABILITIES: Capabilities = Capabilities {
    steer: false,
    queue: true,
    permission: true,
    question: false,
    plan: false,
    resume: true,
    fork: false,
    model_switch: true,
    mode_switch: true,
    usage: true,
    quota: false,
    interrupt: true,
    instructions: false,
    terminal: false,
};

#[derive(Clone, Debug)]
enum Which {
    Known(&'static Known),
    Own(AcpAgent),
}

/// An agent that speaks ACP.
#[derive(Clone, Debug)]
pub struct Acp {
    name: String,
    which: Which,
    machine: Machine,
}

impl Acp {
    /// One that is known.
    pub fn known(known: &'static Known, machine: Machine) -> Self {
        Acp {
            name: format!("acp:{}", known.name),
            which: Which::Known(known),
            machine,
        }
    }

    /// One that the owner configured.
    pub fn own(agent: AcpAgent, machine: Machine) -> Self {
        Acp {
            name: format!("acp:{}", agent.name()),
            which: Which::Own(agent),
            machine,
        }
    }

    /// The program's absolute path, or a sentence that says why there is none.
    fn find(&self) -> std::result::Result<PathBuf, String> {
        match &self.which {
            Which::Known(known) => known
                .programs
                .iter()
                .find_map(|program| on_path(&self.machine.path, program))
                .ok_or_else(|| {
                    format!(
                        "there is no program `{}` on the daemon's PATH; install it with `{}`",
                        known.programs[0], known.install
                    )
                }),
            Which::Own(agent) => {
                let program = &agent.argv()[0];
                let found = match program.starts_with('/') {
                    true => Some(PathBuf::from(program)).filter(|program| is_program(program)),
                    false => on_path(&self.machine.path, program),
                };
                found.ok_or_else(|| {
                    format!(
                        "the program {program} that --acp {} names is not there, or not executable",
                        agent.name()
                    )
                })
            }
        }
    }

    fn arguments(&self) -> Vec<String> {
        match &self.which {
            Which::Known(known) => known
                .arguments
                .iter()
                .map(|&word| word.to_owned())
                .collect(),
            Which::Own(agent) => agent.argv()[1..].to_vec(),
        }
    }

    /// The version, as far as it is said without starting a conversation. A program of the owner's is not started
    /// for it: nobody knows what it would do.
    fn version(&self, program: &std::path::Path) -> Option<String> {
        if let Some(version) = npm_version(program) {
            return Some(version);
        }
        let Which::Known(_) = self.which else {
            return None;
        };
        let home = self.machine.home.clone();
        let env = home.map(|home| ("HOME".into(), home.into_os_string()));
        version(program, &self.machine.path, env.into_iter().collect()).ok()
    }
}

impl HarnessKind for Acp {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn probe(&self) -> Harness {
        let mut harness = Harness {
            name: self.name.clone(),
            login: Login::Unknown,
            capabilities: CAPABILITIES,
            ..Harness::default()
        };
        match self.find() {
            Ok(program) => {
                harness.available = true;
                harness.version = self.version(&program).unwrap_or_default();
                if let Which::Known(known) = &self.which {
                    harness.login = (known.login)(&self.machine);
                    if harness.login == Login::SignedOut {
                        harness.unavailable_reason =
                            format!("nobody is signed in: {}", known.sign_in);
                    }
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
                "is interactive, and an agent that speaks ACP has no terminal of its own",
            ));
        }
        if start.fork {
            return Err(Error::invalid(
                "fork",
                "is not something that this harness can do",
            ));
        }
        field::word("model", &start.model)?;
        let id = &start.provider_session_id;
        if id.len() > MAX_CONVERSATION_BYTES || id.chars().any(char::is_control) {
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
        let mut argv = vec![program];
        argv.extend(self.arguments());
        let env = match &self.which {
            Which::Known(known) => known.env,
            Which::Own(_) => &[],
        };
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Ok(Launch {
            argv,
            env: env.iter().map(own).collect(),
        })
    }

    fn driver(
        &self,
        place: Place,
        start: &StartCommand,
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn Driver>> {
        Ok(Box::new(AcpDriver::open(place, start, snapshot)?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::super::agents;
    use super::*;

    fn script(path: &Path, body: &str) {
        std::fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn start() -> StartCommand {
        StartCommand {
            harness: "acp:gemini".to_owned(),
            cwd: "/p".to_owned(),
            model: String::new(),
            permission_mode: Default::default(),
            mode: Mode::Headless,
            argv: vec!["from".to_owned(), "the server".to_owned()],
            env_names: Vec::new(),
            provider_session_id: String::new(),
            fork: false,
            one_shot: false,
            replaces: None,
            instructions: String::new(),
            terminal: None,
        }
    }

    fn named<'a>(agents: &'a [Acp], name: &str) -> &'a Acp {
        agents.iter().find(|agent| agent.name == name).unwrap()
    }

    #[test]
    fn what_is_installed_is_found_and_what_is_not_says_how() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let machine = Machine {
            path: bin.clone().into_os_string(),
            home: Some(directory.path().to_owned()),
            ..Machine::default()
        };
        let own = [AcpAgent::parse(&format!("mine={}/mine --acp", bin.display())).unwrap()];
        let all = agents(&own, &machine);
        for agent in &all {
            let harness = agent.probe();
            assert!(!harness.available, "{harness:?}");
            assert!(!harness.unavailable_reason.is_empty());
            let refused = agent.launch(SessionId::from_bits(1), &start()).unwrap_err();
            assert_eq!(refused.code(), Code::HarnessUnavailable);
        }
        let missing = named(&all, "acp:gemini").probe();
        assert!(
            missing
                .unavailable_reason
                .contains("npm install -g @google/gemini-cli")
        );

        script(&bin.join("gemini"), "echo 0.61.0");
        let package = directory.path().join("pkg/dist");
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("../package.json"), r#"{"version":"9.8.7"}"#).unwrap();
        script(&package.join("index.js"), "exit 1");
        std::os::unix::fs::symlink(package.join("index.js"), bin.join("codex-acp")).unwrap();
        script(&bin.join("mine"), "touch started");

        let gemini = named(&all, "acp:gemini").probe();
        assert!(gemini.available);
        assert_eq!(
            (gemini.version.as_str(), gemini.login),
            ("0.61.0", Login::SignedOut)
        );
        assert!(gemini.unavailable_reason.contains("nobody is signed in"));
        std::fs::create_dir(directory.path().join(".gemini")).unwrap();
        assert_eq!(named(&all, "acp:gemini").probe().login, Login::Unknown);
        std::fs::write(directory.path().join(".gemini/oauth_creds.json"), "{}").unwrap();
        assert_eq!(named(&all, "acp:gemini").probe().login, Login::SignedIn);
        // A package says its version without being started.
        assert_eq!(named(&all, "acp:codex").probe().version, "9.8.7");
        let mine = named(&all, "acp:mine").probe();
        assert_eq!((mine.available, mine.version.as_str()), (true, ""));

        // What runs is this machine's to say, whatever the server names.
        let launch = named(&all, "acp:mine")
            .launch(SessionId::from_bits(1), &start())
            .unwrap();
        assert_eq!(launch.argv[1..], ["--acp"]);
        assert!(launch.argv[0].ends_with("/bin/mine"));
        let launch = named(&all, "acp:gemini")
            .launch(SessionId::from_bits(1), &start())
            .unwrap();
        assert_eq!(launch.argv[1..], ["--acp"]);
    }

    #[test]
    fn an_agent_of_the_owners_takes_the_place_of_a_known_one() {
        let own = [AcpAgent::parse("gemini=/opt/gemini --acp").unwrap()];
        let all = agents(&own, &Machine::default());
        let named: Vec<&str> = all.iter().map(|agent| agent.name()).collect();
        assert_eq!(
            named,
            ["acp:claude", "acp:codex", "acp:opencode", "acp:gemini"]
        );
        let reason = all[3].probe().unavailable_reason;
        assert!(reason.contains("/opt/gemini"), "{reason}");
    }
}
