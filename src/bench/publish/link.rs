//! A simulated daemon: it speaks the link's protocol and has sessions, and no agents.
//!
//! It holds to the protocol (credit, acknowledgements, one result for each command) and skips what costs a real
//! daemon time: spool, runners, drivers. What is measured is the server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::base::{Secret, SystemClock};
use crate::bench::address::Address;
use crate::client::Client;
use crate::wire::link_v1 as pb;
use crate::wire::link_v1::connect_request::Body as Up;
use crate::wire::link_v1::connect_response::Body as Down;
use crate::wire::link_v1::link_service_client::LinkServiceClient;
use crate::wire::time::time_to_pb;
use crate::wire::{LinkRecord, v1};

/// The harness that it offers.
const HARNESS: &str = "bench";
/// How long a step of getting ready may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages on their way up.
const ROOM: usize = 256;
/// The spool that its records come from.
const ORIGIN_EPOCH: u64 = 1;
/// How long a part of a message is that is told live, before the next begins.
const LIVE_BLOCK_BYTES: u64 = 16 * 1024;

/// What is known of a session's records.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The last record that was acknowledged.
    acked: u64,
    /// Most events that may be unacknowledged.
    credit: u64,
}

/// A simulated daemon, linked.
pub struct Machine {
    /// Its id.
    pub id: String,
    up: mpsc::Sender<pb::ConnectRequest>,
    sessions: Arc<Mutex<HashMap<String, watch::Sender<Standing>>>>,
    answers: watch::Receiver<u64>,
    _reader: AbortOnDropHandle<()>,
}

/// What the server's commands were about, as one job hears them.
struct Listener {
    up: mpsc::Sender<pb::ConnectRequest>,
    sessions: Arc<Mutex<HashMap<String, watch::Sender<Standing>>>>,
    answers: watch::Sender<u64>,
}

/// A daemon's credential.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Its id.
    pub id: String,
    credential: Secret,
}

impl Machine {
    /// Makes a daemon known to the server.
    pub async fn enroll(client: &Client, to: &Address, name: &str) -> Result<Enrolled> {
        let join = client
            .create_join_token(v1::CreateJoinTokenRequest {
                name: name.to_owned(),
                ..Default::default()
            })
            .await?;
        let mut service = LinkServiceClient::new(channel(to).await?);
        let mut request = tonic::Request::new(pb::EnrollRequest {
            name: name.to_owned(),
            hostname: "bench".to_owned(),
            nonce: format!("{name:0>32}").into_bytes().into(),
        });
        bearer(&mut request, &Secret::new(join.secret))?;
        let enrolled = service.enroll(request).await?.into_inner();
        Ok(Enrolled {
            id: enrolled.daemon_id,
            credential: Secret::new(enrolled.credential),
        })
    }

    /// Links a daemon that the server knows; `reports` are the sessions that it has, with how many records of each.
    pub async fn link(
        to: &Address,
        enrolled: &Enrolled,
        attempt: u64,
        reports: &[(String, u64)],
    ) -> Result<Self> {
        Machine::link_over(channel(to).await?, enrolled, attempt, reports).await
    }

