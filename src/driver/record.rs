//! What a driver reads.

use bytes::Bytes;

use crate::base::Timestamp;
use crate::base::id::{InputId, PromptId, SessionId, TurnId};

/// One raw thing that a runner recorded, as a driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number in the spool, from 1 without gaps.
    pub seq: u64,
    /// When the runner read it.
    pub time: Timestamp,
    /// What it is.
    pub body: RecordBody,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// The harness runs.
    Spawned {
        /// Its process id.
        pid: u32,
    },
    /// A line of standard output without its end, or a part of one.
    Stdout {
        /// The bytes.
        data: Bytes,
        /// Whether the line goes on in the next stdout record.
        continues: bool,
    },
    /// A line of standard error, or a part of one.
    Stderr {
        /// The bytes.
        data: Bytes,
        /// Whether the line goes on in the next stderr record.
        continues: bool,
    },
    /// Something that a terminal was to show; it goes up beside the log.
    Shown,
    /// Something was written to the harness's standard input, or a stop was begun.
    Written {
        /// The id it was written under: a command's, or one that a driver made.
        id: String,
        /// The note that came with it.
        note: Bytes,
        /// How it ended.
        outcome: WriteOutcome,
        /// Why it failed.
        reason: String,
    },
    /// The harness ended.
    Exited {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal that ended it; 0 if none did.
        signal: i32,
        /// The step of a stop that ended it: none, polite, close, term, kill.
        step: String,
        /// A sentence for people, when it could not even start or its runner died.
        message: String,
    },
    /// Records are missing.
    Missing {
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
        /// Why.
        reason: String,
    },
}

/// How a write to a harness ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// All bytes are in the pipe.
    Done,
    /// None are.
    Failed,
    /// Some may be: a crash fell between the intent and the result.
    Unknown,
}

/// Where a driver stands while it interprets: the source of its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The session.
    pub session_id: SessionId,
    /// Identifies the spool.
    pub origin_epoch: u64,
}

impl Place {
    /// The id of the `n`th prompt of a record: the same for ever.
    pub fn prompt_id(&self, record: &Record, n: u32) -> PromptId {
        PromptId::new(record.time, self.entropy(record, n, b"prompt"))
    }

    /// The id of the `n`th turn of a record.
    pub fn turn_id(&self, record: &Record, n: u32) -> TurnId {
        TurnId::new(record.time, self.entropy(record, n, b"turn"))
    }

    /// The id of the `n`th input that a record brought by itself.
    pub fn input_id(&self, record: &Record, n: u32) -> InputId {
        InputId::new(record.time, self.entropy(record, n, b"input"))
    }

    fn entropy(&self, record: &Record, n: u32, kind: &[u8]) -> u128 {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new()
            .chain_update(self.session_id.bits().to_be_bytes())
            .chain_update(self.origin_epoch.to_be_bytes())
            .chain_update(record.seq.to_be_bytes())
            .chain_update(n.to_be_bytes())
            .chain_update(kind)
            .finalize();
        let mut bits = [0; 16];
        bits.copy_from_slice(&digest[..16]);
        u128::from_be_bytes(bits)
    }
}
