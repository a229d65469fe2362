//! Who may call: tokens, and how daemons get theirs.
//!
//! A token's record is in the store, with the hash of its secret; what a token opens is read there and
//! never taken from a claim. Lookups are cached for a short time; a revocation empties the cache at once
//! and wakes everything that was opened with the token ([`Access::watch_validity`]).

mod bootstrap;
mod caller;
mod enroll;
mod need;
pub mod secret;
mod sign_in;
mod uses;
mod validity;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use bootstrap::ADMIN_TOKEN_FILE;
pub use caller::Caller;
pub use enroll::Enrolled;
pub use need::Need;
pub use sign_in::{BROWSER_TTL, Code as SignInCode};

use crate::app::{failure, records};
use crate::base::id::{DaemonId, TokenId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Code, Error, Result, Secret, SharedClock, Timestamp};
use crate::domain::{Narrowing, Scope, Token, TokenKind, field};
use crate::store::{self, Commit, Expect, SharedStore};

/// How long a token's record may be used without reading it again.
const CACHE_FOR: Duration = Duration::from_secs(15);
/// How often it is asked which tokens of open streams have changed or expired, besides at a revocation: within the
/// promised 30 s.
const RECHECK_EVERY: Duration = Duration::from_secs(10);
/// Most records in the cache; when it is full it is emptied.
const CACHE_SIZE: usize = 10_000;
/// Longest name of a token, in bytes.
const MAX_NAME_BYTES: usize = 100;
/// Longest life of an access token.
const MAX_TTL: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Life of a join token that names none.
const JOIN_TTL: Duration = Duration::from_secs(3_600);
/// Longest life of a join token.
const MAX_JOIN_TTL: Duration = Duration::from_secs(7 * 86_400);
/// How often a change is tried again when something else changed the record in between.
const TRIES: usize = 8;

/// The tokens. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    store: SharedStore,
    clock: SharedClock,
    recheck_every: Duration,
    cache: Mutex<Cache>,
    uses: uses::Uses,
    watched: validity::Watched,
    /// Counts revocations; waking who watches.
    revocations: watch::Sender<u64>,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<TokenId, (Token, Timestamp)>,
    /// Grows when something is taken out, so that a record read before is not put in after.
    generation: u64,
}

impl Cache {
    fn remove(&mut self, id: TokenId) {
        self.generation += 1;
        self.entries.remove(&id);
    }

    fn clear(&mut self) {
        self.generation += 1;
        self.entries.clear();
    }
}

/// A new token, with its text, which is shown this once.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The record.
    pub token: Token,
    /// The text.
    pub secret: Secret,
}

impl Access {
    /// The tokens in `store`.
    pub fn new(store: SharedStore, clock: SharedClock) -> Self {
        Self::with_recheck(store, clock, RECHECK_EVERY)
    }

    /// The same with another interval at which the tokens of open streams are looked at again; for tests.
    pub fn with_recheck(store: SharedStore, clock: SharedClock, every: Duration) -> Self {
        Access {
            inner: Arc::new(Inner {
                store,
                clock,
                recheck_every: every,
                cache: Mutex::default(),
                uses: uses::Uses::default(),
                watched: validity::Watched::default(),
                revocations: watch::Sender::new(0),
            }),
        }
    }

    /// Whose token this is. [`Code::Unauthenticated`] if it is none, unknown, expired, revoked: the answer
    /// is the same for all, so that it tells nothing.
    ///
    /// A join token that was used up still names its caller until it expires, so that a daemon whose answer
    /// was lost can ask again; [`Access::enroll`] decides what it opens then.
    pub async fn authenticate(&self, text: &Secret) -> Result<Caller> {
        let presented = secret::parse(text.expose()).ok_or_else(not_valid)?;
        let token = self.lookup(presented.id).await?.ok_or_else(not_valid)?;
        if !presented.matches(&token.secret_sha256) || !self.opens(&token) {
            return Err(not_valid());
        }
        if let Some(maker) = token.made_with {
            self.valid_maker(maker).await?.ok_or_else(not_valid)?;
        }
        self.inner.uses.note(token.id, self.inner.clock.now());
        Ok(Caller::of(&token))
    }

    /// Until when a token is valid, and the one that it was made with, as far as is known now; `None` is for ever.
    /// [`Code::Unauthenticated`] if one of them is not.
    async fn check(&self, id: TokenId, made_with: Option<TokenId>) -> Result<Option<Timestamp>> {
        let over = || {
            Error::new(
                Code::Unauthenticated,
                "the token was revoked or has expired",
            )
        };
        let own = self.lookup(id).await?.filter(|token| self.opens(token));
        let own = own.ok_or_else(over)?;
        let maker = match made_with {
            Some(maker) => Some(self.valid_maker(maker).await?.ok_or_else(over)?),
            None => None,
        };
        // An open stream is a use too, however long it lasts.
        self.inner.uses.note(id, self.inner.clock.now());
        let ends = [own.expires_at, maker.and_then(|maker| maker.expires_at)];
        Ok(ends.into_iter().flatten().min())
    }

