//! The same promises over the real transport: tonic, hyper and h2 in simulated time (turmoil), with the
//! real relay, service and memory store. Machines, lies and checks are those of the other simulation; what
//! is added is what a transport does: connections that hang, frames that are held and come late, directions
//! that fail alone, processes that die with their connections.
//!
//! `BATON_SIM_TRANSPORT_SEEDS` says how many schedules are run (200, or a share of it by
//! `BATON_TEST_ROUNDS`), `BATON_SIM_TRANSPORT_SEED` runs one and prints what happens. A seed is one schedule,
//! nearly always: once, on an overloaded machine, one went another way. The likely cause is that h2 forgets
//! streams that were reset by the real clock.

mod upper;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use baton::base::id::{CommandId, DaemonId, SessionId};
use baton::base::{Clock, Code, Error, Result, Timestamp};
use baton::domain::command::{Command, CommandBody, CommandOutcome};
use baton::domain::link::{Credit, Position, ServerLimits, Up};
use baton::relay::{self, Relay, outbox};
use baton::rpc::link::{Enrolled, Gate, LinkRpc};
use baton::store::memory::{MemoryStore, Sync as Syncing};
use baton::store::{Commit, Journal as _, Outbox as _, Records as _, SharedStore, Stream};
use baton::wire::EventBatch;
use baton::wire::link::{down_from_pb, up_to_pb};
use baton::wire::link_v1::link_service_client::LinkServiceClient;
use baton::wire::status::error_from_status;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server};
use turmoil::net::{TcpListener, TcpStream};

use self::upper::{Upper, outcome_key};
use super::check::{self, Reader};
use super::machine::Machine;
use super::world::{brief_down, brief_up};
use super::{Rng, liar, number, schedules};
use crate::history::{Fact, History};

const PORT: u16 = 7_420;
const SERVER: &str = "server";
const DAEMONS: [&str; 2] = ["daemon-0", "daemon-1"];
/// Names the daemon to the server, as a credential does in the real program.
const WHO: &str = "who";

/// How long a step of the simulation is, and how often a process looks around.
const TICK: Duration = Duration::from_millis(4);
/// Steps with faults, and the most steps to come to rest after them.
const STEPS: u64 = 900;
const REST: u64 = 15_000;

struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.saturating_add(turmoil::sim_elapsed().unwrap_or_default())
    }
}

/// What happened in a schedule, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    steps: u64,
    events: u64,
    commands: u64,
    links: u64,
    lies: u64,
    foreign: u64,
    cuts: u64,
    server_crashes: u64,
    daemon_crashes: u64,
    runner_crashes: u64,
    gaps: u64,
    indeterminate: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.events += other.events;
        self.commands += other.commands;
        self.links += other.links;
        self.lies += other.lies;
        self.foreign += other.foreign;
        self.cuts += other.cuts;
        self.server_crashes += other.server_crashes;
        self.daemon_crashes += other.daemon_crashes;
        self.runner_crashes += other.runner_crashes;
        self.gaps += other.gaps;
        self.indeterminate += other.indeterminate;
    }
}

/// A command somebody gave.
#[derive(Clone, Copy)]
struct Issued {
    id: CommandId,
    session: SessionId,
}

/// What outlives every process.
struct World {
    history: History,
    trace: bool,
    daemons: [DaemonId; 2],
    /// Every session, and which daemon's it is.
    sessions: Vec<(SessionId, usize)>,
    machines: [Mutex<Machine>; 2],
    store: Mutex<Arc<MemoryStore>>,
    rng: Mutex<Rng>,
    readers: Mutex<Vec<(SessionId, Reader)>>,
    issued: Mutex<Vec<Issued>>,
    ids: AtomicU64,
    faults: AtomicBool,
    tally: Mutex<Tally>,
}

