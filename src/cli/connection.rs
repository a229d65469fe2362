//! Which server a command talks to, and with which token.
//!
//! Flags, then the environment, then the `client.json` that `baton up` leaves in the data directory. A
//! token is never an argument: arguments are seen by everybody on the machine.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::args::Global;
use super::exit::usage;
use crate::base::{Code, Error, Secret};
use crate::client::{Client, DEFAULT_URL, ServerAddress};

/// The variable that holds a token.
pub const TOKEN_VARIABLE: &str = "BATON_TOKEN";
const FILE: &str = "client.json";
/// No token and no URL is longer.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What `baton up` leaves for the commands of the same user.
#[derive(Serialize, Deserialize)]
struct ClientFile {
    url: String,
    token: String,
}

/// The platform's data directory for Baton.
pub fn default_data_dir() -> anyhow::Result<PathBuf> {
    use etcetera::BaseStrategy as _;
    let strategy = etcetera::choose_base_strategy().map_err(|problem| {
        usage(format!(
            "there is no home directory ({problem}); name one with --data-dir"
        ))
    })?;
    Ok(strategy.data_dir().join("baton"))
}

/// The data directory that was asked for, or the platform's.
pub fn data_dir(global: &Global) -> anyhow::Result<PathBuf> {
    match &global.data_dir {
        Some(dir) => Ok(dir.clone()),
        None => default_data_dir(),
    }
}

/// Where the server is, by flags, environment and file.
pub fn address(global: &Global) -> anyhow::Result<ServerAddress> {
    let variable = std::env::var(TOKEN_VARIABLE).ok();
    settle(global, variable, || {
        read_client_file(&data_dir(global)?.join(FILE))
    })
}

fn settle(
    global: &Global,
    variable: Option<String>,
    file: impl FnOnce() -> anyhow::Result<Option<(String, Secret)>>,
) -> anyhow::Result<ServerAddress> {
    let mut token = match (&global.token_file, variable) {
        (Some(path), _) => Some(read_token(path)?),
        (None, Some(token)) if !token.trim().is_empty() => Some(Secret::new(token.trim())),
        _ => None,
    };
    let mut url = global.server.clone();
    if (token.is_none() || url.is_none())
        && let Some((known, secret)) = file()?
    {
        // The file's token opens the file's server and is shown to no other.
        if token.is_none() && url.as_ref().is_none_or(|url| same(url, &known)) {
            token = Some(secret);
        }
        url = url.or(Some(known));
    }
    let ca = match &global.ca_file {
        Some(path) => Some(fs::read(path).map_err(|problem| {
            usage(format!(
                "the certificates {} cannot be read: {problem}",
                path.display()
            ))
        })?),
        None => None,
    };
    Ok(ServerAddress {
        url: url.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        token,
        ca,
    })
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// A client, connected.
pub async fn connect(global: &Global) -> anyhow::Result<Client> {
    let address = address(global)?;
    if address.is_exposed() && address.token.is_some() {
        eprintln!(
            "warning: {} is not encrypted; the token and all that is said can be read on the way",
            address.url
        );
    }
    Ok(Client::connect(address).await?)
}

/// A token from a file that only its owner can read, or from standard input (`-`).
pub fn read_token(path: &Path) -> anyhow::Result<Secret> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("reading the token")?
    } else {
        fs::read_to_string(path).map_err(|problem| {
            usage(format!(
                "the token in {} cannot be read: {problem}",
                path.display()
            ))
        })?
    };
    match text.trim() {
        "" => Err(usage(format!("{} has no token in it", path.display()))),
        token => Ok(Secret::new(token)),
    }
}

/// Leaves address and token for later commands, in a file that only this user can read.
pub fn write_client_file(data_dir: &Path, url: &str, token: &Secret) -> anyhow::Result<PathBuf> {
    let path = data_dir.join(FILE);
    let staged = data_dir.join(format!("{FILE}.{}.new", std::process::id()));
    let content = serde_json::to_vec(&ClientFile {
        url: url.to_owned(),
        token: token.expose().to_owned(),
    })?;
    // Staged under another name, so that no reader sees half of it; new, so that no link is followed
    // and the mode is ours.
    match fs::remove_file(&staged) {
        Err(problem) if problem.kind() != std::io::ErrorKind::NotFound => {
            return Err(problem.into());
        }
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)
        .with_context(|| format!("writing {}", staged.display()))?;
    file.write_all(&content)?;
    file.sync_all()?;
    fs::rename(&staged, &path).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn read_client_file(path: &Path) -> anyhow::Result<Option<(String, Secret)>> {
    let bad = |problem: String| {
        Error::new(
            Code::InvalidInput,
            format!("{} {problem}; `baton up` writes it anew", path.display()),
        )
    };
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(bad(format!("cannot be read: {problem}")).into()),
    };
    if meta.mode() & 0o077 != 0 {
        return Err(bad("can be read by others than its owner".to_owned()).into());
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err(bad("is too large".to_owned()).into());
    }
    let text = fs::read(path).map_err(|problem| bad(format!("cannot be read: {problem}")))?;
    // The parser's message may quote the token; it is not shown.
    let file: ClientFile =
        serde_json::from_slice(&text).map_err(|_| bad("is not what it should be".to_owned()))?;
    Ok(Some((file.url, Secret::new(file.token))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn global(server: Option<&str>) -> Global {
        Global {
            server: server.map(str::to_owned),
            ..Global::default()
        }
    }

    fn known() -> anyhow::Result<Option<(String, Secret)>> {
        Ok(Some((
            "http://127.0.0.1:9".to_owned(),
            Secret::new("bt_file"),
        )))
    }

    #[test]
    fn the_file_of_up_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = write_client_file(dir.path(), "http://x:1", &Secret::new("bt_1")).unwrap();
        write_client_file(dir.path(), "http://x:2", &Secret::new("bt_2")).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let (url, token) = read_client_file(&path).unwrap().unwrap();
        assert_eq!((url.as_str(), token.expose()), ("http://x:2", "bt_2"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            read_client_file(&path)
                .unwrap_err()
                .to_string()
                .contains("others")
        );
        assert!(
            read_client_file(&dir.path().join("none"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_damaged_file_does_not_show_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = write_client_file(dir.path(), "u", &Secret::new("x")).unwrap();
        fs::write(&path, "{\"url\": 1, \"token\": \"bt_canary\"").unwrap();
        let error = format!("{:?}", read_client_file(&path).unwrap_err());
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn the_files_token_is_shown_to_no_other_server() {
        let found = settle(&global(None), None, known).unwrap();
        assert_eq!(found.url, "http://127.0.0.1:9");
        assert_eq!(found.token.unwrap().expose(), "bt_file");
        let same = settle(&global(Some("http://127.0.0.1:9/")), None, known).unwrap();
        assert!(same.token.is_some());
        let other = settle(&global(Some("http://evil:9")), None, known).unwrap();
        assert!(other.token.is_none());
    }

    #[test]
    fn what_was_said_beats_the_file() {
        let found = settle(&global(Some("http://h:1")), Some("bt_env\n".into()), known).unwrap();
        assert_eq!(
            (found.url.as_str(), found.token.unwrap().expose()),
            ("http://h:1", "bt_env")
        );
        let found = settle(&global(None), None, || Ok(None)).unwrap();
        assert_eq!(found.url, DEFAULT_URL);
        assert!(found.token.is_none());
    }
}
