//! Seeded simulation of the link: both state machines, daemons with runners, a server with a disk, and a
//! wire that drops, delays, repeats and reorders across reconnects; every party crashes at any step.
//!
//! One seed is one schedule, the same for ever. `BATON_SIM_SEEDS` says how many are run (2,000, or a share
//! of it by `BATON_TEST_ROUNDS`); `BATON_SIM_SEED=n` runs one and prints what happens. What must hold is
//! checked at every step (`check.rs`, `server.rs`), not only at the end.

mod check;
mod liar;
mod machine;
mod server;
mod transport;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use baton::store::conformance::rounds;
use parking_lot::Mutex;

/// The randomness of a schedule.
pub struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x1234_5678_9abc_def1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n.max(1))) >> 64) as u64
    }

    /// True `n` times in a thousand.
    fn chance(&mut self, n: u64) -> bool {
        self.below(1_000) < n
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the schedules of the seeds from 0 on two threads: as many as `<name>_SEEDS` says, or `usual` times the
/// share that `BATON_TEST_ROUNDS` is. Fails with the seed that failed and how to run it again.
fn schedules<T: Send>(name: &str, usual: u32, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let seeds = number(&format!("{name}_SEEDS")).unwrap_or_else(|| rounds(usual).into());
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok(outcome) => done.lock().push(outcome),
                        Err(_) => drop(failed.fetch_min(seed, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert!(
        failed == u64::MAX,
        "seed {failed} failed; replay it with {name}_SEED={failed}"
    );
    done.into_inner()
}

fn run(seed: u64, trace: bool) -> world::Outcome {
    world::World::new(seed, trace).run()
}

#[test]
fn nothing_is_lost_doubled_or_undecided_under_any_schedule() {
    if let Some(seed) = number("BATON_SIM_SEED") {
        let outcome = run(seed, true);
        println!("{outcome:?}");
        return;
    }
    let outcomes = schedules("BATON_SIM", 2_000, |seed| run(seed, false));
    let seeds = outcomes.len() as u64;
    let mut total = world::Outcome::default();
    for outcome in &outcomes {
        total.add(outcome);
    }
    println!("{seeds} schedules: {total:?}");
    // A simulation in which nothing happens proves nothing.
    if seeds >= 500 {
        assert!(total.events > 10 * seeds && total.commands > 2 * seeds);
        assert!(total.server_crashes > seeds / 4 && total.daemon_crashes > seeds / 4);
        assert!(total.resets > 0 && total.indeterminate > 0 && total.fenced > 0);
        assert!(total.gaps > 0 && total.foreign > 0 && total.contents > 0);
        assert!(total.repeated > 0 && total.forged > 0 && total.refused > 0);
        assert!(total.contradicted > 0 && total.retold > 0);
    }
}

#[test]
fn a_seed_is_one_schedule() {
    assert_eq!(run(7, false), run(7, false));
}
