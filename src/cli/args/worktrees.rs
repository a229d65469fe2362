//! The arguments of `baton worktrees`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::value;

/// `baton worktrees`
#[derive(Debug, ClapArgs)]
pub struct WorktreesArgs {
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<WorktreesAction>,
}

/// What to do with worktrees.
#[derive(Debug, Subcommand)]
pub enum WorktreesAction {
    /// List them
    List {
        /// Also those that are gone
        #[arg(long, short)]
        all: bool,
        /// Only of this daemon
        #[arg(long, value_name = "ID")]
        daemon: Option<String>,
    },
    /// Show one, looked at now
    Show {
        /// The worktree; its id may be shortened
        #[arg(value_name = "ID")]
        worktree: String,
    },
    /// Make one
    Create(Box<CreateArgs>),
    /// Show how one differs from its target
    Diff {
        /// The worktree; its id may be shortened
        #[arg(value_name = "ID")]
        worktree: String,
        /// Only the files and how many lines
        #[arg(long)]
        stat: bool,
    },
    /// Merge one's branch into its target; exit code 1 if it does not fit or its test fails
    Merge(Box<MergeArgs>),
    /// Remove one
    Delete {
        /// The worktree; its id may be shortened
        #[arg(value_name = "ID")]
        worktree: String,
        /// Although it has work that is nowhere else; a snapshot is kept
        #[arg(long)]
        force: bool,
        /// Delete its branch too
        #[arg(long)]
        delete_branch: bool,
    },
    /// Remove those without work that were left alone
    Prune {
        /// Only say which
        #[arg(long)]
        dry_run: bool,
        /// Of this daemon; default the only one that is linked
        #[arg(long, value_name = "ID")]
        daemon: Option<String>,
        /// Only of this repository
        #[arg(long, value_name = "DIR")]
        repo: Option<PathBuf>,
        /// How long they must have been left alone; default the daemon's own figure
        #[arg(long, value_name = "DURATION", value_parser = value::duration_or_nothing)]
        grace: Option<Duration>,
    },
    /// List what removals have kept, or make a worktree of one of them
    Recover {
        /// The snapshot's ref, as the list shows it; none lists them
        #[arg(value_name = "REF")]
        recover_ref: Option<String>,
        /// A directory of the repository; default this one
        #[arg(long, value_name = "DIR")]
        repo: Option<PathBuf>,
        /// The daemon; default the one that allows the directory
        #[arg(long, value_name = "ID")]
        daemon: Option<String>,
        /// The branch to make
        #[arg(long, value_name = "NAME")]
        branch: Option<String>,
    },
}

/// `baton worktrees create`
#[derive(Debug, ClapArgs)]
pub struct CreateArgs {
    /// The agent's name
    #[arg(long, value_name = "NAME")]
    pub agent: String,
    /// The task it is for
    #[arg(long, value_name = "ID")]
    pub task: Option<String>,
    /// What it is for, in a line
    #[arg(long)]
    pub title: Option<String>,
    /// A directory of the repository; default this one
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// The daemon; default the one that allows the directory
    #[arg(long, value_name = "ID")]
    pub daemon: Option<String>,
    /// The branch; default agent/{agent}/{task}-{title}
    #[arg(long, value_name = "NAME")]
    pub branch: Option<String>,
    /// The directory's name
    #[arg(long, value_name = "NAME")]
    pub directory: Option<String>,
    /// The branch to begin at; default the target
    #[arg(long, value_name = "NAME")]
    pub base: Option<String>,
    /// The branch to merge into; default the one that is checked out
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Fetch the base from origin first
    #[arg(long)]
    pub fetch: bool,
    /// File to copy into it, relative to the repository; may be repeated
    #[arg(long = "copy", value_name = "FILE")]
    pub copy_files: Vec<String>,
    /// How long the set-up command may take
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub setup_time: Option<Duration>,
    /// Set-up command: program and arguments
    #[arg(last = true, value_name = "ARGV")]
    pub setup: Vec<String>,
}

/// `baton worktrees merge`
#[derive(Debug, ClapArgs)]
pub struct MergeArgs {
    /// The worktree; its id may be shortened
    #[arg(value_name = "ID")]
    pub worktree: String,
    /// squash, merge or ff
    #[arg(long, value_parser = ["squash", "merge", "ff"], default_value = "squash")]
    pub strategy: String,
    /// The branch to merge into; default the worktree's own target
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// The commit's subject
    #[arg(long)]
    pub subject: Option<String>,
    /// Merge what is committed although more is not
    #[arg(long)]
    pub allow_uncommitted: bool,
    /// How long the test command may take
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    pub test_time: Option<Duration>,
    /// Test command that must succeed on the result: program and arguments
    #[arg(last = true, value_name = "ARGV")]
    pub test: Vec<String>,
}
