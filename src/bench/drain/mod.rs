//! Those who read: each takes what its transport brings and looks for marks in it, and decodes nothing more, so that
//! the load's processor is not what is measured.

mod http1;
mod http2;
mod ws;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use super::address::Address;
use super::stamp::{Scan, histogram};
use super::subject::{Kind, Subject};

pub use http2::Connection;
pub use ws::{open as socket, open_silent};

/// How events travel to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web over HTTP/1.1, as a page in a browser speaks it.
    GrpcWeb,
    /// Server-sent events over HTTP/1.1, JSON.
    Sse,
    /// A WebSocket, JSON.
    Ws,
}

impl Transport {
    /// As a table shows it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Grpc => "gRPC",
            Transport::GrpcWeb => "gRPC-Web",
            Transport::Sse => "SSE",
            Transport::Ws => "WebSocket",
        }
    }
}

/// How much may be under way to a reader: more than a saturated round has in flight.
const WINDOW: u32 = 1 << 20;

/// What a reader is to read.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose server it is.
    pub kind: Kind,
    /// How.
    pub transport: Transport,
    /// Where it listens.
    pub address: Address,
    /// The authorization header.
    pub bearer: Option<String>,
    /// The session.
    pub session: String,
    /// Only what comes from now on, instead of everything.
    pub tail: bool,
    /// What comes after this seq; over gRPC only.
    pub after: u64,
    /// Whether live text is wanted too; over gRPC only.
    pub live: bool,
    /// How many bytes may be under way to it, on a stream and on its connection; over gRPC only.
    pub window: u32,
    /// Whether latencies are wanted.
    pub with_latency: bool,
    /// A stored log of so many events of so many bytes instead of what comes, where the server is not Baton.
    pub replays: Option<(u64, usize)>,
}

impl Target {
    /// All of a session's log and what comes.
    pub fn of(subject: &Subject, transport: Transport, session: &str) -> Self {
        Target {
            kind: subject.kind,
            transport,
            address: subject.address.clone(),
            bearer: subject.bearer(),
            session: session.to_owned(),
            tail: false,
            after: 0,
            live: false,
            window: WINDOW,
            with_latency: false,
            replays: None,
        }
    }

    async fn read(&self, to: &mut Sink) -> Result<()> {
        match self.transport {
            Transport::Grpc => http2::read(self, to).await,
            Transport::GrpcWeb | Transport::Sse => http1::read(self, to).await,
            Transport::Ws => ws::read(self, to).await,
        }
    }
}

/// Where a reader puts what it has.
pub struct Sink {
    scan: Scan,
    seen: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    messages: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    is_open: bool,
    measuring: Arc<AtomicBool>,
    was_measuring: bool,
}

impl Sink {
    /// The other side has said that it follows.
    fn opened(&mut self) {
        if !std::mem::replace(&mut self.is_open, true) {
            self.open.fetch_add(1, Ordering::Release);
        }
    }

    /// So many messages have begun.
    fn messages(&self, count: u64) {
        self.messages.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes bytes.
    fn feed(&mut self, bytes: &[u8]) {
        let measuring = self.measuring.load(Ordering::Relaxed);
        if measuring && !self.was_measuring {
            // What came before is the warm-up's.
            if let Some(latency) = &mut self.scan.latency {
                latency.reset();
            }
            self.was_measuring = true;
        }
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.scan.feed(bytes) > 0 {
            self.seen.store(self.scan.seen, Ordering::Release);
        }
    }
}

/// Readers of one session.
pub struct Readers {
    seen: Vec<Arc<AtomicU64>>,
    bytes: Arc<AtomicU64>,
    messages: Arc<AtomicU64>,
    open: Arc<AtomicU64>,
    measuring: Arc<AtomicBool>,
    over: tokio_util::sync::CancellationToken,
    jobs: JoinSet<Result<Scan>>,
}

/// How many connect at the same time.
const AT_ONCE: usize = 32;

impl Readers {
    /// Connects `count` readers, and returns when all follow.
    pub async fn open(target: &Target, count: usize) -> Result<Self> {
        let mut readers = Readers::nobody(count);
        let first = (!target.tail && target.after == 0).then_some(0);
        for at in 1..=count {
            readers.add(target, first);
            if at % AT_ONCE == 0 || at == count {
                readers.follow(at).await?;
            }
        }
        Ok(readers)
    }

    fn nobody(count: usize) -> Self {
        Readers {
            seen: Vec::with_capacity(count),
            bytes: Arc::default(),
            messages: Arc::default(),
            open: Arc::default(),
            measuring: Arc::default(),
            over: tokio_util::sync::CancellationToken::new(),
            jobs: JoinSet::new(),
        }
    }

    fn add(&mut self, target: &Target, first: Option<u64>) {
        let seen = Arc::new(AtomicU64::new(0));
        self.seen.push(seen.clone());
        let mut sink = Sink {
            scan: Scan::new(first, target.with_latency),
            seen,
            bytes: self.bytes.clone(),
            messages: self.messages.clone(),
            open: self.open.clone(),
            is_open: false,
            measuring: self.measuring.clone(),
            was_measuring: false,
        };
        let (target, over) = (target.clone(), self.over.clone());
        self.jobs.spawn(async move {
            tokio::select! {
                ended = target.read(&mut sink) => {
                    ended.with_context(|| format!("a reader over {}", target.transport.name()))?;
                    bail!("a reader over {} was let go by the server", target.transport.name())
                }
                () = over.cancelled() => Ok(sink.scan),
            }
        });
    }

    async fn follow(&mut self, count: usize) -> Result<()> {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        while self.open.load(Ordering::Acquire) < count as u64 {
            self.check()?;
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "only {} of {count} readers follow",
                    self.open.load(Ordering::Acquire)
                );
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// An error if one has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.jobs.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?.map(drop).and_then(|()| bail!("a reader has ended")),
        }
    }

    /// Latencies count from now on.
    pub fn measure(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    /// Events that all readers together have seen.
    pub fn delivered(&self) -> u64 {
        self.seen
            .iter()
            .map(|seen| seen.load(Ordering::Acquire))
            .sum()
    }

    /// Bytes that all readers together have read, without what the transport puts around them.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Messages in which they came; known of gRPC only.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Events that the slowest has seen.
    pub fn least(&self) -> u64 {
        let seen = self.seen.iter().map(|seen| seen.load(Ordering::Acquire));
        seen.min().unwrap_or(u64::MAX)
    }

    /// Waits until each has seen `count` events.
    pub async fn reach(&mut self, count: u64) -> Result<()> {
        while self.least() < count {
            self.check()?;
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
        Ok(())
    }

    /// Lets go of them. An error if one of them saw a gap or a double. The latencies, if they were wanted.
    pub async fn close(mut self) -> Result<Histogram<u64>> {
        self.over.cancel();
        let mut all = histogram();
        while let Some(ended) = self.jobs.join_next().await {
            let scan = ended??;
            if scan.faults > 0 {
                bail!(
                    "void: a reader saw {} gaps or doubles in {} events",
                    scan.faults,
                    scan.seen
                );
            }
            if let Some(latency) = &scan.latency {
                all.add(latency).context("latencies of one range")?;
            }
        }
        Ok(all)
    }
}
