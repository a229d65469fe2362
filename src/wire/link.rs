//! Frames of the link on the wire.
//!
//! What a peer sent is checked for what a type can express and for its size; whether it may say it now is
//! decided by `domain::link`.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;

use super::daemon::{directory_from_pb, directory_to_pb, harness_from_pb, harness_to_pb};
use super::event::event_of;
use super::field::{required, text};
use super::terminal::{output_from_pb, output_to_pb, size_from_pb, size_to_pb};
use super::time::{duration_from_pb, duration_to_pb, required_time, time_from_pb, time_to_pb};
use super::transient::{transient_from_pb, transient_to_pb};
use super::worktree::{
    answer_from_pb, answer_to_pb, order_from_pb, order_to_pb, support_from_pb, support_to_pb,
};
use super::{LinkRecord, encode_event, enums, link_command, link_v1 as pb, v1};
use crate::base::error::Effect;
use crate::base::id::{CommandId, DaemonId, SessionId};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::content::{CONTENT_CHUNK_BYTES, MAX_CONTENT_BYTES, is_sha256};
use crate::domain::daemon::{DirectoryQuery, Offer};
use crate::domain::event::{EventBody, Origin};
use crate::domain::field;
use crate::domain::link::Credit;
use crate::domain::link::frame::{
    ContentAck, ContentChunk, Down, Found, Gap, Goodbye, Heartbeat, Hello, Position, Query,
    QueryBody, QueryResult, Record, RecordEvent, Records, SessionReport, SessionState, Up, Welcome,
};
use crate::domain::terminal::{Act, MAX_INPUT_BYTES};
use crate::domain::{CommandResult, Event};

/// The largest message on the link, in bytes; set on both sides, both ways. The largest record (its
/// events, at most 256 KiB each) must fit.
pub const MAX_LINK_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// The longest sentence for people, in bytes.
const MAX_REASON_BYTES: usize = 4 * 1024;
/// The most records in one message.
const MAX_RECORDS: usize = 4_096;
/// The most events in one record.
const MAX_EVENTS: usize = 1_024;

/// A frame up the link as protobuf writes it.
pub fn up_to_pb(frame: &Up) -> pb::ConnectRequest {
    use pb::connect_request::Body;
    let body = match frame {
        Up::Hello(hello) => Body::Hello(pb::Hello {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            daemon_id: hello.daemon_id.to_string(),
            boot_generation: hello.boot_generation,
            attempt: hello.attempt,
            capabilities: Some(offer_to_pb(&hello.offer)),
            sessions: hello.sessions.iter().map(report_to_pb).collect(),
        }),
        Up::Records(records) => Body::Records(pb::Records {
            session_id: records.session_id.to_string(),
            origin_epoch: records.origin_epoch,
            previous_origin_epoch: records.previous.origin_epoch,
            previous_origin_seq: records.previous.origin_seq,
            records: records.records.iter().map(record_to_pb).collect(),
        }),
        Up::Transient(transient) => Body::Transient(transient_to_pb(transient)),
        Up::CommandResult(result) => Body::CommandResult(result_to_pb(result)),
        Up::Heartbeat(heartbeat) => Body::Heartbeat(heartbeat_to_pb(heartbeat)),
        Up::Goodbye(goodbye) => Body::Goodbye(pb::Goodbye {
            reason: goodbye.reason.clone(),
            sessions_end: goodbye.sessions_end,
        }),
        Up::ContentChunk(chunk) => Body::ContentChunk(pb::ContentChunk {
            session_id: chunk.session_id.to_string(),
            sha256: chunk.sha256.clone(),
            size_bytes: chunk.size_bytes,
            offset: chunk.offset,
            data: chunk.data.clone(),
        }),
        Up::Offer(offer) => Body::Capabilities(offer_to_pb(offer)),
        Up::QueryResult(result) => Body::QueryResult(query_result_to_pb(result)),
        Up::SessionReport(report) => Body::SessionReport(report_to_pb(report)),
    };
    pb::ConnectRequest { body: Some(body) }
}

