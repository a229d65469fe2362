//! The daemon's side alone, frame by frame.

use super::*;
use crate::domain::event::TransientBody;
use crate::domain::link::frame::ContentAck;

const T: Timestamp = Timestamp::EPOCH;

fn session(n: u128) -> SessionId {
    SessionId::from_bits(n)
}

fn report(n: u128, last: u64) -> SessionReport {
    SessionReport {
        session_id: session(n),
        origin_epoch: 5,
        last_origin_seq: last,
        acked_origin_seq: 0,
        alive: true,
    }
}

fn record(origin_seq: u64, size_bytes: u64) -> Record {
    Record {
        origin_seq,
        events: Vec::new(),
        gap: None,
        time: T,
        output: None,
        size_bytes,
    }
}

fn welcome(credit: Credit, stored: &[(u128, u64)]) -> Down {
    Down::Welcome(Box::new(Welcome {
        protocol: 1,
        link_epoch: 1,
        lease: Duration::from_secs(90),
        heartbeat_interval: Duration::from_secs(30),
        sessions: stored
            .iter()
            .map(|(n, seq)| SessionState {
                session_id: session(*n),
                stored: Position::new(5, *seq),
                credit,
            })
            .collect(),
        foreign: Vec::new(),
        link_credit: Credit::LINK,
        server_version: String::new(),
    }))
}

fn greeted(sessions: &[(u128, u64)], credit: Credit) -> DaemonLink {
    let mut link = DaemonLink::new(
        DaemonId::from_bits(1),
        1,
        Offer::default(),
        DaemonLimits::default(),
        9,
    );
    for (n, _) in sessions {
        link.report(report(*n, 100));
    }
    link.dial(T);
    assert!(matches!(link.send(T), Some(Up::Hello(_))));
    assert!(link.send(T).is_none(), "nothing before Welcome");
    link.received(T, welcome(credit, sessions));
    link
}

fn sent(link: &mut DaemonLink, now: Timestamp) -> Vec<u64> {
    let mut all = Vec::new();
    while let Some(frame) = link.send(now) {
        if let Up::Records(records) = frame {
            all.extend(records.records.iter().map(|record| record.origin_seq));
        }
    }
    all
}

#[test]
fn the_pump_is_told_where_to_begin_and_stops_at_its_credit() {
    let credit = Credit {
        events: 3,
        bytes: 1_000,
    };
    let mut link = greeted(&[(1, 7)], credit);
    let rewound = std::iter::from_fn(|| link.event()).any(
        |event| matches!(event, DaemonEvent::Rewind { after, .. } if after == Position::new(5, 7)),
    );
    assert!(rewound);
    assert_eq!(
        link.push(T, session(1), 5, record(9, 1), &[]),
        Err(Refused::NotNext)
    );
    for seq in 8..11 {
        assert!(link.wants(session(1)));
        link.push(T, session(1), 5, record(seq, 1), &[]).unwrap();
    }
    assert!(!link.wants(session(1)));
    assert_eq!(sent(&mut link, T), [8, 9, 10]);
}

#[test]
fn a_record_larger_than_the_credit_passes_alone() {
    let credit = Credit {
        events: 10,
        bytes: 100,
    };
    let mut link = greeted(&[(1, 0)], credit);
    let later = T.saturating_add(Duration::from_secs(1));
    link.push(T, session(1), 5, record(1, 10), &[]).unwrap();
    link.push(T, session(1), 5, record(2, 5_000), &[]).unwrap();
    assert_eq!(sent(&mut link, later), [1]);
    link.received(
        later,
        Down::Ack(SessionState {
            session_id: session(1),
            stored: Position::new(5, 1),
            credit,
        }),
    );
    assert_eq!(sent(&mut link, later), [2]);
}

#[test]
fn small_records_wait_for_company_but_not_for_long() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    link.push(T, session(1), 5, record(1, 1), &[]).unwrap();
    assert_eq!(sent(&mut link, T), [1], "at once when nothing is under way");
    link.push(T, session(1), 5, record(2, 1), &[]).unwrap();
    assert!(sent(&mut link, T).is_empty());
    let due = T.saturating_add(Duration::from_millis(10));
    assert_eq!(link.next_deadline(), Some(due));
    assert_eq!(sent(&mut link, due), [2]);
}

