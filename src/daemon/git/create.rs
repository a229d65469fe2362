//! Making a worktree: branch, directory, files, set-up.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::guard::runs_on_fetch;
use super::ledger::{Entry, Stage, Step};
use super::lock::Lock;
use super::look::look;
use super::refs::{NONE, full};
use super::remove::{put, remove_files};
use super::repository::{Repository, unusable};
use super::room::Room;
use super::tree::{Mark, Tree};
use crate::base::id::CommandId;
use crate::base::{Code, Error, Result};
use crate::domain::worktree::order::{COMMAND_TIME, MAX_OUTPUT_BYTES};
use crate::domain::worktree::{Create, Outcome, Place, name};

/// The largest file that is copied into a worktree.
const MAX_COPIED_BYTES: u64 = 64 << 20;

impl Room {
    /// Makes a worktree. What it has made is undone if anything fails.
    pub(super) fn create(
        &self,
        entry: &mut Entry,
        operation: CommandId,
        create: &Create,
    ) -> Result<Outcome> {
        create.check()?;
        self.may_run("setup", &create.setup)?;
        if entry.stage == Stage::Here {
            return Err(Error::new(
                Code::AlreadyExists,
                "the worktree exists already",
            ));
        }
        let repository = self.open_at(&create.repository)?;
        let lock = repository.lock()?;
        repository.make_root()?;
        entry.place = choose(&repository, create, &lock)?;
        if !create.task_id.is_empty() {
            entry.label.clone_from(&create.task_id);
        }
        entry.title.clone_from(&create.title);
        self.step(entry, operation, Step::Creating)?;
        let made = check_out(&repository, entry, create, &lock);
        drop(lock);
        let made = made.and_then(|tree| {
            copy_files(&repository, &tree, &create.copy_files)?;
            self.set_up(&tree, create)?;
            look(&repository, entry, Some(&tree))
        });
        match made {
            Ok(look) => {
                entry.stage = Stage::Here;
                Ok(Outcome::Created(entry.place.clone(), look))
            }
            Err(error) => {
                self.undo_create(entry)?;
                Err(error)
            }
        }
    }