/// A frame up the link from the wire.
pub fn up_from_pb(frame: pb::ConnectRequest) -> Result<Up> {
    use pb::connect_request::Body;
    Ok(match required(frame.body, "body")? {
        Body::Hello(hello) => Up::Hello(Box::new(Hello {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            daemon_id: DaemonId::parse("hello.daemon_id", &hello.daemon_id)?,
            boot_generation: hello.boot_generation,
            attempt: hello.attempt,
            offer: offer_from_pb(required(hello.capabilities, "hello.capabilities")?)?,
            sessions: hello
                .sessions
                .into_iter()
                .map(report_from_pb)
                .collect::<Result<_>>()?,
        })),
        Body::Records(records) => Up::Records(records_from_pb(records)?),
        Body::Transient(transient) => Up::Transient(transient_from_pb(transient)?),
        Body::CommandResult(result) => Up::CommandResult(result_from_pb(result)?),
        Body::Heartbeat(heartbeat) => Up::Heartbeat(heartbeat_from_pb(heartbeat)?),
        Body::Goodbye(goodbye) => Up::Goodbye(Goodbye {
            reason: text(goodbye.reason, "goodbye.reason", MAX_REASON_BYTES)?,
            sessions_end: goodbye.sessions_end,
        }),
        Body::ContentChunk(chunk) => Up::ContentChunk(chunk_from_pb(chunk)?),
        Body::Capabilities(offer) => Up::Offer(Box::new(offer_from_pb(offer)?)),
        Body::QueryResult(result) => Up::QueryResult(query_result_from_pb(result)?),
        Body::SessionReport(report) => Up::SessionReport(report_from_pb(report)?),
    })
}

/// A frame down the link as protobuf writes it.
pub fn down_to_pb(frame: &Down) -> pb::ConnectResponse {
    use pb::connect_response::Body;
    let body = match frame {
        Down::Welcome(welcome) => Body::Welcome(welcome_to_pb(welcome)),
        Down::Command(command) => Body::Command(link_command::command_to_pb(command)),
        Down::Ack(state) => Body::Ack(pb::Ack {
            session_id: state.session_id.to_string(),
            origin_epoch: state.stored.origin_epoch,
            origin_seq: state.stored.origin_seq,
            credit_events: state.credit.events,
            credit_bytes: state.credit.bytes,
        }),
        Down::ResultAck {
            command_id,
            session_id,
        } => Body::ResultAck(pb::ResultAck {
            command_id: command_id.to_string(),
            session_id: session_id.to_string(),
        }),
        Down::Heartbeat(heartbeat) => Body::Heartbeat(heartbeat_to_pb(heartbeat)),
        Down::Drain { after, reason } => Body::Drain(pb::Drain {
            after: Some(duration_to_pb(*after)),
            reason: reason.clone(),
        }),
        Down::Reset {
            session_id,
            after,
            reason,
        } => Body::Reset(pb::Reset {
            session_id: session_id.to_string(),
            origin_epoch: after.origin_epoch,
            after_origin_seq: after.origin_seq,
            reason: reason.clone(),
        }),
        Down::Query(query) => Body::Query(pb::Query {
            id: query.id,
            body: Some(match &query.body {
                QueryBody::ListDirectory(query) => {
                    pb::query::Body::ListDirectory(v1::ListDirectoryRequest {
                        daemon_id: String::new(),
                        path: query.path.clone(),
                        hidden: query.hidden,
                        brief: query.brief,
                    })
                }
                QueryBody::Terminal { session_id, act } => {
                    pb::query::Body::Terminal(terminal_to_pb(*session_id, act))
                }
                QueryBody::Worktree(order) => pb::query::Body::Worktree(order_to_pb(order)),
            }),
        }),
        Down::Foreign { session_id, reason } => Body::Foreign(pb::Foreign {
            session_id: session_id.to_string(),
            reason: reason.clone(),
        }),
        Down::ContentAck(ack) => Body::ContentAck(pb::ContentAck {
            session_id: ack.session_id.to_string(),
            sha256: ack.sha256.clone(),
            next_offset: ack.next_offset,
            resend: ack.resend,
        }),
    };
    pb::ConnectResponse { body: Some(body) }
}

