//! What a daemon's records do to a session.

use bytes::Bytes;

use super::step::Step;
use super::writer::{self, Named};
use crate::app::{budgets, prompts};
use crate::base::{Error, Result};
use crate::domain::event::Origin as EventOrigin;
use crate::domain::link::RecordEvent;
use crate::domain::prompt::{PromptRule, PromptState};
use crate::domain::session::Refusal;
use crate::domain::terminal::Output;
use crate::domain::{EndInfo, EndReason, Event, EventBody, InputState, Lifecycle, Session};
use crate::store::Origin;

/// One record of a spool, ready to be stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its number.
    pub origin_seq: u64,
    /// What the driver made of it.
    pub events: Vec<RecordEvent>,
    /// What it brought for the session's terminal.
    pub output: Option<Output>,
    /// How many bytes it counts as output.
    pub bytes: u64,
    /// Hashes of the content its events refer to; all of it is stored.
    pub contents: Vec<String>,
}

/// Applies records that follow what is stored. The caller has checked that they follow, and has looked up the
/// conversations that they name.
pub(super) fn records(
    step: &mut Step<'_>,
    epoch: u64,
    stored: Vec<Stored>,
    rules: &[PromptRule],
    named: &[Named],
) -> Result<()> {
    step.expect(stored.iter().map(|record| record.events.len()).sum());
    for record in stored {
        step.live.session.output_bytes =
            step.live.session.output_bytes.saturating_add(record.bytes);
        for sha256 in &record.contents {
            step.refer(sha256);
        }
        if let Some(output) = record.output {
            step.show(output)?;
        }
        let mut turn = None;
        let mut is_reported = false;
        for event in record.events {
            let (event, came) = match event {
                RecordEvent::Whole { event, came } => (event, came),
                RecordEvent::Kept(came) => {
                    super::lost::began(step)?;
                    running(step)?;
                    step.keep(came);
                    continue;
                }
            };
            is_reported |= matches!(event.body, EventBody::UsageUpdated { .. });
            if let EventBody::TurnEnded {
                is_error, reason, ..
            } = &event.body
            {
                turn = Some(is_error.then(|| reason.clone()));
            }
            apply(step, event, came, rules, named)?;
        }
        // After the whole record: some say what a turn consumed after its end.
        if is_reported || turn.is_some() {
            budgets::book(step, turn.is_some())?;
        }
        // After the whole record: a process that ends in its turn says by itself how it ended.
        if let Some(failed) = turn {
            finish_one_shot(step, failed)?;
        }
        step.stored_through(Origin {
            epoch,
            seq: record.origin_seq,
        });
    }
    check_amounts(step)?;
    budgets::check(step)?;
    step.deliver_next()
}

fn apply(
    step: &mut Step<'_>,
    event: Box<Event>,
    came: Bytes,
    rules: &[PromptRule],
    named: &[Named],
) -> Result<()> {
    super::lost::began(step)?;
    // Whatever the agent says proves that it runs, but not the news of its end.
    if !matches!(event.body, EventBody::Ended { .. }) {
        running(step)?;
    }
    match &event.body {
        EventBody::Started {
            provider_session_id,
            model,
            ..
        } => {
            let (id, model) = (provider_session_id.clone(), model.clone());
            step.push(event);
            budgets::started(step, &model);
            writer::take(step, &id, named)?;
            if !model.is_empty() && step.live.session.model.is_empty() {
                step.live.session.model = model;
            }
        }
        EventBody::ActivityChanged { .. } => step.activity_said(*event),
        EventBody::InputChanged {
            input_id,
            state,
            reason,
            ..
        } => {
            let (id, state, reason) = (*input_id, *state, reason.clone());
            if step.live.inputs.contains_key(&id) {
                step.input_moved(id, state, &reason)?;
            }
        }
        EventBody::TurnStarted { .. } => {
            step.live.session.in_turn = true;
            step.live.session.limited = None;
            budgets::turn_began(step);
            step.push(event);
        }
        EventBody::TurnEnded { .. } => {
            step.live.session.in_turn = false;
            step.live.session.turns = step.live.session.turns.saturating_add(1);
            step.push(event);
        }
        EventBody::RateLimited { until, .. } => {
            step.live.session.limited = Some(Refusal {
                at: step.now,
                until: *until,
            });
            step.push(event);
        }
        EventBody::UsageUpdated { total } => {
            step.live.session.usage = *total;
            step.push(event);
        }
        EventBody::OptionsChanged {
            model: Some(model), ..
        } => {
            step.live.session.model.clone_from(model);
            budgets::started(step, model);
            step.push(event);
        }
        EventBody::PromptRequested { prompt } => {
            let mut prompt = (**prompt).clone();
            prompt.session_id = step.id();
            prompt.requested_at = step.now;
            prompt.state = PromptState::Pending;
            prompt.answer = None;
            prompts::requested(step, prompt, *event, rules)?;
        }
        EventBody::PromptWithdrawn { prompt_id, reason } => {
            let (id, reason) = (*prompt_id, reason.clone());
            // What the server asks is not an agent's to take back.
            let is_ours = |prompt: &crate::domain::Prompt| prompt.budget.is_some();
            if !step.live.prompts.get(&id).is_some_and(is_ours) {
                step.withdraw_prompt(id, &reason)?;
            }
        }
        EventBody::Ended { end } => ended(step, end.clone())?,
        // What only the server may say is not taken from a daemon.
        EventBody::SessionCreated { .. }
        | EventBody::LifecycleChanged { .. }
        | EventBody::LinkChanged { .. }
        | EventBody::InputAccepted { .. }
        | EventBody::PromptAnswered { .. }
        | EventBody::PromptExpired { .. }
        | EventBody::PromptDelivered { .. }
        | EventBody::LimitExceeded { .. }
        | EventBody::LimitLifted { .. } => {
            return Err(Error::invalid(
                "events",
                format!(
                    "have a {} from a daemon; only the server makes these",
                    event.body.kind().as_str()
                ),
            ));
        }
        _ => step.push_as_it_came(event, came),
    }
    Ok(())
}

