//! Commands as they lie in the store's outbox: JSON of `domain::Command`, ordered by id.

use bytes::Bytes;

use crate::base::id::{CommandId, DaemonId};
use crate::base::{Error, Result};
use crate::domain::Command;
use crate::store::{Outbox, RecordOp};

/// The change that puts a command on its way; belongs in the commit of its cause. Nudge the daemon's link
/// ([`super::Relay::nudge`]) after that commit.
pub fn put<S: Outbox + ?Sized>(store: &S, daemon: DaemonId, command: &Command) -> Result<RecordOp> {
    let value = serde_json::to_vec(command).map_err(Error::internal)?;
    Ok(store.put_op(
        &daemon.to_string(),
        &command.id.to_string(),
        Bytes::from(value),
    ))
}

/// The change that takes a command away; belongs in the commit of its result.
pub fn remove<S: Outbox + ?Sized>(store: &S, daemon: DaemonId, command: CommandId) -> RecordOp {
    store.remove_op(&daemon.to_string(), &command.to_string())
}

/// A command as it was put.
pub fn read(value: &[u8]) -> Result<Command> {
    serde_json::from_slice(value).map_err(Error::internal)
}
