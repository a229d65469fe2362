//! What the stand-in for the model says: decided by the directives in the conversation it is sent.
//!
//! A directive is a line `word: rest`. Each directive line is one answer of the model; a line that
//! starts with `+ ` joins the answer before it. Once every line has had its answer, tool results are
//! reported as `tool said: …`.

use serde_json::{Value, json};

/// One thing inside an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Text.
    Say(String),
    /// Thinking.
    Think(String),
    /// A call of a tool.
    Tool {
        /// The tool's name.
        name: &'static str,
        /// What it is called with.
        input: Value,
    },
    /// `chunks` pieces of text, one each `pause_ms` milliseconds.
    Slow {
        /// How many pieces.
        chunks: u32,
        /// The pause before each.
        pause_ms: u64,
    },
    /// An HTTP error instead of an answer: for the first `times` requests, or for ever.
    Fail {
        /// The HTTP status.
        status: u16,
        /// How often; `None` is always.
        times: Option<u32>,
    },
    /// A 429 with this `retry-after`.
    Limit {
        /// Seconds until a retry is welcome.
        seconds: u64,
    },
}

/// What the model answers to a request with this body.
pub fn answer(body: &Value) -> Vec<Step> {
    let empty = Vec::new();
    let messages = body["messages"].as_array().unwrap_or(&empty);
    // The newest message that a person wrote. What is sent while a tool runs arrives as a message of
    // the system behind the tool's result.
    let asked = messages.iter().enumerate().rev().find_map(|(at, message)| {
        let script = script_of(message);
        (message["role"] != "assistant" && !script.is_empty()).then_some((at, script))
    });
    let results = tool_results(messages);
    if let Some((at, script)) = asked {
        let given = messages[at + 1..]
            .iter()
            .filter(|message| message["role"] == "assistant")
            .count();
        if let Some(steps) = script.get(given) {
            return steps.clone();
        }
    }
    if results.is_empty() {
        let said = messages
            .iter()
            .rev()
            .find_map(plain_text)
            .unwrap_or_default();
        vec![Step::Say(format!("you said: {}", said.trim()))]
    } else {
        vec![Step::Say(format!("tool said: {}", results.join(" | ")))]
    }
}

/// The texts of the last message's tool results.
fn tool_results(messages: &[Value]) -> Vec<String> {
    let Some(last) = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "user")
    else {
        return Vec::new();
    };
    blocks(last)
        .into_iter()
        .filter(|block| block["type"] == "tool_result")
        .map(|block| match &block["content"] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect::<Vec<_>>()
                .join("\n"),
            _ => String::new(),
        })
        .collect()
}

fn blocks(message: &Value) -> Vec<Value> {
    match &message["content"] {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

/// A message's own words, without what the harness wove in.
fn plain_text(message: &Value) -> Option<String> {
    let text = blocks(message)
        .iter()
        .filter_map(|block| block["text"].as_str().map(without_reminders))
        .filter(|text| !text.trim().is_empty())
        .collect::<Vec<_>>()
        .join("\n");
    (message["role"] == "user" && !text.is_empty()).then_some(text)
}

/// The answers a message asks for, in order. Only its last block with a directive counts: a message that
/// had no answer (the request failed) is sent again in front of the next one.
fn script_of(message: &Value) -> Vec<Vec<Step>> {
    blocks(message)
        .iter()
        .rev()
        .filter_map(|block| block["text"].as_str())
        .map(|text| script(&without_reminders(text)))
        .find(|answers| !answers.is_empty())
        .unwrap_or_default()
}

fn script(text: &str) -> Vec<Vec<Step>> {
    let mut answers: Vec<Vec<Step>> = Vec::new();
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("+ ") {
            Some(more) => {
                if let (Some(step), Some(last)) = (step(more), answers.last_mut()) {
                    last.push(step);
                }
            }
            None => answers.extend(step(line).map(|step| vec![step])),
        }
    }
    answers
}

/// The text outside `<system-reminder>` elements.
fn without_reminders(text: &str) -> String {
    const OPEN: &str = "<system-reminder>";
    const CLOSE: &str = "</system-reminder>";
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        kept.push_str(&rest[..start]);
        rest = match rest[start..].find(CLOSE) {
            Some(end) => &rest[start + end + CLOSE.len()..],
            None => "",
        };
    }
    kept.push_str(rest);
    kept
}

