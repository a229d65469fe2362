//! What the agent would have cost.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Millionths of a dollar for a token read.
const INPUT_MICROS: u64 = 4;
/// Millionths of a dollar for a token written.
const OUTPUT_MICROS: u64 = 20;

/// The running totals of a process; they begin anew when the conversation is cleared.
#[derive(Debug, Default)]
pub struct Ledger {
    models: BTreeMap<String, Usage>,
}

/// Tokens, and what they cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Millionths of a dollar.
    pub micros: u64,
}

impl Usage {
    /// The usage of a message of `model` that read and wrote this many bytes of text.
    pub fn of_text(read_bytes: usize, written_bytes: usize) -> Usage {
        // Four bytes make a token, near enough: what matters is that the same script costs the same.
        let tokens = |bytes: usize| {
            u64::try_from(bytes / 4)
                .unwrap_or(u64::MAX)
                .saturating_add(1)
        };
        let (input, output) = (tokens(read_bytes), tokens(written_bytes));
        let read = input.saturating_mul(INPUT_MICROS);
        let written = output.saturating_mul(OUTPUT_MICROS);
        Usage {
            input,
            output,
            micros: read.saturating_add(written),
        }
    }

    /// A cost without tokens.
    pub fn of_cost(micros: u64) -> Usage {
        Usage {
            micros,
            ..Usage::default()
        }
    }

    /// Adds another usage.
    pub fn add(&mut self, other: Usage) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// The `usage` of a line.
    pub fn line(self) -> Value {
        json!({
            "input_tokens": self.input,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": self.output,
        })
    }
}

impl Ledger {
    /// Adds a usage to the total of `model`.
    pub fn charge(&mut self, model: &str, usage: Usage) {
        self.models.entry(model.to_owned()).or_default().add(usage);
    }

    /// The total cost in dollars.
    pub fn total_usd(&self) -> f64 {
        dollars(
            self.models
                .values()
                .fold(0, |sum, usage| sum.saturating_add(usage.micros)),
        )
    }

    /// The `modelUsage` of a result.
    pub fn models(&self) -> Value {
        let mut models = Map::new();
        for (model, usage) in &self.models {
            let line = json!({
                "inputTokens": usage.input,
                "outputTokens": usage.output,
                "cacheReadInputTokens": 0,
                "cacheCreationInputTokens": 0,
                "webSearchRequests": 0,
                "costUSD": dollars(usage.micros),
                "contextWindow": 200_000,
                "maxOutputTokens": 32_000,
            });
            models.insert(model.clone(), line);
        }
        Value::Object(models)
    }
}

#[allow(clippy::cast_precision_loss)] // A cost beyond 2^53 millionths is beyond any script.
fn dollars(micros: u64) -> f64 {
    micros as f64 / 1e6
}
