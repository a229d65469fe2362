//! The link as the daemon's jobs share it: the state machine behind a short lock, and two bells.

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::base::{SharedClock, Timestamp};
use crate::domain::link::DaemonLink;

/// The daemon's side of the link, shared by the job that moves frames and the sessions' pumps.
pub struct Uplink {
    link: Mutex<DaemonLink>,
    clock: SharedClock,
    /// Rings when there may be something to send.
    work: Notify,
    /// Changes when a pump may be wanted again.
    moved: watch::Sender<u64>,
}

impl Uplink {
    /// Shares a link.
    pub fn new(link: DaemonLink, clock: SharedClock) -> Self {
        Uplink {
            link: Mutex::new(link),
            clock,
            work: Notify::new(),
            moved: watch::Sender::new(0),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does something to the link that may give it something to send.
    pub fn with<T>(&self, act: impl FnOnce(&mut DaemonLink) -> T) -> T {
        let done = act(&mut self.link.lock());
        self.work.notify_one();
        done
    }

    /// Does something to the link as the job that moves its frames; pumps look again.
    pub fn drive<T>(&self, act: impl FnOnce(&mut DaemonLink) -> T) -> T {
        let done = act(&mut self.link.lock());
        self.moved
            .send_modify(|count| *count = count.wrapping_add(1));
        done
    }

    /// Does something to the link that no pump waits for.
    pub fn drive_quietly<T>(&self, act: impl FnOnce(&mut DaemonLink) -> T) -> T {
        act(&mut self.link.lock())
    }

    /// Looks at the link.
    pub fn look<T>(&self, at: impl FnOnce(&DaemonLink) -> T) -> T {
        at(&self.link.lock())
    }

    /// Waits until there may be something to send.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// Changes whenever a pump should look whether it is wanted.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}
