//! D1: what was acknowledged is there after any restart. D3: what was seen is never taken back. D7: numbers are
//! dense, begin with 1 and are used once.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Fact, Line};

/// Entries that must be there: by log and number.
#[derive(Default)]
struct Owed<'a> {
    entries: BTreeMap<&'a str, BTreeMap<u64, u64>>,
    /// What is before these numbers may be gone.
    let_go: BTreeMap<&'a str, u64>,
}

impl<'a> Owed<'a> {
    fn owe(&mut self, log: &'a str, seq: u64, hash: u64) {
        self.entries.entry(log).or_default().insert(seq, hash);
    }

    fn let_go(&mut self, log: &'a str, first: u64) {
        let let_go = self.let_go.entry(log).or_insert(first);
        *let_go = first.max(*let_go);
    }

    /// Holds a log as it was read to what is owed.
    fn settle(&mut self, line: &Line, what: &str, broken: &mut Vec<String>) {
        let Fact::Stored {
            log, first, hashes, ..
        } = &line.fact
        else {
            return;
        };
        let Some(entries) = self.entries.get_mut(log.as_str()) else {
            return;
        };
        let let_go = self.let_go.get(log.as_str()).copied().unwrap_or(1);
        let at = line.at;
        for (seq, hash) in entries.iter() {
            let found = seq.checked_sub(*first);
            let found = found.map(|index| hashes.get(usize::try_from(index).unwrap_or(usize::MAX)));
            match found {
                None if *seq < let_go => {}
                None => broken.push(format!(
                    "{log} {seq} was {what} and nobody let go of it, and line {at} begins with {first}"
                )),
                Some(None) => broken.push(format!("{log} {seq} was {what} and line {at} lacks it")),
                Some(Some(found)) if found != hash => {
                    broken.push(format!("{log} {seq} was {what} and line {at} has another"));
                }
                Some(Some(_)) => {}
            }
        }
        entries.retain(|seq, _| seq >= first);
    }
}

/// D1: every acknowledged entry is in its log whenever that is read later, and is what it was; every item that was
/// promised, too.
pub fn acknowledged(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut owed = Owed::default();
    let mut promised: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in lines {
        match &line.fact {
            Fact::Acked { log, first, hashes } => {
                for (seq, hash) in (*first..).zip(hashes) {
                    owed.owe(log, seq, *hash);
                }
            }
            Fact::Trimmed { log, first } => owed.let_go(log, *first),
            Fact::Stored { .. } => owed.settle(line, "acknowledged", &mut broken),
            Fact::Promised { log, item } => {
                promised.entry(log).or_default().insert(item);
            }
            Fact::Holds { log, items, .. } => {
                let items: BTreeSet<&str> = items.iter().map(String::as_str).collect();
                for item in promised.get(log.as_str()).into_iter().flatten() {
                    if !items.contains(item) {
                        let at = line.at;
                        broken.push(format!("{log}: {item} was promised and line {at} lacks it"));
                    }
                }
            }
            _ => {}
        }
    }
    broken
}

/// D3: every entry that somebody saw is in its log whenever that is read later, and is what it was.
pub fn visible(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut owed = Owed::default();
    for line in lines {
        match &line.fact {
            Fact::Saw { log, seq, hash } => owed.owe(log, *seq, *hash),
            Fact::Trimmed { log, first } => owed.let_go(log, *first),
            Fact::Stored { .. } => owed.settle(line, "seen", &mut broken),
            _ => {}
        }
    }
    broken
}

/// What D7 knows of a log.
#[derive(Default)]
struct Numbers {
    acked: BTreeMap<u64, u64>,
    let_go: u64,
    epoch: u64,
    first: u64,
    hashes: Vec<u64>,
}

