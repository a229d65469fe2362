//! A reader of one session's log: a cursor, and whatever comes after it.
//!
//! A reader holds no queue. It reads the log from its cursor as far as there is something, and then waits
//! for the log to grow; so the seam between replay and live has neither gap nor duplicate, and a slow
//! reader costs the server one number.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Open;
use super::list::check_cursor;
use super::transients::Watching;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::domain::{EventKind, Transient};
use crate::store::{self, Chunk, Head, SharedStore, Stream};
use crate::wire::{self, EventBatch};

/// How many bytes one read of the log brings at most, and so how large a message to a reader is.
const READ_BYTES: usize = 64 * 1024;
/// How long a reader goes without a word before it says how far it is.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// How long a reader that asked for less gathers what comes.
const CONFLATE_FOR: Duration = Duration::from_millis(100);

/// Where a reader stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The epoch that `after_seq` belongs to; 0 if it is not known.
    pub log_epoch: u64,
    /// Events after this seq.
    pub after_seq: u64,
    /// Start at the end instead.
    pub tail: bool,
}

/// What a reader wants.
#[derive(Clone, Debug, Default)]
pub struct ReaderOptions {
    /// Only these kinds; empty is all.
    pub kinds: Vec<EventKind>,
    /// Whether to leave out what a later event replaces, and to gather longer.
    pub conflate: bool,
    /// Whether to see what is live and never stored.
    pub transients: bool,
}

/// What a reader is given.
#[derive(Clone, Debug)]
pub enum Item {
    /// The log is being followed.
    Started {
        /// Its epoch.
        log_epoch: u64,
        /// The oldest seq there is.
        first: u64,
        /// The newest seq there is.
        head: u64,
    },
    /// Events, encoded.
    Events(EventBatch),
    /// Something live.
    Transient(Transient),
    /// Everything up to here was given.
    Progress(u64),
    /// Events before this seq are gone; it goes on with it.
    Truncated {
        /// The oldest seq there is.
        oldest: u64,
        /// The log's epoch.
        log_epoch: u64,
    },
}

/// A reader of one session's log.
pub struct Reader {
    store: SharedStore,
    stream: Stream,
    options: ReaderOptions,
    head: Head,
    after: u64,
    wake: watch::Receiver<u64>,
    board: Option<Watching>,
    ready: VecDeque<Item>,
    chunks: VecDeque<Chunk>,
    told: (u64, Instant),
    /// Rings when a word may be due: kept, since a timer that is made for each wait costs more than the wait.
    bell: Pin<Box<Sleep>>,
    _open: Open,
}

impl App {
    /// A reader of a session's log. NOT_FOUND: there is no such session, or it is not the caller's to see. OUT_OF_RANGE: the cursor lies in the
    /// future. A cursor that lies before the oldest event, or in another epoch, is given `Truncated` first.
    pub async fn read_session(
        &self,
        caller: &Caller,
        id: SessionId,
        cursor: Cursor,
        options: ReaderOptions,
    ) -> Result<Reader> {
        self.require_session(caller, id).await?;
        let stream = Stream::session(id);
        // The wake-up is taken before the head is read, so that nothing comes between them unnoticed.
        let wake = self.store().watch(&stream);
        let head = self
            .store()
            .head(&stream)
            .await
            .map_err(failure::from_store)?
            .ok_or_else(|| Error::not_found("session", id))?;
        let mut ready = VecDeque::from([Item::Started {
            log_epoch: head.log_epoch,
            first: head.first_seq,
            head: head.last_seq,
        }]);
        let oldest = head.first_seq.saturating_sub(1);
        let after = if cursor.tail {
            head.last_seq
        } else {
            let same_log = cursor.log_epoch == 0 || cursor.log_epoch == head.log_epoch;
            match check_cursor(&head, cursor.log_epoch, cursor.after_seq) {
                Ok(()) if cursor.after_seq >= oldest => cursor.after_seq,
                Err(error) if same_log && cursor.after_seq > head.last_seq => return Err(error),
                // What was asked for is gone, wholly or in part: say so, and go on with what there is.
                Ok(()) | Err(_) => {
                    ready.push_back(Item::Truncated {
                        oldest: head.first_seq,
                        log_epoch: head.log_epoch,
                    });
                    oldest
                }
            }
        };
        let board = options.transients.then(|| self.transients().watch(id));
        Ok(Reader {
            store: self.store().clone(),
            stream,
            options,
            head,
            after,
            wake,
            board,
            ready,
            chunks: VecDeque::new(),
            told: (0, Instant::now()),
            bell: Box::pin(sleep_until(Instant::now() + PROGRESS_EVERY)),
            _open: Open::of("session"),
        })
    }
}

