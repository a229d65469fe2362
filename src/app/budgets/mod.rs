//! Budgets: what was spent, what may be, and what follows when it is.
//!
//! **Spending** is booked in the step of the session that reports it, and stored in the commit of its events, in a
//! record of the session's day: a crash loses both or neither, and what comes again is dropped with its events before
//! it gets here. These records stay when their session is deleted.
//!
//! **What is spent of each budget** is in memory, and nothing else is: made from those records at the start, or when the
//! budget is made, kept up with every commit. A number in each record of a day says which bookings were read already, so
//! that a booking that is committed while they are read counts once.
//!
//! **What follows** is decided in two places by one rule, `Budgets::spent_hard`: in a session's own step, so that
//! nothing is given to an agent that its own turn has left nothing for; and by one job, the keeper, for the other
//! sessions of the budget, for the question to a person, and when a day ends.

mod account;
mod keep;
mod keeper;
mod usage;

pub(in crate::app) use account::{
    answered, book, check, ended, lift, not_spent, started, turn_began, unheard,
};
pub use keep::{MAX_BUDGETS, ShownBudget};
pub use keeper::run as run_keeper;
pub use usage::{UsageFilter, UsageRow, Used};

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::app::tasks::Tasks;
use crate::app::{App, failure, records};
use crate::base::id::{AgentId, BudgetId, SessionId, TaskId};
use crate::base::{Result, SharedClock, Timestamp};
use crate::domain::budget::{Answered, Asked, Reached, SoftVerdict};
use crate::domain::price::Prices;
use crate::domain::spending::{Booking, Day, SessionDay, Spent};
use crate::domain::{Budget, BudgetPeriod, BudgetScope, BudgetState, Session};
use crate::store::SharedStore;

/// Records read at once.
const PAGE: usize = 500;

/// What a budget may cover: a session with its agent and its task, or what is about to be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// The session.
    pub session: Option<SessionId>,
    /// Its agent.
    pub agent: Option<AgentId>,
    /// Its task.
    pub task: Option<TaskId>,
}

impl Covered {
    /// What budgets can be of that cover it.
    fn scopes(self) -> impl Iterator<Item = (BudgetScope, BudgetPeriod)> {
        let scopes = [
            Some(BudgetScope::Everything),
            self.agent.map(BudgetScope::Agent),
            self.task.map(BudgetScope::Task),
            self.session.map(BudgetScope::Session),
        ];
        scopes.into_iter().flatten().flat_map(|scope| {
            [BudgetPeriod::Total, BudgetPeriod::Day].map(|period| (scope, period))
        })
    }

    fn of(booking: &Booking) -> Self {
        Covered {
            session: Some(booking.session),
            agent: booking.agent,
            task: booking.task,
        }
    }
}

/// All budgets. Cheap to clone.
#[derive(Clone)]
pub struct Budgets {
    inner: Arc<Inner>,
}

struct Inner {
    store: SharedStore,
    clock: SharedClock,
    prices: Arc<Prices>,
    tasks: Tasks,
    state: Mutex<State>,
    /// Held while a budget is set or raised: one change after another.
    changing: tokio::sync::Mutex<()>,
    /// Wakes the keeper.
    wake: Notify,
}

#[derive(Default)]
struct State {
    held: BTreeMap<BudgetId, Held>,
    by_scope: HashMap<(BudgetScope, BudgetPeriod), BudgetId>,
    /// Whether there may be sessions that are to be parked, or to go on.
    sweep: bool,
}

/// A budget with what is spent of it.
#[derive(Clone)]
struct Held {
    budget: Budget,
    revision: u64,
    spent: Spent,
    /// The day that `spent` is of; `None` for one that counts for good.
    day: Option<Day>,
    asked: Option<Asked>,
    answered: Option<Answered>,
    /// The session that spent last.
    last: Option<SessionId>,
    /// What was booked while the records are read; `None` when they have been.
    coming: Option<Vec<Booking>>,
    /// How many bookings of a session's day were read from its record. What is booked later has higher numbers, so
    /// this is of use for as long as a commit may take to get here, and forgotten after a day.
    read: HashMap<(SessionId, Day), u64>,
    /// The day on which it was read.
    read_on: Day,
    /// Whether it was spent when that was looked at last.
    was_hard: bool,
}

impl Held {
    fn new(budget: Budget, revision: u64, now: Timestamp) -> Self {
        Held {
            day: budget.period.day(now),
            budget,
            revision,
            spent: Spent::default(),
            asked: None,
            answered: None,
            last: None,
            coming: Some(Vec::new()),
            read: HashMap::new(),
            read_on: Day::of(now),
            was_hard: false,
        }
    }

    /// Begins a new day if there is one. A clock that was set back does not.
    fn roll(&mut self, now: Timestamp) {
        let day = self.budget.period.day(now);
        if day > self.day {
            self.day = day;
            self.spent = Spent::default();
        }
        if !self.read.is_empty() && Day::of(now) > self.read_on.next() {
            self.read = HashMap::new();
        }
    }

    fn counts(&self, day: Day) -> bool {
        self.day.is_none_or(|own| own == day)
    }

