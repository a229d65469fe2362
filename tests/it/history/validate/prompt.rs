//! D9: a prompt is decided once, whoever answers; everybody else is told so; and nothing is done without an answer
//! that allows it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Fact, Line};

/// What a second answer may be told: somebody was first, or the prompt waits no more.
const REFUSALS: [&str; 2] = ["PROMPT_ANSWERED", "INVALID_STATE"];

#[derive(Default)]
struct Prompt<'a> {
    /// In whose name an answer was accepted, and whether it allows.
    accepted: BTreeMap<&'a str, bool>,
    refused: BTreeSet<&'a str>,
    acted: usize,
}

/// D9. An answer that is given again in the same name is the same answer.
pub fn one_decision(lines: &[Line]) -> Vec<String> {
    let mut prompts: BTreeMap<&str, Prompt> = BTreeMap::new();
    for line in lines {
        match &line.fact {
            Fact::Answered {
                prompt,
                by,
                allow,
                told,
            } => {
                let prompt = prompts.entry(prompt).or_default();
                match told.as_str() {
                    "accepted" => drop(prompt.accepted.insert(by, *allow)),
                    code => drop(prompt.refused.insert(code)),
                }
            }
            Fact::Acted { prompt } => prompts.entry(prompt).or_default().acted += 1,
            _ => {}
        }
    }
    let mut broken = Vec::new();
    for (name, prompt) in prompts {
        let accepted: Vec<_> = prompt.accepted.keys().collect();
        if accepted.len() > 1 {
            broken.push(format!("{name} was decided by all of {accepted:?}"));
        }
        for code in prompt
            .refused
            .iter()
            .filter(|code| !REFUSALS.contains(code))
        {
            broken.push(format!("{name}: an answer was refused with {code}"));
        }
        let acted = prompt.acted;
        if acted > 1 {
            broken.push(format!("{name} was acted on {acted} times"));
        }
        if acted > 0 && !prompt.accepted.values().any(|allow| *allow) {
            broken.push(format!("{name} was acted on, and nobody allowed it"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::example::{bad, good};
    use super::*;

    fn answered(by: &str, allow: bool, told: &str) -> (&'static str, Fact) {
        let fact = Fact::Answered {
            prompt: "p".to_owned(),
            by: by.to_owned(),
            allow,
            told: told.to_owned(),
        };
        ("user", fact)
    }

    fn acted() -> (&'static str, Fact) {
        let prompt = "p".to_owned();
        ("agent", Fact::Acted { prompt })
    }

    #[test]
    fn a_prompt_is_decided_once() {
        let won = || answered("a", true, "accepted");
        let late = || answered("b", false, "PROMPT_ANSWERED");
        good(one_decision, vec![won(), late(), won(), acted()]);
        good(one_decision, vec![answered("a", false, "accepted"), late()]);
        let two = vec![won(), answered("b", true, "accepted"), acted()];
        bad(one_decision, "decided by all of", two);
        bad(
            one_decision,
            "acted on 2 times",
            vec![won(), acted(), acted()],
        );
        bad(one_decision, "nobody allowed it", vec![acted()]);
        let denied = vec![answered("a", false, "accepted"), acted()];
        bad(one_decision, "nobody allowed it", denied);
        let vague = vec![won(), answered("b", true, "INTERNAL_ERROR")];
        bad(one_decision, "refused with INTERNAL_ERROR", vague);
    }
}
