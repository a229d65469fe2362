//! Messages of any bytes: what is read comes back as it was read, and both sides of the link keep their bounds.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::tests::{Gen, whole};
use super::{
    EventBatch, agent, budget, common, daemon, event, field, input, link, link_v1, prompt, session,
    status, storage_v1, task, terminal, time, token, transient, v1, worktree,
};
use crate::base::fuzz::Target;
use crate::base::id::{CommandId, DaemonId, InputId, SessionId};
use crate::base::{Code, Error, Timestamp};
use crate::domain::command::{CommandBody, CommandOutcome};
use crate::domain::event::{EventKind, Origin, TransientBody};
use crate::domain::link::{
    ContentAck, ContentChunk, Credit, DaemonEvent, DaemonLimits, DaemonLink, Down, Found, Goodbye,
    Heartbeat, Hello, Position, Query, QueryBody, QueryResult, Record, RecordEvent, Records,
    ServerEvent, ServerLimits, ServerLink, SessionReport, SessionState, Up, Welcome,
};
use crate::domain::{Command, CommandResult, Event, EventBody, Transient};

const NOW: Timestamp = Timestamp::from_millis(1_795_240_000_000);

fn daemon_id() -> DaemonId {
    DaemonId::from_bits(1)
}

fn session_id(n: u128) -> SessionId {
    SessionId::from_bits(n)
}

fn records(session: u128, epoch: u64, seqs: std::ops::Range<u64>) -> Up {
    let record = |origin_seq| Record {
        origin_seq,
        events: vec![
            Event::new(
                session_id(session),
                Origin::Harness,
                NOW,
                EventBody::Notice {
                    kind: "k".to_owned(),
                    text: "t".to_owned(),
                },
            )
            .into(),
        ],
        gap: None,
        time: NOW,
        output: None,
        size_bytes: 0,
    };
    Up::Records(Records {
        session_id: session_id(session),
        origin_epoch: epoch,
        previous: Position::new(epoch, seqs.start - 1),
        records: seqs.map(record).collect(),
    })
}

/// One of each frame that a daemon sends.
fn ups() -> Vec<Up> {
    let report = |n| SessionReport {
        session_id: session_id(n),
        origin_epoch: 3,
        last_origin_seq: 9,
        acked_origin_seq: 0,
        alive: true,
    };
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        daemon_id: daemon_id(),
        boot_generation: 1,
        attempt: 1,
        offer: Gen::new(1).offer(),
        sessions: vec![report(7), report(8)],
    };
    let chunk = |offset, data: &'static [u8]| {
        Up::ContentChunk(ContentChunk {
            session_id: session_id(7),
            sha256: "0".repeat(64),
            size_bytes: 6,
            offset,
            data: Bytes::from_static(data),
        })
    };
    vec![
        Up::Hello(Box::new(hello)),
        records(7, 3, 1..3),
        records(7, 3, 3..4),
        records(8, 4, 1..2),
        Up::Transient(Transient {
            session_id: session_id(7),
            body: TransientBody::Progress {
                text: "p".to_owned(),
            },
        }),
        Up::CommandResult(CommandResult {
            command_id: CommandId::from_bits(9),
            session_id: session_id(7),
            outcome: CommandOutcome::Applied,
            reason: String::new(),
            code: String::new(),
        }),
        Up::Heartbeat(Heartbeat::default()),
        Up::Goodbye(Goodbye {
            reason: "r".to_owned(),
            sessions_end: true,
        }),
        chunk(0, b"abc"),
        chunk(3, b"def"),
        Up::Offer(Box::new(Gen::new(2).offer())),
        Up::QueryResult(QueryResult {
            id: 1,
            result: Ok(Found::Terminal),
        }),
        Up::QueryResult(QueryResult {
            id: 2,
            result: Err(Error::new(Code::Timeout, "late")),
        }),
        Up::SessionReport(report(11)),
    ]
}

