//! Who looks at a target from beside: which input it is at, how long it is at it, and how much memory it has.

use std::cell::Cell;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use parking_lot::Mutex;

use super::Input;

/// How often it is looked which input a target is at. One that is seen so often twice or more in a row hangs.
const LOOK: Duration = Duration::from_secs(5);
/// After how many looks at the same input it hangs. A debug build on a busy machine needs seconds, never this.
const MAX_LOOKS: u32 = 6;

thread_local! {
    /// How often something has panicked in this thread.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts panics from now on, also those that somebody catches: a job of a runtime that panics is gone in silence.
pub(super) fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            eprintln!("{panic}");
            before(panic);
        }));
    });
}

/// How often something has panicked in this thread since they are counted.
pub(super) fn panics() -> u64 {
    PANICS.get()
}

struct Now {
    count: u64,
    input: Input,
}

/// Ends the process, with the input, when a target does not come to an end with it.
pub(super) struct Watch {
    name: &'static str,
    now: Arc<Mutex<Now>>,
    /// Its end ends the thread that looks.
    _end: SyncSender<()>,
}

impl Watch {
    pub(super) fn new(name: &'static str) -> Self {
        let now = Arc::new(Mutex::new(Now {
            count: 0,
            input: Input(Vec::new()),
        }));
        let (end, ended) = sync_channel(1);
        let seen = Arc::clone(&now);
        std::thread::spawn(move || {
            let (mut at, mut looks) = (0, 0);
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let now = seen.lock();
                looks = if now.count == at { looks + 1 } else { 0 };
                at = now.count;
                if looks >= MAX_LOOKS && at % 2 == 1 {
                    eprintln!("{name} hangs at\n{:?}", now.input);
                    std::process::abort();
                }
            }
        });
        Watch {
            name,
            now,
            _end: end,
        }
    }

    /// Does something with an input. Its panic says which input that was; what was made is printed by bolero.
    pub(super) fn of(&self, what: &str, input: &Input, run: impl FnOnce()) {
        struct Told<'a>(&'a str, &'a str, &'a Input);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() && self.1 != "made" {
                    eprintln!("{} fails at {}:\n{:?}", self.0, self.1, self.2);
                }
            }
        }
        {
            let mut now = self.now.lock();
            now.count += 1;
            now.input.clone_from(input);
        }
        let told = Told(self.name, what, input);
        run();
        drop(told);
        self.now.lock().count += 1;
    }
}

/// How much memory the process has, after a fifth of the runs and at the end.
pub(super) struct Memory {
    runs: usize,
    done: usize,
    early: u64,
}

impl Memory {
    pub(super) fn new(runs: usize) -> Self {
        Memory {
            runs,
            done: 0,
            early: 0,
        }
    }

    pub(super) fn count(&mut self) {
        self.done += 1;
        if self.done == self.runs / 5 {
            self.early = status_kib("VmRSS:");
        }
    }

    /// After a fifth of the runs, now, and at most.
    pub(super) fn kib(&self) -> (u64, u64, u64) {
        (self.early, status_kib("VmRSS:"), status_kib("VmHWM:"))
    }
}

/// A line of this process's status in KiB; 0 where `/proc` does not say it.
fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}
