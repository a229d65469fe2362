//! What was written to a harness, so that the same command is never written twice.
//!
//! An intent is on disk before the pipe is touched, the result is noted after. Where a result is
//! missing, nobody can tell how much reached the harness, and that is what readers are told.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use crate::daemon::spool::{self, Found};
use crate::wire::runner_v1::{Outcome, WriteOutcome, Written};

/// Name of the file.
pub const LEDGER_FILE: &str = "ledger";
/// The id under which a runner notes that it is about to start the harness.
pub const SPAWN_ID: &str = "spawn";
/// How many results are remembered. A command is repeated only until the server has its result, and it
/// has a session's commands one after the other, so the oldest are never asked for again.
const REMEMBERED: usize = 10_000;
/// The most of a ledger that is read, in bytes.
const MAX_LEDGER_BYTES: u64 = 256 << 20;

/// The ledger of one session.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    /// `None` is an intent without a result.
    entries: HashMap<String, Option<Outcome>>,
    order: VecDeque<String>,
    written: usize,
}

impl Ledger {
    /// Makes the ledger of the session directory `dir`.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join(LEDGER_FILE);
        Ok(Ledger {
            file: open_new(&path)?,
            path,
            entries: HashMap::new(),
            order: VecDeque::new(),
            written: 0,
        })
    }

    /// How a command ended, if it was begun: `Some(None)` while it has no result.
    pub fn find(&self, id: &str) -> Option<Option<&Outcome>> {
        self.entries.get(id).map(Option::as_ref)
    }

    /// Notes that a command is about to be done. The handle is to be synced before it is done.
    pub fn intend(&mut self, id: &str, note: &Bytes) -> io::Result<File> {
        let intent = Written {
            command_id: id.to_owned(),
            note: note.clone(),
            outcome: WriteOutcome::Unspecified.into(),
            reason: String::new(),
        };
        self.append(0, &intent)?;
        self.entries.insert(id.to_owned(), None);
        self.order.push_back(id.to_owned());
        self.file.try_clone()
    }

    /// Notes how a command ended. It is remembered even when the disk refuses.
    pub fn finish(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.entries
            .insert(outcome.command_id.clone(), Some(outcome.clone()));
        let result = Written {
            command_id: outcome.command_id.clone(),
            note: Bytes::new(),
            outcome: outcome.outcome,
            reason: outcome.reason.clone(),
        };
        self.append(outcome.seq, &result)?;
        while self.order.len() > REMEMBERED
            && let Some(id) = self.order.pop_front()
        {
            self.entries.remove(&id);
        }
        if self.written > 8 * REMEMBERED {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Writes the file anew with what is remembered.
    fn rewrite(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("tmp");
        let _ = fs::remove_file(&beside);
        let mut file = open_new(&beside)?;
        let mut bytes = Vec::new();
        let mut count = 0;
        for outcome in self.order.iter().filter_map(|id| self.entries.get(id)) {
            // An open intent keeps its note only in the old file, so that one stays until all are closed.
            let Some(outcome) = outcome else {
                return fs::remove_file(&beside);
            };
            let result = Written {
                command_id: outcome.command_id.clone(),
                note: Bytes::new(),
                outcome: outcome.outcome,
                reason: outcome.reason.clone(),
            };
            spool::encode(outcome.seq, &result.encode_to_vec(), &mut bytes);
            count += 1;
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&beside, &self.path)?;
        (self.file, self.written) = (file, count);
        Ok(())
    }

    fn append(&mut self, seq: u64, entry: &Written) -> io::Result<()> {
        let mut bytes = Vec::new();
        spool::encode(seq, &entry.encode_to_vec(), &mut bytes);
        let before = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&bytes) {
            self.file.set_len(before)?;
            return Err(error);
        }
        self.written += 1;
        Ok(())
    }

    /// The commands that a dead runner began and never finished, in their order, with their notes.
    pub fn open_intents(dir: &Path) -> io::Result<Vec<Written>> {
        let mut bytes = Vec::new();
        match File::open(dir.join(LEDGER_FILE)) {
            Ok(file) => file.take(MAX_LEDGER_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut open: Vec<Written> = Vec::new();
        let mut at = 0;
        // A torn tail is an intent whose sync never returned: nothing was written for it.
        while let Found::Entry {
            payload, length, ..
        } = spool::decode(&bytes[at..])
        {
            at += length;
            if let Ok(entry) = Written::decode(payload) {
                if entry.outcome() == WriteOutcome::Unspecified {
                    open.push(entry);
                } else {
                    open.retain(|intent| intent.command_id != entry.command_id);
                }
            }
        }
        Ok(open)
    }
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(id: &str, seq: u64) -> Outcome {
        Outcome {
            command_id: id.to_owned(),
            outcome: WriteOutcome::Done.into(),
            reason: String::new(),
            seq,
        }
    }

    #[test]
    fn an_intent_without_a_result_is_found_with_its_note() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::create(dir.path()).unwrap();
        ledger.intend("a", &Bytes::from_static(b"na")).unwrap();
        ledger.finish(&done("a", 4)).unwrap();
        ledger.intend("b", &Bytes::from_static(b"nb")).unwrap();
        assert_eq!(ledger.find("a").unwrap().unwrap().seq, 4);
        assert_eq!(ledger.find("b"), Some(None));
        assert_eq!(ledger.find("c"), None);
        let open = Ledger::open_intents(dir.path()).unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(
            (open[0].command_id.as_str(), &open[0].note[..]),
            ("b", &b"nb"[..])
        );
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::create(dir.path()).unwrap();
        for n in 0..9 * REMEMBERED as u64 / 2 {
            let id = format!("cmd_{n}");
            ledger.intend(&id, &Bytes::new()).unwrap();
            ledger.finish(&done(&id, n)).unwrap();
        }
        assert!(ledger.entries.len() <= REMEMBERED + 1);
        assert!(ledger.written <= 8 * REMEMBERED);
        assert!(Ledger::open_intents(dir.path()).unwrap().is_empty());
    }
}
