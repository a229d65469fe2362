//! `baton tasks`.

use clap::{Args as ClapArgs, Subcommand};

use crate::base::Timestamp;
use crate::cli::value;

/// The words of a status.
const STATUSES: [&str; 6] = [
    "open",
    "in_progress",
    "deferred",
    "backlog",
    "review",
    "closed",
];
/// The words of a type.
const TYPES: [&str; 4] = ["bug", "feature", "task", "chore"];
/// The words of a dependency on another task.
const KINDS: [&str; 8] = [
    "blocks",
    "parent-child",
    "relates-to",
    "references",
    "supersedes",
    "duplicates",
    "caused-by",
    "validates",
];

/// `baton tasks`
#[derive(Debug, ClapArgs)]
pub struct TasksArgs {
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<TasksAction>,
}

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub enum TasksAction {
    /// List them, newest first; closed ones only if asked for
    List(TaskListArgs),
    /// List those that could be begun now, the most urgent first
    Ready(TaskReadyArgs),
    /// Show one with all there is of it
    Show(TaskArg),
    /// Make one
    Create(Box<TaskCreateArgs>),
    /// Change one
    Update(Box<TaskUpdateArgs>),
    /// Give one to an agent
    Assign(TaskAssignArgs),
    /// Give one to an agent and let it begin
    Dispatch(TaskDispatchArgs),
    /// Take one from the agent that has it: for another, or back to the ready queue
    HandOff(TaskHandOffArgs),
    /// One is done: to review, or closed
    Complete(TaskCompleteArgs),
    /// Open one again that is in review or closed
    Reopen(TaskReopenArgs),
    /// Let one wait for, belong to or refer to something
    Depend(TaskDependArgs),
    /// Take a dependency away; open a gate
    Undepend(TaskDependArgs),
    /// Delete one
    Delete(TaskDeleteArgs),
    /// Why one is ready, or what it waits for
    Why(TaskArg),
}

/// A task.
#[derive(Debug, ClapArgs)]
pub struct TaskArg {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
}

/// `baton tasks list`
#[derive(Debug, Default, ClapArgs)]
pub struct TaskListArgs {
    /// Also those that are closed
    #[arg(long, short)]
    pub all: bool,
    /// Only in this status; may be repeated
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    pub status: Vec<String>,
    /// Only of this type; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = TYPES)]
    pub types: Vec<String>,
    /// Only with this priority; may be repeated
    #[arg(long, value_name = "1-5")]
    pub priority: Vec<u32>,
    /// Only those that this agent has
    #[arg(long, value_name = "ID")]
    pub agent: Option<String>,
    /// Only those that nobody has
    #[arg(long, conflicts_with = "agent")]
    pub unassigned: bool,
    /// Only with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Only children of this task
    #[arg(long, value_name = "ID")]
    pub parent: Option<String>,
    /// Only with this in the title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// At most this many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// `baton tasks ready`
#[derive(Debug, Default, ClapArgs)]
pub struct TaskReadyArgs {
    /// Only those that this agent has; with --unassigned, then those that nobody has
    #[arg(long, value_name = "ID")]
    pub agent: Option<String>,
    /// Only those that nobody has
    #[arg(long)]
    pub unassigned: bool,
    /// Only those that need nothing but these; may be repeated
    #[arg(long = "capability", value_name = "NAME")]
    pub capabilities: Vec<String>,
    /// Only of this type; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = TYPES)]
    pub types: Vec<String>,
    /// Only with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// At most this many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// `baton tasks create`
#[derive(Debug, Default, ClapArgs)]
pub struct TaskCreateArgs {
    /// One line that says what is to be done
    pub title: String,
    /// What is to be done; - reads standard input
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// What sort of work it is
    #[arg(long = "type", value_name = "TYPE", value_parser = TYPES)]
    pub kind: Option<String>,
    /// 1 (critical) to 5; default 3
    #[arg(long, short, value_name = "1-5")]
    pub priority: Option<u32>,
    /// 1 (small) to 5; default 3
    #[arg(long, value_name = "1-5")]
    pub complexity: Option<u32>,
    /// open, deferred or backlog
    #[arg(long, value_name = "STATUS", value_parser = ["open", "deferred", "backlog"])]
    pub status: Option<String>,
    /// Label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Not before this time, or so long from now
    #[arg(long, value_name = "TIME", value_parser = value::when)]
    pub schedule: Option<Timestamp>,
    /// What an agent must be able to do; may be repeated
    #[arg(long = "require", value_name = "NAME")]
    pub required: Vec<String>,
    /// What an agent should be able to do; may be repeated
    #[arg(long = "prefer", value_name = "NAME")]
    pub preferred: Vec<String>,
    /// How to tell that it is done
    #[arg(long, value_name = "TEXT")]
    pub acceptance: Option<String>,
    /// Something that belongs to it: NAME=ADDRESS; may be repeated
    #[arg(long = "attach", value_name = "NAME=URI", value_parser = value::pair)]
    pub attachments: Vec<(String, String)>,
    /// Close it when it is complete, without a review
    #[arg(long)]
    pub skip_review: bool,
    /// The directory it is about
    #[arg(long, value_name = "DIR")]
    pub directory: Option<String>,
    /// The task it is a part of
    #[arg(long, value_name = "ID")]
    pub parent: Option<String>,
    /// A task it waits for; may be repeated
    #[arg(long = "after", value_name = "ID")]
    pub after: Vec<String>,
}

/// `baton tasks update`
#[derive(Debug, Default, ClapArgs)]
pub struct TaskUpdateArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// Its title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// What is to be done; - reads standard input
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// What sort of work it is
    #[arg(long = "type", value_name = "TYPE", value_parser = TYPES)]
    pub kind: Option<String>,
    /// 1 (critical) to 5
    #[arg(long, short, value_name = "1-5")]
    pub priority: Option<u32>,
    /// 1 (small) to 5
    #[arg(long, value_name = "1-5")]
    pub complexity: Option<u32>,
    /// open, deferred or backlog
    #[arg(long, value_name = "STATUS", value_parser = ["open", "deferred", "backlog"])]
    pub status: Option<String>,
    /// All its labels from now on; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// No labels
    #[arg(long, conflicts_with = "labels")]
    pub no_labels: bool,
    /// Not before this time, or so long from now
    #[arg(long, value_name = "TIME", value_parser = value::when)]
    pub schedule: Option<Timestamp>,
    /// At once
    #[arg(long, conflicts_with = "schedule")]
    pub no_schedule: bool,
    /// All that an agent must be able to do from now on; may be repeated
    #[arg(long = "require", value_name = "NAME")]
    pub required: Vec<String>,
    /// All that an agent should be able to do from now on; may be repeated
    #[arg(long = "prefer", value_name = "NAME")]
    pub preferred: Vec<String>,
    /// How to tell that it is done
    #[arg(long, value_name = "TEXT")]
    pub acceptance: Option<String>,
    /// Whether it is closed without a review
    #[arg(long, value_name = "BOOL")]
    pub skip_review: Option<bool>,
    /// Only if it is still as it was with this etag
    #[arg(long, value_name = "ETAG")]
    pub etag: Option<String>,
}

/// `baton tasks assign`
#[derive(Debug, ClapArgs)]
pub struct TaskAssignArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// The agent
    #[arg(value_name = "AGENT")]
    pub agent: String,
    /// The branch to work in; default that of who had it before
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// The worktree to work in; default that of who had it before
    #[arg(long, value_name = "ID")]
    pub worktree: Option<String>,
}

