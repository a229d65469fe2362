//! What is kept of what a terminal showed, and where a byte of it is.

use crate::app::failure;
use crate::base::id::SessionId;
use crate::base::{Error, Result};
use crate::domain::terminal::Output;
use crate::store::{self, Store, Stream};
use crate::wire::terminal::outputs_from_entries;

/// What is kept of what a terminal showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The oldest entry; one more than the newest when there is none.
    pub first_seq: u64,
    /// The newest entry; 0 before the first.
    pub last_seq: u64,
    /// The offset of the oldest byte.
    pub oldest_offset: u64,
    /// The offset of the next byte that will come.
    pub next_offset: u64,
}

/// How often the ends of a stream are looked up while it is trimmed.
const TRIES: usize = 16;

/// A run of entries.
struct Run {
    first_seq: u64,
    last_seq: u64,
    outputs: Vec<Output>,
}

/// What is kept of what a session's terminal showed; nothing, where there is no such stream.
pub(crate) async fn extent(store: &dyn Store, id: SessionId) -> Result<Extent> {
    let stream = Stream::terminal(id);
    for _ in 0..TRIES {
        let Some(head) = store.head(&stream).await.map_err(failure::from_store)? else {
            return Ok(Extent {
                first_seq: 1,
                ..Extent::default()
            });
        };
        let newest = match run_at(store, &stream, head.last_seq).await? {
            Some(run) => run.outputs.last().map(Output::end),
            None => None,
        };
        let oldest = match run_at(store, &stream, head.first_seq).await? {
            Some(run) => {
                let skip = head.first_seq.saturating_sub(run.first_seq);
                run.outputs.get(skip as usize).map(|output| output.offset)
            }
            None => None,
        };
        if let (Some(oldest_offset), Some(next_offset)) = (oldest, newest) {
            return Ok(Extent {
                first_seq: head.first_seq,
                last_seq: head.last_seq,
                oldest_offset,
                next_offset,
            });
        }
        // Trimmed between the two looks: the head is another now.
    }
    Err(Error::internal(format!(
        "what is kept of {stream} changes all the time"
    )))
}

/// The seq after which a reader goes on that wants bytes from `offset`: what comes after it begins at or before
/// that byte, or is the first that lies behind it.
pub(super) async fn seq_before(
    store: &dyn Store,
    id: SessionId,
    extent: &Extent,
    offset: u64,
) -> Result<u64> {
    let stream = Stream::terminal(id);
    let (mut low, mut high) = (extent.first_seq, extent.last_seq);
    while low <= high {
        let middle = low + (high - low) / 2;
        let Some(run) = run_at(store, &stream, middle).await? else {
            // Trimmed meanwhile: what is wanted, if it is still there, lies behind.
            low = middle + 1;
            continue;
        };
        let begin = run.outputs.first().map_or(0, |output| output.offset);
        let end = run.outputs.last().map_or(0, Output::end);
        if offset < begin {
            high = run.first_seq.saturating_sub(1);
        } else if offset >= end {
            low = run.last_seq + 1;
        } else {
            return Ok(run.first_seq.max(extent.first_seq).saturating_sub(1));
        }
    }
    Ok(low.saturating_sub(1))
}

/// The run that has an entry; `None` if it was trimmed.
async fn run_at(store: &dyn Store, stream: &Stream, seq: u64) -> Result<Option<Run>> {
    match store.read(stream, seq.saturating_sub(1), 1).await {
        Ok(chunks) => chunks
            .into_iter()
            .next()
            .map(|chunk| {
                Ok(Run {
                    first_seq: chunk.first_seq,
                    last_seq: chunk.last_seq,
                    outputs: outputs_from_entries(chunk.bytes)?,
                })
            })
            .transpose(),
        Err(store::Error::Truncated { .. } | store::Error::NoStream { .. }) => Ok(None),
        Err(error) => Err(failure::from_store(error)),
    }
}
