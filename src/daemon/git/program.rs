//! The `git` program and how it is called: an argument list, an environment made from nothing.
//!
//! The machine's and the owner's own configuration are not read (`GIT_CONFIG_NOSYSTEM`,
//! `GIT_CONFIG_GLOBAL`), but for a fetch, which needs the owner's credentials. Of the owner's configuration
//! the name, the address and the file of ignored names are looked up once and handed on.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::guard::Guard;
use super::process::{Beyond, Ran, Run, run};
use crate::base::{Code, Error, Result};

/// The oldest version that can do what is asked of it (`merge-tree --write-tree`).
const OLDEST: (u32, u32) = (2, 38);
/// How long a call may take that works on this machine only.
pub const TIME: Duration = Duration::from_secs(120);
/// How long a fetch may take.
pub const FETCH_TIME: Duration = Duration::from_secs(180);
/// The most output of a call, unless it says otherwise.
const MAX_OUTPUT: usize = 8 << 20;
/// Variables of the daemon's own environment that git gets.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "XDG_CONFIG_HOME",
    "TMPDIR",
    "USER",
    "LOGNAME",
];
/// Those that a fetch gets too.
const PASSED_TO_FETCH: &[&str] = &[
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The program.
#[derive(Clone, Debug)]
pub struct Git {
    program: OsString,
    own: Vec<(OsString, OsString)>,
    for_fetch: Vec<(OsString, OsString)>,
    author: (String, String),
    excludes: Option<String>,
}

/// Which git directory a call works on.
#[derive(Clone, Copy, Debug)]
pub enum Dir<'a> {
    /// Git finds it, but not above these directories.
    Find(&'a OsStr),
    /// A repository without a checkout in sight.
    Repository(&'a Path),
    /// A checkout: its git directory, the repository's, and where its files are.
    Checkout {
        /// Its own git directory.
        dir: &'a Path,
        /// The repository's.
        common: &'a Path,
        /// Its files.
        files: &'a Path,
    },
}

/// One call.
pub struct Call<'a> {
    args: Vec<OsString>,
    cwd: &'a Path,
    dir: Dir<'a>,
    guard: Option<&'a Guard>,
    index: Option<&'a Path>,
    stdin: Option<File>,
    extra: Vec<(OsString, OsString)>,
    time: Duration,
    max: usize,
    beyond: Beyond,
    is_fetch: bool,
}

impl<'a> Call<'a> {
    /// A call in a directory.
    pub fn new(cwd: &'a Path, dir: Dir<'a>) -> Self {
        Call {
            args: Vec::new(),
            cwd,
            dir,
            guard: None,
            index: None,
            stdin: None,
            extra: Vec::new(),
            time: TIME,
            max: MAX_OUTPUT,
            beyond: Beyond::Close,
            is_fetch: false,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// What the repository's configuration must not do.
    #[must_use]
    pub fn guard(mut self, guard: &'a Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Works on another index than the checkout's own.
    #[must_use]
    pub fn index(mut self, index: &'a Path) -> Self {
        self.index = Some(index);
        self
    }

    /// What it reads. A lock's file, say, which is then held as long as the call lives.
    #[must_use]
    pub fn stdin(mut self, file: Option<File>) -> Self {
        self.stdin = file;
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }

    /// The most output.
    #[must_use]
    pub fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// What it does, for errors: the first argument that is neither an option nor an option's value.
    fn verb(&self) -> OsString {
        let is_verb = |arg: &&OsString| {
            let text = arg.to_string_lossy();
            !text.starts_with('-') && !text.contains('=')
        };
        self.args.iter().find(is_verb).cloned().unwrap_or_default()
    }

    /// It talks to a remote, with the owner's configuration.
    #[must_use]
    pub fn fetch(mut self) -> Self {
        self.is_fetch = true;
        self.time = FETCH_TIME;
        self.beyond = Beyond::DropBeginning;
        self
    }
}

impl Git {
    /// Looks for git on the `PATH` and at its version. An error says why there are no worktrees here.
    pub fn find() -> Result<Self> {
        let own = |names: &[&str]| -> Vec<(OsString, OsString)> {
            names
                .iter()
                .filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)))
                .collect()
        };
        let mut git = Git {
            program: "git".into(),
            own: own(PASSED),
            for_fetch: own(PASSED_TO_FETCH),
            author: ("Baton".to_owned(), "baton@localhost".to_owned()),
            excludes: None,
        };
        let nowhere = Path::new("/");
        let call = || Call::new(nowhere, Dir::Find(OsStr::new("/")));
        let none = |error: Error| {
            Error::new(
                Code::WorktreesDisabled,
                format!("git cannot be used on this machine: {}", error.message()),
            )
        };
        let version = git.text(call().args(["version"])).map_err(none)?;
        if !is_new_enough(&version) {
            return Err(Error::new(
                Code::WorktreesDisabled,
                format!(
                    "git here is {version:?}; worktrees need {}.{} or newer",
                    OLDEST.0, OLDEST.1
                ),
            ));
        }
        let owners = |name: &str| {
            let call = call().args(["config", "--global", "--get", "--type=path", name]);
            let ran = run(Run {
                argv: &git.argv(&call),
                cwd: nowhere,
                env: &git.own,
                stdin: None,
                time: TIME,
                max_stdout: 4_096,
                beyond: Beyond::Close,
            });
            let ran = ran.ok().filter(Ran::is_ok)?;
            let value = String::from_utf8(ran.stdout).ok()?.trim_end().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let (name, address, excludes) = (
            owners("user.name"),
            owners("user.email"),
            owners("core.excludesFile"),
        );
        if let (Some(name), Some(address)) = (name, address) {
            git.author = (name, address);
        }
        git.excludes = excludes;
        Ok(git)
    }

    fn argv(&self, call: &Call<'_>) -> Vec<OsString> {
        let mut argv = vec![self.program.clone(), "--no-pager".into()];
        argv.extend(call.args.iter().cloned());
        argv
    }

    fn environment(&self, call: &Call<'_>) -> Vec<(OsString, OsString)> {
        let mut env = self.own.clone();
        let mut set = |name: &str, value: &OsStr| env.push((name.into(), value.to_owned()));
        let text = OsStr::new;
        set("LC_ALL", text("C"));
        set("GIT_TERMINAL_PROMPT", text("0"));
        set("GIT_ASKPASS", text("true"));
        set("SSH_ASKPASS", text("true"));
        set("SSH_ASKPASS_REQUIRE", text("never"));
        set("GIT_EDITOR", text("true"));
        set("GIT_OPTIONAL_LOCKS", text("0"));
        set("GIT_NO_LAZY_FETCH", text("1"));
        set("GIT_AUTHOR_NAME", text(&self.author.0));
        set("GIT_AUTHOR_EMAIL", text(&self.author.1));
        set("GIT_COMMITTER_NAME", text(&self.author.0));
        set("GIT_COMMITTER_EMAIL", text(&self.author.1));
        if call.is_fetch {
            set("GIT_ALLOW_PROTOCOL", text("file:git:http:https:ssh"));
            set("GIT_SSH_COMMAND", text("ssh -oBatchMode=yes"));
        } else {
            set("GIT_ALLOW_PROTOCOL", text("none"));
            set("GIT_CONFIG_NOSYSTEM", text("1"));
            set("GIT_CONFIG_GLOBAL", text("/dev/null"));
        }
        match call.dir {
            Dir::Find(ceiling) => set("GIT_CEILING_DIRECTORIES", ceiling),
            Dir::Repository(dir) => set("GIT_DIR", dir.as_os_str()),
            Dir::Checkout { dir, common, files } => {
                set("GIT_DIR", dir.as_os_str());
                set("GIT_COMMON_DIR", common.as_os_str());
                set("GIT_WORK_TREE", files.as_os_str());
            }
        }
        if let Some(index) = call.index {
            set("GIT_INDEX_FILE", index.as_os_str());
        }
        let general = Guard::general();
        let guard = call.guard.unwrap_or(&general);
        // A fetch reaches remotes with the owner's helpers; it was looked before that the repository has none.
        let for_fetch = |name: &str| {
            name.starts_with("protocol.")
                || matches!(
                    name,
                    "credential.helper" | "core.sshCommand" | "core.gitProxy"
                )
        };
        let mut overrides: Vec<(&str, &str)> = guard
            .overrides
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !call.is_fetch || !for_fetch(name))
            .collect();
        if let Some(excludes) = &self.excludes {
            overrides.push(("core.excludesFile", excludes));
        }
        set("GIT_CONFIG_COUNT", text(&overrides.len().to_string()));
        for (index, (name, value)) in overrides.into_iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{index}"), text(name));
            set(&format!("GIT_CONFIG_VALUE_{index}"), text(value));
        }
        if call.is_fetch {
            env.extend(self.for_fetch.iter().cloned());
        }
        env.extend(call.extra.iter().cloned());
        env
    }

    /// Runs a call to its end, whatever that is.
    pub fn try_run(&self, mut call: Call<'_>) -> Result<Ran> {
        let stdin = call.stdin.take();
        run(Run {
            argv: &self.argv(&call),
            cwd: call.cwd,
            env: &self.environment(&call),
            stdin,
            time: call.time,
            max_stdout: call.max,
            beyond: call.beyond,
        })
    }

    /// Runs a call that must end well. [`Code::GitError`]: it did not, and what git said.
    pub fn run(&self, call: Call<'_>) -> Result<Ran> {
        let what = call.verb();
        let ran = self.try_run(call)?;
        match ran.is_ok() {
            true => Ok(ran),
            false => Err(failed(&what, &ran)),
        }
    }

    /// The one line that a call writes.
    pub fn text(&self, call: Call<'_>) -> Result<String> {
        let ran = self.run(call)?;
        let text = String::from_utf8(ran.stdout)
            .map_err(|_| Error::new(Code::GitError, "git answered something that is not UTF-8"))?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Whether a call says yes (0) or no (1).
    pub fn asks(&self, call: Call<'_>) -> Result<bool> {
        let what = call.verb();
        let ran = self.try_run(call)?;
        match ran.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failed(&what, &ran)),
        }
    }
}

/// What git said when it failed.
pub fn failed(what: &OsStr, ran: &Ran) -> Error {
    let how = match ran.status.code() {
        Some(code) => format!("ended with {code}"),
        None => "was killed".to_owned(),
    };
    let said = ran.said(1_200);
    Error::new(
        Code::GitError,
        format!("git {} {how}: {}", what.to_string_lossy(), said.trim()),
    )
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version
        .trim_start_matches("git version ")
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    let found = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    found >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, new_enough) in [
            ("git version 2.47.3", true),
            ("git version 2.38.1 (Apple Git-143)", true),
            ("git version 3.0.0-rc1", true),
            ("git version 2.9.5", false),
            ("git version 1.99", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(version), new_enough, "{version}");
        }
    }
}
