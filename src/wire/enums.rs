//! Enums on the wire. 0 reads as `None` (the caller knows the default), a number that is not known is
//! refused with the field's name.

use crate::base::{Error, Result};
use crate::domain::actor::ActorKind;
use crate::domain::agent::{AgentRole, StewardFocus, WorkerMode};
use crate::domain::budget::{BudgetPeriod, BudgetState};
use crate::domain::command::CommandOutcome;
use crate::domain::dispatch::Checkout;
use crate::domain::event::{EventKind, Origin, Role};
use crate::domain::harness::{Login, PermissionMode};
use crate::domain::input::{Delivery, InputState};
use crate::domain::prompt::{AnswerDelivery, PromptKind, PromptState, Remember};
use crate::domain::session::{Activity, ActivitySource, EndReason, Lifecycle, LimitAction, Mode};
use crate::domain::spending::UsageBy;
use crate::domain::task::{AssignmentState, MergeStatus, Outcome, Status, Type, What};
use crate::domain::token::{Scope, TokenKind};
use crate::domain::trigger::TaskEvent;
use crate::domain::worktree::{MergeVerdict, State, Strategy};
use crate::wire::v1;

macro_rules! enums {
    ($($to:ident $from:ident $type:ident = $pb:ident { $($name:ident = $pb_name:ident),* $(,)? })*) => {
        $(
            #[doc = concat!("[`", stringify!($type), "`] as protobuf writes it.")]
            pub const fn $to(value: $type) -> v1::$pb {
                match value { $($type::$name => v1::$pb::$pb_name,)* }
            }

            #[doc = concat!("[`", stringify!($type), "`] from the wire; `None` if it is unspecified.")]
            pub fn $from(value: i32, field: &str) -> Result<Option<$type>> {
                if value == 0 {
                    return Ok(None);
                }
                match v1::$pb::try_from(value) {
                    $(Ok(v1::$pb::$pb_name) => Ok(Some($type::$name)),)*
                    _ => Err(unknown(value, field)),
                }
            }
        )*

        #[cfg(test)]
        fn check_all() {
            $(for value in [$($type::$name,)*] {
                let pb = $to(value);
                let back = $from(pb as i32, "x").unwrap();
                assert!(back == Some(value) || pb as i32 == 0, "{value:?}");
            }
            assert_eq!($from(0, "x").unwrap(), None);
            let error = $from(1_000, "x").unwrap_err();
            assert_eq!(error.fields()[0].field, "x");
            assert!($from(-1, "x").is_err());)*
        }
    };
}

fn unknown(value: i32, field: &str) -> Error {
    Error::invalid(
        field,
        format!("is {value}, a value that this version does not know"),
    )
}

/// The value of an enum that must be given.
pub fn required<T>(value: Result<Option<T>>, field: &str) -> Result<T> {
    value?.ok_or_else(|| Error::invalid(field, "is missing"))
}

/// A list of enum values, none of them unspecified: a filter.
pub fn filter<T>(
    values: &[i32],
    field: &str,
    from: impl Fn(i32, &str) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    if values.len() > 64 {
        return Err(Error::invalid(
            field,
            format!("has {} entries; the most is 64", values.len()),
        ));
    }
    values
        .iter()
        .map(|value| required(from(*value, field), field))
        .collect()
}

