//! Retention: which streams lose their beginning, by age and by number of entries.
//!
//! [`plan`] only proposes: it reads heads and answers with trims; the caller commits them (with the record
//! changes that belong to it), and compaction gives the space back.

use std::time::Duration;

use super::{Journal, Result, Stream, Trim};
use crate::base::Timestamp;

/// Streams looked at in one page.
const PAGE: usize = 256;

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// A stream whose newest entry is older than this is dropped whole; `None` keeps it for ever.
    pub max_age: Option<Duration>,
    /// The newest entries that a stream keeps; `None` keeps all.
    pub max_events: Option<u64>,
    /// About as many bytes of the newest entries as a stream keeps; whole chunks are let go of. `None` keeps all.
    pub max_bytes: Option<u64>,
}

/// One page of a plan.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What to commit.
    pub trims: Vec<Trim>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Stream>,
    /// Streams that could not be looked at since they are damaged.
    pub damaged: Vec<Stream>,
}

/// Looks at one page of streams after `after` and proposes what to let go of. Streams for which `keep` is
/// true are left alone (a running session, a system stream).
pub async fn plan<J: Journal + ?Sized>(
    journal: &J,
    policy: &Policy,
    now: Timestamp,
    after: Option<&Stream>,
    keep: &(dyn Fn(&Stream) -> bool + Sync),
) -> Result<Plan> {
    let streams = journal.streams(after, PAGE).await?;
    let mut plan = Plan {
        next: (streams.len() == PAGE)
            .then(|| streams.last().cloned())
            .flatten(),
        ..Plan::default()
    };
    for stream in streams {
        if keep(&stream) {
            continue;
        }
        match trim_of(journal, policy, now, &stream).await {
            Ok(trim) => plan.trims.extend(trim),
            Err(super::Error::Corrupt { .. }) => plan.damaged.push(stream),
            // Dropped or trimmed by somebody else since the page was read.
            Err(super::Error::NoStream { .. } | super::Error::Truncated { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(plan)
}

async fn trim_of<J: Journal + ?Sized>(
    journal: &J,
    policy: &Policy,
    now: Timestamp,
    stream: &Stream,
) -> Result<Option<Trim>> {
    let Some(head) = journal.head(stream).await? else {
        return Ok(None);
    };
    if let Some(max_age) = policy.max_age
        && now.saturating_since(head.last_time) > max_age
    {
        return Ok(Some(Trim {
            stream: stream.clone(),
            first_seq: 0,
            drop: true,
        }));
    }
    let mut first_seq = head.first_seq;
    if let Some(max_events) = policy.max_events {
        first_seq = first_seq.max((head.last_seq + 1).saturating_sub(max_events));
    }
    if let Some(max_bytes) = policy.max_bytes {
        first_seq = first_seq.max(journal.seq_within(stream, max_bytes).await?);
    }
    Ok((first_seq > head.first_seq).then(|| Trim {
        stream: stream.clone(),
        first_seq,
        drop: false,
    }))
}
