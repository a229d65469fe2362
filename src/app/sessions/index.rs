//! Marks beside the records, so that nobody has to read all sessions, or a session's whole history, to find
//! a few: kept in the commit that changes what they say.
//!
//! | mark | says |
//! |---|---|
//! | `session-in/<lifecycle>/<session>` | the session is in that state |
//! | `session-of/<daemon>/<session>` | the session is, or was, that daemon's |
//! | `session-by/<agent>/<session>` | the session is of that agent |
//! | `open-input/<session>/<input>` | the input waits or is on its way |
//! | `open-prompt/<session>/<prompt>` | the prompt waits, or its answer is on its way |
//!
//! Which sessions live is also held in memory ([`Living`]), by the marks `living/…` that the store keeps: as many
//! entries as there may be living sessions, whatever the number of those that are over.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::app::{failure, records};
use crate::base::id::{AgentId, DaemonId, InputId, PromptId, SessionId};
use crate::base::{Error, Result};
use crate::domain::prompt::{AnswerDelivery, PromptState};
use crate::domain::{Input, InputState, Lifecycle, Prompt, Session};
use crate::store::{Commit, RecordOp, Store};

/// How many entries are read at once.
const PAGE: usize = 500;
/// Says that every session has its marks.
const BUILT: &str = "index/sessions";

/// What the marks of the sessions in a state begin with.
pub(super) fn lifecycle_prefix(lifecycle: Lifecycle) -> String {
    format!("session-in/{}/", lifecycle.as_str())
}

/// What the marks of a daemon's sessions begin with.
pub(super) fn daemon_prefix(daemon: DaemonId) -> String {
    format!("session-of/{daemon}/")
}

/// What the marks of an agent's sessions begin with.
pub(in crate::app) fn agent_prefix(agent: AgentId) -> String {
    format!("session-by/{agent}/")
}

/// What the marks of a session's open inputs begin with.
pub(super) fn open_input_prefix(session: SessionId) -> String {
    format!("open-input/{session}/")
}

/// What the marks of a session's open prompts begin with.
pub(in crate::app) fn open_prompt_prefix(session: SessionId) -> String {
    format!("open-prompt/{session}/")
}

fn set(key: String, to: bool) -> RecordOp {
    if to {
        records::mark(key, "")
    } else {
        records::remove(key)
    }
}

/// The changes for a session that is new.
pub(super) fn born(session: &Session) -> Vec<RecordOp> {
    let mut prefixes = vec![
        lifecycle_prefix(session.lifecycle),
        daemon_prefix(session.daemon_id),
    ];
    prefixes.extend(session.agent.as_ref().map(|agent| agent_prefix(agent.id)));
    prefixes
        .into_iter()
        .map(|prefix| set(format!("{prefix}{}", session.id), true))
        .collect()
}

/// The changes for a session that moves.
pub(super) fn moved(id: SessionId, from: Lifecycle, to: Lifecycle) -> [RecordOp; 2] {
    [
        set(format!("{}{id}", lifecycle_prefix(from)), false),
        set(format!("{}{id}", lifecycle_prefix(to)), true),
    ]
}

/// The changes for a session that is deleted.
pub(super) fn gone(session: &Session) -> Vec<RecordOp> {
    let marks = born(session).into_iter();
    marks.map(|op| records::remove(op.key)).collect()
}

/// Whether an input waits or is on its way.
pub(super) fn is_open_input(input: &Input) -> bool {
    matches!(input.state, InputState::Queued | InputState::Delivered)
}

/// Whether a prompt waits for an answer, or its answer is on its way.
pub(super) fn is_open_prompt(prompt: &Prompt) -> bool {
    prompt.state == PromptState::Pending || prompt.delivery == AnswerDelivery::Queued
}

/// The change of an input's mark.
pub(super) fn input(input: &Input) -> RecordOp {
    let key = format!("{}{}", open_input_prefix(input.session_id), input.id);
    set(key, is_open_input(input))
}