    /// Removes what a creation has made so far.
    pub(super) fn undo_create(&self, entry: &mut Entry) -> Result<()> {
        let repository = self.reopen(entry)?;
        let lock = repository.lock()?;
        let path = PathBuf::from(&entry.place.path);
        if path.parent() != Some(repository.root.as_path()) {
            return Ok(());
        }
        // The ledger says that nothing was there before, and the marks say whose it is now.
        let tree = Tree::find(&repository, &path)?;
        if tree
            .as_ref()
            .and_then(Tree::marked)
            .is_some_and(|mark| mark.worktree_id != entry.id)
        {
            return Ok(());
        }
        let aside = repository.root.join(format!(".removing-{}", entry.id));
        if fs::symlink_metadata(&path).is_ok() && fs::symlink_metadata(&aside).is_err() {
            put(&path, &aside)?;
        }
        remove_files(&aside)?;
        if let Some(tree) = tree {
            remove_files(&tree.dir)?;
        }
        let place = &entry.place;
        if place.branch_created {
            // Only where it is still at its base: whatever was committed stays on it.
            match repository.remove_ref(&lock, &full(&place.branch), &place.base_commit) {
                Err(error) if error.code() == Code::Stale => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn set_up(&self, tree: &Tree, create: &Create) -> Result<()> {
        if create.setup.is_empty() {
            return Ok(());
        }
        let time = create.setup_time.unwrap_or(COMMAND_TIME);
        let ran = self.command(&create.setup, &tree.files, time)?;
        if ran.is_ok() {
            return Ok(());
        }
        Err(Error::state(format!(
            "the set-up command failed ({}), so no worktree was made: {}",
            ran.status,
            super::process::tail(&ran.said(MAX_OUTPUT_BYTES), 1_500)
        )))
    }
}

/// Where a new worktree goes and where it begins.
fn choose(repository: &Repository, create: &Create, lock: &Lock) -> Result<Place> {
    let agent = name::agent("agent_name", &create.agent_name)?;
    let slug = name::slug(&create.title);
    let or = |given: &str, else_: String| match given {
        "" => else_,
        given => given.to_owned(),
    };
    let branch = or(
        &create.branch,
        name::branch_of(&agent, &create.task_id, &slug, create.asked_at),
    );
    let directory = or(
        &create.directory,
        name::directory_of(&agent, &create.task_id, &slug, create.asked_at),
    );
    let target = match create.target.as_str() {
        "" => repository.current_branch()?.or_else(|| {
            let base = create.base.as_str();
            (!base.is_empty()).then(|| base.to_owned())
        }),
        target => Some(target.to_owned()),
    };
    let target = target.ok_or_else(|| {
        Error::invalid(
            "target",
            "is missing, and the repository's own checkout is on no branch that could be it",
        )
    })?;
    let base = or(&create.base, target.clone());
    let base_commit = if create.snapshot.is_empty() {
        let fetched = match create.fetch {
            true => fetch(repository, &base, lock)?,
            false => None,
        };
        match fetched {
            Some(commit) => commit,
            None => repository.base("base", &base)?,
        }
    } else {
        // The first parent is the head that was checked out.
        let snapshot = &create.snapshot;
        let found = match repository.commit(snapshot)? {
            Some(_) => repository.commit(&format!("{snapshot}^1"))?,
            None => None,
        };
        found.ok_or_else(|| Error::not_found("snapshot", snapshot))?
    };
    let path = repository.root.join(&directory);
    if fs::symlink_metadata(&path).is_ok() {
        return Err(Error::new(
            Code::AlreadyExists,
            format!("{} is there already", path.display()),
        )
        .with("path", path.display()));
    }
    let existing = repository.branch(&branch)?;
    if existing.is_some()
        && let Some(elsewhere) = repository.checkout_of(&branch)?
    {
        return Err(Error::new(
            Code::AlreadyExists,
            format!("the branch {branch} is checked out in {}", elsewhere.path),
        )
        .with("path", elsewhere.path));
    }
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::new(Code::GitError, "the repository's path is not UTF-8"))
    };
    Ok(Place {
        repository: text(&repository.top)?,
        path: text(&path)?,
        branch_created: existing.is_none(),
        base_commit: existing.unwrap_or(base_commit),
        branch,
        base,
        target,
    })
}

/// Fetches a branch from `origin`; its commit there. `None` if there is no such remote.
fn fetch(repository: &Repository, base: &str, lock: &Lock) -> Result<Option<String>> {
    let git = repository.git();
    let names = git.run(repository.at().args([
        "config",
        "--list",
        "--null",
        "--name-only",
        "--show-scope",
    ]))?;
    // In turns: where it is from, and its name. What is the owner's own was not read.
    let text = String::from_utf8_lossy(&names.stdout).into_owned();
    let parts: Vec<&str> = text.split('\0').collect();
    let runs = parts
        .chunks(2)
        .filter(|pair| matches!(pair, ["local" | "worktree", _]))
        .find(|pair| runs_on_fetch(pair[1]));
    if let Some(pair) = runs {
        return Err(Error::new(
            Code::GitError,
            format!(
                "the repository's own configuration says with {} what a fetch runs, so none is done; fetch by yourself",
                pair[1]
            ),
        ));
    }
    let short = base.strip_prefix("origin/").unwrap_or(base);
    let tracking = format!("refs/remotes/origin/{short}");
    git.run(repository.under(lock).fetch().args([
        "fetch",
        "--no-tags",
        "--no-recurse-submodules",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--quiet",
        "origin",
        &format!("+refs/heads/{short}:{tracking}"),
    ]))?;
    repository.commit(&tracking)
}

fn check_out(repository: &Repository, entry: &Entry, create: &Create, lock: &Lock) -> Result<Tree> {
    let place = &entry.place;
    let path = PathBuf::from(&place.path);
    let git = repository.git();
    if place.branch_created {
        repository.swap(lock, &full(&place.branch), &place.base_commit, NONE)?;
    }
    git.run(repository.under(lock).args([
        "worktree",
        "add",
        "--no-checkout",
        "--quiet",
        "--",
        &place.path,
        &place.branch,
    ]))?;
    super::fault::point(super::fault::MADE);
    let tree = Tree::find(repository, &path)?
        .ok_or_else(|| Error::new(Code::GitError, "git does not know the worktree it made"))?;
    tree.mark(&Mark {
        worktree_id: entry.id,
        temporary: false,
    })?;
    let read = |args: &[&str]| {
        let call = tree
            .under(lock)
            .args(["read-tree"])
            .args(args.iter().copied());
        git.run(call).map(drop)
    };
    read(&["--reset", "-u", "HEAD"])?;
    if !create.snapshot.is_empty() {
        // The files of the snapshot, and the index of the head: uncommitted again, as they were.
        read(&["--reset", "-u", &create.snapshot])?;
        read(&["--reset", "HEAD"])?;
    }
    Ok(tree)
}

/// Copies files of the repository's own checkout, links resolved on both sides.
fn copy_files(repository: &Repository, tree: &Tree, files: &[String]) -> Result<()> {
    for (index, file) in files.iter().enumerate() {
        let field = format!("copy_files[{index}]");
        let bad = |problem: &str| Error::invalid(&field, format!("({file}) {problem}"));
        let from = repository.top.join(file);
        let resolved = from
            .canonicalize()
            .map_err(|_| bad("is not in the repository's own checkout"))?;
        let is_gits = resolved.starts_with(&repository.common);
        if !resolved.starts_with(&repository.top) || is_gits {
            return Err(bad("leads out of the repository's own checkout"));
        }
        let to = tree.files.join(file);
        let parent = to.parent().unwrap_or(&tree.files);
        make_dirs(&tree.files, parent).map_err(|problem| bad(&problem))?;
        let open = |options: &mut fs::OpenOptions, path: &Path| {
            options
                .custom_flags(OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits())
                .open(path)
                .map_err(|error| unusable(path, &error.to_string()))
        };
        let source = open(fs::OpenOptions::new().read(true), &resolved)?;
        let meta = source
            .metadata()
            .map_err(|error| unusable(&from, &error.to_string()))?;
        if !meta.is_file() || meta.len() > MAX_COPIED_BYTES {
            return Err(bad("is no regular file of at most 64 MiB"));
        }
        let mut bytes = Vec::new();
        source
            .take(MAX_COPIED_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| unusable(&from, &error.to_string()))?;
        if fs::symlink_metadata(&to).is_ok() {
            return Err(bad("is in the worktree already"));
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        let mode = std::os::unix::fs::MetadataExt::mode(&meta) & 0o700;
        let mut target = open(options.mode(mode | 0o600), &to)?;
        target
            .write_all(&bytes)
            .map_err(|error| unusable(&to, &error.to_string()))?;
    }
    Ok(())
}

/// Makes directories beneath a directory, none of them by way of a link.
fn make_dirs(top: &Path, dir: &Path) -> std::result::Result<(), String> {
    let rest = dir.strip_prefix(top).map_err(|error| error.to_string())?;
    let mut at = top.to_owned();
    for part in rest.components() {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err("leads over something that is no directory".to_owned()),
            Err(_) => fs::create_dir(&at).map_err(|error| error.to_string())?,
        }
    }
    Ok(())
}