#[test]
fn what_is_not_stored_is_sent_again_after_a_reconnect() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    for seq in 1..5 {
        link.push(T, session(1), 5, record(seq, 1), &[]).unwrap();
    }
    assert_eq!(sent(&mut link, T), [1, 2, 3, 4]);
    link.closed(T, None);
    link.dial(T);
    assert!(matches!(link.send(T), Some(Up::Hello(hello)) if hello.attempt == 2));
    while link.event().is_some() {}
    link.received(T, welcome(Credit::SESSION, &[(1, 2)]));
    assert_eq!(sent(&mut link, T), [3, 4]);
    let events: Vec<_> = std::iter::from_fn(|| link.event()).collect();
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, DaemonEvent::Rewind { .. })),
        "nothing has to be interpreted again"
    );
}

#[test]
fn a_spool_that_lacks_what_is_stored_is_told_so() {
    let mut link = greeted(&[(1, 200)], Credit::SESSION);
    let behind = std::iter::from_fn(|| link.event())
        .any(|event| matches!(event, DaemonEvent::Behind { .. }));
    assert!(behind);
    assert_eq!(
        link.push(T, session(1), 5, record(101, 1), &[]),
        Err(Refused::NotNext)
    );
    link.push(T, session(1), 6, record(1, 1), &[]).unwrap();
}

#[test]
fn a_command_is_delivered_once_and_answered_until_its_result_is_stored() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    while link.event().is_some() {}
    let command = Command {
        id: CommandId::from_bits(3),
        session_id: session(1),
        deadline: None,
        body: crate::domain::CommandBody::Interrupt,
    };
    for _ in 0..2 {
        link.received(T, Down::Command(Box::new(command.clone())));
    }
    let delivered = std::iter::from_fn(|| link.event()).count();
    assert_eq!(delivered, 1);
    link.result(CommandResult {
        command_id: command.id,
        session_id: session(1),
        outcome: crate::domain::CommandOutcome::Applied,
        reason: String::new(),
        code: String::new(),
    });
    assert!(matches!(link.send(T), Some(Up::CommandResult(_))));
    link.received(T, Down::Command(Box::new(command.clone())));
    assert!(link.event().is_none());
    assert!(
        matches!(link.send(T), Some(Up::CommandResult(_))),
        "from memory"
    );
    link.received(
        T,
        Down::ResultAck {
            command_id: command.id,
            session_id: session(1),
        },
    );
    assert!(matches!(
        link.event(),
        Some(DaemonEvent::ResultStored { .. })
    ));
}

#[test]
fn an_acknowledgement_from_before_a_reset_skips_no_content() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    let piece = DaemonLimits::default().content_chunk_bytes as u64;
    let data = Bytes::from(vec![7; 3 * piece as usize]);
    let content = [("x".to_owned(), data)];
    link.push(T, session(1), 5, record(1, 1), &content).unwrap();
    let sent = |link: &mut DaemonLink| -> Vec<u64> {
        std::iter::from_fn(|| link.send(T))
            .filter_map(|frame| match frame {
                Up::ContentChunk(chunk) => Some(chunk.offset),
                _ => None,
            })
            .collect()
    };
    assert_eq!(sent(&mut link), [0, piece, 2 * piece]);
    let reset = Down::Reset {
        session_id: session(1),
        after: Position::new(5, 0),
        reason: String::new(),
    };
    link.received(T, reset);
    let late = ContentAck {
        session_id: session(1),
        sha256: "x".to_owned(),
        next_offset: 2 * piece,
        resend: false,
    };
    link.received(T, Down::ContentAck(late));
    assert_eq!(sent(&mut link), [0, piece, 2 * piece]);
}

