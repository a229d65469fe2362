//! The first token: an admin's, in a file that only the server's owner can read.
//!
//! The file is written before the token's record, so that a crash between the two leaves a file that opens
//! nothing and is replaced at the next start, and never a token that nobody knows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Access;
use crate::app::{failure, records};
use crate::base::{Code, Error, Result, Secret};
use crate::domain::{Scope, Token, TokenKind};
use crate::store::{Commit, Expect};

/// Name of the file in the data directory.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// The most that is read of the file.
const MAX_FILE_BYTES: u64 = 4_096;
/// Name of the first token.
pub(super) const BOOTSTRAP_NAME: &str = "bootstrap";

impl Access {
    /// Makes sure that whoever owns the data directory can get in, and returns the file with the token.
    ///
    /// A file with a valid admin token is left alone. Otherwise a token is made, unless there is another
    /// valid admin token (then somebody has taken the first one away on purpose): `None`.
    pub async fn bootstrap(&self, data_dir: &Path) -> Result<Option<PathBuf>> {
        let path = data_dir.join(ADMIN_TOKEN_FILE);
        if let Some(text) = read_file(&path).map_err(|problem| unusable(&path, problem))?
            && let Ok(caller) = self.authenticate(&text).await
            && caller.scope == Scope::Admin
        {
            return Ok(Some(path));
        }
        let earlier = match self.admins().await? {
            Admins::Somebody => return Ok(None),
            Admins::Bootstrap(earlier) => earlier,
        };
        let minted = self.mint(BOOTSTRAP_NAME, Scope::Admin, None, None);
        write_file(&path, &minted.secret).map_err(|problem| unusable(&path, problem))?;
        let mut ops = vec![records::put(
            records::token_key(minted.token.id),
            &minted.token,
            Expect::Absent,
        )?];
        for (token, revision) in &earlier {
            let revoked = Token {
                revoked_at: Some(self.inner.clock.now()),
                ..token.clone()
            };
            ops.push(records::put(
                records::token_key(revoked.id),
                &revoked,
                Expect::Revision(*revision),
            )?);
        }
        self.inner
            .store
            .commit(Commit {
                ops,
                ..Commit::default()
            })
            .await
            .map_err(failure::from_store)?;
        for (token, _) in earlier {
            self.forget(token.id);
        }
        tracing::info!(file = %path.display(), "made the first admin token");
        Ok(Some(path))
    }

    /// Who else is admin. A first token whose file is gone does not count: whoever removed the file asks
    /// for another, and the old one is revoked.
    async fn admins(&self) -> Result<Admins> {
        let now = self.inner.clock.now();
        let mut earlier = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let found = self
                .inner
                .store
                .scan(records::TOKENS, after.as_deref(), 500)
                .await
                .map_err(failure::from_store)?;
            for record in &found {
                let token: Token = records::decode(record)?;
                // A browser's token is nobody's key to the server: it depends on another token.
                let counts = token.scope == Scope::Admin && token.kind == TokenKind::Issued;
                if !counts || !token.is_valid(now) {
                    continue;
                }
                if token.name != BOOTSTRAP_NAME {
                    return Ok(Admins::Somebody);
                }
                earlier.push((token, record.revision));
            }
            match found.last() {
                Some(last) => after = Some(last.key.clone()),
                None => return Ok(Admins::Bootstrap(earlier)),
            }
        }
    }
}

enum Admins {
    /// There is an admin token that was made by somebody.
    Somebody,
    /// There are only first tokens, or none.
    Bootstrap(Vec<(Token, u64)>),
}

fn unusable(path: &Path, problem: io::Error) -> Error {
    Error::new(
        Code::Unavailable,
        format!(
            "the admin token's file {} cannot be used: {problem}",
            path.display()
        ),
    )
    .caused_by(problem)
}

/// The token in the file; `None` if there is no file.
fn read_file(path: &Path) -> io::Result<Option<Secret>> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(Some(Secret::new(text.trim())))
}

fn write_file(path: &Path, secret: &Secret) -> io::Result<()> {
    let staged = path.with_extension("token.new");
    match fs::remove_file(&staged) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)?;
    file.write_all(secret.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
