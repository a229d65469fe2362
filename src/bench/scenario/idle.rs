//! What is connected and silent: memory, and processor time for heart-beats.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::body::Incoming;
use tokio_tungstenite::WebSocketStream;

use super::load::Stage;
use crate::bench::drain::{Connection, Readers, Target, Transport, open_silent};
use crate::bench::publish::{Enrolled, Machine};
use crate::bench::report::Point;
use crate::bench::run::Bench;
use crate::bench::subject::{Kind, Subject};
use crate::wire::v1;

const EACH: &str = "memory of each, KB";
const CPU: &str = "CPU of each, µs a second";

/// Streams that share a connection.
const STREAMS: usize = 100;

/// The store keeps up to so much of its records in memory. That is full before it is measured, so that what is counted
/// is what each costs, and not how far they have filled it.
const FULL_CACHE: &str = "store.cache=1MiB";

/// How long nothing happens before memory is looked at.
const QUIET: Duration = Duration::from_secs(2);
/// How long processor time is counted: longer than all heart-beats are apart.
const LONG: Duration = Duration::from_secs(35);

/// Daemons, readers, further streams of readers, browsers' sockets, living sessions, stored sessions.
///
/// Daemons are linked, and stored sessions are looked at a second time, on a server that was started again: what the
/// allocator keeps of enrolling them and of making them is not theirs.
pub async fn idle(bench: &Bench<'_>) {
    let count = bench.plan.size(10_000, 300);
    let all = [
        ("daemons, a connection each", Of::Daemons),
        ("readers over gRPC, a connection each", Of::Readers),
        ("further streams over gRPC, 100 a connection", Of::Streams),
        ("browsers' WebSockets", Of::Sockets),
        ("living sessions that nobody reads", Of::Living),
        ("stored sessions", Of::Stored),
        ("stored sessions after a start", Of::Kept),
    ];
    for (name, of) in all {
        let measure = async |point: &mut Point| {
            rounds(bench, of, count, point).await?;
            goals(of, point);
            Ok(())
        };
        bench
            .point("idle", &format!("{count} {name}"), measure)
            .await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Daemons,
    Readers,
    Streams,
    Sockets,
    Living,
    Stored,
    Kept,
}

async fn rounds(bench: &Bench<'_>, of: Of, count: usize, point: &mut Point) -> Result<()> {
    // A link carries 4,096 living sessions; of those that end, any number one after the other.
    let count = if of == Of::Living {
        count.min(4_000)
    } else {
        count
    };
    let mut kinds = vec![Kind::Baton];
    match of {
        Of::Readers | Of::Streams => kinds.push(Kind::Bare),
        Of::Sockets if bench.plan.baselines.is_some() => kinds.extend([Kind::Bare, Kind::Node]),
        Of::Sockets => kinds.push(Kind::Bare),
        Of::Daemons | Of::Living | Of::Stored | Of::Kept => {}
    }
    for kind in kinds {
        let mut stage = match kind {
            Kind::Baton => Stage::with_options(bench, &[FULL_CACHE]).await?,
            _ => Stage::set(bench, kind).await?,
        };
        let mut enrolled = Vec::new();
        if of == Of::Daemons {
            enrolled = enroll(&stage.subject, count).await?;
        }
        if of == Of::Kept {
            // As many are stored before, so that the cache is full both times.
            sessions(bench, &stage.subject, &stage, count, true).await?;
        }
        if matches!(of, Of::Daemons | Of::Kept) {
            stage = anew(bench, stage).await?;
        }
        // A further stream has others on its connection: what those and the connection take is not its own.
        let connections = match of {
            Of::Streams => connections(&stage, count.div_ceil(STREAMS)).await?,
            _ => Vec::new(),
        };
        if matches!(of, Of::Living | Of::Stored) {
            // A server that has made as many before: what it needs for making them is there.
            sessions(bench, &stage.subject, &stage, count, true).await?;
        }
        tokio::time::sleep(QUIET).await;
        let before = stage.subject.process.memory()?;
        let held = hold(bench, &stage, of, count, connections, &enrolled).await?;
        if of == Of::Kept {
            stage = anew(bench, stage).await?;
        }
        tokio::time::sleep(QUIET).await;
        let after = stage.subject.process.memory()?;
        let each = after.saturating_sub(before) as f64 / 1e3 / count as f64;
        point.add(EACH, kind.name(), each);
        if matches!(of, Of::Daemons | Of::Sockets) {
            let (cpu, begun) = (stage.subject.process.cpu()?, Instant::now());
            tokio::time::sleep(bench.plan.size(LONG, Duration::from_secs(1))).await;
            let cpu = stage.subject.process.cpu()?.saturating_sub(cpu);
            let seconds = begun.elapsed().as_secs_f64();
            point.add(
                CPU,
                kind.name(),
                cpu.as_secs_f64() * 1e6 / seconds / count as f64,
            );
        }
        drop(held);
    }
    Ok(())
}

/// What must stay for as long as it is measured.
#[derive(Default)]
struct Held {
    _machines: Vec<Machine>,
    _readers: Option<Readers>,
    connections: Vec<Connection>,
    streams: Vec<Incoming>,
    _sockets: Vec<WebSocketStream<tokio::net::TcpStream>>,
}

/// A connection that has a stream already.
struct Begun {
    connection: Connection,
    stream: Incoming,
}

/// The server started again on what it has stored, all of which it has read once.
async fn anew(bench: &Bench<'_>, stage: Stage) -> Result<Stage> {
    let dir = stage.into_subject().stop()?.context("a data directory")?;
    let subject = Subject::baton(bench.plan, bench.machine, dir, &[FULL_CACHE])?;
    let stage = Stage::on(subject).await?;
    let client = stage.subject.client().await?;
    let mut request = v1::ListSessionsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    loop {
        let page = client.list_sessions(request.clone()).await?;
        if page.next_page_token.is_empty() {
            return Ok(stage);
        }
        request.page_token = page.next_page_token;
    }
}

async fn enroll(subject: &Subject, count: usize) -> Result<Vec<Enrolled>> {
    let client = subject.client().await?;
    let (client, address) = (&client, &subject.address);
    many(count, |at| async move {
        Machine::enroll(client, address, &format!("idle{at}")).await
    })
    .await
}

async fn connections(stage: &Stage, count: usize) -> Result<Vec<Begun>> {
    let target = &tail(stage);
    many(count, |_| async move {
        let mut connection = Connection::open(target).await?;
        let stream = connection.follow(target).await?;
        Ok(Begun { connection, stream })
    })
    .await
}

/// What comes from now on, over gRPC.
fn tail(stage: &Stage) -> Target {
    let mut target = Target::of(&stage.subject, Transport::Grpc, &stage.session);
    target.tail = true;
    target
}

async fn hold(
    bench: &Bench<'_>,
    stage: &Stage,
    of: Of,
    count: usize,
    connections: Vec<Begun>,
    enrolled: &[Enrolled],
) -> Result<Held> {
    let subject = &stage.subject;
    Ok(match of {
        Of::Daemons => {
            let address = &subject.address;
            let machines = many(count, |at| Machine::link(address, &enrolled[at], 1, &[]));
            Held {
                _machines: machines.await?,
                ..Held::default()
            }
        }
        Of::Readers => Held {
            _readers: Some(Readers::open(&tail(stage), count).await?),
            ..Held::default()
        },
        Of::Streams => further(&tail(stage), count, connections).await?,
        Of::Sockets => {
            let target = Target::of(subject, Transport::Ws, &stage.session);
            let target = &target;
            Held {
                _sockets: many(count, |_| open_silent(target)).await?,
                ..Held::default()
            }
        }
        Of::Living => {
            sessions(bench, subject, stage, count, false).await?;
            Held::default()
        }
        Of::Stored | Of::Kept => {
            sessions(bench, subject, stage, count, true).await?;
            Held::default()
        }
    })
}

/// Streams on connections that are there.
async fn further(target: &Target, count: usize, connections: Vec<Begun>) -> Result<Held> {
    let mut held = Held::default();
    for Begun {
        mut connection,
        stream,
    } in connections
    {
        held.streams.push(stream);
        // The last connection may have fewer.
        let begun = held.connections.len() * STREAMS;
        for _ in begun..count.min(begun + STREAMS) {
            held.streams.push(connection.follow(target).await?);
        }
        held.connections.push(connection);
    }
    Ok(held)
}

/// Living sessions, or such that have ended.
async fn sessions(
    bench: &Bench<'_>,
    subject: &Subject,
    stage: &Stage,
    count: usize,
    ended: bool,
) -> Result<()> {
    let client = subject.client().await?;
    let machine = stage.machine().context("a daemon")?;
    let client = &client;
    many(count, |_| async move {
        let mut session = machine.session(client).await?;
        if ended {
            session.end().await?;
        }
        Ok(())
    })
    .await?;
    if ended {
        // Their actors go some seconds after their end.
        tokio::time::sleep(bench.plan.size(Duration::from_secs(15), QUIET)).await;
    }
    Ok(())
}

/// Makes many, some at a time.
pub async fn many<T, F: Future<Output = Result<T>>>(
    count: usize,
    make: impl Fn(usize) -> F,
) -> Result<Vec<T>> {
    const AT_ONCE: usize = 32;
    let mut made = Vec::with_capacity(count);
    let mut under_way = FuturesUnordered::new();
    for at in 0..count {
        if under_way.len() >= AT_ONCE
            && let Some(done) = under_way.next().await
        {
            made.push(done?);
        }
        under_way.push(make(at));
    }
    while let Some(done) = under_way.next().await {
        made.push(done?);
    }
    Ok(made)
}

fn goals(of: Of, point: &mut Point) {
    let each = point.median(EACH, "baton");
    let most = match of {
        Of::Daemons => 30.0,
        Of::Readers => 30.0,
        Of::Streams | Of::Sockets | Of::Living => 8.0,
        Of::Stored | Of::Kept => 0.3,
    };
    point.at_most("P15", "KB of memory each", each, most);
    if let Some(cpu) = point.median(CPU, "baton") {
        point.at_most("P23", "µs of CPU a second each", Some(cpu), 5.0);
    }
}