/// One of each frame that a server sends.
fn downs() -> Vec<Down> {
    let state = |n| SessionState {
        session_id: session_id(n),
        stored: Position::new(3, 0),
        credit: Credit::SESSION,
    };
    let command = |n, body| {
        Down::Command(Box::new(Command {
            id: CommandId::from_bits(n),
            session_id: session_id(7),
            deadline: None,
            body,
        }))
    };
    vec![
        Down::Welcome(Box::new(Welcome {
            protocol: 1,
            link_epoch: 5,
            lease: Duration::from_secs(90),
            heartbeat_interval: Duration::from_secs(30),
            sessions: vec![state(7), state(8)],
            foreign: vec![session_id(9)],
            link_credit: Credit::LINK,
            server_version: "1".to_owned(),
        })),
        command(1, CommandBody::Interrupt),
        command(
            2,
            CommandBody::Input {
                input_id: InputId::from_bits(3),
                text: "hello".to_owned(),
                steer: false,
            },
        ),
        Down::Ack(state(7)),
        Down::ResultAck {
            command_id: CommandId::from_bits(1),
            session_id: session_id(7),
        },
        Down::Heartbeat(Heartbeat::default()),
        Down::Drain {
            after: Duration::from_secs(1),
            reason: "r".to_owned(),
        },
        Down::Reset {
            session_id: session_id(7),
            after: Position::new(3, 0),
            reason: "r".to_owned(),
        },
        Down::Query(Query {
            id: 1,
            body: QueryBody::Terminal {
                session_id: session_id(7),
                act: crate::domain::terminal::Act::Type(Bytes::from_static(b"ls\n")),
            },
        }),
        Down::Foreign {
            session_id: session_id(8),
            reason: "r".to_owned(),
        },
        Down::ContentAck(ContentAck {
            session_id: session_id(7),
            sha256: "0".repeat(64),
            next_offset: 3,
            resend: true,
        }),
    ]
}

/// What the owner does: a first byte before each message, so that it is varied like the message.
fn with_owner(messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for message in messages {
        for owner in [0_u8, 0x0f, 0x35] {
            seeds.push([&[owner][..], &message].concat());
        }
    }
    seeds
}

fn small_credit() -> Credit {
    Credit {
        events: 4,
        bytes: 4 * 1024,
    }
}

