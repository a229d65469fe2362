//! The index's file.

use std::path::Path;

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, params, params_from_iter, types::Value,
};

use super::{Hit, Query};
use crate::base::Timestamp;
use crate::base::id::SessionId;
use crate::domain::EventKind;

/// Grows when what is indexed changes; a file of another version is made anew.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE progress (session TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE docs (
  id INTEGER PRIMARY KEY, session TEXT NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,
  kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (session, seq)
);
CREATE VIRTUAL TABLE texts USING fts5(text, content='docs', content_rowid='id');
CREATE TRIGGER docs_insert AFTER INSERT ON docs BEGIN
  INSERT INTO texts(rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER docs_delete AFTER DELETE ON docs BEGIN
  INSERT INTO texts(texts, rowid, text) VALUES ('delete', old.id, old.text);
END;
";

/// One event's text, to be indexed.
pub(super) struct Doc {
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) kind: EventKind,
    pub(super) text: String,
}

/// The index.
pub(super) struct Index {
    connection: Connection,
}

/// Makes the file one that only its owner may read: transcripts are in it. The files that SQLite keeps beside
/// it get its mode; those of an earlier time are closed as well.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::metadata(&name) {
            Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
                std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600))?;
            }
            _ => {}
        }
    }
    Ok(())
}

