//! The world of a schedule: machines, a server process, a wire, and chance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use baton::base::id::{CommandId, DaemonId, PromptId, SessionId};
use baton::base::{Code, Error, Timestamp};
use baton::domain::actor::Actor;
use baton::domain::command::{Command, CommandBody, CommandOutcome};
use baton::domain::link::{
    Credit, Down, Position, Records, ServerEvent, ServerLimits, ServerLink, Up,
};
use baton::domain::prompt::{AnswerBody, Decision, PromptAnswer};

use super::check::{self, Reader};
use super::machine::{Machine, contradiction};
use super::server::{About, Disk, Log, Reply, Write};
use super::{Rng, liar};
use crate::history::{Fact, History};

/// Frames that a direction of the wire holds; a sender waits for room.
const WIRE: usize = 6;
/// Steps with faults, and the most steps to come to rest after them.
const STEPS: u64 = 900;
const REST: u64 = 60_000;

/// What happened in a schedule, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub events: u64,
    pub commands: u64,
    pub indeterminate: u64,
    pub answers: u64,
    pub server_crashes: u64,
    pub daemon_crashes: u64,
    pub runner_crashes: u64,
    pub cuts: u64,
    pub links: u64,
    pub fenced: u64,
    pub resets: u64,
    pub gaps: u64,
    pub foreign: u64,
    pub contents: u64,
    pub repeated: u64,
    pub refused: u64,
    pub forged: u64,
    pub contradicted: u64,
    pub retold: u64,
}

impl Outcome {
    pub fn add(&mut self, other: &Outcome) {
        self.events += other.events;
        self.commands += other.commands;
        self.indeterminate += other.indeterminate;
        self.answers += other.answers;
        self.server_crashes += other.server_crashes;
        self.daemon_crashes += other.daemon_crashes;
        self.runner_crashes += other.runner_crashes;
        self.cuts += other.cuts;
        self.links += other.links;
        self.fenced += other.fenced;
        self.resets += other.resets;
        self.gaps += other.gaps;
        self.foreign += other.foreign;
        self.contents += other.contents;
        self.repeated += other.repeated;
        self.refused += other.refused;
        self.forged += other.forged;
        self.contradicted += other.contradicted;
        self.retold += other.retold;
    }
}

/// Something a session's link waits to hand to the rules.
enum Work {
    Records(Records),
    Content(baton::domain::link::ContentChunk),
    Result(baton::domain::CommandResult),
}

/// One connection, with the server's end of it.
struct Conn {
    machine: usize,
    link: ServerLink,
    up: VecDeque<(Timestamp, Up)>,
    down: VecDeque<(Timestamp, Down)>,
    /// Whether the daemon still holds its end, and the server its own.
    daemon_open: bool,
    server_open: bool,
    /// The status that the server ended it with.
    status: Option<Error>,
    lanes: BTreeMap<SessionId, VecDeque<Work>>,
    busy: BTreeSet<SessionId>,
    staged: BTreeMap<String, u64>,
    /// Commands that were sent on it and are not settled, and results that are being stored.
    outstanding: BTreeSet<CommandId>,
    storing: BTreeSet<CommandId>,
    greeting: Option<baton::domain::link::Hello>,
    /// Which start and connection of the daemon it is.
    attempt: (u64, u64),
    outbox_due: bool,
}

impl Conn {
    /// A command's result is known for good, or there is nothing to store.
    fn settled(&mut self, session: SessionId, command: CommandId) {
        self.storing.remove(&command);
        self.outstanding.remove(&command);
        self.link.result_stored(session, command);
    }
}

/// Everything there is.
pub struct World {
    history: History,
    seed: u64,
    trace: bool,
    rng: Rng,
    now: Timestamp,
    machines: Vec<Machine>,
    /// The connection that each machine's daemon uses.
    current: Vec<Option<u64>>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    server_up: bool,
    disk: Disk,
    sessions: Vec<(SessionId, usize)>,
    readers: Vec<(SessionId, Reader)>,
    ids: u128,
    issued: BTreeMap<CommandId, usize>,
    faults: bool,
    outcome: Outcome,
}

