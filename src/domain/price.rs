//! What models cost: a table by model, in US dollars for a million tokens.
//!
//! A model that is not in the table has no price, and what it consumed has no cost that anybody could name: that is
//! said as such and never as nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::usage::Usage;
use crate::base::{Error, Result};

/// Tokens that a price is for.
const PER: u128 = 1_000_000;
/// The most models of a table.
const MAX_MODELS: usize = 10_000;
/// The highest price of a million tokens, in US dollars.
const MAX_USD: f64 = 1_000_000.0;

/// What a million tokens of a model cost, in millionths of a US dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Sent to the model.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
    /// Written to its cache.
    pub cache_write: u64,
    /// Read from its cache.
    pub cache_read: u64,
}

impl Price {
    /// A price of US dollars for a million tokens.
    const fn usd(input: u64, output: u64, cache_write: u64, cache_read: u64) -> Self {
        // In thousandths, which no list price is finer than.
        Price {
            input: input * 1_000,
            output: output * 1_000,
            cache_write: cache_write * 1_000,
            cache_read: cache_read * 1_000,
        }
    }

    /// What tokens cost, in millionths of a US dollar, rounded up: a budget is not to be outrun in small steps.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let parts = [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_write_tokens, self.cache_write),
            (usage.cache_read_tokens, self.cache_read),
        ];
        let sum = parts
            .into_iter()
            .map(|(tokens, price)| u128::from(tokens) * u128::from(price))
            .fold(0_u128, u128::saturating_add);
        u64::try_from(sum.div_ceil(PER)).unwrap_or(u64::MAX)
    }
}

/// Prices by model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Where they are from.
    pub source: String,
    /// Of which day they are.
    pub date: String,
    models: BTreeMap<String, Price>,
}

/// A table as a file has it: prices in US dollars for a million tokens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Where the prices are from.
    pub source: String,
    /// Of which day they are.
    pub date: String,
    /// By model.
    pub models: BTreeMap<String, WrittenPrice>,
}

/// One model of a table as a file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPrice {
    /// Sent to the model.
    pub input: f64,
    /// Written by the model.
    pub output: f64,
    /// Written to its cache; absent is as `input`.
    pub cache_write: Option<f64>,
    /// Read from its cache; absent is as `input`.
    pub cache_read: Option<f64>,
}

impl Prices {
    /// The table of a file. INVALID_INPUT: a price is none; the field names it.
    pub fn checked(written: Written) -> Result<Self> {
        if written.models.is_empty() || written.models.len() > MAX_MODELS {
            return Err(Error::invalid(
                "models",
                format!("must be 1 to {MAX_MODELS} models"),
            ));
        }
        let mut models = BTreeMap::new();
        for (name, price) in written.models {
            if name.trim().is_empty() || name.len() > 200 {
                return Err(Error::invalid(
                    "models",
                    "has a model without a name, or one longer than 200 bytes",
                ));
            }
            let read = |field: &str, usd: f64| micros(&format!("models.{name}.{field}"), usd);
            let price = Price {
                input: read("input", price.input)?,
                output: read("output", price.output)?,
                cache_write: read("cache_write", price.cache_write.unwrap_or(price.input))?,
                cache_read: read("cache_read", price.cache_read.unwrap_or(price.input))?,
            };
            models.insert(name, price);
        }
        Ok(Prices {
            source: written.source,
            date: written.date,
            models,
        })
    }

    /// The price of a model, by its name or by its name without the date at its end; `None`: it is not known.
    pub fn of(&self, model: &str) -> Option<&Price> {
        self.models
            .get(model)
            .or_else(|| self.models.get(undated(model)?))
    }

    /// The models of the table, in order.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Price)> {
        self.models
            .iter()
            .map(|(name, price)| (name.as_str(), price))
    }
}

