//! Logs: for people on a terminal, JSON elsewhere; control characters are shown, not sent.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::options::{Log, LogFormat};
use crate::base::{Clock as _, Code, Error, Result, SystemClock};

/// Starts logging to standard error. The second call in a process has no effect.
pub fn init(log: &Log) -> Result<()> {
    let filter = EnvFilter::builder().parse(&log.level).map_err(|problem| {
        Error::new(
            Code::InvalidInput,
            format!("log.level {:?} cannot be read: {problem}", log.level),
        )
    })?;
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Time)
        // Colours are control characters; without them every control character is somebody's text.
        .with_ansi(false)
        // Where standard error is gone (a closed terminal), saying so there would be a panic.
        .log_internal_errors(false)
        .with_writer(Escaping);
    // The error says that somebody was first: the test harness, or an embedding program.
    let _ = if json {
        // The list of spans has the innermost one too.
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        builder.with_target(false).compact().try_init()
    };
    Ok(())
}

/// The time as everywhere else in the program.
struct Time;

impl tracing_subscriber::fmt::time::FormatTime for Time {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", SystemClock.now())
    }
}

/// Standard error with control characters escaped.
struct Escaping;

impl<'a> MakeWriter<'a> for Escaping {
    type Writer = EscapingWriter<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter(io::stderr())
    }
}

/// Escapes what a terminal would act on. An event arrives in one call and ends with its only true newline.
struct EscapingWriter<W>(W);

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0
            .write_all(escape(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escape(event: &str) -> String {
    let (text, end) = match event.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (event, ""),
    };
    let mut escaped = String::with_capacity(event.len());
    for c in text.chars() {
        if c == '\t' || !(c.is_control() || is_direction(c)) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_unicode());
        }
    }
    escaped.push_str(end);
    escaped
}

/// Characters that make text read in another order than it is.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_reaches_the_terminal_as_a_command_or_a_line_of_its_own() {
        let event = "INFO name=\u{1b}[2J evil\nERROR forged\u{202e}\u{9b}1m\n";
        assert_eq!(
            escape(event),
            "INFO name=\\u{1b}[2J evil\\u{a}ERROR forged\\u{202e}\\u{9b}1m\n"
        );
    }
}
