//! Search over transcripts: a full-text index that is always a little behind the logs, never beside them.
//!
//! The index is SQLite with FTS5, in a file of its own. It is a projection: how far each session is
//! indexed is kept in the same transaction as the text, so that a crash loses or doubles nothing, and a
//! lost or damaged file is built anew from the logs. A search waits a moment for the index to reach what
//! was stored when it was called, but not for what is being written: it reads on a connection of its own.
//!
//! While nobody searches, the index is made on a thread that gives way to everything else; for a search that waits, it is
//! made with everybody else's priority.

mod index;
mod indexer;
mod query;
mod text;
mod thread;

pub use indexer::run as run_indexer;
pub use query::Query;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::index::Index;
use self::thread::Thread;
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::SessionId;
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result, Timestamp};
use crate::domain::EventKind;

/// How long a search waits for the index.
const CATCH_UP: Duration = Duration::from_secs(3);

/// One event that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The session.
    pub session_id: SessionId,
    /// The event.
    pub seq: u64,
    /// When it was accepted.
    pub time: Timestamp,
    /// Its kind.
    pub kind: EventKind,
    /// The text around it; what was found stands between ‹ and ›.
    pub snippet: String,
}

/// The index over all transcripts.
#[derive(Clone)]
pub struct Search {
    /// What writes.
    index: Arc<Mutex<Index>>,
    /// What finds; in memory it is the same.
    finder: Arc<Mutex<Index>>,
    thread: Thread,
    through: watch::Sender<u64>,
    /// Rings when somebody searches.
    wanted: Arc<Notify>,
    /// How many searches wait for the index.
    waiting: Arc<AtomicUsize>,
}

/// A search that waits for the index.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Search {
    /// Opens the index in a file, or makes it anew if it is missing, damaged or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        let index = Index::open(path).map_err(Error::internal)?;
        let finder = Index::open_to_read(path).map_err(Error::internal)?;
        Self::over(index, Some(finder))
    }

    /// An index that is gone with the process.
    pub fn in_memory() -> Result<Self> {
        Self::over(Index::in_memory().map_err(Error::internal)?, None)
    }

    fn over(index: Index, finder: Option<Index>) -> Result<Self> {
        let through = index.through().map_err(Error::internal)?;
        let index = Arc::new(Mutex::new(index));
        Ok(Search {
            finder: finder.map_or_else(|| index.clone(), |finder| Arc::new(Mutex::new(finder))),
            index,
            thread: Thread::start()?,
            through: watch::Sender::new(through),
            wanted: Arc::default(),
            waiting: Arc::default(),
        })
    }

    /// Does what making the index takes: on the thread that gives way, or, while a search waits, on one that does not.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        match self.waiting.load(Ordering::Relaxed) {
            0 => self.thread.run(work).await,
            _ => tokio::task::spawn_blocking(work)
                .await
                .map_err(Error::internal),
        }
    }

    /// Changes the index, or asks what it is changed by.
    async fn make<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Index) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let index = self.index.clone();
        self.aside(move || work(&mut index.lock()))
            .await?
            .map_err(Error::internal)
    }

    /// Finds something in the index, off the async threads.
    async fn find<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Index) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let finder = self.finder.clone();
        tokio::task::spawn_blocking(move || work(&finder.lock()))
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)
    }
}

impl App {
    /// Waits until everything is indexed that was acknowledged before this was called.
    async fn catch_up(&self) {
        // The index knows by the records which logs have grown.
        self.sessions().write_records().await;
        let newest = *self.store().watch_revision().borrow();
        let mut through = self.search().through.subscribe();
        let _waiting = Waiting::begin(&self.search().waiting);
        self.search().wanted.notify_one();
        // Its sender lives in the app.
        let _ = through.wait_for(|at| *at >= newest).await;
    }

    /// Searches the text of transcripts that the caller sees, newest first.
    pub async fn search_events(
        &self,
        caller: &Caller,
        query: &str,
        session: Option<SessionId>,
        kinds: &[EventKind],
        page: &PageRequest,
    ) -> Result<Page<Hit>> {
        let query = Query::parse(query)?;
        if let Some(id) = session {
            self.get_session(caller, id).await?;
        }
        let foreign = || Error::invalid("page_token", "is not one of this list");
        // A page begins after an event, not after a row: rows count what others wrote too.
        let before = match &page.after {
            Some(key) => {
                let (id, seq) = key.split_once('/').ok_or_else(foreign)?;
                let id: SessionId = id.parse().map_err(|_| foreign())?;
                let seq: u64 = seq.parse().map_err(|_| foreign())?;
                if !self.sees(caller, id).await? {
                    return Err(foreign());
                }
                Some((id, seq))
            }
            None => None,
        };
        // An index that is further behind than that still answers, with what it has.
        let _ = tokio::time::timeout(CATCH_UP, self.catch_up()).await;
        let size = page.size;
        let kinds = kinds.to_vec();
        let among = match session {
            Some(id) => Some(vec![id]),
            None => self.sessions_seen(caller).await?,
        };
        let found = self
            .search()
            .find(move |index| {
                let before = match before {
                    Some((id, seq)) => match index.row_of(id, seq)? {
                        Some(row) => Some(row),
                        None => return Ok(None),
                    },
                    None => None,
                };
                index
                    .find(&query, among.as_deref(), &kinds, before, size + 1)
                    .map(Some)
            })
            .await?;
        let mut items = found.ok_or_else(foreign)?;
        let more = items.len() > size;
        items.truncate(size);
        let next = items
            .last()
            .filter(|_| more)
            .map(|hit| format!("{}/{}", hit.session_id, hit.seq));
        Ok(Page { items, next })
    }
}

#[cfg(test)]
mod tests {
    use super::index::Doc;
    use super::*;

    /// A search reads while the index is written to, and until then finds what was there before.
    #[test]
    fn a_search_does_not_wait_for_what_is_being_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let search = Search::open(&dir.path().join("search.db")).expect("an index");
        let session = SessionId::from_bits(1);
        let doc = |seq| Doc {
            seq,
            time: Timestamp::EPOCH,
            kind: EventKind::Message,
            text: "a zephyr".to_owned(),
        };
        let mut index = search.index.lock();
        let added = index.add(&session.to_string(), &[doc(1)], 1);
        added.expect("written");
        let query = Query::parse("zephyr").expect("a query");
        let found = || {
            let finder = search.finder.try_lock().expect("nobody else has it");
            let hits = finder.find(&query, None, &[], None, 10);
            let hits = hits.expect("read");
            hits.iter().map(|hit| hit.seq).collect::<Vec<_>>()
        };
        let writing = index.writing(&doc(2)).expect("written");
        assert_eq!(found(), vec![1]);
        writing.commit().expect("written");
        assert_eq!(found(), vec![2, 1]);
    }

    #[tokio::test]
    async fn the_index_gives_way_only_while_no_search_waits_for_it() {
        let search = Search::in_memory().expect("an index");
        let name = || std::thread::current().name().map(str::to_owned);
        let aside = search.aside(name).await.expect("done");
        assert_eq!(aside.as_deref(), Some("baton-search"));
        let waiting = Waiting::begin(&search.waiting);
        assert_ne!(search.aside(name).await.expect("done"), aside);
        drop(waiting);
        assert_eq!(search.aside(name).await.expect("done"), aside);
    }
}
