//! The life of a runner: start the harness, hold its pipes, see its end, wait to be released.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fault;
use super::input::{Input, Sink};
use super::ladder::{Ladder, StopJob, plain_stop};
use super::ledger::{Ledger, SPAWN_ID};
use super::pipes::record_pipe;
use super::pty;
use super::recorder::Recorder;
use super::socket::{self, Control, Harness, SOCKET_FILE};
use super::spec::{MARKER_VARIABLE, SESSION_VARIABLE, Spec};
use crate::daemon::kin;
use crate::daemon::spool::Spool;
use crate::wire::runner_v1::{Exited, Pipe, Spawned, spool_record::Body};

/// Name of the file whose lock a living runner holds.
pub const LOCK_FILE: &str = "runner.lock";
/// Name of the spool's directory.
pub const SPOOL_DIR: &str = "spool";
/// Most writes that wait for the harness; more are refused.
const MAX_WRITES: usize = 256;
/// Most stops that wait to be noted; more are refused.
const MAX_STOPS: usize = 16;
/// How often a runner looks whether its directory is still there.
const LOOK_AROUND: Duration = Duration::from_secs(5);
/// How long what the harness left running may take to end by itself, and then after SIGTERM.
const LEFTOVER_GRACE: Duration = Duration::from_millis(300);
const LEFTOVER_TERM: Duration = Duration::from_secs(2);

/// Runs in `dir`, which is the working directory already, and returns when all is over.
pub async fn hold(ready: impl io::Write) -> io::Result<()> {
    let lock = File::create(LOCK_FILE)?;
    lock.try_lock()
        .map_err(|error| io::Error::other(format!("another runner holds this session: {error}")))?;
    let spec = Spec::read(Path::new("."))?;
    // Fails where a runner was before: a session's harness is started once.
    let mut ledger = Ledger::create(Path::new("."))?;
    let recorder = Arc::new(Recorder::new(Spool::create(
        Path::new(SPOOL_DIR),
        spec.spool_bytes,
    )?));
    let listener = socket::listen(Path::new(SOCKET_FILE))?;
    ledger.intend(SPAWN_ID, &Default::default())?.sync_data()?;

    let (input, writes) = mpsc::channel(MAX_WRITES);
    let (stops, stop_jobs) = mpsc::channel(MAX_STOPS);
    let control = Arc::new(Control {
        recorder: recorder.clone(),
        input,
        stops,
        harness: watch::Sender::new(Harness::default()),
        released: watch::Sender::new(false),
        window: watch::Sender::new(None),
        connections: watch::Sender::new(0),
    });
    let mut jobs = JoinSet::new();
    jobs.spawn(socket::accept(listener, control.clone()));
    let syncing = recorder.clone();
    jobs.spawn(async move { syncing.keep_synced().await });
    tell_ready(ready);

    let abandoned = Arc::new(Mutex::new(None));
    let ledger = Arc::new(Mutex::new(ledger));
    fault::point(fault::BEFORE_SPAWN);
    match spawn(&spec) {
        Err(message) => {
            let exited = Exited {
                message,
                ..Exited::default()
            };
            // What comes down the socket now is answered as for any harness that has ended.
            let ended = CancellationToken::new();
            ended.cancel();
            let input = Input {
                stdin: None,
                ledger: ledger.clone(),
                recorder: recorder.clone(),
                close: ended.clone(),
                busy: Arc::default(),
                rest: Default::default(),
            };
            jobs.spawn(input.run(writes));
            jobs.spawn(
                ladder(0, &ledger, &control, &ended, &ended, &Arc::default(), false).run(stop_jobs),
            );
            recorder.append(Body::Exited(exited)).await;
        }
        Ok(harness) => {
            fault::point(fault::AFTER_SPAWN);
            let watched = watch_over(&control, spec.orphan_after(), abandoned.clone());
            let life = live(
                harness, &spec, &control, &ledger, writes, stop_jobs, &mut jobs,
            );
            let life = async {
                let exited = life.await;
                let message = abandoned.lock().clone().unwrap_or(exited.message);
                recorder
                    .append(Body::Exited(Exited { message, ..exited }))
                    .await;
            };
            tokio::select! {
                () = life => {}
                // It only asks for the end; the life above sees it.
                () = watched => {}
            }
        }
    }
    recorder.sync().await;
    control.harness.send_modify(|harness| harness.alive = false);

    if abandoned.lock().is_none() {
        linger(&control, spec.orphan_after()).await;
    }
    jobs.shutdown().await;
    let _ = std::fs::remove_file(SOCKET_FILE);
    Ok(())
}

