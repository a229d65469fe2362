//! Records in memory, with the store's rules for them: what access needs of a store, and no journal.

use std::collections::BTreeMap;
use std::time::Duration;

use baton::store::*;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::watch;

#[derive(Default)]
pub struct TableStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    records: BTreeMap<String, (u64, Bytes)>,
}

fn only_records<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    ready(Err(Error::Malformed(
        "this store keeps records only".to_owned(),
    )))
    .boxed()
}

impl TableStore {
    fn apply(&self, commit: Commit) -> Result<Committed> {
        assert!(commit.appends.is_empty() && commit.trims.is_empty());
        let mut state = self.state.lock();
        for op in &commit.ops {
            let is = state.records.get(&op.key).map(|(revision, _)| *revision);
            let fits = match op.expect {
                Expect::Any => true,
                Expect::Absent => is.is_none(),
                Expect::Revision(expected) => is == Some(expected),
            };
            if !fits {
                return Err(Error::Stale {
                    key: op.key.clone(),
                    revision: is,
                });
            }
        }
        state.revision += 1;
        let revision = state.revision;
        for op in commit.ops {
            match op.value {
                Some(value) => state.records.insert(op.key, (revision, value)),
                None => state.records.remove(&op.key),
            };
        }
        Ok(Committed {
            revision,
            heads: Vec::new(),
        })
    }
}

impl Journal for TableStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        async move {
            // Others run in between, as they would while a disk syncs.
            tokio::task::yield_now().await;
            self.apply(commit)
        }
        .boxed()
    }
    fn head(&self, _: &Stream) -> BoxFuture<'_, Result<Option<Head>>> {
        only_records()
    }
    fn read(&self, _: &Stream, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<Chunk>>> {
        only_records()
    }
    fn watch(&self, _: &Stream) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
    fn streams(&self, _: Option<&Stream>, _: usize) -> BoxFuture<'_, Result<Vec<Stream>>> {
        only_records()
    }
}

impl Records for TableStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        let found = self
            .state
            .lock()
            .records
            .get(key)
            .map(|(revision, value)| Record {
                key: key.to_owned(),
                revision: *revision,
                value: value.clone(),
            });
        ready(Ok(found)).boxed()
    }
    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>> {
        let found = self
            .state
            .lock()
            .records
            .iter()
            .filter(|(key, _)| {
                key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
            })
            .take(limit)
            .map(|(key, (revision, value))| Record {
                key: key.clone(),
                revision: *revision,
                value: value.clone(),
            })
            .collect();
        ready(Ok(found)).boxed()
    }
    fn scan_back(&self, _: &str, _: Option<&str>, _: usize) -> BoxFuture<'_, Result<Vec<Record>>> {
        only_records()
    }
    fn changes(&self, _: &str, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<RecordChange>>> {
        only_records()
    }
    fn watch_revision(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

impl Leases for TableStore {
    fn acquire(&self, _: &str, _: &str, _: Duration) -> BoxFuture<'_, Result<Option<Lease>>> {
        only_records()
    }
    fn renew(&self, _: &Lease, _: Duration) -> BoxFuture<'_, Result<Option<Lease>>> {
        only_records()
    }
    fn release(&self, _: &Lease) -> BoxFuture<'_, Result<()>> {
        only_records()
    }
}

impl Outbox for TableStore {
    fn put_op(&self, daemon: &str, order: &str, value: Bytes) -> RecordOp {
        RecordOp {
            key: format!("outbox/{daemon}/{order}"),
            expect: Expect::Any,
            value: Some(value),
        }
    }
    fn remove_op(&self, daemon: &str, order: &str) -> RecordOp {
        RecordOp {
            key: format!("outbox/{daemon}/{order}"),
            expect: Expect::Any,
            value: None,
        }
    }
    fn pending(&self, _: &str, _: Option<&str>, _: usize) -> BoxFuture<'_, Result<Vec<Record>>> {
        only_records()
    }
}

impl Contents for TableStore {
    fn stage(&self, _: &str, _: u64, _: u64, _: Bytes) -> BoxFuture<'_, Result<bool>> {
        only_records()
    }
    fn size(&self, _: &str) -> BoxFuture<'_, Result<Option<u64>>> {
        only_records()
    }
    fn read_content(&self, _: &str, _: u64, _: usize) -> BoxFuture<'_, Result<Bytes>> {
        only_records()
    }
    fn refer_op(&self, stream: &Stream, sha256: &str) -> RecordOp {
        RecordOp {
            key: format!("refer/{stream}/{sha256}"),
            expect: Expect::Any,
            value: None,
        }
    }
    fn refers(&self, _: &Stream, _: &str) -> BoxFuture<'_, Result<bool>> {
        only_records()
    }
}

impl Store for TableStore {
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }
}
