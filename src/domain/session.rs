//! A session: one run of one harness process.
//!
//! Its state is three independent facts: the lifecycle, the activity (while it runs), and the link. None is
//! derived from another, and a lost link is neither an end nor a failure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::agent::SessionAgent;
use super::harness::{Capabilities, PermissionMode};
use super::spending::Book;
use super::terminal::Screen;
use super::usage::Usage;
use crate::base::id::{AssignmentId, BudgetId, DaemonId, PromptId, SessionId, TaskId};
use crate::base::{Error, Result, Timestamp};

/// How many ancestors a session's record names; those that are further back are forgotten.
pub const MAX_ANCESTORS: usize = 64;

/// Where a session is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Created; its daemon has not begun.
    Pending,
    /// The process is being started.
    Starting,
    /// The process runs.
    Running,
    /// It was told to end.
    Stopping,
    /// Its process was stopped on purpose and it waits to be resumed.
    Suspended,
    /// It is over.
    Ended,
}

impl Lifecycle {
    /// Every state.
    pub const ALL: [Lifecycle; 6] = [
        Lifecycle::Pending,
        Lifecycle::Starting,
        Lifecycle::Running,
        Lifecycle::Stopping,
        Lifecycle::Suspended,
        Lifecycle::Ended,
    ];

    /// The state's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Pending => "pending",
            Lifecycle::Starting => "starting",
            Lifecycle::Running => "running",
            Lifecycle::Stopping => "stopping",
            Lifecycle::Suspended => "suspended",
            Lifecycle::Ended => "ended",
        }
    }

    /// Whether the session may still have a process.
    pub const fn is_living(self) -> bool {
        matches!(
            self,
            Lifecycle::Pending | Lifecycle::Starting | Lifecycle::Running | Lifecycle::Stopping
        )
    }

    /// Whether a session may move from here to `to`. `lost` says that it ended as lost, which alone can
    /// be taken back, by finding the process alive.
    pub const fn may_become(self, to: Lifecycle, lost: bool) -> bool {
        use Lifecycle::{Ended, Pending, Running, Starting, Stopping, Suspended};
        match (self, to) {
            (Pending, Starting) | (Starting, Running) | (Running, Stopping | Suspended) => true,
            // A process told to stop for a suspension ends suspended.
            (Stopping, Suspended) => true,
            (Ended, Running) => lost,
            (Ended, _) => false,
            (_, Ended) => true,
            _ => false,
        }
    }
}

/// What the agent does while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It works.
    Working,
    /// It waits for input.
    AwaitingInput,
    /// It waits for the answer to a prompt.
    AwaitingPrompt,
    /// It cannot be told.
    #[default]
    Unknown,
}

/// How an activity is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivitySource {
    /// The harness's protocol says so.
    #[default]
    Protocol,
    /// A hook said so.
    Hook,
    /// It was read off the screen.
    Terminal,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The agent finished.
    Completed,
    /// Somebody ended it.
    Stopped,
    /// It was continued in another session.
    Resumed,
    /// It could not be started, or ended with an error.
    Failed,
    /// The process or its runner died.
    Crashed,
    /// It took longer than a deadline.
    Timeout,
    /// It reached a limit.
    Limit,
    /// The provider refused.
    RateLimited,
    /// Its daemon did not come back within the grace period, or cannot say whether it was started.
    Lost,
    /// It was ended before it began.
    Canceled,
}

impl EndReason {
    /// The reason's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            EndReason::Completed => "completed",
            EndReason::Stopped => "stopped",
            EndReason::Resumed => "resumed",
            EndReason::Failed => "failed",
            EndReason::Crashed => "crashed",
            EndReason::Timeout => "timeout",
            EndReason::Limit => "limit",
            EndReason::RateLimited => "rate_limited",
            EndReason::Lost => "lost",
            EndReason::Canceled => "canceled",
        }
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndInfo {
    /// Why.
    pub reason: EndReason,
    /// Exit code of the process, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that ended the process; 0 if none did.
    pub signal: i32,
    /// A sentence for people.
    pub message: String,
    /// The last lines of standard error, at most 4 KiB.
    pub stderr_tail: String,
}

