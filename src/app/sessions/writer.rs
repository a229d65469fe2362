//! One session writes to a conversation of a provider: the lock on it, who takes it and who lets go.
//!
//! The lock is a record with the holder's id. A session that continues another is given the lock with its
//! birth; any other session takes it when its harness names the conversation. Where another session holds it,
//! that one keeps it: the session that came second is told to end, since two processes that write to one
//! conversation spoil it for both. The lock of a holder that can write no more counts for nothing.

use super::step::Step;
use super::{Sessions, Stored};
use crate::app::{failure, records};
use crate::base::id::SessionId;
use crate::base::{Error, Result};
use crate::domain::link::RecordEvent;
use crate::domain::{EndInfo, EndReason, EventBody, Session};
use crate::store::{Expect, RecordOp};

/// A conversation that a harness names, and who held it when that was looked up.
#[derive(Clone, Debug)]
pub(super) struct Named {
    id: String,
    held: Held,
}

#[derive(Clone, Debug)]
enum Held {
    /// By nobody, or by one that can write no more; the lock is as this says.
    Free(Expect),
    /// By another session.
    By(SessionId),
}

impl Sessions {
    /// The conversations that records of a session's spool name and the session does not have.
    pub(super) async fn named(&self, id: SessionId, news: &[Stored]) -> Result<Vec<Named>> {
        let conversations = news
            .iter()
            .flat_map(|record| &record.events)
            .filter_map(RecordEvent::whole)
            .filter_map(|event| match &event.body {
                EventBody::Started {
                    provider_session_id,
                    ..
                } => Some(provider_session_id),
                _ => None,
            })
            .filter(|conversation| !conversation.is_empty());
        let store = self.shared.store.as_ref();
        let mut own: Option<Session> = None;
        let mut named: Vec<Named> = Vec::new();
        for conversation in conversations {
            if own.is_none() {
                let found = records::get::<Session>(store, &records::session_key(id)).await?;
                own = found.map(|(session, _)| session);
            }
            let Some(own) = &own else { break };
            let is_known = named.iter().any(|known| known.id == *conversation);
            if is_known || own.provider_session_id == *conversation {
                continue;
            }
            let key = records::conversation_key(&own.harness, conversation);
            let lock = store.get(&key).await.map_err(failure::from_store)?;
            let held = match lock {
                None => Held::Free(Expect::Absent),
                Some(lock) => {
                    let holder = std::str::from_utf8(&lock.value).map_err(Error::internal)?;
                    let holder: SessionId = holder.parse().map_err(Error::internal)?;
                    let found =
                        records::get::<Session>(store, &records::session_key(holder)).await?;
                    let holds = found.is_some_and(|(session, _)| {
                        session.holds_conversation() && session.provider_session_id == *conversation
                    });
                    match holds && holder != id {
                        true => Held::By(holder),
                        false => Held::Free(Expect::Revision(lock.revision)),
                    }
                }
            };
            named.push(Named {
                id: conversation.clone(),
                held,
            });
        }
        Ok(named)
    }
}

/// The harness named its conversation, or moved to another: the lock moves with it, unless another session
/// holds the new one.
pub(super) fn take(step: &mut Step<'_>, conversation: &str, named: &[Named]) -> Result<()> {
    let session = &step.live.session;
    if conversation.is_empty() || session.provider_session_id == conversation {
        return Ok(());
    }
    let held = named.iter().find(|named| named.id == conversation);
    let expect = match held.map(|named| &named.held) {
        Some(Held::By(holder)) => return refuse(step, *holder),
        Some(Held::Free(expect)) => *expect,
        // It was the session's own when it was looked up.
        None => Expect::Absent,
    };
    if session.holds_conversation() {
        let_go(step);
    }
    let session = &mut step.live.session;
    session.provider_session_id = conversation.to_owned();
    let lock = RecordOp {
        expect,
        ..lock(session)
    };
    step.op(lock);
    Ok(())
}

/// Another session holds the conversation: this one ends, and never has it.
fn refuse(step: &mut Step<'_>, holder: SessionId) -> Result<()> {
    if step.live.session.stopping.is_some() {
        return Ok(());
    }
    let end = EndInfo::because(
        EndReason::Failed,
        format!(
            "its agent took up a conversation that session {holder} runs; one session writes to a conversation"
        ),
    );
    step.stop(end, false, false)
}

/// Gives the session's conversation free. Only for a session that holds it.
pub(super) fn let_go(step: &mut Step<'_>) {
    let key = lock(&step.live.session).key;
    step.op(records::remove(key));
}

/// The change that gives a conversation's lock to a session that will continue it. Whoever holds it must
/// have let go, unless the holder is a lost session that is given up in the same commit.
pub(super) fn pass_on(session: &Session, from_lost: bool) -> RecordOp {
    let mut op = lock(session);
    if !from_lost {
        op.expect = Expect::Absent;
    }
    op
}

/// The lock on the conversation that the session's record names.
fn lock(session: &Session) -> RecordOp {
    records::mark(
        records::conversation_key(&session.harness, &session.provider_session_id),
        session.id,
    )
}
