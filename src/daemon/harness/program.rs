//! Programs of this machine: where one is, and which version.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long `--version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether the program has ended.
const POLL: Duration = Duration::from_millis(10);
/// The most that is read of the version, in bytes.
const MAX_VERSION_BYTES: u64 = 4 * 1024;
/// The largest small file that is read, in bytes.
const MAX_SMALL_BYTES: u64 = 1024 * 1024;
/// The longest version that is kept, in characters.
const MAX_VERSION_CHARS: usize = 64;

/// The program of this name in the first directory of `path` that has it.
pub(super) fn on_path(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|program| is_program(program))
}

/// Whether a path names something that can be started.
pub(super) fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// What a program says to `--version`: its first word that begins with a digit, or why there is none. It gets
/// `path` as `PATH`, these variables, and nothing else.
pub(super) fn version(
    program: &Path,
    path: &OsStr,
    env: Vec<(OsString, OsString)>,
) -> Result<String, String> {
    let problem = |what: &str| format!("{} --version {what}", program.display());
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", path)
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| problem(&format!("could not be started: {error}")))?;
    let deadline = Instant::now() + VERSION_TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            #[expect(
                clippy::disallowed_methods,
                reason = "a probe runs on a thread that may block, and a child's end wakes nobody"
            )]
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            waited => {
                // It may have ended just now; then there is nothing to kill.
                let _ = child.kill();
                let _ = child.wait();
                return Err(match waited {
                    Err(error) => problem(&format!("could not be waited for: {error}")),
                    _ => problem(&format!("took longer than {VERSION_TIMEOUT:?}")),
                });
            }
        }
    };
    if !status.success() {
        return Err(problem(&format!("failed: {status}")));
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // What it started may still hold the pipe: only what is there is read.
        read_now(stdout, &mut said);
    }
    let said = String::from_utf8_lossy(&said);
    version_in(&said).ok_or_else(|| problem("did not say a version"))
}

/// The version of the npm package that a program comes from, if it comes from one.
pub(super) fn npm_version(program: &Path) -> Option<String> {
    let real = program.canonicalize().ok()?;
    // A package's programs stand a few directories below its description.
    real.ancestors()
        .skip(1)
        .take(4)
        .find_map(|directory| read_small(&directory.join("package.json")))
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .and_then(|package| version_in(package["version"].as_str()?))
}

fn version_in(said: &str) -> Option<String> {
    let mut words = said.lines().next()?.split_whitespace();
    let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.chars().take(MAX_VERSION_CHARS).collect())
}

/// The text of a small file, as far as it can be read.
pub(super) fn read_small(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    let mut text = String::new();
    file.take(MAX_SMALL_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn read_now(stdout: std::process::ChildStdout, said: &mut Vec<u8>) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    if fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok() {
        // An error ends the reading; what was read before it counts.
        let _ = stdout.take(MAX_VERSION_BYTES).read_to_end(said);
    }
}
