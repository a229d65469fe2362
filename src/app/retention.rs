//! Retention: sessions that ended long ago go, and long logs lose their beginning.

use std::collections::HashSet;
use std::time::Duration;

use crate::app::App;
use crate::app::records;
use crate::base::id::SessionId;
use crate::base::{Code, Result};
use crate::domain::Lifecycle;
use crate::store::{Head, Stream, Trim};

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

const PAGE: usize = 200;
/// How many bytes one look at a log brings.
const READ_BYTES: usize = 1024 * 1024;

impl App {
    /// Removes what need not be kept. Only sessions that are over are touched: what a living agent said is
    /// never taken from under its readers.
    pub async fn retain(&self, retention: Retention) -> Result<Removed> {
        let mut removed = Removed::default();
        if retention == Retention::default() {
            return Ok(removed);
        }
        let living: HashSet<SessionId> = self.sessions().living(None).await?.into_iter().collect();
        let mut after: Option<Stream> = None;
        loop {
            let streams = self
                .store()
                .streams(after.as_ref(), PAGE)
                .await
                .map_err(records::store_error)?;
            for stream in &streams {
                let Ok(id) = stream.as_str().parse::<SessionId>() else {
                    continue;
                };
                if living.contains(&id) {
                    continue;
                }
                match self.retain_session(id, stream, retention).await {
                    Ok((deleted, trimmed)) => {
                        removed.sessions += u64::from(deleted);
                        removed.trimmed += u64::from(trimmed);
                    }
                    // One damaged log does not keep the others from being tidied.
                    Err(error) => {
                        tracing::warn!(session = %id, ?error, "retention passed a session over")
                    }
                }
            }
            match streams.last() {
                Some(last) if streams.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(removed),
            }
        }
    }

    async fn retain_session(
        &self,
        id: SessionId,
        stream: &Stream,
        retention: Retention,
    ) -> Result<(bool, bool)> {
        let Some(head) = self
            .store()
            .head(stream)
            .await
            .map_err(records::store_error)?
        else {
            return Ok((false, false));
        };
        let age = self.clock().now().saturating_since(head.last_time);
        if retention.max_age.is_some_and(|max| age > max) {
            return match self.delete_session(id).await {
                Ok(()) => Ok((true, false)),
                // It is suspended, or lives again.
                Err(error) if error.code() == Code::InvalidState => Ok((false, false)),
                Err(error) => Err(error),
            };
        }
        let Some(max) = retention.max_session_bytes else {
            return Ok((false, false));
        };
        let first = self.first_within(stream, head, max).await?;
        if first <= head.first_seq {
            return Ok((false, false));
        }
        let trim = Trim {
            stream: stream.clone(),
            first_seq: first,
            drop: false,
        };
        self.sessions()
            .step(id, move |step| {
                if step.live.session.lifecycle != Lifecycle::Ended {
                    return Ok(false);
                }
                step.trim(trim);
                Ok(true)
            })
            .await
            .map(|trimmed| (false, trimmed))
    }

    /// The first seq of about the newest `max` bytes of a log.
    async fn first_within(&self, stream: &Stream, head: Head, max: u64) -> Result<u64> {
        let mut runs = Vec::new();
        let mut total: u64 = 0;
        let mut after = head.first_seq.saturating_sub(1);
        loop {
            let chunks = self
                .store()
                .read(stream, after, READ_BYTES)
                .await
                .map_err(records::store_error)?;
            let Some(last) = chunks.last().map(|chunk| chunk.last_seq) else {
                break;
            };
            for chunk in &chunks {
                total += chunk.bytes.len() as u64;
                runs.push((chunk.first_seq, chunk.bytes.len() as u64));
            }
            after = last;
        }
        let mut first = head.first_seq;
        for (seq, bytes) in runs {
            if total <= max {
                break;
            }
            first = seq;
            total -= bytes;
        }
        Ok(first)
    }
}
