//! What a caller says of a task: when it is made, and when it is changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dependency::check_all;
use super::{LEVELS, On, Status, Task, Type, What};
use crate::base::{Error, Result, Timestamp};
use crate::domain::{Actor, field};

/// The longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The longest notes of what counts as done, in bytes.
const MAX_ACCEPTANCE_BYTES: usize = 16 * 1024;
/// The longest note or summary that goes with a verb, in bytes.
pub const MAX_NOTE_BYTES: usize = 16 * 1024;
/// The most capabilities in a list.
pub const MAX_CAPABILITIES: usize = 32;
/// The most attachments.
pub const MAX_ATTACHMENTS: usize = 20;
/// The longest text of an attachment, in bytes.
pub const MAX_ATTACHMENT_TEXT_BYTES: usize = 16 * 1024;
/// The longest address of an attachment, in bytes.
const MAX_URI_BYTES: usize = 2_048;
/// The longest name of a branch, in bytes.
const MAX_BRANCH_BYTES: usize = 255;
/// What an attachment's address may begin with: nothing that a browser runs.
const SCHEMES: &[&str] = &["http://", "https://", "file://", "git://", "ssh://"];

/// Something that belongs to a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// What it is, in a line.
    pub name: String,
    /// Where or what it is.
    pub body: AttachmentBody,
}

/// Where or what an attachment is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentBody {
    /// It is there.
    Uri(String),
    /// This is it.
    Text(String),
}

/// A task to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// One line that says what is to be done.
    pub title: String,
    /// What is to be done.
    pub body: String,
    /// What sort of work it is.
    pub kind: Type,
    /// 1 (critical) to 5.
    pub priority: u8,
    /// 1 (small) to 5.
    pub complexity: u8,
    /// Open, deferred or backlog.
    pub status: Status,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Not to be begun before this.
    pub scheduled_for: Option<Timestamp>,
    /// What an agent must be able to do.
    pub required_capabilities: Vec<String>,
    /// What an agent should be able to do.
    pub preferred_capabilities: Vec<String>,
    /// How to tell that it is done.
    pub acceptance: String,
    /// What belongs to it.
    pub attachments: Vec<Attachment>,
    /// Whether nobody needs to look at it.
    pub skip_review: bool,
    /// The directory it is about; empty is none.
    pub directory: String,
    /// What it waits for, belongs to, or refers to.
    pub dependencies: Vec<On>,
}

impl Default for Draft {
    fn default() -> Self {
        Draft {
            title: String::new(),
            body: String::new(),
            kind: Type::default(),
            priority: 3,
            complexity: 3,
            status: Status::Open,
            labels: BTreeMap::new(),
            scheduled_for: None,
            required_capabilities: Vec::new(),
            preferred_capabilities: Vec::new(),
            acceptance: String::new(),
            attachments: Vec::new(),
            skip_review: false,
            directory: String::new(),
            dependencies: Vec::new(),
        }
    }
}

impl Draft {
    /// Whether such a task may be. The error names the field.
    pub fn check(&self) -> Result<()> {
        title(&self.title)?;
        body("body", &self.body, MAX_BODY_BYTES)?;
        level("priority", self.priority)?;
        level("complexity", self.complexity)?;
        if !matches!(
            self.status,
            Status::Open | Status::Deferred | Status::Backlog
        ) {
            return Err(Error::invalid(
                "status",
                "is moved by verbs; a new task is open, deferred or backlog",
            ));
        }
        field::labels("labels", &self.labels)?;
        capabilities("required_capabilities", &self.required_capabilities)?;
        capabilities("preferred_capabilities", &self.preferred_capabilities)?;
        body("acceptance", &self.acceptance, MAX_ACCEPTANCE_BYTES)?;
        attachments(&self.attachments)?;
        field::path("directory", &self.directory)?;
        check_all("dependencies", &self.dependencies)
    }
}

/// What is to be changed of a task; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The title.
    pub title: Option<String>,
    /// The body.
    pub body: Option<String>,
    /// What sort of work it is.
    pub kind: Option<Type>,
    /// The priority.
    pub priority: Option<u8>,
    /// The complexity.
    pub complexity: Option<u8>,
    /// Where it is: between open, deferred and backlog.
    pub status: Option<Status>,
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The schedule; within, `None` is none.
    pub scheduled_for: Option<Option<Timestamp>>,
    /// All required capabilities.
    pub required_capabilities: Option<Vec<String>>,
    /// All preferred capabilities.
    pub preferred_capabilities: Option<Vec<String>>,
    /// How to tell that it is done.
    pub acceptance: Option<String>,
    /// All attachments.
    pub attachments: Option<Vec<Attachment>>,
    /// Whether nobody needs to look at it.
    pub skip_review: Option<bool>,
}

