//! What makes a commit acceptable, and what it leads to: the same for every embedded provider.
//!
//! No IO here. A provider shows its state as a [`View`]; commits that were accepted and are not applied
//! yet lie over it as an [`Overlay`], so that a whole group can be judged before one write.

use std::collections::{HashMap, HashSet};

use super::{
    Append, Commit, Committed, Error, Expect, Head, Origin, RecordOp, Result, Stream, Trim,
};
use crate::base::Timestamp;

/// Most bytes that a commit may hold, encoded.
pub const MAX_COMMIT_BYTES: usize = 16 << 20;
/// Most bytes of a record's value.
pub const MAX_VALUE_BYTES: usize = 4 << 20;
/// Most bytes of a record's key.
pub const MAX_KEY_BYTES: usize = 512;
/// How many deletions are remembered.
pub const MAX_TOMBSTONES: usize = 10_000;

/// The state that a commit is judged against.
pub(super) trait View {
    /// The stream's head; [`Error::Corrupt`] if it is set apart.
    fn head(&self, stream: &Stream) -> Result<Option<Head>>;
    /// The record's revision; `None` if there is none.
    fn revision(&self, key: &str) -> Result<Option<u64>>;
    /// Keys of the records by which a stream refers to content.
    fn references(&self, stream: &Stream) -> Result<Vec<String>>;
}

/// What accepted commits of a group change, before it is applied.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    heads: HashMap<Stream, Option<Head>>,
    revisions: HashMap<String, Option<u64>>,
}

impl Overlay {
    fn head(&self, view: &impl View, stream: &Stream) -> Result<Option<Head>> {
        match self.heads.get(stream) {
            Some(head) => Ok(*head),
            None => view.head(stream),
        }
    }

    fn revision(&self, view: &impl View, key: &str) -> Result<Option<u64>> {
        match self.revisions.get(key) {
            Some(revision) => Ok(*revision),
            None => view.revision(key),
        }
    }
}

/// Judges `commit` as number `revision`. When it is accepted, the overlay has its effects and the commit
/// has gained the changes that follow from it (a dropped stream takes its content references along).
/// When it is refused, nothing changed.
pub(super) fn stage(
    commit: &mut Commit,
    view: &impl View,
    overlay: &mut Overlay,
    revision: u64,
) -> Result<Committed> {
    let size = well_formed(commit)?;

    let mut heads = Vec::with_capacity(commit.appends.len());
    for append in &commit.appends {
        heads.push(stage_append(
            append,
            overlay.head(view, &append.stream)?,
            revision,
        )?);
    }
    for op in &commit.ops {
        let now = overlay.revision(view, &op.key)?;
        let fits = match op.expect {
            Expect::Any => true,
            Expect::Absent => now.is_none(),
            Expect::Revision(wanted) => now == Some(wanted),
        };
        if !fits {
            return Err(Error::Stale {
                key: op.key.clone(),
                revision: now,
            });
        }
    }
    let mut trimmed = Vec::with_capacity(commit.trims.len());
    let mut followers = Vec::new();
    for trim in &commit.trims {
        if trim.drop {
            for key in references(view, overlay, &trim.stream)? {
                if !commit.ops.iter().any(|op| op.key == key) {
                    followers.push(RecordOp {
                        key,
                        expect: Expect::Any,
                        value: None,
                    });
                }
            }
            trimmed.push(None);
        } else {
            let appended = commit
                .appends
                .iter()
                .position(|append| append.stream == trim.stream);
            let head = match appended {
                Some(at) => heads.get_mut(at),
                None => None,
            };
            trimmed.push(Some(match head {
                Some(head) => {
                    *head = stage_trim(trim, Some(*head))?;
                    *head
                }
                None => stage_trim(trim, overlay.head(view, &trim.stream)?)?,
            }));
        }
    }

    let size = followers
        .iter()
        .fold(size, |size, op| size + 32 + op.key.len());
    if size > MAX_COMMIT_BYTES {
        return Err(Error::Malformed(format!(
            "with the content references of what it drops it has {size} bytes, more than {MAX_COMMIT_BYTES}"
        )));
    }
    commit.ops.append(&mut followers);
    for (append, head) in commit.appends.iter().zip(&heads) {
        overlay.heads.insert(append.stream.clone(), Some(*head));
    }
    for (trim, head) in commit.trims.iter().zip(trimmed) {
        overlay.heads.insert(trim.stream.clone(), head);
    }
    for op in &commit.ops {
        overlay
            .revisions
            .insert(op.key.clone(), op.value.as_ref().map(|_| revision));
    }
    Ok(Committed { revision, heads })
}

/// The head of a stream, if it may be read after `after_seq`.
pub(super) fn readable(stream: &Stream, head: Option<Head>, after_seq: u64) -> Result<Head> {
    let stream = stream.clone();
    match head {
        None => Err(Error::NoStream { stream }),
        Some(head) if after_seq > head.last_seq => Err(Error::Future { stream, head }),
        Some(head) if after_seq + 1 < head.first_seq => Err(Error::Truncated { stream, head }),
        Some(head) => Ok(head),
    }
}

