//! Events: the entries of a session's log.

use std::time::Duration;

use super::actor::Actor;
use super::command::CommandOutcome;
use super::content::{Block, ContentRef};
use super::harness::PermissionMode;
use super::input::{Delivery, InputState};
use super::prompt::{AnswerDelivery, Prompt, PromptAnswer};
use super::session::{Activity, ActivitySource, EndInfo, Lifecycle, LimitAction};
use super::usage::Usage;
use crate::base::id::{BudgetId, CommandId, DaemonId, InputId, PromptId, SessionId, TurnId};
use crate::base::{Json, Timestamp};

/// The most of a harness's own text that an event keeps in `raw`, in bytes.
pub const MAX_RAW_BYTES: usize = 64 * 1024;

/// Which party made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The daemon.
    Daemon,
    /// The server.
    Server,
    /// The harness.
    Harness,
}

/// One entry of a session's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in the log, from 1; 0 while the server has not numbered it.
    pub seq: u64,
    /// When the server accepted it.
    pub time: Timestamp,
    /// The session.
    pub session_id: SessionId,
    /// Which party made it.
    pub origin: Origin,
    /// Who caused it.
    pub actor: Option<Actor>,
    /// Whether a reader that does not know the body may skip it.
    pub may_ignore: bool,
    /// What the harness wrote, where the body does not say everything; at most [`MAX_RAW_BYTES`].
    pub raw: Option<Json>,
    /// The same, byte for byte, where it is too large for that or is no text: content beside the log.
    pub raw_content: Option<ContentRef>,
    /// When the daemon read it from the harness.
    pub origin_time: Option<Timestamp>,
    /// What happened.
    pub body: EventBody,
}

impl Event {
    /// An event that has no number yet.
    pub fn new(session_id: SessionId, origin: Origin, time: Timestamp, body: EventBody) -> Self {
        Event {
            seq: 0,
            time,
            session_id,
            origin,
            actor: None,
            may_ignore: body.kind().may_ignore(),
            raw: None,
            raw_content: None,
            origin_time: None,
            body,
        }
    }

    /// The content it refers to.
    pub fn contents(&self) -> impl Iterator<Item = &ContentRef> {
        let blocks = match &self.body {
            EventBody::Message { blocks, .. } | EventBody::ToolResult { blocks, .. } => &blocks[..],
            _ => &[],
        };
        let of_blocks = blocks.iter().filter_map(|block| match block {
            Block::Content(reference) => Some(reference),
            _ => None,
        });
        let of_call = match &self.body {
            EventBody::ToolCall { content, .. } => content.as_ref(),
            _ => None,
        };
        of_blocks.chain(of_call).chain(&self.raw_content)
    }

    /// Whether nothing is done with it but to keep it: it says nothing about the session's state and nothing that is written
    /// live, and has no content beside it.
    pub fn is_only_kept(&self) -> bool {
        let says_nothing = matches!(
            self.body,
            EventBody::ToolCall { .. }
                | EventBody::ToolResult { .. }
                | EventBody::PlanUpdated { .. }
                | EventBody::Output { .. }
                | EventBody::Stderr { .. }
                | EventBody::Notice { .. }
        );
        says_nothing && self.contents().next().is_none()
    }

