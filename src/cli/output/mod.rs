//! What is written to standard output.

pub mod event;
pub mod json;
pub mod style;
pub mod table;
pub mod task;

use std::io::{self, IsTerminal as _, Write as _};
#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use parking_lot::Mutex;
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
    sink: Sink,
}

/// Where text goes.
enum Sink {
    /// Standard output, and standard error for remarks.
    Process,
    /// Both into one text, for tests.
    #[cfg(test)]
    Memory(Arc<Mutex<String>>),
}

impl Out {
    /// Output without colours that is kept.
    #[cfg(test)]
    pub fn memory(json: bool) -> (Self, Arc<Mutex<String>>) {
        let text = Arc::new(Mutex::new(String::new()));
        let out = Out {
            json,
            style: Style::new(false),
            width: 0,
            sink: Sink::Memory(Arc::clone(&text)),
        };
        (out, text)
    }

    /// Standard output of this process.
    pub fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Out {
            json,
            style: Style::new(terminal && !json && !no_color()),
            width: if terminal { columns() } else { 0 },
            sink: Sink::Process,
        }
    }

    /// Writes a line. Failing to is an error: nobody reads, or the disk is full.
    pub fn line(&self, text: &str) -> anyhow::Result<()> {
        self.part(&format!("{text}\n"))
    }

    /// Writes a part of a line.
    pub fn part(&self, text: &str) -> anyhow::Result<()> {
        match &self.sink {
            Sink::Process => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            #[cfg(test)]
            Sink::Memory(kept) => kept.lock().push_str(text),
        }
        Ok(())
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
        if self.json {
            return;
        }
        match &self.sink {
            // Unlike eprintln, this does not panic when nobody reads; a remark is not worth failing for.
            Sink::Process => drop(writeln!(io::stderr(), "{text}")),
            #[cfg(test)]
            Sink::Memory(kept) => {
                let mut kept = kept.lock();
                kept.push_str(text);
                kept.push('\n');
            }
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
