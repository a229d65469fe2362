//! What the daemon keeps of a session beside its spool.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ending::StopNote;
use crate::base::id::CommandId;
use crate::daemon::runner::spec::write_private;
use crate::domain::command::StartCommand;
use crate::domain::link::Gap;

/// Written when the session is all over; the directory stays for a while, so that its start is never done
/// again.
pub const DONE_FILE: &str = "done";
const META_FILE: &str = "session.json";
const SAVED_FILE: &str = "state.json";

/// How the session was started; written before its runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// The command that started it.
    pub command_id: CommandId,
    /// What it said.
    pub start: StartCommand,
}

/// How a write ended, kept so that a command that comes again is answered and not done again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrote {
    /// The id it was written under.
    pub id: String,
    /// As `WriteOutcome` numbers it.
    pub outcome: i32,
    /// Why it failed.
    pub reason: String,
}

/// The interpretation after a record: what a later daemon goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// The spool.
    pub origin_epoch: u64,
    /// The last record that was interpreted.
    pub seq: u64,
    /// The last record known to be stored by the server.
    pub acked: u64,
    /// The driver's state; `None` before the first record.
    #[serde(with = "blob")]
    pub driver: Option<Vec<u8>>,
    /// The end of standard error.
    pub stderr_tail: String,
    /// Why it was told to end.
    pub stop: Option<StopNote>,
    /// The last writes.
    pub wrote: VecDeque<Wrote>,
    /// The harness's own conversation id.
    pub provider_session_id: String,
    /// What was missing right before the next record.
    pub gap: Option<SavedGap>,
    /// Whether the harness's end was interpreted.
    pub exited: bool,
}

/// Missing records, to be told with the next record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGap {
    /// The first one.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// Why.
    pub reason: String,
}

impl From<SavedGap> for Gap {
    fn from(gap: SavedGap) -> Gap {
        Gap {
            from_origin_seq: gap.from,
            to_origin_seq: gap.to,
            reason: gap.reason,
        }
    }
}

impl Meta {
    /// Reads the file in the session directory `dir`; `None` if there is none.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        read(&dir.join(META_FILE))
    }

    /// Writes the file into the session directory `dir`.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_private(&dir.join(META_FILE), &serde_json::to_vec(self)?)
    }
}

impl Saved {
    /// Reads the file in the session directory `dir`. A damaged one is as good as none: the spool is
    /// interpreted from its beginning.
    pub fn read(dir: &Path) -> Self {
        match read(&dir.join(SAVED_FILE)) {
            Ok(saved) => saved.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the state of a session cannot be read");
                Saved::default()
            }
        }
    }

    /// Writes the file into the session directory `dir`.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_private(&dir.join(SAVED_FILE), &serde_json::to_vec(self)?)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes as base 64 in JSON.
mod blob {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes
            .as_ref()
            .map(|bytes| STANDARD.encode(bytes))
            .serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| STANDARD.decode(text).map_err(serde::de::Error::custom))
            .transpose()
    }
}
