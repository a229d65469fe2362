//! `baton logs`: a session's log, up to now or for as long as it goes on.

use crate::base::id::SessionId;
use crate::cli::args::{Global, LogsArgs};
use crate::cli::connection::connect;
use crate::cli::exit::DONE;
use crate::cli::output::{Out, event, json};
use crate::cli::resolve;
use crate::cli::session_view::{Settings, watch};
use crate::client::Client;
use crate::wire::enums::event_kind_to_pb;
use crate::wire::event::event_from_pb;
use crate::wire::v1;

/// Events a page: few enough that a page of large ones stays small.
const PAGE: i32 = 200;

/// `baton logs`
pub async fn run(global: &Global, out: &Out, args: LogsArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    if !args.follow {
        return until_now(&client, out, id, &args).await;
    }
    let settings = Settings {
        after_seq: args.since_seq,
        kinds: args.kinds,
        log: true,
        ..Settings::default()
    };
    // How the session ended is what the log says, not how showing it went.
    watch(&client, out, id, settings).await?;
    Ok(DONE)
}

async fn until_now(
    client: &Client,
    out: &Out,
    id: SessionId,
    args: &LogsArgs,
) -> anyhow::Result<u8> {
    let mut page_token = String::new();
    loop {
        let page = client
            .list_events(v1::ListEventsRequest {
                session_id: id.to_string(),
                after_seq: args.since_seq,
                kinds: args
                    .kinds
                    .iter()
                    .map(|kind| event_kind_to_pb(*kind).into())
                    .collect(),
                page_size: PAGE,
                page_token,
                ..Default::default()
            })
            .await?;
        for pb in page.events {
            let event = event_from_pb(pb)?;
            out.show(&json::event(&event), || event::log_line(&event, out.style))?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(DONE);
        }
    }
}
