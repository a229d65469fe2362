//! Readers at the edges of a log while it is cut, compacted and appended to: each of them goes on, is told what is
//! gone, or is refused with what there is (D6). And between a write and its acknowledgement there is a sync of that
//! file, as the system saw it (D2).

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use baton::base::Timestamp;
use baton::store::conformance::{rounds, stream};
use baton::store::local::compact::Compaction;
use baton::store::local::{LocalStore, Options};
use baton::store::{Append, Commit, Error, Head, Journal as _, Trim};
use bytes::Bytes;

use crate::history::{Fact, History, Told};
use crate::store_crash;

fn commit(last: u64, count: u64, trim: Option<u64>) -> Commit {
    let entry = |seq: u64| Bytes::from(format!("{seq} {}", ".".repeat(200)));
    Commit {
        appends: vec![Append {
            stream: stream("edge"),
            expected_last: last,
            fence: 0,
            entries: (last + 1..=last + count).map(entry).collect(),
            origin: None,
            time: Timestamp::EPOCH,
        }],
        ops: Vec::new(),
        trims: trim
            .map(|first_seq| Trim {
                stream: stream("edge"),
                first_seq,
                drop: false,
            })
            .into_iter()
            .collect(),
    }
}

fn span(head: Head) -> (u64, u64, u64) {
    (head.log_epoch, head.first_seq, head.last_seq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_edge_of_a_log_that_is_being_cut_a_reader_goes_on_or_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 16 << 10,
        fill_bytes: 4 << 10,
        cache_bytes: 8 << 20,
        reserve_bytes: 0,
        ..Options::new(dir.path())
    };
    let store = Arc::new(LocalStore::open(options).unwrap());
    store.commit(commit(0, 8, None)).await.unwrap();
    let history = History::in_memory("edges");
    let over = Arc::new(AtomicBool::new(false));
    let compacting = {
        let (store, over) = (store.clone(), over.clone());
        std::thread::spawn(move || {
            let compaction = Compaction {
                min_live: 0.9,
                seal_active: true,
            };
            let mut deleted = 0;
            while !over.load(Ordering::Relaxed) {
                deleted += store.compact(&compaction, &mut |_| {}).unwrap().deleted;
            }
            deleted
        })
    };
    let writing = {
        let (store, over) = (store.clone(), over.clone());
        tokio::spawn(async move {
            let mut last = 8;
            while !over.load(Ordering::Relaxed) {
                // Every third commit cuts the log to its newest dozen entries.
                let trim = (last % 3 == 0 && last > 20).then(|| last - 12);
                store.commit(commit(last, 2, trim)).await.unwrap();
                last += 2;
            }
        })
    };
    let head = async || span(store.head(&stream("edge")).await.unwrap().unwrap());
    let mut kinds = [0; 3];
    for round in 0..rounds(200) {
        for edge in 0..6 {
            let was = head().await;
            let (_, first, last) = was;
            let after = [
                first.saturating_sub(2),
                first - 1,
                first,
                last,
                last + 1,
                last + 2,
            ][edge];
            let told = match store.read(&stream("edge"), after, 500).await {
                Ok(chunks) => {
                    let next = chunks.first().map_or(after + 1, |chunk| chunk.first_seq);
                    kinds[0] += 1;
                    Told::GoesOn(next)
                }
                Err(Error::Truncated { head, .. }) => {
                    kinds[1] += 1;
                    Told::Truncated(head.first_seq)
                }
                Err(Error::Future { head, .. }) => {
                    kinds[2] += 1;
                    Told::Refused("OUT_OF_RANGE".to_owned(), span(head))
                }
                Err(error) => panic!("round {round}: {error}"),
            };
            let asked = Fact::Asked {
                log: "edge".to_owned(),
                epoch: 0,
                after,
                was,
                is: head().await,
                told,
            };
            history.note("reader", asked);
        }
    }
    over.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    let deleted = compacting.join().unwrap();
    history.validate();
    println!("went on, gone, refused: {kinds:?}; segments let go of: {deleted}");
    assert!(kinds.iter().all(|times| *times > 0), "{kinds:?}");
    assert!(deleted > 0, "nothing was compacted meanwhile");
}

/// What strace saw of a process: what it did to files, by their paths.
#[derive(Debug, PartialEq)]
enum Call {
    Wrote(String),
    Synced(String),
    Acknowledged,
}

/// Reads a trace. A call that was interrupted counts where it ended, but for what is said, which counts where it began.
fn calls(trace: &str) -> Vec<Call> {
    let path = |line: &str| Some(line.split_once('<')?.1.split_once('>')?.0.to_owned());
    let mut open: std::collections::HashMap<&str, String> = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if rest.starts_with("write(1<") {
            if rest.contains("\\nack ") {
                calls.push(Call::Acknowledged);
            }
            continue;
        }
        let whole = match (
            rest.strip_suffix("<unfinished ...>"),
            rest.starts_with("<... "),
        ) {
            (Some(begun), _) => {
                open.insert(pid, begun.to_owned());
                continue;
            }
            (None, true) => match open.remove(pid) {
                Some(begun) => format!("{begun}{rest}"),
                None => continue,
            },
            (None, false) => rest.to_owned(),
        };
        let Some(path) = path(&whole).filter(|path| path.contains("/journal/")) else {
            continue;
        };
        if whole.starts_with("pwrite64(") {
            calls.push(Call::Wrote(path));
        } else if whole.starts_with("fdatasync(") && whole.trim_end().ends_with("= 0") {
            calls.push(Call::Synced(path));
        }
    }
    calls
}

#[test]
fn between_a_write_and_its_acknowledgement_the_file_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let store = dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let child = store_crash::command("few", &store);
    let mut traced = Command::new("strace");
    traced
        .args([
            "-f",
            "-y",
            "-s",
            "16",
            "-e",
            "trace=pwrite64,fdatasync,write",
            "-o",
        ])
        .arg(&trace)
        .arg(child.get_program())
        .args(child.get_args());
    for (name, value) in child.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    let output = match traced.output() {
        Ok(output) => output,
        Err(error) => return println!("not traced, for there is no strace: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("Operation not permitted") {
        // The disk of the store's own tests shows the same from within.
        return println!("not traced, for it is not allowed here");
    }
    assert!(output.status.success(), "{errors}");
    let calls = calls(&read(&trace));
    let acknowledged = calls
        .iter()
        .filter(|call| **call == Call::Acknowledged)
        .count();
    assert_eq!(acknowledged, store_crash::FEW as usize, "{errors}");
    let mut since: Vec<&Call> = Vec::new();
    for call in &calls {
        if *call != Call::Acknowledged {
            since.push(call);
            continue;
        }
        // Of all that was written since the last one, the newest is synced.
        let written = since
            .iter()
            .rposition(|call| matches!(call, Call::Wrote(_)));
        let written = written.unwrap_or_else(|| panic!("nothing was written: {since:?}"));
        let Call::Wrote(path) = since[written] else {
            panic!("{since:?}");
        };
        let synced = Call::Synced(path.clone());
        assert!(since[written..].contains(&&synced), "{since:?}");
        since.clear();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
