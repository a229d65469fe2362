//! What Codex asks: approvals and questions become prompts. Nothing is ever allowed here.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::items::command;
use super::state::{MAX_OPEN, OpenRequest};
use super::step::{Step, cut};
use crate::base::{Error, Json, Result};
use crate::domain::prompt::{
    AnswerBody, AnswerDelivery, Choice, Prompt, PromptKind, PromptState, Question,
};
use crate::domain::visible::visible_line;
use crate::domain::{EventBody, PromptAnswer};
use crate::driver::line::Object;
use crate::driver::rpc;
use crate::driver::shown::{MAX_SHOWN_INPUT_BYTES, cut_input};

/// The most questions of a request, and the most options of a question.
const MAX_QUESTIONS: usize = 50;
/// The longest id that is kept, in bytes.
const MAX_ID_BYTES: usize = 256;
/// The longest summary and reason, in characters.
const MAX_SUMMARY_CHARS: usize = 300;
const MAX_REASON_CHARS: usize = 1_000;

/// A request, as a prompt shows it.
struct Asked {
    kind: PromptKind,
    tool: String,
    input: Value,
    /// What is asked, in a line.
    what: String,
    questions: Vec<(String, Question)>,
}

impl Step<'_> {
    /// A request of the agent.
    pub(super) fn asked(&mut self, id: &str, method: &str, params: &str, text: &str) {
        let fields = Object::parse(params).unwrap_or_default();
        let call_id = cut(&fields.text_or_empty("itemId"), MAX_ID_BYTES);
        let asked = match method {
            "item/commandExecution/requestApproval" => Some(command_asked(&fields)),
            "item/fileChange/requestApproval" => Some(self.change_asked(&fields, &call_id)),
            "item/tool/requestUserInput" => questions_asked(&fields, params),
            _ => None,
        };
        let refused = match &asked {
            None => Some("Baton does not answer this"),
            Some(_) if self.state.open.len() >= MAX_OPEN => Some("too many requests are open"),
            Some(_) if self.state.open_request(id).is_some() => {
                Some("its id is that of a request that is open")
            }
            Some(_) => None,
        };
        let (Some(asked), None) = (asked, refused) else {
            let why = format!("{method}: {}", refused.unwrap_or_default());
            self.write(rpc::error(id, rpc::METHOD_NOT_FOUND, &why));
            return self.notice(method, &why, text);
        };
        self.tell_turn();
        let summary = match asked.what.is_empty() {
            true => asked.tool.clone(),
            false => format!("{}: {}", asked.tool, asked.what),
        };
        let input = Json::from_value(&asked.input);
        let whole = (input.as_str().len() > MAX_SHOWN_INPUT_BYTES)
            .then(|| self.content(input.as_str().as_bytes(), "application/json"));
        let shown = match &whole {
            Some(whole) => cut_input(whole, &Object::parse(input.as_str()).unwrap_or_default()),
            None => input,
        };
        let (ids, questions): (Vec<String>, Vec<Question>) = asked.questions.into_iter().unzip();
        let texts = questions.iter().map(|question| question.text.clone());
        let open = OpenRequest {
            key: id.to_owned(),
            prompt_id: self.next_prompt_id(),
            kind: asked.kind,
            questions: ids.into_iter().zip(texts).collect(),
            doubtful: false,
        };
        let prompt = Prompt {
            id: open.prompt_id,
            session_id: self.place.session_id,
            kind: asked.kind,
            request_key: open.key.clone(),
            call_id,
            tool: asked.tool,
            input: shown,
            plan: String::new(),
            questions,
            suggestions: Vec::new(),
            summary: visible_line(&summary, MAX_SUMMARY_CHARS),
            reason: visible_line(&fields.text_or_empty("reason"), MAX_REASON_CHARS),
            requested_at: self.record.time,
            expires_at: None,
            state: PromptState::Pending,
            answer: None,
            delivery: AnswerDelivery::None,
            note: String::new(),
            command_id: None,
            budget: None,
        };
        self.state.open.push(open);
        let body = EventBody::PromptRequested {
            prompt: Box::new(prompt),
        };
        match whole {
            Some(whole) => self.event_of(body, whole),
            None => self.event(body),
        }
    }

    /// A change of files: what it is was told with its item.
    fn change_asked(&self, fields: &Object<'_>, call_id: &str) -> Asked {
        let known = self.state.items.iter().find(|item| item.id == call_id);
        let input = known.and_then(|item| serde_json::from_str::<Value>(&item.input).ok());
        let mut input = match input {
            Some(Value::Object(input)) => input,
            _ => Map::new(),
        };
        // A whole directory is more than the file that a rule may know.
        let root = fields.text_or_empty("grantRoot");
        let tool = if root.is_empty() { "Edit" } else { "GrantRoot" };
        if !root.is_empty() {
            input.insert("grantRoot".to_owned(), Value::from(root.clone()));
        }
        let paths = input.get("changes").and_then(Value::as_array);
        let paths = paths.into_iter().flatten();
        let paths: Vec<&str> = paths.filter_map(|change| change["path"].as_str()).collect();
        let what = match root.is_empty() {
            true => paths.join(", "),
            false => root,
        };
        Asked {
            kind: PromptKind::Permission,
            tool: tool.to_owned(),
            what,
            input: Value::Object(input),
            questions: Vec::new(),
        }
    }

    /// Withdraws every prompt.
    pub(super) fn withdraw_all(&mut self, reason: &str) {
        for open in std::mem::take(&mut self.state.open) {
            // A prompt that was answered cannot be withdrawn any more.
            if !open.doubtful {
                self.event(EventBody::PromptWithdrawn {
                    prompt_id: open.prompt_id,
                    reason: reason.to_owned(),
                });
            }
        }
    }
}

