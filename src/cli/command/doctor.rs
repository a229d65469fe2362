//! `baton doctor`: what works and what does not, and what to do about it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::json;

use crate::base::Code;
use crate::cli::args::Global;
use crate::cli::connection::{address, data_dir};
use crate::cli::exit::{DONE, FAILED, UNREACHABLE};
use crate::cli::output::Out;
use crate::cli::output::style::{Tone, visible_line};
use crate::client::{Client, ServerAddress};
use crate::wire::v1;

/// One finding.
struct Finding {
    what: &'static str,
    /// `None`: cannot be told.
    good: Option<bool>,
    says: String,
}

struct Findings<'a> {
    out: &'a Out,
    bad: bool,
}

impl Findings<'_> {
    fn add(
        &mut self,
        what: &'static str,
        good: Option<bool>,
        says: impl Into<String>,
    ) -> anyhow::Result<()> {
        let finding = Finding {
            what,
            good,
            says: says.into(),
        };
        self.bad |= finding.good == Some(false);
        let value = json!({ "check": finding.what, "ok": finding.good, "message": finding.says });
        self.out.show(&value, || {
            let mark = match finding.good {
                Some(true) => self.out.style.paint(Tone::Good, "✓"),
                Some(false) => self.out.style.paint(Tone::Bad, "✗"),
                None => self.out.style.paint(Tone::Dim, "·"),
            };
            format!("{mark} {}: {}", finding.what, visible_line(&finding.says))
        })
    }
}

/// `baton doctor`
pub async fn run(global: &Global, out: &Out) -> anyhow::Result<u8> {
    let mut findings = Findings { out, bad: false };
    let dir = data_dir(global)?;
    let (good, says) = directory(&dir);
    findings.add("data directory", good, says)?;
    let address = match address(global) {
        Ok(address) => address,
        Err(error) => {
            findings.add("connection settings", Some(false), error.to_string())?;
            return Ok(FAILED);
        }
    };
    let is_reached = server(&mut findings, &address).await?;
    Ok(match (findings.bad, is_reached) {
        (_, false) => UNREACHABLE,
        (true, true) => FAILED,
        (false, true) => DONE,
    })
}

fn directory(dir: &Path) -> (Option<bool>, String) {
    let shown = dir.display();
    match fs::metadata(dir) {
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => (
            None,
            format!("{shown} does not exist yet; `baton up` makes it"),
        ),
        Err(problem) => (Some(false), format!("{shown} cannot be read: {problem}")),
        Ok(meta) if !meta.is_dir() => (Some(false), format!("{shown} is not a directory")),
        Ok(meta) if meta.mode() & 0o022 != 0 => (
            Some(false),
            format!("{shown} can be written by others; chmod go-w it"),
        ),
        Ok(_) => match nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK) {
            Ok(()) => (Some(true), shown.to_string()),
            Err(problem) => (Some(false), format!("{shown} cannot be written: {problem}")),
        },
    }
}

/// Whether the server was reached; what it says of itself goes to the findings.
async fn server(findings: &mut Findings<'_>, address: &ServerAddress) -> anyhow::Result<bool> {
    let exposed = address.is_exposed();
    let client = match Client::connect(address.clone()).await {
        Ok(client) => client,
        Err(error) => {
            findings.add("server", Some(false), error.message())?;
            return Ok(false);
        }
    };
    findings.add("server", Some(true), format!("{} answers", address.url))?;
    if exposed {
        findings.add(
            "encryption",
            Some(false),
            "the connection leaves this machine in the clear; use https://",
        )?;
    }
    match client.get_caller(v1::GetCallerRequest {}).await {
        Ok(response) => {
            let token = response.token.unwrap_or_default();
            let scope = token.scope().as_str_name();
            let scope = scope.strip_prefix("TOKEN_SCOPE_").unwrap_or(scope);
            let says = format!("{} ({})", token.name, scope.to_lowercase());
            findings.add("token", Some(true), says)?;
        }
        Err(error) => {
            let hint = match error.code() {
                Code::Unauthenticated if address.token.is_none() => {
                    "there is none: set BATON_TOKEN, or run this where `baton up` runs".to_owned()
                }
                _ => error.message().to_owned(),
            };
            findings.add("token", Some(false), hint)?;
            return Ok(true);
        }
    }
    match client.get_server_info(v1::GetServerInfoRequest {}).await {
        Ok(info) => {
            let own = env!("CARGO_PKG_VERSION");
            let says = if info.version == own {
                own.to_owned()
            } else {
                format!("the server has {}, this program {own}", info.version)
            };
            findings.add("version", Some(true), says)?;
        }
        Err(error) => findings.add("version", Some(false), error.message())?,
    }
    daemons(findings, &client).await?;
    Ok(true)
}

