//! What a daemon says that lies about sessions and commands that are not its own.

use baton::base::Timestamp;
use baton::base::id::{CommandId, SessionId};
use baton::domain::command::{CommandOutcome, CommandResult};
use baton::domain::content::ContentRef;
use baton::domain::link::{ContentChunk, Position, Record, Records, SessionReport, Up};
use bytes::Bytes;

use super::Rng;

/// What a liar can name.
pub struct Target {
    /// A session that is another daemon's.
    pub theirs: SessionId,
    /// A command of that session, which the liar was never given.
    pub command: Option<CommandId>,
    /// A session that is the liar's own.
    pub own: SessionId,
    /// A command of the liar's own that this link has given it and that has no result there yet.
    pub outstanding: Option<CommandId>,
}

/// A lie. Nothing of it may be taken.
pub fn frame(rng: &mut Rng, target: &Target, now: Timestamp) -> Up {
    let result = |command_id, session_id, applied| {
        Up::CommandResult(CommandResult {
            command_id,
            session_id,
            outcome: match applied {
                true => CommandOutcome::Applied,
                false => CommandOutcome::Rejected,
            },
            reason: "a lie".to_owned(),
            code: String::new(),
        })
    };
    let applied = rng.chance(500);
    match (rng.below(6), target.command, target.outstanding) {
        (0, Some(command), _) => result(command, target.theirs, applied),
        (1, Some(command), _) => result(command, target.own, applied),
        (2, _, Some(command)) => result(command, target.theirs, applied),
        (3, ..) => Up::SessionReport(SessionReport {
            session_id: target.theirs,
            origin_epoch: 1_000,
            last_origin_seq: 9,
            acked_origin_seq: 0,
            alive: true,
        }),
        (4, ..) => {
            let data = Bytes::from_static(b"somebody else's");
            Up::ContentChunk(ContentChunk {
                session_id: target.theirs,
                sha256: ContentRef::of(&data, "text/plain").sha256,
                size_bytes: data.len() as u64,
                offset: 0,
                data,
            })
        }
        _ => Up::Records(Records {
            session_id: target.theirs,
            origin_epoch: 1_000,
            previous: Position::default(),
            records: vec![Record {
                output: None,
                origin_seq: 1,
                events: Vec::new(),
                gap: None,
                time: now,
                size_bytes: 1,
            }],
        }),
    }
}
