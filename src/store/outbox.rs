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
    let prefix = keys::outbox_prefix(daemon);
    let after = after.map(|order| format!("{prefix}{order}"));
    let mut records = store.scan(&prefix, after.as_deref(), limit).await?;
    for record in &mut records {
        record.key.drain(..prefix.len());
    }
    Ok(records)
}
