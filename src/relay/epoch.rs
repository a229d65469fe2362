//! Link epochs: numbers that grow for ever, over restarts too.

use bytes::Bytes;

use crate::base::id::DaemonId;
use crate::base::{Code, Error, Result};
use crate::store::{self, Commit, Expect, RecordOp, SharedStore};

/// How often a race for the next epoch is run again.
const TRIES: u32 = 16;

/// Takes a daemon's next epoch: higher than any before, and durable when this returns.
pub(super) async fn next(store: &SharedStore, daemon: DaemonId) -> Result<u64> {
    let key = format!("daemon-epoch/{daemon}");
    for _ in 0..TRIES {
        let old = store.get(&key).await.map_err(unavailable)?;
        let last = match &old {
            Some(record) => parse(&record.value)?,
            None => 0,
        };
        let epoch = last + 1;
        let op = RecordOp {
            key: key.clone(),
            expect: match &old {
                Some(record) => Expect::Revision(record.revision),
                None => Expect::Absent,
            },
            value: Some(Bytes::from(epoch.to_string())),
        };
        let commit = Commit {
            ops: vec![op],
            ..Commit::default()
        };
        match store.commit(commit).await {
            Ok(_) => return Ok(epoch),
            // Another link of the same daemon took it.
            Err(store::Error::Stale { .. }) => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    Err(Error::new(
        Code::Unavailable,
        "too many links of this daemon at once; try again",
    ))
}

fn parse(value: &[u8]) -> Result<u64> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|epoch| *epoch < u64::MAX)
        .ok_or_else(|| Error::internal("a daemon's epoch cannot be read"))
}

pub(super) fn unavailable(error: store::Error) -> Error {
    Error::new(Code::Unavailable, "the store cannot be reached; try again").caused_by(error)
}