    /// The same event, caused by `actor`.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Kinds of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventKind {
            $($(#[$doc])* $name,)*
        }

        impl EventKind {
            /// Every kind.
            pub const ALL: &'static [EventKind] = &[$(EventKind::$name,)*];

            /// The kind's name.
            pub const fn as_str(self) -> &'static str {
                match self { $(EventKind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// The session was created.
    SessionCreated = "session_created",
    /// The harness runs.
    Started = "started",
    /// The lifecycle moved.
    LifecycleChanged = "lifecycle_changed",
    /// The activity changed.
    ActivityChanged = "activity_changed",
    /// The daemon's link was lost or found.
    LinkChanged = "link_changed",
    /// An input was accepted.
    InputAccepted = "input_accepted",
    /// An input moved on.
    InputChanged = "input_changed",
    /// Somebody said something.
    Message = "message",
    /// The agent uses a tool.
    ToolCall = "tool_call",
    /// A tool answered.
    ToolResult = "tool_result",
    /// A turn began.
    TurnStarted = "turn_started",
    /// A turn ended.
    TurnEnded = "turn_ended",
    /// The plan changed.
    PlanUpdated = "plan_updated",
    /// A line of standard output.
    Output = "output",
    /// A line of standard error.
    Stderr = "stderr",
    /// What was consumed so far.
    UsageUpdated = "usage_updated",
    /// The provider refuses until a time.
    RateLimited = "rate_limited",
    /// A limit was reached.
    LimitExceeded = "limit_exceeded",
    /// A budget holds the session no longer.
    LimitLifted = "limit_lifted",
    /// The agent asks a person.
    PromptRequested = "prompt_requested",
    /// A prompt was answered.
    PromptAnswered = "prompt_answered",
    /// A prompt expired.
    PromptExpired = "prompt_expired",
    /// A prompt was withdrawn.
    PromptWithdrawn = "prompt_withdrawn",
    /// What became of an answer on its way.
    PromptDelivered = "prompt_delivered",
    /// Model or permission mode changed.
    OptionsChanged = "options_changed",
    /// A command ended other than well.
    CommandFailed = "command_failed",
    /// A message of the harness without a body of its own.
    Notice = "notice",
    /// Output is missing.
    Gap = "gap",
    /// The session ended.
    Ended = "ended",
}

impl EventKind {
    /// Whether a reader that does not know this kind may skip it: what it says does not change what the
    /// other events mean.
    pub const fn may_ignore(self) -> bool {
        matches!(
            self,
            EventKind::ActivityChanged
                | EventKind::PlanUpdated
                | EventKind::Stderr
                | EventKind::UsageUpdated
                | EventKind::Notice
        )
    }

    /// Whether a later event of the same kind replaces this one for a reader that asked for `conflate`.
    pub const fn is_conflated(self) -> bool {
        matches!(
            self,
            EventKind::ActivityChanged | EventKind::PlanUpdated | EventKind::UsageUpdated
        )
    }
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The agent.
    Agent,
    /// A person, or what the harness inserted in a person's place.
    User,
    /// The harness.
    System,
}

/// One entry of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanItem {
    /// What is to be done.
    pub text: String,
    /// `pending`, `in_progress` or `completed`.
    pub status: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// The session was created.
    SessionCreated {
        /// The daemon it is placed on.
        daemon_id: DaemonId,
        /// Kind of agent program.
        harness: String,
        /// Working directory.
        cwd: String,
        /// The session it continues.
        resumed_from: Option<SessionId>,
        /// The session it branches from.
        forked_from: Option<SessionId>,
    },
    /// The harness runs, or told more about itself.
    Started {
        /// The harness's own conversation id; empty while it has none.
        provider_session_id: String,
        /// The model in use.
        model: String,
        /// Working directory.
        cwd: String,
        /// Names of the agent's tools.
        tools: Vec<String>,
        /// Process id.
        pid: u32,
        /// Version of the harness.
        version: String,
    },
    /// The lifecycle moved.
    LifecycleChanged {
        /// Where it was.
        from: Lifecycle,
        /// Where it is now.
        to: Lifecycle,
    },
    /// The activity changed.
    ActivityChanged {
        /// What the agent does now.
        activity: Activity,
        /// How this is known.
        source: ActivitySource,
        /// How sure that is, 0 to 100.
        confidence: u8,
    },
    /// The daemon's link was lost or found.
    LinkChanged {
        /// Whether it is linked now.
        attached: bool,
        /// The link's epoch.
        epoch: u64,
    },
    /// An input was accepted.
    InputAccepted {
        /// The input.
        input_id: InputId,
        /// Its text.
        text: String,
        /// How it is to be delivered.
        delivery: Delivery,
    },
    /// An input moved on.
    InputChanged {
        /// The input.
        input_id: InputId,
        /// Its state now.
        state: InputState,
        /// Its text, when it was edited.
        text: String,
        /// Why.
        reason: String,
    },
    /// Somebody said something.
    Message {
        /// Who spoke.
        role: Role,
        /// What was said.
        blocks: Vec<Block>,
        /// The harness's id of the message.
        message_id: String,
        /// The tool call of the sub-agent that spoke.
        parent_call_id: String,
    },
    /// The agent uses a tool.
    ToolCall {
        /// The harness's id of the call.
        call_id: String,
        /// Name of the tool.
        tool: String,
        /// What it is called with; `None` when `content` has it.
        input: Option<Json>,
        /// The input when it is too large for the event.
        content: Option<ContentRef>,
        /// The call of the sub-agent that uses it.
        parent_call_id: String,
    },
    /// A tool answered.
    ToolResult {
        /// The call it answers.
        call_id: String,
        /// What it answered.
        blocks: Vec<Block>,
        /// Whether it failed or was refused.
        is_error: bool,
    },
    /// A turn began.
    TurnStarted {
        /// The turn.
        turn_id: TurnId,
        /// The inputs it answers.
        input_ids: Vec<InputId>,
    },
    /// A turn ended.
    TurnEnded {
        /// The turn.
        turn_id: TurnId,
        /// Whether it failed or was interrupted.
        is_error: bool,
        /// Why it ended.
        reason: String,
        /// What it said last.
        text: String,
        /// What it consumed.
        usage: Usage,
        /// How long it took.
        duration: Duration,
        /// The inputs it answered.
        input_ids: Vec<InputId>,
        /// Status code of the model's API when that failed; else 0.
        api_status: u32,
    },
    /// The plan changed.
    PlanUpdated {
        /// The whole list.
        items: Vec<PlanItem>,
    },
    /// A line of standard output.
    Output {
        /// The line.
        text: String,
        /// Whether it goes on in the next event.
        continues: bool,
    },
    /// A line of standard error.
    Stderr {
        /// The line.
        text: String,
        /// Whether it goes on in the next event.
        continues: bool,
    },
    /// What was consumed so far.
    UsageUpdated {
        /// The session's totals.
        total: Usage,
    },
    /// The provider refuses until a time.
    RateLimited {
        /// When it is worth trying again.
        until: Option<Timestamp>,
        /// What the provider said.
        message: String,
    },
    /// A limit was reached.
    LimitExceeded {
        /// Which: runtime, idle, output_bytes, turns or cost; of a budget its limit, which begins with `budget_`.
        limit: String,
        /// What was reached.
        value: u64,
        /// What is allowed.
        allowed: u64,
        /// What follows.
        action: LimitAction,
        /// The budget whose limit it is; `None` for a limit of the session.
        budget_id: Option<BudgetId>,
    },
    /// A budget holds the session no longer.
    LimitLifted {
        /// The budget that held it.
        budget_id: BudgetId,
        /// Why.
        reason: String,
    },
    /// The agent asks a person.
    PromptRequested {
        /// The prompt as it was asked.
        prompt: Box<Prompt>,
    },
    /// A prompt was answered.
    PromptAnswered {
        /// The prompt.
        prompt_id: PromptId,
        /// The answer that won.
        answer: PromptAnswer,
    },
    /// A prompt expired.
    PromptExpired {
        /// The prompt.
        prompt_id: PromptId,
    },
    /// A prompt was withdrawn.
    PromptWithdrawn {
        /// The prompt.
        prompt_id: PromptId,
        /// Why.
        reason: String,
    },
    /// What became of an answer on its way.
    PromptDelivered {
        /// The prompt.
        prompt_id: PromptId,
        /// The delivery state now.
        delivery: AnswerDelivery,
        /// Why it could not be delivered.
        reason: String,
    },
    /// Model or permission mode changed.
    OptionsChanged {
        /// The model now; `None` if unchanged.
        model: Option<String>,
        /// The permission mode now.
        permission_mode: Option<PermissionMode>,
    },
    /// A command ended other than well.
    CommandFailed {
        /// The command.
        command_id: CommandId,
        /// What was to be done.
        command: String,
        /// How it ended.
        outcome: CommandOutcome,
        /// Why.
        reason: String,
    },
    /// A message of the harness without a body of its own.
    Notice {
        /// The harness's name for it.
        kind: String,
        /// What it says.
        text: String,
    },
    /// Output is missing.
    Gap {
        /// The first missing record.
        from_origin_seq: u64,
        /// The last missing record.
        to_origin_seq: u64,
        /// Why.
        reason: String,
    },
    /// The session ended.
    Ended {
        /// How.
        end: EndInfo,
    },
}

impl EventBody {
    /// The body's kind.
    pub const fn kind(&self) -> EventKind {
        match self {
            EventBody::SessionCreated { .. } => EventKind::SessionCreated,
            EventBody::Started { .. } => EventKind::Started,
            EventBody::LifecycleChanged { .. } => EventKind::LifecycleChanged,
            EventBody::ActivityChanged { .. } => EventKind::ActivityChanged,
            EventBody::LinkChanged { .. } => EventKind::LinkChanged,
            EventBody::InputAccepted { .. } => EventKind::InputAccepted,
            EventBody::InputChanged { .. } => EventKind::InputChanged,
            EventBody::Message { .. } => EventKind::Message,
            EventBody::ToolCall { .. } => EventKind::ToolCall,
            EventBody::ToolResult { .. } => EventKind::ToolResult,
            EventBody::TurnStarted { .. } => EventKind::TurnStarted,
            EventBody::TurnEnded { .. } => EventKind::TurnEnded,
            EventBody::PlanUpdated { .. } => EventKind::PlanUpdated,
            EventBody::Output { .. } => EventKind::Output,
            EventBody::Stderr { .. } => EventKind::Stderr,
            EventBody::UsageUpdated { .. } => EventKind::UsageUpdated,
            EventBody::RateLimited { .. } => EventKind::RateLimited,
            EventBody::LimitExceeded { .. } => EventKind::LimitExceeded,
            EventBody::LimitLifted { .. } => EventKind::LimitLifted,
            EventBody::PromptRequested { .. } => EventKind::PromptRequested,
            EventBody::PromptAnswered { .. } => EventKind::PromptAnswered,
            EventBody::PromptExpired { .. } => EventKind::PromptExpired,
            EventBody::PromptWithdrawn { .. } => EventKind::PromptWithdrawn,
            EventBody::PromptDelivered { .. } => EventKind::PromptDelivered,
            EventBody::OptionsChanged { .. } => EventKind::OptionsChanged,
            EventBody::CommandFailed { .. } => EventKind::CommandFailed,
            EventBody::Notice { .. } => EventKind::Notice,
            EventBody::Gap { .. } => EventKind::Gap,
            EventBody::Ended { .. } => EventKind::Ended,
        }
    }
}

/// Something live that is not part of the log: never numbered, never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transient {
    /// The session.
    pub session_id: SessionId,
    /// What it is.
    pub body: TransientBody,
}

/// What a transient says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransientBody {
    /// Text the agent is writing right now.
    MessageDelta {
        /// The harness's id of the message.
        message_id: String,
        /// Which block, from 0.
        block: u32,
        /// Where this text starts in the block, in bytes; what stood there is repeated or replaced.
        offset: u64,
        /// The text.
        text: String,
        /// Whether it is thinking.
        thinking: bool,
    },
    /// How far something has come.
    Progress {
        /// What goes on.
        text: String,
    },
}
