//! Worktrees: a branch and a checkout of its own for each agent and task, on a daemon's machine.
//!
//! [`name`] says what they may be called, [`order`] what the server asks a daemon to do with them. What is
//! on the machine is the daemon's to say; the record here is what the server knows of it.

pub mod name;
pub mod order;

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use crate::base::id::{CommandId, DaemonId, WorktreeId};
use crate::base::{Error, Result, Timestamp};

pub use order::{
    Answer, Candidate, Create, Delete, Deleted, Diff, FileChange, Looked, Merge, MergeReport,
    MergeVerdict, Order, OrderBody, Outcome, Place, Plan, Recoverable, Strategy,
};

/// What a daemon says of its own worktrees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Support {
    /// Whether it can make them at all.
    pub available: bool,
    /// Why not.
    pub unavailable_reason: String,
    /// Whether a request may bring set-up and test commands.
    pub commands: bool,
}

/// Where a worktree is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its daemon makes it.
    Creating,
    /// It can be worked in.
    Active,
    /// All that worked in it is suspended.
    Suspended,
    /// Its branch is being merged.
    Merging,
    /// It is being removed.
    Cleaning,
    /// It is gone; the record is kept.
    Archived,
}

impl State {
    /// The word for people and dialects.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Creating => "creating",
            State::Active => "active",
            State::Suspended => "suspended",
            State::Merging => "merging",
            State::Cleaning => "cleaning",
            State::Archived => "archived",
        }
    }

    /// Whether the state may be followed by another.
    pub const fn may_become(self, next: State) -> bool {
        use State::{Active, Archived, Cleaning, Creating, Merging, Suspended};
        matches!(
            (self, next),
            // A worktree that could not be made leaves nothing to be cleaned.
            (Creating, Active | Cleaning | Archived)
                | (Active, Suspended | Merging | Cleaning)
                | (Suspended, Active | Cleaning)
                | (Merging, Archived | Cleaning | Active)
                // A removal that was refused has removed nothing.
                | (Cleaning, Archived | Active)
        )
    }
}

/// What a daemon saw when it looked at a worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Look {
    /// The commit that is checked out; empty if there is none.
    pub head: String,
    /// Disk space that the checkout takes, in bytes.
    pub size_bytes: u64,
    /// Tracked files that differ from `head`.
    pub uncommitted: u32,
    /// Files that git does not know and is not told to ignore.
    pub untracked: u32,
    /// Commits that are neither in the target or base, nor at a remote, nor merged from here.
    pub unmerged: u32,
    /// When something in it changed last, as far as git's own files tell.
    pub last_used: Timestamp,
    /// Whether the checkout is gone though nobody removed it by Baton.
    pub missing: bool,
}

impl Look {
    /// Whether its removal would take work away.
    pub const fn has_work(&self) -> bool {
        self.uncommitted > 0 || self.untracked > 0 || self.unmerged > 0
    }
}

/// A merge that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The branch that got it.
    pub target: String,
    /// The commit it got.
    pub commit: String,
    /// The commit of the worktree's branch that went in.
    pub head: String,
    /// When.
    pub at: Timestamp,
}

/// What is done to a worktree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is made.
    Create,
    /// It is merged.
    Merge,
    /// It is removed.
    Delete,
}

/// Something a daemon was asked to do and has not answered yet. The same id is the same operation for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: CommandId,
    /// What it is.
    pub kind: Kind,
    /// What the daemon is asked, as it is sent again after a lost link.
    pub body: OrderBody,
    /// Since when.
    pub since: Timestamp,
}

/// How the newest operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Its id.
    pub id: CommandId,
    /// What came of it.
    pub result: order::Kept,
}

/// A worktree's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worktree {
    /// Id.
    pub id: WorktreeId,
    /// The daemon on whose machine it is.
    pub daemon_id: DaemonId,
    /// Where it is and what it is of. Until the daemon has made it, only what was asked for.
    pub place: Place,
    /// Where it is in its life.
    pub state: State,
    /// Name of the agent that works in it.
    pub agent_name: String,
    /// The task it is for; may be empty.
    pub task_id: String,
    /// What it is for, in a line; may be empty.
    pub title: String,
    /// What the daemon saw.
    pub look: Look,
    /// When it looked; `None` before the first time.
    pub looked_at: Option<Timestamp>,
    /// The newest merge of its branch.
    pub merged: Option<Merged>,
    /// What its daemon is asked to do now.
    pub operation: Option<Operation>,
    /// How the newest operation ended.
    pub finished: Option<Finished>,
    /// Why it could not be made; empty if it could.
    pub failure: String,
    /// The ref that keeps what a removal took away; empty if nothing was kept.
    pub recover_ref: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the record changed last.
    pub updated_at: Timestamp,
    /// Who asked for it.
    pub created_by: Actor,
}

