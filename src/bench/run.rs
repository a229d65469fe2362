//! A run: the scenarios one after the other.

use std::time::Instant;

use anyhow::{Context as _, Result};

use super::machine::{Machine, stolen};
use super::plan::{Plan, Scenario};
use super::report::{Point, Report, render};
use super::scenario;

/// A round of which the host took no more than this share of the processors' time is calm.
const CALM: f64 = 0.03;
/// How often a round is measured at the most until one is calm.
const TRIES: usize = 4;
/// What the host took of a round, in the tables.
const TAKEN: &str = "processor time that the host took, %";

/// What every scenario needs.
pub struct Bench<'a> {
    /// What is to be measured.
    pub plan: &'a Plan,
    /// On what.
    pub machine: &'a Machine,
    tell: &'a (dyn Fn(&str) + Sync),
    points: parking_lot::Mutex<Vec<Point>>,
    failures: parking_lot::Mutex<Vec<String>>,
}

impl Bench<'_> {
    /// Says what is going on.
    pub fn tell(&self, text: &str) {
        (self.tell)(text);
    }

    /// Measures a point if it is wanted, and keeps what was measured, or why it could not be: the others go on.
    pub async fn point(
        &self,
        scenario: &str,
        name: &str,
        measure: impl AsyncFnOnce(&mut Point) -> Result<()>,
    ) {
        if !self.wants(name) {
            return;
        }
        self.tell(&format!("{scenario} · {name} …"));
        let mut point = Point::new(scenario, name);
        match measure(&mut point).await {
            Ok(()) => self.done(point),
            Err(error) => self.failed(&format!("{scenario} · {name}"), &error),
        }
    }

    /// Rounds of what a host that takes processors away makes slow, such as when something arrives: each is measured again
    /// until the host took little, a few times at most; the calmest counts, with what was taken of it. The first round
    /// warms up.
    pub async fn calm_rounds(
        &self,
        point: &mut Point,
        round: impl AsyncFn(&mut Point) -> Result<()>,
    ) -> Result<()> {
        for number in self.plan.rounds() {
            let measured = self.calmest(&round).await?;
            if number > 0 {
                point.add_round(&measured);
            }
        }
        Ok(())
    }

    async fn calmest(&self, measure: &impl AsyncFn(&mut Point) -> Result<()>) -> Result<Point> {
        let mut calmest: Option<(f64, Point)> = None;
        for _ in 0..self.plan.size(TRIES, 1) {
            let mut round = Point::new("", "");
            let (before, begun) = (stolen(), Instant::now());
            measure(&mut round).await?;
            let all = begun.elapsed().as_secs_f64() * 100.0 * self.machine.processors as f64;
            let taken = stolen().saturating_sub(before) as f64 / all;
            if calmest.as_ref().is_none_or(|(least, _)| taken < *least) {
                calmest = Some((taken, round));
            }
            if taken <= CALM {
                break;
            }
        }
        let (taken, mut round) = calmest.context("a round")?;
        round.add(TAKEN, "the host", taken * 100.0);
        Ok(round)
    }

    /// Whether a point is wanted.
    pub fn wants(&self, name: &str) -> bool {
        self.plan
            .only
            .as_ref()
            .is_none_or(|only| name.contains(only.as_str()))
    }

    /// A point is measured.
    pub fn done(&self, point: Point) {
        self.tell(&render(&point));
        self.points.lock().push(point);
    }

    /// A point could not be measured: the others go on.
    pub fn failed(&self, what: &str, error: &anyhow::Error) {
        let text = format!("{what}: {error:#}");
        self.tell(&text);
        self.failures.lock().push(text);
    }
}

/// Measures; `tell` is told what goes on, a line or a table at a time. Everything runs on this thread's runtime and is
/// held to the load's processor.
pub fn run(plan: &Plan, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let machine = Machine::look();
    machine.be_load();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let bench = Bench {
        plan,
        machine: &machine,
        tell,
        points: Default::default(),
        failures: Default::default(),
    };
    let before = stolen();
    for scenario in &plan.scenarios {
        runtime.block_on(one(&bench, *scenario));
    }
    runtime.shutdown_background();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        is_optimised: !cfg!(debug_assertions),
        is_quick: plan.is_quick,
        rounds: plan.rounds,
        seconds: plan.duration.as_secs_f64(),
        event_bytes: plan.event_bytes,
        stolen: stolen().saturating_sub(before),
        points: bench.points.into_inner(),
        failures: bench.failures.into_inner(),
        machine,
    })
}

async fn one(bench: &Bench<'_>, scenario: Scenario) {
    match scenario {
        Scenario::Relay => scenario::relay(bench).await,
        Scenario::Fanout => scenario::fanout(bench).await,
        Scenario::Tls => scenario::tls(bench).await,
        Scenario::Flat => scenario::flat(bench).await,
        Scenario::Append => scenario::append(bench).await,
        Scenario::Replay => scenario::replay(bench).await,
        Scenario::Latency => scenario::latency(bench).await,
        Scenario::Idle => scenario::idle(bench).await,
        Scenario::Storm => scenario::storm(bench).await,
        Scenario::List => scenario::list(bench).await,
        Scenario::Startup => scenario::startup(bench).await,
        Scenario::SlowReaders => scenario::slow_readers(bench).await,
        Scenario::Overload => scenario::overload(bench).await,
    }
}
