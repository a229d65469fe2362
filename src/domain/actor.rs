//! Who did something.

use serde::{Deserialize, Serialize};

/// Kinds of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person or service with an access token.
    Caller,
    /// The agent itself.
    Agent,
    /// A daemon.
    Daemon,
    /// The server.
    Server,
    /// A rule or permission mode that answers prompts.
    Rule,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// What kind.
    pub kind: ActorKind,
    /// Id of the token, daemon or rule; empty for the server.
    pub id: String,
    /// Name for people.
    pub name: String,
}

impl Actor {
    /// The server itself.
    pub fn server() -> Self {
        Actor {
            kind: ActorKind::Server,
            id: String::new(),
            name: "server".to_owned(),
        }
    }
}
