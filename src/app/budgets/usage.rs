//! What was spent: sums over the days of sessions, by what one wants to know.

use std::collections::BTreeMap;

use crate::app::access::Caller;
use crate::app::sight::Sight;
use crate::app::{App, failure, records};
use crate::base::id::{AgentId, SessionId, TaskId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result};
use crate::domain::spending::{Day, SessionDay, Share, Spent, UsageBy};

/// Which spending counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageFilter {
    /// From this day on.
    pub from: Option<Day>,
    /// Up to this day, which counts too.
    pub to: Option<Day>,
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only of this agent.
    pub agent: Option<AgentId>,
    /// Only of this task.
    pub task: Option<TaskId>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The day, id or model that it is by; empty for what has none.
    pub key: String,
    /// How much.
    pub spent: Spent,
}

/// What was spent.
#[derive(Clone, Debug)]
pub struct Used {
    /// The rows of a page, in the order of their keys.
    pub rows: Page<UsageRow>,
    /// The sum of all rows, also of those on other pages.
    pub total: Spent,
}

/// The rows of one page: those with the least keys. What comes after the page is not kept.
struct Rows {
    by: UsageBy,
    after: Option<String>,
    size: usize,
    rows: BTreeMap<String, Spent>,
    is_more: bool,
    total: Spent,
}

impl Rows {
    fn add(&mut self, day: &SessionDay, share: &Share) {
        self.total = self.total.plus(share.spent);
        let key = match self.by {
            UsageBy::Day => day.day.to_string(),
            UsageBy::Session => day.session.to_string(),
            UsageBy::Agent => day.agent.map(|id| id.to_string()).unwrap_or_default(),
            UsageBy::Task => share.task.map(|id| id.to_string()).unwrap_or_default(),
            UsageBy::Model => share.model.clone(),
        };
        if self.after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        let row = self.rows.entry(key).or_default();
        *row = row.plus(share.spent);
        if self.rows.len() > self.size {
            self.rows.pop_last();
            self.is_more = true;
        }
    }
}

impl App {
    /// What was spent, as far as the caller sees the sessions that did. Of a session that was deleted, only those who
    /// see everything see what it spent. NOT_FOUND: a session, agent or task that is asked for is not the caller's to
    /// see.
    pub async fn usage(
        &self,
        caller: &Caller,
        by: UsageBy,
        filter: UsageFilter,
        page: &PageRequest,
    ) -> Result<Used> {
        if caller.narrowing.is_some() {
            if let Some(id) = filter.session {
                self.require_session(caller, id).await?;
            }
            if let Some(id) = filter.agent {
                self.get_agent(caller, id).await?;
            }
            if let Some(id) = filter.task {
                self.get_task(caller, id).await?;
            }
        }
        // Keys may be empty, which no token is.
        let after = match page.after.as_deref().map(|after| after.strip_prefix('=')) {
            Some(None) => return Err(Error::invalid("page_token", "is not one of this list")),
            Some(Some(key)) => Some(key.to_owned()),
            None => None,
        };
        let mut sight = Sight::of(self, caller);
        let mut rows = Rows {
            by,
            after,
            size: page.size,
            rows: BTreeMap::new(),
            is_more: false,
            total: Spent::default(),
        };
        // The key of a day sorts before those of its sessions.
        let mut after = filter.from.map(records::usage_prefix);
        'days: loop {
            let chunk = self
                .store()
                .scan(records::USAGE, after.as_deref(), super::PAGE)
                .await
                .map_err(failure::from_store)?;
            for record in &chunk {
                let day: SessionDay = records::decode(record)?;
                if filter.to.is_some_and(|to| day.day > to) {
                    break 'days;
                }
                let is_asked_for = filter.session.is_none_or(|id| id == day.session)
                    && filter.agent.is_none_or(|id| Some(id) == day.agent);
                if !is_asked_for || !sight.sees(day.session).await? {
                    continue;
                }
                for share in &day.shares {
                    if filter.task.is_none_or(|id| Some(id) == share.task) {
                        rows.add(&day, share);
                    }
                }
            }
            match chunk.last() {
                Some(last) if chunk.len() == super::PAGE => after = Some(last.key.clone()),
                _ => break,
            }
        }
        let next = match rows.is_more {
            true => rows.rows.last_key_value().map(|(key, _)| format!("={key}")),
            false => None,
        };
        let items = rows.rows.into_iter();
        Ok(Used {
            rows: Page {
                items: items.map(|(key, spent)| UsageRow { key, spent }).collect(),
                next,
            },
            total: rows.total,
        })
    }
}