#[test]
fn what_is_refused_is_refused_whole_and_the_link_says_where_to_go_on() {
    let mut link = greeted(&[(1, 7)], Credit::SESSION);
    let content = [("x".to_owned(), Bytes::from_static(b"xyz"))];
    assert_eq!(link.position(session(1)), Some(Position::new(5, 7)));
    assert_eq!(
        link.push(T, session(1), 5, record(9, 1), &content),
        Err(Refused::NotNext)
    );
    link.push(T, session(1), 5, record(8, 1), &[]).unwrap();
    link.closed(T, None);
    assert_eq!(link.position(session(1)), None);
    assert_eq!(
        link.push(T, session(1), 5, record(9, 1), &content),
        Err(Refused::NotOpen)
    );
    link.dial(T);
    while link.send(T).is_some() {}
    link.received(T, welcome(Credit::SESSION, &[(1, 7)]));
    assert_eq!(link.position(session(1)), Some(Position::new(5, 8)));
    let frames: Vec<Up> = std::iter::from_fn(|| link.send(T)).collect();
    let is_chunk = |frame: &Up| matches!(frame, Up::ContentChunk(_));
    assert!(!frames.iter().any(is_chunk), "{frames:?}");
}

#[test]
fn what_is_stored_can_be_asked_whatever_became_of_the_events() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    assert_eq!(link.stored(session(2)), None);
    link.push(T, session(1), 5, record(1, 1), &[]).unwrap();
    link.received(
        T,
        Down::Ack(SessionState {
            session_id: session(1),
            stored: Position::new(5, 1),
            credit: Credit::SESSION,
        }),
    );
    while link.event().is_some() {}
    assert_eq!(link.stored(session(1)), Some(Position::new(5, 1)));
    link.closed(T, None);
    assert_eq!(link.stored(session(1)), Some(Position::new(5, 1)));
}

#[test]
fn a_foreign_session_is_foreign_until_it_is_forgotten() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    for n in 1..3 {
        link.received(
            T,
            Down::Foreign {
                session_id: session(n),
                reason: "continued elsewhere".to_owned(),
            },
        );
    }
    while link.event().is_some() {}
    assert_eq!(link.foreign_because(session(2)), None, "never reported");
    // A report that comes late does not bring it back.
    link.report(report(1, 100));
    link.closed(T, None);
    assert_eq!(
        link.foreign_because(session(1)),
        Some("continued elsewhere")
    );
    assert_eq!(link.stored(session(1)), None);
    link.forget(session(1));
    assert_eq!(link.foreign_because(session(1)), None);
}

