//! When tokens were last used, for people who want to know which of them can go. It is coarse on purpose: a call
//! notes the time in memory, and a job writes what is new from time to time, in one commit for all tokens.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::Access;
use crate::app::{failure, records};
use crate::base::id::TokenId;
use crate::base::{Result, Timestamp};
use crate::domain::{Token, TokenUse};
use crate::store::{Commit, Expect};

/// How often uses are written. What a server did not write before it was killed is forgotten.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// Most tokens whose use is noted between two writes. Further ones are not noted: nothing opens or closes by it.
const NOTED_MAX: usize = 10_000;
/// Most uses of one commit.
const BATCH: usize = 500;

/// Uses that are not written yet.
#[derive(Default)]
pub(super) struct Uses {
    noted: Mutex<HashMap<TokenId, Timestamp>>,
}

impl Uses {
    /// Notes that a token opened something.
    pub(super) fn note(&self, id: TokenId, now: Timestamp) {
        let mut noted = self.noted.lock();
        if noted.len() < NOTED_MAX || noted.contains_key(&id) {
            noted.insert(id, now);
        }
    }

    fn of(&self, id: TokenId) -> Option<Timestamp> {
        self.noted.lock().get(&id).copied()
    }

    fn take(&self) -> Vec<(TokenId, Timestamp)> {
        self.noted.lock().drain().collect()
    }

    /// Puts back what could not be written, unless a newer use was noted meanwhile.
    fn put_back(&self, uses: &[(TokenId, Timestamp)]) {
        let mut noted = self.noted.lock();
        for (id, at) in uses {
            if noted.len() < NOTED_MAX {
                noted.entry(*id).or_insert(*at);
            }
        }
    }
}

impl Access {
    /// Writes uses now and then, as long as it is polled.
    pub async fn keep_uses(self) {
        loop {
            tokio::time::sleep(WRITE_EVERY).await;
            self.write_uses().await;
        }
    }

    /// Writes the uses that are not written yet. What cannot be written now is tried with the next ones.
    pub async fn write_uses(&self) {
        let uses = self.inner.uses.take();
        for (at, some) in uses.chunks(BATCH).enumerate() {
            if let Err(error) = self.write(some).await {
                tracing::warn!(?error, "the last uses of tokens cannot be written");
                self.inner.uses.put_back(&uses[at * BATCH..]);
                return;
            }
        }
    }

    async fn write(&self, uses: &[(TokenId, Timestamp)]) -> Result<()> {
        let ops = uses
            .iter()
            .map(|(id, at)| {
                let used = TokenUse { at: *at };
                records::put(records::token_use_key(*id), &used, Expect::Any)
            })
            .collect::<Result<Vec<_>>>()?;
        let commit = Commit {
            ops,
            ..Commit::default()
        };
        let written = self.inner.store.commit(commit).await;
        written.map(drop).map_err(failure::from_store)
    }

    /// Says of a token when it was last used.
    pub(super) async fn with_use(&self, token: Token) -> Result<Token> {
        let key = records::token_use_key(token.id);
        let stored = records::get::<TokenUse>(self.inner.store.as_ref(), &key).await?;
        Ok(self.used(token, stored.map(|(used, _)| used.at)))
    }

    /// The same for tokens in the order of their ids, all after the one with the key `after`.
    pub(super) async fn with_uses(
        &self,
        tokens: Vec<Token>,
        after: Option<&str>,
    ) -> Result<Vec<Token>> {
        let after = after
            .and_then(|key| key.strip_prefix(records::TOKENS))
            .map(|id| format!("{}{id}", records::TOKEN_USES));
        // Only tokens have uses, and in the same order: no more of them can lie in the stretch.
        let found = self
            .inner
            .store
            .scan(records::TOKEN_USES, after.as_deref(), tokens.len().max(1))
            .await
            .map_err(failure::from_store)?;
        let stored = found
            .iter()
            .map(|record| Ok((record.key.as_str(), records::decode::<TokenUse>(record)?.at)))
            .collect::<Result<HashMap<&str, Timestamp>>>()?;
        let with = |token: Token| {
            let at = stored
                .get(records::token_use_key(token.id).as_str())
                .copied();
            self.used(token, at)
        };
        Ok(tokens.into_iter().map(with).collect())
    }

    fn used(&self, mut token: Token, stored: Option<Timestamp>) -> Token {
        token.last_used_at = self.inner.uses.of(token.id).max(stored);
        token
    }
}
