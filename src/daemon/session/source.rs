//! Where a session's records come from: its living runner, or the spool that a dead one left.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ending::STEP_LOST;
use super::state::Saved;
use crate::base::{Clock as _, SystemClock};
use crate::daemon::kin;
use crate::daemon::runner::client::{self, Outgoing};
use crate::daemon::runner::spec::MARKER_VARIABLE;
use crate::daemon::runner::{Ledger, SPOOL_DIR, Spec, ledger::SPAWN_ID};
use crate::daemon::spool::{Cursor, Spool};
use crate::wire::runner_v1::{
    Exited, Follow, Outcome, SpoolRecord, Typed, WriteOutcome, Written,
    runner_request::Body as Request, runner_response::Body as Response, spool_record::Body,
};

/// Most records and outcomes read ahead; the runner waits when there are more.
const READ_AHEAD: usize = 64;
/// How long a runner that holds its lock may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a write to the runner's socket may take.
const SEND_PATIENCE: Duration = Duration::from_secs(30);
/// How long what a dead runner left may take to end after SIGTERM.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);

/// The records of a session from a place on, and the way to its runner.
#[derive(Debug)]
pub struct Source {
    /// Identifies the spool.
    pub origin_epoch: u64,
    /// The newest record when the source was opened.
    pub last_seq: u64,
    /// Whether the harness ran when the source was opened.
    pub alive: bool,
    /// Records, in order; ends when the runner has gone.
    pub records: mpsc::Receiver<SpoolRecord>,
    /// What became of writes, stops and typing; ends when the runner has gone.
    pub outcomes: mpsc::Receiver<Told>,
    runner: Runner,
    /// Readers; ended when this is dropped.
    _jobs: JoinSet<()>,
}

/// What a runner says beside its records.
#[derive(Debug)]
pub enum Told {
    /// What became of a write or a stop.
    Outcome(Outcome),
    /// What became of typing.
    Typed(Typed),
}

#[derive(Debug)]
enum Runner {
    Living(Outgoing),
    /// Dead, and this lock keeps another from coming up in its place.
    Dead(#[allow(dead_code, reason = "held, not read")] File),
}

impl Source {
    /// Opens the records after `saved`. A dead runner's spool is completed first: open writes become
    /// unknown, what it left running is ended, and the end is recorded.
    pub async fn open(dir: &Path, saved: &Saved) -> io::Result<Self> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = client::lock_dead(dir)? {
                return Source::dead(dir, lock, saved).await;
            }
            match Source::living(dir, saved.seq).await {
                Ok(source) => return Ok(source),
                Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
                // It is coming up, or just going.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn living(dir: &Path, after_seq: u64) -> io::Result<Self> {
        // Two connections: records may have to wait for the server, the outcome of a stop never does.
        let control = client::connect(dir).await?;
        let mut follow = client::connect(dir).await?;
        follow
            .to
            .send(Request::Follow(Follow { after_seq }))
            .await?;
        let (send_record, records) = mpsc::channel(READ_AHEAD);
        let (send_outcome, outcomes) = mpsc::channel(READ_AHEAD);
        let mut jobs = JoinSet::new();
        jobs.spawn(async move {
            let (mut from, _to) = (follow.from, follow.to);
            while let Ok(Some(response)) = from.next().await {
                if let Response::Record(record) = response
                    && send_record.send(record).await.is_err()
                {
                    return;
                }
            }
        });
        let mut from = control.from;
        jobs.spawn(async move {
            while let Ok(Some(response)) = from.next().await {
                let told = match response {
                    Response::Outcome(outcome) => Told::Outcome(outcome),
                    Response::Typed(typed) => Told::Typed(typed),
                    _ => continue,
                };
                if send_outcome.send(told).await.is_err() {
                    return;
                }
            }
        });
        Ok(Source {
            origin_epoch: control.status.origin_epoch,
            last_seq: control.status.last_seq,
            alive: control.status.alive,
            records,
            outcomes,
            runner: Runner::Living(control.to),
            _jobs: jobs,
        })
    }