#[test]
fn link_up() {
    let limits = ServerLimits {
        session_credit: small_credit(),
        link_credit: small_credit().twice(),
        max_sessions: 6,
        session_commands: 2,
        link_commands: 4,
        max_waiting: 12,
        ..ServerLimits::default()
    };
    let seeds = ups()
        .iter()
        .map(|up| link::up_to_pb(up).encode_to_vec())
        .collect::<Vec<_>>();
    Target::new("link_up")
        .seeds(with_owner(seeds))
        .pieces(40)
        .weighs(4)
        .run_all(|pieces| {
            let mut server = ServerLink::new(daemon_id(), limits.clone(), "1", NOW);
            let mut now = NOW;
            let mut handed = 0;
            for piece in pieces {
                let Some((owner, bytes)) = piece.split_first() else {
                    continue;
                };
                now = now.saturating_add(Duration::from_millis(u64::from(*owner) * 40));
                server.tick(now);
                if server.is_over() {
                    while server.event().is_some() {}
                }
                let Ok(message) = link_v1::ConnectRequest::decode(bytes) else {
                    continue;
                };
                let Ok(frame) = link::up_from_pb(message) else {
                    continue;
                };
                let was_over = server.is_over();
                server.received(now, frame);
                // What is over stays over, silently.
                assert!(
                    !was_over
                        || (server.is_over()
                            && server.event().is_none()
                            && server.send(now).is_none())
                );
                let mut steps = 0;
                while let Some(event) = server.event() {
                    steps += 1;
                    assert!(steps <= 8, "one frame, {steps} events");
                    match event {
                        ServerEvent::Hello(hello) => {
                            let known = hello.sessions.iter().take(8).map(|report| {
                                let own = report.session_id.bits() < 9;
                                (report.session_id, own.then(|| Position::new(3, 0)))
                            });
                            let known: Vec<_> = known.collect();
                            server.welcome(now, 1, known);
                        }
                        ServerEvent::Records(taken) => {
                            let last = taken.records.last().expect("never empty").origin_seq;
                            assert!(
                                taken
                                    .records
                                    .windows(2)
                                    .all(|pair| pair[0].origin_seq < pair[1].origin_seq)
                            );
                            assert!(taken.records.iter().all(|record| {
                                record
                                    .events
                                    .iter()
                                    .filter_map(RecordEvent::whole)
                                    .all(|event| event.session_id == taken.session_id)
                            }));
                            match owner & 3 {
                                0 | 1 => server.stored(
                                    taken.session_id,
                                    Position::new(taken.origin_epoch, last),
                                ),
                                2 => server.refused(now, taken.session_id),
                                _ => handed += 1,
                            }
                        }
                        ServerEvent::Content(chunk) => {
                            assert!(chunk.offset + chunk.data.len() as u64 <= chunk.size_bytes);
                            let next = chunk.offset + chunk.data.len() as u64;
                            match owner & 12 {
                                0 => server.content_staged(&chunk, next, true),
                                4 => server.content_staged(&chunk, 0, false),
                                _ => {}
                            }
                        }
                        ServerEvent::Result(result) => {
                            if owner & 16 == 0 {
                                server.result_stored(result.session_id, result.command_id);
                            }
                        }
                        ServerEvent::Report(report) => match owner & 32 {
                            0 => server.own(report.session_id, Position::default()),
                            _ => server.foreign(report.session_id, "no"),
                        },
                        ServerEvent::Transient(_)
                        | ServerEvent::Offer(_)
                        | ServerEvent::QueryResult(_) => {}
                        ServerEvent::Goodbye(_) | ServerEvent::Close(_) => {
                            assert!(server.is_over())
                        }
                    }
                }
                if owner & 64 != 0 {
                    let _ = server.query(QueryBody::Terminal {
                        session_id: session_id(7),
                        act: crate::domain::terminal::Act::Type(Bytes::new()),
                    });
                    let accepted = server.command(Command {
                        id: CommandId::from_bits(u128::from(*owner)),
                        session_id: session_id(7),
                        deadline: None,
                        body: CommandBody::Interrupt,
                    });
                    assert!(server.is_live() || !accepted);
                }
                // A daemon that never reads holds a bounded amount of the server, or loses its link.
                if owner & 128 != 0 {
                    while server.send(now).is_some() {}
                }
                let bound = 4 * limits.max_waiting + 2 * limits.max_sessions;
                assert!(
                    server.is_over() || server.kept() <= bound,
                    "{} are kept",
                    server.kept()
                );
            }
            assert!(handed <= pieces.len());
        });
}