fn limits() -> ServerLimits {
    ServerLimits {
        session_credit: Credit {
            events: 6,
            bytes: 80,
        },
        link_credit: Credit {
            events: 10,
            bytes: 120,
        },
        heartbeat_interval: Duration::from_millis(400),
        lease: Duration::from_secs(2),
        hello_timeout: Duration::from_secs(1),
        retry_delay: Duration::from_millis(50),
        session_commands: 3,
        link_commands: 5,
        ..ServerLimits::default()
    }
}

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut world = World {
            history: History::in_memory(&format!("sim-{seed}")),
            seed,
            trace,
            rng: Rng::new(seed),
            now: Timestamp::from_millis(1_000),
            machines: Vec::new(),
            current: Vec::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            server_up: true,
            disk: Disk::default(),
            sessions: Vec::new(),
            readers: Vec::new(),
            ids: 0,
            issued: BTreeMap::new(),
            faults: true,
            outcome: Outcome::default(),
        };
        for machine in 0..2 {
            let daemon_id = DaemonId::from_bits(world.id());
            let mut own = Vec::new();
            for _ in 0..=machine {
                let session = SessionId::from_bits(world.id());
                let log = Log {
                    owner: daemon_id,
                    origin: Position::default(),
                    fence: 0,
                    entries: Vec::new(),
                };
                world.disk.synced.logs.insert(session, log);
                world.sessions.push((session, machine));
                let reader = Reader::new(world.history.clone());
                world.readers.push((session, reader));
                own.push(session);
            }
            let mut daemon = Machine::new(daemon_id, &own);
            if world.rng.chance(500) {
                // It names a session that is another's.
                let (session, owner) = world.sessions[0];
                if owner != machine {
                    daemon.strangers.insert(session);
                    daemon.start(world.now);
                }
            }
            world.machines.push(daemon);
            world.current.push(None);
        }
        world.disk.written = world.disk.synced.clone();
        world
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", self.now.as_millis(), what());
        }
    }

    /// Runs the schedule: faults first, then rest, then the balance.
    pub fn run(mut self) -> Outcome {
        for _ in 0..STEPS {
            self.step();
            if self.rng.chance(25) {
                self.fault();
            }
        }
        self.faults = false;
        self.server_up = true;
        self.history.note("chance", Fact::started("server"));
        // Frames may have been lost without the link; a new link sends again what has no answer.
        for machine in 0..self.machines.len() {
            self.cut(machine, true);
            if !self.machines[machine].up {
                let now = self.now;
                self.machines[machine].start(now);
            }
        }
        let mut steps = 0;
        while !self.is_at_rest() {
            self.step();
            steps += 1;
            assert!(
                steps < REST,
                "seed {}: it does not come to rest; {}",
                self.seed,
                self.unrest()
            );
        }
        self.balance();
        self.outcome
    }

    fn is_at_rest(&self) -> bool {
        self.machines.iter().all(Machine::is_idle)
            && self.disk.is_idle()
            && self.disk.synced.outbox.is_empty()
            && self.conns.values().all(|conn| conn.busy.is_empty())
    }

    fn unrest(&self) -> String {
        let spools: Vec<_> = self
            .machines
            .iter()
            .flat_map(|machine| machine.runners.values())
            .map(|runner| (runner.session, runner.spool.len(), runner.is_idle()))
            .collect();
        format!(
            "spools {spools:?}, disk {}, outbox {:?}",
            self.disk.waiting(),
            self.disk.synced.outbox.keys().collect::<Vec<_>>()
        )
    }

    /// One thing happens somewhere.
    fn step(&mut self) {
        let pause = match self.rng.below(40) {
            0 => self.rng.below(300_000),
            1..=3 => self.rng.below(30_000),
            _ => self.rng.below(2_000),
        };
        self.now = self.now.saturating_add(Duration::from_micros(pause));
        let sessions = self.sessions.len() as u64;
        let (session, machine) = self.sessions[self.rng.below(sessions) as usize];
        match self.rng.below(20) {
            0..=1 => {
                let rng = &mut self.rng;
                if self.faults
                    && let Some(runner) = self.machines[machine].runners.get_mut(&session)
                {
                    runner.emit(rng, None);
                    self.outcome.events += 1;
                }
            }
            2..=5 => {
                let now = self.now;
                for _ in 0..1 + self.rng.below(3) {
                    self.machines[machine].pump(session, now);
                }
            }
            6..=7 => {
                let rng = &mut self.rng;
                self.machines[machine].work(session, rng);
            }
            8..=12 => self.deliver(),
            13..=15 => self.sync(),
            16 if self.faults => self.command(session, machine),
            17 if self.faults => self.answer(),
            18 => self.read(),
            _ => {}
        }
        self.settle();
    }

    fn read(&mut self) {
        let at = self.rng.below(self.readers.len() as u64) as usize;
        let most = self.rng.below(4) as usize;
        let (session, reader) = &mut self.readers[at];
        let log = &self.disk.synced.logs[session].entries;
        reader.read(&session.to_string(), log, most);
    }

    fn new_command(&mut self, session: SessionId, machine: usize, body: CommandBody) -> Command {
        let id = CommandId::from_bits(self.id());
        self.issued.insert(id, machine);
        check::note_given(&self.history, id);
        self.outcome.commands += 1;
        Command {
            id,
            session_id: session,
            deadline: None,
            body,
        }
    }

    /// Somebody gives a command: it is on its way when it is written, and seen when it is synced.
    fn command(&mut self, session: SessionId, machine: usize) {
        if !self.server_up || self.disk.written.outbox.len() > 12 {
            return;
        }
        let command = self.new_command(session, machine, CommandBody::Interrupt);
        self.disk.write(Write::Command(command), None);
    }

    /// Somebody answers a prompt, perhaps one that has an answer.
    fn answer(&mut self) {
        if !self.server_up {
            return;
        }
        let prompts: Vec<(String, SessionId, bool)> = self
            .disk
            .written
            .prompts
            .iter()
            .map(|(prompt, (session, answer))| (prompt.clone(), *session, answer.is_some()))
            .collect();
        if prompts.is_empty() {
            return;
        }
        let at = self.rng.below(prompts.len() as u64) as usize;
        let (prompt, session, answered) = prompts[at].clone();
        if answered {
            return;
        }
        let machine = self
            .sessions
            .iter()
            .find(|(id, _)| *id == session)
            .map_or(0, |(_, machine)| *machine);
        let id = PromptId::from_bits(self.id());
        let body = CommandBody::Answer {
            prompt_id: id,
            request_key: prompt.clone(),
            answer: PromptAnswer {
                by: Actor::server(),
                at: self.now,
                body: AnswerBody::Decision(Decision::default()),
            },
        };
        let command = self.new_command(session, machine, body);
        self.outcome.answers += 1;
        let write = Write::Answer {
            prompt,
            id,
            command,
        };
        self.disk.write(write, None);
    }

    /// The disk syncs some of what waits, and tells who waits for it.
    fn sync(&mut self) {
        if !self.server_up {
            return;
        }
        let most = 1 + self.rng.below(4) as usize;
        let replies = self.disk.sync(most);
        for conn in self.conns.values_mut() {
            conn.outbox_due = true;
        }
        for reply in replies {
            self.reply(reply);
        }
    }

    fn reply(&mut self, reply: Reply) {
        let now = self.now;
        let synced = &self.disk.synced;
        let Some(conn) = self.conns.get_mut(&reply.link) else {
            return;
        };
        match reply.about {
            About::Records(session) => {
                conn.busy.remove(&session);
                conn.link.stored(session, synced.logs[&session].origin);
            }
            About::Result(session, command) => {
                conn.busy.remove(&session);
                conn.settled(session, command);
            }
            About::Content(chunk) => {
                conn.busy.remove(&chunk.session_id);
                conn.link.content_staged(&chunk, chunk.size_bytes, true);
            }
            About::Epoch(epoch) => {
                let Some(hello) = conn.greeting.take() else {
                    return;
                };
                let daemon = hello.daemon_id;
                let claims = hello.sessions.iter().map(|report| {
                    let log = synced.logs.get(&report.session_id);
                    let own = log.filter(|log| log.owner == daemon);
                    (report.session_id, own.map(|log| log.origin))
                });
                let claims: Vec<_> = claims.collect();
                self.outcome.foreign +=
                    claims.iter().filter(|(_, own)| own.is_none()).count() as u64;
                self.outcome.links += 1;
                conn.link.welcome(now, epoch, claims);
                conn.outbox_due = true;
            }
        }
    }

    /// Some connection brings a frame to its other end.
    fn deliver(&mut self) {
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.rng.below(ids.len() as u64) as usize];
        for _ in 0..1 + self.rng.below(4) {
            self.deliver_up(id);
            self.deliver_down(id);
        }
    }

    fn deliver_up(&mut self, id: u64) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match conn.up.front() {
            Some((at, _)) if *at > now => return,
            None => {
                // The end of the stream comes after everything that was sent.
                if !conn.daemon_open && conn.server_open && self.rng.chance(300) {
                    self.server_closes(id, None);
                }
                return;
            }
            Some(_) => {}
        }
        let Some((_, frame)) = conn.up.pop_front() else {
            return;
        };
        if !conn.server_open {
            return;
        }
        let stale = self
            .disk
            .written
            .epochs
            .get(&self.machines[conn.machine].daemon_id);
        if conn.link.epoch() > 0 && stale.is_some_and(|newest| *newest > conn.link.epoch()) {
            self.outcome.fenced += 1;
        }
        if self.trace {
            println!("{:>8} conn {id} up {}", now.as_millis(), brief_up(&frame));
        }
        conn.link.received(now, frame);
    }

    fn deliver_down(&mut self, id: u64) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let machine = conn.machine;
        let mine = conn.daemon_open && self.current[machine] == Some(id);
        match conn.down.front() {
            Some((at, _)) if *at > now => {}
            Some(_) => {
                let Some((_, frame)) = conn.down.pop_front() else {
                    return;
                };
                if matches!(frame, Down::Reset { .. }) {
                    self.outcome.resets += 1;
                }
                if mine && self.machines[machine].up {
                    if self.trace {
                        println!(
                            "{:>8} conn {id} down {}",
                            now.as_millis(),
                            brief_down(&frame)
                        );
                    }
                    self.machines[machine].link.received(now, frame);
                }
            }
            None => {
                if !conn.server_open && mine {
                    conn.daemon_open = false;
                    let status = conn.status.take();
                    self.current[machine] = None;
                    if self.machines[machine].up {
                        self.machines[machine].link.closed(now, status);
                    }
                }
            }
        }
    }

    /// Lets every party act on what it knows, until none has more to do.
    fn settle(&mut self) {
        for machine in 0..self.machines.len() {
            self.settle_machine(machine);
        }
        let ids: Vec<u64> = self.conns.keys().copied().collect();
        for id in ids {
            self.settle_conn(id);
        }
        self.conns
            .retain(|_, conn| conn.daemon_open || conn.server_open);
    }

    fn settle_machine(&mut self, at: usize) {
        let now = self.now;
        if !self.machines[at].up {
            return;
        }
        if self.machines[at].dial_at.is_some_and(|due| now >= due) {
            self.machines[at].dial_at = None;
            self.dial(at);
        }
        if self.machines[at]
            .link
            .next_deadline()
            .is_some_and(|due| now >= due)
        {
            self.machines[at].link.tick(now);
        }
        let synced = &self.disk.synced;
        let close = self.machines[at].act(now, &self.history, |session, through| {
            check::acknowledged(session, through, synced.logs[&session].origin);
        });
        if close && let Some(id) = self.current[at].take() {
            self.flush(at, id);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.daemon_open = false;
            }
        }
        if let Some(id) = self.current[at] {
            self.flush(at, id);
        }
    }

    /// Moves what the daemon has to send onto the wire while there is room.
    fn flush(&mut self, at: usize, id: u64) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        while conn.up.len() < WIRE {
            let Some(frame) = self.machines[at].link.send(now) else {
                return;
            };
            let delay = Duration::from_micros(self.rng.below(20_000));
            let last = conn.up.back().map_or(now, |(at, _)| *at);
            let due = last.max(now.saturating_add(delay));
            if self.faults && matches!(frame, Up::Records(_)) {
                if self.rng.chance(10) {
                    // Lost without a trace: the next one is a jump.
                    continue;
                }
                if self.rng.chance(30) {
                    self.outcome.repeated += 1;
                    conn.up.push_back((due, frame.clone()));
                }
            }
            if self.faults && self.rng.chance(30) && !matches!(frame, Up::Hello(_)) {
                // A daemon that lies about what is another's.
                let theirs = self.sessions.iter().find(|(_, owner)| *owner != at);
                let own = self.sessions.iter().find(|(_, owner)| *owner == at);
                if let (Some((theirs, _)), Some((own, _))) = (theirs, own) {
                    self.outcome.forged += 1;
                    let outbox = &self.disk.synced.outbox;
                    let command = outbox.values().find(|given| given.session_id == *theirs);
                    let target = liar::Target {
                        theirs: *theirs,
                        command: command.map(|given| given.id),
                        own: *own,
                        outstanding: conn.outstanding.first().copied(),
                    };
                    let lie = liar::frame(&mut self.rng, &target, now);
                    conn.up.push_back((due, lie));
                }
            }
            if self.faults
                && let Up::CommandResult(result) = &frame
                && self.rng.chance(100)
            {
                // Said once more, and again otherwise: the first one counts.
                self.outcome.contradicted += 1;
                let second = Up::CommandResult(contradiction(result));
                conn.up.push_back((due, frame.clone()));
                conn.up.push_back((due, frame));
                conn.up.push_back((due, second));
                continue;
            }
            conn.up.push_back((due, frame));
        }
    }

    fn dial(&mut self, at: usize) {
        let now = self.now;
        self.machines[at].link.dial(now);
        if !self.server_up || (self.faults && self.rng.chance(100)) {
            let error = Error::new(Code::Unavailable, "nobody listens");
            self.machines[at].link.closed(now, Some(error));
            return;
        }
        self.next_conn += 1;
        let id = self.next_conn;
        self.say(|| format!("machine {at} dials: conn {id}"));
        let conn = Conn {
            machine: at,
            link: ServerLink::new(self.machines[at].daemon_id, limits(), "sim", now),
            up: VecDeque::new(),
            down: VecDeque::new(),
            daemon_open: true,
            server_open: true,
            status: None,
            lanes: BTreeMap::new(),
            busy: BTreeSet::new(),
            staged: BTreeMap::new(),
            outstanding: BTreeSet::new(),
            storing: BTreeSet::new(),
            greeting: None,
            attempt: (0, 0),
            outbox_due: false,
        };
        self.conns.insert(id, conn);
        self.current[at] = Some(id);
    }

    fn server_closes(&mut self, id: u64, status: Option<Error>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.server_open = false;
            conn.status = status;
            conn.lanes.clear();
        }
    }

    fn settle_conn(&mut self, id: u64) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if !conn.server_open || !self.server_up {
            return;
        }
        if conn.link.next_deadline().is_some_and(|due| now >= due) {
            conn.link.tick(now);
        }
        if std::mem::take(&mut conn.outbox_due) && conn.link.is_live() {
            conn.link.outbox_begins();
            for command in self.disk.synced.outbox.values() {
                if self.issued.get(&command.id) == Some(&conn.machine) {
                    conn.link.command(command.clone());
                }
            }
        }
        let mut events = Vec::new();
        while let Some(event) = conn.link.event() {
            events.push(event);
        }
        for event in events {
            self.server_event(id, event);
        }
        self.work(id);
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        while conn.server_open && conn.down.len() < WIRE {
            let Some(frame) = conn.link.send(now) else {
                break;
            };
            let delay = Duration::from_micros(self.rng.below(20_000));
            let last = conn.down.back().map_or(now, |(at, _)| *at);
            let due = last.max(now.saturating_add(delay));
            if let Down::Command(command) = &frame {
                conn.outstanding.insert(command.id);
                if self.faults && self.rng.chance(100) {
                    self.outcome.retold += 1;
                    conn.down.push_back((due, frame.clone()));
                }
            }
            conn.down.push_back((due, frame));
        }
    }

    fn server_event(&mut self, id: u64, event: ServerEvent) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let daemon = self.machines[conn.machine].daemon_id;
        let newest = self.disk.written.epochs.get(&daemon).copied().unwrap_or(0);
        let push = |conn: &mut Conn, session: SessionId, work: Work| {
            assert_eq!(
                conn.link.epoch(),
                newest,
                "a frame of an older link was taken"
            );
            conn.lanes.entry(session).or_default().push_back(work);
        };
        match event {
            ServerEvent::Hello(hello) => {
                let machine = conn.machine;
                let attempt = (hello.boot_generation, hello.attempt);
                conn.attempt = attempt;
                let overtaken = self.conns.iter().any(|(other, conn)| {
                    let same = *other != id && conn.machine == machine;
                    same && conn.server_open && conn.attempt > attempt
                });
                let Some(conn) = self.conns.get_mut(&id) else {
                    return;
                };
                if overtaken {
                    self.outcome.fenced += 1;
                    return conn.link.superseded();
                }
                conn.greeting = Some(*hello);
                let epoch = newest + 1;
                let reply = Reply {
                    link: id,
                    about: About::Epoch(epoch),
                };
                self.disk.write(Write::Epoch(daemon, epoch), Some(reply));
                for (other, conn) in &mut self.conns {
                    // Whoever has not said Hello is not yet a link, and may be the newer one.
                    if *other != id && conn.machine == machine && conn.attempt != (0, 0) {
                        conn.link.superseded();
                    }
                }
            }
            ServerEvent::Records(records) => {
                assert_eq!(
                    self.disk.written.logs[&records.session_id].owner, daemon,
                    "a foreign session's records were taken"
                );
                push(conn, records.session_id, Work::Records(records));
            }
            ServerEvent::Content(chunk) => {
                assert_eq!(
                    self.disk.written.logs[&chunk.session_id].owner, daemon,
                    "a foreign session's content was taken"
                );
                push(conn, chunk.session_id, Work::Content(chunk));
            }
            ServerEvent::Result(result) => {
                let id = result.command_id;
                assert!(
                    conn.storing.insert(id),
                    "{id} has a second outcome while the first is being stored"
                );
                if conn.outstanding.contains(&id) {
                    assert_eq!(
                        self.disk.written.logs[&result.session_id].owner, daemon,
                        "{id} was settled in the name of a foreign session"
                    );
                }
                push(conn, result.session_id, Work::Result(result));
            }
            ServerEvent::Report(report) => {
                let log = &self.disk.synced.logs[&report.session_id];
                match log.owner == daemon {
                    true => conn.link.own(report.session_id, log.origin),
                    false => conn.link.foreign(report.session_id, "another's"),
                }
            }
            ServerEvent::Transient(_) | ServerEvent::Offer(_) | ServerEvent::QueryResult(_) => {}
            ServerEvent::Goodbye(_) => self.server_closes(id, None),
            ServerEvent::Close(error) => {
                // The rules of the link are kept by both sides; only time and newer links end one.
                assert!(
                    matches!(error.code(), Code::Stale | Code::Timeout),
                    "the link was ended: {error}"
                );
                self.say(|| format!("conn {id} is ended: {error}"));
                self.server_closes(id, Some(error));
            }
        }
    }

    /// The rules work off a connection's lanes: one thing a session at a time.
    fn work(&mut self, id: u64) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let ready: Vec<SessionId> = conn
            .lanes
            .iter()
            .filter(|(session, lane)| !lane.is_empty() && !conn.busy.contains(session))
            .map(|(session, _)| *session)
            .collect();
        for session in ready {
            if self.rng.chance(300) {
                // The rules take their time.
                continue;
            }
            let Some(work) = conn.lanes.get_mut(&session).and_then(VecDeque::pop_front) else {
                continue;
            };
            match work {
                Work::Records(records) => {
                    if self.faults && self.rng.chance(20) {
                        self.outcome.refused += 1;
                        if let Some(lane) = conn.lanes.get_mut(&session) {
                            lane.retain(|work| matches!(work, Work::Result(_)));
                        }
                        conn.link.refused(now, session);
                        continue;
                    }
                    match self.disk.append(&records, conn.link.epoch()) {
                        Some(write) => {
                            conn.busy.insert(session);
                            let about = About::Records(session);
                            self.disk.write(write, Some(Reply { link: id, about }));
                        }
                        None => {
                            // All of it is there; what is only written is not yet acknowledged.
                            let origin = self.disk.synced.logs[&session].origin;
                            let last = Position::new(
                                records.origin_epoch,
                                records.records.last().map_or(0, |record| record.origin_seq),
                            );
                            if origin >= last {
                                conn.link.stored(session, origin);
                            } else {
                                conn.link.refused(now, session);
                            }
                        }
                    }
                }
                Work::Content(chunk) => {
                    if self.faults && self.rng.chance(20) {
                        conn.staged.remove(&chunk.sha256);
                        if let Some(lane) = conn.lanes.get_mut(&session) {
                            lane.retain(|work| !matches!(work, Work::Content(_)));
                        }
                        conn.link.content_staged(&chunk, 0, false);
                        continue;
                    }
                    if self.disk.synced.contents.contains(&chunk.sha256) {
                        conn.link.content_staged(&chunk, chunk.size_bytes, true);
                        continue;
                    }
                    let end = chunk.offset + chunk.data.len() as u64;
                    let staged = conn.staged.entry(chunk.sha256.clone()).or_insert(0);
                    assert!(
                        chunk.offset <= *staged,
                        "a piece of content came out of order"
                    );
                    *staged = (*staged).max(end);
                    if *staged < chunk.size_bytes {
                        let next = *staged;
                        conn.link.content_staged(&chunk, next, true);
                        continue;
                    }
                    self.outcome.contents += 1;
                    conn.busy.insert(session);
                    let write = Write::Content(chunk.sha256.clone());
                    let about = About::Content(chunk);
                    self.disk.write(write, Some(Reply { link: id, about }));
                }
                Work::Result(result) => {
                    let command = result.command_id;
                    let about = About::Result(session, command);
                    let daemon = self.machines[conn.machine].daemon_id;
                    let is_own = self.disk.written.logs[&session].owner == daemon;
                    let given = self.disk.written.outbox.get(&command);
                    if !is_own || given.is_some_and(|given| given.session_id != session) {
                        // Not its command: there is nothing to store.
                        conn.settled(session, command);
                    } else if self.disk.synced.outcomes.contains_key(&command) {
                        conn.settled(session, command);
                    } else if self.disk.written.outcomes.contains_key(&command) {
                        // On its way to the disk by another link: look again.
                        let lane = conn.lanes.entry(session).or_default();
                        lane.push_front(Work::Result(result));
                    } else {
                        assert!(
                            self.disk.written.outbox.contains_key(&command),
                            "{command} has a result and was never given"
                        );
                        if result.outcome == CommandOutcome::Indeterminate {
                            self.outcome.indeterminate += 1;
                        }
                        conn.busy.insert(session);
                        let write = Write::Result(result);
                        self.disk.write(write, Some(Reply { link: id, about }));
                    }
                }
            }
        }
    }

    /// Something breaks.
    fn fault(&mut self) {
        let machine = self.rng.below(self.machines.len() as u64) as usize;
        let sessions = self.sessions.len() as u64;
        let (session, owner) = self.sessions[self.rng.below(sessions) as usize];
        let now = self.now;
        match self.rng.below(12) {
            0..=3 => {
                let whole = self.rng.chance(500);
                self.cut(machine, whole);
            }
            4..=5 => {
                if self.machines[machine].up {
                    self.say(|| format!("machine {machine}: the daemon dies"));
                    self.outcome.daemon_crashes += 1;
                    self.history.note("chance", Fact::killed("daemon"));
                    self.machines[machine].crash();
                    self.cut(machine, false);
                } else {
                    self.say(|| format!("machine {machine}: the daemon starts"));
                    self.machines[machine].start(now);
                }
            }
            6..=7 => {
                if self.server_up {
                    let waiting = self.disk.waiting() as u64;
                    let kept = self.rng.below(waiting + 1) as usize;
                    self.say(|| format!("the server dies; {kept} of {waiting} writes are kept"));
                    self.outcome.server_crashes += 1;
                    self.server_up = false;
                    self.disk.crash(kept);
                    self.history.note("chance", Fact::killed("server"));
                    for (session, log) in &self.disk.synced.logs {
                        check::note_log(&self.history, &session.to_string(), &log.entries);
                    }
                    for conn in self.conns.values_mut() {
                        conn.server_open = false;
                        conn.lanes.clear();
                        conn.busy.clear();
                    }
                } else {
                    self.say(|| "the server starts".to_owned());
                    self.server_up = true;
                    self.history.note("chance", Fact::started("server"));
                }
            }
            8..=9 => {
                self.say(|| format!("{session}: the runner dies"));
                self.history.note("chance", Fact::killed("runner"));
                self.outcome.runner_crashes += 1;
                let rng = &mut self.rng;
                self.machines[owner].crash_runner(session, rng, false);
            }
            10 => {
                if let Some(runner) = self.machines[owner].runners.get_mut(&session) {
                    runner.damage(&mut self.rng);
                }
            }
            _ => {
                self.say(|| format!("machine of {session}: power failure"));
                // Power takes the daemon too; it comes back with a new spool.
                self.machines[owner].crash();
                self.cut(owner, false);
                let rng = &mut self.rng;
                self.machines[owner].crash_runner(session, rng, true);
            }
        }
        self.settle();
    }

    /// A machine's connection breaks: for both sides, or first for the daemon only, while what it sent is
    /// still on its way and the server's end lives on until it is fenced or its lease is over.
    fn cut(&mut self, machine: usize, whole: bool) {
        let Some(id) = self.current[machine].take() else {
            return;
        };
        self.outcome.cuts += 1;
        self.say(|| format!("conn {id} is cut (whole: {whole})"));
        let now = self.now;
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.daemon_open = false;
            if whole {
                conn.up.clear();
                conn.down.clear();
            }
        }
        if whole {
            self.server_closes(id, None);
        }
        if self.machines[machine].up {
            self.machines[machine].link.closed(now, None);
        }
    }

    /// Everything has come to rest: nothing is lost, doubled or undecided.
    fn balance(&mut self) {
        let synced = &self.disk.synced;
        for (session, machine) in &self.sessions {
            let name = session.to_string();
            let runner = &self.machines[*machine].runners[session];
            let log = &synced.logs[session].entries;
            self.outcome.gaps += log.iter().filter(|e| e.starts_with("gap:")).count() as u64;
            check::log(&name, log, &runner.truth, true);
            check::note_session(&self.history, &name, log, runner);

            check::given(&name, runner);
        }
        for (id, machine) in &self.issued {
            let outcome = synced.outcomes.get(id).copied();
            let runners = || self.machines[*machine].runners.values();
            check::command(*id, outcome, runners());
            check::note_command(&self.history, *id, outcome, runners());
        }
        for (session, reader) in &mut self.readers {
            let log = &synced.logs[session].entries;
            reader.read(&session.to_string(), log, usize::MAX);
            assert_eq!(reader.seen, *log);
        }
        self.history.validate();
    }
}

pub fn brief_up(frame: &Up) -> String {
    match frame {
        Up::Records(records) => format!(
            "records {} {}/{:?}",
            records.session_id,
            records.origin_epoch,
            records
                .records
                .iter()
                .map(|r| r.origin_seq)
                .collect::<Vec<_>>()
        ),
        Up::ContentChunk(chunk) => format!(
            "content {} {} {}+{} of {}",
            chunk.session_id,
            &chunk.sha256[..8],
            chunk.offset,
            chunk.data.len(),
            chunk.size_bytes
        ),
        other => format!("{other:?}"),
    }
}

pub fn brief_down(frame: &Down) -> String {
    match frame {
        Down::Command(command) => format!("command {} {}", command.id, command.session_id),
        other => format!("{other:?}"),
    }
}
