//! Reads the paths out of Rust source: enough of a lexer to skip comments and literals, and enough of
//! a parser to follow groups, `super` and inline modules. No types, no macros expanded, no names resolved.

/// A path as written, with `crate`, `self` and `super` resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The line it starts on, from 1.
    pub line: usize,
    /// Whether it starts at the root of this crate; otherwise at a name in scope or another crate.
    pub from_root: bool,
    /// Its segments; a glob is `*`.
    pub segments: Vec<String>,
}

/// A word or a mark of the source; `::` is one mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The line it is on, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// Every path in `source` of two segments or more, or with a group. `module` is where the file stands
/// in the crate: `["daemon", "runner"]` for `src/daemon/runner.rs` and for `src/daemon/runner/mod.rs`.
pub(crate) fn paths(module: &[&str], source: &str) -> Vec<Path> {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut here: Vec<String> = module.iter().map(|part| (*part).to_owned()).collect();
    // For each open brace, whether it opened an inline module.
    let mut braces: Vec<bool> = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "{" => {
                let inline_module = at >= 2 && text(at - 2) == "mod";
                if inline_module {
                    here.push(text(at - 1).to_owned());
                }
                braces.push(inline_module);
                at += 1;
            }
            "}" => {
                if braces.pop() == Some(true) {
                    here.pop();
                }
                at += 1;
            }
            word if is_word(word) && text(at + 1) == "::" => {
                let mut written = Vec::new();
                let end = tree(&tokens, at, Vec::new(), &mut written);
                found.extend(written.into_iter().filter_map(|path| resolve(path, &here)));
                at = end;
            }
            _ => at += 1,
        }
    }
    found
}

/// Follows the path (or the group of paths) that starts at `at`; returns where it ends.
fn tree(tokens: &[Token], at: usize, prefix: Vec<String>, found: &mut Vec<Path>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    if text(at) == "{" {
        let mut at = at + 1;
        while at < tokens.len() && text(at) != "}" {
            at = match text(at) {
                "{" | "*" => tree(tokens, at, prefix.clone(), found),
                word if is_word(word) => tree(tokens, at, prefix.clone(), found),
                // The new name of `a as b` is no path.
                "as" => at + 2,
                _ => at + 1,
            };
        }
        return at + 1;
    }
    let mut path = prefix;
    path.push(text(at).to_owned());
    let follows = text(at + 1) == "::"
        && (is_word(text(at + 2)) || text(at + 2) == "{" || text(at + 2) == "*");
    if follows {
        return tree(tokens, at + 2, path, found);
    }
    found.push(Path {
        line: tokens[at].line,
        from_root: false,
        segments: path,
    });
    at + 1
}

