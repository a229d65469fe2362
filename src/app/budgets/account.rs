//! A session's own part: it books what its agent reports, and stops when nothing is left for it.

use crate::app::records;
use crate::app::sessions::Step;
use crate::base::Result;
use crate::base::id::BudgetId;
use crate::domain::budget::{Answered, Occasion, Reached, SoftVerdict};
use crate::domain::session::{LimitAction, Mode, Parked};
use crate::domain::spending::{Book, Booking, Entry};
use crate::domain::{Budget, CommandBody, EventBody, Lifecycle, PromptAnswer};
use crate::store::Expect;

/// As much of a model's name as is kept: harnesses may name what they like.
const MAX_MODEL_CHARS: usize = 100;

/// Notes which model the harness has named.
pub(in crate::app) fn started(step: &mut Step<'_>, model: &str) {
    if !model.is_empty() {
        step.live.session.book.model = model.chars().take(MAX_MODEL_CHARS).collect();
    }
}

/// A turn begins: it is to be paid by the task that the session has now, also if that is done before the turn is.
pub(in crate::app) fn turn_began(step: &mut Step<'_>) {
    step.live.session.book.task = step.budgets().task_of(&step.live.session);
}

/// Books what the harness has reported of what it consumed.
pub(in crate::app) fn book(step: &mut Step<'_>, turn_ended: bool) -> Result<()> {
    with_book(step, |book, entry| book.book(entry, turn_ended))
}

/// The session has ended: a turn that was not over is as over as it gets.
pub(in crate::app) fn ended(step: &mut Step<'_>) -> Result<()> {
    step.live.session.parked = None;
    match step.live.session.in_turn {
        true => book(step, true),
        false => Ok(()),
    }
}

/// The session runs in a terminal, where nobody says what is consumed. A shell consumes nothing.
pub(in crate::app) fn unheard(step: &mut Step<'_>) -> Result<()> {
    let session = &step.live.session;
    if session.mode != Mode::Interactive || session.harness == "command" {
        return Ok(());
    }
    with_book(step, |book, entry| Some(book.book_unheard(entry)))
}

fn with_book(
    step: &mut Step<'_>,
    change: impl FnOnce(&mut Book, Entry<'_>) -> Option<Booking>,
) -> Result<()> {
    let budgets = step.budgets().clone();
    let session = &mut step.live.session;
    let mut book = std::mem::take(&mut session.book);
    let entry = Entry {
        session: session.id,
        agent: session.agent.as_ref().map(|agent| agent.id),
        task: budgets.task_of(session),
        model: &session.model,
        total: session.usage,
        now: step.now,
        prices: budgets.prices(),
    };
    let booking = change(&mut book, entry);
    let today = booking.as_ref().and_then(|_| book.today().cloned());
    session.book = book;
    step.touch();
    if let (Some(booking), Some(day)) = (booking, today) {
        let key = records::usage_key(day.day, day.session);
        step.op(records::put(key, &day, Expect::Any)?);
        step.live.unsettled.push(booking);
    }
    Ok(())
}

/// The budget that leaves nothing for the session, if one does.
fn hard(step: &Step<'_>) -> Option<(Budget, Reached)> {
    let covered = step.budgets().covered(&step.live.session);
    step.budgets()
        .spent_hard(covered, &step.live.unsettled, step.now)
}

/// Parks the session if a budget leaves nothing for it: what runs is interrupted where that is possible, and nothing
/// is given to the agent until it may go on. Whether it is parked.
pub(in crate::app) fn check(step: &mut Step<'_>) -> Result<bool> {
    let session = &step.live.session;
    if session.parked.is_some() {
        return Ok(true);
    }
    let may_run = matches!(
        session.lifecycle,
        Lifecycle::Pending | Lifecycle::Starting | Lifecycle::Running
    );
    if !may_run || session.stopping.is_some() {
        return Ok(false);
    }
    let Some((budget, reached)) = hard(step) else {
        return Ok(false);
    };
    let told = budget.told(reached);
    step.live.session.parked = Some(Parked {
        budget: budget.id,
        since: step.now,
    });
    step.emit(EventBody::LimitExceeded {
        limit: told.limit.to_owned(),
        value: told.value,
        allowed: told.allowed,
        action: LimitAction::Park,
        budget_id: Some(budget.id),
    });
    let session = &step.live.session;
    let interrupts = session.in_turn
        && session.capabilities.interrupt
        && session.lifecycle == Lifecycle::Running;
    let is_on_its_way = step
        .live
        .commands
        .values()
        .any(|command| matches!(command.body, CommandBody::Interrupt));
    if interrupts && !is_on_its_way {
        step.command(CommandBody::Interrupt)?;
    }
    Ok(true)
}

/// Refuses what would spend more. BUDGET_EXCEEDED: nothing is left.
pub(in crate::app) fn not_spent(step: &Step<'_>) -> Result<()> {
    match hard(step) {
        Some((budget, reached)) => Err(budget.exceeded(reached, step.now)),
        None => Ok(()),
    }
}

/// A parked session goes on, if no budget keeps it: what waits is given to the agent. What was interrupted is not
/// begun again: it may have been done in part.
pub(in crate::app) fn lift(step: &mut Step<'_>) -> Result<()> {
    let Some(parked) = step.live.session.parked else {
        return Ok(());
    };
    let by = hard(step).map(|(budget, _)| budget.id);
    if let Some(by) = by {
        // Another one may keep it now.
        if by != parked.budget {
            step.live.session.parked = Some(Parked {
                budget: by,
                ..parked
            });
            step.touch();
        }
        return Ok(());
    }
    step.live.session.parked = None;
    step.emit(EventBody::LimitLifted {
        budget_id: parked.budget,
        reason: why(step, parked.budget),
    });
    step.deliver_next()
}

fn why(step: &Step<'_>, id: BudgetId) -> String {
    match step.budgets().is_there(id) {
        true => "it was raised, or a new day has begun".to_owned(),
        false => "it was taken away".to_owned(),
    }
}

/// A person has answered what the server asked about a budget.
pub(in crate::app) fn answered(
    step: &mut Step<'_>,
    about: Occasion,
    answer: &PromptAnswer,
) -> Result<()> {
    let answered = Answered {
        about,
        verdict: SoftVerdict::of(&answer.body)?,
        by: answer.by.clone(),
    };
    let key = records::budget_answered_key(about.budget);
    step.op(records::put(key, &answered, Expect::Any)?);
    Ok(())
}
