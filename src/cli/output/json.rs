//! Records and events as JSON: stable snake_case names, times as RFC 3339, enums as words, absent as
//! null, numbers beyond 2^53 as strings.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::domain::{Event, Transient};
use crate::wire::event::event_to_pb;
use crate::wire::time::time_from_pb;
use crate::wire::transient::transient_to_pb;
use crate::wire::v1;

/// The largest number that every JSON reader keeps exactly.
const MAX_EXACT: u64 = 1 << 53;

/// An enum's value as a lower-case word without its prefix; null if unspecified or not known.
macro_rules! word {
    ($enum:ident, $value:expr, $prefix:literal) => {
        v1::$enum::try_from($value)
            .ok()
            .and_then(|value| value.as_str_name().strip_prefix($prefix))
            .filter(|name| *name != "UNSPECIFIED")
            .map_or(Value::Null, |name| Value::from(name.to_lowercase()))
    };
}

/// A number, as a string where a reader would round it.
pub fn number(value: u64) -> Value {
    if value <= MAX_EXACT {
        Value::from(value)
    } else {
        Value::from(value.to_string())
    }
}

/// A time as RFC 3339; null if absent.
pub fn time(time: Option<prost_types::Timestamp>) -> Value {
    match time_from_pb(time, "time") {
        Ok(Some(time)) => Value::from(time.to_string()),
        _ => Value::Null,
    }
}

fn seconds(duration: Option<prost_types::Duration>) -> Value {
    duration.map_or(Value::Null, |duration| {
        Value::from(duration.seconds as f64 + f64::from(duration.nanos) / 1e9)
    })
}

/// Text that may be empty for absent.
pub fn text(text: &str) -> Value {
    if text.is_empty() {
        Value::Null
    } else {
        Value::from(text)
    }
}

fn value(json: Option<&v1::Json>) -> Value {
    match json {
        None => Value::Null,
        // What is too deep or not JSON is shown as the text it is.
        Some(json) => {
            serde_json::from_str(&json.text).unwrap_or_else(|_| Value::from(json.text.as_str()))
        }
    }
}

fn labels(labels: &HashMap<String, String>) -> Value {
    json!(labels.iter().collect::<BTreeMap<_, _>>())
}

/// An actor.
pub fn actor(actor: Option<&v1::Actor>) -> Value {
    actor.map_or(Value::Null, |actor| {
        json!({
            "kind": word!(ActorKind, actor.kind, "ACTOR_KIND_"),
            "id": text(&actor.id),
            "name": actor.name,
        })
    })
}

fn usage(usage: Option<&v1::Usage>) -> Value {
    usage.map_or(Value::Null, |usage| {
        json!({
            "input_tokens": number(usage.input_tokens),
            "output_tokens": number(usage.output_tokens),
            "cache_read_tokens": number(usage.cache_read_tokens),
            "cache_write_tokens": number(usage.cache_write_tokens),
            "cost_micro_usd": number(usage.cost_micro_usd),
        })
    })
}

fn end(end: Option<&v1::EndInfo>) -> Value {
    end.map_or(Value::Null, |end| {
        json!({
            "reason": word!(EndReason, end.reason, "END_REASON_"),
            "exit_code": end.exit_code,
            "signal": end.signal,
            "message": end.message,
            "stderr_tail": end.stderr_tail,
        })
    })
}

fn capabilities(capabilities: Option<&v1::HarnessCapabilities>) -> Value {
    capabilities.map_or(Value::Null, |c| {
        json!({
            "steer": c.steer, "queue": c.queue, "permission": c.permission,
            "question": c.question, "plan": c.plan, "resume": c.resume, "fork": c.fork,
            "model_switch": c.model_switch, "mode_switch": c.mode_switch, "usage": c.usage,
            "quota": c.quota, "interrupt": c.interrupt,
            "instructions": c.instructions,
        })
    })
}

