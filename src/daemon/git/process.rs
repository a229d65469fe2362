//! Runs a program: an argument list, a process group of its own, a deadline, bounded output.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::base::{Code, Error, Result};

/// The shortest and the longest pause between two looks at a process.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// How long output is waited for after the process has ended: something it left behind may hold the pipe.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How much of standard error is kept, in bytes: its end.
const MAX_STDERR: usize = 16 * 1024;

/// What is done with output beyond the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// The pipe is closed, which ends most programs: only the beginning matters.
    Close,
    /// The beginning is dropped: the end matters.
    DropBeginning,
}

/// A program to run.
pub struct Run<'a> {
    /// Program and arguments.
    pub argv: &'a [OsString],
    /// Its directory.
    pub cwd: &'a Path,
    /// Its whole environment.
    pub env: &'a [(OsString, OsString)],
    /// Its standard input; `None` is empty.
    pub stdin: Option<File>,
    /// How long it may take.
    pub time: Duration,
    /// The most bytes of standard output that are kept.
    pub max_stdout: usize,
    /// What happens to more.
    pub beyond: Beyond,
}

/// How it went.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
    /// The end of what it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Ran {
    /// Whether it ended well, also if we stopped reading.
    pub fn is_ok(&self) -> bool {
        self.status.success()
            || (self.truncated && self.status.signal() == Some(Signal::SIGPIPE as i32))
    }

    /// Standard output and error as text, the end of it.
    pub fn said(&self, max_bytes: usize) -> String {
        let mut text = String::from_utf8_lossy(&self.stdout).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&String::from_utf8_lossy(&self.stderr));
        tail(text.trim_end(), max_bytes).to_owned()
    }
}

