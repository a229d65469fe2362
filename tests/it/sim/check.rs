//! What must hold of a session's log, seen from what the harness wrote.

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
}

impl Reader {
    /// Reads on from where it is, at most `most` entries.
    pub fn read(&mut self, name: &str, log: &[String], most: usize) {
        assert!(
            self.seen.len() <= log.len() && log[..self.seen.len()] == self.seen[..],
            "{name}: a reader saw what a crash took back"
        );
        let from = self.seen.len();
        self.seen.extend(log[from..].iter().take(most).cloned());
    }
}