impl Index {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        match Self::try_open(path) {
            Ok(index) => Ok(index),
            Err(problem) => {
                // It can be built anew from the logs, so a file that cannot be used is no loss.
                tracing::warn!(%problem, "the search index cannot be used and is built anew");
                for suffix in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    let _ = std::fs::remove_file(name);
                }
                Self::try_open(path)
            }
        }
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        if let Err(problem) = private(path) {
            // SQLite says in a moment what is wrong with the file, if it cannot be used.
            tracing::warn!(%problem, "the search index could not be closed to other users");
        }
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Self::prepare(connection)
    }

    /// A further connection to an index that is open, which only reads. What is being written holds it up for no moment,
    /// and it sees nothing of that before it is whole.
    pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        Ok(Index { connection })
    }

    pub(super) fn in_memory() -> rusqlite::Result<Self> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> rusqlite::Result<Self> {
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            VERSION => {}
            0 => {
                let transaction = connection.transaction()?;
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
            }
            _ => return Err(rusqlite::Error::InvalidQuery),
        }
        Ok(Index { connection })
    }

    /// The store's revision up to which every session is indexed.
    pub(super) fn through(&self) -> rusqlite::Result<u64> {
        let value: Option<i64> = self
            .connection
            .query_row(
                "SELECT value FROM state WHERE name = 'revision'",
                [],
                |row| row.get(0),
            )
            .optional()?;
        Ok(value.unwrap_or(0).unsigned_abs())
    }

    pub(super) fn set_through(&mut self, revision: u64) -> rusqlite::Result<()> {
        self.connection.execute(
            "INSERT INTO state VALUES ('revision', ?1) ON CONFLICT DO UPDATE SET value = ?1",
            params![revision as i64],
        )?;
        Ok(())
    }

    /// Empties the index: the store is older than it.
    pub(super) fn clear(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch("DELETE FROM docs; DELETE FROM progress; DELETE FROM state;")?;
        transaction.commit()
    }

    /// How far a session is indexed.
    pub(super) fn progress(&self, session: &str) -> rusqlite::Result<u64> {
        let seq: Option<i64> = self
            .connection
            .query_row(
                "SELECT seq FROM progress WHERE session = ?1",
                params![session],
                |row| row.get(0),
            )
            .optional()?;
        Ok(seq.unwrap_or(0).unsigned_abs())
    }

    /// Adds texts of a session and says how far it is indexed now, as one.
    pub(super) fn add(
        &mut self,
        session: &str,
        docs: &[Doc],
        through: u64,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT OR IGNORE INTO docs (session, seq, time, kind, text) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for doc in docs {
                insert.execute(params![
                    session,
                    doc.seq as i64,
                    doc.time.as_micros(),
                    doc.kind.as_str(),
                    doc.text
                ])?;
            }
            transaction.execute(
                "INSERT INTO progress VALUES (?1, ?2) ON CONFLICT DO UPDATE SET seq = ?2",
                params![session, through as i64],
            )?;
        }
        transaction.commit()
    }

    /// Forgets what retention removed of a session; everything, if it was deleted.
    pub(super) fn forget(&mut self, session: &str, before: Option<u64>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        match before {
            Some(seq) => {
                transaction.execute(
                    "DELETE FROM docs WHERE session = ?1 AND seq < ?2",
                    params![session, seq as i64],
                )?;
            }
            None => {
                transaction.execute("DELETE FROM docs WHERE session = ?1", params![session])?;
                transaction.execute("DELETE FROM progress WHERE session = ?1", params![session])?;
            }
        }
        transaction.commit()
    }

    /// The row of an event, or of the next one of its session if retention has removed it.
    pub(super) fn row_of(&self, session: SessionId, seq: u64) -> rusqlite::Result<Option<i64>> {
        self.connection.query_row(
            "SELECT min(id) FROM docs WHERE session = ?1 AND seq >= ?2",
            params![session.to_string(), i64::try_from(seq).unwrap_or(i64::MAX)],
            |row| row.get(0),
        )
    }

    /// What matches, newest first; `among` these sessions only, if given.
    pub(super) fn find(
        &self,
        query: &Query,
        among: Option<&[SessionId]>,
        kinds: &[EventKind],
        before: Option<i64>,
        limit: usize,
    ) -> rusqlite::Result<Vec<Hit>> {
        let mut sql = String::from(
            "SELECT docs.id, docs.session, docs.seq, docs.time, docs.kind, \
             snippet(texts, 0, '\u{2039}', '\u{203a}', '…', 24) \
             FROM texts JOIN docs ON docs.id = texts.rowid WHERE texts MATCH ?1",
        );
        let mut values = vec![Value::from(query.expression().to_owned())];
        if let Some(among) = among {
            // One value, however many sessions: the number of a statement's values is bounded.
            let ids: Vec<String> = among.iter().map(SessionId::to_string).collect();
            values.push(Value::from(serde_json::json!(ids).to_string()));
            sql.push_str(&format!(
                " AND docs.session IN (SELECT value FROM json_each(?{}))",
                values.len()
            ));
        }
        if let Some(before) = before {
            values.push(Value::from(before));
            sql.push_str(&format!(" AND texts.rowid < ?{}", values.len()));
        }
        if !kinds.is_empty() {
            let places: Vec<String> = kinds
                .iter()
                .map(|kind| {
                    values.push(Value::from(kind.as_str().to_owned()));
                    format!("?{}", values.len())
                })
                .collect();
            sql.push_str(&format!(" AND docs.kind IN ({})", places.join(", ")));
        }
        sql.push_str(&format!(" ORDER BY texts.rowid DESC LIMIT {limit}"));
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut hits = Vec::new();
        while let Some(row) = rows.next()? {
            let session: String = row.get(1)?;
            let kind: String = row.get(4)?;
            let (Ok(session_id), Some(kind)) = (
                session.parse(),
                EventKind::ALL.iter().find(|known| known.as_str() == kind),
            ) else {
                continue;
            };
            hits.push(Hit {
                session_id,
                seq: row.get::<_, i64>(2)?.unsigned_abs(),
                time: Timestamp::from_micros(row.get(3)?),
                kind: *kind,
                snippet: row.get(5)?,
            });
        }
        Ok(hits)
    }

    /// A further text of the only session, in a transaction that is still open.
    #[cfg(test)]
    pub(super) fn writing(&mut self, doc: &Doc) -> rusqlite::Result<rusqlite::Transaction<'_>> {
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO docs (session, seq, time, kind, text) SELECT session, ?1, time, kind, ?2 FROM docs",
            params![doc.seq as i64, doc.text],
        )?;
        Ok(transaction)
    }
}
