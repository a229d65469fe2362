//! Branches and commits: read by their full names, moved by compare-and-swap.

use super::lock::Lock;
use super::repository::Repository;
use crate::base::{Code, Error, Result};
use crate::domain::worktree::name;

/// No commit: what a ref has that must not exist yet.
pub const NONE: &str = "0000000000000000000000000000000000000000";

/// A checkout of a repository, as git lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its directory.
    pub path: String,
    /// The branch that it has checked out, by its short name.
    pub branch: Option<String>,
}

/// The full name of a branch.
pub fn full(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

impl Repository {
    /// The commit that a full ref name or a commit's own name stands for.
    pub fn commit(&self, name: &str) -> Result<Option<String>> {
        let ran = self.git().try_run(self.at().args([
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{name}^{{commit}}"),
        ]))?;
        if !ran.is_ok() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        Ok(is_commit(&text).then_some(text))
    }

    /// The commit that a branch is at.
    pub fn branch(&self, branch: &str) -> Result<Option<String>> {
        self.commit(&full(branch))
    }

    /// The commit of a branch here or at a remote (`origin/main`), or of a commit's whole name.
    pub fn base(&self, field: &str, base: &str) -> Result<String> {
        if is_commit(base)
            && let Some(commit) = self.commit(base)?
        {
            return Ok(commit);
        }
        for name in [full(base), format!("refs/remotes/{base}")] {
            if let Some(commit) = self.commit(&name)? {
                return Ok(commit);
            }
        }
        Err(Error::invalid(
            field,
            format!("names {base}, which is no branch of the repository"),
        ))
    }

    /// The branch that the repository's own checkout is on; `None` if it is on none.
    pub fn current_branch(&self) -> Result<Option<String>> {
        let ran =
            self.git().try_run(
                self.at()
                    .args(["symbolic-ref", "--quiet", "--short", "HEAD"]),
            )?;
        let text = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        let fits = ran.is_ok() && !text.is_empty() && name::branch("target", &text).is_ok();
        Ok(fits.then_some(text))
    }

    /// All checkouts.
    pub fn checkouts(&self) -> Result<Vec<Listed>> {
        let ran = self
            .git()
            .run(self.at().args(["worktree", "list", "--porcelain", "-z"]))?;
        if ran.truncated {
            return Err(Error::new(
                Code::GitError,
                "the repository has too many worktrees to list",
            ));
        }
        Ok(listed(&ran.stdout))
    }

    /// The checkout that has a branch.
    pub fn checkout_of(&self, branch: &str) -> Result<Option<Listed>> {
        let all = self.checkouts()?;
        Ok(all
            .into_iter()
            .find(|one| one.branch.as_deref() == Some(branch)))
    }

    /// Moves a ref, if it is still where it was. [`Code::Stale`]: it is not.
    pub fn swap(&self, lock: &Lock, name: &str, new: &str, old: &str) -> Result<()> {
        let call = self
            .under(lock)
            .args(["update-ref", "-m", "baton", name, new, old]);
        self.swapped(name, old, self.git().run(call).map(drop))
    }

    /// Removes a ref, if it is still where it was. [`Code::Stale`]: it is not.
    pub fn remove_ref(&self, lock: &Lock, name: &str, old: &str) -> Result<()> {
        let call = self.under(lock).args(["update-ref", "-d", name, old]);
        self.swapped(name, old, self.git().run(call).map(drop))
    }

    fn swapped(&self, name: &str, old: &str, done: Result<()>) -> Result<()> {
        let Err(error) = done else { return Ok(()) };
        let now = self.commit(name)?.unwrap_or_else(|| NONE.to_owned());
        match now == old {
            true => Err(error),
            false => Err(Error::new(
                Code::Stale,
                format!("{name} has been moved by somebody else meanwhile"),
            )),
        }
    }

    /// Whether a commit is in the history of another.
    pub fn is_ancestor(&self, old: &str, new: &str) -> Result<bool> {
        self.git()
            .asks(self.at().args(["merge-base", "--is-ancestor", old, new]))
    }

    /// How many commits are in the history of some and not of others.
    pub fn count(&self, of: &[String], without: &[String]) -> Result<u32> {
        if of.is_empty() {
            return Ok(0);
        }
        let call = self
            .at()
            .args(["rev-list", "--count"])
            .args(of.iter().cloned())
            .args(["--not"])
            .args(without.iter().cloned());
        let text = self.git().text(call)?;
        text.trim()
            .parse()
            .map_err(|_| Error::new(Code::GitError, "git counts no number of commits"))
    }
}

/// The checkouts in what `git worktree list --porcelain -z` says.
pub(super) fn listed(said: &[u8]) -> Vec<Listed> {
    let text = String::from_utf8_lossy(said);
    let mut listed: Vec<Listed> = Vec::new();
    for line in text.split('\0') {
        if let Some(path) = line.strip_prefix("worktree ") {
            listed.push(Listed {
                path: path.to_owned(),
                branch: None,
            });
        } else if let (Some(branch), Some(last)) =
            (line.strip_prefix("branch refs/heads/"), listed.last_mut())
        {
            last.branch = Some(branch.to_owned());
        }
    }
    listed
}

/// Whether a text is a commit's whole name.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}
