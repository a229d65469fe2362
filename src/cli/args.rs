//! The arguments of every command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;

use super::terminal_view::DetachKey;
use super::value;
use crate::daemon::harness::acp::AcpAgent;
use crate::domain::{EventKind, PermissionMode};
pub use tasks::*;

mod agents;
mod bench;
mod budgets;

pub use agents::{AgentChanges, AgentsAction, AgentsArgs};
pub use bench::{BareArgs, BenchArgs};
pub use budgets::{BudgetOf, BudgetsAction, BudgetsArgs};

/// The control plane for coding agents.
#[derive(Debug, Parser)]
#[command(
    name = "baton",
    version,
    about,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Args {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Connection and output")]
pub struct Global {
    /// The server; default http://127.0.0.1:7420, or the one `baton up` runs
    #[arg(long, global = true, env = "BATON_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// File with the token (- is standard input); BATON_TOKEN holds the token itself
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) to trust instead of the machine's
    #[arg(long, global = true, env = "BATON_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Directory of the data; default the platform's
    #[arg(long, global = true, env = "BATON_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start server, store and local daemon: everything on one machine
    Up(UpArgs),
    /// Start the server
    Serve(ServeArgs),
    /// Start a daemon: run agents on this machine for a server
    Daemon(Box<DaemonArgs>),
    /// Start a session and follow it
    Run(Box<RunArgs>),
    /// List sessions
    Ps(PsArgs),
    /// Show a session's log
    Logs(LogsArgs),
    /// Follow a session, answer its prompts, type inputs; or sit at its terminal
    Attach(AttachArgs),
    /// Programs in terminals: shells, and agents as people use them
    Terminal(TerminalArgs),
    /// Send text to an agent
    Send(SendArgs),
    /// List and change the inputs that wait
    Queue(QueueArgs),
    /// Interrupt the running turn; the agent lives on
    Interrupt(SessionArg),
    /// End a session
    End(EndArgs),
    /// Change the model or the permission mode of a living session
    Set(SetArgs),
    /// Stop the agent's process, to be resumed later
    Suspend(SessionArg),
    /// Continue an ended conversation in a new session
    Resume(ResumeArgs),
    /// Branch a conversation off into a new session
    Fork(ForkArgs),
    /// Delete an ended session and its log
    Delete(DeleteArgs),
    /// Write out content that is too large for the log
    Content(ContentArgs),
    /// List what agents ask
    Prompts(PromptsArgs),
    /// Answer what an agent asks
    Answer(AnswerArgs),
    /// Rules that answer permissions by themselves
    Rules(RulesArgs),
    /// Lasting identities with a role that run sessions
    Agents(AgentsArgs),
    /// What may be spent, and what was
    Budgets(BudgetsArgs),
    /// What is to be done, and who has it
    Tasks(Box<TasksArgs>),
    /// What gives ready tasks to agents by itself
    Scheduler(SchedulerArgs),
    /// The machines that run agents
    Daemons(DaemonsArgs),
    /// Branches and checkouts of their own for agents and tasks
    Worktrees(WorktreesArgs),
    /// Access tokens
    Token(TokenArgs),
    /// Print a link that signs a browser in, once
    ConsoleLink(ConsoleLinkArgs),
    /// Search transcripts
    Search(SearchArgs),
    /// Look after the server's store on this machine
    Store(StoreArgs),
    /// Measure this program on this machine, beside what one would use instead
    Bench(BenchArgs),
    /// Find out what does not work
    Doctor,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Holds one agent process (started by the daemon)
    #[command(hide = true)]
    Runner(InnerArgs),
    /// A scripted agent for trying and testing
    #[command(hide = true)]
    DemoAgent(InnerArgs),
    /// A server without Baton for bench to measure
    #[command(hide = true)]
    BenchBare(BareArgs),
}

