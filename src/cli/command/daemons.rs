//! `baton daemons`: the machines that run agents.

use std::time::Duration;

use crate::base::{Clock as _, SystemClock};
use crate::cli::args::{DaemonsAction, DaemonsArgs, Global};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::{Tone, visible_line};
use crate::cli::output::table::Table;
use crate::cli::output::{Out, json};
use crate::cli::{resolve, value};
use crate::client::Client;
use crate::wire::time::{duration_to_pb, time_from_pb};
use crate::wire::v1;

/// The variable that a joining daemon reads its token from.
pub const JOIN_TOKEN_VARIABLE: &str = "BATON_JOIN_TOKEN";

/// Changes of a daemon's link that are shown.
const LINK_CHANGES_SHOWN: usize = 6;

/// `baton daemons`
pub async fn run(global: &Global, out: &Out, args: DaemonsArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    match args.action.unwrap_or(DaemonsAction::List) {
        DaemonsAction::List => list(&client, out).await,
        DaemonsAction::Show { daemon } => {
            let id = resolve::daemon(&client, &daemon).await?.to_string();
            let response = client
                .get_daemon(v1::GetDaemonRequest { daemon_id: id })
                .await?;
            show(out, response.daemon)
        }
        DaemonsAction::Drain { daemon, undo } => {
            let id = resolve::daemon(&client, &daemon).await?.to_string();
            let response = client
                .drain_daemon(v1::DrainDaemonRequest {
                    daemon_id: id,
                    undo,
                })
                .await?;
            show(out, response.daemon)
        }
        DaemonsAction::Remove { daemon, force } => {
            let id = resolve::daemon(&client, &daemon).await?.to_string();
            client
                .remove_daemon(v1::RemoveDaemonRequest {
                    daemon_id: id.clone(),
                    force,
                })
                .await?;
            out.show(&serde_json::json!({ "removed": id }), || {
                format!("{id} is forgotten and its credential revoked")
            })?;
            Ok(DONE)
        }
        DaemonsAction::Ls { daemon, path, all } => {
            let id = resolve::daemon(&client, &daemon).await?.to_string();
            let directory = client
                .list_directory(v1::ListDirectoryRequest {
                    daemon_id: id,
                    path,
                    hidden: all,
                    brief: false,
                })
                .await?;
            for entry in &directory.entries {
                out.show(&json::directory_entry(entry), || {
                    let name = visible_line(if directory.path.is_empty() {
                        &entry.path
                    } else {
                        &entry.name
                    });
                    let mark = if entry.is_directory { "/" } else { "" };
                    let git = if entry.is_repository { "  (git)" } else { "" };
                    format!("{name}{mark}{git}")
                })?;
            }
            if directory.truncated {
                out.note("there are more entries than are shown");
            }
            Ok(DONE)
        }
        DaemonsAction::Join { name, ttl, url } => join(&client, out, name, ttl, url).await,
    }
}

async fn list(client: &Client, out: &Out) -> anyhow::Result<u8> {
    let page = client
        .list_daemons(v1::ListDaemonsRequest {
            attached_only: false,
            page_size: 1_000,
            page_token: String::new(),
        })
        .await?;
    if out.json {
        for daemon in &page.daemons {
            out.value(&json::daemon(daemon))?;
        }
        return Ok(DONE);
    }
    if page.daemons.is_empty() {
        out.note("there is no daemon; `baton daemons join` prints how one joins");
        return Ok(DONE);
    }
    let now = SystemClock.now();
    let mut table = Table::new(&[
        "ID",
        "NAME",
        "LINK",
        "SESSIONS",
        "PLATFORM",
        "VERSION",
        "HARNESSES",
    ]);
    for daemon in &page.daemons {
        let since = time_from_pb(daemon.since, "since")
            .ok()
            .flatten()
            .map(|since| value::ago(now, since))
            .unwrap_or_default();
        let (tone, link) = match (daemon.attached, daemon.draining) {
            (true, false) => (Tone::Good, format!("linked {since}")),
            (true, true) => (Tone::Warn, format!("draining {since}")),
            (false, _) => (Tone::Bad, format!("lost {since}")),
        };
        let harnesses: Vec<&str> = daemon
            .harnesses
            .iter()
            .filter(|harness| harness.available)
            .map(|harness| harness.name.as_str())
            .collect();
        table.row([
            (Tone::Name, resolve::short(&daemon.id).to_owned()),
            (Tone::Plain, daemon.name.clone()),
            (tone, link),
            (
                Tone::Plain,
                format!("{}/{}", daemon.living_sessions, daemon.max_sessions),
            ),
            (Tone::Dim, daemon.platform.clone()),
            (Tone::Dim, daemon.version.clone()),
            (Tone::Plain, harnesses.join(", ")),
        ]);
    }
    out.line(&table.render(out.style, out.width))?;
    Ok(DONE)
}

