//! Typed ids: a prefix that names the noun, `_`, and a ULID.
//!
//! Ids are made by the server (or, for a daemon's own records, by that daemon), sort by the time they
//! were made, and are never an authority: knowing one opens nothing.

use std::fmt;
use std::str::FromStr;

use ulid::Ulid;

use super::clock::Timestamp;
use super::error::{Error, Result};

/// Length of an id's text: a three-letter prefix, `_`, and 26 characters of Crockford base 32.
pub const ID_LEN: usize = 30;

/// Whether 26 characters are as [`Ulid`] writes them. One id, one spelling: lower case, the look-alike letters and
/// more than 128 bits are refused, which [`Ulid::from_string`] would read.
fn is_spelled_as_written(text: &[u8]) -> bool {
    let is_digit = |c: &u8| matches!(c, b'0'..=b'9' | b'A'..=b'H' | b'J' | b'K' | b'M' | b'N' | b'P'..=b'T' | b'V'..=b'Z');
    text.len() == 26 && matches!(text[0], b'0'..=b'7') && text.iter().all(is_digit)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $field:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(Ulid);

            impl $name {
                /// What every id of this kind starts with.
                pub const PREFIX: &'static str = $prefix;

                /// A new id made at `now` from 80 random bits.
                pub fn new(now: Timestamp, random: u128) -> Self {
                    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                    $name(Ulid::from_parts(millis, random))
                }

                /// A new id made at `now` with the thread's randomness.
                pub fn generate(now: Timestamp) -> Self {
                    Self::new(now, rand::random())
                }

                /// The id with these 128 bits.
                pub const fn from_bits(bits: u128) -> Self {
                    $name(Ulid(bits))
                }

                /// The id's 128 bits.
                pub const fn bits(self) -> u128 {
                    self.0.0
                }

                /// The least id of the same millisecond: it says when, and not which.
                pub const fn first_of_its_time(self) -> Self {
                    Self::from_bits(self.bits() >> 80 << 80)
                }

                /// Reads an id that came from outside; the error names `field`.
                pub fn parse(field: &str, text: &str) -> Result<Self> {
                    if text.is_empty() {
                        return Err(Error::invalid(field, "is missing"));
                    }
                    text.strip_prefix($prefix)
                        .and_then(|rest| rest.strip_prefix('_'))
                        .filter(|rest| is_spelled_as_written(rest.as_bytes()))
                        .and_then(|rest| Ulid::from_string(rest).ok())
                        .map($name)
                        .ok_or_else(|| {
                            Error::invalid(
                                field,
                                concat!("is not an id of this kind (", $prefix, "_ and 26 characters)"),
                            )
                        })
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!($prefix, "_{}"), self.0)
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(self, f)
                }
            }

            impl FromStr for $name {
                type Err = Error;
                fn from_str(text: &str) -> Result<Self> {
                    Self::parse($field, text)
                }
            }

            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                    s.collect_str(self)
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                    let text = String::deserialize(d)?;
                    text.parse().map_err(|_| serde::de::Error::custom(concat!("not a ", $prefix, " id")))
                }
            }
        )*
    };
}

ids! {
    /// A daemon: the process on a machine that runs agents.
    DaemonId = "dmn", "daemon_id";
    /// A session: one run of one harness process.
    SessionId = "ses", "session_id";
    /// A prompt: something a person is asked.
    PromptId = "prm", "prompt_id";
    /// A rule that answers prompts.
    RuleId = "rul", "rule_id";
    /// An input: text sent to an agent. Its 128 bits are also the harness's message UUID.
    InputId = "inp", "input_id";
    /// A command on its way to a daemon.
    CommandId = "cmd", "command_id";
    /// An access token.
    TokenId = "tok", "token_id";
    /// A turn: from an input to the harness's result.
    TurnId = "trn", "turn_id";
    /// Names a budget.
    BudgetId = "bgt", "budget_id";
    /// An agent: a lasting identity with a role that runs sessions.
    AgentId = "agt", "agent_id";
    /// A task: a unit of work.
    TaskId = "tsk", "task_id";
    /// An assignment: one task given to one agent; it may span sessions.
    AssignmentId = "asg", "assignment_id";
    /// A git worktree.
    WorktreeId = "wkt", "worktree_id";
    /// A terminal: a shell or a harness in a PTY.
    TerminalId = "trm", "terminal_id";
}

impl InputId {
    /// The UUID that a harness knows this input by: the same 128 bits.
    pub fn to_uuid(self) -> String {
        uuid::Uuid::from_u128(self.bits()).to_string()
    }

    /// The input that a harness's message UUID names; `None` if it is no UUID.
    pub fn from_uuid(text: &str) -> Option<Self> {
        uuid::Uuid::parse_str(text)
            .ok()
            .map(|uuid| InputId::from_bits(uuid.as_u128()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_sorts_by_time() {
        let early = SessionId::new(Timestamp::from_millis(1), 9);
        let late = SessionId::new(Timestamp::from_millis(2), 1);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().len(), ID_LEN);
        assert_eq!(SessionId::parse("x", &early.to_string()).unwrap(), early);
    }

    #[test]
    fn other_kinds_and_spellings_are_refused() {
        let id = SessionId::generate(Timestamp::from_millis(5)).to_string();
        assert!(DaemonId::parse("x", &id).is_err());
        assert!(SessionId::parse("x", &id.to_lowercase()).is_err());
        for bad in [
            "",
            "ses_",
            "ses",
            "ses_é",
            "ses_0000000000000000000000000U",
            "../../etc",
            "ses_80000000000000000000000000",
        ] {
            assert!(SessionId::parse("x", bad).is_err(), "{bad}");
        }
    }

    /// Every character in every place: what is read is what would be written, and nothing else.
    #[test]
    fn an_id_has_one_spelling() {
        let whole = SessionId::from_bits(u128::MAX / 3).to_string();
        for place in SessionId::PREFIX.len() + 1..whole.len() {
            for character in 0_u8..128 {
                let mut text = whole.clone().into_bytes();
                text[place] = character;
                let text = String::from_utf8(text).unwrap();
                if let Ok(id) = SessionId::parse("x", &text) {
                    assert_eq!(id.to_string(), text);
                }
            }
        }
        let last = SessionId::from_bits(u128::MAX);
        assert_eq!(SessionId::parse("x", &last.to_string()).unwrap(), last);
    }

    #[test]
    fn an_input_and_its_uuid_are_the_same_bits() {
        let id = InputId::generate(Timestamp::from_millis(7));
        assert_eq!(InputId::from_uuid(&id.to_uuid()), Some(id));
    }
}