impl EndInfo {
    /// An end without a process's exit.
    pub fn because(reason: EndReason, message: impl Into<String>) -> Self {
        EndInfo {
            reason,
            exit_code: None,
            signal: 0,
            message: message.into(),
            stderr_tail: String::new(),
        }
    }

    /// The end of a session that was told to end with `wanted` and whose process went like `self`. Why it was
    /// told to says more than how the process went, but for one: that it completed is the process's to say.
    /// One that failed or crashed has not completed, whoever was about to end it.
    #[must_use]
    pub fn when_wanted(self, wanted: EndReason, message: &str) -> EndInfo {
        let has_failed = matches!(self.reason, EndReason::Failed | EndReason::Crashed);
        if wanted == EndReason::Completed && has_failed {
            return self;
        }
        EndInfo {
            reason: wanted,
            message: match message {
                "" => self.message,
                message => message.to_owned(),
            },
            ..self
        }
    }
}

/// Whether the harness speaks its protocol or runs in a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The harness speaks its protocol.
    #[default]
    Headless,
    /// The harness runs in a terminal.
    Interactive,
}

/// What follows when a limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitAction {
    /// The session ends.
    #[default]
    End,
    /// The session is suspended.
    Suspend,
    /// The session is parked: what runs is interrupted, and inputs are held. Of budgets only.
    Park,
}

/// That a session is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// By which budget.
    pub budget: BudgetId,
    /// Since when.
    pub since: Timestamp,
}

/// What a session may use; `None` is without bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Longest time from start to end.
    pub runtime: Option<Duration>,
    /// Longest time without any activity while the agent waits for input.
    pub idle: Option<Duration>,
    /// Most bytes of output.
    pub output_bytes: Option<u64>,
    /// Most turns.
    pub turns: Option<u32>,
    /// Highest cost, in millionths of a US dollar.
    pub cost_micro_usd: Option<u64>,
    /// What follows.
    pub action: LimitAction,
}

/// A session's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// A short title for people.
    pub title: String,
    /// The daemon it runs on.
    pub daemon_id: DaemonId,
    /// Kind of agent program.
    pub harness: String,
    /// What the harness can do in this session.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The model; empty means the harness's default.
    pub model: String,
    /// The permission mode.
    pub permission_mode: PermissionMode,
    /// Headless or interactive.
    pub mode: Mode,
    /// Whether it ends after its first turn.
    pub one_shot: bool,
    /// Working directory on the daemon's machine.
    pub cwd: String,
    /// Program and arguments of a plain command.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Names of environment variables passed on.
    #[serde(default)]
    pub env_names: Vec<String>,
    /// Lifecycle.
    pub lifecycle: Lifecycle,
    /// How it ended.
    pub end: Option<EndInfo>,
    /// Why it was told to end, until it has.
    #[serde(default)]
    pub stopping: Option<EndInfo>,
    /// Whether the stop under way is for a suspension.
    #[serde(default)]
    pub suspending: bool,
    /// Activity, while it runs.
    pub activity: Activity,
    /// How the activity is known.
    pub activity_source: ActivitySource,
    /// How sure that is, 0 to 100.
    pub activity_confidence: u8,
    /// Since when the daemon is not linked; `None` while it is.
    pub detached_since: Option<Timestamp>,
    /// The harness's own conversation id.
    pub provider_session_id: String,
    /// The session this one continues.
    pub resumed_from: Option<SessionId>,
    /// The session this one branched off from.
    pub forked_from: Option<SessionId>,
    /// The sessions whose conversation it carries on, nearest first, at most [`MAX_ANCESTORS`]. A record of
    /// an earlier version has none; [`Session::lineage`] knows its parent.
    #[serde(default)]
    pub ancestors: Vec<SessionId>,
    /// The session that continues this one.
    pub resumed_by: Option<SessionId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When something happened last. In the store up to a second behind the log, whose newest entry has it exactly.
    pub last_event_at: Timestamp,
    /// What it consumed.
    pub usage: Usage,
    /// How many turns have ended.
    pub turns: u32,
    /// Whether a turn runs now.
    #[serde(default)]
    pub in_turn: bool,
    /// Whether the agent waits for input and is not shown so, because its next input is on its way.
    #[serde(default)]
    pub held_idle: bool,
    /// Bytes of output so far. In the store up to a second behind: what came in the second before a crash of the server is
    /// not counted.
    #[serde(default)]
    pub output_bytes: u64,
    /// Its terminal, if it is interactive.
    #[serde(default)]
    pub screen: Option<Screen>,
    /// How many prompts wait.
    pub pending_prompts: u32,
    /// How many inputs wait.
    pub queued_inputs: u32,
    /// What it may use.
    pub limits: Limits,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Who created it.
    pub created_by: Actor,
    /// The agent it is of.
    #[serde(default)]
    pub agent: Option<SessionAgent>,
    /// The task it was started or continued for.
    #[serde(default)]
    pub task: Option<SessionTask>,
    /// Until when the provider refuses, as it said in the turn that runs or ran last; `None` if it did not.
    #[serde(default)]
    pub limited: Option<Refusal>,
    /// What it spent, as budgets count it.
    #[serde(default)]
    pub book: Book,
    /// Whether a budget keeps its inputs from it.
    #[serde(default)]
    pub parked: Option<Parked>,
}

