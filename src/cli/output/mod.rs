//! What is written to standard output.

pub mod event;
pub mod json;
pub mod style;
pub mod table;

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;
use style::Style;

/// Where a command writes: text for people, or JSON.
pub struct Out {
    /// Whether JSON was asked for.
    pub json: bool,
    /// Colours, or none.
    pub style: Style,
    /// Columns of the terminal; 0 where there is none.
    pub width: usize,
}

impl Out {
    /// Standard output of this process.
    pub fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Out {
            json,
            style: Style::new(terminal && !json && !no_color()),
            width: if terminal { columns() } else { 0 },
        }
    }

    /// Writes a line. Failing to is an error: nobody reads, or the disk is full.
    pub fn line(&self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Writes a part of a line.
    pub fn part(&self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Writes one JSON value on a line of its own.
    pub fn value(&self, value: &Value) -> anyhow::Result<()> {
        self.line(&value.to_string())
    }

    /// Writes a value as JSON, or else as the text that `human` makes.
    pub fn show(&self, value: &Value, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            self.value(value)
        } else {
            self.line(&human())
        }
    }

    /// A remark for people, on standard error, so that it never mixes with what a program reads.
    pub fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }
}

/// Whether the user wants no colours (no-color.org: any value but an empty one).
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn columns() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .filter(|columns| *columns > 0)
        .unwrap_or(100)
}
