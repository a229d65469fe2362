//! Sessions: the text's SessionRecord, and some more.

use serde_json::{Value, json};

use super::{Shown, agent};
use crate::domain::session::{EndInfo, Lifecycle};
use crate::domain::{Session, Worktree};
use crate::gateway::views::iso;

/// The one word for where a session is.
pub const fn status(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Pending | Lifecycle::Starting => "starting",
        Lifecycle::Running => "running",
        Lifecycle::Stopping => "terminating",
        Lifecycle::Suspended => "suspended",
        Lifecycle::Ended => "terminated",
    }
}

/// What a word of [`status`] stands for; empty if it is none.
pub fn lifecycles(word: &str) -> Vec<Lifecycle> {
    Lifecycle::ALL
        .into_iter()
        .filter(|lifecycle| status(*lifecycle) == word)
        .collect()
}

/// One session. `worktree` is the one it works in, `pid` its process while it is known.
pub fn session(session: &Session, worktree: Option<&Worktree>, pid: Option<u32>) -> Value {
    let agent = session.agent.as_ref();
    let conversation = session.provider_session_id.as_str();
    let mut it = Shown::default();
    it.put("id", session.id.to_string())
        .text("claudeSessionId", conversation)
        .text("providerSessionId", conversation)
        // Null where the session is nobody's.
        .put("agentId", json!(agent.map(|agent| agent.id.to_string())))
        .put("agentRole", json!(agent.map(|agent| agent.role.as_str())))
        .some(
            "workerMode",
            agent.and_then(|agent| agent.worker_mode.map(|mode| mode.as_str())),
        )
        .some("pid", pid)
        .put("status", status(session.lifecycle))
        .text("workingDirectory", &session.cwd)
        .some("worktree", worktree.map(|it| it.place.path.as_str()))
        .put("createdAt", iso(session.created_at))
        .time("startedAt", session.started_at)
        .time("lastActivityAt", Some(session.last_event_at))
        .time("endedAt", session.ended_at)
        .some("terminationReason", session.end.as_ref().map(reason))
        .put("mode", agent::mode(session.mode))
        .put("provider", session.harness.as_str())
        .text("model", &session.model)
        .text("title", &session.title)
        .put("resumable", session.is_resumable())
        .some("resumedFrom", session.resumed_from.map(|id| id.to_string()))
        .some("resumedBy", session.resumed_by.map(|id| id.to_string()))
        .put("pendingPrompts", session.pending_prompts)
        .put("daemonId", session.daemon_id.to_string());
    it.done()
}

/// Why it is over: the word, and what there is to say about it.
fn reason(end: &EndInfo) -> String {
    match end.message.as_str() {
        "" => end.reason.as_str().to_owned(),
        message => format!("{}: {message}", end.reason.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The five words of the text, and every state has one of them.
    #[test]
    fn every_state_of_a_session_has_one_of_the_five_words() {
        let words = [
            "starting",
            "running",
            "suspended",
            "terminating",
            "terminated",
        ];
        for lifecycle in Lifecycle::ALL {
            assert!(words.contains(&status(lifecycle)), "{lifecycle:?}");
        }
        let all: usize = words.iter().map(|word| lifecycles(word).len()).sum();
        assert_eq!(all, Lifecycle::ALL.len());
        assert_eq!(lifecycles("starting").len(), 2);
        assert!(lifecycles("ended").is_empty() && lifecycles("").is_empty());
    }
}
