//! `baton budgets`: what may be spent, and what was.

use serde_json::{Value, json};

use super::{agents, request_id};
use crate::cli::args::{BudgetOf, BudgetsAction, BudgetsArgs, Global};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, usage};
use crate::cli::output::Out;
use crate::cli::output::json::{actor, number, text, time};
use crate::cli::output::style::Tone;
use crate::cli::output::table::Table;
use crate::cli::resolve;
use crate::client::Client;
use crate::domain::BudgetState;
use crate::domain::budget::dollars;
use crate::domain::spending::{Spent, UsageBy};
use crate::wire::budget::{allowance_from_pb, spent_from_pb};
use crate::wire::v1::budget_scope::Of;
use crate::wire::{enums, v1};

/// `baton budgets`
pub async fn run(global: &Global, out: &Out, args: BudgetsArgs) -> anyhow::Result<u8> {
    let action = args.action.unwrap_or(BudgetsAction::List { session: None });
    // What cannot be read is said before anybody is asked.
    let limits = match &action {
        BudgetsAction::Set { soft, hard, .. } => Some((allowance(soft)?, allowance(hard)?)),
        _ => None,
    };
    let client = connect(global).await?;
    match action {
        BudgetsAction::List { session } => list(&client, out, session.as_deref()).await,
        BudgetsAction::Show { budget } => {
            let request = v1::GetBudgetRequest {
                budget_id: resolve::budget(&client, &budget).await?.to_string(),
            };
            show(out, client.get_budget(request).await?.budget.as_ref())
        }
        BudgetsAction::Set {
            of, day, remove, ..
        } => {
            let (soft, hard) = limits.unwrap_or_default();
            let is_empty = soft == v1::Allowance::default() && hard == v1::Allowance::default();
            if is_empty != remove {
                return Err(usage(
                    "say what may be spent, like --soft cost=5 --hard cost=10, or --remove",
                ));
            }
            let period = match day {
                true => v1::BudgetPeriod::Day,
                false => v1::BudgetPeriod::Total,
            };
            let request = v1::SetBudgetRequest {
                request_id: request_id(),
                scope: Some(scope(&client, of).await?),
                period: period.into(),
                soft: Some(soft),
                hard: Some(hard),
                etag: String::new(),
            };
            show(out, client.set_budget(request).await?.budget.as_ref())
        }
        BudgetsAction::Usage {
            by,
            from,
            to,
            session,
            agent,
            task,
        } => {
            let by = UsageBy::parse(&by).unwrap_or_default();
            let request = v1::GetUsageRequest {
                group_by: enums::usage_by_to_pb(by).into(),
                from_day: from.unwrap_or_default(),
                to_day: to.unwrap_or_default(),
                session_id: session_id(&client, session.as_deref()).await?,
                agent_id: match agent {
                    Some(typed) => agents::found(&client, &typed).await?.id,
                    None => String::new(),
                },
                task_id: match task {
                    Some(typed) => resolve::task(&client, &typed).await?.to_string(),
                    None => String::new(),
                },
                page_size: 500,
                page_token: String::new(),
            };
            used(&client, out, request).await
        }
    }
}

/// A session that may be gone: what it spent is kept.
async fn session_id(client: &Client, typed: Option<&str>) -> anyhow::Result<String> {
    match typed {
        Some(typed) => Ok(resolve::session(client, typed).await?.to_string()),
        None => Ok(String::new()),
    }
}

async fn scope(client: &Client, of: BudgetOf) -> anyhow::Result<v1::BudgetScope> {
    let of = if let Some(typed) = of.session {
        Of::SessionId(resolve::session(client, &typed).await?.to_string())
    } else if let Some(typed) = of.agent {
        Of::AgentId(agents::found(client, &typed).await?.id)
    } else if let Some(typed) = of.task {
        Of::TaskId(resolve::task(client, &typed).await?.to_string())
    } else {
        Of::Everything(of.everything)
    };
    Ok(v1::BudgetScope { of: Some(of) })
}

/// `cost=2.50`, `input=1000000`.
fn allowance(pairs: &[String]) -> anyhow::Result<v1::Allowance> {
    let mut allowance = v1::Allowance::default();
    for pair in pairs {
        let bad = || {
            usage(format!(
                "{pair:?} is no limit; it is like cost=2.50 (US dollars), input=1000000, output=200000 or cache=5000000 (tokens)"
            ))
        };
        let (what, amount) = pair.split_once('=').ok_or_else(bad)?;
        let field = match what {
            "cost" => &mut allowance.cost_micro_usd,
            "input" => &mut allowance.input_tokens,
            "output" => &mut allowance.output_tokens,
            "cache" => &mut allowance.cache_tokens,
            _ => return Err(bad()),
        };
        let value = match what {
            "cost" => micros(amount),
            _ => amount.parse().ok(),
        };
        *field = value.filter(|value| *value > 0).ok_or_else(bad)?;
    }
    Ok(allowance)
}

/// US dollars in millionths.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(part)
}

