//! Rules that answer permissions by themselves.
//!
//! A rule matches a tool by its exact name, and what it is called with by a pattern:
//!
//! | tool | pattern | matches |
//! |---|---|---|
//! | any | none | every call |
//! | `Bash` | `git status` | that command and nothing else |
//! | `Bash` | `git status:*` | that command with any arguments |
//! | file tools | `src/**` | paths, relative to the session's directory or absolute; `**` crosses directories |
//! | `WebFetch` | `domain:example.com` | that host and the hosts beneath it |
//!
//! Matching is lopsided on purpose. An **allow** must be certain: a command with anything a shell
//! would read as more than one plain command, or a path with `..`, is not matched. A **deny** is
//! generous: it also matches if any part of a compound command does. What is odd is asked.

use globset::{GlobBuilder, GlobMatcher};
use serde_json::Value;

use super::harness::PermissionMode;
use super::prompt::{Prompt, PromptKind, PromptRule};
use crate::base::{Error, Result};

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1_024;

/// How a text ends of which a harness's driver showed only the beginning.
pub const SHOWN_IN_PART: &str = " bytes in all)";

/// Tools whose input names one file or directory, and the field that does.
const PATH_TOOLS: &[(&str, &str)] = &[
    ("Read", "file_path"),
    ("Write", "file_path"),
    ("Edit", "file_path"),
    ("MultiEdit", "file_path"),
    ("NotebookEdit", "notebook_path"),
    ("NotebookRead", "notebook_path"),
    ("Glob", "path"),
    ("Grep", "path"),
    ("LS", "path"),
];

/// Tools that `auto_safe` lets pass: they read, beneath the session's directory, and do nothing else.
const READ_ONLY_TOOLS: &[&str] = &["Read", "NotebookRead", "Glob", "Grep", "LS"];

/// What a rule's pattern says.
#[derive(Clone, Debug)]
pub struct Pattern {
    tool: String,
    argument: Argument,
}

#[derive(Clone, Debug)]
enum Argument {
    Any,
    Command { words: Vec<String>, more: bool },
    Path(GlobMatcher),
    Host(String),
}

impl Pattern {
    /// Reads `Tool` or `Tool(pattern)`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |problem: &str| Error::invalid("pattern", problem);
        if text.is_empty() {
            return Err(bad("is missing"));
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(bad("is longer than 1024 bytes"));
        }
        let (tool, argument) = match text.split_once('(') {
            None => (text, None),
            Some((tool, rest)) => match rest.strip_suffix(')') {
                Some(argument) => (tool, Some(argument)),
                None => return Err(bad("has an opening bracket and no closing one at its end")),
            },
        };
        let named = !tool.is_empty()
            && tool
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b));
        if !named {
            return Err(bad(
                "must begin with a tool's name, such as Bash or Edit (letters, digits, _ - . :)",
            ));
        }
        let argument = match argument {
            None => Argument::Any,
            Some("") => {
                return Err(bad(
                    "has empty brackets; leave them out to match every call",
                ));
            }
            Some(argument) if tool == "Bash" => {
                let (command, more) = match argument.strip_suffix(":*") {
                    Some(command) => (command, true),
                    None => (argument, false),
                };
                let words = plain_words(command)
                    .filter(|words| !words.is_empty())
                    .ok_or_else(|| {
                        bad("must be one plain command: words without quotes, pipes, redirections, variables or a second command")
                    })?;
                Argument::Command { words, more }
            }
            Some(argument) if path_field(tool).is_some() => Argument::Path(
                GlobBuilder::new(argument)
                    .literal_separator(true)
                    .build()
                    .map_err(|problem| bad(&format!("is not a path pattern: {problem}")))?
                    .compile_matcher(),
            ),
            Some(argument) if tool == "WebFetch" => match argument.strip_prefix("domain:") {
                Some(host) if is_host(host) => Argument::Host(host.to_ascii_lowercase()),
                _ => return Err(bad("must be domain:HOST for WebFetch")),
            },
            Some(_) => {
                return Err(bad(
                    "may have brackets only for Bash, WebFetch and the file tools; use the tool's name alone",
                ));
            }
        };
        Ok(Pattern {
            tool: tool.to_owned(),
            argument,
        })
    }

    /// Whether it is certain that the call is one that the pattern means.
    pub fn matches_surely(&self, tool: &str, input: &Value, cwd: &str) -> bool {
        self.tool == tool
            && match &self.argument {
                Argument::Any => true,
                Argument::Command { words, more } => input["command"]
                    .as_str()
                    .and_then(plain_words)
                    .is_some_and(|called| begins(&called, words, *more)),
                Argument::Path(glob) => path_field(tool)
                    .and_then(|field| input[field].as_str())
                    .and_then(|path| beneath(path, cwd))
                    .is_some_and(|path| path_matches(glob, &path, cwd)),
                Argument::Host(host) => input["url"]
                    .as_str()
                    .and_then(host_of)
                    .is_some_and(|called| host_matches(&called, host)),
            }
    }

    /// Whether any part of the call may be what the pattern means.
    pub fn matches_maybe(&self, tool: &str, input: &Value, cwd: &str) -> bool {
        if self.tool != tool {
            return false;
        }
        match &self.argument {
            Argument::Any => true,
            Argument::Command { words, more } => match input["command"].as_str() {
                // A command that cannot be read, or not whole, may be anything.
                None => true,
                Some(command) if command.ends_with(SHOWN_IN_PART) => true,
                Some(command) => command
                    .split(|c: char| ";&|\n`(){}<>".contains(c))
                    .any(|part| begins(&loose_words(part), words, *more)),
            },
            Argument::Path(glob) => {
                match path_field(tool).and_then(|field| input[field].as_str()) {
                    None => true,
                    Some(path) => path_matches(glob, &normal(path, cwd), cwd),
                }
            }
            Argument::Host(host) => match input["url"].as_str().map(host_of) {
                Some(Some(called)) => host_matches(&called, host),
                _ => true,
            },
        }
    }
}

