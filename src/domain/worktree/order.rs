//! What a server asks a daemon to do with worktrees, and what the daemon answers.
//!
//! An order with an operation id is done once: the same id again gets the first answer, also after the
//! daemon was killed in the middle of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::field;
use super::{Look, name};
use crate::base::id::{CommandId, WorktreeId};
use crate::base::{Code, Error, Result, Timestamp};

/// The most files that are copied into a new worktree.
pub const MAX_COPIED_FILES: usize = 64;
/// The most bytes of a diff's text.
pub const MAX_DIFF_BYTES: usize = 1 << 20;
/// The most files that a diff names.
pub const MAX_DIFF_FILES: usize = 1_000;
/// The most that is kept of what a command wrote, in bytes: its end, where errors are.
pub const MAX_OUTPUT_BYTES: usize = 16 * 1024;
/// The most worktrees of a plan, and snapshots of a list.
pub const MAX_LISTED: usize = 1_000;
/// The longest that a set-up or test command may take.
pub const MAX_COMMAND_TIME: Duration = Duration::from_secs(30 * 60);
/// How long one takes if nothing else was asked for.
pub const COMMAND_TIME: Duration = Duration::from_secs(5 * 60);

/// Something to do or to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The worktree; `None` where the order is about a repository or the machine.
    pub worktree_id: Option<WorktreeId>,
    /// The operation; `None` where nothing is changed.
    pub operation_id: Option<CommandId>,
    /// What.
    pub body: OrderBody,
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBody {
    /// Make it.
    Create(Box<Create>),
    /// Say what it looks like, and how an operation ended.
    Look,
    /// Say how it differs from its target.
    Diff {
        /// The most bytes of text.
        max_bytes: u32,
    },
    /// Merge its branch.
    Merge(Merge),
    /// Remove it.
    Delete(Delete),
    /// Say which could be removed without loss.
    Plan(Plan),
    /// List what removals have kept.
    ListRecoverable {
        /// The repository.
        repository: String,
    },
}

/// A worktree to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Create {
    /// A directory of the repository; absolute.
    pub repository: String,
    /// The agent's name, not made plain yet.
    pub agent_name: String,
    /// The task's id; empty for a worktree of a session.
    pub task_id: String,
    /// What it is for.
    pub title: String,
    /// The branch; empty makes its name of the agent, the task and the title.
    pub branch: String,
    /// The directory's name beneath the root; empty makes it like the branch's.
    pub directory: String,
    /// The branch to begin at; empty is the target.
    pub base: String,
    /// The branch to merge into later; empty is the one that the repository has checked out.
    pub target: String,
    /// Whether to fetch the base from `origin` first.
    pub fetch: bool,
    /// Program and arguments to run in it before it is active.
    pub setup: Vec<String>,
    /// How long that may take.
    pub setup_time: Option<Duration>,
    /// Files of the repository's own checkout to copy into it.
    pub copy_files: Vec<String>,
    /// The ref of a snapshot to begin with instead of the base; empty if none.
    pub snapshot: String,
    /// When it was asked for; a part of some names.
    pub asked_at: Timestamp,
}

impl Create {
    /// Checks everything that can be checked without the machine. Both sides do.
    pub fn check(&self) -> Result<()> {
        if self.repository.is_empty() {
            return Err(Error::invalid("repository", "is missing"));
        }
        field::path("repository", &self.repository)?;
        name::agent("agent_name", &self.agent_name)?;
        name::task("task", &self.task_id)?;
        field::title("title", &self.title)?;
        name::branch("branch", &self.branch)?;
        name::directory("directory", &self.directory)?;
        name::branch("base", &self.base)?;
        name::branch("target", &self.target)?;
        command("setup", &self.setup, self.setup_time)?;
        if self.copy_files.len() > MAX_COPIED_FILES {
            return Err(Error::invalid(
                "copy_files",
                format!(
                    "has {} entries; the most is {MAX_COPIED_FILES}",
                    self.copy_files.len()
                ),
            ));
        }
        for (index, file) in self.copy_files.iter().enumerate() {
            name::copied_file(&format!("copy_files[{index}]"), file)?;
        }
        if !self.snapshot.is_empty() {
            snapshot_ref("recover_ref", &self.snapshot)?;
        }
        Ok(())
    }
}