/// A frame down the link from the wire.
pub fn down_from_pb(frame: pb::ConnectResponse) -> Result<Down> {
    use pb::connect_response::Body;
    Ok(match required(frame.body, "body")? {
        Body::Welcome(welcome) => Down::Welcome(Box::new(welcome_from_pb(welcome)?)),
        Body::Command(command) => Down::Command(Box::new(link_command::command_from_pb(command)?)),
        Body::Ack(ack) => Down::Ack(SessionState {
            session_id: SessionId::parse("ack.session_id", &ack.session_id)?,
            stored: Position::new(ack.origin_epoch, ack.origin_seq),
            credit: Credit {
                events: ack.credit_events,
                bytes: ack.credit_bytes,
            },
        }),
        Body::ResultAck(ack) => Down::ResultAck {
            command_id: CommandId::parse("result_ack.command_id", &ack.command_id)?,
            session_id: SessionId::parse("result_ack.session_id", &ack.session_id)?,
        },
        Body::Heartbeat(heartbeat) => Down::Heartbeat(heartbeat_from_pb(heartbeat)?),
        Body::Drain(drain) => Down::Drain {
            after: duration_from_pb(drain.after, "drain.after")?.unwrap_or_default(),
            reason: text(drain.reason, "drain.reason", MAX_REASON_BYTES)?,
        },
        Body::Reset(reset) => Down::Reset {
            session_id: SessionId::parse("reset.session_id", &reset.session_id)?,
            after: Position::new(reset.origin_epoch, reset.after_origin_seq),
            reason: text(reset.reason, "reset.reason", MAX_REASON_BYTES)?,
        },
        Body::Query(query) => Down::Query(Query {
            id: query.id,
            body: match required(query.body, "query.body")? {
                pb::query::Body::ListDirectory(request) => {
                    QueryBody::ListDirectory(DirectoryQuery {
                        path: text(request.path, "query.path", field::MAX_PATH_BYTES)?,
                        hidden: request.hidden,
                        brief: request.brief,
                    })
                }
                pb::query::Body::Terminal(query) => terminal_from_pb(query)?,
                pb::query::Body::Worktree(order) => {
                    QueryBody::Worktree(Box::new(order_from_pb(order)?))
                }
            },
        }),
        Body::Foreign(foreign) => Down::Foreign {
            session_id: SessionId::parse("foreign.session_id", &foreign.session_id)?,
            reason: text(foreign.reason, "foreign.reason", MAX_REASON_BYTES)?,
        },
        Body::ContentAck(ack) => Down::ContentAck(ContentAck {
            session_id: SessionId::parse("content_ack.session_id", &ack.session_id)?,
            sha256: sha256(ack.sha256, "content_ack.sha256")?,
            next_offset: ack.next_offset,
            resend: ack.resend,
        }),
    })
}

fn welcome_to_pb(welcome: &Welcome) -> pb::Welcome {
    pb::Welcome {
        protocol: welcome.protocol,
        link_epoch: welcome.link_epoch,
        lease: Some(duration_to_pb(welcome.lease)),
        heartbeat_interval: Some(duration_to_pb(welcome.heartbeat_interval)),
        sessions: welcome
            .sessions
            .iter()
            .map(|state| pb::SessionState {
                session_id: state.session_id.to_string(),
                origin_epoch: state.stored.origin_epoch,
                acked_origin_seq: state.stored.origin_seq,
                credit_events: state.credit.events,
                credit_bytes: state.credit.bytes,
            })
            .collect(),
        foreign_session_ids: welcome.foreign.iter().map(ToString::to_string).collect(),
        link_credit_events: welcome.link_credit.events,
        link_credit_bytes: welcome.link_credit.bytes,
        server_version: welcome.server_version.clone(),
    }
}

fn welcome_from_pb(welcome: pb::Welcome) -> Result<Welcome> {
    Ok(Welcome {
        protocol: welcome.protocol,
        link_epoch: welcome.link_epoch,
        lease: required(
            duration_from_pb(welcome.lease, "welcome.lease")?,
            "welcome.lease",
        )?,
        heartbeat_interval: required(
            duration_from_pb(welcome.heartbeat_interval, "welcome.heartbeat_interval")?,
            "welcome.heartbeat_interval",
        )?,
        sessions: welcome
            .sessions
            .into_iter()
            .map(|state| {
                Ok(SessionState {
                    session_id: SessionId::parse("welcome.sessions", &state.session_id)?,
                    stored: Position::new(state.origin_epoch, state.acked_origin_seq),
                    credit: Credit {
                        events: state.credit_events,
                        bytes: state.credit_bytes,
                    },
                })
            })
            .collect::<Result<_>>()?,
        foreign: welcome
            .foreign_session_ids
            .iter()
            .map(|id| SessionId::parse("welcome.foreign_session_ids", id))
            .collect::<Result<_>>()?,
        link_credit: Credit {
            events: welcome.link_credit_events,
            bytes: welcome.link_credit_bytes,
        },
        server_version: text(
            welcome.server_version,
            "welcome.server_version",
            field::MAX_TITLE_BYTES,
        )?,
    })
}

