//! The terminal that this process runs in: raw while somebody is attached, and as it was whatever happens.

use std::io::{self, IsTerminal as _, Write as _};

use nix::sys::termios::{self, SetArg, Termios};
use rustix::termios::tcgetwinsize;

use crate::wire::v1;

/// Raw mode, for as long as this lives. A panic unwinds through it; signals are the caller's to catch.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What was typed ahead for the program is not for the shell.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
        let _ = io::stdout().flush();
    }
}

/// Whether both ends are a terminal.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// How large the terminal is; `None` where it does not say.
pub fn size() -> Option<v1::TerminalSize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    let most = u32::from(crate::domain::terminal::MAX_SIDE);
    (size.ws_col > 0 && size.ws_row > 0).then(|| v1::TerminalSize {
        cols: u32::from(size.ws_col).min(most),
        rows: u32::from(size.ws_row).min(most),
    })
}
