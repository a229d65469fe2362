//! Arguments of `baton agents`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::value;
use crate::domain::PermissionMode;
use crate::domain::trigger::Trigger;

/// `baton agents`
#[derive(Debug, ClapArgs)]
pub struct AgentsArgs {
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<AgentsAction>,
}

/// What to do to agents. An agent is named by its name, or by its id, which may be shortened.
#[derive(Debug, Subcommand)]
pub enum AgentsAction {
    /// List them
    List {
        /// Only of this role: director, worker, steward
        #[arg(long, value_parser = ["director", "worker", "steward"])]
        role: Option<String>,
        /// Only those that run
        #[arg(long)]
        active: bool,
    },
    /// Show one: what it is, what it does, its last sessions
    Show {
        /// The agent
        agent: String,
    },
    /// Make one
    Create {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, value_parser = ["director", "worker", "steward"])]
        role: String,
        /// Kind of agent program: claude-code, command, demo
        #[arg(long)]
        harness: String,
        /// What else is set
        #[command(flatten)]
        changes: Box<AgentChanges>,
    },
    /// Change one; what is not named stays
    Update {
        /// The agent
        agent: String,
        /// A new name
        #[arg(long)]
        name: Option<String>,
        /// Another kind of agent program
        #[arg(long)]
        harness: Option<String>,
        /// What else is to be set
        #[command(flatten)]
        changes: Box<AgentChanges>,
    },
    /// Delete one; its sessions stay
    Delete {
        /// The agent
        agent: String,
    },
    /// Start it
    Start {
        /// The agent
        agent: String,
        /// The first input; - reads standard input
        text: Option<String>,
        /// Working directory on the daemon's machine; default the agent's own
        #[arg(long, value_name = "DIR")]
        cwd: Option<String>,
        /// Give up the process of a lost session
        #[arg(long)]
        force: bool,
    },
    /// End its session; done if it is idle
    Stop {
        /// The agent
        agent: String,
        /// Do not ask the process first
        #[arg(long)]
        force: bool,
    },
    /// Continue an earlier conversation in a new session
    Resume {
        /// The agent
        agent: String,
        /// The first input; - reads standard input
        text: Option<String>,
        /// The session to continue; default the newest that can be
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// Give up the process of a lost session
        #[arg(long)]
        force: bool,
        /// Do not look for ready tasks of the agent first
        #[arg(long)]
        no_ready_check: bool,
    },
    /// Send text to its session
    Send {
        /// The agent
        agent: String,
        /// The text; - reads standard input
        text: String,
    },
    /// Interrupt the running turn; the agent lives on
    Interrupt {
        /// The agent
        agent: String,
    },
}

/// What can be set of an agent.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct AgentChanges {
    /// How a worker is used: ephemeral (one task after another) or persistent (with a person)
    #[arg(long, value_parser = ["ephemeral", "persistent"])]
    pub worker_mode: Option<String>,
    /// What a steward looks after: merge, docs, recovery, custom
    #[arg(long, value_parser = ["merge", "docs", "recovery", "custom"])]
    pub focus: Option<String>,
    /// The model
    #[arg(long)]
    pub model: Option<String>,
    /// deny, ask, auto-safe or auto
    #[arg(long, value_name = "MODE", value_parser = value::mode)]
    pub permission_mode: Option<PermissionMode>,
    /// Working directory on the daemon's machine
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The daemon, by id or name; "" for any that fits
    #[arg(long, value_name = "ID")]
    pub daemon: Option<String>,
    /// Label that the daemon must have; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::pair)]
    pub select: Vec<(String, String)>,
    /// Name of an environment variable of the daemon to pass on; may be repeated
    #[arg(long = "env", value_name = "NAME")]
    pub env_names: Vec<String>,
    /// File with what it is told beside its inputs (- is standard input)
    #[arg(long, value_name = "FILE")]
    pub instructions: Option<PathBuf>,
    /// What every new session begins with
    #[arg(long, value_name = "TEXT")]
    pub on_startup: Option<String>,
    /// Something it can do, as tasks ask for it; may be repeated
    #[arg(long = "capability", value_name = "WORD")]
    pub capabilities: Vec<String>,
    /// Label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Do not start it any more
    #[arg(long, conflicts_with = "enable")]
    pub disable: bool,
    /// Let it be started again
    #[arg(long)]
    pub enable: bool,
    /// Times at which a steward is started, in the form of crontab(5), with the time zone if it is not UTC and what
    /// it is told; may be repeated
    #[arg(long, value_name = "'M H D M W [ZONE][: TEXT]'", value_parser = value::cron)]
    pub cron: Vec<Trigger>,
    /// What happens to a task that starts a steward (task_created, task_in_review, task_closed, task_escalated,
    /// merge_failed), with labels that the task must have and what the steward is told; may be repeated
    #[arg(long, value_name = "'EVENT [KEY=VALUE]...[: TEXT]'", value_parser = value::event)]
    pub when: Vec<Trigger>,
    /// Take away what starts it by itself
    #[arg(long, conflicts_with_all = ["cron", "when"])]
    pub no_triggers: bool,
    /// With the harness command: program and arguments
    #[arg(last = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}