fn ladder(
    pid: i32,
    ledger: &Arc<Mutex<Ledger>>,
    control: &Control,
    close: &CancellationToken,
    ended: &CancellationToken,
    step: &Arc<Mutex<&'static str>>,
    has_terminal: bool,
) -> Ladder {
    Ladder {
        pid,
        ledger: ledger.clone(),
        recorder: control.recorder.clone(),
        input: control.input.clone(),
        close: close.clone(),
        step: step.clone(),
        has_terminal,
        ended: ended.clone(),
    }
}

/// The one who started the runner waits for this line.
fn tell_ready(mut ready: impl io::Write) {
    let _ = ready.write_all(b"ready\n");
    let _ = ready.flush();
}

/// A harness that was started, with its pipes or with a terminal.
enum Running {
    Pipes(Child),
    Terminal(pty::Started),
}

fn spawn(spec: &Spec) -> Result<Running, String> {
    let program = &spec.argv[0];
    match std::fs::metadata(&spec.cwd) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(format!("the working directory {} is not one", spec.cwd)),
        Err(error) => return Err(format!("the working directory {}: {error}", spec.cwd)),
    }
    if let Some(window) = spec.window {
        return pty::spawn(spec, window)
            .map(Running::Terminal)
            .map_err(|error| format!("{program} could not be started: {error}"));
    }
    Command::new(program)
        .args(&spec.argv[1..])
        .current_dir(&spec.cwd)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(MARKER_VARIABLE, &spec.marker)
        .env(SESSION_VARIABLE, &spec.session_id)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Running::Pipes)
        .map_err(|error| format!("{program} could not be started: {error}"))
}

/// The harness from its start to its end; says how it ended.
async fn live(
    harness: Running,
    spec: &Spec,
    control: &Arc<Control>,
    ledger: &Arc<Mutex<Ledger>>,
    writes: mpsc::Receiver<super::input::Job>,
    stops: mpsc::Receiver<StopJob>,
    jobs: &mut JoinSet<()>,
) -> Exited {
    let recorder = &control.recorder;
    let (mut child, terminal) = match harness {
        Running::Pipes(child) => (child, None),
        Running::Terminal(started) => {
            let terminal = (started.read, started.write, started.window);
            (started.child, Some(terminal))
        }
    };
    let has_terminal = terminal.is_some();
    let pid = child.id().unwrap_or(0);
    control.harness.send_replace(Harness { pid, alive: true });
    recorder.append(Body::Spawned(Spawned { pid })).await;

    let close = CancellationToken::new();
    let ended = CancellationToken::new();
    let give_up = CancellationToken::new();
    let step = Arc::new(Mutex::new("none"));
    let busy = Arc::new(AsyncMutex::new(()));
    let mut pipes = JoinSet::new();
    let stdin: Option<Sink> = match terminal {
        Some((read, write, window)) => {
            jobs.spawn(pty::follow_size(window, control.window.subscribe()));
            pipes.spawn(pty::record(read, recorder.clone(), give_up.clone()));
            Some(Box::new(write))
        }
        None => child.stdin.take().map(|stdin| Box::new(stdin) as Sink),
    };
    let input = Input {
        stdin,
        ledger: ledger.clone(),
        recorder: recorder.clone(),
        close: close.clone(),
        busy: busy.clone(),
        rest: Default::default(),
    };
    jobs.spawn(input.run(writes));
    jobs.spawn(
        ladder(
            pid as i32,
            ledger,
            control,
            &close,
            &ended,
            &step,
            has_terminal,
        )
        .run(stops),
    );
    jobs.spawn(reap(pid as i32));

    let part = spec.part_bytes;
    if let Some(pipe) = child.stdout.take() {
        let (recorder, give_up) = (recorder.clone(), give_up.clone());
        pipes.spawn(record_pipe(pipe, Pipe::Stdout, part, recorder, give_up));
    }
    if let Some(pipe) = child.stderr.take() {
        let (recorder, give_up) = (recorder.clone(), give_up.clone());
        pipes.spawn(record_pipe(pipe, Pipe::Stderr, part, recorder, give_up));
    }

    let status = child.wait().await;
    // From here on the id may be another's.
    ended.cancel();
    close.cancel();
    // What the harness started and left has no owner any more. All of it descends from this process.
    let me = std::process::id() as i32;
    let left = || kin::descendants(me);
    let deadline = tokio::time::Instant::now() + LEFTOVER_GRACE;
    while !left().is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone = kin::end_all(left, LEFTOVER_TERM).await;
    give_up.cancel();
    while pipes.join_next().await.is_some() {}
    // A write that was under way is recorded first.
    let _quiet = busy.lock().await;
    let step = *step.lock();
    describe(status, step, gone)
}

