//! `baton rules`: what answers permissions by itself.

use super::request_id;
use crate::cli::args::{Global, RulesAction, RulesArgs};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::Tone;
use crate::cli::output::table::Table;
use crate::cli::output::{Out, json};
use crate::cli::resolve;
use crate::client::Client;
use crate::wire::v1;

/// `baton rules`
pub async fn run(global: &Global, out: &Out, args: RulesArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    match args.action.unwrap_or(RulesAction::List { session: None }) {
        RulesAction::List { session } => {
            let page = client
                .list_prompt_rules(v1::ListPromptRulesRequest {
                    session_id: session_id(&client, session.as_deref()).await?,
                    page_size: 1_000,
                    page_token: String::new(),
                })
                .await?;
            if !out.json && page.rules.is_empty() {
                out.note("there are no rules");
                return Ok(DONE);
            }
            show(out, &page.rules)
        }
        RulesAction::Add {
            pattern,
            allow,
            deny: _,
            session,
            directory,
        } => {
            let response = client
                .create_prompt_rule(v1::CreatePromptRuleRequest {
                    request_id: request_id(),
                    pattern,
                    allow,
                    session_id: session_id(&client, session.as_deref()).await?,
                    directory: directory.unwrap_or_default(),
                })
                .await?;
            show(out, response.rule.as_slice())
        }
        RulesAction::Delete { rule } => {
            let id = resolve::rule(&client, &rule).await?.to_string();
            client
                .delete_prompt_rule(v1::DeletePromptRuleRequest {
                    rule_id: id.clone(),
                })
                .await?;
            out.show(&serde_json::json!({ "deleted": id }), || {
                format!("{id} is gone")
            })?;
            Ok(DONE)
        }
    }
}

async fn session_id(client: &Client, typed: Option<&str>) -> anyhow::Result<String> {
    Ok(match typed {
        Some(typed) => resolve::session(client, typed).await?.to_string(),
        None => String::new(),
    })
}

fn show(out: &Out, rules: &[v1::PromptRule]) -> anyhow::Result<u8> {
    if out.json {
        for rule in rules {
            out.value(&json::rule(rule))?;
        }
        return Ok(DONE);
    }
    let mut table = Table::new(&["ID", "VERDICT", "WHERE", "BY", "PATTERN"]);
    for rule in rules {
        let (tone, verdict) = if rule.allow {
            (Tone::Good, "allow")
        } else {
            (Tone::Bad, "deny")
        };
        let place = match (rule.session_id.as_str(), rule.directory.as_str()) {
            ("", "") => "everywhere".to_owned(),
            ("", directory) => directory.to_owned(),
            (session, "") => format!("session {}", resolve::short(session)),
            (session, directory) => format!("session {} in {directory}", resolve::short(session)),
        };
        let by = rule.created_by.as_ref().map(|actor| actor.name.clone());
        table.row([
            (Tone::Name, resolve::short(&rule.id).to_owned()),
            (tone, verdict.to_owned()),
            (Tone::Plain, place),
            (Tone::Dim, by.unwrap_or_default()),
            (Tone::Plain, rule.pattern.clone()),
        ]);
    }
    out.line(&table.render(out.style, 0))?;
    Ok(DONE)
}
