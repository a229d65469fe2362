//! The mark that an event carries: when it was due and the how-manieth it is.
//!
//! A reader looks for marks in the bytes that its transport brings, whatever is around them, and so checks order,
//! gaps and doubles of every event that is measured. A figure with one fault is void.

use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

/// How long a mark is: `@@`, 16 hex digits of time, `.`, 12 of number, `@@`.
const MARK_BYTES: usize = 33;
/// How many different words texts have, about.
const WORDS: u64 = 5_000;
/// Where a mark begins.
const EDGE: &[u8] = b"@@";

/// The machine's monotonic clock in nanoseconds; the same for all processes of one machine.
pub fn now_ns() -> u64 {
    // The clock is always there on the systems that Baton runs on; without it, all latencies read 0.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |at| {
        let seconds = u64::try_from(at.tv_sec()).unwrap_or(0);
        let rest = u64::try_from(at.tv_nsec()).unwrap_or(0);
        seconds * 1_000_000_000 + rest
    })
}

/// A text of `bytes` bytes that begins with the mark of event `number`, due at `due_ns`.
pub fn text(due_ns: u64, number: u64, bytes: usize) -> String {
    let mut text = format!("@@{due_ns:016x}.{number:012x}@@");
    // Words from a vocabulary of a few thousand, as a text has them: what indexes or compresses it is to have its work.
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut word = state % WORDS;
        text.push(' ');
        for _ in 0..(3 + state % 5) {
            text.push(char::from(b'a' + (word % 26) as u8));
            word = word / 3 + 7;
        }
    }
    text.truncate(bytes.max(MARK_BYTES));
    text
}

/// What a reader has seen.
#[derive(Debug)]
pub struct Scan {
    /// The number that comes next; `None` before the first.
    next: Option<u64>,
    /// Marks seen.
    pub seen: u64,
    /// Marks that were not the next one.
    pub faults: u64,
    /// Times from when an event was due to when it was read, in nanoseconds; `None` where nobody asks.
    pub latency: Option<Histogram<u64>>,
    /// The beginning of a mark whose end has not come.
    carry: Vec<u8>,
}

impl Scan {
    /// A reader that has seen nothing; `first` is the number that it must begin with, if that is known.
    pub fn new(first: Option<u64>, with_latency: bool) -> Self {
        Scan {
            next: first,
            seen: 0,
            faults: 0,
            latency: with_latency.then(histogram),
            carry: Vec::new(),
        }
    }

    /// Takes what has come; says how many marks were in it.
    pub fn feed(&mut self, bytes: &[u8]) -> u64 {
        let before = self.seen;
        if self.carry.is_empty() {
            self.look(bytes);
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(bytes);
            self.look(&joined);
        }
        self.seen - before
    }

    fn look(&mut self, bytes: &[u8]) {
        let now = if self.latency.is_some() { now_ns() } else { 0 };
        let mut at = 0;
        while let Some(found) = memchr::memmem::find(&bytes[at..], EDGE) {
            let begin = at + found;
            let Some(mark) = bytes.get(begin..begin + MARK_BYTES) else {
                self.carry = bytes[begin..].to_vec();
                return;
            };
            match parse(mark) {
                Some((due, number)) => {
                    self.see(due, number, now);
                    at = begin + MARK_BYTES;
                }
                None => at = begin + 1,
            }
        }
        if bytes.last() == Some(&b'@') && at < bytes.len() {
            self.carry = vec![b'@'];
        }
    }

    fn see(&mut self, due: u64, number: u64, now: u64) {
        if self.next.is_some_and(|next| next != number) {
            self.faults += 1;
        }
        self.next = Some(number + 1);
        self.seen += 1;
        if let Some(latency) = &mut self.latency {
            // What lies beyond the histogram's range counts as its end.
            latency.saturating_record(now.saturating_sub(due).max(1));
        }
    }
}

/// From a microsecond to a minute, three digits.
pub fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constants that the library allows"));
    histogram.auto(false);
    histogram
}

fn parse(mark: &[u8]) -> Option<(u64, u64)> {
    let is_one = mark[18] == b'.' && &mark[31..33] == EDGE;
    let hex = |range: std::ops::Range<usize>| {
        let text = std::str::from_utf8(&mark[range]).ok()?;
        u64::from_str_radix(text, 16).ok()
    };
    is_one.then_some(())?;
    Some((hex(2..18)?, hex(19..31)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_wherever_the_bytes_are_cut() {
        let stream: Vec<u8> = (0..50)
            .flat_map(|n| {
                let mut bytes = text(7, n, 60).into_bytes();
                bytes.extend_from_slice(b"\0@ @x@");
                bytes
            })
            .collect();
        for size in 1..70 {
            let mut scan = Scan::new(Some(0), true);
            let found: u64 = stream.chunks(size).map(|part| scan.feed(part)).sum();
            assert_eq!((found, scan.seen, scan.faults), (50, 50, 0), "in {size}s");
        }
    }

    #[test]
    fn a_gap_and_a_double_are_faults() {
        let mut scan = Scan::new(Some(0), false);
        for number in [0, 1, 3, 3, 4] {
            scan.feed(text(0, number, 40).as_bytes());
        }
        assert_eq!((scan.seen, scan.faults), (5, 2));
    }

    #[test]
    fn a_text_has_the_length_that_was_asked_for() {
        for bytes in [33, 34, 40, 41, 200] {
            assert_eq!(text(u64::MAX, 9, bytes).len(), bytes);
        }
    }
}
