//! What a caller sees of what is stored. The rule is [`Caller::sees`]; here it is put to records, for all
//! capabilities: no other file of this room asks whether a caller is narrowed before it shows a session.
//!
//! A session that the caller does not see is answered like one that is not there, in the same words and
//! after the same look into the store.

use std::collections::HashMap;
use std::time::Duration;

use super::App;
use super::access::Caller;
use super::{failure, records};
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result};
use crate::domain::session::Gone;
use crate::domain::{PromptRule, Session};
use crate::store::{Commit, Expect, RecordOp};

/// How long a deleted session is remembered for those who watched it.
const GONE_KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Records looked at in one step.
const PAGE: usize = 500;

impl App {
    /// One session, with its record's revision. NOT_FOUND: there is none, or it is not the caller's to see.
    pub async fn get_session(&self, caller: &Caller, id: SessionId) -> Result<(Session, u64)> {
        self.session_record(id)
            .await?
            .filter(|(session, _)| caller.sees(session))
            .ok_or_else(|| Error::not_found("session", id))
    }

    /// NOT_FOUND if a narrowed caller does not see a session, or there is none. Another caller is not asked:
    /// what it calls next says whether there is one.
    pub(crate) async fn require_session(&self, caller: &Caller, id: SessionId) -> Result<()> {
        if caller.narrowing.is_some() {
            self.get_session(caller, id).await?;
        }
        Ok(())
    }

    /// Whether the caller sees a session. Of one that is gone, only those who see everything see what is left.
    pub(crate) async fn sees(&self, caller: &Caller, id: SessionId) -> Result<bool> {
        if caller.narrowing.is_none() {
            return Ok(true);
        }
        let found = self.session_record(id).await?;
        Ok(found.is_some_and(|(session, _)| caller.sees(&session)))
    }

    /// Whether the caller sees a rule: all that it could answer must be the caller's to see.
    pub(crate) async fn sees_rule(&self, caller: &Caller, rule: &PromptRule) -> Result<bool> {
        match (&caller.narrowing, rule.session_id) {
            (None, _) => Ok(true),
            (Some(_), Some(session)) => self.sees(caller, session).await,
            (Some(narrowing), None) => Ok(narrowing.covers(&rule.directory)),
        }
    }

    /// Ids of all sessions that a narrowed caller sees; `None` for one that sees everything.
    pub(crate) async fn sessions_seen(&self, caller: &Caller) -> Result<Option<Vec<SessionId>>> {
        let Some(narrowing) = &caller.narrowing else {
            return Ok(None);
        };
        let mut seen = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store()
                .scan(records::SESSIONS, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                let session: Session = records::decode(record)?;
                if narrowing.sees(&session) {
                    seen.push(session.id);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(Some(seen)),
            }
        }
    }

    /// How many living sessions the caller sees, of one daemon or of all.
    pub async fn count_living(&self, caller: &Caller, daemon: Option<DaemonId>) -> Result<u32> {
        let mut count = 0;
        for id in self.sessions().living(daemon) {
            count += u32::from(self.sees(caller, id).await?);
        }
        Ok(count)
    }

    /// How many prompts wait that the caller sees.
    pub async fn count_pending_prompts(&self, caller: &Caller) -> Result<u32> {
        let mut sight = Sight::of(self, caller);
        let mut count: u32 = 0;
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store()
                .scan(records::PENDING_PROMPTS, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            for mark in &page {
                let session = std::str::from_utf8(&mark.value).map_err(Error::internal)?;
                let session: SessionId = session.parse().map_err(Error::internal)?;
                count = count.saturating_add(u32::from(sight.sees(session).await?));
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(count),
            }
        }
    }

    /// Forgets the sessions that were deleted long enough ago. To be called from time to time.
    pub async fn forget_gone(&self) -> Result<usize> {
        let now = self.clock().now();
        let mut forgotten = 0;
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store()
                .scan(records::GONE, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            let mut ops = Vec::new();
            for record in &page {
                let gone: Gone = records::decode(record)?;
                if now.saturating_since(gone.at) >= GONE_KEPT_FOR {
                    ops.push(RecordOp {
                        key: record.key.clone(),
                        expect: Expect::Revision(record.revision),
                        value: None,
                    });
                }
            }
            if !ops.is_empty() {
                forgotten += ops.len();
                let commit = Commit {
                    ops,
                    ..Commit::default()
                };
                let done = self.store().commit(commit).await;
                done.map_err(failure::from_store)?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(forgotten),
            }
        }
    }
}

/// What a caller sees, remembered while one list is made: it holds one answer a session, and each session
/// is looked up once.
pub(crate) struct Sight<'a> {
    app: &'a App,
    caller: &'a Caller,
    known: HashMap<SessionId, bool>,
}

impl<'a> Sight<'a> {
    /// Nothing looked up yet.
    pub(crate) fn of(app: &'a App, caller: &'a Caller) -> Self {
        Sight {
            app,
            caller,
            known: HashMap::new(),
        }
    }

    /// Whether the caller sees a session.
    pub(crate) async fn sees(&mut self, id: SessionId) -> Result<bool> {
        if self.caller.narrowing.is_none() {
            return Ok(true);
        }
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let sees = self.app.sees(self.caller, id).await?;
        self.known.insert(id, sees);
        Ok(sees)
    }
}

/// What a narrowed caller is told who asks for more than its projects; `what` reads after "and".
pub(crate) fn beyond(caller: &Caller, what: &str) -> Error {
    let projects: Vec<&str> = caller
        .narrowing
        .iter()
        .flat_map(|narrowing| &narrowing.projects)
        .map(|project| project.directory.as_str())
        .collect();
    let allowed = match projects.as_slice() {
        [] => "it has no projects, only sessions".to_owned(),
        projects => format!("its projects are {}", projects.join(", ")),
    };
    Error::new(
        Code::Forbidden,
        format!("this token is narrowed and {what}; {allowed}"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::access::Access;
    use crate::app::search::Search;
    use crate::base::clock::ManualClock;
    use crate::base::{Clock as _, SystemClock, Timestamp};

    #[tokio::test]
    async fn a_deleted_session_is_remembered_for_a_day() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
        let store: crate::store::SharedStore = crate::store::memory::shared(SystemClock::shared());
        let app = App::new(
            store.clone(),
            clock.clone(),
            Access::new(store.clone(), clock.clone()),
            crate::relay::Options::default(),
            Search::in_memory().unwrap(),
            crate::app::sessions::Options::default(),
            Default::default(),
        )
        .await
        .unwrap();
        for bits in 0..3 {
            let gone = Gone {
                id: SessionId::from_bits(bits),
                daemon_id: DaemonId::from_bits(1),
                cwd: "/srv".to_owned(),
                ancestors: Vec::new(),
                prompts: Vec::new(),
                at: clock.now(),
            };
            let op = records::put(records::gone_key(gone.id), &gone, Expect::Absent).unwrap();
            let commit = Commit {
                ops: vec![op],
                ..Commit::default()
            };
            store.commit(commit).await.unwrap();
            clock.advance(Duration::from_secs(3_600));
        }
        // Three hours after the first.
        assert_eq!(app.forget_gone().await.unwrap(), 0);
        clock.advance(Duration::from_secs(22 * 3_600));
        assert_eq!(app.forget_gone().await.unwrap(), 2);
        let left = store.scan(records::GONE, None, 10).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].key, records::gone_key(SessionId::from_bits(2)));
    }
}
