//! Setting budgets, and showing them.

use super::{Budgets, Held, State};
use crate::app::access::Caller;
use crate::app::idempotency::{Begin, digest};
use crate::app::sight::beyond;
use crate::app::{App, failure, records};
use crate::base::id::{BudgetId, PromptId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::budget::{Allowance, Asked};
use crate::domain::spending::{Day, Spent};
use crate::domain::{Budget, BudgetPeriod, BudgetScope, BudgetState};
use crate::store::{Commit, Expect, RecordOp};

/// The most budgets that a server keeps: all of them are in memory.
pub const MAX_BUDGETS: usize = 10_000;

/// A budget with what is spent of it.
#[derive(Clone, Debug)]
pub struct ShownBudget {
    /// The budget.
    pub budget: Budget,
    /// Its record's revision.
    pub revision: u64,
    /// What was spent in its period.
    pub spent: Spent,
    /// Where that is.
    pub state: BudgetState,
    /// What its limits cannot hold.
    pub warning: Option<String>,
    /// The prompt in which a person was asked.
    pub prompt: Option<PromptId>,
    /// Whether a person stopped it.
    pub stopped: bool,
    /// When the next period begins.
    pub next_period: Option<Timestamp>,
}

impl ShownBudget {
    fn of(held: &Held, now: Timestamp) -> Self {
        let asked = held.asked.as_ref().filter(|_| held.is_asked());
        ShownBudget {
            state: held.state(),
            warning: held.budget.warning(&held.spent),
            prompt: asked.map(|asked: &Asked| asked.prompt),
            stopped: held.is_stopped(),
            next_period: held.budget.next_period(now),
            spent: held.spent,
            revision: held.revision,
            budget: held.budget.clone(),
        }
    }
}

impl State {
    fn show(&mut self, id: BudgetId, now: Timestamp) -> Option<ShownBudget> {
        self.settle(id, now);
        let held = self.held.get(&id)?;
        // One whose records are still read is not there yet.
        (held.revision > 0).then(|| ShownBudget::of(held, now))
    }
}

impl Budgets {
    fn shown(&self, id: BudgetId) -> Option<ShownBudget> {
        let now = self.inner.clock.now();
        self.inner.state.lock().show(id, now)
    }

    fn after(&self, after: Option<BudgetId>, limit: usize) -> Vec<ShownBudget> {
        use std::ops::Bound;
        let now = self.inner.clock.now();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut state = self.inner.state.lock();
        let ids: Vec<BudgetId> = state
            .held
            .range((start, Bound::Unbounded))
            .take(limit)
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter()
            .filter_map(|id| state.show(id, now))
            .collect()
    }

    /// Takes a budget up that is about to be stored, with what was spent before.
    async fn begin(&self, budget: Budget) -> Result<()> {
        let now = self.inner.clock.now();
        let id = budget.id;
        let held = Held::new(budget, 0, now);
        let prefix = match held.day {
            Some(day) => records::usage_prefix(day),
            None => records::USAGE.to_owned(),
        };
        // From here on what is booked is noted; what is read may have it already, and says so.
        let mut reading = held.clone();
        self.inner.state.lock().insert(held);
        let newest = Day::of(now);
        self.days(&prefix, |day| reading.read(day, newest)).await?;
        let mut state = self.inner.state.lock();
        if let Some(held) = state.held.get_mut(&id)
            && held.day == reading.day
        {
            held.spent = reading.spent;
            held.read = reading.read;
        }
        if let Some(held) = state.held.get_mut(&id) {
            held.is_read();
        }
        Ok(())
    }

    fn is_set(&self, of: (BudgetScope, BudgetPeriod)) -> bool {
        self.inner.state.lock().by_scope.contains_key(&of)
    }

    fn take_back(&self, id: BudgetId) {
        self.inner.state.lock().remove(id);
    }
}

/// Takes a budget back out of memory that was not stored.
struct Unstored<'a> {
    budgets: &'a Budgets,
    id: Option<BudgetId>,
}

impl Drop for Unstored<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.budgets.take_back(id);
        }
    }
}

impl App {
    /// The budgets.
    pub fn budgets(&self) -> &Budgets {
        &self.parts.budgets
    }

