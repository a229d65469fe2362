//! What a turn or a session consumed.

use serde::{Deserialize, Serialize};

/// Tokens and cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent to the model, without cache reads and writes.
    pub input_tokens: u64,
    /// Tokens the model wrote.
    pub output_tokens: u64,
    /// Tokens read from the model's cache.
    pub cache_read_tokens: u64,
    /// Tokens written to the model's cache.
    pub cache_write_tokens: u64,
    /// Cost in millionths of a US dollar, as the harness states it.
    pub cost_micro_usd: u64,
}

impl Usage {
    /// The sum, saturating.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cache_read_tokens: self
                .cache_read_tokens
                .saturating_add(other.cache_read_tokens),
            cache_write_tokens: self
                .cache_write_tokens
                .saturating_add(other.cache_write_tokens),
            cost_micro_usd: self.cost_micro_usd.saturating_add(other.cost_micro_usd),
        }
    }

    /// What was added since totals that were told before; `None` if one of them went down.
    pub fn since(self, before: Usage) -> Option<Usage> {
        Some(Usage {
            input_tokens: self.input_tokens.checked_sub(before.input_tokens)?,
            output_tokens: self.output_tokens.checked_sub(before.output_tokens)?,
            cache_read_tokens: self
                .cache_read_tokens
                .checked_sub(before.cache_read_tokens)?,
            cache_write_tokens: self
                .cache_write_tokens
                .checked_sub(before.cache_write_tokens)?,
            cost_micro_usd: self.cost_micro_usd.checked_sub(before.cost_micro_usd)?,
        })
    }
}
