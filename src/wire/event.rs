//! Events on the wire.

use super::common::{
    actor_from_pb, actor_to_pb, blocks_from_pb, blocks_to_pb, content_from_pb, content_to_pb,
    usage_from_pb, usage_to_pb,
};
use super::enums::{self, required as required_enum};
use super::field::{json_from_pb, json_to_pb, optional_id, percent, required};
use super::prompt::{prompt_answer_from_pb, prompt_answer_to_pb, prompt_from_pb, prompt_to_pb};
use super::session::{end_from_pb, end_to_pb};
use super::time::{duration_from_pb, duration_to_pb, time_from_pb, time_to_pb};
use crate::base::id::{BudgetId, CommandId, DaemonId, InputId, PromptId, SessionId, TurnId};
use crate::base::{Error, Result, Timestamp};
use crate::domain::event::{Event, EventBody, PlanItem};
use crate::wire::v1;
use crate::wire::v1::event::Body;

/// The kind of the notice that stands in for an event of a kind that this version does not know and may skip.
pub const UNKNOWN_KIND: &str = "unknown";

/// An event as protobuf writes it.
pub fn event_to_pb(event: &Event) -> v1::Event {
    v1::Event {
        seq: event.seq,
        time: Some(time_to_pb(event.time)),
        session_id: event.session_id.to_string(),
        origin: enums::origin_to_pb(event.origin).into(),
        actor: event.actor.as_ref().map(actor_to_pb),
        may_ignore: event.may_ignore,
        raw: event.raw.as_ref().map(json_to_pb),
        raw_content: event.raw_content.as_ref().map(content_to_pb),
        origin_time: event.origin_time.map(time_to_pb),
        body: Some(body_to_pb(&event.body)),
    }
}

/// An event from the wire. A daemon's has no seq (0) and no time (the epoch) yet. A body that is not
/// known is an error, unless the event says that it may be skipped: then a notice of
/// [`UNKNOWN_KIND`] stands in its place, so that the seq still counts.
pub fn event_from_pb(event: v1::Event) -> Result<Event> {
    let session_id = SessionId::parse("event.session_id", &event.session_id)?;
    event_of(session_id, event)
}

/// The same where it is known which session's it is.
pub(super) fn event_of(session_id: SessionId, event: v1::Event) -> Result<Event> {
    let body = match event.body {
        Some(body) => body_from_pb(body)?,
        None if event.may_ignore => EventBody::Notice {
            kind: UNKNOWN_KIND.to_owned(),
            text: "an event of a kind that this version does not know".to_owned(),
        },
        None => {
            return Err(Error::invalid(
                "event.body",
                "is of a kind that this version does not know and may not skip; update the program",
            ));
        }
    };
    Ok(Event {
        seq: event.seq,
        time: time_from_pb(event.time, "event.time")?.unwrap_or(Timestamp::EPOCH),
        session_id,
        origin: required_enum(
            enums::origin_from_pb(event.origin, "event.origin"),
            "event.origin",
        )?,
        actor: event.actor.map(actor_from_pb).transpose()?,
        may_ignore: event.may_ignore,
        raw: json_from_pb(event.raw, "event.raw")?,
        raw_content: event.raw_content.map(content_from_pb).transpose()?,
        origin_time: time_from_pb(event.origin_time, "event.origin_time")?,
        body,
    })
}

