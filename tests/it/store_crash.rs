//! The local store in processes of its own: killed at any moment, kept out by a lock, stopped by a limit.
//!
//! A child is this test binary again, told by the environment what to do. What it was promised it writes
//! to its standard output, line by line; the parent compares that with what is stored.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use baton::store::conformance::{entries, read_all, rounds, stream};
use baton::store::local::compact::Compaction;
use baton::store::local::{LocalStore, Options, check};
use baton::store::{
    Append, Commit, Contents as _, Durability, Error, Expect, Journal as _, RecordOp, Records as _,
    SharedStore, Trim,
};
use bytes::Bytes;
use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use crate::history::{Fact, History, hash};

const ROLE: &str = "BATON_TEST_STORE_ROLE";
const DIR: &str = "BATON_TEST_STORE_DIR";
const POINT: &str = "BATON_TEST_STORE_POINT";
const PASSES: &str = "BATON_TEST_STORE_PASSES";

/// Streams that a child writes to at once.
const WRITERS: usize = 4;

fn options(dir: &Path) -> Options {
    Options {
        segment_bytes: 64 << 10,
        fill_bytes: 8 << 10,
        cache_bytes: 8 << 20,
        reserve_bytes: 0,
        ..Options::new(dir)
    }
}

// === the child ===

/// Does nothing as a test; as a child it plays its role until it is killed.
#[test]
fn child() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "load" => runtime.block_on(load(options(&dir))),
        "interval" => runtime.block_on(load(Options {
            durability: Durability::Interval(Duration::from_millis(2)),
            ..options(&dir)
        })),
        "hold" => hold(&dir),
        "few" => runtime.block_on(few(&dir)),
        "limit" => runtime.block_on(limit(&dir)),
        other => panic!("there is no role {other}"),
    }
}

fn say(line: &str) {
    // One write a line, so that a kill never leaves half of one that was promised.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .expect("the parent listens");
}

/// Commits as fast as it can, with content beside it, a reader, trims and compaction at once.
async fn load(options: Options) {
    die_at_point();
    let store = Arc::new(LocalStore::open(options).expect("opened"));
    assert_eq!(store.damage(), []);
    let compacting = store.clone();
    std::thread::spawn(move || {
        let compaction = Compaction {
            min_live: 0.8,
            seal_active: true,
        };
        loop {
            compacting
                .compact(&compaction, &mut |_| {})
                .expect("compacted");
        }
    });
    let reader = tokio::spawn(read(store.clone()));
    let keeping = tokio::spawn(keep(store.clone()));
    join_all((0..WRITERS).map(|writer| write(&store, writer))).await;
    keeping.await.expect("never ends");
    reader.await.expect("never ends");
}

#[cfg(feature = "failpoints")]
fn die_at_point() {
    use std::sync::atomic::{AtomicU32, Ordering};

    let Ok(point) = std::env::var(POINT) else {
        return;
    };
    let passes: u32 = std::env::var(PASSES)
        .ok()
        .and_then(|passes| passes.parse().ok())
        .unwrap_or(0);
    let passed = Arc::new(AtomicU32::new(0));
    // A point that the load never comes to is a hole in this test, and must not be one that hangs.
    let watched = (point.clone(), passed.clone());
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread of its own, in a process that is about to be killed"
    )]
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(120));
        let (point, passed) = watched;
        let times = passed.load(Ordering::Relaxed);
        eprintln!("panicked: {point} was passed {times} times in two minutes, not {passes}");
        std::process::exit(1);
    });
    fail::cfg_callback(&point, move || {
        if passed.fetch_add(1, Ordering::Relaxed) == passes {
            let me = nix::unistd::Pid::this();
            let _ = nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL);
            // The signal needs a moment to arrive, and nothing may happen in it.
            loop {
                std::thread::park();
            }
        }
    })
    .expect("a point");
}

#[cfg(not(feature = "failpoints"))]
fn die_at_point() {}

/// What entry `seq` of a stream says.
fn entry(writer: usize, seq: u64) -> Bytes {
    let mut text = format!("{writer} {seq} ");
    let len = (seq * 37 % 400) as usize;
    text.extend(std::iter::repeat_n('.', len));
    text.into()
}

fn name(writer: usize) -> String {
    format!("load/{writer}")
}

