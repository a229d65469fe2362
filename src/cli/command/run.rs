//! `baton run`: a new session, followed.

use std::io::IsTerminal as _;
use std::path::Path;

use super::session::begun;
use super::{request_id, text};
use crate::base::Code;
use crate::cli::args::{Global, RunArgs};
use crate::cli::connection::connect;
use crate::cli::exit::usage;
use crate::cli::output::Out;
use crate::cli::resolve;
use crate::wire::enums::permission_mode_to_pb;
use crate::wire::time::duration_to_pb;
use crate::wire::v1;

/// The harness that runs a program of one's own.
const COMMAND: &str = "command";

/// `baton run`
pub async fn run(global: &Global, out: &Out, args: RunArgs) -> anyhow::Result<u8> {
    let follow = args.follow || (!args.no_follow && std::io::stdout().is_terminal() && !out.json);
    let mut request = request_of(&args)?;
    let client = connect(global).await?;
    if let Some(typed) = &args.daemon {
        request.daemon_id = resolve::daemon(&client, typed).await?.to_string();
    }
    if request.harness.is_empty() {
        request.harness = preferred(&client, &request.daemon_id).await?;
    }
    let has_input = !request.input.is_empty();
    let response = client.create_session(request).await?;
    begun(&client, out, response.session, follow, has_input).await
}

/// The request that the arguments make, but for what only the server knows.
fn request_of(args: &RunArgs) -> anyhow::Result<v1::CreateSessionRequest> {
    let harness = match (&args.harness, args.argv.is_empty()) {
        (None, false) => COMMAND.to_owned(),
        (Some(name), false) if name != COMMAND => {
            return Err(usage(format!(
                "a program after -- goes with --harness command, not {name}"
            )));
        }
        (Some(name), true) if name == COMMAND => {
            return Err(usage(
                "--harness command wants a program: baton run --harness command -- PROGRAM ARGUMENT…",
            ));
        }
        (name, _) => name.clone().unwrap_or_default(),
    };
    if args.text.is_none() && args.argv.is_empty() && !has_terminal() {
        return Err(usage(
            "say something to the agent: baton run TEXT (or - for standard input)",
        ));
    }
    let cwd = match &args.cwd {
        Some(dir) => directory(dir)?,
        None => directory(&std::env::current_dir()?)?,
    };
    let limits = (args.max_runtime.is_some() || args.max_turns.is_some()).then(|| v1::Limits {
        runtime: args.max_runtime.map(duration_to_pb),
        turns: args.max_turns.unwrap_or_default(),
        ..Default::default()
    });
    Ok(v1::CreateSessionRequest {
        request_id: request_id(),
        input: args
            .text
            .as_deref()
            .map(text)
            .transpose()?
            .unwrap_or_default(),
        cwd,
        harness,
        model: args.model.clone().unwrap_or_default(),
        permission_mode: args
            .permission_mode
            .map(|mode| permission_mode_to_pb(mode).into())
            .unwrap_or_default(),
        mode: v1::SessionMode::Headless.into(),
        one_shot: args.one_shot,
        daemon_id: String::new(),
        selector: args.select.iter().cloned().collect(),
        env_names: args.env_names.clone(),
        limits,
        title: args.title.clone().unwrap_or_default(),
        labels: args.labels.iter().cloned().collect(),
        argv: args.argv.clone(),
    })
}

fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// The path without `.` and `..`, by its text alone.
/// A directory as the server names it: absolute, seen from here; the daemon resolves links.
pub(super) fn directory(dir: &Path) -> anyhow::Result<String> {
    let dir = std::path::absolute(dir)?;
    let dir = dir
        .to_str()
        .ok_or_else(|| usage("the directory's name is not UTF-8"))?;
    // `absolute` keeps the dots.
    Ok(without_dots(dir))
}

fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The harness to use when nobody named one: a real agent if a daemon has one, else the demo.
async fn preferred(client: &crate::client::Client, daemon: &str) -> anyhow::Result<String> {
    let page = client
        .list_daemons(v1::ListDaemonsRequest {
            attached_only: true,
            page_size: 1_000,
            ..Default::default()
        })
        .await?;
    let available: Vec<&v1::Harness> = page
        .daemons
        .iter()
        .filter(|candidate| daemon.is_empty() || candidate.id == daemon)
        .flat_map(|candidate| &candidate.harnesses)
        .filter(|harness| harness.available)
        .collect();
    let named = |name: &str| available.iter().find(|harness| harness.name == name);
    let by_acp = || {
        let signed_out = |harness: &v1::Harness| harness.login() == v1::LoginState::SignedOut;
        let mut agents = available.iter();
        agents.find(|harness| harness.name.starts_with("acp:") && !signed_out(harness))
    };
    named("claude-code")
        .or_else(|| named("codex"))
        .or_else(by_acp)
        .or_else(|| named("demo"))
        .map(|harness| harness.name.clone())
        .ok_or_else(|| {
            crate::base::Error::new(
                Code::NoDaemon,
                "no linked daemon has an agent that can be used; `baton doctor` says why",
            )
            .into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::{USAGE, code_of};

    fn args(harness: Option<&str>, text: Option<&str>, argv: &[&str]) -> RunArgs {
        RunArgs {
            harness: harness.map(str::to_owned),
            text: text.map(str::to_owned),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            cwd: Some("/srv/./a/../b".into()),
            ..RunArgs::default()
        }
    }

    #[test]
    fn a_program_means_the_command_harness_and_nothing_else() {
        let request = request_of(&args(None, None, &["make", "-j"])).unwrap();
        assert_eq!(
            (request.harness.as_str(), request.argv.len()),
            ("command", 2)
        );
        for bad in [
            args(Some("demo"), None, &["make"]),
            args(Some("command"), None, &[]),
        ] {
            assert_eq!(code_of(&request_of(&bad).unwrap_err()), USAGE);
        }
    }

    #[test]
    fn the_directory_is_absolute_and_plain() {
        let request = request_of(&args(Some("demo"), Some("hi"), &[])).unwrap();
        assert_eq!(request.cwd, "/srv/b");
        assert!(!request.request_id.is_empty());
        assert_eq!(without_dots("/../.."), "/");
    }
}