/// D7: numbers begin with 1, have no hole, and what has a number for good keeps it. A log never gets shorter, nor does
/// its beginning go back.
pub fn dense(lines: &[Line]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut logs: BTreeMap<&str, Numbers> = BTreeMap::new();
    for line in lines {
        let at = line.at;
        match &line.fact {
            Fact::Trimmed { log, first } => {
                let numbers = logs.entry(log).or_default();
                numbers.let_go = numbers.let_go.max(*first);
            }
            Fact::Acked { log, first, hashes } => {
                let numbers = logs.entry(log).or_default();
                if *first == 0 {
                    broken.push(format!("{log}: line {at} acknowledges number 0"));
                }
                for (seq, hash) in (*first..).zip(hashes) {
                    if numbers
                        .acked
                        .insert(seq, *hash)
                        .is_some_and(|old| old != *hash)
                    {
                        broken.push(format!("{log}: number {seq} is used again in line {at}"));
                    }
                }
            }
            Fact::Stored {
                log,
                epoch,
                first,
                hashes,
            } => {
                let numbers = logs.entry(log).or_default();
                if *first == 0 || *first > numbers.let_go.max(1) {
                    let let_go = numbers.let_go.max(1);
                    broken.push(format!(
                        "{log}: line {at} begins with {first} and not with {let_go}"
                    ));
                    continue;
                }
                if numbers.epoch == *epoch {
                    let (was, is) = (
                        numbers.first + numbers.hashes.len() as u64,
                        first + hashes.len() as u64,
                    );
                    if is < was {
                        broken.push(format!(
                            "{log}: line {at} ends before {is}, earlier it was {was}"
                        ));
                    }
                    if *first < numbers.first {
                        broken.push(format!("{log}: line {at} begins with {first} again"));
                    } else {
                        let before = numbers.hashes.iter().skip((first - numbers.first) as usize);
                        let changed = before.zip(hashes).position(|(was, is)| was != is);
                        if let Some(changed) = changed {
                            let seq = first + changed as u64;
                            broken.push(format!(
                                "{log}: number {seq} has another entry in line {at}"
                            ));
                        }
                    }
                }
                (numbers.epoch, numbers.first) = (*epoch, *first);
                numbers.hashes.clone_from(hashes);
                numbers.acked.retain(|seq, _| seq >= first);
            }
            _ => {}
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::example::{acked, bad, good, saw, stored};
    use super::*;

    fn trimmed(first: u64) -> Fact {
        let log = "s".to_owned();
        Fact::Trimmed { log, first }
    }

    fn promised(item: &str) -> Fact {
        let (log, item) = ("s".to_owned(), item.to_owned());
        Fact::Promised { log, item }
    }

    fn holds(items: &[&str]) -> Fact {
        Fact::Holds {
            log: "s".to_owned(),
            items: items.iter().map(|item| (*item).to_owned()).collect(),
            whole: true,
        }
    }

    #[test]
    fn what_was_acknowledged_is_there() {
        let kept = vec![
            ("writer", acked(1, &[11, 12])),
            ("test", Fact::killed("server")),
            ("test", stored(1, &[11, 12, 13])),
            ("writer", acked(3, &[13])),
            ("writer", trimmed(3)),
            ("test", stored(2, &[12, 13])),
            ("test", stored(3, &[13, 14])),
            ("test", promised("a")),
            ("test", holds(&["b", "a"])),
        ];
        good(acknowledged, kept);
        let lost = vec![("writer", acked(1, &[11, 12])), ("test", stored(1, &[11]))];
        bad(
            acknowledged,
            "s 2 was acknowledged and line 2 lacks it",
            lost,
        );
        let other = vec![
            ("writer", acked(1, &[11, 12])),
            ("test", stored(1, &[11, 99])),
        ];
        bad(acknowledged, "has another", other);
        let gone = vec![
            ("writer", acked(1, &[11, 12, 13])),
            ("writer", trimmed(2)),
            ("test", stored(3, &[13])),
        ];
        bad(
            acknowledged,
            "s 2 was acknowledged and nobody let go of it",
            gone,
        );
        let forgotten = vec![("test", promised("a")), ("test", holds(&["b"]))];
        bad(acknowledged, "a was promised", forgotten);
    }

    #[test]
    fn what_was_seen_stays() {
        let kept = vec![("r", saw(2, 12)), ("test", stored(1, &[11, 12]))];
        good(visible, kept);
        let back = vec![("r", saw(2, 12)), ("test", stored(1, &[11]))];
        bad(visible, "s 2 was seen and line 2 lacks it", back);
        let other = vec![("r", saw(2, 12)), ("test", stored(1, &[11, 99]))];
        bad(visible, "has another", other);
        let gone = vec![("r", saw(2, 12)), ("test", stored(3, &[13]))];
        bad(visible, "nobody let go of it", gone);
    }

    #[test]
    fn numbers_are_dense_and_used_once() {
        let kept = vec![
            ("writer", acked(1, &[11])),
            ("test", stored(1, &[11, 12])),
            ("writer", acked(3, &[13])),
            ("writer", trimmed(2)),
            ("test", stored(2, &[12, 13])),
        ];
        good(dense, kept);
        bad(
            dense,
            "begins with 2 and not with 1",
            vec![("test", stored(2, &[12]))],
        );
        bad(dense, "number 0", vec![("writer", acked(0, &[10]))]);
        let again = vec![("writer", acked(1, &[11])), ("writer", acked(1, &[99]))];
        bad(dense, "number 1 is used again", again);
        let shorter = vec![("test", stored(1, &[11, 12])), ("test", stored(1, &[11]))];
        bad(dense, "ends before 2, earlier it was 3", shorter);
        let changed = vec![
            ("test", stored(1, &[11, 12])),
            ("test", stored(1, &[11, 99, 13])),
        ];
        bad(dense, "number 2 has another entry", changed);
        let back = vec![
            ("writer", trimmed(2)),
            ("test", stored(2, &[12])),
            ("test", stored(1, &[11, 12])),
        ];
        bad(dense, "begins with 1 again", back);
    }
}