    /// The token that another one depends on, if it is still valid.
    async fn valid_maker(&self, id: TokenId) -> Result<Option<Token>> {
        let maker = self.lookup(id).await?;
        Ok(maker.filter(|maker| maker.is_valid(self.inner.clock.now())))
    }

    fn opens(&self, token: &Token) -> bool {
        let now = self.inner.clock.now();
        let used_join = token.scope == Scope::Join && token.used_nonce_sha256.is_some();
        token.is_valid(now) || (used_join && token.expires_at.is_none_or(|at| now < at))
    }

    async fn lookup(&self, id: TokenId) -> Result<Option<Token>> {
        let now = self.inner.clock.now();
        let generation = {
            let cache = self.inner.cache.lock();
            if let Some((token, read_at)) = cache.entries.get(&id)
                && now.saturating_since(*read_at) < CACHE_FOR
            {
                return Ok(Some(token.clone()));
            }
            cache.generation
        };
        let found =
            records::get::<Token>(self.inner.store.as_ref(), &records::token_key(id)).await?;
        let Some((found, _)) = found else {
            return Ok(None);
        };
        let mut cache = self.inner.cache.lock();
        if cache.generation == generation {
            if cache.entries.len() >= CACHE_SIZE {
                cache.clear();
            }
            cache.entries.insert(id, (found.clone(), now));
        }
        Ok(Some(found))
    }

    /// Forgets what was read of a token and wakes what was opened with it. To be called after every commit
    /// that changes a token's record.
    fn forget(&self, id: TokenId) {
        self.inner.cache.lock().remove(id);
        self.inner.revocations.send_modify(|count| *count += 1);
    }

    /// Makes an access token. [`Code::Forbidden`]: `caller` has less itself. [`Code::NotFound`]: it is
    /// narrowed to a session or daemon that is not there.
    pub async fn create_token(
        &self,
        caller: &Caller,
        name: &str,
        scope: Scope,
        ttl: Option<Duration>,
        narrowing: Option<Narrowing>,
    ) -> Result<Minted> {
        check_name("name", name)?;
        if matches!(scope, Scope::Daemon | Scope::Join) {
            return Err(Error::invalid(
                "scope",
                "must be admin, operator or viewer; daemons enrol with a join token",
            ));
        }
        if name == bootstrap::BOOTSTRAP_NAME {
            return Err(Error::invalid(
                "name",
                "is the first token's own; choose another",
            ));
        }
        caller.require(scope)?;
        check_ttl(ttl, MAX_TTL)?;
        let narrowing = match narrowing {
            Some(narrowing) => Some(self.check_narrowing(scope, narrowing).await?),
            None => None,
        };
        let mut minted = self.mint(name, scope, ttl, None);
        minted.token.narrowing = narrowing;
        self.store_new(minted).await
    }

    async fn check_narrowing(&self, scope: Scope, narrowing: Narrowing) -> Result<Narrowing> {
        if scope == Scope::Admin {
            return Err(Error::invalid(
                "narrowing",
                "goes with operator or viewer only: an admin sees everything",
            ));
        }
        let narrowing = narrowing.checked()?;
        let missing = async |key: String| {
            let found = self.inner.store.get(&key).await;
            found
                .map(|record| record.is_none())
                .map_err(failure::from_store)
        };
        for id in &narrowing.sessions {
            if missing(records::session_key(*id)).await? {
                return Err(Error::not_found("session", id));
            }
        }
        for id in narrowing.projects.iter().filter_map(|p| p.daemon_id) {
            if missing(records::daemon_key(id)).await? {
                return Err(Error::not_found("daemon", id));
            }
        }
        Ok(narrowing)
    }

    /// Makes a single-use token with which one daemon enrols; `name` is the daemon's, empty leaves it open.
    pub async fn create_join_token(
        &self,
        caller: &Caller,
        name: &str,
        ttl: Option<Duration>,
    ) -> Result<Minted> {
        caller.require(Scope::Admin)?;
        if !name.is_empty() {
            check_name("name", name)?;
        }
        check_ttl(ttl, MAX_JOIN_TTL)?;
        let ttl = Some(ttl.unwrap_or(JOIN_TTL));
        self.store_new(self.mint(name, Scope::Join, ttl, None))
            .await
    }

