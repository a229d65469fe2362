//! Commands, each in a process session of its own.
//!
//! The session is what real agents give their tools: killing the agent, or its process group, leaves the
//! command alive. Whoever ends an agent must look for its descendants, and can try that here.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::agent::Event;

/// How much of each stream is kept; the rest is read and dropped.
const KEPT_BYTES_MAX: usize = 30_000;
/// How long the streams may stay open behind a command that has ended: something it left in the
/// background may hold them.
const DRAIN: Duration = Duration::from_millis(200);

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// Its exit code; 128 and the number of the signal that killed it.
    pub code: i32,
}

/// A command that runs; it is killed when this is dropped before it has ended.
#[derive(Debug)]
pub struct Running {
    group: Pid,
    ended: bool,
}

impl Running {
    /// Starts `sh -c command` in `cwd`. Its end arrives as an event with `serial`.
    pub fn start(
        command: &str,
        cwd: &Path,
        serial: u64,
        events: SyncSender<Event>,
    ) -> io::Result<Running> {
        let mut child = spawn(command, cwd)?;
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        // One word from each of the two streams.
        let (closed, drained) = sync_channel(2);
        let keep = |stream: Option<Box<dyn Read + Send>>| {
            let kept = Arc::new(Mutex::new(Vec::new()));
            let (shared, closed) = (kept.clone(), closed.clone());
            std::thread::spawn(move || {
                if let Some(stream) = stream {
                    drain(stream, &shared);
                }
                let _ = closed.send(());
            });
            kept
        };
        let stdout = keep(child.stdout.take().map(|pipe| Box::new(pipe) as _));
        let stderr = keep(child.stderr.take().map(|pipe| Box::new(pipe) as _));
        std::thread::spawn(move || {
            let status = child.wait();
            for _ in 0..2 {
                let _ = drained.recv_timeout(DRAIN);
            }
            let text = |kept: &Mutex<Vec<u8>>| {
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                String::from_utf8_lossy(&kept).trim_end().to_owned()
            };
            let outcome = Outcome {
                stdout: text(&stdout),
                stderr: text(&stderr),
                code: status.map_or(-1, code),
            };
            // An agent that is gone needs no outcome.
            let _ = events.send(Event::Ended { serial, outcome });
        });
        Ok(Running {
            group,
            ended: false,
        })
    }

    /// Notes that the command has ended, so that its number is not used any more.
    pub fn ended(mut self) {
        self.ended = true;
    }

    /// Kills the command and all it started.
    pub fn kill(&self) {
        // A group that is gone already is as good as killed.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

fn spawn(command: &str, cwd: &Path) -> io::Result<Child> {
    let piped = |program: &mut Command| {
        program
            .args(["-c", command])
            .current_dir(cwd)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    // The standard library cannot make a session without unsafe code; `setsid` replaces itself by the
    // command, so the child's number stays. Where it is missing, a process group has to do.
    match piped(Command::new("setsid").arg("sh")) {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
            piped(Command::new("sh").process_group(0))
        }
        started => started,
    }
}

fn drain(mut stream: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 8 * 1024];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 {
            return;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn outcome(command: &str) -> Outcome {
        let folder = tempfile::tempdir().expect("a folder");
        let (events, inbox) = sync_channel(1);
        let running = Running::start(command, folder.path(), 4, events).expect("started");
        match inbox.recv() {
            Ok(Event::Ended { serial: 4, outcome }) => {
                running.ended();
                outcome
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_command_reports_its_streams_and_its_exit() {
        let ended = outcome("echo out; echo err >&2; exit 3");
        assert_eq!(
            (ended.stdout.as_str(), ended.stderr.as_str(), ended.code),
            ("out", "err", 3)
        );
    }

    #[test]
    fn a_command_has_a_session_of_its_own_and_dies_with_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("held");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let (events, inbox) = sync_channel(1);
        let command = "sleep 600 > held & wait";
        let running = Running::start(command, folder.path(), 1, events).expect("started");
        // Opening waits for the child, which holds the other end; reading waits for its death.
        let mut held = std::fs::File::open(&pipe).expect("opened");
        let session = nix::unistd::getsid(Some(running.group)).expect("a session");
        let missing = Command::new("setsid").arg("true").status().is_err();
        assert!(
            missing || session == running.group,
            "{session} {}",
            running.group
        );
        running.kill();
        assert_eq!(held.read(&mut [0]).expect("the end"), 0);
        match inbox.recv() {
            Ok(Event::Ended { outcome, .. }) => assert_eq!(outcome.code, 128 + 9),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_command_leaves_in_the_background_does_not_hold_the_turn() {
        assert_eq!(outcome("(sleep 3) & echo here").stdout, "here");
    }

    #[test]
    fn long_output_is_cut() {
        assert_eq!(
            outcome("head -c 100000 /dev/zero | tr '\\0' x")
                .stdout
                .len(),
            KEPT_BYTES_MAX
        );
    }
}
