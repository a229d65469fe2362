//! Deleting a session: its record, its log, and all that was kept of it.
//!
//! What belongs to an ordinary session goes in one commit. Where there is more, the first commit takes the
//! session and leaves a mark, and the rest follows in lots; a server that dies in between goes on with them
//! when it starts.

use super::index;
use crate::app::access::Caller;
use crate::app::{App, failure, records};
use crate::base::id::{PromptId, SessionId};
use crate::base::{Error, Result};
use crate::domain::Lifecycle;
use crate::domain::session::Gone;
use crate::store::{Commit, Expect, RecordOp, Stream, Trim};
use crate::wire::EventBatch;
use crate::wire::event::event_from_pb;

/// How many marks of a session are taken at once: far below what a commit holds.
const LOT: usize = 5_000;
/// How many entries a log may have that is dropped with its session: each may refer to content, and the
/// references go in the same commit.
const SHORT_LOG: u64 = 10_000;
/// How many bytes of a longer log are read at once.
const READ_BYTES: usize = 256 * 1024;

/// Some of what is kept of a session beside its record.
#[derive(Default)]
struct Lot {
    keys: Vec<String>,
    prompts: Vec<PromptId>,
    /// Whether that is all.
    is_last: bool,
}

impl Lot {
    fn ops(self) -> impl Iterator<Item = RecordOp> {
        self.keys.into_iter().map(records::remove)
    }
}

impl App {
    /// Deletes an ended session, its log and its records.
    pub async fn delete_session(&self, caller: &Caller, id: SessionId) -> Result<()> {
        self.require_session(caller, id).await?;
        self.remove_session(id).await
    }

    /// Deletes an ended session for nobody in particular: retention.
    pub(crate) async fn remove_session(&self, id: SessionId) -> Result<()> {
        let (session, _) = self
            .session_record(id)
            .await?
            .ok_or_else(|| Error::not_found("session", id))?;
        if session.lifecycle != Lifecycle::Ended {
            return Err(Error::state(format!(
                "the session is {}; end it first",
                session.lifecycle.as_str()
            )));
        }
        let has_shown = self.store().head(&Stream::terminal(id)).await;
        let has_shown = has_shown.map_err(failure::from_store)?.is_some();
        let lot = self.lot(id).await?;
        let is_whole = lot.is_last && !self.has_long_log(id).await?;
        self.sessions()
            .step(id, move |step| {
                if step.live.session.lifecycle != Lifecycle::Ended {
                    return Err(Error::state("the session lives again; end it first"));
                }
                super::lost::give_up(step)?;
                for op in index::gone(&step.live.session) {
                    step.op(op);
                }
                step.op(records::remove(records::session_key(id)));
                let gone = Gone::of(&step.live.session, lot.prompts.clone(), step.now);
                step.op(records::put(records::gone_key(id), &gone, Expect::Any)?);
                for op in lot.ops() {
                    step.op(op);
                }
                if has_shown {
                    step.drop_terminal();
                }
                if is_whole {
                    step.drop_log();
                } else {
                    step.op(records::mark(records::deleting_key(id), ""));
                }
                step.live.deleted = true;
                Ok(())
            })
            .await?;
        if is_whole {
            return Ok(());
        }
        self.finish_deletion(id).await
    }

    /// Goes on with the deletions that an earlier process did not finish.
    pub(crate) async fn finish_deletions(&self) -> Result<()> {
        let store = self.store().as_ref();
        for id in index::ids::<SessionId>(store, records::DELETING).await? {
            self.finish_deletion(id).await?;
        }
        Ok(())
    }

    /// Removes what a deleted session has left, then the mark that there is something.
    async fn finish_deletion(&self, id: SessionId) -> Result<()> {
        loop {
            let lot = self.lot(id).await?;
            let is_last = lot.is_last;
            let mut ops = Vec::new();
            // Those who may see no more than the session are told of its prompts as of the session.
            if let Some(first) = lot.prompts.first() {
                let key = records::gone_key(id);
                if let Some((gone, _)) = records::get::<Gone>(self.store().as_ref(), &key).await? {
                    let gone = Gone {
                        prompts: lot.prompts.clone(),
                        ..gone
                    };
                    ops.push(records::put(format!("{key}/{first}"), &gone, Expect::Any)?);
                }
            }
            ops.extend(lot.ops());
            self.commit_deletion(ops, Vec::new()).await?;
            if is_last {
                break;
            }
        }
        let stream = Stream::session(id);
        let head = self.store().head(&stream).await;
        let head = head.map_err(failure::from_store)?;
        if head.is_some() {
            self.unrefer_all(&stream).await?;
        }
        let trims = head.map(|_| Trim {
            stream,
            first_seq: 0,
            drop: true,
        });
        let unmark = records::remove(records::deleting_key(id));
        self.commit_deletion(vec![unmark], trims.into_iter().collect())
            .await
    }

    /// Takes away what a log refers to, a part of the log at a time.
    async fn unrefer_all(&self, stream: &Stream) -> Result<()> {
        let head = self.store().head(stream).await;
        let Some(head) = head.map_err(failure::from_store)? else {
            return Ok(());
        };
        let mut after = head.first_seq.saturating_sub(1);
        while after < head.last_seq {
            let chunks = self
                .store()
                .read(stream, after, READ_BYTES)
                .await
                .map_err(failure::from_store)?;
            let Some(last) = chunks.last() else { break };
            after = last.last_seq;
            let mut keys = std::collections::BTreeSet::new();
            for chunk in chunks {
                let batch = EventBatch::from_encoded(chunk.bytes);
                for event in batch.events().map_err(Error::internal)? {
                    let event = event_from_pb(event)?;
                    for content in event.contents() {
                        keys.insert(self.store().refer_op(stream, &content.sha256).key);
                    }
                }
            }
            let ops = keys.into_iter().map(records::remove).collect();
            self.commit_deletion(ops, Vec::new()).await?;
        }
        Ok(())
    }

    async fn commit_deletion(&self, ops: Vec<RecordOp>, trims: Vec<Trim>) -> Result<()> {
        if ops.is_empty() && trims.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            ops,
            trims,
            ..Commit::default()
        };
        let done = self.store().commit(commit).await;
        done.map(drop).map_err(failure::from_store)
    }

    async fn has_long_log(&self, id: SessionId) -> Result<bool> {
        let head = self.store().head(&Stream::session(id)).await;
        let head = head.map_err(failure::from_store)?;
        Ok(head.is_some_and(|head| head.last_seq.saturating_sub(head.first_seq) >= SHORT_LOG))
    }

    /// The next of what is kept of a session beside its record and its log.
    async fn lot(&self, id: SessionId) -> Result<Lot> {
        let mut lot = Lot::default();
        let mut room = LOT;
        let of_prompts = records::session_prompt_prefix(id);
        for prefix in [
            index::open_input_prefix(id),
            index::open_prompt_prefix(id),
            records::input_prefix(id),
            of_prompts.clone(),
        ] {
            let found = self
                .store()
                .scan(&prefix, None, room)
                .await
                .map_err(failure::from_store)?;
            room -= found.len();
            for record in found {
                if let Some(prompt) = record.key.strip_prefix(&of_prompts) {
                    lot.keys.push(format!("{}{prompt}", records::PROMPTS));
                    lot.keys
                        .push(format!("{}{prompt}", records::PENDING_PROMPTS));
                    lot.prompts.push(prompt.parse().map_err(Error::internal)?);
                }
                lot.keys.push(record.key);
            }
            if room == 0 {
                return Ok(lot);
            }
        }
        lot.is_last = true;
        Ok(lot)
    }
}
