//! Sessions on the wire.

use std::collections::HashMap;
use std::time::Duration;

use super::agent::{session_agent_from_pb, session_agent_to_pb};
use super::common::{actor_from_pb, actor_to_pb, usage_from_pb, usage_to_pb};
use super::enums::{self, required as required_enum};
use super::field::{self, optional_id, percent, required};
use super::time::{duration_from_pb, duration_to_pb, required_time, time_from_pb, time_to_pb};
use crate::base::Result;
use crate::base::id::{AssignmentId, DaemonId, SessionId, TaskId, TerminalId};
use crate::domain::session::{Activity, EndInfo, Limits, Mode, Session, SessionTask};
use crate::domain::{Capabilities, Lifecycle};
use crate::wire::v1;

/// A session as protobuf writes it. `head` is its log's (epoch, oldest seq, newest seq), absent where
/// nobody asked the journal; `revision` becomes the etag.
pub fn session_to_pb(
    session: &Session,
    head: Option<(u64, u64, u64)>,
    revision: u64,
) -> v1::Session {
    let (log_epoch, first_seq, head_seq) = head.unwrap_or_default();
    let running = session.lifecycle == Lifecycle::Running;
    v1::Session {
        id: session.id.to_string(),
        title: session.title.clone(),
        daemon_id: session.daemon_id.to_string(),
        harness: session.harness.clone(),
        model: session.model.clone(),
        permission_mode: enums::permission_mode_to_pb(session.permission_mode).into(),
        mode: enums::mode_to_pb(session.mode).into(),
        one_shot: session.one_shot,
        cwd: session.cwd.clone(),
        lifecycle: enums::lifecycle_to_pb(session.lifecycle).into(),
        end: session.end.as_ref().map(end_to_pb),
        activity: if running {
            enums::activity_to_pb(session.activity).into()
        } else {
            // An activity is a fact about a running agent only.
            v1::Activity::Unspecified.into()
        },
        activity_source: enums::activity_source_to_pb(session.activity_source).into(),
        activity_confidence: u32::from(session.activity_confidence),
        attached: session.detached_since.is_none(),
        detached_since: session.detached_since.map(time_to_pb),
        provider_session_id: session.provider_session_id.clone(),
        resumed_from: optional_to_pb(session.resumed_from),
        forked_from: optional_to_pb(session.forked_from),
        resumed_by: optional_to_pb(session.resumed_by),
        resumable: session.is_resumable(),
        log_epoch,
        first_seq,
        head_seq,
        created_at: Some(time_to_pb(session.created_at)),
        started_at: session.started_at.map(time_to_pb),
        ended_at: session.ended_at.map(time_to_pb),
        last_event_at: Some(time_to_pb(session.last_event_at)),
        usage: Some(usage_to_pb(&session.usage)),
        turns: session.turns,
        pending_prompts: session.pending_prompts,
        queued_inputs: session.queued_inputs,
        limits: Some(limits_to_pb(&session.limits)),
        labels: session
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<HashMap<_, _>>(),
        created_by: Some(actor_to_pb(&session.created_by)),
        etag: field::etag_of(revision),
        capabilities: Some(capabilities_to_pb(session.capabilities)),
        argv: session.argv.clone(),
        terminal_id: match session.mode {
            Mode::Interactive => TerminalId::of(session.id).to_string(),
            Mode::Headless => String::new(),
        },
        agent: session.agent.as_ref().map(session_agent_to_pb),
        task: session.task.map(session_task_to_pb),
        parked_by: session
            .parked
            .map(|parked| parked.budget.to_string())
            .unwrap_or_default(),
    }
}

/// A session from the wire: what a client sees. What only the server keeps (`stopping`, `env_names`,
/// `output_bytes`, `screen`, `limited`, `book`, `parked`, and the activity of a session that does not run) is empty.
pub fn session_from_pb(session: v1::Session) -> Result<Session> {
    Ok(Session {
        id: SessionId::parse("session.id", &session.id)?,
        title: session.title,
        daemon_id: DaemonId::parse("session.daemon_id", &session.daemon_id)?,
        harness: session.harness,
        capabilities: capabilities_from_pb(session.capabilities),
        model: session.model,
        permission_mode: enums::permission_mode_from_pb(
            session.permission_mode,
            "session.permission_mode",
        )?
        .unwrap_or_default(),
        mode: enums::mode_from_pb(session.mode, "session.mode")?.unwrap_or_default(),
        one_shot: session.one_shot,
        cwd: session.cwd,
        argv: session.argv,
        env_names: Vec::new(),
        lifecycle: required_enum(
            enums::lifecycle_from_pb(session.lifecycle, "session.lifecycle"),
            "session.lifecycle",
        )?,
        end: session.end.map(end_from_pb).transpose()?,
        stopping: None,
        suspending: false,
        activity: enums::activity_from_pb(session.activity, "session.activity")?
            .unwrap_or(Activity::Unknown),
        activity_source: enums::activity_source_from_pb(
            session.activity_source,
            "session.activity_source",
        )?
        .unwrap_or_default(),
        activity_confidence: percent(session.activity_confidence, "session.activity_confidence")?,
        detached_since: time_from_pb(session.detached_since, "session.detached_since")?,
        provider_session_id: session.provider_session_id,
        resumed_from: optional_id(
            &session.resumed_from,
            "session.resumed_from",
            SessionId::parse,
        )?,
        forked_from: optional_id(
            &session.forked_from,
            "session.forked_from",
            SessionId::parse,
        )?,
        ancestors: Vec::new(),
        resumed_by: optional_id(&session.resumed_by, "session.resumed_by", SessionId::parse)?,
        created_at: required_time(session.created_at, "session.created_at")?,
        started_at: time_from_pb(session.started_at, "session.started_at")?,
        ended_at: time_from_pb(session.ended_at, "session.ended_at")?,
        last_event_at: required_time(session.last_event_at, "session.last_event_at")?,
        usage: usage_from_pb(session.usage),
        turns: session.turns,
        in_turn: false,
        held_idle: false,
        output_bytes: 0,
        screen: None,
        pending_prompts: session.pending_prompts,
        queued_inputs: session.queued_inputs,
        limits: limits_from_pb(session.limits, "session.limits")?,
        labels: session.labels.into_iter().collect(),
        created_by: actor_from_pb(required(session.created_by, "session.created_by")?)?,
        agent: session.agent.map(session_agent_from_pb).transpose()?,
        task: session.task.map(session_task_from_pb).transpose()?,
        limited: None,
        book: Default::default(),
        parked: None,
    })
}