/// Appends, sets a record in the same commit, and says what was promised.
async fn write(store: &LocalStore, writer: usize) {
    let stream = stream(&name(writer));
    let key = format!("count/{writer}");
    let head = store.head(&stream).await.expect("readable");
    let mut last = head.map_or(0, |head| head.last_seq);
    let mut revision = store
        .get(&key)
        .await
        .expect("readable")
        .map(|record| record.revision);
    loop {
        let count = last % 3 + 1;
        let next = last + count;
        // Sometimes a large value, which is kept in another way.
        let padding = if next % 16 < 3 { 20_000 } else { 0 };
        let value = format!("{next} {}", "v".repeat(padding));
        let trim = (next % 50 < count && next > 60).then(|| Trim {
            stream: stream.clone(),
            first_seq: next - 40,
            drop: false,
        });
        let appended: Vec<Bytes> = (last + 1..=next).map(|seq| entry(writer, seq)).collect();
        if let Some(trim) = &trim {
            say(&format!("trim {writer} {}", trim.first_seq));
        }
        say(&format!("sent {writer} {} {next}", last + 1));
        let hashes = hashes(&appended);
        let commit = Commit {
            appends: vec![Append {
                stream: stream.clone(),
                expected_last: last,
                fence: 1,
                entries: appended.into(),
                origin: None,
                time: baton::base::Timestamp::from_millis(next as i64),
            }],
            ops: vec![RecordOp {
                key: key.clone(),
                expect: revision.map_or(Expect::Absent, Expect::Revision),
                value: Some(value.into()),
            }],
            trims: trim.into_iter().collect(),
        };
        let done = store.commit(commit).await.expect("committed");
        assert_eq!(done.heads[0].last_seq, next);
        let first = last + 1;
        say(&format!(
            "ack {writer} {first} {next} {} {hashes}",
            done.revision
        ));
        last = next;
        revision = Some(done.revision);
    }
}

/// What stands for entries, as a list.
fn hashes(entries: &[Bytes]) -> String {
    let hashes = entries.iter().map(|entry| hash(&entry[..]).to_string());
    hashes.collect::<Vec<_>>().join(",")
}

/// The stream that refers to content.
const KEPT: &str = "load/kept";

/// Content number `number`, which no other has, and its hash.
fn content(number: u64) -> (Bytes, String) {
    let text = format!("{number} ").repeat(200 + (number % 7) as usize * 300);
    let digest = Sha256::digest(&text);
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    (text.into(), sha256)
}

/// Stages content in pieces, refers to it, and says what was promised.
async fn keep(store: Arc<LocalStore>) {
    const PIECE: usize = 1_000;
    let stream = stream(KEPT);
    let head = store.head(&stream).await.expect("readable");
    let mut last = head.map_or(0, |head| head.last_seq);
    loop {
        let (text, sha256) = content(last + 1);
        let mut is_whole = false;
        for (index, piece) in text.chunks(PIECE).enumerate() {
            let offset = (index * PIECE) as u64;
            let piece = Bytes::copy_from_slice(piece);
            let staged = store.stage(&sha256, text.len() as u64, offset, piece);
            is_whole = staged.await.expect("staged");
        }
        assert!(is_whole);
        let commit = Commit {
            appends: vec![Append {
                stream: stream.clone(),
                expected_last: last,
                fence: 0,
                entries: vec![Bytes::from(sha256.clone())].into(),
                origin: None,
                time: baton::base::Timestamp::EPOCH,
            }],
            ops: vec![store.refer_op(&stream, &sha256)],
            ..Commit::default()
        };
        store.commit(commit).await.expect("committed");
        last += 1;
        say(&format!("kept {last}"));
    }
}