#[test]
fn link_down() {
    let limits = DaemonLimits {
        max_commands: 6,
        ..DaemonLimits::default()
    };
    let seeds = downs()
        .iter()
        .map(|down| link::down_to_pb(down).encode_to_vec())
        .collect::<Vec<_>>();
    Target::new("link_down")
        .seeds(with_owner(seeds))
        .pieces(40)
        .weighs(4)
        .run_all(|pieces| {
            let mut daemon = DaemonLink::new(
                daemon_id(),
                1,
                crate::domain::daemon::Offer::default(),
                limits.clone(),
                7,
            );
            let mut now = NOW;
            for n in [7, 8] {
                daemon.report(SessionReport {
                    session_id: session_id(n),
                    origin_epoch: 3,
                    last_origin_seq: 9,
                    acked_origin_seq: 0,
                    alive: true,
                });
            }
            daemon.dial(now);
            assert!(matches!(daemon.send(now), Some(Up::Hello(_))));
            let mut next = 1;
            for piece in pieces {
                let Some((owner, bytes)) = piece.split_first() else {
                    continue;
                };
                now = now.saturating_add(Duration::from_millis(u64::from(*owner) * 40));
                daemon.tick(now);
                if let Ok(message) = link_v1::ConnectResponse::decode(bytes)
                    && let Ok(frame) = link::down_from_pb(message)
                {
                    daemon.received(now, frame);
                }
                let mut steps = 0;
                while let Some(event) = daemon.event() {
                    steps += 1;
                    // One Welcome names as many sessions as fit into its bytes.
                    assert!(steps <= 16 + bytes.len(), "one frame, {steps} events");
                    match event {
                        DaemonEvent::Query(query) if owner & 1 == 0 => {
                            daemon.query_result(QueryResult {
                                id: query.id,
                                result: Ok(Found::Terminal),
                            })
                        }
                        DaemonEvent::Deliver(command) if owner & 2 == 0 => {
                            daemon.result(CommandResult {
                                command_id: command.id,
                                session_id: command.session_id,
                                outcome: CommandOutcome::Applied,
                                reason: String::new(),
                                code: String::new(),
                            })
                        }
                        DaemonEvent::Rewind { after, .. } => {
                            next = after.origin_seq.saturating_add(1)
                        }
                        DaemonEvent::EndForeign { session_id, .. } if owner & 4 == 0 => {
                            daemon.forget(session_id)
                        }
                        DaemonEvent::Reconnect { .. } if owner & 8 == 0 => {
                            daemon.dial(now);
                            while daemon.send(now).is_some() {}
                        }
                        _ => {}
                    }
                }
                if daemon.wants(session_id(7))
                    && let Up::Records(made) = records(
                        7,
                        3,
                        next.clamp(1, u64::MAX - 1)..next.clamp(1, u64::MAX - 1) + 1,
                    )
                {
                    for record in made.records {
                        if daemon.push(now, session_id(7), 3, record, &[]).is_ok() {
                            next = next.saturating_add(1);
                        }
                    }
                }
                if owner & 128 != 0 {
                    let mut sent = 0;
                    while daemon.send(now).is_some() {
                        sent += 1;
                        assert!(sent <= 10_000, "it sends for ever");
                    }
                }
                let _ = daemon.next_deadline();
                assert!(
                    daemon.kept() <= 4 * limits.max_commands + 1_100,
                    "{} are kept",
                    daemon.kept()
                );
            }
        });
}

/// What was read comes back when it is written and read again.
fn comes_back<D: std::fmt::Debug, M: prost::Message + Default>(
    bytes: &[u8],
    read: impl Fn(M) -> Result<D, Error>,
    write: impl Fn(&D) -> M,
) {
    let Ok(message) = M::decode(bytes) else {
        return;
    };
    let Ok(value) = read(message) else { return };
    let again = M::decode(write(&value).encode_to_vec().as_slice()).expect("it was just encoded");
    let again = read(again).unwrap_or_else(|error| panic!("{value:?} does not come back: {error}"));
    assert_eq!(shown(&again), shown(&value));
}

/// A value without what is measured on arrival: what could not be read is told in other words than it came in.
fn shown(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let mut parts = text.split("size_bytes: ");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    shown
}

