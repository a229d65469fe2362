//! What must hold, whatever carries the frames: of a session's log, seen from what the harness wrote, and of
//! commands, seen from what the harness was given.

use baton::base::id::{CommandId, SessionId};
use baton::domain::command::CommandOutcome;
use baton::domain::link::Position;

use super::machine::Runner;
use crate::history::{Fact, History, hash};

/// Acknowledged means stored, and no crash takes it back.
pub fn acknowledged(session: SessionId, through: Position, stored: Position) {
    assert!(
        stored >= through,
        "{session}: {through:?} was acknowledged and {stored:?} is stored"
    );
}

/// A runner's harness was given every command at most once and in order, and every answer once.
pub fn given(name: &str, runner: &Runner) {
    let in_order = runner.pipe.is_sorted_by(|a, b| a < b);
    assert!(in_order, "{name}: twice or out of order: {:?}", runner.pipe);
    let mut answers = runner.answers.clone();
    answers.sort_unstable();
    answers.dedup();
    assert_eq!(
        answers.len(),
        runner.answers.len(),
        "{name}: answered twice"
    );
}

/// What is on record of a command is true. Without an outcome it was never given: a crash took it back
/// before anybody was told of it.
pub fn command<'a>(
    id: CommandId,
    outcome: Option<CommandOutcome>,
    runners: impl Iterator<Item = &'a Runner>,
) {
    let (times, doubted) = runners.fold((0, false), |(times, doubted), runner| {
        (
            times + runner.pipe.iter().filter(|done| **done == id).count(),
            doubted || runner.doubted.contains(&id),
        )
    });
    match outcome {
        None => assert_eq!(times, 0, "{id} was done and has no outcome"),
        Some(CommandOutcome::Applied) => assert_eq!(times, 1, "{id} is said to be applied"),
        Some(CommandOutcome::Rejected) => assert_eq!(times, 0, "{id} is said to be rejected"),
        Some(CommandOutcome::Indeterminate) => {
            assert!(doubted && times <= 1, "{id} is in doubt without a crash");
        }
        Some(CommandOutcome::Withdrawn) => panic!("nobody withdraws here"),
    }
}

/// Holds a log to the truth: everything in order, once; what is missing was damaged and is said.
/// `whole`: the log must have reached the end of the truth.
pub fn log(name: &str, log: &[String], truth: &[(String, bool)], whole: bool) {
    let mut at = 0;
    let mut said = false;
    for entry in log {
        if entry.starts_with("gap:") {
            said = true;
            continue;
        }
        while let Some((text, may_miss)) = truth.get(at) {
            at += 1;
            if text == entry {
                break;
            }
            assert!(
                *may_miss && said,
                "{name}: {text} is missing before {entry} (damaged: {may_miss}, said: {said})"
            );
        }
        assert!(
            at > 0 && truth.get(at - 1).is_some_and(|(text, _)| text == entry),
            "{name}: {entry} was stored twice, out of order, or never written"
        );
        said = false;
    }
    if whole {
        for (text, may_miss) in &truth[at..] {
            assert!(*may_miss && said, "{name}: {text} is missing at the end");
        }
    }
}

/// A reader's view: what it has seen stays true.
pub struct Reader {
    pub seen: Vec<String>,
    history: History,
}

impl Reader {
    /// Has seen nothing.
    pub fn new(history: History) -> Self {
        let seen = Vec::new();
        Reader { seen, history }
    }

    /// Reads on from where it is, at most `most` entries.
    pub fn read(&mut self, name: &str, log: &[String], most: usize) {
        assert!(
            self.seen.len() <= log.len() && log[..self.seen.len()] == self.seen[..],
            "{name}: a reader saw what a crash took back"
        );
        let from = self.seen.len();
        self.seen.extend(log[from..].iter().take(most).cloned());
        let tell = |fact| self.history.note("reader", fact);
        tell(Fact::Opened {
            log: name.to_owned(),
            after: from as u64,
        });
        for (seq, entry) in (from as u64 + 1..).zip(&self.seen[from..]) {
            tell(Fact::Saw {
                log: name.to_owned(),
                seq,
                hash: hash(entry),
            });
        }
    }
}

/// Notes a log as it is now.
pub fn note_log(history: &History, name: &str, log: &[String]) {
    let stored = Fact::Stored {
        log: name.to_owned(),
        epoch: 1,
        first: 1,
        hashes: log.iter().map(hash).collect(),
    };
    history.note("server", stored);
}

/// Notes at the end what a runner's harness wrote and what of it is in the log.
pub fn note_session(history: &History, name: &str, log: &[String], runner: &Runner) {
    note_log(history, name, log);
    for (item, may_miss) in &runner.truth {
        let wrote = Fact::Wrote {
            log: name.to_owned(),
            item: item.clone(),
            may_miss: *may_miss,
        };
        history.note("harness", wrote);
    }
    let holds = Fact::Holds {
        log: name.to_owned(),
        items: log.to_vec(),
        whole: true,
    };
    history.note("server", holds);
}

/// Notes at the end what became of a command.
pub fn note_command<'a>(
    history: &History,
    id: CommandId,
    outcome: Option<CommandOutcome>,
    runners: impl Iterator<Item = &'a Runner>,
) {
    let command = || id.to_string();
    for runner in runners {
        for _ in runner.pipe.iter().filter(|done| **done == id) {
            let command = command();
            history.note("harness", Fact::Effect { command });
        }
        if runner.doubted.contains(&id) {
            let command = command();
            history.note("runner", Fact::Doubted { command });
        }
    }
    let command = command();
    let fact = match outcome {
        Some(outcome) => Fact::Outcome {
            command,
            outcome: format!("{outcome:?}").to_lowercase(),
        },
        None => Fact::NoOutcome { command },
    };
    history.note("server", fact);
}

/// Notes that a command was given.
pub fn note_given(history: &History, id: CommandId) {
    let command = id.to_string();
    history.note("user", Fact::Given { command });
}

/// Notes what is acknowledged with a position and was not before.
pub fn note_acknowledged(history: &History, runner: &mut Runner, through: Position) {
    let log = runner.session.to_string();
    for item in runner.newly_stored(through) {
        let log = log.clone();
        history.note("daemon", Fact::Promised { log, item });
    }
}
