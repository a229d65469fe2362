//! `baton content`: what is too large for an event, as the bytes it is.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::base::id::SessionId;
use crate::base::{Code, Error};
use crate::cli::args::{ContentArgs, Global};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, usage};
use crate::cli::output::{Out, json};
use crate::cli::resolve;
use crate::client::Client;
use crate::wire::event::event_from_pb;
use crate::wire::v1;

/// Length of a whole hash, in characters.
const HASH_LEN: usize = 64;
/// The fewest characters a shortened hash may have.
const SHORTEST: usize = 4;
/// Events a page of the search for a shortened hash.
const PAGE: i32 = 500;

/// `baton content`
pub async fn run(global: &Global, out: &Out, args: ContentArgs) -> anyhow::Result<u8> {
    if out.json && args.output.is_none() {
        return Err(usage(
            "with --json, name a file for the bytes: --output FILE",
        ));
    }
    let typed = args.sha256.to_ascii_lowercase();
    if !(SHORTEST..=HASH_LEN).contains(&typed.len())
        || !typed.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err(usage(format!(
            "{:?} is no hash: give at least the first {SHORTEST} of its {HASH_LEN} hexadecimal digits, as the log shows them",
            args.sha256
        )));
    }
    let client = connect(global).await?;
    let session = resolve::session(&client, &args.session).await?;
    let sha256 = if typed.len() == HASH_LEN {
        typed
    } else {
        whole(&client, session, &typed).await?
    };
    match &args.output {
        None => {
            let mut stdout = std::io::stdout();
            fetch(&client, session, &sha256, &mut stdout).await?;
        }
        Some(path) => {
            let bytes = save(&client, session, &sha256, path).await?;
            let value = serde_json::json!({
                "sha256": sha256,
                "size_bytes": bytes,
                "file": path.to_string_lossy(),
            });
            out.show(&value, || format!("{bytes} bytes in {}", path.display()))?;
        }
    }
    Ok(DONE)
}

/// The hash that begins like this, of what the session's log refers to.
async fn whole(client: &Client, session: SessionId, typed: &str) -> anyhow::Result<String> {
    let mut found: Option<String> = None;
    let mut page_token = String::new();
    loop {
        let page = client
            .list_events(v1::ListEventsRequest {
                session_id: session.to_string(),
                page_size: PAGE,
                page_token,
                ..Default::default()
            })
            .await?;
        for pb in page.events {
            let mut hashes = Vec::new();
            collect(&json::event(&event_from_pb(pb)?), &mut hashes);
            for hash in hashes.into_iter().filter(|hash| hash.starts_with(typed)) {
                match &found {
                    Some(other) if *other != hash => {
                        return Err(usage(format!(
                            "{typed:?} fits {other} and {hash}; type more of it"
                        )));
                    }
                    _ => found = Some(hash),
                }
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    found.ok_or_else(|| Error::not_found("content", typed).into())
}

/// Every hash within a value.
fn collect(value: &Value, hashes: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(hash) if name == "sha256" && hash.len() == HASH_LEN => {
                        hashes.push(hash.clone());
                    }
                    value => collect(value, hashes),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, hashes)),
        _ => {}
    }
}

/// Writes the content as it comes, and checks that it is what its hash says; how many bytes.
async fn fetch(
    client: &Client,
    session: SessionId,
    sha256: &str,
    to: &mut impl Write,
) -> anyhow::Result<u64> {
    let request = v1::GetContentRequest {
        session_id: session.to_string(),
        sha256: sha256.to_owned(),
        offset: 0,
    };
    let mut bytes = 0_u64;
    let mut digest = Sha256::new();
    // What the writing came to: the client's own errors are those of the server.
    let mut written = Ok(());
    let read = client
        .content(request, |piece| {
            bytes += piece.len() as u64;
            digest.update(piece);
            written = to.write_all(piece);
            match &written {
                Ok(()) => Ok(()),
                Err(problem) => Err(Error::internal(problem.to_string())),
            }
        })
        .await;
    written.and_then(|()| to.flush())?;
    read?;
    let is = hex(&digest.finalize());
    if is != sha256 {
        return Err(Error::new(
            Code::InternalError,
            format!("the content that came has the hash {is} and not {sha256}; it is damaged"),
        )
        .into());
    }
    Ok(bytes)
}

/// Into a new file, which has its name only once it is whole.
async fn save(
    client: &Client,
    session: SessionId,
    sha256: &str,
    path: &Path,
) -> anyhow::Result<u64> {
    if path.exists() {
        return Err(usage(format!(
            "{} exists; content does not replace a file",
            path.display()
        )));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let mut file = create(&part)?;
    let saved = match fetch(client, session, sha256, &mut file).await {
        Ok(bytes) => fs::rename(&part, path)
            .with_context(|| format!("naming {}", path.display()))
            .map(|()| bytes),
        Err(error) => Err(error),
    };
    if saved.is_err() {
        let _ = fs::remove_file(&part);
    }
    saved
}

fn create(part: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .with_context(|| format!("making {}", part.display()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_found_wherever_an_event_refers_to_content() {
        let (one, two) = ("a".repeat(HASH_LEN), "b".repeat(HASH_LEN));
        let event = serde_json::json!({
            "body": { "blocks": [{ "content": { "sha256": one } }, { "text": "sha256" }] },
            "raw": { "content": { "sha256": two, "size_bytes": 1 } },
            "sha256": "short",
        });
        let mut hashes = Vec::new();
        collect(&event, &mut hashes);
        assert_eq!(hashes, [one, two]);
        assert_eq!(hex(&[0, 15, 255]), "000fff");
    }
}
