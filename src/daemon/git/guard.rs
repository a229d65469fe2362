//! What a repository's own configuration must not make git do.
//!
//! Configuration that could run a program, or change what is written, is overridden for each call, by
//! variables that stand above every file. Drivers have names of their own (`filter.<name>.clean` …), so the
//! ones that are configured are looked up first: in the file that a call would read, before every operation.

use super::program::{Call, Git};
use crate::base::{Code, Error, Result};

/// Overrides for every call.
const ALWAYS: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", "true"),
    ("core.editor", "true"),
    ("core.pager", "cat"),
    ("core.sshCommand", "false"),
    ("core.gitProxy", ""),
    ("core.splitIndex", "false"),
    ("core.safecrlf", "false"),
    ("sequence.editor", "true"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("gpg.program", "false"),
    ("log.showSignature", "false"),
    ("merge.verifySignatures", "false"),
    ("rerere.enabled", "false"),
    ("diff.external", ""),
    ("diff.submodule", "short"),
    ("diff.noprefix", "false"),
    ("diff.mnemonicPrefix", "false"),
    ("status.submoduleSummary", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("worktree.guessRemote", "false"),
    ("worktree.useRelativePaths", "false"),
    ("credential.helper", ""),
    ("protocol.allow", "never"),
    ("protocol.ext.allow", "never"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("color.ui", "false"),
    ("advice.detachedHead", "false"),
    ("advice.addEmbeddedRepo", "false"),
    ("i18n.commitEncoding", "UTF-8"),
    ("i18n.logOutputEncoding", "UTF-8"),
];

/// The most of a configuration's names that is read, in bytes.
const MAX_NAMES: usize = 1 << 20;

/// The overrides of one git directory.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Names and values, in the order in which they are given.
    pub overrides: Vec<(String, String)>,
}

impl Guard {
    /// The overrides that need no look at any repository.
    pub fn general() -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Guard {
            overrides: ALWAYS.iter().map(own).collect(),
        }
    }

    /// The overrides for a repository: its drivers by their names.
    pub fn of(git: &Git, call: Call<'_>) -> Result<Self> {
        let mut guard = Guard::general();
        let listed = git.run(
            call.args(["config", "--list", "--null", "--name-only"])
                .max(MAX_NAMES),
        )?;
        if listed.truncated {
            return Err(Error::new(
                Code::GitError,
                "the repository's configuration is larger than 1 MiB; worktrees are not made of it",
            ));
        }
        for name in listed.stdout.split(|byte| *byte == 0) {
            // A name that is no text could not be overridden.
            let name = std::str::from_utf8(name).map_err(|_| {
                Error::new(
                    Code::GitError,
                    "the repository's configuration has a name that is not UTF-8",
                )
            })?;
            if let Some(value) = neutral(name) {
                guard.overrides.push((name.to_owned(), value.to_owned()));
            }
            if let Some(driver) = driver_of(name, "filter.") {
                let required = format!("filter.{driver}.required");
                guard.overrides.push((required, "false".to_owned()));
            }
        }
        Ok(guard)
    }
}

/// The middle of `section.<middle>.variable`.
fn driver_of<'a>(name: &'a str, section: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(section)?;
    rest.rsplit_once('.').map(|(middle, _)| middle)
}

/// The value with which a configured program is not run; `None` for a name that runs none.
fn neutral(name: &str) -> Option<&'static str> {
    let (section, rest) = name.split_once('.')?;
    let (_, variable) = rest.rsplit_once('.')?;
    match (section, variable) {
        ("filter", "clean" | "smudge" | "process") => Some(""),
        // A driver that fails leaves a conflict; one without a command would end git, and an empty one would
        // quietly take one side.
        ("merge", "driver") => Some("false"),
        ("diff", "command" | "textconv") => Some(""),
        ("hook", "enabled") => Some("false"),
        ("hook", "command") => Some("true"),
        ("trailer", "command" | "cmd") => Some("true"),
        _ => None,
    }
}

/// Whether a variable in a repository's own configuration would decide which program a fetch runs.
pub fn runs_on_fetch(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if matches!(
        name.as_str(),
        "core.sshcommand"
            | "core.gitproxy"
            | "core.askpass"
            | "core.alternaterefscommand"
            | "http.proxy"
            | "http.cookiefile"
    ) {
        return true;
    }
    let starts = |section: &str| name.starts_with(section);
    let ends = |variable: &str| name.ends_with(variable);
    (starts("credential.") && ends("helper"))
        || (starts("remote.")
            && (ends(".uploadpack") || ends(".vcs") || ends(".proxy") || ends(".promisor")))
        || (starts("protocol.") && ends("allow"))
        || (starts("url.") && (ends(".insteadof") || ends(".pushinsteadof")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_by_any_name() {
        for (name, value) in [
            ("filter.lfs.smudge", Some("")),
            ("filter.a.b=c d.process", Some("")),
            ("filter.x.required", None),
            ("merge.mine.driver", Some("false")),
            ("merge.conflictstyle", None),
            ("hook.x.command", Some("true")),
            ("core.editor", None),
        ] {
            assert_eq!(neutral(name), value, "{name}");
        }
        assert_eq!(driver_of("filter.a.b.clean", "filter."), Some("a.b"));
        assert_eq!(driver_of("filter.clean", "filter."), None);
    }

    #[test]
    fn a_fetch_runs_nothing_that_the_repository_names() {
        for name in [
            "core.sshCommand",
            "credential.https://x.helper",
            "credential.helper",
            "remote.origin.uploadpack",
            "url.ext::sh.insteadOf",
        ] {
            assert!(runs_on_fetch(name), "{name}");
        }
        for name in ["remote.origin.url", "remote.origin.fetch", "user.name"] {
            assert!(!runs_on_fetch(name), "{name}");
        }
    }
}
