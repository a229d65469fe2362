//! Retention: sessions that ended long ago go, and long logs lose their beginning.

use std::collections::HashSet;
use std::time::Duration;

use crate::app::App;
use crate::app::fault;
use crate::base::id::SessionId;
use crate::base::{Code, Result};
use crate::domain::Lifecycle;
use crate::store::retention::{Policy, plan};
use crate::store::{Stream, Trim};

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
        let living: HashSet<SessionId> = self.sessions().living(None).await?.into_iter().collect();
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
            .map_err(fault::from_store)?;
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
        let trimmed = self
            .sessions()
            .step(id, move |step| {
                if step.live.session.lifecycle != Lifecycle::Ended {
                    return Ok(false);
                }
                step.trim(trim);
                Ok(true)
            })
            .await?;
        removed.trimmed += u64::from(trimmed);
        Ok(())
    }
}

fn session_of(stream: &Stream) -> Option<SessionId> {
    stream.as_str().parse().ok()
}