/// What is to be done with a permission without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask a person.
    Ask,
    /// Allow, for this reason.
    Allow(Reason),
    /// Deny, for this reason.
    Deny(Reason),
}

/// Why a permission was decided without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule.
    Rule(Box<PromptRule>),
    /// The session's permission mode.
    Mode(PermissionMode),
}

/// Decides a prompt by rules and mode. Deny beats allow, a rule beats the mode. Only permissions are
/// ever decided: questions and plans always reach a person, but in `deny` mode, where nobody is asked.
pub fn decide<'a>(
    prompt: &Prompt,
    mode: PermissionMode,
    cwd: &str,
    rules: impl Iterator<Item = &'a PromptRule> + Clone,
) -> Verdict {
    if prompt.kind != PromptKind::Permission {
        return match mode {
            PermissionMode::Deny => Verdict::Deny(Reason::Mode(mode)),
            _ => Verdict::Ask,
        };
    }
    let input = prompt.input.to_value();
    let applies = |rule: &&PromptRule| {
        rule.session_id.is_none_or(|id| id == prompt.session_id)
            && (rule.directory.is_empty() || is_within(cwd, &rule.directory))
    };
    for rule in rules.clone().filter(applies).filter(|rule| !rule.allow) {
        // A stored deny that no longer parses must not stop denying.
        let denies = match Pattern::parse(&rule.pattern) {
            Ok(pattern) => pattern.matches_maybe(&prompt.tool, &input, cwd),
            Err(_) => true,
        };
        if denies {
            return Verdict::Deny(Reason::Rule(Box::new(rule.clone())));
        }
    }
    if mode == PermissionMode::Deny {
        return Verdict::Deny(Reason::Mode(mode));
    }
    // A request that is not an object is odd: it is asked, whatever the rules say.
    if prompt.tool.is_empty() || !input.is_object() {
        return Verdict::Ask;
    }
    for rule in rules.filter(applies).filter(|rule| rule.allow) {
        let allows = Pattern::parse(&rule.pattern)
            .is_ok_and(|pattern| pattern.matches_surely(&prompt.tool, &input, cwd));
        if allows {
            return Verdict::Allow(Reason::Rule(Box::new(rule.clone())));
        }
    }
    match mode {
        PermissionMode::Auto => Verdict::Allow(Reason::Mode(mode)),
        PermissionMode::AutoSafe if reads_only(&prompt.tool, &input, cwd) => {
            Verdict::Allow(Reason::Mode(mode))
        }
        _ => Verdict::Ask,
    }
}

/// The pattern that "remember this" means for a prompt: the narrowest that matches it again. `None` where
/// only a pattern would do that is far wider than what was asked: a person has to say what they mean.
pub fn pattern_for(prompt: &Prompt, cwd: &str) -> Option<String> {
    pattern_of(&prompt.tool, &prompt.input.to_value(), cwd)
}

