//! The kinds of agent program this daemon knows.

use std::path::Path;

use super::HarnessKind;
use super::command::Command;
use crate::daemon::policy::Policy;
use crate::domain::Harness;

/// All kinds, by name.
pub struct Registry {
    kinds: Vec<Box<dyn HarnessKind>>,
}

impl Registry {
    /// The built-in kinds. `program` is this binary, which is also the built-in scripted agent.
    pub fn built_in(policy: &Policy, _program: &Path) -> Self {
        Registry::of(vec![Box::new(Command {
            refused: policy.refuses_harness("command"),
        })])
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
