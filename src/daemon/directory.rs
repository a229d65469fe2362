//! Looks into directories beneath the roots, for a caller who chooses a place to work.

use std::path::{Path, PathBuf};

use super::policy::Policy;
use crate::base::{Code, Error, Result};
use crate::domain::daemon::{Directory, DirectoryEntry};

/// Most entries that are shown.
pub const MAX_ENTRIES: usize = 1_000;
/// Most entries that are looked at, so that a huge directory does not take the daemon's memory.
const MAX_SEEN: usize = 100_000;

/// The entries of `path`, or the roots when it is empty. Links that lead out of the roots are left out.
pub fn list(policy: &Policy, path: &str, hidden: bool) -> Result<Directory> {
    if path.is_empty() {
        let entries = policy
            .roots()
            .iter()
            .filter_map(|root| describe(root.to_str()?.to_owned(), root.to_str()?, root))
            .collect();
        return Ok(Directory {
            entries,
            ..Directory::default()
        });
    }
    let dir = policy.resolve("path", path)?;
    let reading = std::fs::read_dir(&dir).map_err(|error| {
        Error::new(
            Code::InvalidState,
            format!("{path} cannot be listed: {error}"),
        )
    })?;
    let mut entries = Vec::new();
    let mut truncated = false;
    for (seen, entry) in reading.flatten().enumerate() {
        if seen >= MAX_SEEN {
            truncated = true;
            break;
        }
        // A name that is no text could not be sent back unharmed.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') && !hidden {
            continue;
        }
        let shown = entry.path();
        let Ok(resolved) = shown.canonicalize() else {
            continue;
        };
        if policy.is_inside(&resolved)
            && let Some(shown) = shown.to_str()
        {
            entries.extend(describe(name, shown, &resolved));
        }
    }
    entries.sort_by(|a, b| (!a.is_directory, &a.name).cmp(&(!b.is_directory, &b.name)));
    truncated |= entries.len() > MAX_ENTRIES;
    entries.truncate(MAX_ENTRIES);
    Ok(Directory {
        repository: repository(policy, &dir),
        path: text(dir),
        entries,
        truncated,
    })
}

/// Where `path` is, without its entries. `INVALID_STATE`: it is no directory.
pub fn find(policy: &Policy, path: &str) -> Result<Directory> {
    if path.is_empty() {
        return Ok(Directory::default());
    }
    let dir = policy.resolve("path", path)?;
    if !dir.is_dir() {
        return Err(Error::new(
            Code::InvalidState,
            format!("{path} is no directory"),
        ));
    }
    Ok(Directory {
        repository: repository(policy, &dir),
        path: text(dir),
        ..Directory::default()
    })
}

/// The top of the repository or worktree that a directory lies in, as far as it lies beneath the roots; empty if there
/// is none. It goes by what lies there: whether git can work with it is git's to say.
fn repository(policy: &Policy, dir: &Path) -> String {
    let top = dir
        .ancestors()
        .take_while(|dir| policy.is_inside(dir))
        .find(|dir| dir.join(".git").exists());
    top.map_or_else(String::new, |top| text(top.to_owned()))
}

fn describe(name: String, shown: &str, resolved: &Path) -> Option<DirectoryEntry> {
    let meta = std::fs::metadata(resolved).ok()?;
    Some(DirectoryEntry {
        name,
        path: shown.to_owned(),
        is_directory: meta.is_dir(),
        is_repository: meta.is_dir() && resolved.join(".git").exists(),
    })
}

fn text(path: PathBuf) -> String {
    path.into_os_string()
        .into_string()
        .unwrap_or_else(|path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::policy::PolicyOptions;
    use std::fs;

    #[test]
    fn directories_come_first_and_links_out_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("z/.git")).unwrap();
        fs::create_dir_all(root.join(".hidden")).unwrap();
        fs::write(root.join("a.txt"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
        std::os::unix::fs::symlink(root.join("z"), root.join("link")).unwrap();
        let policy = Policy::new(&PolicyOptions {
            roots: vec![root.clone()],
            ..PolicyOptions::default()
        })
        .unwrap();
        let names = |hidden| -> Vec<String> {
            let listed = list(&policy, root.to_str().unwrap(), hidden).unwrap();
            listed.entries.into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(false), ["link", "z", "a.txt"]);
        assert_eq!(names(true), [".hidden", "link", "z", "a.txt"]);
        let roots = list(&policy, "", false).unwrap();
        assert_eq!(roots.entries.len(), 1);
        let top = root.canonicalize().unwrap().join("z");
        fs::create_dir(top.join("deep")).unwrap();
        let at = |path: &Path| find(&policy, path.to_str().unwrap()).unwrap();
        assert_eq!(at(&root).repository, "");
        for within in [root.join("z"), root.join("link"), root.join("z/deep")] {
            assert_eq!(at(&within).repository, top.to_str().unwrap());
            let listed = list(&policy, within.to_str().unwrap(), false).unwrap();
            assert_eq!(listed.repository, top.to_str().unwrap());
        }
        assert!(at(&root).entries.is_empty());
        // What lies above the roots is not looked at.
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert_eq!(at(&root).repository, "");
        assert!(find(&policy, root.join("a.txt").to_str().unwrap()).is_err());
        assert!(
            list(&policy, root.join("z").to_str().unwrap(), true)
                .unwrap()
                .entries[0]
                .name
                == ".git"
        );
        for bad in ["/etc", "relative", root.join("etc").to_str().unwrap()] {
            assert!(list(&policy, bad, false).is_err(), "{bad}");
            assert!(find(&policy, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_large_directory_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..MAX_ENTRIES + 5 {
            fs::write(dir.path().join(format!("{n:05}")), "").unwrap();
        }
        let policy = Policy::new(&PolicyOptions {
            roots: vec![dir.path().to_owned()],
            ..PolicyOptions::default()
        })
        .unwrap();
        let listed = list(&policy, dir.path().to_str().unwrap(), false).unwrap();
        assert_eq!(
            (listed.entries.len(), listed.truncated),
            (MAX_ENTRIES, true)
        );
    }
}
