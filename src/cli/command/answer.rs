//! `baton answer`: an answer to what an agent asks.

use super::request_id;
use crate::base::Json;
use crate::cli::args::{AnswerArgs, Global};
use crate::cli::ask::read_choice;
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, usage};
use crate::cli::output::{Out, event, json};
use crate::cli::resolve;
use crate::domain::prompt::{
    AnswerBody, Decision, Prompt, PromptKind, Question, QuestionAnswer, Remember,
};
use crate::wire::field::MAX_JSON_BYTES;
use crate::wire::prompt::{answer_body_to_pb, prompt_from_pb};
use crate::wire::v1;

/// `baton answer`
pub async fn run(global: &Global, out: &Out, args: AnswerArgs) -> anyhow::Result<u8> {
    let client = connect(global).await?;
    let id = resolve::prompt(&client, &args.prompt).await?;
    let response = client
        .get_prompt(v1::GetPromptRequest {
            prompt_id: id.to_string(),
        })
        .await?;
    let prompt = prompt_from_pb(crate::wire::field::required(response.prompt, "prompt")?)?;
    let body = body_of(&args, &prompt)?;
    let response = client
        .answer_prompt(v1::AnswerPromptRequest {
            request_id: request_id(),
            prompt_id: id.to_string(),
            session_id: prompt.session_id.to_string(),
            answer: Some(answer_body_to_pb(&body)),
        })
        .await?;
    let answered = crate::wire::field::required(response.prompt, "prompt")?;
    if out.json {
        out.value(&serde_json::json!({
            "prompt": json::prompt(&answered),
            "rule": response.rule.as_ref().map(json::rule),
        }))?;
        return Ok(DONE);
    }
    let answered = prompt_from_pb(answered)?;
    match &answered.answer {
        Some(answer) => out.line(&event::answered(answer))?,
        None => out.line("answered")?,
    }
    if let Some(rule) = response.rule {
        out.line(&format!(
            "rule {} made: {}",
            rule.id,
            crate::cli::output::style::visible_line(&rule.pattern)
        ))?;
    }
    Ok(DONE)
}

/// The answer that the arguments make to this prompt.
fn body_of(args: &AnswerArgs, prompt: &Prompt) -> anyhow::Result<AnswerBody> {
    let is_question = prompt.kind == PromptKind::Question;
    if !args.option.is_empty() || !args.text.is_empty() {
        if !is_question {
            return Err(usage("this prompt wants --allow or --deny"));
        }
        return answers_of(args, prompt).map(AnswerBody::Answers);
    }
    if !args.allow && args.deny.is_none() {
        return Err(usage(if is_question {
            "say what to answer: --option or --text"
        } else {
            "say what to answer: --allow or --deny"
        }));
    }
    if args.allow && is_question {
        return Err(usage(
            "a question wants --option or --text, or --deny to refuse it",
        ));
    }
    let updated_input = match args.input.as_deref() {
        Some(text) => Some(Json::parse("--input", text, MAX_JSON_BYTES)?),
        None => None,
    };
    Ok(AnswerBody::Decision(Decision {
        allow: args.allow,
        message: args.deny.clone().unwrap_or_default(),
        updated_input,
        remember: match args.remember.as_deref() {
            Some("session") => Remember::Session,
            Some(_) => Remember::Rule,
            None => Remember::None,
        },
        pattern: args.pattern.clone().unwrap_or_default(),
        interrupt: args.interrupt,
    }))
}

fn answers_of(args: &AnswerArgs, prompt: &Prompt) -> anyhow::Result<Vec<QuestionAnswer>> {
    let mut answers: Vec<QuestionAnswer> = Vec::new();
    let mut add = |question: &Question, labels: Vec<String>, text: &str| -> anyhow::Result<()> {
        let at = answers.iter().position(|a| a.question == question.text);
        let answer = match at {
            Some(at) => &mut answers[at],
            None => {
                answers.push(QuestionAnswer {
                    question: question.text.clone(),
                    labels: Vec::new(),
                    text: String::new(),
                });
                let last = answers.len() - 1;
                &mut answers[last]
            }
        };
        for label in labels {
            if !answer.labels.contains(&label) {
                answer.labels.push(label);
            }
        }
        if answer.labels.len() > 1 && !question.multi_select {
            return Err(usage(format!(
                "only one may be chosen for {:?}",
                question.text
            )));
        }
        if !text.is_empty() {
            answer.text = text.to_owned();
        }
        Ok(())
    };
    for given in &args.option {
        let (question, label) = place(given, &prompt.questions)?;
        let choice = read_choice(question, label).map_err(usage)?;
        if choice.labels.is_empty() {
            let all: Vec<&str> = question.options.iter().map(|o| o.label.as_str()).collect();
            return Err(usage(format!(
                "{label:?} is not an option of {:?}; there are {}",
                question.text,
                all.join(", ")
            )));
        }
        add(question, choice.labels, "")?;
    }
    for given in &args.text {
        let (question, text) = place(given, &prompt.questions)?;
        add(question, Vec::new(), text)?;
    }
    Ok(answers)
}

