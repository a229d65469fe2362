//! Events on their way from one publisher to readers, as several scenarios need it.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;

use crate::bench::certificate::Certificate;
use crate::bench::drain::{Readers, Target, Transport};
use crate::bench::pace;
use crate::bench::publish::{BareStream, Machine, OlderDaemon, Publisher};
use crate::bench::run::Bench;
use crate::bench::stamp;
use crate::bench::subject::{Kind, Subject, data_dir};
use crate::wire::v1;

/// Events that may be under way to the slowest reader when everybody goes as fast as they can.
const WINDOW: u64 = 4_096;
/// How long the slowest reader is waited for: the older relay has 60,000 deliveries a second.
const PATIENCE: Duration = Duration::from_secs(240);
/// Events that are brought at once then.
const AT_ONCE: u64 = 64;

/// How events come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as the slowest reader takes them.
    Saturated,
    /// So many a second, whatever becomes of them.
    Paced(u64),
}

/// What a round brought.
pub struct Round {
    /// Processor time of the server.
    pub cpu: Duration,
    /// How long it took.
    pub wall: Duration,
    /// Events that were brought.
    pub events: u64,
    /// Events that readers have read, over all of them.
    pub delivered: u64,
    /// Bytes in which they came.
    pub bytes: u64,
    /// Messages in which they came, over gRPC.
    pub messages: u64,
    /// When they were read after they were due.
    pub latency: Histogram<u64>,
}

impl Round {
    /// Processor time of the server for each delivery, in microseconds.
    pub fn cpu_per_delivery(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.delivered as f64
    }

    /// The same for each event.
    pub fn cpu_per_event(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }

    /// Bytes that a reader reads for an event.
    pub fn bytes_per_delivery(&self) -> f64 {
        self.bytes as f64 / self.delivered as f64
    }

    /// Events that came together in a message, over gRPC.
    pub fn per_message(&self) -> f64 {
        self.delivered as f64 / self.messages as f64
    }

    /// A quantile of the latency, in microseconds.
    pub fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// A server with one session, somebody who brings its events, and nobody who reads them yet.
pub struct Stage {
    /// The server.
    pub subject: Subject,
    /// Who brings events.
    pub publisher: Publisher,
    /// The session.
    pub session: String,
    /// The daemon, linked for as long as this is there.
    machine: Option<Machine>,
    /// The number of the next event.
    next: u64,
    /// Bytes that each text has beyond those that the plan says.
    pub padding: usize,
    /// Whether what comes at an even rate is live text, which is never stored.
    pub is_live: bool,
}

/// By how much the texts of a bare server are longer, so that its readers read as many bytes for an event as Baton's do:
/// it is to carry the same messages, who, when and in which session included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Padding {
    baton: f64,
    bytes: usize,
}

impl Padding {
    /// How long it is, for a server of this kind.
    pub fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Bare => self.bytes,
            Kind::Baton | Kind::Node => 0,
        }
    }

    /// Learns from a round that is not counted: Baton's, and then the bare server's without any.
    pub fn learn(&mut self, kind: Kind, round: &Round) {
        let read = round.bytes_per_delivery();
        match kind {
            Kind::Baton => self.baton = read,
            Kind::Bare => self.bytes = (self.baton - read).max(0.0) as usize,
            Kind::Node => {}
        }
    }
}

impl Stage {
    /// Sets it up.
    pub async fn set(bench: &Bench<'_>, kind: Kind) -> Result<Self> {
        let subject = Subject::start(kind, bench.plan, bench.machine)?;
        Stage::on(subject).await
    }

    /// The same on Baton with options (`key=value`).
    pub async fn with_options(bench: &Bench<'_>, options: &[&str]) -> Result<Self> {
        let dir = data_dir(bench.plan)?;
        let subject = Subject::baton(bench.plan, bench.machine, dir, options)?;
        Stage::on(subject).await
    }

    /// The same over TLS, where there is a certificate.
    pub async fn with_tls(
        bench: &Bench<'_>,
        kind: Kind,
        certificate: Option<&Certificate>,
    ) -> Result<Self> {
        let subject = Subject::with_tls(kind, bench.plan, bench.machine, certificate)?;
        Stage::on(subject).await
    }

    /// The same on a server that is there.
    pub async fn on(subject: Subject) -> Result<Self> {
        let (publisher, session, machine) = match subject.kind {
            Kind::Baton => {
                let client = subject.client().await?;
                let name = format!("bench-{}", stamp::now_ns());
                let enrolled = Machine::enroll(&client, &subject.address, &name).await?;
                let machine = Machine::link(&subject.address, &enrolled, 1, &[]).await?;
                let session = machine.session(&client).await?;
                let id = session.id.clone();
                (Publisher::Link(session), id, Some(machine))
            }
            Kind::Bare => {
                let stream = BareStream::open(&subject.address).await?;
                (Publisher::Bare(stream), String::new(), None)
            }
            Kind::Node => {
                let daemon = OlderDaemon::connect(&subject.address, "bench").await?;
                (Publisher::Older(daemon), "bench".to_owned(), None)
            }
        };
        Ok(Stage {
            subject,
            publisher,
            session,
            machine,
            next: 0,
            padding: 0,
            is_live: false,
        })
    }

