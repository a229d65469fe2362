//! What a dead runner left: its spool, and the end that it could not tell any more.
//!
//! The end is written down when the server has said what it has, and not before: a power cut may have taken records
//! that the server stored, and the end must not get the number of one of those.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::ending::STEP_LOST;
use super::state::Saved;
use crate::base::{Clock as _, SystemClock};
use crate::daemon::kin;
use crate::daemon::runner::spec::MARKER_VARIABLE;
use crate::daemon::runner::{Ledger, SPOOL_DIR, Spec, ledger::SPAWN_ID};
use crate::daemon::spool::{Cursor, Spool};
use crate::wire::runner_v1::{Exited, SpoolRecord, WriteOutcome, Written, spool_record::Body};

/// How long what a dead runner left may take to end after SIGTERM.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How long before a spool that could not be read is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// The spool of a dead runner, and the lock that keeps another from coming up in its place.
#[derive(Debug)]
pub struct Remains {
    _lock: File,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    left: Mutex<Left>,
    /// Rings when something was appended.
    grown: Notify,
}

#[derive(Debug)]
struct Left {
    dir: PathBuf,
    spool: Spool,
    /// Commands whose outcome is recorded.
    written: HashSet<String>,
    /// The number of the harness's end, once it is recorded.
    end: Option<u64>,
    /// Numbers that this spool lacks and the server has: nothing is missing there.
    hole: Option<(u64, u64)>,
}

impl Remains {
    /// Ends what the runner of `dir` left running, and opens its spool. `lock` is the runner's.
    pub async fn open(dir: &Path, lock: File, saved: &Saved) -> io::Result<Self> {
        let spec = Spec::read(dir)?;
        let marker = spec.marker.clone();
        if !kin::end_all(|| kin::marked(MARKER_VARIABLE, &marker), LEFTOVER_GRACE).await {
            tracing::warn!(session = %spec.session_id, "processes of a dead runner could not be ended");
        }
        let (home, saved) = (dir.to_owned(), saved.clone());
        let left = off_thread(move || Left::open(home, &spec, &saved)).await?;
        Ok(Remains {
            _lock: lock,
            shared: Arc::new(Shared {
                left: Mutex::new(left),
                grown: Notify::new(),
            }),
        })
    }

    /// Identifies the spool.
    pub fn origin_epoch(&self) -> u64 {
        self.shared.left.lock().spool.origin_epoch()
    }

    /// The newest record.
    pub fn last_seq(&self) -> u64 {
        self.shared.left.lock().spool.last_seq()
    }

    /// The records after `saved`, and the job that reads them. They never end: a channel's end would mean a runner
    /// that has gone.
    pub fn read(&self, saved: &Saved, ahead: usize) -> (mpsc::Receiver<SpoolRecord>, JoinSet<()>) {
        let (send, records) = mpsc::channel(ahead);
        let shared = self.shared.clone();
        let mut cursor = Cursor::after(match saved.origin_epoch == self.origin_epoch() {
            true => saved.seq,
            false => 0,
        });
        let mut jobs = JoinSet::new();
        jobs.spawn(async move {
            loop {
                let grown = shared.grown.notified();
                let read = shared.next(&mut cursor);
                match read {
                    Ok(records) if records.is_empty() => grown.await,
                    Ok(records) => {
                        for record in records {
                            if !shared.is_known(&record) && send.send(record).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a spool cannot be read, trying on");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
        (records, jobs)
    }

    /// Records what the runner could not say: open writes are unknown, and the harness has ended. It is numbered after
    /// `stored`, the last record of this spool that the server has, and after `acked`, the last one it ever had. Does
    /// nothing if the end is there, and younger than all that the server has.
    pub async fn seal(&self, stored: u64, acked: u64) -> io::Result<()> {
        if self.shared.left.lock().is_sealed(stored) {
            return Ok(());
        }
        let shared = self.shared.clone();
        off_thread(move || shared.left.lock().seal(stored, acked)).await?;
        self.shared.grown.notify_waiters();
        Ok(())
    }
}

impl Left {
    fn open(dir: PathBuf, spec: &Spec, saved: &Saved) -> io::Result<Self> {
        let spool = open_spool(&dir, spec, saved)?;
        let (mut written, mut end) = (HashSet::new(), saved.exited.then_some(saved.seq));
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
                    Some(Body::Exited(_)) => end = Some(record.seq),
                    _ => {}
                }
            }
        }
        Ok(Left {
            dir,
            spool,
            written,
            end,
            hole: None,
        })
    }

    fn is_sealed(&self, stored: u64) -> bool {
        self.end.is_some_and(|end| stored <= end)
    }

    fn seal(&mut self, stored: u64, acked: u64) -> io::Result<()> {
        let (last, through) = (self.spool.last_seq(), stored.max(acked));
        let lost = through > last;
        if lost {
            self.spool.skip_to(through)?;
            self.hole = (through <= stored).then_some((last + 1, through));
        }
        let now = SystemClock.now();
        for intent in Ledger::open_intents(&self.dir)? {
            if intent.command_id == SPAWN_ID || !self.written.insert(intent.command_id.clone()) {
                continue;
            }
            let unknown = Written {
                outcome: WriteOutcome::Unknown.into(),
                reason: "the runner died between writing it and noting that".to_owned(),
                ..intent
            };
            self.spool.append(now, Body::Written(unknown))?;
        }
        let message = match lost {
            true => {
                "the runner died, and its machine lost the last records it had written; what the server does not \
                 have of them is lost"
            }
            false => "the runner died; what it had not yet read from the harness is lost",
        };
        let exited = Exited {
            step: STEP_LOST.to_owned(),
            message: message.to_owned(),
            ..Exited::default()
        };
        let end = self.spool.append(now, Body::Exited(exited))?;
        // On the disk before anybody hears of it: the next power cut must not take back what the server was told.
        if let Some(file) = self.spool.unsynced() {
            file.sync_data()?;
        }
        File::open(self.dir.join(SPOOL_DIR))?.sync_all()?;
        self.end = Some(end);
        Ok(())
    }
}

impl Shared {
    fn next(&self, cursor: &mut Cursor) -> io::Result<Vec<SpoolRecord>> {
        self.left.lock().spool.read(cursor)
    }

    /// Whether this says only that records are missing which the server has.
    fn is_known(&self, record: &SpoolRecord) -> bool {
        let hole = self.left.lock().hole;
        match (&record.body, hole) {
            (Some(Body::Missing(missing)), Some((from, to))) => {
                from <= missing.from_seq && missing.to_seq <= to
            }
            _ => false,
        }
    }
}

fn open_spool(dir: &Path, spec: &Spec, saved: &Saved) -> io::Result<Spool> {
    let path = dir.join(SPOOL_DIR);
    let known = (saved.origin_epoch != 0).then_some(saved.origin_epoch);
    match Spool::open(&path, spec.spool_bytes, known) {
        // It died before it had one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Spool::create(&path, spec.spool_bytes)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            std::fs::rename(&path, dir.join("spool.damaged"))?;
            Spool::create(&path, spec.spool_bytes)
        }
        spool => spool,
    }
}

/// Reads or writes files where that keeps nobody else waiting.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
