//! What may run on this machine. It is set here, and no server can widen it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::base::{Code, Error, Result};
use crate::domain::command::StartCommand;
use crate::domain::field;
use crate::domain::harness::PermissionMode;

/// Variables that every session gets when the daemon has them, beside all that start with `LC_`.
const BASE_ENV: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "TERM", "TMPDIR", "SHELL", "TZ",
];
/// What the owner of the machine allows.
#[derive(Clone, Debug)]
pub struct PolicyOptions {
    /// Directories beneath which sessions may run.
    pub roots: Vec<PathBuf>,
    /// Kinds of harness that may run; empty allows all but `command`.
    pub harnesses: Vec<String>,
    /// Whether any program may be run by the harness `command`.
    pub allow_commands: bool,
    /// The highest permission mode.
    pub max_permission_mode: PermissionMode,
    /// Names of variables that a session may ask for.
    pub env_names: Vec<String>,
    /// Names of variables that every session gets.
    pub env_always: Vec<String>,
    /// Most living sessions.
    pub max_sessions: u32,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        PolicyOptions {
            roots: Vec::new(),
            harnesses: Vec::new(),
            allow_commands: false,
            max_permission_mode: PermissionMode::Auto,
            env_names: Vec::new(),
            env_always: Vec::new(),
            max_sessions: 16,
        }
    }
}

/// The policy, checked.
#[derive(Clone, Debug)]
pub struct Policy {
    roots: Vec<PathBuf>,
    harnesses: BTreeSet<String>,
    allow_commands: bool,
    max_permission_mode: PermissionMode,
    env_names: BTreeSet<String>,
    env_always: BTreeSet<String>,
    max_sessions: u32,
}

impl Policy {
    /// Checks what the owner said. Every root must be a directory.
    pub fn new(options: &PolicyOptions) -> Result<Self> {
        let mut roots = Vec::new();
        for root in &options.roots {
            let resolved = root
                .canonicalize()
                .ok()
                .filter(|resolved| resolved.is_dir())
                .ok_or_else(|| {
                    Error::invalid("roots", format!("{} is no directory", root.display()))
                })?;
            if !roots.contains(&resolved) {
                roots.push(resolved);
            }
        }
        for names in [&options.env_names, &options.env_always] {
            field::env_names("env", names)?;
            names
                .iter()
                .try_for_each(|name| check_not_ours("env", name))?;
        }
        Ok(Policy {
            roots,
            harnesses: options.harnesses.iter().cloned().collect(),
            allow_commands: options.allow_commands,
            max_permission_mode: options.max_permission_mode,
            env_names: options.env_names.iter().cloned().collect(),
            env_always: options.env_always.iter().cloned().collect(),
            max_sessions: options.max_sessions,
        })
    }

    /// Directories beneath which sessions may run, with links resolved.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The highest permission mode.
    pub fn max_permission_mode(&self) -> PermissionMode {
        self.max_permission_mode
    }

    /// Names of variables that a session may ask for.
    pub fn env_names(&self) -> impl Iterator<Item = &String> {
        self.env_names.iter()
    }

    /// Whether every session gets this variable, when the daemon has it.
    pub fn passes_always(&self, name: &str) -> bool {
        BASE_ENV.contains(&name) || name.starts_with("LC_") || self.env_always.contains(name)
    }

    /// Most living sessions.
    pub fn max_sessions(&self) -> u32 {
        self.max_sessions
    }

    /// Whether a request may bring programs of its own: plain commands, and those of worktrees.
    pub fn allows_commands(&self) -> bool {
        self.allow_commands
    }

    /// Why a kind of harness may not run here; `None` if it may.
    pub fn refuses_harness(&self, name: &str) -> Option<String> {
        if name == "command" && !self.allow_commands {
            return Some(
                "this daemon does not allow commands; start it with --allow-commands".to_owned(),
            );
        }
        if !self.harnesses.is_empty() && !self.harnesses.contains(name) {
            return Some(format!("this daemon does not allow the harness {name}"));
        }
        None
    }

