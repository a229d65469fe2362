//! Looking at sessions.

use std::collections::BTreeMap;

use super::index;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::failure;
use crate::app::records;
use crate::base::Result;
use crate::base::id::{AgentId, DaemonId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::domain::field;
use crate::domain::policy::is_within;
use crate::domain::session::Mode;
use crate::domain::{AgentRole, Lifecycle, Session, SessionAgent};
use crate::store::{Head, Record, Stream};

/// How many records one call looks at before it gives back a shorter page.
const SCAN_LIMIT: usize = 10_000;
/// How many records are read at once.
const CHUNK: usize = 200;

/// Which sessions are wanted.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    /// Only of this daemon.
    pub daemon_id: Option<DaemonId>,
    /// Only in these states; empty is all.
    pub lifecycles: Vec<Lifecycle>,
    /// Only with this harness; empty is all.
    pub harness: String,
    /// Only with these labels.
    pub labels: BTreeMap<String, String>,
    /// Only those that could be resumed now.
    pub resumable: bool,
    /// Only in this directory or beneath it; empty is all.
    pub cwd: String,
    /// Only those of this mode.
    pub mode: Option<Mode>,
    /// Only of this agent.
    pub agent_id: Option<AgentId>,
    /// Only of agents with this role.
    pub role: Option<AgentRole>,
}

impl SessionFilter {
    /// The marks that those that fit are among; `None` if there are none that are fewer than all.
    fn marks(&self) -> Option<Vec<String>> {
        if let Some(agent) = self.agent_id {
            return Some(vec![index::agent_prefix(agent)]);
        }
        // Those that ended are nearly all there are.
        let few = !self.lifecycles.is_empty() && !self.lifecycles.contains(&Lifecycle::Ended);
        if few {
            let prefixes = self.lifecycles.iter().copied();
            return Some(prefixes.map(index::lifecycle_prefix).collect());
        }
        self.daemon_id
            .map(|daemon| vec![index::daemon_prefix(daemon)])
    }

    fn fits(&self, session: &Session) -> bool {
        self.daemon_id.is_none_or(|id| id == session.daemon_id)
            && (self.lifecycles.is_empty() || self.lifecycles.contains(&session.lifecycle))
            && (self.harness.is_empty() || self.harness == session.harness)
            && self
                .labels
                .iter()
                .all(|(key, value)| session.labels.get(key) == Some(value))
            && (!self.resumable || session.is_resumable())
            && self.mode.is_none_or(|mode| mode == session.mode)
            && (self.cwd.is_empty() || is_within(&session.cwd, &self.cwd))
            && self.fits_agent(session.agent.as_ref())
    }
}

impl SessionFilter {
    fn fits_agent(&self, agent: Option<&SessionAgent>) -> bool {
        let id = agent.map(|agent| agent.id);
        let role = agent.map(|agent| agent.role);
        (self.agent_id.is_none() || self.agent_id == id)
            && (self.role.is_none() || self.role == role)
    }
}

/// A session with what else is shown of it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The session.
    pub session: Session,
    /// Revision of its record.
    pub revision: u64,
    /// Head of its log.
    pub head: Option<Head>,
}

impl App {
    /// A session's record with its revision, whoever asks; `None` if there is none.
    pub(crate) async fn session_record(&self, id: SessionId) -> Result<Option<(Session, u64)>> {
        records::get(self.store().as_ref(), &records::session_key(id)).await
    }

    /// One session as it is shown.
    pub async fn show_session(&self, caller: &Caller, id: SessionId) -> Result<Shown> {
        let (session, revision) = self.get_session(caller, id).await?;
        self.shown(session, revision).await
    }

    /// A session's record as it is shown.
    pub async fn shown(&self, session: Session, revision: u64) -> Result<Shown> {
        let head = self
            .store()
            .head(&Stream::session(session.id))
            .await
            .map_err(failure::from_store)?;
        Ok(Shown {
            session,
            revision,
            head,
        })
    }

    /// Sessions that the caller sees, newest first.
    pub async fn list_sessions(
        &self,
        caller: &Caller,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Shown>> {
        field::word("harness", &filter.harness)?;
        field::path("cwd", &filter.cwd)?;
        field::labels("labels", &filter.labels)?;
        let mut before: Option<SessionId> = match &page.after {
            Some(id) => Some(id.parse()?),
            None => None,
        };
        let marks = filter.marks();
        let mut items = Vec::new();
        let mut looked_at = 0;
        let mut newer: Option<SessionId> = None;
        loop {
            let (chunk, last) = self.chunk(marks.as_deref(), before).await?;
            for record in &chunk {
                let session: Session = records::decode(record)?;
                // Where one call has looked at enough, the next goes on with an earlier millisecond: the key
                // says when, and names no session that is not the caller's to see.
                if looked_at >= SCAN_LIMIT
                    && let Some(newer) = newer.map(SessionId::first_of_its_time)
                    && session.id < newer
                {
                    let next = Some(newer.to_string());
                    return Ok(Page { items, next });
                }
                looked_at += 1;
                newer = Some(session.id);
                if !caller.sees(&session) || !filter.fits(&session) {
                    continue;
                }
                // That there is another page, and where it begins, is said of what the caller sees only.
                if items.len() == page.size {
                    let next = items.last().map(|last: &Shown| last.session.id.to_string());
                    return Ok(Page { items, next });
                }
                items.push(self.shown(session, record.revision).await?);
            }
            match last {
                Some(last) => before = Some(last),
                None => return Ok(Page { items, next: None }),
            }
        }
    }

    /// The next sessions before one, newest first: of all, or of those that have one of the marks. With the
    /// last one that was looked at, unless it was the last there is.
    async fn chunk(
        &self,
        marks: Option<&[String]>,
        before: Option<SessionId>,
    ) -> Result<(Vec<Record>, Option<SessionId>)> {
        let store = self.store().as_ref();
        let Some(prefixes) = marks else {
            let before = before.map(records::session_key);
            let chunk = store
                .scan_back(records::SESSIONS, before.as_deref(), CHUNK)
                .await
                .map_err(failure::from_store)?;
            let last = match chunk.last() {
                Some(last) if chunk.len() == CHUNK => Some(records::decode::<Session>(last)?.id),
                _ => None,
            };
            return Ok((chunk, last));
        };
        let ids = index::newest(store, prefixes, before, CHUNK).await?;
        let mut chunk = Vec::with_capacity(ids.len());
        for id in &ids {
            let key = records::session_key(*id);
            // One that was deleted meanwhile is not there.
            chunk.extend(store.get(&key).await.map_err(failure::from_store)?);
        }
        let last = ids.last().filter(|_| ids.len() == CHUNK).copied();
        Ok((chunk, last))
    }
}
