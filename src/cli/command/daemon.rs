//! `baton daemon`: runs agents on this machine for a server.

use crate::base::Secret;
use crate::cli::args::{DaemonArgs, Global};
use crate::cli::command::daemons::JOIN_TOKEN_VARIABLE;
use crate::cli::connection::read_token;
use crate::cli::wiring;

/// `baton daemon`
pub async fn run(global: &Global, args: DaemonArgs) -> anyhow::Result<u8> {
    let join_token = match &args.join_token_file {
        Some(path) => Some(read_token(path)?),
        None => std::env::var(JOIN_TOKEN_VARIABLE)
            .ok()
            .filter(|token| !token.trim().is_empty())
            .map(|token| Secret::new(token.trim())),
    };
    wiring::daemon(global, args, join_token).await
}