    /// Refuses a permission mode above the highest.
    pub fn check_mode(&self, mode: PermissionMode) -> Result<()> {
        if mode <= self.max_permission_mode {
            return Ok(());
        }
        Err(Error::new(
            Code::Forbidden,
            format!(
                "this daemon allows permission modes up to {}, not {}",
                self.max_permission_mode.as_str(),
                mode.as_str()
            ),
        )
        .with("max_permission_mode", self.max_permission_mode.as_str()))
    }

    /// Checks a start while `living` sessions run; returns the working directory with links resolved.
    pub fn check(&self, start: &StartCommand, living: usize) -> Result<PathBuf> {
        if let Some(reason) = self.refuses_harness(&start.harness) {
            return Err(Error::new(Code::Forbidden, reason));
        }
        self.check_mode(start.permission_mode)?;
        if living >= self.max_sessions as usize {
            return Err(Error::new(
                Code::AtCapacity,
                format!("this daemon runs {living} sessions and takes no more"),
            )
            .with("max_sessions", self.max_sessions));
        }
        field::argv("argv", &start.argv)?;
        field::env_names("env_names", &start.env_names)?;
        for name in &start.env_names {
            check_not_ours("env_names", name)?;
            if !self.env_names.contains(name) && !self.env_always.contains(name) {
                return Err(Error::new(
                    Code::Forbidden,
                    format!("this daemon does not pass the environment variable {name} on"),
                ));
            }
        }
        let dir = self.resolve("cwd", &start.cwd)?;
        if !dir.is_dir() {
            return Err(Error::invalid(
                "cwd",
                format!("{} is no directory", start.cwd),
            ));
        }
        Ok(dir)
    }

    /// Resolves an absolute path, links and all, and refuses what does not lie beneath a root.
    pub fn resolve(&self, field: &str, path: &str) -> Result<PathBuf> {
        if !Path::new(path).is_absolute() || path.contains('\0') {
            return Err(Error::invalid(field, "must be an absolute path"));
        }
        let outside = || {
            Error::new(
                Code::Forbidden,
                format!("{path} is not a directory beneath the roots of this daemon"),
            )
        };
        // What does not exist and what is forbidden look the same from outside.
        let resolved = Path::new(path).canonicalize().map_err(|_| outside())?;
        if self.is_inside(&resolved) {
            Ok(resolved)
        } else {
            Err(outside())
        }
    }

    /// Whether a resolved path lies beneath a root, or is one.
    pub fn is_inside(&self, resolved: &Path) -> bool {
        self.roots.iter().any(|root| resolved.starts_with(root))
    }

    /// The environment of a session: the base set, what every session gets, what this one asked for, each
    /// with the daemon's own value, and what the harness needs. Never the whole environment.
    pub fn environment(
        &self,
        asked: &[String],
        own: impl Iterator<Item = (String, String)>,
        needed: &[(String, String)],
    ) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = own
            .filter(|(name, _)| {
                self.passes_always(name) || (asked.contains(name) && self.env_names.contains(name))
            })
            .collect();
        env.retain(|(name, _)| needed.iter().all(|(other, _)| other != name));
        env.extend_from_slice(needed);
        env
    }
}

