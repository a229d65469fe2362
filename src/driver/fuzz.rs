//! What an agent writes, as any bytes: each driver makes of it events that fit into the log, asks before anything
//! is allowed, and stays itself when it is put away and taken out again.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message as _;

use super::acp::AcpDriver;
use super::claude::ClaudeDriver;
use super::codex::CodexDriver;
use super::command::CommandDriver;
use super::{Action, Driver, Output, Place, Record, RecordBody, Write, WriteOutcome};
use crate::base::fuzz::Target;
use crate::base::id::{CommandId, InputId, SessionId};
use crate::base::{Error, Timestamp};
use crate::domain::command::{CommandBody, StartCommand};
use crate::domain::content::{Block, MAX_EVENT_BYTES, MAX_INLINE_TEXT_BYTES};
use crate::domain::event::{MAX_RAW_BYTES, Origin};
use crate::domain::prompt::{AnswerBody, Decision, Prompt};
use crate::domain::session::{EndReason, Mode};
use crate::domain::{Actor, Command, ContentRef, Event, EventBody, PermissionMode, PromptAnswer};
use crate::wire::event::{event_from_pb, event_to_pb};

const CLAUDE: [&str; 2] = [
    include_str!("../../tests/fixtures/claude/prompts.txt"),
    include_str!("../../tests/fixtures/claude/turns.txt"),
];
const ACP: [&str; 2] = [
    include_str!("../../tests/fixtures/acp/claude.txt"),
    include_str!("../../tests/fixtures/acp/opencode.txt"),
];

/// What else can happen to a driver than a line, as the first byte of a piece.
const ODD: &[&str] = &[
    "!0",
    "!1",
    "#a line of stderr",
    "+{\"type\":",
    "@i",
    "@I",
    "@s",
    "@o",
    "@d",
    "@e",
    "?",
];

fn place() -> Place {
    Place {
        session_id: SessionId::from_bits(7),
        origin_epoch: 3,
    }
}

fn start() -> StartCommand {
    StartCommand {
        harness: "x".to_owned(),
        cwd: "/srv/proj".to_owned(),
        model: String::new(),
        permission_mode: PermissionMode::Ask,
        mode: Mode::Headless,
        argv: Vec::new(),
        env_names: Vec::new(),
        provider_session_id: String::new(),
        fork: false,
        one_shot: false,
        replaces: None,
        terminal: None,
        instructions: String::new(),
    }
}

/// How a driver is begun, or taken out again.
type Open = fn(Option<&[u8]>) -> Result<Box<dyn Driver>, Error>;

struct Rig {
    open: Open,
    driver: Box<dyn Driver>,
    seq: u64,
    asked: Option<Prompt>,
    /// Whether anything was denied.
    denied: bool,
    inputs: u128,
    /// How many bytes came in, how many came out in events.
    bytes_in: usize,
    bytes_out: usize,
    records: usize,
}

impl Rig {
    fn new(open: Open) -> Self {
        let mut driver = open(None).expect("it begins");
        let begun = driver.begin();
        let mut rig = Rig {
            open,
            driver,
            seq: 0,
            asked: None,
            denied: false,
            inputs: 0,
            bytes_in: 0,
            bytes_out: 0,
            records: 0,
        };
        rig.feed(RecordBody::Spawned { pid: 42 });
        for write in begun {
            rig.wrote(write);
        }
        rig
    }

    fn wrote(&mut self, write: Write) {
        self.check_write(&write);
        self.feed(RecordBody::Written {
            id: write.id,
            note: write.note,
            outcome: WriteOutcome::Done,
            reason: String::new(),
        });
    }

