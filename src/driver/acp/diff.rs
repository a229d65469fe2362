//! The change of a file as people read it.

/// Lines that stay the same and are shown around a change.
const CONTEXT: usize = 3;

/// A unified diff of one hunk: from the first line that differs to the last. `old` is `None` for a new file.
pub(super) fn unified(path: &str, old: Option<&str>, new: &str) -> String {
    let before: Vec<&str> = old.unwrap_or_default().lines().collect();
    let after: Vec<&str> = new.lines().collect();
    let same = before
        .iter()
        .zip(&after)
        .take_while(|(old, new)| old == new)
        .count();
    let most = before.len().min(after.len()) - same;
    let same_at_end = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take(most)
        .take_while(|(old, new)| old == new)
        .count();
    let from = same.saturating_sub(CONTEXT);
    let until = |lines: &[&str]| (lines.len() - same_at_end + CONTEXT).min(lines.len());
    let (old_until, new_until) = (until(&before), until(&after));
    let mut text = match old {
        Some(_) => format!("--- {path}\n"),
        None => "--- /dev/null\n".to_owned(),
    };
    text.push_str(&format!("+++ {path}\n"));
    text.push_str(&format!(
        "@@ -{} +{} @@\n",
        range(from, old_until),
        range(from, new_until)
    ));
    let mut add = |mark: char, lines: &[&str]| {
        for line in lines {
            text.push(mark);
            text.push_str(line);
            text.push('\n');
        }
    };
    add(' ', &before[from..same]);
    add('-', &before[same..before.len() - same_at_end]);
    add('+', &after[same..after.len() - same_at_end]);
    add(' ', &after[after.len() - same_at_end..new_until]);
    text
}

fn range(from: usize, until: usize) -> String {
    let count = until - from;
    // An empty range names the line before it.
    let first = if count == 0 { from } else { from + 1 };
    format!("{first},{count}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_changed_is_shown_with_a_little_around_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let new = "a\nb\nc\nd\nE\nE2\nf\ng\nh\n";
        let shown = unified("/p/x", Some(old), new);
        assert_eq!(
            shown,
            "--- /p/x\n+++ /p/x\n@@ -2,7 +2,8 @@\n b\n c\n d\n-e\n+E\n+E2\n f\n g\n h\n"
        );
        let made = unified("n", None, "one\ntwo");
        assert_eq!(made, "--- /dev/null\n+++ n\n@@ -0,0 +1,2 @@\n+one\n+two\n");
        let emptied = unified("n", Some("one"), "");
        assert_eq!(emptied, "--- n\n+++ n\n@@ -1,1 +0,0 @@\n-one\n");
    }

    proptest! {
        #[test]
        fn both_sides_can_be_read_back(
            old in prop::collection::vec("[ab]{0,1}", 0..12),
            new in prop::collection::vec("[ab]{0,1}", 0..12),
        ) {
            let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let shown = unified("p", Some(&text(&old)), &text(&new));
            let hunk: Vec<&str> = shown.lines().skip(3).collect();
            let side = |mark: char| -> Vec<String> {
                let kept = hunk.iter().filter(|line| line.starts_with([' ', mark]));
                kept.map(|line| line[1..].to_owned()).collect()
            };
            let within = |all: &[String], part: Vec<String>| {
                part.is_empty() || all.windows(part.len()).any(|window| window == part)
            };
            prop_assert!(within(&old, side('-')), "{shown}");
            prop_assert!(within(&new, side('+')), "{shown}");
        }
    }
}
