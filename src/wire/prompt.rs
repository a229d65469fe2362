//! Prompts, answers and rules on the wire.

use super::common::{actor_from_pb, actor_to_pb};
use super::enums::{self, required as required_enum};
use super::field::{self, json_from_pb, json_to_pb, optional_id, required};
use super::time::{required_time, time_from_pb, time_to_pb};
use crate::base::id::{PromptId, RuleId, SessionId};
use crate::base::{Error, Result};
use crate::domain::prompt::{
    AnswerBody, Choice, Decision, Prompt, PromptAnswer, PromptRule, Question, QuestionAnswer,
    Suggestion,
};
use crate::wire::v1;

/// A prompt as protobuf writes it. `revision` becomes the etag; `None` leaves it empty, for a prompt
/// within an event.
pub fn prompt_to_pb(prompt: &Prompt, revision: Option<u64>) -> v1::Prompt {
    v1::Prompt {
        id: prompt.id.to_string(),
        session_id: prompt.session_id.to_string(),
        kind: enums::prompt_kind_to_pb(prompt.kind).into(),
        tool: prompt.tool.clone(),
        input: Some(json_to_pb(&prompt.input)),
        questions: prompt.questions.iter().map(question_to_pb).collect(),
        suggestions: prompt
            .suggestions
            .iter()
            .map(|suggestion| v1::Suggestion {
                label: suggestion.label.clone(),
                value: Some(json_to_pb(&suggestion.value)),
            })
            .collect(),
        requested_at: Some(time_to_pb(prompt.requested_at)),
        expires_at: prompt.expires_at.map(time_to_pb),
        state: enums::prompt_state_to_pb(prompt.state).into(),
        answer: prompt.answer.as_ref().map(prompt_answer_to_pb),
        delivery: enums::answer_delivery_to_pb(prompt.delivery).into(),
        etag: revision.map(field::etag_of).unwrap_or_default(),
        summary: prompt.summary.clone(),
        reason: prompt.reason.clone(),
        note: prompt.note.clone(),
        call_id: prompt.call_id.clone(),
        plan: prompt.plan.clone(),
        request_key: prompt.request_key.clone(),
        budget_id: prompt
            .budget
            .map(|about| about.budget.to_string())
            .unwrap_or_default(),
    }
}

/// A prompt from the wire. Which command carries its answer is the server's own affair and not in it.
pub fn prompt_from_pb(prompt: v1::Prompt) -> Result<Prompt> {
    Ok(Prompt {
        id: PromptId::parse("prompt.id", &prompt.id)?,
        session_id: SessionId::parse("prompt.session_id", &prompt.session_id)?,
        kind: required_enum(
            enums::prompt_kind_from_pb(prompt.kind, "prompt.kind"),
            "prompt.kind",
        )?,
        request_key: prompt.request_key,
        call_id: prompt.call_id,
        tool: prompt.tool,
        input: json_from_pb(prompt.input, "prompt.input")?.unwrap_or_default(),
        plan: prompt.plan,
        questions: prompt.questions.into_iter().map(question_from_pb).collect(),
        suggestions: prompt
            .suggestions
            .into_iter()
            .map(|suggestion| {
                Ok(Suggestion {
                    label: suggestion.label,
                    value: json_from_pb(suggestion.value, "prompt.suggestions.value")?
                        .unwrap_or_default(),
                })
            })
            .collect::<Result<_>>()?,
        summary: prompt.summary,
        reason: prompt.reason,
        requested_at: required_time(prompt.requested_at, "prompt.requested_at")?,
        expires_at: time_from_pb(prompt.expires_at, "prompt.expires_at")?,
        state: required_enum(
            enums::prompt_state_from_pb(prompt.state, "prompt.state"),
            "prompt.state",
        )?,
        answer: prompt.answer.map(prompt_answer_from_pb).transpose()?,
        delivery: enums::answer_delivery_from_pb(prompt.delivery, "prompt.delivery")?
            .unwrap_or_default(),
        note: prompt.note,
        command_id: None,
        // Only the server asks about budgets.
        budget: None,
    })
}

/// A question as protobuf writes it.
pub fn question_to_pb(question: &Question) -> v1::Question {
    v1::Question {
        header: question.header.clone(),
        text: question.text.clone(),
        options: question
            .options
            .iter()
            .map(|choice| v1::Option {
                label: choice.label.clone(),
                description: choice.description.clone(),
            })
            .collect(),
        multi_select: question.multi_select,
    }
}

/// A question from the wire.
pub fn question_from_pb(question: v1::Question) -> Question {
    Question {
        header: question.header,
        text: question.text,
        options: question
            .options
            .into_iter()
            .map(|option| Choice {
                label: option.label,
                description: option.description,
            })
            .collect(),
        multi_select: question.multi_select,
    }
}

