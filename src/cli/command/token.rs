//! `baton token`: who may call.

use super::run::directory;
use crate::base::{Code, Error};
use crate::cli::args::{Global, TokenAction, TokenArgs};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::Tone;
use crate::cli::output::table::Table;
use crate::cli::output::{Out, json};
use crate::cli::resolve;
use crate::client::Client;
use crate::wire::time::{duration_to_pb, time_from_pb};
use crate::wire::v1;

/// `baton token`
pub async fn run(global: &Global, out: &Out, args: TokenArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    match args.action {
        TokenAction::Create {
            name,
            scope,
            ttl,
            projects,
            sessions,
        } => {
            let scope = match scope.as_str() {
                "admin" => v1::TokenScope::Admin,
                "viewer" => v1::TokenScope::Viewer,
                _ => v1::TokenScope::Operator,
            };
            let narrowing = narrowing(&client, &projects, &sessions).await?;
            let response = client
                .create_token(v1::CreateTokenRequest {
                    name,
                    scope: scope.into(),
                    ttl: ttl.map(duration_to_pb),
                    narrowing: narrowing.clone(),
                })
                .await?;
            if let Some(token) = wider(narrowing.as_ref(), response.token.as_ref()) {
                let token_id = token.id.clone();
                client
                    .revoke_token(v1::RevokeTokenRequest { token_id })
                    .await?;
                return Err(Error::new(
                    Code::UnknownMethod,
                    "this server is of an earlier version and cannot narrow a token; the one that it made sees everything and was revoked",
                )
                .into());
            }
            let value = serde_json::json!({
                "token": response.token.as_ref().map(json::token),
                "secret": response.secret,
            });
            out.show(&value, || response.secret.clone())?;
            out.note("keep it: it is not shown again. Give it with BATON_TOKEN or --token-file");
        }
        TokenAction::List => {
            let mut tokens = Vec::new();
            let mut page_token = String::new();
            loop {
                let page = client
                    .list_tokens(v1::ListTokensRequest {
                        page_size: 500,
                        page_token,
                    })
                    .await?;
                tokens.extend(page.tokens);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            show(out, &tokens)?;
        }
        TokenAction::Revoke { token } => {
            let id = resolve::token(&client, &token).await?.to_string();
            let response = client
                .revoke_token(v1::RevokeTokenRequest { token_id: id })
                .await?;
            show(out, response.token.as_slice())?;
        }
    }
    Ok(DONE)
}

/// What the token is narrowed to; `None` if nothing was said.
async fn narrowing(
    client: &Client,
    projects: &[String],
    sessions: &[String],
) -> anyhow::Result<Option<v1::Narrowing>> {
    if projects.is_empty() && sessions.is_empty() {
        return Ok(None);
    }
    let mut narrowing = v1::Narrowing::default();
    for typed in projects {
        // A daemon's directory has no meaning here unless it is absolute: `a:b` alone is a name.
        let (daemon, directory) = match typed.split_once(":/") {
            Some((daemon, rest)) if !daemon.contains('/') => (daemon, format!("/{rest}")),
            _ => ("", directory(typed.as_ref())?),
        };
        let daemon_id = match daemon {
            "" => String::new(),
            name => resolve::daemon(client, name).await?.to_string(),
        };
        narrowing.projects.push(v1::TokenProject {
            directory,
            daemon_id,
        });
    }
    for typed in sessions {
        let id = resolve::session(client, typed).await?;
        narrowing.session_ids.push(id.to_string());
    }
    Ok(Some(narrowing))
}

/// The token that was made, if it sees more than was asked for: a server of an earlier version passes over what
/// it does not know.
fn wider<'a>(asked: Option<&v1::Narrowing>, made: Option<&'a v1::Token>) -> Option<&'a v1::Token> {
    made.filter(|token| asked.is_some() && token.narrowing.is_none())
}

/// What a token sees, for a table.
fn sees(token: &v1::Token) -> String {
    let Some(narrowing) = &token.narrowing else {
        return match token.scope() {
            v1::TokenScope::Daemon | v1::TokenScope::Join => String::new(),
            _ => "everything".to_owned(),
        };
    };
    let projects = narrowing.projects.iter().map(|project| {
        let daemon = match project.daemon_id.as_str() {
            "" => String::new(),
            id => format!("{}:", resolve::short(id)),
        };
        format!("{daemon}{}", project.directory)
    });
    let sessions = narrowing
        .session_ids
        .iter()
        .map(|id| format!("session {}", resolve::short(id)));
    projects.chain(sessions).collect::<Vec<_>>().join(", ")
}

fn show(out: &Out, tokens: &[v1::Token]) -> anyhow::Result<()> {
    if out.json {
        for token in tokens {
            out.value(&json::token(token))?;
        }
        return Ok(());
    }
    let time = |time| {
        time_from_pb(time, "time")
            .ok()
            .flatten()
            .map(|time| time.to_string().chars().take(16).collect::<String>())
    };
    let mut table = Table::new(&["ID", "SCOPE", "STATE", "MADE", "USED", "NAME", "SEES"]);
    for token in tokens {
        let (tone, state) = match (time(token.revoked_at), time(token.expires_at)) {
            (Some(at), _) => (Tone::Bad, format!("revoked {at}")),
            (None, Some(at)) => (Tone::Plain, format!("until {at}")),
            (None, None) => (Tone::Good, "valid".to_owned()),
        };
        let scope = token.scope().as_str_name();
        let scope = scope.strip_prefix("TOKEN_SCOPE_").unwrap_or(scope);
        table.row([
            (Tone::Name, resolve::short(&token.id).to_owned()),
            (Tone::Plain, scope.to_lowercase()),
            (tone, state),
            (Tone::Dim, time(token.created_at).unwrap_or_default()),
            (
                Tone::Dim,
                time(token.last_used_at).unwrap_or_else(|| "never".to_owned()),
            ),
            (Tone::Plain, token.name.clone()),
            (Tone::Dim, sees(token)),
        ]);
    }
    out.line(&table.render(out.style, out.width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_an_earlier_server_made_too_wide_is_noticed() {
        let asked = v1::Narrowing::default();
        let wide = v1::Token::default();
        let narrow = v1::Token {
            narrowing: Some(asked.clone()),
            ..wide.clone()
        };
        assert!(wider(Some(&asked), Some(&wide)).is_some());
        assert!(wider(Some(&asked), Some(&narrow)).is_none());
        assert!(wider(None, Some(&wide)).is_none());
    }
}
