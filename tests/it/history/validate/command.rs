//! D8: a command has its effect at most once, and what is on record of it is true.

use std::collections::BTreeMap;

use super::super::{Fact, Line};

#[derive(Default)]
struct Command<'a> {
    given: bool,
    effects: usize,
    doubted: bool,
    outcomes: Vec<&'a str>,
    none: bool,
}

impl Command<'_> {
    fn wrong(&self) -> Option<String> {
        let effects = self.effects;
        if !self.given {
            return Some("nobody gave it".to_owned());
        }
        if effects > 1 {
            return Some(format!("it had {effects} effects"));
        }
        if self.outcomes.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some(format!("it has two outcomes: {:?}", self.outcomes));
        }
        let told = match (self.outcomes.first(), self.none) {
            (None, false) => Some("nobody says what became of it".to_owned()),
            // A crash took it back before anybody was told of it.
            (None, true) => None,
            (Some(&"applied"), _) => (effects == 0 && !self.doubted).then(|| "applied".to_owned()),
            (Some(&"indeterminate"), _) => {
                (!self.doubted).then(|| "indeterminate, and nobody died".to_owned())
            }
            (Some(other), _) => (effects == 1).then(|| format!("{other}, and it was done")),
        };
        match (told, self.outcomes.is_empty() && effects == 1) {
            (None, true) => Some("it was done and has no outcome".to_owned()),
            (told, _) => told.map(|told| format!("said to be {told} with {effects} effects")),
        }
    }
}

/// D8.
pub fn at_most_once(lines: &[Line]) -> Vec<String> {
    let mut commands: BTreeMap<&str, Command> = BTreeMap::new();
    for line in lines {
        match &line.fact {
            Fact::Given { command } => commands.entry(command).or_default().given = true,
            Fact::Effect { command } => commands.entry(command).or_default().effects += 1,
            Fact::Doubted { command } => commands.entry(command).or_default().doubted = true,
            Fact::NoOutcome { command } => commands.entry(command).or_default().none = true,
            Fact::Outcome { command, outcome } => {
                let command = commands.entry(command).or_default();
                command.outcomes.push(outcome);
            }
            _ => {}
        }
    }
    let wrong = commands.iter().filter_map(|(name, command)| {
        let wrong = command.wrong()?;
        Some(format!("{name}: {wrong}"))
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{bad, good};
    use super::*;

    /// A history of one command: `g`iven, `e`ffect, `d`oubted, `a`pplied, `r`ejected, `i`ndeterminate, `n`othing.
    fn case(letters: &str) -> Vec<(&'static str, Fact)> {
        let fact = |letter| {
            let command = "c".to_owned();
            let outcome = |outcome: &str| Fact::Outcome {
                command: "c".to_owned(),
                outcome: outcome.to_owned(),
            };
            match letter {
                'g' => Fact::Given { command },
                'e' => Fact::Effect { command },
                'd' => Fact::Doubted { command },
                'a' => outcome("applied"),
                'r' => outcome("rejected"),
                'i' => outcome("indeterminate"),
                _ => Fact::NoOutcome { command },
            }
        };
        letters
            .chars()
            .map(|letter| ("test", fact(letter)))
            .collect()
    }

    #[test]
    fn every_way_of_a_command() {
        for kept in ["gea", "gr", "gn", "gdei", "gdi", "gda", "geaa"] {
            good(at_most_once, case(kept));
        }
        for (says, broken) in [
            ("2 effects", "geea"),
            ("nobody gave it", "ea"),
            ("applied with 0", "ga"),
            ("rejected, and it was done", "ger"),
            ("nobody died", "gei"),
            ("two outcomes", "gear"),
            ("nobody says", "g"),
            ("done and has no outcome", "gen"),
        ] {
            bad(at_most_once, says, case(broken));
        }
    }
}
