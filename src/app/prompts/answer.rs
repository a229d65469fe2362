//! Answering a prompt: the first answer wins, whoever gives it.

use super::{decided, rules};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::idempotency::{Begin, digest};
use crate::app::records;
use crate::app::sessions::Step;
use crate::app::sight::beyond;
use crate::base::id::{PromptId, RuleId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::budget::SoftVerdict;
use crate::domain::policy;
use crate::domain::prompt::{
    AnswerBody, Decision, PromptKind, PromptRule, PromptState, QuestionAnswer, Remember,
};
use crate::domain::{Actor, Prompt, PromptAnswer};
use crate::store::Expect;

use super::NewRule;

/// An answered prompt, and the rule that was made with the answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The prompt.
    pub prompt: Prompt,
    /// The rule, if one was made.
    pub rule: Option<PromptRule>,
}

/// The most text an answer carries, in bytes.
const MAX_ANSWER_TEXT: usize = 64 * 1024;

impl App {
    /// Answers a prompt.
    pub async fn answer_prompt(
        &self,
        caller: &Caller,
        request_id: &str,
        id: PromptId,
        session_id: Option<SessionId>,
        body: AnswerBody,
    ) -> Result<(Answered, u64)> {
        let (app, caller, request_id) = (self.clone(), caller.clone(), request_id.to_owned());
        self.to_its_end(async move {
            app.answer_whole(&caller, &request_id, id, session_id, body)
                .await
        })
        .await
    }

