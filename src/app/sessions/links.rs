//! Which daemons are linked, as this process knows it: what a session's link fact is held against when the
//! session is made, and by which news of an older link is told from that of the newest.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::base::id::DaemonId;

/// The living links, by the epoch of each.
#[derive(Default)]
pub(super) struct Links(Mutex<HashMap<DaemonId, u64>>);

impl Links {
    /// A daemon is linked. The late news of an older link changes nothing.
    pub(super) fn up(&self, daemon: DaemonId, epoch: u64) {
        let mut links = self.0.lock();
        let newest = links.entry(daemon).or_default();
        *newest = epoch.max(*newest);
    }

    /// A link is gone; a newer one of the same daemon stays.
    pub(super) fn down(&self, daemon: DaemonId, epoch: u64) {
        let mut links = self.0.lock();
        if links.get(&daemon).is_some_and(|newest| *newest <= epoch) {
            links.remove(&daemon);
        }
    }

    /// Epoch of the daemon's link; `None` if it has none.
    pub(super) fn epoch(&self, daemon: DaemonId) -> Option<u64> {
        self.0.lock().get(&daemon).copied()
    }
}
