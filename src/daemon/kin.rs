//! Which processes are ours, and how they are ended.
//!
//! Nothing is signalled that is not provably ours: a process that descends from this runner (which is
//! the subreaper, so that what leaves its parent comes to the runner), or one whose environment carries
//! the runner's random marker. A process is named by its id *and* the time it started, and both are
//! looked at again before a signal, so that a reused id is left alone.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// How often a process that was told to end is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A process, named so that a reused id is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub started: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stat {
    process: Process,
    parent: i32,
    zombie: bool,
}

impl Process {
    /// Whether it still runs (a zombie does not).
    pub fn is_alive(self) -> bool {
        read_stat(self.pid).is_some_and(|stat| stat.process == self && !stat.zombie)
    }

    /// Sends it a signal, if it is still the same process.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// The living processes that descend from `root`, without it. Empty where there is no `/proc`.
pub fn descendants(root: i32) -> Vec<Process> {
    below(&table(), &[root])
}

/// The zombies that are `root`'s own children.
pub fn dead_children(root: i32) -> Vec<i32> {
    table()
        .values()
        .filter(|stat| stat.parent == root && stat.zombie)
        .map(|stat| stat.process.pid)
        .collect()
}

/// The living processes of this user whose environment has `variable=value`, and all that descend from
/// them.
pub fn marked(variable: &str, value: &str) -> Vec<Process> {
    use std::os::unix::fs::MetadataExt as _;
    let wanted = format!("{variable}={value}");
    let me = geteuid().as_raw();
    let table = table();
    let roots: Vec<Process> = table
        .values()
        .filter(|stat| !stat.zombie)
        .map(|stat| stat.process)
        .filter(|process| {
            let dir = format!("/proc/{}", process.pid);
            fs::metadata(&dir).is_ok_and(|meta| meta.uid() == me)
                && fs::read(format!("{dir}/environ")).is_ok_and(|environ| {
                    environ
                        .split(|&byte| byte == 0)
                        .any(|pair| pair == wanted.as_bytes())
                })
                && process.is_alive()
        })
        .collect();
    let pids: Vec<i32> = roots.iter().map(|process| process.pid).collect();
    let mut all = roots;
    all.extend(below(&table, &pids));
    all.sort_unstable_by_key(|process| process.pid);
    all.dedup();
    all
}

/// Ends all that `find` finds, again and again until it finds nothing: SIGTERM, after `grace` SIGKILL, and
/// gives up after another five seconds (a process that hangs in the kernel). Says whether all are gone.
pub async fn end_all(find: impl Fn() -> Vec<Process>, grace: Duration) -> bool {
    let start = Instant::now();
    let mut told: Vec<Process> = Vec::new();
    loop {
        let left: Vec<Process> = find();
        if left.is_empty() {
            return true;
        }
        let waited = start.elapsed();
        if waited > grace + Duration::from_secs(5) {
            return false;
        }
        for process in &left {
            if waited >= grace {
                process.signal(Signal::SIGKILL);
            } else if !told.contains(process) {
                process.signal(Signal::SIGTERM);
                told.push(*process);
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether there is a process with this id.
pub fn exists(pid: i32) -> bool {
    !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH))
}

fn below(table: &HashMap<i32, Stat>, roots: &[i32]) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
    for stat in table.values() {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found = Vec::new();
    let mut next: Vec<i32> = roots.to_vec();
    while let Some(parent) = next.pop() {
        // Taken out, so that a loop in a table that changed while it was read ends.
        for stat in children.remove(&parent).unwrap_or_default() {
            next.push(stat.process.pid);
            if !stat.zombie {
                found.push(stat.process);
            }
        }
    }
    found
}

fn table() -> HashMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(read_stat)
        .map(|stat| (stat.process.pid, stat))
        .collect()
}

fn read_stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses and spaces.
    let after = text.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&text[after..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    // State is field 3 of proc_pid_stat(5), the parent 4, the start time 22.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        process: Process { pid, started },
        parent,
        zombie: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn only_what_carries_the_marker_is_ended() {
        let ours = Command::new("sleep")
            .arg("600")
            .env("BATON_RUNNER", "marker-of-this-test")
            .spawn();
        let other = Command::new("sleep")
            .arg("600")
            .env("BATON_RUNNER", "marker-of-this-test-but-longer")
            .spawn();
        let (mut ours, mut other) = (ours.unwrap(), other.unwrap());
        let find = || marked("BATON_RUNNER", "marker-of-this-test");
        assert_eq!(find().len(), 1);
        assert!(end_all(find, Duration::from_secs(5)).await);
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "the other one lives");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_reused_id_is_not_the_same_process() {
        let me = read_stat(std::process::id() as i32).unwrap().process;
        assert!(me.is_alive());
        let other = Process {
            started: me.started + 1,
            ..me
        };
        assert!(!other.is_alive());
        other.signal(Signal::SIGKILL);
    }
}