/// A frame of a daemon as it is read, with every event whole. What of it may be stored as it came is, behind its place,
/// what was read.
fn judged(message: link_v1::ConnectRequest) -> Result<Up, Error> {
    let mut frame = link::up_from_pb(message)?;
    if let Up::Records(records) = &mut frame {
        for event in records
            .records
            .iter_mut()
            .flat_map(|record| &mut record.events)
        {
            let read = whole(event);
            let storable = match event {
                RecordEvent::Whole { came, .. } => came,
                RecordEvent::Kept(came) => {
                    assert!(read.is_only_kept(), "{read:?} means something");
                    came
                }
            };
            if !storable.is_empty() {
                let mut stored = Vec::new();
                crate::wire::put_place(&mut stored, 7, NOW);
                stored.extend_from_slice(storable);
                let stored = v1::Event::decode(stored.as_slice()).expect("what is stored is read");
                let placed = Event {
                    seq: 7,
                    time: NOW,
                    ..read.clone()
                };
                assert_eq!(event::event_from_pb(stored).ok(), Some(placed));
            }
            *event = read.into();
        }
    }
    Ok(frame)
}

#[test]
fn frames_that_are_read_come_back() {
    let up = ups()
        .iter()
        .map(|up| link::up_to_pb(up).encode_to_vec())
        .collect::<Vec<_>>();
    let down = downs()
        .iter()
        .map(|down| link::down_to_pb(down).encode_to_vec())
        .collect::<Vec<_>>();
    Target::new("link_frames")
        .seeds(up)
        .seeds(down)
        .run(|bytes| {
            comes_back(bytes, judged, link::up_to_pb);
            comes_back(bytes, link::down_from_pb, link::down_to_pb);
        });
}

#[test]
fn messages_that_are_read_come_back() {
    let mut g = Gen::new(5);
    let mut seeds: Vec<Vec<u8>> = EventKind::ALL
        .iter()
        .map(|kind| event::event_to_pb(&g.event(*kind)).encode_to_vec())
        .collect();
    for _ in 0..4 {
        seeds.push(session::session_to_pb(&g.session(), Some((1, 2, 3)), 4).encode_to_vec());
        seeds.push(prompt::prompt_to_pb(&g.prompt(), Some(1)).encode_to_vec());
        seeds.push(prompt::prompt_answer_to_pb(&g.answer()).encode_to_vec());
    }
    Target::new("messages").seeds(seeds).weighs(2).run(|bytes| {
        comes_back(bytes, event::event_from_pb, event::event_to_pb);
        comes_back(bytes, prompt::prompt_from_pb, |prompt| {
            prompt::prompt_to_pb(prompt, None)
        });
        comes_back(
            bytes,
            prompt::prompt_answer_from_pb,
            prompt::prompt_answer_to_pb,
        );
        comes_back(bytes, prompt::rule_from_pb, prompt::rule_to_pb);
        comes_back(
            bytes,
            transient::transient_from_pb,
            transient::transient_to_pb,
        );
        comes_back(bytes, common::block_from_pb, common::block_to_pb);
        comes_back(bytes, token::token_from_pb, token::token_to_pb);
        comes_back(bytes, worktree::order_from_pb, worktree::order_to_pb);
        comes_back(bytes, worktree::answer_from_pb, worktree::answer_to_pb);
        comes_back(
            bytes,
            |pb: v1::Harness| daemon::harness_from_pb(pb),
            daemon::harness_to_pb,
        );
        comes_back(
            bytes,
            |pb: v1::SessionAgent| agent::session_agent_from_pb(pb),
            agent::session_agent_to_pb,
        );
        comes_back(
            bytes,
            |pb: v1::EndInfo| session::end_from_pb(pb),
            session::end_to_pb,
        );
        comes_back(
            bytes,
            |pb| terminal::output_from_pb(pb, "output"),
            terminal::output_to_pb,
        );
        comes_back(
            bytes,
            |pb| time::required_time(Some(pb), "time"),
            |time| time::time_to_pb(*time),
        );
        comes_back(
            bytes,
            |pb| token::narrowing_from_pb(pb, "narrowing"),
            token::narrowing_to_pb,
        );
        if let Ok(pb) = v1::Session::decode(bytes) {
            let _ = session::session_from_pb(pb);
        }
        if let Ok(pb) = v1::Input::decode(bytes) {
            let _ = input::input_from_pb(pb);
        }
        if let Ok(pb) = v1::Daemon::decode(bytes) {
            let _ = daemon::offer_from_pb(pb);
        }
    });
}

