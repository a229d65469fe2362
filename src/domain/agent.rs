//! An agent: a lasting identity with a role that runs sessions, one at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::field;
use super::harness::PermissionMode;
use super::session::{Limits, Mode};
use super::trigger::{self, Trigger};
use crate::base::id::{AgentId, DaemonId, SessionId};
use crate::base::{Error, Result, Timestamp};

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest instructions, in bytes.
pub const MAX_INSTRUCTIONS_BYTES: usize = 64 * 1024;
/// The longest text of one behaviour, in bytes.
pub const MAX_BEHAVIOUR_BYTES: usize = 16 * 1024;
/// The longest [`RoleDefinition::standing`], in bytes.
pub const MAX_STANDING_BYTES: usize = 2 * MAX_INSTRUCTIONS_BYTES;
/// The most capabilities of an agent.
pub const MAX_CAPABILITIES: usize = 64;

/// What an agent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentRole {
    /// It talks with a person, plans and makes tasks.
    Director,
    /// It does tasks.
    Worker,
    /// It looks after things from time to time.
    Steward,
}

impl AgentRole {
    /// Every role.
    pub const ALL: [AgentRole; 3] = [AgentRole::Director, AgentRole::Worker, AgentRole::Steward];

    /// The role's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            AgentRole::Director => "director",
            AgentRole::Worker => "worker",
            AgentRole::Steward => "steward",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// How a worker is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerMode {
    /// One task, one session, then the next.
    Ephemeral,
    /// It works with a person and is never given tasks by the scheduler.
    Persistent,
}

impl WorkerMode {
    /// The mode's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkerMode::Ephemeral => "ephemeral",
            WorkerMode::Persistent => "persistent",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [WorkerMode::Ephemeral, WorkerMode::Persistent]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// What a steward looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StewardFocus {
    /// Work that waits to be merged.
    Merge,
    /// Documentation.
    Docs,
    /// Work that is stuck.
    Recovery,
    /// What its instructions say.
    Custom,
}

impl StewardFocus {
    /// Every focus.
    pub const ALL: [StewardFocus; 4] = [
        StewardFocus::Merge,
        StewardFocus::Docs,
        StewardFocus::Recovery,
        StewardFocus::Custom,
    ];

    /// The focus's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            StewardFocus::Merge => "merge",
            StewardFocus::Docs => "docs",
            StewardFocus::Recovery => "recovery",
            StewardFocus::Custom => "custom",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|focus| focus.as_str() == text)
    }
}

/// What an agent is told about how it works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleDefinition {
    /// What it is told beside its first input.
    pub instructions: String,
    /// Goes before the first input of every new session.
    pub on_startup: String,
    /// Goes before the text of a task that it is given.
    pub on_task_assigned: String,
    /// What to do when it is stuck.
    pub on_stuck: String,
    /// What to do before it hands a task over.
    pub on_handoff: String,
    /// What to do after an error.
    pub on_error: String,
}

impl RoleDefinition {
    /// The instructions with what it is told about being stuck, handing over and errors, which may come to pass at
    /// any time: one text, a heading each. Empty if there is nothing to say.
    pub fn standing(&self) -> String {
        let mut text = self.instructions.clone();
        let cases = [
            ("When you are stuck", &self.on_stuck),
            ("Before you hand a task over", &self.on_handoff),
            ("After an error", &self.on_error),
        ];
        for (heading, case) in cases {
            if case.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push_str("\n\n");
            }
            text.push_str("## ");
            text.push_str(heading);
            text.push('\n');
            text.push_str(case);
        }
        text
    }

    fn check(&self) -> Result<()> {
        field::text(
            "settings.definition.instructions",
            &self.instructions,
            MAX_INSTRUCTIONS_BYTES,
        )?;
        let behaviours = [
            ("on_startup", &self.on_startup),
            ("on_task_assigned", &self.on_task_assigned),
            ("on_stuck", &self.on_stuck),
            ("on_handoff", &self.on_handoff),
            ("on_error", &self.on_error),
        ];
        for (name, text) in behaviours {
            let name = format!("settings.definition.{name}");
            field::text(&name, text, MAX_BEHAVIOUR_BYTES)?;
        }
        Ok(())
    }
}

