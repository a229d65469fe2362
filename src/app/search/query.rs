//! What a person types into a search, as what FTS5 reads.

use crate::base::{Error, Result};

const MAX_QUERY_BYTES: usize = 1_024;
const MAX_TERMS: usize = 32;

/// A search: terms that must all occur.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    expression: String,
}

impl Query {
    /// Reads words, "phrases" and completed words*. Nothing of FTS5's own language gets through: every term
    /// is quoted.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |problem: &str| Error::invalid("query", problem);
        if text.len() > MAX_QUERY_BYTES {
            return Err(bad("is longer than 1 KiB"));
        }
        if text.contains('\0') {
            return Err(bad("has a NUL byte"));
        }
        let mut terms = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (term, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted
                    .split_once('"')
                    .ok_or_else(|| bad("has an opening quote and no closing one"))?,
                None => {
                    let end = rest
                        .find(|c: char| c.is_whitespace() || c == '"')
                        .unwrap_or(rest.len());
                    rest.split_at(end)
                }
            };
            let (term, prefix, after) = match (term.strip_suffix('*'), after.strip_prefix('*')) {
                (Some(term), _) => (term, true, after),
                (None, Some(after)) => (term, true, after),
                (None, None) => (term, false, after),
            };
            // A term of punctuation alone would match nothing, or be an error to FTS5.
            if term.chars().any(char::is_alphanumeric) {
                let star = if prefix { "*" } else { "" };
                terms.push(format!("\"{}\"{star}", term.replace('"', "\"\"")));
            }
            rest = after.trim_start();
        }
        if terms.is_empty() {
            return Err(bad("has no word to look for"));
        }
        if terms.len() > MAX_TERMS {
            return Err(bad("has more than 32 words"));
        }
        Ok(Query {
            expression: terms.join(" AND "),
        })
    }

    /// The query as FTS5 reads it.
    pub(super) fn expression(&self) -> &str {
        &self.expression
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_phrases_and_completed_words() {
        let query = Query::parse(r#"tokio "no lock" spaw* NEAR(a"#).unwrap();
        assert_eq!(
            query.expression(),
            r#""tokio" AND "no lock" AND "spaw"* AND "NEAR(a""#
        );
    }

    #[test]
    fn what_cannot_be_searched_is_refused() {
        for bad in ["", "  ", "\"open", "-- ;", "*", &"x".repeat(2_000)] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
