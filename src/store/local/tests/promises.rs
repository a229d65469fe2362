//! The suite that every provider passes, over this one.

use std::time::Duration;

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::Local;
use crate::store::Durability;
use crate::store::conformance::{self, Provider, Step};

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