fn describe(status: io::Result<ExitStatus>, step: &str, gone: bool) -> Exited {
    use std::os::unix::process::ExitStatusExt as _;
    let mut message = String::new();
    if !gone {
        message = "some processes that it started could not be ended".to_owned();
    }
    let (code, signal) = match status {
        Ok(status) => (status.code(), status.signal().unwrap_or(0)),
        Err(error) => {
            message = format!("its exit status could not be read: {error}");
            (None, 0)
        }
    };
    Exited {
        code,
        signal,
        step: step.to_owned(),
        message,
    }
}

/// Buries what the harness's descendants left to this process, but never the harness itself.
async fn reap(harness: i32) {
    let Ok(mut deaths) = signal(SignalKind::child()) else {
        return;
    };
    while deaths.recv().await.is_some() {
        for pid in kin::dead_children(std::process::id() as i32) {
            if pid != harness {
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        // Many deaths, one look.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Asks for the end when no daemon came for `patience`, or when the machine goes down; never returns.
async fn watch_over(control: &Control, patience: Duration, why: Arc<Mutex<Option<String>>>) {
    let mut term = signal(SignalKind::terminate()).ok();
    let told = async {
        match &mut term {
            Some(term) => {
                term.recv().await;
            }
            None => std::future::pending().await,
        }
    };
    let (message, stop) = tokio::select! {
        () = alone_for(control, patience) => (
            format!("no daemon came for {} s", patience.as_secs()),
            plain_stop(Duration::from_secs(10), Duration::from_secs(5)),
        ),
        () = told => (
            "its runner was told to end".to_owned(),
            plain_stop(Duration::from_secs(1), Duration::from_secs(2)),
        ),
        () = unreachable() => (
            "its session's directory is gone".to_owned(),
            plain_stop(Duration::from_secs(1), Duration::from_secs(2)),
        ),
    };
    super::log(&message);
    *why.lock() = Some(message);
    let _ = control.stops.send((stop, None)).await;
    std::future::pending::<()>().await;
}

/// Returns when the session's directory was removed: nobody can ever come again.
async fn unreachable() {
    while tokio::fs::try_exists(SOCKET_FILE).await.unwrap_or(true) {
        tokio::time::sleep(LOOK_AROUND).await;
    }
}

/// Returns when there was no connection for `patience`.
async fn alone_for(control: &Control, patience: Duration) {
    let mut connections = control.connections.subscribe();
    loop {
        let somebody = *connections.borrow_and_update() > 0;
        if somebody {
            if connections.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(patience) => return,
            _ = connections.changed() => {}
        }
    }
}

/// Stays until a daemon has everything, or none came for `patience`.
async fn linger(control: &Control, patience: Duration) {
    let mut released = control.released.subscribe();
    let mut term = signal(SignalKind::terminate()).ok();
    let told = async {
        match &mut term {
            Some(term) => {
                term.recv().await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = released.wait_for(|released| *released) => {}
        () = alone_for(control, patience) => {}
        () = told => {}
        () = unreachable() => {}
    }
}
