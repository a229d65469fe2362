//! Leases as records: one compare-and-set decides who has it.
//!
//! A lease that was given back keeps its record, since the fence must never fall.

use std::time::Duration;

use prost::Message as _;

use super::{Commit, Error, Expect, Journal, Lease, RecordOp, Records, Result, keys};
use crate::base::{Clock, Timestamp};
use crate::wire::storage_v1 as pb;

/// What a lease's record says, with its revision.
struct Held {
    record: pb::LeaseRecord,
    expect: Expect,
}

async fn load<S: Records + ?Sized>(store: &S, name: &str) -> Result<Held> {
    let Some(record) = store.get(&keys::lease(name)).await? else {
        return Ok(Held {
            record: pb::LeaseRecord::default(),
            expect: Expect::Absent,
        });
    };
    let expect = Expect::Revision(record.revision);
    let record = pb::LeaseRecord::decode(record.value).map_err(|error| {
        Error::Io(format!(
            "the record of lease {name} cannot be read: {error}"
        ))
    })?;
    Ok(Held { record, expect })
}

/// Writes the lease's record; `Ok(None)` if somebody else was first.
async fn save<S: Journal + ?Sized>(
    store: &S,
    name: &str,
    next: pb::LeaseRecord,
    expect: Expect,
) -> Result<Option<Lease>> {
    let op = RecordOp {
        key: keys::lease(name),
        expect,
        value: Some(next.encode_to_vec().into()),
    };
    let commit = Commit {
        ops: vec![op],
        ..Commit::default()
    };
    match store.commit(commit).await {
        Ok(_) => Ok(Some(Lease {
            name: name.to_owned(),
            owner: next.owner,
            fence: next.fence,
            expires: Timestamp::from_micros(next.expires_us),
        })),
        Err(Error::Stale { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn acquire<S>(
    store: &S,
    clock: &dyn Clock,
    name: &str,
    owner: &str,
    ttl: Duration,
) -> Result<Option<Lease>>
where
    S: Journal + Records + ?Sized,
{
    if owner.is_empty() {
        return Err(Error::Malformed("a lease needs an owner".into()));
    }
    loop {
        let held = load(store, name).await?;
        let now = clock.now();
        let is_free = held.record.owner.is_empty() || held.record.expires_us <= now.as_micros();
        if !is_free && held.record.owner != owner {
            return Ok(None);
        }
        let next = pb::LeaseRecord {
            owner: owner.to_owned(),
            fence: held.record.fence + 1,
            expires_us: now.saturating_add(ttl).as_micros(),
        };
        // Losing the race means that another has changed it: look again. Each round, somebody advances.
        if let Some(lease) = save(store, name, next, held.expect).await? {
            return Ok(Some(lease));
        }
    }
}

pub(super) async fn renew<S>(
    store: &S,
    clock: &dyn Clock,
    lease: &Lease,
    ttl: Duration,
) -> Result<Option<Lease>>
where
    S: Journal + Records + ?Sized,
{
    let held = load(store, &lease.name).await?;
    let now = clock.now();
    let is_held = held.record.owner == lease.owner
        && held.record.fence == lease.fence
        && held.record.expires_us > now.as_micros();
    if !is_held {
        return Ok(None);
    }
    let next = pb::LeaseRecord {
        expires_us: now.saturating_add(ttl).as_micros(),
        ..held.record
    };
    save(store, &lease.name, next, held.expect).await
}

pub(super) async fn release<S>(store: &S, lease: &Lease) -> Result<()>
where
    S: Journal + Records + ?Sized,
{
    loop {
        let held = load(store, &lease.name).await?;
        if held.record.owner != lease.owner || held.record.fence != lease.fence {
            return Ok(());
        }
        let next = pb::LeaseRecord {
            owner: String::new(),
            expires_us: 0,
            ..held.record
        };
        if save(store, &lease.name, next, held.expect).await?.is_some() {
            return Ok(());
        }
    }
}
