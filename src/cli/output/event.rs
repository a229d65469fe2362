//! Events as people read them.

use super::style::{Style, Tone, fit, safe, visible_line};
use crate::base::Json;
use crate::cli::value::{short_duration, size};
use crate::domain::event::{Event, EventBody, Role};
use crate::domain::prompt::{AnswerBody, AnswerDelivery, Prompt, PromptAnswer, PromptKind};
use crate::domain::session::{Activity, EndInfo, LimitAction};
use crate::domain::{Block, ContentRef, Usage};

/// How many lines of a tool's answer are shown.
const RESULT_LINES: usize = 8;
/// How many columns of a tool's input are shown.
const INPUT_COLUMNS: usize = 160;

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What it is, in a word.
    pub tag: &'static str,
    /// How important it is.
    pub tone: Tone,
    /// What it says; may have several lines. Harmless to show.
    pub text: String,
}

/// One event as a line of a log, with its number and time; further lines are indented.
pub fn log_line(event: &Event, style: Style) -> String {
    let words = words(&event.body);
    let time = event.time.to_string();
    // 2026-11-21T04:34:56.123000Z: the time of day, in UTC as in the log.
    let time = time.get(11..19).unwrap_or(&time);
    let head = format!("{:>5} {} ", event.seq, time);
    let by = match &event.actor {
        // The text says by whom.
        _ if matches!(event.body, EventBody::PromptAnswered { .. }) => String::new(),
        Some(actor) if !actor.name.is_empty() => format!(" ({})", visible_line(&actor.name)),
        _ => String::new(),
    };
    let indent = format!("\n{}", " ".repeat(head.len() + 11));
    format!(
        "{}{} {}{}",
        style.paint(Tone::Dim, &head),
        style.paint(words.tone, &format!("{:<10}", words.tag)),
        words.text.trim_end().replace('\n', &indent),
        style.paint(Tone::Dim, &by),
    )
    .trim_end()
    .to_owned()
}