/// The process runs.
pub(super) fn running(step: &mut Step<'_>) -> Result<()> {
    if step.live.session.lifecycle == Lifecycle::Pending {
        step.move_to(Lifecycle::Starting)?;
    }
    if step.live.session.lifecycle == Lifecycle::Starting {
        step.move_to(Lifecycle::Running)?;
        step.live.session.started_at = Some(step.now);
        budgets::unheard(step)?;
        // It was told to end before it ran.
        if step.live.session.stopping.is_some() {
            step.move_to(Lifecycle::Stopping)?;
        }
    }
    Ok(())
}

/// Ends a session that was to have one turn. `failed` says why the turn did, if it did.
fn finish_one_shot(step: &mut Step<'_>, failed: Option<String>) -> Result<()> {
    let session = &step.live.session;
    let done = session.one_shot
        && session.lifecycle == Lifecycle::Running
        && session.stopping.is_none()
        && step.live.order.is_empty()
        && !step.live.has_input_on_its_way();
    if !done {
        return Ok(());
    }
    let end = match failed {
        None => EndInfo::because(EndReason::Completed, "its one turn is over"),
        Some(why) if session.limited.is_some() => EndInfo::because(
            EndReason::RateLimited,
            format!("the provider refused its one turn: {why}"),
        ),
        Some(why) => EndInfo::because(EndReason::Failed, format!("its one turn failed: {why}")),
    };
    step.stop(end, false, false)
}

/// The process is gone.
fn ended(step: &mut Step<'_>, exit: EndInfo) -> Result<()> {
    let session = &step.live.session;
    if session.is_over() && !session.is_lost() {
        // The news came late: the session's end was decided and is on record.
        return Ok(());
    }
    if session.is_lost() {
        // Lost and found dead: the end stays lost, and the conversation is free.
        super::lost::give_up(step)?;
        step.live.session.end = Some(EndInfo {
            reason: if exit.reason == EndReason::Completed {
                EndReason::Completed
            } else {
                EndReason::Crashed
            },
            message: format!("it ended while its daemon was away: {}", exit.message),
            ..exit
        });
        step.touch();
        return Ok(());
    }
    let suspended = session.suspending && session.lifecycle != Lifecycle::Pending;
    let end = match session.stopping.clone() {
        Some(wanted) => exit.when_wanted(wanted.reason, &wanted.message),
        None => exit,
    };
    if step.live.session.lifecycle == Lifecycle::Starting && suspended {
        running(step)?;
    }
    step.end(end, suspended)
}

/// Limits that are reached by amounts. What was already produced is kept.
fn check_amounts(step: &mut Step<'_>) -> Result<()> {
    let Session {
        limits,
        output_bytes,
        turns,
        usage,
        ..
    } = &step.live.session;
    let reached = [
        ("output_bytes", *output_bytes, limits.output_bytes),
        ("turns", u64::from(*turns), limits.turns.map(u64::from)),
        ("cost", usage.cost_micro_usd, limits.cost_micro_usd),
    ]
    .into_iter()
    .find_map(|(name, value, allowed)| {
        allowed
            .filter(|allowed| value >= *allowed)
            .map(|allowed| (name, value, allowed))
    });
    match reached {
        Some((name, value, allowed)) => step.limit_reached(name, value, allowed),
        None => Ok(()),
    }
}

