//! What daemons' links do to the server: the upper end of `relay`.

use std::collections::HashMap;
use std::sync::Weak;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::app::failure;
use crate::app::sessions::{Reported, Stored};
use crate::app::{App, Parts};
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result};
use crate::domain::daemon::Offer;
use crate::domain::event::Origin as EventOrigin;
use crate::domain::link::{
    ContentChunk, Gap, Goodbye, Record, RecordEvent, Records, SessionReport,
};
use crate::domain::{CommandResult, Event, EventBody, Transient};
use crate::relay::{Claim, Handler, Introduction};
use crate::store::Origin;

impl App {
    /// Whose the sessions are that a daemon names.
    async fn claims(&self, hello: &Introduction) -> Result<Vec<(SessionId, Claim)>> {
        let mut claims = Vec::with_capacity(hello.reports.len());
        for report in &hello.reports {
            let claim = self.claim(hello.daemon_id, report).await?;
            claims.push((report.session_id, claim));
        }
        Ok(claims)
    }

    async fn claim(&self, daemon: DaemonId, report: &SessionReport) -> Result<Claim> {
        let reported = self
            .sessions()
            .reported(daemon, report.session_id, report.alive)
            .await?;
        Ok(match reported {
            Reported::Owned(origin) => Claim::Own(origin),
            Reported::Foreign => Claim::Foreign,
        })
    }

    /// A daemon is linked.
    async fn daemon_linked(&self, hello: &Introduction, owned: &[(SessionId, bool)]) -> Result<()> {
        let now = self.clock().now();
        self.sessions().link_up(hello.daemon_id, hello.epoch);
        self.change_daemon(hello.daemon_id, |record| {
            record.link(hello.epoch, now);
            record.boot_generation = hello.boot_generation;
            record.offer = hello.offer.clone();
        })
        .await?;
        self.sessions()
            .linked(hello.daemon_id, hello.epoch, owned)
            .await
    }