/// The end of a text, cut between characters.
pub fn tail(text: &str, max_bytes: usize) -> &str {
    let mut from = text.len().saturating_sub(max_bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Runs a program to its end. [`Code::Timeout`]: it did not end in time and was killed with all that it
/// started in its process group.
pub fn run(run: Run<'_>) -> Result<Ran> {
    let (program, arguments) = run
        .argv
        .split_first()
        .ok_or_else(|| Error::internal("a program without a name"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(run.cwd)
        .env_clear()
        .envs(run.env.iter().map(|(name, value)| (name, value)))
        .stdin(run.stdin.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| {
            Error::state(format!(
                "{} cannot be started: {error}",
                program.to_string_lossy()
            ))
        })?;
    let group = i32::try_from(child.id()).map(Pid::from_raw).ok();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (max, beyond) = (run.max_stdout, run.beyond);
    let out = thread::spawn(move || stdout.map_or_else(Default::default, |s| read(s, max, beyond)));
    let err = thread::spawn(move || {
        stderr.map_or_else(Default::default, |s| {
            read(s, MAX_STDERR, Beyond::DropBeginning)
        })
    });
    let deadline = Instant::now() + run.time;
    let ended = wait(&mut child, group, deadline).map_err(Error::internal)?;
    // The readers end with the pipes; what escaped from the group and holds one is left to itself.
    let patience = Instant::now() + LAST_OUTPUT;
    let mut pause = PAUSE.0;
    while !(out.is_finished() && err.is_finished()) && Instant::now() < patience {
        thread::park_timeout(pause);
        pause = (pause * 2).min(PAUSE.1);
    }
    let (stdout, truncated) = take(out);
    let (stderr, _) = take(err);
    let Some(status) = ended else {
        return Err(Error::new(
            Code::Timeout,
            format!(
                "{} took longer than {} s and was killed",
                program.to_string_lossy(),
                run.time.as_secs()
            ),
        )
        .with("output", tail(&String::from_utf8_lossy(&stderr), 400)));
    };
    Ok(Ran {
        status,
        stdout,
        truncated,
        stderr,
    })
}

fn take(reader: thread::JoinHandle<(Vec<u8>, bool)>) -> (Vec<u8>, bool) {
    match reader.is_finished() {
        true => reader.join().unwrap_or_default(),
        false => (Vec::new(), true),
    }
}

/// Waits for the end, or kills the whole group at the deadline. What a program that has ended leaves behind
/// in its group is killed too.
fn wait(
    child: &mut Child,
    group: Option<Pid>,
    deadline: Instant,
) -> std::io::Result<Option<ExitStatus>> {
    let mut pause = PAUSE.0;
    loop {
        if has_ended(child)? {
            // Not reaped yet, so that the group's number is still its own.
            kill(group);
            return child.wait().map(Some);
        }
        if Instant::now() >= deadline {
            kill(group);
            child.wait()?;
            return Ok(None);
        }
        thread::park_timeout(pause);
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[cfg(target_os = "linux")]
fn has_ended(child: &mut Child) -> std::io::Result<bool> {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    Ok(waitid(Id::Pid(Pid::from_raw(pid)), flags)? != WaitStatus::StillAlive)
}

#[cfg(not(target_os = "linux"))]
fn has_ended(child: &mut Child) -> std::io::Result<bool> {
    // It is reaped here: its group may be somebody else's from now on, and `wait` answers the same again.
    Ok(child.try_wait()?.is_some())
}

fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        // Nobody left to kill is no problem.
        let _ = killpg(group, Signal::SIGKILL);
    }
}

fn read(mut from: impl Read, max: usize, beyond: Beyond) -> (Vec<u8>, bool) {
    let (mut kept, mut truncated) = (Vec::new(), false);
    let mut piece = [0_u8; 16 * 1024];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        kept.extend_from_slice(&piece[..count]);
        match beyond {
            Beyond::Close if kept.len() > max => {
                kept.truncate(max);
                return (kept, true);
            }
            // Dropped in large steps, so that a flood is not moved about for every piece.
            Beyond::DropBeginning if kept.len() > max.saturating_mul(2).max(64 * 1024) => {
                kept.drain(..kept.len() - max);
                truncated = true;
            }
            _ => {}
        }
    }
    if kept.len() > max {
        kept.drain(..kept.len() - max);
        truncated = true;
    }
    (kept, truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, time: Duration, max_stdout: usize, beyond: Beyond) -> Result<Ran> {
        let argv = ["/bin/sh", "-c", script].map(OsString::from);
        run(Run {
            argv: &argv,
            cwd: Path::new("/"),
            env: &[("PATH".into(), "/usr/bin:/bin".into())],
            stdin: None,
            time,
            max_stdout,
            beyond,
        })
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let error = sh(&script, Duration::from_millis(700), 10, Beyond::Close).unwrap_err();
        assert_eq!(error.code(), Code::Timeout);
        let pid: i32 = std::fs::read_to_string(&file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let deadline = Instant::now() + LONG;
        // Its new parent may take a moment to reap it.
        while std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(Instant::now() < deadline, "the child lives");
            thread::yield_now();
        }
    }

    #[test]
    fn what_a_program_leaves_behind_does_not_hold_us_up() {
        let begun = Instant::now();
        let ran = sh("sleep 600 & echo done", LONG, 10, Beyond::Close).unwrap();
        assert_eq!(ran.stdout, b"done\n");
        assert!(ran.is_ok() && begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn output_is_bounded_at_either_end() {
        let flood = "i=0; while [ $i -lt 20000 ]; do echo line$i; i=$((i+1)); done";
        let head = sh(flood, LONG, 12, Beyond::Close).unwrap();
        assert_eq!(
            (head.stdout.as_slice(), head.truncated),
            (&b"line0\nline1\n"[..], true)
        );
        assert!(head.is_ok());
        let end = sh(flood, LONG, 20, Beyond::DropBeginning).unwrap();
        assert_eq!(end.stdout, b"line19998\nline19999\n");
        assert!(end.truncated && end.is_ok());
        assert!(!sh("exit 3", LONG, 1, Beyond::Close).unwrap().is_ok());
    }
}
