//! No sequence of operations on worktrees takes a commit or a change away that no ref leads to.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::rig::{Made, Rig, commit, git, try_git};
use crate::base::id::WorktreeId;
use crate::domain::worktree::{Create, Merge, OrderBody, Outcome, Plan, Strategy as How};

#[derive(Clone, Debug)]
enum Act {
    Create,
    Commit(usize),
    Change(usize),
    Add(usize),
    Stage(usize),
    Hide(usize),
    Detach(usize),
    Merge(usize, How),
    Delete(usize, bool, bool),
    Prune,
    Recover(usize),
    CommitToTarget,
    #[cfg_attr(not(feature = "failpoints"), allow(dead_code))]
    Restart(usize, bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let of = || 0..4_usize;
    let how = prop_oneof![Just(How::Squash), Just(How::Merge), Just(How::FastForward)];
    let act = prop_oneof![
        3 => Just(Act::Create),
        3 => of().prop_map(Act::Commit),
        2 => of().prop_map(Act::Change),
        2 => of().prop_map(Act::Add),
        1 => of().prop_map(Act::Stage),
        1 => of().prop_map(Act::Hide),
        1 => of().prop_map(Act::Detach),
        3 => (of(), how).prop_map(|(at, how)| Act::Merge(at, how)),
        4 => (of(), any::<bool>(), any::<bool>()).prop_map(|(at, force, branch)| Act::Delete(at, force, branch)),
        1 => Just(Act::Prune),
        1 => of().prop_map(Act::Recover),
        1 => Just(Act::CommitToTarget),
        2 => (of(), any::<bool>()).prop_map(|(pass, delete)| Act::Restart(pass, delete)),
    ];
    prop::collection::vec(act, 1..14)
}

/// What was written, and must be somewhere: commits by their names, file contents by theirs.
#[derive(Default)]
struct World {
    commits: Vec<String>,
    /// Content that a worktree has and no commit may have yet, by worktree and file: replaced when the person
    /// replaces it.
    changes: BTreeMap<(String, String), String>,
    worktrees: Vec<Made>,
    count: usize,
}

impl World {
    fn fresh(&mut self) -> String {
        self.count += 1;
        // As long as what is there at first: git looks at sizes before it looks at contents.
        format!("unique {:06}\n", self.count)
    }