/// The change of a prompt's mark.
pub(super) fn prompt(prompt: &Prompt) -> RecordOp {
    let key = format!("{}{}", open_prompt_prefix(prompt.session_id), prompt.id);
    set(key, is_open_prompt(prompt))
}

/// The ids of all marks of a prefix, in order. Only for prefixes whose number is bounded otherwise.
pub(super) async fn ids<T>(store: &dyn Store, prefix: &str) -> Result<Vec<T>>
where
    T: std::str::FromStr<Err = Error>,
{
    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store
            .scan(prefix, after.as_deref(), PAGE)
            .await
            .map_err(failure::from_store)?;
        for mark in &page {
            ids.push(id_of(&mark.key)?);
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(ids),
        }
    }
}

/// The id that a mark ends with.
fn id_of<T: std::str::FromStr<Err = Error>>(key: &str) -> Result<T> {
    key.rsplit('/')
        .next()
        .unwrap_or_default()
        .parse()
        .map_err(Error::internal)
}

/// The newest sessions before one that any of the prefixes has a mark of, newest first, at most `limit`.
pub(in crate::app) async fn newest(
    store: &dyn Store,
    prefixes: &[String],
    before: Option<SessionId>,
    limit: usize,
) -> Result<Vec<SessionId>> {
    let mut found = BTreeSet::new();
    for prefix in prefixes {
        let before = before.map(|id| format!("{prefix}{id}"));
        let page = store
            .scan_back(prefix, before.as_deref(), limit)
            .await
            .map_err(failure::from_store)?;
        for mark in &page {
            found.insert(id_of::<SessionId>(&mark.key)?);
        }
    }
    Ok(found.into_iter().rev().take(limit).collect())
}

/// Makes the marks of a store that was written before there were any. Once; a crash in the middle begins anew.
pub(super) async fn build(store: &dyn Store) -> Result<()> {
    let built = store.get(BUILT).await.map_err(failure::from_store)?;
    if built.is_some() {
        return Ok(());
    }
    let mut after: Option<String> = None;
    loop {
        let page = store
            .scan(records::SESSIONS, after.as_deref(), PAGE)
            .await
            .map_err(failure::from_store)?;
        let mut ops = Vec::new();
        for record in &page {
            let session: Session = records::decode(record)?;
            ops.extend(born(&session));
            if session.lifecycle == Lifecycle::Ended && !session.is_lost() {
                // Nothing of it is open.
                continue;
            }
            for id in ids::<InputId>(store, &records::input_prefix(session.id)).await? {
                let key = records::input_key(session.id, id);
                if let Some((found, _)) = records::get::<Input>(store, &key).await? {
                    ops.extend(is_open_input(&found).then(|| input(&found)));
                }
            }
            let prompts = records::session_prompt_prefix(session.id);
            for id in ids::<PromptId>(store, &prompts).await? {
                let key = records::prompt_key(id);
                if let Some((found, _)) = records::get::<Prompt>(store, &key).await? {
                    ops.extend(is_open_prompt(&found).then(|| prompt(&found)));
                }
            }
        }
        let last = page.last().map(|record| record.key.clone());
        let is_done = page.len() < PAGE;
        if is_done {
            ops.push(records::mark(BUILT.to_owned(), "1"));
        }
        store
            .commit(Commit {
                ops,
                ..Commit::default()
            })
            .await
            .map_err(failure::from_store)?;
        if is_done {
            return Ok(());
        }
        after = last;
    }
}

/// The sessions that live, by daemon, as the store's marks say.
#[derive(Default)]
pub(super) struct Living {
    by_daemon: Mutex<BTreeMap<DaemonId, BTreeSet<SessionId>>>,
    /// Those that are being made and have a place already, and where if that is known. Taken after the lock on those
    /// that live.
    reserved: Mutex<BTreeMap<SessionId, Option<DaemonId>>>,
}

