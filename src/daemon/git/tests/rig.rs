//! A repository, a room, and a person who uses git beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::base::id::{CommandId, WorktreeId};
use crate::base::{Result, SharedClock, SystemClock, Timestamp};
use crate::daemon::git::{Options, Room};
use crate::daemon::policy::{Policy, PolicyOptions};
use crate::domain::worktree::{
    Create, Delete, Deleted, Look, Looked, Merge, MergeReport, MergeVerdict, Order, OrderBody,
    Outcome, Place, Recoverable,
};

/// Everything in one directory.
pub struct Rig {
    pub dir: TempDir,
    pub top: PathBuf,
    pub room: Room,
    pub options: Options,
    clock: SharedClock,
}

/// A worktree that was made.
pub struct Made {
    pub id: WorktreeId,
    pub place: Place,
}

impl Made {
    pub fn path(&self) -> PathBuf {
        PathBuf::from(&self.place.path)
    }
}

impl Rig {
    /// A repository with one commit on `main`, in the only root.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let top = base.join("root/repo");
        std::fs::create_dir_all(&top).unwrap();
        git(&top, &["init", "-q", "-b", "main"]);
        std::fs::write(top.join("file"), "one\ntwo\nthree\n").unwrap();
        std::fs::write(top.join(".gitignore"), "*.ignored\n").unwrap();
        git(&top, &["add", "."]);
        git(&top, &["commit", "-qm", "first"]);
        let options = Options::default();
        let room = open(&base, &options);
        Rig {
            dir,
            top,
            room,
            options,
            clock: SystemClock::shared(),
        }
    }

    /// The room as the next daemon has it.
    pub fn restart(&mut self) {
        let base = self.dir.path().canonicalize().unwrap();
        self.room = open(&base, &self.options);
        self.room.settle_all();
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn wanted(&self, task: &str) -> Create {
        Create {
            repository: self.top.to_str().unwrap().to_owned(),
            agent_name: "Alice".to_owned(),
            task_id: task.to_owned(),
            title: "Fix it".to_owned(),
            asked_at: self.now(),
            ..Create::default()
        }
    }

    pub fn order(&self, id: WorktreeId, body: OrderBody) -> Result<Outcome> {
        let operation = CommandId::generate(self.now());
        self.order_as(id, operation, body)
    }

    pub fn order_as(
        &self,
        id: WorktreeId,
        operation: CommandId,
        body: OrderBody,
    ) -> Result<Outcome> {
        let order = Order {
            worktree_id: Some(id),
            operation_id: Some(operation),
            body,
        };
        self.room.handle(&order)?.result
    }

    pub fn create(&self, create: Create) -> Result<Made> {
        let id = WorktreeId::generate(self.now());
        match self.order(id, OrderBody::Create(Box::new(create)))? {
            Outcome::Created(place, _) => Ok(Made { id, place }),
            other => panic!("{other:?}"),
        }
    }

    pub fn merge(&self, id: WorktreeId, merge: Merge) -> Result<MergeReport> {
        match self.order(id, OrderBody::Merge(merge))? {
            Outcome::Merged(report) => Ok(report),
            other => panic!("{other:?}"),
        }
    }

    pub fn merged(&self, id: WorktreeId) -> MergeReport {
        let report = self.merge(id, Merge::default()).unwrap();
        assert_eq!(report.verdict, MergeVerdict::Merged, "{report:?}");
        report
    }

    pub fn delete(&self, id: WorktreeId, force: bool, delete_branch: bool) -> Result<Deleted> {
        let body = OrderBody::Delete(Delete {
            force,
            delete_branch,
        });
        match self.order(id, body)? {
            Outcome::Deleted(deleted) => Ok(deleted),
            other => panic!("{other:?}"),
        }
    }

    pub fn looked(&self, id: WorktreeId) -> Looked {
        match self.order(id, OrderBody::Look).unwrap() {
            Outcome::Looked(looked) => *looked,
            other => panic!("{other:?}"),
        }
    }

    pub fn look(&self, id: WorktreeId) -> Look {
        self.looked(id).look.expect("it is there")
    }

    pub fn recoverable(&self) -> Vec<Recoverable> {
        let repository = self.top.to_str().unwrap().to_owned();
        let body = OrderBody::ListRecoverable { repository };
        match self.order(WorktreeId::from_bits(1), body).unwrap() {
            Outcome::Recoverable(found) => found,
            other => panic!("{other:?}"),
        }
    }

    /// What git says in the repository.
    pub fn git(&self, args: &[&str]) -> String {
        git(&self.top, args)
    }
}

fn open(base: &Path, options: &Options) -> Room {
    let policy = Policy::new(&PolicyOptions {
        roots: vec![base.join("root")],
        allow_commands: true,
        ..PolicyOptions::default()
    })
    .unwrap();
    Room::open(
        &base.join("state"),
        Arc::new(policy),
        options.clone(),
        SystemClock::shared(),
    )
    .unwrap()
}

/// Git as a person uses it, without any of our precautions.
pub fn try_git(dir: &Path, args: &[&str]) -> (bool, String) {
    let ran = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    (
        ran.status.success(),
        if ran.status.success() { text } else { said },
    )
}

pub fn git(dir: &Path, args: &[&str]) -> String {
    let (done, text) = try_git(dir, args);
    assert!(done, "git {args:?}: {text}");
    text
}

/// Writes a file and commits it.
pub fn commit(dir: &Path, file: &str, text: &str) -> String {
    std::fs::write(dir.join(file), text).unwrap();
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-qm", file]);
    git(dir, &["rev-parse", "HEAD"])
}
