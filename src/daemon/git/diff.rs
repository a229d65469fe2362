//! How a worktree differs from its target: what is committed, what is not, and what git does not know yet.

use super::ledger::{Entry, Scratch};
use super::refs::full;
use super::snapshot::copy_index;
use super::tree::Tree;
use crate::base::{Code, Error, Result};
use crate::domain::worktree::order::{MAX_DIFF_BYTES, MAX_DIFF_FILES};
use crate::domain::worktree::{Diff, FileChange};

/// The most of the list of files that is read, in bytes.
const MAX_LIST: usize = 1 << 20;

/// The difference, with at most `max_bytes` of text.
pub fn diff(entry: &Entry, tree: &Tree, scratch: &Scratch, max_bytes: u32) -> Result<Diff> {
    let repository = tree.repository();
    let git = repository.git();
    let head = tree.head()?.unwrap_or_default();
    let target = repository.commit(&full(&entry.place.target))?;
    let mut base = entry.place.base_commit.clone();
    if let Some(target) = target
        && !head.is_empty()
    {
        let ran = git.try_run(repository.at().args(["merge-base", &target, &head]))?;
        if ran.is_ok() {
            String::from_utf8_lossy(&ran.stdout)
                .trim()
                .clone_into(&mut base);
        }
    }
    // An index of our own, in which what git does not know yet is said to be there.
    let index = copy_index(tree, scratch)?;
    git.run(
        tree.at()
            .index(&index)
            .args(["add", "--intent-to-add", "--", "."]),
    )?;
    let call = |format: &str| {
        tree.at().index(&index).args([
            "diff",
            format,
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--ignore-submodules=dirty",
            "--src-prefix=a/",
            "--dst-prefix=b/",
            "--find-renames",
        ])
    };
    let max = (max_bytes as usize).clamp(1, MAX_DIFF_BYTES);
    let patch = git.run(call("--patch").args([base.as_str(), "--"]).max(max))?;
    let listed = git.run(
        call("--numstat")
            .args(["-z", "--no-renames", base.as_str(), "--"])
            .max(MAX_LIST),
    )?;
    let (files, more) = changes(&listed.stdout);
    let truncated = patch.truncated || more;
    if base.is_empty() {
        return Err(Error::new(Code::GitError, "the worktree has no base"));
    }
    // Text of files in any encoding; what is not UTF-8 is shown as such.
    let patch = String::from_utf8_lossy(&patch.stdout).into_owned();
    Ok(Diff {
        base_commit: base,
        head,
        patch,
        truncated,
        files,
    })
}

/// The files in what `git diff --numstat -z` says, and whether there are more than are told.
pub(super) fn changes(said: &[u8]) -> (Vec<FileChange>, bool) {
    let mut files = Vec::new();
    for line in said.split(|byte| *byte == 0) {
        let line = String::from_utf8_lossy(line);
        let mut parts = line.splitn(3, '\t');
        let (Some(added), Some(removed), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if files.len() == MAX_DIFF_FILES {
            return (files, true);
        }
        files.push(FileChange {
            path: path.to_owned(),
            added: added.parse().unwrap_or(0),
            removed: removed.parse().unwrap_or(0),
            binary: added == "-",
        });
    }
    (files, false)
}