impl World {
    fn new(seed: u64, trace: bool) -> Self {
        let history = History::in_memory(&format!("sim-transport-{seed}"));
        let daemons = [DaemonId::from_bits(1), DaemonId::from_bits(2)];
        let sessions: Vec<(SessionId, usize)> = [(3, 0), (4, 1), (5, 1)]
            .map(|(bits, owner)| (SessionId::from_bits(bits), owner))
            .to_vec();
        let mut rng = Rng::new(seed);
        let machines = [0, 1].map(|at| {
            let own = sessions.iter().filter(|(_, owner)| *owner == at);
            let own: Vec<SessionId> = own.map(|(session, _)| *session).collect();
            let mut machine = Machine::new(daemons[at], &own);
            if rng.chance(300) {
                // It names a session that is another's.
                let theirs = sessions.iter().find(|(_, owner)| *owner != at);
                machine
                    .strangers
                    .extend(theirs.map(|(session, _)| *session));
                machine.start(Timestamp::EPOCH);
            }
            Mutex::new(machine)
        });
        let store = MemoryStore::new(Arc::new(SimClock), Syncing::Manual);
        World {
            trace,
            daemons,
            machines,
            store: Mutex::new(Arc::new(store)),
            rng: Mutex::new(rng),
            readers: Mutex::new(
                sessions
                    .iter()
                    .map(|(session, _)| (*session, Reader::new(history.clone())))
                    .collect(),
            ),
            sessions,
            issued: Mutex::new(Vec::new()),
            ids: AtomicU64::new(100),
            faults: AtomicBool::new(true),
            tally: Mutex::new(Tally::default()),
            history,
        }
    }

    fn below(&self, n: u64) -> u64 {
        self.rng.lock().below(n)
    }

    fn is_faulty(&self) -> bool {
        self.faults.load(Ordering::Relaxed)
    }

