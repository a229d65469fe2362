//! What the runner promises, tried on the real binary.

use std::collections::HashSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton::daemon::kin;
use baton::daemon::runner::client::{self, Connection};
use baton::daemon::runner::{Ledger, SOCKET_FILE, SPOOL_DIR, Spec};
use baton::daemon::spool::Spool;
use baton::wire::runner_v1::{
    Exited, Follow, Line, Outcome, Pipe, Release, SpoolRecord, Stop, Trim, Write, WriteOutcome,
    runner_request::Body as Request, runner_response::Body as Response, spool_record::Body,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const BATON: &str = env!("CARGO_BIN_EXE_baton");
const PATIENCE: Duration = Duration::from_secs(60);

/// A session directory with a runner. What is left of it is ended when it is dropped.
struct Held {
    root: tempfile::TempDir,
    spec: Spec,
}

impl Held {
    fn new(script: &str) -> Self {
        Self::of(&["/bin/sh", "-c", script])
    }

    fn of(argv: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
        let env = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
        let spec = Spec::new("ses_test".to_owned(), argv, "/tmp".to_owned(), env);
        Held { root, spec }
    }

    fn dir(&self) -> PathBuf {
        // Longer than the path of a socket may be.
        self.root.path().join("d".repeat(120))
    }

    async fn spawn(&self) {
        fs::create_dir(self.dir()).unwrap();
        fs::set_permissions(self.dir(), fs::Permissions::from_mode(0o700)).unwrap();
        self.spec.write(&self.dir()).unwrap();
        client::spawn(Path::new(BATON), &self.dir()).await.unwrap();
    }

    async fn start(&self) -> Talk {
        self.spawn().await;
        self.talk().await
    }

    async fn talk(&self) -> Talk {
        Talk(client::connect(&self.dir()).await.unwrap())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for process in kin::marked("BATON_RUNNER", &self.spec.marker) {
            process.signal(Signal::SIGKILL);
        }
        // The runner itself carries no marker, but it works in this directory.
        end_runner(&self.dir());
    }
}

/// Ends the runner that works in `dir`, if there is one.
fn end_runner(dir: &Path) {
    if let Some(pid) = runner_in(dir) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The process whose working directory is `dir`.
pub fn runner_in(dir: &Path) -> Option<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir))
}

struct Talk(Connection);

impl Talk {
    async fn send(&mut self, request: Request) {
        self.0.to.send(request).await.unwrap();
    }

    async fn follow(&mut self, after_seq: u64) {
        self.send(Request::Follow(Follow { after_seq })).await;
    }

    async fn next(&mut self) -> Response {
        within(self.0.from.next()).await.unwrap().unwrap()
    }

    async fn record(&mut self) -> SpoolRecord {
        loop {
            if let Response::Record(record) = self.next().await {
                return record;
            }
        }
    }

    async fn outcome(&mut self) -> Outcome {
        loop {
            if let Response::Outcome(outcome) = self.next().await {
                return outcome;
            }
        }
    }

    /// All records to the end of the harness; numbered without a gap after `after`.
    async fn until_the_end(&mut self, after: u64) -> Vec<SpoolRecord> {
        self.follow(after).await;
        let mut records: Vec<SpoolRecord> = Vec::new();
        loop {
            let record = self.record().await;
            if records.is_empty() && record.seq != after + 1 {
                // Still on its way from an earlier place; what was asked for begins after it.
                continue;
            }
            assert_eq!(record.seq, after + 1 + records.len() as u64);
            let ended = matches!(record.body, Some(Body::Exited(_)));
            records.push(record);
            if ended {
                return records;
            }
        }
    }

    async fn until_line(&mut self, text: &str) -> u64 {
        loop {
            let record = self.record().await;
            if let Some(Body::Line(line)) = &record.body
                && line.data == text
            {
                return record.seq;
            }
        }
    }

    async fn release(mut self) {
        self.send(Request::Release(Release {})).await;
    }

    async fn stop(&mut self, id: &str, close_ms: u32, term_ms: u32) {
        self.send(Request::Stop(Stop {
            command_id: id.to_owned(),
            close_ms,
            term_ms,
            ..Stop::default()
        }))
        .await;
    }

