//! D6: whoever asks to go on outside of a log, or in another epoch of it, is refused with a code and with what there
//! is, or told what is gone; whoever asks within it goes on. Also while the log is being cut at that edge.

use super::super::{Fact, Line, Told};

/// The code of such a refusal.
const OUT_OF_RANGE: &str = "OUT_OF_RANGE";

/// D6.
pub fn typed(lines: &[Line]) -> Vec<String> {
    let asked = lines.iter().filter_map(|line| match &line.fact {
        Fact::Asked {
            log,
            epoch,
            after,
            was,
            is,
            told,
        } => {
            let wrong = judge(*epoch, *after, *was, *is, told)?;
            let at = line.at;
            Some(format!(
                "{log}, line {at}: behind {after} of epoch {epoch}, of {was:?} to {is:?}: {wrong}"
            ))
        }
        _ => None,
    });
    asked.collect()
}

/// A log is its epoch, first and head: `was` before the question, `is` after the answer. Both only grow.
fn judge(
    epoch: u64,
    after: u64,
    was: (u64, u64, u64),
    is: (u64, u64, u64),
    told: &Told,
) -> Option<String> {
    let is_other = epoch != 0 && (epoch != was.0 || epoch != is.0);
    let may_be_gone = after + 1 < is.1 || is_other;
    match told {
        Told::GoesOn(next) => {
            let within = after + 1 >= was.1 && after <= is.2;
            let own = epoch == 0 || epoch == was.0 || epoch == is.0;
            (*next != after + 1 || !within || !own).then(|| format!("it went on with {next}"))
        }
        Told::Truncated(oldest) => {
            let truly = may_be_gone && (was.1..=is.1).contains(oldest);
            (!truly).then(|| format!("told that {oldest} is the oldest"))
        }
        Told::Refused(code, (said, first, head)) => {
            let rightly = may_be_gone || after > was.2;
            let truly = (was.0..=is.0).contains(said)
                && (was.1..=is.1).contains(first)
                && (was.2..=is.2).contains(head);
            if code != OUT_OF_RANGE {
                return Some(format!("refused with {code}"));
            }
            if !rightly {
                return Some("refused, and it is there".to_owned());
            }
            (!truly).then(|| format!("refused with {said}, {first}, {head}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::{bad, good};
    use super::*;

    /// A log that begins with 5 and ends with 9.
    const LOG: (u64, u64, u64) = (3, 5, 9);

    fn asked(epoch: u64, after: u64, is: (u64, u64, u64), told: Told) -> Vec<(&'static str, Fact)> {
        let fact = Fact::Asked {
            log: "s".to_owned(),
            epoch,
            after,
            was: LOG,
            is,
            told,
        };
        vec![("r", fact)]
    }

    fn refused(what: (u64, u64, u64)) -> Told {
        Told::Refused(OUT_OF_RANGE.to_owned(), what)
    }

    #[test]
    fn the_edges_of_a_log() {
        for after in [4, 5, 8, 9] {
            good(typed, asked(3, after, LOG, Told::GoesOn(after + 1)));
            good(typed, asked(0, after, LOG, Told::GoesOn(after + 1)));
        }
        good(typed, asked(3, 3, LOG, Told::Truncated(5)));
        good(typed, asked(3, 3, LOG, refused(LOG)));
        good(typed, asked(3, 10, LOG, refused(LOG)));
        good(typed, asked(2, 6, LOG, Told::Truncated(5)));
        good(typed, asked(2, 6, LOG, refused(LOG)));
        bad(
            typed,
            "it went on with 5",
            asked(3, 3, LOG, Told::GoesOn(5)),
        );
        bad(
            typed,
            "it went on with 4",
            asked(3, 3, LOG, Told::GoesOn(4)),
        );
        bad(
            typed,
            "it went on with 11",
            asked(3, 10, LOG, Told::GoesOn(11)),
        );
        bad(
            typed,
            "it went on with 7",
            asked(2, 6, LOG, Told::GoesOn(7)),
        );
        bad(
            typed,
            "5 is the oldest",
            asked(3, 4, LOG, Told::Truncated(5)),
        );
        bad(
            typed,
            "4 is the oldest",
            asked(3, 1, LOG, Told::Truncated(4)),
        );
        bad(typed, "it is there", asked(3, 9, LOG, refused(LOG)));
        bad(
            typed,
            "refused with 3, 5, 8",
            asked(3, 10, LOG, refused((3, 5, 8))),
        );
        let vague = Told::Refused("INTERNAL".to_owned(), LOG);
        bad(typed, "refused with INTERNAL", asked(3, 10, LOG, vague));
    }

    #[test]
    fn a_log_that_is_cut_meanwhile() {
        let is = (3, 7, 12);
        for told in [
            Told::GoesOn(6),
            Told::Truncated(5),
            Told::Truncated(7),
            refused((3, 6, 11)),
        ] {
            good(typed, asked(3, 5, is, told));
        }
        good(typed, asked(3, 6, is, Told::GoesOn(7)));
        bad(typed, "oldest", asked(3, 6, is, Told::Truncated(7)));
        good(typed, asked(3, 11, is, Told::GoesOn(12)));
        good(typed, asked(3, 11, is, refused((3, 5, 10))));
        bad(typed, "it went on", asked(3, 13, is, Told::GoesOn(14)));
    }
}