    fn tally(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock());
    }

    fn say(&self, at: Duration, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", at.as_millis(), what());
        }
    }

    fn frame(&self, now: Timestamp, at: usize, what: impl FnOnce() -> String) {
        let at = DAEMONS[at];
        self.say(now.saturating_since(Timestamp::EPOCH), || {
            format!("{at}: {}", what())
        });
    }

    fn owner(&self, session: SessionId) -> DaemonId {
        let found = self.sessions.iter().find(|(id, _)| *id == session);
        self.daemons[found.expect("nobody makes sessions up").1]
    }

    fn session_of(&self, command: CommandId) -> Option<SessionId> {
        let issued = self.issued.lock();
        let found = issued.iter().find(|issued| issued.id == command);
        found.map(|issued| issued.session)
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

    fn origin(&self, session: SessionId) -> Position {
        let store = self.store();
        let head = store.head(&Stream::session(session)).now_or_never();
        let origin = head
            .and_then(Result::ok)
            .flatten()
            .map(|head| head.origin)
            .unwrap_or_default();
        Position::new(origin.epoch, origin.seq)
    }

    fn outcome(&self, id: CommandId) -> Option<CommandOutcome> {
        let store = self.store();
        let record = store.get(&outcome_key(id)).now_or_never()?.ok()??;
        serde_json::from_slice(&record.value).ok()
    }

    /// Somebody reads a little: what a reader saw once stays.
    fn read(&self, rng: &mut Rng) {
        let mut readers = self.readers.lock();
        let at = rng.below(readers.len() as u64) as usize;
        let (session, reader) = &mut readers[at];
        let most = rng.below(6) as usize;
        reader.read(&session.to_string(), &self.log(*session), most);
    }

    fn is_at_rest(&self) -> bool {
        let store = self.store();
        let is_empty = |daemon: &DaemonId| {
            let pending = store.pending(&daemon.to_string(), None, 1).now_or_never();
            matches!(pending, Some(Ok(pending)) if pending.is_empty())
        };
        self.daemons.iter().all(is_empty)
            && store.unsynced() == 0
            && self.machines.iter().all(|machine| machine.lock().is_idle())
    }

    /// What is not at rest.
    fn unrest(&self) -> String {
        let store = self.store();
        let pending = self.daemons.map(|daemon| {
            let pending = store.pending(&daemon.to_string(), None, 99).now_or_never();
            let pending = pending.and_then(Result::ok).unwrap_or_default();
            pending
                .into_iter()
                .map(|entry| entry.key)
                .collect::<Vec<_>>()
        });
        let machines = self.machines.each_ref().map(|machine| {
            let machine = machine.lock();
            let runners = machine.runners.values();
            let runners = runners.map(|runner| {
                let spool = (runner.spool.keys().next().copied(), runner.spool.len());
                (runner.session, spool, runner.is_idle(), runner.results())
            });
            let runners: Vec<_> = runners.collect();
            format!("linked: {}, {runners:?}", machine.link.is_live())
        });
        let unsynced = store.unsynced();
        format!("commands {pending:?}, unsynced {unsynced}, machines {machines:?}")
    }

    /// Everything has come to rest: nothing is lost, doubled or undecided.
    fn balance(&self) {
        self.history.note("chance", Fact::started("server"));
        for (session, owner) in &self.sessions {
            let name = session.to_string();
            let machine = self.machines[*owner].lock();
            let runner = &machine.runners[session];
            let log = self.log(*session);
            let gaps = log.iter().filter(|entry| entry.starts_with("gap:"));
            self.tally(|tally| tally.gaps += gaps.count() as u64);
            check::log(&name, &log, &runner.truth, true);
            check::note_session(&self.history, &name, &log, runner);
            check::given(&name, runner);
        }
        for Issued { id, session } in self.issued.lock().iter() {
            let outcome = self.outcome(*id);
            if outcome == Some(CommandOutcome::Indeterminate) {
                self.tally(|tally| tally.indeterminate += 1);
            }
            let at = usize::from(self.owner(*session) == self.daemons[1]);
            let machine = self.machines[at].lock();
            check::command(*id, outcome, machine.runners.values());
            check::note_command(&self.history, *id, outcome, machine.runners.values());
        }
        for (session, reader) in self.readers.lock().iter_mut() {
            let log = self.log(*session);
            reader.read(&session.to_string(), &log, usize::MAX);
            assert_eq!(reader.seen, log);
        }
        self.history.validate();
    }
}

/// Everybody is whom they say they are.
struct Named;

impl Gate for Named {
    fn daemon(&self, extensions: &tonic::Extensions) -> Result<DaemonId> {
        let named = extensions.get::<DaemonId>().copied();
        named.ok_or_else(|| Error::new(Code::Unauthenticated, "nobody"))
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
            heartbeat_interval: Duration::from_millis(200),
            lease: Duration::from_millis(900),
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
    let upper = Upper::new(world.clone(), store.clone());
    let shared: SharedStore = store.clone();
    let relay = Relay::new(Arc::new(upper), shared, Arc::new(SimClock), options());
    tokio::spawn(disk(world.clone(), store.clone()));
    tokio::spawn(user(world.clone(), store, relay.clone()));
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let incoming = futures_util::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| Wire(stream));
        Some((accepted, listener))
    });
    let service = LinkRpc::service(relay, Arc::new(Named));
    let known = world.daemons;
    let identify = move |mut request: tonic::Request<()>| {
        let named = request.metadata().get(WHO);
        let named = named.and_then(|name| name.to_str().ok());
        let at = DAEMONS.iter().position(|name| Some(*name) == named);
        if let Some(at) = at {
            request.extensions_mut().insert(known[at]);
        }
        Ok(request)
    };
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .add_service(InterceptedService::new(service, identify))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// A slow disk.
async fn disk(world: Arc<World>, store: Arc<MemoryStore>) {
    loop {
        tokio::time::sleep(Duration::from_millis(world.below(20))).await;
        store.sync_some(1 + world.below(8) as usize);
    }
}

