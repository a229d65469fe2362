//! The same promises over the real transport: tonic, hyper and h2 in simulated time (turmoil), with the
//! real relay, service and memory store. The machine is the one of the other simulation.
//!
//! `BATON_SIM_TRANSPORT_SEEDS` says how many schedules are run (100), `BATON_SIM_TRANSPORT_SEED` runs one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use baton::base::id::{CommandId, DaemonId, SessionId};
use baton::base::{Clock, Code, Error, Result, Timestamp};
use baton::domain::command::{Command, CommandBody, CommandOutcome, CommandResult};
use baton::domain::daemon::Offer;
use baton::domain::link::{
    ContentChunk, Credit, Goodbye, Records, ServerLimits, SessionReport, Up,
};
use baton::domain::{EventBody, Transient};
use baton::relay::{self, Claim, Handler, Introduction, Relay, outbox};
use baton::rpc::link::{Enrolled, Gate, LinkRpc};
use baton::store::memory::{MemoryStore, Sync as Syncing};
use baton::store::{
    self, Append, Commit, Contents as _, Expect, Journal as _, Origin, Outbox as _, RecordOp,
    Records as _, SharedStore, Stream,
};
use baton::wire::EventBatch;
use baton::wire::link::{down_from_pb, up_to_pb};
use baton::wire::link_v1::link_service_client::LinkServiceClient;
use baton::wire::status::error_from_status;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};
use turmoil::net::{TcpListener, TcpStream};

use super::machine::Machine;
use super::{Rng, check, number};

const PORT: u16 = 7_420;

struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.saturating_add(turmoil::sim_elapsed().unwrap_or_default())
    }
}

/// What outlives every process.
struct World {
    daemon: DaemonId,
    sessions: Vec<SessionId>,
    machine: Mutex<Machine>,
    store: Mutex<Arc<MemoryStore>>,
    rng: Mutex<Rng>,
    issued: Mutex<Vec<CommandId>>,
    ids: AtomicU64,
    faults: AtomicBool,
    links: AtomicU64,
}

impl World {
    fn below(&self, n: u64) -> u64 {
        self.rng.lock().below(n)
    }

    fn store(&self) -> Arc<MemoryStore> {
        self.store.lock().clone()
    }

    fn log(&self, session: SessionId) -> Vec<String> {
        let store = self.store();
        let read = store.read(&Stream::session(session), 0, usize::MAX);
        let chunks = read.now_or_never().and_then(Result::ok).unwrap_or_default();
        chunks
            .into_iter()
            .flat_map(|chunk| EventBatch::from_encoded(chunk.bytes).entries().unwrap())
            .map(|entry| String::from_utf8(entry.to_vec()).unwrap())
            .collect()
    }

    fn origin(&self, session: SessionId) -> Origin {
        let store = self.store();
        let head = store.head(&Stream::session(session)).now_or_never();
        head.and_then(Result::ok)
            .flatten()
            .map(|head| head.origin)
            .unwrap_or_default()
    }

    fn outcome(&self, id: CommandId) -> Option<CommandOutcome> {
        let store = self.store();
        let record = store.get(&outcome_key(id)).now_or_never()?.ok()??;
        serde_json::from_slice(&record.value).ok()
    }

    fn is_at_rest(&self) -> bool {
        let store = self.store();
        let pending = store
            .pending(&self.daemon.to_string(), None, 1)
            .now_or_never();
        let empty = matches!(pending, Some(Ok(pending)) if pending.is_empty());
        empty && store.unsynced() == 0 && self.machine.lock().is_idle()
    }
}

fn outcome_key(id: CommandId) -> String {
    format!("outcome/{id}")
}

fn broken(error: store::Error) -> Error {
    match error {
        store::Error::Fenced { .. } => Error::new(Code::Stale, "fenced"),
        error => Error::new(Code::Unavailable, error.to_string()),
    }
}

/// The rules above the relay, as small as they can be.
struct Upper {
    daemon: DaemonId,
    sessions: Vec<SessionId>,
    store: Arc<MemoryStore>,
    attached: Mutex<Option<u64>>,
}

impl Upper {
    async fn claim(&self, session: SessionId) -> Result<Claim> {
        if !self.sessions.contains(&session) {
            return Ok(Claim::Foreign);
        }
        let head = self.store.head(&Stream::session(session)).await;
        Ok(Claim::Own(
            head.map_err(broken)?
                .map(|head| head.origin)
                .unwrap_or_default(),
        ))
    }
}

