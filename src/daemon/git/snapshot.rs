//! Keeps what a removal would take away: head, index and files as commits under a ref of ours.
//!
//! The snapshot is made with an index of its own, so that the checkout's is not touched, and without any
//! attribute: bytes are kept as they are on disk. Ignored files are not kept.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::ledger::{Entry, Scratch};
use super::lock::Lock;
use super::look::{Dirt, dirt};
use super::refs::NONE;
use super::repository::unusable;
use super::tree::Tree;
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::worktree::name;
use crate::domain::worktree::order::RECOVER_REFS;

/// The most of a list of files that is read, in bytes. A checkout with more is not removed.
const MAX_LIST: usize = 256 << 20;
/// How often a checkout is read until two readings are alike.
const READINGS: usize = 5;
/// The most commits beside the head that a snapshot names.
const MAX_PARENTS: usize = 60;

/// Names of a checkout's own that may hold commits which are nowhere else.
const OWN_NAMES: &[&str] = &[
    "HEAD",
    "ORIG_HEAD",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "AUTO_MERGE",
];

/// Copies a checkout's index, so that it can be changed. Without one, the copy is of the head.
pub fn copy_index(tree: &Tree, scratch: &Scratch) -> Result<PathBuf> {
    let index = scratch.file("index");
    let own = tree.dir.join("index");
    match fs::copy(&own, &index).and_then(|_| same_age(&own, &index)) {
        Ok(()) => Ok(index),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if tree.head()?.is_some() {
                let call = tree.at().index(&index).args(["read-tree", "HEAD"]);
                tree.repository().git().run(call)?;
            }
            Ok(index)
        }
        Err(error) => Err(unusable(&own, &error.to_string())),
    }
}

/// Gives the copy of an index the age of the original. Git takes a file that is younger than the index for
/// unchanged if its size is the same: with a younger index, a change made right after a checkout would be
/// overlooked.
fn same_age(own: &Path, copy: &Path) -> std::io::Result<()> {
    let modified = fs::metadata(own)?.modified()?;
    fs::File::options()
        .write(true)
        .open(copy)?
        .set_modified(modified)
}

/// A checkout that was read for its removal.
#[derive(Debug)]
pub struct Reading {
    index: PathBuf,
    /// What differs from the head, also where the index was told not to look.
    pub dirt: Dirt,
}

/// Reads a checkout. Files that its index was told to take as unchanged are looked at all the same.
pub fn read(tree: &Tree, scratch: &Scratch) -> Result<Reading> {
    let git = tree.repository().git();
    let index = copy_index(tree, scratch)?;
    let call = tree.at().index(&index).max(MAX_LIST);
    let listed = git.run(call.args(["ls-files", "-v", "-z"]))?;
    whole(listed.truncated)?;
    let hidden: Vec<&[u8]> = listed
        .stdout
        .split(|byte| *byte == 0)
        .filter(|line| {
            line.first()
                .is_some_and(|tag| tag.is_ascii_lowercase() || *tag == b'S')
        })
        .filter_map(|line| line.get(2..))
        .filter(|path| {
            use std::os::unix::ffi::OsStrExt as _;
            // Of a sparse checkout, most are not there, and need not be.
            let path = tree.files.join(std::ffi::OsStr::from_bytes(path));
            fs::symlink_metadata(path).is_ok()
        })
        .collect();
    if !hidden.is_empty() {
        let list = scratch.file("hidden");
        let bad = |error: std::io::Error| unusable(&list, &error.to_string());
        let mut file = fs::File::create(&list).map_err(bad)?;
        for path in hidden {
            file.write_all(path).map_err(bad)?;
            file.write_all(&[0]).map_err(bad)?;
        }
        for flag in ["--no-assume-unchanged", "--no-skip-worktree"] {
            let stdin = fs::File::open(&list).map_err(bad)?;
            let call = tree.at().index(&index).stdin(Some(stdin));
            git.run(call.args(["update-index", "-z", flag, "--stdin"]))?;
        }
    }
    let dirt = dirt(tree, Some(&index))?;
    Ok(Reading { index, dirt })
}

