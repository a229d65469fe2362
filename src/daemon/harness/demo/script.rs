//! What a message tells the agent to do: one directive a line.

use std::time::Duration;

use serde_json::{Value, json};

/// The longest pause or delay a script may ask for.
const DELAY_MAX: Duration = Duration::from_secs(3_600);
/// The most text one directive may ask for.
const BIG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most chunks one directive may ask for.
const CHUNKS_MAX: u32 = 100_000;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Directive {
    /// Say a text.
    Say(String),
    /// Say a text piece by piece: what the agent answers to words it does not know.
    Explain,
    /// Say what it was told beside its inputs.
    Instructions,
    /// Think a text.
    Think(String),
    /// Say `chunks` pieces, one each `pause`.
    Stream {
        /// How many.
        chunks: u32,
        /// The pause before each.
        pause: Duration,
    },
    /// Call tools, all of them at once.
    Tools(Vec<Call>),
    /// Start a task that ends after `delay` and then starts a turn that says `text`.
    Background {
        /// How long the task takes.
        delay: Duration,
        /// What the later turn says.
        text: String,
    },
    /// Be turned away by a rate limit that ends in this many seconds.
    Limit {
        /// Seconds until the limit ends.
        seconds: u64,
    },
    /// Fail as if the model's endpoint had answered with this HTTP status.
    Error {
        /// The status.
        status: u16,
    },
    /// Say this many bytes in one line.
    Big {
        /// How many.
        bytes: usize,
    },
    /// End at once, in the middle of the turn.
    Crash {
        /// The exit code.
        code: i32,
    },
    /// Do nothing any more, and read nothing.
    Hang,
    /// Write a line to stderr.
    Stderr(String),
    /// Send a line of a kind that nobody knows.
    Odd,
    /// Add to the cost.
    Cost {
        /// Millionths of a dollar.
        micros: u64,
    },
    /// Say what was asked earlier in this conversation.
    Recall,
}

/// A tool and what it would be called with.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Run a command.
    Run(String),
    /// Write a file, or edit it if there is one.
    Write {
        /// The file, beneath the working directory.
        file: String,
        /// What it shall contain.
        text: String,
    },
    /// Ask questions: the tool's input.
    Ask(Value),
    /// Propose a plan.
    Plan(String),
    /// Say what is to be done and how far it is: the tool's input.
    Todo(Value),
    /// Look at a picture beneath the working directory.
    Show(String),
}

/// Reads the directives of a message; a message without any is answered with an explanation.
///
/// A line that starts with `+ ` belongs to the one before it: a tool is called together with that one's.
pub fn directives(text: &str) -> Vec<Directive> {
    let mut found: Vec<Directive> = Vec::new();
    for line in text.lines().map(str::trim) {
        let joined = line.strip_prefix("+ ");
        let Some(next) = directive(joined.unwrap_or(line)) else {
            continue;
        };
        match (found.last_mut(), next) {
            (Some(Directive::Tools(calls)), Directive::Tools(more)) if joined.is_some() => {
                calls.extend(more);
            }
            (_, next) => found.push(next),
        }
    }
    if found.is_empty() {
        found.push(Directive::Explain);
    }
    found
}

/// What the agent says about itself.
pub const EXPLANATION: &[&str] = &[
    "I am Baton's demo agent: ",
    "I call no model, I do what your message says, one directive a line.\n",
    "`say: TEXT`, `think: TEXT`, `stream: N MS`, `big: BYTES`, `instructions:` and `recall:` talk; ",
    "`run: COMMAND`, `write: FILE TEXT`, `ask: Question?|option|option ;; Second?*|a|b`, `plan: TEXT` ",
    "and `parallel: COMMAND ;; COMMAND` ask you first; ",
    "`todo: x done|> at work|open` lists what is to be done, `show: FILE` looks at a picture; ",
    "`background: MS TEXT` comes back later; ",
    "`limit: SECONDS`, `error: STATUS`, `crash: CODE`, `hang:`, `stderr: TEXT`, `odd:` and `cost: USD` ",
    "are for trying out what goes wrong.",
];

fn directive(line: &str) -> Option<Directive> {
    let (word, rest) = line.split_once(':')?;
    let rest = rest.trim();
    let read = match word {
        "say" => Some(Directive::Say(rest.to_owned())),
        "instructions" => Some(Directive::Instructions),
        "think" => Some(Directive::Think(rest.to_owned())),
        "stream" | "slow" => stream(rest),
        "run" | "write" | "ask" | "plan" | "todo" | "show" => {
            call(word, rest).map(|call| Directive::Tools(vec![call]))
        }
        "parallel" => parallel(rest),
        "background" => rest
            .split_once(' ')
            .and_then(|(ms, text)| Some((delay(ms)?, text.trim().to_owned())))
            .map(|(delay, text)| Directive::Background { delay, text }),
        "limit" => rest
            .parse()
            .ok()
            .map(|seconds| Directive::Limit { seconds }),
        "error" => rest
            .parse()
            .ok()
            .filter(|status| (400..600).contains(status))
            .map(|status| Directive::Error { status }),
        "big" => rest
            .parse()
            .ok()
            .filter(|bytes| *bytes <= BIG_BYTES_MAX)
            .map(|bytes| Directive::Big { bytes }),
        "crash" => rest.parse().ok().map(|code| Directive::Crash { code }),
        "hang" => Some(Directive::Hang),
        "stderr" => Some(Directive::Stderr(rest.to_owned())),
        "odd" => Some(Directive::Odd),
        "cost" => cost(rest).map(|micros| Directive::Cost { micros }),
        "recall" => Some(Directive::Recall),
        // Any other word with a colon behind it is just text.
        _ => return None,
    };
    // A typing error in a known word is told, not passed over.
    Some(read.unwrap_or_else(|| Directive::Say(format!("I cannot read this directive: {line}"))))
}