fn session_task_to_pb(task: SessionTask) -> v1::SessionTask {
    v1::SessionTask {
        task_id: task.id.to_string(),
        assignment_id: task.assignment_id.to_string(),
    }
}

fn session_task_from_pb(task: v1::SessionTask) -> Result<SessionTask> {
    Ok(SessionTask {
        id: TaskId::parse("session.task.task_id", &task.task_id)?,
        assignment_id: AssignmentId::parse("session.task.assignment_id", &task.assignment_id)?,
    })
}

fn optional_to_pb(id: Option<SessionId>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// How a session ended, as protobuf writes it.
pub fn end_to_pb(end: &EndInfo) -> v1::EndInfo {
    v1::EndInfo {
        reason: enums::end_reason_to_pb(end.reason).into(),
        exit_code: end.exit_code,
        signal: end.signal,
        message: end.message.clone(),
        stderr_tail: end.stderr_tail.clone(),
    }
}

/// How a session ended, from the wire.
pub fn end_from_pb(end: v1::EndInfo) -> Result<EndInfo> {
    Ok(EndInfo {
        reason: required_enum(
            enums::end_reason_from_pb(end.reason, "end.reason"),
            "end.reason",
        )?,
        exit_code: end.exit_code,
        signal: end.signal,
        message: end.message,
        stderr_tail: end.stderr_tail,
    })
}

/// Limits as protobuf writes them; what is without bound is absent or 0.
pub fn limits_to_pb(limits: &Limits) -> v1::Limits {
    v1::Limits {
        runtime: limits.runtime.map(duration_to_pb),
        idle: limits.idle.map(duration_to_pb),
        output_bytes: limits.output_bytes.unwrap_or_default(),
        turns: limits.turns.unwrap_or_default(),
        cost_micro_usd: limits.cost_micro_usd.unwrap_or_default(),
        action: enums::limit_action_to_pb(limits.action).into(),
    }
}

/// Limits from the wire; absent or 0 is without bound. Errors name the fields of the message `at`.
pub fn limits_from_pb(limits: Option<v1::Limits>, at: &str) -> Result<Limits> {
    let limits = limits.unwrap_or_default();
    let name = |field: &str| format!("{at}.{field}");
    let bound = |duration: Duration| (!duration.is_zero()).then_some(duration);
    Ok(Limits {
        runtime: duration_from_pb(limits.runtime, &name("runtime"))?.and_then(bound),
        idle: duration_from_pb(limits.idle, &name("idle"))?.and_then(bound),
        output_bytes: (limits.output_bytes != 0).then_some(limits.output_bytes),
        turns: (limits.turns != 0).then_some(limits.turns),
        cost_micro_usd: (limits.cost_micro_usd != 0).then_some(limits.cost_micro_usd),
        action: enums::limit_action_from_pb(limits.action, &name("action"))?.unwrap_or_default(),
    })
}

/// Capabilities as protobuf writes them.
pub fn capabilities_to_pb(capabilities: Capabilities) -> v1::HarnessCapabilities {
    v1::HarnessCapabilities {
        steer: capabilities.steer,
        queue: capabilities.queue,
        permission: capabilities.permission,
        question: capabilities.question,
        plan: capabilities.plan,
        resume: capabilities.resume,
        fork: capabilities.fork,
        model_switch: capabilities.model_switch,
        mode_switch: capabilities.mode_switch,
        usage: capabilities.usage,
        quota: capabilities.quota,
        interrupt: capabilities.interrupt,
        terminal: capabilities.terminal,
        instructions: capabilities.instructions,
    }
}

/// Capabilities from the wire; absent is none.
pub fn capabilities_from_pb(capabilities: Option<v1::HarnessCapabilities>) -> Capabilities {
    let capabilities = capabilities.unwrap_or_default();
    Capabilities {
        steer: capabilities.steer,
        queue: capabilities.queue,
        permission: capabilities.permission,
        question: capabilities.question,
        plan: capabilities.plan,
        resume: capabilities.resume,
        fork: capabilities.fork,
        model_switch: capabilities.model_switch,
        mode_switch: capabilities.mode_switch,
        usage: capabilities.usage,
        quota: capabilities.quota,
        interrupt: capabilities.interrupt,
        terminal: capabilities.terminal,
        instructions: capabilities.instructions,
    }
}
