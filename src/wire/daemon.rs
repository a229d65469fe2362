//! Daemons, harnesses and directories on the wire.

use std::collections::HashMap;

use super::enums;
use super::field;
use super::session::{capabilities_from_pb, capabilities_to_pb};
use super::time::time_to_pb;
use crate::base::Result;
use crate::domain::daemon::{Directory, DirectoryEntry, LinkChange, Offer};
use crate::domain::worktree::Support;
use crate::domain::{Daemon, Harness};
use crate::wire::v1;

/// A daemon as protobuf writes it. `living_sessions` is counted by the caller; `revision` becomes the etag.
pub fn daemon_to_pb(daemon: &Daemon, living_sessions: u32, revision: u64) -> v1::Daemon {
    let offer = &daemon.offer;
    v1::Daemon {
        id: daemon.id.to_string(),
        name: daemon.name.clone(),
        hostname: offer.hostname.clone(),
        platform: offer.platform.clone(),
        version: offer.version.clone(),
        attached: daemon.attached,
        since: Some(time_to_pb(daemon.since)),
        draining: daemon.draining,
        harnesses: offer.harnesses.iter().map(harness_to_pb).collect(),
        roots: offer.roots.clone(),
        max_permission_mode: enums::permission_mode_to_pb(offer.max_permission_mode).into(),
        labels: offer
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<HashMap<_, _>>(),
        env_names: offer.env_names.clone(),
        max_sessions: offer.max_sessions,
        living_sessions,
        created_at: Some(time_to_pb(daemon.created_at)),
        etag: field::etag_of(revision),
        link_epoch: daemon.link_epoch,
        link_changes: daemon.link_changes.iter().map(link_change_to_pb).collect(),
    }
}

fn link_change_to_pb(change: &LinkChange) -> v1::DaemonLinkChange {
    v1::DaemonLinkChange {
        at: Some(time_to_pb(change.at)),
        attached: change.attached,
        epoch: change.epoch,
        reason: change.reason.clone(),
    }
}

/// What a daemon offers, from the public record. (A daemon's credential is not public, so there is no
/// way back to the whole record.)
pub fn offer_from_pb(daemon: v1::Daemon) -> Result<Offer> {
    Ok(Offer {
        hostname: daemon.hostname,
        platform: daemon.platform,
        version: daemon.version,
        harnesses: daemon
            .harnesses
            .into_iter()
            .map(harness_from_pb)
            .collect::<Result<_>>()?,
        roots: daemon.roots,
        max_permission_mode: enums::permission_mode_from_pb(
            daemon.max_permission_mode,
            "daemon.max_permission_mode",
        )?
        .unwrap_or_default(),
        labels: daemon.labels.into_iter().collect(),
        env_names: daemon.env_names,
        max_sessions: daemon.max_sessions,
        // Not in the public record.
        worktrees: Support::default(),
    })
}

/// A harness as protobuf writes it.
pub fn harness_to_pb(harness: &Harness) -> v1::Harness {
    v1::Harness {
        name: harness.name.clone(),
        available: harness.available,
        unavailable_reason: harness.unavailable_reason.clone(),
        version: harness.version.clone(),
        login: enums::login_to_pb(harness.login).into(),
        capabilities: Some(capabilities_to_pb(harness.capabilities)),
        models: harness.models.clone(),
    }
}

/// A harness from the wire.
pub fn harness_from_pb(harness: v1::Harness) -> Result<Harness> {
    Ok(Harness {
        name: harness.name,
        available: harness.available,
        unavailable_reason: harness.unavailable_reason,
        version: harness.version,
        login: enums::login_from_pb(harness.login, "harness.login")?.unwrap_or_default(),
        capabilities: capabilities_from_pb(harness.capabilities),
        models: harness.models,
    })
}

/// A directory as protobuf writes it.
pub fn directory_to_pb(directory: Directory) -> v1::ListDirectoryResponse {
    v1::ListDirectoryResponse {
        path: directory.path,
        entries: directory
            .entries
            .into_iter()
            .map(|entry| v1::DirectoryEntry {
                name: entry.name,
                path: entry.path,
                is_directory: entry.is_directory,
                is_repository: entry.is_repository,
            })
            .collect(),
        truncated: directory.truncated,
        repository: directory.repository,
    }
}

/// A directory from the wire.
pub fn directory_from_pb(directory: v1::ListDirectoryResponse) -> Directory {
    Directory {
        path: directory.path,
        repository: directory.repository,
        entries: directory
            .entries
            .into_iter()
            .map(|entry| DirectoryEntry {
                name: entry.name,
                path: entry.path,
                is_directory: entry.is_directory,
                is_repository: entry.is_repository,
            })
            .collect(),
        truncated: directory.truncated,
    }
}