impl Handler for Upper {
    fn hello(&self, hello: Introduction) -> BoxFuture<'_, Result<Vec<(SessionId, Claim)>>> {
        Box::pin(async move {
            let mut claims = Vec::new();
            for report in hello.reports {
                claims.push((report.session_id, self.claim(report.session_id).await?));
            }
            Ok(claims)
        })
    }

    fn attached(&self, _: DaemonId, epoch: u64) -> BoxFuture<'_, ()> {
        let old = self.attached.lock().replace(epoch);
        assert!(old.is_none_or(|old| old < epoch), "an epoch did not grow");
        Box::pin(async {})
    }

    fn lost(&self, _: DaemonId, epoch: u64, _: Option<Goodbye>) -> BoxFuture<'_, ()> {
        let mut attached = self.attached.lock();
        if *attached == Some(epoch) {
            *attached = None;
        }
        Box::pin(async {})
    }

    fn records(
        &self,
        daemon: DaemonId,
        epoch: u64,
        records: Records,
    ) -> BoxFuture<'_, Result<Origin>> {
        Box::pin(async move {
            assert!(daemon == self.daemon && self.sessions.contains(&records.session_id));
            let stream = Stream::session(records.session_id);
            let head = self.store.head(&stream).await.map_err(broken)?;
            let mut origin = head.map(|head| head.origin).unwrap_or_default();
            let mut entries = Vec::new();
            let before = origin;
            for record in &records.records {
                let at = (records.origin_epoch, record.origin_seq);
                if at <= (origin.epoch, origin.seq) {
                    continue;
                }
                entries.extend(record.gap.iter().map(|_| Bytes::from_static(b"gap:")));
                for event in &record.events {
                    let EventBody::Notice { text, .. } = &event.body else {
                        panic!("an event changed on its way: {event:?}");
                    };
                    if let Some(sha256) = text.strip_prefix("content:") {
                        let size = self.store.size(sha256).await.map_err(broken)?;
                        assert!(size.is_some(), "a record passed its content");
                    }
                    entries.push(Bytes::from(text.clone()));
                }
                (origin.epoch, origin.seq) = at;
            }
            if origin == before {
                return Ok(origin);
            }
            let append = Append {
                stream,
                expected_last: head.map_or(0, |head| head.last_seq),
                fence: epoch,
                entries,
                origin: Some(origin),
                time: SimClock.now(),
            };
            let commit = Commit {
                appends: vec![append],
                ..Commit::default()
            };
            let done = self.store.commit(commit).await.map_err(broken)?;
            Ok(done.heads[0].origin)
        })
    }

    fn content(&self, _: DaemonId, _: u64, chunk: ContentChunk) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let (size, end) = (chunk.size_bytes, chunk.offset + chunk.data.len() as u64);
            let whole = self
                .store
                .stage(&chunk.sha256, size, chunk.offset, chunk.data)
                .await
                .map_err(broken)?;
            Ok(if whole { size } else { end })
        })
    }

    fn command_result(&self, daemon: DaemonId, result: CommandResult) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let outcome = RecordOp {
                key: outcome_key(result.command_id),
                expect: Expect::Absent,
                value: Some(Bytes::from(serde_json::to_vec(&result.outcome).unwrap())),
            };
            let done = outbox::remove(&*self.store, daemon, result.command_id);
            let commit = Commit {
                ops: vec![outcome, done],
                ..Commit::default()
            };
            match self.store.commit(commit).await {
                Ok(_) | Err(store::Error::Stale { .. }) => Ok(()),
                Err(error) => Err(broken(error)),
            }
        })
    }

    fn session_report(
        &self,
        _: DaemonId,
        _: u64,
        report: SessionReport,
    ) -> BoxFuture<'_, Result<Claim>> {
        Box::pin(self.claim(report.session_id))
    }

    fn offer(&self, _: DaemonId, _: u64, _: Offer) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn transient(&self, _: DaemonId, _: Transient) {}
}

/// Everybody is the one daemon.
struct Open(DaemonId);

impl Gate for Open {
    fn daemon(&self, _: &tonic::Extensions) -> Result<DaemonId> {
        Ok(self.0)
    }

    fn enroll(
        &self,
        _: &tonic::Extensions,
        _: String,
        _: String,
        _: Vec<u8>,
    ) -> BoxFuture<'_, Result<Enrolled>> {
        Box::pin(async { Err(Error::new(Code::Forbidden, "nobody enrolls here")) })
    }
}

fn options() -> relay::Options {
    relay::Options {
        limits: ServerLimits {
            session_credit: Credit {
                events: 12,
                bytes: 600,
            },
            heartbeat_interval: Duration::from_millis(400),
            lease: Duration::from_secs(2),
            retry_delay: Duration::from_millis(50),
            session_commands: 3,
            link_commands: 5,
            ..ServerLimits::default()
        },
        channel: 4,
        ..relay::Options::default()
    }
}