impl Living {
    /// Reads the marks.
    pub(super) async fn load(&self, store: &dyn Store) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = store
                .scan(records::LIVING, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            for mark in &page {
                self.set(&mark.key, true);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Notes what a commit changed, after it.
    pub(super) fn committed<'a>(&self, ops: impl IntoIterator<Item = &'a (String, bool)>) {
        for (key, is_set) in ops {
            self.set(key, *is_set);
        }
    }

    /// The part of a commit that [`Living::committed`] wants to know.
    pub(super) fn marks(ops: &[RecordOp]) -> Vec<(String, bool)> {
        ops.iter()
            .filter(|op| op.key.starts_with(records::LIVING))
            .map(|op| (op.key.clone(), op.value.is_some()))
            .collect()
    }

    fn set(&self, key: &str, is_set: bool) {
        let ids = key
            .strip_prefix(records::LIVING)
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(daemon, session)| Some((daemon.parse().ok()?, session.parse().ok()?)));
        let Some((daemon, session)) = ids else {
            tracing::error!(key, "the mark of a living session cannot be read");
            return;
        };
        let mut by_daemon = self.by_daemon.lock();
        if is_set {
            by_daemon.entry(daemon).or_default().insert(session);
            self.reserved.lock().remove(&session);
        } else if let Some(sessions) = by_daemon.get_mut(&daemon) {
            sessions.remove(&session);
            if sessions.is_empty() {
                by_daemon.remove(&daemon);
            }
        }
    }

    /// Keeps a place for a session that is being made, if those that live and those that are being made
    /// leave one. The place is the session's own when it lives.
    pub(super) fn reserve(&self, id: SessionId, most: usize) -> bool {
        let by_daemon = self.by_daemon.lock();
        let mut reserved = self.reserved.lock();
        let living: usize = by_daemon.values().map(BTreeSet::len).sum();
        if living + reserved.len() >= most {
            return false;
        }
        reserved.insert(id, None);
        true
    }

    /// Says on which daemon a session is being made, if those that live there and those that are being made
    /// leave room for it.
    pub(super) fn claim(
        &self,
        id: SessionId,
        daemon: DaemonId,
        has_room_beside: impl FnOnce(usize) -> bool,
    ) -> bool {
        let by_daemon = self.by_daemon.lock();
        let mut reserved = self.reserved.lock();
        reserved.remove(&id);
        let is_room = has_room_beside(taken(&by_daemon, &reserved, daemon));
        reserved.insert(id, is_room.then_some(daemon));
        is_room
    }

    /// How many live on a daemon or are being made there.
    pub(super) fn taken(&self, daemon: DaemonId) -> usize {
        let by_daemon = self.by_daemon.lock();
        taken(&by_daemon, &self.reserved.lock(), daemon)
    }

    /// Gives a place back, unless its session lives.
    pub(super) fn give_back(&self, id: SessionId) {
        self.reserved.lock().remove(&id);
    }

    /// How many live, of one daemon or of all.
    pub(super) fn count(&self, daemon: Option<DaemonId>) -> usize {
        let by_daemon = self.by_daemon.lock();
        match daemon {
            Some(daemon) => by_daemon.get(&daemon).map_or(0, BTreeSet::len),
            None => by_daemon.values().map(BTreeSet::len).sum(),
        }
    }

    /// Which live, of one daemon or of all.
    pub(super) fn ids(&self, daemon: Option<DaemonId>) -> Vec<SessionId> {
        let by_daemon = self.by_daemon.lock();
        by_daemon
            .iter()
            .filter(|(id, _)| daemon.is_none_or(|daemon| daemon == **id))
            .flat_map(|(_, sessions)| sessions.iter().copied())
            .collect()
    }
}

fn taken(
    by_daemon: &BTreeMap<DaemonId, BTreeSet<SessionId>>,
    reserved: &BTreeMap<SessionId, Option<DaemonId>>,
    daemon: DaemonId,
) -> usize {
    let coming = reserved.values().filter(|at| **at == Some(daemon)).count();
    by_daemon.get(&daemon).map_or(0, BTreeSet::len) + coming
}