fn step(line: &str) -> Option<Step> {
    let (word, rest) = line.split_once(':')?;
    let rest = rest.trim();
    Some(match word {
        "say" => Step::Say(rest.to_owned()),
        "think" => Step::Think(rest.to_owned()),
        "big" => Step::Say("x".repeat(rest.parse().ok()?)),
        "run" => Step::Tool {
            name: "Bash",
            input: json!({ "command": rest, "description": "Run a command" }),
        },
        "background" => Step::Tool {
            name: "Bash",
            input: json!({
                "command": rest,
                "description": "Run a command",
                "run_in_background": true,
            }),
        },
        "read" => Step::Tool {
            name: "Read",
            input: json!({ "file_path": rest }),
        },
        "write" => {
            let (file, text) = rest.split_once(' ').unwrap_or((rest, ""));
            Step::Tool {
                name: "Write",
                input: json!({ "file_path": file, "content": text }),
            }
        }
        "ask" => Step::Tool {
            name: "AskUserQuestion",
            input: json!({ "questions": questions(rest) }),
        },
        "plan-mode" => Step::Tool {
            name: "EnterPlanMode",
            input: json!({}),
        },
        "plan" => Step::Tool {
            name: "ExitPlanMode",
            input: json!({ "plan": rest }),
        },
        "slow" | "stream" => {
            let (chunks, pause_ms) = rest.split_once(' ')?;
            Step::Slow {
                chunks: chunks.parse().ok()?,
                pause_ms: pause_ms.trim().parse().ok()?,
            }
        }
        "error" => {
            let mut words = rest.split_whitespace();
            Step::Fail {
                status: words.next()?.parse().ok()?,
                times: words.next().and_then(|times| times.parse().ok()),
            }
        }
        "limit" => Step::Limit {
            seconds: rest.parse().ok()?,
        },
        _ => return None,
    })
}

/// `Question?|option|option ;; Second?*|a|b`, where `*` allows several answers.
fn questions(text: &str) -> Vec<Value> {
    text.split(";;")
        .map(|part| {
            let mut words = part.trim().split('|').map(str::trim);
            let asked = words.next().unwrap_or_default();
            let question = asked.trim_end_matches('*');
            json!({
                "question": question,
                "header": question.split_whitespace().next().unwrap_or("Question"),
                "options": words
                    .map(|label| json!({ "label": label, "description": format!("option {label}") }))
                    .collect::<Vec<_>>(),
                "multiSelect": asked.ends_with('*'),
            })
        })
        .collect()
}

#[test]
fn directives_are_found_among_what_the_harness_weaves_in() {
    let mut body = json!({ "messages": [{ "role": "user", "content": [
        { "type": "text", "text": "<system-reminder>\nsay: not this\n</system-reminder>" },
        { "type": "text", "text": "run: ls\n+ think: hm\nsay: done" },
    ] }] });
    body["messages"][0]["content"][0]["text"] =
        json!("<system-reminder>\nrules\n</system-reminder>");
    let first = answer(&body);
    assert!(matches!(&first[0], Step::Tool { name: "Bash", input } if input["command"] == "ls"));
    assert_eq!(first[1], Step::Think("hm".into()));
    let messages = body["messages"].as_array_mut().expect("an array");
    messages.push(json!({ "role": "assistant", "content": [] }));
    messages.push(json!({ "role": "user", "content": [
        { "type": "tool_result", "tool_use_id": "t", "content": "a\nb" },
    ] }));
    assert_eq!(answer(&body), [Step::Say("done".into())]);
    let messages = body["messages"].as_array_mut().expect("an array");
    messages.remove(2);
    messages.push(json!({ "role": "assistant", "content": [] }));
    messages.push(json!({ "role": "user", "content": [
        { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "out" }] },
    ] }));
    assert_eq!(answer(&body), [Step::Say("tool said: out".into())]);
}
