//! What a worktree, its branch and its directory may be called.
//!
//! Names end up in refs, in paths and in argument lists, so they are plain: no name can be an option, lead
//! upwards, be a revision expression, or look like another name by letters of another alphabet.

use super::super::field;
use crate::base::{Error, Result, Timestamp};

/// The longest name of an agent, in bytes.
pub const MAX_AGENT_BYTES: usize = 64;
/// The longest id of a task, in bytes.
pub const MAX_TASK_BYTES: usize = 64;
/// The longest slug, in bytes.
pub const MAX_SLUG_BYTES: usize = 30;
/// The longest name of a branch, in bytes.
pub const MAX_BRANCH_BYTES: usize = 200;
/// The longest name of a directory, in bytes.
pub const MAX_DIRECTORY_BYTES: usize = 150;

/// An agent's name as refs and paths have it: lower case, everything outside of `a-z 0-9 -` a hyphen.
pub fn agent(field: &str, name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::invalid(field, "is missing"));
    }
    field::text(field, name, MAX_AGENT_BYTES)?;
    if let Some(odd) = name.chars().find(|c| !c.is_ascii() || c.is_ascii_control()) {
        return Err(Error::invalid(
            field,
            format!(
                "has U+{:04X}; names of agents have visible ASCII characters only",
                u32::from(odd)
            ),
        ));
    }
    if name.starts_with('-') {
        return Err(Error::invalid(field, "must not begin with -"));
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let plain: String = name
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() {
        return Err(Error::invalid(field, "has no letter and no digit"));
    }
    Ok(plain.to_owned())
}

/// The words of a title that make a part of a name; may be empty.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            c if (c == '-' || c.is_whitespace()) && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    // All that is left is ASCII, so that any place can be cut at.
    slug.truncate(MAX_SLUG_BYTES);
    let slug = slug.strip_prefix('-').unwrap_or(&slug);
    slug.strip_suffix('-').unwrap_or(slug).to_owned()
}

/// A task's id, from Baton or elsewhere; may be empty.
pub fn task(field: &str, id: &str) -> Result<()> {
    if id.is_empty() {
        return Ok(());
    }
    part(field, id, MAX_TASK_BYTES)
}

/// A directory's name, one part of a path; may be empty.
pub fn directory(field: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    part(field, name, MAX_DIRECTORY_BYTES)
}

fn part(field: &str, part: &str, max_bytes: usize) -> Result<()> {
    field::text(field, part, max_bytes)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !part.bytes().all(fits) {
        return Err(Error::invalid(field, "may only have A-Z a-z 0-9 . _ -"));
    }
    if part.starts_with(['-', '.']) || part.ends_with('.') || part.contains("..") {
        return Err(Error::invalid(
            field,
            "must not begin with - or ., end with . or have two dots in a row",
        ));
    }
    if part.ends_with(".lock") {
        return Err(Error::invalid(field, "must not end with .lock"));
    }
    Ok(())
}

/// A branch's short name (`main`, `agent/alice/1-fix`); may be empty. Stricter than git's own rules.
pub fn branch(field: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    field::text(field, name, MAX_BRANCH_BYTES)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._/@#+=,-".contains(&b);
    if !name.bytes().all(fits) {
        return Err(Error::invalid(
            field,
            "may only have A-Z a-z 0-9 . _ / @ # + = , -",
        ));
    }
    let bad_part = |part: &str| {
        part.is_empty()
            || part.starts_with(['-', '.'])
            || part.ends_with('.')
            || part.ends_with(".lock")
    };
    if name.contains("..") || name == "@" || name.split('/').any(bad_part) {
        return Err(Error::invalid(
            field,
            "is no branch name: no part of it is empty, begins with - or ., or ends with . or .lock",
        ));
    }
    if name == "HEAD" || name.starts_with("refs/") {
        return Err(Error::invalid(
            field,
            "must be a branch's short name, such as main",
        ));
    }
    Ok(())
}

/// A file to copy, relative to the repository's top: no `..`, nothing of git's own.
pub fn copied_file(field: &str, path: &str) -> Result<()> {
    field::text(field, path, field::MAX_PATH_BYTES)?;
    if path.chars().any(char::is_control) {
        return Err(Error::invalid(field, "has a control character"));
    }
    let bad = |part: &str| matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git");
    if path.split('/').any(bad) {
        return Err(Error::invalid(
            field,
            "must be a plain path relative to the repository, without . or .. and outside of .git",
        ));
    }
    Ok(())
}

