//! Tokens: who may call, and what.

use serde::{Deserialize, Serialize};

use super::narrowing::Narrowing;
use crate::base::Timestamp;
use crate::base::id::{DaemonId, TokenId};

/// What a token opens. The server's own record says it; a client's claim never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything.
    Admin,
    /// Start, steer and answer.
    Operator,
    /// Look.
    Viewer,
    /// Be one daemon.
    Daemon,
    /// Enrol one daemon, once.
    Join,
}

impl Scope {
    /// The scope's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Admin => "admin",
            Scope::Operator => "operator",
            Scope::Viewer => "viewer",
            Scope::Daemon => "daemon",
            Scope::Join => "join",
        }
    }

    /// Whether a caller with this scope may do what asks for `needed`. Daemons and join tokens open only
    /// their own doors.
    pub const fn allows(self, needed: Scope) -> bool {
        matches!(
            (self, needed),
            (Scope::Admin, Scope::Admin | Scope::Operator | Scope::Viewer)
                | (Scope::Operator, Scope::Operator | Scope::Viewer)
                | (Scope::Viewer, Scope::Viewer)
                | (Scope::Daemon, Scope::Daemon)
                | (Scope::Join, Scope::Join)
        )
    }
}

/// How a token came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Made for a person, a program or a daemon, which keep it themselves.
    #[default]
    Issued,
    /// Made when a browser signed in; the browser keeps it as a cookie.
    Browser,
}

/// A code with which one browser signs in, once. The code itself is not in it: its hash is its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInCode {
    /// The token that the browser's will depend on.
    pub made_with: TokenId,
    /// That token's name.
    pub name: String,
    /// What the browser's token will open.
    pub scope: Scope,
    /// When the code ends.
    pub expires_at: Timestamp,
    /// When the browser's token must end at the latest, if the one it depends on ends.
    pub token_until: Option<Timestamp>,
    /// What the browser's token will be narrowed to.
    pub narrowing: Option<Narrowing>,
}

/// A token's record. The secret itself is not in it, only its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Id.
    pub id: TokenId,
    /// Name for people.
    pub name: String,
    /// What it opens.
    pub scope: Scope,
    /// SHA-256 of the secret, lower-case hex.
    pub secret_sha256: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, or used up.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, filled in where tokens are shown: it is not kept in the record.
    #[serde(skip)]
    pub last_used_at: Option<Timestamp>,
    /// The daemon it is bound to.
    pub daemon_id: Option<DaemonId>,
    /// What it is narrowed to, set when it was made and never changed; `None` sees all sessions.
    #[serde(default)]
    pub narrowing: Option<Narrowing>,
    /// For a used join token: the hash of the nonce it was used with, so that a lost answer can be repeated.
    #[serde(default)]
    pub used_nonce_sha256: Option<String>,
    /// How it came to be.
    #[serde(default)]
    pub kind: TokenKind,
    /// For a browser's token: the one it was made with. It opens nothing when that one does not.
    #[serde(default)]
    pub made_with: Option<TokenId>,
}

/// When a token was last used. It is kept beside the token's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// When.
    pub at: Timestamp,
}

impl Token {
    /// Whether it opens anything at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}

#[cfg(test)]
mod tests {
    use super::Scope::{self, *};

    #[test]
    fn scopes_open_only_their_own_doors() {
        let all = [Admin, Operator, Viewer, Daemon, Join];
        let table: [(Scope, &[Scope]); 5] = [
            (Admin, &[Admin, Operator, Viewer]),
            (Operator, &[Operator, Viewer]),
            (Viewer, &[Viewer]),
            (Daemon, &[Daemon]),
            (Join, &[Join]),
        ];
        for (has, opens) in table {
            for needed in all {
                assert_eq!(
                    has.allows(needed),
                    opens.contains(&needed),
                    "{has:?} {needed:?}"
                );
            }
        }
    }
}