    /// NOT_FOUND or FORBIDDEN unless the caller sees what a budget is of.
    async fn require_scope(&self, caller: &Caller, scope: BudgetScope) -> Result<()> {
        if caller.narrowing.is_none() {
            return Ok(());
        }
        match scope {
            BudgetScope::Everything => Err(beyond(caller, "has no budget of everything")),
            BudgetScope::Session(id) => self.require_session(caller, id).await,
            BudgetScope::Agent(id) => self.get_agent(caller, id).await.map(drop),
            BudgetScope::Task(id) => self.get_task(caller, id).await.map(drop),
        }
    }

    /// NOT_FOUND unless what a budget is of is there.
    async fn is_something(&self, scope: BudgetScope) -> Result<()> {
        let store = self.store().as_ref();
        let (noun, key, id) = match scope {
            BudgetScope::Everything => return Ok(()),
            BudgetScope::Session(id) => ("session", records::session_key(id), id.to_string()),
            BudgetScope::Agent(id) => ("agent", records::agent_key(id), id.to_string()),
            BudgetScope::Task(id) => ("task", records::task_key(id), id.to_string()),
        };
        match store.get(&key).await.map_err(failure::from_store)? {
            Some(_) => Ok(()),
            None => Err(Error::not_found(noun, id)),
        }
    }

    async fn sees_scope(&self, caller: &Caller, scope: BudgetScope) -> Result<bool> {
        match self.require_scope(caller, scope).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.code(), Code::NotFound | Code::Forbidden) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets the limits of something; without limits its budget is taken away, and `None` is answered. `expected` is the
    /// revision that the caller has read.
    pub async fn set_budget(
        &self,
        caller: &Caller,
        request_id: &str,
        of: (BudgetScope, BudgetPeriod),
        limits: (Allowance, Allowance),
        expected: Option<u64>,
    ) -> Result<Option<ShownBudget>> {
        let (app, caller, request_id) = (self.clone(), caller.clone(), request_id.to_owned());
        self.to_its_end(async move {
            app.set_whole_budget(&caller, &request_id, of, limits, expected)
                .await
        })
        .await
    }

