//! What a program's output does to the terminal it is shown in, as far as somebody who attaches and leaves must know.
//!
//! Two things: which modes it has switched on, so that they can be switched off when a viewer leaves; and which
//! sequences ask the terminal something. A question that was answered long ago must not be answered again when what
//! was shown is shown once more: the answer would be typed into the program.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The longest sequence that is understood, in bytes; a longer one passes as it is.
const MAX_SEQUENCE: usize = 4 * 1024;
/// Private modes that a viewer must not be left in: mouse, focus, paste, alternate screens.
const MODES: &[u16] = &[
    9, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 47, 1047, 1049,
];
/// The cursor: hidden is what must be undone.
const CURSOR: u16 = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// After ESC.
    Escape,
    /// `ESC [`
    Control,
    /// `ESC ]`, `ESC P` and their like: up to a terminator.
    Text,
}

/// Reads a program's output as it is shown.
#[derive(Debug, Default)]
pub struct Sequences {
    kind: Option<Kind>,
    held: Vec<u8>,
    on: BTreeSet<u16>,
    is_hidden: bool,
    keyboard: u32,
}

impl Sequences {
    /// The bytes to show. A sequence whose end has not come waits for it. With `replay`, questions to the terminal
    /// are left out.
    pub fn pass(&mut self, bytes: &[u8], replay: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.held.len());
        for &byte in bytes {
            let Some(kind) = self.kind else {
                match byte {
                    0x1b => {
                        self.kind = Some(Kind::Escape);
                        self.held.push(byte);
                    }
                    _ => out.push(byte),
                }
                continue;
            };
            self.held.push(byte);
            let ends = match (kind, byte) {
                (Kind::Escape, b'[') => self.goes_on(Kind::Control),
                (Kind::Escape, b']' | b'P' | b'_' | b'^' | b'X') => self.goes_on(Kind::Text),
                (Kind::Escape, _) => true,
                (Kind::Control, byte) => (0x40..=0x7e).contains(&byte),
                (Kind::Text, 0x07 | 0x18 | 0x1a) => true,
                (Kind::Text, _) => self.held.ends_with(b"\x1b\\"),
            };
            if ends {
                let asks = self.note(kind);
                if replay && asks {
                    self.held.clear();
                }
            }
            if ends || self.held.len() > MAX_SEQUENCE {
                out.append(&mut self.held);
                self.kind = None;
            }
        }
        out
    }

    /// What switches off whatever is switched on.
    pub fn undo(&mut self) -> String {
        let mut text = String::from("\x1b[0m");
        for mode in MODES.iter().filter(|mode| self.on.contains(mode)) {
            let _ = write!(text, "\x1b[?{mode}l");
        }
        if self.is_hidden {
            text.push_str("\x1b[?25h");
        }
        for _ in 0..self.keyboard.min(8) {
            text.push_str("\x1b[<u");
        }
        *self = Sequences::default();
        text
    }

    fn goes_on(&mut self, kind: Kind) -> bool {
        self.kind = Some(kind);
        false
    }

    /// Notes what a whole sequence does; says whether it asks the terminal something.
    fn note(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Escape => {
                if self.held == b"\x1bc" {
                    // A full reset.
                    self.on.clear();
                    (self.is_hidden, self.keyboard) = (false, 0);
                }
                self.held == b"\x1bZ"
            }
            Kind::Control => self.note_control(),
            Kind::Text => {
                let text = &self.held[2..];
                let is_question = |text: &[u8]| text.contains(&b'?');
                match self.held[1] {
                    b']' => is_question(text),
                    b'P' => text.starts_with(b"+q") || text.starts_with(b"$q"),
                    // Pictures and the like, which answer too.
                    b'_' => text.starts_with(b"G"),
                    _ => false,
                }
            }
        }
    }

    fn note_control(&mut self) -> bool {
        let Some((last, parameters)) = self.held[2..].split_last() else {
            return false;
        };
        if let Some(modes) = parameters.strip_prefix(b"?")
            && matches!(last, b'h' | b'l')
        {
            let is_on = *last == b'h';
            let modes = String::from_utf8_lossy(modes).into_owned();
            for mode in modes.split(';').filter_map(|mode| mode.parse().ok()) {
                match (mode, is_on) {
                    (CURSOR, is_on) => self.is_hidden = !is_on,
                    (mode, true) if MODES.contains(&mode) => {
                        self.on.insert(mode);
                    }
                    (mode, _) => {
                        self.on.remove(&mode);
                    }
                }
            }
            return false;
        }
        match last {
            b'u' if parameters.first() == Some(&b'>') => self.keyboard += 1,
            b'u' if parameters.first() == Some(&b'<') => {
                self.keyboard = self.keyboard.saturating_sub(1);
            }
            _ => {}
        }
        match last {
            b'c' | b'n' | b'x' => true,
            b'u' => parameters.first() == Some(&b'?'),
            b'p' => parameters.ends_with(b"$"),
            b'q' => parameters.first() == Some(&b'>'),
            b't' => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of `text`, cut at every place.
    fn passed(text: &[u8], replay: bool) -> Vec<Vec<u8>> {
        (0..=text.len())
            .map(|at| {
                let mut sequences = Sequences::default();
                let mut out = sequences.pass(&text[..at], replay);
                out.extend(sequences.pass(&text[at..], replay));
                out
            })
            .collect()
    }

    #[test]
    fn what_was_shown_once_asks_nothing_when_it_is_shown_again() {
        let text = b"a\x1b[c\x1b[31mb\x1b[6n\x1b]11;?\x07c\x1b]0;title\x07\x1bP+q544e\x1b\\d\x1b[?u\x1b[?2026$p\x1b[>qe";
        for out in passed(text, true) {
            assert_eq!(out, b"a\x1b[31mbc\x1b]0;title\x07de");
        }
        for out in passed(text, false) {
            assert_eq!(out, text);
        }
    }

    #[test]
    fn what_was_switched_on_is_switched_off() {
        let mut sequences = Sequences::default();
        let text = b"\x1b[?1049h\x1b[?25l\x1b[?1000;1006h\x1b[?2004h\x1b[>1u\x1b[?2004l\x1b[?7l";
        assert_eq!(sequences.pass(text, false), text);
        let undo = sequences.undo();
        assert_eq!(
            undo,
            "\x1b[0m\x1b[?1000l\x1b[?1006l\x1b[?1049l\x1b[?25h\x1b[<u"
        );
        assert_eq!(sequences.undo(), "\x1b[0m");
    }

    #[test]
    fn a_sequence_without_end_passes_when_it_is_long() {
        let mut text = b"\x1b]52;c;".to_vec();
        text.resize(3 * MAX_SEQUENCE, b'A');
        let mut sequences = Sequences::default();
        let out = sequences.pass(&text, true);
        assert_eq!(out, text);
        assert_eq!(sequences.pass(b"x", true), b"x");
    }
}
