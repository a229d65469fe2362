//! The life of a worktree, and of one whose daemon is killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "failpoints")]
use super::super::fault;
use super::rig::{Rig, commit, git};
use crate::base::id::{CommandId, WorktreeId};
use crate::base::{Code, Effect};
use crate::domain::worktree::{
    Candidate, Create, Delete, Merge, MergeVerdict, OrderBody, Outcome, Plan, Strategy,
};

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A removal that stops half-way is finished later, and is not forgotten.
#[cfg(feature = "failpoints")]
#[test]
fn what_cannot_be_removed_now_is_removed_later() {
    let rig = Rig::new();
    let made = rig.create(rig.wanted("t")).unwrap();
    let path = PathBuf::from(&made.place.path);
    let operation = CommandId::generate(rig.now());
    let body = OrderBody::Delete(Delete {
        force: false,
        delete_branch: true,
    });
    fail::cfg(fault::CANNOT_REMOVE, "return").unwrap();
    let error = rig.order_as(made.id, operation, body.clone()).unwrap_err();
    assert_eq!(error.effect(), Effect::MaybeDone);
    assert!(rig.order(made.id, OrderBody::Look).is_err());
    fail::remove(fault::CANNOT_REMOVE);
    let looked = rig.order_as(made.id, operation, OrderBody::Look).unwrap();
    let Outcome::Looked(looked) = looked else {
        panic!("{looked:?}")
    };
    let finished = looked.finished.unwrap().result();
    assert!(matches!(finished, Ok(Outcome::Deleted(_))), "{finished:?}");
    assert!(!path.exists() && rig.git(&["branch", "--list", "agent/*"]).is_empty());
    // Asked again, it is the same answer.
    assert!(rig.order_as(made.id, operation, body).is_ok());
}

#[test]
fn made_worked_in_merged_and_removed() {
    let rig = Rig::new();
    std::fs::write(rig.top.join("secret.ignored"), "x").unwrap();
    let made = rig
        .create(Create {
            setup: argv(&["sh", "-c", "echo ready > setup.ignored"]),
            copy_files: argv(&["secret.ignored"]),
            ..rig.wanted("t-1")
        })
        .unwrap();
    assert_eq!(made.place.branch, "agent/alice/t-1-fix-it");
    assert!(made.place.branch_created && made.place.target == "main");
    let path = made.path();
    assert_eq!(path, rig.top.join(".worktrees/alice-t-1-fix-it"));
    assert_eq!(
        std::fs::read_to_string(path.join("secret.ignored")).unwrap(),
        "x"
    );
    assert!(path.join("setup.ignored").exists() && path.join("file").exists());
    // The repository itself does not see it.
    assert_eq!(rig.git(&["status", "--porcelain"]), "");
    let look = rig.look(made.id);
    assert!(!look.has_work() && look.size_bytes > 0, "{look:?}");

    std::fs::write(path.join("file"), "ONE\ntwo\nthree\n").unwrap();
    std::fs::write(path.join("new"), "n\n").unwrap();
    let look = rig.look(made.id);
    assert_eq!((look.uncommitted, look.untracked, look.unmerged), (1, 1, 0));
    let Outcome::Diff(diff) = rig
        .order(made.id, OrderBody::Diff { max_bytes: 10_000 })
        .unwrap()
    else {
        panic!("no diff");
    };
    let is_whole = diff.patch.contains("+ONE") && diff.patch.contains("+n") && !diff.truncated;
    assert!(is_whole, "{diff:?}");
    assert_eq!(diff.files.len(), 2);
    let error = rig.merge(made.id, Merge::default()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    assert_eq!(
        rig.delete(made.id, false, false).unwrap_err().code(),
        Code::InvalidState
    );
    commit(&path, "more", "m\n");
    assert_eq!(
        rig.delete(made.id, false, false).unwrap_err().code(),
        Code::InvalidState
    );
    assert_eq!(rig.look(made.id).unmerged, 1);

    let report = rig.merged(made.id);
    assert_eq!(rig.git(&["rev-parse", "main"]), report.commit);
    assert_eq!(
        rig.git(&["log", "-1", "--format=%s|%P", "main"])
            .split('|')
            .next(),
        Some("Fix it (t-1)")
    );
    // The repository's own checkout is on the target: it has moved along, and is clean.
    assert_eq!(rig.git(&["status", "--porcelain"]), "");
    assert_eq!(std::fs::read_to_string(rig.top.join("new")).unwrap(), "n\n");
    let again = rig.merge(made.id, Merge::default()).unwrap();
    assert_eq!(again.verdict, MergeVerdict::Nothing);
    assert_eq!(rig.look(made.id).unmerged, 0);

    let head = git(&path, &["rev-parse", "HEAD"]);
    let deleted = rig.delete(made.id, false, true).unwrap();
    assert!(deleted.branch_deleted && !path.exists());
    // A squash leaves the branch's own commits nowhere else: they are kept.
    assert_eq!(rig.git(&["merge-base", &head, &deleted.recover_ref]), head);
    assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 1);
    assert!(rig.looked(made.id).look.is_none());
    assert_eq!(
        rig.delete(made.id, true, true).unwrap_err().code(),
        Code::InvalidState
    );
}

