//! Kinds of agent program, and what they can do.

use serde::{Deserialize, Serialize};

/// How an agent is allowed to act without being asked about. Ordered from the narrowest to the widest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PermissionMode {
    /// Every permission is refused without asking.
    Deny,
    /// Every request becomes a prompt.
    #[default]
    Ask,
    /// Tools that only read pass, all others become prompts.
    AutoSafe,
    /// Every permission is given; questions and plans are still asked.
    Auto,
}

impl PermissionMode {
    /// The mode's name as people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            PermissionMode::Deny => "deny",
            PermissionMode::Ask => "ask",
            PermissionMode::AutoSafe => "auto_safe",
            PermissionMode::Auto => "auto",
        }
    }

    /// Reads a name; `relay` is the older word for ask.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "deny" => Some(PermissionMode::Deny),
            "ask" | "relay" => Some(PermissionMode::Ask),
            "auto_safe" | "auto-safe" => Some(PermissionMode::AutoSafe),
            "auto" => Some(PermissionMode::Auto),
            _ => None,
        }
    }
}

/// What a harness can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Takes input while it works.
    pub steer: bool,
    /// Takes more than one input.
    pub queue: bool,
    /// Asks permissions.
    pub permission: bool,
    /// Asks questions.
    pub question: bool,
    /// Asks to review a plan.
    pub plan: bool,
    /// Continues an ended conversation.
    pub resume: bool,
    /// Branches a conversation off.
    pub fork: bool,
    /// Changes the model while it runs.
    pub model_switch: bool,
    /// Changes the permission mode while it runs.
    pub mode_switch: bool,
    /// Reports what it consumes.
    pub usage: bool,
    /// Reports when the provider refuses.
    pub quota: bool,
    /// Interrupts a turn and lives on.
    pub interrupt: bool,
    /// Runs in a terminal.
    pub terminal: bool,
    /// Takes instructions beside its inputs (a system prompt).
    pub instructions: bool,
}

/// Whether a harness is signed in with its provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// It has no notion of it.
    #[default]
    None,
    /// It is.
    SignedIn,
    /// It is not.
    SignedOut,
    /// It cannot be told without starting it.
    Unknown,
}

/// A kind of agent program on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Harness {
    /// Kind: claude-code, codex, acp:NAME, command, demo.
    pub name: String,
    /// Whether it can be used.
    pub available: bool,
    /// Why not.
    pub unavailable_reason: String,
    /// Its version.
    pub version: String,
    /// Whether it is signed in.
    pub login: Login,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Models it offers, where that is known without starting it.
    pub models: Vec<String>,
}
