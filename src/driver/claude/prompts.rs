//! What the harness asks: control requests become prompts, or are refused. Nothing is ever allowed here.

use super::answer;
use super::blocks::MAX_PLAN_BYTES;
use super::state::{MAX_OPEN, OpenRequest};
use super::step::{Step, cut};
use super::suggestions;
use crate::base::Json;
use crate::domain::prompt::{AnswerDelivery, Choice, Prompt, PromptKind, PromptState, Question};
use crate::domain::visible::{visible_line, visible_text};
use crate::domain::{ContentRef, EventBody};
use crate::driver::line::Object;
use crate::driver::shown::{MAX_SHOWN_INPUT_BYTES, cut_input};

/// The most questions of a prompt, and the most options of a question.
const MAX_QUESTIONS: usize = 50;
/// The longest summary, in characters.
const MAX_SUMMARY_CHARS: usize = 300;
/// The longest id or tool name that is taken, in bytes.
const MAX_NAME_BYTES: usize = 512;

impl Step<'_> {
    /// A `control_request` line.
    pub(super) fn control_request(&mut self, line: &Object<'_>, text: &str) {
        let Some(raw_id) = line.raw("request_id") else {
            return self.notice("control_request", "a request without an id", text);
        };
        let request = line.object("request").unwrap_or_default();
        let subtype = request.text_or_empty("subtype");
        let id = line
            .text("request_id")
            .filter(|id| !id.is_empty() && id.len() <= MAX_NAME_BYTES);
        match (subtype.as_str(), id) {
            ("can_use_tool", Some(id)) => self.ask(&id, &request, text),
            _ => {
                let why = format!("Baton does not answer requests of the kind {subtype:?}");
                self.write(answer::error(raw_id, &why));
                self.notice("control_request", &why, text);
            }
        }
    }

    /// A `control_cancel_request` line.
    pub(super) fn control_cancel(&mut self, line: &Object<'_>) {
        let key = line.text_or_empty("request_id");
        self.withdraw(&key, "the agent no longer asks");
    }

    /// The requests that the harness says are open: the truth after a take-over.
    pub(super) fn resync(&mut self, pending: Vec<Object<'_>>) {
        let keys: Vec<String> = pending
            .iter()
            .map(|line| line.text_or_empty("request_id"))
            .collect();
        let gone: Vec<String> = self
            .state
            .open
            .iter()
            .map(|open| open.key.clone())
            .filter(|key| !keys.contains(key))
            .collect();
        for key in gone {
            self.withdraw(&key, "the agent no longer asks");
        }
        for (line, key) in pending.iter().zip(keys) {
            let known = self.state.open_request(&key);
            if known.is_some_and(|open| open.doubtful) {
                // The answer that was on its way did not arrive: it is asked again, as another prompt.
                self.state.open.retain(|open| open.key != key);
            } else if known.is_some() || self.state.answered.contains(&key) {
                continue;
            }
            self.control_request(line, "{}");
        }
    }

    /// Withdraws every prompt.
    pub(super) fn withdraw_all(&mut self, reason: &str) {
        for open in std::mem::take(&mut self.state.open) {
            self.withdrawn(&open, reason);
        }
    }

    fn withdraw(&mut self, key: &str, reason: &str) {
        let open = &mut self.state.open;
        if let Some(at) = open.iter().position(|open| open.key == key) {
            let open = open.remove(at);
            self.withdrawn(&open, reason);
        }
    }

    fn withdrawn(&mut self, open: &OpenRequest, reason: &str) {
        // A prompt that was answered cannot be withdrawn any more.
        if !open.doubtful {
            self.event(EventBody::PromptWithdrawn {
                prompt_id: open.prompt_id,
                reason: reason.to_owned(),
            });
        }
    }

    fn ask(&mut self, key: &str, request: &Object<'_>, text: &str) {
        let tool = request.text_or_empty("tool_name");
        let input = request.raw("input").filter(|input| input.starts_with('{'));
        let input = input.and_then(|input| Json::parse("input", input, usize::MAX).ok());
        let refused = match &input {
            _ if tool.is_empty() || tool.len() > MAX_NAME_BYTES => Some("it names no tool"),
            None => Some("it has no input"),
            Some(_) if self.state.open.len() >= MAX_OPEN => Some("too many requests are open"),
            Some(_) => None,
        };
        let (Some(input), None) = (input, refused) else {
            let why = format!(
                "Baton refused this permission request: {}",
                refused.unwrap_or_default()
            );
            self.write(answer::deny(key, &why, false));
            return self.notice("can_use_tool", &why, text);
        };
        if let Some(known) = self.state.open_request(key) {
            if known.input == input && known.tool == tool {
                return;
            }
            self.withdraw(key, "the agent asks something else under the same id");
        }
        // An id that comes again is a request of its own.
        self.state.answered.retain(|answered| answered != key);
        // The answer gives back the whole; a prompt shows as much as is good to read.
        let whole = (input.as_str().len() > MAX_SHOWN_INPUT_BYTES)
            .then(|| self.content(input.as_str().as_bytes(), "application/json"));
        let prompt = self.prompt(key, &tool, request, &input, whole.as_ref());
        self.state.open.push(OpenRequest {
            key: key.to_owned(),
            prompt_id: prompt.id,
            kind: prompt.kind,
            tool,
            input,
            questions: prompt.questions.iter().map(|q| q.text.clone()).collect(),
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

    fn prompt(
        &mut self,
        key: &str,
        tool: &str,
        request: &Object<'_>,
        input: &Json,
        whole: Option<&ContentRef>,
    ) -> Prompt {
        let fields = Object::parse(input.as_str()).unwrap_or_default();
        let call_id = request.text_or_empty("tool_use_id");
        let questions = match tool {
            "AskUserQuestion" if input.as_str().len() <= MAX_SHOWN_INPUT_BYTES => {
                questions(&fields).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let kind = match tool {
            "ExitPlanMode" => PromptKind::Plan,
            _ if !questions.is_empty() => PromptKind::Question,
            _ => PromptKind::Permission,
        };
        let plan = match kind {
            PromptKind::Plan => fields
                .text("plan")
                .unwrap_or_else(|| self.state.plan_of(&call_id)),
            _ => String::new(),
        };
        let why = [
            request.text("decision_reason"),
            request
                .text("blocked_path")
                .map(|path| format!("it is about {path}")),
            request
                .text("agent_id")
                .map(|_| "a sub-agent asks".to_owned()),
        ];
        let why: Vec<String> = why.into_iter().flatten().collect();
        Prompt {
            id: self.next_prompt_id(),
            session_id: self.place.session_id,
            kind,
            request_key: key.to_owned(),
            call_id: cut(&call_id, MAX_NAME_BYTES),
            tool: tool.to_owned(),
            summary: summary(tool, &fields, request, &questions),
            input: whole.map_or_else(|| input.clone(), |whole| cut_input(whole, &fields)),
            plan: visible_text(&cut(&plan, MAX_PLAN_BYTES)),
            questions,
            suggestions: suggestions::of(request),
            reason: visible_line(&why.join("; "), 1_000),
            requested_at: self.record.time,
            expires_at: None,
            state: PromptState::Pending,
            answer: None,
            delivery: AnswerDelivery::None,
            note: String::new(),
            command_id: None,
            budget: None,
        }
    }
}

fn questions(input: &Object<'_>) -> Option<Vec<Question>> {
    let asked = input.objects("questions")?;
    if asked.len() > MAX_QUESTIONS {
        return None;
    }
    asked.iter().map(question).collect()
}

fn question(question: &Object<'_>) -> Option<Question> {
    let options = question.objects("options").unwrap_or_default();
    if options.len() > MAX_QUESTIONS {
        return None;
    }
    let options = options.iter().map(|option| {
        Some(Choice {
            label: option.text("label")?,
            description: option.text_or_empty("description"),
        })
    });
    Some(Question {
        header: question.text_or_empty("header"),
        text: question.text("question").filter(|text| !text.is_empty())?,
        options: options.collect::<Option<_>>()?,
        multi_select: question.flag("multiSelect"),
    })
}

/// One line that says what is asked.
fn summary(tool: &str, input: &Object<'_>, request: &Object<'_>, questions: &[Question]) -> String {
    let what = if let Some(first) = questions.first() {
        match questions.len() {
            1 => first.text.clone(),
            more => format!("{} (and {} more)", first.text, more - 1),
        }
    } else if tool == "ExitPlanMode" {
        "a plan to review".to_owned()
    } else {
        // What the tool will do comes before what the agent says about it.
        [
            "command",
            "file_path",
            "notebook_path",
            "path",
            "url",
            "query",
            "pattern",
        ]
        .into_iter()
        .find_map(|key| input.text(key))
        .or_else(|| request.text("description"))
        .unwrap_or_default()
    };
    let name = if what.is_empty() {
        tool.to_owned()
    } else {
        format!("{tool}: ")
    };
    visible_line(&format!("{name}{what}"), MAX_SUMMARY_CHARS)
}