fn stream(rest: &str) -> Option<Directive> {
    let (chunks, pause) = rest.split_once(' ')?;
    Some(Directive::Stream {
        chunks: chunks.parse().ok().filter(|chunks| *chunks <= CHUNKS_MAX)?,
        pause: delay(pause.trim())?,
    })
}

fn delay(ms: &str) -> Option<Duration> {
    let delay = Duration::from_millis(ms.parse().ok()?);
    (delay <= DELAY_MAX).then_some(delay)
}

fn cost(usd: &str) -> Option<u64> {
    let usd: f64 = usd.parse().ok()?;
    // The range keeps the conversion exact enough and the sum of many far from overflow.
    (0.0..=1_000_000.0)
        .contains(&usd)
        .then(|| (usd * 1e6).round() as u64)
}

fn call(word: &str, rest: &str) -> Option<Call> {
    match word {
        "run" if !rest.is_empty() => Some(Call::Run(rest.to_owned())),
        "write" => {
            let (file, text) = rest.split_once(' ').unwrap_or((rest, ""));
            (!file.is_empty()).then(|| Call::Write {
                file: file.to_owned(),
                text: text.to_owned(),
            })
        }
        "ask" => questions(rest).map(Call::Ask),
        "plan" => Some(Call::Plan(rest.to_owned())),
        "todo" => todo(rest).map(Call::Todo),
        "show" if !rest.is_empty() => Some(Call::Show(rest.to_owned())),
        _ => None,
    }
}

/// Parts between `;;`: each a tool's directive, or a command.
fn parallel(rest: &str) -> Option<Directive> {
    let calls = rest
        .split(";;")
        .map(str::trim)
        .map(|part| {
            part.split_once(':')
                .and_then(|(word, rest)| call(word, rest.trim()))
                .or_else(|| call("run", part))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Directive::Tools(calls))
}

/// `x done|> at work|open`.
fn todo(text: &str) -> Option<Value> {
    let todos = text
        .split('|')
        .map(str::trim)
        .map(|item| {
            let (status, content) = if let Some(rest) = item.strip_prefix("x ") {
                ("completed", rest.trim())
            } else if let Some(rest) = item.strip_prefix("> ") {
                ("in_progress", rest.trim())
            } else {
                ("pending", item)
            };
            (!content.is_empty())
                .then(|| json!({ "content": content, "status": status, "activeForm": content }))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(json!({ "todos": todos }))
}

/// `Question?|option|option ;; Second?*|a|b`, where `*` allows several answers.
fn questions(text: &str) -> Option<Value> {
    let questions = text
        .split(";;")
        .map(|part| {
            let mut words = part.trim().split('|').map(str::trim);
            let asked = words.next().filter(|asked| !asked.is_empty())?;
            let question = asked.trim_end_matches('*');
            let options: Vec<Value> = words
                .map(|label| json!({ "label": label, "description": format!("option {label}") }))
                .collect();
            Some(json!({
                "question": question,
                "header": question.split_whitespace().next().unwrap_or("Question"),
                "options": options,
                "multiSelect": asked.ends_with('*'),
            }))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(json!({ "questions": questions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_line_by_line() {
        let read = directives("please\nsay: hi\nstream: 3 10\n  cost: 0.25\nrun: echo a: b");
        assert_eq!(
            read,
            [
                Directive::Say("hi".into()),
                Directive::Stream {
                    chunks: 3,
                    pause: Duration::from_millis(10)
                },
                Directive::Cost { micros: 250_000 },
                Directive::Tools(vec![Call::Run("echo a: b".into())]),
            ]
        );
    }

    #[test]
    fn plain_words_are_explained_and_typing_errors_told() {
        assert_eq!(directives("hello: world"), [Directive::Explain]);
        assert_eq!(directives(""), [Directive::Explain]);
        for wrong in [
            "stream: many",
            "cost: -1",
            "cost: NaN",
            "big: 99999999999",
            "error: 7",
            "run:",
        ] {
            let read = directives(wrong);
            assert!(
                matches!(&read[..], [Directive::Say(text)] if text.contains(wrong)),
                "{wrong}"
            );
        }
    }

    #[test]
    fn questions_carry_options_and_whether_several_may_be_chosen() {
        let Some(input) = questions("Which colour?|red|blue ;; Which sizes?*|S|L") else {
            panic!("not read");
        };
        assert_eq!(input["questions"][0]["multiSelect"], false);
        assert_eq!(input["questions"][1]["question"], "Which sizes?");
        assert_eq!(input["questions"][1]["multiSelect"], true);
        assert_eq!(input["questions"][1]["options"][1]["label"], "L");
    }

    #[test]
    fn what_is_to_be_done_has_states() {
        let Some(input) = todo("x read|> write it|test") else {
            panic!("not read");
        };
        let states: Vec<_> = (0..3)
            .map(|at| input["todos"][at]["status"].as_str())
            .collect();
        assert_eq!(
            states,
            [Some("completed"), Some("in_progress"), Some("pending")]
        );
        assert_eq!(input["todos"][1]["content"], "write it");
        assert_eq!(todo("a||b"), None);
    }

    #[test]
    fn parallel_parts_are_tools_or_commands() {
        for text in [
            "parallel: touch a ;; write: b c ;; ask: Sure?|yes|no",
            "run: touch a\n+ write: b c\n+ ask: Sure?|yes|no",
        ] {
            let read = directives(text);
            let [Directive::Tools(calls)] = &read[..] else {
                panic!("{read:?}");
            };
            assert!(matches!(
                &calls[..],
                [Call::Run(_), Call::Write { .. }, Call::Ask(_)]
            ));
        }
    }
}
