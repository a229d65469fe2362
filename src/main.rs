//! The binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, runner, flag, dir] = args.as_slice()
        && (runner.as_str(), flag.as_str()) == ("runner", "--dir")
    {
        return baton::daemon::runner::run(std::path::Path::new(dir));
    }
    ExitCode::SUCCESS
}