/// Arguments that another part of the program reads itself.
#[derive(Debug, ClapArgs)]
pub struct InnerArgs {
    /// Handed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// A session.
#[derive(Debug, ClapArgs)]
pub struct SessionArg {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
}

/// `baton scheduler`
#[derive(Debug, ClapArgs)]
pub struct SchedulerArgs {
    /// What to do; default show
    #[command(subcommand)]
    pub action: Option<SchedulerAction>,
}

/// What to do with the scheduler.
#[derive(Debug, Subcommand)]
pub enum SchedulerAction {
    /// Show what it does
    Show,
    /// Pause it: what runs goes on, nothing new is begun
    Pause {
        /// Why, for people
        reason: Option<String>,
    },
    /// Let it work
    Resume,
}

/// `baton attach`
#[derive(Debug, ClapArgs)]
pub struct AttachArgs {
    /// The session or the terminal; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// At a terminal: the key that detaches (ctrl-\\, ctrl-], ctrl-a to ctrl-z, or none)
    #[arg(long, value_name = "KEY", default_value = "ctrl-\\", value_parser = DetachKey::parse)]
    pub detach_key: DetachKey,
    /// At a terminal: show at most this much of what it showed before (like 64KiB)
    #[arg(long, value_name = "SIZE", value_parser = crate::base::quantity::bytes)]
    pub tail: Option<u64>,
}

/// `baton terminal`
#[derive(Debug, ClapArgs)]
pub struct TerminalArgs {
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<TerminalAction>,
}

/// What to do with terminals.
#[derive(Debug, Subcommand)]
pub enum TerminalAction {
    /// Open one and attach to it: a shell, a program, or an agent as people use it
    Open(Box<OpenTerminalArgs>),
    /// List those whose program runs
    List {
        /// Also those whose program has ended
        #[arg(long, short)]
        all: bool,
    },
    /// Hang up, and end the program if it stays
    Close {
        /// The terminal or its session; its id may be shortened
        #[arg(value_name = "ID")]
        terminal: String,
        /// Kill it at once
        #[arg(long)]
        force: bool,
    },
}

/// `baton terminal open`
#[derive(Debug, ClapArgs)]
pub struct OpenTerminalArgs {
    /// Kind of agent program, such as claude-code; default command
    #[arg(long, value_name = "NAME")]
    pub harness: Option<String>,
    /// Working directory on the daemon's machine; default this one
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Print the terminal's id and end
    #[arg(long, short)]
    pub detached: bool,
    /// The key that detaches (ctrl-\\, ctrl-], ctrl-a to ctrl-z, or none)
    #[arg(long, value_name = "KEY", default_value = "ctrl-\\", value_parser = DetachKey::parse)]
    pub detach_key: DetachKey,
    /// The model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// deny, ask, auto-safe or auto; default ask
    #[arg(long, value_name = "MODE", value_parser = value::mode)]
    pub permission_mode: Option<PermissionMode>,
    /// The daemon, by id or name; default any that fits
    #[arg(long, value_name = "ID")]
    pub daemon: Option<String>,
    /// Label that the daemon must have; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::pair)]
    pub select: Vec<(String, String)>,
    /// Name of an environment variable of the daemon to pass on; may be repeated
    #[arg(long = "env", value_name = "NAME")]
    pub env_names: Vec<String>,
    /// A short title
    #[arg(long)]
    pub title: Option<String>,
    /// Label of the session; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Program and arguments; default the daemon's shell
    #[arg(last = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

/// `baton up`
#[derive(Debug, ClapArgs)]
pub struct UpArgs {
    /// Address and port
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Start a session with the demo agent and follow it
    #[arg(long)]
    pub demo: bool,
    /// Directories beneath which sessions may run; default the home directory
    #[arg(long = "root", value_name = "DIR")]
    pub roots: Vec<PathBuf>,
    /// Address and port of /metrics, or off
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<String>,
}

/// `baton console-link`
#[derive(Debug, ClapArgs)]
pub struct ConsoleLinkArgs {
    /// What the browser may do: admin, operator or viewer; default what the token allows
    #[arg(long, value_parser = ["admin", "operator", "viewer"])]
    pub scope: Option<String>,
    /// The server's address as the browser reaches it; default as this command does
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Show the link as a QR code too
    #[arg(long)]
    pub qr: bool,
}

/// `baton serve`
#[derive(Debug, Default, ClapArgs)]
pub struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show the configuration and where each value came from, and end
    #[arg(long)]
    pub print_config: bool,
    /// Address and port
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Listen beyond loopback without TLS
    #[arg(long)]
    pub insecure: bool,
    /// Certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Address and port of /metrics, or off
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<String>,
    /// fsync, or an interval between syncs (like 50ms)
    #[arg(long)]
    pub durability: Option<String>,
    /// How long a lost daemon may stay away before its sessions count as lost
    #[arg(long, value_name = "DURATION")]
    pub grace: Option<String>,
    /// How long a prompt waits for an answer before it expires, or none
    #[arg(long, value_name = "DURATION")]
    pub prompt_expiry: Option<String>,
    /// Host name under which the server is reached; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Web origin that may call; may be repeated
    #[arg(long = "origin", value_name = "ORIGIN")]
    pub origins: Vec<String>,
    /// Most living sessions
    #[arg(long, value_name = "N")]
    pub max_sessions: Option<String>,
    /// Longest time a shutdown takes
    #[arg(long, value_name = "DURATION")]
    pub drain_deadline: Option<String>,
    /// pretty, json or auto
    #[arg(long)]
    pub log_format: Option<String>,
    /// Level, or directives like info,baton=debug
    #[arg(long)]
    pub log_level: Option<String>,
    /// Any key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `baton daemon`
#[derive(Debug, Default, ClapArgs)]
pub struct DaemonArgs {
    /// File with the join token (- is standard input); BATON_JOIN_TOKEN holds the token itself
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Name for people; default the host name
    #[arg(long)]
    pub name: Option<String>,
    /// Directory beneath which sessions may run; may be repeated
    #[arg(long = "root", value_name = "DIR")]
    pub roots: Vec<PathBuf>,
    /// Kind of agent program it may run; may be repeated; default all that are found
    #[arg(long = "harness", value_name = "NAME")]
    pub harnesses: Vec<String>,
    /// Allow plain commands (the harness `command`)
    #[arg(long)]
    pub allow_commands: bool,
    /// The highest permission mode a session may have: deny, ask, auto-safe, auto
    #[arg(long, value_name = "MODE", value_parser = value::mode)]
    pub max_permission_mode: Option<PermissionMode>,
    /// Environment variable that sessions may ask for; may be repeated
    #[arg(long = "allow-env", value_name = "NAME")]
    pub env_names: Vec<String>,
    /// Environment variable that every session gets; may be repeated
    #[arg(long = "pass-env", value_name = "NAME")]
    pub pass_env: Vec<String>,
    /// Label, for selectors; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Most living sessions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sessions: Option<u32>,
    /// How long an agent to which no daemon comes goes on before its runner ends it; default 24h
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub orphan_after: Option<Duration>,
    /// Size at which a session's spool is full and its agent waits, 1MiB or more; default 256MiB
    #[arg(long, value_name = "SIZE", value_parser = value::bytes)]
    pub spool_size: Option<u64>,
    /// Program of Claude Code; default `claude` on the daemon's PATH
    #[arg(long, value_name = "FILE")]
    pub claude_program: Option<PathBuf>,
    /// Agent that speaks ACP, as the harness acp:NAME: its program and arguments, in words or as a JSON array;
    /// may be repeated
    #[arg(long = "acp", value_name = "NAME=ARGV", value_parser = value::acp_agent)]
    pub acp_agents: Vec<AcpAgent>,
    /// Directory for worktrees, beneath a root; default .worktrees within each repository
    #[arg(long, value_name = "DIR")]
    pub worktree_root: Option<PathBuf>,
    /// Disk space beyond which worktrees without work are pruned before their time
    #[arg(long, value_name = "SIZE", value_parser = value::bytes)]
    pub worktree_budget: Option<u64>,
    /// How long a worktree must have been left alone before it is pruned; default 7d
    #[arg(long, value_name = "DURATION", value_parser = value::duration_or_nothing)]
    pub worktree_grace: Option<Duration>,
    /// pretty, json or auto
    #[arg(long)]
    pub log_format: Option<String>,
    /// Level, or directives like info,baton=debug
    #[arg(long)]
    pub log_level: Option<String>,
}

/// `baton run`
#[derive(Debug, Default, ClapArgs)]
pub struct RunArgs {
    /// Kind of agent program: claude-code, codex, acp:NAME, command, demo; default what the daemon has
    #[arg(long, value_name = "NAME")]
    pub harness: Option<String>,
    /// Working directory on the daemon's machine; default this one
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Follow the session; the default on a terminal
    #[arg(long, short, overrides_with = "no_follow")]
    pub follow: bool,
    /// Print the session's id and end
    #[arg(long, overrides_with = "follow")]
    pub no_follow: bool,
    /// The model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// deny, ask, auto-safe or auto; default ask
    #[arg(long, value_name = "MODE", value_parser = value::mode)]
    pub permission_mode: Option<PermissionMode>,
    /// End after the first turn
    #[arg(long)]
    pub one_shot: bool,
    /// The daemon, by id or name; default any that fits
    #[arg(long, value_name = "ID")]
    pub daemon: Option<String>,
    /// Label that the daemon must have; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::pair)]
    pub select: Vec<(String, String)>,
    /// Name of an environment variable of the daemon to pass on; may be repeated
    #[arg(long = "env", value_name = "NAME")]
    pub env_names: Vec<String>,
    /// A short title
    #[arg(long)]
    pub title: Option<String>,
    /// Label of the session; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Longest time from start to end
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub max_runtime: Option<Duration>,
    /// Most turns
    #[arg(long, value_name = "N")]
    pub max_turns: Option<u32>,
    /// What to say to the agent; - reads standard input
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// With --harness command: program and arguments
    #[arg(last = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

/// `baton ps`
#[derive(Debug, ClapArgs)]
pub struct PsArgs {
    /// Also those that are over
    #[arg(long, short)]
    pub all: bool,
    /// Print whole ids and nothing else
    #[arg(long, short)]
    pub quiet: bool,
    /// Only of this daemon
    #[arg(long, value_name = "ID")]
    pub daemon: Option<String>,
    /// Only with this harness
    #[arg(long, value_name = "NAME")]
    pub harness: Option<String>,
    /// Only of this agent, by id or name
    #[arg(long, value_name = "ID")]
    pub agent: Option<String>,
    /// Only with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Only those that could be resumed now
    #[arg(long)]
    pub resumable: bool,
    /// At most this many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// `baton logs`
#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// Go on with what comes, also over restarts of the server
    #[arg(long, short)]
    pub follow: bool,
    /// Only events after this one
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub since_seq: u64,
    /// Only these kinds, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = value::kind)]
    pub kinds: Vec<EventKind>,
}

/// `baton send`
#[derive(Debug, ClapArgs)]
pub struct SendArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// The text; - reads standard input
    pub text: String,
    /// Into the running turn, where the agent can
    #[arg(long)]
    pub steer: bool,
}

/// `baton queue`
#[derive(Debug, ClapArgs)]
pub struct QueueArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<QueueAction>,
}

/// What to do to a queue.
#[derive(Debug, Subcommand)]
pub enum QueueAction {
    /// List the inputs that wait
    List {
        /// Also those that were delivered
        #[arg(long, short)]
        all: bool,
    },
    /// Change the text of one
    Edit {
        /// The input
        input: String,
        /// Its new text; - reads standard input
        text: String,
    },
    /// Move one
    Move {
        /// The input
        input: String,
        /// Its new place, from 1
        position: u32,
    },
    /// Take one back
    Withdraw {
        /// The input
        input: String,
    },
}

/// `baton end`
#[derive(Debug, ClapArgs)]
pub struct EndArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// Skip the polite end
    #[arg(long)]
    pub force: bool,
}