#[test]
fn the_same_operation_is_done_once() {
    let rig = Rig::new();
    let (id, operation) = (
        WorktreeId::generate(rig.now()),
        CommandId::generate(rig.now()),
    );
    let body = || OrderBody::Create(Box::new(rig.wanted("t")));
    let first = rig.order_as(id, operation, body()).unwrap();
    assert_eq!(rig.order_as(id, operation, body()).unwrap(), first);
    // Another worktree of that name is refused.
    assert_eq!(
        rig.create(rig.wanted("t")).err().unwrap().code(),
        Code::AlreadyExists
    );
}

#[test]
fn what_does_not_fit_or_fails_its_test_leaves_the_target_alone() {
    let rig = Rig::new();
    let made = rig.create(rig.wanted("t")).unwrap();
    commit(&made.path(), "file", "mine\n");
    commit(&rig.top, "file", "theirs\n");
    let main = rig.git(&["rev-parse", "main"]);
    let report = rig.merge(made.id, Merge::default()).unwrap();
    assert_eq!(report.verdict, MergeVerdict::Conflict);
    assert_eq!(report.conflicts, ["file"]);
    assert!(report.output.contains("CONFLICT"), "{report:?}");

    let other = rig.create(rig.wanted("u")).unwrap();
    commit(&other.path(), "new", "n\n");
    let test = |script: &str| Merge {
        test: argv(&["sh", "-c", script]),
        ..Merge::default()
    };
    let report = rig
        .merge(other.id, test("cat new; echo oh no >&2; exit 3"))
        .unwrap();
    assert_eq!(report.verdict, MergeVerdict::TestFailed);
    assert!(
        report.output.contains("oh no") && report.output.contains('3'),
        "{report:?}"
    );
    let slow = Merge {
        test_time: Some(Duration::from_millis(300)),
        ..test("sleep 60")
    };
    assert_eq!(
        rig.merge(other.id, slow).unwrap().verdict,
        MergeVerdict::TestFailed
    );
    assert_eq!(rig.git(&["rev-parse", "main"]), main);
    assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 3);
    let report = rig.merge(other.id, test("test -f new")).unwrap();
    assert_eq!(report.verdict, MergeVerdict::Merged);
    assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 3);

    // A dirty checkout of the target is never touched.
    let third = rig.create(rig.wanted("v")).unwrap();
    commit(&third.path(), "third", "3\n");
    std::fs::write(rig.top.join("file"), "person's\n").unwrap();
    let error = rig.merge(third.id, Merge::default()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    assert_eq!(
        std::fs::read_to_string(rig.top.join("file")).unwrap(),
        "person's\n"
    );
    git(&rig.top, &["checkout", "-q", "--", "file"]);
    // Nor an untracked file that it would overwrite.
    std::fs::write(rig.top.join("third"), "person's\n").unwrap();
    assert_eq!(
        rig.merge(third.id, Merge::default()).unwrap_err().code(),
        Code::InvalidState
    );
    assert_eq!(
        std::fs::read_to_string(rig.top.join("third")).unwrap(),
        "person's\n"
    );
    std::fs::remove_file(rig.top.join("third")).unwrap();
    let ff = Merge {
        strategy: Strategy::FastForward,
        ..Merge::default()
    };
    commit(&rig.top, "between", "b\n");
    assert_eq!(
        rig.merge(third.id, ff).unwrap_err().code(),
        Code::InvalidState
    );
    let with_commit = Merge {
        strategy: Strategy::Merge,
        ..Merge::default()
    };
    assert_eq!(
        rig.merge(third.id, with_commit).unwrap().verdict,
        MergeVerdict::Merged
    );
    assert_eq!(rig.git(&["log", "-1", "--format=%P"]).split(' ').count(), 2);
}