    async fn write(&mut self, id: &str, data: &str) {
        self.send(Request::Write(Write {
            command_id: id.to_owned(),
            data: data.to_owned().into(),
            close: false,
            note: format!("note of {id}").into(),
        }))
        .await;
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What came out of a pipe, as one stream with every line ended.
fn stream(records: &[SpoolRecord], pipe: Pipe) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        if let Some(Body::Line(line)) = &record.body
            && line.pipe() == pipe
        {
            bytes.extend_from_slice(&line.data);
            if !line.continues {
                bytes.push(b'\n');
            }
        }
    }
    bytes
}

fn exited(records: &[SpoolRecord]) -> &Exited {
    match &records.last().unwrap().body {
        Some(Body::Exited(exited)) => exited,
        other => panic!("{other:?}"),
    }
}

fn pid_in(line: &Line) -> i32 {
    std::str::from_utf8(&line.data)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

#[tokio::test]
async fn all_output_is_recorded_whole_and_numbered_without_gaps() {
    // Many lines, a line of more than a part, bytes that are no text, and an end without a newline.
    let held = Held::new(
        "seq 1 20000; head -c 2500000 /dev/zero | tr '\\0' 'x'; echo; \
         printf '\\377\\000\\200\\n'; echo problem >&2; printf 'no newline'",
    );
    let mut talk = held.start().await;
    let records = talk.until_the_end(0).await;
    assert!(matches!(records[0].body, Some(Body::Spawned(_))));
    let mut expected = Vec::new();
    for n in 1..=20_000 {
        expected.extend_from_slice(format!("{n}\n").as_bytes());
    }
    expected.extend(std::iter::repeat_n(b'x', 2_500_000));
    expected.extend_from_slice(b"\n\xff\x00\x80\nno newline\n");
    assert!(stream(&records, Pipe::Stdout) == expected);
    assert_eq!(stream(&records, Pipe::Stderr), b"problem\n");
    let end = exited(&records);
    assert_eq!(
        (end.code, end.signal, end.step.as_str()),
        (Some(0), 0, "none")
    );
    talk.release().await;
    eventually("the runner goes when released", || {
        client::lock_dead(&held.dir()).unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_comes_back_at_any_place_reads_the_same_records() {
    let held = Held::new("seq 1 3000; exec 2>&-; read line; seq 3001 6000");
    let mut first = held.start().await;
    let whole = {
        let mut other = held.talk().await;
        first.follow(0).await;
        for _ in 0..700 {
            first.record().await;
        }
        // Gone in the middle, without a word.
        drop(first);
        other.write("cmd_go", "go\n").await;
        other.until_the_end(0).await
    };
    for after in [0, 1, 699, 700, 3_001, whole.len() as u64 - 1] {
        let again = held.talk().await.until_the_end(after).await;
        assert!(again == whole[after as usize..], "after {after}");
    }
    held.talk().await.release().await;
}

#[tokio::test]
async fn the_same_write_happens_once() {
    let held = Held::of(&["/bin/cat"]);
    let mut talk = held.start().await;
    talk.write("cmd_1", "hello\n").await;
    let first = talk.outcome().await;
    assert_eq!(first.outcome(), WriteOutcome::Done);
    talk.write("cmd_1", "hello\n").await;
    assert_eq!(talk.outcome().await, first);
    let mut other = held.talk().await;
    other.write("cmd_1", "hello\n").await;
    assert_eq!(other.outcome().await, first);
    talk.stop("cmd_2", 10_000, 10_000).await;
    let records = talk.until_the_end(0).await;
    assert_eq!(stream(&records, Pipe::Stdout), b"hello\n");
    let notes: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.body {
            Some(Body::Written(written)) => Some((record.seq, written.note.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(notes[0], (first.seq, "note of cmd_1".into()));
    assert_eq!(exited(&records).step, "close");
    // After the end nothing can be written, and that is said.
    talk.write("cmd_3", "more\n").await;
    assert_eq!(talk.outcome().await.outcome(), WriteOutcome::Failed);
    talk.release().await;
}

#[tokio::test]
async fn a_harness_that_does_not_read_blocks_neither_reading_nor_the_stop() {
    let held = Held::new("while :; do echo tick; sleep 0.05; done");
    let mut talk = held.start().await;
    talk.write("cmd_big", &"x".repeat(1 << 20)).await;
    talk.follow(0).await;
    for _ in 0..10 {
        talk.until_line("tick").await;
    }
    talk.stop("cmd_stop", 100, 5_000).await;
    let records = held.talk().await.until_the_end(0).await;
    let end = exited(&records);
    assert_eq!((end.signal, end.step.as_str()), (15, "term"));
    let written = records.iter().find_map(|record| match &record.body {
        Some(Body::Written(written)) if written.command_id == "cmd_big" => Some(written.outcome()),
        _ => None,
    });
    assert_eq!(
        written,
        Some(WriteOutcome::Unknown),
        "some bytes are in the pipe"
    );
    talk.release().await;
}

#[tokio::test]
async fn a_stop_ends_what_ignores_sigterm_and_what_left_its_session() {
    // A grandchild in a session of its own, one that was forked twice and cleared its environment,
    // and a harness that ignores SIGTERM.
    let held = Held::new(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 600' & \
         (setsid env -i /bin/sleep 601 & echo $!); echo ready; while :; do read x || sleep 1; done",
    );
    // The same program, not ours.
    let mut bystander = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let mut talk = held.start().await;
    talk.follow(0).await;
    let mut pids = Vec::new();
    while pids.len() < 2 {
        if let Some(Body::Line(line)) = talk.record().await.body
            && line.data != "ready"
        {
            pids.push(pid_in(&line));
        }
    }
    let children: HashSet<i32> = pids.into_iter().collect();
    assert!(children.iter().all(|pid| is_alive(*pid)));
    talk.stop("cmd_stop", 100, 300).await;
    let records = talk.until_the_end(0).await;
    let end = exited(&records);
    assert_eq!((end.code, end.signal, end.step.as_str()), (None, 9, "kill"));
    assert!(children.iter().all(|pid| !is_alive(*pid)));
    assert!(
        bystander.try_wait().unwrap().is_none(),
        "not ours, so it lives"
    );
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    talk.release().await;
}

#[tokio::test]
async fn what_a_harness_leaves_behind_is_ended_and_its_pipe_given_up() {
    let held = Held::new("setsid sleep 600 & echo $!; echo bye");
    let mut talk = held.start().await;
    let records = within(talk.until_the_end(0)).await;
    let Some(Body::Line(line)) = &records[1].body else {
        panic!("{records:?}");
    };
    assert!(!is_alive(pid_in(line)));
    assert_eq!(exited(&records).code, Some(0));
    talk.release().await;
}

#[tokio::test]
async fn a_full_spool_holds_the_harness_back_and_loses_nothing() {
    let mut held = Held::new(
        "i=0; while [ $i -lt 400 ]; do head -c 4000 /dev/zero | tr '\\0' a; \
         echo; i=$((i+1)); echo $i > progress; done",
    );
    held.spec.cwd = held.root.path().to_str().unwrap().to_owned();
    held.spec.spool_bytes = 256 * 1024;
    let mut talk = held.start().await;
    let progress = held.root.path().join("progress");
    let read = || {
        fs::read_to_string(&progress)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or(0)
    };
    let size = || -> u64 {
        fs::read_dir(held.dir().join(SPOOL_DIR))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    };
    eventually("the spool is full", || size() >= 256 * 1024).await;
    // A pipe of 64 KiB and one read of 64 KiB may be on top of the bound, and no more.
    let most = (256 + 64 + 64 + 64) * 1024 / 4_000;
    let mut last = (read(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(700) {
        if read() != last.0 {
            last = (read(), Instant::now());
        }
        assert!(read() <= most, "the harness is held back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(size() < 400 * 1024);
    // Take and trim, and it goes on to the end.
    talk.follow(0).await;
    let mut records = Vec::new();
    loop {
        let record = talk.record().await;
        let through_seq = record.seq;
        let ended = matches!(record.body, Some(Body::Exited(_)));
        records.push(record);
        if ended {
            break;
        }
        talk.send(Request::Trim(Trim { through_seq })).await;
    }
    let expected = format!("{}\n", "a".repeat(4_000)).repeat(400);
    assert!(stream(&records, Pipe::Stdout) == expected.as_bytes());
    assert!(
        records
            .windows(2)
            .all(|pair| pair[0].seq + 1 == pair[1].seq)
    );
    talk.release().await;
}

#[tokio::test]
async fn without_a_daemon_the_harness_is_ended_after_a_time() {
    let mut held = Held::new("echo up; exec sleep 600");
    held.spec.orphan_ms = 700;
    let mut talk = held.start().await;
    talk.follow(0).await;
    talk.until_line("up").await;
    // While somebody is there it goes on.
    tokio::time::timeout(Duration::from_millis(1_500), talk.record())
        .await
        .unwrap_err();
    drop(talk);
    eventually("the runner is gone", || {
        client::lock_dead(&held.dir()).unwrap().is_some()
    })
    .await;
    let spool = Spool::open(&held.dir().join(SPOOL_DIR), 1 << 20, None).unwrap();
    let mut cursor = baton::daemon::spool::Cursor::after(0);
    let records = spool.read(&mut cursor).unwrap();
    assert!(exited(&records).message.contains("no daemon"));
    assert!(kin::marked("BATON_RUNNER", &held.spec.marker).is_empty());
}

#[tokio::test]
async fn a_killed_runner_loses_nothing_it_recorded_and_its_open_writes_are_known() {
    let held = Held::new("seq 1 5000; exec sleep 600");
    let mut talk = held.start().await;
    let runner = talk.0.status.runner_pid as i32;
    talk.follow(0).await;
    let seen = talk.until_line("5000").await;
    // The pipe is full after 64 KiB, so this write is in its middle.
    talk.write("cmd_1", &"y".repeat(1 << 20)).await;
    eventually("the write has begun", || {
        Ledger::open_intents(&held.dir())
            .unwrap()
            .iter()
            .any(|intent| intent.command_id == "cmd_1")
    })
    .await;
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    eventually("the lock is free", || {
        client::lock_dead(&held.dir()).unwrap().is_some()
    })
    .await;
    let spool = Spool::open(&held.dir().join(SPOOL_DIR), 1 << 20, None).unwrap();
    assert!(spool.last_seq() >= seen);
    let open = Ledger::open_intents(&held.dir()).unwrap();
    assert!(open.iter().any(|intent| intent.note == "note of cmd_1"));
    // What is left is found by its marker.
    let find = || kin::marked("BATON_RUNNER", &held.spec.marker);
    assert!(!find().is_empty());
    assert!(kin::end_all(find, Duration::from_secs(2)).await);
}

#[tokio::test]
async fn damage_in_a_living_spool_is_a_record_that_says_so() {
    let held = Held::new("seq 1 100; exec sleep 600");
    let mut talk = held.start().await;
    talk.follow(0).await;
    let last = talk.until_line("100").await;
    let file = fs::read_dir(held.dir().join(SPOOL_DIR))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    let writer = fs::OpenOptions::new().write(true).open(&file).unwrap();
    std::os::unix::fs::FileExt::write_at(&writer, &bytes[middle..=middle], middle as u64).unwrap();
    let mut other = held.talk().await;
    other.follow(0).await;
    let (mut next, mut gaps) = (1, 0);
    while next <= last {
        let record = other.record().await;
        match record.body {
            Some(Body::Missing(missing)) => {
                assert_eq!(missing.from_seq, next);
                gaps += 1;
                next = missing.to_seq + 1;
            }
            _ => {
                assert_eq!(record.seq, next);
                next += 1;
            }
        }
    }
    assert_eq!(gaps, 1);
    other.stop("cmd_s", 0, 0).await;
}

#[tokio::test]
async fn what_cannot_start_ends_with_a_sentence() {
    let held = Held::of(&["/nonexistent/agent"]);
    let records = held.start().await.until_the_end(0).await;
    assert!(
        exited(&records)
            .message
            .contains("/nonexistent/agent could not be started")
    );
    held.talk().await.release().await;

    let mut held = Held::new("true");
    held.spec.cwd = "/nonexistent".to_owned();
    let records = held.start().await.until_the_end(0).await;
    assert!(
        exited(&records)
            .message
            .contains("working directory /nonexistent")
    );
    held.talk().await.release().await;
}

#[tokio::test]
async fn a_session_is_started_once() {
    let held = Held::new("exec sleep 600");
    let mut talk = held.start().await;
    client::spawn(Path::new(BATON), &held.dir())
        .await
        .unwrap_err();
    talk.stop("cmd_s", 0, 0).await;
    talk.until_the_end(0).await;
    talk.release().await;
    eventually("the runner is gone", || {
        client::lock_dead(&held.dir()).unwrap().is_some()
    })
    .await;
    client::spawn(Path::new(BATON), &held.dir())
        .await
        .unwrap_err();
}

#[tokio::test]
async fn files_and_socket_are_for_the_owner_and_the_environment_is_what_was_given() {
    let mut held = Held::of(&["/usr/bin/env"]);
    held.spec
        .env
        .push(("GIVEN".to_owned(), "secret value".to_owned()));
    // SAFETY of the test: the canary is set for this process only by the runner of the suite, if at all.
    let mut talk = held.start().await;
    let records = talk.until_the_end(0).await;
    let text = String::from_utf8(stream(&records, Pipe::Stdout)).unwrap();
    let names: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|pair| pair.0)
        .collect();
    assert_eq!(
        names,
        HashSet::from(["PATH", "GIVEN", "BATON_RUNNER", "BATON_SESSION_ID"])
    );
    assert!(!format!("{:?}", held.spec).contains("secret value"));
    for file in [SOCKET_FILE, "spec.json", "ledger"] {
        let mode = fs::metadata(held.dir().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    talk.release().await;
}

#[tokio::test]
async fn bad_frames_end_their_connection_only() {
    use tokio::io::AsyncWriteExt as _;
    let held = Held::of(&["/bin/cat"]);
    let mut talk = held.start().await;
    for bad in [
        &b"\xff\xff\xff\xff"[..],
        b"\0\0\0\x04\xff\xff\xff\xff",
        b"\0\0\0\x09half",
    ] {
        // Relative paths are short: the connection goes by the directory's handle.
        let dir = fs::File::open(held.dir()).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
        let mut raw = tokio::net::UnixStream::connect(format!("/proc/self/fd/{fd}/{SOCKET_FILE}"))
            .await
            .unwrap();
        raw.write_all(bad).await.unwrap();
        raw.shutdown().await.unwrap();
    }
    talk.write("cmd_1", "alive\n").await;
    assert_eq!(talk.outcome().await.outcome(), WriteOutcome::Done);
    talk.stop("cmd_2", 5_000, 5_000).await;
    talk.until_the_end(0).await;
    talk.release().await;
}

#[tokio::test]
async fn a_runner_whose_directory_is_gone_ends() {
    let held = Held::new("echo up; exec sleep 600");
    let mut talk = held.start().await;
    let runner = talk.0.status.runner_pid as i32;
    talk.follow(0).await;
    talk.until_line("up").await;
    fs::remove_dir_all(held.dir()).unwrap();
    eventually("the runner is gone", || !is_alive(runner)).await;
    assert!(kin::marked("BATON_RUNNER", &held.spec.marker).is_empty());
}

#[tokio::test]
async fn a_runner_holds_nothing_that_was_open_in_the_one_who_started_it() {
    use std::os::fd::AsRawFd as _;
    let held = Held::new("exec sleep 600");
    let leak = fs::File::create(held.root.path().join("leak")).unwrap();
    // Inherited by every child from here on.
    nix::fcntl::fcntl(
        &leak,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let talk = held.start().await;
    let holds = |pid: u32| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("leak")))
    };
    assert!(holds(std::process::id()) && leak.as_raw_fd() > 2);
    assert!(!holds(talk.0.status.runner_pid));
    assert!(!holds(talk.0.status.pid), "nor does the harness");
}
