//! What an agent is told of a task: the text that goes to it as an input.

use super::{AttachmentBody, Task, What};

/// The most tasks beside the first that a brief names.
const MAX_NAMED: usize = 9;
/// The longest of an earlier note that is told, in characters.
const NOTE_CHARS: usize = 4_000;

impl Task {
    /// The task as it is given to an agent, as markdown: what is to be done, how to tell that it is done, what
    /// belongs to it, what was said when it was handed on or opened again, and where it is worked on.
    pub fn brief(&self) -> String {
        let mut text = format!("# Task {}: {}", self.id, self.title);
        if !self.body.is_empty() {
            text.push_str("\n\n");
            text.push_str(&self.body);
        }
        if !self.acceptance.is_empty() {
            text.push_str("\n\n## It is done when\n\n");
            text.push_str(&self.acceptance);
        }
        if !self.attachments.is_empty() {
            text.push_str("\n\n## What belongs to it\n");
            for attachment in &self.attachments {
                match &attachment.body {
                    AttachmentBody::Uri(uri) => {
                        text.push_str(&format!("\n- {}: {uri}", attachment.name));
                    }
                    AttachmentBody::Text(body) => {
                        text.push_str(&format!("\n- {}:\n\n{body}\n", attachment.name));
                    }
                }
            }
        }
        if let Some(note) = self.last_note() {
            text.push_str("\n\n## What was said before\n\n");
            text.extend(note.chars().take(NOTE_CHARS));
        }
        if let Some(branch) = self
            .living()
            .map(|living| living.branch.as_str())
            .filter(|branch| !branch.is_empty())
        {
            text.push_str(&format!("\n\nWork on the branch {branch}."));
        }
        text
    }

    /// What an agent is told that has worked on the task in this conversation.
    pub fn reminder(&self) -> String {
        format!(
            "Your task {} ({}) is not done yet. Go on with it.",
            self.id, self.title
        )
    }

    /// What was said when it was handed on, taken back or opened again, unless something came after.
    fn last_note(&self) -> Option<&str> {
        let last = self.history.iter().rev().find(|entry| {
            matches!(
                entry.what,
                What::HandedOff | What::Released | What::Reopened | What::Completed
            )
        })?;
        let is_told = last.what != What::Completed && !last.text.is_empty();
        // The whole note is kept where the assignment that it ended is.
        let ended = self
            .assignments
            .iter()
            .rev()
            .find(|assignment| !assignment.state.is_living());
        let whole = match (last.what, ended) {
            (What::HandedOff | What::Released, Some(ended)) if !ended.note.is_empty() => {
                &ended.note
            }
            _ => &last.text,
        };
        is_told.then_some(whole.as_str())
    }
}

/// What an agent is told of the tasks that are ready for it, the most urgent first: the first of them whole, the
/// others by name. `known` says that the conversation is about the first already. Empty if there are none.
pub fn ready_brief(tasks: &[Task], known: bool) -> String {
    let Some((first, others)) = tasks.split_first() else {
        return String::new();
    };
    let mut text = match known {
        true => first.reminder(),
        false => first.brief(),
    };
    if !others.is_empty() {
        text.push_str("\n\nAfter that, these are ready for you too:\n");
        for task in others.iter().take(MAX_NAMED) {
            text.push_str(&format!("\n- {}: {}", task.id, task.title));
        }
        if let Some(more) = others.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            text.push_str(&format!("\n- and {more} more"));
        }
    }
    text
}
