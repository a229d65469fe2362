//! Terminals: opened as interactive sessions, typed into, resized, watched.
//!
//! What a terminal shows is a stream of its own in the journal, `term/SESSION`: entries with byte offsets, appended
//! in the commit that says how far the session's spool is stored, and trimmed at the front. A viewer is a cursor into
//! it. What is typed, and how large a terminal is to be, goes straight down the daemon's link and is kept nowhere:
//! people type passwords.

mod extent;
mod reader;
mod room;

pub use extent::Extent;
pub(crate) use extent::extent;
pub use reader::{Item, Start, TerminalReader};
pub use room::{Terminals, Viewer};

use std::time::Duration;

use bytes::Bytes;

use crate::app::access::Caller;
use crate::app::sessions::{NewSession, SessionFilter, Shown};
use crate::app::{App, failure};
use crate::base::id::{DaemonId, SessionId, TerminalId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::session::{Lifecycle, Mode, Session};
use crate::domain::terminal::{Act, MAX_INPUT_BYTES, Screen, Size, SizePolicy};
use crate::store::Stream;

/// How long a daemon has to say that bytes were typed.
const DEADLINE: Duration = Duration::from_secs(10);

/// A terminal as it is shown.
#[derive(Clone, Debug)]
pub struct ShownTerminal {
    /// Its session.
    pub session: Shown,
    /// How large it is, and whose size holds.
    pub screen: Screen,
    /// What is kept of what it showed.
    pub extent: Extent,
    /// How many viewers there are now.
    pub viewers: usize,
}

impl App {
    /// Opens a terminal: an interactive session.
    pub async fn open_terminal(
        &self,
        caller: &Caller,
        request_id: &str,
        mut new: NewSession,
    ) -> Result<ShownTerminal> {
        new.mode = Mode::Interactive;
        if new.harness.is_empty() {
            new.harness = "command".to_owned();
        }
        let session = self.create_session(caller, request_id, new).await?;
        self.show_terminal(caller, TerminalId::of(session.id)).await
    }

    /// One terminal. NOT_FOUND: there is none, or it is not the caller's to see.
    pub async fn show_terminal(&self, caller: &Caller, id: TerminalId) -> Result<ShownTerminal> {
        let (session, revision) = self.terminal_session(caller, id).await?;
        let shown = self.shown(session, revision).await?;
        self.shown_terminal(shown).await
    }

    /// Terminals that the caller sees, newest first.
    pub async fn list_terminals(
        &self,
        caller: &Caller,
        daemon_id: Option<DaemonId>,
        living: bool,
        page: &PageRequest,
    ) -> Result<Page<ShownTerminal>> {
        let filter = SessionFilter {
            daemon_id,
            mode: Some(Mode::Interactive),
            lifecycles: match living {
                true => Lifecycle::ALL
                    .into_iter()
                    .filter(|state| state.is_living())
                    .collect(),
                false => Vec::new(),
            },
            ..SessionFilter::default()
        };
        let sessions = self.list_sessions(caller, &filter, page).await?;
        let mut items = Vec::with_capacity(sessions.items.len());
        for shown in sessions.items {
            items.push(self.shown_terminal(shown).await?);
        }
        Ok(Page {
            items,
            next: sessions.next,
        })
    }

    /// Types bytes. Returns when the terminal has taken them.
    pub async fn write_terminal(
        &self,
        caller: &Caller,
        id: TerminalId,
        viewer: Option<u64>,
        data: Bytes,
    ) -> Result<()> {
        if data.is_empty() || data.len() > MAX_INPUT_BYTES {
            return Err(Error::invalid(
                "data",
                format!(
                    "has {} bytes; 1 to {MAX_INPUT_BYTES} are allowed",
                    data.len()
                ),
            ));
        }
        let (session, _) = self.terminal_session(caller, id).await?;
        running(&session)?;
        if let Some(viewer) = viewer {
            self.terminals().typed(session.id, viewer);
        }
        self.relay()
            .ask_terminal(session.daemon_id, session.id, Act::Type(data), DEADLINE)
            .await
    }

    /// Changes a viewer's size, or the terminal's own, and whose size holds. Says which size holds now.
    pub async fn resize_terminal(
        &self,
        caller: &Caller,
        id: TerminalId,
        viewer: Option<u64>,
        size: Option<Size>,
        policy: Option<SizePolicy>,
    ) -> Result<Size> {
        let (session, _) = self.terminal_session(caller, id).await?;
        running(&session)?;
        if let Some(policy) = policy {
            self.sessions()
                .step(session.id, move |step| {
                    if let Some(screen) = &mut step.live.session.screen {
                        screen.policy = policy;
                        step.touch();
                    }
                    Ok(())
                })
                .await?;
        }
        match (viewer, size) {
            (Some(viewer), Some(size)) => {
                if !self.terminals().resize(session.id, viewer, size) {
                    return Err(Error::not_found("viewer", viewer));
                }
                self.settle_size(session.id, None).await
            }
            (None, Some(size)) => self.settle_size(session.id, Some(size)).await,
            (_, None) => self.settle_size(session.id, None).await,
        }
    }

    /// Ends a terminal's session. Succeeds if it has ended.
    pub async fn close_terminal(
        &self,
        caller: &Caller,
        request_id: &str,
        id: TerminalId,
        force: bool,
    ) -> Result<ShownTerminal> {
        self.terminal_session(caller, id).await?;
        self.end_session(caller, request_id, id.session(), force)
            .await?;
        self.show_terminal(caller, id).await
    }

    /// The session of a terminal. One without a terminal is answered like one that is not there.
    async fn terminal_session(&self, caller: &Caller, id: TerminalId) -> Result<(Session, u64)> {
        let none = || Error::not_found("terminal", id);
        match self.get_session(caller, id.session()).await {
            Ok((session, revision)) if session.screen.is_some() => Ok((session, revision)),
            Ok(_) => Err(none()),
            Err(error) if error.code() == Code::NotFound => Err(none()),
            Err(error) => Err(error),
        }
    }

    async fn shown_terminal(&self, shown: Shown) -> Result<ShownTerminal> {
        let id = shown.session.id;
        Ok(ShownTerminal {
            screen: shown.session.screen.unwrap_or_default(),
            extent: extent(self.store().as_ref(), id).await?,
            viewers: self.terminals().viewers(id),
            session: shown,
        })
    }

    /// Gives a terminal the size that is to hold: `asked`, or what its viewers' sizes come to. Says which size it
    /// has after that.
    pub(crate) async fn settle_size(&self, id: SessionId, asked: Option<Size>) -> Result<Size> {
        let app = self.clone();
        // A viewer that leaves in the middle must not leave a terminal of another size than its record says.
        self.to_its_end(async move { app.settle_size_whole(id, asked).await })
            .await
    }

    async fn settle_size_whole(&self, id: SessionId, asked: Option<Size>) -> Result<Size> {
        // One after the other, so that the last one wins at the daemon as it does here.
        let _turn = self.terminals().turn(id).await;
        let (session, _) = self
            .session_record(id)
            .await?
            .ok_or_else(|| Error::not_found("session", id))?;
        running(&session)?;
        let screen = session.screen.unwrap_or_default();
        let wanted = asked
            .or_else(|| self.terminals().holds(id, screen.policy))
            .unwrap_or(screen.size);
        if wanted == screen.size {
            return Ok(wanted);
        }
        self.relay()
            .ask_terminal(session.daemon_id, id, Act::Resize(wanted), DEADLINE)
            .await?;
        self.sessions()
            .step(id, move |step| {
                if let Some(screen) = &mut step.live.session.screen {
                    screen.size = wanted;
                    step.touch();
                }
                Ok(())
            })
            .await?;
        self.terminals().has_size(id, wanted);
        Ok(wanted)
    }

    /// Lets go of the beginning of what a terminal showed, now and then, after `shown` more bytes.
    pub(crate) async fn tidy_terminal(&self, id: SessionId, shown: u64) {
        let most = self.sessions().options().scrollback_bytes;
        if !self.terminals().is_due(id, shown, (most / 4).max(1)) {
            return;
        }
        if let Err(error) = self.trim_terminal(id, most).await {
            tracing::warn!(session = %id, ?error, "what a terminal showed could not be trimmed");
        }
    }

    async fn trim_terminal(&self, id: SessionId, most: u64) -> Result<()> {
        let stream = Stream::terminal(id);
        let head = self.store().head(&stream).await;
        let Some(head) = head.map_err(failure::from_store)? else {
            return Ok(());
        };
        let first_seq = self
            .store()
            // Whole runs go, and what is left is at least as much as is to be kept.
            .seq_within(&stream, most.saturating_mul(2))
            .await
            .map_err(failure::from_store)?;
        if first_seq <= head.first_seq {
            return Ok(());
        }
        self.sessions()
            .step(id, move |step| {
                step.trim_terminal(first_seq);
                Ok(())
            })
            .await
    }
}

/// INVALID_STATE where there is no program to type to.
fn running(session: &Session) -> Result<()> {
    if session.is_over() {
        return Err(Error::new(
            Code::InvalidState,
            format!(
                "the program has ended: the session is {}",
                session.lifecycle.as_str()
            ),
        )
        .with("lifecycle", session.lifecycle.as_str()));
    }
    Ok(())
}
