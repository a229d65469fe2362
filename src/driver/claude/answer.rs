//! Answers of people as the harness takes them: `control_response` lines.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::state::OpenRequest;
use crate::base::{Error, Result};
use crate::domain::PromptAnswer;
use crate::domain::prompt::{AnswerBody, Decision, PromptKind, QuestionAnswer};
use crate::driver::line::Object;

/// What the agent is told when a person denies without a word.
const DENIED: &str = "A person denied this.";

/// The line that answers an open request.
pub(super) fn line(open: &OpenRequest, answer: &PromptAnswer) -> Result<Bytes> {
    match &answer.body {
        AnswerBody::Decision(decision) if !decision.allow => {
            let message = match decision.message.trim() {
                "" => DENIED,
                message => message,
            };
            Ok(deny(&open.key, message, decision.interrupt))
        }
        AnswerBody::Decision(decision) => allow(open, decision),
        AnswerBody::Answers(answers) => {
            if open.kind != PromptKind::Question {
                return Err(Error::invalid(
                    "answer",
                    "has answers to questions, but the prompt asks for a decision",
                ));
            }
            let input = with_answers(open, answers)?;
            Ok(allowed(&open.key, &input, None))
        }
    }
}

fn allow(open: &OpenRequest, decision: &Decision) -> Result<Bytes> {
    let input = match &decision.updated_input {
        Some(updated) if Object::parse(updated.as_str()).is_none() => {
            return Err(Error::invalid("updated_input", "is not a JSON object"));
        }
        Some(updated) => updated.as_str(),
        None => open.input.as_str(),
    };
    // What is remembered is a rule of the server, which names itself in each answer and can be deleted. A
    // harness that were told as well would no longer ask, and by a wider rule of its own.
    let update = (open.kind == PromptKind::Plan).then(|| {
        // Leaving plan mode returns to asking, whatever mode came before.
        json!({"type": "setMode", "mode": "default", "destination": "session"})
    });
    Ok(allowed(&open.key, input, update))
}