/// Somebody who gives commands.
async fn user(world: Arc<World>, store: Arc<MemoryStore>, relay: Relay) {
    while world.is_faulty() {
        tokio::time::sleep(Duration::from_millis(world.below(200))).await;
        let at = world.below(world.sessions.len() as u64) as usize;
        let (session_id, owner) = world.sessions[at];
        let id = CommandId::from_bits(world.ids.fetch_add(1, Ordering::Relaxed).into());
        let command = Command {
            id,
            session_id,
            deadline: None,
            body: CommandBody::Interrupt,
        };
        let daemon = world.daemons[owner];
        let op = outbox::put(&*store, daemon, &command).unwrap();
        let commit = Commit {
            ops: vec![op],
            ..Commit::default()
        };
        let session = session_id;
        world.issued.lock().push(Issued { id, session });
        check::note_given(&world.history, id);
        world.tally(|tally| tally.commands += 1);
        if store.commit(commit).await.is_ok() {
            relay.nudge(daemon);
        }
    }
}

/// A daemon whose runners are in the world.
async fn daemon(world: Arc<World>, at: usize) -> turmoil::Result {
    loop {
        let now = SimClock.now();
        let due = world.machines[at].lock().dial_at;
        if due.is_some_and(|due| now >= due) {
            {
                let mut machine = world.machines[at].lock();
                machine.dial_at = None;
                machine.link.dial(now);
            }
            stream(&world, at).await;
        }
        live(&world, at);
        tokio::time::sleep(TICK).await;
    }
}

/// Runners and pumps do a little; true if the link wants its stream dropped.
fn live(world: &World, at: usize) -> bool {
    let now = SimClock.now();
    let faulty = world.is_faulty();
    let rng = &mut *world.rng.lock();
    let machine = &mut *world.machines[at].lock();
    for (session, _) in world.sessions.iter().filter(|(_, owner)| *owner == at) {
        if faulty
            && rng.chance(80)
            && let Some(runner) = machine.runners.get_mut(session)
        {
            runner.emit(rng, None);
            world.tally(|tally| tally.events += 1);
        }
        if rng.chance(400) {
            machine.work(*session, rng);
        }
        machine.pump(*session, now);
    }
    machine.link.tick(now);
    machine.act(now, &world.history, |session, through| {
        check::acknowledged(session, through, world.origin(session));
    })
}

/// Hands frames to the transport while it has room; now and then a lie goes along.
fn flush(world: &World, at: usize, frames: &mpsc::Sender<baton::wire::link_v1::ConnectRequest>) {
    let now = SimClock.now();
    while frames.capacity() > 1 {
        let Some(frame) = world.machines[at].lock().link.send(now) else {
            return;
        };
        world.frame(now, at, || format!("up {}", brief_up(&frame)));
        let (hello, goodbye) = (
            matches!(frame, Up::Hello(_)),
            matches!(frame, Up::Goodbye(_)),
        );
        if frames.try_send(up_to_pb(&frame)).is_err() || goodbye {
            return;
        }
        let rng = &mut *world.rng.lock();
        if !hello && world.is_faulty() && rng.chance(40) {
            let theirs = world.sessions.iter().filter(|(_, owner)| *owner != at);
            let theirs: Vec<SessionId> = theirs.map(|(session, _)| *session).collect();
            let theirs = theirs[rng.below(theirs.len() as u64) as usize];
            let own = world.sessions.iter().find(|(_, owner)| *owner == at);
            let issued = world.issued.lock();
            let target = liar::Target {
                theirs,
                command: issued.iter().rfind(|i| i.session == theirs).map(|i| i.id),
                own: own.expect("it has one").0,
                outstanding: None,
            };
            let lie = up_to_pb(&liar::frame(rng, &target, now));
            if frames.try_send(lie).is_ok() {
                world.tally(|tally| tally.lies += 1);
            }
        }
    }
}

