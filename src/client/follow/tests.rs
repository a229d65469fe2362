//! Against a real gRPC server with a scripted log.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::base::{Secret, Timestamp};
use crate::client::ServerAddress;
use crate::domain::EventBody;
use crate::domain::event::Origin;
use crate::wire::EventBatch;
use crate::wire::event::event_to_pb;
use crate::wire::v1::event_service_server::{EventService, EventServiceServer};
use crate::wire::v1::watch_response::Body;

/// What one call of Watch answers, and what it ends with.
type Answer = (Vec<Body>, Option<Status>);

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(u64, u64)>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Script {
    async fn list_events(
        &self,
        _: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        // Slower than any deadline.
        std::future::pending().await
    }

    type WatchStream = Responses<v1::WatchResponse>;
    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let token = request.metadata().get("authorization");
        self.tokens.lock().push(
            token
                .map(|t| t.to_str().unwrap().to_owned())
                .unwrap_or_default(),
        );
        let Some(v1::scope::Scope::Session(scope)) = request.into_inner().scopes.remove(0).scope
        else {
            return Err(Status::invalid_argument("scope"));
        };
        self.asked.lock().push((scope.log_epoch, scope.after_seq));
        let Some((bodies, end)) = self.answers.lock().pop_front() else {
            return Err(Status::not_found("the script is over"));
        };
        let bodies = bodies
            .into_iter()
            .map(|body| {
                Ok(v1::WatchResponse {
                    scope: 0,
                    body: Some(body),
                })
            })
            .chain(end.map(Err));
        Ok(Response::new(Box::pin(tokio_stream::iter(
            bodies.collect::<Vec<_>>(),
        ))))
    }

    async fn search_events(
        &self,
        _: Request<v1::SearchEventsRequest>,
    ) -> Result<Response<v1::SearchEventsResponse>, Status> {
        Err(Status::unimplemented("search"))
    }

    type GetContentStream = Responses<v1::GetContentResponse>;
    async fn get_content(
        &self,
        _: Request<v1::GetContentRequest>,
    ) -> Result<Response<Self::GetContentStream>, Status> {
        Err(Status::unimplemented("content"))
    }
}

struct Server {
    address: SocketAddr,
    job: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.job.abort();
    }
}

