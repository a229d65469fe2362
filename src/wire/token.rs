//! Tokens on the wire, without their secrets.

use super::enums::{self, required as required_enum};
use super::field::optional_id;
use super::time::{required_time, time_from_pb, time_to_pb};
use crate::base::Result;
use crate::base::id::{DaemonId, SessionId, TokenId};
use crate::domain::Token;
use crate::domain::narrowing::{Narrowing, Project};
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
        last_used_at: token.last_used_at.map(time_to_pb),
        daemon_id: token.daemon_id.map(|id| id.to_string()).unwrap_or_default(),
        kind: enums::token_kind_to_pb(token.kind).into(),
        narrowing: token.narrowing.as_ref().map(narrowing_to_pb),
    }
}

/// What a token is narrowed to, as protobuf writes it.
pub fn narrowing_to_pb(narrowing: &Narrowing) -> v1::Narrowing {
    v1::Narrowing {
        projects: narrowing
            .projects
            .iter()
            .map(|project| v1::TokenProject {
                directory: project.directory.clone(),
                daemon_id: project
                    .daemon_id
                    .map(|id| id.to_string())
                    .unwrap_or_default(),
            })
            .collect(),
        session_ids: narrowing
            .sessions
            .iter()
            .map(SessionId::to_string)
            .collect(),
    }
}

/// What a token is narrowed to, from the wire; whether it makes sense is not looked at.
pub fn narrowing_from_pb(narrowing: v1::Narrowing, field: &str) -> Result<Narrowing> {
    let project = |(index, project): (usize, v1::TokenProject)| {
        let field = format!("{field}.projects[{index}].daemon_id");
        Ok(Project {
            directory: project.directory,
            daemon_id: optional_id(&project.daemon_id, &field, DaemonId::parse)?,
        })
    };
    let session = |(index, id): (usize, &String)| {
        SessionId::parse(&format!("{field}.session_ids[{index}]"), id)
    };
    Ok(Narrowing {
        projects: narrowing
            .projects
            .into_iter()
            .enumerate()
            .map(project)
            .collect::<Result<_>>()?,
        sessions: narrowing
            .session_ids
            .iter()
            .enumerate()
            .map(session)
            .collect::<Result<_>>()?,
    })
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
        last_used_at: time_from_pb(token.last_used_at, "token.last_used_at")?,
        daemon_id: optional_id(&token.daemon_id, "token.daemon_id", DaemonId::parse)?,
        narrowing: token
            .narrowing
            .map(|narrowing| narrowing_from_pb(narrowing, "token.narrowing"))
            .transpose()?,
        used_nonce_sha256: None,
        kind: enums::token_kind_from_pb(token.kind, "token.kind")?.unwrap_or_default(),
        made_with: None,
    })
}
