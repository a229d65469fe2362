//! Whether Claude Code can be used on a machine: where it is, which version, and who is signed in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::daemon::harness::program::{self, is_program, read_small};
use crate::domain::harness::Login;
use crate::domain::{Capabilities, Harness};

/// Variables that sign a session in when they are passed on.
const KEYS: [&str; 3] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
];
/// Variables that make another service answer, which has a login of its own.
const CLOUDS: [&str; 3] = [
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
];

/// What is known of the machine before anything is started.
#[derive(Clone, Debug, Default)]
pub struct ClaudeOptions {
    /// The program, if the daemon's configuration names one; else it is looked for on `path`.
    pub program: Option<PathBuf>,
    /// Where programs are looked for, in the form of `PATH`.
    pub path: OsString,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// Where the program keeps its files, if not in the home directory.
    pub config_dir: Option<PathBuf>,
    /// Whether a key or token for the provider is passed on to sessions.
    pub has_key: bool,
    /// Whether sessions use a cloud's own login.
    pub uses_cloud: bool,
}

impl ClaudeOptions {
    /// Reads what matters from an environment. `passed_on` says whether the daemon hands a variable to
    /// its sessions; no value of a key is kept.
    pub fn from_env(
        program: Option<PathBuf>,
        env: impl Fn(&str) -> Option<OsString>,
        passed_on: impl Fn(&str) -> bool,
    ) -> Self {
        let set = |name: &&str| passed_on(name) && env(name).is_some_and(|value| !value.is_empty());
        ClaudeOptions {
            program,
            path: env("PATH").unwrap_or_default(),
            home: env("HOME").map(PathBuf::from),
            config_dir: env("CLAUDE_CONFIG_DIR")
                .filter(|_| passed_on("CLAUDE_CONFIG_DIR"))
                .map(PathBuf::from),
            has_key: KEYS.iter().any(set),
            uses_cloud: CLOUDS.iter().any(set),
        }
    }

    /// The program's absolute path, or a sentence that says why there is none.
    pub(super) fn find(&self) -> Result<PathBuf, String> {
        if let Some(program) = &self.program {
            return match program.is_absolute() && is_program(program) {
                true => Ok(program.clone()),
                false => Err(format!(
                    "the configured program {} is not an absolute path of something executable",
                    program.display()
                )),
            };
        }
        program::on_path(&self.path, "claude")
            .ok_or_else(|| {
                "there is no program `claude` on the daemon's PATH; install it with `npm install -g @anthropic-ai/claude-code`".to_owned()
            })
    }

    /// Looks whether the program works and who is signed in.
    pub(super) fn probe(&self, name: &str, capabilities: Capabilities) -> Harness {
        let mut harness = Harness {
            name: name.to_owned(),
            capabilities,
            ..Harness::default()
        };
        match self.find().and_then(|program| self.version(&program)) {
            Ok(version) => {
                harness.available = true;
                harness.version = version;
                harness.login = self.login();
                if harness.login == Login::SignedOut {
                    harness.unavailable_reason = "nobody is signed in: run `claude` and `/login` as the daemon's user, or let the daemon pass ANTHROPIC_API_KEY on".to_owned();
                }
            }
            Err(why) => {
                harness.login = Login::Unknown;
                harness.unavailable_reason = why;
            }
        }
        harness
    }

    fn version(&self, program: &Path) -> Result<String, String> {
        let mut env = vec![("DISABLE_AUTOUPDATER".into(), "1".into())];
        if let Some(home) = &self.home {
            env.push(("HOME".into(), home.clone().into_os_string()));
        }
        if let Some(directory) = &self.config_dir {
            env.push((
                "CLAUDE_CONFIG_DIR".into(),
                directory.clone().into_os_string(),
            ));
        }
        program::version(program, &self.path, env)
    }

    /// Who is signed in, as far as that can be told without starting a turn.
    pub(in crate::daemon::harness) fn login(&self) -> Login {
        if self.has_key {
            return Login::SignedIn;
        }
        if self.uses_cloud {
            return Login::Unknown;
        }
        let directory = match (&self.config_dir, &self.home) {
            (Some(directory), _) => directory.clone(),
            (None, Some(home)) => home.join(".claude"),
            (None, None) => return Login::Unknown,
        };
        if let Some(text) = read_small(&directory.join(".credentials.json"))
            && let Ok(file) = serde_json::from_str::<Value>(&text)
            && ["refreshToken", "accessToken"].iter().any(|key| {
                let token = file["claudeAiOauth"][key].as_str();
                token.is_some_and(|token| !token.is_empty())
            })
        {
            return Login::SignedIn;
        }
        // Settings can name a helper, a gateway or a key of their own; a Mac keeps the login elsewhere.
        if cfg!(target_os = "macos")
            || read_small(&directory.join("settings.json")).is_some_and(|text| {
                text.contains("apiKeyHelper")
                    || KEYS.iter().chain(&CLOUDS).any(|key| text.contains(key))
            })
        {
            return Login::Unknown;
        }
        Login::SignedOut
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(directory: &Path, body: &str) -> PathBuf {
        let path = directory.join("claude");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn options(directory: &Path) -> ClaudeOptions {
        ClaudeOptions {
            path: std::env::join_paths([directory, Path::new("/usr/bin"), Path::new("/bin")])
                .unwrap(),
            home: Some(directory.to_owned()),
            ..ClaudeOptions::default()
        }
    }

    fn probe(options: &ClaudeOptions) -> Harness {
        options.probe("claude-code", Capabilities::default())
    }

    #[test]
    fn a_probe_tells_version_and_login_or_why_not() {
        let directory = tempfile::tempdir().unwrap();
        let missing = probe(&ClaudeOptions::default());
        assert!(!missing.available && missing.unavailable_reason.contains("npm install"));

        script(directory.path(), "echo '9.8.7 (Claude Code)'");
        let mut options = options(directory.path());
        let found = probe(&options);
        assert!(found.available, "{}", found.unavailable_reason);
        assert_eq!(found.version, "9.8.7");
        assert_eq!(found.login, Login::SignedOut);
        assert!(found.unavailable_reason.contains("signed in"));

        let files = directory.path().join(".claude");
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("settings.json"), r#"{"apiKeyHelper":"x"}"#).unwrap();
        assert_eq!(probe(&options).login, Login::Unknown);
        let credentials = r#"{"claudeAiOauth":{"refreshToken":"r"}}"#;
        std::fs::write(files.join(".credentials.json"), credentials).unwrap();
        assert_eq!(probe(&options).login, Login::SignedIn);
        std::fs::remove_dir_all(files).unwrap();
        options.has_key = true;
        assert_eq!(probe(&options).login, Login::SignedIn);
    }

    #[test]
    fn a_program_that_fails_is_said_to() {
        let directory = tempfile::tempdir().unwrap();
        for (body, why) in [("exit 3", "exit status: 3"), ("echo hello", "did not say")] {
            script(directory.path(), body);
            let harness = probe(&options(directory.path()));
            assert!(!harness.available);
            assert!(harness.unavailable_reason.contains(why), "{harness:?}");
        }
        let mut options = options(directory.path());
        options.program = Some(PathBuf::from("claude"));
        assert!(probe(&options).unavailable_reason.contains("absolute"));
    }

    #[test]
    fn only_what_sessions_get_counts_as_a_login() {
        let env = |name: &str| (name == "ANTHROPIC_API_KEY").then(|| OsString::from("k"));
        assert!(ClaudeOptions::from_env(None, env, |_| true).has_key);
        assert!(!ClaudeOptions::from_env(None, env, |_| false).has_key);
    }
}