fn offer_to_pb(offer: &Offer) -> pb::Capabilities {
    pb::Capabilities {
        hostname: offer.hostname.clone(),
        platform: offer.platform.clone(),
        version: offer.version.clone(),
        harnesses: offer.harnesses.iter().map(harness_to_pb).collect(),
        roots: offer.roots.clone(),
        max_permission_mode: enums::permission_mode_to_pb(offer.max_permission_mode).into(),
        labels: offer
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<HashMap<_, _>>(),
        env_names: offer.env_names.clone(),
        max_sessions: offer.max_sessions,
        worktrees: Some(support_to_pb(&offer.worktrees)),
    }
}

fn offer_from_pb(offer: pb::Capabilities) -> Result<Offer> {
    const NAME: &str = "capabilities";
    if offer.harnesses.len() > 256 || offer.roots.len() > 256 {
        return Err(Error::invalid(
            NAME,
            "names more than 256 harnesses or roots",
        ));
    }
    let labels = offer.labels.into_iter().collect();
    field::labels(NAME, &labels)?;
    field::env_names(NAME, &offer.env_names)?;
    Ok(Offer {
        hostname: text(offer.hostname, NAME, field::MAX_TITLE_BYTES)?,
        platform: text(offer.platform, NAME, field::MAX_TITLE_BYTES)?,
        version: text(offer.version, NAME, field::MAX_TITLE_BYTES)?,
        harnesses: offer
            .harnesses
            .into_iter()
            .map(harness_from_pb)
            .collect::<Result<_>>()?,
        roots: offer
            .roots
            .into_iter()
            .map(|root| text(root, NAME, field::MAX_PATH_BYTES))
            .collect::<Result<_>>()?,
        max_permission_mode: enums::permission_mode_from_pb(offer.max_permission_mode, NAME)?
            .unwrap_or_default(),
        labels,
        env_names: offer.env_names,
        max_sessions: offer.max_sessions,
        worktrees: support_from_pb(offer.worktrees)?,
    })
}

fn report_to_pb(report: &SessionReport) -> pb::SessionReport {
    pb::SessionReport {
        session_id: report.session_id.to_string(),
        origin_epoch: report.origin_epoch,
        last_origin_seq: report.last_origin_seq,
        acked_origin_seq: report.acked_origin_seq,
        alive: report.alive,
    }
}

fn report_from_pb(report: pb::SessionReport) -> Result<SessionReport> {
    Ok(SessionReport {
        session_id: SessionId::parse("session_report.session_id", &report.session_id)?,
        origin_epoch: report.origin_epoch,
        last_origin_seq: report.last_origin_seq,
        acked_origin_seq: report.acked_origin_seq,
        alive: report.alive,
    })
}

fn record_to_pb(record: &Record) -> LinkRecord {
    LinkRecord {
        origin_seq: record.origin_seq,
        events: record.events.iter().map(record_event_to_pb).collect(),
        gap: record.gap.as_ref().map(|gap| v1::Gap {
            from_origin_seq: gap.from_origin_seq,
            to_origin_seq: gap.to_origin_seq,
            reason: gap.reason.clone(),
        }),
        time: Some(time_to_pb(record.time)),
        terminal_output: record.output.as_ref().map(output_to_pb),
    }
}

