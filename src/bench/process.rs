//! A process under measurement.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::machine::Machine;

/// How long a process may take to say that it is ready.
const READY: Duration = Duration::from_secs(120);
/// How long it may take to end when it is asked to.
const END: Duration = Duration::from_secs(20);

/// Where a process says that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A child process, held to the server's processor; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: Pid,
    clock: ClockId,
}

impl Process {
    /// Starts a program and reads what it says until `ready` finds in a line what it looks for.
    pub fn start<T>(
        machine: &Machine,
        mut command: Command,
        voice: Voice,
        ready: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<(Self, T)> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped());
        match voice {
            Voice::Out => command.stdout(Stdio::piped()).stderr(Stdio::inherit()),
            Voice::Err => command.stdout(Stdio::null()).stderr(Stdio::piped()),
        };
        let began = Instant::now();
        let mut child = machine
            .as_server(|| command.spawn())
            .with_context(|| format!("starting {name}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id")?);
        let lines = Lines::of(&mut child, voice)?;
        let clock = clock_getcpuclockid(pid).context("finding the clock of a process")?;
        // Killed with everything else that goes wrong from here on.
        let process = Process { child, pid, clock };
        let mut said = Vec::new();
        let mut lines = lines;
        while began.elapsed() < READY {
            let Some(line) = lines.next()? else {
                bail!("{name} ended before it was ready: {}", said.join(" | "));
            };
            if let Some(found) = ready(&line) {
                lines.go_on();
                return Ok((process, found));
            }
            said.push(line);
        }
        bail!("{name} was not ready in {READY:?}: {}", said.join(" | "))
    }

    /// Processor time that all its threads have used, those that have ended too.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let at = clock_gettime(self.clock).context("reading the clock of a process")?;
        Ok(Duration::from(at))
    }

    /// Resident memory that no file backs, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        self.status("RssAnon:").map(|kib| kib * 1024)
    }

    /// The highest resident memory so far, in bytes.
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:").map(|kib| kib * 1024)
    }

    fn status(&self, field: &str) -> anyhow::Result<u64> {
        self.figure("status", field)
    }

    fn figure(&self, file: &str, field: &str) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/{file}", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        text.lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("{path} has no {field}"))
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill(self.pid, Signal::SIGTERM).context("asking a process to end")?;
        let deadline = Instant::now() + END;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        bail!("process {} did not end in {END:?}", self.pid)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process says, line by line.
enum Lines {
    Out(BufReader<ChildStdout>),
    Err(BufReader<ChildStderr>),
}

impl Lines {
    fn of(child: &mut Child, voice: Voice) -> anyhow::Result<Self> {
        let silent = "a process without the pipe that it was given";
        Ok(match voice {
            Voice::Out => Lines::Out(BufReader::new(child.stdout.take().context(silent)?)),
            Voice::Err => Lines::Err(BufReader::new(child.stderr.take().context(silent)?)),
        })
    }

    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        let read = match self {
            Lines::Out(from) => from.read_line(&mut line)?,
            Lines::Err(from) => from.read_line(&mut line)?,
        };
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }

    /// Shows the rest, so that a full pipe never stops the process, and what goes wrong in it is seen.
    fn go_on(mut self) {
        std::thread::spawn(move || {
            while let Ok(Some(line)) = self.next() {
                tracing::warn!("{line}");
            }
        });
    }
}