/// The head that an append leads to. Also what a replay does with it, so it depends on nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advance {
    /// Epoch of the log.
    pub(super) log_epoch: u64,
    /// Seq of the first entry.
    pub(super) first_seq: u64,
    /// How many entries.
    pub(super) count: u64,
    /// The fence it carried.
    pub(super) fence: u64,
    /// How far the spool is stored, if it moved.
    pub(super) origin: Option<Origin>,
    /// When.
    pub(super) time: Timestamp,
}

impl Advance {
    /// The head after it.
    pub(super) fn apply(self, before: Option<Head>) -> Head {
        let last_seq = (self.first_seq + self.count).saturating_sub(1);
        match before.filter(|head| head.log_epoch == self.log_epoch) {
            Some(head) => Head {
                last_seq,
                fence: self.fence,
                origin: self.origin.unwrap_or(head.origin),
                last_time: if self.count > 0 {
                    self.time
                } else {
                    head.last_time
                },
                ..head
            },
            None => Head {
                log_epoch: self.log_epoch,
                // Also if a damaged journal has lost what came before: then the gap must show.
                first_seq: 1,
                last_seq,
                fence: self.fence,
                origin: self.origin.unwrap_or_default(),
                last_time: self.time,
            },
        }
    }
}

fn stage_append(append: &Append, head: Option<Head>, revision: u64) -> Result<Head> {
    let (last, fence, log_epoch) = match head {
        Some(head) => (head.last_seq, head.fence, head.log_epoch),
        // The number of the commit that makes a log tells it from any earlier log of that name.
        None => (0, 0, revision),
    };
    if append.fence < fence {
        return Err(Error::Fenced {
            stream: append.stream.clone(),
            fence,
        });
    }
    if append.expected_last != last {
        return Err(Error::Conflict {
            stream: append.stream.clone(),
            last,
        });
    }
    let advance = Advance {
        log_epoch,
        first_seq: last + 1,
        count: append.entries.count(),
        fence: append.fence,
        origin: append.origin.filter(|origin| *origin != Origin::default()),
        time: append.time,
    };
    Ok(advance.apply(head))
}

fn stage_trim(trim: &Trim, head: Option<Head>) -> Result<Head> {
    let Some(mut head) = head else {
        return Err(Error::NoStream {
            stream: trim.stream.clone(),
        });
    };
    if trim.first_seq > head.last_seq + 1 {
        return Err(Error::Future {
            stream: trim.stream.clone(),
            head,
        });
    }
    head.first_seq = head.first_seq.max(trim.first_seq);
    Ok(head)
}

fn references(view: &impl View, overlay: &Overlay, stream: &Stream) -> Result<Vec<String>> {
    let mut keys: Vec<String> = Vec::new();
    for key in view.references(stream)? {
        if overlay.revisions.get(&key).copied() != Some(None) {
            keys.push(key);
        }
    }
    for (key, revision) in &overlay.revisions {
        let is_ours = super::keys::content_stream(key) == Some(stream.as_str());
        if is_ours && revision.is_some() && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

/// Whether a commit is one; about how many bytes it has.
fn well_formed(commit: &Commit) -> Result<usize> {
    let malformed = |problem: String| Err(Error::Malformed(problem));
    let mut size = 64;

    let mut streams = HashSet::new();
    for append in &commit.appends {
        if !streams.insert(&append.stream) {
            return malformed(format!("two appends to stream {}", append.stream));
        }
        size += 160 + append.stream.as_str().len();
        size += append.entries.encoded().len();
        if append.expected_last > u64::MAX / 2 {
            return malformed(format!("stream {} would end beyond 2^63", append.stream));
        }
    }

    let mut keys = HashSet::new();
    for op in &commit.ops {
        if op.key.is_empty() || op.key.len() > MAX_KEY_BYTES {
            return malformed(format!(
                "a key has {} bytes, not 1 to {MAX_KEY_BYTES}",
                op.key.len()
            ));
        }
        if !keys.insert(&op.key) {
            return malformed(format!("two changes of record {}", op.key));
        }
        let value = op.value.as_ref().map_or(0, |value| value.len());
        if value > MAX_VALUE_BYTES {
            return malformed(format!(
                "the value of record {} has {value} bytes, more than {MAX_VALUE_BYTES}",
                op.key
            ));
        }
        size += 32 + op.key.len() + value;
    }

    let mut trims = HashSet::new();
    for trim in &commit.trims {
        if !trims.insert(&trim.stream) {
            return malformed(format!("two trims of stream {}", trim.stream));
        }
        if trim.drop && streams.contains(&trim.stream) {
            return malformed(format!("stream {} is appended to and dropped", trim.stream));
        }
        size += 32 + trim.stream.as_str().len();
    }

    if size > MAX_COMMIT_BYTES {
        return malformed(format!("it has {size} bytes, more than {MAX_COMMIT_BYTES}"));
    }
    Ok(size)
}