#[test]
fn a_command_whose_executor_is_gone_is_delivered_again() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    while link.event().is_some() {}
    let command = |id| Command {
        id: CommandId::from_bits(id),
        session_id: session(1),
        deadline: None,
        body: crate::domain::CommandBody::Interrupt,
    };
    let deliver = |link: &mut DaemonLink| {
        for id in [3, 4] {
            link.received(T, Down::Command(Box::new(command(id))));
        }
        std::iter::from_fn(|| link.event())
            .filter_map(|event| match event {
                DaemonEvent::Deliver(command) => Some(command.id),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(deliver(&mut link).len(), 2);
    link.result(CommandResult {
        command_id: CommandId::from_bits(3),
        session_id: session(1),
        outcome: crate::domain::CommandOutcome::Applied,
        reason: String::new(),
        code: String::new(),
    });
    link.unanswered(session(1));
    assert_eq!(deliver(&mut link), [CommandId::from_bits(4)]);
}

#[test]
fn a_drain_says_goodbye_and_comes_back() {
    let mut link = greeted(&[], Credit::SESSION);
    while link.event().is_some() {}
    link.received(
        T,
        Down::Drain {
            after: Duration::from_secs(60),
            reason: "upgrade".to_owned(),
        },
    );
    assert!(matches!(link.send(T), Some(Up::Goodbye(goodbye)) if !goodbye.sessions_end));
    let events: Vec<_> = std::iter::from_fn(|| link.event()).collect();
    assert!(matches!(
        events[..],
        [
            DaemonEvent::Draining { .. },
            DaemonEvent::Close { .. },
            DaemonEvent::Reconnect { after },
        ] if after >= Duration::from_secs(60)
    ));
}

#[test]
fn a_newer_process_ends_this_one_for_good() {
    let mut link = greeted(&[], Credit::SESSION);
    while link.event().is_some() {}
    link.closed(T, Some(Error::new(Code::Stale, "newer")));
    assert!(matches!(link.event(), Some(DaemonEvent::Superseded(_))));
    link.dial(T);
    assert!(link.send(T).is_none() && link.event().is_none());
}

fn piece(offset: u64, text: &str) -> Transient {
    Transient {
        session_id: session(1),
        body: TransientBody::MessageDelta {
            message_id: "m".to_owned(),
            block: 0,
            offset,
            text: text.to_owned(),
            thinking: false,
        },
    }
}

fn live_sent(link: &mut DaemonLink) -> Vec<Transient> {
    std::iter::from_fn(|| link.send(T))
        .filter_map(|frame| match frame {
            Up::Transient(transient) => Some(transient),
            _ => None,
        })
        .collect()
}

#[test]
fn text_that_waits_is_merged_and_of_notes_only_the_last_is_sent() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    for n in 0..1_000_u64 {
        link.transient(piece(n * 2, "ab"));
        link.transient(Transient {
            session_id: session(1),
            body: TransientBody::Progress {
                text: n.to_string(),
            },
        });
    }
    let note = Transient {
        session_id: session(1),
        body: TransientBody::Progress {
            text: "999".to_owned(),
        },
    };
    assert_eq!(live_sent(&mut link), [piece(0, &"ab".repeat(1_000)), note]);
}

#[test]
fn a_new_link_carries_the_text_so_far_first() {
    let mut link = greeted(&[(1, 0)], Credit::SESSION);
    link.transient(piece(0, "one "));
    assert_eq!(live_sent(&mut link), [piece(0, "one ")]);
    link.closed(T, None);
    link.transient(piece(4, "two "));
    link.dial(T);
    link.send(T);
    link.received(T, welcome(Credit::SESSION, &[(1, 0)]));
    assert_eq!(live_sent(&mut link), [piece(0, "one two ")]);
    link.transient(piece(8, "three"));
    link.finished(
        session(1),
        &EventBody::Message {
            role: crate::domain::event::Role::Agent,
            blocks: vec![crate::domain::Block::Text("one two three".to_owned())],
            message_id: "m".to_owned(),
            parent_call_id: String::new(),
        },
    );
    assert_eq!(live_sent(&mut link), [], "the event says it");
}

#[test]
fn after_a_server_that_was_away_for_long_a_short_link_is_dialled_again_soon() {
    let mut link = greeted(&[], Credit::SESSION);
    let pause = |link: &mut DaemonLink| {
        std::iter::from_fn(|| link.event())
            .find_map(|event| match event {
                DaemonEvent::Reconnect { after } => Some(after),
                _ => None,
            })
            .expect("it dials again")
    };
    for _ in 0..50 {
        link.dial(T);
        link.closed(T, None);
        pause(&mut link);
    }
    let limits = DaemonLimits::default();
    for short in 0..200 {
        link.dial(T);
        link.send(T);
        link.received(T, welcome(Credit::SESSION, &[]));
        link.closed(T, None);
        let pause = pause(&mut link);
        assert!(pause <= limits.short_link_pause, "{short}: {pause:?}");
    }
    // A drain is an end of a link like any other: after a stable one the pauses start anew.
    link.dial(T);
    link.send(T);
    link.received(T, welcome(Credit::SESSION, &[]));
    let later = T.saturating_add(limits.stable_after);
    link.received(
        later,
        Down::Drain {
            after: Duration::ZERO,
            reason: "restart".to_owned(),
        },
    );
    while link.send(later).is_some() {}
    assert!(pause(&mut link) <= limits.backoff.0 * 2);
}

#[test]
fn a_server_that_asks_without_end_loses_its_link() {
    for answers in [false, true] {
        let mut link = greeted(&[(1, 7)], Credit::SESSION);
        for n in 0..3 * MAX_QUERIES as u64 {
            let body = super::super::QueryBody::Terminal {
                session_id: session(1),
                act: crate::domain::terminal::Act::Type(Bytes::new()),
            };
            link.received(T, Down::Query(Query { id: n, body }));
            while let Some(event) = link.event() {
                if let DaemonEvent::Query(query) = event
                    && answers
                {
                    link.query_result(QueryResult {
                        id: query.id,
                        result: Ok(super::super::Found::Terminal),
                    });
                }
            }
            // Nothing is sent: the server does not read.
            assert!(link.kept() <= MAX_QUERIES, "{} are kept", link.kept());
        }
        assert!(!link.is_live());
    }
}