fn command(field: &str, argv: &[String], time: Option<Duration>) -> Result<()> {
    field::argv(field, argv)?;
    if time.is_some_and(|time| time.is_zero() || time > MAX_COMMAND_TIME) {
        return Err(Error::invalid(
            &format!("{field}_time"),
            "must be more than nothing and at most 30 minutes",
        ));
    }
    Ok(())
}

/// What the refs of snapshots begin with.
pub const RECOVER_REFS: &str = "refs/baton/recover/";

/// A snapshot's ref: `refs/baton/recover/<worktree id>/<time>`.
pub fn snapshot_ref(field: &str, name: &str) -> Result<()> {
    let parts = name
        .strip_prefix(RECOVER_REFS)
        .and_then(|rest| rest.split_once('/'));
    let fits = parts.is_some_and(|(id, time)| {
        id.parse::<WorktreeId>().is_ok()
            && (1..=64).contains(&time.len())
            && time.bytes().all(|b| b.is_ascii_digit() || b == b'-')
            && !time.starts_with('-')
    });
    match fits {
        true => Ok(()),
        false => Err(Error::invalid(
            field,
            "is not the ref of a snapshot (refs/baton/recover/<worktree id>/<time>)",
        )),
    }
}

/// How a branch gets into its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All of it as one commit.
    #[default]
    Squash,
    /// With a merge commit.
    Merge,
    /// The target moves to the branch's head; refused where that is not possible.
    FastForward,
}

/// A merge to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Merge {
    /// How.
    pub strategy: Strategy,
    /// The branch to merge into; empty is the worktree's own target.
    pub target: String,
    /// The commit's subject; empty makes one of the title and the task.
    pub subject: String,
    /// Program and arguments that must succeed on the result before the target gets it.
    pub test: Vec<String>,
    /// How long that may take.
    pub test_time: Option<Duration>,
    /// Whether to merge what is committed although more is not.
    pub allow_uncommitted: bool,
}

impl Merge {
    /// Checks everything that can be checked without the machine.
    pub fn check(&self) -> Result<()> {
        name::branch("target", &self.target)?;
        field::title("subject", &self.subject)?;
        command("test", &self.test, self.test_time)
    }
}

/// A removal to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// Whether to do so although it has work that is nowhere else. A snapshot is kept then.
    pub force: bool,
    /// Whether to delete its branch too.
    pub delete_branch: bool,
}

/// What could be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Only of this repository; empty is all.
    pub repository: String,
    /// How long a worktree must have been left alone; `None` is the daemon's own figure.
    pub grace: Option<Duration>,
    /// Worktrees that are in use.
    pub keep: Vec<WorktreeId>,
}

/// Where a worktree is and what it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The repository's top directory, links resolved.
    pub repository: String,
    /// The worktree's directory, links resolved.
    pub path: String,
    /// Its branch.
    pub branch: String,
    /// Whether the branch was made for it.
    pub branch_created: bool,
    /// The branch it began at.
    pub base: String,
    /// The commit it began at.
    pub base_commit: String,
    /// The branch to merge into.
    pub target: String,
}

/// What a look showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The worktree; `None` if the daemon has none of that id, or none any more.
    pub look: Option<Look>,
    /// Whether something is being done to it now.
    pub busy: bool,
    /// How the operation that was asked after ended; `None` if it is not known here.
    pub finished: Option<Kept>,
}

/// How a worktree differs from its target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// The commit that it is compared with: where it left its target.
    pub base_commit: String,
    /// The commit that is checked out.
    pub head: String,
    /// The differences, uncommitted and untracked ones with them, as git writes patches.
    pub patch: String,
    /// Whether there is more than that.
    pub truncated: bool,
    /// The files.
    pub files: Vec<FileChange>,
}

/// What changed in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its path, relative to the worktree.
    pub path: String,
    /// Lines that are new.
    pub added: u32,
    /// Lines that are gone.
    pub removed: u32,
    /// Whether it is not text.
    pub binary: bool,
}

