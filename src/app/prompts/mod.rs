//! Prompts: asked once, answered once, by a person or by a rule.

mod answer;
mod list;
mod rules;

pub use answer::Answered;
pub use rules::{NewRule, Rules};

use std::time::Duration;

use crate::app::budgets;
use crate::app::sessions::Step;
use crate::app::sessions::request_event;
use crate::base::Result;
use crate::domain::policy::{self, Reason, Verdict};
use crate::domain::prompt::{AnswerBody, AnswerDelivery, Decision, PromptRule, PromptState};
use crate::domain::{Actor, ActorKind, CommandBody, Event, EventBody, Prompt, PromptAnswer};

/// The agent asks: the prompt is recorded, and answered at once if a rule or the session's mode says so.
pub(crate) fn requested(
    step: &mut Step<'_>,
    mut prompt: Prompt,
    event: Event,
    rules: &[PromptRule],
) -> Result<()> {
    if step.live.prompts.contains_key(&prompt.id) {
        // Asked again after a daemon's restart: it waits already.
        return Ok(());
    }
    prompt.expires_at = step
        .live
        .prompt_expiry
        .map(|expiry: Duration| step.now.saturating_add(expiry));
    step.push(request_event(event, &prompt));
    let session = &step.live.session;
    let verdict = policy::decide(&prompt, session.permission_mode, &session.cwd, rules.iter());
    let (allow, reason) = match verdict {
        Verdict::Ask => return step.keep_prompt(prompt),
        Verdict::Allow(reason) => (true, reason),
        Verdict::Deny(reason) => (false, reason),
    };
    let by = match &reason {
        Reason::Rule(rule) => Actor {
            kind: ActorKind::Rule,
            id: rule.id.to_string(),
            name: rule.pattern.clone(),
        },
        Reason::Mode(mode) => Actor {
            kind: ActorKind::Rule,
            id: String::new(),
            name: format!("permission mode {}", mode.as_str()),
        },
    };
    let message = match (&reason, allow) {
        (_, true) => String::new(),
        (Reason::Rule(rule), false) => format!("denied by the rule {}", rule.pattern),
        (Reason::Mode(_), false) => "denied: this session asks nobody".to_owned(),
    };
    let answer = PromptAnswer {
        by,
        at: step.now,
        body: AnswerBody::Decision(Decision {
            allow,
            message,
            ..Decision::default()
        }),
    };
    decided(step, prompt, answer)
}

/// Records the answer that won, and sends it on its way.
pub(crate) fn decided(step: &mut Step<'_>, mut prompt: Prompt, answer: PromptAnswer) -> Result<()> {
    let id = prompt.id;
    prompt.state = PromptState::Answered;
    prompt.answer = Some(answer.clone());
    match prompt.budget {
        // The server itself has asked.
        Some(about) => {
            budgets::answered(step, about, &answer)?;
            prompt.delivery = AnswerDelivery::Applied;
        }
        None => {
            prompt.delivery = AnswerDelivery::Queued;
            prompt.command_id = Some(step.command(CommandBody::Answer {
                prompt_id: id,
                request_key: prompt.request_key.clone(),
                answer: answer.clone(),
            })?);
        }
    }
    step.keep_prompt(prompt)?;
    let by = answer.by.clone();
    step.emit_by(
        &by,
        EventBody::PromptAnswered {
            prompt_id: id,
            answer,
        },
    );
    Ok(())
}
