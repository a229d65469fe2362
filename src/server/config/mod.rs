//! Configuration: flags over environment over `baton.toml` over defaults, each value with its source.
//!
//! The file is the one named by `--config` or `BATON_CONFIG`, else `baton/baton.toml` in the platform's
//! configuration directory. It is never looked for in the working directory, which may be a repository
//! that somebody else wrote.

mod keys;
mod nearest;
mod source;
pub(super) mod value;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod fuzz;

pub use keys::{KEYS, Key};
pub use nearest::nearest;
pub use source::{FlagValues, Source, Value, Values};

use super::options::Options;
use crate::base::{Code, Error, Result};

/// The configuration as it was found.
#[derive(Clone, Debug)]
pub struct Config {
    values: Values,
    /// What it comes to.
    pub options: Options,
}

impl Config {
    /// Reads the configuration of this process.
    pub fn load(flags: &FlagValues) -> Result<Self> {
        // A variable that is not Unicode cannot be one of ours.
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = flags
            .config
            .clone()
            .or_else(|| environment.get("BATON_CONFIG").map(PathBuf::from));
        let file = match &named {
            Some(path) => Some((path.clone(), read(path)?)),
            None => match default_file() {
                Some(path) if path.exists() => Some((path.clone(), read(&path)?)),
                _ => None,
            },
        };
        let file = file
            .as_ref()
            .map(|(path, text)| (path.as_path(), text.as_str()));
        Self::resolve(flags, &environment, file)
    }

    /// The same from given sources.
    pub fn resolve(
        flags: &FlagValues,
        environment: &BTreeMap<String, String>,
        file: Option<(&Path, &str)>,
    ) -> Result<Self> {
        let mut values = source::gather(flags, environment, file)?;
        if let Some(value) = values.get_mut("data_dir")
            && value.text.is_empty()
        {
            value.text = default_data_dir()?.to_string_lossy().into_owned();
        }
        let options = Options::from_values(&values)?;
        Ok(Config { values, options })
    }

    /// Where a key's value came from.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.values.get(key).map(|value| &value.source)
    }

    /// Every key with its value and where that came from, as `baton serve --print-config` shows it. The
    /// text is itself a valid `baton.toml`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for key in KEYS {
            if let Some(value) = self.values.get(key.name) {
                // JSON's form of a string is one of TOML's.
                let quoted = serde_json::Value::from(value.text.as_str());
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{} = {quoted}  # {}", key.name, value.source);
            }
        }
        text
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|problem| {
        Error::new(
            Code::InvalidInput,
            format!(
                "the configuration {} cannot be read: {problem}",
                path.display()
            ),
        )
    })
}

fn default_file() -> Option<PathBuf> {
    use etcetera::BaseStrategy as _;
    let strategy = etcetera::choose_base_strategy().ok()?;
    Some(strategy.config_dir().join("baton").join("baton.toml"))
}

/// The platform's data directory for Baton.
pub fn default_data_dir() -> Result<PathBuf> {
    use etcetera::BaseStrategy as _;
    let strategy = etcetera::choose_base_strategy().map_err(|problem| {
        Error::new(
            Code::InvalidInput,
            format!("there is no home directory ({problem}); name one with --data-dir"),
        )
    })?;
    Ok(strategy.data_dir().join("baton"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn resolve(flags: &FlagValues, pairs: &[(&str, &str)], file: &str) -> Result<Config> {
        let mut pairs = pairs.to_vec();
        pairs.push(("BATON_LOG_LEVEL", "info"));
        let path = Path::new("baton.toml");
        Config::resolve(flags, &environment(&pairs), Some((path, file)))
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_fallback_beats_default() {
        let flag = FlagValues {
            listen: Some("127.0.0.1:1".into()),
            data_dir: Some("/d".into()),
            ..FlagValues::default()
        };
        let none = FlagValues {
            data_dir: Some("/d".into()),
            ..FlagValues::default()
        };
        let variable = [("BATON_LISTEN", "127.0.0.1:2"), ("PORT", "4")];
        let file = "listen = '127.0.0.1:3'";
        let port = |config: Config| {
            (
                config.options.listen.port(),
                config.source("listen").cloned().unwrap(),
            )
        };

        let (got, source) = port(resolve(&flag, &variable, file).unwrap());
        assert_eq!((got, source), (1, Source::Flag));
        let (got, source) = port(resolve(&none, &variable, file).unwrap());
        assert_eq!((got, source), (2, Source::Variable("BATON_LISTEN".into())));
        let (got, source) = port(resolve(&none, &variable[1..], file).unwrap());
        assert_eq!((got, source), (3, Source::File("baton.toml".into())));
        let (got, source) = port(resolve(&none, &variable[1..], "").unwrap());
        assert_eq!((got, source), (4, Source::Variable("PORT".into())));
        let (got, source) = port(resolve(&none, &[], "").unwrap());
        assert_eq!((got, source), (7420, Source::Default));
    }

    #[test]
    fn the_older_variables_are_honoured() {
        let config = resolve(
            &FlagValues::default(),
            &[
                ("HOST", "::1"),
                ("ORCHESTRATOR_PORT", "9000"),
                ("ELEMENTAL_DB_PATH", "/var/lib/elemental/data.db"),
            ],
            "",
        )
        .unwrap();
        assert_eq!(config.options.listen.to_string(), "[::1]:9000");
        assert_eq!(config.options.data_dir, Path::new("/var/lib/elemental"));
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let flags = FlagValues::default();
        let error = resolve(&flags, &[], "[limits]\nruntme = '1h'").unwrap_err();
        assert!(
            error.message().contains("did you mean \"limits.runtime\"?"),
            "{error}"
        );
        let error = resolve(&flags, &[("BATON_LISTNE", "x")], "").unwrap_err();
        assert!(error.message().contains("BATON_LISTEN"), "{error}");
        let set = FlagValues {
            set: vec!["host=x".into()],
            ..FlagValues::default()
        };
        assert!(
            resolve(&set, &[], "")
                .unwrap_err()
                .message()
                .contains("\"hosts\"")
        );
        // Variables of other parts of the program are none of this room's business.
        assert!(
            resolve(
                &flags,
                &[("BATON_TEST_ROUNDS", "5"), ("BATON_TOKEN", "x")],
                ""
            )
            .is_ok()
        );
    }

    #[test]
    fn a_bad_value_names_its_key_and_source() {
        let error = resolve(&FlagValues::default(), &[("BATON_GRACE", "soon")], "").unwrap_err();
        assert!(error.message().contains("grace"), "{error}");
        assert!(error.message().contains("BATON_GRACE"), "{error}");
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let flags = FlagValues {
            data_dir: Some("/d".into()),
            hosts: vec!["a.example".into(), "b.example".into()],
            set: vec!["limits.cost=2.50".into()],
            ..FlagValues::default()
        };
        let config = resolve(&flags, &[], "").unwrap();
        let again = resolve(&FlagValues::default(), &[], &config.render()).unwrap();
        assert_eq!(again.options, config.options);
        assert!(
            config
                .render()
                .contains("hosts = \"a.example,b.example\"  # flag")
        );
    }
}