/// An allow. The input goes back as its own text, byte for byte.
fn allowed(key: &str, input: &str, update: Option<Value>) -> Bytes {
    let mut body = format!(r#"{{"behavior":"allow","updatedInput":{input}"#);
    if let Some(update) = update {
        body.push_str(&format!(r#","updatedPermissions":[{update}]"#));
    }
    body.push('}');
    success(key, &body)
}

/// A deny; with `interrupt` the turn ends too.
pub(super) fn deny(key: &str, message: &str, interrupt: bool) -> Bytes {
    let mut body = json!({"behavior": "deny", "message": message});
    if interrupt {
        body["interrupt"] = Value::Bool(true);
    }
    success(key, &body.to_string())
}

/// An error, for requests that are not answered; `raw_id` is the id as it came.
pub(super) fn error(raw_id: &str, why: &str) -> Bytes {
    let why = Value::String(why.to_owned());
    one_line(format!(
        r#"{{"type":"control_response","response":{{"subtype":"error","request_id":{raw_id},"error":{why}}}}}"#
    ))
}

fn success(key: &str, body: &str) -> Bytes {
    let key = Value::String(key.to_owned());
    one_line(format!(
        r#"{{"type":"control_response","response":{{"subtype":"success","request_id":{key},"response":{body}}}}}"#
    ))
}

/// The text as one line. JSON holds no raw line end within a string, so one that stands between two
/// tokens (an input that a person changed may be spread over lines) can be a space.
fn one_line(text: String) -> Bytes {
    let mut text = if text.contains(['\n', '\r']) {
        text.replace(['\n', '\r'], " ")
    } else {
        text
    };
    text.push('\n');
    Bytes::from(text)
}

/// The input with the answers in it: `"answers":{QUESTION: "LABEL, LABEL"}`.
fn with_answers(open: &OpenRequest, answers: &[QuestionAnswer]) -> Result<String> {
    let mut given = Map::new();
    for answer in answers {
        if !open.questions.contains(&answer.question) {
            return Err(Error::invalid(
                "answers.question",
                "is none of the prompt's questions",
            ));
        }
        let mut text = answer.labels.join(", ");
        if !answer.text.is_empty() {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&answer.text);
        }
        if !text.is_empty() {
            given.insert(answer.question.clone(), Value::String(text));
        }
    }
    let input = open.input.as_str().trim_end();
    let Some(body) = input.strip_suffix('}') else {
        return Err(Error::state("the request's input is not an object"));
    };
    let comma = if body.trim_end().ends_with('{') {
        ""
    } else {
        ","
    };
    Ok(format!(
        r#"{body}{comma}"answers":{}}}"#,
        Value::Object(given)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::PromptId;
    use crate::base::{Json, Timestamp};
    use crate::domain::Actor;
    use crate::domain::prompt::Remember;

    fn open(kind: PromptKind, input: &str) -> OpenRequest {
        OpenRequest {
            key: "key \"1\"".to_owned(),
            prompt_id: PromptId::from_bits(1),
            kind,
            tool: "Bash".to_owned(),
            input: Json::parse("input", input, usize::MAX).unwrap(),
            questions: vec!["Which?".to_owned(), "How {many}?".to_owned()],
            doubtful: false,
        }
    }

    fn text(open: &OpenRequest, body: AnswerBody) -> Result<String> {
        let answer = PromptAnswer {
            by: Actor::server(),
            at: Timestamp::EPOCH,
            body,
        };
        let bytes = line(open, &answer)?;
        let text = std::str::from_utf8(&bytes).unwrap().to_owned();
        assert!(text.ends_with('\n') && text.trim_end().lines().count() == 1);
        serde_json::from_str::<Value>(&text).unwrap();
        Ok(text)
    }

    fn decide(decision: Decision) -> AnswerBody {
        AnswerBody::Decision(decision)
    }

    fn allow_it() -> Decision {
        Decision {
            allow: true,
            ..Decision::default()
        }
    }

    #[test]
    fn an_allow_gives_the_input_back_byte_for_byte() {
        let input = r#"{"n": 12345678901234567890123,"a":1.0, "s":"\u00e9","s":2}"#;
        let sent = text(&open(PromptKind::Permission, input), decide(allow_it())).unwrap();
        assert!(
            sent.contains(&format!(r#""updatedInput":{input}"#)),
            "{sent}"
        );
        assert!(!sent.contains("updatedPermissions"));
    }

    #[test]
    fn a_changed_input_takes_its_place_and_must_be_an_object() {
        let request = open(PromptKind::Permission, r#"{"command":"a"}"#);
        let mut decision = allow_it();
        decision.updated_input = Some(Json::parse("i", "{\n\"command\":\"b\"}", 100).unwrap());
        let sent = text(&request, decide(decision.clone())).unwrap();
        assert!(
            sent.contains(r#""updatedInput":{ "command":"b"}"#),
            "{sent}"
        );
        decision.updated_input = Some(Json::parse("i", "[1]", 100).unwrap());
        assert!(text(&request, decide(decision)).is_err());
    }

    #[test]
    fn the_harness_is_never_told_to_remember() {
        let request = open(PromptKind::Permission, "{}");
        for remember in [Remember::None, Remember::Session, Remember::Rule] {
            let decision = Decision {
                remember,
                ..allow_it()
            };
            let sent = text(&request, decide(decision)).unwrap();
            assert!(!sent.contains("updatedPermissions"), "{remember:?}");
        }
    }

    #[test]
    fn a_plan_that_is_allowed_returns_to_asking() {
        let sent = text(&open(PromptKind::Plan, "{}"), decide(allow_it())).unwrap();
        assert!(sent.contains(r#"[{"type":"setMode","mode":"default","destination":"session"}]"#));
    }

    #[test]
    fn a_deny_says_why_and_may_end_the_turn() {
        let request = open(PromptKind::Permission, "{}");
        let mut decision = Decision {
            message: "not\n\"today\"".to_owned(),
            ..Decision::default()
        };
        let sent = text(&request, decide(decision.clone())).unwrap();
        assert!(
            sent.contains(r#""behavior":"deny","message":"not\n\"today\"""#),
            "{sent}"
        );
        assert!(!sent.contains("interrupt"));
        decision.interrupt = true;
        decision.message.clear();
        let sent = text(&request, decide(decision)).unwrap();
        assert!(sent.contains(r#""interrupt":true"#) && sent.contains(DENIED));
    }

    #[test]
    fn answers_go_into_the_input_beside_what_was_asked() {
        let answer = |question: &str, labels: &[&str], text: &str| QuestionAnswer {
            question: question.to_owned(),
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
            text: text.to_owned(),
        };
        let request = open(PromptKind::Question, r#"{"questions":[{"big":1.00}]}"#);
        let sent = text(
            &request,
            AnswerBody::Answers(vec![
                answer("Which?", &["S", "L"], ""),
                answer("How {many}?", &[], "my own: \"three\""),
            ]),
        )
        .unwrap();
        let input = r#"{"questions":[{"big":1.00}],"answers":{"Which?":"S, L","How {many}?":"my own: \"three\""}}"#;
        assert!(sent.contains(input), "{sent}");
        let empty = open(PromptKind::Question, "{ }");
        let sent = text(&empty, AnswerBody::Answers(vec![])).unwrap();
        assert!(sent.contains(r#""answers":{}"#));
        let foreign = vec![answer("Who?", &["x"], "")];
        assert!(text(&request, AnswerBody::Answers(foreign)).is_err());
        let permission = open(PromptKind::Permission, "{}");
        assert!(text(&permission, AnswerBody::Answers(vec![])).is_err());
    }
}