impl Reader {
    /// What comes next; waits for it. Cancelling the wait loses nothing. An error ends the reader:
    /// NOT_FOUND when the session was deleted.
    pub async fn next(&mut self) -> Result<Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            if let Some(chunk) = self.chunks.pop_front() {
                self.take(chunk)?;
                continue;
            }
            let newest = *self.wake.borrow_and_update();
            // Where nothing came since, nobody asks the store: that costs each of many readers as much as reading does.
            // 0 is the wake-up of a log that was dropped.
            let is_at_end = newest != 0 && newest <= self.after;
            let read = match is_at_end {
                true => Ok(Vec::new()),
                false => self.store.read(&self.stream, self.after, READ_BYTES).await,
            };
            match read {
                Ok(chunks) if !chunks.is_empty() => {
                    self.chunks.extend(chunks);
                    continue;
                }
                Ok(_) => {}
                Err(store::Error::Truncated { head, .. }) => {
                    self.after = head.first_seq.saturating_sub(1);
                    self.ready.push_back(Item::Truncated {
                        oldest: head.first_seq,
                        log_epoch: head.log_epoch,
                    });
                    continue;
                }
                Err(error) => return Err(failure::from_store(error)),
            }
            if let Some(board) = &mut self.board {
                let news = board.news();
                if !news.is_empty() {
                    self.ready.extend(news.into_iter().map(Item::Transient));
                    continue;
                }
            }
            self.wait().await?;
        }
    }

    async fn wait(&mut self) -> Result<()> {
        // A log of which only other kinds grow wakes the reader all the time: that is no word to it.
        let due = self.told.1 + PROGRESS_EVERY;
        if due <= Instant::now() {
            self.told = (self.after, Instant::now());
            self.ready.push_back(Item::Progress(self.after));
            return Ok(());
        }
        let live = async {
            match &mut self.board {
                Some(board) => board.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            grown = self.wake.changed() => {
                if grown.is_err() {
                    return Err(Error::new(Code::Unavailable, "the server is shutting down; come back and go on from the last event"));
                }
                if self.options.conflate {
                    tokio::time::sleep(CONFLATE_FOR).await;
                }
            }
            () = live => {}
            // Early, if something was told since it was set; whether a word is due is looked at next.
            () = self.bell.as_mut() => self.bell.as_mut().reset(due),
        }
        Ok(())
    }

    /// Turns a run of entries into what the reader is given.
    fn take(&mut self, chunk: Chunk) -> Result<()> {
        let last = chunk.last_seq;
        // A run that begins before the cursor, or of which only some kinds are wanted, is taken apart.
        let whole = chunk.first_seq == self.after + 1
            && self.options.kinds.is_empty()
            && !self.options.conflate;
        let batch = EventBatch::from_encoded(chunk.bytes);
        let batch = if whole { batch } else { self.select(&batch)? };
        self.after = last;
        if !batch.encoded().is_empty() {
            self.told = (last, Instant::now());
            self.ready.push_back(Item::Events(batch));
        }
        Ok(())
    }

    fn select(&self, batch: &EventBatch) -> Result<EventBatch> {
        let mut events = batch.events().map_err(Error::internal)?;
        events.retain(|event| {
            event.seq > self.after
                && (self.options.kinds.is_empty()
                    || wire::kind_of(event).is_some_and(|kind| self.options.kinds.contains(&kind)))
        });
        if self.options.conflate {
            let mut newest = std::collections::HashMap::new();
            for event in &events {
                if let Some(kind) = wire::kind_of(event).filter(|kind| kind.is_conflated()) {
                    newest.insert(kind, event.seq);
                }
            }
            events.retain(|event| {
                wire::kind_of(event)
                    .and_then(|kind| newest.get(&kind))
                    .is_none_or(|seq| *seq == event.seq)
            });
        }
        Ok(EventBatch::from_events(&events))
    }

    /// The log's head when the reader began.
    pub fn head(&self) -> Head {
        self.head
    }
}
