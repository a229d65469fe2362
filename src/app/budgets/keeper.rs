//! The keeper: one job that asks people, does what they answered, and parks and wakes the sessions of a budget that
//! another session has spent or a new day has filled.
//!
//! Everything it does can be done again: it looks at what is the case, and each thing it does is one commit that says
//! that it is done.

use std::time::Duration;

use super::{Budgets, Covered, Held};
use crate::app::{App, failure, records};
use crate::base::id::{BudgetId, PromptId, SessionId};
use crate::base::{Code, Error, Json, Result};
use crate::domain::budget::{Answered, Asked, Occasion, SoftVerdict};
use crate::domain::prompt::{AnswerDelivery, PromptKind, PromptState};
use crate::domain::spending::Day;
use crate::domain::{EventBody, Lifecycle, Prompt};
use crate::store::{Commit, Expect};

/// The longest that it sleeps: a machine may have slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Keeps budgets for as long as the server runs.
pub async fn run(app: App) {
    loop {
        if let Err(error) = app.keep_budgets().await {
            tracing::warn!(?error, "budgets could not be kept; it is tried again");
        }
        let now = app.clock().now();
        let tomorrow = Day::of(now).next().begin().saturating_since(now);
        let sleep = tomorrow.min(LONGEST_SLEEP).max(Duration::from_millis(1));
        tokio::select! {
            () = app.budgets().inner.wake.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

impl Budgets {
    fn due(&self) -> (Vec<Held>, Vec<Held>) {
        let now = self.inner.clock.now();
        let mut state = self.inner.state.lock();
        let ids: Vec<BudgetId> = state.held.keys().copied().collect();
        for id in ids {
            state.settle(id, now);
        }
        let asks = state.held.values().filter(|held| held.wants_asking());
        let asks = asks.cloned().collect();
        let waits = |held: &&Held| {
            held.is_asked()
                && held.answered.as_ref().map(|answered| answered.about)
                    != held.asked.as_ref().map(|asked| asked.about)
        };
        let unanswered = state.held.values().filter(waits).cloned().collect();
        (asks, unanswered)
    }

    fn takes_sweep(&self) -> bool {
        std::mem::take(&mut self.inner.state.lock().sweep)
    }

    fn change(&self, id: BudgetId, change: impl FnOnce(&mut Held)) {
        let now = self.inner.clock.now();
        let mut state = self.inner.state.lock();
        if let Some(held) = state.held.get_mut(&id) {
            change(held);
        }
        state.settle(id, now);
    }

    /// Whether there is such a budget.
    pub(super) fn is_there(&self, id: BudgetId) -> bool {
        self.inner.state.lock().held.contains_key(&id)
    }
}

impl App {
    /// Does what is due: asks at soft limits, does what was answered, parks what nothing is left for, and wakes what may
    /// go on.
    pub async fn keep_budgets(&self) -> Result<()> {
        let (_, unanswered) = self.budgets().due();
        for held in unanswered {
            self.take_answer(&held).await?;
        }
        let (asks, _) = self.budgets().due();
        for held in asks {
            self.ask_about(&held).await?;
        }
        if self.budgets().takes_sweep()
            && let Err(error) = self.sweep_budgets().await
        {
            self.budgets().inner.state.lock().sweep = true;
            return Err(error);
        }
        Ok(())
    }

    async fn take_answer(&self, held: &Held) -> Result<()> {
        let id = held.budget.id;
        let key = records::budget_answered_key(id);
        let found = records::get::<Answered>(self.store().as_ref(), &key).await?;
        let about = held.asked.as_ref().map(|asked| asked.about);
        let Some((answered, _)) = found.filter(|(answered, _)| Some(answered.about) == about)
        else {
            return Ok(());
        };
        if answered.verdict == SoftVerdict::Raise {
            self.raise_budget(id, &answered).await?;
        }
        self.budgets()
            .change(id, |held| held.answered = Some(answered));
        Ok(())
    }

    /// Raises a budget once: what was answered is about the limits it had, and it has others after that.
    async fn raise_budget(&self, id: BudgetId, answered: &Answered) -> Result<()> {
        let _changing = self.budgets().inner.changing.lock().await;
        let now = self.clock().now();
        let (mut budget, revision, spent) = {
            let state = self.budgets().inner.state.lock();
            match state.held.get(&id) {
                Some(held) if held.budget.edition == answered.about.edition => {
                    (held.budget.clone(), held.revision, held.spent)
                }
                _ => return Ok(()),
            }
        };
        budget.raise(&spent, now);
        let op = records::put(records::budget_key(id), &budget, Expect::Revision(revision))?;
        let commit = Commit {
            ops: vec![op],
            ..Commit::default()
        };
        let done = self.store().commit(commit).await;
        let revision = done.map_err(failure::from_store)?.revision;
        self.budgets().change(id, |held| {
            held.budget = budget;
            held.revision = revision;
        });
        Ok(())
    }

    /// Asks a person in the session that spent last, or in another that the budget covers. While none lives, nobody is
    /// asked: the next one that spends is.
    async fn ask_about(&self, held: &Held) -> Result<()> {
        let mut sessions: Vec<SessionId> = held.last.into_iter().collect();
        let mut living = self.sessions().living(None);
        living.sort_unstable();
        sessions.extend(living.into_iter().rev());
        for session in sessions {
            let Some((record, _)) = self.session_record(session).await? else {
                continue;
            };
            let of = (held.budget.scope, held.budget.period);
            let covered: Covered = self.budgets().covered(&record);
            if !record.lifecycle.is_living() || covered.scopes().all(|its| its != of) {
                continue;
            }
            match self.ask_in(session, held).await {
                Ok(asked) => {
                    self.budgets()
                        .change(held.budget.id, |held| held.asked = Some(asked));
                    return Ok(());
                }
                // It ended in between.
                Err(error) if matches!(error.code(), Code::InvalidState | Code::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn ask_in(&self, session: SessionId, held: &Held) -> Result<Asked> {
        let now = self.clock().now();
        let about = Occasion {
            day: held.day,
            ..held.budget.occasion(now)
        };
        let Some(reached) = held.budget.soft.reached(&held.spent) else {
            return Err(Error::state("the budget is within its limits"));
        };
        let warning = held.budget.warning(&held.spent);
        let question = held.budget.question(reached, warning.as_deref());
        let asked = Asked {
            about,
            prompt: PromptId::generate(now),
            session,
        };
        let stored = asked.clone();
        self.sessions()
            .step(session, move |step| {
                let session = &step.live.session;
                if !session.lifecycle.is_living() || session.lifecycle == Lifecycle::Stopping {
                    return Err(Error::state("the session is over"));
                }
                let expiry = step.live.prompt_expiry;
                let prompt = Prompt {
                    id: stored.prompt,
                    session_id: step.id(),
                    kind: PromptKind::Question,
                    request_key: format!("budget:{}", about.budget),
                    // Some dialects name a question by it.
                    call_id: stored.prompt.to_string(),
                    tool: String::new(),
                    input: Json::default(),
                    plan: String::new(),
                    summary: question.text.clone(),
                    questions: vec![question],
                    suggestions: Vec::new(),
                    reason: String::new(),
                    requested_at: step.now,
                    expires_at: expiry.map(|expiry| step.now.saturating_add(expiry)),
                    state: PromptState::Pending,
                    answer: None,
                    delivery: AnswerDelivery::None,
                    note: String::new(),
                    command_id: None,
                    budget: Some(about),
                };
                step.emit(EventBody::PromptRequested {
                    prompt: Box::new(prompt.clone()),
                });
                step.keep_prompt(prompt)?;
                // With the question: asked once, whatever happens next.
                let key = records::budget_asked_key(about.budget);
                step.op(records::put(key, &stored, Expect::Any)?);
                Ok(())
            })
            .await?;
        Ok(asked)
    }

    async fn sweep_budgets(&self) -> Result<()> {
        for id in self.sessions().living(None) {
            let Some((session, _)) = self.session_record(id).await? else {
                continue;
            };
            let covered = self.budgets().covered(&session);
            let now = self.clock().now();
            let is_spent = self.budgets().spent_hard(covered, &[], now).is_some();
            if is_spent == session.parked.is_some() {
                continue;
            }
            let done = self
                .sessions()
                .step(id, |step| match step.live.session.parked {
                    Some(_) => super::lift(step),
                    None => super::check(step).map(drop),
                })
                .await;
            match done {
                Err(error) if error.code() == Code::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }
}
