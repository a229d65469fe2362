//! What turns and the session consumed, out of the totals a harness reports.

use serde::{Deserialize, Serialize};

use crate::domain::Usage;
use crate::driver::line::Object;

/// The book of one process. The harness reports running totals that begin anew when a conversation is
/// cleared, and that a resumed process takes over from the one before it: what that one consumed belongs
/// to the session before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ledger {
    /// The running totals as last reported; `None` while it is not known where they began.
    running: Option<Usage>,
    /// What this session consumed.
    total: Usage,
}

impl Ledger {
    /// A book for a new conversation, or for one that is continued.
    pub(super) fn new(resumed: bool) -> Self {
        Ledger {
            running: (!resumed).then(Usage::default),
            total: Usage::default(),
        }
    }

    /// What this session consumed so far.
    pub(super) fn total(&self) -> Usage {
        self.total
    }

    /// The conversation was cleared: running totals begin anew.
    pub(super) fn reset(&mut self) {
        self.running = Some(Usage::default());
    }

    /// Books a `result` line; gives what the turn consumed.
    pub(super) fn book(&mut self, result: &Object<'_>) -> Usage {
        let own = result
            .object("usage")
            .map(|usage| tokens(&usage, API))
            .unwrap_or_default();
        let mut running = result
            .object("modelUsage")
            .map(|models| sum(&models))
            .unwrap_or_default();
        running.cost_micro_usd = micros(result.float("total_cost_usd"));
        let turn = match (result.object("model_usage_since_last_result"), self.running) {
            // The newest versions say it themselves.
            (Some(models), _) => sum(&models),
            (None, Some(before)) => {
                let mut turn = running.since(before).unwrap_or(running);
                if tokens_of(running) == 0 {
                    turn = Usage {
                        cost_micro_usd: turn.cost_micro_usd,
                        ..own
                    };
                }
                turn
            }
            // The first result of a continued conversation: the totals are this turn's only if they say
            // no more than the turn itself does.
            (None, None) if tokens_of(running) == tokens_of(own) => running,
            (None, None) => own,
        };
        self.running = Some(running);
        self.total = self.total.plus(turn);
        turn
    }
}

/// Names of the token counts: input, output, cache read, cache write.
type Names = [&'static str; 4];
const API: Names = [
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
];
const MODEL: Names = [
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
];

fn tokens(object: &Object<'_>, names: Names) -> Usage {
    let [input, output, read, write] = names.map(|name| object.number(name).unwrap_or(0));
    Usage {
        input_tokens: input,
        output_tokens: output,
        cache_read_tokens: read,
        cache_write_tokens: write,
        cost_micro_usd: 0,
    }
}

/// The sum over all models.
fn sum(models: &Object<'_>) -> Usage {
    models
        .inner_objects()
        .fold(Usage::default(), |total, model| {
            let mut usage = tokens(&model, MODEL);
            usage.cost_micro_usd = micros(model.float("costUSD"));
            total.plus(usage)
        })
}

fn micros(usd: Option<f64>) -> u64 {
    // Saturates, and is zero for what is no cost.
    (usd.unwrap_or(0.0) * 1_000_000.0).round().max(0.0) as u64
}

fn tokens_of(usage: Usage) -> u64 {
    [
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(ledger: &mut Ledger, line: &str) -> (u64, u64) {
        let turn = ledger.book(&Object::parse(line).unwrap());
        (turn.input_tokens, turn.cost_micro_usd)
    }

    fn result(own: u64, running: u64, usd: f64) -> String {
        format!(
            r#"{{"usage":{{"input_tokens":{own}}},"modelUsage":{{"m":{{"inputTokens":{running},"costUSD":{usd}}}}},"total_cost_usd":{usd}}}"#
        )
    }

    #[test]
    fn a_turn_is_the_difference_of_running_totals() {
        let mut ledger = Ledger::new(false);
        assert_eq!(book(&mut ledger, &result(100, 100, 0.001)), (100, 1_000));
        assert_eq!(book(&mut ledger, &result(0, 150, 0.0015)), (50, 500));
        // Cleared: the totals begin anew.
        assert_eq!(book(&mut ledger, &result(10, 10, 0.0001)), (10, 100));
        assert_eq!(ledger.total().input_tokens, 160);
        assert_eq!(ledger.total().cost_micro_usd, 1_600);
    }

    #[test]
    fn what_a_resumed_conversation_cost_before_is_not_counted_again() {
        let mut ledger = Ledger::new(true);
        assert_eq!(book(&mut ledger, &result(100, 1_900, 0.5)), (100, 0));
        assert_eq!(book(&mut ledger, &result(100, 2_000, 0.501)), (100, 1_000));
        // A harness whose totals begin with its process.
        let mut ledger = Ledger::new(true);
        assert_eq!(book(&mut ledger, &result(100, 100, 0.001)), (100, 1_000));
        // One that says itself what was added.
        let mut ledger = Ledger::new(true);
        let line = r#"{"total_cost_usd":9,"modelUsage":{"m":{"inputTokens":900}},"usage":{},
            "model_usage_since_last_result":{"m":{"inputTokens":3,"costUSD":0.000002}}}"#;
        assert_eq!(book(&mut ledger, line), (3, 2));
    }

    #[test]
    fn odd_numbers_count_as_nothing() {
        let mut ledger = Ledger::new(false);
        let line = r#"{"total_cost_usd":-3,"usage":{"input_tokens":"x"},"modelUsage":[1]}"#;
        assert_eq!(book(&mut ledger, line), (0, 0));
        let line = r#"{"total_cost_usd":1e300}"#;
        assert_eq!(book(&mut ledger, line).1, u64::MAX);
    }
}