/// One stream from dialling to its end.
async fn stream(world: &World, at: usize) {
    let (frames, outgoing) = mpsc::channel(6);
    let connector = tower::service_fn(|_: http::Uri| async {
        TcpStream::connect((SERVER, PORT)).await.map(TokioIo::new)
    });
    let opening = async {
        let channel = Endpoint::from_static("http://server:7420")
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .connect_with_connector(connector)
            .await
            .map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        request
            .metadata_mut()
            .insert(WHO, DAEMONS[at].parse().expect("plain"));
        LinkServiceClient::new(channel)
            .connect(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| error_from_status(&status))
    };
    tokio::pin!(opening);
    let mut incoming: Option<tonic::Streaming<_>> = None;
    loop {
        flush(world, at, &frames);
        if live(world, at) {
            return;
        }
        let opened = incoming.is_some();
        let frame = async {
            match &mut incoming {
                Some(stream) => stream.message().await,
                None => std::future::pending().await,
            }
        };
        // In a fixed order, or one seed would be many schedules.
        let ended = tokio::select! {
            biased;
            stream = &mut opening, if !opened => match stream {
                Ok(stream) => {
                    world.tally(|tally| tally.links += 1);
                    incoming = Some(stream);
                    continue;
                }
                Err(error) => Some(error),
            },
            frame = frame => match frame {
                Ok(Some(frame)) => {
                    let frame = down_from_pb(frame).expect("the server speaks well");
                    let now = SimClock.now();
                    world.frame(now, at, || format!("down {}", brief_down(&frame)));
                    world.machines[at].lock().link.received(now, frame);
                    continue;
                }
                Ok(None) => None,
                Err(status) => Some(error_from_status(&status)),
            },
            () = tokio::time::sleep(TICK) => continue,
        };
        // The rules of the link are kept by both sides; only time, newer links and the transport end one.
        assert!(
            !ended.as_ref().is_some_and(|error| matches!(
                error.code(),
                Code::InvalidInput | Code::Forbidden | Code::LimitExceeded | Code::InvalidState
            )),
            "the link was ended: {ended:?}"
        );
        let now = SimClock.now();
        let why = ended.as_ref().map(ToString::to_string);
        world.say(now.saturating_since(Timestamp::EPOCH), || {
            format!("{}: the stream ended: {why:?}", DAEMONS[at])
        });
        world.machines[at].lock().link.closed(now, ended);
        live(world, at);
        return;
    }
}

/// One schedule: faults first, then rest, then the balance.
fn run(seed: u64, trace: bool) -> Tally {
    let world = Arc::new(World::new(seed, trace));
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(3_600))
        .tick_duration(TICK)
        .max_message_latency(Duration::from_millis(20))
        .build();
    let host = world.clone();
    sim.host(SERVER, move || server(host.clone()));
    for (at, name) in DAEMONS.iter().enumerate() {
        let host = world.clone();
        sim.host(*name, move || daemon(host.clone(), at));
    }
    let mut rng = Rng::new(!seed);
    let mut steps = 0;
    while steps < STEPS || !world.is_at_rest() {
        sim.step().expect("no host fails");
        steps += 1;
        match steps {
            ..STEPS if rng.chance(14) => fault(&mut sim, &world, &mut rng),
            STEPS => mend(&mut sim, &world),
            _ => {}
        }
        if steps % 16 == 0 {
            world.read(&mut rng);
        }
        assert!(
            steps < STEPS + REST,
            "it does not come to rest: {}",
            world.unrest()
        );
    }
    world.balance();
    let mut tally = world.tally.lock().clone();
    tally.steps = steps;
    tally
}

/// All faults are over.
fn mend(sim: &mut turmoil::Sim<'_>, world: &World) {
    world.faults.store(false, Ordering::Relaxed);
    for name in DAEMONS {
        sim.repair(SERVER, name);
        sim.release(SERVER, name);
        if !sim.is_host_running(name) {
            sim.bounce(name);
        }
    }
    if !sim.is_host_running(SERVER) {
        sim.bounce(SERVER);
    }
}

