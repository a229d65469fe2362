//! The rules above the relay, as small as they can be, over a store that loses what it did not sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use baton::base::id::{CommandId, DaemonId, SessionId};
use baton::base::{Code, Error, Result};
use baton::domain::command::CommandResult;
use baton::domain::daemon::Offer;
use baton::domain::link::{ContentChunk, Goodbye, Records, SessionReport};
use baton::domain::{EventBody, Transient};
use baton::relay::{Claim, Handler, Introduction, outbox};
use baton::store::memory::MemoryStore;
use baton::store::{
    self, Append, Commit, Contents as _, Expect, Journal as _, Origin, RecordOp, Stream,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{SimClock, World};
use crate::support::said::said;
use baton::base::Clock as _;

/// The record that says how a command ended.
pub fn outcome_key(id: CommandId) -> String {
    format!("outcome/{id}")
}

fn broken(error: store::Error) -> Error {
    match error {
        store::Error::Fenced { .. } => Error::new(Code::Stale, "fenced"),
        error => Error::new(Code::Unavailable, error.to_string()),
    }
}

/// The rules of one server process.
pub struct Upper {
    world: Arc<World>,
    store: Arc<MemoryStore>,
    attached: Mutex<BTreeMap<DaemonId, u64>>,
}

impl Upper {
    pub fn new(world: Arc<World>, store: Arc<MemoryStore>) -> Self {
        Upper {
            world,
            store,
            attached: Mutex::new(BTreeMap::new()),
        }
    }

    async fn claim(&self, daemon: DaemonId, session: SessionId) -> Result<Claim> {
        if self.world.owner(session) != daemon {
            self.world.tally(|tally| tally.foreign += 1);
            return Ok(Claim::Foreign);
        }
        let head = self.store.head(&Stream::session(session)).await;
        Ok(Claim::Own(
            head.map_err(broken)?
                .map(|head| head.origin)
                .unwrap_or_default(),
        ))
    }

    fn check_owner(&self, daemon: DaemonId, session: SessionId) {
        assert_eq!(
            self.world.owner(session),
            daemon,
            "a frame about a foreign session was taken"
        );
    }

    async fn store_records(&self, epoch: u64, records: Records) -> Result<Origin> {
        let stream = Stream::session(records.session_id);
        let head = self.store.head(&stream).await.map_err(broken)?;
        let mut origin = head.map(|head| head.origin).unwrap_or_default();
        let mut entries = Vec::new();
        let before = origin;
        for record in &records.records {
            let at = (records.origin_epoch, record.origin_seq);
            if at <= (origin.epoch, origin.seq) {
                continue;
            }
            entries.extend(record.gap.iter().map(|_| Bytes::from_static(b"gap:")));
            for event in &record.events {
                let EventBody::Notice { text, .. } = &said(event).body else {
                    panic!("an event changed on its way: {event:?}");
                };
                if let Some(sha256) = text.strip_prefix("content:") {
                    let size = self.store.size(sha256).await.map_err(broken)?;
                    assert!(size.is_some(), "a record passed its content");
                }
                entries.push(Bytes::from(text.clone()));
            }
            (origin.epoch, origin.seq) = at;
        }
        if origin == before {
            return Ok(origin);
        }
        let append = Append {
            stream,
            expected_last: head.map_or(0, |head| head.last_seq),
            fence: epoch,
            entries: entries.into(),
            origin: Some(origin),
            time: SimClock.now(),
        };
        let commit = Commit {
            appends: vec![append],
            ..Commit::default()
        };
        let done = self.store.commit(commit).await.map_err(broken)?;
        Ok(done.heads[0].origin)
    }
}

impl Handler for Upper {
    fn hello(&self, hello: Introduction) -> BoxFuture<'_, Result<Vec<(SessionId, Claim)>>> {
        Box::pin(async move {
            let mut claims = Vec::new();
            for report in hello.reports {
                let claim = self.claim(hello.daemon_id, report.session_id).await?;
                claims.push((report.session_id, claim));
            }
            Ok(claims)
        })
    }

    fn attached(&self, daemon: DaemonId, epoch: u64) -> BoxFuture<'_, ()> {
        let old = self.attached.lock().insert(daemon, epoch);
        assert!(old.is_none_or(|old| old < epoch), "an epoch did not grow");
        Box::pin(async {})
    }

    fn lost(&self, daemon: DaemonId, epoch: u64, _: Option<Goodbye>) -> BoxFuture<'_, ()> {
        let mut attached = self.attached.lock();
        if attached.get(&daemon) == Some(&epoch) {
            attached.remove(&daemon);
        }
        Box::pin(async {})
    }

    fn records(
        &self,
        daemon: DaemonId,
        epoch: u64,
        records: Records,
    ) -> BoxFuture<'_, Result<Origin>> {
        self.check_owner(daemon, records.session_id);
        Box::pin(self.store_records(epoch, records))
    }

    fn content(&self, daemon: DaemonId, _: u64, chunk: ContentChunk) -> BoxFuture<'_, Result<u64>> {
        self.check_owner(daemon, chunk.session_id);
        Box::pin(async move {
            let (size, end) = (chunk.size_bytes, chunk.offset + chunk.data.len() as u64);
            let whole = self
                .store
                .stage(&chunk.sha256, size, chunk.offset, chunk.data)
                .await
                .map_err(broken)?;
            Ok(if whole { size } else { end })
        })
    }

    fn command_result(&self, daemon: DaemonId, result: CommandResult) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.world.owner(result.session_id) != daemon {
                return Err(Error::new(Code::Forbidden, "it is another daemon's"));
            }
            if self.world.session_of(result.command_id) != Some(result.session_id) {
                // The session has no such command: there is nothing to store.
                return Ok(());
            }
            let outcome = RecordOp {
                key: outcome_key(result.command_id),
                expect: Expect::Absent,
                value: Some(Bytes::from(serde_json::to_vec(&result.outcome).unwrap())),
            };
            let done = outbox::remove(&*self.store, daemon, result.command_id);
            let commit = Commit {
                ops: vec![outcome, done],
                ..Commit::default()
            };
            match self.store.commit(commit).await {
                Ok(_) | Err(store::Error::Stale { .. }) => Ok(()),
                Err(error) => Err(broken(error)),
            }
        })
    }

    fn session_report(
        &self,
        daemon: DaemonId,
        _: u64,
        report: SessionReport,
    ) -> BoxFuture<'_, Result<Claim>> {
        Box::pin(self.claim(daemon, report.session_id))
    }

    fn offer(&self, _: DaemonId, _: u64, _: Offer) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn transient(&self, _: DaemonId, _: Transient) {}
}
