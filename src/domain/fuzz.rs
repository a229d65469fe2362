//! Values that come from outside, as any text: what is accepted is safe, what is shown hides nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::content::{ContentRef, PREVIEW_BYTES, is_sha256};
use super::live::{LIVE_BYTES, LiveText, Sent};
use super::narrowing::{Narrowing, Project};
use super::policy::{Pattern, is_within};
use super::trigger::{Occasion, Schedule, Trigger};
use super::visible::{is_hidden, visible_line, visible_text};
use super::worktree::name;
use super::{field, trigger, worktree};
use crate::base::Timestamp;
use crate::base::fuzz::Target;
use crate::base::id::DaemonId;
use crate::domain::event::TransientBody;

const PATHS: &[&str] = &[
    "/srv/proj",
    "/srv/../etc/passwd",
    "src/main.rs",
    "a/../../b",
    ".git/config",
    "a/.GIT/x",
    "/",
    "",
    "config/.env",
    "-rf",
    "~/x",
    "a\\..\\b",
];

const NAMES: &[&str] = &[
    "main",
    "agent/alice/t-1-fix",
    "dependabot/npm/@types/x-1.2",
    "refs/heads/x",
    "HEAD",
    "@{-1}",
    "a..b",
    "a.lock",
    "--upload-pack=x",
    "Worker Alice",
    "ünïcode & more!",
    "tsk_01KAJZ0000000000000000AAAA",
    "refs/baton/recover/wtr_01KAJZ0000000000000000AAAA/20260102-030405",
    "claude-sonnet-4-5[1m]",
    "acp:gemini",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn paths_that_are_accepted_lead_nowhere_else() {
    Target::new("paths")
        .seeds(PATHS.iter().copied())
        .run(|bytes| {
            let path = text(bytes);
            if field::path("path", &path).is_ok() && !path.is_empty() {
                assert!(path.starts_with('/') && path.len() <= field::MAX_PATH_BYTES);
                assert!(!path.chars().any(char::is_control));
                assert!(!path.split('/').any(|part| part == ".." || part == "."));
            }
            if name::copied_file("copy", &path).is_ok() {
                let joined = std::path::Path::new("/root/of/it").join(&path);
                assert!(joined.starts_with("/root/of/it"), "{joined:?}");
                let plain = joined.components().all(|part| {
                    !matches!(part, std::path::Component::ParentDir)
                        && !part.as_os_str().eq_ignore_ascii_case(".git")
                });
                assert!(plain && !path.chars().any(char::is_control), "{joined:?}");
            }
            // A directory that a token is narrowed to has one form, and holds nothing that leads out of it.
            let narrowing = Narrowing {
                projects: vec![Project {
                    directory: path.clone(),
                    daemon_id: None,
                }],
                sessions: Vec::new(),
            };
            if let Ok(checked) = narrowing.checked() {
                assert_eq!(checked.clone().checked().unwrap(), checked);
                let directory = &checked.projects[0].directory;
                assert!(checked.has_place(DaemonId::from_bits(1), directory));
                for out in ["/..", "/../x", "x"] {
                    let place = format!("{directory}{out}");
                    let is_out = directory != "/" || out == "/..";
                    assert!(
                        !(is_out && checked.has_place(DaemonId::from_bits(1), &place)),
                        "{place:?}"
                    );
                }
            }
            let narrowed = Project {
                directory: "/srv/proj".to_owned(),
                daemon_id: None,
            };
            if narrowed.contains(&path) {
                assert!(!path.split('/').any(|part| part == ".."), "{path:?}");
                assert!(
                    path.trim_start_matches(['/', '.']).starts_with("srv"),
                    "{path:?}"
                );
            }
            if is_within(&path, "/srv/proj") {
                assert!(path == "/srv/proj" || path.starts_with("/srv/proj/"));
            }
        });
}

#[test]
fn names_that_are_accepted_are_no_options_and_no_expressions() {
    Target::new("names")
        .seeds(NAMES.iter().copied())
        .run(|bytes| {
            let given = text(bytes);
            let safe = |name: &str, max: usize| {
                assert!(!name.starts_with('-'), "an option: {name:?}");
                assert!(!name.contains("..") && !name.contains("@{"), "{name:?}");
                assert!(
                    name.is_ascii() && !name.bytes().any(|b| b.is_ascii_control() || b == b' ')
                );
                assert!(
                    !name.contains(['~', '^', ':', '?', '*', '[', '\\']),
                    "{name:?}"
                );
                assert!(!name.starts_with('/') && !name.ends_with('/') && !name.contains("//"));
                assert!(!name.ends_with(".lock") && !name.ends_with('.') && name.len() <= max);
                assert!(
                    name.split('/').all(|part| !part.starts_with('.')),
                    "{name:?}"
                );
            };
            if let Ok(plain) = name::agent("name", &given) {
                safe(&plain, 64);
                assert!(!plain.is_empty() && !plain.contains('/'));
                assert_eq!(
                    name::agent("name", &plain).unwrap(),
                    plain,
                    "it has one form"
                );
                let now = Timestamp::from_millis(1_795_240_000_000);
                let slug = name::slug(&given);
                for task in ["", "tsk_1"] {
                    let branch = name::branch_of(&plain, task, &slug, now);
                    safe(&branch, 200);
                    name::branch("branch", &branch).unwrap();
                    let directory = name::directory_of(&plain, task, &slug, now);
                    safe(&directory, 150);
                    name::directory("directory", &directory).unwrap();
                }
            }
            let slug = name::slug(&given);
            assert!(
                slug.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
            assert!(!slug.starts_with('-') && !slug.ends_with('-'));
            if name::branch("branch", &given).is_ok() {
                safe(&given, 200);
            }
            if name::task("task", &given).is_ok() {
                safe(&given, 64);
                assert!(!given.contains('/'));
            }
            if name::directory("directory", &given).is_ok() {
                safe(&given, 150);
                assert!(!given.contains('/'));
            }
            if worktree::order::snapshot_ref("ref", &given).is_ok() {
                safe(&given, 512);
                assert!(given.starts_with("refs/"), "{given:?}");
            }
            if field::word("word", &given).is_ok() {
                assert!(
                    !given.starts_with('-')
                        && given.is_ascii()
                        && !given.contains(['\0', '\n', ' '])
                );
            }
            if field::title("title", &given).is_ok() {
                assert!(!given.chars().any(char::is_control) && !given.contains('\u{202e}'));
            }
            if field::env_names("env", std::slice::from_ref(&given)).is_ok() {
                assert!(!given.contains(['=', '\0']) && !given.is_empty());
            }
            let argv: Vec<String> = given.split(' ').map(str::to_owned).collect();
            if field::argv("argv", &argv).is_ok() {
                assert!(!argv[0].is_empty() && argv.iter().all(|word| !word.contains('\0')));
            }
            let labels: BTreeMap<String, String> = [(given.clone(), given.clone())].into();
            if field::labels("labels", &labels).is_ok() {
                assert!(!given.is_empty() && !given.starts_with('='));
            }
        });
}

#[test]
fn what_is_shown_hides_nothing() {
    Target::new("visible")
        .seeds([
            "ls -l",
            "rm\u{200b} x",
            "\u{1b}[2K\rok",
            "a\u{e0041}\u{202e}b\n\t\u{9b}1m",
            "naïve 漢字",
        ])
        .run(|bytes| {
            let given = text(bytes);
            let line = visible_line(&given, 200);
            assert!(!line.chars().any(is_hidden), "{line:?}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
            // The longest escape is that of a tag character.
            assert!(line.chars().count() <= 200 + "\\u{e0041}".len() + 1);
            let shown = visible_text(&given);
            assert!(
                !shown
                    .chars()
                    .any(|c| c.is_control() && c != '\n' && c != '\t'),
                "{shown:?}"
            );
            assert_eq!(
                visible_text(&shown),
                shown,
                "what is shown is shown as it is"
            );
            assert!(shown.len() <= given.len() * "\\u{e0041}".len());
            let reference = ContentRef::of(bytes, "text/plain");
            assert!(is_sha256(&reference.sha256) && reference.size_bytes == bytes.len() as u64);
            assert!(reference.head.len() <= PREVIEW_BYTES && reference.tail.len() <= PREVIEW_BYTES);
            if is_sha256(&given) {
                assert!(
                    given.len() == 64
                        && given
                            .bytes()
                            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                );
            }
        });
}

/// What a shell makes more than one plain command of.
const SHELL: &[char] = &[
    ';', '&', '|', '\n', '`', '$', '(', ')', '<', '>', '{', '}', '\'', '"', '\\', '*', '?', '[',
    '~', '#', '!', '\t', '\r', '\0',
];

#[test]
fn a_pattern_allows_only_what_it_says() {
    let seeds = [
        "Bash\nls -la src",
        "Bash(git status)\ngit status",
        "Bash(git status:*)\ngit status --short; rm -rf /",
        "Edit(src/**)\nsrc/../../etc/passwd",
        "Read(/srv/proj/*.rs)\n/srv/proj/a.rs",
        "Glob([!a]{b,c}**/*)\nx",
        "WebFetch(domain:example.com)\nhttps://user@example.com.evil.org:80/x",
        "WebFetch(domain:example.com)\nhttps://a.example.com/x",
        "mcp__x__y\n{}",
    ];
    Target::new("patterns")
        .seeds(seeds)
        .words(&["Bash(", "Edit(", "WebFetch(domain:", ":*)", "**", "{a,b}", "[a-z]", "$(x)", " && ", "\n", "file_path"])
        .weighs(25)
        .run(|bytes| {
            let given = text(bytes);
            let (pattern, called) = given.split_once('\n').unwrap_or((&given, ""));
            let cwd = "/srv/proj";
            let input: Value = json!({"command": called, "file_path": called, "path": called, "notebook_path": called, "url": called});
            for tool in ["Bash", "Read", "Edit", "Glob", "WebFetch", "mcp__x__y"] {
                // What "remember this" writes down means the call it was made of.
                if let Some(own) = super::policy::pattern_of(tool, &input, cwd)
                    && own.len() <= super::policy::MAX_PATTERN_BYTES
                {
                    let read = Pattern::parse(&own).unwrap_or_else(|error| panic!("{own:?}: {error}"));
                    assert!(read.matches_surely(tool, &input, cwd), "{own:?} is of {called:?}");
                }
                let Ok(read) = Pattern::parse(pattern) else { continue };
                let surely = read.matches_surely(tool, &input, cwd);
                assert!(!surely || read.matches_maybe(tool, &input, cwd), "what is sure may be");
                if surely && pattern.contains('(') {
                    match tool {
                        "Bash" => assert!(!called.contains(SHELL), "{called:?}"),
                        // What a browser leaves out of an address changes nothing.
                        "WebFetch" => {
                            let cleaned = json!({"url": called.replace(['\n', '\r', '\t'], "")});
                            assert!(read.matches_surely(tool, &cleaned, cwd), "{called:?}");
                        }
                        _ => assert!(!called.split('/').any(|part| part == ".."), "{called:?}"),
                    }
                }
                let odd = read.matches_surely(tool, &json!({"command": 1, "file_path": [], "path": {}, "url": null}), cwd);
                assert!(!odd || !pattern.contains('('), "an odd call is asked");
            }
        });
}

#[test]
fn a_schedule_goes_forward() {
    Target::new("cron")
        .seeds([
            "0 9 * * 1-5\nEurope/Berlin",
            "*/5 * * * *\nUTC",
            "0 0 29 2 *\nAmerica/New_York",
            "30 2 * * 7\nEurope/Berlin",
            "@daily\nUTC",
            "0 0 31 2 *\nUTC",
        ])
        .words(&[
            "L",
            "W",
            "#",
            "MON",
            "JAN",
            "?",
            "*/0",
            "1-0",
            "59/60",
            "Etc/GMT+12",
            "Asia/Kolkata",
        ])
        .weighs(8)
        .run(|bytes| {
            let given = text(bytes);
            let (cron, time_zone) = given.split_once('\n').unwrap_or((&given, "UTC"));
            let schedule = Schedule {
                cron: cron.to_owned(),
                time_zone: time_zone.to_owned(),
            };
            let accepted = trigger::check(&[Trigger {
                on: Occasion::Cron(schedule.clone()),
                input: "go".to_owned(),
            }]);
            if accepted.is_ok() {
                let mut now = Timestamp::from_millis(1_795_240_000_000);
                for _ in 0..3 {
                    let Some(next) = schedule.next(now) else {
                        break;
                    };
                    assert!(next > now, "{schedule:?}: {next} is not after {now}");
                    now = next;
                }
            }
        });
}

#[test]
fn live_text_is_bounded_and_arrives() {
    Target::new("live_text")
        .seeds([
            "m1 0 0 Hello",
            "m1 0 5 , world",
            "m1 1 0 thought",
            "m2 0 0 next",
            "m1 0 100 far",
            "! m1",
        ])
        .pieces(24)
        .weighs(10)
        .run_all(|pieces| {
            let (mut live, mut sent) = (LiveText::default(), Sent::default());
            for piece in pieces {
                let line = text(piece);
                let mut words = line.splitn(4, ' ');
                let mut word = || words.next().unwrap_or_default().to_owned();
                let (id, block, offset) = (
                    word(),
                    word().parse().unwrap_or(7),
                    word().parse().unwrap_or(9),
                );
                if id == "!" {
                    live.clear();
                    continue;
                }
                // Now and then more than is kept at all.
                let word = word();
                let times =
                    (1 + piece.len() % 50 * 100).min(1 + 2 * LIVE_BYTES / word.len().max(1));
                let text = word.repeat(times);
                live.add(TransientBody::MessageDelta {
                    message_id: id,
                    block,
                    offset,
                    text,
                    thinking: piece.len() % 2 == 1,
                });
                assert!(live.bytes() <= LIVE_BYTES, "{} bytes", live.bytes());
                if piece.len() % 3 == 0 {
                    let mut steps = 0;
                    while live.next(&mut sent).is_some() {
                        steps += 1;
                        assert!(steps <= 1_000, "it has no end");
                    }
                }
            }
        });
}
