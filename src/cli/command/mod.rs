//! The commands, one file each.

mod agents;
mod answer;
mod bench;
mod budgets;
mod console_link;
mod content;
mod daemon;
mod daemons;
mod doctor;
mod logs;
mod prompts;
mod ps;
mod queue;
mod rules;
mod run;
mod scheduler;
mod search;
mod session;
mod store;
mod tasks;
mod terminal;
mod token;
mod up;
mod worktrees;

use std::io::Read as _;

use clap::CommandFactory as _;

use super::args::{Args, Command};
use super::exit::{DONE, usage};
use super::output::Out;
use super::wiring;

/// The longest input, as the server takes it.
const MAX_TEXT_BYTES: u64 = crate::domain::input::MAX_INPUT_BYTES as u64;

/// Runs a command; the exit code.
pub fn run(args: Args) -> anyhow::Result<u8> {
    // These need no server and no runtime.
    match args.command {
        Command::Completions { shell } => {
            // To memory first: clap's writer panics when nobody reads.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "baton", &mut script);
            Out::new(false).part(&String::from_utf8_lossy(&script))?;
            return Ok(DONE);
        }
        Command::Runner(inner) => return wiring::runner(&inner.rest),
        Command::DemoAgent(inner) => return wiring::demo_agent(&inner.rest),
        Command::Bench(inner) => return bench::run(args.global.json, inner),
        Command::BenchBare(args) => return bench::serve_bare(args),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(dispatch(args));
    // A thread that waits for a line of the terminal must not keep us.
    runtime.shutdown_background();
    code
}

async fn dispatch(args: Args) -> anyhow::Result<u8> {
    let global = &args.global;
    let out = &Out::new(global.json);
    match args.command {
        Command::Up(args) => up::run(global, out, args).await,
        Command::Serve(args) => wiring::serve(global, out, args).await,
        Command::Daemon(args) => daemon::run(global, *args).await,
        Command::Run(args) => run::run(global, out, *args).await,
        Command::Ps(args) => ps::run(global, out, args).await,
        Command::Logs(args) => logs::run(global, out, args).await,
        Command::Attach(args) => session::attach(global, out, args).await,
        Command::Terminal(args) => terminal::run(global, out, args).await,
        Command::Send(args) => session::send(global, out, args).await,
        Command::Queue(args) => queue::run(global, out, args).await,
        Command::Interrupt(args) => session::interrupt(global, out, &args.session).await,
        Command::End(args) => session::end(global, out, args).await,
        Command::Set(args) => session::set(global, out, args).await,
        Command::Suspend(args) => session::suspend(global, out, &args.session).await,
        Command::Resume(args) => session::resume(global, out, args).await,
        Command::Fork(args) => session::fork(global, out, args).await,
        Command::Delete(args) => session::delete(global, out, args).await,
        Command::Content(args) => content::run(global, out, args).await,
        Command::Prompts(args) => prompts::run(global, out, args).await,
        Command::Answer(args) => answer::run(global, out, args).await,
        Command::Agents(args) => agents::run(global, out, args).await,
        Command::Budgets(args) => budgets::run(global, out, args).await,
        Command::Rules(args) => rules::run(global, out, args).await,
        Command::Tasks(args) => tasks::run(global, out, *args).await,
        Command::Scheduler(args) => scheduler::run(global, out, args).await,
        Command::Daemons(args) => daemons::run(global, out, args).await,
        Command::Worktrees(args) => worktrees::run(global, out, args).await,
        Command::Token(args) => token::run(global, out, args).await,
        Command::ConsoleLink(args) => console_link::run(global, out, args).await,
        Command::Search(args) => search::run(global, out, args).await,
        Command::Store(args) => store::run(global, out, args).await,
        Command::Doctor => doctor::run(global, out).await,
        Command::Completions { .. }
        | Command::Runner(_)
        | Command::DemoAgent(_)
        | Command::Bench(_)
        | Command::BenchBare(_) => {
            unreachable!("handled before the runtime was made")
        }
    }
}

/// An id that makes a repeat of the same call harmless.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Text from an argument, or from standard input for `-`.
fn text(argument: &str) -> anyhow::Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_TEXT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|problem| usage(format!("standard input cannot be read: {problem}")))?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(usage(format!(
            "standard input has more than the {MAX_TEXT_BYTES} bytes that an input may have"
        )));
    }
    Ok(text)
}