fn show(out: &Out, budget: Option<&v1::Budget>) -> anyhow::Result<u8> {
    let Some(budget) = budget else {
        out.show(&json!({ "removed": true }), || {
            "there is no such budget now".to_owned()
        })?;
        return Ok(DONE);
    };
    out.show(&budget_json(budget), || {
        let spent = spent_from_pb(budget.spent);
        let mut lines = vec![
            format!("{}  {}", budget.id, name(budget)),
            format!("state      {}", state(budget)),
            format!("soft       {}", limits(budget.soft)),
            format!("hard       {}", limits(budget.hard)),
            format!("spent      {}", words(&spent)),
        ];
        if !budget.prompt_id.is_empty() {
            lines.push(format!("asked in   {}", budget.prompt_id));
        }
        if !budget.warning.is_empty() {
            lines.push(format!("warning    {}", budget.warning));
        }
        lines.join("\n")
    })?;
    Ok(DONE)
}

async fn list(client: &Client, out: &Out, session: Option<&str>) -> anyhow::Result<u8> {
    let session_id = session_id(client, session).await?;
    let mut budgets = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client
            .list_budgets(v1::ListBudgetsRequest {
                page_size: 500,
                page_token,
                session_id: session_id.clone(),
            })
            .await?;
        budgets.extend(page.budgets);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if out.json {
        for budget in &budgets {
            out.value(&budget_json(budget))?;
        }
        return Ok(DONE);
    }
    if budgets.is_empty() {
        out.note("there are no budgets; make one with `baton budgets set`");
        return Ok(DONE);
    }
    let mut table = Table::new(&["ID", "OF", "STATE", "SPENT", "SOFT", "HARD"]);
    for budget in &budgets {
        let known = enums::budget_state_from_pb(budget.state, "state");
        let tone = match known.ok().flatten() {
            Some(BudgetState::Hard) => Tone::Bad,
            Some(BudgetState::Soft) => Tone::Warn,
            _ => Tone::Good,
        };
        let said = match budget.warning.is_empty() {
            true => state(budget),
            false => format!("{}, not all known", state(budget)),
        };
        table.row([
            (Tone::Name, resolve::short(&budget.id).to_owned()),
            (Tone::Plain, name(budget)),
            (tone, said),
            (Tone::Plain, words(&spent_from_pb(budget.spent))),
            (Tone::Dim, limits(budget.soft)),
            (Tone::Dim, limits(budget.hard)),
        ]);
    }
    out.line(&table.render(out.style, 0))?;
    Ok(DONE)
}

async fn used(client: &Client, out: &Out, request: v1::GetUsageRequest) -> anyhow::Result<u8> {
    let mut rows = Vec::new();
    let mut page_token = String::new();
    let last = loop {
        let page = client
            .get_usage(v1::GetUsageRequest {
                page_token,
                ..request.clone()
            })
            .await?;
        rows.extend(page.rows.clone());
        page_token = page.next_page_token.clone();
        if page_token.is_empty() {
            break page;
        }
    };
    let total = spent_from_pb(last.total);
    let by = enums::usage_by_from_pb(request.group_by, "group_by")
        .ok()
        .flatten()
        .unwrap_or_default();
    if out.json {
        for row in &rows {
            let mut value = spent_json(&spent_from_pb(row.spent));
            value[by.as_str()] = Value::from(key(by, row));
            out.value(&value)?;
        }
        return out
            .value(&json!({ "total": spent_json(&total), "prices": last.prices }))
            .map(|()| DONE);
    }
    let mut table = Table::new(&[
        "OF", "COST", "INPUT", "OUTPUT", "CACHE W", "CACHE R", "UNKNOWN",
    ]);
    let mut add = |name: &str, spent: &Spent| {
        let name = if name.is_empty() { "none" } else { name };
        table.row([
            (Tone::Name, name.to_owned()),
            (Tone::Plain, cost(spent)),
            (Tone::Plain, spent.input_tokens.to_string()),
            (Tone::Plain, spent.output_tokens.to_string()),
            (Tone::Plain, spent.cache_write_tokens.to_string()),
            (Tone::Plain, spent.cache_read_tokens.to_string()),
            (Tone::Warn, unknown(spent)),
        ]);
    };
    for row in &rows {
        add(key(by, row), &spent_from_pb(row.spent));
    }
    add("total", &total);
    out.line(&table.render(out.style, 0))?;
    out.note(&format!(
        "prices where a harness states no cost: {}",
        last.prices
    ));
    Ok(DONE)
}

fn key(by: UsageBy, row: &v1::UsageRow) -> &str {
    match by {
        UsageBy::Day => &row.day,
        UsageBy::Session => &row.session_id,
        UsageBy::Agent => &row.agent_id,
        UsageBy::Task => &row.task_id,
        UsageBy::Model => &row.model,
    }
}

fn name(budget: &v1::Budget) -> String {
    let of = match budget.scope.as_ref().and_then(|scope| scope.of.as_ref()) {
        Some(Of::SessionId(id) | Of::AgentId(id) | Of::TaskId(id)) => id.as_str(),
        Some(Of::Everything(_)) => "everything",
        None => "",
    };
    match budget.period() {
        v1::BudgetPeriod::Day => format!("{of}, by the day"),
        _ => of.to_owned(),
    }
}

