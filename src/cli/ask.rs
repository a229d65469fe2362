//! Putting a prompt to a person at a terminal, and reading what they type.

use super::output::style::{Style, Tone, visible, visible_line};
use crate::domain::prompt::{
    AnswerBody, Decision, Prompt, PromptKind, Question, QuestionAnswer, Remember,
};

/// The most of a tool's input that is shown before `?` is asked for, in lines.
const INPUT_LINES: usize = 24;

/// What a typed line led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask on: show this.
    Show(String),
    /// The answer is complete.
    Answer(AnswerBody),
}

/// A prompt that is being put to a person.
pub struct Asking {
    /// The prompt.
    pub prompt: Prompt,
    answers: Vec<QuestionAnswer>,
}

impl Asking {
    /// Begins with a prompt.
    pub fn new(prompt: Prompt) -> Self {
        Asking {
            prompt,
            answers: Vec::new(),
        }
    }

    /// What to show first.
    pub fn opening(&self, style: Style) -> String {
        let prompt = &self.prompt;
        let mut text = String::new();
        match prompt.kind {
            PromptKind::Question => {
                text.push_str(&self.question(style));
                return text;
            }
            PromptKind::Plan => {
                text.push_str(&style.paint(Tone::Warn, "? The agent asks to review its plan:"));
                text.push('\n');
                text.push_str(&indented(&visible(prompt.plan.trim_end())));
            }
            PromptKind::Permission | PromptKind::Decision => {
                let head = format!("? May the agent use {}?", visible_line(&prompt.tool));
                text.push_str(&style.paint(Tone::Warn, &head));
                text.push('\n');
                text.push_str(&indented(&self.input(INPUT_LINES)));
            }
        }
        if !prompt.reason.is_empty() {
            text.push_str(&format!("\n  reason: {}", visible_line(&prompt.reason)));
        }
        text.push('\n');
        text.push_str(&style.paint(Tone::Dim, self.keys()));
        text
    }

    /// All of the prompt, for who looks at it without answering.
    pub fn everything(&self, style: Style) -> String {
        let prompt = &self.prompt;
        let mut parts = vec![style.paint(Tone::Strong, &visible_line(&prompt.tool))];
        if prompt.input.as_str() != "null" {
            parts.push(indented(&self.input(usize::MAX)));
        }
        if !prompt.plan.is_empty() {
            parts.push(indented(&visible(prompt.plan.trim_end())));
        }
        for question in &prompt.questions {
            parts.push(ask(question, "", style));
        }
        for suggestion in &prompt.suggestions {
            parts.push(format!(
                "  the agent suggests to remember: {}",
                visible_line(&suggestion.label)
            ));
        }
        if !prompt.reason.is_empty() {
            parts.push(format!("  reason: {}", visible_line(&prompt.reason)));
        }
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }

    fn keys(&self) -> &'static str {
        match self.prompt.kind {
            PromptKind::Plan => "  [a] approve  [d MESSAGE] reject, with what to change",
            PromptKind::Question => "",
            _ => "  [a] allow  [s] allow for this session  [d MESSAGE] deny  [?] show all of it",
        }
    }

    /// The tool's input, every hidden character visible.
    fn input(&self, lines: usize) -> String {
        let value = self.prompt.input.to_value();
        // A long command is read as it is, not as a JSON string with \n in it.
        let text = match &value {
            serde_json::Value::Object(fields) => fields
                .iter()
                .map(|(key, value)| {
                    let value = match value {
                        serde_json::Value::String(text) if text.contains('\n') => {
                            format!("\n{}", indented(&visible(text)))
                        }
                        serde_json::Value::String(text) => format!(" {}", visible(text)),
                        other => format!(" {}", visible(&other.to_string())),
                    };
                    format!("{}:{value}", visible_line(key))
                })
                .collect::<Vec<_>>()
                .join("\n"),
            serde_json::Value::Null => visible(self.prompt.input.as_str()),
            other => visible(&other.to_string()),
        };
        let count = text.lines().count();
        if count <= lines {
            return text;
        }
        let shown: Vec<&str> = text.lines().take(lines).collect();
        format!(
            "{}\n… {} more lines: ? shows them",
            shown.join("\n"),
            count - lines
        )
    }

    fn question(&self, style: Style) -> String {
        let number = self.answers.len();
        let Some(question) = self.prompt.questions.get(number) else {
            return String::new();
        };
        let of = match self.prompt.questions.len() {
            1 => String::new(),
            all => format!(" ({} of {all})", number + 1),
        };
        let mut text = ask(question, &of, style);
        text.push('\n');
        let keys = match (question.options.is_empty(), question.multi_select) {
            (true, _) => "  type the answer",
            (false, true) => "  numbers of one or more (1,3), or your own words",
            (false, false) => "  the number of one, or your own words",
        };
        text.push_str(&style.paint(Tone::Dim, keys));
        text
    }

    /// Takes a typed line.
    pub fn line(&mut self, line: &str, style: Style) -> Step {
        let line = line.trim();
        if self.prompt.kind == PromptKind::Question {
            return self.answer_question(line, style);
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let is_plan = self.prompt.kind == PromptKind::Plan;
        let decision = match word.to_lowercase().as_str() {
            "a" | "y" | "yes" | "allow" | "approve" if rest.is_empty() => Decision {
                allow: true,
                ..Decision::default()
            },
            "s" | "session" if rest.is_empty() && !is_plan => Decision {
                allow: true,
                remember: Remember::Session,
                ..Decision::default()
            },
            "d" | "n" | "no" | "deny" | "reject" => Decision {
                message: rest.trim().to_owned(),
                ..Decision::default()
            },
            "?" => return Step::Show(indented(&self.input(usize::MAX))),
            // Neither a yes nor a no is ever guessed.
            _ => return Step::Show(format!("please type one of these:\n{}", self.keys())),
        };
        Step::Answer(AnswerBody::Decision(decision))
    }

    fn answer_question(&mut self, line: &str, style: Style) -> Step {
        let Some(question) = self.prompt.questions.get(self.answers.len()) else {
            return Step::Answer(AnswerBody::Answers(std::mem::take(&mut self.answers)));
        };
        match read_choice(question, line) {
            Err(problem) => Step::Show(problem),
            Ok(answer) => {
                self.answers.push(answer);
                if self.answers.len() < self.prompt.questions.len() {
                    Step::Show(self.question(style))
                } else {
                    Step::Answer(AnswerBody::Answers(std::mem::take(&mut self.answers)))
                }
            }
        }
    }
}

/// Reads the answer to one question: numbers of options, an option's own words, or free text.
pub fn read_choice(question: &Question, line: &str) -> Result<QuestionAnswer, String> {
    let line = line.trim();
    if line.is_empty() {
        return Err("please type an answer".to_owned());
    }
    let answer = |labels: Vec<String>, text: &str| QuestionAnswer {
        question: question.text.clone(),
        labels,
        text: text.to_owned(),
    };
    let label = question
        .options
        .iter()
        .find(|option| option.label.eq_ignore_ascii_case(line));
    if let Some(option) = label {
        return Ok(answer(vec![option.label.clone()], ""));
    }
    let parts: Vec<&str> = line
        .split([',', ' '])
        .filter(|part| !part.is_empty())
        .collect();
    let is_numbers = !question.options.is_empty()
        && !parts.is_empty()
        && parts
            .iter()
            .all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if !is_numbers {
        return Ok(answer(Vec::new(), line));
    }
    let mut labels = Vec::new();
    for part in &parts {
        let option = part
            .parse::<usize>()
            .ok()
            .and_then(|number| question.options.get(number.checked_sub(1)?))
            .ok_or_else(|| format!("there is no option {part}"))?;
        if !labels.contains(&option.label) {
            labels.push(option.label.clone());
        }
    }
    if labels.len() > 1 && !question.multi_select {
        return Err("only one may be chosen".to_owned());
    }
    Ok(answer(labels, ""))
}