    fn wrote(&mut self, at: usize, file: &str, text: String) {
        let path = self.worktrees[at].place.path.clone();
        self.changes.insert((path, file.to_owned()), text);
    }
}

fn check(rig: &Rig, world: &World) -> Result<(), TestCaseError> {
    // Every commit is reachable from a ref or from a worktree's head.
    let by_refs = rig.git(&["rev-list", "--all"]);
    for commit in &world.commits {
        prop_assert!(
            by_refs.contains(commit.as_str()),
            "the commit {commit} is lost"
        );
    }
    // Every change is in its file, or in a commit that a ref leads to.
    for ((path, file), text) in &world.changes {
        let on_disk =
            std::fs::read_to_string(Path::new(path).join(file)).is_ok_and(|now| now == *text);
        if on_disk {
            continue;
        }
        let blob = blob_of(rig, text);
        let objects = rig.git(&["rev-list", "--all", "--objects"]);
        prop_assert!(objects.contains(&blob), "{text:?} of {path}/{file} is lost");
    }
    prop_assert_eq!(rig.git(&["status", "--porcelain"]), "");
    Ok(())
}

fn blob_of(rig: &Rig, text: &str) -> String {
    let file = rig.dir.path().join("blob");
    std::fs::write(&file, text).unwrap();
    git(&rig.top, &["hash-object", file.to_str().unwrap()])
}

fn run(rig: &mut Rig, world: &mut World, act: &Act) {
    let pick = |world: &World, at: usize| {
        (!world.worktrees.is_empty()).then(|| at % world.worktrees.len())
    };
    match act {
        Act::Create => {
            world.count += 1;
            let create = rig.wanted(&format!("t{}", world.count));
            world.worktrees.push(rig.create(create).unwrap());
        }
        Act::Commit(at) => {
            let Some(at) = pick(world, *at) else { return };
            let text = world.fresh();
            let file = format!("c{}", world.count);
            let path = world.worktrees[at].path();
            let made = commit(&path, &file, &text);
            world.commits.push(made);
        }
        Act::Change(at) | Act::Hide(at) => {
            let Some(at) = pick(world, *at) else { return };
            let path = world.worktrees[at].path();
            if matches!(act, Act::Hide(_)) {
                try_git(&path, &["update-index", "--assume-unchanged", "file"]);
            }
            let text = world.fresh();
            std::fs::write(path.join("file"), &text).unwrap();
            world.wrote(at, "file", text);
        }
        Act::Add(at) => {
            let Some(at) = pick(world, *at) else { return };
            let text = world.fresh();
            let file = format!("u{}", world.count);
            std::fs::write(world.worktrees[at].path().join(&file), &text).unwrap();
            world.wrote(at, &file, text);
        }
        Act::Stage(at) => {
            let Some(at) = pick(world, *at) else { return };
            git(&world.worktrees[at].path(), &["add", "-A"]);
        }
        Act::Detach(at) => {
            let Some(at) = pick(world, *at) else { return };
            git(&world.worktrees[at].path(), &["checkout", "-q", "--detach"]);
        }
        Act::Merge(at, how) => {
            let Some(at) = pick(world, *at) else { return };
            let merge = Merge {
                strategy: *how,
                ..Merge::default()
            };
            let _ = rig.merge(world.worktrees[at].id, merge);
        }
        Act::Delete(at, force, branch) => {
            let Some(at) = pick(world, *at) else { return };
            if rig.delete(world.worktrees[at].id, *force, *branch).is_ok() {
                world.worktrees.remove(at);
            }
        }
        Act::Prune => {
            let plan = Plan {
                grace: Some(std::time::Duration::ZERO),
                ..Plan::default()
            };
            let Ok(Outcome::Plan(found)) =
                rig.order(WorktreeId::from_bits(1), OrderBody::Plan(plan))
            else {
                panic!("no plan");
            };
            for found in found {
                let _ = rig.delete(found.worktree_id, false, true);
            }
            world.worktrees.retain(|made| made.path().exists());
        }
        Act::Recover(at) => {
            let found = rig.recoverable();
            if found.is_empty() {
                return;
            }
            world.count += 1;
            let made = rig.create(Create {
                branch: format!("recover/{}", world.count),
                directory: format!("recover-{}", world.count),
                snapshot: found[at % found.len()].recover_ref.clone(),
                ..rig.wanted("t")
            });
            world.worktrees.push(made.unwrap());
        }
        Act::CommitToTarget => {
            let text = world.fresh();
            let file = format!("m{}", world.count);
            let made = commit(&rig.top.clone(), &file, &text);
            world.commits.push(made);
        }
        Act::Restart(pass, delete) => {
            if let Some(at) = pick(world, *pass) {
                cut_off(rig, world.worktrees[at].id, *pass, *delete);
            }
            rig.restart();
            world.worktrees.retain(|made| made.path().exists());
        }
    }
}

/// Begins a removal or a merge and dies in the middle of it.
#[cfg(feature = "failpoints")]
fn cut_off(rig: &Rig, id: WorktreeId, pass: usize, delete: bool) {
    use crate::daemon::git::fault;
    let point = fault::ALL[pass % fault::ALL.len()];
    fail::cfg(point, "panic").unwrap();
    let act = std::panic::AssertUnwindSafe(|| match delete {
        true => drop(rig.delete(id, true, true)),
        false => drop(rig.merge(id, Merge::default())),
    });
    let _ = std::panic::catch_unwind(act);
    fail::remove(point);
}

#[cfg(not(feature = "failpoints"))]
fn cut_off(_: &Rig, _: WorktreeId, _: usize, _: bool) {}

#[test]
fn no_sequence_takes_work_away_that_no_ref_leads_to() {
    let rounds = std::env::var("BATON_TEST_ROUNDS").ok();
    let rounds = rounds
        .and_then(|text| text.parse::<u32>().ok())
        .unwrap_or(20);
    let config = Config {
        cases: (rounds / 2).max(4),
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&acts(), |acts| {
            let mut rig = Rig::new();
            let mut world = World::default();
            for act in &acts {
                run(&mut rig, &mut world, act);
                check(&rig, &world)?;
            }
            Ok(())
        })
        .unwrap();
}