/// `baton set`
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("option").required(true).multiple(true).args(["model", "permission_mode"]))]
pub struct SetArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// The model; "" is the harness's default
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// deny, ask, auto-safe or auto
    #[arg(long, value_name = "MODE", value_parser = value::mode)]
    pub permission_mode: Option<PermissionMode>,
}

/// `baton delete`
#[derive(Debug, ClapArgs)]
pub struct DeleteArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `baton content`
#[derive(Debug, ClapArgs)]
pub struct ContentArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// The content's hash, as the log shows it; its end may be left out
    #[arg(value_name = "SHA256")]
    pub sha256: String,
    /// Into this file, which must not exist; default standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `baton resume`
#[derive(Debug, ClapArgs)]
pub struct ResumeArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// What to say first; - reads standard input
    pub text: Option<String>,
    /// Give up the old process, should it still run somewhere
    #[arg(long)]
    pub force: bool,
    /// The model; default as before
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The permission mode; default as before
    #[arg(long, value_name = "MODE", value_parser = value::mode)]
    pub permission_mode: Option<PermissionMode>,
    /// Follow the new session
    #[arg(long, short)]
    pub follow: bool,
}

/// `baton fork`
#[derive(Debug, ClapArgs)]
pub struct ForkArgs {
    /// The session; its id may be shortened
    #[arg(value_name = "ID")]
    pub session: String,
    /// What to say first; - reads standard input
    pub text: Option<String>,
    /// Follow the new session
    #[arg(long, short)]
    pub follow: bool,
}

