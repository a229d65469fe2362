//! What git says and what a ledger's file holds, as any bytes.

use std::fs;

use super::diff::changes;
use super::guard::{Guard, runs_on_fetch};
use super::ledger::Ledger;
use super::look::counted;
use super::refs::{is_commit, listed};
use crate::base::Timestamp;
use crate::base::fuzz::Target;
use crate::base::id::WorktreeId;

#[test]
fn what_git_says() {
    let seeds = [
        &b"worktree /srv/proj\0HEAD 0123456789012345678901234567890123456789\0branch refs/heads/main\0\0worktree /srv/x\0detached\0\0"[..],
        b"1 .M N... 100644 100644 100644 aa bb src/a.rs\0? new\xff file\0u UU x\0",
        b"3\t1\tsrc/a.rs\0-\t-\tpicture.png\x0018446744073709551616\t0\tx\0",
        b"branch refs/heads/early\0worktree \0branch refs/heads/\0",
        b"filter.lfs.process\0diff.a.b.textconv\0merge.x.driver\0core.sshCommand\0url.x.insteadOf\0",
    ];
    Target::new("git_output")
        .seeds(seeds)
        .words(&["worktree ", "branch refs/heads/", "\0", "\t"])
        .run(|bytes| {
            let lines = bytes.split(|byte| *byte == 0).count();
            let found = listed(bytes);
            assert!(found.len() <= lines);
            // A checkout has the branch that is named behind it, and no other.
            let branches = found.iter().filter(|one| one.branch.is_some()).count();
            assert!(branches <= found.len());
            let dirt = counted(bytes);
            assert!((dirt.uncommitted + dirt.untracked) as usize <= lines);
            let (files, more) = changes(bytes);
            assert!(files.len() <= 1_000 && (more || files.len() <= lines));
            let text = String::from_utf8_lossy(bytes);
            if is_commit(&text) {
                assert!(!text.starts_with('-') && text.len() >= 40);
            }
            for name in text.split('\0') {
                let _ = runs_on_fetch(name);
            }
            assert!(!Guard::general().overrides.is_empty());
        });
}

#[test]
fn ledgers() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("worktrees");
    let now = Timestamp::from_millis(1_795_240_000_000);
    let id = WorktreeId::from_bits(7);
    let ledger = Ledger::open(&dir, now).expect("an empty one");
    let held = ledger.get_or_new(id, now);
    ledger.write(&mut held.lock(), now).expect("written");
    let file = dir.join(format!("{id}.json"));
    let seed = fs::read(&file).expect("readable");
    Target::new("git_ledger")
        .seeds([seed])
        .words(&["\"stage\"", "\"pending\"", "\"gone\"", "\"here\""])
        .weighs(6)
        .run(|bytes| {
            fs::write(&file, bytes).expect("written");
            if let Ok(ledger) = Ledger::open(&dir, now) {
                for held in ledger.all() {
                    let mut entry = held.lock();
                    if entry.id == id {
                        ledger
                            .write(&mut entry, now)
                            .expect("what was read is written");
                    }
                }
                let beside = fs::read_dir(root.path()).expect("readable").count();
                assert_eq!(beside, 1, "it stays in its directory");
            } else {
                assert!(file.exists(), "what cannot be read is not forgotten");
            }
        });
}