/// How an ended command changes the session.
pub(super) fn command_ended(
    step: &mut Step<'_>,
    result: &crate::domain::CommandResult,
) -> Result<()> {
    use crate::domain::prompt::AnswerDelivery;
    use crate::domain::{CommandBody, CommandOutcome};

    let Some(command) = step.settle(result.command_id) else {
        // Known already; the daemon may forget it.
        return Ok(());
    };
    let failed = result.outcome != CommandOutcome::Applied;
    if failed {
        step.emit(EventBody::CommandFailed {
            command_id: command.id,
            command: command.body.name().to_owned(),
            outcome: result.outcome,
            reason: result.reason.clone(),
        });
    }
    match (&command.body, result.outcome) {
        (CommandBody::Start(_), CommandOutcome::Applied)
            if step.live.session.lifecycle == Lifecycle::Pending =>
        {
            step.move_to(Lifecycle::Starting)?;
        }
        (CommandBody::Start(_), CommandOutcome::Rejected | CommandOutcome::Withdrawn)
            if !step.live.session.is_over() =>
        {
            let end = EndInfo::because(EndReason::Failed, result.reason.clone());
            step.end(end, false)?;
        }
        // Its process may run or not, and nobody will say more unless it runs: it is lost, and goes on with
        // the first thing that its agent says.
        (CommandBody::Start(_), CommandOutcome::Indeterminate)
            if step.live.session.lifecycle == Lifecycle::Pending =>
        {
            let why = match result.reason.as_str() {
                "" => "nothing more is known",
                reason => reason,
            };
            let message = format!("its daemon cannot say whether it was started: {why}");
            super::lost::lose(step, EndInfo::because(EndReason::Lost, message))?;
        }
        (CommandBody::Input { input_id, .. }, outcome) => {
            let id = *input_id;
            match outcome {
                // The harness itself says when it takes the input.
                CommandOutcome::Applied => {}
                CommandOutcome::Rejected => {
                    step.input_moved(id, InputState::Rejected, &result.reason)?;
                }
                CommandOutcome::Withdrawn => {
                    step.input_moved(id, InputState::Withdrawn, &result.reason)?;
                }
                CommandOutcome::Indeterminate => {
                    step.input_moved(id, InputState::Indeterminate, &result.reason)?;
                }
            }
        }
        (CommandBody::Answer { prompt_id, .. }, outcome) => {
            let delivery = match outcome {
                CommandOutcome::Applied => AnswerDelivery::Applied,
                CommandOutcome::Indeterminate => AnswerDelivery::Indeterminate,
                _ => AnswerDelivery::Undeliverable,
            };
            step.answer_moved(*prompt_id, delivery, &result.reason)?;
        }
        (CommandBody::CancelInput { input_id }, CommandOutcome::Applied) => {
            step.input_moved(
                *input_id,
                InputState::Withdrawn,
                "taken back from the agent",
            )?;
        }
        // The daemon has no such process: there is nothing to end any more.
        (CommandBody::End { .. }, CommandOutcome::Rejected) if !step.live.session.is_over() => {
            let session = &step.live.session;
            let suspended = session.suspending
                && matches!(session.lifecycle, Lifecycle::Running | Lifecycle::Stopping);
            let end = session
                .stopping
                .clone()
                .unwrap_or_else(|| EndInfo::because(EndReason::Stopped, result.reason.clone()));
            step.end(end, suspended)?;
        }
        (
            CommandBody::Options {
                model,
                permission_mode,
            },
            CommandOutcome::Applied,
        ) => {
            if let Some(model) = model {
                step.live.session.model.clone_from(model);
            }
            if let Some(mode) = permission_mode {
                step.live.session.permission_mode = *mode;
            }
            step.touch();
        }
        _ => {}
    }
    step.deliver_next()
}

/// A daemon says that it has never heard of a session that should run there, or has lost it.
pub(super) fn unknown_to_daemon(step: &mut Step<'_>) -> Result<()> {
    if !step.live.session.lifecycle.is_living() || step.live.waits_for_start() {
        return Ok(());
    }
    let end = EndInfo::because(
        EndReason::Crashed,
        "its daemon came back without it: the runner and what it had not sent are gone",
    );
    step.end(end, false)
}

/// An event about a prompt's request, as it is stored.
pub(crate) fn request_event(event: Event, prompt: &crate::domain::Prompt) -> Event {
    Event {
        origin: EventOrigin::Harness,
        body: EventBody::PromptRequested {
            prompt: Box::new(prompt.clone()),
        },
        ..event
    }
}
