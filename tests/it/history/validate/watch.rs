//! D5: what a reader of a log is promised, each part a validator of its own.

use std::collections::BTreeMap;

use super::super::{Fact, Line};

/// The lines of each reader of each log.
fn readers(lines: &[Line]) -> BTreeMap<(&str, &str), Vec<&Line>> {
    let mut readers: BTreeMap<(&str, &str), Vec<&Line>> = BTreeMap::new();
    for line in lines {
        if let Fact::Opened { log, .. }
        | Fact::Saw { log, .. }
        | Fact::Progress { log, .. }
        | Fact::Truncated { log, .. } = &line.fact
        {
            readers.entry((&line.who, log)).or_default().push(line);
        }
    }
    readers
}

/// Judges each reader by itself; `judge` says what is wrong with a line.
fn each(
    lines: &[Line],
    mut judge: impl FnMut(&mut Reader, &Line) -> Option<String>,
) -> Vec<String> {
    let mut broken = Vec::new();
    for ((who, log), lines) in readers(lines) {
        let mut reader = Reader::default();
        for line in lines {
            if let Some(wrong) = judge(&mut reader, line) {
                broken.push(format!("{who} of {log}, line {}: {wrong}", line.at));
            }
            reader.follow(line);
        }
    }
    broken
}

/// Where a reader is.
#[derive(Default)]
struct Reader {
    /// The last entry it has, or behind which it began.
    at: Option<u64>,
    /// Whether it has seen nothing since it opened its stream.
    is_fresh: bool,
    /// The oldest entry that is left, said since the last one it saw.
    oldest: Option<u64>,
    /// The last bookmark.
    mark: u64,
    /// Where it goes on when it comes back: behind what it saw, or what it was told is gone.
    place: Option<u64>,
}

impl Reader {
    fn follow(&mut self, line: &Line) {
        match &line.fact {
            Fact::Opened { after, .. } => {
                (self.at, self.is_fresh, self.oldest) = (Some(*after), true, None);
                self.place.get_or_insert(*after);
            }
            Fact::Saw { seq, .. } => {
                (self.at, self.place) = (Some(*seq), Some(*seq));
                (self.is_fresh, self.oldest) = (false, None);
            }
            Fact::Truncated { oldest, .. } => {
                self.oldest = Some(*oldest);
                self.place = self.place.max(Some(oldest - 1));
            }
            Fact::Progress { seq, .. } => self.mark = self.mark.max(*seq),
            _ => {}
        }
    }
}

/// Ordered: within a stream numbers grow.
pub fn ordered(lines: &[Line]) -> Vec<String> {
    each(lines, |reader, line| match (&line.fact, reader.at) {
        (Fact::Saw { seq, .. }, Some(at)) if !reader.is_fresh && *seq < at => {
            Some(format!("{seq} after {at}"))
        }
        _ => None,
    })
}

/// Unique: a reader sees an entry once, over all its streams, and a number is the same entry for everybody.
pub fn unique(lines: &[Line]) -> Vec<String> {
    let mut entries: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut seen: BTreeMap<(String, String), std::collections::BTreeSet<u64>> = BTreeMap::new();
    let mut broken = Vec::new();
    for line in lines {
        let Fact::Saw { log, seq, hash } = &line.fact else {
            continue;
        };
        let (who, at) = (&line.who, line.at);
        if !seen
            .entry((who.clone(), log.clone()))
            .or_default()
            .insert(*seq)
        {
            broken.push(format!("{who} of {log}, line {at}: {seq} again"));
        }
        let entry = entries.entry((log.clone(), *seq)).or_insert(*hash);
        if entry != hash {
            broken.push(format!(
                "{who} of {log}, line {at}: {seq} is another entry than before"
            ));
        }
    }
    broken
}

/// Reliable: within a stream nothing is left out, unless it is said to be gone.
pub fn reliable(lines: &[Line]) -> Vec<String> {
    each(lines, |reader, line| {
        let (Fact::Saw { seq, .. }, Some(at), false) = (&line.fact, reader.at, reader.is_fresh)
        else {
            return None;
        };
        let next = reader.oldest.unwrap_or(at + 1);
        (*seq > next).then(|| format!("{seq} after {at}, and {next} is what comes next"))
    })
}

/// Resumable: whoever comes back goes on where they were, and gets what follows or the word that it is gone.
pub fn resumable(lines: &[Line]) -> Vec<String> {
    each(lines, |reader, line| match (&line.fact, reader.at) {
        (Fact::Opened { after, .. }, Some(_)) => {
            let was = reader.place?;
            (*after != was).then(|| format!("it was at {was} and came back behind {after}"))
        }
        (Fact::Saw { seq, .. }, Some(after)) if reader.is_fresh => {
            let next = reader.oldest.unwrap_or(after + 1);
            (*seq != next).then(|| format!("it asked for what follows {after} and got {seq}"))
        }
        (Fact::Saw { .. }, None) => Some("it saw something and opened nothing".to_owned()),
        _ => None,
    })
}

