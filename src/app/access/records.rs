//! Where tokens and daemons are kept, and how they are read and changed.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::fault;
use crate::base::id::{DaemonId, TokenId};
use crate::base::{Error, Result};
use crate::store::{Expect, Record, RecordOp, SharedStore};

/// The table of tokens.
pub const TOKENS: &str = "token/";
/// The table of daemons.
pub const DAEMONS: &str = "daemon/";

/// Key of a token's record.
pub fn token_key(id: TokenId) -> String {
    format!("{TOKENS}{id}")
}

/// Key of a daemon's record.
pub fn daemon_key(id: DaemonId) -> String {
    format!("{DAEMONS}{id}")
}

/// Key of the record that keeps a daemon's name its own; its value is the daemon's id.
pub fn daemon_name_key(name: &str) -> String {
    format!("daemon-name/{name}")
}

/// A record with the revision it was read at.
#[derive(Clone, Debug)]
pub struct Revised<T> {
    /// What it says.
    pub value: T,
    /// The commit that wrote it.
    pub revision: u64,
}

/// Reads a record that is kept as JSON.
pub async fn read<T: DeserializeOwned>(
    store: &SharedStore,
    key: &str,
) -> Result<Option<Revised<T>>> {
    match store.get(key).await.map_err(fault::from_store)? {
        None => Ok(None),
        Some(record) => decode(&record).map(Some),
    }
}

/// Decodes a record that is kept as JSON.
pub fn decode<T: DeserializeOwned>(record: &Record) -> Result<Revised<T>> {
    let value = serde_json::from_slice(&record.value).map_err(|problem| {
        Error::internal(format!(
            "the record {} cannot be read: {problem}",
            record.key
        ))
    })?;
    Ok(Revised {
        value,
        revision: record.revision,
    })
}

/// The change that writes a record as JSON.
pub fn put<T: Serialize>(key: String, expect: Expect, value: &T) -> Result<RecordOp> {
    let value = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(RecordOp {
        key,
        expect,
        value: Some(Bytes::from(value)),
    })
}