#[test]
fn what_a_forced_removal_takes_away_comes_back() {
    let rig = Rig::new();
    let made = rig.create(rig.wanted("t")).unwrap();
    let path = made.path();
    let head = commit(&path, "committed", "c\n");
    std::fs::write(path.join("file"), "staged\n").unwrap();
    git(&path, &["add", "file"]);
    std::fs::write(path.join("file"), "changed\r\nmixed\n").unwrap();
    std::fs::write(path.join(".gitattributes"), "* text=auto\n").unwrap();
    std::fs::remove_file(path.join(".gitignore")).unwrap();
    std::fs::create_dir(path.join("dir")).unwrap();
    std::fs::write(path.join("dir/untracked"), "u\n").unwrap();
    // What the index is told not to look at is looked at.
    git(&path, &["update-index", "--assume-unchanged", "committed"]);
    std::fs::write(path.join("committed"), "hidden change\n").unwrap();
    let deleted = rig.delete(made.id, true, true).unwrap();
    assert!(!path.exists() && deleted.branch_deleted);
    let [kept] = rig.recoverable().try_into().unwrap();
    assert_eq!(kept.recover_ref, deleted.recover_ref);
    assert_eq!(
        (kept.head.as_str(), kept.branch.as_str()),
        (head.as_str(), made.place.branch.as_str())
    );
    assert_eq!(kept.worktree_id, made.id.to_string());
    assert_eq!(
        rig.git(&["show", &format!("{}^2:file", kept.recover_ref)]),
        "staged"
    );

    let back = rig
        .create(Create {
            branch: "recover/x".to_owned(),
            directory: "back".to_owned(),
            snapshot: kept.recover_ref,
            ..rig.wanted("t")
        })
        .unwrap();
    let text = |name: &str| std::fs::read_to_string(back.path().join(name)).unwrap();
    assert_eq!(text("committed"), "hidden change\n");
    assert_eq!(text("file"), "changed\r\nmixed\n");
    assert_eq!(text("dir/untracked"), "u\n");
    assert!(!back.path().join(".gitignore").exists());
    assert_eq!(git(&back.path(), &["rev-parse", "HEAD"]), head);
    let look = rig.look(back.id);
    assert!(look.uncommitted == 3 && look.untracked == 2, "{look:?}");
}

#[test]
fn a_repository_within_is_never_removed() {
    let rig = Rig::new();
    let made = rig.create(rig.wanted("t")).unwrap();
    let inner = made.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    git(&inner, &["init", "-q"]);
    commit(&inner, "precious", "p\n");
    let error = rig.delete(made.id, true, true).unwrap_err();
    assert_eq!(error.code(), Code::InvalidState, "{error}");
    assert!(inner.join("precious").exists());
    // Nothing has moved.
    assert!(rig.look(made.id).untracked > 0);
}

#[test]
fn merges_at_once_make_the_history_of_merges_one_by_one() {
    let rig = Arc::new(Rig::new());
    let made: Vec<_> = (0..6)
        .map(|number| {
            let made = rig.create(rig.wanted(&format!("t{number}"))).unwrap();
            commit(&made.path(), &format!("file{number}"), "x\n");
            made
        })
        .collect();
    let jobs: Vec<_> = made
        .iter()
        .map(|made| {
            let (rig, id) = (rig.clone(), made.id);
            std::thread::spawn(move || rig.merged(id))
        })
        .collect();
    let mut reports: Vec<_> = jobs.into_iter().map(|job| job.join().unwrap()).collect();
    let history = rig.git(&["log", "--format=%H %P", "main"]);
    let lines: Vec<Vec<&str>> = history
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    // One line of commits, each with one parent: the merge before it.
    assert_eq!(lines.len(), 7);
    assert!(
        lines[..6]
            .iter()
            .all(|line| line.len() == 2 && !line[1].is_empty())
    );
    let mut commits: Vec<&str> = lines[..6].iter().map(|line| line[0]).collect();
    commits.sort_unstable();
    reports.sort_by(|a, b| a.commit.cmp(&b.commit));
    assert!(
        reports
            .iter()
            .map(|report| report.commit.as_str())
            .eq(commits)
    );
    for number in 0..6 {
        assert!(rig.top.join(format!("file{number}")).exists());
    }
    assert_eq!(rig.git(&["status", "--porcelain"]), "");
}