/// Which question a `QUESTION=ANSWER` means, by its number, header or beginning. With a single question
/// the name may be left out, and an answer may contain `=`.
fn place<'a, 'b>(
    given: &'b str,
    questions: &'a [Question],
) -> anyhow::Result<(&'a Question, &'b str)> {
    if let Some((name, answer)) = given.split_once('=') {
        let name = name.trim();
        let by_number = name
            .parse::<usize>()
            .ok()
            .and_then(|number| questions.get(number.checked_sub(1)?));
        if let Some(question) = by_number {
            return Ok((question, answer));
        }
        let lower = name.to_lowercase();
        let found: Vec<&Question> = questions
            .iter()
            .filter(|question| {
                !lower.is_empty()
                    && (question.header.to_lowercase() == lower
                        || question.text.to_lowercase().starts_with(&lower))
            })
            .collect();
        if let [question] = found.as_slice() {
            return Ok((question, answer));
        }
    }
    match questions {
        [only] => Ok((only, given)),
        _ => {
            let list: Vec<String> = questions
                .iter()
                .enumerate()
                .map(|(number, question)| format!("{}: {}", number + 1, question.text))
                .collect();
            Err(usage(format!(
                "say which question {given:?} answers, as NUMBER=ANSWER; they are {}",
                list.join("; ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::id::{PromptId, SessionId};
    use crate::cli::exit::{USAGE, code_of};
    use crate::domain::prompt::{AnswerDelivery, Choice, PromptState};

    fn prompt(kind: PromptKind, questions: &[(&str, bool)]) -> Prompt {
        Prompt {
            id: PromptId::from_bits(1),
            session_id: SessionId::from_bits(2),
            kind,
            request_key: String::new(),
            call_id: String::new(),
            tool: "T".into(),
            input: Json::default(),
            plan: String::new(),
            questions: questions
                .iter()
                .map(|(text, multi_select)| Question {
                    header: format!("h-{text}"),
                    text: (*text).to_owned(),
                    options: ["Red", "Green=2"]
                        .map(|label| Choice {
                            label: label.into(),
                            description: String::new(),
                        })
                        .to_vec(),
                    multi_select: *multi_select,
                })
                .collect(),
            suggestions: Vec::new(),
            summary: String::new(),
            reason: String::new(),
            requested_at: Timestamp::EPOCH,
            expires_at: None,
            state: PromptState::Pending,
            answer: None,
            delivery: AnswerDelivery::None,
            note: String::new(),
            command_id: None,
            budget: None,
        }
    }

    fn options(options: &[&str]) -> AnswerArgs {
        AnswerArgs {
            option: options.iter().map(|option| (*option).to_owned()).collect(),
            ..AnswerArgs::default()
        }
    }

    #[test]
    fn options_find_their_question() {
        let two = prompt(
            PromptKind::Question,
            &[("Colour?", false), ("Several?", true)],
        );
        let args = options(&["1=red", "sev=1", "h-several?=Green=2"]);
        let AnswerBody::Answers(answers) = body_of(&args, &two).unwrap() else {
            panic!()
        };
        assert_eq!(answers[0].labels, ["Red"]);
        assert_eq!(answers[1].labels, ["Red", "Green=2"]);
        let one = prompt(PromptKind::Question, &[("Colour?", false)]);
        let AnswerBody::Answers(answers) = body_of(&options(&["Green=2"]), &one).unwrap() else {
            panic!()
        };
        assert_eq!(answers[0].labels, ["Green=2"]);
    }

    #[test]
    fn what_does_not_fit_is_a_usage_error() {
        let question = prompt(PromptKind::Question, &[("A?", false), ("B?", false)]);
        let permission = prompt(PromptKind::Permission, &[]);
        let allow = || AnswerArgs {
            allow: true,
            ..AnswerArgs::default()
        };
        let bad_json = AnswerArgs {
            input: Some("{".into()),
            ..allow()
        };
        for (args, prompt) in [
            (options(&["Red"]), &question),
            (options(&["1=Blue"]), &question),
            (options(&["1=Red", "1=Green=2"]), &question),
            (options(&["Red"]), &permission),
            (AnswerArgs::default(), &permission),
            (allow(), &question),
            (bad_json, &permission),
        ] {
            let error = body_of(&args, prompt).unwrap_err();
            assert_eq!(code_of(&error), USAGE, "{args:?}");
        }
    }

    #[test]
    fn a_decision_carries_what_was_said() {
        let args = AnswerArgs {
            allow: true,
            input: Some("{\"n\": 12345678901234567890}".into()),
            remember: Some("rule".into()),
            pattern: Some("Bash(ls:*)".into()),
            ..AnswerArgs::default()
        };
        let AnswerBody::Decision(decision) =
            body_of(&args, &prompt(PromptKind::Permission, &[])).unwrap()
        else {
            panic!()
        };
        assert!(decision.allow && decision.remember == Remember::Rule);
        assert_eq!(
            decision.updated_input.unwrap().as_str(),
            "{\"n\": 12345678901234567890}"
        );
    }
}