/// Turns `crate`, `self` and `super` at the start of a path into a path from the root. `None` where it
/// stays in the module it is written in, or names nothing but a module above.
fn resolve(mut path: Path, here: &[String]) -> Option<Path> {
    let mut base = here.to_vec();
    let mut rest = path.segments.as_slice();
    match rest.first().map(String::as_str) {
        Some("crate") => {
            base.clear();
            rest = &rest[1..];
        }
        Some("self" | "super") => {
            while let Some("self" | "super") = rest.first().map(String::as_str) {
                if rest[0] == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        _ => return Some(path),
    }
    path.from_root = true;
    path.segments = base.into_iter().chain(rest.iter().cloned()).collect();
    Some(path)
}

/// Keywords that may stand right before a path that starts with `::`.
const KEYWORDS: &[&str] = &[
    "as", "await", "const", "dyn", "else", "for", "if", "impl", "in", "let", "match", "move",
    "mut", "pub", "return", "unsafe", "use", "where", "while",
];

/// Whether a path may start or go on with this.
fn is_word(text: &str) -> bool {
    let first = text.chars().next();
    first.is_some_and(|first| first.is_alphabetic() || first == '_') && !KEYWORDS.contains(&text)
}

/// The words and marks of `source`, without comments and literals.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        match chars[at] {
            '/' if peek(at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if peek(at + 1) == '*' => at = after_block_comment(&chars, at),
            '"' => at = after_string(&chars, at),
            '\'' if peek(at + 1) == '\\' || peek(at + 2) == '\'' => at = after_char(&chars, at),
            first if first.is_alphabetic() || first == '_' => {
                while peek(at).is_alphanumeric() || peek(at) == '_' {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                if let Some(end) = after_prefixed_literal(&chars, &word, at) {
                    at = end;
                } else if !(word == "r" && peek(at) == '#') {
                    // (`r#type` is the word `type`.)
                    tokens.push(Token { line, text: word });
                }
            }
            digit if digit.is_ascii_digit() => {
                while peek(at).is_alphanumeric() || peek(at) == '_' {
                    at += 1;
                }
            }
            ':' if peek(at + 1) == ':' => {
                at += 2;
                let text = "::".to_owned();
                tokens.push(Token { line, text });
            }
            mark => {
                at += 1;
                if !mark.is_whitespace() && mark != '#' {
                    let text = mark.to_string();
                    tokens.push(Token { line, text });
                }
            }
        }
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn after_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn after_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn after_char(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '\'' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of `b"…"`, `c"…"`, `b'…'`, `r"…"`, `br#"…"#` and so on, if `word` is such a prefix.
fn after_prefixed_literal(chars: &[char], word: &str, at: usize) -> Option<usize> {
    match (word, chars.get(at)?) {
        ("b" | "c", '"') => Some(after_string(chars, at)),
        ("b", '\'') => Some(after_char(chars, at)),
        ("r" | "br" | "cr", '"' | '#') => {
            let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
            if chars.get(at + hashes) != Some(&'"') {
                return None;
            }
            let mut end = at + hashes + 1;
            while end < chars.len() {
                let closes = chars[end] == '"'
                    && chars[end + 1..]
                        .iter()
                        .take(hashes)
                        .filter(|c| **c == '#')
                        .count()
                        == hashes;
                if closes {
                    return Some(end + 1 + hashes);
                }
                end += 1;
            }
            Some(end)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{paths, tokens};

    fn check(module: &[&str], source: &str, expected: &[&str]) {
        let found: Vec<String> = paths(module, source)
            .into_iter()
            .map(|path| {
                let root = if path.from_root { "crate::" } else { "" };
                format!("{}:{root}{}", path.line, path.segments.join("::"))
            })
            .collect();
        assert_eq!(found, expected, "in {source}");
    }

    #[test]
    fn paths_are_read_from_uses_groups_and_expressions() {
        check(&["a"], "use crate::b::C;", &["1:crate::b::C"]);
        check(
            &["a"],
            "use crate::{b::{C, D as E}, f, g::*};",
            &[
                "1:crate::b::C",
                "1:crate::b::D",
                "1:crate::f",
                "1:crate::g::*",
            ],
        );
        check(
            &["a"],
            "fn f() {\n  let x = crate::b::C { y: std::fs::read::<u8>() };\n}",
            &["2:crate::b::C", "2:std::fs::read"],
        );
        check(
            &["a"],
            "pub(crate) fn f(x: &crate::b::T) {}",
            &["1:crate::b::T"],
        );
        check(
            &["a"],
            "macro_rules! m { () => { $crate::b::c() } }",
            &["1:crate::b::c"],
        );
        check(&["a"], "#[tokio::test]\nfn f() {}", &["1:tokio::test"]);
        check(
            &["a"],
            "use ::tokio::{fs, net as n};",
            &["1:tokio::fs", "1:tokio::net"],
        );
    }

    #[test]
    fn super_climbs_from_the_module_that_it_is_written_in() {
        check(&["a", "b"], "use super::c::D;", &["1:crate::a::c::D"]);
        check(&["a", "b"], "use super::super::c::D;", &["1:crate::c::D"]);
        check(
            &["a", "b"],
            "mod tests { use super::super::super::c::D; }\nuse super::e::F;",
            &["1:crate::c::D", "2:crate::a::e::F"],
        );
        check(
            &["a"],
            "use super::{b, c::D};",
            &["1:crate::b", "1:crate::c::D"],
        );
        check(&["a"], "use self::b::C;", &["1:crate::a::b::C"]);
    }

    #[test]
    fn comments_and_literals_hold_no_paths() {
        check(
            &["a"],
            "// crate::b::C\n/* crate::b /* crate::c */ crate::d */",
            &[],
        );
        check(
            &["a"],
            r####"let s = ("crate::b\"::c", r#"crate::"d"#, b"crate::e");"####,
            &[],
        );
        check(
            &["a"],
            "let q = '\"'; use crate::b::C; let r = '\\'';",
            &["1:crate::b::C"],
        );
        check(
            &["a"],
            "fn f<'a>(x: &'a crate::b::C) {}",
            &["1:crate::b::C"],
        );
        check(
            &["a"],
            "let s = \"\n\n\"; crate::b::c();",
            &["3:crate::b::c"],
        );
    }

    #[test]
    fn tokens_keep_raw_identifiers() {
        let words: Vec<String> = tokens("r#type r\"x\" y")
            .into_iter()
            .map(|t| t.text)
            .collect();
        assert_eq!(words, ["type", "y"]);
    }
}
