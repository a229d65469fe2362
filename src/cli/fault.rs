//! Faults that a test asks a whole process for, through its environment; only with the feature `failpoints`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `<point>=<n>`: the process is killed when it passes the point after having passed it `n` times.
/// `<point>=<actions>`: what the crate `fail` knows, as `5*off->3*return`.
const FAULT: &str = "BATON_FAULT";
/// How often the store is compacted, in milliseconds, and then as thoroughly as can be.
const COMPACT: &str = "BATON_FAULT_COMPACT_MS";

/// Puts the fault in place that the environment asks for.
pub fn arm() -> anyhow::Result<()> {
    let Ok(fault) = std::env::var(FAULT) else {
        return Ok(());
    };
    let (point, what) = fault
        .split_once('=')
        .with_context(|| format!("{FAULT} is not <point>=<what>"))?;
    let Ok(passes) = what.parse::<u64>() else {
        return fail::cfg(point, what).map_err(anyhow::Error::msg);
    };
    let passed = AtomicU64::new(0);
    let die = move || {
        if passed.fetch_add(1, Ordering::Relaxed) == passes {
            let _ = kill(Pid::this(), Signal::SIGKILL);
            // The signal needs a moment to arrive, and nothing may happen in it.
            loop {
                std::thread::park();
            }
        }
    };
    fail::cfg_callback(point, die).map_err(anyhow::Error::msg)
}

/// How often to compact, if the environment says so.
pub fn compact_every() -> Option<Duration> {
    let text = std::env::var(COMPACT).ok()?;
    text.parse().ok().map(Duration::from_millis)
}