/// The commits that only this checkout's own names may hold.
pub fn own_commits(tree: &Tree) -> Result<Vec<String>> {
    let mut commits = Vec::new();
    for name in OWN_NAMES {
        commits.extend(tree.commit(name)?);
    }
    let call = tree.at().args([
        "for-each-ref",
        "--format=%(refname)",
        "refs/worktree",
        "refs/bisect",
        "refs/rewritten",
    ]);
    let listed = tree.repository().git().run(call)?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        commits.extend(tree.commit(name)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    commits.retain(|commit| seen.insert(commit.clone()));
    Ok(commits)
}

/// Makes a snapshot and its ref. `with` are commits that must be reachable from it.
pub fn keep(
    entry: &Entry,
    tree: &Tree,
    reading: &Reading,
    with: &[String],
    lock: &Lock,
    now: Timestamp,
) -> Result<String> {
    let repository = tree.repository();
    let git = repository.git();
    let at = || tree.at().index(&reading.index);
    let head = tree.head()?;
    let subject = format!("Work in {} when it was removed", entry.place.branch);
    let commit = |tree_id: &str, parents: &[String]| {
        let mut call = repository
            .under(lock)
            .args(["commit-tree", tree_id, "-m", &subject]);
        for parent in parents {
            call = call.args(["-p", parent]);
        }
        git.text(call)
    };
    let mut parents: Vec<String> = head.iter().cloned().collect();
    // What is staged may differ from both the head and the files.
    let staged = git.try_run(at().args(["write-tree"]))?;
    if staged.is_ok() && reading.dirt.uncommitted > 0 {
        let staged = String::from_utf8_lossy(&staged.stdout).trim().to_owned();
        parents.push(commit(&staged, &parents)?);
    }
    for commit in with {
        if !parents.contains(commit) {
            parents.push(commit.clone());
        }
    }
    if parents.len() > MAX_PARENTS {
        return Err(Error::state(
            "the worktree has too many commits that are nowhere else; name them by branches first",
        ));
    }
    let mut kept = read_files(tree, reading)?;
    for reading_again in 0.. {
        let again = read_files(tree, reading)?;
        if again == kept {
            break;
        }
        if reading_again == READINGS {
            return Err(Error::state(
                "something still writes into the worktree; end it first",
            ));
        }
        kept = again;
    }
    let commit = commit(&kept, &parents)?;
    for number in 0..100 {
        let stamp = match number {
            0 => name::stamp(now),
            number => format!("{}-{number}", name::stamp(now)),
        };
        let recover_ref = format!("{RECOVER_REFS}{}/{stamp}", entry.id);
        match repository.swap(lock, &recover_ref, &commit, NONE) {
            Ok(()) => return Ok(recover_ref),
            Err(error) if error.code() == Code::Stale => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Code::GitError, "no name is free for a snapshot"))
}

/// All files as a tree; those that are ignored are left out.
fn read_files(tree: &Tree, reading: &Reading) -> Result<String> {
    let git = tree.repository().git();
    let at = || tree.at().index(&reading.index);
    if tree.files.is_dir() {
        // No attribute holds but those of the empty tree: neither filters nor line ends.
        let empty = git.text(at().args(["hash-object", "-t", "tree", "/dev/null"]))?;
        git.run(at().env("GIT_ATTR_SOURCE", empty).args([
            "-c",
            "core.autocrlf=false",
            "add",
            "--all",
            "--",
            ".",
        ]))?;
    }
    let listed = git.run(at().max(MAX_LIST).args(["ls-files", "--stage", "-z"]))?;
    whole(listed.truncated)?;
    for line in listed.stdout.split(|byte| *byte == 0) {
        if !line.starts_with(b"160000 ") {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        let path = line.split_once('\t').map_or("", |(_, path)| path);
        if tree.files.join(path).join(".git").exists() {
            return Err(Error::state(format!(
                "the worktree has a repository of its own in {path}, which a snapshot does not keep; move it away first"
            )));
        }
    }
    git.text(at().args(["write-tree"]))
}

fn whole(truncated: bool) -> Result<()> {
    match truncated {
        true => Err(Error::state(
            "the worktree has too many files to make sure that nothing is lost; remove it by hand",
        )),
        false => Ok(()),
    }
}

/// Whether a checkout has a repository within: a submodule that is checked out, or one that git does not know.
pub fn refuse_nested(tree: &Tree, reading: &Reading) -> Result<()> {
    read_files(tree, reading).map(drop)
}