/// `baton tasks dispatch`
#[derive(Debug, ClapArgs)]
pub struct TaskDispatchArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// The agent, by name or id; default the one that fits best
    #[arg(value_name = "AGENT")]
    pub agent: Option<String>,
    /// What the agent is told beside the task; - reads standard input
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Work in a worktree, or not at all
    #[arg(long, conflicts_with = "in_directory")]
    pub in_worktree: bool,
    /// Work in the directory itself
    #[arg(long)]
    pub in_directory: bool,
}

/// `baton tasks hand-off`
#[derive(Debug, ClapArgs)]
pub struct TaskHandOffArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// Who has it next; default back to the ready queue
    #[arg(long, value_name = "AGENT")]
    pub to: Option<String>,
    /// What the next one should know; - reads standard input
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// `baton tasks complete`
#[derive(Debug, ClapArgs)]
pub struct TaskCompleteArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// What was done; - reads standard input
    #[arg(long, value_name = "TEXT")]
    pub summary: Option<String>,
    /// Close it, its branch merged
    #[arg(long, conflicts_with = "close")]
    pub merged: bool,
    /// Close it, whoever would have looked at it
    #[arg(long)]
    pub close: bool,
}

/// `baton tasks reopen`
#[derive(Debug, ClapArgs)]
pub struct TaskReopenArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// Why; - reads standard input
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// The agent that had it last has it again
    #[arg(long)]
    pub same_agent: bool,
}

/// `baton tasks depend` and `undepend`
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("on").required(true).args(["other", "until", "approval", "external"]))]
pub struct TaskDependArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// The other task
    #[arg(value_name = "OTHER")]
    pub other: Option<String>,
    /// How it relates to the other: blocks is that it waits for it, parent-child that it is a part of it
    #[arg(long, value_name = "KIND", value_parser = KINDS, default_value = "blocks")]
    pub kind: String,
    /// Wait for a time, or so long from now
    #[arg(long, value_name = "TIME", value_parser = value::when)]
    pub until: Option<Timestamp>,
    /// Wait for an approval of this name
    #[arg(long, value_name = "NAME")]
    pub approval: Option<String>,
    /// Wait for something outside of this name
    #[arg(long, value_name = "NAME")]
    pub external: Option<String>,
}

/// `baton tasks delete`
#[derive(Debug, ClapArgs)]
pub struct TaskDeleteArgs {
    /// The task; its id may be shortened
    #[arg(value_name = "ID")]
    pub task: String,
    /// Although others depend on it, or an agent has it
    #[arg(long)]
    pub force: bool,
}
