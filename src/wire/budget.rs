//! Budgets and what was spent, on the wire.

use super::enums;
use super::field;
use crate::base::id::{AgentId, BudgetId, SessionId, TaskId};
use crate::base::{Error, Result};
use crate::domain::budget::{Allowance, BudgetPeriod, BudgetScope};
use crate::domain::spending::Spent;
use crate::wire::v1;
use crate::wire::v1::budget_scope::Of;

/// What a budget is of, as protobuf writes it.
pub fn scope_to_pb(scope: BudgetScope) -> v1::BudgetScope {
    v1::BudgetScope {
        of: Some(match scope {
            BudgetScope::Everything => Of::Everything(true),
            BudgetScope::Agent(id) => Of::AgentId(id.to_string()),
            BudgetScope::Task(id) => Of::TaskId(id.to_string()),
            BudgetScope::Session(id) => Of::SessionId(id.to_string()),
        }),
    }
}

/// What a budget is of, from the wire.
pub fn scope_from_pb(scope: Option<v1::BudgetScope>) -> Result<BudgetScope> {
    let scope = field::required(scope, "scope")?;
    match field::required(scope.of, "scope")? {
        Of::SessionId(id) => SessionId::parse("scope.session_id", &id).map(BudgetScope::Session),
        Of::AgentId(id) => AgentId::parse("scope.agent_id", &id).map(BudgetScope::Agent),
        Of::TaskId(id) => TaskId::parse("scope.task_id", &id).map(BudgetScope::Task),
        Of::Everything(true) => Ok(BudgetScope::Everything),
        Of::Everything(false) => Err(Error::invalid(
            "scope.everything",
            "must be true, or something else be named",
        )),
    }
}

/// A period from the wire; unspecified is for good.
pub fn period_from_pb(period: i32) -> Result<BudgetPeriod> {
    Ok(enums::budget_period_from_pb(period, "period")?.unwrap_or(BudgetPeriod::Total))
}

/// How much may be spent, as protobuf writes it: 0 is no limit.
pub fn allowance_to_pb(allowance: &Allowance) -> v1::Allowance {
    v1::Allowance {
        input_tokens: allowance.input_tokens.unwrap_or_default(),
        output_tokens: allowance.output_tokens.unwrap_or_default(),
        cache_tokens: allowance.cache_tokens.unwrap_or_default(),
        cost_micro_usd: allowance.cost_micro_usd.unwrap_or_default(),
    }
}

/// How much may be spent, from the wire.
pub fn allowance_from_pb(allowance: Option<v1::Allowance>) -> Allowance {
    let allowance = allowance.unwrap_or_default();
    let some = |value: u64| (value != 0).then_some(value);
    Allowance {
        input_tokens: some(allowance.input_tokens),
        output_tokens: some(allowance.output_tokens),
        cache_tokens: some(allowance.cache_tokens),
        cost_micro_usd: some(allowance.cost_micro_usd),
    }
}

/// What was spent, as protobuf writes it.
pub fn spent_to_pb(spent: &Spent) -> v1::Spent {
    v1::Spent {
        input_tokens: spent.input_tokens,
        output_tokens: spent.output_tokens,
        cache_write_tokens: spent.cache_write_tokens,
        cache_read_tokens: spent.cache_read_tokens,
        cost_micro_usd: spent.cost_micro_usd,
        unpriced_turns: spent.unpriced,
        unreported_turns: spent.unreported,
    }
}

/// What was spent, from the wire.
pub fn spent_from_pb(spent: Option<v1::Spent>) -> Spent {
    let spent = spent.unwrap_or_default();
    Spent {
        input_tokens: spent.input_tokens,
        output_tokens: spent.output_tokens,
        cache_write_tokens: spent.cache_write_tokens,
        cache_read_tokens: spent.cache_read_tokens,
        cost_micro_usd: spent.cost_micro_usd,
        unpriced: spent.unpriced_turns,
        unreported: spent.unreported_turns,
    }
}

/// A budget's id from the wire.
pub fn budget_id(text: &str) -> Result<BudgetId> {
    BudgetId::parse("budget_id", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_over_the_wire_comes_back() {
        for scope in [
            BudgetScope::Everything,
            BudgetScope::Agent(AgentId::from_bits(1)),
            BudgetScope::Task(TaskId::from_bits(2)),
            BudgetScope::Session(SessionId::from_bits(3)),
        ] {
            assert_eq!(scope_from_pb(Some(scope_to_pb(scope))).unwrap(), scope);
        }
        let allowance = Allowance {
            input_tokens: Some(1),
            cost_micro_usd: Some(u64::MAX),
            ..Allowance::default()
        };
        assert_eq!(
            allowance_from_pb(Some(allowance_to_pb(&allowance))),
            allowance
        );
        let spent = Spent {
            input_tokens: 1,
            output_tokens: 2,
            cache_write_tokens: 3,
            cache_read_tokens: 4,
            cost_micro_usd: 5,
            unpriced: 6,
            unreported: 7,
        };
        assert_eq!(spent_from_pb(Some(spent_to_pb(&spent))), spent);
    }

    #[test]
    fn a_budget_is_of_something() {
        for scope in [
            None,
            Some(v1::BudgetScope { of: None }),
            Some(v1::BudgetScope {
                of: Some(Of::Everything(false)),
            }),
        ] {
            let error = scope_from_pb(scope).unwrap_err();
            assert!(error.fields()[0].field.starts_with("scope"), "{error}");
        }
    }
}
