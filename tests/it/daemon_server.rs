//! The server's side of the link for tests of the daemon: the real state machine over a real transport,
//! with a log in memory that refuses a record twice or out of order.

use std::collections::BTreeMap;
use std::sync::Arc;

use baton::base::id::{CommandId, DaemonId, SessionId};
use baton::base::{Clock as _, Error, SystemClock};
use baton::domain::daemon::DirectoryQuery;
use baton::domain::link::frame::{ContentChunk, Down, Goodbye, Position, Records};
use baton::domain::link::{Found, QueryBody, ServerEvent, ServerLimits, ServerLink};
use baton::domain::{Command, CommandResult, Event};
use baton::wire::link::{down_to_pb, up_from_pb};
use baton::wire::link_v1::link_service_server::{LinkService, LinkServiceServer};
use baton::wire::link_v1::{ConnectRequest, ConnectResponse, EnrollRequest, EnrollResponse};
use baton::wire::status::status_from_error;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::support::said::said;

/// What the server has.
#[derive(Default)]
pub struct Log {
    pub sessions: BTreeMap<SessionId, Stored>,
    pub outbox: BTreeMap<CommandId, Command>,
    pub results: BTreeMap<CommandId, CommandResult>,
    pub goodbyes: Vec<Goodbye>,
    /// Records of a session that stood still, to be stored when it goes again.
    pub kept_back: Vec<Records>,
    pub content: BTreeMap<String, Vec<u8>>,
    pub directories: Vec<baton::domain::daemon::Directory>,
    pub links: u64,
    /// Records of this session are neither stored nor acknowledged.
    pub stalled: Option<SessionId>,
    /// Refuses every link with this.
    pub refuses: Option<Error>,
    enrolled: Option<(Vec<u8>, String)>,
    query: Option<QueryBody>,
}

/// A session's log.
#[derive(Default, Clone)]
pub struct Stored {
    pub position: Position,
    pub events: Vec<Event>,
    pub alive: bool,
    pub foreign: bool,
}

pub struct FakeServer {
    pub log: Arc<Mutex<Log>>,
    changed: Arc<Notify>,
    pub uri: String,
    pub daemon_id: DaemonId,
    job: Mutex<Option<JoinHandle<()>>>,
    /// Ends every link when it is set.
    cut: Mutex<CancellationToken>,
    port: u16,
}

impl FakeServer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = FakeServer {
            log: Arc::default(),
            changed: Arc::default(),
            uri: format!("http://127.0.0.1:{port}"),
            daemon_id: DaemonId::generate(SystemClock.now()),
            job: Mutex::new(None),
            cut: Mutex::default(),
            port,
        };
        server.serve(listener);
        server
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let cut = CancellationToken::new();
        *self.cut.lock() = cut.clone();
        let service = LinkServiceServer::new(Service {
            cut,
            log: self.log.clone(),
            changed: self.changed.clone(),
            daemon_id: self.daemon_id,
        });
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        *self.job.lock() = Some(tokio::spawn(async move {
            serving.await.unwrap();
        }));
    }

    /// Breaks every connection and is gone until [`FakeServer::again`].
    pub async fn vanish(&self) {
        self.cut.lock().cancel();
        let job = self.job.lock().take().unwrap();
        job.abort();
        let _ = job.await;
    }

    pub async fn again(&self) {
        let listener = loop {
            match tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serve(listener);
    }

    pub fn command(&self, command: Command) {
        let mut log = self.log.lock();
        log.sessions.entry(command.session_id).or_default();
        log.outbox.insert(command.id, command);
        drop(log);
        self.changed.notify_one();
    }

    pub fn list(&self, path: &str) {
        self.log.lock().query = Some(QueryBody::ListDirectory(DirectoryQuery {
            path: path.to_owned(),
            ..DirectoryQuery::default()
        }));
        self.changed.notify_one();
    }

    pub fn events(&self, id: SessionId) -> Vec<Event> {
        let log = self.log.lock();
        log.sessions
            .get(&id)
            .map(|s| s.events.clone())
            .unwrap_or_default()
    }

    /// Lets the records of this session wait, or of none.
    pub fn stall(&self, session: Option<SessionId>) {
        self.log.lock().stalled = session;
        self.changed.notify_one();
    }

    pub fn result(&self, id: CommandId) -> Option<CommandResult> {
        self.log.lock().results.get(&id).cloned()
    }
}

struct Service {
    cut: CancellationToken,
    log: Arc<Mutex<Log>>,
    changed: Arc<Notify>,
    daemon_id: DaemonId,
}

