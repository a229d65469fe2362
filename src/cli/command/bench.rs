//! `baton bench`: measures, and says what came of it.

use std::io::Write as _;

use anyhow::Context as _;
use clap::ValueEnum as _;

use crate::bench::{self, Plan, Scenario, TlsFiles};
use crate::cli::args::{BareArgs, BenchArgs};
use crate::cli::exit::{DONE, FAILED};
use crate::cli::output::Out;
use crate::cli::wiring;

/// Measures; fails if something could not be measured. A goal that is missed is a result, not a failure.
pub fn run(json: bool, args: BenchArgs) -> anyhow::Result<u8> {
    let plan = plan(&args)?;
    let progress = |text: &str| {
        // Who does not listen misses it.
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    let report = bench::run(&plan, &progress)?;
    if let Some(file) = &args.out {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    let text = match json {
        true => serde_json::to_string(&report)?,
        false => report.render(),
    };
    Out::new(json).part(&text)?;
    Ok(if report.failures.is_empty() {
        DONE
    } else {
        FAILED
    })
}

/// The bare servers that `baton bench` holds its figures against.
pub fn serve_bare(args: BareArgs) -> anyhow::Result<u8> {
    let tls = args.tls_cert.zip(args.tls_key);
    let tls = tls.map(|(cert, key)| TlsFiles { cert, key });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(bench::serve_bare(tls))?;
    Ok(DONE)
}

fn plan(args: &BenchArgs) -> anyhow::Result<Plan> {
    let mut scenarios = args.scenarios.clone();
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let (rounds, duration) = match args.quick {
        true => (1, std::time::Duration::from_millis(200)),
        false => (args.rounds as usize, args.duration),
    };
    Ok(Plan {
        scenarios,
        rounds,
        duration,
        is_quick: args.quick,
        event_bytes: args.event_bytes as usize,
        program: std::env::current_exe().context("finding this program")?,
        token_file: wiring::TOKEN_FILE,
        dir: args.dir.clone(),
        baselines: args.baselines.clone(),
        only: args.only.clone(),
    })
}
