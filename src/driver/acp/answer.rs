//! Answers of people as the agent takes them: one of the options that it offered.

use agent_client_protocol_schema::v1::{
    PermissionOptionId, RequestPermissionOutcome, RequestPermissionResponse,
    SelectedPermissionOutcome,
};
use bytes::Bytes;

use super::state::{ChoiceKind, OpenRequest};
use crate::base::{Error, Result};
use crate::domain::PromptAnswer;
use crate::domain::prompt::{AnswerBody, Decision, Remember};
use crate::driver::rpc;

/// The line that answers an open request.
pub(super) fn line(open: &OpenRequest, answer: &PromptAnswer) -> Result<Bytes> {
    let AnswerBody::Decision(decision) = &answer.body else {
        return Err(Error::invalid(
            "answer",
            "has answers to questions, but the prompt asks for a decision",
        ));
    };
    if decision.updated_input.is_some() {
        return Err(Error::invalid(
            "updated_input",
            "cannot be given to this agent: it takes yes or no",
        ));
    }
    let choice = match decision.allow {
        true => Some(allows(open, decision)?),
        // Without a way to say no, the call is cancelled: it does not run either.
        false => [ChoiceKind::RejectOnce, ChoiceKind::RejectAlways]
            .into_iter()
            .find_map(|kind| first(open, kind)),
    };
    Ok(match choice {
        Some(id) => {
            let chosen = SelectedPermissionOutcome::new(PermissionOptionId::new(id.to_owned()));
            outcome(&open.key, RequestPermissionOutcome::Selected(chosen))
        }
        None => cancelled(&open.key),
    })
}

/// The option that allows. What is remembered is a rule of the server, which names itself in each answer and can be
/// deleted. An agent that were told as well would no longer ask, and by a wider rule of its own: so it is told
/// "once", unless it takes nothing but "always" and that is what was meant.
fn allows<'a>(open: &'a OpenRequest, decision: &Decision) -> Result<&'a str> {
    if let Some(once) = first(open, ChoiceKind::AllowOnce) {
        return Ok(once);
    }
    match (first(open, ChoiceKind::AllowAlways), decision.remember) {
        (Some(always), Remember::Session | Remember::Rule) => Ok(always),
        (Some(_), Remember::None) => Err(Error::invalid(
            "remember",
            "is none, but the agent offers to allow this for good only; deny it, or let it be remembered",
        )),
        (None, _) => Err(Error::state(
            "the agent offers no way to allow this; deny it",
        )),
    }
}

fn first(open: &OpenRequest, kind: ChoiceKind) -> Option<&str> {
    let choice = open.choices.iter().find(|choice| choice.kind == kind)?;
    Some(&choice.id)
}

/// Whether the answer also ends the turn.
pub(super) fn interrupts(answer: &PromptAnswer) -> bool {
    matches!(&answer.body, AnswerBody::Decision(decision) if !decision.allow && decision.interrupt)
}

/// The answer to a request of a turn that was cancelled.
pub(super) fn cancelled(key: &str) -> Bytes {
    outcome(key, RequestPermissionOutcome::Cancelled)
}

fn outcome(key: &str, outcome: RequestPermissionOutcome) -> Bytes {
    rpc::response(key, &RequestPermissionResponse::new(outcome))
}