/// Atomic: what was committed together is there or seen together: neither a log nor a read ends in its middle.
pub fn atomic(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    // Of each log the commits that were tried last, by their first number.
    let mut sent: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    for line in lines {
        let (log, end, what) = match &line.fact {
            Fact::Sent { log, first, last } => {
                let sent = sent.entry(log).or_default();
                // Tried again after a crash: what was tried there before never was.
                sent.split_off(first);
                sent.insert(*first, *last);
                continue;
            }
            Fact::Stored {
                log, first, hashes, ..
            } => (log, first + hashes.len() as u64 - 1, "the log"),
            Fact::ReadTo { log, seq } => (log, *seq, "a read"),
            _ => continue,
        };
        let Some(sent) = sent.get(log.as_str()) else {
            continue;
        };
        let commit = sent.range(..=end).next_back();
        if let Some((first, last)) = commit.filter(|(_, last)| **last > end) {
            let at = line.at;
            broken.push(format!(
                "{log}, line {at}: {what} ends with {end}, in the middle of {first} to {last}"
            ));
        }
    }
    broken
}

/// Bookmarkable: where a reader is said to be, it is; nothing up to there comes later.
pub fn bookmarkable(lines: &[Line]) -> Vec<String> {
    each(lines, |reader, line| match &line.fact {
        Fact::Progress { seq, .. } => {
            let at = reader.at.unwrap_or(0);
            (*seq > at).then(|| format!("said to be at {seq}, and is at {at}"))
        }
        Fact::Saw { seq, .. } => {
            let mark = reader.mark;
            (*seq <= mark).then(|| format!("{seq} comes after the bookmark {mark}"))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::example::{bad, good, opened, saw, stored};
    use super::*;

    fn progress(seq: u64) -> Fact {
        let log = "s".to_owned();
        Fact::Progress { log, seq }
    }

    fn truncated(oldest: u64) -> Fact {
        let log = "s".to_owned();
        Fact::Truncated { log, oldest }
    }

    fn sent(first: u64, last: u64) -> Fact {
        let log = "s".to_owned();
        Fact::Sent { log, first, last }
    }

    fn read_to(seq: u64) -> Fact {
        let log = "s".to_owned();
        Fact::ReadTo { log, seq }
    }

    /// A reader that comes back once and misses what is gone.
    fn whole() -> Vec<(&'static str, Fact)> {
        vec![
            ("r", opened(0)),
            ("r", saw(1, 11)),
            ("other", opened(1)),
            ("r", saw(2, 12)),
            ("r", progress(2)),
            ("other", saw(2, 12)),
            ("r", opened(2)),
            ("r", progress(2)),
            ("r", truncated(5)),
            ("r", saw(5, 15)),
            ("r", saw(6, 16)),
        ]
    }

    #[test]
    fn a_reader_that_misses_nothing_breaks_nothing() {
        for judge in [ordered, unique, reliable, resumable, atomic, bookmarkable] {
            good(judge, whole());
        }
    }

    #[test]
    fn numbers_grow() {
        let back = vec![("r", opened(4)), ("r", saw(5, 15)), ("r", saw(3, 13))];
        bad(ordered, "3 after 5", back);
    }

    #[test]
    fn nothing_is_seen_twice_or_as_two_things() {
        let again = vec![
            ("r", opened(0)),
            ("r", saw(1, 11)),
            ("r", opened(0)),
            ("r", saw(1, 11)),
        ];
        bad(unique, "1 again", again);
        let two = vec![
            ("r", opened(0)),
            ("r", saw(1, 11)),
            ("q", opened(0)),
            ("q", saw(1, 99)),
        ];
        bad(unique, "1 is another entry", two);
    }

    #[test]
    fn nothing_is_left_out() {
        let hole = vec![("r", opened(0)), ("r", saw(1, 11)), ("r", saw(3, 13))];
        bad(reliable, "3 after 1", hole);
        let more = vec![
            ("r", opened(0)),
            ("r", saw(1, 11)),
            ("r", truncated(3)),
            ("r", saw(4, 14)),
        ];
        bad(reliable, "3 is what comes next", more);
    }

    #[test]
    fn who_comes_back_goes_on() {
        let elsewhere = vec![("r", opened(0)), ("r", saw(1, 11)), ("r", opened(2))];
        bad(resumable, "it was at 1 and came back behind 2", elsewhere);
        let jumped = vec![("r", opened(1)), ("r", saw(3, 13))];
        bad(resumable, "asked for what follows 1 and got 3", jumped);
        bad(resumable, "opened nothing", vec![("r", saw(3, 13))]);
    }

    #[test]
    fn what_belongs_together_is_there_together() {
        let retried = vec![
            ("w", sent(1, 2)),
            ("w", sent(3, 5)),
            ("test", stored(1, &[11, 12])),
            ("w", sent(3, 4)),
            ("test", stored(1, &[11, 12, 13, 14])),
            ("r", read_to(4)),
        ];
        good(atomic, retried);
        let torn = vec![("w", sent(1, 3)), ("test", stored(1, &[11, 12]))];
        bad(atomic, "the log ends with 2, in the middle of 1 to 3", torn);
        let half = vec![("w", sent(1, 1)), ("w", sent(2, 3)), ("r", read_to(2))];
        bad(atomic, "a read ends with 2", half);
    }

    #[test]
    fn a_bookmark_is_where_the_reader_is() {
        let ahead = vec![("r", opened(0)), ("r", saw(1, 11)), ("r", progress(2))];
        bad(bookmarkable, "said to be at 2, and is at 1", ahead);
        let late = vec![("r", opened(3)), ("r", progress(3)), ("r", saw(2, 12))];
        bad(bookmarkable, "2 comes after the bookmark 3", late);
    }
}