/// The branch of an agent for a task, or for no task in particular.
pub fn branch_of(agent: &str, task: &str, slug: &str, now: Timestamp) -> String {
    match (task, slug) {
        ("", _) => format!("session/{agent}-{}", stamp(now)),
        (task, "") => format!("agent/{agent}/{task}"),
        (task, slug) => format!("agent/{agent}/{task}-{slug}"),
    }
}

/// The directory of an agent for a task. The task's id is in it: two tasks may have equal slugs.
pub fn directory_of(agent: &str, task: &str, slug: &str, now: Timestamp) -> String {
    match (task, slug) {
        ("", _) => format!("{agent}-session-{}", stamp(now)),
        (task, "") => format!("{agent}-{task}"),
        (task, slug) => format!("{agent}-{task}-{slug}"),
    }
}

/// A moment as names have it: `yyyymmddhhmmss`, UTC.
pub fn stamp(now: Timestamp) -> String {
    let digits = now.to_string();
    digits
        .chars()
        .filter(char::is_ascii_digit)
        .take(14)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_agents_become_plain_or_are_refused() {
        for (name, plain) in [
            ("Worker Alice", "worker-alice"),
            ("a.b/c", "a-b-c"),
            ("x--", "x"),
        ] {
            assert_eq!(agent("agent_name", name).unwrap(), plain);
        }
        let long = "a".repeat(4_096);
        for bad in [
            "", "-evil", "..", "@{", "a\0b", "a\nb", "аlice", "ａ", &long, "~",
        ] {
            let error = agent("agent_name", bad).unwrap_err();
            assert_eq!(error.fields()[0].field, "agent_name", "{bad:?}");
        }
    }

    #[test]
    fn slugs_are_short_and_have_no_hyphen_at_either_end() {
        for (title, expected) in [
            ("Implement feature X", "implement-feature-x"),
            ("  --  Fix: ünïcode & more!  ", "fix-ncode-more"),
            ("", ""),
            ("///", ""),
            (
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbb",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ),
        ] {
            assert_eq!(slug(title), expected, "{title:?}");
        }
    }

    #[test]
    fn branches_are_no_options_no_expressions_and_lead_nowhere() {
        for good in [
            "main",
            "agent/alice/t-1-fix",
            "dependabot/npm/@types/x-1.2",
            "issue#4",
        ] {
            assert!(branch("branch", good).is_ok(), "{good}");
        }
        let long = "b".repeat(4_096);
        for bad in [
            "-evil",
            "a/-x",
            "..",
            "a..b",
            "@{",
            "a@{1}",
            "@",
            "a^",
            "a~1",
            "a:b",
            "a b",
            "a\u{7}",
            "/a",
            "a/",
            "a//b",
            "a.lock",
            "a.lock/b",
            ".a",
            "a/.b",
            "a.",
            "HEAD",
            "refs/heads/x",
            "mаin",
            "a\\b",
            "a*",
            "a?",
            "[a",
            &long,
        ] {
            assert!(branch("branch", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tasks_and_copied_files_stay_where_they_belong() {
        for good in ["el-task123", "tsk_01KAJZ0000000000000000AAAA", ""] {
            assert!(task("task_id", good).is_ok(), "{good}");
        }
        for bad in ["-x", "../x", "a/b", "a..b", ".x", "x.lock", "x."] {
            assert!(task("task_id", bad).is_err(), "{bad}");
        }
        assert!(copied_file("copy_files[0]", "config/.env").is_ok());
        for bad in [
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            ".git/config",
            "a/.GIT/x",
            "",
            "a\0",
        ] {
            assert!(copied_file("copy_files[0]", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_branch_and_a_path_have_the_task_in_them() {
        let now = Timestamp::from_millis(0);
        assert_eq!(branch_of("alice", "t1", "fix", now), "agent/alice/t1-fix");
        assert_eq!(branch_of("alice", "t1", "", now), "agent/alice/t1");
        assert_eq!(directory_of("alice", "t1", "fix", now), "alice-t1-fix");
        assert_eq!(
            branch_of("alice", "", "x", now),
            "session/alice-19700101000000"
        );
        assert_eq!(
            directory_of("alice", "", "x", now),
            "alice-session-19700101000000"
        );
    }
}
