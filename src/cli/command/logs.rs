//! `baton logs`: a session's log, up to now or for as long as it goes on.

use crate::cli::args::{Global, LogsArgs};
use crate::cli::connection::connect;
use crate::cli::output::Out;
use crate::cli::resolve;
use crate::cli::session_view::{Settings, watch};

/// `baton logs`
pub async fn run(global: &Global, out: &Out, args: LogsArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = resolve::session(&client, &args.session).await?;
    let settings = Settings {
        after_seq: args.since_seq,
        kinds: args.kinds,
        log: true,
        until_head: !args.follow,
        ..Settings::default()
    };
    let code = watch(&client, out, id, settings).await?;
    // How the session ended is what the log says, not how showing it went.
    let _ = code;
    Ok(crate::cli::exit::DONE)
}