/// `baton prompts`
#[derive(Debug, ClapArgs)]
pub struct PromptsArgs {
    /// Also those that do not wait any more
    #[arg(long, short)]
    pub all: bool,
    /// Only of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Show all of one prompt
    #[arg(value_name = "ID", conflicts_with_all = ["all", "session"])]
    pub prompt: Option<String>,
}

/// `baton answer`
#[derive(Debug, Default, ClapArgs)]
#[group(skip)]
pub struct AnswerArgs {
    /// The prompt; its id may be shortened
    #[arg(value_name = "ID")]
    pub prompt: String,
    /// Allow it, or approve the plan
    #[arg(long, conflicts_with_all = ["deny", "option", "text"])]
    pub allow: bool,
    /// Deny it, with what the agent is told
    #[arg(long, value_name = "MESSAGE", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["option", "text"])]
    pub deny: Option<String>,
    /// Choose an option: LABEL, or QUESTION=LABEL with the question's number or beginning; may be repeated
    #[arg(long, value_name = "Q=LABEL")]
    pub option: Vec<String>,
    /// Answer in your own words: TEXT, or QUESTION=TEXT; may be repeated
    #[arg(long, value_name = "Q=TEXT")]
    pub text: Vec<String>,
    /// With --allow: what the tool is called with instead
    #[arg(long, value_name = "JSON", requires = "allow")]
    pub input: Option<String>,
    /// How long it holds
    #[arg(long, value_parser = ["session", "rule"])]
    pub remember: Option<String>,
    /// With --remember: the rule's pattern
    #[arg(long, value_name = "PATTERN", requires = "remember")]
    pub pattern: Option<String>,
    /// With --deny: end the turn too
    #[arg(long, requires = "deny", conflicts_with = "allow")]
    pub interrupt: bool,
}

