//! Lost and found: what a session's state does when its daemon's link goes and comes.

use super::step::Step;
use super::writer;
use crate::base::Result;
use crate::domain::{Activity, EndInfo, EventBody, InputState, Lifecycle};

/// The daemon's link is gone. Neither an end nor a failure: only the link fact changes.
pub(super) fn detached(step: &mut Step<'_>, epoch: u64) -> Result<()> {
    let session = &mut step.live.session;
    if !session.lifecycle.is_living() || session.detached_since.is_some() {
        return Ok(());
    }
    session.detached_since = Some(step.now);
    step.emit(EventBody::LinkChanged {
        attached: false,
        epoch,
    });
    Ok(())
}

/// The daemon is linked, and says that it has the session.
pub(super) fn attached(step: &mut Step<'_>, epoch: u64, alive: bool) -> Result<()> {
    if step.live.session.is_lost() && alive && step.live.session.resumed_by.is_none() {
        found(step)?;
    }
    let session = &mut step.live.session;
    if !session.lifecycle.is_living() || session.detached_since.is_none() {
        return Ok(());
    }
    session.detached_since = None;
    step.emit(EventBody::LinkChanged {
        attached: true,
        epoch,
    });
    step.deliver_next()
}

/// Ends the session as lost. Unlike every other end it keeps what waits: prompts, commands and queued
/// inputs are still good if the process is found alive.
pub(super) fn lose(step: &mut Step<'_>, end: EndInfo) -> Result<()> {
    step.live.session.ended_at = Some(step.now);
    step.live.session.end = Some(end.clone());
    step.emit(EventBody::Ended { end });
    step.move_to(Lifecycle::Ended)
}

/// A lost process was found alive: the session goes on.
fn found(step: &mut Step<'_>) -> Result<()> {
    step.move_to(Lifecycle::Running)?;
    let session = &mut step.live.session;
    session.end = None;
    session.ended_at = None;
    session.activity = Activity::Unknown;
    session.held_idle = false;
    session.started_at = session.started_at.or(Some(step.now));
    step.touch();
    Ok(())
}

/// The agent of a session says something. Where nobody knew whether the session was started, it was: it is
/// found. A session whose daemon is away or that was continued elsewhere is not.
pub(super) fn began(step: &mut Step<'_>) -> Result<()> {
    let session = &step.live.session;
    let is_doubtful = session.is_lost()
        && session.started_at.is_none()
        && session.detached_since.is_none()
        && session.resumed_by.is_none();
    match is_doubtful {
        true => found(step),
        false => Ok(()),
    }
}

/// Gives up a lost session for good, so that its conversation is free: whatever its process does from now
/// on is no longer part of it.
pub(super) fn give_up(step: &mut Step<'_>) -> Result<()> {
    let prompts: Vec<_> = step.live.prompts.keys().copied().collect();
    for id in prompts {
        step.withdraw_prompt(id, "the session was given up")?;
    }
    let commands: Vec<_> = step.live.commands.keys().copied().collect();
    for id in commands {
        step.settle(id);
    }
    let inputs: Vec<_> = step
        .live
        .inputs
        .values()
        .map(|input| (input.id, input.state))
        .collect();
    for (id, state) in inputs {
        let (state, reason) = match state {
            InputState::Delivered => (
                InputState::Indeterminate,
                "the session was given up before its agent said that it took the input",
            ),
            _ => (InputState::Withdrawn, "the session was given up"),
        };
        step.input_moved(id, state, reason)?;
    }
    // One that was continued has passed it on, and one that has ended may have left it to another.
    if step.live.session.holds_conversation() {
        writer::let_go(step);
    }
    Ok(())
}