/// An answer that won, as protobuf writes it.
pub fn prompt_answer_to_pb(answer: &PromptAnswer) -> v1::PromptAnswer {
    let (decision, answers) = match &answer.body {
        AnswerBody::Decision(decision) => (Some(decision_to_pb(decision)), Vec::new()),
        AnswerBody::Answers(answers) => (None, answers.iter().map(question_answer_to_pb).collect()),
    };
    v1::PromptAnswer {
        by: Some(actor_to_pb(&answer.by)),
        at: Some(time_to_pb(answer.at)),
        decision,
        answers,
    }
}

/// An answer that won, from the wire. One that is both a decision and answers is refused.
pub fn prompt_answer_from_pb(answer: v1::PromptAnswer) -> Result<PromptAnswer> {
    let body = match answer.decision {
        Some(_) if !answer.answers.is_empty() => {
            return Err(Error::invalid("answer", "has both a decision and answers"));
        }
        Some(decision) => AnswerBody::Decision(decision_from_pb(decision)?),
        None => AnswerBody::Answers(
            answer
                .answers
                .into_iter()
                .map(question_answer_from_pb)
                .collect(),
        ),
    };
    Ok(PromptAnswer {
        by: actor_from_pb(required(answer.by, "answer.by")?)?,
        at: required_time(answer.at, "answer.at")?,
        body,
    })
}

/// What a caller answers, as a request carries it.
pub fn answer_body_to_pb(body: &AnswerBody) -> v1::answer_prompt_request::Answer {
    use v1::answer_prompt_request::Answer;
    match body {
        AnswerBody::Decision(decision) => Answer::Decision(decision_to_pb(decision)),
        AnswerBody::Answers(answers) => Answer::Answers(v1::QuestionAnswers {
            answers: answers.iter().map(question_answer_to_pb).collect(),
        }),
    }
}

/// What a caller answers, from a request.
pub fn answer_body_from_pb(
    answer: Option<v1::answer_prompt_request::Answer>,
) -> Result<AnswerBody> {
    use v1::answer_prompt_request::Answer;
    Ok(match required(answer, "answer")? {
        Answer::Decision(decision) => AnswerBody::Decision(decision_from_pb(decision)?),
        Answer::Answers(answers) => AnswerBody::Answers(
            answers
                .answers
                .into_iter()
                .map(question_answer_from_pb)
                .collect(),
        ),
    })
}

/// A decision as protobuf writes it.
pub fn decision_to_pb(decision: &Decision) -> v1::Decision {
    v1::Decision {
        allow: decision.allow,
        message: decision.message.clone(),
        updated_input: decision.updated_input.as_ref().map(json_to_pb),
        remember: enums::remember_to_pb(decision.remember).into(),
        pattern: decision.pattern.clone(),
        interrupt: decision.interrupt,
    }
}

/// A decision from the wire.
pub fn decision_from_pb(decision: v1::Decision) -> Result<Decision> {
    Ok(Decision {
        allow: decision.allow,
        message: decision.message,
        updated_input: json_from_pb(decision.updated_input, "decision.updated_input")?,
        remember: enums::remember_from_pb(decision.remember, "decision.remember")?
            .unwrap_or_default(),
        pattern: decision.pattern,
        interrupt: decision.interrupt,
    })
}

/// The answer to one question as protobuf writes it.
pub fn question_answer_to_pb(answer: &QuestionAnswer) -> v1::QuestionAnswer {
    v1::QuestionAnswer {
        question: answer.question.clone(),
        labels: answer.labels.clone(),
        text: answer.text.clone(),
    }
}

/// The answer to one question from the wire.
pub fn question_answer_from_pb(answer: v1::QuestionAnswer) -> QuestionAnswer {
    QuestionAnswer {
        question: answer.question,
        labels: answer.labels,
        text: answer.text,
    }
}

/// A rule as protobuf writes it.
pub fn rule_to_pb(rule: &PromptRule) -> v1::PromptRule {
    v1::PromptRule {
        id: rule.id.to_string(),
        pattern: rule.pattern.clone(),
        allow: rule.allow,
        session_id: rule.session_id.map(|id| id.to_string()).unwrap_or_default(),
        directory: rule.directory.clone(),
        created_by: Some(actor_to_pb(&rule.created_by)),
        created_at: Some(time_to_pb(rule.created_at)),
    }
}

/// A rule from the wire.
pub fn rule_from_pb(rule: v1::PromptRule) -> Result<PromptRule> {
    Ok(PromptRule {
        id: RuleId::parse("rule.id", &rule.id)?,
        pattern: rule.pattern,
        allow: rule.allow,
        session_id: optional_id(&rule.session_id, "rule.session_id", SessionId::parse)?,
        directory: rule.directory,
        created_by: actor_from_pb(required(rule.created_by, "rule.created_by")?)?,
        created_at: required_time(rule.created_at, "rule.created_at")?,
    })
}
