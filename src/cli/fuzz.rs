//! What a program shows in a terminal and what a person types, as any bytes.

use super::sequences::Sequences;
use super::terminal_view::DetachKey;
use super::value;
use crate::base::fuzz::Target;

#[test]
fn terminal_sequences() {
    let seeds = [
        &b"plain\r\n\x1b[1;31mred\x1b[0m \x1b[?1049h\x1b[?25l\x1b[>1u"[..],
        b"\x1b]0;title\x07\x1bP+q544e\x1b\\\x1b[6n\x1b[c\x1bZ",
        b"\x1b[?2004h\x1b[?1000;1006h\x1b[!p\x1bc",
        b"\x1b]52;c;Zm9v\x07",
    ];
    Target::new("terminal_sequences")
        .seeds(seeds)
        .words(&[
            "\u{1b}[", "\u{1b}]", "\u{1b}\\", "6n", "?1049h", "?25l", ">1u", ";",
        ])
        .run(|bytes| {
            let mut whole = Sequences::default();
            let at_once = whole.pass(bytes, false);
            // Nothing is added or turned around, and little is held back.
            assert!(bytes.starts_with(&at_once), "what is shown is what came");
            assert!(bytes.len() - at_once.len() <= 64 * 1024);
            // However it is cut, the same is shown.
            let mut cut = Sequences::default();
            let mut shown = Vec::new();
            for piece in bytes.chunks(3) {
                shown.extend(cut.pass(piece, false));
            }
            assert_eq!(shown, at_once);
            assert_eq!(cut.undo(), whole.undo());
            // What was shown once asks nothing when it is shown again.
            let mut again = Sequences::default();
            let replayed = again.pass(bytes, true);
            assert!(replayed.len() <= bytes.len());
            for question in [&b"\x1b[6n"[..], b"\x1b[c", b"\x1bZ"] {
                let asks = replayed
                    .windows(question.len())
                    .any(|part| part == question);
                let is_within_text = bytes.windows(2).any(|part| {
                    matches!(part, [0x1b, b']' | b'P' | b'_' | b'^' | b'X' | 0x1b | b'['])
                });
                assert!(
                    !asks || is_within_text,
                    "{:?}",
                    replayed.escape_ascii().to_string()
                );
            }
        });
}

#[test]
fn what_is_typed() {
    let seeds = [
        "1h30m",
        "2026-01-01T00:00:00Z",
        "64MiB",
        "a=b",
        "0 9 * * 1-5=go",
        "task.closed=look",
        "acp=x",
        "ctrl-]",
        "^a",
        "never",
    ];
    Target::new("cli_values").seeds(seeds).run(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if let Ok(duration) = value::duration(text) {
            let _ = value::short_duration(duration);
        }
        let _ = value::when(text);
        let _ = value::duration_or_nothing(text);
        if let Ok(bytes) = value::bytes(text) {
            let _ = value::size(bytes);
        }
        if let Ok((key, of)) = value::pair(text) {
            assert_eq!(format!("{key}={of}"), text);
        }
        let _ = value::cron(text);
        let _ = value::event(text);
        let _ = value::acp_agent(text);
        let _ = value::mode(text);
        let _ = value::kind(text);
        let _ = DetachKey::parse(text);
    });
}
