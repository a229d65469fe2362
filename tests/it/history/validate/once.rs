//! D4: what programs write is in the log once and in order, whatever was sent twice; what is missing was damaged, and
//! the log says that something is missing.

use std::collections::BTreeMap;

use super::super::{Fact, Line};

/// What stands in a log for something that is missing.
const GAP: &str = "gap";

/// D4.
pub fn exactly_once(lines: &[Line]) -> Vec<String> {
    let mut truth: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for line in lines {
        if let Fact::Wrote {
            log,
            item,
            may_miss,
        } = &line.fact
        {
            truth.entry(log).or_default().push((item, *may_miss));
        }
    }
    let held = lines.iter().filter_map(|line| match &line.fact {
        Fact::Holds { log, items, whole } => {
            let truth = truth.get(log.as_str()).map_or(&[][..], Vec::as_slice);
            let wrong = compare(items, truth, *whole).err()?;
            Some(format!("{log}, line {}: {wrong}", line.at))
        }
        _ => None,
    });
    held.collect()
}

/// Goes through a log and what was written side by side.
fn compare(items: &[String], truth: &[(&str, bool)], whole: bool) -> Result<(), String> {
    let mut at = 0;
    let mut said = false;
    for item in items {
        if item.starts_with(GAP) {
            said = true;
            continue;
        }
        let found = truth[at..].iter().position(|(wrote, _)| wrote == item);
        let Some(skipped) = found else {
            return Err(format!(
                "{item} was stored twice, out of order, or never written"
            ));
        };
        missing(&truth[at..at + skipped], said, item)?;
        at += skipped + 1;
        said = false;
    }
    match whole {
        true => missing(&truth[at..], said, "the end"),
        false => Ok(()),
    }
}

fn missing(truth: &[(&str, bool)], said: bool, before: &str) -> Result<(), String> {
    let wrong = truth.iter().find(|(_, may_miss)| !(*may_miss && said));
    wrong.map_or(Ok(()), |(item, may_miss)| {
        Err(format!(
            "{item} is missing before {before} (damaged: {may_miss}, said: {said})"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::example::{bad, good};
    use super::*;

    fn case(items: &[&str], whole: bool) -> Vec<(&'static str, Fact)> {
        let wrote = |item: &str, may_miss| Fact::Wrote {
            log: "s".to_owned(),
            item: item.to_owned(),
            may_miss,
        };
        vec![
            ("program", wrote("a", false)),
            ("program", wrote("b", true)),
            (
                "test",
                Fact::Holds {
                    log: "s".to_owned(),
                    items: items.iter().map(|item| (*item).to_owned()).collect(),
                    whole,
                },
            ),
            ("program", wrote("c", false)),
        ]
    }

    #[test]
    fn everything_is_there_once_or_said_to_be_missing() {
        good(exactly_once, case(&["a", "b", "c"], true));
        good(exactly_once, case(&["a", "gap: lost", "c"], true));
        good(exactly_once, case(&["a"], false));
        bad(
            exactly_once,
            "c is missing before the end",
            case(&["a", "b"], true),
        );
        bad(
            exactly_once,
            "b is missing before c",
            case(&["a", "c"], true),
        );
        bad(
            exactly_once,
            "a is missing before b",
            case(&["gap: lost", "b"], false),
        );
        bad(
            exactly_once,
            "a was stored twice",
            case(&["a", "a", "b"], false),
        );
        bad(
            exactly_once,
            "a was stored twice, out of order",
            case(&["gap: lost", "c", "a"], false)
                .into_iter()
                .map(|(who, fact)| match fact {
                    Fact::Wrote { log, item, .. } => (
                        who,
                        Fact::Wrote {
                            log,
                            item,
                            may_miss: true,
                        },
                    ),
                    fact => (who, fact),
                })
                .collect(),
        );
        bad(exactly_once, "never written", case(&["a", "x"], false));
    }
}