    async fn store_new(&self, minted: Minted) -> Result<Minted> {
        let commit = Commit {
            ops: vec![records::put(
                records::token_key(minted.token.id),
                &minted.token,
                Expect::Absent,
            )?],
            ..Commit::default()
        };
        self.inner
            .store
            .commit(commit)
            .await
            .map_err(failure::from_store)?;
        Ok(minted)
    }

    fn mint(
        &self,
        name: &str,
        scope: Scope,
        ttl: Option<Duration>,
        daemon_id: Option<DaemonId>,
    ) -> Minted {
        let now = self.inner.clock.now();
        let id = TokenId::generate(now);
        let (secret, secret_sha256) = secret::mint(id);
        let token = Token {
            id,
            name: name.to_owned(),
            scope,
            secret_sha256,
            created_at: now,
            expires_at: ttl.map(|ttl| now.saturating_add(ttl)),
            revoked_at: None,
            last_used_at: None,
            daemon_id,
            narrowing: None,
            used_nonce_sha256: None,
            kind: TokenKind::Issued,
            made_with: None,
        };
        Minted { token, secret }
    }

    /// Whether the store answers.
    pub async fn probe(&self) -> Result<()> {
        let found = self.inner.store.get("probe/store").await;
        found.map(drop).map_err(failure::from_store)
    }

    /// One token's record.
    pub async fn token(&self, id: TokenId) -> Result<Token> {
        let found =
            records::get::<Token>(self.inner.store.as_ref(), &records::token_key(id)).await?;
        let (token, _) = found.ok_or_else(|| Error::not_found("token", id))?;
        self.with_use(token).await
    }

    /// Tokens, oldest first.
    pub async fn list_tokens(&self, page: &PageRequest) -> Result<Page<Token>> {
        let after = page.after.as_deref();
        if let Some(after) = after
            && !after.starts_with(records::TOKENS)
        {
            return Err(Error::invalid("page_token", "is not one of this list"));
        }
        let found = self
            .inner
            .store
            .scan(records::TOKENS, after, page.size + 1)
            .await
            .map_err(failure::from_store)?;
        let more = found.len() > page.size;
        let shown = &found[..found.len().min(page.size)];
        let items = shown
            .iter()
            .map(records::decode)
            .collect::<Result<Vec<_>>>()?;
        Ok(Page {
            items: self.with_uses(items, after).await?,
            next: shown
                .last()
                .filter(|_| more)
                .map(|record| record.key.clone()),
        })
    }

    /// Revokes a token and ends what was opened with it. Repeating it changes nothing.
    pub async fn revoke(&self, id: TokenId) -> Result<Token> {
        for _ in 0..TRIES {
            let (mut token, revision) =
                records::get::<Token>(self.inner.store.as_ref(), &records::token_key(id))
                    .await?
                    .ok_or_else(|| Error::not_found("token", id))?;
            // A used join token counts as revoked already, but may still repeat its answer.
            if token.revoked_at.is_some() && token.used_nonce_sha256.is_none() {
                return self.with_use(token).await;
            }
            token.revoked_at.get_or_insert(self.inner.clock.now());
            token.used_nonce_sha256 = None;
            let commit = Commit {
                ops: vec![records::put(
                    records::token_key(id),
                    &token,
                    Expect::Revision(revision),
                )?],
                ..Commit::default()
            };
            match self.inner.store.commit(commit).await {
                Ok(_) => {
                    self.forget(id);
                    tracing::info!(token = %id, "token revoked");
                    return self.with_use(token).await;
                }
                Err(store::Error::Stale { .. }) => {}
                Err(error) => return Err(failure::from_store(error)),
            }
        }
        Err(busy())
    }
}

fn busy() -> Error {
    Error::new(
        Code::Stale,
        "something else keeps changing this record; try again",
    )
}

fn not_valid() -> Error {
    Error::new(
        Code::Unauthenticated,
        "the token is not valid; `baton token create` makes one",
    )
}

fn check_name(field: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(field, "is missing"));
    }
    if name.trim() != name {
        return Err(Error::invalid(field, "must not begin or end with a space"));
    }
    field::line(field, name, MAX_NAME_BYTES)
}

fn check_ttl(ttl: Option<Duration>, most: Duration) -> Result<()> {
    match ttl {
        Some(ttl) if ttl.is_zero() => Err(Error::invalid("ttl", "must not be zero")),
        Some(ttl) if ttl > most => Err(Error::invalid(
            "ttl",
            format!(
                "is longer than the {} days allowed",
                most.as_secs() / 86_400
            ),
        )),
        _ => Ok(()),
    }
}
