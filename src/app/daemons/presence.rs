//! What a machine has where a session is to work, remembered for a moment.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::ShownDaemon;
use crate::app::App;
use crate::base::id::DaemonId;
use crate::base::{Code, Timestamp};

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
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    at: HashMap<(DaemonId, String), (Presence, Timestamp)>,
    /// Machines that did not answer in time: to be asked about one directory after the other, each of them would keep
    /// the scheduler waiting.
    silent: HashMap<DaemonId, Timestamp>,
}

impl Presences {
    fn fresh(&self, daemon: DaemonId, directory: &str, now: Timestamp) -> Option<Presence> {
        let seen = self.seen.lock();
        if seen
            .silent
            .get(&daemon)
            .is_some_and(|at| is_fresh(*at, now))
        {
            return Some(Presence::Unknown);
        }
        let (presence, at) = seen.at.get(&(daemon, directory.to_owned()))?;
        is_fresh(*at, now).then_some(*presence)
    }

    fn remember(&self, daemon: DaemonId, directory: &str, presence: Presence, now: Timestamp) {
        let mut seen = self.seen.lock();
        seen.silent.remove(&daemon);
        if seen.at.len() >= MAX_SEEN {
            // What is old first; if that is not enough, everything can be asked again.
            seen.at.retain(|_, (_, at)| is_fresh(*at, now));
            if seen.at.len() >= MAX_SEEN {
                seen.at.clear();
            }
        }
        seen.at
            .insert((daemon, directory.to_owned()), (presence, now));
    }

    fn is_silent(&self, daemon: DaemonId, now: Timestamp) {
        let mut seen = self.seen.lock();
        seen.silent.retain(|_, at| is_fresh(*at, now));
        seen.silent.insert(daemon, now);
    }
}

fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    // A clock that was set back makes nothing fresh for longer.
    at <= now && now < at.saturating_add(FRESH_FOR)
}

impl App {
    /// What a linked machine has at a directory, seen now or a moment ago.
    pub(crate) async fn presence(&self, daemon: DaemonId, directory: &str) -> Presence {
        if let Some(presence) = self
            .presences()
            .fresh(daemon, directory, self.clock().now())
        {
            return presence;
        }
        let found = self.locate(daemon, directory, DEADLINE).await;
        let now = self.clock().now();
        let presence = match found {
            Ok(None) => Presence::Absent,
            Ok(Some(found)) if found.repository.is_empty() => Presence::Directory,
            Ok(Some(_)) => Presence::Repository,
            Err(error) => {
                tracing::debug!(%daemon, ?error, "a machine does not say what it has at a directory");
                if error.code() == Code::Timeout {
                    self.presences().is_silent(daemon, now);
                }
                return Presence::Unknown;
            }
        };
        self.presences().remember(daemon, directory, presence, now);
        presence
    }

    /// What machines have at directories, in the order in which they are given.
    pub(crate) async fn presences_at(&self, sites: &[(DaemonId, &str)]) -> Vec<Presence> {
        let mut found = Vec::with_capacity(sites.len());
        for some in sites.chunks(AT_ONCE) {
            let asked = some.iter().map(|(daemon, at)| self.presence(*daemon, at));
            found.extend(join_all(asked).await);
        }
        found
    }

    /// The first of the machines that has the most at a directory, and what it has. They are asked in the order in
    /// which they are given, until one has a repository there.
    pub(super) async fn richest<'a>(
        &self,
        machines: &'a [ShownDaemon],
        directory: &str,
    ) -> Option<(&'a ShownDaemon, Presence)> {
        let mut best: Option<(&ShownDaemon, Presence)> = None;
        for some in machines.chunks(AT_ONCE) {
            let sites: Vec<_> = some
                .iter()
                .map(|shown| (shown.daemon.id, directory))
                .collect();
            for (shown, presence) in some.iter().zip(self.presences_at(&sites).await) {
                if best.is_none_or(|(_, most)| presence > most) {
                    best = Some((shown, presence));
                }
            }
            if let Some((_, Presence::Repository)) = best {
                break;
            }
        }
        best
    }
}
