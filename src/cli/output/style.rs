//! Colours, and text from agents made harmless.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::domain::visible::is_hidden;

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Less important.
    Dim,
    /// More important.
    Strong,
    /// Well.
    Good,
    /// Wants attention.
    Warn,
    /// Not well.
    Bad,
    /// A name or a command.
    Name,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    color: bool,
}

impl Style {
    /// With colours or without.
    pub const fn new(color: bool) -> Self {
        Style { color }
    }

    /// The text in its tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Dim => "2",
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Name => "36",
        };
        if !self.color || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Text of somebody else as it may be shown: line ends and tabs stay, all that could move the cursor,
/// change colours or reorder text is made visible. Emoji stay whole.
pub fn safe(text: &str) -> String {
    // Joiner and variation selector only change how the character before is drawn.
    let dangerous = |c: char| is_hidden(c) && !matches!(c, '\u{200D}' | '\u{FE0F}');
    show(&text.replace("\r\n", "\n"), |c| {
        dangerous(c) && !matches!(c, '\n' | '\t')
    })
}

/// Text that somebody is to approve: every character that cannot be seen is made visible. Line ends stay.
pub fn visible(text: &str) -> String {
    show(text, |c| is_hidden(c) && c != '\n')
}

/// The same in one line.
pub fn visible_line(text: &str) -> String {
    show(text, is_hidden)
}

fn show(text: &str, hidden: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if !hidden(c) {
            shown.push(c);
        } else if c == '\n' {
            shown.push('⏎');
        } else if c == '\t' {
            shown.push('⇥');
        } else {
            shown.push_str(&format!("⟨{:02X}⟩", c as u32));
        }
    }
    shown
}

/// How many columns a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text within this many columns; what is cut off is shown as `…`.
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let mut fitted = String::new();
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        fitted.push(c);
    }
    fitted.push('…');
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown_for_approval() {
        assert_eq!(
            visible("rm \u{202e}txt\u{200b} x\r\n\u{1b}]0;t\u{7}"),
            "rm ⟨202E⟩txt⟨200B⟩ x⟨0D⟩\n⟨1B⟩]0;t⟨07⟩"
        );
        assert_eq!(
            visible("a\u{e0041}\u{feff}\u{2028}"),
            "a⟨E0041⟩⟨FEFF⟩⟨2028⟩"
        );
        assert_eq!(visible_line("a\nb\tc"), "a⏎b⇥c");
        assert_eq!(visible("🏳\u{fe0f}\u{200d}🌈"), "🏳⟨FE0F⟩⟨200D⟩🌈");
    }

    #[test]
    fn text_of_an_agent_cannot_steer_the_terminal() {
        assert_eq!(safe("a\r\nb\x1b[2Jc\u{9b}m\td"), "a\nb⟨1B⟩[2Jc⟨9B⟩m\td");
        assert_eq!(safe("x\u{202e}y"), "x⟨202E⟩y");
        assert_eq!(safe("🏳\u{fe0f}\u{200d}🌈"), "🏳\u{fe0f}\u{200d}🌈");
    }

    #[test]
    fn wide_characters_are_counted() {
        assert_eq!(fit("日本語テキスト", 7), "日本語…");
        assert_eq!(fit("short", 7), "short");
        assert_eq!(width("日本"), 4);
    }

    #[test]
    fn no_colour_means_no_escape() {
        assert_eq!(Style::new(false).paint(Tone::Bad, "x"), "x");
        assert!(Style::new(true).paint(Tone::Bad, "x").contains("\x1b["));
    }
}