/// What people set of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSettings {
    /// Its name, of no other agent.
    pub name: String,
    /// What it is for.
    pub role: AgentRole,
    /// How it is used, if it is a worker.
    pub worker_mode: Option<WorkerMode>,
    /// What it looks after, if it is a steward.
    pub focus: Option<StewardFocus>,
    /// Kind of agent program.
    pub harness: String,
    /// The model; empty is the harness's default.
    pub model: String,
    /// The permission mode.
    pub permission_mode: PermissionMode,
    /// Headless or interactive.
    pub mode: Mode,
    /// Working directory; empty is the daemon's default.
    pub directory: String,
    /// The daemon; `None` is any that fits.
    pub daemon_id: Option<DaemonId>,
    /// Labels that the daemon must have.
    pub selector: BTreeMap<String, String>,
    /// Names of environment variables to pass on.
    pub env_names: Vec<String>,
    /// Program and arguments of a plain command.
    pub argv: Vec<String>,
    /// What a session of it may use.
    pub limits: Limits,
    /// How it works.
    pub definition: RoleDefinition,
    /// What it can do, as tasks ask for it.
    pub capabilities: Vec<String>,
    /// Whether it is not to be started.
    pub disabled: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What starts it by itself, if it is a steward.
    #[serde(default)]
    pub triggers: Vec<Trigger>,
}

impl AgentSettings {
    /// Settings with nothing but a name, a role and a harness.
    pub fn new(name: &str, role: AgentRole, harness: &str) -> Self {
        AgentSettings {
            name: name.to_owned(),
            role,
            worker_mode: None,
            focus: None,
            harness: harness.to_owned(),
            model: String::new(),
            permission_mode: PermissionMode::default(),
            mode: Mode::default(),
            directory: String::new(),
            daemon_id: None,
            selector: BTreeMap::new(),
            env_names: Vec::new(),
            argv: Vec::new(),
            limits: Limits::default(),
            definition: RoleDefinition::default(),
            capabilities: Vec::new(),
            disabled: false,
            labels: BTreeMap::new(),
            triggers: Vec::new(),
        }
    }

    /// The settings as they are kept: every field within its bounds, what follows from the role filled in.
    /// `INVALID_INPUT` names the field.
    pub fn checked(mut self) -> Result<Self> {
        check_name("settings.name", &self.name)?;
        match (self.role, self.worker_mode) {
            (AgentRole::Worker, None) => self.worker_mode = Some(WorkerMode::Ephemeral),
            (AgentRole::Worker, Some(_)) | (_, None) => {}
            (role, Some(_)) => {
                return Err(Error::invalid(
                    "settings.worker_mode",
                    format!("is for workers; this is a {}", role.as_str()),
                ));
            }
        }
        match (self.role, self.focus) {
            (AgentRole::Steward, None) => self.focus = Some(StewardFocus::Custom),
            (AgentRole::Steward, Some(_)) | (_, None) => {}
            (role, Some(_)) => {
                return Err(Error::invalid(
                    "settings.focus",
                    format!("is for stewards; this is a {}", role.as_str()),
                ));
            }
        }
        if self.harness.is_empty() {
            return Err(Error::invalid(
                "settings.harness",
                "is missing: name one that a daemon has, such as claude-code, command or demo",
            ));
        }
        field::word("settings.harness", &self.harness)?;
        field::word("settings.model", &self.model)?;
        field::path("settings.directory", &self.directory)?;
        field::labels("settings.selector", &self.selector)?;
        field::env_names("settings.env_names", &self.env_names)?;
        field::argv("settings.argv", &self.argv)?;
        let takes_argv = self.harness == "command";
        if takes_argv == self.argv.is_empty() {
            return Err(Error::invalid(
                "settings.argv",
                if takes_argv {
                    "is missing: the harness command needs a program"
                } else {
                    "goes with the harness command only"
                },
            ));
        }
        self.definition.check()?;
        check_capabilities("settings.capabilities", &self.capabilities)?;
        field::labels("settings.labels", &self.labels)?;
        if self.role != AgentRole::Steward && !self.triggers.is_empty() {
            return Err(Error::invalid(
                "settings.triggers",
                format!("are for stewards; this is a {}", self.role.as_str()),
            ));
        }
        trigger::check(&self.triggers)?;
        Ok(self)
    }
}