/// What became of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeVerdict {
    /// The target has it.
    #[default]
    Merged,
    /// The target had it all.
    Nothing,
    /// It does not fit; the target is untouched.
    Conflict,
    /// The test failed; the target is untouched.
    TestFailed,
}

/// A merge's result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeReport {
    /// What became of it.
    pub verdict: MergeVerdict,
    /// The branch that was to get it.
    pub target: String,
    /// The commit that the target has now.
    pub commit: String,
    /// The head of the branch that was merged.
    pub head: String,
    /// Files that do not fit.
    pub conflicts: Vec<String>,
    /// The end of what git or the test wrote.
    pub output: String,
}

/// A removal's result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The ref that keeps what would have been lost; empty if nothing would.
    pub recover_ref: String,
    /// Whether the branch is gone too.
    pub branch_deleted: bool,
}

/// A worktree that could be removed without loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The worktree.
    pub worktree_id: WorktreeId,
    /// Why it is one: unused for how long, or that the disk budget is used up.
    pub reason: String,
    /// Disk space it takes, in bytes.
    pub size_bytes: u64,
}

/// What a removal has kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recoverable {
    /// Its ref.
    pub recover_ref: String,
    /// The worktree it was.
    pub worktree_id: String,
    /// The snapshot's commit.
    pub commit: String,
    /// The commit that was checked out.
    pub head: String,
    /// The branch that was checked out.
    pub branch: String,
    /// When it was kept.
    pub at: Timestamp,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was made.
    Created(Place, Look),
    /// It was looked at.
    Looked(Box<Looked>),
    /// How it differs.
    Diff(Diff),
    /// It was merged, or why not.
    Merged(MergeReport),
    /// It was removed.
    Deleted(Deleted),
    /// What could be removed.
    Plan(Vec<Candidate>),
    /// What removals have kept.
    Recoverable(Vec<Recoverable>),
}

/// A daemon's answer: certain, whatever it says. An order without an answer may have been done.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What came of it, or why nothing did.
    pub result: Result<Outcome>,
}

/// A result as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It was done.
    Done(Box<Outcome>),
    /// It was refused, or failed.
    Failed {
        /// The error's code.
        code: String,
        /// What it says.
        message: String,
    },
}

impl Kept {
    /// A result, to be kept.
    pub fn of(result: &Result<Outcome>) -> Self {
        match result {
            Ok(outcome) => Kept::Done(Box::new(outcome.clone())),
            Err(error) => Kept::Failed {
                code: error.code().to_string(),
                message: error.message().to_owned(),
            },
        }
    }

    /// The result again.
    pub fn result(&self) -> Result<Outcome> {
        match self {
            Kept::Done(outcome) => Ok(outcome.as_ref().clone()),
            Kept::Failed { code, message } => Err(Error::new(
                // A code of a newer daemon is still an error.
                Code::parse(code).unwrap_or(Code::GitError),
                message.clone(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_snapshots_are_recovered_from() {
        let id = WorktreeId::from_bits(7);
        assert!(snapshot_ref("r", &format!("{RECOVER_REFS}{id}/20260101000000-1")).is_ok());
        for bad in [
            "refs/heads/main".to_owned(),
            format!("{RECOVER_REFS}{id}"),
            format!("{RECOVER_REFS}{id}/../../heads/main"),
            format!("{RECOVER_REFS}x/1"),
            format!("-{RECOVER_REFS}{id}/1"),
        ] {
            assert!(snapshot_ref("r", &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_result_is_kept_as_it_was() {
        let error: Result<Outcome> = Err(Error::new(Code::WorktreesDisabled, "no repository"));
        let again = Kept::of(&error).result().unwrap_err();
        assert_eq!(again.code(), Code::WorktreesDisabled);
        assert_eq!(again.message(), "no repository");
        let done = Outcome::Deleted(Deleted::default());
        let kept = Kept::of(&Ok(done.clone()));
        assert_eq!(kept.result().unwrap(), done);
    }
}