impl Worktree {
    /// Moves it on; refuses a move that no edge allows.
    pub fn become_state(&mut self, next: State, now: Timestamp) -> Result<()> {
        if !self.state.may_become(next) {
            return Err(Error::state(format!(
                "the worktree is {} and cannot become {}",
                self.state.as_str(),
                next.as_str()
            ))
            .with("state", self.state.as_str()));
        }
        self.state = next;
        self.updated_at = now;
        Ok(())
    }

    /// Begins an operation, if the state allows it and none is under way.
    pub fn begin(&mut self, operation: Operation, now: Timestamp) -> Result<()> {
        if let Some(under_way) = &self.operation {
            return Err(Error::state(format!(
                "the worktree is {} just now; wait until that has ended",
                self.state.as_str()
            ))
            .with("operation", under_way.id));
        }
        let next = match operation.kind {
            Kind::Create => State::Creating,
            Kind::Merge => State::Merging,
            Kind::Delete => State::Cleaning,
        };
        self.become_state(next, now)?;
        self.operation = Some(operation);
        Ok(())
    }

    /// Takes over how an operation ended. One that is not under way changes nothing.
    pub fn finish(&mut self, id: CommandId, result: &Result<Outcome>, now: Timestamp) {
        let Some(operation) = self.operation.take_if(|operation| operation.id == id) else {
            return;
        };
        self.updated_at = now;
        self.finished = Some(Finished {
            id,
            result: order::Kept::of(result),
        });
        let next = match (operation.kind, result) {
            (Kind::Create, Ok(Outcome::Created(place, look))) => {
                self.place = place.clone();
                self.saw(look.clone(), now);
                State::Active
            }
            (Kind::Create, Err(error)) => {
                error.message().clone_into(&mut self.failure);
                State::Archived
            }
            (Kind::Delete, Ok(Outcome::Deleted(deleted))) => {
                self.recover_ref.clone_from(&deleted.recover_ref);
                self.look = Look::default();
                State::Archived
            }
            (Kind::Merge, Ok(Outcome::Merged(report))) => {
                if report.verdict == MergeVerdict::Merged {
                    self.merged = Some(Merged {
                        target: report.target.clone(),
                        commit: report.commit.clone(),
                        head: report.head.clone(),
                        at: now,
                    });
                    self.look.unmerged = 0;
                }
                State::Active
            }
            // A refusal, or an answer to something else, which changed nothing.
            _ => State::Active,
        };
        if self.state.may_become(next) {
            self.state = next;
        }
    }

    /// Its path from the repository's top directory; the whole path where it lies elsewhere.
    pub fn relative_path(&self) -> &str {
        let place = &self.place;
        place
            .path
            .strip_prefix(place.repository.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .unwrap_or(&place.path)
    }

    /// Takes over what the daemon saw.
    pub fn saw(&mut self, look: Look, now: Timestamp) {
        self.look = look;
        self.looked_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_edges_of_its_life_are_walked() {
        use State::{Active, Archived, Cleaning, Creating, Merging, Suspended};
        let all = [Creating, Active, Suspended, Merging, Cleaning, Archived];
        let edges = [
            (Creating, Active),
            (Creating, Cleaning),
            (Creating, Archived),
            (Active, Suspended),
            (Active, Merging),
            (Active, Cleaning),
            (Suspended, Active),
            (Suspended, Cleaning),
            (Merging, Archived),
            (Merging, Cleaning),
            (Merging, Active),
            (Cleaning, Archived),
            (Cleaning, Active),
        ];
        for from in all {
            for to in all {
                assert_eq!(
                    from.may_become(to),
                    edges.contains(&(from, to)),
                    "{from:?} {to:?}"
                );
            }
        }
    }
}
