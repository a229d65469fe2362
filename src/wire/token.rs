//! Tokens on the wire, without their secrets.

use super::enums::{self, required as required_enum};
use super::field::optional_id;
use super::time::{required_time, time_from_pb, time_to_pb};
use crate::base::Result;
use crate::base::id::{DaemonId, TokenId};
use crate::domain::Token;
use crate::wire::v1;

/// A token as protobuf writes it; neither its secret's hash nor its nonce is in it.
pub fn token_to_pb(token: &Token) -> v1::Token {
    v1::Token {
        id: token.id.to_string(),
        name: token.name.clone(),
        scope: enums::scope_to_pb(token.scope).into(),
        created_at: Some(time_to_pb(token.created_at)),
        expires_at: token.expires_at.map(time_to_pb),
        revoked_at: token.revoked_at.map(time_to_pb),
        daemon_id: token.daemon_id.map(|id| id.to_string()).unwrap_or_default(),
        kind: enums::token_kind_to_pb(token.kind).into(),
    }
}

/// A token from the wire: what a client sees. The hashes are empty and open nothing.
pub fn token_from_pb(token: v1::Token) -> Result<Token> {
    Ok(Token {
        id: TokenId::parse("token.id", &token.id)?,
        name: token.name,
        scope: required_enum(
            enums::scope_from_pb(token.scope, "token.scope"),
            "token.scope",
        )?,
        secret_sha256: String::new(),
        created_at: required_time(token.created_at, "token.created_at")?,
        expires_at: time_from_pb(token.expires_at, "token.expires_at")?,
        revoked_at: time_from_pb(token.revoked_at, "token.revoked_at")?,
        daemon_id: optional_id(&token.daemon_id, "token.daemon_id", DaemonId::parse)?,
        used_nonce_sha256: None,
        kind: enums::token_kind_from_pb(token.kind, "token.kind")?.unwrap_or_default(),
        made_with: None,
    })
}
