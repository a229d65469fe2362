//! The outbox as records: `outbox/<daemon>/<order>`.

use bytes::Bytes;

use super::{Expect, Record, RecordOp, Records, Result, keys};

pub(super) fn put_op(daemon: &str, order: &str, value: Bytes) -> RecordOp {
    RecordOp {
        key: format!("{}{order}", keys::outbox_prefix(daemon)),
        expect: Expect::Any,
        value: Some(value),
    }
}

pub(super) fn remove_op(daemon: &str, order: &str) -> RecordOp {
    RecordOp {
        key: format!("{}{order}", keys::outbox_prefix(daemon)),
        expect: Expect::Any,
        value: None,
    }
}

pub(super) async fn pending<S: Records + ?Sized>(
    store: &S,
    daemon: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Record>> {
    let (prefix, after) = place(daemon, after);
    let records = store.scan(&prefix, after.as_deref(), limit).await?;
    Ok(entries(&prefix, records))
}

/// What the keys of a daemon's entries begin with, and the key of the entry `after`.
pub(super) fn place(daemon: &str, after: Option<&str>) -> (String, Option<String>) {
    let prefix = keys::outbox_prefix(daemon);
    let after = after.map(|order| format!("{prefix}{order}"));
    (prefix, after)
}

/// Records as entries: each has its order for a key.
pub(super) fn entries(prefix: &str, mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        record.key.drain(..prefix.len());
    }
    records
}