    /// Takes what a record says.
    fn read(&mut self, day: &SessionDay, newest: Day) {
        if !self.counts(day.day) {
            return;
        }
        let shares = day.shares.iter().filter(|share| {
            let covered = Covered {
                session: Some(day.session),
                agent: day.agent,
                task: share.task,
            };
            covered
                .scopes()
                .any(|of| of == (self.budget.scope, self.budget.period))
        });
        self.spent = shares.fold(self.spent, |sum, share| sum.plus(share.spent));
        // Only what may still be booked in can be booked while it is read.
        let may_be_covered = match self.budget.scope {
            BudgetScope::Session(id) => id == day.session,
            BudgetScope::Agent(id) => Some(id) == day.agent,
            BudgetScope::Everything | BudgetScope::Task(_) => true,
        };
        if may_be_covered && day.day.next() >= newest {
            self.read.insert((day.session, day.day), day.bookings);
        }
    }

    fn booked(&mut self, booking: &Booking) {
        if let Some(coming) = &mut self.coming {
            coming.push(booking.clone());
            return;
        }
        let read = self.read.get(&(booking.session, booking.day));
        if !self.counts(booking.day) || read.is_some_and(|read| *read >= booking.number) {
            return;
        }
        self.spent = self.spent.less(booking.less).plus(booking.plus);
        self.last = Some(booking.session);
    }

    /// All records are read: what was booked meanwhile is added.
    fn is_read(&mut self) {
        for booking in self.coming.take().unwrap_or_default() {
            self.booked(&booking);
        }
    }

    fn is_stopped(&self) -> bool {
        let own = self.budget.edition;
        self.answered.as_ref().is_some_and(|answered| {
            answered.verdict == SoftVerdict::Stop
                && answered.about.edition == own
                && answered.about.day == self.day
        })
    }

    /// Whether it is stored, and what was spent of it is known.
    fn is_kept(&self) -> bool {
        self.coming.is_none() && self.revision > 0
    }

    fn hard(&self, spent: &Spent) -> Option<Reached> {
        match self.is_kept() {
            false => None,
            true => self.budget.hard_reached(spent, self.is_stopped()),
        }
    }

    fn state(&self) -> BudgetState {
        self.budget.state(&self.spent, self.is_stopped())
    }

    /// Whether a person has been asked about its limits in this period.
    fn is_asked(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| {
            asked.about.edition == self.budget.edition && asked.about.day == self.day
        })
    }

    fn wants_asking(&self) -> bool {
        self.is_kept() && !self.is_asked() && self.state() == BudgetState::Soft
    }
}

impl State {
    fn covering(&self, covered: Covered) -> impl Iterator<Item = BudgetId> {
        covered
            .scopes()
            .filter_map(|of| self.by_scope.get(&of).copied())
    }

    fn insert(&mut self, held: Held) {
        let of = (held.budget.scope, held.budget.period);
        self.by_scope.insert(of, held.budget.id);
        self.held.insert(held.budget.id, held);
    }

    fn remove(&mut self, id: BudgetId) {
        if let Some(held) = self.held.remove(&id) {
            self.by_scope
                .remove(&(held.budget.scope, held.budget.period));
            self.sweep |= held.was_hard;
        }
    }

    /// Notes whether a budget is spent now; whether there is something for the keeper.
    fn settle(&mut self, id: BudgetId, now: Timestamp) -> bool {
        let Some(held) = self.held.get_mut(&id) else {
            return false;
        };
        held.roll(now);
        let is_hard = held.hard(&held.spent).is_some();
        if is_hard != held.was_hard {
            held.was_hard = is_hard;
            self.sweep = true;
        }
        self.sweep || held.wants_asking()
    }
}

impl Budgets {
    /// Reads budgets and what was spent of them from the store.
    pub(in crate::app) async fn load(
        store: SharedStore,
        clock: SharedClock,
        prices: Arc<Prices>,
        tasks: Tasks,
    ) -> Result<Self> {
        let budgets = Budgets {
            inner: Arc::new(Inner {
                store,
                clock,
                prices,
                tasks,
                state: Mutex::default(),
                changing: tokio::sync::Mutex::default(),
                wake: Notify::new(),
            }),
        };
        let now = budgets.inner.clock.now();
        let store = budgets.inner.store.as_ref();
        let mut after: Option<String> = None;
        let mut state = State::default();
        loop {
            let page = store
                .scan(records::BUDGETS, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                let budget: Budget = records::decode(record)?;
                let (asked, answered) = (
                    records::get::<Asked>(store, &records::budget_asked_key(budget.id)).await?,
                    records::get::<Answered>(store, &records::budget_answered_key(budget.id))
                        .await?,
                );
                let mut held = Held::new(budget, record.revision, now);
                held.asked = asked.map(|(asked, _)| asked);
                // A raise that was not done yet is done by the keeper, which looks for the answer.
                held.answered = answered
                    .map(|(answered, _)| answered)
                    .filter(|answered| answered.verdict != SoftVerdict::Raise);
                state.insert(held);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => break,
            }
        }
        if !state.held.is_empty() {
            let newest = Day::of(now);
            budgets
                .days(records::USAGE, |day| {
                    for id in state.touched(day) {
                        if let Some(held) = state.held.get_mut(&id) {
                            held.read(day, newest);
                        }
                    }
                })
                .await?;
        }
        for held in state.held.values_mut() {
            held.is_read();
            // Nothing is booked yet.
            held.read = HashMap::new();
        }
        // The sessions are looked at once, whatever was the case when the last server stopped.
        state.sweep = true;
        *budgets.inner.state.lock() = state;
        Ok(budgets)
    }

