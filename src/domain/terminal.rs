//! A terminal: the PTY of an interactive session, how large it is, and who looks at it.
//!
//! A terminal belongs to one session, and a session has at most one: their ids have the same 128 bits.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::id::{SessionId, TerminalId};
use crate::base::{Error, Result};

/// The most columns, and the most rows.
pub const MAX_SIDE: u16 = 1_000;
/// The most bytes that are typed at once.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;
/// The most bytes of one piece of output.
pub const MAX_OUTPUT_BYTES: usize = 32 * 1024;
/// The most viewers of one terminal.
pub const MAX_VIEWERS: usize = 256;

impl TerminalId {
    /// The terminal of a session.
    pub fn of(session: SessionId) -> Self {
        TerminalId::from_bits(session.bits())
    }

    /// Its session.
    pub fn session(self) -> SessionId {
        SessionId::from_bits(self.bits())
    }

    /// Reads the id of a terminal, or that of its session.
    pub fn parse_either(field: &str, text: &str) -> Result<Self> {
        match SessionId::parse(field, text) {
            Ok(session) => Ok(TerminalId::of(session)),
            Err(_) => TerminalId::parse(field, text),
        }
    }
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Columns, from 1.
    pub cols: u16,
    /// Rows, from 1.
    pub rows: u16,
}

impl Default for Size {
    fn default() -> Self {
        Size { cols: 80, rows: 24 }
    }
}

impl Size {
    /// A size that a caller asked for.
    pub fn checked(field: &str, cols: u32, rows: u32) -> Result<Self> {
        let side = |name: &str, side: u32| {
            u16::try_from(side)
                .ok()
                .filter(|side| (1..=MAX_SIDE).contains(side))
                .ok_or_else(|| {
                    Error::invalid(
                        &format!("{field}.{name}"),
                        format!("is {side}; 1 to {MAX_SIDE} are allowed"),
                    )
                })
        };
        Ok(Size {
            cols: side("cols", cols)?,
            rows: side("rows", rows)?,
        })
    }
}

/// Whose size holds when viewers have different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizePolicy {
    /// The smallest columns and the smallest rows of all.
    #[default]
    Smallest,
    /// That of whoever typed last.
    Typist,
}

/// What a session's record says of its terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// How large it is.
    pub size: Size,
    /// Whose size holds.
    pub policy: SizePolicy,
}

/// A piece of what a program wrote to its terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How many bytes came before.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
}

impl Output {
    /// The offset of the byte after it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }

    /// What of it lies at `offset` or behind; `None` if nothing does.
    #[must_use]
    pub fn from(mut self, offset: u64) -> Option<Self> {
        let skip = offset.saturating_sub(self.offset);
        if skip >= self.data.len() as u64 {
            return None;
        }
        self.data = self.data.slice(skip as usize..);
        self.offset += skip;
        Some(self)
    }
}

/// Something that a terminal's daemon is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Type these bytes.
    Type(Bytes),
    /// Take on another size.
    Resize(Size),
}

/// Who looks at a terminal, and with which sizes.
#[derive(Clone, Debug, Default)]
pub struct Viewers {
    next: u64,
    sizes: BTreeMap<u64, Option<Size>>,
    typist: Option<u64>,
}

impl Viewers {
    /// A further viewer; `None` size does not count. `None` when there are as many as may be.
    pub fn join(&mut self, size: Option<Size>) -> Option<u64> {
        if self.sizes.len() >= MAX_VIEWERS {
            return None;
        }
        self.next += 1;
        self.sizes.insert(self.next, size);
        Some(self.next)
    }

    /// A viewer has gone.
    pub fn leave(&mut self, viewer: u64) {
        self.sizes.remove(&viewer);
        if self.typist == Some(viewer) {
            self.typist = None;
        }
    }

    /// A viewer has another size; false if there is no such viewer.
    pub fn resize(&mut self, viewer: u64, size: Size) -> bool {
        match self.sizes.get_mut(&viewer) {
            Some(known) => {
                *known = Some(size);
                true
            }
            None => false,
        }
    }

    /// A viewer typed.
    pub fn typed(&mut self, viewer: u64) {
        if self.sizes.contains_key(&viewer) {
            self.typist = Some(viewer);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sizes.len()
    }

    /// The size that holds; `None` where no viewer has one.
    pub fn holds(&self, policy: SizePolicy) -> Option<Size> {
        let typist = self
            .typist
            .and_then(|viewer| self.sizes.get(&viewer).copied().flatten());
        match (policy, typist) {
            (SizePolicy::Typist, Some(size)) => Some(size),
            _ => self
                .sizes
                .values()
                .flatten()
                .copied()
                .reduce(|one, other| Size {
                    cols: one.cols.min(other.cols),
                    rows: one.rows.min(other.rows),
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(cols: u16, rows: u16) -> Size {
        Size { cols, rows }
    }

    #[test]
    fn the_smallest_sides_hold_or_the_size_of_who_typed_last() {
        let mut viewers = Viewers::default();
        assert_eq!(viewers.holds(SizePolicy::Smallest), None);
        let wide = viewers.join(Some(size(200, 20))).unwrap();
        let tall = viewers.join(Some(size(90, 60))).unwrap();
        let _blind = viewers.join(None).unwrap();
        assert_eq!(viewers.holds(SizePolicy::Smallest), Some(size(90, 20)));
        assert_eq!(viewers.holds(SizePolicy::Typist), Some(size(90, 20)));
        viewers.typed(wide);
        assert_eq!(viewers.holds(SizePolicy::Typist), Some(size(200, 20)));
        viewers.leave(wide);
        assert_eq!(viewers.holds(SizePolicy::Typist), Some(size(90, 60)));
        assert!(viewers.resize(tall, size(10, 10)) && !viewers.resize(wide, size(1, 1)));
        assert_eq!(viewers.holds(SizePolicy::Smallest), Some(size(10, 10)));
    }

    #[test]
    fn viewers_are_bounded() {
        let mut viewers = Viewers::default();
        for _ in 0..MAX_VIEWERS {
            assert!(viewers.join(None).is_some());
        }
        assert!(viewers.join(None).is_none());
    }

    #[test]
    fn output_is_cut_at_an_offset() {
        let output = Output {
            offset: 10,
            data: Bytes::from_static(b"abcdef"),
        };
        assert_eq!(output.clone().from(5), Some(output.clone()));
        assert_eq!(output.clone().from(16), None);
        let rest = output.from(14).unwrap();
        assert_eq!((rest.offset, &rest.data[..]), (14, &b"ef"[..]));
    }

    #[test]
    fn a_terminal_and_its_session_name_each_other() {
        let session = SessionId::from_bits(77);
        let terminal = TerminalId::of(session);
        assert_eq!(terminal.session(), session);
        for text in [session.to_string(), terminal.to_string()] {
            assert_eq!(TerminalId::parse_either("x", &text).unwrap(), terminal);
        }
        assert!(TerminalId::parse_either("x", "dmn_1").is_err());
        assert!(Size::checked("size", 0, 24).is_err() && Size::checked("size", 80, 1_001).is_err());
    }
}
