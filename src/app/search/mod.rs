//! Search over transcripts: a full-text index that is always a little behind the logs, never beside them.
//!
//! The index is SQLite with FTS5, in a file of its own. It is a projection: how far each session is
//! indexed is kept in the same transaction as the text, so that a crash loses or doubles nothing, and a
//! lost or damaged file is built anew from the logs. A search waits a moment for the index to reach what
//! was stored when it was called.

mod index;
mod indexer;
mod query;
mod text;

pub use indexer::run as run_indexer;
pub use query::Query;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::index::Index;
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
    index: Arc<Mutex<Index>>,
    through: watch::Sender<u64>,
    /// Rings when somebody searches.
    wanted: Arc<Notify>,
}

impl Search {
    /// Opens the index in a file, or makes it anew if it is missing, damaged or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        Self::over(Index::open(path).map_err(Error::internal)?)
    }

    /// An index that is gone with the process.
    pub fn in_memory() -> Result<Self> {
        Self::over(Index::in_memory().map_err(Error::internal)?)
    }

    fn over(index: Index) -> Result<Self> {
        let through = index.through().map_err(Error::internal)?;
        Ok(Search {
            index: Arc::new(Mutex::new(index)),
            through: watch::Sender::new(through),
            wanted: Arc::default(),
        })
    }

    /// Runs something on the index, off the async threads.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Index) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let index = self.index.clone();
        tokio::task::spawn_blocking(move || work(&mut index.lock()))
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
            .with(move |index| {
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