pub(super) fn pattern_of(tool: &str, input: &Value, cwd: &str) -> Option<String> {
    let argument = match path_field(tool) {
        // Without a path the call is about the session's directory; the tool has no narrower pattern.
        Some(field) if input[field].is_null() => return Some(tool.to_owned()),
        // (`escape` leaves backslashes alone, which then would escape what it puts in.)
        Some(field) => {
            globset::escape(&beneath(input[field].as_str()?, cwd)?.replace('\\', "\\\\"))
        }
        None => match tool {
            "Bash" => plain_words(input["command"].as_str()?)?.join(" "),
            "WebFetch" => format!("domain:{}", host_of(input["url"].as_str()?)?),
            _ => return Some(tool.to_owned()),
        },
    };
    (!argument.is_empty()).then(|| format!("{tool}({argument})"))
}

/// Whether `path` is `directory` or lies beneath it, by their names alone.
pub fn is_within(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn reads_only(tool: &str, input: &Value, cwd: &str) -> bool {
    if !READ_ONLY_TOOLS.contains(&tool) {
        return false;
    }
    match path_field(tool).map(|field| &input[field]) {
        // Glob, Grep and LS without a path look at the session's directory.
        Some(Value::Null) => matches!(tool, "Glob" | "Grep" | "LS"),
        Some(Value::String(path)) => beneath(path, cwd).is_some_and(|path| is_within(&path, cwd)),
        _ => false,
    }
}

fn path_field(tool: &str) -> Option<&'static str> {
    PATH_TOOLS
        .iter()
        .find(|(name, _)| *name == tool)
        .map(|(_, field)| *field)
}

/// The words of a command that a shell would read as these words and nothing else.
fn plain_words(command: &str) -> Option<Vec<String>> {
    let plain = |c: char| c.is_alphanumeric() || " _-./:=,+@%^".contains(c);
    let first_is_program = command
        .split(' ')
        .find(|word| !word.is_empty())
        .is_some_and(|word| !word.contains('='));
    (command.chars().all(plain) && first_is_program).then(|| loose_words(command))
}

fn loose_words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

fn begins(called: &[String], words: &[String], more: bool) -> bool {
    if more {
        called.starts_with(words)
    } else {
        called == words
    }
}

/// The absolute form of a path without `..`; `None` if it has any.
fn beneath(path: &str, cwd: &str) -> Option<String> {
    if path.split('/').any(|part| part == "..") || path.contains('\0') {
        return None;
    }
    Some(normal(path, cwd))
}

/// The absolute form of a path, `.` and `..` resolved by name.
fn normal(path: &str, cwd: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{cwd}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn path_matches(glob: &GlobMatcher, path: &str, cwd: &str) -> bool {
    if glob.glob().glob().starts_with('/') {
        return glob.is_match(path);
    }
    is_within(path, cwd)
        && path
            .get(cwd.trim_end_matches('/').len() + 1..)
            .is_some_and(|relative| glob.is_match(relative))
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
}

fn host_of(url: &str) -> Option<String> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    // What stands before an @ is not the host, and a careful reader asks about it.
    if authority.contains('@') {
        return None;
    }
    let host = authority.split(':').next()?.to_ascii_lowercase();
    is_host(&host).then_some(host)
}

