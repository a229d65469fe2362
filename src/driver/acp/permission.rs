//! What the agent asks: permission requests become prompts. Nothing is ever allowed here.

use agent_client_protocol_schema::v1::{
    ContentBlock, PermissionOptionKind, RequestPermissionRequest, ToolCallContent,
};
use serde_json::{Value, json};

use super::calls::{MAX_DIFF_BYTES, diffs};
use super::state::{Choice, ChoiceKind, MAX_OPEN, OpenRequest};
use super::step::{Step, cut};
use super::{answer, tools};
use crate::base::Json;
use crate::domain::EventBody;
use crate::domain::prompt::{AnswerDelivery, Prompt, PromptKind, PromptState, Suggestion};
use crate::domain::visible::visible_line;
use crate::driver::line::{Object, value};
use crate::driver::rpc;
use crate::driver::shown::{MAX_SHOWN_INPUT_BYTES, cut_input};

/// The most options of a request.
const MAX_CHOICES: usize = 32;
/// The longest id of an option, in bytes.
const MAX_NAME_BYTES: usize = 512;
/// The longest summary and reason, in characters.
const MAX_SUMMARY_CHARS: usize = 300;
const MAX_REASON_CHARS: usize = 1_000;

impl Step<'_> {
    /// A `session/request_permission` request.
    pub(super) fn permission(&mut self, id: &str, params: &str, text: &str) {
        let request = match value::<RequestPermissionRequest>(params) {
            Ok(request) => request,
            Err(problem) => {
                let why = format!("Baton cannot read this permission request: {problem}");
                self.write(rpc::error(id, rpc::INVALID_PARAMS, &why));
                return self.notice("session/request_permission", &why, text);
            }
        };
        let is_odd = request.options.len() > MAX_CHOICES
            || request
                .options
                .iter()
                .any(|option| option.option_id.0.len() > MAX_NAME_BYTES);
        let refused = if *request.session_id.0 != *self.state.conversation {
            Some("it is about another conversation")
        } else if is_odd {
            Some("its options are too many or too long")
        } else if self.state.open.len() >= MAX_OPEN {
            Some("too many requests are open")
        } else if self.state.open_request(id).is_some() {
            Some("its id is that of a request that is open")
        } else {
            None
        };
        if let Some(why) = refused {
            let why = format!("Baton refused this permission request: {why}");
            self.write(rpc::error(id, rpc::INVALID_PARAMS, &why));
            return self.notice("session/request_permission", &why, text);
        }
        self.tell_turn();
        if self.state.turn.as_ref().is_some_and(|turn| turn.cancelled) {
            // Whoever cancelled the turn has answered this as well.
            return self.write(answer::cancelled(id));
        }
        let choices = request.options.iter().filter_map(|option| {
            let kind = match option.kind {
                PermissionOptionKind::AllowOnce => ChoiceKind::AllowOnce,
                PermissionOptionKind::AllowAlways => ChoiceKind::AllowAlways,
                PermissionOptionKind::RejectOnce => ChoiceKind::RejectOnce,
                PermissionOptionKind::RejectAlways => ChoiceKind::RejectAlways,
                _ => return None,
            };
            Some(Choice {
                id: option.option_id.0.to_string(),
                name: cut(&option.name, MAX_NAME_BYTES),
                kind,
            })
        });
        let choices = choices.collect();
        self.ask(id, &request, choices);
    }

    fn ask(&mut self, key: &str, request: &RequestPermissionRequest, choices: Vec<Choice>) {
        let call_id = cut(&request.tool_call.tool_call_id.0, MAX_NAME_BYTES);
        let fields = &request.tool_call.fields;
        // What the request says of the call counts; what it leaves out was told before.
        self.merge(&call_id, fields);
        let call = self.state.call(&call_id).0.clone();
        self.tell_call(&call_id);
        let (tool, mut input) = tools::named(&call);
        let content = fields.content.as_deref().unwrap_or_default();
        let diff = match diffs(content) {
            diff if diff.is_empty() => call.diff.clone(),
            diff => cut(&diff, MAX_DIFF_BYTES),
        };
        if let Value::Object(fields) = &mut input
            && !diff.is_empty()
            && !fields.contains_key("diff")
        {
            fields.insert("diff".to_owned(), Value::from(diff));
        }
        let summary = summary(&tool, &input, &call.title);
        let input = Json::from_value(&input);
        let whole = (input.as_str().len() > MAX_SHOWN_INPUT_BYTES)
            .then(|| self.content(input.as_str().as_bytes(), "application/json"));
        let shown = match &whole {
            Some(whole) => cut_input(whole, &Object::parse(input.as_str()).unwrap_or_default()),
            None => input,
        };
        let mut why: Vec<String> = vec![call.title.clone()];
        why.extend(texts(content));
        why.retain(|text| !text.is_empty() && !summary.contains(text.as_str()));
        let prompt = Prompt {
            id: self.next_prompt_id(),
            session_id: self.place.session_id,
            kind: PromptKind::Permission,
            request_key: key.to_owned(),
            call_id,
            tool,
            input: shown,
            plan: String::new(),
            questions: Vec::new(),
            suggestions: choices.iter().filter_map(suggestion).collect(),
            summary,
            reason: visible_line(&why.join("; "), MAX_REASON_CHARS),
            requested_at: self.record.time,
            expires_at: None,
            state: PromptState::Pending,
            answer: None,
            delivery: AnswerDelivery::None,
            note: String::new(),
            command_id: None,
            budget: None,
        };
        self.state.open.push(OpenRequest {
            key: key.to_owned(),
            prompt_id: prompt.id,
            choices,
            doubtful: false,
        });
        let body = EventBody::PromptRequested {
            prompt: Box::new(prompt),
        };
        match whole {
            Some(whole) => self.event_of(body, whole),
            None => self.event(body),
        }
    }

    /// A `$/cancel_request` notification: the agent no longer asks.
    pub(super) fn withdrawn_by_agent(&mut self, params: &str) {
        let params = Object::parse(params).unwrap_or_default();
        let key = params.raw("requestId").unwrap_or_default();
        let open = &mut self.state.open;
        if let Some(at) = open.iter().position(|open| open.key == key) {
            let open = open.remove(at);
            if !open.doubtful {
                self.write(rpc::error(key, rpc::CANCELLED, "cancelled as asked"));
            }
            self.withdrawn(&open, "the agent no longer asks");
        }
    }

    /// Withdraws every prompt.
    pub(super) fn withdraw_all(&mut self, reason: &str) {
        for open in std::mem::take(&mut self.state.open) {
            self.withdrawn(&open, reason);
        }
    }

    /// Tells that a request is no longer open.
    pub(super) fn withdrawn(&mut self, open: &OpenRequest, reason: &str) {
        // A prompt that was answered cannot be withdrawn any more.
        if !open.doubtful {
            self.event(EventBody::PromptWithdrawn {
                prompt_id: open.prompt_id,
                reason: reason.to_owned(),
            });
        }
    }
}