/// `baton rules`
#[derive(Debug, ClapArgs)]
pub struct RulesArgs {
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<RulesAction>,
}

/// What to do to rules.
#[derive(Debug, Subcommand)]
pub enum RulesAction {
    /// List them
    List {
        /// Only of this session
        #[arg(long, value_name = "ID")]
        session: Option<String>,
    },
    /// Make one
    #[command(group = clap::ArgGroup::new("verdict").required(true).args(["allow", "deny"]))]
    Add {
        /// What it matches: a tool, or a tool and a pattern: Bash(git status:*), Edit(src/**)
        pattern: String,
        /// Allow what it matches
        #[arg(long)]
        allow: bool,
        /// Deny what it matches
        #[arg(long)]
        deny: bool,
        /// Only in this session
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// Only beneath this directory
        #[arg(long, value_name = "DIR")]
        directory: Option<String>,
    },
    /// Delete one
    Delete {
        /// The rule
        rule: String,
    },
}

/// `baton daemons`
#[derive(Debug, ClapArgs)]
pub struct DaemonsArgs {
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<DaemonsAction>,
}

/// What to do with daemons.
#[derive(Debug, Subcommand)]
pub enum DaemonsAction {
    /// List them
    List,
    /// Show one with all it can run
    Show {
        /// The daemon, by id or name
        daemon: String,
    },
    /// Place no more sessions on one
    Drain {
        /// The daemon, by id or name
        daemon: String,
        /// Place sessions on it again
        #[arg(long)]
        undo: bool,
    },
    /// Forget one and revoke its credential
    Remove {
        /// The daemon, by id or name
        daemon: String,
        /// Although it has living sessions
        #[arg(long)]
        force: bool,
    },
    /// List a directory on its machine
    Ls {
        /// The daemon, by id or name
        daemon: String,
        /// Absolute path; default its roots
        #[arg(default_value = "")]
        path: String,
        /// Also entries that start with a dot
        #[arg(long, short)]
        all: bool,
    },
    /// Print the command with which another machine joins
    Join {
        /// Name the daemon shall have; default its host name
        #[arg(long)]
        name: Option<String>,
        /// How long the command works
        #[arg(long, value_name = "DURATION", value_parser = value::duration, default_value = "1h")]
        ttl: Duration,
        /// The server's address as the other machine sees it
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
}

/// `baton token`
#[derive(Debug, ClapArgs)]
pub struct TokenArgs {
    /// What to do
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make one; it is shown once
    Create {
        /// Name for people
        name: String,
        /// What it opens
        #[arg(long, value_parser = ["admin", "operator", "viewer"], default_value = "operator")]
        scope: String,
        /// How long it lives; default until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = value::duration)]
        ttl: Option<Duration>,
        /// See only sessions in this directory or beneath it; DAEMON:DIR is on that machine only. May be repeated
        #[arg(long = "project", value_name = "[DAEMON:]DIR")]
        projects: Vec<String>,
        /// See only this session, and what continues it or branches off from it. May be repeated
        #[arg(long = "session", value_name = "ID")]
        sessions: Vec<String>,
    },
    /// List them, without their secrets
    List,
    /// Revoke one; what was opened with it ends
    Revoke {
        /// The token's id
        token: String,
    },
}

/// `baton search`
#[derive(Debug, ClapArgs)]
pub struct SearchArgs {
    /// Words that must all occur; "in quotes" they follow each other; a trailing * completes a word
    #[arg(required = true)]
    pub words: Vec<String>,
    /// Only in this session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only these kinds, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = value::kind)]
    pub kinds: Vec<EventKind>,
    /// At most this many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

/// `baton store`
#[derive(Debug, ClapArgs)]
pub struct StoreArgs {
    /// What to do
    #[command(subcommand)]
    pub action: StoreAction,
}

/// What to do to a store. The server must not run.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreAction {
    /// Read everything and say what is damaged
    Check,
    /// Give disk space back
    Compact,
    /// Write everything into one file
    Export {
        /// The file; must not exist
        file: PathBuf,
    },
    /// Read a file of `export` into an empty store
    Import {
        /// The file
        file: PathBuf,
    },
}

mod tasks;
pub mod worktrees;
pub use worktrees::{WorktreesAction, WorktreesArgs};

#[cfg(test)]
mod tests;
