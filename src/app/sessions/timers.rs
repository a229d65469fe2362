//! What happens to a session by itself: expiry of prompts, limits of time, the end of the grace period.

use std::time::Duration;

use super::step::Step;
use crate::base::Result;
use crate::base::id::PromptId;
use crate::domain::CommandBody;
use crate::domain::prompt::{AnswerBody, AnswerDelivery, Decision, PromptKind, PromptState};
use crate::domain::session::EndReason;
use crate::domain::{Activity, Actor, EndInfo, EventBody, Lifecycle, PromptAnswer};

/// Does whatever is due at the step's time.
pub(super) fn fire(step: &mut Step<'_>, grace: Duration) -> Result<()> {
    expire_prompts(step)?;
    lose(step, grace)?;
    limit_time(step)
}

/// An expired permission or plan is denied when the runner is reached; an expired question goes unanswered.
fn expire_prompts(step: &mut Step<'_>) -> Result<()> {
    let now = step.now;
    let expired: Vec<PromptId> = step
        .live
        .prompts
        .values()
        .filter(|prompt| prompt.state == PromptState::Pending)
        .filter(|prompt| prompt.expires_at.is_some_and(|at| at <= now))
        .map(|prompt| prompt.id)
        .collect();
    for id in expired {
        let Some(mut prompt) = step.live.prompts.get(&id).cloned() else {
            continue;
        };
        let body = match prompt.kind {
            PromptKind::Question => AnswerBody::Answers(Vec::new()),
            _ => AnswerBody::Decision(Decision {
                message: "nobody answered in time".to_owned(),
                ..Decision::default()
            }),
        };
        let answer = PromptAnswer {
            by: Actor::server(),
            at: now,
            body,
        };
        prompt.state = PromptState::Expired;
        // Nobody waits for an answer to what the server asks: it goes on as it does.
        if prompt.budget.is_none() {
            prompt.delivery = AnswerDelivery::Queued;
            prompt.command_id = Some(step.command(CommandBody::Answer {
                prompt_id: id,
                request_key: prompt.request_key.clone(),
                answer,
            })?);
        }
        step.keep_prompt(prompt)?;
        step.emit(EventBody::PromptExpired { prompt_id: id });
    }
    Ok(())
}

/// The grace period is over: the session ends as lost. Its process may still run; if it is found alive,
/// the session goes on.
fn lose(step: &mut Step<'_>, grace: Duration) -> Result<()> {
    if step.live.lost_at(grace).is_none_or(|at| at > step.now) {
        return Ok(());
    }
    let message = format!(
        "its daemon has not come back within {}; if it does, the session goes on",
        humane(grace)
    );
    super::lost::lose(step, EndInfo::because(EndReason::Lost, message))
}

fn limit_time(step: &mut Step<'_>) -> Result<()> {
    let session = &step.live.session;
    if session.lifecycle != Lifecycle::Running || session.stopping.is_some() {
        return Ok(());
    }
    if let (Some(runtime), Some(start)) = (session.limits.runtime, session.started_at) {
        let ran = step.now.saturating_since(start);
        if ran >= runtime {
            return step.limit_reached("runtime", ran.as_secs(), runtime.as_secs());
        }
    }
    if let Some(idle) = session.limits.idle
        && session.activity == Activity::AwaitingInput
    {
        let waited = step.now.saturating_since(session.last_event_at);
        if waited >= idle {
            return step.limit_reached("idle", waited.as_secs(), idle.as_secs());
        }
    }
    Ok(())
}

fn humane(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}
