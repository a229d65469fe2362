//! Daemons: the machines that run agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::harness::{Harness, PermissionMode};
use crate::base::Timestamp;
use crate::base::id::{DaemonId, TokenId};

/// What a daemon says it can run. Its own policy made it; a call can only choose among it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Offer {
    /// Host name of the machine.
    pub hostname: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Version of the program.
    pub version: String,
    /// Harnesses.
    pub harnesses: Vec<Harness>,
    /// Directories beneath which sessions may run.
    pub roots: Vec<String>,
    /// The highest permission mode.
    pub max_permission_mode: PermissionMode,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Names of environment variables that a session may ask for.
    pub env_names: Vec<String>,
    /// Most living sessions.
    pub max_sessions: u32,
}

/// A daemon's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Id.
    pub id: DaemonId,
    /// Name for people, unique among daemons.
    pub name: String,
    /// Its credential.
    pub token_id: TokenId,
    /// What it can run, as it said last.
    pub offer: Offer,
    /// Whether it is linked now.
    pub attached: bool,
    /// Since when it is linked or not.
    pub since: Timestamp,
    /// Epoch of its newest link.
    pub link_epoch: u64,
    /// Boot generation of its newest link.
    #[serde(default)]
    pub boot_generation: u64,
    /// Whether no sessions are placed on it.
    pub draining: bool,
    /// When it was enrolled.
    pub created_at: Timestamp,
}

/// One entry of a directory on a daemon's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Name, without its directory.
    pub name: String,
    /// Absolute path.
    pub path: String,
    /// Whether it is a directory, or a link to one within the roots.
    pub is_directory: bool,
    /// Whether it is the top of a git repository.
    pub is_repository: bool,
}

/// A directory's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The path with links resolved; empty for the roots.
    pub path: String,
    /// The entries, directories first, each group by name.
    pub entries: Vec<DirectoryEntry>,
    /// Whether there are more than are shown.
    pub truncated: bool,
}