async fn server(world: Arc<World>) -> turmoil::Result {
    let store = world.store();
    let upper = Upper {
        daemon: world.daemon,
        sessions: world.sessions.clone(),
        store: store.clone(),
        attached: Mutex::new(None),
    };
    let shared: SharedStore = store.clone();
    let relay = Relay::new(Arc::new(upper), shared, Arc::new(SimClock), options());
    tokio::spawn(disk(world.clone(), store.clone()));
    tokio::spawn(user(world.clone(), store, relay.clone()));
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let incoming = futures_util::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| Wire(stream));
        Some((accepted, listener))
    });
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .add_service(LinkRpc::service(relay, Arc::new(Open(world.daemon))))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// A slow disk.
async fn disk(world: Arc<World>, store: Arc<MemoryStore>) {
    loop {
        tokio::time::sleep(Duration::from_millis(world.below(15))).await;
        store.sync_some(1 + world.below(6) as usize);
    }
}

/// Somebody who gives commands.
async fn user(world: Arc<World>, store: Arc<MemoryStore>, relay: Relay) {
    while world.faults.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(world.below(200))).await;
        let at = world.below(world.sessions.len() as u64) as usize;
        let id = u128::from(world.ids.fetch_add(1, Ordering::Relaxed));
        let command = Command {
            id: CommandId::from_bits(id),
            session_id: world.sessions[at],
            deadline: None,
            body: CommandBody::Interrupt,
        };
        let op = outbox::put(&*store, world.daemon, &command).unwrap();
        let commit = Commit {
            ops: vec![op],
            ..Commit::default()
        };
        if store.commit(commit).await.is_ok() {
            world.issued.lock().push(command.id);
            relay.nudge(world.daemon);
        }
    }
}