    /// What the agent reads is lines, and nobody said that it may do anything.
    fn check_write(&self, write: &Write) {
        let text = std::str::from_utf8(&write.data).expect("lines are text");
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "a line ends: {text:?}"
        );
        for line in text.lines() {
            let Ok(said) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            let allows = [
                &said["response"]["response"]["behavior"],
                &said["result"]["outcome"]["outcome"],
                &said["result"]["decision"],
            ];
            let yes = ["allow", "accept", "approved", "acceptForSession"];
            // An option that is selected may be the one that refuses; of nobody, it is none.
            let is_yes = |word: &str| yes.contains(&word) || (!self.denied && word == "selected");
            assert!(
                !allows.iter().any(|word| word.as_str().is_some_and(is_yes)),
                "nobody allowed it: {said}"
            );
        }
    }

    /// Feeds a record, and those of the writes that it leads to.
    fn feed(&mut self, body: RecordBody) {
        let mut bodies = VecDeque::from([body]);
        let mut steps = 0;
        while let Some(body) = bodies.pop_front() {
            steps += 1;
            assert!(steps <= 300, "a driver that goes on by itself without end");
            self.seq += 1;
            self.records += 1;
            let record = Record {
                seq: self.seq,
                time: Timestamp::from_millis(1_795_240_000_000 + self.seq as i64),
                body,
            };
            let outputs = self.driver.record(&record);
            self.check(&record, &outputs);
            for output in outputs {
                match output {
                    Output::Event(draft) => {
                        if let EventBody::PromptRequested { prompt } = draft.body {
                            self.asked = Some(*prompt);
                        }
                    }
                    Output::Write(write) => {
                        self.check_write(&write);
                        bodies.push_back(RecordBody::Written {
                            id: write.id,
                            note: write.note,
                            outcome: WriteOutcome::Done,
                            reason: String::new(),
                        });
                    }
                    _ => {}
                }
            }
        }
    }

    fn check(&mut self, record: &Record, outputs: &[Output]) {
        let kept: BTreeSet<&str> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Content(reference, data) => {
                    assert_eq!(&ContentRef::of(data, &reference.media_type), reference);
                    Some(reference.sha256.as_str())
                }
                _ => None,
            })
            .collect();
        let is_kept = |reference: &ContentRef| {
            assert!(
                kept.contains(reference.sha256.as_str()),
                "an event names content that is not there"
            );
        };
        for output in outputs {
            match output {
                Output::Event(draft) => {
                    let mut event = Event::new(
                        place().session_id,
                        Origin::Harness,
                        record.time,
                        draft.body.clone(),
                    );
                    (event.raw, event.actor) = (draft.raw.clone(), draft.actor.clone());
                    event.raw_content = draft.raw_content.clone();
                    let pb = event_to_pb(&event);
                    let size = pb.encoded_len();
                    assert!(
                        size <= MAX_EVENT_BYTES,
                        "an event of {size} bytes: {:?}",
                        event.body.kind()
                    );
                    self.bytes_out += size;
                    assert_eq!(
                        event_from_pb(pb).expect("what a driver makes is an event"),
                        event
                    );
                    assert!(
                        draft
                            .raw
                            .as_ref()
                            .is_none_or(|raw| raw.as_str().len() <= MAX_RAW_BYTES)
                    );
                    draft.raw_content.iter().for_each(is_kept);
                    match &draft.body {
                        EventBody::Message { blocks, .. }
                        | EventBody::ToolResult { blocks, .. } => {
                            for block in blocks {
                                match block {
                                    Block::Text(text) | Block::Thinking(text) => {
                                        assert!(text.len() <= MAX_INLINE_TEXT_BYTES);
                                    }
                                    Block::Content(reference) => is_kept(reference),
                                }
                            }
                        }
                        EventBody::ToolCall { content, .. } => content.iter().for_each(is_kept),
                        EventBody::Output { text, .. } | EventBody::Stderr { text, .. } => {
                            assert!(text.len() <= MAX_INLINE_TEXT_BYTES);
                        }
                        _ => {}
                    }
                }
                Output::Done(result) => assert_eq!(result.session_id, place().session_id),
                _ => {}
            }
        }
    }

    /// The driver as a later process would have it.
    fn restart(&mut self) {
        let snapshot = self.driver.snapshot();
        self.driver = (self.open)(Some(&snapshot)).expect("its own snapshot is read");
        assert_eq!(self.driver.snapshot(), snapshot, "it is the same again");
    }

    fn does(&mut self, body: CommandBody) {
        self.inputs += 1;
        let command = Command {
            id: CommandId::from_bits(1_000 + self.inputs),
            session_id: place().session_id,
            deadline: None,
            body,
        };
        let before = self.driver.snapshot();
        match self.driver.command(&command) {
            Ok(Action::Write(write) | Action::WriteAndWait(write)) => self.wrote(write),
            Ok(_) => {}
            Err(_) => assert_eq!(
                self.driver.snapshot(),
                before,
                "what is refused changes nothing"
            ),
        }
    }

    fn command(&mut self, which: &[u8]) {
        let input_id = InputId::from_bits(self.inputs);
        match which {
            [b'i', ..] => self.does(CommandBody::Input {
                input_id,
                text: "/do\nit".to_owned(),
                steer: false,
            }),
            [b's', ..] => self.does(CommandBody::Input {
                input_id,
                text: "more".to_owned(),
                steer: true,
            }),
            [b'I', ..] => self.does(CommandBody::Interrupt),
            [b'o', ..] => self.does(CommandBody::Options {
                model: Some("m2".to_owned()),
                permission_mode: Some(PermissionMode::Ask),
            }),
            [b'd', ..] => {
                if let Some(prompt) = self.asked.clone() {
                    self.denied = true;
                    self.does(CommandBody::Answer {
                        prompt_id: prompt.id,
                        request_key: prompt.request_key,
                        answer: PromptAnswer {
                            by: Actor::server(),
                            at: Timestamp::EPOCH,
                            body: AnswerBody::Decision(Decision::default()),
                        },
                    });
                }
            }
            [b'c', ..] => self.does(CommandBody::CancelInput { input_id }),
            _ => self.does(CommandBody::End {
                force: false,
                reason: EndReason::Completed,
                suspend: false,
                message: String::new(),
            }),
        }
    }

    fn piece(&mut self, piece: &[u8]) {
        self.bytes_in += piece.len();
        let data = |rest: &[u8]| Bytes::copy_from_slice(rest);
        match piece {
            [b'!', rest @ ..] => self.feed(RecordBody::Exited {
                code: Some(rest.len() as i32),
                signal: 0,
                step: "none".to_owned(),
                message: String::new(),
            }),
            [b'?', ..] => {
                let from = self.seq + 1;
                self.feed(RecordBody::Missing {
                    from,
                    to: from,
                    reason: "damaged".to_owned(),
                });
            }
            [b'#', rest @ ..] => self.feed(RecordBody::Stderr {
                data: data(rest),
                continues: rest.len() % 2 == 1,
            }),
            [b'+', rest @ ..] => self.feed(RecordBody::Stdout {
                data: data(rest),
                continues: true,
            }),
            [b'@', rest @ ..] => self.command(rest),
            line => self.feed(RecordBody::Stdout {
                data: data(line),
                continues: false,
            }),
        }
    }
}