    async fn set_whole_budget(
        &self,
        caller: &Caller,
        request_id: &str,
        of: (BudgetScope, BudgetPeriod),
        limits: (Allowance, Allowance),
        expected: Option<u64>,
    ) -> Result<Option<ShownBudget>> {
        let (soft, hard) = limits;
        Budget::check(&soft, &hard)?;
        self.require_scope(caller, of.0).await?;
        // What has a budget may be gone, and its budget is still to be taken away.
        if !self.budgets().is_set(of) {
            self.is_something(of.0).await?;
        }
        let request = digest(format!("{of:?}{limits:?}{expected:?}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, "SetBudget", request_id, request)
            .await?;
        let pending = match begun {
            Begin::Repeat(answer) => {
                let id = std::str::from_utf8(&answer).map_err(Error::internal)?;
                return match id {
                    "" => Ok(None),
                    id => Ok(self.budgets().shown(id.parse()?)),
                };
            }
            Begin::Fresh(pending) => pending,
        };
        let _changing = self.budgets().inner.changing.lock().await;
        let now = self.clock().now();
        let found = {
            let state = self.budgets().inner.state.lock();
            let id = state.by_scope.get(&of);
            id.and_then(|id| state.held.get(id)).cloned()
        };
        if let Some(expected) = expected
            && found.as_ref().map(|held| held.revision) != Some(expected)
        {
            return Err(Error::new(
                Code::Stale,
                "the budget has changed since it was read; read it again",
            ));
        }
        let mark = |answer: String| pending.op(answer.as_bytes());
        if soft.is_empty() && hard.is_empty() {
            if let Some(held) = found {
                let id = held.budget.id;
                let mut ops = vec![
                    RecordOp {
                        key: records::budget_key(id),
                        expect: Expect::Revision(held.revision),
                        value: None,
                    },
                    records::remove(records::budget_scope_key(of.0, of.1)),
                    records::remove(records::budget_asked_key(id)),
                    records::remove(records::budget_answered_key(id)),
                ];
                ops.extend(mark(String::new()));
                self.commit_budget(ops).await?;
                self.budgets().take_back(id);
                self.budgets().wake();
            }
            return Ok(None);
        }
        let (budget, expect) = match &found {
            Some(held) => (
                Budget {
                    soft,
                    hard,
                    edition: held.budget.edition.saturating_add(1),
                    updated_at: now,
                    ..held.budget.clone()
                },
                Expect::Revision(held.revision),
            ),
            None => (
                Budget {
                    id: BudgetId::generate(now),
                    scope: of.0,
                    period: of.1,
                    soft,
                    hard,
                    edition: 1,
                    created_by: caller.actor(),
                    created_at: now,
                    updated_at: now,
                },
                Expect::Absent,
            ),
        };
        let id = budget.id;
        let mut unstored = Unstored {
            budgets: self.budgets(),
            id: None,
        };
        let mut ops = vec![records::put(records::budget_key(id), &budget, expect)?];
        if found.is_none() {
            if self.budgets().inner.state.lock().held.len() >= MAX_BUDGETS {
                return Err(Error::new(
                    Code::LimitExceeded,
                    format!("there are {MAX_BUDGETS} budgets already; take some away first"),
                ));
            }
            unstored.id = Some(id);
            self.budgets().begin(budget.clone()).await?;
            ops.push(RecordOp {
                expect: Expect::Absent,
                ..records::mark(records::budget_scope_key(of.0, of.1), id)
            });
        }
        ops.extend(mark(id.to_string()));
        let revision = self.commit_budget(ops).await?;
        unstored.id = None;
        {
            let mut state = self.budgets().inner.state.lock();
            if let Some(held) = state.held.get_mut(&id) {
                held.budget = budget;
                held.revision = revision;
            }
            state.settle(id, now);
        }
        self.budgets().wake();
        Ok(self.budgets().shown(id))
    }

    async fn commit_budget(&self, ops: Vec<RecordOp>) -> Result<u64> {
        let commit = Commit {
            ops,
            ..Commit::default()
        };
        let done = self.store().commit(commit).await;
        Ok(done.map_err(failure::from_store)?.revision)
    }

    /// One budget. NOT_FOUND: there is none, or it is not the caller's to see.
    pub async fn get_budget(&self, caller: &Caller, id: BudgetId) -> Result<ShownBudget> {
        let not_found = || Error::not_found("budget", id);
        let shown = self.budgets().shown(id).ok_or_else(not_found)?;
        match self.sees_scope(caller, shown.budget.scope).await? {
            true => Ok(shown),
            false => Err(not_found()),
        }
    }

    /// FORBIDDEN: what is answered about a budget decides for more than the caller sees.
    pub(in crate::app) async fn may_answer_about(
        &self,
        caller: &Caller,
        id: BudgetId,
    ) -> Result<()> {
        if caller.narrowing.is_none() {
            return Ok(());
        }
        match self.get_budget(caller, id).await {
            Err(error) if error.code() == Code::NotFound => Err(beyond(
                caller,
                "does not decide about budgets of more than it sees",
            )),
            shown => shown.map(drop),
        }
    }

    /// Budgets that the caller sees, oldest first; only those that cover a session, if one is named.
    pub async fn list_budgets(
        &self,
        caller: &Caller,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> Result<Page<ShownBudget>> {
        let covering = match session {
            Some(id) => {
                let (session, _) = self.get_session(caller, id).await?;
                let covered = self.budgets().covered(&session);
                Some(covered.scopes().collect::<Vec<_>>())
            }
            None => None,
        };
        let mut after = page.after.as_deref().map(str::parse).transpose()?;
        let mut items = Vec::new();
        loop {
            let chunk = self.budgets().after(after, super::PAGE);
            let Some(last) = chunk.last().map(|shown| shown.budget.id) else {
                return Ok(Page { items, next: None });
            };
            for shown in chunk {
                let of = (shown.budget.scope, shown.budget.period);
                let covers = covering.as_ref().is_none_or(|scopes| scopes.contains(&of));
                if !covers || !self.sees_scope(caller, shown.budget.scope).await? {
                    continue;
                }
                if items.len() == page.size {
                    let next = items
                        .last()
                        .map(|last: &ShownBudget| last.budget.id.to_string());
                    return Ok(Page { items, next });
                }
                items.push(shown);
            }
            after = Some(last);
        }
    }
}
