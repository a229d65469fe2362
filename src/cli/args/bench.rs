//! Arguments of `baton bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::bench::Scenario;
use crate::cli::value;

/// What is to be measured.
#[derive(Debug, ClapArgs)]
pub struct BenchArgs {
    /// The scenarios; all of them if none is named
    pub scenarios: Vec<Scenario>,
    /// Counted rounds of each point, after one that warms up
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// How long a round measures
    #[arg(long, default_value = "3s", value_name = "TIME", value_parser = value::duration)]
    pub duration: Duration,
    /// Small sizes, one round of a fifth of a second: shows that everything works, nothing to quote
    #[arg(long)]
    pub quick: bool,
    /// Bytes of an event's text
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(33..=60_000))]
    pub event_bytes: u32,
    /// Where the measured servers keep their stores, and so which disk is measured
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The older design to measure beside: benches/baselines of the sources, its packages installed with npm ci
    #[arg(long, value_name = "DIR")]
    pub baselines: Option<PathBuf>,
    /// Only points whose name has this text in it
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Write the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How the bare server listens.
#[derive(Debug, ClapArgs)]
pub struct BareArgs {
    /// File with the certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// File with the private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}