fn records_from_pb(records: pb::Records) -> Result<Records> {
    let session_id = SessionId::parse("records.session_id", &records.session_id)?;
    if records.origin_epoch == 0 {
        return Err(Error::invalid("records.origin_epoch", "must not be 0"));
    }
    if records.records.len() > MAX_RECORDS {
        return Err(Error::invalid(
            "records.records",
            format!("has more than {MAX_RECORDS} entries"),
        ));
    }
    let name = records.session_id;
    Ok(Records {
        session_id,
        origin_epoch: records.origin_epoch,
        previous: Position::new(records.previous_origin_epoch, records.previous_origin_seq),
        records: records
            .records
            .into_iter()
            .map(|record| record_from_pb(session_id, &name, record))
            .collect::<Result<_>>()?,
    })
}

/// A record of the session whose id is spelled `name`.
fn record_from_pb(session_id: SessionId, name: &str, record: LinkRecord) -> Result<Record> {
    if record.origin_seq == 0 {
        return Err(Error::invalid("record.origin_seq", "must not be 0"));
    }
    if record.events.len() > MAX_EVENTS {
        return Err(Error::invalid(
            "record.events",
            format!("has more than {MAX_EVENTS} entries"),
        ));
    }
    let size_bytes = record.encoded_len() as u64;
    let mut events = Vec::with_capacity(record.events.len());
    for came in record.events {
        events.push(record_event(session_id, name, &came)?);
    }
    Ok(Record {
        origin_seq: record.origin_seq,
        events,
        gap: match record.gap {
            Some(gap) => Some(Gap {
                from_origin_seq: gap.from_origin_seq,
                to_origin_seq: gap.to_origin_seq,
                reason: text(gap.reason, "record.gap.reason", MAX_REASON_BYTES)?,
            }),
            None => None,
        },
        time: required_time(record.time, "record.time")?,
        output: record
            .terminal_output
            .map(|output| output_from_pb(output, "record.terminal_output"))
            .transpose()?,
        size_bytes,
    })
}

fn record_event_to_pb(event: &RecordEvent) -> Bytes {
    match event {
        RecordEvent::Whole { event, .. } => encode_event(event),
        RecordEvent::Kept(came) => came.clone(),
    }
}

/// An event of a record. One that cannot be read becomes a notice that says so: it must neither vanish nor stop the
/// session's record from being stored, or the session would be stuck behind it for ever.
fn record_event(session_id: SessionId, name: &str, came: &Bytes) -> Result<RecordEvent> {
    let read = v1::Event::decode(&came[..])
        .map_err(|error| Error::invalid("record.events", error.to_string()));
    let event = match read {
        Ok(event) if event.session_id != name => {
            return Err(Error::invalid(
                "record.events",
                "has an event of another session",
            ));
        }
        Ok(event) => {
            let came = storable(&event, came);
            event_of(session_id, event).map(|event| match event.is_only_kept() {
                true if !came.is_empty() => RecordEvent::Kept(came),
                _ => RecordEvent::Whole {
                    event: Box::new(event),
                    came,
                },
            })
        }
        Err(error) => Err(error),
    };
    Ok(event.unwrap_or_else(|error| {
        let body = EventBody::Notice {
            kind: "malformed".to_owned(),
            text: format!(
                "the daemon sent an event that cannot be read: {}",
                error.message()
            ),
        };
        Event::new(session_id, Origin::Daemon, Timestamp::EPOCH, body).into()
    }))
}

/// The part of an event's encoding that may go into the log behind the server's own seq and time; empty if there is more
/// in it than was read (fields that this version does not know, or that are there twice), or less: without a body, a notice is
/// what was read.
fn storable(event: &v1::Event, came: &Bytes) -> Bytes {
    let is_exact = event.body.is_some() && event.encoded_len() == came.len();
    if event.seq != 0 || !is_exact {
        return Bytes::new();
    }
    match (&event.time, &came[..]) {
        (None, _) => came.clone(),
        // The daemon's own time is the first field, as protobuf is written everywhere, and goes.
        (Some(time), [0x12, ..]) => came.slice(2 + time.encoded_len()..),
        (Some(_), _) => Bytes::new(),
    }
}

fn result_to_pb(result: &CommandResult) -> pb::CommandResult {
    pb::CommandResult {
        command_id: result.command_id.to_string(),
        session_id: result.session_id.to_string(),
        outcome: enums::outcome_to_pb(result.outcome).into(),
        reason: result.reason.clone(),
        code: result.code.clone(),
    }
}

