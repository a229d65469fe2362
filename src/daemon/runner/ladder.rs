//! The ladder of a stop: polite bytes, closed standard input (of a terminal: SIGHUP), SIGTERM, SIGKILL; each step
//! has a deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::input::{self, Begun, Job};
use super::ledger::Ledger;
use super::recorder::Recorder;
use crate::daemon::kin;
use crate::wire::runner_v1::{Outcome, Stop, WriteOutcome, Written, spool_record::Body};

/// How often SIGKILL is sent again while a process is left.
const KILL_AGAIN: Duration = Duration::from_millis(100);

/// A stop and who waits to hear that it has begun. Without an id it is the runner's own.
pub type StopJob = (Stop, Option<oneshot::Sender<Outcome>>);

/// Climbs down, once it is told to. A later stop can only make the steps come earlier.
#[derive(Debug)]
pub struct Ladder {
    /// The harness, which leads a process group of its own.
    pub pid: i32,
    /// What was begun.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Where stops are recorded.
    pub recorder: Arc<Recorder>,
    /// Takes the polite bytes.
    pub input: mpsc::Sender<Job>,
    /// Closes standard input.
    pub close: CancellationToken,
    /// The last step taken.
    pub step: Arc<Mutex<&'static str>>,
    /// Whether the harness has a terminal, which is hung up instead of closing standard input.
    pub has_terminal: bool,
    /// Set when the harness has ended. Its id may be another's from then on.
    pub ended: CancellationToken,
}

#[derive(Clone, Copy)]
struct Schedule {
    close: Instant,
    term: Instant,
    kill: Instant,
}

impl Ladder {
    /// Waits for stops and takes the steps as they are due; returns when nobody can send more.
    pub async fn run(self, mut stops: mpsc::Receiver<StopJob>) {
        let mut schedule: Option<Schedule> = None;
        let mut taken = 0;
        loop {
            let due = schedule.map(|schedule| match taken {
                0 => schedule.close,
                1 => schedule.term,
                _ => schedule.kill,
            });
            let due = due.filter(|_| !self.ended.is_cancelled());
            let wait = tokio::time::sleep_until(due.unwrap_or_else(Instant::now));
            tokio::select! {
                // The end is looked at first: no signal may follow it.
                biased;
                () = self.ended.cancelled(), if due.is_some() => {}
                stop = stops.recv() => match stop {
                    None => return,
                    Some((stop, done)) => {
                        let begun = self.begin(&stop).await;
                        if begun.1 {
                            let next = plan(&stop, Instant::now());
                            schedule = Some(schedule.map_or(next, |old| old.earlier(next)));
                        }
                        if let Some(done) = done {
                            let _ = done.send(begun.0);
                        }
                    }
                },
                () = wait, if due.is_some() => {
                    taken += 1;
                    self.take(taken);
                    if taken >= 3 {
                        // Again until all are gone: a process may be forking while it is killed.
                        schedule = schedule.map(|schedule| Schedule {
                            kill: Instant::now() + KILL_AGAIN,
                            ..schedule
                        });
                    }
                }
            }
        }
    }

    /// Notes and records a stop; says whether it is to be carried out.
    async fn begin(&self, stop: &Stop) -> (Outcome, bool) {
        let id = stop.command_id.clone();
        let mut outcome = Outcome {
            command_id: id.clone(),
            outcome: WriteOutcome::Done.into(),
            reason: String::new(),
            seq: 0,
        };
        if !id.is_empty() {
            match input::begin(&self.ledger, &id, &stop.note).await {
                Begun::Before(outcome) => return (outcome, false),
                Begun::Refused(reason) => return (input::failed(id, reason), false),
                Begun::Now => {}
            }
            let written = Written {
                command_id: id,
                note: stop.note.clone(),
                outcome: WriteOutcome::Done.into(),
                reason: String::new(),
            };
            let seq = self.recorder.append(Body::Written(written)).await;
            outcome.seq = seq.unwrap_or(0);
            input::finish(&self.ledger, &outcome);
        }
        if !stop.data.is_empty() && !self.ended.is_cancelled() {
            self.note_step("polite");
            // A queue so full that this does not fit has a harness behind it that does not read.
            let _ = self.input.try_send(Job::Polite(stop.data.clone()));
        }
        (outcome, true)
    }

    fn take(&self, step: usize) {
        match step {
            1 => {
                self.note_step("close");
                self.close.cancel();
                if self.has_terminal {
                    let _ = killpg(Pid::from_raw(self.pid), Signal::SIGHUP);
                }
            }
            2 => {
                self.note_step("term");
                let _ = killpg(Pid::from_raw(self.pid), Signal::SIGTERM);
            }
            _ => {
                self.note_step("kill");
                let all = kin::descendants(std::process::id() as i32);
                let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
                for process in all {
                    process.signal(Signal::SIGKILL);
                }
            }
        }
    }

    fn note_step(&self, step: &'static str) {
        *self.step.lock() = step;
    }
}

fn plan(stop: &Stop, now: Instant) -> Schedule {
    let after = |base: Instant, ms: u32| base + Duration::from_millis(u64::from(ms));
    let polite_ms = if stop.data.is_empty() {
        0
    } else {
        stop.polite_ms
    };
    let close = after(now, polite_ms);
    let term = after(close, stop.close_ms);
    let kill = after(term, stop.term_ms);
    Schedule { close, term, kill }
}

impl Schedule {
    fn earlier(self, other: Schedule) -> Schedule {
        Schedule {
            close: self.close.min(other.close),
            term: self.term.min(other.term),
            kill: self.kill.min(other.kill),
        }
    }
}

/// A stop without polite bytes.
pub fn plain_stop(close: Duration, term: Duration) -> Stop {
    let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    Stop {
        command_id: String::new(),
        data: Bytes::new(),
        polite_ms: 0,
        close_ms: ms(close),
        term_ms: ms(term),
        note: Bytes::new(),
    }
}