fn limits(limits: Option<&v1::Limits>) -> Value {
    limits.map_or(Value::Null, |l| {
        json!({
            "runtime_s": seconds(l.runtime),
            "idle_s": seconds(l.idle),
            "output_bytes": if l.output_bytes == 0 { Value::Null } else { number(l.output_bytes) },
            "turns": if l.turns == 0 { Value::Null } else { Value::from(l.turns) },
            "cost_micro_usd": if l.cost_micro_usd == 0 { Value::Null } else { number(l.cost_micro_usd) },
            "action": word!(LimitAction, l.action, "LIMIT_ACTION_"),
        })
    })
}

fn session_agent(agent: Option<&v1::SessionAgent>) -> Value {
    agent.map_or(Value::Null, |agent| {
        json!({
            "id": agent.id,
            "name": agent.name,
            "role": word!(AgentRole, agent.role, "AGENT_ROLE_"),
            "worker_mode": word!(WorkerMode, agent.worker_mode, "WORKER_MODE_"),
        })
    })
}

/// A terminal.
pub fn terminal(t: &v1::Terminal) -> Value {
    json!({
        "id": t.id,
        "session": t.session.as_ref().map(session),
        "cols": t.size.map(|size| size.cols),
        "rows": t.size.map(|size| size.rows),
        "size_policy": word!(TerminalSizePolicy, t.size_policy, "TERMINAL_SIZE_POLICY_"),
        "oldest_offset": t.oldest_offset,
        "next_offset": t.next_offset,
        "viewers": t.viewers,
    })
}

/// A session.
pub fn session(s: &v1::Session) -> Value {
    json!({
        "id": s.id,
        "title": s.title,
        "daemon_id": s.daemon_id,
        "harness": s.harness,
        "model": text(&s.model),
        "permission_mode": word!(PermissionMode, s.permission_mode, "PERMISSION_MODE_"),
        "mode": word!(SessionMode, s.mode, "SESSION_MODE_"),
        "one_shot": s.one_shot,
        "cwd": s.cwd,
        "argv": s.argv,
        "lifecycle": word!(Lifecycle, s.lifecycle, "LIFECYCLE_"),
        "end": end(s.end.as_ref()),
        "activity": word!(Activity, s.activity, "ACTIVITY_"),
        "activity_source": word!(ActivitySource, s.activity_source, "ACTIVITY_SOURCE_"),
        "activity_confidence": s.activity_confidence,
        "attached": s.attached,
        "detached_since": time(s.detached_since),
        "provider_session_id": text(&s.provider_session_id),
        "resumed_from": text(&s.resumed_from),
        "forked_from": text(&s.forked_from),
        "resumed_by": text(&s.resumed_by),
        "resumable": s.resumable,
        "log_epoch": number(s.log_epoch),
        "first_seq": number(s.first_seq),
        "head_seq": number(s.head_seq),
        "created_at": time(s.created_at),
        "started_at": time(s.started_at),
        "ended_at": time(s.ended_at),
        "last_event_at": time(s.last_event_at),
        "usage": usage(s.usage.as_ref()),
        "turns": s.turns,
        "pending_prompts": s.pending_prompts,
        "queued_inputs": s.queued_inputs,
        "limits": limits(s.limits.as_ref()),
        "labels": labels(&s.labels),
        "created_by": actor(s.created_by.as_ref()),
        "capabilities": capabilities(s.capabilities.as_ref()),
        "etag": s.etag,
        "agent": session_agent(s.agent.as_ref()),
        "task_id": text(s.task.as_ref().map_or("", |task| &task.task_id)),
    })
}

/// An input.
pub fn input(i: &v1::Input) -> Value {
    json!({
        "id": i.id,
        "session_id": i.session_id,
        "text": i.text,
        "delivery": word!(Delivery, i.delivery, "DELIVERY_"),
        "state": word!(InputState, i.state, "INPUT_STATE_"),
        "actor": actor(i.actor.as_ref()),
        "created_at": time(i.created_at),
        "position": i.position,
        "reason": text(&i.reason),
        "etag": i.etag,
    })
}

fn decision(d: &v1::Decision) -> Value {
    json!({
        "allow": d.allow,
        "message": text(&d.message),
        "updated_input": value(d.updated_input.as_ref()),
        "remember": match word!(Remember, d.remember, "REMEMBER_") {
            Value::Null => Value::from("none"),
            word => word,
        },
        "pattern": text(&d.pattern),
        "interrupt": d.interrupt,
    })
}