fn result_from_pb(result: pb::CommandResult) -> Result<CommandResult> {
    Ok(CommandResult {
        command_id: CommandId::parse("command_result.command_id", &result.command_id)?,
        session_id: SessionId::parse("command_result.session_id", &result.session_id)?,
        outcome: enums::required(
            enums::outcome_from_pb(result.outcome, "command_result.outcome"),
            "command_result.outcome",
        )?,
        reason: text(result.reason, "command_result.reason", MAX_REASON_BYTES)?,
        code: text(result.code, "command_result.code", 64)?,
    })
}

fn heartbeat_to_pb(heartbeat: &Heartbeat) -> pb::Heartbeat {
    pb::Heartbeat {
        count: heartbeat.count,
        time: Some(time_to_pb(heartbeat.time)),
        backlog_records: heartbeat.backlog_records,
        backlog_bytes: heartbeat.backlog_bytes,
    }
}

fn heartbeat_from_pb(heartbeat: pb::Heartbeat) -> Result<Heartbeat> {
    Ok(Heartbeat {
        count: heartbeat.count,
        time: time_from_pb(heartbeat.time, "heartbeat.time")?.unwrap_or_default(),
        backlog_records: heartbeat.backlog_records,
        backlog_bytes: heartbeat.backlog_bytes,
    })
}

fn chunk_from_pb(chunk: pb::ContentChunk) -> Result<ContentChunk> {
    let end = chunk.offset.checked_add(chunk.data.len() as u64);
    if chunk.data.is_empty() || chunk.data.len() > CONTENT_CHUNK_BYTES {
        return Err(Error::invalid(
            "content_chunk.data",
            format!("must have 1 to {CONTENT_CHUNK_BYTES} bytes"),
        ));
    }
    if chunk.size_bytes > MAX_CONTENT_BYTES || end.is_none_or(|end| end > chunk.size_bytes) {
        return Err(Error::invalid(
            "content_chunk.size_bytes",
            format!("is above {MAX_CONTENT_BYTES}, or the piece lies beyond it"),
        ));
    }
    Ok(ContentChunk {
        session_id: SessionId::parse("content_chunk.session_id", &chunk.session_id)?,
        sha256: sha256(chunk.sha256, "content_chunk.sha256")?,
        size_bytes: chunk.size_bytes,
        offset: chunk.offset,
        data: chunk.data,
    })
}

fn sha256(text: String, field: &str) -> Result<String> {
    match is_sha256(&text) {
        true => Ok(text),
        false => Err(Error::invalid(field, "is not 64 lower-case hex digits")),
    }
}

fn terminal_to_pb(session_id: SessionId, act: &Act) -> pb::TerminalQuery {
    use pb::terminal_query::Body;
    pb::TerminalQuery {
        session_id: session_id.to_string(),
        body: Some(match act {
            Act::Type(data) => Body::Data(data.clone()),
            Act::Resize(size) => Body::Size(size_to_pb(*size)),
        }),
    }
}

fn terminal_from_pb(query: pb::TerminalQuery) -> Result<QueryBody> {
    use pb::terminal_query::Body;
    Ok(QueryBody::Terminal {
        session_id: SessionId::parse("query.terminal.session_id", &query.session_id)?,
        act: match required(query.body, "query.terminal.body")? {
            Body::Data(data) if data.len() > MAX_INPUT_BYTES => {
                return Err(Error::invalid(
                    "query.terminal.data",
                    format!("has more than {MAX_INPUT_BYTES} bytes"),
                ));
            }
            Body::Data(data) => Act::Type(data),
            Body::Size(size) => Act::Resize(size_from_pb(size, "query.terminal.size")?),
        },
    })
}

fn query_result_to_pb(result: &QueryResult) -> pb::QueryResult {
    use pb::query_result::Body;
    pb::QueryResult {
        id: result.id,
        body: Some(match &result.result {
            Ok(Found::Directory(directory)) => {
                Body::ListDirectory(directory_to_pb(directory.clone()))
            }
            Ok(Found::Worktree(answer)) => Body::Worktree(answer_to_pb(answer)),
            Ok(Found::Terminal) => Body::Terminal(pb::TerminalDone {}),
            Err(error) => Body::Error(pb::QueryError {
                code: error.code().to_string(),
                message: error.message().to_owned(),
                maybe_done: error.effect() == Effect::MaybeDone,
            }),
        }),
    }
}

