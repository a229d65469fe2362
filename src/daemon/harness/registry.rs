//! The kinds of agent program this daemon knows.

use std::path::{Path, PathBuf};

use super::HarnessKind;
use super::acp::{self, AcpAgent, Machine};
use super::claude::{ClaudeCode, ClaudeOptions, Demo};
use super::codex::Codex;
use super::command::Command;
use crate::daemon::policy::Policy;
use crate::domain::Harness;

/// All kinds, by name.
pub struct Registry {
    kinds: Vec<Box<dyn HarnessKind>>,
}

impl Registry {
    /// The built-in kinds. `program` is this binary, which is also the scripted agent; `claude` is the
    /// program of Claude Code where the owner names one, and `acp` are agents of the owner's that speak ACP.
    pub fn built_in(
        policy: &Policy,
        program: &Path,
        claude: Option<PathBuf>,
        acp: &[AcpAgent],
    ) -> Self {
        let env = |name: &str| std::env::var_os(name);
        let passed_on = |name: &str| policy.passes_always(name);
        let options = ClaudeOptions::from_env(claude, env, passed_on);
        let machine = Machine::from_env(options.clone(), env, passed_on);
        let mut kinds: Vec<Box<dyn HarnessKind>> = vec![
            Box::new(ClaudeCode::new(options)),
            Box::new(Codex::new(machine.clone())),
        ];
        for agent in acp::agents(acp, &machine) {
            kinds.push(Box::new(agent));
        }
        kinds.push(Box::new(Demo::new(program.to_owned(), None)));
        kinds.push(Box::new(Command {
            refused: policy.refuses_harness("command"),
        }));
        Registry::of(kinds)
    }

    /// These kinds.
    pub fn of(kinds: Vec<Box<dyn HarnessKind>>) -> Self {
        Registry { kinds }
    }

    /// The kind with this name.
    pub fn get(&self, name: &str) -> Option<&dyn HarnessKind> {
        self.kinds
            .iter()
            .map(Box::as_ref)
            .find(|kind| kind.name() == name)
    }

    /// Looks which kinds can be used here, and why not. May start programs for a moment: not for a task
    /// that others wait for.
    pub fn probe(&self, policy: &Policy) -> Vec<Harness> {
        self.kinds
            .iter()
            .map(|kind| match policy.refuses_harness(kind.name()) {
                None => kind.probe(),
                // What may not run is not started to be looked at either.
                Some(reason) => Harness {
                    name: kind.name().to_owned(),
                    available: false,
                    unavailable_reason: reason,
                    capabilities: kind.capabilities(),
                    ..Harness::default()
                },
            })
            .collect()
    }
}
