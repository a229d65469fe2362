//! Retention: sessions that ended long ago go, and long logs lose their beginning.

use std::collections::HashSet;
use std::time::Duration;

use crate::app::App;
use crate::app::failure;
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::domain::Lifecycle;
use crate::store::retention::{Policy, plan};
use crate::store::{Stream, Trim};
use crate::wire::EventBatch;
use crate::wire::event::event_from_pb;

/// How many bytes of a log are read at once.
const READ_BYTES: usize = 256 * 1024;

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// An ended session is deleted this long after its last event; `None` keeps it for ever.
    pub max_age: Option<Duration>,
    /// About as many bytes of its newest events as a session's log keeps; `None` keeps all.
    pub max_session_bytes: Option<u64>,
}

/// What one round of retention did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Sessions that were deleted.
    pub sessions: u64,
    /// Logs that lost their beginning.
    pub trimmed: u64,
}

impl App {
    /// Removes what need not be kept. Only sessions that are over are touched: what a living agent said is
    /// never taken from under its readers.
    pub async fn retain(&self, retention: Retention) -> Result<Removed> {
        let mut removed = Removed::default();
        if retention == Retention::default() {
            return Ok(removed);
        }
        let policy = Policy {
            max_age: retention.max_age,
            max_events: None,
            max_bytes: retention.max_session_bytes,
        };
        let living: HashSet<SessionId> = self.sessions().living(None).into_iter().collect();
        let keep = |stream: &Stream| session_of(stream).is_none_or(|id| living.contains(&id));
        let mut after: Option<Stream> = None;
        loop {
            let plan = plan(
                self.store().as_ref(),
                &policy,
                self.clock().now(),
                after.as_ref(),
                &keep,
            )
            .await
            .map_err(failure::from_store)?;
            for stream in plan.damaged {
                tracing::warn!(%stream, "retention passed a damaged log over");
            }
            for trim in plan.trims {
                let Some(id) = session_of(&trim.stream) else {
                    continue;
                };
                match self.let_go(id, trim, &mut removed).await {
                    Ok(()) => {}
                    // It lives again, is suspended, or is gone: nothing to let go of.
                    Err(error) if matches!(error.code(), Code::InvalidState | Code::NotFound) => {}
                    // One log that cannot be tidied does not keep the others from it.
                    Err(error) => {
                        tracing::warn!(session = %id, ?error, "retention passed a session over")
                    }
                }
            }
            after = plan.next;
            if after.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn let_go(&self, id: SessionId, trim: Trim, removed: &mut Removed) -> Result<()> {
        if trim.drop {
            self.remove_session(id).await?;
            removed.sessions += 1;
            return Ok(());
        }
        let (unreferred, last_seq) = self.unreferred(&trim).await?;
        let trimmed = self
            .sessions()
            .step(id, move |step| {
                // What was added meanwhile may refer to what was not needed before.
                if step.live.session.lifecycle != Lifecycle::Ended || step.live.last_seq != last_seq
                {
                    return Ok(false);
                }
                for sha256 in unreferred {
                    step.unrefer(&sha256);
                }
                step.trim(trim);
                Ok(true)
            })
            .await?;
        removed.trimmed += u64::from(trimmed);
        Ok(())
    }
}

impl App {
    /// The content that a log refers to only before the seq it is to begin with, and the log's last seq.
    async fn unreferred(&self, trim: &Trim) -> Result<(HashSet<String>, u64)> {
        let head = self.store().head(&trim.stream).await;
        let Some(head) = head.map_err(failure::from_store)? else {
            return Err(Error::not_found("session", &trim.stream));
        };
        let mut gone = HashSet::new();
        let mut kept = HashSet::new();
        let mut after = head.first_seq.saturating_sub(1);
        while after < head.last_seq {
            let chunks = self
                .store()
                .read(&trim.stream, after, READ_BYTES)
                .await
                .map_err(failure::from_store)?;
            let Some(last) = chunks.last() else { break };
            after = last.last_seq;
            for chunk in chunks {
                let batch = EventBatch::from_encoded(chunk.bytes);
                for event in batch.events().map_err(Error::internal)? {
                    let event = event_from_pb(event)?;
                    let part = match event.seq < trim.first_seq {
                        true => &mut gone,
                        false => &mut kept,
                    };
                    part.extend(event.contents().map(|found| found.sha256.clone()));
                }
            }
        }
        gone.retain(|sha256| !kept.contains(sha256));
        Ok((gone, head.last_seq))
    }
}

fn session_of(stream: &Stream) -> Option<SessionId> {
    stream.as_str().parse().ok()
}
