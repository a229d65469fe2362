//! The machine that is measured on: its processors, and how quiet it is.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// Which processors the two sides get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Split {
    /// The server's.
    pub server: usize,
    /// The load's.
    pub load: usize,
}

/// What is known of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// How many processors this process may use.
    pub processors: usize,
    /// Which of them server and load are held to; `None` with a single one, where both share it.
    pub split: Option<Split>,
    /// The kernel.
    pub kernel: String,
    /// Processes that wanted to run in the last minute, on average, when the run began.
    pub load_average: f64,
}

impl Machine {
    /// Looks.
    pub fn look() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let info = read("/proc/cpuinfo");
        let name = info
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
        Machine {
            processor: name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors,
            split: (processors > 1).then_some(Split { server: 0, load: 1 }),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load_average(),
        }
    }

    /// Holds this thread, and all that it starts from now on, to the processor of the load.
    pub fn be_load(&self) {
        if let Some(split) = self.split {
            hold(split.load);
        }
    }

    /// Does something as the server: what it starts is held to the server's processor.
    pub fn as_server<T>(&self, start: impl FnOnce() -> T) -> T {
        let Some(split) = self.split else {
            return start();
        };
        hold(split.server);
        let started = start();
        hold(split.load);
        started
    }
}

/// Time that the host took from this machine's processors since it started, in hundredths of a second.
pub fn stolen() -> u64 {
    let stat = read("/proc/stat");
    let mut fields = stat.lines().next().unwrap_or_default().split_whitespace();
    fields
        .nth(8)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn load_average() -> f64 {
    let text = read("/proc/loadavg");
    let first = text.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// What cannot be read is not known; nothing of it decides anything.
fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn hold(processor: usize) {
    let mut set = CpuSet::new();
    let held = set
        .set(processor)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(error) = held {
        tracing::warn!(processor, %error, "cannot be held to one processor; figures will be noisier");
    }
}
