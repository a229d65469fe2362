//! The file with what models cost.

use std::path::Path;

use crate::domain::price::{Prices, Written};

/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// Reads the file that is named; the table in the program if none is. The error reads after the name of the key.
pub(super) fn read(path: &str) -> Result<Prices, String> {
    if path.is_empty() {
        return Ok(Prices::default());
    }
    let cannot = |problem: std::io::Error| format!("names {path}, which cannot be read: {problem}");
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > MAX_BYTES {
        return Err(format!("names {path}, which is larger than 4 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    parse(&text, is_json(path)).map_err(|problem| format!("names {path}, which {problem}"))
}

fn is_json(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("json"))
}

fn parse(text: &str, json: bool) -> Result<Prices, String> {
    let written: Written = match json {
        true => serde_json::from_str(text)
            .map_err(|problem| format!("is no table of prices: {problem}"))?,
        false => {
            toml::from_str(text).map_err(|problem| format!("is no table of prices: {problem}"))?
        }
    };
    Prices::checked(written).map_err(|error| {
        let said = error.fields().first();
        let said = said.map(|field| format!("has {} that {}", field.field, field.problem));
        said.unwrap_or_else(|| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        source = "our contract"
        date = "2026-06-01"
        [models."our-model"]
        input = 1.5
        output = 6
    "#;

    #[test]
    fn both_forms_say_the_same() {
        let json = r#"{"source":"our contract","date":"2026-06-01",
            "models":{"our-model":{"input":1.5,"output":6}}}"#;
        let table = parse(TOML, false).unwrap();
        assert_eq!(parse(json, true).unwrap(), table);
        assert_eq!(table.of("our-model").unwrap().cache_read, 1_500_000);
        // It replaces the table in the program, and does not add to it.
        assert_eq!(table.of("claude-sonnet-4-5"), None);
    }

    #[test]
    fn a_bad_file_says_what_is_wrong() {
        let said = |text: &str| parse(text, false).unwrap_err();
        assert!(said(&TOML.replace("1.5", "-1.5")).contains("models.our-model.input"));
        assert!(said(&TOML.replace("output", "outputs")).contains("outputs"));
        assert!(said("models = 5").contains("no table of prices"));
        let said = read("/no/such/file.toml").unwrap_err();
        assert!(said.contains("/no/such/file.toml"), "{said}");
        assert!(read("").unwrap().of("claude-sonnet-4-5").is_some());
    }
}