/// An event's body in words.
pub fn words(body: &EventBody) -> Words {
    let (tag, tone, text) = match body {
        EventBody::SessionCreated {
            harness,
            cwd,
            resumed_from,
            forked_from,
            ..
        } => {
            let from = match (resumed_from, forked_from) {
                (Some(id), _) => format!(", continues {id}"),
                (_, Some(id)) => format!(", branched off from {id}"),
                _ => String::new(),
            };
            ("created", Tone::Dim, format!("{harness} in {cwd}{from}"))
        }
        EventBody::Started {
            model,
            version,
            pid,
            tools,
            ..
        } => {
            // The harness comes second, with what only it knows; its process was told before.
            let is_harness = !version.is_empty() || !tools.is_empty();
            let mut parts = Vec::new();
            if !is_harness {
                parts.push(format!("pid {pid}"));
            }
            if !model.is_empty() {
                parts.push(model.clone());
            }
            if !version.is_empty() {
                parts.push(format!("version {version}"));
            }
            if !tools.is_empty() {
                parts.push(format!("{} tools", tools.len()));
            }
            let tag = if is_harness { "ready" } else { "started" };
            (tag, Tone::Dim, parts.join(", "))
        }
        EventBody::LifecycleChanged { from, to } => (
            "lifecycle",
            Tone::Dim,
            format!("{} → {}", from.as_str(), to.as_str()),
        ),
        EventBody::ActivityChanged { activity, .. } => (
            "activity",
            Tone::Dim,
            match activity {
                Activity::Working => "working",
                Activity::AwaitingInput => "waits for input",
                Activity::AwaitingPrompt => "waits for an answer",
                Activity::Unknown => "cannot be told",
            }
            .to_owned(),
        ),
        EventBody::LinkChanged { attached: true, .. } => {
            ("link", Tone::Good, "the daemon is linked again".to_owned())
        }
        EventBody::LinkChanged { .. } => (
            "link",
            Tone::Warn,
            "the daemon's link is lost; the agent works on and the log catches up".to_owned(),
        ),
        EventBody::InputAccepted { text, .. } => ("input", Tone::Name, text.clone()),
        EventBody::InputChanged {
            state,
            text,
            reason,
            ..
        } => (
            "input",
            Tone::Dim,
            [state.as_str(), reason, text]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(": "),
        ),
        EventBody::Message { role, blocks, .. } => (
            match role {
                Role::Agent => "agent",
                Role::User => "user",
                Role::System => "system",
            },
            Tone::Strong,
            blocks.iter().map(block).collect::<Vec<_>>().join("\n"),
        ),
        EventBody::ToolCall {
            tool,
            input,
            content,
            ..
        } => (
            "tool",
            Tone::Name,
            format!("{tool} {}", call(input.as_ref(), content.as_ref())),
        ),
        EventBody::ToolResult {
            blocks, is_error, ..
        } => (
            "result",
            if *is_error { Tone::Bad } else { Tone::Dim },
            few_lines(&blocks.iter().map(block).collect::<Vec<_>>().join("\n")),
        ),
        EventBody::TurnStarted { .. } => ("turn", Tone::Dim, "began".to_owned()),
        EventBody::TurnEnded {
            is_error,
            reason,
            usage,
            duration,
            api_status,
            text,
            ..
        } => {
            let mut words = format!("{reason} after {}", short_duration(*duration));
            if let Some(spent) = spent(usage) {
                words.push_str(&format!(", {spent}"));
            }
            if *api_status != 0 {
                words.push_str(&format!(", API status {api_status}"));
            }
            if *is_error && !text.is_empty() {
                words.push_str(&format!(": {text}"));
            }
            (
                "turn",
                if *is_error { Tone::Bad } else { Tone::Good },
                words,
            )
        }
        EventBody::PlanUpdated { items } => (
            "plan",
            Tone::Plain,
            items
                .iter()
                .map(|item| {
                    let mark = match item.status.as_str() {
                        "completed" => "☑",
                        "in_progress" => "▸",
                        _ => "☐",
                    };
                    format!("{mark} {}", item.text)
                })
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        EventBody::Output { text, continues } => ("out", Tone::Plain, line(text, *continues)),
        EventBody::Stderr { text, continues } => ("err", Tone::Warn, line(text, *continues)),
        EventBody::UsageUpdated { total } => (
            "usage",
            Tone::Dim,
            spent(total).unwrap_or_else(|| "nothing yet".to_owned()),
        ),
        EventBody::RateLimited { until, message } => (
            "limited",
            Tone::Warn,
            match until {
                Some(until) => format!("until {until}: {message}"),
                None => message.clone(),
            },
        ),
        EventBody::LimitExceeded {
            limit,
            value,
            allowed,
            action,
            budget_id,
        } => (
            "limit",
            Tone::Bad,
            format!(
                "{limit}: {value} of {allowed} allowed{}; the session {}",
                budget_id
                    .map(|id| format!(" by the budget {id}"))
                    .unwrap_or_default(),
                match action {
                    LimitAction::End => "ends",
                    LimitAction::Suspend => "is suspended",
                    LimitAction::Park => "is parked",
                }
            ),
        ),
        EventBody::LimitLifted { budget_id, reason } => (
            "goes on",
            Tone::Good,
            format!("the budget {budget_id} no longer holds it: {reason}"),
        ),
        EventBody::PromptRequested { prompt } => ("asks", Tone::Warn, asked(prompt)),
        EventBody::PromptAnswered { answer, .. } => ("answered", Tone::Good, answered(answer)),
        EventBody::PromptExpired { .. } => {
            ("expired", Tone::Warn, "nobody answered in time".to_owned())
        }
        EventBody::PromptWithdrawn { reason, .. } => ("withdrawn", Tone::Dim, reason.clone()),
        EventBody::PromptDelivered {
            delivery, reason, ..
        } => {
            let (tone, word) = match delivery {
                AnswerDelivery::Applied => (Tone::Dim, "the agent has the answer"),
                AnswerDelivery::Queued => (Tone::Dim, "the answer waits for the daemon"),
                AnswerDelivery::None => (Tone::Dim, "there is no answer"),
                AnswerDelivery::Undeliverable => (Tone::Bad, "the agent no longer asks"),
                AnswerDelivery::Indeterminate => (
                    Tone::Warn,
                    "nobody can tell whether the agent has the answer",
                ),
            };
            let reason = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            ("answer", tone, format!("{word}{reason}"))
        }
        EventBody::OptionsChanged {
            model,
            permission_mode,
        } => {
            let mut parts = Vec::new();
            match model.as_deref() {
                None => {}
                Some("") => parts.push("the default model".to_owned()),
                Some(model) => parts.push(format!("model {model}")),
            }
            if let Some(mode) = permission_mode {
                parts.push(format!("permission mode {}", mode.as_str()));
            }
            ("options", Tone::Dim, parts.join(", "))
        }
        EventBody::CommandFailed {
            command,
            outcome,
            reason,
            ..
        } => (
            "failed",
            Tone::Bad,
            format!(
                "{command} {}: {reason}",
                format!("{outcome:?}").to_lowercase()
            ),
        ),
        EventBody::Notice { kind, text } => ("notice", Tone::Dim, format!("{kind}: {text}")),
        EventBody::Gap {
            from_origin_seq,
            to_origin_seq,
            reason,
        } => (
            "gap",
            Tone::Bad,
            format!("records {from_origin_seq} to {to_origin_seq} are missing: {reason}"),
        ),
        EventBody::Ended { end } => (
            "ended",
            if super::super::exit::code_of_end(end) == 0 {
                Tone::Good
            } else {
                Tone::Bad
            },
            ended(end),
        ),
    };
    Words {
        tag,
        tone,
        text: match body {
            // What is put up for approval shows every hidden character.
            EventBody::PromptRequested { .. } => text,
            _ => safe(&text),
        },
    }
}

/// How a session ended.
pub fn ended(end: &EndInfo) -> String {
    let mut text = end.reason.as_str().to_owned();
    if let Some(code) = end.exit_code {
        text.push_str(&format!(", exit code {code}"));
    }
    if end.signal != 0 {
        text.push_str(&format!(", signal {}", end.signal));
    }
    if !end.message.is_empty() {
        text.push_str(&format!(": {}", end.message));
    }
    let tail = end.stderr_tail.trim_end();
    if !tail.is_empty() && super::super::exit::code_of_end(end) != 0 {
        text.push_str(&format!("\n{tail}"));
    }
    text
}

fn block(block: &Block) -> String {
    match block {
        Block::Text(text) => text.clone(),
        Block::Thinking(text) => format!("(thinks) {text}"),
        Block::Content(content) => reference(content),
    }
}

fn reference(content: &ContentRef) -> String {
    let what = format!(
        "[{} of {}, sha256 {}]",
        size(content.size_bytes),
        content.media_type,
        content.sha256.get(..12).unwrap_or(&content.sha256)
    );
    if content.head.is_empty() {
        what
    } else {
        format!("{}\n… {what}", few_lines(&content.head))
    }
}

/// What a tool is called with, in a line: the one field that says most, or all of it.
pub fn call(input: Option<&Json>, content: Option<&ContentRef>) -> String {
    let Some(input) = input else {
        return content.map(reference).unwrap_or_default();
    };
    let value = input.to_value();
    let telling = [
        "command",
        "file_path",
        "path",
        "pattern",
        "url",
        "query",
        "description",
    ]
    .into_iter()
    .find_map(|key| value.get(key)?.as_str().map(str::to_owned));
    let text = telling.unwrap_or_else(|| match &value {
        serde_json::Value::Null => String::new(),
        _ => input.as_str().to_owned(),
    });
    fit(&visible_line(&text), INPUT_COLUMNS)
}

fn few_lines(text: &str) -> String {
    let text = text.trim_end();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= RESULT_LINES + 1 {
        return text.to_owned();
    }
    format!(
        "{}\n… {} more lines",
        lines[..RESULT_LINES].join("\n"),
        lines.len() - RESULT_LINES
    )
}

fn line(text: &str, continues: bool) -> String {
    if continues {
        format!("{text}↩")
    } else {
        text.to_owned()
    }
}

fn spent(usage: &Usage) -> Option<String> {
    let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
    let mut parts = Vec::new();
    if tokens > 0 {
        parts.push(format!(
            "{} in, {} out",
            usage.input_tokens, usage.output_tokens
        ));
    }
    if usage.cost_micro_usd > 0 {
        parts.push(format!("${:.4}", usage.cost_micro_usd as f64 / 1e6));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What a prompt asks, in a line, every hidden character visible.
pub fn asked(prompt: &Prompt) -> String {
    let text = match prompt.kind {
        PromptKind::Question => prompt
            .questions
            .iter()
            .map(|question| question.text.as_str())
            .collect::<Vec<_>>()
            .join(" / "),
        PromptKind::Plan => format!(
            "review a plan: {}",
            prompt.plan.lines().next().unwrap_or("")
        ),
        _ if !prompt.summary.is_empty() => prompt.summary.clone(),
        _ => format!("{} {}", prompt.tool, call(Some(&prompt.input), None)),
    };
    format!("[{}] {}", prompt.id, visible_line(text.trim_end()))
}

/// What was answered, and by whom.
pub fn answered(answer: &PromptAnswer) -> String {
    let what = match &answer.body {
        AnswerBody::Decision(decision) => {
            let verdict = if decision.allow { "allowed" } else { "denied" };
            let mut text = verdict.to_owned();
            match decision.remember {
                crate::domain::prompt::Remember::None => {}
                crate::domain::prompt::Remember::Session => text.push_str(" for the session"),
                crate::domain::prompt::Remember::Rule => text.push_str(" for good"),
            }
            if decision.updated_input.is_some() {
                text.push_str(" with changed input");
            }
            if !decision.message.is_empty() {
                text.push_str(&format!(": {}", decision.message));
            }
            text
        }
        AnswerBody::Answers(answers) => answers
            .iter()
            .map(|answer| {
                let mut parts = answer.labels.clone();
                if !answer.text.is_empty() {
                    parts.push(answer.text.clone());
                }
                parts.join(", ")
            })
            .collect::<Vec<_>>()
            .join(" / "),
    };
    let by = if answer.by.name.is_empty() {
        &answer.by.id
    } else {
        &answer.by.name
    };
    safe(&format!("{what} (by {by})"))
}

#[cfg(test)]
mod tests;