#[test]
fn worktrees_made_at_once_are_all_made() {
    let rig = Arc::new(Rig::new());
    let jobs: Vec<_> = (0..8)
        .map(|number| {
            let rig = rig.clone();
            std::thread::spawn(move || rig.create(rig.wanted(&format!("t{}", number % 4))).is_ok())
        })
        .collect();
    let made = jobs
        .into_iter()
        .filter_map(|job| job.join().ok())
        .filter(|made| *made)
        .count();
    // Of two that want the same place, one gets it.
    assert_eq!(made, 4);
    assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 5);
}

fn plan(rig: &Rig, plan: Plan) -> Vec<Candidate> {
    match rig
        .order(WorktreeId::from_bits(1), OrderBody::Plan(plan))
        .unwrap()
    {
        Outcome::Plan(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_is_provably_ours_and_without_work_is_pruned() {
    let mut rig = Rig::new();
    let [clean, dirty, ahead, unmarked, used] =
        ["a", "b", "c", "d", "e"].map(|task| rig.create(rig.wanted(task)).unwrap());
    std::fs::write(dirty.path().join("u"), "u").unwrap();
    commit(&ahead.path(), "x", "x\n");
    std::fs::remove_file(rig.top.join(".git/worktrees/alice-d-fix-it/baton.json")).unwrap();
    // A worktree of somebody else, beside ours.
    git(&rig.top, &["worktree", "add", "-q", ".worktrees/theirs"]);
    let at_once = Plan {
        grace: Some(Duration::ZERO),
        keep: vec![used.id],
        ..Plan::default()
    };
    let unmarked_is_refused = rig.order(WorktreeId::from_bits(1), OrderBody::Plan(at_once.clone()));
    // It is left out, and does not keep the others from being found.
    assert!(unmarked_is_refused.is_ok(), "{unmarked_is_refused:?}");
    let found: Vec<_> = plan(&rig, at_once)
        .into_iter()
        .map(|found| found.worktree_id)
        .collect();
    assert_eq!(found, [clean.id]);
    assert!(plan(&rig, Plan::default()).is_empty());
    let error = rig.delete(unmarked.id, true, true).unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    assert!(unmarked.path().exists() && rig.top.join(".worktrees/theirs").exists());
    // Beyond the budget, grace does not hold; work does.
    rig.options.disk_budget = Some(1);
    rig.restart();
    let found: Vec<_> = plan(&rig, Plan::default())
        .into_iter()
        .map(|found| found.worktree_id)
        .collect();
    assert_eq!(found, [clean.id, used.id]);
}

#[test]
fn what_is_no_repository_has_no_worktrees() {
    let rig = Rig::new();
    let plain = rig.top.parent().unwrap().join("plain");
    std::fs::create_dir(&plain).unwrap();
    // Above the root there is one, which is not looked at.
    git(rig.dir.path(), &["init", "-q"]);
    let at = |path: &std::path::Path| {
        let create = Create {
            repository: path.to_str().unwrap().to_owned(),
            ..rig.wanted("t")
        };
        rig.create(create).err().unwrap().code()
    };
    assert_eq!(at(&plain), Code::WorktreesDisabled);
    git(&plain, &["init", "-q", "--bare", "bare.git"]);
    assert_eq!(at(&plain.join("bare.git")), Code::WorktreesDisabled);
    assert_eq!(at(rig.dir.path()), Code::Forbidden);
    assert_eq!(at(&plain.join("missing")), Code::Forbidden);
}

#[test]
fn a_base_is_fetched_where_that_is_asked_for() {
    let rig = Rig::new();
    let upstream = rig.top.parent().unwrap().join("upstream");
    git(&rig.top, &["clone", "-q", ".", upstream.to_str().unwrap()]);
    let newer = commit(&upstream, "upstream", "u\n");
    git(
        &rig.top,
        &["remote", "add", "origin", upstream.to_str().unwrap()],
    );
    let fetched = Create {
        fetch: true,
        ..rig.wanted("t")
    };
    assert_eq!(
        rig.create(fetched.clone()).unwrap().place.base_commit,
        newer
    );
    git(
        &rig.top,
        &["config", "remote.origin.uploadpack", "touch /tmp/never"],
    );
    let error = rig
        .create(Create {
            task_id: "u".to_owned(),
            ..fetched
        })
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::GitError);
    assert!(
        error.message().contains("remote.origin.uploadpack"),
        "{error}"
    );
}

#[cfg(feature = "failpoints")]
mod killed {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::daemon::git::fault;

    /// Dies at the n-th pass of a point, like a daemon would; whether it came so far.
    fn dies_at(point: &str, pass: usize, act: impl FnOnce()) -> bool {
        let left = std::sync::atomic::AtomicUsize::new(pass);
        let die = move || {
            let before = left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            assert!(before != 0, "killed");
        };
        fail::cfg_callback(point, die).unwrap();
        let ended = catch_unwind(AssertUnwindSafe(act));
        fail::remove(point);
        ended.is_err()
    }

    #[test]
    fn a_creation_that_was_cut_off_leaves_nothing() {
        for point in [fault::STEP, fault::MADE] {
            let mut rig = Rig::new();
            let (id, operation) = (
                WorktreeId::generate(rig.now()),
                CommandId::generate(rig.now()),
            );
            let body = || OrderBody::Create(Box::new(rig.wanted("t")));
            assert!(dies_at(point, 0, || {
                let _ = rig.order_as(id, operation, body());
            }));
            let body = body();
            rig.restart();
            assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 1, "{point}");
            assert_eq!(
                rig.git(&["branch", "--format=%(refname)"]),
                "refs/heads/main"
            );
            assert!(!rig.top.join(".worktrees/alice-t-fix-it").exists());
            let error = rig.order_as(id, operation, body).unwrap_err();
            assert_eq!(error.code(), Code::Unavailable);
            assert!(rig.create(rig.wanted("t")).is_ok());
        }
    }

    #[test]
    fn a_merge_that_was_cut_off_is_done_or_is_not() {
        for (point, pass, is_done) in [
            (fault::STEP, 0, false),
            (fault::STEP, 1, false),
            (fault::MOVING, 0, false),
            (fault::MOVED, 0, true),
        ] {
            let mut rig = Rig::new();
            let made = rig.create(rig.wanted("t")).unwrap();
            commit(&made.path(), "new", "n\n");
            let main = rig.git(&["rev-parse", "main"]);
            let operation = CommandId::generate(rig.now());
            let body = || {
                OrderBody::Merge(Merge {
                    test: argv(&["true"]),
                    ..Merge::default()
                })
            };
            assert!(dies_at(point, pass, || {
                let _ = rig.order_as(made.id, operation, body());
            }));
            rig.restart();
            assert_eq!(
                rig.git(&["rev-parse", "main"]) != main,
                is_done,
                "{point} {pass}"
            );
            assert_eq!(rig.git(&["status", "--porcelain"]), "", "{point} {pass}");
            assert_eq!(rig.top.join("new").exists(), is_done);
            assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 2);
            match rig.order_as(made.id, operation, body()) {
                Ok(Outcome::Merged(report)) if is_done => {
                    assert_eq!(report.commit, rig.git(&["rev-parse", "main"]));
                }
                Err(error) if !is_done => assert_eq!(error.code(), Code::Unavailable),
                other => panic!("{other:?}"),
            }
            if !is_done {
                rig.merged(made.id);
            }
        }
    }

    #[test]
    fn a_removal_that_was_cut_off_is_undone_or_finished() {
        for (point, pass, is_done) in [
            (fault::STEP, 0, false),
            (fault::STEP, 1, true),
            (fault::REMOVING, 0, true),
        ] {
            let mut rig = Rig::new();
            let made = rig.create(rig.wanted("t")).unwrap();
            let head = commit(&made.path(), "new", "n\n");
            std::fs::write(made.path().join("untracked"), "u\n").unwrap();
            let operation = CommandId::generate(rig.now());
            let body = || {
                OrderBody::Delete(Delete {
                    force: true,
                    delete_branch: true,
                })
            };
            assert!(dies_at(point, pass, || {
                let _ = rig.order_as(made.id, operation, body());
            }));
            rig.restart();
            assert_eq!(!made.path().exists(), is_done, "{point} {pass}");
            let result = rig.order_as(made.id, operation, body());
            if is_done {
                let Ok(Outcome::Deleted(deleted)) = result else {
                    panic!("{result:?}");
                };
                assert_eq!(
                    rig.git(&["rev-parse", &format!("{}^1", deleted.recover_ref)]),
                    head
                );
                assert_eq!(
                    rig.git(&["show", &format!("{}:untracked", deleted.recover_ref)]),
                    "u"
                );
                assert_eq!(rig.git(&["worktree", "list"]).lines().count(), 1);
            } else {
                assert_eq!(result.unwrap_err().code(), Code::Unavailable);
                assert!(made.path().join("untracked").exists());
                assert_eq!(git(&made.path(), &["rev-parse", "HEAD"]), head);
            }
            assert!(
                std::fs::read_dir(rig.top.join(".worktrees"))
                    .unwrap()
                    .count()
                    <= 1
            );
        }
    }
}