fn ids_to_pb(ids: &[InputId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn ids_from_pb(ids: Vec<String>) -> Result<Vec<InputId>> {
    ids.iter()
        .map(|id| InputId::parse("input_ids", id))
        .collect()
}

fn body_to_pb(body: &EventBody) -> Body {
    match body {
        EventBody::SessionCreated {
            daemon_id,
            harness,
            cwd,
            resumed_from,
            forked_from,
        } => Body::SessionCreated(v1::SessionCreated {
            daemon_id: daemon_id.to_string(),
            harness: harness.clone(),
            cwd: cwd.clone(),
            resumed_from: resumed_from.map(|id| id.to_string()).unwrap_or_default(),
            forked_from: forked_from.map(|id| id.to_string()).unwrap_or_default(),
        }),
        EventBody::Started {
            provider_session_id,
            model,
            cwd,
            tools,
            pid,
            version,
        } => Body::Started(v1::Started {
            provider_session_id: provider_session_id.clone(),
            model: model.clone(),
            cwd: cwd.clone(),
            tools: tools.clone(),
            pid: *pid,
            version: version.clone(),
        }),
        EventBody::LifecycleChanged { from, to } => Body::LifecycleChanged(v1::LifecycleChanged {
            from: enums::lifecycle_to_pb(*from).into(),
            to: enums::lifecycle_to_pb(*to).into(),
        }),
        EventBody::ActivityChanged {
            activity,
            source,
            confidence,
        } => Body::ActivityChanged(v1::ActivityChanged {
            activity: enums::activity_to_pb(*activity).into(),
            source: enums::activity_source_to_pb(*source).into(),
            confidence: u32::from(*confidence),
        }),
        EventBody::LinkChanged { attached, epoch } => Body::LinkChanged(v1::LinkChanged {
            attached: *attached,
            epoch: *epoch,
        }),
        EventBody::InputAccepted {
            input_id,
            text,
            delivery,
        } => Body::InputAccepted(v1::InputAccepted {
            input_id: input_id.to_string(),
            text: text.clone(),
            delivery: enums::delivery_to_pb(*delivery).into(),
        }),
        EventBody::InputChanged {
            input_id,
            state,
            text,
            reason,
        } => Body::InputChanged(v1::InputChanged {
            input_id: input_id.to_string(),
            state: enums::input_state_to_pb(*state).into(),
            text: text.clone(),
            reason: reason.clone(),
        }),
        EventBody::Message {
            role,
            blocks,
            message_id,
            parent_call_id,
        } => Body::Message(v1::Message {
            role: enums::role_to_pb(*role).into(),
            blocks: blocks_to_pb(blocks),
            message_id: message_id.clone(),
            parent_call_id: parent_call_id.clone(),
        }),
        EventBody::ToolCall {
            call_id,
            tool,
            input,
            content,
            parent_call_id,
        } => Body::ToolCall(v1::ToolCall {
            call_id: call_id.clone(),
            tool: tool.clone(),
            input: input.as_ref().map(json_to_pb),
            content: content.as_ref().map(content_to_pb),
            parent_call_id: parent_call_id.clone(),
        }),
        EventBody::ToolResult {
            call_id,
            blocks,
            is_error,
        } => Body::ToolResult(v1::ToolResult {
            call_id: call_id.clone(),
            blocks: blocks_to_pb(blocks),
            is_error: *is_error,
        }),
        EventBody::TurnStarted { turn_id, input_ids } => Body::TurnStarted(v1::TurnStarted {
            turn_id: turn_id.to_string(),
            input_ids: ids_to_pb(input_ids),
        }),
        EventBody::TurnEnded {
            turn_id,
            is_error,
            reason,
            text,
            usage,
            duration,
            input_ids,
            api_status,
        } => Body::TurnEnded(v1::TurnEnded {
            turn_id: turn_id.to_string(),
            is_error: *is_error,
            reason: reason.clone(),
            text: text.clone(),
            usage: Some(usage_to_pb(usage)),
            duration: Some(duration_to_pb(*duration)),
            input_ids: ids_to_pb(input_ids),
            api_status: *api_status,
        }),
        EventBody::PlanUpdated { items } => Body::PlanUpdated(v1::PlanUpdated {
            items: items
                .iter()
                .map(|item| v1::PlanItem {
                    text: item.text.clone(),
                    status: item.status.clone(),
                })
                .collect(),
        }),
        EventBody::Output { text, continues } => Body::Output(v1::Output {
            text: text.clone(),
            continues: *continues,
        }),
        EventBody::Stderr { text, continues } => Body::Stderr(v1::Stderr {
            text: text.clone(),
            continues: *continues,
        }),
        EventBody::UsageUpdated { total } => Body::UsageUpdated(v1::UsageUpdated {
            total: Some(usage_to_pb(total)),
        }),
        EventBody::RateLimited { until, message } => Body::RateLimited(v1::RateLimited {
            until: until.map(time_to_pb),
            message: message.clone(),
        }),
        EventBody::LimitExceeded {
            limit,
            value,
            allowed,
            action,
            budget_id,
        } => Body::LimitExceeded(v1::LimitExceeded {
            limit: limit.clone(),
            value: *value,
            allowed: *allowed,
            action: enums::limit_action_to_pb(*action).into(),
            budget_id: budget_id.map(|id| id.to_string()).unwrap_or_default(),
        }),
        EventBody::LimitLifted { budget_id, reason } => Body::LimitLifted(v1::LimitLifted {
            budget_id: budget_id.to_string(),
            reason: reason.clone(),
        }),
        EventBody::PromptRequested { prompt } => Body::PromptRequested(v1::PromptRequested {
            prompt: Some(prompt_to_pb(prompt, None)),
        }),
        EventBody::PromptAnswered { prompt_id, answer } => {
            Body::PromptAnswered(v1::PromptAnswered {
                prompt_id: prompt_id.to_string(),
                answer: Some(prompt_answer_to_pb(answer)),
            })
        }
        EventBody::PromptExpired { prompt_id } => Body::PromptExpired(v1::PromptExpired {
            prompt_id: prompt_id.to_string(),
        }),
        EventBody::PromptWithdrawn { prompt_id, reason } => {
            Body::PromptWithdrawn(v1::PromptWithdrawn {
                prompt_id: prompt_id.to_string(),
                reason: reason.clone(),
            })
        }
        EventBody::PromptDelivered {
            prompt_id,
            delivery,
            reason,
        } => Body::PromptDelivered(v1::PromptDelivered {
            prompt_id: prompt_id.to_string(),
            delivery: enums::answer_delivery_to_pb(*delivery).into(),
            reason: reason.clone(),
        }),
        EventBody::OptionsChanged {
            model,
            permission_mode,
        } => Body::OptionsChanged(v1::OptionsChanged {
            model: model.clone(),
            permission_mode: permission_mode
                .map(|mode| enums::permission_mode_to_pb(mode).into())
                .unwrap_or_default(),
        }),
        EventBody::CommandFailed {
            command_id,
            command,
            outcome,
            reason,
        } => Body::CommandFailed(v1::CommandFailed {
            command_id: command_id.to_string(),
            command: command.clone(),
            outcome: enums::outcome_to_pb(*outcome).into(),
            reason: reason.clone(),
        }),
        EventBody::Notice { kind, text } => Body::Notice(v1::Notice {
            kind: kind.clone(),
            text: text.clone(),
        }),
        EventBody::Gap {
            from_origin_seq,
            to_origin_seq,
            reason,
        } => Body::Gap(v1::Gap {
            from_origin_seq: *from_origin_seq,
            to_origin_seq: *to_origin_seq,
            reason: reason.clone(),
        }),
        EventBody::Ended { end } => Body::Ended(v1::Ended {
            end: Some(end_to_pb(end)),
        }),
    }
}

fn body_from_pb(body: Body) -> Result<EventBody> {
    Ok(match body {
        Body::SessionCreated(body) => EventBody::SessionCreated {
            daemon_id: DaemonId::parse("daemon_id", &body.daemon_id)?,
            harness: body.harness,
            cwd: body.cwd,
            resumed_from: optional_id(&body.resumed_from, "resumed_from", SessionId::parse)?,
            forked_from: optional_id(&body.forked_from, "forked_from", SessionId::parse)?,
        },
        Body::Started(body) => EventBody::Started {
            provider_session_id: body.provider_session_id,
            model: body.model,
            cwd: body.cwd,
            tools: body.tools,
            pid: body.pid,
            version: body.version,
        },
        Body::LifecycleChanged(body) => EventBody::LifecycleChanged {
            from: required_enum(enums::lifecycle_from_pb(body.from, "from"), "from")?,
            to: required_enum(enums::lifecycle_from_pb(body.to, "to"), "to")?,
        },
        Body::ActivityChanged(body) => EventBody::ActivityChanged {
            activity: enums::activity_from_pb(body.activity, "activity")?.unwrap_or_default(),
            source: enums::activity_source_from_pb(body.source, "source")?.unwrap_or_default(),
            confidence: percent(body.confidence, "confidence")?,
        },
        Body::LinkChanged(body) => EventBody::LinkChanged {
            attached: body.attached,
            epoch: body.epoch,
        },
        Body::InputAccepted(body) => EventBody::InputAccepted {
            input_id: InputId::parse("input_id", &body.input_id)?,
            text: body.text,
            delivery: enums::delivery_from_pb(body.delivery, "delivery")?.unwrap_or_default(),
        },
        Body::InputChanged(body) => EventBody::InputChanged {
            input_id: InputId::parse("input_id", &body.input_id)?,
            state: required_enum(enums::input_state_from_pb(body.state, "state"), "state")?,
            text: body.text,
            reason: body.reason,
        },
        Body::Message(body) => EventBody::Message {
            role: required_enum(enums::role_from_pb(body.role, "role"), "role")?,
            blocks: blocks_from_pb(body.blocks)?,
            message_id: body.message_id,
            parent_call_id: body.parent_call_id,
        },
        Body::ToolCall(body) => EventBody::ToolCall {
            call_id: body.call_id,
            tool: body.tool,
            input: json_from_pb(body.input, "input")?,
            content: body.content.map(content_from_pb).transpose()?,
            parent_call_id: body.parent_call_id,
        },
        Body::ToolResult(body) => EventBody::ToolResult {
            call_id: body.call_id,
            blocks: blocks_from_pb(body.blocks)?,
            is_error: body.is_error,
        },
        Body::TurnStarted(body) => EventBody::TurnStarted {
            turn_id: TurnId::parse("turn_id", &body.turn_id)?,
            input_ids: ids_from_pb(body.input_ids)?,
        },
        Body::TurnEnded(body) => EventBody::TurnEnded {
            turn_id: TurnId::parse("turn_id", &body.turn_id)?,
            is_error: body.is_error,
            reason: body.reason,
            text: body.text,
            usage: usage_from_pb(body.usage),
            duration: duration_from_pb(body.duration, "duration")?.unwrap_or_default(),
            input_ids: ids_from_pb(body.input_ids)?,
            api_status: body.api_status,
        },
        Body::PlanUpdated(body) => EventBody::PlanUpdated {
            items: body
                .items
                .into_iter()
                .map(|item| PlanItem {
                    text: item.text,
                    status: item.status,
                })
                .collect(),
        },
        Body::Output(body) => EventBody::Output {
            text: body.text,
            continues: body.continues,
        },
        Body::Stderr(body) => EventBody::Stderr {
            text: body.text,
            continues: body.continues,
        },
        Body::UsageUpdated(body) => EventBody::UsageUpdated {
            total: usage_from_pb(body.total),
        },
        Body::RateLimited(body) => EventBody::RateLimited {
            until: time_from_pb(body.until, "until")?,
            message: body.message,
        },
        Body::LimitExceeded(body) => EventBody::LimitExceeded {
            limit: body.limit,
            value: body.value,
            allowed: body.allowed,
            action: enums::limit_action_from_pb(body.action, "action")?.unwrap_or_default(),
            budget_id: optional_id(&body.budget_id, "budget_id", BudgetId::parse)?,
        },
        Body::LimitLifted(body) => EventBody::LimitLifted {
            budget_id: BudgetId::parse("budget_id", &body.budget_id)?,
            reason: body.reason,
        },
        Body::PromptRequested(body) => EventBody::PromptRequested {
            prompt: Box::new(prompt_from_pb(required(body.prompt, "prompt")?)?),
        },
        Body::PromptAnswered(body) => EventBody::PromptAnswered {
            prompt_id: PromptId::parse("prompt_id", &body.prompt_id)?,
            answer: prompt_answer_from_pb(required(body.answer, "answer")?)?,
        },
        Body::PromptExpired(body) => EventBody::PromptExpired {
            prompt_id: PromptId::parse("prompt_id", &body.prompt_id)?,
        },
        Body::PromptWithdrawn(body) => EventBody::PromptWithdrawn {
            prompt_id: PromptId::parse("prompt_id", &body.prompt_id)?,
            reason: body.reason,
        },
        Body::PromptDelivered(body) => EventBody::PromptDelivered {
            prompt_id: PromptId::parse("prompt_id", &body.prompt_id)?,
            delivery: enums::answer_delivery_from_pb(body.delivery, "delivery")?
                .unwrap_or_default(),
            reason: body.reason,
        },
        Body::OptionsChanged(body) => EventBody::OptionsChanged {
            model: body.model,
            permission_mode: enums::permission_mode_from_pb(
                body.permission_mode,
                "permission_mode",
            )?,
        },
        Body::CommandFailed(body) => EventBody::CommandFailed {
            command_id: CommandId::parse("command_id", &body.command_id)?,
            command: body.command,
            outcome: required_enum(enums::outcome_from_pb(body.outcome, "outcome"), "outcome")?,
            reason: body.reason,
        },
        Body::Notice(body) => EventBody::Notice {
            kind: body.kind,
            text: body.text,
        },
        Body::Gap(body) => EventBody::Gap {
            from_origin_seq: body.from_origin_seq,
            to_origin_seq: body.to_origin_seq,
            reason: body.reason,
        },
        Body::Ended(body) => EventBody::Ended {
            end: end_from_pb(required(body.end, "end")?)?,
        },
    })
}