    /// Goes through the days of sessions whose keys begin with `prefix`.
    async fn days(&self, prefix: &str, mut each: impl FnMut(&SessionDay)) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self
                .inner
                .store
                .scan(prefix, after.as_deref(), PAGE)
                .await
                .map_err(failure::from_store)?;
            for record in &page {
                each(&records::decode(record)?);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// What models cost.
    pub fn prices(&self) -> &Prices {
        &self.inner.prices
    }

    /// The task that a session works on: the one that it was told of last, or was made for.
    pub(in crate::app) fn task_of(&self, session: &Session) -> Option<TaskId> {
        let told = self.inner.tasks.task_in(session.id);
        told.or(session.task.map(|task| task.id))
    }

    /// What covers a session.
    pub(in crate::app) fn covered(&self, session: &Session) -> Covered {
        Covered {
            session: Some(session.id),
            agent: session.agent.as_ref().map(|agent| agent.id),
            task: session.book.task.or_else(|| self.task_of(session)),
        }
    }

    /// The first budget that leaves nothing for something, and the limit that is reached. `uncommitted` is what its
    /// own step has booked and is not stored yet.
    pub(in crate::app) fn spent_hard(
        &self,
        covered: Covered,
        uncommitted: &[Booking],
        now: Timestamp,
    ) -> Option<(Budget, Reached)> {
        let mut state = self.inner.state.lock();
        let ids: Vec<BudgetId> = state.covering(covered).collect();
        ids.into_iter().find_map(|id| {
            let held = state.held.get_mut(&id)?;
            held.roll(now);
            let mut spent = held.spent;
            for booking in uncommitted {
                let of = (held.budget.scope, held.budget.period);
                if held.counts(booking.day) && Covered::of(booking).scopes().any(|its| its == of) {
                    spent = spent.less(booking.less).plus(booking.plus);
                }
            }
            let reached = held.hard(&spent)?;
            Some((held.budget.clone(), reached))
        })
    }

    /// Takes what a commit has booked.
    pub(in crate::app) fn committed(&self, bookings: &[Booking]) {
        if bookings.is_empty() {
            return;
        }
        let now = self.inner.clock.now();
        let mut is_due = false;
        {
            let mut state = self.inner.state.lock();
            for booking in bookings {
                let ids: Vec<BudgetId> = state.covering(Covered::of(booking)).collect();
                for id in ids {
                    if let Some(held) = state.held.get_mut(&id) {
                        held.roll(now);
                        held.booked(booking);
                    }
                    is_due |= state.settle(id, now);
                }
            }
        }
        if is_due {
            self.wake();
        }
    }

    /// Has the keeper look at once.
    pub(in crate::app) fn wake(&self) {
        self.inner.wake.notify_one();
    }
}

impl State {
    /// The budgets that cover some of what a session spent in a day, each once.
    fn touched(&self, day: &SessionDay) -> Vec<BudgetId> {
        let mut touched: Vec<BudgetId> = Vec::new();
        for share in &day.shares {
            let covered = Covered {
                session: Some(day.session),
                agent: day.agent,
                task: share.task,
            };
            for id in self.covering(covered) {
                if !touched.contains(&id) {
                    touched.push(id);
                }
            }
        }
        touched
    }
}

impl App {
    /// Whether budgets leave something for an agent (if it is one's) and a task (if it is for one): to be asked before a
    /// session is started or continued, or a task is given to an agent. Looks into memory only and reserves nothing:
    /// what runs when a budget is spent is parked, and what is sent to it later is refused.
    ///
    /// # Errors
    /// BUDGET_EXCEEDED: the hard limit of one that covers them is reached, or a person stopped it. The details
    /// `budget_id`, `limit`, `value` and `allowed` say which; `retry_after` is set where a new day will do.
    pub fn budget_allows(&self, agent: Option<AgentId>, task: Option<TaskId>) -> Result<()> {
        let covered = Covered {
            session: None,
            agent,
            task,
        };
        self.nothing_spent(covered)
    }

    /// The same for the session that another session continues or branches off from: its own budget counts too.
    pub(in crate::app) fn budget_allows_again(&self, session: &Session) -> Result<()> {
        self.nothing_spent(self.budgets().covered(session))
    }

    fn nothing_spent(&self, covered: Covered) -> Result<()> {
        let now = self.clock().now();
        match self.budgets().spent_hard(covered, &[], now) {
            Some((budget, reached)) => Err(budget.exceeded(reached, now)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