impl Update {
    /// Whether the values may be. The error names the field.
    pub fn check(&self) -> Result<()> {
        if *self == Update::default() {
            return Err(Error::invalid(
                "update_mask",
                "is missing; name the fields that are to be changed",
            ));
        }
        self.title.as_deref().map_or(Ok(()), title)?;
        if let Some(text) = &self.body {
            body("body", text, MAX_BODY_BYTES)?;
        }
        if let Some(value) = self.priority {
            level("priority", value)?;
        }
        if let Some(value) = self.complexity {
            level("complexity", value)?;
        }
        if let Some(labels) = &self.labels {
            field::labels("labels", labels)?;
        }
        if let Some(list) = &self.required_capabilities {
            capabilities("required_capabilities", list)?;
        }
        if let Some(list) = &self.preferred_capabilities {
            capabilities("preferred_capabilities", list)?;
        }
        if let Some(text) = &self.acceptance {
            body("acceptance", text, MAX_ACCEPTANCE_BYTES)?;
        }
        self.attachments.as_deref().map_or(Ok(()), attachments)
    }
}

impl Task {
    /// Changes what needs no verb; `update` was checked. INVALID_STATE: it may not be moved so.
    pub fn update(&mut self, update: Update, by: &Actor, now: Timestamp) -> Result<()> {
        let from = self.status;
        if let Some(to) = update.status.filter(|to| *to != from) {
            let plain =
                |status| matches!(status, Status::Open | Status::Deferred | Status::Backlog);
            if !plain(from) || !plain(to) {
                return Err(Error::state(format!(
                    "the task is {}; only open, deferred and backlog are moved between without a verb",
                    from.as_str()
                )));
            }
            self.go(to, now)?;
            let text = format!("{} to {}", from.as_str(), to.as_str());
            self.note(What::Moved, &text, None, by, now);
        }
        let mut changed = Vec::new();
        let mut set = |name: &'static str, is_other: bool| {
            if is_other {
                changed.push(name);
            }
        };
        macro_rules! take {
            ($($field:ident $name:literal;)*) => {$(
                if let Some(value) = update.$field {
                    set($name, self.$field != value);
                    self.$field = value;
                }
            )*};
        }
        take! {
            title "title";
            body "body";
            kind "type";
            priority "priority";
            complexity "complexity";
            labels "labels";
            scheduled_for "scheduled_for";
            required_capabilities "required_capabilities";
            preferred_capabilities "preferred_capabilities";
            acceptance "acceptance";
            attachments "attachments";
            skip_review "skip_review";
        }
        if !changed.is_empty() {
            self.note(What::Updated, &changed.join(", "), None, by, now);
        }
        Ok(())
    }
}

fn title(title: &str) -> Result<()> {
    if title.trim().is_empty() {
        return Err(Error::invalid("title", "is missing"));
    }
    field::title("title", title)
}

/// A text of many lines: bounded, and without NUL, which no program takes.
fn body(at: &str, text: &str, max_bytes: usize) -> Result<()> {
    field::text(at, text, max_bytes)?;
    if text.contains('\0') {
        return Err(Error::invalid(at, "has a NUL character"));
    }
    Ok(())
}

/// A note or summary that goes with a verb.
pub fn note(at: &str, text: &str) -> Result<()> {
    body(at, text, MAX_NOTE_BYTES)
}

fn level(at: &str, value: u8) -> Result<()> {
    if LEVELS.contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(at, format!("is {value}; it is 1 to 5")))
}

fn capabilities(at: &str, list: &[String]) -> Result<()> {
    if list.len() > MAX_CAPABILITIES {
        return Err(Error::invalid(
            at,
            format!("has {} entries; the most is {MAX_CAPABILITIES}", list.len()),
        ));
    }
    for (index, word) in list.iter().enumerate() {
        let here = format!("{at}[{index}]");
        if word.is_empty() {
            return Err(Error::invalid(&here, "is empty"));
        }
        field::word(&here, word)?;
        if list[..index].contains(word) {
            return Err(Error::invalid(&here, "is there twice"));
        }
    }
    Ok(())
}

fn attachments(list: &[Attachment]) -> Result<()> {
    if list.len() > MAX_ATTACHMENTS {
        return Err(Error::invalid(
            "attachments",
            format!("has {} entries; the most is {MAX_ATTACHMENTS}", list.len()),
        ));
    }
    for (index, attachment) in list.iter().enumerate() {
        let here = format!("attachments[{index}]");
        field::title(&format!("{here}.name"), &attachment.name)?;
        match &attachment.body {
            AttachmentBody::Text(text) => {
                body(&format!("{here}.text"), text, MAX_ATTACHMENT_TEXT_BYTES)?;
            }
            AttachmentBody::Uri(uri) => {
                let here = format!("{here}.uri");
                field::line(&here, uri, MAX_URI_BYTES)?;
                if !SCHEMES.iter().any(|scheme| uri.starts_with(scheme)) {
                    return Err(Error::invalid(
                        &here,
                        format!("begins with none of {}", SCHEMES.join(", ")),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The name of a branch as git takes it, or nothing. One that looks like an option is refused.
pub fn branch(at: &str, name: &str) -> Result<()> {
    field::line(at, name, MAX_BRANCH_BYTES)?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let parts_are_wrong = || {
        name.split('/')
            .any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"))
    };
    let is_wrong = name.starts_with('-')
        || name.contains(bad)
        || name.contains("..")
        || name.contains("@{")
        || name == "@"
        || name.ends_with('.')
        || parts_are_wrong();
    if !name.is_empty() && is_wrong {
        return Err(Error::invalid(at, "is not the name of a branch"));
    }
    Ok(())
}
