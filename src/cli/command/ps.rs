//! `baton ps`: the sessions.

use super::session::state;
use crate::base::{Clock as _, SystemClock};
use crate::cli::args::{Global, PsArgs};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::style::Tone;
use crate::cli::output::table::Table;
use crate::cli::output::{Out, json};
use crate::cli::{resolve, value};
use crate::wire::time::time_from_pb;
use crate::wire::v1;

/// `baton ps`
pub async fn run(global: &Global, out: &Out, args: PsArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let daemon_id = match &args.daemon {
        Some(typed) => resolve::daemon(&client, typed).await?.to_string(),
        None => String::new(),
    };
    use v1::Lifecycle::{Pending, Running, Starting, Stopping, Suspended};
    let lifecycles = if args.all || args.resumable {
        Vec::new()
    } else {
        [Pending, Starting, Running, Stopping, Suspended]
            .map(i32::from)
            .to_vec()
    };
    let agent_id = match &args.agent {
        Some(typed) => super::agents::found(&client, typed).await?.id,
        None => String::new(),
    };
    let mut sessions: Vec<v1::Session> = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = args.limit.saturating_sub(sessions.len());
        if left == 0 {
            break;
        }
        let page = client
            .list_sessions(v1::ListSessionsRequest {
                daemon_id: daemon_id.clone(),
                lifecycles: lifecycles.clone(),
                harness: args.harness.clone().unwrap_or_default(),
                labels: args.labels.iter().cloned().collect(),
                resumable: args.resumable,
                cwd: String::new(),
                page_size: i32::try_from(left.min(500)).unwrap_or(500),
                page_token,
                agent_id: agent_id.clone(),
                role: 0,
            })
            .await?;
        sessions.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.quiet || out.json {
        for session in &sessions {
            out.show(&json::session(session), || session.id.clone())?;
        }
        return Ok(DONE);
    }
    if sessions.is_empty() {
        out.note(if args.all {
            "there are no sessions; begin one with: baton run TEXT"
        } else {
            "no session lives; -a shows those that are over"
        });
        return Ok(DONE);
    }
    out.line(&table(&sessions).render(out.style, out.width))?;
    if !page_token.is_empty() {
        out.note("there are more: -n shows them");
    }
    Ok(DONE)
}

fn table(sessions: &[v1::Session]) -> Table {
    let now = SystemClock.now();
    let mut table = Table::new(&[
        "ID", "STATE", "HARNESS", "TURNS", "ASKS", "QUEUE", "LAST", "TITLE", "CWD",
    ]);
    for session in sessions {
        let tone = match session.lifecycle() {
            _ if session.pending_prompts > 0 => Tone::Warn,
            v1::Lifecycle::Running if session.attached => Tone::Good,
            v1::Lifecycle::Ended | v1::Lifecycle::Suspended => Tone::Dim,
            _ => Tone::Plain,
        };
        let last = time_from_pb(session.last_event_at, "last_event_at")
            .ok()
            .flatten()
            .map(|time| value::ago(now, time))
            .unwrap_or_default();
        let count = |number: u32| match number {
            0 => String::new(),
            number => number.to_string(),
        };
        table.row([
            (Tone::Name, resolve::short(&session.id).to_owned()),
            (tone, state(session)),
            (Tone::Plain, session.harness.clone()),
            (Tone::Plain, session.turns.to_string()),
            (Tone::Warn, count(session.pending_prompts)),
            (Tone::Plain, count(session.queued_inputs)),
            (Tone::Dim, last),
            (
                Tone::Plain,
                crate::cli::output::style::fit(&session.title, 40),
            ),
            (Tone::Dim, session.cwd.clone()),
        ]);
    }
    table
}