async fn daemons(findings: &mut Findings<'_>, client: &Client) -> anyhow::Result<()> {
    let request = v1::ListDaemonsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let page = match client.list_daemons(request).await {
        Ok(page) => page,
        Err(error) => return findings.add("daemons", Some(false), error.message()),
    };
    if page.daemons.is_empty() {
        return findings.add(
            "daemons",
            Some(false),
            "there is none; `baton up` starts one here, `baton daemons join` says how another machine joins",
        );
    }
    let mut usable = false;
    for daemon in &page.daemons {
        let says = if daemon.attached {
            format!("{} is linked", daemon.name)
        } else {
            format!(
                "{} is not linked; is `baton daemon` running there?",
                daemon.name
            )
        };
        findings.add("daemon", Some(daemon.attached), says)?;
        for harness in &daemon.harnesses {
            let says = format!(
                "{} on {}: {}",
                harness.name,
                daemon.name,
                condition(harness)
            );
            usable |= harness.available && daemon.attached;
            // One that is not installed is no fault as long as another can be used.
            let good = if harness.available { Some(true) } else { None };
            findings.add("harness", good, says)?;
        }
    }
    if usable {
        Ok(())
    } else {
        findings.add(
            "harnesses",
            Some(false),
            "no linked daemon can run any agent",
        )
    }
}

/// What is known of a harness: version and login, or why it cannot be used; and what to do.
fn condition(harness: &v1::Harness) -> String {
    if !harness.available {
        return harness.unavailable_reason.clone();
    }
    let version = match harness.version.as_str() {
        "" => "installed",
        version => version,
    };
    // What is to be done says what is wrong.
    let login = match (harness.login(), harness.unavailable_reason.as_str()) {
        (v1::LoginState::SignedIn, _) => "signed in",
        (v1::LoginState::SignedOut, "") => "not signed in",
        (v1::LoginState::SignedOut, reason) => reason,
        (v1::LoginState::Unknown, _) => "whether somebody is signed in is not known",
        (v1::LoginState::Unspecified, _) => return version.to_owned(),
    };
    format!("{version}, {login}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_harness_says_its_version_its_login_and_what_to_do() {
        let harness = |version: &str, login: v1::LoginState, reason: &str| v1::Harness {
            available: !version.is_empty() || reason.is_empty(),
            version: version.to_owned(),
            login: login.into(),
            unavailable_reason: reason.to_owned(),
            ..Default::default()
        };
        for (harness, says) in [
            (
                harness("1.2", v1::LoginState::SignedIn, ""),
                "1.2, signed in",
            ),
            (
                harness("1.2", v1::LoginState::SignedOut, "run x"),
                "1.2, run x",
            ),
            (
                harness("", v1::LoginState::Unknown, ""),
                "installed, whether somebody is signed in is not known",
            ),
            (harness("1.2", v1::LoginState::Unspecified, ""), "1.2"),
            (
                harness("", v1::LoginState::Unknown, "install it"),
                "install it",
            ),
        ] {
            assert_eq!(condition(&harness), says);
        }
    }

    #[test]
    fn a_data_directory_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(directory(dir.path()).0, Some(true));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(directory(dir.path()).0, Some(false));
        assert_eq!(directory(&dir.path().join("none")).0, None);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(directory(&file).0, Some(false));
    }
}
