//! Round trips: domain → wire → bytes → wire → domain is identical; and whatever the bytes are, nothing panics.

use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::{common, daemon, event, input, prompt, session, token, transient, v1};
use crate::base::id::*;
use crate::base::{Json, Timestamp};
use crate::domain::actor::ActorKind;
use crate::domain::command::CommandOutcome;
use crate::domain::daemon::Offer;
use crate::domain::event::*;
use crate::domain::harness::Login;
use crate::domain::link::RecordEvent;
use crate::domain::narrowing::Project;
use crate::domain::prompt::*;
use crate::domain::session::*;
use crate::domain::worktree::Support;
use crate::domain::*;

/// Makes values of every shape from a seed.
pub(crate) struct Gen(StdRng);

impl Gen {
    pub(crate) fn new(seed: u64) -> Self {
        Gen(StdRng::seed_from_u64(seed))
    }
    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.0.random_range(0..items.len())]
    }
    fn yes(&mut self) -> bool {
        self.0.random()
    }
    pub(super) fn text(&mut self) -> String {
        let alphabet: Vec<char> = "aZ0 \n\"\\{}é中🙂\u{202e}\u{0}".chars().collect();
        let len = self.0.random_range(0..12);
        (0..len).map(|_| self.pick(&alphabet)).collect()
    }
    fn texts(&mut self) -> Vec<String> {
        (0..self.0.random_range(0..3))
            .map(|_| self.text())
            .collect()
    }
    fn opt<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }
    fn list<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.0.random_range(0..3)).map(|_| make(self)).collect()
    }
    fn bits(&mut self) -> u128 {
        self.0.random()
    }
    pub(super) fn u64(&mut self) -> u64 {
        // The edges matter more than the middle.
        match self.0.random_range(0..4) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << 53,
            _ => self.0.next_u64(),
        }
    }
    fn some_u64(&mut self) -> u64 {
        self.u64().max(1)
    }
    fn u32(&mut self) -> u32 {
        self.0.random()
    }
    fn time(&mut self) -> Timestamp {
        Timestamp::from_micros(self.0.random())
    }
    fn duration(&mut self) -> Duration {
        Duration::new(
            self.0.random_range(0..=i64::MAX as u64),
            self.0.random_range(1..1_000_000_000),
        )
    }
    fn json(&mut self) -> Json {
        let text = serde_json::to_string(&self.text()).unwrap();
        let text = self
            .pick(&["null", "{\"a\": 12345678901234567890123}", "[1.0, -0]", "X"])
            .replace('X', &text);
        Json::parse("json", text, 1_000).unwrap()
    }
    pub(super) fn session_id(&mut self) -> SessionId {
        SessionId::from_bits(self.bits())
    }
    fn input_id(&mut self) -> InputId {
        InputId::from_bits(self.bits())
    }
    fn prompt_id(&mut self) -> PromptId {
        PromptId::from_bits(self.bits())
    }
    fn actor(&mut self) -> Actor {
        use ActorKind::*;
        Actor {
            kind: self.pick(&[Caller, Agent, Daemon, Server, Rule]),
            id: self.text(),
            name: self.text(),
        }
    }
    fn content(&mut self) -> ContentRef {
        let data = self.text();
        ContentRef::of(data.as_bytes(), "text/plain")
    }
    fn block(&mut self) -> Block {
        match self.0.random_range(0..3) {
            0 => Block::Text(self.text()),
            1 => Block::Thinking(self.text()),
            _ => Block::Content(self.content()),
        }
    }
    fn usage(&mut self) -> Usage {
        Usage {
            input_tokens: self.u64(),
            output_tokens: self.u64(),
            cache_read_tokens: self.u64(),
            cache_write_tokens: self.u64(),
            cost_micro_usd: self.u64(),
        }
    }
    fn lifecycle(&mut self) -> Lifecycle {
        self.pick(&Lifecycle::ALL)
    }
    fn activity(&mut self) -> Activity {
        use Activity::*;
        self.pick(&[Working, AwaitingInput, AwaitingPrompt, Unknown])
    }
    fn source(&mut self) -> ActivitySource {
        self.pick(&[
            ActivitySource::Protocol,
            ActivitySource::Hook,
            ActivitySource::Terminal,
        ])
    }
    fn percent(&mut self) -> u8 {
        self.0.random_range(0..=100)
    }
    fn end(&mut self) -> EndInfo {
        use EndReason::*;
        EndInfo {
            reason: self.pick(&[
                Completed,
                Stopped,
                Resumed,
                Failed,
                Crashed,
                Timeout,
                Limit,
                RateLimited,
                Lost,
                Canceled,
            ]),
            exit_code: self.opt(|g| g.u32() as i32),
            signal: self.u32() as i32,
            message: self.text(),
            stderr_tail: self.text(),
        }
    }
    fn mode(&mut self) -> PermissionMode {
        use PermissionMode::*;
        self.pick(&[Deny, Ask, AutoSafe, Auto])
    }
    fn decision(&mut self) -> Decision {
        Decision {
            allow: self.yes(),
            message: self.text(),
            updated_input: self.opt(Self::json),
            remember: self.pick(&[Remember::None, Remember::Session, Remember::Rule]),
            pattern: self.text(),
            interrupt: self.yes(),
        }
    }
    pub(super) fn answer(&mut self) -> PromptAnswer {
        let body = if self.yes() {
            AnswerBody::Decision(self.decision())
        } else {
            AnswerBody::Answers(self.list(|g| QuestionAnswer {
                question: g.text(),
                labels: g.texts(),
                text: g.text(),
            }))
        };
        PromptAnswer {
            by: self.actor(),
            at: self.time(),
            body,
        }
    }
    fn answer_delivery(&mut self) -> AnswerDelivery {
        use AnswerDelivery::*;
        self.pick(&[None, Queued, Applied, Undeliverable, Indeterminate])
    }
    pub(super) fn prompt(&mut self) -> Prompt {
        use PromptKind::*;
        Prompt {
            id: self.prompt_id(),
            session_id: self.session_id(),
            kind: self.pick(&[Permission, Question, Plan, PromptKind::Decision]),
            request_key: self.text(),
            call_id: self.text(),
            tool: self.text(),
            input: self.json(),
            plan: self.text(),
            questions: self.list(prompt_question),
            suggestions: self.list(|g| Suggestion {
                label: g.text(),
                value: g.json(),
            }),
            summary: self.text(),
            reason: self.text(),
            requested_at: self.time(),
            expires_at: self.opt(Self::time),
            state: self.pick(&[
                PromptState::Pending,
                PromptState::Answered,
                PromptState::Expired,
                PromptState::Withdrawn,
            ]),
            answer: self.opt(Self::answer),
            delivery: self.answer_delivery(),
            note: self.text(),
            command_id: None,
            budget: None,
        }
    }
    fn delivery(&mut self) -> Delivery {
        self.pick(&[Delivery::Queue, Delivery::Steer])
    }
    fn input_state(&mut self) -> InputState {
        use InputState::*;
        self.pick(&[
            Queued,
            Delivered,
            Applied,
            Indeterminate,
            Withdrawn,
            Rejected,
        ])
    }
    fn limit_action(&mut self) -> LimitAction {
        self.pick(&[LimitAction::End, LimitAction::Suspend, LimitAction::Park])
    }
    fn body(&mut self, kind: EventKind) -> EventBody {
        use EventKind as K;
        match kind {
            K::SessionCreated => EventBody::SessionCreated {
                daemon_id: DaemonId::from_bits(self.bits()),
                harness: self.text(),
                cwd: self.text(),
                resumed_from: self.opt(Self::session_id),
                forked_from: self.opt(Self::session_id),
            },
            K::Started => EventBody::Started {
                provider_session_id: self.text(),
                model: self.text(),
                cwd: self.text(),
                tools: self.texts(),
                pid: self.u32(),
                version: self.text(),
            },
            K::LifecycleChanged => EventBody::LifecycleChanged {
                from: self.lifecycle(),
                to: self.lifecycle(),
            },
            K::ActivityChanged => EventBody::ActivityChanged {
                activity: self.activity(),
                source: self.source(),
                confidence: self.percent(),
            },
            K::LinkChanged => EventBody::LinkChanged {
                attached: self.yes(),
                epoch: self.u64(),
            },
            K::InputAccepted => EventBody::InputAccepted {
                input_id: self.input_id(),
                text: self.text(),
                delivery: self.delivery(),
            },
            K::InputChanged => EventBody::InputChanged {
                input_id: self.input_id(),
                state: self.input_state(),
                text: self.text(),
                reason: self.text(),
            },
            K::Message => EventBody::Message {
                role: self.pick(&[Role::Agent, Role::User, Role::System]),
                blocks: self.list(Self::block),
                message_id: self.text(),
                parent_call_id: self.text(),
            },
            K::ToolCall => EventBody::ToolCall {
                call_id: self.text(),
                tool: self.text(),
                input: self.opt(Self::json),
                content: self.opt(Self::content),
                parent_call_id: self.text(),
            },
            K::ToolResult => EventBody::ToolResult {
                call_id: self.text(),
                blocks: self.list(Self::block),
                is_error: self.yes(),
            },
            K::TurnStarted => EventBody::TurnStarted {
                turn_id: TurnId::from_bits(self.bits()),
                input_ids: self.list(Self::input_id),
            },
            K::TurnEnded => EventBody::TurnEnded {
                turn_id: TurnId::from_bits(self.bits()),
                is_error: self.yes(),
                reason: self.text(),
                text: self.text(),
                usage: self.usage(),
                duration: self.duration(),
                input_ids: self.list(Self::input_id),
                api_status: self.u32(),
            },
            K::PlanUpdated => EventBody::PlanUpdated {
                items: self.list(|g| PlanItem {
                    text: g.text(),
                    status: g.text(),
                }),
            },
            K::Output => EventBody::Output {
                text: self.text(),
                continues: self.yes(),
            },
            K::Stderr => EventBody::Stderr {
                text: self.text(),
                continues: self.yes(),
            },
            K::UsageUpdated => EventBody::UsageUpdated {
                total: self.usage(),
            },
            K::RateLimited => EventBody::RateLimited {
                until: self.opt(Self::time),
                message: self.text(),
            },
            K::LimitExceeded => EventBody::LimitExceeded {
                limit: self.text(),
                value: self.u64(),
                allowed: self.u64(),
                action: self.limit_action(),
                budget_id: self.opt(|g| BudgetId::from_bits(g.u64().into())),
            },
            K::LimitLifted => EventBody::LimitLifted {
                budget_id: BudgetId::from_bits(self.u64().into()),
                reason: self.text(),
            },
            K::PromptRequested => EventBody::PromptRequested {
                prompt: Box::new(self.prompt()),
            },
            K::PromptAnswered => EventBody::PromptAnswered {
                prompt_id: self.prompt_id(),
                answer: self.answer(),
            },
            K::PromptExpired => EventBody::PromptExpired {
                prompt_id: self.prompt_id(),
            },
            K::PromptWithdrawn => EventBody::PromptWithdrawn {
                prompt_id: self.prompt_id(),
                reason: self.text(),
            },
            K::PromptDelivered => EventBody::PromptDelivered {
                prompt_id: self.prompt_id(),
                delivery: self.answer_delivery(),
                reason: self.text(),
            },
            K::OptionsChanged => EventBody::OptionsChanged {
                model: self.opt(Self::text),
                permission_mode: self.opt(Self::mode),
            },
            K::CommandFailed => EventBody::CommandFailed {
                command_id: CommandId::from_bits(self.bits()),
                command: self.text(),
                outcome: self.pick(&[
                    CommandOutcome::Applied,
                    CommandOutcome::Rejected,
                    CommandOutcome::Withdrawn,
                    CommandOutcome::Indeterminate,
                ]),
                reason: self.text(),
            },
            K::Notice => EventBody::Notice {
                kind: self.text(),
                text: self.text(),
            },
            K::Gap => EventBody::Gap {
                from_origin_seq: self.u64(),
                to_origin_seq: self.u64(),
                reason: self.text(),
            },
            K::Ended => EventBody::Ended { end: self.end() },
        }
    }
    pub(crate) fn event(&mut self, kind: EventKind) -> Event {
        Event {
            seq: self.u64(),
            time: self.time(),
            session_id: self.session_id(),
            origin: self.pick(&[Origin::Daemon, Origin::Server, Origin::Harness]),
            actor: self.opt(Self::actor),
            may_ignore: self.yes(),
            raw: self.opt(Self::json),
            raw_content: self.opt(Self::content),
            origin_time: self.opt(Self::time),
            body: self.body(kind),
        }
    }
    pub(super) fn session(&mut self) -> Session {
        let lifecycle = self.lifecycle();
        Session {
            id: self.session_id(),
            title: self.text(),
            daemon_id: DaemonId::from_bits(self.bits()),
            harness: self.text(),
            capabilities: self.capabilities(),
            model: self.text(),
            permission_mode: self.mode(),
            mode: self.pick(&[Mode::Headless, Mode::Interactive]),
            one_shot: self.yes(),
            cwd: self.text(),
            argv: self.texts(),
            env_names: Vec::new(),
            lifecycle,
            end: self.opt(Self::end),
            stopping: None,
            suspending: false,
            activity: if lifecycle == Lifecycle::Running {
                self.activity()
            } else {
                Activity::Unknown
            },
            activity_source: self.source(),
            activity_confidence: self.percent(),
            detached_since: self.opt(Self::time),
            provider_session_id: self.text(),
            resumed_from: self.opt(Self::session_id),
            forked_from: self.opt(Self::session_id),
            ancestors: Vec::new(),
            resumed_by: self.opt(Self::session_id),
            created_at: self.time(),
            started_at: self.opt(Self::time),
            ended_at: self.opt(Self::time),
            last_event_at: self.time(),
            usage: self.usage(),
            turns: self.u32(),
            in_turn: false,
            held_idle: false,
            output_bytes: 0,
            screen: None,
            pending_prompts: self.u32(),
            queued_inputs: self.u32(),
            limits: Limits {
                runtime: self.opt(Self::duration),
                idle: self.opt(Self::duration),
                output_bytes: self.opt(Self::some_u64),
                turns: self.opt(|g| g.u32().max(1)),
                cost_micro_usd: self.opt(Self::some_u64),
                action: self.limit_action(),
            },
            labels: [(self.text(), self.text())].into(),
            created_by: self.actor(),
            agent: self.opt(|g| SessionAgent {
                id: AgentId::from_bits(g.bits()),
                name: g.text(),
                role: g.pick(&AgentRole::ALL),
                worker_mode: g.opt(|g| g.pick(&[WorkerMode::Ephemeral, WorkerMode::Persistent])),
            }),
            task: self.opt(|g| SessionTask {
                id: TaskId::from_bits(g.bits()),
                assignment_id: AssignmentId::from_bits(g.bits()),
            }),
            limited: None,
            book: Default::default(),
            parked: None,
        }
    }
    fn capabilities(&mut self) -> Capabilities {
        Capabilities {
            steer: self.yes(),
            queue: self.yes(),
            permission: self.yes(),
            question: self.yes(),
            plan: self.yes(),
            resume: self.yes(),
            fork: self.yes(),
            model_switch: self.yes(),
            mode_switch: self.yes(),
            usage: self.yes(),
            quota: self.yes(),
            interrupt: self.yes(),
            terminal: self.yes(),
            instructions: self.yes(),
        }
    }
    pub(super) fn offer(&mut self) -> Offer {
        Offer {
            worktrees: Support {
                available: self.yes(),
                unavailable_reason: self.text(),
                commands: self.yes(),
            },
            hostname: self.text(),
            platform: self.text(),
            version: self.text(),
            harnesses: self.list(|g| Harness {
                name: g.text(),
                available: g.yes(),
                unavailable_reason: g.text(),
                version: g.text(),
                login: g.pick(&[
                    Login::None,
                    Login::SignedIn,
                    Login::SignedOut,
                    Login::Unknown,
                ]),
                capabilities: g.capabilities(),
                models: g.texts(),
            }),
            roots: self.texts(),
            max_permission_mode: self.mode(),
            labels: [(self.text(), self.text())].into(),
            env_names: self.texts(),
            max_sessions: self.u32(),
        }
    }
}