/// A question with its options.
fn ask(question: &Question, of: &str, style: Style) -> String {
    let head = format!("? {}{of}", visible(question.text.trim_end()));
    let mut text = style.paint(Tone::Warn, &head);
    for (number, option) in question.options.iter().enumerate() {
        text.push_str(&format!(
            "\n  {}. {}",
            number + 1,
            visible_line(&option.label)
        ));
        if !option.description.is_empty() {
            let about = format!(": {}", visible_line(&option.description));
            text.push_str(&style.paint(Tone::Dim, &about));
        }
    }
    text
}

fn indented(text: &str) -> String {
    format!("  {}", text.replace('\n', "\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{PromptId, SessionId};
    use crate::base::{Json, Timestamp};
    use crate::domain::prompt::{AnswerDelivery, Choice, PromptState};

    const PLAIN: Style = Style::new(false);

    fn prompt(kind: PromptKind) -> Prompt {
        let question = |text: &str, multi_select| Question {
            header: "h".into(),
            text: text.into(),
            options: ["Red", "Green"]
                .map(|label| Choice {
                    label: label.into(),
                    description: String::new(),
                })
                .to_vec(),
            multi_select,
        };
        Prompt {
            id: PromptId::from_bits(1),
            session_id: SessionId::from_bits(2),
            kind,
            request_key: "r".into(),
            call_id: String::new(),
            tool: "Bash".into(),
            input: Json::parse("x", "{\"command\":\"rm \\u202etxt\\nls\",\"n\":1}", 100).unwrap(),
            plan: "1. do\n2. it".into(),
            questions: vec![question("One?", false), question("Several?", true)],
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

    fn decide(kind: PromptKind, line: &str) -> Option<Decision> {
        match Asking::new(prompt(kind)).line(line, PLAIN) {
            Step::Answer(AnswerBody::Decision(decision)) => Some(decision),
            _ => None,
        }
    }

    #[test]
    fn a_permission_shows_every_hidden_character() {
        let text = Asking::new(prompt(PromptKind::Permission)).opening(PLAIN);
        assert!(text.contains("rm ⟨202E⟩txt\n"), "{text}");
        assert!(text.contains("n: 1"), "{text}");
    }

    #[test]
    fn keys_decide_and_nothing_else_does() {
        assert!(decide(PromptKind::Permission, "a").unwrap().allow);
        let session = decide(PromptKind::Permission, " S ").unwrap();
        assert!(session.allow && session.remember == Remember::Session);
        let denied = decide(PromptKind::Permission, "d not  now").unwrap();
        assert!(!denied.allow && denied.message == "not  now");
        for line in ["", "x", "all", "a b", "?", "yess"] {
            assert_eq!(decide(PromptKind::Permission, line), None, "{line}");
        }
        assert_eq!(decide(PromptKind::Plan, "s"), None);
        assert!(decide(PromptKind::Plan, "a").unwrap().allow);
    }

    #[test]
    fn questions_are_answered_one_after_the_other() {
        let mut asking = Asking::new(prompt(PromptKind::Question));
        assert!(asking.opening(PLAIN).contains("One? (1 of 2)"));
        assert!(matches!(asking.line("1,2", PLAIN), Step::Show(text) if text.contains("only one")));
        assert!(matches!(asking.line("3", PLAIN), Step::Show(text) if text.contains("no option")));
        assert!(matches!(asking.line("", PLAIN), Step::Show(_)));
        assert!(
            matches!(asking.line("green", PLAIN), Step::Show(text) if text.contains("Several?"))
        );
        let Step::Answer(AnswerBody::Answers(answers)) = asking.line("1, 2", PLAIN) else {
            panic!("not answered");
        };
        assert_eq!(answers[0].labels, ["Green"]);
        assert_eq!(answers[1].labels, ["Red", "Green"]);
    }

    #[test]
    fn own_words_are_an_answer() {
        let question = &prompt(PromptKind::Question).questions[0];
        let answer = read_choice(question, "blue, 2 of them").unwrap();
        assert_eq!(
            (answer.labels.len(), answer.text.as_str()),
            (0, "blue, 2 of them")
        );
    }
}
