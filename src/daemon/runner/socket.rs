//! The runner's socket: who may connect, and what is answered.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream, unix::OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::codec::{read_frame, write_frame};
use super::input::{self, Job};
use super::ladder::StopJob;
use super::recorder::Recorder;
use crate::daemon::spool::Cursor;
use crate::wire::runner_v1::{
    Outcome, Pong, Resize, RunnerRequest, RunnerResponse, Status, Typed, WriteOutcome,
    runner_request::Body as Request, runner_response::Body as Response,
};

/// Name of the socket in the session's directory.
pub const SOCKET_FILE: &str = "runner.sock";
/// The version of the protocol that this runner speaks.
pub const PROTOCOL: u32 = 1;
/// Most connections at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 8;
/// Most answers on their way to one connection; its follower waits when there are more.
const MAX_ANSWERS: usize = 64;

/// The harness as it is now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Harness {
    /// Its process id; 0 before it started.
    pub pid: u32,
    /// Whether it runs.
    pub alive: bool,
}

/// What connections act on.
#[derive(Debug)]
pub struct Control {
    /// The records.
    pub recorder: Arc<Recorder>,
    /// Takes writes.
    pub input: mpsc::Sender<Job>,
    /// Takes stops.
    pub stops: mpsc::Sender<StopJob>,
    /// The harness as it is now.
    pub harness: watch::Sender<Harness>,
    /// Whether the runner may end when the harness has.
    pub released: watch::Sender<bool>,
    /// The size that the harness's terminal is to have; `None` before it was told one.
    pub window: watch::Sender<Option<Resize>>,
    /// How many connections there are.
    pub connections: watch::Sender<usize>,
}

/// Listens in `dir`, which must be the working directory or have a short path.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    let listener = UnixListener::bind(path)?;
    // Until here the directory's mode 0700 protects it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts connections for ever.
pub async fn accept(listener: UnixListener, control: Arc<Control>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                super::log(&format!("a connection could not be accepted: {error}"));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let is_owner = stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == geteuid().as_raw());
        if !is_owner {
            super::log("a connection of another user was refused");
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let control = control.clone();
        connections.spawn(async move {
            control.connections.send_modify(|count| *count += 1);
            let _leaves = Leaves(control.clone());
            let _place = place;
            if let Err(error) = serve(stream, &control).await {
                super::log(&format!("a connection ended: {error}"));
            }
        });
    }
}

struct Leaves(Arc<Control>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0
            .connections
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

async fn serve(stream: UnixStream, control: &Arc<Control>) -> io::Result<()> {
    let (mut from, to) = stream.into_split();
    let (answers, queue) = mpsc::channel(MAX_ANSWERS);
    // Dropped, and with it all its jobs ended, when the connection ends.
    let mut jobs = JoinSet::new();
    jobs.spawn(write_answers(to, queue));
    answer(&answers, Response::Status(status(control))).await;

    let mut follower: Option<tokio::task::AbortHandle> = None;
    while let Some(request) = read_frame::<RunnerRequest>(&mut from).await? {
        while jobs.try_join_next().is_some() {}
        match request.body {
            Some(Request::Follow(follow)) => {
                if let Some(old) = follower.take() {
                    old.abort();
                }
                let job = send_records(control.recorder.clone(), follow.after_seq, answers.clone());
                follower = Some(jobs.spawn(job));
            }
            Some(Request::Trim(trim)) => control.recorder.trim(trim.through_seq),
            Some(Request::Write(write)) => {
                let id = write.command_id.clone();
                let (done, outcome) = oneshot::channel();
                let refused = control.input.try_send(Job::Write(write, done)).is_err();
                let answers = answers.clone();
                jobs.spawn(async move {
                    let outcome = match outcome.await {
                        Ok(outcome) => outcome,
                        Err(_) if refused => input::failed(id, "too many writes wait"),
                        Err(_) => return,
                    };
                    answer(&answers, Response::Outcome(outcome)).await;
                });
            }
            Some(Request::Stop(stop)) => {
                let id = stop.command_id.clone();
                let (done, outcome) = oneshot::channel::<Outcome>();
                let refused = control.stops.try_send((stop, Some(done))).is_err();
                let answers = answers.clone();
                jobs.spawn(async move {
                    let outcome = match outcome.await {
                        Ok(outcome) => outcome,
                        Err(_) if refused => input::failed(id, "too many stops wait"),
                        Err(_) => return,
                    };
                    answer(&answers, Response::Outcome(outcome)).await;
                });
            }
            Some(Request::Type(typed)) => {
                let (id, data) = (typed.id, typed.data);
                let (done, outcome) = oneshot::channel();
                let refused = control.input.try_send(Job::Type(data, done)).is_err();
                let answers = answers.clone();
                jobs.spawn(async move {
                    let (outcome, reason) = match outcome.await {
                        Ok(outcome) => outcome,
                        Err(_) if refused => {
                            (WriteOutcome::Failed, "too many writes wait".to_owned())
                        }
                        Err(_) => return,
                    };
                    let typed = Typed {
                        id,
                        outcome: outcome.into(),
                        reason,
                    };
                    answer(&answers, Response::Typed(typed)).await;
                });
            }
            Some(Request::Resize(size)) => {
                control.window.send_replace(Some(size));
            }
            Some(Request::Release(_)) => {
                control.released.send_replace(true);
            }
            Some(Request::Ping(_)) => answer(&answers, Response::Pong(Pong {})).await,
            // A newer daemon asks for something this runner does not know.
            None => {}
        }
    }
    Ok(())
}

async fn send_records(recorder: Arc<Recorder>, after: u64, answers: mpsc::Sender<RunnerResponse>) {
    let mut cursor = Cursor::after(after);
    let mut last = recorder.watch();
    loop {
        last.mark_unchanged();
        match recorder.read(&mut cursor) {
            Ok(records) if records.is_empty() => {
                if last.changed().await.is_err() {
                    return;
                }
            }
            Ok(records) => {
                for record in records {
                    let body = Some(Response::Record(record));
                    if answers.send(RunnerResponse { body }).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                super::log(&format!("the spool could not be read, trying on: {error}"));
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn write_answers(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<RunnerResponse>) {
    while let Some(response) = queue.recv().await {
        if write_frame(&mut to, &response).await.is_err() {
            return;
        }
    }
}

async fn answer(answers: &mpsc::Sender<RunnerResponse>, body: Response) {
    // The connection may be gone; whoever asks again is answered then.
    let _ = answers.send(RunnerResponse { body: Some(body) }).await;
}

fn status(control: &Control) -> Status {
    let (origin_epoch, first_seq, last_seq) = control.recorder.extent();
    let harness = *control.harness.borrow();
    Status {
        protocol: PROTOCOL,
        origin_epoch,
        first_seq,
        last_seq,
        pid: harness.pid,
        alive: harness.alive,
        runner_pid: std::process::id(),
    }
}