#[test]
fn requests() {
    Target::new("requests").seeds([Vec::new()]).run(|bytes| {
        if let Ok(pb) = v1::CreateTaskRequest::decode(bytes) {
            let _ = task::draft_from_pb(pb);
        }
        if let Ok(pb) = v1::UpdateTaskRequest::decode(bytes) {
            let _ = task::update_from_pb(pb);
        }
        if let Ok(pb) = v1::CreateWorktreeRequest::decode(bytes)
            && let Ok(create) = worktree::create_from_pb(pb)
            && create.check().is_ok()
        {
            assert!(!create.branch.starts_with('-') && !create.branch.contains(".."));
            for path in &create.copy_files {
                assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."));
            }
        }
        if let Ok(pb) = v1::MergeWorktreeRequest::decode(bytes) {
            let _ = worktree::merge_from_pb(pb).map(|merge| merge.check());
        }
        if let Ok(pb) = v1::AgentSettings::decode(bytes) {
            let _ = agent::settings_from_pb(Some(pb));
        }
        if let Ok(pb) = v1::BudgetScope::decode(bytes) {
            let _ = budget::scope_from_pb(Some(pb));
        }
        if let Ok(pb) = v1::Limits::decode(bytes) {
            let _ = session::limits_from_pb(Some(pb), "limits");
        }
        if let Ok(pb) = v1::AnswerPromptRequest::decode(bytes) {
            let _ = prompt::answer_body_from_pb(pb.answer);
        }
        if let Ok(pb) = v1::Json::decode(bytes)
            && let Ok(Some(json)) = field::json_from_pb(Some(pb), "json")
        {
            assert!(serde_json::from_str::<serde_json::Value>(json.as_str()).is_ok());
        }
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Ok(Some(revision)) = field::etag(text)
        {
            assert_eq!(
                field::etag(&field::etag_of(revision)).unwrap(),
                Some(revision)
            );
        }
        let _ = storage_v1::Commit::decode(bytes);
        let mut headers = tonic::metadata::MetadataMap::new();
        headers.insert_bin(
            "grpc-status-details-bin",
            tonic::metadata::MetadataValue::from_bytes(bytes),
        );
        let status = tonic::Status::with_details_and_metadata(
            tonic::Code::Aborted,
            "m",
            Bytes::copy_from_slice(bytes),
            headers,
        );
        let _ = status::error_from_status(&status);
    });
}

#[test]
fn event_batches_are_whole_or_refused() {
    let mut g = Gen::new(9);
    let events: Vec<v1::Event> = EventKind::ALL
        .iter()
        .take(6)
        .map(|kind| event::event_to_pb(&g.event(*kind)))
        .collect();
    let whole = EventBatch::from_events(&events).encoded().to_vec();
    let one = EventBatch::from_events(&events[..1]).encoded().to_vec();
    Target::new("event_batch").seeds([whole, one]).run(|bytes| {
        let batch = EventBatch::from_encoded(Bytes::copy_from_slice(bytes));
        if let Ok(entries) = batch.entries() {
            let total: usize = entries.iter().map(Bytes::len).sum();
            assert!(total < bytes.len().max(1), "entries lie within the bytes");
        }
        if let Ok(events) = batch.events() {
            let again = EventBatch::from_events(&events);
            assert_eq!(again.events().expect("it was just encoded"), events);
        }
        // The same as a message, however its fields are spelled.
        if let Ok(read) = EventBatch::decode(bytes) {
            assert_eq!(read.encoded_len(), read.encode_to_vec().len());
            assert!(read.entries().is_ok(), "what was merged is a batch");
        }
        let _ = terminal::outputs_from_entries(Bytes::copy_from_slice(bytes));
    });
}
