//! The suite that every provider passes, over this one.

use std::time::Duration;

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::runtime::Handle;

use super::Local;
use crate::store::conformance::{self, Provider, Step, append, op, stream};
use crate::store::{Commit, Durability, Expect};

#[tokio::test]
async fn the_local_store_keeps_every_promise() {
    conformance::run(&|| Box::new(Local::new(|_| {})) as Box<dyn Provider>).await;
}

#[tokio::test]
async fn and_with_an_interval_too() {
    let factory = || {
        Box::new(Local::new(|options| {
            options.durability = Durability::Interval(Duration::from_millis(1));
        })) as Box<dyn Provider>
    };
    conformance::run(&factory).await;
}

#[tokio::test]
async fn and_with_one_commit_a_segment() {
    let factory = || {
        Box::new(Local::new(|options| {
            options.segment_bytes = 256;
            options.fill_bytes = 256;
        })) as Box<dyn Provider>
    };
    conformance::run(&factory).await;
}

/// Random steps against a model. The steps are a list, so that proptest finds the shortest that fails.
#[test]
fn a_random_walk_agrees_with_the_model() {
    let rounds = crate::store::conformance::rounds(12);
    let mut runner = TestRunner::new(Config {
        cases: rounds,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let seeds = proptest::collection::vec(proptest::num::u64::ANY, 1..120);
    runner
        .run(&seeds, |seeds| {
            let steps: Vec<Step> = seeds
                .into_iter()
                .map(|seed| Step::random(&mut SmallRng::seed_from_u64(seed)))
                .collect();
            let walked = std::panic::catch_unwind(|| {
                runtime.block_on(conformance::walk(&mut Local::new(|_| {}), &steps));
            });
            walked.map_err(|_| TestCaseError::fail(format!("{steps:#?}")))
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// A reader that is as quick as it can be, beside a writer that makes many streams and a record at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sees_a_record_of_a_commit_sees_its_heads() {
    const COMMITS: usize = 50;
    const STREAMS: usize = 100;
    let local = Local::new(|_| {});
    let name = |commit: usize, at: usize| format!("s{commit}-{at}");
    let reader = {
        let (store, runtime) = (local.store(), Handle::current());
        tokio::task::spawn_blocking(move || {
            for commit in 0..COMMITS {
                let key = format!("t/{commit}");
                while runtime
                    .block_on(store.get(&key))
                    .expect("readable")
                    .is_none()
                {}
                for at in 0..STREAMS {
                    let head = runtime.block_on(store.head(&stream(&name(commit, at))));
                    let last_seq = head.expect("readable").map(|head| head.last_seq);
                    assert_eq!(last_seq, Some(1), "stream {at} of commit {commit}");
                }
            }
        })
    };
    for commit in 0..COMMITS {
        let made = Commit {
            appends: (0..STREAMS)
                .map(|at| append(&name(commit, at), 0, &["x"]))
                .collect(),
            ops: vec![op(&format!("t/{commit}"), Expect::Absent, Some("x"))],
            trims: Vec::new(),
        };
        local.store().commit(made).await.expect("committed");
    }
    reader.await.expect("every head was there");
}
