//! The thread on which the index is made.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::base::{Error, Result};

/// The thread's name, for who looks at the process.
const NAME: &str = "baton-search";

type Job = Box<dyn FnOnce() + Send>;

/// A thread that has a processor only while nobody else wants it: indexing an event costs many times what storing and
/// delivering it does, and nobody waits for it. It ends with the last handle.
#[derive(Clone)]
pub(super) struct Thread {
    jobs: mpsc::Sender<Job>,
}

impl Thread {
    /// Starts it. `INTERNAL`: the system has no thread.
    pub(super) fn start() -> Result<Self> {
        let (jobs, mut taken) = mpsc::channel::<Job>(1);
        thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || {
                give_way();
                while let Some(job) = taken.blocking_recv() {
                    // Whoever wanted it hears of a panic: its answer is dropped.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })
            .map_err(Error::internal)?;
        Ok(Thread { jobs })
    }

    /// Does something on it. `INTERNAL`: it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move || {
            let _ = tell.send(work());
        });
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| Error::internal("the thread of the search index is gone"))?;
        told.await.map_err(Error::internal)
    }
}

/// Gives this thread the lowest priority. Only Linux has one for each thread: elsewhere it would be the process's.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "the search index is made at the priority of everything else");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_and_ends_no_other_job() {
        let thread = Thread::start().expect("a thread");
        let failed = thread.run(|| assert!(NAME.is_empty(), "on purpose")).await;
        assert!(failed.is_err());
        assert_eq!(thread.run(|| 7).await.expect("it goes on"), 7);
    }

    /// The nice value is the 19th field of a thread's `stat` (proc_pid_stat(5)), the 17th behind its name.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn it_gives_way_to_everything_else() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux tells");
            let (name, rest) = stat.rsplit_once(") ").expect("a name");
            let field = rest.split(' ').nth(16).map(str::to_owned);
            (name.ends_with(NAME), field)
        };
        let own = nice();
        let thread = Thread::start().expect("a thread");
        let its = thread.run(nice).await.expect("it runs");
        assert_eq!(its, (true, Some("19".to_owned())));
        assert_eq!(nice(), own, "and nobody else does");
    }
}