async fn serve(script: Script) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let job = tokio::spawn(async move {
        tonic::transport::Server::builder()
            .add_service(EventServiceServer::new(script))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Server { address, job }
}

fn session() -> SessionId {
    SessionId::from_bits(7)
}

fn events(seqs: impl IntoIterator<Item = u64>) -> Body {
    let events: Vec<_> = seqs
        .into_iter()
        .map(|seq| {
            let body = EventBody::Output {
                text: seq.to_string(),
                continues: false,
            };
            let mut event = Event::new(session(), Origin::Daemon, Timestamp::EPOCH, body);
            event.seq = seq;
            event_to_pb(&event)
        })
        .collect();
    Body::Events(EventBatch::from_events(&events))
}

fn started(head: u64) -> Body {
    Body::Started(v1::WatchStarted {
        log_epoch: 3,
        head,
        first: 1,
    })
}

fn progress(through: u64) -> Body {
    Body::Progress(v1::WatchProgress { through })
}

async fn follow(script: &Script, options: FollowOptions) -> (Server, Follow) {
    let server = serve(script.clone()).await;
    let address =
        ServerAddress::new(format!("http://{}", server.address)).with_token(Secret::new("bt_test"));
    let follow = Client::connect(address)
        .await
        .unwrap()
        .follow(session(), options);
    (server, follow)
}

/// Follows until the script is over, and says what was seen.
async fn run(script: &Script, options: FollowOptions) -> (Vec<String>, Error, Cursor) {
    let (_server, mut follow) = follow(script, options).await;
    let mut seen = Vec::new();
    loop {
        match follow.next().await {
            Ok(Followed::Event(event)) => seen.push(event.seq.to_string()),
            Ok(Followed::Truncated { oldest }) => seen.push(format!("truncated {oldest}")),
            Ok(Followed::Lost { .. }) => seen.push("lost".to_owned()),
            Ok(_) => {}
            Err(error) => return (seen, error, follow.cursor()),
        }
    }
}

fn script(answers: impl IntoIterator<Item = Answer>) -> Script {
    Script {
        answers: Arc::new(Mutex::new(answers.into_iter().collect())),
        ..Script::default()
    }
}

#[tokio::test]
async fn a_lost_stream_goes_on_at_the_last_seq_without_duplicates() {
    let script = script([
        (
            vec![started(9), events(1..=3)],
            Some(Status::unavailable("going away")),
        ),
        // A server that repeats itself is not believed twice.
        (vec![started(9), events(2..=5)], None),
        (vec![started(9), events(6..=6)], None),
    ]);
    let (seen, error, cursor) = run(&script, FollowOptions::default()).await;
    assert_eq!(seen, ["1", "2", "3", "lost", "4", "5", "lost", "6", "lost"]);
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(
        cursor,
        Cursor {
            log_epoch: 3,
            seq: 6
        }
    );
    assert_eq!(*script.asked.lock(), [(0, 0), (3, 3), (3, 5), (3, 6)]);
    assert!(
        script
            .tokens
            .lock()
            .iter()
            .all(|token| token == "Bearer bt_test")
    );
}

#[tokio::test]
async fn a_hole_is_asked_for_once_more_and_then_an_error() {
    let script = script([
        (vec![started(9), events([1, 2, 5])], None),
        (vec![started(9), events([3]), progress(4)], None),
        (vec![started(9), events([5])], None),
    ]);
    let (seen, error, _) = run(&script, FollowOptions::default()).await;
    assert_eq!(seen, ["1", "2", "lost", "3", "lost"]);
    assert_eq!(error.code(), Code::InternalError);
    assert!(error.message().contains("events 4 to 4"), "{error}");
}

#[tokio::test]
async fn what_retention_removed_is_said() {
    let truncated = Body::Truncated(v1::WatchTruncated {
        oldest_seq: 10,
        log_epoch: 3,
    });
    let script = script([(
        vec![started(12), events([1]), truncated, events([10, 11])],
        None,
    )]);
    let (seen, _, cursor) = run(&script, FollowOptions::default()).await;
    assert_eq!(seen, ["1", "truncated 10", "10", "11", "lost"]);
    assert_eq!(cursor.seq, 11);
}

#[tokio::test]
async fn a_filter_may_leave_events_out_and_progress_moves_the_cursor() {
    let script = script([(vec![started(9), events([2, 7]), progress(9)], None)]);
    let options = FollowOptions {
        kinds: vec![EventKind::Output],
        ..Default::default()
    };
    let (seen, _, cursor) = run(&script, options).await;
    assert_eq!(seen, ["2", "7", "lost"]);
    assert_eq!(cursor.seq, 9);
}

#[tokio::test]
async fn a_tail_starts_at_the_end_and_resumes_there() {
    let script = script([
        (vec![started(9)], None),
        (vec![started(10), events([10])], None),
    ]);
    let options = FollowOptions {
        tail: true,
        ..Default::default()
    };
    let (seen, _, _) = run(&script, options).await;
    assert_eq!(seen, ["lost", "10", "lost"]);
    assert_eq!(script.asked.lock()[1], (3, 9));
}

#[tokio::test]
async fn an_event_that_must_be_understood_stops_the_follow() {
    let mut unknown = v1::Event {
        seq: 1,
        session_id: session().to_string(),
        origin: 1,
        ..Default::default()
    };
    let batch = |event: &v1::Event| Body::Events(EventBatch::from_events([event]));
    let stopped = script([(vec![started(1), batch(&unknown)], None)]);
    let (seen, error, _) = run(&stopped, FollowOptions::default()).await;
    assert_eq!((seen.len(), error.code()), (0, Code::InvalidInput));
    unknown.may_ignore = true;
    let skipped = script([(vec![started(1), batch(&unknown)], None)]);
    assert_eq!(
        run(&skipped, FollowOptions::default()).await.0,
        ["1", "lost"]
    );
}

#[tokio::test]
async fn the_server_may_vanish_and_come_back_on_its_port() {
    let script = script([
        (vec![started(2), events([1])], None),
        (vec![started(2), events([2])], None),
    ]);
    let (server, mut follow) = follow(&script, FollowOptions::default()).await;
    while !matches!(follow.next().await.unwrap(), Followed::Event(_)) {}
    let address = server.address;
    drop(server);
    // The next step says that the stream is lost; while nobody listens, more of them follow.
    assert!(matches!(
        follow.next().await.unwrap(),
        Followed::Lost { .. }
    ));
    let back = loop {
        // The old listener is closed when its task has ended.
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let script = script.clone();
    let job = tokio::spawn(async move {
        tonic::transport::Server::builder()
            .add_service(EventServiceServer::new(script))
            .serve_with_incoming(TcpListenerStream::new(back))
            .await
            .unwrap();
    });
    let event = loop {
        if let Followed::Event(event) = follow.next().await.unwrap() {
            break event;
        }
    };
    assert_eq!(event.seq, 2);
    job.abort();
}

#[tokio::test]
async fn nobody_there_is_said_with_a_hint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let address = ServerAddress::new(&url);
    let error = Client::connect(address.clone()).await.err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("baton up"), "{error}");
    let client = Client::lazy(address).unwrap();
    let error = client
        .get_server_info(v1::GetServerInfoRequest {})
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.effect()),
        (Code::Unavailable, crate::base::Effect::NotDone)
    );
    assert!(
        error.message().contains(&url) && error.message().contains("baton up"),
        "{error}"
    );
    let error = client
        .follow(session(), FollowOptions::default())
        .next()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_call_ends_by_its_deadline() {
    let server = serve(Script::default()).await;
    let client = Client::connect(ServerAddress::new(format!("http://{}", server.address)))
        .await
        .unwrap()
        .with_deadline(Duration::from_millis(50));
    let error = client
        .list_events(v1::ListEventsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Timeout, "{error}");
    assert_eq!(error.effect(), crate::base::Effect::MaybeDone);
}

#[test]
fn pauses_grow_to_a_bound_and_are_jittered() {
    assert_eq!(pause(0, 1.0), FIRST_PAUSE);
    assert_eq!(pause(1, 0.5), FIRST_PAUSE);
    assert_eq!(pause(40, 1.0), LONGEST_PAUSE);
    assert_eq!(pause(40, 0.0), Duration::ZERO);
}
