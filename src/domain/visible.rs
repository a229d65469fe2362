//! Text as it may be shown for approval: what hides in it is made visible.
//!
//! A control character can rewrite a terminal's line, a bidirectional mark can turn a command around, a
//! zero-width or tag character can carry words nobody sees. All of them come out as an escape, so that
//! what a person allows is what they read.

/// The text on one line, at most `max_chars` characters long: line ends and everything hidden are
/// escaped, and what is cut off is marked by `…`.
pub fn visible_line(text: &str, max_chars: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max_chars.saturating_mul(4)));
    let mut chars = 0;
    for c in text.chars() {
        if chars >= max_chars {
            line.push('…');
            break;
        }
        chars += push(&mut line, c);
    }
    line
}

/// The text with its line ends and tabs, everything else that hides escaped.
pub fn visible_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            _ => {
                push(&mut shown, c);
            }
        }
    }
    shown
}

/// Whether a character is not seen where it stands, or changes how its neighbours are seen.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{600}'..='\u{605}'
            | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Pushes a character as it is shown; says how many characters that took.
fn push(line: &mut String, c: char) -> usize {
    let escape = match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        _ if is_hidden(c) => format!("\\u{{{:x}}}", u32::from(c)),
        _ => {
            line.push(c);
            return 1;
        }
    };
    line.push_str(&escape);
    escape.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_shown() {
        for (text, shown) in [
            ("ls -l", "ls -l"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("rm\u{200b} x", "rm\\u{200b} x"),
            ("\u{1b}[2K\rok", "\\u{1b}[2K\\rok"),
            ("a\u{e0041}", "a\\u{e0041}"),
            ("one\ntwo\t3", "one\\ntwo\\t3"),
            ("naïve 漢字", "naïve 漢字"),
        ] {
            assert_eq!(visible_line(text, 100), shown);
        }
        assert_eq!(visible_text("one\n\u{feff}two"), "one\n\\u{feff}two");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        assert_eq!(visible_line("abcdef", 3), "abc…");
        assert_eq!(visible_line("abc", 3), "abc");
    }
}
