//! How a session ended, said from how its process did.

use serde::{Deserialize, Serialize};

use crate::domain::session::{EndInfo, EndReason};
use crate::wire::runner_v1::Exited;

/// The step of an [`Exited`] that the daemon wrote because the runner had died.
pub const STEP_LOST: &str = "lost";
/// How much of standard error an end keeps, in bytes.
pub const STDERR_TAIL_BYTES: usize = 4 * 1024;

/// What travels in the note of a stop, so that whoever sees the end knows why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopNote {
    /// Why, as the session will say.
    pub reason: EndReason,
    /// A sentence for people.
    pub message: String,
    /// Whether it is to be resumed later.
    pub suspend: bool,
    /// The driver's own note.
    pub driver: Vec<u8>,
}

/// Tells a stop's note from a driver's.
const STOP_PREFIX: &[u8] = b"baton-stop:";

impl StopNote {
    /// The note as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = STOP_PREFIX.to_vec();
        bytes.extend(serde_json::to_vec(self).unwrap_or_default());
        bytes
    }

    /// The note of a stop; `None` if it is another's.
    pub fn decode(note: &[u8]) -> Option<Self> {
        serde_json::from_slice(note.strip_prefix(STOP_PREFIX)?).ok()
    }
}

/// The end of a session whose process ended like `exited`. A stop that was asked for says why; without one
/// the process speaks for itself.
pub fn end_info(exited: &Exited, stop: Option<&StopNote>, stderr_tail: &str) -> EndInfo {
    let said = exited.message.clone();
    let step = exited.step.as_str();
    let by_runner = match stop {
        // It had been asked to leave, and how it left is its own doing until it is sent a signal.
        Some(_) => matches!(step, "term" | "kill"),
        // The runner ended it by itself: nobody came, or the machine goes down.
        None => !matches!(step, "none" | ""),
    };
    let (reason, message) = match exited.code {
        _ if step == STEP_LOST => (EndReason::Crashed, said),
        _ if by_runner => (EndReason::Stopped, said),
        _ if exited.signal != 0 => (
            EndReason::Crashed,
            or(said, || {
                format!("the process was ended by signal {}", exited.signal)
            }),
        ),
        Some(0) => (EndReason::Completed, said),
        Some(code) => (
            EndReason::Failed,
            or(said, || format!("the process ended with exit code {code}")),
        ),
        None => (EndReason::Failed, said),
    };
    let end = EndInfo {
        reason,
        exit_code: exited.code,
        signal: exited.signal,
        message,
        stderr_tail: stderr_tail.to_owned(),
    };
    match stop {
        Some(stop) => end.when_wanted(stop.reason, &stop.message),
        None => end,
    }
}

fn or(text: String, other: impl FnOnce() -> String) -> String {
    if text.is_empty() { other() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: Option<i32>, signal: i32, step: &str) -> Exited {
        Exited {
            code,
            signal,
            step: step.to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn every_way_to_end_has_its_reason() {
        let stop = StopNote {
            reason: EndReason::Limit,
            message: "too long".to_owned(),
            suspend: true,
            driver: vec![1],
        };
        assert_eq!(StopNote::decode(&stop.encode()), Some(stop.clone()));
        assert_eq!(StopNote::decode(b"{}"), None);
        let done = StopNote {
            reason: EndReason::Completed,
            ..stop.clone()
        };
        for (exited, stop, reason) in [
            (exited(Some(0), 0, "none"), None, EndReason::Completed),
            (exited(Some(3), 0, "none"), None, EndReason::Failed),
            (exited(None, 0, ""), None, EndReason::Failed),
            (exited(None, 11, "none"), None, EndReason::Crashed),
            (exited(None, 0, STEP_LOST), None, EndReason::Crashed),
            (exited(None, 15, "term"), None, EndReason::Stopped),
            (exited(None, 9, "kill"), Some(&stop), EndReason::Limit),
            (exited(Some(0), 0, "close"), Some(&stop), EndReason::Limit),
            (exited(Some(3), 0, "none"), Some(&stop), EndReason::Limit),
            // A one-shot session that was told that it is done.
            (
                exited(Some(0), 0, "polite"),
                Some(&done),
                EndReason::Completed,
            ),
            (exited(Some(3), 0, "polite"), Some(&done), EndReason::Failed),
            (exited(None, 11, "close"), Some(&done), EndReason::Crashed),
            (exited(None, 15, "term"), Some(&done), EndReason::Completed),
            (
                exited(Some(143), 0, "term"),
                Some(&done),
                EndReason::Completed,
            ),
        ] {
            assert_eq!(end_info(&exited, stop, "").reason, reason, "{exited:?}");
        }
    }
}