fn command_asked(fields: &Object<'_>) -> Asked {
    let mut asked = Asked {
        kind: PromptKind::Permission,
        tool: "Bash".to_owned(),
        what: String::new(),
        input: Value::Null,
        questions: Vec::new(),
    };
    match (fields.text("command"), fields.raw("networkApprovalContext")) {
        (Some(whole), None) => {
            asked.input = command(&whole, &fields.text_or_empty("cwd"));
            asked.what = asked.input["command"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
        }
        // The network, for a command or by itself: more than the command that a rule may know.
        (whole, context) => {
            asked.tool = "Network".to_owned();
            let context: Value = serde_json::from_str(context.unwrap_or("{}")).unwrap_or_default();
            asked.what = context["host"].as_str().unwrap_or_default().to_owned();
            asked.input = json!({"command": whole, "network": context});
        }
    }
    asked
}

fn questions_asked(fields: &Object<'_>, params: &str) -> Option<Asked> {
    let listed = fields.objects("questions")?;
    if listed.is_empty() || listed.len() > MAX_QUESTIONS {
        return None;
    }
    let questions = listed.iter().map(|question| {
        let options = question.objects("options").unwrap_or_default();
        let options = options.iter().take(MAX_QUESTIONS);
        let asked = Question {
            header: question.text_or_empty("header"),
            text: question.text("question").filter(|text| !text.is_empty())?,
            options: options
                .map(|option| Choice {
                    label: option.text_or_empty("label"),
                    description: option.text_or_empty("description"),
                })
                .collect(),
            multi_select: false,
        };
        Some((cut(&question.text("id")?, MAX_ID_BYTES), asked))
    });
    let questions: Vec<(String, Question)> = questions.collect::<Option<_>>()?;
    Some(Asked {
        kind: PromptKind::Question,
        tool: "AskUserQuestion".to_owned(),
        what: questions[0].1.text.clone(),
        input: serde_json::from_str(params).ok()?,
        questions,
    })
}

/// The line that answers an open request. What is remembered is a rule of the server, so the agent is told "once".
pub(super) fn answer(open: &OpenRequest, answer: &PromptAnswer) -> Result<Bytes> {
    let result = match (&answer.body, open.kind) {
        (AnswerBody::Answers(answers), PromptKind::Question) => {
            let mut given = Map::new();
            for answer in answers {
                let known = open
                    .questions
                    .iter()
                    .find(|(_, text)| *text == answer.question);
                let Some((id, _)) = known else {
                    return Err(Error::invalid(
                        "answers.question",
                        "is none of the prompt's questions",
                    ));
                };
                let mut texts = answer.labels.clone();
                texts.extend(Some(answer.text.clone()).filter(|text| !text.is_empty()));
                given.insert(id.clone(), json!({"answers": texts}));
            }
            json!({"answers": given})
        }
        (AnswerBody::Decision(decision), PromptKind::Question) if !decision.allow => {
            json!({"answers": {}})
        }
        (AnswerBody::Decision(decision), PromptKind::Permission) => {
            if decision.updated_input.is_some() {
                return Err(Error::invalid(
                    "updated_input",
                    "cannot be given to Codex: it takes yes or no",
                ));
            }
            let word = match (decision.allow, decision.interrupt) {
                (true, _) => "accept",
                (false, false) => "decline",
                (false, true) => "cancel",
            };
            json!({"decision": word})
        }
        (AnswerBody::Decision(_), _) => {
            return Err(Error::invalid(
                "answer",
                "is a decision, but questions were asked",
            ));
        }
        (AnswerBody::Answers(_), _) => {
            return Err(Error::invalid(
                "answer",
                "has answers to questions, but the prompt asks for a decision",
            ));
        }
    };
    Ok(rpc::response(&open.key, &result))
}
