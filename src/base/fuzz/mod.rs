//! Fuzz targets: code that meets bytes from outside, fed with bytes that nobody meant to send.
//!
//! A target has **seeds**, which are real inputs: the files of `tests/fuzz/<target>/` and what its test adds. Each is
//! fed as it is, so that an input that once did harm never does it again; then inputs are made of the seeds with
//! bolero, whose random numbers decide what is changed, so that a failure is made small and printed with the
//! number that makes it again (`BOLERO_RANDOM_SEED`).
//!
//! `BATON_FUZZ_RUNS` says how many are made: few by default, so that every test run has some; `scripts/fuzz` is
//! the long run. An input that takes too long ends the process with the input; memory that grows with the runs
//! fails the target.

mod mutate;
mod seeds;
mod watch;

use std::fmt;
use std::panic::AssertUnwindSafe;

use mutate::Mutator;
use watch::{Memory, Watch};

/// How many inputs are made where nothing else is said.
const USUAL_RUNS: usize = 1_000;
/// From so many runs on, memory has settled before the first fifth of them is over.
const RUNS_THAT_SETTLE: usize = 50_000;
/// How much more memory than after the first fifth of its runs a target may have at its end.
const MAX_GROWTH_KIB: u64 = 48 * 1024;
/// The longest input that is made.
const MAX_BYTES: usize = 64 * 1024;

/// What a target is fed with: one or more pieces (lines, frames, messages), in order.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Input(pub Vec<Vec<u8>>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            writeln!(f, "b\"{}\"", piece.escape_ascii())?;
        }
        Ok(())
    }
}

/// A fuzz target.
pub(crate) struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    pieces: usize,
    weight: usize,
}

impl Target {
    /// A target with the seeds of its directory.
    pub(crate) fn new(name: &'static str) -> Self {
        Target {
            name,
            seeds: Vec::new(),
            words: Vec::new(),
            pieces: 1,
            weight: 1,
        }
    }

    /// More seeds.
    pub(crate) fn seeds<T: Into<Vec<u8>>>(mut self, seeds: impl IntoIterator<Item = T>) -> Self {
        self.seeds.extend(seeds.into_iter().map(Into::into));
        self
    }

    /// Words that mean something to the code, to be put into inputs.
    pub(crate) fn words(mut self, words: &[&str]) -> Self {
        self.words
            .extend(words.iter().map(|word| word.as_bytes().to_vec()));
        self
    }

    /// How many pieces an input has at most; a seed is one piece.
    pub(crate) fn pieces(mut self, most: usize) -> Self {
        self.pieces = most;
        self
    }

    /// That one run costs as much as so many of another target; the usual number of runs is divided by it.
    pub(crate) fn weighs(mut self, times: usize) -> Self {
        self.weight = times;
        self
    }

    /// Feeds single pieces.
    pub(crate) fn run(self, mut test: impl FnMut(&[u8])) {
        assert_eq!(self.pieces, 1, "a target of several pieces: use run_all");
        self.run_all(|pieces| pieces.iter().for_each(|piece| test(piece)));
    }

    /// Feeds whole inputs.
    pub(crate) fn run_all(self, test: impl FnMut(&[Vec<u8>])) {
        let Target {
            name,
            mut seeds,
            words,
            pieces,
            weight,
        } = self;
        let mut test = test;
        let watch = Watch::new(name);
        for (file, input) in seeds::of(name, pieces > 1) {
            watch.of(&file, &input, || test(&input.0));
            seeds.extend(input.0);
        }
        for seed in &seeds {
            let input = Input(vec![seed.clone()]);
            watch.of("a seed", &input, || test(&input.0));
        }
        let runs = runs().unwrap_or((USUAL_RUNS / weight).max(20));
        let mut memory = Memory::new(runs);
        let mutator = Mutator::new(seeds, words, pieces);
        // A panic ends the whole run: nobody looks at what it left half done.
        let mut feed = AssertUnwindSafe(|input: &Input| {
            // Here, since bolero puts its own hook in before the first input.
            watch::count_panics();
            let before = watch::panics();
            watch.of("made", input, || test(&input.0));
            assert_eq!(watch::panics(), before, "something panicked beside");
            memory.count();
        });
        bolero::check!(name = name)
            .with_iterations(runs)
            .with_generator(mutator)
            .for_each(move |input: &Input| {
                let feed = &mut feed;
                (feed.0)(input);
            });
        let (early, late, most) = memory.kib();
        eprintln!(
            "fuzz {name}: {runs} runs, {early} KiB after a fifth, {late} KiB at the end, {most} KiB at most"
        );
        assert!(
            runs < RUNS_THAT_SETTLE || late <= early + MAX_GROWTH_KIB,
            "{name}: memory grows with the runs: {early} KiB after a fifth, {late} KiB at the end"
        );
    }
}

/// How many runs somebody asked for.
fn runs() -> Option<usize> {
    let text = std::env::var("BATON_FUZZ_RUNS").ok()?;
    Some(text.parse().expect("BATON_FUZZ_RUNS is a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_that_does_harm_is_found_and_fails() {
        let found = std::panic::catch_unwind(|| {
            Target::new("self_test")
                .seeds([&b"{\"type\":\"x\"}"[..]])
                .words(&["harmful"])
                .run(|piece| {
                    assert!(
                        !piece.windows(7).any(|part| part == b"harmful"),
                        "harm done"
                    );
                });
        });
        assert!(
            found.is_err(),
            "a word in one of a thousand inputs is found"
        );
    }
}