fn answer(answer: Option<&v1::PromptAnswer>) -> Value {
    answer.map_or(Value::Null, |a| {
        json!({
            "by": actor(a.by.as_ref()),
            "at": time(a.at),
            "decision": a.decision.as_ref().map(decision),
            "answers": a.answers.iter().map(|answer| json!({
                "question": answer.question,
                "labels": answer.labels,
                "text": text(&answer.text),
            })).collect::<Vec<_>>(),
        })
    })
}

/// A prompt.
pub fn prompt(p: &v1::Prompt) -> Value {
    json!({
        "id": p.id,
        "session_id": p.session_id,
        "kind": word!(PromptKind, p.kind, "PROMPT_KIND_"),
        "tool": text(&p.tool),
        "input": value(p.input.as_ref()),
        "plan": text(&p.plan),
        "questions": p.questions.iter().map(|q| json!({
            "header": q.header,
            "text": q.text,
            "multi_select": q.multi_select,
            "options": q.options.iter()
                .map(|o| json!({ "label": o.label, "description": o.description }))
                .collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "suggestions": p.suggestions.iter()
            .map(|s| json!({ "label": s.label, "value": value(s.value.as_ref()) }))
            .collect::<Vec<_>>(),
        "summary": p.summary,
        "reason": text(&p.reason),
        "requested_at": time(p.requested_at),
        "expires_at": time(p.expires_at),
        "state": word!(PromptState, p.state, "PROMPT_STATE_"),
        "answer": answer(p.answer.as_ref()),
        "delivery": word!(AnswerDelivery, p.delivery, "ANSWER_DELIVERY_"),
        "note": text(&p.note),
        "call_id": text(&p.call_id),
        "etag": text(&p.etag),
    })
}

/// An agent.
pub fn agent(a: &v1::Agent) -> Value {
    let settings = a.settings.clone().unwrap_or_default();
    let definition = settings.definition.clone().unwrap_or_default();
    json!({
        "id": a.id,
        "name": settings.name,
        "role": word!(AgentRole, settings.role, "AGENT_ROLE_"),
        "worker_mode": word!(WorkerMode, settings.worker_mode, "WORKER_MODE_"),
        "focus": word!(StewardFocus, settings.focus, "STEWARD_FOCUS_"),
        "harness": settings.harness,
        "model": text(&settings.model),
        "permission_mode": word!(PermissionMode, settings.permission_mode, "PERMISSION_MODE_"),
        "mode": word!(SessionMode, settings.mode, "SESSION_MODE_"),
        "directory": text(&settings.directory),
        "daemon_id": text(&settings.daemon_id),
        "selector": labels(&settings.selector),
        "env_names": settings.env_names,
        "argv": settings.argv,
        "limits": limits(settings.limits.as_ref()),
        "definition": {
            "instructions": text(&definition.instructions),
            "on_startup": text(&definition.on_startup),
            "on_task_assigned": text(&definition.on_task_assigned),
            "on_stuck": text(&definition.on_stuck),
            "on_handoff": text(&definition.on_handoff),
            "on_error": text(&definition.on_error),
        },
        "capabilities": settings.capabilities,
        "disabled": settings.disabled,
        "labels": labels(&settings.labels),
        "triggers": settings.triggers.iter().map(trigger).collect::<Vec<_>>(),
        "active_session_id": text(&a.active_session_id),
        "created_by": actor(a.created_by.as_ref()),
        "created_at": time(a.created_at),
        "updated_at": time(a.updated_at),
        "etag": text(&a.etag),
    })
}

/// What starts a steward by itself.
fn trigger(trigger: &v1::Trigger) -> Value {
    use v1::trigger::On;
    let mut it = match &trigger.on {
        Some(On::Cron(cron)) => json!({
            "cron": cron.schedule,
            "time_zone": text(&cron.time_zone),
        }),
        Some(On::Event(of)) => json!({
            "event": word!(TaskEvent, of.event, "TASK_EVENT_"),
            "labels": labels(&of.labels),
        }),
        None => json!({}),
    };
    it["input"] = text(&trigger.input);
    it
}

/// How a trigger stands.
pub fn trigger_state(state: &v1::TriggerState) -> Value {
    let mut it = trigger(&state.trigger.clone().unwrap_or_default());
    it["next_at"] = time(state.next_at);
    it["fired_at"] = time(state.fired_at);
    it["tasks"] = state.tasks.into();
    it["obstacle"] = text(&state.obstacle);
    it
}

/// A rule.
pub fn rule(r: &v1::PromptRule) -> Value {
    json!({
        "id": r.id,
        "pattern": r.pattern,
        "allow": r.allow,
        "session_id": text(&r.session_id),
        "directory": text(&r.directory),
        "created_by": actor(r.created_by.as_ref()),
        "created_at": time(r.created_at),
    })
}

/// A daemon.
pub fn daemon(d: &v1::Daemon) -> Value {
    json!({
        "id": d.id,
        "name": d.name,
        "hostname": d.hostname,
        "platform": d.platform,
        "version": d.version,
        "attached": d.attached,
        "since": time(d.since),
        "draining": d.draining,
        "harnesses": d.harnesses.iter().map(|h| json!({
            "name": h.name,
            "available": h.available,
            "unavailable_reason": text(&h.unavailable_reason),
            "version": text(&h.version),
            "login": word!(LoginState, h.login, "LOGIN_STATE_"),
            "capabilities": capabilities(h.capabilities.as_ref()),
            "models": h.models,
        })).collect::<Vec<_>>(),
        "roots": d.roots,
        "max_permission_mode": word!(PermissionMode, d.max_permission_mode, "PERMISSION_MODE_"),
        "labels": labels(&d.labels),
        "env_names": d.env_names,
        "max_sessions": d.max_sessions,
        "living_sessions": d.living_sessions,
        "created_at": time(d.created_at),
        "link_epoch": number(d.link_epoch),
        "link_changes": d.link_changes.iter().map(|change| json!({
            "at": time(change.at),
            "attached": change.attached,
            "epoch": number(change.epoch),
            "reason": text(&change.reason),
        })).collect::<Vec<_>>(),
        "etag": d.etag,
    })
}

/// An entry of a directory.
pub fn directory_entry(e: &v1::DirectoryEntry) -> Value {
    json!({
        "name": e.name, "path": e.path,
        "is_directory": e.is_directory, "is_repository": e.is_repository,
    })
}

/// A token.
pub fn token(t: &v1::Token) -> Value {
    json!({
        "id": t.id,
        "name": t.name,
        "scope": word!(TokenScope, t.scope, "TOKEN_SCOPE_"),
        "created_at": time(t.created_at),
        "expires_at": time(t.expires_at),
        "revoked_at": time(t.revoked_at),
        "last_used_at": time(t.last_used_at),
        "daemon_id": text(&t.daemon_id),
        "kind": word!(TokenKind, t.kind, "TOKEN_KIND_"),
        "narrowing": t.narrowing.as_ref().map(|narrowing| json!({
            "projects": narrowing.projects.iter().map(|project| json!({
                "directory": project.directory,
                "daemon_id": text(&project.daemon_id),
            })).collect::<Vec<_>>(),
            "session_ids": narrowing.session_ids,
        })),
    })
}

/// A hit of a search.
pub fn hit(h: &v1::SearchHit) -> Value {
    json!({
        "session_id": h.session_id,
        "seq": number(h.seq),
        "time": time(h.time),
        "kind": word!(EventKind, h.kind, "EVENT_KIND_"),
        "snippet": h.snippet,
    })
}

/// A transient, as one object of a stream.
pub fn transient(transient: &Transient) -> Value {
    use v1::transient::Body;
    let pb = transient_to_pb(transient);
    let mut object = object("transient", "session_id", &pb.session_id);
    match pb.body {
        Some(Body::MessageDelta(d)) => {
            object.insert("kind".into(), "message_delta".into());
            object.insert(
                "body".into(),
                json!({
                    "message_id": d.message_id, "block": d.block, "offset": number(d.offset),
                    "text": d.text, "thinking": d.thinking,
                }),
            );
        }
        Some(Body::Progress(p)) => {
            object.insert("kind".into(), "progress".into());
            object.insert("body".into(), json!({ "text": p.text }));
        }
        None => {}
    }
    Value::Object(object)
}

fn object(kind: &str, key: &str, value: &str) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("type".into(), kind.into());
    object.insert(key.into(), value.into());
    object
}

/// An event, as one object of a stream.
pub fn event(event: &Event) -> Value {
    let pb = event_to_pb(event);
    json!({
        "type": "event",
        "seq": number(pb.seq),
        "time": time(pb.time),
        "session_id": pb.session_id,
        "origin": word!(Origin, pb.origin, "ORIGIN_"),
        "actor": actor(pb.actor.as_ref()),
        "may_ignore": pb.may_ignore,
        "origin_time": time(pb.origin_time),
        "raw": value(pb.raw.as_ref()),
        "raw_content": pb.raw_content.as_ref().map(content),
        "kind": event.body.kind().as_str(),
        "body": pb.body.as_ref().map(body),
    })
}

fn content(content: &v1::ContentRef) -> Value {
    json!({
        "sha256": content.sha256,
        "size_bytes": number(content.size_bytes),
        "media_type": content.media_type,
        "head": content.head,
        "tail": content.tail,
    })
}

fn blocks(blocks: &[v1::Block]) -> Value {
    use v1::block::Kind;
    blocks
        .iter()
        .map(|block| match &block.kind {
            Some(Kind::Text(text)) => json!({ "type": "text", "text": text }),
            Some(Kind::Thinking(text)) => json!({ "type": "thinking", "text": text }),
            Some(Kind::Content(reference)) => {
                json!({ "type": "content", "content": content(reference) })
            }
            None => json!({ "type": "unknown" }),
        })
        .collect()
}

fn body(body: &v1::event::Body) -> Value {
    use v1::event::Body;
    match body {
        Body::SessionCreated(b) => json!({
            "daemon_id": b.daemon_id, "harness": b.harness, "cwd": b.cwd,
            "resumed_from": text(&b.resumed_from), "forked_from": text(&b.forked_from),
        }),
        Body::Started(b) => json!({
            "provider_session_id": text(&b.provider_session_id), "model": text(&b.model),
            "cwd": b.cwd, "tools": b.tools, "pid": b.pid, "version": text(&b.version),
        }),
        Body::LifecycleChanged(b) => json!({
            "from": word!(Lifecycle, b.from, "LIFECYCLE_"),
            "to": word!(Lifecycle, b.to, "LIFECYCLE_"),
        }),
        Body::ActivityChanged(b) => json!({
            "activity": word!(Activity, b.activity, "ACTIVITY_"),
            "source": word!(ActivitySource, b.source, "ACTIVITY_SOURCE_"),
            "confidence": b.confidence,
        }),
        Body::LinkChanged(b) => json!({ "attached": b.attached, "epoch": number(b.epoch) }),
        Body::InputAccepted(b) => json!({
            "input_id": b.input_id, "text": b.text,
            "delivery": word!(Delivery, b.delivery, "DELIVERY_"),
        }),
        Body::InputChanged(b) => json!({
            "input_id": b.input_id, "state": word!(InputState, b.state, "INPUT_STATE_"),
            "text": text(&b.text), "reason": text(&b.reason),
        }),
        Body::Message(b) => json!({
            "role": word!(Role, b.role, "ROLE_"), "blocks": blocks(&b.blocks),
            "message_id": text(&b.message_id), "parent_call_id": text(&b.parent_call_id),
        }),
        Body::ToolCall(b) => json!({
            "call_id": b.call_id, "tool": b.tool, "input": value(b.input.as_ref()),
            "content": b.content.as_ref().map(content), "parent_call_id": text(&b.parent_call_id),
        }),
        Body::ToolResult(b) => json!({
            "call_id": b.call_id, "blocks": blocks(&b.blocks), "is_error": b.is_error,
        }),
        Body::TurnStarted(b) => json!({ "turn_id": b.turn_id, "input_ids": b.input_ids }),
        Body::TurnEnded(b) => json!({
            "turn_id": b.turn_id, "is_error": b.is_error, "reason": b.reason, "text": b.text,
            "usage": usage(b.usage.as_ref()), "duration_s": seconds(b.duration),
            "input_ids": b.input_ids,
            "api_status": if b.api_status == 0 { Value::Null } else { Value::from(b.api_status) },
        }),
        Body::PlanUpdated(b) => json!({
            "items": b.items.iter()
                .map(|item| json!({ "text": item.text, "status": item.status }))
                .collect::<Vec<_>>(),
        }),
        Body::Output(b) => json!({ "text": b.text, "continues": b.continues }),
        Body::Stderr(b) => json!({ "text": b.text, "continues": b.continues }),
        Body::UsageUpdated(b) => json!({ "total": usage(b.total.as_ref()) }),
        Body::RateLimited(b) => json!({ "until": time(b.until), "message": b.message }),
        Body::LimitExceeded(b) => json!({
            "limit": b.limit, "value": number(b.value), "allowed": number(b.allowed),
            "action": word!(LimitAction, b.action, "LIMIT_ACTION_"), "budget_id": b.budget_id,
        }),
        Body::LimitLifted(b) => json!({ "budget_id": b.budget_id, "reason": b.reason }),
        Body::PromptRequested(b) => json!({ "prompt": b.prompt.as_ref().map(prompt) }),
        Body::PromptAnswered(b) => json!({
            "prompt_id": b.prompt_id, "answer": answer(b.answer.as_ref()),
        }),
        Body::PromptExpired(b) => json!({ "prompt_id": b.prompt_id }),
        Body::PromptWithdrawn(b) => json!({ "prompt_id": b.prompt_id, "reason": b.reason }),
        Body::PromptDelivered(b) => json!({
            "prompt_id": b.prompt_id,
            "delivery": word!(AnswerDelivery, b.delivery, "ANSWER_DELIVERY_"),
            "reason": text(&b.reason),
        }),
        Body::OptionsChanged(b) => json!({
            "model": b.model,
            "permission_mode": word!(PermissionMode, b.permission_mode, "PERMISSION_MODE_"),
        }),
        Body::CommandFailed(b) => json!({
            "command_id": b.command_id, "command": b.command,
            "outcome": word!(CommandOutcome, b.outcome, "COMMAND_OUTCOME_"), "reason": b.reason,
        }),
        Body::Notice(b) => json!({ "kind": b.kind, "text": b.text }),
        Body::Gap(b) => json!({
            "from_origin_seq": number(b.from_origin_seq), "to_origin_seq": number(b.to_origin_seq),
            "reason": b.reason,
        }),
        Body::Ended(b) => json!({ "end": end(b.end.as_ref()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_a_reader_would_round_are_strings() {
        assert_eq!(number(1 << 53), json!(9_007_199_254_740_992_u64));
        assert_eq!(number((1 << 53) + 1), json!("9007199254740993"));
    }

    #[test]
    fn a_session_has_stable_names() {
        let value = session(&v1::Session {
            id: "ses_1".into(),
            lifecycle: v1::Lifecycle::Running.into(),
            activity: v1::Activity::AwaitingPrompt.into(),
            created_at: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 0,
            }),
            head_seq: u64::MAX,
            ..Default::default()
        });
        assert_eq!(value["lifecycle"], "running");
        assert_eq!(value["activity"], "awaiting_prompt");
        assert_eq!(value["created_at"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(value["head_seq"], "18446744073709551615");
        assert_eq!(value["resumed_from"], Value::Null);
        assert_eq!(value["end"], Value::Null);
    }

    #[test]
    fn an_enum_value_of_the_future_is_null() {
        assert_eq!(word!(Lifecycle, 99, "LIFECYCLE_"), Value::Null);
        assert_eq!(word!(Lifecycle, 0, "LIFECYCLE_"), Value::Null);
    }
}
