//! What happened in a run, as everybody in it tells it: one line of JSON for each fact, in the order of being told.
//!
//! Whoever takes part writes facts: what a program wrote, what was acknowledged, what a reader saw, what was
//! killed. Whether the promises were kept is not decided here, but by the validators (`validate/`), which read a
//! history and nothing else; so the same rules hold for simulations, for processes that are killed, and for stores.
//!
//! A history is kept in a file while its test runs. It is removed when the test is over, and kept, with its path
//! printed, when the test fails. `BATON_HISTORIES` says in which directory.

mod fact;
pub mod validate;

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

pub use self::fact::{Fact, Line, Told};

/// Writes a history. Clones write the same one.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    name: String,
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    lines: Vec<Line>,
    /// Where it goes while the test runs; a simulation's goes nowhere until it fails.
    file: Option<(PathBuf, BufWriter<std::fs::File>)>,
}

/// Where histories of failed tests are.
fn directory() -> PathBuf {
    std::env::var_os("BATON_HISTORIES").map_or_else(
        || std::env::temp_dir().join("baton-histories"),
        PathBuf::from,
    )
}

fn path(name: &str) -> PathBuf {
    directory().join(format!("{name}-{}.jsonl", std::process::id()))
}

impl History {
    /// A history that is on the disk line by line, so that it is there even if the test is killed.
    pub fn on_disk(name: &str) -> Self {
        let path = path(name);
        std::fs::create_dir_all(directory()).unwrap();
        let file = std::fs::File::create(&path).unwrap();
        Self::new(name, Some((path, BufWriter::new(file))))
    }

    /// A history in memory: one of thousands, which is written down if its run fails.
    pub fn in_memory(name: &str) -> Self {
        Self::new(name, None)
    }

    fn new(name: &str, file: Option<(PathBuf, BufWriter<std::fs::File>)>) -> Self {
        let lines = Vec::new();
        History(Arc::new(Inner {
            name: name.to_owned(),
            begun: Instant::now(),
            state: Mutex::new(State { lines, file }),
        }))
    }

    /// Notes a fact that `who` tells.
    pub fn note(&self, who: impl Into<String>, fact: Fact) {
        let mut state = self.0.state.lock();
        let line = Line {
            at: state.lines.len() as u64 + 1,
            ms: u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            who: who.into(),
            fact,
        };
        if let Some((_, file)) = &mut state.file {
            serde_json::to_writer(&mut *file, &line).unwrap();
            file.write_all(b"\n").unwrap();
            // What is told is on its way to the disk when it has been told, whatever happens to this process.
            file.flush().unwrap();
        }
        state.lines.push(line);
    }

    /// All that was noted so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.state.lock().lines.clone()
    }

    /// How often something was killed so far.
    pub fn kills(&self) -> usize {
        let state = self.0.state.lock();
        let killed = |line: &&Line| matches!(line.fact, Fact::Killed { .. });
        state.lines.iter().filter(killed).count()
    }

    /// Holds the history to every promise. Prints how much there was to hold.
    pub fn validate(&self) {
        let state = self.0.state.lock();
        let broken = validate::all(&state.lines);
        let facts = state.lines.len();
        drop(state);
        assert!(
            broken.is_empty(),
            "{}: {} violations in {facts} facts:\n{}",
            self.0.name,
            broken.len(),
            broken[..broken.len().min(20)].join("\n")
        );
    }

    /// The same, and prints what was counted: what `scripts/soak` adds up.
    pub fn validate_and_tell(&self) {
        self.validate();
        let facts = self.0.state.lock().lines.len();
        println!(
            "history {}: {} kills, {facts} facts, no violation",
            self.0.name,
            self.kills()
        );
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let State { lines, file } = &mut *self.state.lock();
        match (file.take(), std::thread::panicking()) {
            (Some((path, _)), false) => drop(std::fs::remove_file(path)),
            (Some((path, file)), true) => {
                drop(file);
                eprintln!("the history is kept: {}", path.display());
            }
            (None, false) => {}
            (None, true) => {
                let path = path(&self.name);
                let text: Vec<String> = lines
                    .iter()
                    .filter_map(|line| serde_json::to_string(line).ok())
                    .collect();
                let written = std::fs::create_dir_all(directory())
                    .and_then(|()| std::fs::write(&path, text.join("\n") + "\n"));
                match written {
                    Ok(()) => eprintln!("the history is kept: {}", path.display()),
                    Err(error) => eprintln!("the history cannot be kept: {error}"),
                }
            }
        }
    }
}

/// What stands for an entry of a log: the same for the same entry in every process of this build.
pub fn hash(entry: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn a_line_is_read_back_as_it_was_written() {
    let line = Line {
        at: 1,
        ms: 2,
        who: "reader 1".to_owned(),
        fact: Fact::Saw {
            log: "s".to_owned(),
            seq: 7,
            hash: u64::MAX,
        },
    };
    let text = serde_json::to_string(&line).unwrap();
    assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
}

#[test]
fn a_history_is_kept_if_and_only_if_its_test_fails() {
    let good = History::on_disk("kept-good");
    good.note("me", Fact::killed("server"));
    assert_eq!(good.kills(), 1);
    let file = path("kept-good");
    assert!(std::fs::read_to_string(&file).unwrap().contains("server"));
    drop(good);
    assert!(!file.exists());
    for on_disk in [true, false] {
        let name = if on_disk { "kept-bad" } else { "kept-late" };
        let failed = std::thread::spawn(move || {
            let bad = match on_disk {
                true => History::on_disk(name),
                false => History::in_memory(name),
            };
            bad.note("me", Fact::killed("daemon"));
            panic!("as it should");
        });
        assert!(failed.join().is_err());
        let text = std::fs::read_to_string(path(name)).unwrap();
        assert!(text.contains("\"daemon\""), "{text}");
        std::fs::remove_file(path(name)).unwrap();
    }
}
