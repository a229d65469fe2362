//! Where values come from: flags, environment, file, the older systems' variables, defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::keys::{KEYS, find};
use super::nearest::{distance, nearest};
use crate::base::{Code, Error, Result};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag,
    /// An environment variable.
    Variable(String),
    /// A file.
    File(PathBuf),
    /// Nobody said.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Variable(name) => write!(f, "environment {name}"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A value as text, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value.
    pub text: String,
    /// Where it came from.
    pub source: Source,
}

/// Every key's value.
pub type Values = BTreeMap<&'static str, Value>;

/// What the command line said; every flag that was not given is `None` or empty.
#[derive(Clone, Debug, Default)]
pub struct FlagValues {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--insecure`
    pub insecure: bool,
    /// `--tls-cert`
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key`
    pub tls_key: Option<PathBuf>,
    /// `--metrics-listen`
    pub metrics_listen: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--durability`
    pub durability: Option<String>,
    /// `--grace`
    pub grace: Option<String>,
    /// `--prompt-expiry`
    pub prompt_expiry: Option<String>,
    /// `--host`, repeated
    pub hosts: Vec<String>,
    /// `--origin`, repeated
    pub origins: Vec<String>,
    /// `--max-sessions`
    pub max_sessions: Option<String>,
    /// `--drain-deadline`
    pub drain_deadline: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--set KEY=VALUE`, repeated: any key of the file.
    pub set: Vec<String>,
}

impl FlagValues {
    /// The keys and values that were given.
    fn given(&self) -> Result<Vec<(&'static str, String)>> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
        let several = |words: &[String]| (!words.is_empty()).then(|| words.join(","));
        let mut given: Vec<(&'static str, String)> = [
            ("listen", self.listen.clone()),
            ("insecure", self.insecure.then(|| "true".to_owned())),
            ("tls.cert", path(&self.tls_cert)),
            ("tls.key", path(&self.tls_key)),
            ("metrics_listen", self.metrics_listen.clone()),
            ("data_dir", path(&self.data_dir)),
            ("durability", self.durability.clone()),
            ("grace", self.grace.clone()),
            ("prompt_expiry", self.prompt_expiry.clone()),
            ("hosts", several(&self.hosts)),
            ("origins", several(&self.origins)),
            ("max_sessions", self.max_sessions.clone()),
            ("drain_deadline", self.drain_deadline.clone()),
            ("log.format", self.log_format.clone()),
            ("log.level", self.log_level.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| (key, value)))
        .collect();
        for pair in &self.set {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Error::invalid("--set", format!("is {pair:?}; it must be KEY=VALUE"))
            })?;
            let key = find(name.trim()).ok_or_else(|| unknown_key(name.trim(), "--set"))?;
            given.push((key.name, value.trim().to_owned()));
        }
        Ok(given)
    }
}

/// Gathers every key's value: flags, then environment, then file, then the fallbacks, then defaults.
pub fn gather(
    flags: &FlagValues,
    environment: &BTreeMap<String, String>,
    file: Option<(&Path, &str)>,
) -> Result<Values> {
    let mut values: Values = KEYS
        .iter()
        .map(|key| {
            let text = key.default.to_owned();
            (
                key.name,
                Value {
                    text,
                    source: Source::Default,
                },
            )
        })
        .collect();
    fallbacks(environment, &mut values);
    if let Some((path, text)) = file {
        for (key, text) in read_file(path, text)? {
            values.insert(
                key,
                Value {
                    text,
                    source: Source::File(path.to_owned()),
                },
            );
        }
    }
    refuse_misspelt_variables(environment)?;
    for key in KEYS {
        let variable = key.variable();
        if let Some(text) = environment.get(&variable) {
            let value = Value {
                text: text.clone(),
                source: Source::Variable(variable),
            };
            values.insert(key.name, value);
        }
    }
    for (key, text) in flags.given()? {
        values.insert(
            key,
            Value {
                text,
                source: Source::Flag,
            },
        );
    }
    Ok(values)
}

/// The variables of the older systems: below everything but the defaults.
fn fallbacks(environment: &BTreeMap<String, String>, values: &mut Values) {
    let get = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let port = ["PORT", "ORCHESTRATOR_PORT"]
        .into_iter()
        .find_map(|name| get(name).map(|value| (name, value)));
    let host = get("HOST").map(|value| ("HOST", value));
    if port.is_some() || host.is_some() {
        let names: Vec<&str> = [host, port].into_iter().flatten().map(|(n, _)| n).collect();
        let host = host.map_or("127.0.0.1", |(_, value)| value.as_str());
        let port = port.map_or("7420", |(_, value)| value.as_str());
        // An IPv6 address is written in brackets before a port.
        let text = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let source = Source::Variable(names.join(" and "));
        values.insert("listen", Value { text, source });
    }
    if let Some(path) = get("ELEMENTAL_DB_PATH") {
        // It names the database's file; its folder is the data directory.
        let folder = match Path::new(path).parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let value = Value {
            text: folder.to_string_lossy().into_owned(),
            source: Source::Variable("ELEMENTAL_DB_PATH".to_owned()),
        };
        values.insert("data_dir", value);
    }
}

/// A variable one or two letters off a known one was meant to be it. Others that start with `BATON_`
/// belong to other parts of the program.
fn refuse_misspelt_variables(environment: &BTreeMap<String, String>) -> Result<()> {
    let known: Vec<String> = KEYS.iter().map(|key| key.variable()).collect();
    for name in environment.keys().filter(|name| name.starts_with("BATON_")) {
        if known.contains(name) {
            continue;
        }
        if let Some(near) = known.iter().find(|known| distance(name, known) <= 2) {
            return Err(Error::new(
                Code::InvalidInput,
                format!("the environment sets {name}, which means nothing; did you mean {near}?"),
            ));
        }
    }
    Ok(())
}

fn read_file(path: &Path, text: &str) -> Result<Vec<(&'static str, String)>> {
    let table: toml::Table = toml::from_str(text).map_err(|problem| {
        Error::new(
            Code::InvalidInput,
            format!(
                "{} is not TOML: {}",
                path.display(),
                problem.to_string().trim_end()
            ),
        )
    })?;
    let mut found = Vec::new();
    flatten(path, "", &table, &mut found)?;
    Ok(found)
}

fn flatten(
    path: &Path,
    prefix: &str,
    table: &toml::Table,
    found: &mut Vec<(&'static str, String)>,
) -> Result<()> {
    for (name, value) in table {
        let name = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        if let toml::Value::Table(inner) = value {
            flatten(path, &name, inner, found)?;
            continue;
        }
        let key = find(&name).ok_or_else(|| unknown_key(&name, &path.display().to_string()))?;
        let text = plain(value).ok_or_else(|| {
            Error::new(
                Code::InvalidInput,
                format!(
                    "{}: {name} must be text, a number, true or false, or a list of texts",
                    path.display()
                ),
            )
        })?;
        found.push((key.name, text));
    }
    Ok(())
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn unknown_key(name: &str, place: &str) -> Error {
    let hint = nearest(name, KEYS.iter().map(|key| key.name))
        .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    Error::new(
        Code::InvalidInput,
        format!("{place} has the unknown key {name:?}{hint}"),
    )
}
