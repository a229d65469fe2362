//! Shortened ids: any beginning or end of an id that fits only one.

use super::exit::usage;
use crate::base::Error;
use crate::base::id::{
    AgentId, BudgetId, DaemonId, ID_LEN, InputId, PromptId, RuleId, SessionId, TaskId, TokenId,
    WorktreeId,
};
use crate::client::Client;
use crate::wire::v1;

/// How many characters of an id's end a table shows.
pub const SHORT: usize = 6;
/// The most pages that are looked through.
const MAX_PAGES: usize = 20;
const PAGE: i32 = 500;

/// The end of an id, as tables show it. Ends differ where beginnings, made of the time, are alike.
pub fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(SHORT)..).unwrap_or(id)
}

/// The one id that a person meant.
pub fn pick(noun: &str, typed: &str, ids: &[String]) -> anyhow::Result<String> {
    let wanted = typed.to_ascii_uppercase();
    let fits = |id: &&String| {
        let (prefix, rest) = id.split_once('_').unwrap_or(("", id));
        let wanted = wanted
            .strip_prefix(&format!("{}_", prefix.to_ascii_uppercase()))
            .unwrap_or(&wanted);
        !wanted.is_empty() && (rest.starts_with(wanted) || rest.ends_with(wanted))
    };
    let found: Vec<&String> = ids.iter().filter(fits).collect();
    match found.as_slice() {
        [] => Err(Error::not_found(noun, typed).into()),
        [one] => Ok((*one).clone()),
        several => {
            let names: Vec<&str> = several.iter().take(5).map(|id| id.as_str()).collect();
            let more = if several.len() > names.len() {
                ", …"
            } else {
                ""
            };
            Err(usage(format!(
                "{typed:?} fits {} of these: {}{more}; type more of it",
                several.len(),
                names.join(", ")
            )))
        }
    }
}

macro_rules! resolvers {
    ($($(#[$doc:meta])* $name:ident $id:ident $noun:literal $list:ident $request:ident $items:ident;)*) => {
        $(
            $(#[$doc])*
            // Some of the requests have nothing but a page.
            #[allow(clippy::needless_update)]
            pub async fn $name(client: &Client, typed: &str) -> anyhow::Result<$id> {
                // A whole id needs no list: the server says whether it exists.
                if typed.len() == ID_LEN
                    && let Ok(id) = typed.parse::<$id>()
                {
                    return Ok(id);
                }
                let mut ids = Vec::new();
                let mut page_token = String::new();
                for _ in 0..MAX_PAGES {
                    let page = client
                        .$list(v1::$request { page_size: PAGE, page_token, ..Default::default() })
                        .await?;
                    ids.extend(page.$items.into_iter().map(|item| item.id));
                    page_token = page.next_page_token;
                    if page_token.is_empty() {
                        break;
                    }
                }
                Ok(pick($noun, typed, &ids)?.parse()?)
            }
        )*
    };
}

resolvers! {
    /// A session's id.
    session SessionId "session" list_sessions ListSessionsRequest sessions;
    /// A prompt's id.
    prompt PromptId "prompt" list_prompts ListPromptsRequest prompts;
    /// A rule's id.
    rule RuleId "rule" list_prompt_rules ListPromptRulesRequest rules;
    /// An agent's id.
    agent AgentId "agent" list_agents ListAgentsRequest agents;
    /// A budget's id.
    budget BudgetId "budget" list_budgets ListBudgetsRequest budgets;
    /// A task's id.
    task TaskId "task" list_tasks ListTasksRequest tasks;
    /// A worktree's id.
    worktree WorktreeId "worktree" list_worktrees ListWorktreesRequest worktrees;
    /// A token's id.
    token TokenId "token" list_tokens ListTokensRequest tokens;
}

/// A daemon's id, also by its name.
pub async fn daemon(client: &Client, typed: &str) -> anyhow::Result<DaemonId> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    let page = client
        .list_daemons(v1::ListDaemonsRequest {
            page_size: 1_000,
            ..Default::default()
        })
        .await?;
    if let Some(daemon) = page.daemons.iter().find(|daemon| daemon.name == typed) {
        return Ok(daemon.id.parse()?);
    }
    let ids: Vec<String> = page.daemons.into_iter().map(|daemon| daemon.id).collect();
    Ok(pick("daemon", typed, &ids)?.parse()?)
}

/// The id of an input of a session.
pub async fn input(client: &Client, session: SessionId, typed: &str) -> anyhow::Result<InputId> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    let page = client
        .list_inputs(v1::ListInputsRequest {
            session_id: session.to_string(),
            page_size: 1_000,
            ..Default::default()
        })
        .await?;
    let ids: Vec<String> = page.inputs.into_iter().map(|input| input.id).collect();
    Ok(pick("input", typed, &ids)?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::{NOT_FOUND, USAGE, code_of};

    fn ids() -> Vec<String> {
        [
            "ses_01KAJZ0000000000000000AAAA",
            "ses_01KAJZ0000000000000000BAAA",
            "ses_01KAK00000000000000000CCCC",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn a_beginning_or_an_end_that_fits_one_is_enough() {
        let ids = ids();
        assert_eq!(pick("session", "ses_01KAK", &ids).unwrap(), ids[2]);
        assert_eq!(pick("session", "01kak", &ids).unwrap(), ids[2]);
        assert_eq!(pick("session", "BAAA", &ids).unwrap(), ids[1]);
        assert_eq!(pick("session", short(&ids[0]), &ids).unwrap(), ids[0]);
    }

    #[test]
    fn what_fits_several_names_them_and_what_fits_none_is_not_found() {
        let ids = ids();
        let error = pick("session", "01KAJ", &ids).unwrap_err();
        assert_eq!(code_of(&error), USAGE);
        assert!(error.to_string().contains(&ids[0]) && error.to_string().contains(&ids[1]));
        assert!(!error.to_string().contains(&ids[2]));
        assert_eq!(
            code_of(&pick("session", "ZZZ", &ids).unwrap_err()),
            NOT_FOUND
        );
        assert_eq!(code_of(&pick("session", "", &ids).unwrap_err()), NOT_FOUND);
        assert_eq!(
            code_of(&pick("session", "ses_", &ids).unwrap_err()),
            NOT_FOUND
        );
    }
}