fn query_result_from_pb(result: pb::QueryResult) -> Result<QueryResult> {
    use pb::query_result::Body;
    Ok(QueryResult {
        id: result.id,
        result: match required(result.body, "query_result.body")? {
            Body::ListDirectory(directory) => Ok(Found::Directory(directory_from_pb(directory))),
            Body::Worktree(answer) => Ok(Found::Worktree(Box::new(answer_from_pb(answer)?))),
            Body::Terminal(_) => Ok(Found::Terminal),
            Body::Error(error) => {
                let refused = Error::new(
                    // A code of a newer daemon is still an error.
                    Code::parse(&error.code).unwrap_or(Code::InternalError),
                    text(error.message, "query_result.error", MAX_REASON_BYTES)?,
                );
                Err(match error.maybe_done {
                    true => refused.maybe_done(),
                    false => refused,
                })
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Block;
    use crate::domain::event::Role;
    use crate::domain::{CommandOutcome, Transient, event::TransientBody};
    use crate::wire::event::event_to_pb;
    use crate::wire::tests::whole;

    fn session() -> SessionId {
        SessionId::from_bits(7)
    }

    fn event() -> Event {
        let body = EventBody::Notice {
            kind: "k".to_owned(),
            text: "t".to_owned(),
        };
        Event::new(session(), Origin::Harness, Timestamp::EPOCH, body)
    }

    fn chunk(offset: u64, size_bytes: u64, data: &'static [u8]) -> Up {
        Up::ContentChunk(ContentChunk {
            session_id: session(),
            sha256: "0".repeat(64),
            size_bytes,
            offset,
            data: data.into(),
        })
    }

    fn back(frame: &Up) -> Result<Up> {
        let bytes = up_to_pb(frame).encode_to_vec();
        up_from_pb(pb::ConnectRequest::decode(bytes.as_slice()).expect("it was just encoded"))
    }

    #[test]
    fn frames_up_come_back() {
        let frames = [
            Up::Hello(Box::new(Hello {
                protocol_min: 1,
                protocol_max: 2,
                daemon_id: DaemonId::from_bits(1),
                boot_generation: 3,
                attempt: 4,
                offer: Offer {
                    hostname: "h".to_owned(),
                    roots: vec!["/r".to_owned()],
                    max_sessions: 5,
                    ..Offer::default()
                },
                sessions: vec![SessionReport {
                    session_id: session(),
                    origin_epoch: 1,
                    last_origin_seq: 2,
                    acked_origin_seq: 1,
                    alive: true,
                }],
            })),
            Up::Transient(Transient {
                session_id: session(),
                body: TransientBody::Progress {
                    text: "p".to_owned(),
                },
            }),
            Up::CommandResult(CommandResult {
                command_id: CommandId::from_bits(9),
                session_id: session(),
                outcome: CommandOutcome::Indeterminate,
                reason: "r".to_owned(),
                code: "TIMEOUT".to_owned(),
            }),
            Up::Goodbye(Goodbye {
                reason: "r".to_owned(),
                sessions_end: true,
            }),
            chunk(2, 5, b"abc"),
        ];
        for frame in frames {
            assert_eq!(format!("{:?}", back(&frame).unwrap()), format!("{frame:?}"));
        }
        let message = Event {
            body: EventBody::Message {
                role: Role::Agent,
                blocks: vec![Block::Text("t".to_owned())],
                message_id: String::new(),
                parent_call_id: String::new(),
            },
            ..event()
        };
        let records = Records {
            session_id: session(),
            origin_epoch: 1,
            previous: Position::new(1, 1),
            records: vec![Record {
                origin_seq: 4,
                events: vec![message.into(), event().into()],
                gap: Some(Gap {
                    from_origin_seq: 2,
                    to_origin_seq: 3,
                    reason: "damaged".to_owned(),
                }),
                time: Timestamp::from_millis(5),
                output: None,
                size_bytes: 0,
            }],
        };
        let Up::Records(mut again) = back(&Up::Records(records.clone())).unwrap() else {
            panic!("another frame");
        };
        assert!(again.records[0].size_bytes > 0, "measured on arrival");
        again.records[0].size_bytes = 0;
        let events = &mut again.records[0].events;
        assert!(matches!(
            &events[..],
            [RecordEvent::Whole { .. }, RecordEvent::Kept(_)]
        ));
        for event in events {
            *event = whole(event).into();
        }
        assert_eq!(again, records);
    }

    #[test]
    fn malformed_frames_are_refused_with_the_field() {
        let field = |frame: &Up| back(frame).unwrap_err().fields()[0].field.clone();
        assert_eq!(field(&chunk(3, 5, b"abc")), "content_chunk.size_bytes");
        assert_eq!(
            field(&chunk(u64::MAX, 5, b"abc")),
            "content_chunk.size_bytes"
        );
        assert_eq!(field(&chunk(0, 5, b"")), "content_chunk.data");
        let mut foreign = event();
        foreign.session_id = SessionId::from_bits(8);
        let records = |epoch, origin_seq, events| {
            Up::Records(Records {
                session_id: session(),
                origin_epoch: epoch,
                previous: Position::default(),
                records: vec![Record {
                    origin_seq,
                    events,
                    gap: None,
                    time: Timestamp::EPOCH,
                    output: None,
                    size_bytes: 0,
                }],
            })
        };
        assert_eq!(field(&records(0, 1, vec![])), "records.origin_epoch");
        assert_eq!(field(&records(1, 0, vec![])), "record.origin_seq");
        assert_eq!(field(&records(1, 1, vec![foreign.into()])), "record.events");
        assert!(up_from_pb(pb::ConnectRequest { body: None }).is_err());
        assert!(down_from_pb(pb::ConnectResponse { body: None }).is_err());
    }

    #[test]
    fn an_event_that_cannot_be_read_is_told_and_does_not_stop_the_session() {
        let mut broken = event_to_pb(&event());
        broken.origin = 99;
        let mut events = vec![bytes_of(&broken)];
        events.push(Bytes::from_static(b"\x07"));
        let record = record_of(events);
        assert_eq!(record.events.len(), 2);
        for event in &record.events {
            let RecordEvent::Whole { event, came } = event else {
                panic!("kept as it came");
            };
            assert!(matches!(&event.body, EventBody::Notice { kind, .. } if kind == "malformed"));
            assert!(came.is_empty());
        }
    }

    /// What is stored as it came says no more than what was judged.
    #[test]
    fn only_an_event_without_more_to_it_is_stored_as_it_came() {
        let mut plain = event_to_pb(&event());
        (plain.seq, plain.time) = (0, None);
        let numbered = v1::Event {
            seq: 7,
            ..plain.clone()
        };
        let timed = v1::Event {
            time: Some(time_to_pb(Timestamp::from_millis(5))),
            ..plain.clone()
        };
        let bodiless = v1::Event {
            body: None,
            may_ignore: true,
            ..plain.clone()
        };
        let mut events: Vec<Bytes> = [plain, timed, numbered, bodiless]
            .iter()
            .map(bytes_of)
            .collect();
        let (plain, time) = (events[0].clone(), events[1].len() - events[0].len());
        let unknown = [&plain[..], &[0xfa, 0x07, 3, b'n', b'e', b'w']].concat();
        let twice = [&plain[..], &plain[..]].concat();
        let timed_last = [&plain[..], &events[1][..time]].concat();
        events.extend([unknown.into(), twice.into(), timed_last.into()]);
        let record = record_of(events);
        let kept = || RecordEvent::Kept(plain.clone());
        assert_eq!(record.events[..2], [kept(), kept()]);
        let is_anew = |event: &RecordEvent| matches!(event, RecordEvent::Whole { came, .. } if came.is_empty());
        assert!(record.events[2..].iter().all(is_anew));
        assert_eq!(whole(&record.events[4]), whole(&record.events[0]));
    }

    fn bytes_of(event: &v1::Event) -> Bytes {
        event.encode_to_vec().into()
    }

    fn record_of(events: Vec<Bytes>) -> Record {
        let record = LinkRecord {
            origin_seq: 1,
            events,
            time: Some(time_to_pb(Timestamp::EPOCH)),
            ..Default::default()
        };
        record_from_pb(session(), &session().to_string(), record).unwrap()
    }
}