    /// The same over a connection that is there.
    pub async fn link_over(
        channel: Channel,
        enrolled: &Enrolled,
        attempt: u64,
        reports: &[(String, u64)],
    ) -> Result<Self> {
        let mut service = LinkServiceClient::new(channel);
        let (up, waiting) = mpsc::channel(ROOM);
        up.send(message(Up::Hello(hello(&enrolled.id, attempt, reports))))
            .await?;
        let mut request = tonic::Request::new(ReceiverStream::new(waiting));
        bearer(&mut request, &enrolled.credential)?;
        let mut down = service.connect(request).await?.into_inner();
        let first = down.message().await?.and_then(|message| message.body);
        let Some(Down::Welcome(welcome)) = first else {
            bail!("the server answered hello with something else than welcome");
        };
        let sessions: HashMap<_, _> = welcome
            .sessions
            .into_iter()
            .map(|state| {
                let standing = Standing {
                    acked: state.acked_origin_seq,
                    credit: state.credit_events,
                };
                (state.session_id, watch::Sender::new(standing))
            })
            .collect();
        let sessions = Arc::new(Mutex::new(sessions));
        let (answers, heard) = watch::channel(0);
        let listener = Listener {
            up: up.clone(),
            sessions: sessions.clone(),
            answers,
        };
        let every = welcome
            .heartbeat_interval
            .map_or(Duration::from_secs(15), |interval| {
                Duration::from_secs(u64::try_from(interval.seconds).unwrap_or(15).max(1))
            });
        let reader = tokio::spawn(listener.listen(down, every));
        Ok(Machine {
            id: enrolled.id.clone(),
            up,
            sessions,
            answers: heard,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    /// Starts a session on it, and waits until the server has its first record.
    pub async fn session(&self, client: &Client) -> Result<Session> {
        let created = client
            .create_session(v1::CreateSessionRequest {
                request_id: uuid::Uuid::new_v4().to_string(),
                cwd: "/".to_owned(),
                harness: HARNESS.to_owned(),
                daemon_id: self.id.clone(),
                ..Default::default()
            })
            .await?;
        let id = created.session.context("a created session")?.id;
        let standing = tokio::time::timeout(PATIENCE, self.appears(&id))
            .await
            .context("the server did not take the session up")??;
        let mut session = Session {
            id,
            up: self.up.clone(),
            standing,
            sent: 0,
            bytes: 0,
            live: Live::default(),
        };
        let started = v1::event::Body::Started(v1::Started {
            provider_session_id: session.id.clone(),
            cwd: "/".to_owned(),
            pid: 1,
            ..Default::default()
        });
        session.record(started).await?;
        tokio::time::timeout(PATIENCE, session.settle(0))
            .await
            .context("the first record of a session was not acknowledged")??;
        Ok(session)
    }

    /// The session with this id, which it has since before it was linked.
    pub fn known(&self, id: &str, sent: u64) -> Option<Session> {
        let standing = self.sessions.lock().get(id)?.subscribe();
        Some(Session {
            id: id.to_owned(),
            up: self.up.clone(),
            standing,
            sent,
            bytes: 0,
            live: Live::default(),
        })
    }

    async fn appears(&self, id: &str) -> Result<watch::Receiver<Standing>> {
        let mut answers = self.answers.clone();
        loop {
            answers.mark_unchanged();
            let known = self.sessions.lock().get(id).map(watch::Sender::subscribe);
            if let Some(mut standing) = known {
                // Its report is answered by an acknowledgement, with the credit.
                standing.wait_for(|standing| standing.credit > 0).await?;
                return Ok(standing);
            }
            answers.changed().await.context("the link has ended")?;
        }
    }

    /// The time now.
    pub fn now() -> crate::base::Timestamp {
        SystemClock::shared().now()
    }

    /// Commands that have come so far; changes with each.
    pub fn answers(&self) -> watch::Receiver<u64> {
        self.answers.clone()
    }
}

impl Listener {
    async fn listen(self, mut down: Streaming<pb::ConnectResponse>, every: Duration) {
        let mut beat = tokio::time::interval(every);
        let mut count = 0;
        loop {
            let done = tokio::select! {
                message = down.message() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    Ok(None) | Err(_) => return,
                },
                _ = beat.tick() => {
                    count += 1;
                    let beat = pb::Heartbeat { count, ..Default::default() };
                    self.up.send(message(Up::Heartbeat(beat))).await.is_ok()
                }
            };
            if !done {
                return;
            }
        }
    }

    /// False when the link is over.
    async fn hear(&self, message: pb::ConnectResponse) -> bool {
        match message.body {
            Some(Down::Ack(ack)) => {
                if let Some(session) = self.sessions.lock().get(&ack.session_id) {
                    session.send_replace(Standing {
                        acked: ack.origin_seq,
                        credit: ack.credit_events,
                    });
                }
                true
            }
            Some(Down::Command(command)) => self.obey(command).await,
            Some(Down::Reset(reset)) => {
                tracing::warn!(
                    session = reset.session_id,
                    reason = reset.reason,
                    "records were refused"
                );
                true
            }
            _ => true,
        }
    }

    async fn obey(&self, command: pb::Command) -> bool {
        let starts = matches!(command.body, Some(pb::command::Body::Start(_)));
        let result = Up::CommandResult(pb::CommandResult {
            command_id: command.id,
            session_id: command.session_id.clone(),
            outcome: v1::CommandOutcome::Applied.into(),
            ..Default::default()
        });
        if starts {
            // A command that comes again begins nothing anew.
            self.sessions
                .lock()
                .entry(command.session_id.clone())
                .or_default();
            let report = report(&command.session_id, 0);
            if self
                .up
                .send(message(Up::SessionReport(report)))
                .await
                .is_err()
            {
                return false;
            }
        }
        self.answers.send_modify(|count| *count += 1);
        self.up.send(message(result)).await.is_ok()
    }
}

/// A session of a simulated daemon.
pub struct Session {
    /// Its id.
    pub id: String,
    up: mpsc::Sender<pb::ConnectRequest>,
    standing: watch::Receiver<Standing>,
    sent: u64,
    bytes: u64,
    live: Live,
}

/// How far the text has come that the agent is writing right now.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    block: u32,
    offset: u64,
}

impl Session {
    /// Sends each text as a line of output, one record each, as soon as there is credit.
    pub async fn send(&mut self, texts: Vec<String>) -> Result<()> {
        let mut texts = texts.into_iter().peekable();
        while texts.peek().is_some() {
            let room = self.room().await?;
            let bodies = texts.by_ref().take(room).map(|text| {
                v1::event::Body::Output(v1::Output {
                    text,
                    continues: false,
                })
            });
            let bodies = bodies.collect();
            self.records(bodies).await?;
        }
        Ok(())
    }