enums! {
    worktree_state_to_pb worktree_state_from_pb State = WorktreeState {
        Creating = Creating, Active = Active, Suspended = Suspended, Merging = Merging,
        Cleaning = Cleaning, Archived = Archived,
    }
    merge_strategy_to_pb merge_strategy_from_pb Strategy = MergeStrategy {
        Squash = Squash, Merge = Merge, FastForward = FastForward,
    }
    merge_verdict_to_pb merge_verdict_from_pb MergeVerdict = MergeVerdict {
        Merged = Merged, Nothing = Nothing, Conflict = Conflict, TestFailed = TestFailed,
    }
    actor_kind_to_pb actor_kind_from_pb ActorKind = ActorKind {
        Caller = Caller, Agent = Agent, Daemon = Daemon, Server = Server, Rule = Rule,
    }
    agent_role_to_pb agent_role_from_pb AgentRole = AgentRole {
        Director = Director, Worker = Worker, Steward = Steward,
    }
    worker_mode_to_pb worker_mode_from_pb WorkerMode = WorkerMode {
        Ephemeral = Ephemeral, Persistent = Persistent,
    }
    task_event_to_pb task_event_from_pb TaskEvent = TaskEvent {
        TaskCreated = TaskCreated,
        TaskInReview = TaskInReview,
        TaskClosed = TaskClosed,
        TaskEscalated = TaskEscalated,
        MergeFailed = MergeFailed,
    }
    steward_focus_to_pb steward_focus_from_pb StewardFocus = StewardFocus {
        Merge = Merge, Docs = Docs, Recovery = Recovery, Custom = Custom,
    }
    permission_mode_to_pb permission_mode_from_pb PermissionMode = PermissionMode {
        Ask = Ask, AutoSafe = AutoSafe, Auto = Auto, Deny = Deny,
    }
    login_to_pb login_from_pb Login = LoginState {
        None = Unspecified, SignedIn = SignedIn, SignedOut = SignedOut, Unknown = Unknown,
    }
    lifecycle_to_pb lifecycle_from_pb Lifecycle = Lifecycle {
        Pending = Pending, Starting = Starting, Running = Running, Stopping = Stopping,
        Suspended = Suspended, Ended = Ended,
    }
    activity_to_pb activity_from_pb Activity = Activity {
        Working = Working, AwaitingInput = AwaitingInput, AwaitingPrompt = AwaitingPrompt,
        Unknown = Unknown,
    }
    activity_source_to_pb activity_source_from_pb ActivitySource = ActivitySource {
        Protocol = Protocol, Hook = Hook, Terminal = Terminal,
    }
    end_reason_to_pb end_reason_from_pb EndReason = EndReason {
        Completed = Completed, Stopped = Stopped, Resumed = Resumed, Failed = Failed,
        Crashed = Crashed, Timeout = Timeout, Limit = Limit, RateLimited = RateLimited,
        Lost = Lost, Canceled = Canceled,
    }
    mode_to_pb mode_from_pb Mode = SessionMode {
        Headless = Headless, Interactive = Interactive,
    }
    limit_action_to_pb limit_action_from_pb LimitAction = LimitAction {
        End = End, Suspend = Suspend, Park = Park,
    }
    delivery_to_pb delivery_from_pb Delivery = Delivery {
        Queue = Queue, Steer = Steer,
    }
    input_state_to_pb input_state_from_pb InputState = InputState {
        Queued = Queued, Delivered = Delivered, Applied = Applied, Indeterminate = Indeterminate,
        Withdrawn = Withdrawn, Rejected = Rejected,
    }
    prompt_kind_to_pb prompt_kind_from_pb PromptKind = PromptKind {
        Permission = Permission, Question = Question, Plan = Plan, Decision = Decision,
    }
    prompt_state_to_pb prompt_state_from_pb PromptState = PromptState {
        Pending = Pending, Answered = Answered, Expired = Expired, Withdrawn = Withdrawn,
    }
    answer_delivery_to_pb answer_delivery_from_pb AnswerDelivery = AnswerDelivery {
        None = Unspecified, Queued = Queued, Applied = Applied, Undeliverable = Undeliverable,
        Indeterminate = Indeterminate,
    }
    remember_to_pb remember_from_pb Remember = Remember {
        None = None, Session = Session, Rule = Rule,
    }
    origin_to_pb origin_from_pb Origin = Origin {
        Daemon = Daemon, Server = Server, Harness = Harness,
    }
    role_to_pb role_from_pb Role = Role {
        Agent = Agent, User = User, System = System,
    }
    outcome_to_pb outcome_from_pb CommandOutcome = CommandOutcome {
        Applied = Applied, Rejected = Rejected, Withdrawn = Withdrawn, Indeterminate = Indeterminate,
    }
    scope_to_pb scope_from_pb Scope = TokenScope {
        Admin = Admin, Operator = Operator, Viewer = Viewer, Daemon = Daemon, Join = Join,
    }
    token_kind_to_pb token_kind_from_pb TokenKind = TokenKind {
        Issued = Issued, Browser = Browser,
    }
    task_status_to_pb task_status_from_pb Status = TaskStatus {
        Open = Open, InProgress = InProgress, Deferred = Deferred, Backlog = Backlog,
        Review = Review, Closed = Closed,
    }
    task_type_to_pb task_type_from_pb Type = TaskType {
        Bug = Bug, Feature = Feature, Task = Task, Chore = Chore,
    }
    merge_status_to_pb merge_status_from_pb MergeStatus = MergeStatus {
        NotApplicable = NotApplicable, Pending = Pending, Testing = Testing, Merging = Merging,
        Merged = Merged, Conflict = Conflict, TestFailed = TestFailed, Failed = Failed,
        AwaitingApproval = AwaitingApproval,
    }
    assignment_state_to_pb assignment_state_from_pb AssignmentState = AssignmentState {
        Assigned = Assigned, InProgress = InProgress, Completed = Completed, Merged = Merged,
        HandedOff = HandedOff, Released = Released,
    }
    outcome_of_task_to_pb outcome_of_task_from_pb Outcome = CompleteOutcome {
        Done = Unspecified, Closed = Closed, Merged = Merged,
    }
    checkout_to_pb checkout_from_pb Checkout = TaskCheckout {
        Usual = Unspecified, Worktree = Worktree, Directory = Directory,
    }
    task_history_kind_to_pb task_history_kind_from_pb What = TaskHistoryKind {
        Created = Created, Updated = Updated, Moved = Moved, Assigned = Assigned,
        Started = Started, SessionLinked = SessionLinked, HandedOff = HandedOff,
        Released = Released, Completed = Completed, Reopened = Reopened,
        DependencyAdded = DependencyAdded, DependencyRemoved = DependencyRemoved,
        MergeMoved = MergeMoved, Retried = Retried, Parked = Parked, Escalated = Escalated,
    }
    event_kind_to_pb event_kind_from_pb EventKind = EventKind {
        SessionCreated = SessionCreated, Started = Started, LifecycleChanged = LifecycleChanged,
        ActivityChanged = ActivityChanged, LinkChanged = LinkChanged, InputAccepted = InputAccepted,
        InputChanged = InputChanged, Message = Message, ToolCall = ToolCall, ToolResult = ToolResult,
        TurnStarted = TurnStarted, TurnEnded = TurnEnded, PlanUpdated = PlanUpdated, Output = Output,
        Stderr = Stderr, UsageUpdated = UsageUpdated, RateLimited = RateLimited,
        LimitExceeded = LimitExceeded, PromptRequested = PromptRequested,
        PromptAnswered = PromptAnswered, PromptExpired = PromptExpired,
        PromptWithdrawn = PromptWithdrawn, PromptDelivered = PromptDelivered,
        OptionsChanged = OptionsChanged, CommandFailed = CommandFailed, Notice = Notice, Gap = Gap,
        Ended = Ended, LimitLifted = LimitLifted,
    }
    budget_period_to_pb budget_period_from_pb BudgetPeriod = BudgetPeriod {
        Total = Total, Day = Day,
    }
    budget_state_to_pb budget_state_from_pb BudgetState = BudgetState {
        Within = Within, Soft = Soft, Hard = Hard,
    }
    usage_by_to_pb usage_by_from_pb UsageBy = UsageGroup {
        Day = Day, Session = Session, Agent = Agent, Task = Task, Model = Model,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_and_unknown_ones_name_the_field() {
        check_all();
    }

    #[test]
    fn a_filter_refuses_unspecified() {
        assert!(filter(&[0], "kinds", event_kind_from_pb).is_err());
        assert_eq!(
            filter(&[1], "kinds", event_kind_from_pb).unwrap(),
            [EventKind::SessionCreated]
        );
    }
}