/// A daemon whose runners are in the world.
async fn daemon(world: Arc<World>) -> turmoil::Result {
    loop {
        let now = SimClock.now();
        let due = world.machine.lock().dial_at;
        match due {
            Some(due) if now >= due => {
                {
                    let mut machine = world.machine.lock();
                    machine.dial_at = None;
                    machine.link.dial(now);
                }
                world.links.fetch_add(1, Ordering::Relaxed);
                stream(&world).await;
            }
            _ => {}
        }
        live(&world);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runners and pumps do a little; true if the link wants its stream dropped.
fn live(world: &World) -> bool {
    let now = SimClock.now();
    let rng = &mut *world.rng.lock();
    let machine = &mut *world.machine.lock();
    for session in &world.sessions {
        if world.faults.load(Ordering::Relaxed)
            && rng.chance(60)
            && let Some(runner) = machine.runners.get_mut(session)
        {
            runner.emit(rng, None);
        }
        if rng.chance(300) {
            machine.work(*session, rng);
        }
        machine.pump(*session, now);
    }
    machine.link.tick(now);
    machine.act(now, |session, through| {
        let origin = world.origin(session);
        assert!(
            (origin.epoch, origin.seq) >= (through.origin_epoch, through.origin_seq),
            "{session}: {through:?} was acknowledged and {origin:?} is stored"
        );
    })
}

/// One stream from dialling to its end.
async fn stream(world: &World) {
    let (frames, outgoing) = mpsc::channel(4);
    let connector = tower::service_fn(|_: http::Uri| async {
        TcpStream::connect(("server", PORT)).await.map(TokioIo::new)
    });
    let opening = async {
        let channel = Endpoint::from_static("http://server:7420")
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .connect_with_connector(connector)
            .await
            .map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        LinkServiceClient::new(channel)
            .connect(ReceiverStream::new(outgoing))
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| error_from_status(&status))
    };
    tokio::pin!(opening);
    let mut incoming: Option<tonic::Streaming<_>> = None;
    loop {
        while frames.capacity() > 0 {
            let Some(frame) = world.machine.lock().link.send(SimClock.now()) else {
                break;
            };
            let goodbye = matches!(frame, Up::Goodbye(_));
            if frames.try_send(up_to_pb(&frame)).is_err() || goodbye {
                break;
            }
        }
        if live(world) {
            return;
        }
        let frame = async {
            match &mut incoming {
                Some(stream) => stream.message().await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            opened = &mut opening, if incoming.is_none() => match opened {
                Ok(stream) => {
                    incoming = Some(stream);
                    continue;
                }
                Err(error) => Some(error),
            },
            frame = frame => match frame {
                Ok(Some(frame)) => {
                    let frame = down_from_pb(frame).expect("the server speaks well");
                    world.machine.lock().link.received(SimClock.now(), frame);
                    continue;
                }
                Ok(None) => None,
                Err(status) => Some(error_from_status(&status)),
            },
            () = tokio::time::sleep(Duration::from_millis(2)) => continue,
        };
        world.machine.lock().link.closed(SimClock.now(), ended);
        live(world);
        return;
    }
}

fn run(seed: u64) -> u64 {
    let daemon_id = DaemonId::from_bits(1);
    let sessions = vec![SessionId::from_bits(2), SessionId::from_bits(3)];
    let store = MemoryStore::new(Arc::new(SimClock), Syncing::Manual);
    let world = Arc::new(World {
        daemon: daemon_id,
        machine: Mutex::new(Machine::new(daemon_id, &sessions)),
        sessions,
        store: Mutex::new(Arc::new(store)),
        rng: Mutex::new(Rng::new(seed)),
        issued: Mutex::new(Vec::new()),
        ids: AtomicU64::new(100),
        faults: AtomicBool::new(true),
        links: AtomicU64::new(0),
    });
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(300))
        .tick_duration(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(20))
        .build();
    let host = world.clone();
    sim.host("server", move || server(host.clone()));
    let host = world.clone();
    sim.host("daemon", move || daemon(host.clone()));
    let rest = world.clone();
    sim.client("rest", async move {
        while rest.faults.load(Ordering::Relaxed) || !rest.is_at_rest() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    });
    let mut rng = Rng::new(!seed);
    for step in 0.. {
        if sim.step().expect("no host fails") {
            break;
        }
        match step {
            0..3_000 if rng.chance(4) => fault(&mut sim, &world, &mut rng),
            3_000 => {
                world.faults.store(false, Ordering::Relaxed);
                sim.repair("server", "daemon");
                sim.release("server", "daemon");
            }
            _ => {}
        }
    }
    balance(&world);
    world.links.load(Ordering::Relaxed)
}

fn fault(sim: &mut turmoil::Sim<'_>, world: &World, rng: &mut Rng) {
    match rng.below(8) {
        0 => sim.partition("server", "daemon"),
        1 => sim.hold("server", "daemon"),
        2..=4 => {
            sim.repair("server", "daemon");
            sim.release("server", "daemon");
        }
        5 => {
            let kept = rng.below(4) as usize;
            sim.crash("server");
            {
                let mut store = world.store.lock();
                store.sync_some(kept);
                *store = Arc::new(store.crash());
            }
            sim.bounce("server");
        }
        6 => {
            sim.crash("daemon");
            let mut machine = world.machine.lock();
            machine.crash();
            machine.start(Timestamp::EPOCH);
            drop(machine);
            sim.bounce("daemon");
        }
        _ => {
            let at = rng.below(world.sessions.len() as u64) as usize;
            world
                .machine
                .lock()
                .crash_runner(world.sessions[at], rng, false);
        }
    }
}

fn balance(world: &World) {
    let machine = world.machine.lock();
    for session in &world.sessions {
        let name = session.to_string();
        let runner = &machine.runners[session];
        check::log(&name, &world.log(*session), &runner.truth, true);
        assert!(
            runner.pipe.is_sorted_by(|a, b| a < b),
            "{name}: twice or out of order: {:?}",
            runner.pipe
        );
    }
    for id in world.issued.lock().iter() {
        let outcome = world.outcome(*id).expect("every command has an outcome");
        let runners = machine.runners.values();
        let times = runners.clone().filter(|r| r.pipe.contains(id)).count();
        let doubted = runners.clone().any(|r| r.doubted.contains(id));
        match outcome {
            CommandOutcome::Applied => assert_eq!(times, 1, "{id} is said to be applied"),
            CommandOutcome::Rejected => assert_eq!(times, 0, "{id} is said to be rejected"),
            other => assert!(doubted && times <= 1, "{id} is {other:?} without a crash"),
        }
    }
}

/// A turmoil stream as tonic's server takes it.
struct Wire(TcpStream);

impl Connected for Wire {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn nothing_is_lost_or_doubled_over_the_real_transport() {
    if let Some(seed) = number("BATON_SIM_TRANSPORT_SEED") {
        run(seed);
        return;
    }
    let seeds = number("BATON_SIM_TRANSPORT_SEEDS").unwrap_or(100);
    let mut links = 0;
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        match run {
            Ok(made) => links += made,
            Err(_) => {
                panic!("seed {seed} failed; replay it with BATON_SIM_TRANSPORT_SEED={seed}")
            }
        }
    }
    println!("{seeds} schedules over {links} links");
    assert!(links >= seeds, "the daemon linked");
}
