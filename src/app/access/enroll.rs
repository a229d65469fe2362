//! How a machine becomes a daemon.
//!
//! A join token is used up in the same commit that makes the daemon, its name and its credential. If the
//! answer is lost, the daemon asks again with the same nonce: the credential was shown once and only its
//! hash is kept, so the first one is revoked and another is made. That goes until the join token expires
//! or the daemon has linked, which proves that an answer arrived.

use super::secret::sha256_hex;
use super::{Access, Caller, TRIES, busy, check_name, not_valid};
use crate::app::{failure, records};
use crate::base::id::{DaemonId, TokenId};
use crate::base::{Code, Error, Result, Secret};
use crate::domain::daemon::Offer;
use crate::domain::{Daemon, Scope, Token};
use crate::store::{self, Commit, Expect, RecordOp};

/// Bounds of a nonce, in bytes.
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// A new daemon.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Its id.
    pub daemon_id: DaemonId,
    /// Its name.
    pub name: String,
    /// Its bearer token from now on; shown this once.
    pub credential: Secret,
}

impl Access {
    /// Makes a daemon of who holds a join token. The name is the one asked for, else the join token's, else
    /// the host's.
    ///
    /// [`Code::Forbidden`]: not a join token. [`Code::Unauthenticated`]: used with another nonce, or spent.
    /// [`Code::AlreadyExists`]: another daemon has the name; the join token stays good.
    pub async fn enroll(
        &self,
        caller: &Caller,
        name: &str,
        hostname: &str,
        nonce: &[u8],
    ) -> Result<Enrolled> {
        caller.require(Scope::Join)?;
        if !NONCE_BYTES.contains(&nonce.len()) {
            return Err(Error::invalid("nonce", "must be 16 to 64 bytes long"));
        }
        let nonce = sha256_hex(nonce);
        for _ in 0..TRIES {
            let (join, revision) = self.read_token(caller.token_id).await?;
            let attempt = match &join.used_nonce_sha256 {
                Some(used) if *used == nonce => self.again(&join).await?,
                None if join.is_valid(self.inner.clock.now()) => {
                    self.first(join, revision, name, hostname, &nonce).await?
                }
                _ => return Err(not_valid()),
            };
            match self.inner.store.commit(attempt.commit).await {
                Ok(_) => {
                    for id in attempt.changed {
                        self.forget(id);
                    }
                    tracing::info!(daemon = %attempt.enrolled.daemon_id, "daemon enrolled");
                    return Ok(attempt.enrolled);
                }
                Err(store::Error::Stale { key, .. }) if key == attempt.name_key => {
                    return Err(Error::new(
                        Code::AlreadyExists,
                        format!(
                            "another daemon is called {:?}; choose another name, or remove that daemon first",
                            attempt.enrolled.name
                        ),
                    ));
                }
                // Somebody used the same token in the meantime: look again.
                Err(store::Error::Stale { .. }) => {}
                Err(error) => return Err(failure::from_store(error)),
            }
        }
        Err(busy())
    }

    async fn first(
        &self,
        join: Token,
        revision: u64,
        name: &str,
        hostname: &str,
        nonce: &str,
    ) -> Result<Attempt> {
        let (field, name) = [("name", name), ("name", &join.name), ("hostname", hostname)]
            .into_iter()
            .find(|(_, name)| !name.is_empty())
            .ok_or_else(|| Error::invalid("name", "is missing, and so is the host's"))?;
        check_name(field, name)?;
        let now = self.inner.clock.now();
        let daemon_id = DaemonId::generate(now);
        let minted = self.mint(name, Scope::Daemon, None, Some(daemon_id));
        let daemon = Daemon {
            id: daemon_id,
            name: name.to_owned(),
            token_id: minted.token.id,
            offer: Offer {
                hostname: hostname.chars().take(255).collect(),
                ..Offer::default()
            },
            attached: false,
            since: now,
            link_epoch: 0,
            boot_generation: 0,
            draining: false,
            created_at: now,
            link_changes: Vec::new(),
        };
        let name_key = records::daemon_name_key(name);
        let used = Token {
            revoked_at: Some(now),
            daemon_id: Some(daemon_id),
            used_nonce_sha256: Some(nonce.to_owned()),
            ..join.clone()
        };
        let ops = vec![
            records::put(
                records::token_key(used.id),
                &used,
                Expect::Revision(revision),
            )?,
            RecordOp {
                key: name_key.clone(),
                expect: Expect::Absent,
                value: Some(daemon_id.to_string().into()),
            },
            records::put(records::daemon_key(daemon_id), &daemon, Expect::Absent)?,
            records::put(
                records::token_key(minted.token.id),
                &minted.token,
                Expect::Absent,
            )?,
        ];
        Ok(Attempt {
            commit: Commit {
                ops,
                ..Commit::default()
            },
            changed: vec![used.id],
            name_key,
            enrolled: Enrolled {
                daemon_id,
                name: daemon.name,
                credential: minted.secret,
            },
        })
    }