    /// A daemon's link is gone. The late news of an older link changes nothing.
    async fn daemon_unlinked(&self, daemon: DaemonId, epoch: u64, why: &str) -> Result<()> {
        let now = self.clock().now();
        self.sessions().link_down(daemon, epoch);
        let changed = self
            .change_daemon(daemon, |record| {
                if record.link_epoch == epoch && record.attached {
                    record.unlink(why, now);
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

    /// After a start no daemon is linked, whatever their records say.
    pub async fn nobody_is_linked(&self) -> Result<()> {
        let mut page = crate::base::page::PageRequest {
            size: crate::base::page::MAX_PAGE_SIZE,
            after: None,
        };
        let now = self.clock().now();
        loop {
            let daemons = self.daemons(true, &page).await?;
            for shown in &daemons.items {
                self.change_daemon(shown.daemon.id, |record| {
                    record.unlink("the server was started again", now);
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
    async fn store_link_records(&self, daemon: DaemonId, records: Records) -> Result<Origin> {
        let id = records.session_id;
        let shown: u64 = records
            .records
            .iter()
            .filter_map(|record| Some(record.output.as_ref()?.data.len() as u64))
            .sum();
        let is_end = records.records.iter().any(Record::is_end);
        let mut stored = Vec::with_capacity(records.records.len());
        for record in records.records {
            stored.push(self.prepare(records.session_id, record).await?);
        }
        let origin = self
            .sessions()
            .store_records(
                daemon,
                id,
                records.origin_epoch,
                stored,
                self.rules().current(),
            )
            .await?;
        if shown > 0 {
            self.tidy_terminal(id, shown).await;
        }
        if is_end {
            self.terminals().over(id);
        }
        Ok(origin)
    }

    /// Checks a record, and that the content it refers to is stored.
    async fn prepare(&self, session: SessionId, record: Record) -> Result<Stored> {
        let mut contents = Vec::new();
        for event in record.events.iter().filter_map(RecordEvent::whole) {
            if event.session_id != session {
                return Err(Error::invalid("events", "have one of another session"));
            }
            for reference in event.contents() {
                let size = self
                    .store()
                    .size(&reference.sha256)
                    .await
                    .map_err(failure::from_store)?;
                if size != Some(reference.size_bytes) {
                    return Err(Error::invalid(
                        "events",
                        format!("refer to content {} that was not sent", reference.sha256),
                    ));
                }
                contents.push(reference.sha256.clone());
            }
        }
        let mut events = record.events;
        if let Some(gap) = record.gap {
            events.insert(0, self.gap_event(session, gap).into());
        }
        Ok(Stored {
            origin_seq: record.origin_seq,
            events,
            output: record.output,
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
    async fn stage_content(&self, chunk: &ContentChunk) -> Result<u64> {
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
            .map_err(failure::from_store)?;
        Ok(if whole {
            chunk.size_bytes
        } else {
            chunk.offset + length
        })
    }
}

/// The daemons whose links this server has seen, by the newest epoch of each: what an older link still says
/// is refused.
#[derive(Default)]
pub struct Greetings {
    known: Mutex<HashMap<DaemonId, Greeting>>,
}

/// An introduction, and which of its sessions are the daemon's, with whether they are alive.
type Welcomed = (Box<Introduction>, Vec<(SessionId, bool)>);

struct Greeting {
    epoch: u64,
    hello: Option<Box<Introduction>>,
    owned: Vec<(SessionId, bool)>,
}

impl Greetings {
    fn greet(&self, hello: Introduction, claims: &[(SessionId, Claim)]) {
        let owned = hello
            .reports
            .iter()
            .filter(|report| {
                claims
                    .iter()
                    .any(|(id, claim)| *id == report.session_id && *claim != Claim::Foreign)
            })
            .map(|report| (report.session_id, report.alive))
            .collect();
        let greeting = Greeting {
            epoch: hello.epoch,
            owned,
            hello: Some(Box::new(hello)),
        };
        let mut known = self.known.lock();
        let newer = known
            .get(&greeting_id(&greeting))
            .is_some_and(|known| known.epoch > greeting.epoch);
        if !newer {
            known.insert(greeting_id(&greeting), greeting);
        }
    }

    /// The introduction that a link began with, once.
    fn take(&self, daemon: DaemonId, epoch: u64) -> Option<Welcomed> {
        let mut known = self.known.lock();
        let greeting = known
            .get_mut(&daemon)
            .filter(|known| known.epoch == epoch)?;
        let hello = greeting.hello.take()?;
        Some((hello, std::mem::take(&mut greeting.owned)))
    }

    fn check(&self, daemon: DaemonId, epoch: u64) -> Result<()> {
        match self.known.lock().get(&daemon) {
            Some(known) if known.epoch > epoch => Err(Error::new(
                Code::Stale,
                "a newer link of the same daemon took over",
            )),
            _ => Ok(()),
        }
    }
}

fn greeting_id(greeting: &Greeting) -> DaemonId {
    greeting
        .hello
        .as_ref()
        .map_or(DaemonId::from_bits(0), |hello| hello.daemon_id)
}

/// The app as the relay calls it. The relay is a part of the app, so it holds it weakly; when the app is gone,
/// there is nothing to store any more.
pub(super) struct Upper {
    pub(super) parts: Weak<Parts>,
}

impl Upper {
    fn app(&self) -> Result<App> {
        self.parts
            .upgrade()
            .map(|parts| App { parts })
            .ok_or_else(|| Error::new(Code::Unavailable, "the server is shutting down"))
    }
}

impl Handler for Upper {
    fn hello(&self, hello: Introduction) -> BoxFuture<'_, Result<Vec<(SessionId, Claim)>>> {
        Box::pin(async move {
            let app = self.app()?;
            app.get_daemon(hello.daemon_id).await?;
            let claims = app.claims(&hello).await?;
            app.greetings().greet(hello, &claims);
            Ok(claims)
        })
    }

    fn attached(&self, daemon: DaemonId, epoch: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Ok(app) = self.app() else { return };
            let Some((hello, owned)) = app.greetings().take(daemon, epoch) else {
                return;
            };
            if let Err(error) = app.daemon_linked(&hello, &owned).await {
                tracing::error!(%daemon, ?error, "that the daemon is linked could not be stored");
            }
        })
    }

    fn lost(&self, daemon: DaemonId, epoch: u64, goodbye: Option<Goodbye>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Ok(app) = self.app() else { return };
            let why = match &goodbye {
                Some(goodbye) => {
                    tracing::info!(%daemon, reason = %goodbye.reason, "the daemon said goodbye");
                    format!("it said goodbye: {}", goodbye.reason)
                }
                None => {
                    tracing::info!(%daemon, "the daemon's link is lost");
                    "the connection was lost".to_owned()
                }
            };
            if let Err(error) = app.daemon_unlinked(daemon, epoch, &why).await {
                if error.code() == Code::Unavailable && app.relay().is_draining() {
                    // A server that ends closes its links and then its store; the next one starts without any
                    // daemon linked. A store that fails at any other time is worth a word.
                    tracing::info!(%daemon, ?error, "that the daemon is not linked is not stored");
                    return;
                }
                tracing::error!(%daemon, ?error, "that the daemon is not linked could not be stored");
            }
        })
    }

    fn records(
        &self,
        daemon: DaemonId,
        epoch: u64,
        records: Records,
    ) -> BoxFuture<'_, Result<Origin>> {
        Box::pin(async move {
            let app = self.app()?;
            app.greetings().check(daemon, epoch)?;
            // That a newer link took over is said above. A commit that lost a race says the same word of something
            // else: the records are asked for again, and the link stays.
            let stored = app.store_link_records(daemon, records).await;
            stored.map_err(|error| match error.code() {
                Code::Stale => Error::new(Code::Unavailable, error.message()).caused_by(error),
                _ => error,
            })
        })
    }

    fn content(
        &self,
        daemon: DaemonId,
        epoch: u64,
        chunk: ContentChunk,
    ) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let app = self.app()?;
            app.greetings().check(daemon, epoch)?;
            app.stage_content(&chunk).await
        })
    }

    fn command_result(&self, daemon: DaemonId, result: CommandResult) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.app()?.sessions().command_ended(daemon, result).await })
    }

    fn session_report(
        &self,
        daemon: DaemonId,
        epoch: u64,
        report: SessionReport,
    ) -> BoxFuture<'_, Result<Claim>> {
        Box::pin(async move {
            let app = self.app()?;
            app.greetings().check(daemon, epoch)?;
            app.claim(daemon, &report).await
        })
    }

    fn offer(&self, daemon: DaemonId, epoch: u64, offer: Offer) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let app = self.app()?;
            app.greetings().check(daemon, epoch)?;
            app.change_daemon(daemon, |record| record.offer = offer.clone())
                .await
                .map(|_| ())
        })
    }

    fn transient(&self, _daemon: DaemonId, transient: Transient) {
        let Ok(app) = self.app() else { return };
        // A session that lives has its actor, which lets go of the text when it is over.
        if app.sessions().has_actor(transient.session_id) {
            app.transients().put(transient);
        }
    }
}
