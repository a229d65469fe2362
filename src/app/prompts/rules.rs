//! Rules that answer prompts: kept in the store, held in memory for the moment a prompt comes.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::app::failure;
use crate::app::records;
use crate::base::id::{RuleId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Error, Result, SharedClock};
use crate::domain::policy::Pattern;
use crate::domain::{Actor, PromptRule, Session};
use crate::store::{Commit, Expect, SharedStore};

/// The most rules a server keeps: every prompt is held against all of them.
pub const MAX_RULES: usize = 1_000;

/// A rule to be made.
#[derive(Clone, Debug)]
pub struct NewRule {
    /// What it matches.
    pub pattern: String,
    /// Whether it allows.
    pub allow: bool,
    /// Only in this session.
    pub session_id: Option<SessionId>,
    /// Only beneath this directory; empty means everywhere.
    pub directory: String,
}

/// All rules.
pub struct Rules {
    store: SharedStore,
    clock: SharedClock,
    current: RwLock<Arc<Vec<PromptRule>>>,
}

impl Rules {
    /// Reads the rules from the store.
    pub async fn load(store: SharedStore, clock: SharedClock) -> Result<Self> {
        let mut rules = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = store
                .scan(records::RULES, after.as_deref(), 500)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                rules.push(records::decode::<PromptRule>(record)?);
            }
            match page.last() {
                Some(last) if page.len() == 500 => after = Some(last.key.clone()),
                _ => break,
            }
        }
        Ok(Rules {
            store,
            clock,
            current: RwLock::new(Arc::new(rules)),
        })
    }

    /// The rules as they are now.
    pub fn current(&self) -> Arc<Vec<PromptRule>> {
        self.current.read().clone()
    }

    /// Checks a rule before it is made.
    pub fn check(&self, rule: &NewRule) -> Result<()> {
        Pattern::parse(&rule.pattern)?;
        if !rule.directory.is_empty() && !rule.directory.starts_with('/') {
            return Err(Error::invalid("directory", "must be an absolute path"));
        }
        if self.current.read().len() >= MAX_RULES {
            return Err(Error::new(
                crate::base::Code::LimitExceeded,
                format!("there are {MAX_RULES} rules already; delete some first"),
            ));
        }
        Ok(())
    }

    /// The rule with its id, not stored yet.
    pub fn prepare(&self, rule: NewRule, by: &Actor) -> PromptRule {
        let now = self.clock.now();
        PromptRule {
            id: RuleId::generate(now),
            pattern: rule.pattern,
            allow: rule.allow,
            session_id: rule.session_id,
            directory: rule.directory,
            created_by: by.clone(),
            created_at: now,
        }
    }

    /// Takes a rule into use that was stored.
    pub fn stored(&self, rule: PromptRule) {
        let mut current = self.current.write();
        if current.iter().any(|known| known.id == rule.id) {
            return;
        }
        let mut rules = current.as_ref().clone();
        rules.push(rule);
        *current = Arc::new(rules);
    }

    /// Makes a rule; `also` is stored with it.
    pub async fn create(
        &self,
        rule: NewRule,
        by: &Actor,
        also: impl FnOnce(RuleId) -> Option<crate::store::RecordOp>,
    ) -> Result<PromptRule> {
        self.check(&rule)?;
        if let Some(session) = rule.session_id {
            records::get::<Session>(self.store.as_ref(), &records::session_key(session))
                .await?
                .ok_or_else(|| Error::not_found("session", session))?;
        }
        let rule = self.prepare(rule, by);
        let mut ops: Vec<_> = also(rule.id).into_iter().collect();
        ops.push(records::put(
            records::rule_key(rule.id),
            &rule,
            Expect::Absent,
        )?);
        self.store
            .commit(Commit {
                ops,
                ..Commit::default()
            })
            .await
            .map_err(failure::from_store)?;
        self.stored(rule.clone());
        Ok(rule)
    }

    /// One rule.
    pub fn get(&self, id: RuleId) -> Option<PromptRule> {
        self.current
            .read()
            .iter()
            .find(|rule| rule.id == id)
            .cloned()
    }

    /// Deletes a rule.
    pub async fn delete(&self, id: RuleId) -> Result<()> {
        if self.get(id).is_none() {
            return Err(Error::not_found("rule", id));
        }
        self.store
            .commit(Commit {
                ops: vec![records::remove(records::rule_key(id))],
                ..Commit::default()
            })
            .await
            .map_err(failure::from_store)?;
        let mut current = self.current.write();
        let rules = current
            .iter()
            .filter(|rule| rule.id != id)
            .cloned()
            .collect();
        *current = Arc::new(rules);
        Ok(())
    }
}

/// A page of rules, oldest first; of one session only, if asked for.
pub(super) fn list(
    rules: &[PromptRule],
    session: Option<SessionId>,
    page: &PageRequest,
) -> Page<PromptRule> {
    let mut matching = rules
        .iter()
        .filter(|rule| session.is_none() || rule.session_id == session)
        .filter(|rule| {
            page.after
                .as_deref()
                .is_none_or(|after| rule.id.to_string().as_str() > after)
        });
    let items: Vec<PromptRule> = matching.by_ref().take(page.size).cloned().collect();
    let next = matching
        .next()
        .and(items.last())
        .map(|last| last.id.to_string());
    Page { items, next }
}
