//! Where a session's records come from: its living runner, or the spool that a dead one left.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::remains::Remains;
use super::state::Saved;
use crate::daemon::runner::client::{self, Outgoing};
use crate::wire::runner_v1::{
    Follow, Outcome, SpoolRecord, Typed, runner_request::Body as Request,
    runner_response::Body as Response,
};

/// Most records and outcomes read ahead; the runner waits when there are more.
const READ_AHEAD: usize = 64;
/// How long a runner that holds its lock may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a write to the runner's socket may take.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// The records of a session from a place on, and the way to its runner.
#[derive(Debug)]
pub struct Source {
    /// Identifies the spool.
    pub origin_epoch: u64,
    /// The newest record when the source was opened, or its end was written down.
    pub last_seq: u64,
    /// Whether the harness ran when the source was opened.
    pub alive: bool,
    /// Records, in order; ends when the runner has gone.
    pub records: mpsc::Receiver<SpoolRecord>,
    /// What became of writes, stops and typing; ends when the runner has gone.
    pub outcomes: mpsc::Receiver<Told>,
    runner: Runner,
    /// They end when this is dropped.
    readers: JoinSet<()>,
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
    Dead(Remains),
    /// Given up.
    Gone,
}

impl Source {
    /// Opens the records after `saved`. What a dead runner left running is ended first; its end is recorded by
    /// [`Source::seal`].
    pub async fn open(dir: &Path, saved: &Saved) -> io::Result<Self> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = client::lock_dead(dir)? {
                let remains = Remains::open(dir, lock, saved).await?;
                return Ok(Source::dead(remains, saved));
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
            readers: jobs,
        })
    }

    fn dead(remains: Remains, saved: &Saved) -> Self {
        let (records, readers) = remains.read(saved, READ_AHEAD);
        let (_, outcomes) = mpsc::channel(1);
        Source {
            origin_epoch: remains.origin_epoch(),
            last_seq: remains.last_seq(),
            alive: false,
            records,
            outcomes,
            runner: Runner::Dead(remains),
            readers,
        }
    }

    /// Goes back, or on, to the records after `saved`. What a dead runner left stays open: its lock is held here, and
    /// nobody could take it anew.
    pub async fn go_to(&mut self, dir: &Path, saved: &Saved) -> io::Result<()> {
        match &self.runner {
            Runner::Dead(remains) => (self.records, self.readers) = remains.read(saved, READ_AHEAD),
            Runner::Living(_) | Runner::Gone => *self = Source::open(dir, saved).await?,
        }
        Ok(())
    }

    /// Writes down the end that a dead runner could not tell, after all that the server has: `stored` of it now, and
    /// `acked` of it ever.
    pub async fn seal(&mut self, stored: u64, acked: u64) -> io::Result<()> {
        if let Runner::Dead(remains) = &mut self.runner {
            remains.seal(stored, acked).await?;
            self.last_seq = remains.last_seq();
        }
        Ok(())
    }

    /// Gives up the runner, or the lock of a dead one.
    pub fn let_go(&mut self) {
        self.runner = Runner::Gone;
        self.readers.abort_all();
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
            Runner::Dead(_) | Runner::Gone => Ok(()),
        }
    }
}