fn show(out: &Out, daemon: Option<v1::Daemon>) -> anyhow::Result<u8> {
    let daemon = crate::wire::field::required(daemon, "daemon")?;
    out.show(&json::daemon(&daemon), || {
        let mut lines = vec![
            format!("{} {}", daemon.id, visible_line(&daemon.name)),
            format!(
                "  {} on {}, version {}, {}{}",
                visible_line(&daemon.hostname),
                visible_line(&daemon.platform),
                visible_line(&daemon.version),
                if daemon.attached {
                    "linked"
                } else {
                    "not linked"
                },
                if daemon.draining { ", draining" } else { "" }
            ),
            format!(
                "  sessions: {} of {}",
                daemon.living_sessions, daemon.max_sessions
            ),
            format!("  roots: {}", visible_line(&daemon.roots.join(", "))),
        ];
        for harness in &daemon.harnesses {
            lines.push(harness_line(out, harness));
        }
        // The newest is what one looks for.
        for change in daemon.link_changes.iter().rev().take(LINK_CHANGES_SHOWN) {
            let at = time_from_pb(change.at, "at")
                .ok()
                .flatten()
                .map(|at| at.to_string().chars().take(19).collect::<String>())
                .unwrap_or_default();
            lines.push(if change.attached {
                format!("  {at} linked")
            } else {
                format!("  {at} away: {}", visible_line(&change.reason))
            });
        }
        lines.join("\n")
    })?;
    Ok(DONE)
}

/// A harness in a line: whether it can be used, and why not.
pub fn harness_line(out: &Out, harness: &v1::Harness) -> String {
    let name = visible_line(&harness.name);
    if harness.available {
        let login = match harness.login() {
            v1::LoginState::SignedOut => ", not signed in",
            _ => "",
        };
        let version = match harness.version.as_str() {
            "" => String::new(),
            version => format!(" {}", visible_line(version)),
        };
        format!(
            "  {} {name}{version}{login}",
            out.style.paint(Tone::Good, "✓")
        )
    } else {
        format!(
            "  {} {name}: {}",
            out.style.paint(Tone::Bad, "✗"),
            visible_line(&harness.unavailable_reason)
        )
    }
}

async fn join(
    client: &Client,
    out: &Out,
    name: Option<String>,
    ttl: Duration,
    url: Option<String>,
) -> anyhow::Result<u8> {
    let url = url.unwrap_or_else(|| client.url().to_owned());
    let response = client
        .create_join_token(v1::CreateJoinTokenRequest {
            name: name.unwrap_or_default(),
            ttl: Some(duration_to_pb(ttl)),
        })
        .await?;
    // In the environment of the one command, never among its arguments. A daemon without a root runs
    // nothing; whoever runs the command may name a narrower one.
    let command = format!(
        "{JOIN_TOKEN_VARIABLE}={} baton daemon --server {url} --root \"$HOME\"",
        quoted(&response.secret)
    );
    // The command has the secret in it: said once, it is as easily left out of a log.
    let value = serde_json::json!({
        "token": response.token.as_ref().map(json::token),
        "command": command,
    });
    out.show(&value, || command.clone())?;
    out.note(&format!(
        "run this once on the other machine within {}",
        value::short_duration(ttl)
    ));
    let is_local = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned))
        .is_some_and(|host| matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]"));
    if is_local {
        out.note(&format!(
            "warning: {url} is this machine alone; name the address the other one sees with --url \
             (the server must listen there, with TLS)"
        ));
    }
    Ok(DONE)
}

/// The text as a shell reads it back.
fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-./:".contains(&b));
    if is_plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_the_same_text() {
        assert_eq!(quoted("bt_A-1"), "bt_A-1");
        assert_eq!(quoted("a'b;c"), "'a'\\''b;c'");
        assert_eq!(quoted(""), "''");
    }
}