    async fn dead(dir: &Path, lock: File, saved: &Saved) -> io::Result<Self> {
        let spec = Spec::read(dir)?;
        let marker = spec.marker.clone();
        if !kin::end_all(|| kin::marked(MARKER_VARIABLE, &marker), LEFTOVER_GRACE).await {
            tracing::warn!(session = %spec.session_id, "processes of a dead runner could not be ended");
        }
        let spool = complete(dir, &spec, saved)?;
        let (origin_epoch, last_seq) = (spool.origin_epoch(), spool.last_seq());
        let (send_record, records) = mpsc::channel(READ_AHEAD);
        let (_, outcomes) = mpsc::channel(1);
        let mut jobs = JoinSet::new();
        let mut cursor = Cursor::after(match saved.origin_epoch == origin_epoch {
            true => saved.seq,
            false => 0,
        });
        jobs.spawn(async move {
            loop {
                match spool.read(&mut cursor) {
                    Ok(records) => {
                        for record in records {
                            if send_record.send(record).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => tracing::warn!(%error, "a spool cannot be read, trying on"),
                }
                // Stays, so that the channel's end means a runner that has gone.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Ok(Source {
            origin_epoch,
            last_seq,
            alive: false,
            records,
            outcomes,
            runner: Runner::Dead(lock),
            _jobs: jobs,
        })
    }

    /// Whether a runner is there to talk to.
    pub fn is_living(&self) -> bool {
        matches!(self.runner, Runner::Living(_))
    }

    /// Tells the runner something; an error means that it has gone. A dead one is told nothing.
    pub async fn tell(&mut self, request: Request) -> io::Result<()> {
        match &mut self.runner {
            Runner::Living(to) => timeout(SEND_PATIENCE, to.send(request))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
            Runner::Dead(_) => Ok(()),
        }
    }
}

/// The spool of a dead runner with everything said that it could not say.
fn complete(dir: &Path, spec: &Spec, saved: &Saved) -> io::Result<Spool> {
    let path = dir.join(SPOOL_DIR);
    let known = (saved.origin_epoch != 0).then_some(saved.origin_epoch);
    let mut spool = match Spool::open(&path, spec.spool_bytes, known) {
        Ok(spool) => spool,
        // It died before it had one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Spool::create(&path, spec.spool_bytes)?
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            std::fs::rename(&path, dir.join("spool.damaged"))?;
            Spool::create(&path, spec.spool_bytes)?
        }
        Err(error) => return Err(error),
    };
    if spool.origin_epoch() == saved.origin_epoch {
        // A power cut may have taken records that the server has.
        spool.skip_to(saved.acked.max(saved.seq))?;
    }
    let (mut written, mut ended) = (HashSet::new(), false);
    let mut cursor = Cursor::after(spool.first_seq().saturating_sub(1));
    loop {
        let records = spool.read(&mut cursor)?;
        if records.is_empty() {
            break;
        }
        for record in records {
            match record.body {
                Some(Body::Written(write)) => {
                    written.insert(write.command_id);
                }
                Some(Body::Exited(_)) => ended = true,
                _ => {}
            }
        }
    }
    if ended || saved.exited {
        return Ok(spool);
    }
    let now = SystemClock.now();
    for intent in Ledger::open_intents(dir)? {
        if intent.command_id == SPAWN_ID || written.contains(&intent.command_id) {
            continue;
        }
        let unknown = Written {
            outcome: WriteOutcome::Unknown.into(),
            reason: "the runner died between writing it and noting that".to_owned(),
            ..intent
        };
        spool.append(now, Body::Written(unknown))?;
    }
    let exited = Exited {
        step: STEP_LOST.to_owned(),
        message: "the runner died; what it had not yet read from the harness is lost".to_owned(),
        ..Exited::default()
    };
    spool.append(now, Body::Exited(exited))?;
    if let Some(file) = spool.unsynced() {
        file.sync_data()?;
    }
    Ok(spool)
}
