//! A session belongs to one daemon: whatever another one says about it changes nothing.
//!
//! The daemons here are bare links to the real server: they say what no real one would.

use baton::base::id::{CommandId, DaemonId, SessionId};
use baton::base::{Clock as _, Secret, SystemClock};
use baton::domain::command::{CommandBody, CommandOutcome, CommandResult};
use baton::domain::daemon::Offer;
use baton::domain::event::{Event, EventBody, Origin};
use baton::domain::harness::Harness;
use baton::domain::link::{Down, Hello, Position, Record, Records, SessionReport, Up};
use baton::domain::{EndReason, Lifecycle};
use baton::wire::link::{down_from_pb, up_to_pb};
use baton::wire::link_v1::link_service_client::LinkServiceClient;
use baton::wire::link_v1::{ConnectRequest, ConnectResponse, EnrollRequest};
use baton::wire::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};

use crate::support::baton::{Baton, PATIENCE};

/// A link with nothing behind it.
struct Bare {
    id: DaemonId,
    frames: mpsc::Sender<ConnectRequest>,
    stream: Streaming<ConnectResponse>,
}

fn authorized<T>(message: T, token: &Secret) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {}", token.expose());
    let value = value.parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

impl Bare {
    /// Joins and says hello, with the sessions it claims to have.
    async fn join(baton: &Baton, name: &str, offer: Offer, sessions: Vec<SessionReport>) -> Self {
        let join = v1::CreateJoinTokenRequest::default();
        let join = baton.client().create_join_token(join).await.unwrap();
        let channel = Endpoint::from_shared(baton.url()).unwrap();
        let mut client = LinkServiceClient::new(channel.connect().await.unwrap());
        let enroll = EnrollRequest {
            name: name.to_owned(),
            hostname: name.to_owned(),
            nonce: format!("{name:-<32}").into_bytes().into(),
        };
        let enrolled = client
            .enroll(authorized(enroll, &Secret::new(join.secret)))
            .await
            .unwrap()
            .into_inner();
        let id: DaemonId = enrolled.daemon_id.parse().unwrap();
        let (frames, outgoing) = mpsc::channel(16);
        let hello = Up::Hello(Box::new(Hello {
            protocol_min: 1,
            protocol_max: 1,
            daemon_id: id,
            boot_generation: 1,
            attempt: 1,
            offer,
            sessions,
        }));
        frames.send(up_to_pb(&hello)).await.unwrap();
        let connect = authorized(
            ReceiverStream::new(outgoing),
            &Secret::new(enrolled.credential),
        );
        let stream = client.connect(connect).await.unwrap().into_inner();
        Bare { id, frames, stream }
    }

    async fn say(&self, frame: &Up) {
        self.frames.send(up_to_pb(frame)).await.unwrap();
    }