/// What the agent offers to remember, for people to look at.
fn suggestion(choice: &Choice) -> Option<Suggestion> {
    let kind = match choice.kind {
        ChoiceKind::AllowAlways => "allow_always",
        ChoiceKind::RejectAlways => "reject_always",
        ChoiceKind::AllowOnce | ChoiceKind::RejectOnce => return None,
    };
    Some(Suggestion {
        label: visible_line(&choice.name, 200),
        value: Json::from_value(&json!({
            "optionId": choice.id, "name": choice.name, "kind": kind,
        })),
    })
}

fn texts(content: &[ToolCallContent]) -> Vec<String> {
    let texts = content.iter().filter_map(|part| match part {
        ToolCallContent::Content(content) => match &content.content {
            ContentBlock::Text(text) => Some(cut(&text.text, MAX_REASON_CHARS)),
            _ => None,
        },
        _ => None,
    });
    texts.collect()
}

/// One line that says what is asked. What the tool will do comes before what the agent says about it.
fn summary(tool: &str, input: &Value, title: &str) -> String {
    let words = ["command", "file_path", "path", "url", "query", "pattern"];
    let what = words
        .iter()
        .find_map(|key| match &input[*key] {
            Value::String(text) => Some(text.clone()),
            Value::Array(parts) => {
                let words: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
                (!words.is_empty()).then(|| words.join(" "))
            }
            _ => None,
        })
        .unwrap_or_else(|| title.to_owned());
    let text = match what.is_empty() {
        true => tool.to_owned(),
        false => format!("{tool}: {what}"),
    };
    visible_line(&text, MAX_SUMMARY_CHARS)
}
