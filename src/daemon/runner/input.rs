//! From commands into the harness's standard input, each once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::fault;
use super::ledger::Ledger;
use super::recorder::Recorder;
use crate::wire::runner_v1::{Outcome, Write, WriteOutcome, Written, spool_record::Body};

/// How long a full pipe may refuse every byte before a write is given up.
const STALL: Duration = Duration::from_secs(30);

/// Something to write.
#[derive(Debug)]
pub enum Job {
    /// A command's bytes.
    Write(Write, oneshot::Sender<Outcome>),
    /// The first bytes of a stop, which has a record of its own.
    Polite(Bytes),
    /// What somebody types, which nobody asks about again.
    Type(Bytes, oneshot::Sender<Typing>),
}

/// How typing ended, and why it failed.
pub type Typing = (WriteOutcome, String);

/// Takes what is written: a pipe or a terminal.
pub type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// The writing end of the harness.
pub struct Input {
    /// `None` once it is closed.
    pub stdin: Option<Sink>,
    /// What was written.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Where writes are recorded.
    pub recorder: Arc<Recorder>,
    /// Set to close standard input, also in mid-write.
    pub close: CancellationToken,
    /// Held while a write is under way, so that the end of the harness is recorded behind it.
    pub busy: Arc<AsyncMutex<()>>,
    /// The rest of a write that was given up in its middle: it goes out before anything else, since the
    /// harness waits for the end of that line.
    pub rest: Bytes,
}

impl Input {
    /// Does jobs one after the other until nobody can send more.
    pub async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            let job = tokio::select! {
                job = jobs.recv() => job,
                () = self.close.cancelled(), if self.stdin.is_some() => {
                    self.stdin = None;
                    continue;
                }
            };
            match job {
                None => return,
                Some(Job::Polite(data)) => {
                    self.put(&data).await;
                }
                Some(Job::Type(data, done)) => {
                    let busy = self.busy.clone();
                    let _busy = busy.lock().await;
                    let _ = done.send(self.type_in(data).await);
                }
                Some(Job::Write(write, done)) => {
                    let busy = self.busy.clone();
                    let _busy = busy.lock().await;
                    // Whoever asked may be gone; the ledger has the answer for who asks again.
                    let _ = done.send(self.write(write).await);
                }
            }
        }
    }

    async fn write(&mut self, write: Write) -> Outcome {
        let id = write.command_id;
        match begin(&self.ledger, &id, &write.note).await {
            Begun::Before(outcome) => return outcome,
            Begun::Refused(reason) => return failed(id, reason),
            Begun::Now => {}
        }
        fault::point(fault::AFTER_INTENT);
        let (outcome, reason) = self.put(&write.data).await;
        fault::point(fault::AFTER_WRITE);
        if write.close {
            self.stdin = None;
        }
        let written = Written {
            command_id: id.clone(),
            note: write.note,
            outcome: outcome.into(),
            reason: reason.clone(),
        };
        let seq = self.recorder.append(Body::Written(written)).await;
        fault::point(fault::BEFORE_FINISH);
        let outcome = Outcome {
            command_id: id,
            outcome: outcome.into(),
            reason,
            seq: seq.unwrap_or(0),
        };
        finish(&self.ledger, &outcome);
        outcome
    }

    /// Writes bytes and says how far it came.
    async fn put(&mut self, data: &Bytes) -> (WriteOutcome, String) {
        let mut rest = std::mem::take(&mut self.rest);
        let problem = self.put_all(&mut rest).await;
        if let Some(reason) = problem {
            self.rest = rest;
            return (WriteOutcome::Failed, reason);
        }
        let mut data = data.clone();
        let length = data.len();
        match self.put_all(&mut data).await {
            None => (WriteOutcome::Done, String::new()),
            Some(reason) if data.len() == length => (WriteOutcome::Failed, reason),
            Some(reason) => {
                self.rest = data;
                (WriteOutcome::Unknown, reason)
            }
        }
    }

    /// Types bytes. Nothing of them is kept for later: whoever typed them is told, and may type again.
    async fn type_in(&mut self, mut data: Bytes) -> Typing {
        let length = data.len();
        match self.put_all(&mut data).await {
            None => (WriteOutcome::Done, String::new()),
            Some(reason) if data.len() == length => (WriteOutcome::Failed, reason),
            Some(reason) => (WriteOutcome::Unknown, reason),
        }
    }

    /// Takes from `data` what the pipe took; says why it stopped early.
    async fn put_all(&mut self, data: &mut Bytes) -> Option<String> {
        while !data.is_empty() {
            let Some(stdin) = &mut self.stdin else {
                return Some("the harness's standard input is closed".to_owned());
            };
            tokio::select! {
                written = stdin.write(data) => match written {
                    Ok(0) => return Some("the harness takes no input".to_owned()),
                    Ok(n) => {
                        let _ = data.split_to(n);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.stdin = None;
                        return Some(format!("the harness takes no input: {error}"));
                    }
                },
                () = self.close.cancelled() => {
                    self.stdin = None;
                }
                () = tokio::time::sleep(STALL) => {
                    return Some(format!("the harness did not read for {} s", STALL.as_secs()));
                }
            }
        }
        None
    }
}

/// Whether a command may be done now.
pub enum Begun {
    /// It was done before, with this outcome.
    Before(Outcome),
    /// It cannot be noted, so it is not done.
    Refused(String),
    /// Its intent is on disk.
    Now,
}

/// Notes the intent of a command, on disk, unless it was done before.
pub async fn begin(ledger: &Mutex<Ledger>, id: &str, note: &Bytes) -> Begun {
    if id.is_empty() {
        return Begun::Refused("the command has no id".to_owned());
    }
    let noted = {
        let mut ledger = ledger.lock();
        match ledger.find(id) {
            Some(Some(outcome)) => return Begun::Before(outcome.clone()),
            Some(None) => {
                return Begun::Before(Outcome {
                    command_id: id.to_owned(),
                    outcome: WriteOutcome::Unknown.into(),
                    reason: "it was begun and its end was not noted".to_owned(),
                    seq: 0,
                });
            }
            None => ledger.intend(id, note),
        }
    };
    let synced = match noted {
        Ok(file) => tokio::task::spawn_blocking(move || file.sync_data())
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error))),
        Err(error) => Err(error),
    };
    match synced {
        Ok(()) => Begun::Now,
        Err(error) => {
            let reason = format!("the intent could not be noted on disk: {error}");
            finish(ledger, &failed(id.to_owned(), reason.clone()));
            Begun::Refused(reason)
        }
    }
}

/// Notes how a command ended.
pub fn finish(ledger: &Mutex<Ledger>, outcome: &Outcome) {
    if let Err(error) = ledger.lock().finish(outcome) {
        super::log(&format!("a result could not be noted on disk: {error}"));
    }
}

/// A command of which nothing was done.
pub fn failed(command_id: String, reason: impl Into<String>) -> Outcome {
    Outcome {
        command_id,
        outcome: WriteOutcome::Failed.into(),
        reason: reason.into(),
        seq: 0,
    }
}