impl Default for Prices {
    /// The list prices of the date that the table names.
    fn default() -> Self {
        // Input, output, cache write, cache read in thousandths of a US dollar for a million tokens. Models whose
        // price depends on how long a prompt is are left out: totals do not say that.
        let models: [(&str, Price); 24] = [
            ("claude-opus-5", Price::usd(5_000, 25_000, 6_250, 500)),
            ("claude-opus-4-8", Price::usd(5_000, 25_000, 6_250, 500)),
            ("claude-opus-4-7", Price::usd(5_000, 25_000, 6_250, 500)),
            ("claude-opus-4-6", Price::usd(5_000, 25_000, 6_250, 500)),
            ("claude-opus-4-5", Price::usd(5_000, 25_000, 6_250, 500)),
            ("claude-opus-4-1", Price::usd(15_000, 75_000, 18_750, 1_500)),
            ("claude-opus-4", Price::usd(15_000, 75_000, 18_750, 1_500)),
            ("claude-sonnet-5-5", Price::usd(2_000, 10_000, 2_500, 100)),
            ("claude-sonnet-5", Price::usd(2_000, 10_000, 2_500, 200)),
            ("claude-sonnet-4-6", Price::usd(3_000, 15_000, 3_750, 300)),
            ("claude-sonnet-4-5", Price::usd(3_000, 15_000, 3_750, 300)),
            ("claude-sonnet-4", Price::usd(3_000, 15_000, 3_750, 300)),
            ("claude-3-7-sonnet", Price::usd(3_000, 15_000, 3_750, 300)),
            ("claude-haiku-4-5", Price::usd(1_000, 5_000, 1_250, 100)),
            ("claude-3-5-haiku", Price::usd(800, 4_000, 1_000, 80)),
            ("gpt-5", Price::usd(1_250, 10_000, 1_250, 125)),
            ("gpt-5-codex", Price::usd(1_250, 10_000, 1_250, 125)),
            ("gpt-5.1", Price::usd(1_250, 10_000, 1_250, 125)),
            ("gpt-5.1-codex", Price::usd(1_250, 10_000, 1_250, 125)),
            ("gpt-5.2", Price::usd(1_750, 14_000, 1_750, 175)),
            ("gpt-5.2-codex", Price::usd(1_750, 14_000, 1_750, 175)),
            ("gpt-5.3-codex", Price::usd(1_750, 14_000, 1_750, 175)),
            ("gpt-5-mini", Price::usd(250, 2_000, 250, 25)),
            ("gpt-4.1", Price::usd(2_000, 8_000, 2_000, 500)),
        ];
        Prices {
            source:
                "list prices of Anthropic (platform.claude.com) and OpenAI (developers.openai.com)"
                    .to_owned(),
            date: "2026-11-05".to_owned(),
            models: models
                .into_iter()
                .map(|(name, price)| (name.to_owned(), price))
                .collect(),
        }
    }
}

fn micros(field: &str, usd: f64) -> Result<u64> {
    if !(0.0..=MAX_USD).contains(&usd) {
        return Err(Error::invalid(
            field,
            format!("is {usd}; it must be 0 to {MAX_USD} US dollars for a million tokens"),
        ));
    }
    // In range, and never negative.
    Ok((usd * 1_000_000.0).round() as u64)
}

/// A model's name without `-20250929` or `-2025-09-29` at its end; `None` if it has no date there.
fn undated(model: &str) -> Option<&str> {
    let is_date = |digits: &str| {
        let digits: String = digits.chars().filter(|c| *c != '-').collect();
        digits.len() == 8 && digits.starts_with("20") && digits.bytes().all(|b| b.is_ascii_digit())
    };
    [9, 11].into_iter().find_map(|length| {
        let at = model.len().checked_sub(length)?;
        let date = model.get(at..)?.strip_prefix('-')?;
        is_date(date).then(|| &model[..at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, write: u64, read: u64) -> Usage {
        Usage {
            input_tokens: input,
            output_tokens: output,
            cache_write_tokens: write,
            cache_read_tokens: read,
            cost_micro_usd: 0,
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let prices = Prices::default();
        let sonnet = prices.of("claude-sonnet-4-5").unwrap();
        let million = 1_000_000;
        assert_eq!(sonnet.cost(&usage(million, 0, 0, 0)), 3_000_000);
        assert_eq!(sonnet.cost(&usage(0, million, 0, 0)), 15_000_000);
        assert_eq!(sonnet.cost(&usage(0, 0, million, 0)), 3_750_000);
        assert_eq!(sonnet.cost(&usage(0, 0, 0, million)), 300_000);
        // Never less than it was.
        assert_eq!(sonnet.cost(&usage(0, 0, 0, 1)), 1);
        assert_eq!(
            sonnet.cost(&usage(u64::MAX, u64::MAX, u64::MAX, u64::MAX)),
            u64::MAX
        );
    }

    #[test]
    fn a_model_is_found_without_its_date_and_no_other() {
        let prices = Prices::default();
        assert!(prices.of("claude-sonnet-4-5-20250929").is_some());
        assert!(prices.of("gpt-5-2025-08-07").is_some());
        for unknown in [
            "",
            "sonnet",
            "claude-sonnet-4-5-preview",
            "claude-sonnet-9",
            "gpt-5-12345678",
            "ü-20250929",
            "-20250929",
        ] {
            assert_eq!(prices.of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_bad_price_is_named() {
        let written = |input: f64| Written {
            source: "us".to_owned(),
            date: "2026-01-01".to_owned(),
            models: BTreeMap::from([(
                "m".to_owned(),
                WrittenPrice {
                    input,
                    output: 2.0,
                    cache_write: None,
                    cache_read: Some(0.1),
                },
            )]),
        };
        let table = Prices::checked(written(0.25)).unwrap();
        assert_eq!(
            table.of("m"),
            Some(&Price {
                input: 250_000,
                output: 2_000_000,
                cache_write: 250_000,
                cache_read: 100_000
            })
        );
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            let error = Prices::checked(written(bad)).unwrap_err();
            assert_eq!(error.fields()[0].field, "models.m.input", "{bad}");
        }
    }
}
