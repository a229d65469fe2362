//! What a daemon's link says of sessions, and what the server says back.

use std::collections::HashSet;

use super::writer::Named;
use super::{Sessions, Stored, apply, fault, lost};
use crate::app::failure;
use crate::app::records;
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result};
use crate::domain::link::RecordEvent;
use crate::domain::prompt::PromptRule;
use crate::domain::{CommandResult, EventBody, Session};
use crate::store::{Origin, Stream};

/// How often records are tried while other sessions change the conversation that they name.
const TRIES: usize = 5;

/// What the server has of a session that a daemon reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It is the daemon's; this much of its spool is stored.
    Owned(Origin),
    /// It is not to be run there: end it and forget it.
    Foreign,
}

impl Sessions {
    /// A daemon that links says that it has this session.
    pub async fn reported(&self, daemon: DaemonId, id: SessionId, alive: bool) -> Result<Reported> {
        let found =
            records::get::<Session>(self.shared.store.as_ref(), &records::session_key(id)).await?;
        let Some((session, _)) = found else {
            return Ok(Reported::Foreign);
        };
        let over = session.is_over() && !session.is_lost();
        let fenced = session.resumed_by.is_some();
        if session.daemon_id != daemon || (alive && (over || fenced)) {
            return Ok(Reported::Foreign);
        }
        let head = self
            .shared
            .store
            .head(&Stream::session(id))
            .await
            .map_err(failure::from_store)?;
        Ok(Reported::Owned(
            head.map(|head| head.origin).unwrap_or_default(),
        ))
    }

    /// Notes that a daemon is linked, before anything is done about it.
    pub fn link_up(&self, daemon: DaemonId, epoch: u64) {
        self.shared.links.up(daemon, epoch);
    }

    /// Notes that a daemon's link is gone, before anything is done about it.
    pub fn link_down(&self, daemon: DaemonId, epoch: u64) {
        self.shared.links.down(daemon, epoch);
    }

    /// A daemon is linked: its sessions are attached; those it no longer knows have ended.
    pub async fn linked(
        &self,
        daemon: DaemonId,
        epoch: u64,
        known: &[(SessionId, bool)],
    ) -> Result<()> {
        let named: HashSet<SessionId> = known.iter().map(|(id, _)| *id).collect();
        for (id, alive) in known.iter().copied() {
            let shared = self.shared.clone();
            let outcome = self
                .step(id, move |step| {
                    let is_old = shared.links.epoch(daemon) != Some(epoch);
                    if is_old || step.live.session.daemon_id != daemon {
                        return Ok(());
                    }
                    lost::attached(step, epoch, alive)
                })
                .await;
            self.note(id, outcome);
            fault::point(fault::MID_LINKED);
        }
        for id in self.living(Some(daemon)) {
            if named.contains(&id) {
                continue;
            }
            let shared = self.shared.clone();
            let outcome = self
                .step(id, move |step| {
                    if shared.links.epoch(daemon) != Some(epoch) {
                        return Ok(());
                    }
                    lost::attached(step, epoch, false)?;
                    apply::unknown_to_daemon(step)
                })
                .await;
            self.note(id, outcome);
        }
        Ok(())
    }

    /// A daemon's link is gone.
    pub async fn unlinked(&self, daemon: DaemonId, epoch: u64) -> Result<()> {
        for id in self.living(Some(daemon)) {
            let shared = self.shared.clone();
            let outcome = self
                .step(id, move |step| match shared.links.epoch(daemon) {
                    // It is back already.
                    Some(_) => Ok(()),
                    None => lost::detached(step, epoch),
                })
                .await;
            self.note(id, outcome);
            fault::point(fault::MID_UNLINKED);
        }
        Ok(())
    }

    /// Stores records of a session's spool, and says how far it is stored now. What is stored already is
    /// dropped. OUT_OF_RANGE: records are missing before these; the details epoch and seq say where to go on.
    pub async fn store_records(
        &self,
        daemon: DaemonId,
        id: SessionId,
        epoch: u64,
        records: Vec<Stored>,
        rules: std::sync::Arc<Vec<PromptRule>>,
    ) -> Result<Origin> {
        for _ in 0..TRIES {
            let named = self.named(id, &records).await?;
            if named.is_empty() {
                return self
                    .apply_records(daemon, id, epoch, records, rules, named)
                    .await;
            }
            let stored = self
                .apply_records(daemon, id, epoch, records.clone(), rules.clone(), named)
                .await;
            match stored {
                // Another session took the conversation, or let go of it, in between.
                Err(error) if error.code() == Code::Stale => {}
                stored => return stored,
            }
        }
        Err(Error::new(
            Code::Stale,
            "the conversation changes hands all the time; send the records again",
        ))
    }

    async fn apply_records(
        &self,
        daemon: DaemonId,
        id: SessionId,
        epoch: u64,
        records: Vec<Stored>,
        rules: std::sync::Arc<Vec<PromptRule>>,
        named: Vec<Named>,
    ) -> Result<Origin> {
        self.step(id, move |step| {
            if step.live.session.daemon_id != daemon {
                return Err(Error::new(
                    Code::Forbidden,
                    "the session is another daemon's",
                ));
            }
            let stored = step.live.origin;
            let fresh_spool = stored.epoch != epoch;
            let mut next = if fresh_spool { 0 } else { stored.seq };
            let mut news = Vec::with_capacity(records.len());
            for record in records {
                if record.origin_seq <= next {
                    continue;
                }
                let explained = record
                    .events
                    .iter()
                    .filter_map(RecordEvent::whole)
                    .any(|event| matches!(event.body, EventBody::Gap { .. }));
                if record.origin_seq != next + 1 && !explained {
                    return Err(Error::new(
                        Code::OutOfRange,
                        format!(
                            "record {} does not follow {next}, and no gap says why",
                            record.origin_seq
                        ),
                    )
                    .with("epoch", if fresh_spool { epoch } else { stored.epoch })
                    .with("seq", next));
                }
                next = record.origin_seq;
                news.push(record);
            }
            apply::records(step, epoch, news, &rules, &named)?;
            Ok(step.live.origin)
        })
        .await
    }

    /// Notes how a command ended. Repeating it changes nothing.
    pub async fn command_ended(&self, daemon: DaemonId, result: CommandResult) -> Result<()> {
        let outcome = self
            .step(result.session_id, move |step| {
                if step.live.session.daemon_id != daemon {
                    return Err(Error::new(
                        Code::Forbidden,
                        "the session is another daemon's",
                    ));
                }
                apply::command_ended(step, &result)
            })
            .await;
        match outcome {
            // The session was deleted: nobody waits for the result.
            Err(error) if error.code() == Code::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn note(&self, id: SessionId, outcome: Result<()>) {
        match outcome {
            Ok(()) => {}
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => tracing::warn!(session = %id, ?error, "the link fact was not stored"),
        }
    }
}
