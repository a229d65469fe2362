//! Who looks at which terminal now, and with which sizes. Lives and dies with the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::app::App;
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::domain::terminal::{MAX_VIEWERS, Size, SizePolicy, Viewers};

/// How long before a size that a daemon did not take is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The rooms of all terminals that somebody looks at.
#[derive(Default)]
pub struct Terminals {
    rooms: Mutex<HashMap<SessionId, Arc<Room>>>,
    /// Bytes shown since the stream was last trimmed, of terminals that live.
    grown: Mutex<HashMap<SessionId, u64>>,
    turns: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

struct Room {
    viewers: Mutex<Viewers>,
    size: watch::Sender<Size>,
    poke: Notify,
    job: Mutex<Option<JoinHandle<()>>>,
}

/// The right to change a terminal's size, one at a time.
pub(super) struct Turn {
    _held: tokio::sync::OwnedMutexGuard<()>,
}

/// Somebody who looks at a terminal, for as long as this lives.
pub struct Viewer {
    terminals: Arc<Terminals>,
    session: SessionId,
    room: Arc<Room>,
    number: u64,
    /// The size that holds.
    pub(super) size: watch::Receiver<Size>,
}

impl Viewer {
    /// Names the viewer among those of its terminal.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The viewer has another size.
    pub fn resize(&self, size: Size) {
        self.room.viewers.lock().resize(self.number, size);
        self.room.poke.notify_one();
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut rooms = self.terminals.rooms.lock();
        let mut viewers = self.room.viewers.lock();
        viewers.leave(self.number);
        if viewers.count() > 0 {
            self.room.poke.notify_one();
            return;
        }
        rooms.remove(&self.session);
        if let Some(job) = self.room.job.lock().take() {
            job.abort();
        }
    }
}

impl Terminals {
    /// A further viewer; `has` is the size that the terminal has.
    pub(super) fn join(
        self: &Arc<Self>,
        app: &App,
        session: SessionId,
        has: Size,
        size: Option<Size>,
    ) -> Result<Viewer> {
        let mut rooms = self.rooms.lock();
        let room = rooms.entry(session).or_insert_with(|| {
            Arc::new(Room {
                viewers: Mutex::default(),
                size: watch::Sender::new(has),
                poke: Notify::new(),
                job: Mutex::new(None),
            })
        });
        let number = room.viewers.lock().join(size).ok_or_else(|| {
            Error::new(
                Code::AtCapacity,
                format!("the terminal has {MAX_VIEWERS} viewers, as many as it takes"),
            )
        })?;
        room.job
            .lock()
            .get_or_insert_with(|| tokio::spawn(keep_size(app.clone(), session, room.clone())));
        room.poke.notify_one();
        Ok(Viewer {
            terminals: self.clone(),
            session,
            number,
            size: room.size.subscribe(),
            room: room.clone(),
        })
    }

    /// How many look at a terminal.
    pub(super) fn viewers(&self, session: SessionId) -> usize {
        self.room(session)
            .map_or(0, |room| room.viewers.lock().count())
    }

    pub(super) fn typed(&self, session: SessionId, viewer: u64) {
        if let Some(room) = self.room(session) {
            room.viewers.lock().typed(viewer);
            room.poke.notify_one();
        }
    }

    pub(super) fn resize(&self, session: SessionId, viewer: u64, size: Size) -> bool {
        self.room(session)
            .is_some_and(|room| room.viewers.lock().resize(viewer, size))
    }

    pub(super) fn holds(&self, session: SessionId, policy: SizePolicy) -> Option<Size> {
        self.room(session)?.viewers.lock().holds(policy)
    }

    pub(super) fn has_size(&self, session: SessionId, size: Size) {
        if let Some(room) = self.room(session) {
            room.size.send_replace(size);
        }
    }

    pub(super) async fn turn(&self, session: SessionId) -> Turn {
        let turn = {
            let mut turns = self.turns.lock();
            // Kept only while somebody has or waits for it.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(session).or_default().clone()
        };
        Turn {
            _held: turn.lock_owned().await,
        }
    }

    /// Notes that a terminal showed `bytes` more; says when it is `due` to be trimmed.
    pub(super) fn is_due(&self, session: SessionId, bytes: u64, due: u64) -> bool {
        let mut grown = self.grown.lock();
        let sum = grown.entry(session).or_default();
        *sum = sum.saturating_add(bytes);
        let is_due = *sum >= due;
        if is_due {
            *sum = 0;
        }
        is_due
    }

    /// A session is over: nothing more will be shown.
    pub(crate) fn over(&self, session: SessionId) {
        self.grown.lock().remove(&session);
    }

    fn room(&self, session: SessionId) -> Option<Arc<Room>> {
        self.rooms.lock().get(&session).cloned()
    }
}

/// Keeps a terminal's size what its viewers' come to. Ended with the last viewer.
async fn keep_size(app: App, session: SessionId, room: Arc<Room>) {
    loop {
        room.poke.notified().await;
        while let Err(error) = app.settle_size(session, None).await {
            if matches!(error.code(), Code::InvalidState | Code::NotFound) {
                break;
            }
            // It has not begun, or its machine is away.
            tokio::time::sleep(AGAIN).await;
        }
    }
}
