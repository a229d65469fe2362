//! L1: a slow reader gets everything or is told to go, and costs a bounded amount. L2: a log that stands still does not
//! hold up the others. L5: too much is refused with a word when to come again, and what was accepted is done. L6: all
//! machines are back after a restart of the server.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Fact, Line};

/// Codes that tell a reader nothing.
const VAGUE: [&str; 4] = ["INTERNAL", "INTERNAL_ERROR", "UNKNOWN", ""];
/// Codes of too much.
const TOO_MUCH: [&str; 3] = ["RESOURCE_EXHAUSTED", "RATE_LIMITED", "AT_CAPACITY"];

/// L1: of a log whose readers say how it ended for them, every reader has all of it or was cut with a code, and what
/// was measured is within its bound.
pub fn slow_readers(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut heads: BTreeMap<&str, u64> = BTreeMap::new();
    let mut open: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    let mut at: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut judged: BTreeSet<&str> = BTreeSet::new();
    let mut ends: Vec<(&Line, &str, u64)> = Vec::new();
    for line in lines {
        let who = line.who.as_str();
        match &line.fact {
            Fact::Stored {
                log, first, hashes, ..
            } => drop(heads.insert(log, first + hashes.len() as u64 - 1)),
            Fact::Opened { log, .. } => drop(open.insert((who, log), true)),
            Fact::Saw { log, seq, .. } => drop(at.insert((who, log), *seq)),
            Fact::CaughtUp { log, seq } => {
                judged.insert(log);
                open.insert((who, log), false);
                ends.push((line, log, *seq));
                let at = at.get(&(who, log.as_str())).copied().unwrap_or(0);
                if at != *seq {
                    broken.push(format!("{who} of {log} says to have {seq} and saw {at}"));
                }
            }
            Fact::Cut { log, code } => {
                judged.insert(log);
                open.insert((who, log), false);
                if VAGUE.contains(&code.as_str()) {
                    broken.push(format!("{who} of {log} was cut with {code:?}"));
                }
            }
            Fact::Measured { what, value, bound } if value > bound => {
                broken.push(format!("{what}: {value}, and at most {bound} is allowed"));
            }
            _ => {}
        }
    }
    for (line, log, seq) in ends {
        if let Some(head) = heads.get(log).filter(|head| **head < seq) {
            let who = &line.who;
            broken.push(format!(
                "{who} of {log} has {seq}, and the log ends with {head}"
            ));
        }
    }
    for ((who, log), is_open) in open {
        if is_open && judged.contains(log) {
            broken.push(format!(
                "{who} of {log} has not all of it, and nobody told them why"
            ));
        }
    }
    broken
}

/// L2: while a log stands still another one moves, and the log itself is not acknowledged.
pub fn siblings(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut stalled: BTreeMap<&str, bool> = BTreeMap::new();
    for line in lines {
        match &line.fact {
            Fact::Stalled { log } => drop(stalled.insert(log, false)),
            Fact::Unstalled { log } if stalled.remove(log.as_str()) == Some(false) => {
                broken.push(format!("nothing moved while {log} stood still"));
            }
            Fact::Acked { log, .. } => {
                if stalled.contains_key(log.as_str()) {
                    let at = line.at;
                    broken.push(format!(
                        "{log} is acknowledged in line {at} and stands still"
                    ));
                }
                for moved in stalled.values_mut() {
                    *moved = true;
                }
            }
            _ => {}
        }
    }
    broken
}

/// L5.
pub fn overload(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut accepted: BTreeSet<&str> = BTreeSet::new();
    for line in lines {
        match &line.fact {
            Fact::Request { id, told, retry_ms } => match (told.as_str(), retry_ms) {
                ("ok", _) => drop(accepted.insert(id)),
                (code, Some(_)) if TOO_MUCH.contains(&code) => {}
                (code, None) if TOO_MUCH.contains(&code) => {
                    broken.push(format!("{id} is not told when to come again"));
                }
                (code, _) => broken.push(format!("{id} was refused with {code}")),
            },
            Fact::Done { id } => drop(accepted.remove(id.as_str())),
            _ => {}
        }
    }
    broken.extend(
        accepted
            .iter()
            .map(|id| format!("{id} was accepted and is not done")),
    );
    broken
}