/// Follows the first stream and says what it has seen.
async fn read(store: Arc<LocalStore>) {
    let stream = stream(&name(0));
    let mut watch = store.watch(&stream);
    let mut seen = *watch.borrow_and_update();
    say(&format!("opened {seen}"));
    loop {
        watch.changed().await.expect("the store is there");
        loop {
            match store.read(&stream, seen, 10_000).await {
                Ok(chunks) if chunks.is_empty() => break,
                Ok(chunks) => {
                    let after = seen;
                    let read = entries(after, &chunks);
                    for chunk in chunks {
                        assert_eq!(chunk.first_seq, seen + 1);
                        seen = chunk.last_seq;
                    }
                    say(&format!("saw {} {seen} {}", after + 1, hashes(&read)));
                }
                Err(Error::Truncated { head, .. }) => {
                    say(&format!("truncated {}", head.first_seq));
                    seen = head.first_seq - 1;
                }
                // Before the first commit.
                Err(Error::NoStream { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// How many commits the role `few` makes.
pub const FEW: u64 = 30;

/// Makes a few commits, one after the other, and says each.
async fn few(dir: &Path) {
    // Nothing is filled ahead by another thread, so that each write is a commit's.
    let options = Options {
        fill_bytes: 0,
        ..options(dir)
    };
    let store = LocalStore::open(options).expect("opened");
    for last in 0..FEW {
        let commit = Commit {
            appends: vec![Append {
                stream: stream(&name(0)),
                expected_last: last,
                fence: 0,
                entries: vec![entry(0, last + 1)].into(),
                origin: None,
                time: baton::base::Timestamp::EPOCH,
            }],
            ..Commit::default()
        };
        store.commit(commit).await.expect("committed");
        say(&format!("ack 0 {}", last + 1));
    }
    store.close_blocking().expect("closed");
}

fn hold(dir: &Path) {
    let store = LocalStore::open(options(dir)).expect("opened");
    say("open");
    // Until the parent kills this process.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    drop(store);
}

async fn limit(dir: &Path) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let options = Options {
        segment_bytes: 16 << 20,
        fill_bytes: 64 << 10,
        ..options(dir)
    };
    let store = LocalStore::open(options).expect("opened");
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, 3 << 20, hard).expect("set");
    let a = stream("a");
    let big = |last: u64| Commit {
        appends: vec![Append {
            stream: a.clone(),
            expected_last: last,
            fence: 0,
            entries: vec![Bytes::from(vec![last as u8; 100_000])].into(),
            origin: None,
            time: baton::base::Timestamp::EPOCH,
        }],
        ..Commit::default()
    };
    let mut last = 0;
    let refused = loop {
        match store.commit(big(last)).await {
            Ok(done) => last = done.heads[0].last_seq,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::Full);
    assert_eq!(store.failure(), None);
    assert!((20..32).contains(&last), "{last} commits fit");
    // Still full, still readable, and small ones may fit.
    assert_eq!(store.commit(big(last)).await, Err(Error::Full));
    assert_eq!(
        store
            .head(&a)
            .await
            .expect("readable")
            .map(|head| head.last_seq),
        Some(last)
    );
    assert_eq!(
        store.read(&a, last - 1, 1).await.expect("readable").len(),
        1
    );
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).expect("set");
    for _ in 0..20 {
        last = store
            .commit(big(last))
            .await
            .expect("there is room again")
            .heads[0]
            .last_seq;
    }
    store.close_blocking().expect("closed");
    say(&format!("ack 0 {last} {last} 0 0"));
}

// === the parent ===

fn child_test() -> String {
    let module = module_path!();
    let within = module.split_once("::").map_or("", |(_, rest)| rest);
    format!("{within}::child")
}

/// This program as a child in a role.
pub fn command(role: &str, dir: &Path) -> Command {
    // Children inherit that SIGXFSZ is ignored; setting that needs `unsafe` within a program, so a
    // shell does it.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this binary"))
        .args([&child_test(), "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What children were promised.
struct Promises {
    history: History,
    /// How many children there were: each has a reader of its own.
    children: usize,
    /// Of each writer: the newest acknowledged seq and the revision of its record.
    acked: HashMap<usize, (u64, u64)>,
    /// The newest entry that a reader saw.
    seen: u64,
    /// The newest content that was referred to.
    kept: u64,
    /// The newest content that was found.
    referred: u64,
    lines: usize,
}

impl Promises {
    fn new(name: &str) -> Self {
        Promises {
            history: History::on_disk(name),
            children: 0,
            acked: HashMap::new(),
            seen: 0,
            kept: 0,
            referred: 0,
            lines: 0,
        }
    }

    /// Hears a line, and writes it into the history.
    fn hear(&mut self, line: &str) {
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let numbers = |text: &str| text.split(',').map(number).collect::<Vec<u64>>();
        let log = |writer: &str| name(number(writer) as usize);
        let reader = format!("reader {}", self.children);
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["ack", writer, first, last, revision, hashes] => {
                let promised = (number(last), number(revision));
                self.acked.insert(number(writer) as usize, promised);
                let fact = Fact::Acked {
                    log: log(writer),
                    first: number(first),
                    hashes: numbers(hashes),
                };
                self.history.note("store", fact);
            }
            ["kept", kept] => {
                self.kept = number(kept);
                let fact = Fact::Promised {
                    log: KEPT.to_owned(),
                    item: kept.to_owned(),
                };
                self.history.note("store", fact);
            }
            ["saw", first, last, hashes] => {
                self.seen = number(last);
                for (seq, hash) in (number(first)..).zip(numbers(hashes)) {
                    let log = log("0");
                    self.history.note(&reader, Fact::Saw { log, seq, hash });
                }
                let (log, seq) = (log("0"), self.seen);
                self.history.note(&reader, Fact::ReadTo { log, seq });
            }
            // The following promise nothing, and are not counted.
            ["opened", after] => {
                let (log, after) = (log("0"), number(after));
                return self.history.note(&reader, Fact::Opened { log, after });
            }
            ["truncated", oldest] => {
                let (log, oldest) = (log("0"), number(oldest));
                return self.history.note(&reader, Fact::Truncated { log, oldest });
            }
            ["trim", writer, first] => {
                let (log, first) = (log(writer), number(first));
                return self.history.note("writer", Fact::Trimmed { log, first });
            }
            ["sent", writer, first, last] => {
                let fact = Fact::Sent {
                    log: log(writer),
                    first: number(first),
                    last: number(last),
                };
                return self.history.note("writer", fact);
            }
            _ => return,
        }
        self.lines += 1;
    }
}

/// Listens to a child until it ends, and kills it after `lines` lines.
fn listen(child: &mut Child, lines: Option<usize>, promises: &mut Promises) -> String {
    let out = child.stdout.take().expect("piped");
    let before = promises.lines;
    promises.children += 1;
    for line in BufReader::new(out).split(b'\n') {
        let line = String::from_utf8(line.expect("readable")).expect("text");
        promises.hear(&line);
        if lines.is_some_and(|lines| promises.lines - before == lines) {
            child.kill().expect("killed");
            // What it had said by then is still heard.
        }
    }
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut stderr, &mut errors);
    }
    child.wait().expect("ended");
    errors
}

/// Opens what was left and compares it with what was promised.
async fn verify(dir: &Path, promises: &mut Promises) {
    let store = Arc::new(LocalStore::open(options(dir)).expect("recovered"));
    assert_eq!(store.damage(), []);
    assert_eq!(store.set_apart(), []);
    let shared: SharedStore = store.clone();
    for writer in 0..WRITERS {
        let stream = stream(&name(writer));
        let (acked, acked_revision) = promises.acked.get(&writer).copied().unwrap_or_default();
        let Some(head) = store.head(&stream).await.expect("readable") else {
            assert_eq!(acked, 0, "stream {writer} is gone");
            continue;
        };
        let all = read_all(&shared, &stream, head.first_seq - 1, 10_000)
            .await
            .expect("readable");
        let stored = Fact::Stored {
            log: name(writer),
            epoch: head.log_epoch,
            first: head.first_seq,
            hashes: all.iter().map(|entry| hash(&entry[..])).collect(),
        };
        promises.history.note("store", stored);
        assert!(
            head.last_seq >= acked,
            "{writer}: acknowledged {acked}, stored {}",
            head.last_seq
        );
        if writer == 0 {
            assert!(
                head.last_seq >= promises.seen,
                "seen {} and then gone",
                promises.seen
            );
        }
        // Gapless, in order, nothing twice: every entry says which one it is.
        assert_eq!(all.len() as u64, head.last_seq + 1 - head.first_seq);
        for (found, seq) in all.iter().zip(head.first_seq..) {
            assert_eq!(*found, entry(writer, seq));
        }
        // The record belongs to the same commits.
        let record = store
            .get(&format!("count/{writer}"))
            .await
            .expect("readable")
            .expect("it came with the first entry");
        let text = String::from_utf8(record.value.to_vec()).expect("text");
        let count: u64 = text
            .split(' ')
            .next()
            .and_then(|count| count.parse().ok())
            .expect("a number");
        assert_eq!(count, head.last_seq, "stream and record of writer {writer}");
        assert!(record.revision >= acked_revision);
        assert_eq!(record.revision == acked_revision, count == acked);
    }
    let kept = store.head(&stream(KEPT)).await.expect("readable");
    let kept = kept.map_or(0, |head| head.last_seq);
    assert!(
        kept >= promises.kept,
        "content {} was promised, {kept} is stored",
        promises.kept
    );
    for number in 1..=kept {
        let (text, sha256) = content(number);
        let found = store.read_content(&sha256, 0, 1 << 20).await;
        assert_eq!(found.expect("there"), text, "content {number}");
    }
    let holds = Fact::Holds {
        log: KEPT.to_owned(),
        items: (1..=kept).map(|number| number.to_string()).collect(),
        whole: false,
    };
    for number in promises.referred + 1..=kept {
        let wrote = Fact::Wrote {
            log: KEPT.to_owned(),
            item: number.to_string(),
            may_miss: false,
        };
        promises.history.note("writer", wrote);
    }
    promises.referred = promises.referred.max(kept);
    promises.history.note("store", holds);
    drop(shared);
    store.close_blocking().expect("closed");
    let report = check::check(&options(dir), &mut |_| {}).expect("checked");
    assert_eq!(report.problems, []);
}

async fn crash_loop(role: &str, rounds: u32, seed: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut promises = Promises::new(&format!("store-{role}"));
    for round in 0..rounds {
        let lines = match rng.random_range(0..3) {
            0 => rng.random_range(1..20),
            _ => rng.random_range(1..1_500),
        };
        let mut child = command(role, dir.path()).spawn().expect("started");
        let before = promises.lines;
        let errors = listen(&mut child, Some(lines), &mut promises);
        assert!(promises.lines >= before + lines, "round {round}: {errors}");
        promises.history.note("test", Fact::killed("store"));
        verify(dir.path(), &mut promises).await;
    }
    promises.history.validate_and_tell();
    assert_eq!(promises.history.kills() as u32, rounds);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    crash_loop("load", rounds(20), 1).await;
}

#[tokio::test]
async fn with_an_interval_too() {
    crash_loop("interval", rounds(6), 2).await;
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_at_every_point() {
    use baton::store::local::fault;

    let mut rng = SmallRng::seed_from_u64(3);
    for point in fault::ALL.iter().filter(|point| **point != fault::NO_SPACE) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut promises = Promises::new(&point.replace("::", "-"));
        let is_rare = [fault::MID_SEAL, fault::MID_COMPACTION, fault::MID_SNAPSHOT].contains(point);
        for round in 0..rounds(5) {
            let passes = rng.random_range(0..if is_rare { 5 } else { 120 });
            let mut child = command("load", dir.path())
                .env(POINT, point)
                .env(PASSES, passes.to_string())
                .spawn()
                .expect("started");
            let errors = listen(&mut child, None, &mut promises);
            assert!(
                !errors.contains("panicked"),
                "{point}, round {round}: {errors}"
            );
            promises
                .history
                .note("test", Fact::killed_at("store", point));
            verify(dir.path(), &mut promises).await;
        }
        println!("{point}: {} lines", promises.lines);
        promises.history.validate_and_tell();
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_disk_that_is_full_in_the_middle_of_a_write_refuses_and_recovers() {
    use baton::store::local::fault;

    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    let commit = |last| Commit {
        appends: vec![Append {
            stream: stream(&name(0)),
            expected_last: last,
            fence: 0,
            entries: vec![entry(0, last + 1)].into(),
            origin: None,
            time: baton::base::Timestamp::EPOCH,
        }],
        ..Commit::default()
    };
    store.commit(commit(0)).await.expect("committed");
    fail::cfg(fault::NO_SPACE, "return").expect("a point");
    assert_eq!(store.commit(commit(1)).await, Err(Error::Full));
    fail::remove(fault::NO_SPACE);
    store.commit(commit(1)).await.expect("committed");
}

#[tokio::test]
async fn a_second_process_is_kept_out_and_told_by_whom() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = command("hold", dir.path()).spawn().expect("started");
    let out = child.stdout.take().expect("piped");
    let is_open = BufReader::new(out)
        .lines()
        .any(|line| line.is_ok_and(|line| line == "open"));
    assert!(is_open);
    let Err(Error::Unusable(message)) = LocalStore::open(options(dir.path())) else {
        panic!("two processes have the store");
    };
    assert!(
        message.contains(&format!("process {}", child.id())),
        "{message}"
    );
    child.kill().expect("killed");
    child.wait().expect("ended");
    LocalStore::open(options(dir.path())).expect("it is free");
}

#[tokio::test]
async fn a_file_size_limit_is_a_full_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = command("limit", dir.path()).spawn().expect("started");
    let mut promises = Promises::new("limit");
    let errors = listen(&mut child, None, &mut promises);
    let (last, _) = promises
        .acked
        .get(&0)
        .copied()
        .unwrap_or_else(|| panic!("{errors}"));
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(store.damage(), []);
    let all = read_all(&(store as SharedStore), &stream("a"), 0, 1 << 20)
        .await
        .expect("readable");
    assert_eq!(all.len() as u64, last);
    assert!(
        all.iter()
            .enumerate()
            .all(|(seq, entry)| entry[..] == [seq as u8; 100_000])
    );
}