/// A provider's refusal because of too many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When it was said.
    pub at: Timestamp,
    /// When it is worth trying again, if that was said.
    pub until: Option<Timestamp>,
}

/// The task that a session works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionTask {
    /// The task.
    pub id: TaskId,
    /// The assignment under which it does.
    pub assignment_id: AssignmentId,
}

impl Session {
    /// Whether nothing has changed since `before` but what every event of a busy session changes: when the last one was,
    /// and how much output there is.
    pub fn is_only_busier_than(&self, before: &Session) -> bool {
        let is_counted = |session: &Session| Session {
            last_event_at: self.last_event_at,
            output_bytes: self.output_bytes,
            ..session.clone()
        };
        *self == is_counted(before)
    }

    /// A session that was just made: nothing has happened to it, and nothing special is asked of it.
    pub fn new(
        id: SessionId,
        daemon_id: DaemonId,
        harness: String,
        created_by: Actor,
        now: Timestamp,
    ) -> Self {
        Session {
            id,
            title: String::new(),
            daemon_id,
            harness,
            capabilities: Capabilities::default(),
            model: String::new(),
            permission_mode: PermissionMode::default(),
            mode: Mode::default(),
            one_shot: false,
            cwd: String::new(),
            argv: Vec::new(),
            env_names: Vec::new(),
            lifecycle: Lifecycle::Pending,
            end: None,
            stopping: None,
            suspending: false,
            activity: Activity::Unknown,
            activity_source: ActivitySource::Protocol,
            activity_confidence: 0,
            detached_since: None,
            provider_session_id: String::new(),
            resumed_from: None,
            forked_from: None,
            ancestors: Vec::new(),
            resumed_by: None,
            created_at: now,
            started_at: None,
            ended_at: None,
            last_event_at: now,
            usage: Usage::default(),
            turns: 0,
            in_turn: false,
            held_idle: false,
            output_bytes: 0,
            screen: None,
            pending_prompts: 0,
            queued_inputs: 0,
            limits: Limits::default(),
            labels: BTreeMap::new(),
            created_by,
            agent: None,
            task: None,
            limited: None,
            book: Book::default(),
            parked: None,
        }
    }

