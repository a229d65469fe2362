//! Prompts: what agents ask people.

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::budget::Occasion;
use crate::base::id::{CommandId, PromptId, RuleId, SessionId};
use crate::base::{Json, Timestamp};

/// What kind of answer a prompt wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// May the agent use this tool with this input?
    Permission,
    /// Questions with options.
    Question,
    /// Is this plan good?
    Plan,
    /// A decision that the server asks for.
    Decision,
}

/// Where a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptState {
    /// It waits for an answer.
    Pending,
    /// It was answered.
    Answered,
    /// It expired; a permission was denied.
    Expired,
    /// It was withdrawn.
    Withdrawn,
}

/// What became of an answer on its way to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerDelivery {
    /// There is no answer yet.
    #[default]
    None,
    /// It waits for the daemon.
    Queued,
    /// The agent has it.
    Applied,
    /// The agent is gone or no longer asks.
    Undeliverable,
    /// Nobody can tell whether the agent has it.
    Indeterminate,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// A word or two above it.
    pub header: String,
    /// The question.
    pub text: String,
    /// What may be chosen.
    pub options: Vec<Choice>,
    /// Whether several may be chosen.
    pub multi_select: bool,
}

/// One choice of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is chosen.
    pub label: String,
    /// What it means.
    pub description: String,
}

/// What the harness offers to remember with an allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestion {
    /// For people: what would be remembered.
    pub label: String,
    /// The harness's own form.
    pub value: Json,
}

/// How long an allow or deny holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remember {
    /// Only this once.
    #[default]
    None,
    /// For this session.
    Session,
    /// For good.
    Rule,
}

/// Allow or deny.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it is allowed.
    pub allow: bool,
    /// What the agent is told with a deny.
    pub message: String,
    /// What the tool is called with instead.
    pub updated_input: Option<Json>,
    /// How long it holds.
    pub remember: Remember,
    /// The rule's pattern with `remember`; empty means one made from the prompt.
    pub pattern: String,
    /// With a deny: whether the turn ends too.
    pub interrupt: bool,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionAnswer {
    /// The question's text.
    pub question: String,
    /// The chosen labels.
    pub labels: Vec<String>,
    /// Free text, instead of or beside the labels.
    pub text: String,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerBody {
    /// For permission, plan and decision.
    Decision(Decision),
    /// For a question.
    Answers(Vec<QuestionAnswer>),
}

/// An answer that won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptAnswer {
    /// Who answered.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// What it says.
    pub body: AnswerBody,
}

/// A prompt's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Id.
    pub id: PromptId,
    /// The session that asks.
    pub session_id: SessionId,
    /// What kind of answer it wants.
    pub kind: PromptKind,
    /// The harness's own id of the request; an answer goes back under it and no other.
    pub request_key: String,
    /// The harness's id of the tool call.
    #[serde(default)]
    pub call_id: String,
    /// The tool.
    pub tool: String,
    /// What the tool would be called with.
    pub input: Json,
    /// The plan's text, for a plan.
    #[serde(default)]
    pub plan: String,
    /// The questions.
    pub questions: Vec<Question>,
    /// What the harness offers to remember.
    pub suggestions: Vec<Suggestion>,
    /// One line that says what is asked, hidden characters made visible.
    #[serde(default)]
    pub summary: String,
    /// Why the harness asks.
    #[serde(default)]
    pub reason: String,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Where it is.
    pub state: PromptState,
    /// The answer that won.
    pub answer: Option<PromptAnswer>,
    /// What became of the answer on its way.
    pub delivery: AnswerDelivery,
    /// Why it was withdrawn or could not be delivered.
    #[serde(default)]
    pub note: String,
    /// The command that carries the answer.
    #[serde(default)]
    pub command_id: Option<CommandId>,
    /// The budget that the server asks about; `None` for what an agent asks.
    #[serde(default)]
    pub budget: Option<Occasion>,
}

/// A rule that answers permissions by itself. Deny beats allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptRule {
    /// Id.
    pub id: RuleId,
    /// What it matches: `Tool` or `Tool(pattern)`.
    pub pattern: String,
    /// Whether it allows.
    pub allow: bool,
    /// Only in this session.
    pub session_id: Option<SessionId>,
    /// Only beneath this directory; empty means everywhere.
    pub directory: String,
    /// Who made it.
    pub created_by: Actor,
    /// When.
    pub created_at: Timestamp,
}