fn host_matches(called: &str, host: &str) -> bool {
    called == host
        || called
            .strip_suffix(host)
            .is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sure(pattern: &str, tool: &str, input: Value) -> bool {
        Pattern::parse(pattern)
            .unwrap()
            .matches_surely(tool, &input, "/home/me/app")
    }

    fn maybe(pattern: &str, tool: &str, input: Value) -> bool {
        Pattern::parse(pattern)
            .unwrap()
            .matches_maybe(tool, &input, "/home/me/app")
    }

    #[test]
    fn an_allow_matches_one_plain_command_only() {
        let rule = "Bash(git status:*)";
        assert!(sure(rule, "Bash", json!({"command": "git status --short"})));
        for command in [
            "git statusx",
            "git status; rm -rf /",
            "git status && rm x",
            "git status | sh",
            "git status $(rm x)",
            "git status `rm x`",
            "git status > /etc/passwd",
            "git status\nrm x",
            "GIT_DIR=x git status",
            "sh -c 'git status'",
            "git\u{a0}status; x",
        ] {
            assert!(
                !sure(rule, "Bash", json!({"command": command})),
                "{command}"
            );
        }
        assert!(
            !sure(rule, "bash", json!({"command": "git status"})),
            "names are exact"
        );
        assert!(!sure(rule, "Bash", json!({"cmd": "git status"})));
    }

    #[test]
    fn a_deny_matches_any_part_of_a_command() {
        let rule = "Bash(rm:*)";
        assert!(maybe(rule, "Bash", json!({"command": "ls && rm -rf /"})));
        assert!(maybe(rule, "Bash", json!({"command": "echo $(rm x)"})));
        assert!(maybe(rule, "Bash", json!({"no": "command"})));
        assert!(!maybe(rule, "Bash", json!({"command": "ls"})));
        let long = "ls … (100000 bytes in all)";
        assert!(
            maybe(rule, "Bash", json!({"command": long})),
            "its end is not shown"
        );
        assert!(!sure("Bash(ls:*)", "Bash", json!({"command": long})));
    }

    #[test]
    fn paths_are_matched_beneath_the_directory_and_never_through_dots() {
        let rule = "Edit(src/**)";
        assert!(sure(
            rule,
            "Edit",
            json!({"file_path": "/home/me/app/src/a/b.rs"})
        ));
        assert!(sure(rule, "Edit", json!({"file_path": "src/b.rs"})));
        for path in [
            "src/../../x",
            "/etc/passwd",
            "/home/me/app2/src/x",
            "srcx/a",
        ] {
            assert!(!sure(rule, "Edit", json!({"file_path": path})), "{path}");
        }
        assert!(maybe(
            "Edit(/etc/**)",
            "Edit",
            json!({"file_path": "../../../etc/passwd"})
        ));
    }

    #[test]
    fn hosts_are_matched_whole() {
        let rule = "WebFetch(domain:example.com)";
        assert!(sure(
            rule,
            "WebFetch",
            json!({"url": "https://docs.example.com/x"})
        ));
        for url in [
            "https://example.com.evil.org",
            "https://evilexample.com",
            "https://example.com@evil.org/",
            "ftp://example.com",
        ] {
            assert!(!sure(rule, "WebFetch", json!({"url": url})), "{url}");
        }
    }

    #[test]
    fn what_is_remembered_is_no_wider_than_what_was_asked() {
        for (tool, input, expected) in [
            (
                "Bash",
                json!({"command": "git  status"}),
                Some("Bash(git status)"),
            ),
            ("Bash", json!({"command": "ls | wc"}), None),
            ("Bash", json!({}), None),
            (
                "Edit",
                json!({"file_path": "a[b].rs"}),
                Some("Edit(/home/me/app/a[[]b[]].rs)"),
            ),
            ("Edit", json!({"file_path": "../x"}), None),
            ("Grep", json!({"pattern": "x"}), Some("Grep")),
            (
                "WebFetch",
                json!({"url": "https://docs.example.com/x"}),
                Some("WebFetch(domain:docs.example.com)"),
            ),
            ("WebFetch", json!({"url": "https://a@b/"}), None),
            ("mcp__git__log", json!({"n": 1}), Some("mcp__git__log")),
        ] {
            let pattern = pattern_of(tool, &input, "/home/me/app");
            assert_eq!(pattern.as_deref(), expected, "{tool} {input}");
            if let Some(pattern) = pattern {
                assert!(sure(&pattern, tool, input), "{pattern} matches it again");
            }
        }
    }

    #[test]
    fn what_is_remembered_of_a_path_with_backslashes_is_that_path() {
        for path in [r"a\*b", r"a\", r"\[x]", r"a\\**", r"c:\temp\x"] {
            let input = json!({"file_path": path});
            let own = pattern_of("Edit", &input, "/home/me/app").unwrap();
            assert!(sure(&own, "Edit", input), "{own} is of {path}");
            let other = path.replace('*', "anything").replace('\\', "");
            if other != path {
                assert!(
                    !sure(&own, "Edit", json!({"file_path": other})),
                    "{own} is not of {other}"
                );
            }
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for bad in [
            "",
            "Bash(",
            "(x)",
            "Bash()",
            "Bash(a;b)",
            "Task(x)",
            "Edit([)",
            "WebFetch(x)",
            "B ash",
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
