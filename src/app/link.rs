//! What daemons' links do to the server: the upper end of `relay`.

use futures_util::future::BoxFuture;

use crate::app::App;
use crate::app::records;
use crate::app::sessions::{Reported, Stored};
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result};
use crate::domain::daemon::Offer;
use crate::domain::event::Origin as EventOrigin;
use crate::domain::link::{ContentChunk, Gap, Position, Record, Records, SessionReport};
use crate::domain::{Block, CommandResult, ContentRef, Event, EventBody, Transient};
use crate::store::Origin;

impl App {
    /// What the server has of the sessions that a daemon names; `None` for those that are not to be run there.
    pub(crate) async fn look_up_sessions(
        &self,
        daemon: DaemonId,
        reports: &[SessionReport],
    ) -> Result<Vec<(SessionId, Option<Position>)>> {
        let mut states = Vec::with_capacity(reports.len());
        for report in reports {
            let state = match self
                .sessions()
                .reported(daemon, report.session_id, report.alive)
                .await?
            {
                Reported::Owned(origin) => Some(position(origin)),
                Reported::Foreign => None,
            };
            states.push((report.session_id, state));
        }
        Ok(states)
    }

    /// A daemon is linked.
    pub(crate) async fn daemon_linked(
        &self,
        daemon: DaemonId,
        epoch: u64,
        boot_generation: u64,
        offer: &Offer,
        owned: &[(SessionId, bool)],
    ) -> Result<()> {
        let now = self.clock().now();
        self.change_daemon(daemon, |record| {
            record.attached = true;
            record.since = now;
            record.link_epoch = epoch;
            record.boot_generation = boot_generation;
            record.offer = offer.clone();
        })
        .await?;
        self.sessions().linked(daemon, epoch, owned).await
    }

    /// A daemon's link is gone. The late news of an older link changes nothing.
    pub(crate) async fn daemon_unlinked(&self, daemon: DaemonId, epoch: u64) -> Result<()> {
        let now = self.clock().now();
        let changed = self
            .change_daemon(daemon, |record| {
                if record.link_epoch == epoch && record.attached {
                    record.attached = false;
                    record.since = now;
                }
            })
            .await;
        match changed {
            Ok(record) if record.link_epoch == epoch => {
                self.sessions().unlinked(daemon, epoch).await
            }
            Ok(_) => Ok(()),
            // It was removed meanwhile.
            Err(error) if error.code() == Code::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What a daemon can run has changed.
    pub(crate) async fn daemon_offers(&self, daemon: DaemonId, offer: &Offer) -> Result<()> {
        self.change_daemon(daemon, |record| record.offer = offer.clone())
            .await
            .map(|_| ())
    }

    /// After a start no daemon is linked, whatever their records say.
    pub async fn nobody_is_linked(&self) -> Result<()> {
        let mut page = crate::base::page::PageRequest {
            size: crate::base::page::MAX_PAGE_SIZE,
            after: None,
        };
        let now = self.clock().now();
        loop {
            let daemons = self.list_daemons(true, &page).await?;
            for shown in &daemons.items {
                self.change_daemon(shown.daemon.id, |record| {
                    record.attached = false;
                    record.since = now;
                })
                .await?;
            }
            match daemons.next {
                Some(next) => page.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Stores records of a session, and says how far its spool is stored now.
    pub(crate) async fn store_link_records(
        &self,
        daemon: DaemonId,
        records: Records,
    ) -> Result<Position> {
        let mut stored = Vec::with_capacity(records.records.len());
        for record in records.records {
            stored.push(self.prepare(records.session_id, record).await?);
        }
        let origin = self
            .sessions()
            .store_records(
                daemon,
                records.session_id,
                records.origin_epoch,
                stored,
                self.rules().current(),
            )
            .await?;
        Ok(position(origin))
    }

    /// Checks a record, and that the content it refers to is stored.
    async fn prepare(&self, session: SessionId, record: Record) -> Result<Stored> {
        let mut events = Vec::with_capacity(record.events.len() + 1);
        if let Some(gap) = record.gap {
            events.push(self.gap_event(session, gap));
        }
        let mut contents = Vec::new();
        for event in record.events {
            if event.session_id != session {
                return Err(Error::invalid("events", "have one of another session"));
            }
            for reference in contents_of(&event) {
                let size = self
                    .store()
                    .size(&reference.sha256)
                    .await
                    .map_err(records::store_error)?;
                if size != Some(reference.size_bytes) {
                    return Err(Error::invalid(
                        "events",
                        format!("refer to content {} that was not sent", reference.sha256),
                    ));
                }
                contents.push(reference.sha256.clone());
            }
            events.push(event);
        }
        Ok(Stored {
            origin_seq: record.origin_seq,
            events,
            bytes: record.size_bytes,
            contents,
        })
    }

    fn gap_event(&self, session: SessionId, gap: Gap) -> Event {
        Event::new(
            session,
            EventOrigin::Daemon,
            self.clock().now(),
            EventBody::Gap {
                from_origin_seq: gap.from_origin_seq,
                to_origin_seq: gap.to_origin_seq,
                reason: gap.reason,
            },
        )
    }

    /// Stages a piece of content; says up to which byte it is staged now.
    pub(crate) async fn stage_content(&self, chunk: &ContentChunk) -> Result<u64> {
        let length = chunk.data.len() as u64;
        let whole = self
            .store()
            .stage(
                &chunk.sha256,
                chunk.size_bytes,
                chunk.offset,
                chunk.data.clone(),
            )
            .await
            .map_err(records::store_error)?;
        Ok(if whole {
            chunk.size_bytes
        } else {
            chunk.offset + length
        })
    }

    /// Notes how a command ended.
    pub(crate) async fn store_command_result(
        &self,
        daemon: DaemonId,
        result: CommandResult,
    ) -> Result<()> {
        self.sessions().command_ended(daemon, result).await
    }

    /// Passes on what is live and never stored, if the session is the daemon's.
    pub(crate) fn pass_on(&self, transient: Transient) {
        self.transients().put(transient);
    }
}

/// What a future of this file's functions is boxed as.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T>>;

fn position(origin: Origin) -> Position {
    Position::new(origin.epoch, origin.seq)
}

fn contents_of(event: &Event) -> Vec<&ContentRef> {
    match &event.body {
        EventBody::Message { blocks, .. } | EventBody::ToolResult { blocks, .. } => blocks
            .iter()
            .filter_map(|block| match block {
                Block::Content(reference) => Some(reference),
                _ => None,
            })
            .collect(),
        EventBody::ToolCall {
            content: Some(reference),
            ..
        } => vec![reference],
        _ => Vec::new(),
    }
}