    async fn answer_whole(
        &self,
        caller: &Caller,
        request_id: &str,
        id: PromptId,
        session_id: Option<SessionId>,
        body: AnswerBody,
    ) -> Result<(Answered, u64)> {
        let (prompt, _) = self.get_prompt(caller, id).await?;
        if session_id.is_some_and(|session| session != prompt.session_id) {
            return Err(Error::invalid("session_id", "is not the prompt's session"));
        }
        check(&prompt, &body)?;
        if let Some(about) = prompt.budget {
            SoftVerdict::of(&body)?;
            self.may_answer_about(caller, about.budget).await?;
        }
        let request = digest(format!("{id}{body:?}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, "AnswerPrompt", request_id, request)
            .await?;
        let pending = match begun {
            Begin::Repeat(rule) => {
                let rule = std::str::from_utf8(&rule)
                    .ok()
                    .and_then(|text| text.parse::<RuleId>().ok());
                let (prompt, revision) = self.get_prompt(caller, id).await?;
                let rule = rule.and_then(|id| self.rules().get(id));
                return Ok((Answered { prompt, rule }, revision));
            }
            Begin::Fresh(pending) => pending,
        };
        let actor = caller.actor();
        let rule = self.rule_for(caller, &prompt, &body).await?;
        let made = rule.clone();
        let mark = pending.op(rule
            .as_ref()
            .map(|rule| rule.id.to_string())
            .unwrap_or_default()
            .as_bytes());
        let outcome = self
            .sessions()
            .step(prompt.session_id, move |step| {
                answer(step, id, body, &actor)?;
                if let Some(rule) = &made {
                    let op = records::put(records::rule_key(rule.id), rule, Expect::Absent)?;
                    step.op(op);
                }
                if let Some(op) = mark {
                    step.op(op);
                }
                Ok(())
            })
            .await;
        if let Err(error) = outcome {
            // Somebody was first: say who and how.
            let (prompt, _) = self.get_prompt(caller, id).await?;
            return Err(match prompt.state {
                PromptState::Answered => answered(&prompt),
                _ => error,
            });
        }
        if prompt.budget.is_some() {
            self.budgets().wake();
        }
        if let Some(rule) = &rule {
            self.rules().stored(rule.clone());
        }
        let (prompt, revision) = self.get_prompt(caller, id).await?;
        Ok((Answered { prompt, rule }, revision))
    }

    async fn rule_for(
        &self,
        caller: &Caller,
        prompt: &Prompt,
        body: &AnswerBody,
    ) -> Result<Option<PromptRule>> {
        let AnswerBody::Decision(decision) = body else {
            return Ok(None);
        };
        if decision.remember == Remember::None {
            return Ok(None);
        }
        let (session, _) = self.get_session(caller, prompt.session_id).await?;
        let pattern = if decision.pattern.is_empty() {
            policy::pattern_for(prompt, &session.cwd).ok_or_else(|| {
                Error::invalid(
                    "decision.pattern",
                    format!(
                        "is missing: no pattern means just this call, so say which is to be remembered ({} alone is every call), or answer for this once",
                        prompt.tool
                    ),
                )
            })?
        } else {
            decision.pattern.clone()
        };
        let for_good = decision.remember != Remember::Session;
        let directory = match &caller.narrowing {
            // For good, but for nothing that the caller does not see.
            Some(narrowing) if for_good => narrowing
                .bound_of(&session)
                .ok_or_else(|| {
                    beyond(caller, "makes rules for its sessions only, or beneath projects on every daemon; remember it for the session")
                })?
                .to_owned(),
            _ => String::new(),
        };
        let rule = NewRule {
            pattern,
            allow: decision.allow,
            session_id: (!for_good).then_some(prompt.session_id),
            directory,
        };
        self.rules().check(&rule)?;
        Ok(Some(self.rules().prepare(rule, &caller.actor())))
    }
}

fn answer(step: &mut Step<'_>, id: PromptId, body: AnswerBody, actor: &Actor) -> Result<()> {
    let Some(prompt) = step.live.prompts.get(&id).cloned() else {
        return Err(Error::state(
            "the prompt is over: it was answered, withdrawn or has expired",
        ));
    };
    match prompt.state {
        PromptState::Pending => {}
        PromptState::Answered => return Err(answered(&prompt)),
        PromptState::Expired => return Err(Error::state("the prompt has expired")),
        PromptState::Withdrawn => return Err(Error::state("the prompt was withdrawn")),
    }
    let answer = PromptAnswer {
        by: actor.clone(),
        at: step.now,
        body,
    };
    decided(step, prompt, answer)
}

/// What the second who answers is told.
fn answered(prompt: &Prompt) -> Error {
    let Some(answer) = &prompt.answer else {
        return Error::new(Code::PromptAnswered, "the prompt was answered already");
    };
    let how = match &answer.body {
        AnswerBody::Decision(Decision { allow: true, .. }) => "allow",
        AnswerBody::Decision(_) => "deny",
        AnswerBody::Answers(_) => "answers",
    };
    Error::new(
        Code::PromptAnswered,
        format!("{} answered first: {how}", answer.by.name),
    )
    .with("winner", &answer.by.name)
    .with("answer", how)
    .with("at", answer.at)
}

/// Whether an answer fits its prompt.
fn check(prompt: &Prompt, body: &AnswerBody) -> Result<()> {
    match (prompt.kind, body) {
        (PromptKind::Question, AnswerBody::Answers(answers)) => check_answers(prompt, answers),
        (PromptKind::Question, AnswerBody::Decision(decision)) => {
            // A question may be declined, with a word why.
            if decision.allow {
                return Err(Error::invalid(
                    "answers",
                    "are missing: this prompt is a question, and an allow says nothing",
                ));
            }
            check_decision(decision)
        }
        (_, AnswerBody::Decision(decision)) => check_decision(decision),
        (_, AnswerBody::Answers(_)) => Err(Error::invalid(
            "decision",
            "is missing: this prompt asks for allow or deny",
        )),
    }
}

fn check_decision(decision: &Decision) -> Result<()> {
    if decision.message.len() > MAX_ANSWER_TEXT {
        return Err(Error::invalid("decision.message", "is longer than 64 KiB"));
    }
    if !decision.pattern.is_empty()
        && let Err(error) = policy::Pattern::parse(&decision.pattern)
    {
        let problem = error.fields().first().map(|field| field.problem.clone());
        return Err(Error::invalid(
            "decision.pattern",
            problem.unwrap_or_else(|| "is not a pattern".to_owned()),
        ));
    }
    if decision.updated_input.is_some() && !decision.allow {
        return Err(Error::invalid(
            "decision.updated_input",
            "goes with an allow only",
        ));
    }
    if let Some(input) = &decision.updated_input
        && !input.to_value().is_object()
    {
        return Err(Error::invalid(
            "decision.updated_input",
            "must be a JSON object",
        ));
    }
    if decision.allow && decision.interrupt {
        return Err(Error::invalid(
            "decision.interrupt",
            "goes with a deny only",
        ));
    }
    Ok(())
}

fn check_answers(prompt: &Prompt, answers: &[QuestionAnswer]) -> Result<()> {
    for (index, answer) in answers.iter().enumerate() {
        let field = format!("answers[{index}]");
        let Some(question) = prompt
            .questions
            .iter()
            .find(|question| question.text == answer.question)
        else {
            return Err(Error::invalid(
                &field,
                "answers a question that was not asked; use the question's own text",
            ));
        };
        if answers[..index]
            .iter()
            .any(|earlier| earlier.question == answer.question)
        {
            return Err(Error::invalid(&field, "answers the same question again"));
        }
        if answer.text.len() > MAX_ANSWER_TEXT {
            return Err(Error::invalid(&field, "has a text longer than 64 KiB"));
        }
        if answer.labels.is_empty() && answer.text.is_empty() {
            return Err(Error::invalid(&field, "has neither a label nor a text"));
        }
        if answer.labels.len() > 1 && !question.multi_select {
            return Err(Error::invalid(
                &field,
                "has several labels, and the question takes one",
            ));
        }
        for label in &answer.labels {
            if !question.options.iter().any(|option| option.label == *label) {
                return Err(Error::invalid(
                    &field,
                    format!(
                        "has the label {label:?}, which is not offered; use text for an answer of your own"
                    ),
                ));
            }
        }
    }
    if answers.is_empty() {
        return Err(Error::invalid(
            "answers",
            "are missing; to decline the question, deny it",
        ));
    }
    Ok(())
}

impl App {
    /// Rules that the caller sees, oldest first; of one session only, if asked for.
    pub async fn list_rules(
        &self,
        caller: &Caller,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> Result<Page<PromptRule>> {
        let mut seen = Vec::new();
        for rule in self.rules().current().iter() {
            if self.sees_rule(caller, rule).await? {
                seen.push(rule.clone());
            }
        }
        Ok(rules::list(&seen, session, page))
    }

    /// Deletes a rule. NOT_FOUND: there is none, or it is not the caller's to see.
    pub async fn delete_rule(&self, caller: &Caller, id: RuleId) -> Result<()> {
        if let Some(rule) = self.rules().get(id)
            && !self.sees_rule(caller, &rule).await?
        {
            return Err(Error::not_found("rule", id));
        }
        let app = self.clone();
        self.to_its_end(async move { app.rules().delete(id).await })
            .await
    }

    /// Makes a rule. FORBIDDEN: it would touch more than a narrowed caller sees.
    pub async fn create_rule(
        &self,
        caller: &Caller,
        request_id: &str,
        rule: NewRule,
    ) -> Result<PromptRule> {
        if let Some(narrowing) = &caller.narrowing {
            match rule.session_id {
                Some(session) => self.require_session(caller, session).await?,
                None if narrowing.covers(&rule.directory) => {}
                None => {
                    return Err(beyond(
                        caller,
                        "makes rules for its sessions only, or beneath projects on every daemon",
                    ));
                }
            }
        }
        let request = digest(format!("{rule:?}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, "CreatePromptRule", request_id, request)
            .await?;
        match begun {
            Begin::Repeat(answer) => {
                let id = std::str::from_utf8(&answer).map_err(Error::internal)?;
                let id: RuleId = id.parse()?;
                self.rules()
                    .get(id)
                    .ok_or_else(|| Error::not_found("rule", id))
            }
            Begin::Fresh(pending) => {
                let (app, by) = (self.clone(), caller.actor());
                self.to_its_end(async move {
                    let mark = |id: RuleId| pending.op(id.to_string().as_bytes());
                    app.rules().create(rule, &by, mark).await
                })
                .await
            }
        }
    }
}