    /// The answer once more, with another credential.
    async fn again(&self, join: &Token) -> Result<Attempt> {
        let now = self.inner.clock.now();
        if join.expires_at.is_some_and(|at| at <= now) {
            return Err(not_valid());
        }
        let daemon_id = join.daemon_id.ok_or_else(not_valid)?;
        let (mut daemon, daemon_revision) =
            records::get::<Daemon>(self.inner.store.as_ref(), &records::daemon_key(daemon_id))
                .await?
                .ok_or_else(not_valid)?;
        if daemon.link_epoch > 0 {
            return Err(not_valid());
        }
        let (old, old_revision) = self.read_token(daemon.token_id).await?;
        if !old.is_valid(now) {
            // An operator has taken it away; a repeat must not give it back.
            return Err(not_valid());
        }
        let minted = self.mint(&daemon.name, Scope::Daemon, None, Some(daemon_id));
        let revoked = Token {
            revoked_at: Some(now),
            ..old
        };
        daemon.token_id = minted.token.id;
        let ops = vec![
            records::put(
                records::token_key(revoked.id),
                &revoked,
                Expect::Revision(old_revision),
            )?,
            records::put(
                records::daemon_key(daemon_id),
                &daemon,
                Expect::Revision(daemon_revision),
            )?,
            records::put(
                records::token_key(minted.token.id),
                &minted.token,
                Expect::Absent,
            )?,
        ];
        Ok(Attempt {
            commit: Commit {
                ops,
                ..Commit::default()
            },
            changed: vec![revoked.id],
            name_key: records::daemon_name_key(&daemon.name),
            enrolled: Enrolled {
                daemon_id,
                name: daemon.name,
                credential: minted.secret,
            },
        })
    }

    /// Removes a daemon's record, name and credential in one commit with `with`, and ends what it has open.
    /// [`Code::NotFound`]: there is none. Whether it may go is for the caller to decide before.
    pub async fn remove_daemon(&self, id: DaemonId, with: Commit) -> Result<Daemon> {
        for _ in 0..TRIES {
            let (daemon, revision) =
                records::get::<Daemon>(self.inner.store.as_ref(), &records::daemon_key(id))
                    .await?
                    .ok_or_else(|| Error::not_found("daemon", id))?;
            let mut commit = with.clone();
            let gone = |key: String, expect| RecordOp {
                key,
                expect,
                value: None,
            };
            commit
                .ops
                .push(gone(records::daemon_key(id), Expect::Revision(revision)));
            commit
                .ops
                .push(gone(records::daemon_name_key(&daemon.name), Expect::Any));
            let key = records::token_key(daemon.token_id);
            if let Some((token, revision)) =
                records::get::<Token>(self.inner.store.as_ref(), &key).await?
            {
                let revoked = Token {
                    revoked_at: Some(token.revoked_at.unwrap_or(self.inner.clock.now())),
                    ..token
                };
                commit.ops.push(records::put(
                    records::token_key(revoked.id),
                    &revoked,
                    Expect::Revision(revision),
                )?);
            }
            match self.inner.store.commit(commit).await {
                Ok(_) => {
                    self.forget(daemon.token_id);
                    return Ok(daemon);
                }
                Err(store::Error::Stale { key, revision })
                    if key != records::daemon_key(id)
                        && key != records::token_key(daemon.token_id) =>
                {
                    return Err(failure::from_store(store::Error::Stale { key, revision }));
                }
                Err(store::Error::Stale { .. }) => {}
                Err(error) => return Err(failure::from_store(error)),
            }
        }
        Err(busy())
    }
}

impl Access {
    async fn read_token(&self, id: TokenId) -> Result<(Token, u64)> {
        records::get(self.inner.store.as_ref(), &records::token_key(id))
            .await?
            .ok_or_else(not_valid)
    }
}

struct Attempt {
    commit: Commit,
    changed: Vec<TokenId>,
    name_key: String,
    enrolled: Enrolled,
}
