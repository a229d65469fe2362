//! C1: sessions of a machine that is away for too long are told to be lost, and no others. C2: a program outlives its
//! daemon, and is never started a second time. C3: after a restart of the server every reader goes on. C5: a session
//! that was stopped leaves no process.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Fact, Line};

/// The reason of a session that is lost.
const LOST: &str = "lost";

/// C1. A machine that is back in time keeps its sessions.
pub fn lost(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    // The sessions of machines that are away, and those that may have been lost.
    let mut away: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut may: BTreeSet<&str> = BTreeSet::new();
    for line in lines {
        match &line.fact {
            Fact::Vanished { machine, logs } => {
                let logs: BTreeSet<&str> = logs.iter().map(String::as_str).collect();
                may.extend(&logs);
                away.insert(machine, logs);
            }
            Fact::Returned { machine } => drop(away.remove(machine.as_str())),
            Fact::Ended { log, reason } => {
                if reason == LOST && !may.contains(log.as_str()) {
                    let at = line.at;
                    broken.push(format!(
                        "{log} is lost in line {at}, and its machine was there"
                    ));
                }
                for logs in away.values_mut() {
                    logs.remove(log.as_str());
                }
            }
            _ => {}
        }
    }
    for (machine, logs) in away {
        for log in logs {
            broken.push(format!("{machine} never came back, and {log} did not end"));
        }
    }
    broken
}

/// C2.
pub fn adopted(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut runs: BTreeMap<&str, i32> = BTreeMap::new();
    for line in lines {
        if let Fact::Runs { session, pid } = &line.fact {
            let first = *runs.entry(session).or_insert(*pid);
            if first != *pid {
                let at = line.at;
                broken.push(format!(
                    "{session} ran as {first} and runs as {pid} in line {at}"
                ));
            }
        }
    }
    broken
}

/// C3: whoever read while the server was killed opens a stream again, unless they had all or were told to go.
pub fn resumed(lines: &[Line]) -> Vec<String> {
    let mut reading: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut waiting: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut is_up = true;
    for line in lines {
        match &line.fact {
            Fact::Killed { process, .. } if process == "server" => {
                is_up = false;
                for (reader, at) in std::mem::take(&mut reading) {
                    waiting.entry(reader).or_insert(at);
                }
            }
            Fact::Started { process } if process == "server" => is_up = true,
            Fact::Opened { log, .. } => {
                waiting.remove(&(line.who.as_str(), log.as_str()));
                reading.insert((&line.who, log), line.at);
            }
            Fact::CaughtUp { log, .. } | Fact::Cut { log, .. } => {
                waiting.remove(&(line.who.as_str(), log.as_str()));
                reading.remove(&(line.who.as_str(), log.as_str()));
            }
            _ => {}
        }
    }
    let lost = waiting.iter().filter(|_| is_up);
    lost.map(|((who, log), at)| {
        format!("{who} of {log}, who reads since line {at}, did not come back")
    })
    .collect()
}

/// C5.
pub fn nothing_left(lines: &[Line]) -> Vec<String> {
    let left = lines.iter().filter_map(|line| match &line.fact {
        Fact::Left { session, pids } if !pids.is_empty() => {
            Some(format!("{session}, line {}: it left {pids:?}", line.at))
        }
        _ => None,
    });
    left.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{bad, good, opened, saw};
    use super::*;

    fn vanished() -> (&'static str, Fact) {
        let fact = Fact::Vanished {
            machine: "m".to_owned(),
            logs: vec!["s".to_owned()],
        };
        ("test", fact)
    }

    fn returned() -> (&'static str, Fact) {
        let machine = "m".to_owned();
        ("test", Fact::Returned { machine })
    }

    fn ended(reason: &str) -> (&'static str, Fact) {
        let (log, reason) = ("s".to_owned(), reason.to_owned());
        ("r", Fact::Ended { log, reason })
    }

    #[test]
    fn sessions_are_lost_with_their_machine_only() {
        good(lost, vec![vanished(), ended("lost")]);
        good(lost, vec![vanished(), returned()]);
        good(
            lost,
            vec![vanished(), ended("lost"), returned(), ended("completed")],
        );
        bad(lost, "s did not end", vec![vanished()]);
        bad(lost, "its machine was there", vec![ended("lost")]);
    }

    #[test]
    fn a_program_is_started_once() {
        let runs = |pid| {
            let session = "s".to_owned();
            ("test", Fact::Runs { session, pid })
        };
        let killed = || ("test", Fact::killed("daemon"));
        good(adopted, vec![runs(7), killed(), runs(7)]);
        bad(
            adopted,
            "ran as 7 and runs as 8",
            vec![runs(7), killed(), runs(8)],
        );
    }

    #[test]
    fn readers_come_back_after_a_restart() {
        let killed = || ("test", Fact::killed("server"));
        let started = || ("test", Fact::started("server"));
        let over = || {
            let log = "s".to_owned();
            ("r", Fact::CaughtUp { log, seq: 1 })
        };
        let begins = || vec![("r", opened(0)), ("r", saw(1, 11))];
        let with = |rest: Vec<_>| [begins(), rest].concat();
        good(resumed, with(vec![killed(), started(), ("r", opened(1))]));
        good(
            resumed,
            with(vec![killed(), killed(), started(), ("r", opened(1))]),
        );
        good(resumed, with(vec![over(), killed(), started()]));
        good(resumed, with(vec![killed()]));
        bad(
            resumed,
            "did not come back",
            with(vec![killed(), started()]),
        );
    }

    #[test]
    fn who_was_stopped_leaves_nobody() {
        let left = |pids: &[i32]| {
            let (session, pids) = ("s".to_owned(), pids.to_vec());
            ("test", Fact::Left { session, pids })
        };
        good(nothing_left, vec![left(&[])]);
        bad(nothing_left, "it left [7]", vec![left(&[7])]);
    }
}