    /// The server alone; the daemon is gone with the rest.
    pub fn into_subject(self) -> Subject {
        self.subject
    }

    /// Baton's daemon.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Brings `events` events, and returns when all are acknowledged.
    pub async fn fill(&mut self, bytes: usize, events: u64) -> Result<()> {
        let numbers = self.next..self.next + events;
        self.next = numbers.end;
        bring(&mut self.publisher, numbers, bytes).await
    }

    /// The newest seq of Baton's session.
    pub async fn head(&self) -> Result<u64> {
        let request = v1::ListEventsRequest {
            session_id: self.session.clone(),
            page_size: 1,
            ..Default::default()
        };
        let client = self.subject.client().await?;
        Ok(client.list_events(request).await?.head_seq)
    }

    /// What a reader of its session reads.
    pub fn target(&self, transport: Transport, rate: Rate) -> Target {
        let mut target = Target::of(&self.subject, transport, &self.session);
        target.with_latency = rate != Rate::Saturated;
        target.tail = self.next > 0;
        target.live = self.is_live;
        target
    }

    /// Readers over a transport, and events at a rate, for a while.
    pub async fn round(
        &mut self,
        bench: &Bench<'_>,
        transport: Transport,
        readers: usize,
        rate: Rate,
    ) -> Result<Round> {
        let readers = Readers::open(&self.target(transport, rate), readers).await?;
        self.watched(bench, readers, rate).await
    }

    /// The same with readers that are there, and have read everything that there is.
    pub async fn watched(
        &mut self,
        bench: &Bench<'_>,
        mut readers: Readers,
        rate: Rate,
    ) -> Result<Round> {
        let bytes = bench.plan.event_bytes + self.padding;
        let already = self.next;
        let duration = bench.plan.duration;
        let (begun, ended) = match rate {
            Rate::Saturated => {
                self.saturate(bytes, &mut readers, already, bench.plan.warm_up())
                    .await?;
                let begun = self.mark(&mut readers, already).await?;
                self.saturate(bytes, &mut readers, already, duration)
                    .await?;
                (begun, self.mark(&mut readers, already).await?)
            }
            Rate::Paced(per_second) => {
                self.pace(bytes, per_second, bench.plan.warm_up()).await?;
                let begun = self.mark(&mut readers, already).await?;
                readers.measure();
                self.pace(bytes, per_second, duration).await?;
                (begun, self.mark(&mut readers, already).await?)
            }
        };
        let latency = readers.close().await?;
        Ok(Round {
            cpu: ended.cpu.saturating_sub(begun.cpu),
            wall: ended.at - begun.at,
            events: ended.events - begun.events,
            delivered: ended.delivered - begun.delivered,
            bytes: ended.bytes - begun.bytes,
            messages: ended.messages - begun.messages,
            latency,
        })
    }

    /// Waits until all readers have everything, and looks at the clocks.
    async fn mark(&self, readers: &mut Readers, already: u64) -> Result<Mark> {
        let reached = readers.reach(self.next - already);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(reached) => reached?,
            Err(_) => bail!(
                "the slowest reader has {} of {} events after {PATIENCE:?}",
                readers.least(),
                self.next - already
            ),
        }
        Ok(Mark {
            cpu: self.subject.process.cpu()?,
            at: Instant::now(),
            events: self.next,
            delivered: readers.delivered(),
            bytes: readers.bytes(),
            messages: readers.messages(),
        })
    }

    async fn saturate(
        &mut self,
        bytes: usize,
        readers: &mut Readers,
        already: u64,
        duration: Duration,
    ) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            while self.next - already >= readers.least().saturating_add(WINDOW - AT_ONCE) {
                readers.check()?;
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            let texts = (self.next..self.next + AT_ONCE).map(|n| stamp::text(0, n, bytes));
            let texts = texts.collect();
            self.next += AT_ONCE;
            self.publisher.send(texts).await?;
        }
        Ok(())
    }

    async fn pace(&mut self, bytes: usize, per_second: u64, duration: Duration) -> Result<()> {
        let count = (per_second as f64 * duration.as_secs_f64()).max(1.0) as u64;
        let mut dues = pace::every(Duration::from_secs(1) / per_second as u32, count);
        while let Some((due, _)) = dues.recv().await {
            let text = stamp::text(due, self.next, bytes);
            self.next += 1;
            let texts = vec![text];
            match self.is_live {
                true => self.publisher.send_live(texts).await?,
                false => self.publisher.send(texts).await?,
            }
        }
        Ok(())
    }
}

/// Brings events with these numbers, and returns when all are acknowledged.
pub async fn bring(publisher: &mut Publisher, numbers: Range<u64>, bytes: usize) -> Result<()> {
    let mut next = numbers.start;
    while next < numbers.end {
        let end = numbers.end.min(next + AT_ONCE);
        let texts = (next..end).map(|n| stamp::text(0, n, bytes)).collect();
        next = end;
        publisher.send(texts).await?;
    }
    publisher.settle().await
}

struct Mark {
    cpu: Duration,
    at: Instant,
    events: u64,
    delivered: u64,
    bytes: u64,
    messages: u64,
}
