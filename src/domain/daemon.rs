//! Daemons: the machines that run agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::harness::{Harness, PermissionMode};
use super::worktree;
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
    /// Most living sessions; 0 is as many as come.
    pub max_sessions: u32,
    /// Worktrees.
    pub worktrees: worktree::Support,
}

impl Offer {
    /// Whether a further session may live there beside so many.
    pub fn has_room_beside(&self, living: usize) -> bool {
        self.max_sessions == 0 || living < self.max_sessions as usize
    }
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
    /// The last times that its link came and went, oldest first, at most [`LINK_CHANGES_KEPT`].
    #[serde(default)]
    pub link_changes: Vec<LinkChange>,
}

/// Changes of a link that are remembered.
pub const LINK_CHANGES_KEPT: usize = 20;
/// Longest reason of a lost link that is remembered, in characters.
const REASON_CHARS: usize = 200;

/// A daemon's link came or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChange {
    /// When.
    pub at: Timestamp,
    /// Whether it was linked from then on.
    pub attached: bool,
    /// The link's epoch.
    pub epoch: u64,
    /// Why it went; empty if it came.
    pub reason: String,
}

impl Daemon {
    /// Its link came.
    pub fn link(&mut self, epoch: u64, now: Timestamp) {
        self.link_epoch = epoch;
        self.turn(true, String::new(), now);
    }

    /// Its link went.
    pub fn unlink(&mut self, reason: &str, now: Timestamp) {
        self.turn(false, reason.chars().take(REASON_CHARS).collect(), now);
    }

    fn turn(&mut self, attached: bool, reason: String, now: Timestamp) {
        self.attached = attached;
        self.since = now;
        self.link_changes.push(LinkChange {
            at: now,
            attached,
            epoch: self.link_epoch,
            reason,
        });
        let over = self.link_changes.len().saturating_sub(LINK_CHANGES_KEPT);
        self.link_changes.drain(..over);
    }
}

/// A question about a directory on a daemon's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryQuery {
    /// Absolute path; empty is all roots.
    pub path: String,
    /// Whether to show entries that start with a dot.
    pub hidden: bool,
    /// Whether to say only where it is, and to list nothing.
    pub brief: bool,
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
    /// Top of the git repository or worktree that it lies in; empty if it lies in none that may be worked in.
    pub repository: String,
    /// The entries, directories first, each group by name.
    pub entries: Vec<DirectoryEntry>,
    /// Whether there are more than are shown.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_changes_of_a_link_are_remembered_and_no_more() {
        let mut daemon = Daemon {
            id: DaemonId::from_bits(1),
            name: "d".to_owned(),
            token_id: TokenId::from_bits(1),
            offer: Offer::default(),
            attached: false,
            since: Timestamp::EPOCH,
            link_epoch: 0,
            boot_generation: 0,
            draining: false,
            created_at: Timestamp::EPOCH,
            link_changes: Vec::new(),
        };
        for epoch in 1..=30 {
            daemon.link(epoch, Timestamp::from_millis(epoch as i64));
            daemon.unlink(&"why".repeat(1_000), Timestamp::from_millis(epoch as i64));
        }
        assert_eq!(daemon.link_changes.len(), LINK_CHANGES_KEPT);
        let [.., came, went] = daemon.link_changes.as_slice() else {
            panic!("there are none");
        };
        assert!(came.attached && came.epoch == 30 && came.reason.is_empty());
        assert!(!went.attached && went.reason.chars().count() == REASON_CHARS);
        assert!(!daemon.attached && daemon.since == went.at);
    }
}
