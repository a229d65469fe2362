//! A viewer of a terminal: a cursor into what it showed, and whatever comes after it.
//!
//! Replay and live are one path, and a viewer holds no queue: it reads the stream from its offset as far as there is
//! something, and then waits for it to grow.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::extent::{Extent, extent, seq_before};
use super::room::Viewer;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::base::id::{SessionId, TerminalId};
use crate::base::{Code, Error, Result};
use crate::domain::EndInfo;
use crate::domain::session::Lifecycle;
use crate::domain::terminal::{Output, Size};
use crate::store::{self, SharedStore, Stream};
use crate::wire::terminal::outputs_from_entries;

/// How many bytes one read brings at most, beside the run that reaches beyond.
const READ_BYTES: usize = 64 * 1024;
/// How long a viewer goes without a word.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);

/// Where a viewer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Bytes from this offset; 0 is the oldest that is kept.
    At(u64),
    /// At most this many of the newest bytes.
    Tail(u64),
}

/// What a viewer is shown.
#[derive(Clone, Debug)]
pub enum Item {
    /// How things are.
    Started {
        /// The viewer.
        viewer: u64,
        /// The size that holds.
        size: Size,
        /// The offset of the first byte that will be shown.
        offset: u64,
        /// What is kept.
        extent: Extent,
    },
    /// Bytes.
    Output(Output),
    /// The size changed.
    Size(Size),
    /// Bytes are missing; it goes on with this offset.
    Truncated(u64),
    /// Nothing new up to this offset.
    Progress(u64),
    /// The program has ended, and everything was shown.
    Exit {
        /// How.
        end: Option<EndInfo>,
        /// Where the session is now.
        lifecycle: Lifecycle,
    },
}

/// A viewer of a terminal.
pub struct TerminalReader {
    app: App,
    store: SharedStore,
    id: SessionId,
    stream: Stream,
    viewer: Viewer,
    /// Entries up to this seq were read.
    after: u64,
    /// The offset of the next byte to show.
    offset: u64,
    ready: VecDeque<Item>,
    grown: watch::Receiver<u64>,
    log: watch::Receiver<u64>,
    /// Whether the session is to be looked at again.
    look: bool,
    over: Option<(Option<EndInfo>, Lifecycle)>,
    done: bool,
    told: Instant,
}

impl App {
    /// Begins to show a terminal. `size` is the viewer's, `None` for one whose size does not count. OUT_OF_RANGE: the
    /// offset lies in the future.
    pub async fn watch_terminal(
        &self,
        caller: &Caller,
        id: TerminalId,
        start: Start,
        size: Option<Size>,
    ) -> Result<TerminalReader> {
        let (session, _) = self.terminal_session(caller, id).await?;
        let id = session.id;
        let store = self.store().clone();
        let stream = Stream::terminal(id);
        // The wake-ups are taken before anything is read, so that nothing comes between them unnoticed.
        let grown = store.watch(&stream);
        let log = store.watch(&Stream::session(id));
        let extent = extent(store.as_ref(), id).await?;
        let (oldest, next) = (extent.oldest_offset, extent.next_offset);
        let (offset, is_cut) = match start {
            Start::At(0) => (oldest, false),
            Start::At(offset) if offset > next => {
                return Err(Error::new(
                    Code::OutOfRange,
                    format!(
                        "offset {offset} lies in the future: the terminal has shown {next} bytes"
                    ),
                )
                .with("first", oldest)
                .with("head", next));
            }
            Start::At(offset) => (offset.max(oldest), offset < oldest),
            Start::Tail(most) => (next.saturating_sub(most).max(oldest), false),
        };
        let after = seq_before(store.as_ref(), id, &extent, offset).await?;
        let has = session.screen.unwrap_or_default().size;
        let mut viewer = self.terminals().join(self, id, has, size)?;
        let mut ready = VecDeque::from([Item::Started {
            viewer: viewer.number(),
            size: *viewer.size.borrow_and_update(),
            offset,
            extent,
        }]);
        if is_cut {
            ready.push_back(Item::Truncated(offset));
        }
        Ok(TerminalReader {
            app: self.clone(),
            store,
            id,
            stream,
            viewer,
            after,
            offset,
            ready,
            grown,
            log,
            look: true,
            over: None,
            done: false,
            told: Instant::now(),
        })
    }
}

impl TerminalReader {
    /// The viewer.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// What comes next; waits for it. `None` after the exit. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if self.done {
                return Ok(None);
            }
            if let Some(item) = self.ready.pop_front() {
                self.told = Instant::now();
                return Ok(Some(item));
            }
            if self.viewer.size.has_changed().unwrap_or(false) {
                let size = *self.viewer.size.borrow_and_update();
                self.ready.push_back(Item::Size(size));
                continue;
            }
            self.grown.mark_unchanged();
            if self.look {
                self.log.mark_unchanged();
                self.over = self.how_it_ended().await?;
                self.look = false;
            }
            // Whether it is over was looked at before the read: what was shown before the end is there then.
            if self.read().await? {
                continue;
            }
            if let Some((end, lifecycle)) = self.over.take() {
                self.done = true;
                return Ok(Some(Item::Exit { end, lifecycle }));
            }
            self.wait().await?;
        }
    }

    async fn how_it_ended(&self) -> Result<Option<(Option<EndInfo>, Lifecycle)>> {
        let (session, _) = self
            .app
            .session_record(self.id)
            .await?
            .ok_or_else(|| Error::not_found("terminal", TerminalId::of(self.id)))?;
        Ok(session
            .is_over()
            .then_some((session.end, session.lifecycle)))
    }

    /// Reads on; false if there is nothing.
    async fn read(&mut self) -> Result<bool> {
        let chunks = match self.store.read(&self.stream, self.after, READ_BYTES).await {
            Ok(chunks) => chunks,
            // It has shown nothing yet.
            Err(store::Error::NoStream { .. }) => return Ok(false),
            Err(store::Error::Truncated { head, .. }) => {
                self.after = head.first_seq.saturating_sub(1);
                return Ok(true);
            }
            Err(error) => return Err(failure::from_store(error)),
        };
        let mut any = false;
        for chunk in chunks {
            let last = chunk.last_seq;
            let outputs = outputs_from_entries(chunk.bytes)?;
            for (seq, output) in (chunk.first_seq..).zip(outputs) {
                let is_new = seq > self.after;
                let Some(output) = output.from(self.offset).filter(|_| is_new) else {
                    continue;
                };
                if output.offset > self.offset {
                    self.ready.push_back(Item::Truncated(output.offset));
                }
                self.offset = output.end();
                self.ready.push_back(Item::Output(output));
            }
            self.after = self.after.max(last);
            any = true;
        }
        Ok(any)
    }

    async fn wait(&mut self) -> Result<()> {
        let due = self.told + PROGRESS_EVERY;
        tokio::select! {
            grown = self.grown.changed() => grown.map_err(|_| going())?,
            log = self.log.changed() => {
                log.map_err(|_| going())?;
                self.look = true;
            }
            size = self.viewer.size.changed() => {
                if size.is_ok() {
                    // Seen again by who asks for what is next.
                    self.viewer.size.mark_changed();
                }
            }
            () = tokio::time::sleep_until(due) => {
                self.ready.push_back(Item::Progress(self.offset));
            }
        }
        Ok(())
    }
}

fn going() -> Error {
    Error::new(
        Code::Unavailable,
        "the server is shutting down; come back and go on from the last offset",
    )
}
