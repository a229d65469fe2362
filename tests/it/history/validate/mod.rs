//! One validator for each promise: a function that reads a history and says what in it breaks the promise. They
//! wait for nothing and ask nobody; a history of a year ago is judged like one of now.

mod command;
mod cursor;
mod durable;
mod input;
mod life;
mod load;
mod once;
mod prompt;
mod watch;

use super::Line;

/// Says what breaks a promise, a sentence each.
pub type Validator = fn(&[Line]) -> Vec<String>;

/// The promises: their number in `docs/reliability.md`, their name, and who judges them.
pub const PROMISES: &[(&str, &str, Validator)] = &[
    ("D1", "acknowledged", durable::acknowledged),
    ("D3", "visible", durable::visible),
    ("D4", "exactly once", once::exactly_once),
    ("D5", "ordered", watch::ordered),
    ("D5", "unique", watch::unique),
    ("D5", "reliable", watch::reliable),
    ("D5", "resumable", watch::resumable),
    ("D5", "atomic", watch::atomic),
    ("D5", "bookmarkable", watch::bookmarkable),
    ("D6", "typed refusals", cursor::typed),
    ("D7", "dense", durable::dense),
    ("D8", "at most one effect", command::at_most_once),
    ("D9", "one decision", prompt::one_decision),
    ("C1", "lost", life::lost),
    ("C2", "adopted", life::adopted),
    ("C3", "resumed", life::resumed),
    ("C5", "nothing left", life::nothing_left),
    ("L1", "slow readers", load::slow_readers),
    ("L2", "siblings", load::siblings),
    ("L5", "overload", load::overload),
    ("L6", "storm", load::storm),
    ("H1", "malformed", input::malformed),
];

/// What of a history breaks any promise.
pub fn all(lines: &[Line]) -> Vec<String> {
    let judged = PROMISES.iter().flat_map(|(number, name, validator)| {
        let named = move |broken| format!("{number} {name}: {broken}");
        validator(lines).into_iter().map(named)
    });
    judged.collect()
}

/// Histories for the validators' own tests.
mod example {
    use super::super::{Fact, Line};
    use super::Validator;

    fn history(facts: Vec<(&str, Fact)>) -> Vec<Line> {
        let line = |(at, (who, fact)): (usize, (&str, Fact))| Line {
            at: at as u64 + 1,
            ms: 0,
            who: who.to_owned(),
            fact,
        };
        facts.into_iter().enumerate().map(line).collect()
    }

    /// The promise is kept.
    #[track_caller]
    pub fn good(validator: Validator, facts: Vec<(&str, Fact)>) {
        let broken = validator(&history(facts));
        assert!(broken.is_empty(), "{broken:?}");
    }

    /// The promise is broken once, and what is said of it has this in it.
    #[track_caller]
    pub fn bad(validator: Validator, says: &str, facts: Vec<(&str, Fact)>) {
        let broken = validator(&history(facts));
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].contains(says), "{broken:?}");
    }

    pub fn saw(seq: u64, hash: u64) -> Fact {
        let log = "s".to_owned();
        Fact::Saw { log, seq, hash }
    }

    pub fn opened(after: u64) -> Fact {
        let log = "s".to_owned();
        Fact::Opened { log, after }
    }

    pub fn stored(first: u64, hashes: &[u64]) -> Fact {
        Fact::Stored {
            log: "s".to_owned(),
            epoch: 1,
            first,
            hashes: hashes.to_vec(),
        }
    }

    pub fn acked(first: u64, hashes: &[u64]) -> Fact {
        Fact::Acked {
            log: "s".to_owned(),
            first,
            hashes: hashes.to_vec(),
        }
    }
}

#[test]
fn what_is_broken_is_named_by_its_promise() {
    let line = Line {
        at: 1,
        ms: 0,
        who: "server".to_owned(),
        fact: super::Fact::Panicked {
            process: "server".to_owned(),
            message: "at the wrong moment".to_owned(),
        },
    };
    let broken = all(&[line]);
    assert_eq!(broken.len(), 1);
    assert!(broken[0].starts_with("H1 malformed: "), "{broken:?}");
}