/// Baton's own variables are never passed on: they may hold credentials.
fn check_not_ours(field: &str, name: &str) -> Result<()> {
    if name.starts_with("BATON_") {
        return Err(Error::invalid(
            field,
            format!("names {name}; variables that start with BATON_ are never passed on"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::Mode;

    fn start(cwd: &Path) -> StartCommand {
        StartCommand {
            harness: "demo".to_owned(),
            cwd: cwd.to_str().unwrap().to_owned(),
            model: String::new(),
            permission_mode: PermissionMode::Ask,
            mode: Mode::Headless,
            argv: Vec::new(),
            env_names: Vec::new(),
            provider_session_id: String::new(),
            fork: false,
            one_shot: false,
            replaces: None,
            terminal: None,
            instructions: String::new(),
        }
    }

    fn policy(root: &Path, change: impl FnOnce(&mut PolicyOptions)) -> Policy {
        let mut options = PolicyOptions {
            roots: vec![root.to_owned()],
            ..PolicyOptions::default()
        };
        change(&mut options);
        Policy::new(&options).unwrap()
    }

    fn code(result: Result<PathBuf>) -> Code {
        result.unwrap_err().code()
    }

    #[test]
    fn only_what_lies_beneath_a_root_after_links_is_a_place_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("root-not"));
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("in"), outside.join("back")).unwrap();
        let policy = policy(&root, |_| {});
        assert!(policy.check(&start(&root), 0).is_ok());
        assert!(policy.check(&start(&root.join("in")), 0).is_ok());
        let back = policy.check(&start(&outside.join("back")), 0).unwrap();
        assert_eq!(back, root.join("in").canonicalize().unwrap());
        for bad in [
            outside.clone(),
            root.join("out"),
            root.join("in/../../root-not"),
            root.join("nothing"),
            PathBuf::from("/"),
        ] {
            assert_eq!(
                code(policy.check(&start(&bad), 0)),
                Code::Forbidden,
                "{bad:?}"
            );
        }
        assert_eq!(
            code(policy.check(&start(Path::new("in")), 0)),
            Code::InvalidInput
        );
        let nowhere = Policy::new(&PolicyOptions::default()).unwrap();
        assert_eq!(code(nowhere.check(&start(&root), 0)), Code::Forbidden);
    }

    #[test]
    fn harness_mode_number_and_variables_are_the_owners_to_say() {
        let dir = tempfile::tempdir().unwrap();
        let narrow = policy(dir.path(), |options| {
            options.harnesses = vec!["claude-code".to_owned()];
            options.max_permission_mode = PermissionMode::Ask;
            options.max_sessions = 2;
            options.env_names = vec!["GIVEN".to_owned()];
        });
        let mut ask = start(dir.path());
        assert_eq!(code(narrow.check(&ask, 0)), Code::Forbidden);
        ask.harness = "claude-code".to_owned();
        assert!(narrow.check(&ask, 1).is_ok());
        assert_eq!(code(narrow.check(&ask, 2)), Code::AtCapacity);
        ask.permission_mode = PermissionMode::AutoSafe;
        assert_eq!(code(narrow.check(&ask, 0)), Code::Forbidden);
        ask.permission_mode = PermissionMode::Deny;
        ask.env_names = vec!["GIVEN".to_owned()];
        assert!(narrow.check(&ask, 0).is_ok());
        ask.env_names = vec!["AWS_SECRET".to_owned()];
        assert_eq!(code(narrow.check(&ask, 0)), Code::Forbidden);
        ask.env_names = vec!["BATON_TOKEN".to_owned()];
        assert_eq!(code(narrow.check(&ask, 0)), Code::InvalidInput);

        let any = policy(dir.path(), |_| {});
        assert!(any.refuses_harness("command").is_some());
        assert!(any.refuses_harness("demo").is_none());
        assert!(
            policy(dir.path(), |o| o.allow_commands = true)
                .refuses_harness("command")
                .is_none()
        );
    }

    #[test]
    fn the_environment_is_never_whole() {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy(dir.path(), |options| {
            options.env_names = vec!["MAY".to_owned(), "MAY_TOO".to_owned()];
            options.env_always = vec!["ALWAYS".to_owned()];
        });
        let own = [
            "PATH",
            "LC_ALL",
            "MAY",
            "MAY_TOO",
            "ALWAYS",
            "BATON_TOKEN",
            "ANTHROPIC_API_KEY",
        ]
        .map(|name| (name.to_owned(), "x".to_owned()));
        let env = policy.environment(
            &["MAY".to_owned()],
            own.into_iter(),
            &[("PATH".to_owned(), "y".to_owned())],
        );
        let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["LC_ALL", "MAY", "ALWAYS", "PATH"]);
        assert_eq!(env[3].1, "y");
    }
}
