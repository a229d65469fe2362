//! The command line: arguments, one file a command, output.
//!
//! Commands talk to the server through [`crate::client`] as any other program does. What starts a server
//! or a daemon in this process goes through `wiring` alone.

pub mod args;
mod ask;
mod command;
mod connection;
mod exit;
#[cfg(feature = "failpoints")]
mod fault;
mod live;
mod output;
mod raw;
mod resolve;
mod sequences;
mod session_view;
mod terminal_view;
mod upkeep;
mod value;
mod wiring;

#[cfg(test)]
mod fuzz;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use args::Args;

/// Parses the arguments of this process, runs the command, and says how it went.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.global.json;
    match command::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Whoever reads our output has seen enough (`baton logs … | head`).
            if exit::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            let color = std::io::stderr().is_terminal() && !output::no_color();
            // Not eprintln, which panics when nobody reads.
            let text = exit::describe(&error, json, color);
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