/// Something breaks, or is mended.
fn fault(sim: &mut turmoil::Sim<'_>, world: &World, rng: &mut Rng) {
    let at = rng.below(2) as usize;
    let (name, now) = (DAEMONS[at], sim.elapsed());
    let say = |what: &str| world.say(now, || format!("{name}: {what}"));
    let own = world.sessions.iter().filter(|(_, owner)| *owner == at);
    let own: Vec<SessionId> = own.map(|(session, _)| *session).collect();
    let session = own[rng.below(own.len() as u64) as usize];
    match rng.below(14) {
        0 => {
            say("cut off");
            world.tally(|tally| tally.cuts += 1);
            sim.partition(SERVER, name);
        }
        1 => {
            let (from, to) = match rng.chance(500) {
                true => (SERVER, name),
                false => (name, SERVER),
            };
            say("cut off in one direction");
            world.tally(|tally| tally.cuts += 1);
            sim.partition_oneway(from, to);
        }
        2 => {
            say("frames are held");
            sim.hold(SERVER, name);
        }
        3 => {
            let latency = Duration::from_millis(1 + rng.below(300));
            say("a slow connection");
            sim.set_link_max_message_latency(SERVER, name, latency);
        }
        4..=7 => {
            say("mended");
            sim.repair(SERVER, name);
            sim.release(SERVER, name);
            sim.set_link_max_message_latency(SERVER, name, Duration::from_millis(20));
        }
        8..=9 => {
            if sim.is_host_running(SERVER) {
                let kept = rng.below(4) as usize;
                say("the server dies");
                world.tally(|tally| tally.server_crashes += 1);
                sim.crash(SERVER);
                let mut store = world.store.lock();
                store.sync_some(kept);
                *store = Arc::new(store.crash());
                drop(store);
                world.history.note("chance", Fact::killed("server"));
                for (session, _) in &world.sessions {
                    let log = world.log(*session);
                    check::note_log(&world.history, &session.to_string(), &log);
                }
            }
            if rng.chance(600) {
                sim.bounce(SERVER);
            }
        }
        10..=11 => {
            if sim.is_host_running(name) {
                say("the daemon dies");
                world.tally(|tally| tally.daemon_crashes += 1);
                world.history.note("chance", Fact::killed("daemon"));
                sim.crash(name);
                let mut machine = world.machines[at].lock();
                machine.crash();
                machine.start(Timestamp::EPOCH);
            }
            if rng.chance(600) {
                sim.bounce(name);
            }
        }
        12 => {
            say("a runner dies");
            world.tally(|tally| tally.runner_crashes += 1);
            world.history.note("chance", Fact::killed("runner"));
            let mut machine = world.machines[at].lock();
            machine.crash_runner(session, rng, false);
        }
        _ => {
            say("a spool is damaged");
            let mut machine = world.machines[at].lock();
            if let Some(runner) = machine.runners.get_mut(&session) {
                runner.damage(rng);
            }
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
fn nothing_is_lost_doubled_or_undecided_over_the_real_transport() {
    if let Some(seed) = number("BATON_SIM_TRANSPORT_SEED") {
        println!("{:?}", run(seed, true));
        return;
    }
    let tallies = schedules("BATON_SIM_TRANSPORT", 200, |seed| run(seed, false));
    let seeds = tallies.len() as u64;
    let mut total = Tally::default();
    for tally in &tallies {
        total.add(tally);
    }
    println!("{seeds} schedules: {total:?}");
    // A simulation in which nothing happens proves nothing.
    if seeds >= 50 {
        assert!(total.events > 50 * seeds && total.commands > 5 * seeds);
        assert!(total.links > 3 * seeds && total.cuts > seeds / 4);
        assert!(total.server_crashes > seeds / 4 && total.daemon_crashes > seeds / 4);
        assert!(total.lies > 0 && total.foreign > 0 && total.gaps > 0);
        assert!(total.indeterminate > 0);
    }
}
