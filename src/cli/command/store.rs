//! `baton store`: looking after the server's store, on its machine and without the server.

use crate::cli::args::{Global, StoreArgs};
use crate::cli::connection::data_dir;
use crate::cli::exit::usage;
use crate::cli::output::Out;
use crate::cli::wiring;

/// `baton store`
pub async fn run(global: &Global, out: &Out, args: StoreArgs) -> anyhow::Result<u8> {
    let dir = data_dir(global)?;
    if !dir.is_dir() {
        return Err(usage(format!(
            "there is no data directory {}; name one with --data-dir",
            dir.display()
        )));
    }
    wiring::store(out, &dir, args.action).await
}