#[tonic::async_trait]
impl LinkService for Service {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let bearer = request.metadata().get("authorization").unwrap().clone();
        assert_eq!(bearer.to_str().unwrap(), "Bearer bj_join");
        let body = request.into_inner();
        let mut log = self.log.lock();
        let nonce = body.nonce.to_vec();
        let credential = match &log.enrolled {
            None => "bt_credential".to_owned(),
            Some((known, credential)) if *known == nonce => credential.clone(),
            Some(_) => return Err(Status::unauthenticated("used")),
        };
        log.enrolled = Some((nonce, credential.clone()));
        Ok(Response::new(EnrollResponse {
            daemon_id: self.daemon_id.to_string(),
            credential,
            name: body.name,
        }))
    }

    type ConnectStream = ReceiverStream<Result<ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let bearer = request.metadata().get("authorization").unwrap();
        assert_eq!(bearer.to_str().unwrap(), "Bearer bt_credential");
        if let Some(error) = &self.log.lock().refuses {
            return Err(status_from_error(error));
        }
        let (down, answers) = mpsc::channel(8);
        let now = SystemClock.now();
        let link = ServerLink::new(self.daemon_id, ServerLimits::default(), "test", now);
        let (cut, log, changed) = (self.cut.clone(), self.log.clone(), self.changed.clone());
        let up = request.into_inner();
        tokio::spawn(async move {
            tokio::select! {
                () = drive(link, up, down, log, changed) => {}
                // Looks like a clean end, and is none.
                () = cut.cancelled() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

async fn drive(
    mut link: ServerLink,
    mut up: Streaming<ConnectRequest>,
    down: mpsc::Sender<Result<ConnectResponse, Status>>,
    log: Arc<Mutex<Log>>,
    changed: Arc<Notify>,
) {
    loop {
        let now = SystemClock.now();
        while let Some(event) = link.event() {
            if let Some(error) = act(&mut link, event, &log) {
                let _ = down.send(Err(status_from_error(&error))).await;
                return;
            }
        }
        if link.is_live() {
            let mut log = log.lock();
            link.outbox_begins();
            for command in log.outbox.values() {
                link.command(command.clone());
            }
            if let Some(query) = log.query.take() {
                link.query(query);
            }
            if log.stalled.is_none() {
                for records in std::mem::take(&mut log.kept_back) {
                    let position = store(&mut log, &records);
                    link.stored(records.session_id, position);
                }
            }
            let foreign: Vec<_> = log
                .sessions
                .iter()
                .filter(|s| s.1.foreign)
                .map(|s| *s.0)
                .collect();
            drop(log);
            for id in foreign {
                link.foreign(id, "not yours");
            }
        }
        while let Some(frame) = link.send(now) {
            let frame: Down = frame;
            if down.send(Ok(down_to_pb(&frame))).await.is_err() {
                return;
            }
        }
        let deadline = link
            .next_deadline()
            .map_or(now, |at| at)
            .saturating_since(now);
        tokio::select! {
            frame = up.message() => match frame {
                Ok(Some(frame)) => link.received(SystemClock.now(), up_from_pb(frame).unwrap()),
                _ => return,
            },
            () = changed.notified() => {}
            () = tokio::time::sleep(deadline) => link.tick(SystemClock.now()),
        }
    }
}

fn act(link: &mut ServerLink, event: ServerEvent, log: &Mutex<Log>) -> Option<Error> {
    let mut log = log.lock();
    match event {
        ServerEvent::Hello(hello) => {
            log.links += 1;
            let sessions: Vec<_> = hello
                .sessions
                .iter()
                .map(|report| {
                    let stored = log.sessions.get(&report.session_id);
                    (
                        report.session_id,
                        stored.filter(|s| !s.foreign).map(|s| s.position),
                    )
                })
                .collect();
            link.welcome(SystemClock.now(), log.links, sessions);
        }
        ServerEvent::Records(records) if log.stalled == Some(records.session_id) => {
            log.kept_back.push(records);
        }
        ServerEvent::Records(records) => {
            let position = store(&mut log, &records);
            link.stored(records.session_id, position);
        }
        ServerEvent::Content(chunk) => {
            let next = stage(&mut log, &chunk);
            link.content_staged(&chunk, next, true);
        }
        ServerEvent::Result(result) => {
            log.outbox.remove(&result.command_id);
            let (session, command) = (result.session_id, result.command_id);
            if let Some(before) = log.results.insert(command, result.clone()) {
                assert_eq!(before, result, "a command has one outcome");
            }
            link.result_stored(session, command);
        }
        ServerEvent::Report(report) => match log.sessions.get_mut(&report.session_id) {
            Some(stored) if !stored.foreign => {
                stored.alive = report.alive;
                link.own(report.session_id, stored.position);
            }
            _ => link.foreign(report.session_id, "unknown"),
        },
        ServerEvent::QueryResult(result) => match result.result.unwrap() {
            Found::Directory(directory) => log.directories.push(directory),
            other => panic!("nobody asked: {other:?}"),
        },
        ServerEvent::Goodbye(goodbye) => log.goodbyes.push(goodbye),
        ServerEvent::Close(error) => return Some(error),
        ServerEvent::Transient(_) | ServerEvent::Offer(_) => {}
    }
    None
}

/// Stores records; each number of an epoch once, in order, gaps only where they are said.
fn store(log: &mut Log, records: &Records) -> Position {
    let stored = log.sessions.entry(records.session_id).or_default();
    for record in &records.records {
        let position = Position::new(records.origin_epoch, record.origin_seq);
        if position <= stored.position {
            continue;
        }
        let next = match stored.position.origin_epoch == records.origin_epoch {
            true => stored.position.origin_seq + 1,
            false => 1,
        };
        let from = record
            .gap
            .as_ref()
            .map_or(record.origin_seq, |gap| gap.from_origin_seq);
        assert!(from <= next, "record {position:?} leaves out {next}");
        stored.events.extend(record.events.iter().map(said));
        stored.position = position;
    }
    stored.position
}

fn stage(log: &mut Log, chunk: &ContentChunk) -> u64 {
    let content = log.content.entry(chunk.sha256.clone()).or_default();
    assert!(chunk.offset <= content.len() as u64);
    content.truncate(chunk.offset as usize);
    content.extend_from_slice(&chunk.data);
    content.len() as u64
}