fn state(budget: &v1::Budget) -> String {
    match (budget.state(), budget.stopped) {
        (_, true) => "stopped",
        (v1::BudgetState::Hard, _) => "spent",
        (v1::BudgetState::Soft, _) => "at its soft limit",
        _ => "within",
    }
    .to_owned()
}

fn limits(allowance: Option<v1::Allowance>) -> String {
    let allowance = allowance_from_pb(allowance);
    let parts = [
        allowance.cost_micro_usd.map(dollars),
        allowance.input_tokens.map(|n| format!("{n} input")),
        allowance.output_tokens.map(|n| format!("{n} output")),
        allowance.cache_tokens.map(|n| format!("{n} cache")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.join(", "),
    }
}

/// Money, with what is not known of it.
fn cost(spent: &Spent) -> String {
    match (spent.is_cost_unknown(), spent.cost_micro_usd) {
        (true, 0) => "unknown".to_owned(),
        (true, known) => format!("at least {}", dollars(known)),
        (false, known) => dollars(known),
    }
}

fn unknown(spent: &Spent) -> String {
    let parts = [
        (spent.unpriced, "without a price"),
        (spent.unreported, "without a report"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    parts.join(", ")
}

fn words(spent: &Spent) -> String {
    let least = if spent.are_tokens_unknown() {
        "at least "
    } else {
        ""
    };
    let cache = spent
        .cache_read_tokens
        .saturating_add(spent.cache_write_tokens);
    let unknown = match unknown(spent).as_str() {
        "" => String::new(),
        unknown => format!(" (turns: {unknown})"),
    };
    format!(
        "{}; {least}{} input, {} output, {cache} cache tokens{unknown}",
        cost(spent),
        spent.input_tokens,
        spent.output_tokens
    )
}

fn spent_json(spent: &Spent) -> Value {
    json!({
        "input_tokens": number(spent.input_tokens),
        "output_tokens": number(spent.output_tokens),
        "cache_write_tokens": number(spent.cache_write_tokens),
        "cache_read_tokens": number(spent.cache_read_tokens),
        // What is not known at all is null, and never 0.
        "cost_micro_usd": match (spent.is_cost_unknown(), spent.cost_micro_usd) {
            (true, 0) => Value::Null,
            (_, known) => number(known),
        },
        "cost_is_at_least": spent.is_cost_unknown(),
        "unpriced_turns": number(spent.unpriced),
        "unreported_turns": number(spent.unreported),
    })
}

fn allowance_json(allowance: Option<v1::Allowance>) -> Value {
    let allowance = allowance_from_pb(allowance);
    let value = |amount: Option<u64>| amount.map_or(Value::Null, number);
    json!({
        "input_tokens": value(allowance.input_tokens),
        "output_tokens": value(allowance.output_tokens),
        "cache_tokens": value(allowance.cache_tokens),
        "cost_micro_usd": value(allowance.cost_micro_usd),
    })
}

fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

fn budget_json(budget: &v1::Budget) -> Value {
    let scope = match budget.scope.as_ref().and_then(|scope| scope.of.as_ref()) {
        Some(Of::SessionId(id)) => json!({ "session_id": id }),
        Some(Of::AgentId(id)) => json!({ "agent_id": id }),
        Some(Of::TaskId(id)) => json!({ "task_id": id }),
        Some(Of::Everything(_)) => json!({ "everything": true }),
        None => Value::Null,
    };
    json!({
        "id": budget.id,
        "scope": scope,
        "period": word(budget.period().as_str_name(), "BUDGET_PERIOD_"),
        "soft": allowance_json(budget.soft),
        "hard": allowance_json(budget.hard),
        "spent": spent_json(&spent_from_pb(budget.spent)),
        "state": word(budget.state().as_str_name(), "BUDGET_STATE_"),
        "stopped": budget.stopped,
        "warning": text(&budget.warning),
        "prompt_id": text(&budget.prompt_id),
        "next_period_at": time(budget.next_period_at),
        "created_by": actor(budget.created_by.as_ref()),
        "created_at": time(budget.created_at),
        "updated_at": time(budget.updated_at),
        "etag": budget.etag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let pairs = ["cost=2.50", "output=200"].map(str::to_owned);
        let read = allowance(&pairs).unwrap();
        assert_eq!((read.cost_micro_usd, read.output_tokens), (2_500_000, 200));
        for bad in [
            "cost",
            "cost=0",
            "cost=1.1234567",
            "price=1",
            "input=-1",
            "input=1.5",
            "cost=x",
        ] {
            assert!(allowance(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_unknown_is_not_nothing() {
        let spent = Spent {
            input_tokens: 5,
            unpriced: 1,
            ..Spent::default()
        };
        assert_eq!(cost(&spent), "unknown");
        assert_eq!(spent_json(&spent)["cost_micro_usd"], Value::Null);
        let more = Spent {
            cost_micro_usd: 1_500_000,
            ..spent
        };
        assert_eq!(cost(&more), "at least $1.50");
        assert!(words(&more).contains("1 without a price"));
        assert_eq!(cost(&Spent::default()), "$0.00");
    }
}