/// L6.
pub fn storm(lines: &[Line]) -> Vec<String> {
    let mut linked: BTreeMap<&str, bool> = BTreeMap::new();
    let mut is_up = true;
    for line in lines {
        match &line.fact {
            Fact::Linked { machine } => drop(linked.insert(machine, true)),
            Fact::Killed { process, .. } if process == "server" => {
                is_up = false;
                linked.values_mut().for_each(|linked| *linked = false);
            }
            Fact::Started { process } if process == "server" => is_up = true,
            Fact::Killed { process, .. } => drop(linked.remove(process.as_str())),
            _ => {}
        }
    }
    let away = linked.iter().filter(|(_, linked)| is_up && !**linked);
    away.map(|(machine, _)| format!("{machine} did not come back after the server's restart"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{acked, bad, good, opened, saw, stored};
    use super::*;

    fn caught_up(seq: u64) -> Fact {
        let log = "s".to_owned();
        Fact::CaughtUp { log, seq }
    }

    fn cut(code: &str) -> Fact {
        let (log, code) = ("s".to_owned(), code.to_owned());
        Fact::Cut { log, code }
    }

    #[test]
    fn slow_readers_have_all_or_know_why_not() {
        let kept = vec![
            ("a", opened(0)),
            ("b", opened(0)),
            ("a", saw(1, 11)),
            ("a", caught_up(1)),
            ("b", cut("SLOW_CONSUMER")),
            ("test", stored(1, &[11])),
        ];
        good(slow_readers, kept);
        let forgotten = vec![("a", opened(0)), ("b", opened(0)), ("b", cut("X"))];
        bad(slow_readers, "a of s has not all of it", forgotten);
        bad(
            slow_readers,
            "cut with \"UNKNOWN\"",
            vec![("b", cut("UNKNOWN"))],
        );
        bad(
            slow_readers,
            "says to have 2 and saw 0",
            vec![("a", caught_up(2))],
        );
        let beyond = vec![
            ("a", opened(0)),
            ("a", saw(2, 12)),
            ("a", caught_up(2)),
            ("test", stored(1, &[11])),
        ];
        bad(slow_readers, "the log ends with 1", beyond);
        let much = Fact::Measured {
            what: "bytes".to_owned(),
            value: 3,
            bound: 2,
        };
        bad(slow_readers, "at most 2", vec![("test", much)]);
    }

    #[test]
    fn a_log_that_stands_still_stands_alone() {
        let log = || "t".to_owned();
        let stall = || ("test", Fact::Stalled { log: log() });
        let goes = || ("test", Fact::Unstalled { log: log() });
        let own = || {
            let fact = Fact::Acked {
                log: log(),
                first: 1,
                hashes: vec![1],
            };
            ("w", fact)
        };
        good(
            siblings,
            vec![stall(), ("w", acked(1, &[11])), goes(), own()],
        );
        bad(
            siblings,
            "nothing moved",
            vec![stall(), goes(), ("w", acked(1, &[11]))],
        );
        bad(siblings, "stands still", vec![stall(), own(), goes()]);
    }

    #[test]
    fn too_much_is_refused_and_what_is_accepted_is_done() {
        let request = |id: &str, told: &str, retry_ms| {
            let (id, told) = (id.to_owned(), told.to_owned());
            ("u", Fact::Request { id, told, retry_ms })
        };
        let done = || ("test", Fact::Done { id: "a".to_owned() });
        let refused = || request("b", "RATE_LIMITED", Some(20));
        good(overload, vec![request("a", "ok", None), refused(), done()]);
        bad(overload, "a was accepted", vec![request("a", "ok", None)]);
        bad(
            overload,
            "when to come again",
            vec![request("b", "RATE_LIMITED", None)],
        );
        bad(
            overload,
            "refused with UNKNOWN",
            vec![request("b", "UNKNOWN", None)],
        );
    }

    #[test]
    fn all_machines_come_back() {
        let linked = |machine: &str| {
            let machine = machine.to_owned();
            ("test", Fact::Linked { machine })
        };
        let killed = |process: &str| ("test", Fact::killed(process));
        let started = || ("test", Fact::started("server"));
        good(
            storm,
            vec![linked("a"), killed("server"), started(), linked("a")],
        );
        good(
            storm,
            vec![linked("a"), killed("server"), started(), killed("a")],
        );
        bad(
            storm,
            "a did not come back",
            vec![
                linked("a"),
                linked("b"),
                killed("server"),
                started(),
                linked("b"),
            ],
        );
    }
}