/// The lines of recordings that the program wrote.
fn said(recordings: &[&'static str]) -> Vec<&'static str> {
    let lines = recordings.iter().flat_map(|recording| recording.lines());
    lines.filter_map(|line| line.strip_prefix("out ")).collect()
}

fn drive(target: Target, open: Open) {
    target
        .seeds(ODD.iter().copied())
        .pieces(12)
        .weighs(4)
        .run_all(|pieces| {
            let mut rig = Rig::new(open);
            let idle = rig.bytes_out;
            for (n, piece) in pieces.iter().enumerate() {
                rig.piece(piece);
                if n % 3 == 0 {
                    rig.restart();
                }
            }
            rig.restart();
            // Work and memory are in proportion to what came: no line makes more of itself than this.
            let (most_out, most_kept) = (
                64 * 1024 + idle + 48 * rig.bytes_in,
                256 * 1024 + 16 * rig.bytes_in,
            );
            assert!(
                rig.bytes_out <= most_out,
                "{} bytes in, {} out",
                rig.bytes_in,
                rig.bytes_out
            );
            let kept = rig.driver.snapshot().len();
            assert!(kept <= most_kept, "{} bytes in, {kept} kept", rig.bytes_in);
        });
}

#[test]
fn claude_lines() {
    let words = &[
        "control_request",
        "can_use_tool",
        "control_response",
        "control_cancel_request",
        "stream_event",
        "system",
        "init",
        "assistant",
        "user",
        "result",
        "tool_use",
        "tool_result",
        "parent_tool_use_id",
        "permission_suggestions",
        "AskUserQuestion",
        "ExitPlanMode",
        "\"usage\":{\"input_tokens\":",
        "rate_limit_event",
        "compact_boundary",
    ];
    drive(
        Target::new("claude_lines")
            .seeds(said(&CLAUDE))
            .words(words),
        |snapshot| Ok(Box::new(ClaudeDriver::open(place(), &start(), snapshot)?)),
    );
}

#[test]
fn acp_lines() {
    let words = &[
        "session/update",
        "session/request_permission",
        "drv-initialize",
        "drv-session-1",
        "sessionUpdate",
        "tool_call",
        "tool_call_update",
        "agent_message_chunk",
        "agent_thought_chunk",
        "plan",
        "stopReason",
        "end_turn",
        "cancelled",
        "rawInput",
        "diff",
        "oldText",
        "newText",
        "terminal",
        "allow_once",
        "reject_once",
        "optionId",
        "conv-1",
        "{\"jsonrpc\":\"2.0\",\"id\":\"drv-session-1\",\"result\":{\"sessionId\":\"conv-1\"}}",
    ];
    drive(
        Target::new("acp_lines").seeds(said(&ACP)).words(words),
        |snapshot| Ok(Box::new(AcpDriver::open(place(), &start(), snapshot)?)),
    );
}

#[test]
fn codex_lines() {
    let words = &[
        "item/started",
        "item/completed",
        "turn/started",
        "drv-session-1",
        "threadId",
        "itemId",
        "delta",
        "command",
        "changes",
    ];
    drive(Target::new("codex_lines").words(words), |snapshot| {
        Ok(Box::new(CodexDriver::open(place(), &start(), snapshot)?))
    });
}

#[test]
fn command_lines() {
    drive(
        Target::new("command_lines").seeds(["plain text", "caf\u{e9} \u{1b}[31mred\u{1b}[0m"]),
        |snapshot| Ok(Box::new(CommandDriver::new("/srv/proj", snapshot)?)),
    );
}

/// A snapshot is a file that a crash or another version may have left in any state.
#[test]
fn snapshots() {
    let mut seeds = Vec::new();
    let opens: [Open; 4] = [
        |snapshot| Ok(Box::new(ClaudeDriver::open(place(), &start(), snapshot)?)),
        |snapshot| Ok(Box::new(AcpDriver::open(place(), &start(), snapshot)?)),
        |snapshot| Ok(Box::new(CodexDriver::open(place(), &start(), snapshot)?)),
        |snapshot| Ok(Box::new(CommandDriver::new("/srv/proj", snapshot)?)),
    ];
    for (open, lines) in opens
        .iter()
        .zip([said(&CLAUDE), said(&ACP), Vec::new(), Vec::new()])
    {
        let mut rig = Rig::new(*open);
        rig.command(b"i");
        for line in lines.iter().take(40) {
            rig.piece(line.as_bytes());
        }
        seeds.push(rig.driver.snapshot());
    }
    Target::new("driver_snapshots")
        .seeds(seeds)
        .weighs(8)
        .run(|bytes| {
            for open in opens {
                if let Ok(driver) = open(Some(bytes)) {
                    let mut rig = Rig::new(open);
                    rig.driver = driver;
                    rig.restart();
                    rig.piece(b"{\"type\":\"result\"}");
                    rig.command(b"I");
                    rig.piece(b"!0");
                }
            }
        });
}
