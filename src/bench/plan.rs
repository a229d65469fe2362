//! What is to be measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Daemon to journal to readers: processor time of the whole path for an event
    Relay,
    /// One event to 1 … 1,000 readers over gRPC, gRPC-Web, server-sent events and WebSocket
    Fanout,
    /// The same over TLS, daemon and readers, beside a bare server with TLS
    Tls,
    /// What must not grow with the length of a session, with sessions beside it, with readers
    Flat,
    /// Durable ingest: sessions, batches, sync or interval
    Append,
    /// A long log from the start, over gRPC and as JSON
    Replay,
    /// How much later an event, a piece of live text, an answer arrive than over a bare hop
    Latency,
    /// Memory and processor time of what is connected and silent
    Idle,
    /// Many daemons come back after the server was started anew
    Storm,
    /// Pages of many sessions, with filters, and search
    List,
    /// Starting with much stored, after a clean stop and after a kill; how soon a reader has its first event
    Startup,
    /// Readers that do not read, beside others that do
    SlowReaders,
    /// Twice as many calls as can be answered
    Overload,
}

/// What is to be measured, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenarios, in this order.
    pub scenarios: Vec<Scenario>,
    /// Counted rounds of each point; one more comes before them.
    pub rounds: usize,
    /// How long a round measures.
    pub duration: Duration,
    /// Sizes of a short run: enough to see that everything works, too little to quote.
    pub is_quick: bool,
    /// Bytes of an event's text.
    pub event_bytes: usize,
    /// The program under test.
    pub program: PathBuf,
    /// Name of the file in a data directory that has the first token.
    pub token_file: &'static str,
    /// Where the server keeps its store: the disk that is measured. `None` is the system's directory for temporary files.
    pub dir: Option<PathBuf>,
    /// The directory of the older design (`benches/baselines` of the sources, its packages installed); `None` leaves it out.
    pub baselines: Option<PathBuf>,
    /// Only points whose name contains this.
    pub only: Option<String>,
}

impl Plan {
    /// The rounds of a point by number; what round 0 brings is not counted. A short run has no such round.
    pub fn rounds(&self) -> std::ops::RangeInclusive<usize> {
        self.size(0, 1)..=self.rounds
    }

    /// What comes before anything is measured in a round.
    pub fn warm_up(&self) -> Duration {
        self.size(Duration::from_millis(500), Duration::from_millis(50))
    }

    /// `full`, or in a quick run `quick`.
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if self.is_quick { quick } else { full }
    }
}