    /// Whether the process is known to be gone for good, so that its conversation is free.
    pub fn is_over(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Ended | Lifecycle::Suspended)
    }

    /// Whether it ended as lost: the process may still run somewhere.
    pub fn is_lost(&self) -> bool {
        self.lifecycle == Lifecycle::Ended
            && self
                .end
                .as_ref()
                .is_some_and(|end| end.reason == EndReason::Lost)
    }

    /// The sessions whose conversation it carries on, nearest first.
    pub fn lineage(&self) -> impl Iterator<Item = SessionId> {
        let parent = self.resumed_from.or(self.forked_from);
        let known = self.ancestors.iter().copied();
        parent
            .filter(|parent| !self.ancestors.contains(parent))
            .into_iter()
            .chain(known)
    }

    /// The ancestors of a session that continues this one or branches off from it.
    pub fn ancestors_of_next(&self) -> Vec<SessionId> {
        std::iter::once(self.id)
            .chain(self.lineage())
            .take(MAX_ANCESTORS)
            .collect()
    }

    /// Whether it holds the lock on its conversation: its process may write to it. A session that was
    /// continued has passed the lock on.
    pub fn holds_conversation(&self) -> bool {
        !self.provider_session_id.is_empty()
            && self.resumed_by.is_none()
            && (self.lifecycle.is_living() || self.is_lost())
    }

    /// Whether its conversation could be continued now.
    pub fn is_resumable(&self) -> bool {
        self.is_over()
            && !self.is_lost()
            && self.resumed_by.is_none()
            && self.capabilities.resume
            && !self.provider_session_id.is_empty()
    }

    /// Moves the lifecycle; a move that the life of a session does not have is refused and changes nothing.
    pub fn move_to(&mut self, to: Lifecycle) -> Result<()> {
        if !self.lifecycle.may_become(to, self.is_lost()) {
            return Err(Error::state(format!(
                "session {} is {} and cannot become {}",
                self.id,
                self.lifecycle.as_str(),
                to.as_str()
            ))
            .with("lifecycle", self.lifecycle.as_str()));
        }
        self.lifecycle = to;
        Ok(())
    }
}

/// What is remembered of a deleted session for a while: enough to tell those who saw it that it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Its id.
    pub id: SessionId,
    /// The daemon it ran on.
    pub daemon_id: DaemonId,
    /// Its working directory.
    pub cwd: String,
    /// The sessions whose conversation it carried on.
    pub ancestors: Vec<SessionId>,
    /// Its prompts, which were deleted with it.
    pub prompts: Vec<PromptId>,
    /// When it was deleted.
    pub at: Timestamp,
}

impl Gone {
    /// What is remembered of a session that is deleted at `at` with its prompts.
    pub fn of(session: &Session, prompts: Vec<PromptId>, at: Timestamp) -> Self {
        Gone {
            id: session.id,
            daemon_id: session.daemon_id,
            cwd: session.cwd.clone(),
            ancestors: session.lineage().collect(),
            prompts,
            at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EndReason::{Completed, Crashed, Failed, Limit, Stopped};
    use super::Lifecycle::{self, *};
    use super::{EndInfo, EndReason};

    #[test]
    fn only_a_process_that_went_well_completes() {
        let end = |went: EndReason, wanted| {
            let exit = EndInfo {
                exit_code: Some(3),
                ..EndInfo::because(went, "how it went")
            };
            let end = exit.when_wanted(wanted, "why");
            assert_eq!(end.exit_code, Some(3));
            (end.reason, end.message)
        };
        let why = |reason| (reason, "why".to_owned());
        assert_eq!(end(Completed, Completed), why(Completed));
        assert_eq!(end(Stopped, Completed), why(Completed));
        for bad in [Failed, Crashed] {
            assert_eq!(end(bad, Completed), (bad, "how it went".to_owned()));
            assert_eq!(end(bad, Stopped), why(Stopped));
            assert_eq!(end(bad, Limit), why(Limit));
        }
        let silent = EndInfo::because(Failed, "how it went").when_wanted(Stopped, "");
        assert_eq!(silent.message, "how it went");
    }

    #[test]
    fn only_the_edges_of_the_design_are_allowed() {
        let allowed = [
            (Pending, Starting),
            (Starting, Running),
            (Running, Stopping),
            (Running, Suspended),
            (Stopping, Suspended),
            (Pending, Ended),
            (Starting, Ended),
            (Running, Ended),
            (Stopping, Ended),
            (Suspended, Ended),
        ];
        for from in Lifecycle::ALL {
            for to in Lifecycle::ALL {
                assert_eq!(
                    from.may_become(to, false),
                    allowed.contains(&(from, to)),
                    "{from:?} -> {to:?}"
                );
            }
        }
        assert!(Ended.may_become(Running, true), "lost and found");
        assert!(!Ended.may_become(Ended, true));
    }
}