    /// Sends each text as a piece of what the agent is writing right now. It is never stored, and nobody acknowledges it.
    pub async fn send_live(&mut self, texts: Vec<String>) -> Result<()> {
        for text in texts {
            if self.live.offset >= LIVE_BLOCK_BYTES {
                self.live = Live {
                    block: self.live.block + 1,
                    offset: 0,
                };
            }
            let offset = self.live.offset;
            self.live.offset += text.len() as u64;
            let delta = v1::MessageDelta {
                message_id: "live".to_owned(),
                block: self.live.block,
                offset,
                text,
                thinking: false,
            };
            let piece = v1::Transient {
                session_id: self.id.clone(),
                body: Some(v1::transient::Body::MessageDelta(delta)),
            };
            self.up
                .send(message(Up::Transient(piece)))
                .await
                .context("the link has ended")?;
        }
        Ok(())
    }

    /// How many records may be sent now; waits until it is one.
    async fn room(&mut self) -> Result<usize> {
        let sent = self.sent;
        let standing = self
            .standing
            .wait_for(|now| now.acked + now.credit > sent)
            .await
            .context("the link has ended")?;
        usize::try_from(standing.acked + standing.credit - sent).context("a credit")
    }

    /// Sends one event of any kind.
    pub async fn record(&mut self, body: v1::event::Body) -> Result<()> {
        self.room().await?;
        self.records(vec![body]).await
    }

    async fn records(&mut self, bodies: Vec<v1::event::Body>) -> Result<()> {
        let now = time_to_pb(SystemClock::shared().now());
        let previous = self.sent;
        let records = bodies.into_iter().map(|body| {
            self.sent += 1;
            let event = v1::Event {
                session_id: self.id.clone(),
                origin: v1::Origin::Harness.into(),
                origin_time: Some(now),
                body: Some(body),
                ..Default::default()
            };
            let event = event.encode_to_vec();
            self.bytes += event.len() as u64;
            LinkRecord {
                origin_seq: self.sent,
                events: vec![event.into()],
                time: Some(now),
                ..Default::default()
            }
        });
        let records = pb::Records {
            records: records.collect(),
            session_id: self.id.clone(),
            origin_epoch: ORIGIN_EPOCH,
            // Before the first there is none.
            previous_origin_epoch: if previous == 0 { 0 } else { ORIGIN_EPOCH },
            previous_origin_seq: previous,
        };
        self.up
            .send(message(Up::Records(records)))
            .await
            .context("the link has ended")
    }

    /// Ends it, as an agent that is done, and waits until the server knows.
    pub async fn end(&mut self) -> Result<()> {
        let end = v1::EndInfo {
            reason: v1::EndReason::Completed.into(),
            ..Default::default()
        };
        self.record(v1::event::Body::Ended(v1::Ended { end: Some(end) }))
            .await?;
        self.settle(0).await
    }

    /// Records that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of the events that were sent, as they are encoded.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records that were acknowledged.
    pub fn acked(&self) -> u64 {
        self.standing.borrow().acked
    }

    /// Waits until no more than `most` records are sent and not acknowledged.
    pub async fn settle(&mut self, most: u64) -> Result<()> {
        let sent = self.sent;
        self.standing
            .wait_for(|now| now.acked + most >= sent)
            .await
            .context("the link has ended")?;
        Ok(())
    }
}

async fn channel(to: &Address) -> Result<Channel> {
    Ok(to
        .endpoint()?
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await?)
}

fn bearer<T>(request: &mut tonic::Request<T>, token: &Secret) -> Result<()> {
    let value = format!("Bearer {}", token.expose()).parse()?;
    request.metadata_mut().insert("authorization", value);
    Ok(())
}

fn message(body: Up) -> pb::ConnectRequest {
    pb::ConnectRequest { body: Some(body) }
}

fn report(session: &str, last: u64) -> pb::SessionReport {
    pb::SessionReport {
        session_id: session.to_owned(),
        origin_epoch: ORIGIN_EPOCH,
        last_origin_seq: last,
        acked_origin_seq: 0,
        alive: true,
    }
}

fn hello(id: &str, attempt: u64, reports: &[(String, u64)]) -> pb::Hello {
    pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        daemon_id: id.to_owned(),
        boot_generation: 1,
        attempt,
        sessions: reports.iter().map(|(id, last)| report(id, *last)).collect(),
        capabilities: Some(pb::Capabilities {
            hostname: "bench".to_owned(),
            platform: "bench".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            harnesses: vec![v1::Harness {
                name: HARNESS.to_owned(),
                available: true,
                capabilities: Some(v1::HarnessCapabilities {
                    permission: true,
                    queue: true,
                    ..Default::default()
                }),
                ..Default::default()
            }],
            roots: vec!["/".to_owned()],
            max_permission_mode: v1::PermissionMode::Auto.into(),
            max_sessions: 100_000,
            ..Default::default()
        }),
    }
}
