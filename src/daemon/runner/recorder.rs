//! The spool as the runner's parts share it: append, wait for room, follow.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::fault;
use crate::base::{Clock as _, SystemClock};
use crate::daemon::spool::{Cursor, Spool};
use crate::wire::runner_v1::{SpoolRecord, spool_record::Body};

/// How long appended records may wait for the disk.
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How long to wait before a refused append is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Numbers and keeps what the runner sees.
#[derive(Debug)]
pub struct Recorder {
    inner: Mutex<Inner>,
    last: watch::Sender<u64>,
    room: Notify,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    /// Whether `Exited` is recorded; nothing comes after it.
    ended: bool,
}

impl Recorder {
    /// Records into `spool`.
    pub fn new(spool: Spool) -> Self {
        Recorder {
            last: watch::Sender::new(spool.last_seq()),
            inner: Mutex::new(Inner {
                spool,
                ended: false,
            }),
            room: Notify::new(),
        }
    }

    /// Appends a record, waiting for the disk to take it. `None` after the harness's end was recorded.
    pub async fn append(&self, body: Body) -> Option<u64> {
        let mut complained = false;
        loop {
            match self.try_append(body.clone()) {
                Ok(seq) => return seq,
                Err(error) => {
                    if !complained {
                        super::log(&format!("the spool refuses a record, trying on: {error}"));
                        complained = true;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn try_append(&self, body: Body) -> io::Result<Option<u64>> {
        let mut inner = self.inner.lock();
        if inner.ended {
            return Ok(None);
        }
        let ends = matches!(body, Body::Exited(_));
        fault::point(fault::BEFORE_RECORD);
        let seq = inner.spool.append(SystemClock.now(), body)?;
        inner.ended = ends;
        drop(inner);
        fault::point(fault::AFTER_RECORD);
        self.last.send_replace(seq);
        Ok(Some(seq))
    }

    /// Waits until more output may be taken in: back pressure, not loss.
    pub async fn wait_for_room(&self) {
        loop {
            let freed = self.room.notified();
            if self.inner.lock().spool.has_room() {
                return;
            }
            freed.await;
        }
    }

    /// Removes what is stored elsewhere.
    pub fn trim(&self, through: u64) {
        if let Err(error) = self.inner.lock().spool.trim(through) {
            super::log(&format!("the spool could not be trimmed: {error}"));
        }
        self.room.notify_waiters();
    }

    /// The next records for a reader; empty when it has all.
    pub fn read(&self, cursor: &mut Cursor) -> io::Result<Vec<SpoolRecord>> {
        self.inner.lock().spool.read(cursor)
    }

    /// Wakes when there are more records; the value is the newest number.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Origin epoch, first and last number.
    pub fn extent(&self) -> (u64, u64, u64) {
        let spool = &self.inner.lock().spool;
        (spool.origin_epoch(), spool.first_seq(), spool.last_seq())
    }

    /// Brings what was appended to the disk, now.
    pub async fn sync(&self) {
        let Some(file) = self.inner.lock().spool.unsynced() else {
            return;
        };
        match tokio::task::spawn_blocking(move || file.sync_data()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => super::log(&format!("the spool could not be synced: {error}")),
            Err(error) => super::log(&format!("the sync of the spool failed: {error}")),
        }
    }

    /// Syncs a few times a second while records come; never returns.
    pub async fn keep_synced(&self) {
        let mut last = self.watch();
        while last.changed().await.is_ok() {
            tokio::time::sleep(SYNC_EVERY).await;
            self.sync().await;
        }
    }
}
