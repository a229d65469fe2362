//! How a browser signs in: a code that is good once and not for long becomes a token, which the browser
//! keeps as a cookie.
//!
//! The code travels in the fragment of an address, which browsers do not send; only its hash is stored. It
//! is used up in the same commit that makes the token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::secret::sha256_hex;
use super::{Access, Caller, MAX_NAME_BYTES, Minted};
use crate::app::{failure, records};
use crate::base::{Code as ErrorCode, Error, Result, Secret, Timestamp};
use crate::domain::content::floor_char;
use crate::domain::{Scope, SignInCode, Token, TokenKind};
use crate::store::{self, Commit, Expect};

/// How long a code is good.
const CODE_TTL: Duration = Duration::from_secs(10 * 60);
/// How long a browser stays signed in at the longest.
pub const BROWSER_TTL: Duration = Duration::from_secs(30 * 86_400);
/// The most codes that wait at a time.
const MAX_CODES: usize = 1_000;
/// Random bytes in a code.
const CODE_BYTES: usize = 20;
/// Length of a code's text: base64 of the bytes.
const CODE_CHARS: usize = (CODE_BYTES * 8).div_ceil(6);
/// What a browser's token is called, after the name of the token it was made with.
const NAME_END: &str = " (browser)";

/// A new code, with its text, which is shown this once.
#[derive(Clone, Debug)]
pub struct Code {
    /// The text.
    pub code: Secret,
    /// What the browser's token will open.
    pub scope: Scope,
    /// When the code ends.
    pub expires_at: Timestamp,
}

impl Access {
    /// Makes a code with which one browser signs in; `None` is as much as the caller itself may.
    /// [`ErrorCode::Forbidden`]: `caller` has less itself. [`ErrorCode::LimitExceeded`]: too many wait.
    pub async fn create_sign_in_code(&self, caller: &Caller, scope: Option<Scope>) -> Result<Code> {
        let scope = scope.unwrap_or(caller.scope);
        if matches!(scope, Scope::Daemon | Scope::Join) {
            return Err(Error::invalid("scope", "must be admin, operator or viewer"));
        }
        caller.require(scope)?;
        self.make_room().await?;
        let now = self.inner.clock.now();
        let bits: [u8; CODE_BYTES] = rand::random();
        let code = Secret::new(URL_SAFE_NO_PAD.encode(bits));
        // A browser that lets another one in lends what it was lent itself.
        let (made_with, name) = match caller.made_with {
            Some(maker) => (maker, self.token(maker).await?.name),
            None => (caller.token_id, caller.name.clone()),
        };
        let record = SignInCode {
            made_with,
            name,
            scope,
            expires_at: now.saturating_add(CODE_TTL),
            token_until: caller.expires_at,
            narrowing: caller.narrowing.clone(),
        };
        let key = records::sign_in_code_key(&sha256_hex(code.expose().as_bytes()));
        let commit = Commit {
            ops: vec![records::put(key, &record, Expect::Absent)?],
            ..Commit::default()
        };
        self.inner
            .store
            .commit(commit)
            .await
            .map_err(failure::from_store)?;
        Ok(Code {
            code,
            scope,
            expires_at: record.expires_at,
        })
    }

    /// Makes a browser's token of a code. [`ErrorCode::Unauthenticated`] if it is none, was used, or has
    /// ended: the answer is the same for all.
    pub async fn exchange(&self, code: &Secret) -> Result<Minted> {
        let text = code.expose();
        if text.len() != CODE_CHARS {
            return Err(not_good());
        }
        let key = records::sign_in_code_key(&sha256_hex(text.as_bytes()));
        let (record, revision) = records::get::<SignInCode>(self.inner.store.as_ref(), &key)
            .await?
            .ok_or_else(not_good)?;
        let now = self.inner.clock.now();
        if record.expires_at <= now || self.valid_maker(record.made_with).await?.is_none() {
            return Err(not_good());
        }
        let most = floor_char(&record.name, MAX_NAME_BYTES - NAME_END.len());
        let name = format!("{}{NAME_END}", &record.name[..most]);
        let mut minted = self.mint(&name, record.scope, Some(BROWSER_TTL), None);
        minted.token = Token {
            kind: TokenKind::Browser,
            // What is lent is narrowed as what it is lent from.
            narrowing: record.narrowing,
            made_with: Some(record.made_with),
            expires_at: earlier(minted.token.expires_at, record.token_until),
            ..minted.token
        };
        let mut used = records::remove(key);
        used.expect = Expect::Revision(revision);
        let commit = Commit {
            ops: vec![
                used,
                records::put(
                    records::token_key(minted.token.id),
                    &minted.token,
                    Expect::Absent,
                )?,
            ],
            ..Commit::default()
        };
        match self.inner.store.commit(commit).await {
            Ok(_) => {
                tracing::info!(token = %minted.token.id, "a browser signed in");
                Ok(minted)
            }
            // Somebody else was first with the same code.
            Err(store::Error::Stale { .. }) => Err(not_good()),
            Err(error) => Err(failure::from_store(error)),
        }
    }

    /// Revokes the caller's token. [`ErrorCode::InvalidState`] if it is no browser's: whoever keeps a token
    /// in a file would not expect it to end with a sign-out.
    pub async fn sign_out(&self, caller: &Caller) -> Result<()> {
        if caller.kind != TokenKind::Browser {
            return Err(Error::state(
                "this token is no browser's and cannot sign out; `baton token revoke` ends it",
            ));
        }
        self.revoke(caller.token_id).await.map(drop)
    }

    /// Removes the codes that have ended, and refuses where too many are left.
    async fn make_room(&self) -> Result<()> {
        let now = self.inner.clock.now();
        let waiting = self
            .inner
            .store
            .scan(records::SIGN_IN_CODES, None, MAX_CODES)
            .await
            .map_err(failure::from_store)?;
        let mut ended = Vec::new();
        for record in &waiting {
            if records::decode::<SignInCode>(record)?.expires_at <= now {
                ended.push(records::remove(record.key.clone()));
            }
        }
        if ended.is_empty() && waiting.len() >= MAX_CODES {
            return Err(Error::new(
                ErrorCode::LimitExceeded,
                format!("{MAX_CODES} sign-in codes wait already; each ends within ten minutes"),
            )
            .retry_after(CODE_TTL));
        }
        if ended.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            ops: ended,
            ..Commit::default()
        };
        self.inner
            .store
            .commit(commit)
            .await
            .map(drop)
            .map_err(failure::from_store)
    }
}

/// The earlier of two ends; `None` is no end.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn not_good() -> Error {
    Error::new(
        ErrorCode::Unauthenticated,
        "the sign-in code is not valid: it is good once and for ten minutes; `baton console-link` makes another",
    )
}
