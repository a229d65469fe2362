//! What a machine has where a session is to work, remembered for a moment.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::ShownDaemon;
use crate::app::App;
use crate::base::id::DaemonId;
use crate::base::{Code, Timestamp};
use crate::domain::daemon::DirectoryQuery;

/// How long what was seen is taken to be so still: the scheduler asks the same for many tasks and agents.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// How long a machine may take to answer. One that is slow is no reason to keep all work waiting.
const DEADLINE: Duration = Duration::from_secs(3);
/// The most that is remembered.
const MAX_SEEN: usize = 10_000;
/// How many machines are asked at once, before others are asked too.
const AT_ONCE: usize = 32;

/// What a machine has at a directory; the more, the better for work there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    /// Nothing, or nothing that may be worked in.
    Absent,
    /// It did not say.
    Unknown,
    /// A directory.
    Directory,
    /// A directory in a git repository.
    Repository,
}

/// What was seen a moment ago.
#[derive(Default)]
pub(crate) struct Presences {
    seen: Mutex<HashMap<(DaemonId, String), (Presence, Timestamp)>>,
}

impl Presences {
    fn fresh(&self, daemon: DaemonId, directory: &str, now: Timestamp) -> Option<Presence> {
        let seen = self.seen.lock();
        let (presence, at) = seen.get(&(daemon, directory.to_owned()))?;
        is_fresh(*at, now).then_some(*presence)
    }

    fn remember(&self, daemon: DaemonId, directory: &str, presence: Presence, now: Timestamp) {
        let mut seen = self.seen.lock();
        if seen.len() >= MAX_SEEN {
            // What is old first; if that is not enough, everything can be asked again.
            seen.retain(|_, (_, at)| is_fresh(*at, now));
            if seen.len() >= MAX_SEEN {
                seen.clear();
            }
        }
        seen.insert((daemon, directory.to_owned()), (presence, now));
    }
}

fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    // A clock that was set back makes nothing fresh for longer.
    at <= now && now < at.saturating_add(FRESH_FOR)
}

impl App {
    /// What a linked machine has at a directory, seen now or a moment ago.
    pub(crate) async fn presence(&self, daemon: DaemonId, directory: &str) -> Presence {
        let now = self.clock().now();
        if let Some(presence) = self.presences().fresh(daemon, directory, now) {
            return presence;
        }
        let query = DirectoryQuery {
            path: directory.to_owned(),
            brief: true,
            ..DirectoryQuery::default()
        };
        let found = self.relay().list_directory(daemon, query, DEADLINE).await;
        let presence = match found {
            Ok(found) if found.repository.is_empty() => Presence::Directory,
            Ok(_) => Presence::Repository,
            // The daemon refuses what is outside of its roots, and what is not there, in the same words.
            Err(error) if matches!(error.code(), Code::Forbidden | Code::InvalidState) => {
                Presence::Absent
            }
            Err(error) => {
                tracing::debug!(%daemon, ?error, "a machine does not say what it has at a directory");
                return Presence::Unknown;
            }
        };
        self.presences().remember(daemon, directory, presence, now);
        presence
    }

    /// The first of the machines that has the most at a directory, and what it has. They are asked in the order in
    /// which they are given, until one has a repository there.
    pub(super) async fn richest(
        &self,
        machines: Vec<ShownDaemon>,
        directory: &str,
    ) -> Option<(ShownDaemon, Presence)> {
        let mut best: Option<(ShownDaemon, Presence)> = None;
        let mut machines = machines.into_iter();
        loop {
            let some: Vec<ShownDaemon> = machines.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                return best;
            }
            let asked = some
                .iter()
                .map(|shown| self.presence(shown.daemon.id, directory));
            let found = join_all(asked).await;
            for (shown, presence) in some.into_iter().zip(found) {
                if best.as_ref().is_none_or(|(_, most)| presence > *most) {
                    best = Some((shown, presence));
                }
            }
            if let Some((_, Presence::Repository)) = best {
                return best;
            }
        }
    }
}
