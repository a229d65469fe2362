//! `baton terminal`: programs in terminals, opened, listed, closed; and attaching to one.

use super::request_id;
use super::run::directory;
use super::session::state;
use crate::base::id::{SessionId, TerminalId};
use crate::cli::args::{Global, OpenTerminalArgs, TerminalAction, TerminalArgs};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, usage};
use crate::cli::output::style::{Tone, fit};
use crate::cli::output::table::Table;
use crate::cli::output::{Out, json};
use crate::cli::terminal_view::{Settings, attach};
use crate::cli::{raw, resolve};
use crate::client::Client;
use crate::wire::enums::permission_mode_to_pb;
use crate::wire::v1;

/// `baton terminal`
pub async fn run(global: &Global, out: &Out, args: TerminalArgs) -> anyhow::Result<u8> {
    match args.action.unwrap_or(TerminalAction::List { all: false }) {
        TerminalAction::Open(args) => open(global, out, *args).await,
        TerminalAction::List { all } => list(&connect(global).await?, out, all).await,
        TerminalAction::Close { terminal, force } => {
            let client = connect(global).await?;
            let id = terminal_id(&client, &terminal).await?;
            let closed = client
                .close_terminal(v1::CloseTerminalRequest {
                    request_id: request_id(),
                    terminal_id: id.to_string(),
                    force,
                })
                .await?
                .terminal
                .unwrap_or_default();
            out.show(&json::terminal(&closed), || {
                let session = closed.session.clone().unwrap_or_default();
                format!("{} {}", closed.id, state(&session))
            })?;
            Ok(DONE)
        }
    }
}

async fn open(global: &Global, out: &Out, args: OpenTerminalArgs) -> anyhow::Result<u8> {
    let follow = !args.detached && !out.json && raw::is_terminal();
    if args
        .harness
        .as_deref()
        .is_some_and(|name| name != "command")
        && !args.argv.is_empty()
    {
        return Err(usage(
            "a program after -- goes with the harness command only",
        ));
    }
    let cwd = match &args.cwd {
        Some(dir) => directory(dir)?,
        None => directory(&std::env::current_dir()?)?,
    };
    let client = connect(global).await?;
    let daemon_id = match &args.daemon {
        Some(typed) => resolve::daemon(&client, typed).await?.to_string(),
        None => String::new(),
    };
    let opened = client
        .open_terminal(v1::OpenTerminalRequest {
            request_id: request_id(),
            harness: args.harness.unwrap_or_default(),
            cwd,
            argv: args.argv,
            size: raw::size(),
            size_policy: 0,
            model: args.model.unwrap_or_default(),
            permission_mode: args
                .permission_mode
                .map(|mode| permission_mode_to_pb(mode).into())
                .unwrap_or_default(),
            daemon_id,
            selector: args.select.into_iter().collect(),
            env_names: args.env_names,
            title: args.title.unwrap_or_default(),
            labels: args.labels.into_iter().collect(),
            limits: None,
        })
        .await?
        .terminal
        .unwrap_or_default();
    if !follow {
        out.show(&json::terminal(&opened), || opened.id.clone())?;
        return Ok(DONE);
    }
    let settings = Settings {
        key: args.detach_key,
        tail: None,
    };
    attach(&client, out, &opened.id, settings).await
}

async fn list(client: &Client, out: &Out, all: bool) -> anyhow::Result<u8> {
    let mut terminals = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client
            .list_terminals(v1::ListTerminalsRequest {
                page_size: 200,
                page_token,
                daemon_id: String::new(),
                living: !all,
            })
            .await?;
        terminals.extend(page.terminals);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if out.json {
        for terminal in &terminals {
            out.value(&json::terminal(terminal))?;
        }
        return Ok(DONE);
    }
    if terminals.is_empty() {
        out.note("there are no terminals; open one with: baton terminal open");
        return Ok(DONE);
    }
    let mut table = Table::new(&["ID", "STATE", "HARNESS", "SIZE", "VIEWERS", "TITLE", "CWD"]);
    for terminal in &terminals {
        let session = terminal.session.clone().unwrap_or_default();
        let size = terminal.size.unwrap_or_default();
        table.row([
            (Tone::Name, resolve::short(&terminal.id).to_owned()),
            (Tone::Plain, state(&session)),
            (Tone::Plain, session.harness.clone()),
            (Tone::Plain, format!("{}x{}", size.cols, size.rows)),
            (Tone::Plain, terminal.viewers.to_string()),
            (Tone::Plain, fit(&session.title, 40)),
            (Tone::Dim, session.cwd.clone()),
        ]);
    }
    out.line(&table.render(out.style, out.width))?;
    Ok(DONE)
}

/// The terminal that a person meant: by its own id or its session's, shortened or not.
pub async fn terminal_id(client: &Client, typed: &str) -> anyhow::Result<TerminalId> {
    Ok(TerminalId::of(session_id(client, typed).await?))
}

/// The session that a person meant, also by the id of its terminal.
pub async fn session_id(client: &Client, typed: &str) -> anyhow::Result<SessionId> {
    if let Ok(id) = TerminalId::parse("terminal_id", typed) {
        return Ok(id.session());
    }
    // Both ids end alike.
    resolve::session(client, typed.strip_prefix("trm_").unwrap_or(typed)).await
}