    /// What the server says next that `pick` takes.
    async fn hear<T>(&mut self, what: &str, mut pick: impl FnMut(Down) -> Option<T>) -> T {
        let heard = async {
            loop {
                let frame = self.stream.message().await.unwrap();
                let frame = frame.unwrap_or_else(|| panic!("{what}: the server ended the stream"));
                if let Some(picked) = pick(down_from_pb(frame).unwrap()) {
                    return picked;
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        heard.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
    }

    /// Says how a command ended, and waits until the server has done with it.
    async fn result(&mut self, session_id: SessionId, id: CommandId, outcome: CommandOutcome) {
        self.say(&Up::CommandResult(CommandResult {
            command_id: id,
            session_id,
            outcome,
            reason: "so it is said".to_owned(),
            code: String::new(),
        }))
        .await;
        self.hear("the result is settled", |frame| match frame {
            Down::ResultAck { command_id, .. } if command_id == id => Some(()),
            _ => None,
        })
        .await;
    }

    /// Says something about a session.
    async fn record(&self, session_id: SessionId, text: &str) {
        let now = SystemClock.now();
        let body = EventBody::Notice {
            kind: "test".to_owned(),
            text: text.to_owned(),
        };
        let record = Record {
            output: None,
            origin_seq: 1,
            events: vec![Event::new(session_id, Origin::Harness, now, body).into()],
            gap: None,
            time: now,
            size_bytes: 10,
        };
        self.say(&Up::Records(Records {
            session_id,
            origin_epoch: 1,
            previous: Position::default(),
            records: vec![record],
        }))
        .await;
    }
}

fn report(session_id: SessionId) -> SessionReport {
    SessionReport {
        session_id,
        origin_epoch: 1,
        last_origin_seq: 1,
        acked_origin_seq: 0,
        alive: true,
    }
}

async fn session(baton: &Baton, id: SessionId) -> v1::Session {
    let request = v1::GetSessionRequest {
        session_id: id.to_string(),
    };
    let answer = baton.client().get_session(request).await.unwrap();
    answer.session.unwrap()
}

/// A daemon that offers something to run, linked.
async fn owner(baton: &Baton) -> Bare {
    let offer = Offer {
        harnesses: vec![Harness {
            name: "demo".to_owned(),
            available: true,
            ..Harness::default()
        }],
        roots: vec![baton.project().to_string_lossy().into_owned()],
        max_sessions: 9,
        ..Offer::default()
    };
    let mut owner = Bare::join(baton, "owner", offer, Vec::new()).await;
    owner
        .hear("a welcome", |frame| {
            matches!(frame, Down::Welcome(_)).then_some(())
        })
        .await;
    owner
}

#[tokio::test]
async fn what_another_daemon_says_about_a_session_changes_nothing() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let mut owner = owner(&baton).await;
    let made = baton.session("demo", "").await;
    let id: SessionId = made.id.parse().unwrap();
    assert_eq!(made.daemon_id, owner.id.to_string());
    let start = owner
        .hear("its start", |frame| match frame {
            Down::Command(command) if matches!(command.body, CommandBody::Start(_)) => {
                Some(command.id)
            }
            _ => None,
        })
        .await;

    // Another claims it at once, then speaks of it, and answers a command it was never given.
    let mut thief = Bare::join(&baton, "thief", Offer::default(), vec![report(id)]).await;
    let foreign = thief
        .hear("a welcome", |frame| match frame {
            Down::Welcome(welcome) => Some((welcome.sessions.len(), welcome.foreign)),
            _ => None,
        })
        .await;
    assert_eq!(foreign, (0, vec![id]));
    let before = baton.events(&made.id).await;
    thief.say(&Up::SessionReport(report(id))).await;
    thief.record(id, "stolen").await;
    for outcome in [CommandOutcome::Applied, CommandOutcome::Rejected] {
        thief.result(id, start, outcome).await;
    }
    assert_eq!(baton.events(&made.id).await, before);
    let now = session(&baton, id).await;
    assert_eq!(now.lifecycle(), v1::Lifecycle::Pending);
    assert_eq!(now.daemon_id, owner.id.to_string());

    // The thief's end is not the session's: its link is another's.
    drop(thief);
    owner.say(&Up::SessionReport(report(id))).await;
    owner.result(id, start, CommandOutcome::Applied).await;
    // A second outcome of the same command is late, whatever it says.
    owner.result(id, start, CommandOutcome::Rejected).await;
    owner.record(id, "mine").await;
    let seen = baton
        .wait_for(
            &made.id,
            "the owner's word",
            |body| matches!(body, EventBody::Notice { text, .. } if text == "mine"),
        )
        .await;
    let log = baton.events(&made.id).await;
    let lifecycles: Vec<_> = log
        .iter()
        .filter_map(|event| match event.body {
            EventBody::LifecycleChanged { to, .. } => Some(to),
            EventBody::LinkChanged { .. } => panic!("its daemon was never away: {log:#?}"),
            _ => None,
        })
        .collect();
    assert_eq!(lifecycles, [Lifecycle::Starting, Lifecycle::Running]);
    assert_eq!(seen.session_id, id);
}

#[tokio::test]
async fn a_session_that_has_not_begun_is_canceled_with_its_daemon() {
    let mut baton = Baton::new();
    baton.start_server().await;
    let owner = owner(&baton).await;
    let made = baton.session("demo", "").await;
    let remove = v1::RemoveDaemonRequest {
        daemon_id: owner.id.to_string(),
        force: true,
    };
    baton.client().remove_daemon(remove).await.unwrap();
    let end = baton
        .wait_for(&made.id, "its end", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    match end.body {
        EventBody::Ended { end } => assert_eq!(end.reason, EndReason::Canceled),
        other => panic!("{other:?}"),
    }
}