/// Words such as `rust` or `code-review`: at most [`MAX_CAPABILITIES`], none empty, none twice.
pub fn check_capabilities(name: &str, words: &[String]) -> Result<()> {
    if words.len() > MAX_CAPABILITIES {
        return Err(Error::invalid(
            name,
            format!(
                "has {} entries; the most is {MAX_CAPABILITIES}",
                words.len()
            ),
        ));
    }
    for (index, word) in words.iter().enumerate() {
        let at = format!("{name}[{index}]");
        if word.is_empty() {
            return Err(Error::invalid(&at, "is empty"));
        }
        field::word(&at, word)?;
        if words.iter().take(index).any(|other| other == word) {
            return Err(Error::invalid(&at, "is there twice"));
        }
    }
    Ok(())
}

/// A name: 1 to [`MAX_NAME_BYTES`] letters, digits, blanks, `.`, `_` and `-` of ASCII, so that no two names look
/// alike; it begins with a letter or digit and does not end with a blank.
pub fn check_name(name: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(name, "is missing"));
    }
    field::text(name, text, MAX_NAME_BYTES)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b" ._-".contains(&b);
    let begins = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if begins && !text.ends_with(' ') && text.bytes().all(fits) {
        return Ok(());
    }
    Err(Error::invalid(
        name,
        "may only have A-Z a-z 0-9 . _ - and blanks, begins with a letter or digit and does not end with a blank",
    ))
}

/// An agent's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Id.
    pub id: AgentId,
    /// What people set.
    pub settings: AgentSettings,
    /// Who made it.
    pub created_by: Actor,
    /// When.
    pub created_at: Timestamp,
    /// When its settings changed last.
    pub updated_at: Timestamp,
}

impl Agent {
    /// What its sessions keep of it.
    pub fn identity(&self) -> SessionAgent {
        SessionAgent {
            id: self.id,
            name: self.settings.name.clone(),
            role: self.settings.role,
            worker_mode: self.settings.worker_mode,
        }
    }
}

/// Which agent a session is of, as it was when the session was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAgent {
    /// The agent.
    pub id: AgentId,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: AgentRole,
    /// How it is used, if it is a worker.
    pub worker_mode: Option<WorkerMode>,
}

/// Which session of an agent was started last. It is there as long as the agent is, and every start compares it
/// and sets it: of two starts at once, one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRun {
    /// The session; it may be over, or deleted.
    pub session_id: Option<SessionId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> AgentSettings {
        AgentSettings::new("Alice", AgentRole::Worker, "demo")
    }

    #[test]
    fn a_role_brings_its_defaults_and_refuses_what_is_of_others() {
        let checked = worker().checked().unwrap();
        assert_eq!(checked.worker_mode, Some(WorkerMode::Ephemeral));
        let steward = AgentSettings::new("s", AgentRole::Steward, "demo");
        assert_eq!(steward.checked().unwrap().focus, Some(StewardFocus::Custom));
        let mut director = AgentSettings::new("d", AgentRole::Director, "demo");
        director.worker_mode = Some(WorkerMode::Persistent);
        let error = director.checked().unwrap_err();
        assert_eq!(error.fields()[0].field, "settings.worker_mode");
        let mut with_focus = worker();
        with_focus.focus = Some(StewardFocus::Merge);
        let error = with_focus.checked().unwrap_err();
        assert_eq!(error.fields()[0].field, "settings.focus");
    }

    #[test]
    fn names_that_could_be_taken_for_something_else_are_refused() {
        for good in ["a", "Worker Alice", "w-1", "build.bot_2"] {
            check_name("name", good).unwrap();
        }
        let long = "x".repeat(4_096);
        for bad in [
            "",
            "-evil",
            "..",
            ".hidden",
            "a/b",
            "@{",
            "a\u{0}b",
            "a\nb",
            "a ",
            "аlice",
            "alice\u{200b}",
            long.as_str(),
        ] {
            let error = check_name("name", bad).unwrap_err();
            assert_eq!(error.fields()[0].field, "name", "{bad:?}");
        }
    }

    #[test]
    fn instructions_that_may_apply_at_any_time_stand_together() {
        let definition = RoleDefinition {
            instructions: "Be brief.".to_owned(),
            on_startup: "not here".to_owned(),
            on_error: "Stop.".to_owned(),
            ..RoleDefinition::default()
        };
        assert_eq!(
            definition.standing(),
            "Be brief.\n\n## After an error\nStop."
        );
        assert_eq!(RoleDefinition::default().standing(), "");
    }

    #[test]
    fn capabilities_are_words_each_once() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        check_capabilities("c", &words(&["rust", "review"])).unwrap();
        for bad in [&["rust", "rust"][..], &[""], &["two words"]] {
            assert!(check_capabilities("c", &words(bad)).is_err(), "{bad:?}");
        }
    }
}
