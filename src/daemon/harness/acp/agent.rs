//! An agent that the machine's owner configured.

use crate::base::{Error, Result};
use crate::domain::field;

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// A program that speaks ACP, by the owner's word. It becomes the harness `acp:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpAgent {
    name: String,
    argv: Vec<String>,
}

impl AcpAgent {
    /// Checks a name and an argument list. The program is an absolute path, or a name that is looked for on the
    /// daemon's `PATH`.
    pub fn new(name: &str, argv: Vec<String>) -> Result<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
            return Err(Error::invalid(
                "name",
                format!(
                    "must be 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 - _ . and begin with a letter or digit"
                ),
            ));
        }
        field::argv("argv", &argv)?;
        match argv.first() {
            None => Err(Error::invalid("argv", "must name a program")),
            Some(program) if program.contains('/') && !program.starts_with('/') => {
                Err(Error::invalid(
                    "argv",
                    "names a program by a relative path; use an absolute one, or its name alone",
                ))
            }
            Some(_) => Ok(AcpAgent {
                name: name.to_owned(),
                argv,
            }),
        }
    }

    /// Reads `NAME=ARGV`: the arguments as a JSON array of strings, or as words between spaces. No shell reads them,
    /// so quotes mean nothing.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((name, argv)) = text.split_once('=') else {
            return Err(Error::invalid("acp", "must be NAME=ARGV"));
        };
        let argv = match argv.trim_start().starts_with('[') {
            true => serde_json::from_str::<Vec<String>>(argv).map_err(|problem| {
                Error::invalid("argv", format!("is no JSON array of strings: {problem}"))
            })?,
            false => argv.split_whitespace().map(str::to_owned).collect(),
        };
        AcpAgent::new(name, argv)
    }

    /// Its name, without `acp:`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Program and arguments.
    pub fn argv(&self) -> &[String] {
        &self.argv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_name_and_words_or_an_array() {
        let words = AcpAgent::parse("mine=/opt/agent  --acp -v").unwrap();
        assert_eq!((words.name(), words.argv().len()), ("mine", 3));
        let array = AcpAgent::parse(r#"a.b-c_1=["/opt/my agent","--x=y z"]"#).unwrap();
        assert_eq!(array.argv(), ["/opt/my agent", "--x=y z"]);
        assert!(AcpAgent::parse("plain=gemini --acp").is_ok());
        for bad in [
            "mine",
            "mine=",
            "=x",
            "-x=y",
            "a b=x",
            "a:b=x",
            "mine=./agent",
            "mine=[1]",
            "mine=[\"\"]",
            "mine=[\"a\\u0000b\"]",
        ] {
            assert!(AcpAgent::parse(bad).is_err(), "{bad}");
        }
    }
}
