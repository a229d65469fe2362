//! Agents that are known to speak ACP, and what a machine says of their logins.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::daemon::harness::claude::ClaudeOptions;
use crate::domain::harness::Login;

/// An agent that is known by name.
#[derive(Debug)]
pub struct Known {
    /// Its name, without `acp:`.
    pub name: &'static str,
    /// Its program, by the names that it goes by, the newest first.
    pub programs: &'static [&'static str],
    /// Arguments that make it speak ACP.
    pub arguments: &'static [&'static str],
    /// Variables that make it ask before it acts.
    pub env: &'static [(&'static str, &'static str)],
    /// How it is installed.
    pub install: &'static str,
    /// How one signs in.
    pub sign_in: &'static str,
    /// Whether somebody is signed in, as far as that can be told without starting it.
    pub login: fn(&Machine) -> Login,
}

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        name: "claude",
        programs: &["claude-agent-acp", "claude-code-acp"],
        arguments: &[],
        env: &[],
        install: "npm install -g @agentclientprotocol/claude-agent-acp",
        sign_in: "run `claude` and `/login` as the daemon's user, or let the daemon pass ANTHROPIC_API_KEY on",
        login: |machine| machine.claude.login(),
    },
    Known {
        name: "codex",
        programs: &["codex-acp"],
        arguments: &[],
        env: &[],
        install: "npm install -g @agentclientprotocol/codex-acp",
        sign_in: "run `codex login` as the daemon's user, or let the daemon pass OPENAI_API_KEY on",
        login: Machine::codex_login,
    },
    Known {
        name: "gemini",
        programs: &["gemini"],
        arguments: &["--acp"],
        env: &[],
        install: "npm install -g @google/gemini-cli",
        sign_in: "run `gemini` and sign in as the daemon's user, or let the daemon pass GEMINI_API_KEY on",
        login: |machine| {
            machine.login(
                &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
                "GEMINI_CLI_HOME",
                ".gemini",
                "oauth_creds.json",
            )
        },
    },
    Known {
        name: "opencode",
        programs: &["opencode"],
        arguments: &["acp"],
        // Without this it allows everything by itself.
        env: &[(
            "OPENCODE_CONFIG_CONTENT",
            r#"{"permission":{"edit":"ask","bash":"ask","webfetch":"ask"}}"#,
        )],
        install: "npm install -g opencode-ai",
        sign_in: "run `opencode auth login` as the daemon's user",
        // It has providers of many kinds, some without any login.
        login: |_| Login::Unknown,
    },
];

/// What is known of the machine before anything is started.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Where programs are looked for, in the form of `PATH`.
    pub path: OsString,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// What is known of Claude Code.
    pub claude: ClaudeOptions,
    /// Names of variables that sessions get and that are set, of those that sign somebody in.
    pub keys: Vec<&'static str>,
    /// Directories that variables name, of those that sessions get.
    pub directories: Vec<(&'static str, PathBuf)>,
}

/// Variables that sign a session in.
const KEYS: [&str; 4] = [
    "OPENAI_API_KEY",
    "CODEX_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
];
/// Variables that name where an agent keeps its files.
const DIRECTORIES: [&str; 2] = ["CODEX_HOME", "GEMINI_CLI_HOME"];

impl Machine {
    /// Reads what matters from an environment. `passed_on` says whether the daemon hands a variable to its
    /// sessions; no value of a key is kept.
    pub fn from_env(
        claude: ClaudeOptions,
        env: impl Fn(&str) -> Option<OsString>,
        passed_on: impl Fn(&str) -> bool,
    ) -> Self {
        let given = |name: &str| env(name).filter(|value| passed_on(name) && !value.is_empty());
        Machine {
            path: env("PATH").unwrap_or_default(),
            home: env("HOME").map(PathBuf::from),
            claude,
            keys: KEYS
                .into_iter()
                .filter(|name| given(name).is_some())
                .collect(),
            directories: DIRECTORIES
                .into_iter()
                .filter_map(|name| Some((name, PathBuf::from(given(name)?))))
                .collect(),
        }
    }

    /// Whether somebody is signed in with Codex.
    pub fn codex_login(&self) -> Login {
        self.login(
            &["OPENAI_API_KEY", "CODEX_API_KEY"],
            "CODEX_HOME",
            ".codex",
            "auth.json",
        )
    }

    /// Whether one of these keys is passed on, or the file is there: in the directory that `variable` names, else
    /// in `folder` of the home directory.
    fn login(&self, keys: &[&str], variable: &str, folder: &str, file: &str) -> Login {
        if keys.iter().any(|key| self.keys.contains(key)) {
            return Login::SignedIn;
        }
        let named = self.directories.iter().find(|(name, _)| *name == variable);
        let directory = match (named, &self.home) {
            (Some((_, directory)), _) => directory.clone(),
            (None, Some(home)) => home.join(folder),
            (None, None) => return Login::Unknown,
        };
        match directory.join(file).metadata() {
            Ok(file) if file.len() > 0 => Login::SignedIn,
            // It may keep its login elsewhere, in a keychain for instance.
            _ if directory.is_dir() => Login::Unknown,
            _ => Login::SignedOut,
        }
    }
}
