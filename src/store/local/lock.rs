//! The directory's lock and its version.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use super::disk::{io_error, sync_dir};
use crate::store::{Error, Result};

/// Version of the layout that this build writes.
pub(super) const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_WORD: &str = "baton-store";
const LOCK_FILE: &str = "LOCK";

/// Holds the directory; let go of when dropped or when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said aloud: a child that this process is just starting has the same open file until it is another
        // program, and would hold the lock for that long.
        let _ = self.file.unlock();
    }
}

/// Makes the directory one that only its owner may enter, whatever is created in it later.
fn create_private(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let permissions = fs::metadata(dir)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Takes the directory, and makes it if it is not there and `create` is set. A directory that another
/// process has, of a newer version, or that holds something else is refused and left as it is.
pub(super) fn take(dir: &Path, create: bool) -> Result<Lock> {
    if create {
        create_private(dir).map_err(|error| io_error("creating", dir, &error))?;
    } else if !dir.is_dir() {
        return Err(Error::Unusable(format!(
            "there is no store at {}",
            dir.display()
        )));
    }
    let is_new = !check_format(dir)?;
    if is_new && !create {
        return Err(Error::Unusable(format!("{} holds no store", dir.display())));
    }

    let path = dir.join(LOCK_FILE);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| io_error("opening", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.take(32).read_to_string(&mut pid);
            let holder = match pid.trim() {
                pid if !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) => {
                    format!("process {pid}")
                }
                _ => "another process".to_owned(),
            };
            return Err(Error::Unusable(format!(
                "{} is in use by {holder}",
                dir.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(io_error("locking", &path, &error)),
    }
    // Only a help for people: the lock is what counts, so failing here (a full disk) is no reason to stop.
    let _ = write_pid(&mut file);

    if !check_format(dir)? {
        write_format(dir).map_err(|error| io_error("writing", &dir.join(FORMAT_FILE), &error))?;
    }
    Ok(Lock { file })
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Whether there is a store of a version that this build knows; `false` if there is nothing at all.
fn check_format(dir: &Path) -> Result<bool> {
    let path = dir.join(FORMAT_FILE);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if holds_something(dir)? {
                Err(Error::Unusable(format!(
                    "{} is not empty and has no {FORMAT_FILE} file: not a store of Baton, or a damaged one",
                    dir.display()
                )))
            } else {
                Ok(false)
            };
        }
        Err(error) => return Err(io_error("reading", &path, &error)),
    };
    let version = text
        .strip_prefix(FORMAT_WORD)
        .and_then(|rest| rest.trim().parse::<u32>().ok());
    match version {
        Some(FORMAT) => Ok(true),
        Some(newer) if newer > FORMAT => Err(Error::Unusable(format!(
            "{} was written by a newer Baton (format {newer}, this one knows {FORMAT})",
            dir.display()
        ))),
        _ => Err(Error::Unusable(format!(
            "{} cannot be read",
            path.display()
        ))),
    }
}

fn holds_something(dir: &Path) -> Result<bool> {
    let entries = fs::read_dir(dir).map_err(|error| io_error("listing", dir, &error))?;
    for entry in entries {
        let name = entry
            .map_err(|error| io_error("listing", dir, &error))?
            .file_name();
        // What an interrupted start may leave, and what file systems put into a fresh mount.
        if name != LOCK_FILE && name != "FORMAT.tmp" && name != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a directory a store of this version.
pub(super) fn write_format(dir: &Path) -> io::Result<()> {
    let temp = dir.join("FORMAT.tmp");
    let mut file = File::create(&temp)?;
    writeln!(file, "{FORMAT_WORD} {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&temp, dir.join(FORMAT_FILE))?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("the directory is there")
            .map(|entry| entry.expect("readable").file_name().display().to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_held_directory_names_its_holder() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = take(dir.path(), true).expect("free");
        let Err(Error::Unusable(message)) = take(dir.path(), true) else {
            panic!("a second lock was given");
        };
        let pid = std::process::id().to_string();
        assert!(message.contains(&format!("process {pid}")), "{message}");
        drop(lock);
        take(dir.path(), true).expect("free again");
    }

    #[test]
    fn a_newer_format_is_refused_and_left_untouched() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FORMAT_FILE), "baton-store 2\n").expect("written");
        let Err(Error::Unusable(message)) = take(dir.path(), true) else {
            panic!("a newer store was opened");
        };
        assert!(message.contains("newer"), "{message}");
        assert_eq!(names(dir.path()), [FORMAT_FILE]);
    }

    #[test]
    fn a_directory_with_other_things_is_refused_and_left_untouched() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("thesis.tex"), "x").expect("written");
        assert!(matches!(take(dir.path(), true), Err(Error::Unusable(_))));
        assert_eq!(names(dir.path()), ["thesis.tex"]);
    }
}