fn prompt_question(g: &mut Gen) -> Question {
    Question {
        header: g.text(),
        text: g.text(),
        options: g.list(|g| Choice {
            label: g.text(),
            description: g.text(),
        }),
        multi_select: g.yes(),
    }
}

/// An event of a record, read where it is carried as it came.
pub(super) fn whole(event: &RecordEvent) -> Event {
    match event {
        RecordEvent::Whole { event, .. } => (**event).clone(),
        RecordEvent::Kept(came) => {
            let read = v1::Event::decode(&came[..]).expect("what is kept is read");
            event::event_from_pb(read).expect("what is kept is understood")
        }
    }
}

/// Over the bytes and back.
fn sent<M: prost::Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn events_of_every_kind_come_back(seed: u64) {
        let mut g = Gen::new(seed);
        for kind in EventKind::ALL {
            let event = g.event(*kind);
            prop_assert_eq!(event::event_from_pb(sent(&event::event_to_pb(&event))).unwrap(), event);
        }
    }

    #[test]
    fn records_come_back(seed: u64) {
        let mut g = Gen::new(seed);
        let session = g.session();
        prop_assert_eq!(session::session_from_pb(sent(&session::session_to_pb(&session, Some((1, 2, 3)), 4))).unwrap(), session);
        let prompt = g.prompt();
        prop_assert_eq!(prompt::prompt_from_pb(sent(&prompt::prompt_to_pb(&prompt, Some(1)))).unwrap(), prompt);
        let body = g.answer().body;
        prop_assert_eq!(prompt::answer_body_from_pb(Some(prompt::answer_body_to_pb(&body))).unwrap(), body);
        let rule = PromptRule {
            id: RuleId::from_bits(g.bits()),
            pattern: g.text(),
            allow: g.yes(),
            session_id: g.opt(Gen::session_id),
            directory: g.text(),
            created_by: g.actor(),
            created_at: g.time(),
        };
        prop_assert_eq!(prompt::rule_from_pb(sent(&prompt::rule_to_pb(&rule))).unwrap(), rule);
        let input = Input {
            id: g.input_id(),
            session_id: g.session_id(),
            text: g.text(),
            delivery: g.delivery(),
            state: g.input_state(),
            actor: g.actor(),
            created_at: g.time(),
            position: g.u32(),
            reason: g.text(),
            command_id: None,
        };
        prop_assert_eq!(input::input_from_pb(sent(&input::input_to_pb(&input, 9))).unwrap(), input);
        let token = Token {
            id: TokenId::from_bits(g.bits()),
            name: g.text(),
            scope: g.pick(&[Scope::Admin, Scope::Operator, Scope::Viewer, Scope::Daemon, Scope::Join]),
            secret_sha256: String::new(),
            created_at: g.time(),
            expires_at: g.opt(Gen::time),
            revoked_at: g.opt(Gen::time),
            last_used_at: g.opt(Gen::time),
            daemon_id: g.opt(|g| DaemonId::from_bits(g.bits())),
            narrowing: g.opt(|g| Narrowing {
                projects: vec![Project {
                    directory: g.text(),
                    daemon_id: g.opt(|g| DaemonId::from_bits(g.bits())),
                }],
                sessions: vec![g.session_id()],
            }),
            used_nonce_sha256: None,
            kind: g.pick(&[TokenKind::Issued, TokenKind::Browser]),
            made_with: None,
        };
        prop_assert_eq!(token::token_from_pb(sent(&token::token_to_pb(&token))).unwrap(), token);
        let record = Daemon {
            id: DaemonId::from_bits(g.bits()),
            name: g.text(),
            token_id: TokenId::from_bits(g.bits()),
            offer: g.offer(),
            attached: g.yes(),
            since: g.time(),
            link_epoch: g.u64(),
            boot_generation: g.u64(),
            draining: g.yes(),
            created_at: g.time(),
            link_changes: Vec::new(),
        };
        let pb = sent(&daemon::daemon_to_pb(&record, 3, 4));
        prop_assert_eq!(&pb.etag, "4");
        // What it says of worktrees is for the server alone.
        let offer = Offer {
            worktrees: Support::default(),
            ..record.offer
        };
        prop_assert_eq!(daemon::offer_from_pb(pb).unwrap(), offer);
        let delta = Transient {
            session_id: g.session_id(),
            body: if g.yes() {
                TransientBody::Progress { text: g.text() }
            } else {
                TransientBody::MessageDelta {
                    message_id: g.text(),
                    block: g.u32(),
                    offset: g.u64(),
                    text: g.text(),
                    thinking: g.yes(),
                }
            },
        };
        prop_assert_eq!(transient::transient_from_pb(sent(&transient::transient_to_pb(&delta))).unwrap(), delta);
        let block = g.block();
        prop_assert_eq!(common::block_from_pb(sent(&common::block_to_pb(&block))).unwrap(), block);
    }

    /// A valid message with some bytes changed is read as something or refused.
    #[test]
    fn damaged_bytes_never_panic(seed: u64, flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let mut g = Gen::new(seed);
        let kind = g.pick(EventKind::ALL);
        let mut bytes = event::event_to_pb(&g.event(kind)).encode_to_vec();
        let mut record = session::session_to_pb(&g.session(), None, 1).encode_to_vec();
        for (at, value) in flips {
            let (i, j) = (usize::from(at) % bytes.len(), usize::from(at) % record.len());
            bytes[i] = value;
            record[j] = value;
        }
        if let Ok(pb) = v1::Event::decode(bytes.as_slice())
            && let Ok(event) = event::event_from_pb(pb)
        {
            prop_assert_eq!(event::event_from_pb(event::event_to_pb(&event)).unwrap(), event);
        }
        if let Ok(pb) = v1::Session::decode(record.as_slice()) {
            let _ = session::session_from_pb(pb);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(pb) = v1::Event::decode(bytes.as_slice()) { let _ = event::event_from_pb(pb); }
        if let Ok(pb) = v1::Prompt::decode(bytes.as_slice()) { let _ = prompt::prompt_from_pb(pb); }
        if let Ok(pb) = v1::Input::decode(bytes.as_slice()) { let _ = input::input_from_pb(pb); }
        if let Ok(pb) = v1::Token::decode(bytes.as_slice()) { let _ = token::token_from_pb(pb); }
        if let Ok(pb) = v1::Daemon::decode(bytes.as_slice()) { let _ = daemon::offer_from_pb(pb); }
        if let Ok(pb) = v1::Transient::decode(bytes.as_slice()) { let _ = transient::transient_from_pb(pb); }
    }
}

#[test]
fn an_unknown_body_stops_unless_it_may_be_skipped() {
    let mut pb = event::event_to_pb(&Gen::new(1).event(EventKind::Notice));
    pb.body = None;
    pb.may_ignore = false;
    assert!(event::event_from_pb(pb.clone()).is_err());
    pb.may_ignore = true;
    let read = event::event_from_pb(pb).unwrap();
    assert!(matches!(read.body, EventBody::Notice { kind, .. } if kind == event::UNKNOWN_KIND));
}

#[test]
fn an_event_of_a_daemon_has_neither_number_nor_time() {
    let mut pb = event::event_to_pb(&Gen::new(2).event(EventKind::Output));
    pb.seq = 0;
    pb.time = None;
    let read = event::event_from_pb(pb).unwrap();
    assert_eq!((read.seq, read.time), (0, Timestamp::EPOCH));
}

#[test]
fn an_answer_of_two_minds_is_refused() {
    let mut pb = prompt::prompt_answer_to_pb(&Gen::new(3).answer());
    pb.decision = Some(v1::Decision::default());
    pb.answers = vec![v1::QuestionAnswer::default()];
    assert!(prompt::prompt_answer_from_pb(pb).is_err());
}
