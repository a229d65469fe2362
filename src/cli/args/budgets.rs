//! Arguments of `baton budgets`.

use clap::{Args as ClapArgs, Subcommand};

/// `baton budgets`
#[derive(Debug, ClapArgs)]
pub struct BudgetsArgs {
    /// What to do; default list
    #[command(subcommand)]
    pub action: Option<BudgetsAction>,
}

/// What a budget is of.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct BudgetOf {
    /// Of a session
    #[arg(long)]
    pub session: Option<String>,
    /// Of an agent
    #[arg(long)]
    pub agent: Option<String>,
    /// Of a task
    #[arg(long)]
    pub task: Option<String>,
    /// Of all that the server runs
    #[arg(long)]
    pub everything: bool,
}

/// What to do with budgets. A budget is named by its id, which may be shortened.
#[derive(Debug, Subcommand)]
pub enum BudgetsAction {
    /// List them
    List {
        /// Only those that cover this session
        #[arg(long)]
        session: Option<String>,
    },
    /// Show one
    Show {
        /// The budget
        budget: String,
    },
    /// Set the limits of something; those that it had are replaced
    Set {
        /// What it is of
        #[command(flatten)]
        of: BudgetOf,
        /// By the day (UTC), not for good
        #[arg(long)]
        day: bool,
        /// Where a person is asked: cost=DOLLARS, input=TOKENS, output=TOKENS, cache=TOKENS; may be repeated
        #[arg(long, value_name = "WHAT=AMOUNT")]
        soft: Vec<String>,
        /// Where what it covers is parked, written in the same way
        #[arg(long, value_name = "WHAT=AMOUNT")]
        hard: Vec<String>,
        /// Take it away
        #[arg(long, conflicts_with_all = ["soft", "hard"])]
        remove: bool,
    },
    /// Show what was spent
    Usage {
        /// By what: day, session, agent, task, model
        #[arg(long, default_value = "day", value_parser = ["day", "session", "agent", "task", "model"])]
        by: String,
        /// From this day on, like 2026-01-31 (UTC)
        #[arg(long)]
        from: Option<String>,
        /// Up to this day
        #[arg(long)]
        to: Option<String>,
        /// Only of this session
        #[arg(long)]
        session: Option<String>,
        /// Only of this agent
        #[arg(long)]
        agent: Option<String>,
        /// Only of this task
        #[arg(long)]
        task: Option<String>,
    },
}
