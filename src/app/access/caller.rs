//! Who calls.

use crate::base::id::{DaemonId, TokenId};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::{Actor, ActorKind, Agent, Narrowing, Scope, Session, Token, TokenKind};

/// Who calls, as the server's own record of the token says. An extension of every request that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token.
    pub token_id: TokenId,
    /// The token's name.
    pub name: String,
    /// What it opens.
    pub scope: Scope,
    /// The daemon it is bound to.
    pub daemon_id: Option<DaemonId>,
    /// What it is narrowed to; `None` sees all sessions.
    pub narrowing: Option<Narrowing>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// How its token came to be.
    pub kind: TokenKind,
    /// The token it depends on, if there is one: [`Access`](super::Access) asks after both.
    pub made_with: Option<TokenId>,
}

/// What the server calls with itself. No token has this id: tokens have the time when they were made in theirs.
const NO_TOKEN: TokenId = TokenId::from_bits(0);

impl Caller {
    /// A part of the server, which may do what operators may.
    pub(in crate::app) fn server(name: &str) -> Self {
        Caller {
            token_id: NO_TOKEN,
            name: name.to_owned(),
            scope: Scope::Operator,
            daemon_id: None,
            narrowing: None,
            expires_at: None,
            kind: TokenKind::default(),
            made_with: None,
        }
    }

    pub(super) fn of(token: &Token) -> Self {
        Caller {
            token_id: token.id,
            name: token.name.clone(),
            scope: token.scope,
            daemon_id: token.daemon_id,
            narrowing: token.narrowing.clone(),
            expires_at: token.expires_at,
            kind: token.kind,
            made_with: token.made_with,
        }
    }

    /// The caller as the actor of what it does.
    pub fn actor(&self) -> Actor {
        if self.token_id == NO_TOKEN {
            return Actor {
                name: self.name.clone(),
                ..Actor::server()
            };
        }
        match self.daemon_id {
            Some(id) => Actor {
                kind: ActorKind::Daemon,
                id: id.to_string(),
                name: self.name.clone(),
            },
            None => Actor {
                kind: ActorKind::Caller,
                id: self.token_id.to_string(),
                name: self.name.clone(),
            },
        }
    }

    /// Whether the caller sees a session. Everything that shows or changes something of a session asks this.
    pub fn sees(&self, session: &Session) -> bool {
        self.narrowing
            .as_ref()
            .is_none_or(|narrowing| narrowing.sees(session))
    }

    /// Whether the caller sees the tasks of a directory. A task is on no machine, so a narrowed one needs a
    /// project on every daemon.
    pub fn sees_tasks_of(&self, directory: &str) -> bool {
        self.narrowing
            .as_ref()
            .is_none_or(|narrowing| narrowing.covers(directory))
    }

    /// Whether the caller may start a session in a directory of a daemon's machine.
    pub fn may_start(&self, daemon: DaemonId, cwd: &str) -> bool {
        self.narrowing
            .as_ref()
            .is_none_or(|narrowing| narrowing.has_place(daemon, cwd))
    }

    /// Whether the caller sees what is kept for a directory, on one daemon or on every one that fits. An agent
    /// without a directory is nobody's project.
    pub fn sees_place(&self, daemon: Option<DaemonId>, directory: &str) -> bool {
        self.narrowing
            .as_ref()
            .is_none_or(|narrowing| match daemon {
                Some(daemon) => narrowing.has_place(daemon, directory),
                None => narrowing.covers(directory),
            })
    }

    /// Whether the caller sees an agent.
    pub fn sees_agent(&self, agent: &Agent) -> bool {
        self.sees_place(agent.settings.daemon_id, &agent.settings.directory)
    }

    /// [`Code::Forbidden`] for a narrowed caller: `what` tells of all sessions at once.
    pub fn require_everything(&self, what: &str) -> Result<()> {
        match self.narrowing {
            None => Ok(()),
            Some(_) => Err(Error::new(
                Code::Forbidden,
                format!("{what} tell of the whole server; this needs a token that is not narrowed"),
            )),
        }
    }

    /// [`Code::Forbidden`] unless the caller's scope opens what asks for `needed`.
    pub fn require(&self, needed: Scope) -> Result<()> {
        if self.scope.allows(needed) {
            return Ok(());
        }
        Err(Error::new(
            Code::Forbidden,
            format!(
                "this needs a token with the scope {}; yours has {}",
                needed.as_str(),
                self.scope.as_str()
            ),
        )
        .with("needed_scope", needed.as_str()))
    }

    /// The daemon the caller is; [`Code::Forbidden`] if it is none.
    pub fn daemon(&self) -> Result<DaemonId> {
        self.require(Scope::Daemon)?;
        self.daemon_id
            .ok_or_else(|| Error::new(Code::Forbidden, "the token is bound to no daemon"))
    }
}
