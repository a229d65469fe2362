//! Which text of an event can be searched.

use crate::domain::{Block, ContentRef, Event, EventBody};

/// The text of an event; `None` if it has none.
pub(super) fn text_of(event: &Event) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let joined;
    match &event.body {
        EventBody::InputAccepted { text, .. }
        | EventBody::Output { text, .. }
        | EventBody::Stderr { text, .. }
        | EventBody::Notice { text, .. } => parts.push(text),
        EventBody::InputChanged { text, .. } => parts.push(text),
        EventBody::Message { blocks, .. } | EventBody::ToolResult { blocks, .. } => {
            for block in blocks {
                match block {
                    Block::Text(text) | Block::Thinking(text) => parts.push(text),
                    Block::Content(content) => preview(content, &mut parts),
                }
            }
        }
        EventBody::ToolCall {
            tool,
            input,
            content,
            ..
        } => {
            parts.push(tool);
            if let Some(input) = input {
                parts.push(input.as_str());
            }
            if let Some(content) = content {
                preview(content, &mut parts);
            }
        }
        EventBody::PlanUpdated { items } => {
            parts.extend(items.iter().map(|item| item.text.as_str()));
        }
        EventBody::PromptRequested { prompt } => {
            parts.push(&prompt.tool);
            parts.push(&prompt.plan);
            parts.push(prompt.input.as_str());
            parts.extend(
                prompt
                    .questions
                    .iter()
                    .map(|question| question.text.as_str()),
            );
        }
        EventBody::Ended { end } => {
            joined = format!("{} {}", end.message, end.stderr_tail);
            parts.push(&joined);
        }
        _ => return None,
    }
    let text = parts.join("\n");
    (!text.trim().is_empty()).then_some(text)
}

fn preview<'a>(content: &'a ContentRef, parts: &mut Vec<&'a str>) {
    parts.push(&content.head);
    if content.size_bytes > content.head.len() as u64 {
        parts.push(&content.tail);
    }
}
