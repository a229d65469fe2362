//! Bad input to every RPC. The RPCs and their fields are read from the descriptors, so that one that is
//! added without an entry here, or with a field that nothing checks, fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton::base::id::{
    AgentId, BudgetId, DaemonId, InputId, PromptId, RuleId, SessionId, TaskId, TerminalId, TokenId,
    WorktreeId,
};
use baton::base::{Clock as _, Code, Secret, SystemClock};
use baton::domain::EventBody;
use baton::wire::{link_v1, v1};
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::StreamExt as _;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::support::baton::{Baton, PATIENCE, eventually};
use crate::worktrees::repository;

/// Messages as they are: bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kinds {
    Missing,
    Oversize,
    Malformed,
    OutOfState,
}

/// One bad call and what must be said of it.
struct Case {
    kind: Kinds,
    label: String,
    request: Bytes,
    codes: Vec<Code>,
    /// The field that the answer must name.
    field: Option<String>,
}

/// What is known of one RPC.
struct Entry {
    /// A request that is right.
    base: Vec<u8>,
    /// The fields that must be there.
    required: &'static [&'static str],
    /// Requests that are well-formed and cannot be done now. Those with an unknown id are made for each
    /// required id.
    state: Vec<(&'static str, Vec<u8>, &'static [Code])>,
    /// Requests that are wrong in a way of their own: kind, label, request, field.
    extra: Vec<(Kinds, &'static str, Vec<u8>, &'static str)>,
    /// Whether nothing outside the request can make it fail.
    stateless: bool,
}

fn entry(base: &impl prost::Message, required: &'static [&'static str]) -> Entry {
    Entry {
        base: base.encode_to_vec(),
        required,
        state: Vec::new(),
        extra: Vec::new(),
        stateless: false,
    }
}

impl Entry {
    fn state(
        mut self,
        label: &'static str,
        request: &impl prost::Message,
        codes: &'static [Code],
    ) -> Self {
        self.state.push((label, request.encode_to_vec(), codes));
        self
    }

    fn extra(
        mut self,
        kind: Kinds,
        label: &'static str,
        request: &impl prost::Message,
        field: &'static str,
    ) -> Self {
        self.extra
            .push((kind, label, request.encode_to_vec(), field));
        self
    }

    fn stateless(mut self) -> Self {
        self.stateless = true;
        self
    }
}

/// Things in every state that matters.
struct World {
    cwd: String,
    ended: String,
    idle: String,
    asking: String,
    prompt: String,
    answered: String,
    applied: String,
    queued: String,
    daemon: String,
    offline: String,
    token: String,
    rule: String,
    terminal: String,
    closed: String,
    agent: String,
    running_agent: String,
    agent_session: String,
    budget: String,
    tasks: Tasks,
    repository: String,
    worktree: String,
}

/// Tasks in every state that matters.
struct Tasks {
    open: String,
    /// Waits for the open one.
    waiting: String,
    held: String,
    closed: String,
    /// Has the held one.
    agent: String,
}

fn on_task(kind: v1::DependencyKind, id: &str) -> v1::DependencyTarget {
    v1::DependencyTarget {
        kind: kind.into(),
        on_task_id: id.to_owned(),
        gate: None,
    }
}

async fn tasks(baton: &Baton) -> Tasks {
    let client = baton.client();
    let make = async |title: &str, on: Vec<v1::DependencyTarget>| {
        let request = v1::CreateTaskRequest {
            title: title.to_owned(),
            dependencies: on,
            ..Default::default()
        };
        client.create_task(request).await.unwrap().task.unwrap().id
    };
    let open = make("open", vec![]).await;
    let waiting = make("waiting", vec![on_task(v1::DependencyKind::Blocks, &open)]).await;
    let (held, closed) = (make("held", vec![]).await, make("closed", vec![]).await);
    let agent = make_agent(&client, "holder", "").await;
    let assign = v1::AssignTaskRequest {
        task_id: held.clone(),
        agent_id: agent.clone(),
        ..Default::default()
    };
    client.assign_task(assign).await.unwrap();
    let complete = v1::CompleteTaskRequest {
        task_id: closed.clone(),
        outcome: v1::CompleteOutcome::Closed.into(),
        ..Default::default()
    };
    client.complete_task(complete).await.unwrap();
    Tasks {
        open,
        waiting,
        held,
        closed,
        agent,
    }
}

async fn world(baton: &Baton) -> (World, Secret) {
    let client = baton.client();
    let cwd = baton.project().to_string_lossy().into_owned();
    let ended = client
        .create_session(v1::CreateSessionRequest {
            harness: "command".to_owned(),
            cwd: cwd.clone(),
            argv: vec!["true".to_owned()],
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    let idle = baton.session("demo", "run: touch first").await;
    let prompt = eventually("a prompt", || async { baton.pending(&idle.id).await.pop() }).await;
    let answer = v1::AnswerPromptRequest {
        prompt_id: prompt.id.clone(),
        answer: Some(allow()),
        ..Default::default()
    };
    client.answer_prompt(answer).await.unwrap();
    let asking = baton.session("demo", "run: touch second").await;
    let waiting = eventually("a prompt", || async {
        baton.pending(&asking.id).await.pop()
    })
    .await;
    let queued = client
        .send_input(v1::SendInputRequest {
            session_id: asking.id.clone(),
            text: "say: later".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .input
        .unwrap();
    baton
        .wait_for(&idle.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    baton
        .wait_for(&ended.id, "the command ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    let applied = client
        .list_inputs(v1::ListInputsRequest {
            session_id: idle.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .inputs
        .remove(0);
    let closed = baton.terminal(Some("true")).await;
    eventually("its program ends", || async {
        let ended = baton.shown(&closed).await.session.unwrap().ended_at;
        ended.map(|_| ())
    })
    .await;
    let terminal = baton.terminal(Some("sleep 1000000")).await;
    baton.terminal_runs(&terminal).await;
    let rule = client
        .create_prompt_rule(v1::CreatePromptRuleRequest {
            pattern: "Bash(never-called:*)".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .rule
        .unwrap();
    let token = client
        .create_token(v1::CreateTokenRequest {
            name: "spare".to_owned(),
            scope: v1::TokenScope::Viewer.into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .token
        .unwrap();
    let agent = make_agent(&client, "idle", &cwd).await;
    let running_agent = make_agent(&client, "running", &cwd).await;
    let request = v1::StartAgentRequest {
        agent_id: running_agent.clone(),
        ..Default::default()
    };
    let agent_session = client.start_agent(request).await.unwrap();
    let agent_session = agent_session.session.unwrap().id;
    let budget = client.set_budget(set_budget(1 << 50)).await.unwrap();
    let budget = budget.budget.unwrap().id;
    baton
        .wait_for(&agent_session, "the agent runs", |body| {
            matches!(body, EventBody::Started { .. })
        })
        .await;
    let join = client
        .create_join_token(v1::CreateJoinTokenRequest::default())
        .await
        .unwrap();
    let request = link_v1::EnrollRequest {
        name: "offline".to_owned(),
        hostname: "offline".to_owned(),
        nonce: vec![7; 16].into(),
    };
    let enrolled = call(
        baton,
        "/baton.link.v1.LinkService/Enroll",
        &Secret::new(join.secret),
        request.encode_to_vec().into(),
        false,
    )
    .await
    .unwrap()
    .unwrap();
    let enrolled = link_v1::EnrollResponse::decode(enrolled).unwrap();
    let repository = repository(&baton.project().join("repository"));
    let worktree = client
        .create_worktree(v1::CreateWorktreeRequest {
            repository: repository.to_string_lossy().into_owned(),
            agent_name: "alice".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .worktree
        .unwrap();
    let world = World {
        cwd,
        ended: ended.id,
        daemon: idle.daemon_id,
        idle: idle.id,
        asking: asking.id,
        prompt: waiting.id,
        answered: prompt.id,
        applied: applied.id,
        queued: queued.id,
        offline: enrolled.daemon_id,
        token: token.id,
        rule: rule.id,
        terminal,
        closed,
        agent,
        running_agent,
        agent_session,
        budget,
        tasks: tasks(baton).await,
        repository: repository.to_string_lossy().into_owned(),
        worktree: worktree.id,
    };
    (world, Secret::new(enrolled.credential))
}

fn agent_settings(name: &str, cwd: &str) -> v1::AgentSettings {
    v1::AgentSettings {
        name: name.to_owned(),
        role: v1::AgentRole::Worker.into(),
        harness: "demo".to_owned(),
        directory: cwd.to_owned(),
        ..Default::default()
    }
}

async fn make_agent(client: &baton::client::Client, name: &str, cwd: &str) -> String {
    let request = v1::CreateAgentRequest {
        request_id: String::new(),
        settings: Some(agent_settings(name, cwd)),
    };
    let made = client.create_agent(request).await.unwrap();
    made.agent.unwrap().id
}

/// Of everything, by the day.
fn set_budget(cost_micro_usd: u64) -> v1::SetBudgetRequest {
    v1::SetBudgetRequest {
        scope: Some(v1::BudgetScope {
            of: Some(v1::budget_scope::Of::Everything(true)),
        }),
        period: v1::BudgetPeriod::Day.into(),
        hard: Some(v1::Allowance {
            cost_micro_usd,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn allow() -> v1::answer_prompt_request::Answer {
    v1::answer_prompt_request::Answer::Decision(v1::Decision {
        allow: true,
        ..Default::default()
    })
}

const GONE: &[Code] = &[Code::NotFound, Code::NoSession, Code::NoDaemon];
const STATE: &[Code] = &[Code::InvalidState];
const NO_RESUME: &[Code] = &[Code::NoResumableSession];

#[allow(clippy::too_many_lines)]
fn table(world: &World) -> BTreeMap<&'static str, Entry> {
    use Kinds::{Malformed, Missing, Oversize};
    let now = SystemClock.now();
    let session = |id: &String| id.clone();
    let watch = |scopes: Vec<v1::Scope>| v1::WatchRequest {
        scopes,
        ..Default::default()
    };
    let scope = |id: &str| v1::Scope {
        scope: Some(v1::scope::Scope::Session(v1::SessionScope {
            session_id: id.to_owned(),
            ..Default::default()
        })),
    };
    let create = v1::CreateSessionRequest {
        harness: "demo".to_owned(),
        input: "say: must not be".to_owned(),
        cwd: world.cwd.clone(),
        ..Default::default()
    };
    let create_agent = v1::CreateAgentRequest {
        request_id: String::new(),
        settings: Some(agent_settings("must not be", &world.cwd)),
    };
    let with_settings = |change: fn(&mut v1::AgentSettings)| {
        let mut request = create_agent.clone();
        change(request.settings.get_or_insert_default());
        request
    };
    let update_agent = v1::UpdateAgentRequest {
        agent_id: world.agent.clone(),
        settings: Some(agent_settings("must not be", &world.cwd)),
        ..Default::default()
    };
    let input = v1::UpdateInputRequest {
        session_id: session(&world.asking),
        input_id: world.queued.clone(),
        text: "say: changed".to_owned(),
        ..Default::default()
    };
    let answer = v1::AnswerPromptRequest {
        prompt_id: world.prompt.clone(),
        answer: Some(allow()),
        ..Default::default()
    };
    let answers = |answers| v1::AnswerPromptRequest {
        answer: Some(v1::answer_prompt_request::Answer::Answers(
            v1::QuestionAnswers { answers },
        )),
        ..answer.clone()
    };
    let rule = v1::CreatePromptRuleRequest {
        pattern: "Bash(ls:*)".to_owned(),
        ..Default::default()
    };
    let events = v1::ListEventsRequest {
        session_id: session(&world.idle),
        ..Default::default()
    };
    let content = v1::GetContentRequest {
        session_id: session(&world.idle),
        sha256: "0".repeat(64),
        offset: 0,
    };
    let worktree = v1::CreateWorktreeRequest {
        daemon_id: world.daemon.clone(),
        repository: world.repository.clone(),
        agent_name: "alice".to_owned(),
        task: "never".to_owned(),
        ..Default::default()
    };
    let merge = v1::MergeWorktreeRequest {
        worktree_id: world.worktree.clone(),
        ..Default::default()
    };
    let delete = v1::DeleteWorktreeRequest {
        worktree_id: world.worktree.clone(),
        force: true,
        ..Default::default()
    };
    let recover = v1::RecoverWorktreeRequest {
        daemon_id: world.daemon.clone(),
        repository: world.repository.clone(),
        recover_ref: format!("refs/baton/recover/{}/20260101000000", world.worktree),
        ..Default::default()
    };
    let directory = v1::ListDirectoryRequest {
        daemon_id: world.daemon.clone(),
        path: world.cwd.clone(),
        ..Default::default()
    };
    BTreeMap::from([
        (
            "baton.v1.SessionService/CreateSession",
            entry(&create, &["harness"])
                .extra(
                    Missing,
                    "a command without a program",
                    &v1::CreateSessionRequest {
                        harness: "command".to_owned(),
                        ..create.clone()
                    },
                    "argv",
                )
                .extra(
                    Malformed,
                    "NUL in the input",
                    &v1::CreateSessionRequest {
                        input: "a\0b".to_owned(),
                        ..create.clone()
                    },
                    "input",
                )
                .extra(
                    Malformed,
                    "a relative directory",
                    &v1::CreateSessionRequest {
                        cwd: "a/b".to_owned(),
                        ..create.clone()
                    },
                    "cwd",
                )
                .extra(
                    Malformed,
                    "a directory with ..",
                    &v1::CreateSessionRequest {
                        cwd: format!("{}/../..", world.cwd),
                        ..create.clone()
                    },
                    "cwd",
                )
                .extra(
                    Malformed,
                    "a value for a variable",
                    &v1::CreateSessionRequest {
                        env_names: vec!["A=B".to_owned()],
                        ..create.clone()
                    },
                    "env_names",
                )
                .extra(
                    Malformed,
                    "a title that hides",
                    &v1::CreateSessionRequest {
                        title: "a\u{202e}b\u{1b}[31m".to_owned(),
                        ..create.clone()
                    },
                    "title",
                )
                .extra(
                    Malformed,
                    "a model like an option",
                    &v1::CreateSessionRequest {
                        model: "--dangerous".to_owned(),
                        ..create.clone()
                    },
                    "model",
                )
                .state(
                    "on a daemon that is not there",
                    &v1::CreateSessionRequest {
                        daemon_id: DaemonId::generate(now).to_string(),
                        ..create.clone()
                    },
                    GONE,
                )
                .state(
                    "on a daemon that is not linked",
                    &v1::CreateSessionRequest {
                        daemon_id: world.offline.clone(),
                        ..create.clone()
                    },
                    &[Code::DaemonDisconnected, Code::NoDaemon],
                )
                .state(
                    "with labels that no daemon has",
                    &v1::CreateSessionRequest {
                        selector: [("no".to_owned(), "such".to_owned())].into(),
                        ..create.clone()
                    },
                    &[Code::NoDaemon],
                )
                .state(
                    "outside of the roots",
                    &v1::CreateSessionRequest {
                        cwd: "/etc".to_owned(),
                        ..create.clone()
                    },
                    &[Code::Forbidden, Code::NoDaemon, Code::InvalidInput],
                )
                .state(
                    "with a harness that is not there",
                    &v1::CreateSessionRequest {
                        harness: "nope".to_owned(),
                        ..create.clone()
                    },
                    &[Code::HarnessUnavailable, Code::NoDaemon],
                )
                .state(
                    "on a terminal",
                    &v1::CreateSessionRequest {
                        mode: v1::SessionMode::Interactive.into(),
                        input: String::new(),
                        daemon_id: world.daemon.clone(),
                        ..create
                    },
                    &[Code::NotInteractive],
                ),
        ),
        (
            "baton.v1.SessionService/GetSession",
            entry(
                &v1::GetSessionRequest {
                    session_id: session(&world.idle),
                },
                &["session_id"],
            ),
        ),
        (
            "baton.v1.SessionService/ListSessions",
            entry(&v1::ListSessionsRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.SessionService/SendInput",
            entry(
                &v1::SendInputRequest {
                    session_id: session(&world.asking),
                    text: "say: no".to_owned(),
                    ..Default::default()
                },
                &["session_id", "text"],
            )
            .state(
                "to an ended session",
                &v1::SendInputRequest {
                    session_id: session(&world.ended),
                    text: "say: no".to_owned(),
                    ..Default::default()
                },
                &[Code::InvalidState, Code::NotInteractive],
            ),
        ),
        (
            "baton.v1.SessionService/InterruptTurn",
            entry(
                &v1::InterruptTurnRequest {
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                &["session_id"],
            )
            .state(
                "ended",
                &v1::InterruptTurnRequest {
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                STATE,
            ),
        ),
        (
            "baton.v1.SessionService/SuspendSession",
            entry(
                &v1::SuspendSessionRequest {
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                &["session_id"],
            )
            .state(
                "ended",
                &v1::SuspendSessionRequest {
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                STATE,
            ),
        ),
        (
            "baton.v1.SessionService/ResumeSession",
            entry(
                &v1::ResumeSessionRequest {
                    session_id: session(&world.idle),
                    ..Default::default()
                },
                &["session_id"],
            )
            .state(
                "running",
                &v1::ResumeSessionRequest {
                    session_id: session(&world.idle),
                    ..Default::default()
                },
                &[
                    Code::InvalidState,
                    Code::SessionExists,
                    Code::NoResumableSession,
                ],
            )
            .state(
                "a command",
                &v1::ResumeSessionRequest {
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                NO_RESUME,
            ),
        ),
        (
            "baton.v1.SessionService/ForkSession",
            entry(
                &v1::ForkSessionRequest {
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                &["session_id"],
            )
            .state(
                "a command",
                &v1::ForkSessionRequest {
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                NO_RESUME,
            ),
        ),
        (
            "baton.v1.SessionService/ListInputs",
            entry(
                &v1::ListInputsRequest {
                    session_id: session(&world.idle),
                    ..Default::default()
                },
                &["session_id"],
            ),
        ),
        (
            "baton.v1.SessionService/UpdateInput",
            entry(&input, &["session_id", "input_id", "text"])
                .extra(
                    Malformed,
                    "an etag",
                    &v1::UpdateInputRequest {
                        etag: "\u{1}x".to_owned(),
                        ..input.clone()
                    },
                    "etag",
                )
                .state(
                    "changed meanwhile",
                    &v1::UpdateInputRequest {
                        etag: "1".to_owned(),
                        ..input.clone()
                    },
                    &[Code::Stale],
                )
                .state(
                    "applied",
                    &v1::UpdateInputRequest {
                        session_id: session(&world.idle),
                        input_id: world.applied.clone(),
                        ..input.clone()
                    },
                    STATE,
                )
                .state(
                    "of another session",
                    &v1::UpdateInputRequest {
                        session_id: session(&world.idle),
                        ..input
                    },
                    GONE,
                ),
        ),
        (
            "baton.v1.SessionService/MoveInput",
            entry(
                &v1::MoveInputRequest {
                    session_id: session(&world.asking),
                    input_id: world.queued.clone(),
                    position: 1,
                },
                &["session_id", "input_id", "position"],
            )
            .state(
                "applied",
                &v1::MoveInputRequest {
                    session_id: session(&world.idle),
                    input_id: world.applied.clone(),
                    position: 1,
                },
                STATE,
            ),
        ),
        (
            "baton.v1.SessionService/WithdrawInput",
            entry(
                &v1::WithdrawInputRequest {
                    session_id: session(&world.asking),
                    input_id: world.queued.clone(),
                },
                &["session_id", "input_id"],
            )
            .state(
                "applied",
                &v1::WithdrawInputRequest {
                    session_id: session(&world.idle),
                    input_id: world.applied.clone(),
                },
                STATE,
            ),
        ),
        (
            "baton.v1.SessionService/EndSession",
            entry(
                &v1::EndSessionRequest {
                    session_id: session(&world.idle),
                    ..Default::default()
                },
                &["session_id"],
            ),
        ),
        (
            "baton.v1.SessionService/SetSessionOptions",
            entry(
                &v1::SetSessionOptionsRequest {
                    session_id: session(&world.idle),
                    permission_mode: v1::PermissionMode::Ask.into(),
                    ..Default::default()
                },
                &["session_id", "permission_mode"],
            )
            .extra(
                Malformed,
                "a model like an option",
                &v1::SetSessionOptionsRequest {
                    session_id: session(&world.idle),
                    model: Some("--dangerous".to_owned()),
                    ..Default::default()
                },
                "model",
            )
            .state(
                "ended",
                &v1::SetSessionOptionsRequest {
                    session_id: session(&world.ended),
                    permission_mode: v1::PermissionMode::Ask.into(),
                    ..Default::default()
                },
                STATE,
            ),
        ),
        (
            "baton.v1.SessionService/DeleteSession",
            entry(
                &v1::DeleteSessionRequest {
                    session_id: session(&world.idle),
                },
                &["session_id"],
            )
            .state(
                "living",
                &v1::DeleteSessionRequest {
                    session_id: session(&world.idle),
                },
                STATE,
            ),
        ),
        (
            "baton.v1.EventService/ListEvents",
            entry(&events, &["session_id"]).state(
                "of another log",
                &v1::ListEventsRequest {
                    log_epoch: 999_999,
                    ..events.clone()
                },
                &[Code::OutOfRange],
            ),
        ),
        (
            "baton.v1.EventService/Watch",
            entry(&watch(vec![scope(&world.idle)]), &["scopes"])
                .extra(
                    Missing,
                    "a scope of nothing",
                    &watch(vec![v1::Scope::default()]),
                    "scopes[0]",
                )
                .extra(Missing, "no id", &watch(vec![scope("")]), "scopes[0]")
                .extra(
                    Malformed,
                    "a junk id",
                    &watch(vec![scope(&world.idle), scope("x\u{1}")]),
                    "scopes[1]",
                )
                .extra(
                    Malformed,
                    "an id of 5,000",
                    &watch(vec![scope(&"s".repeat(5_000))]),
                    "scopes[0]",
                )
                .extra(
                    Oversize,
                    "101 scopes",
                    &watch(vec![scope(&world.idle); 101]),
                    "scopes",
                )
                .state(
                    "of no session",
                    &watch(vec![scope(&SessionId::generate(now).to_string())]),
                    GONE,
                ),
        ),
        (
            "baton.v1.EventService/SearchEvents",
            entry(
                &v1::SearchEventsRequest {
                    query: "word".to_owned(),
                    ..Default::default()
                },
                &["query"],
            )
            .extra(
                Malformed,
                "an open quote",
                &v1::SearchEventsRequest {
                    query: "\"a".to_owned(),
                    ..Default::default()
                },
                "query",
            )
            .extra(
                Malformed,
                "NUL",
                &v1::SearchEventsRequest {
                    query: "a\0".to_owned(),
                    ..Default::default()
                },
                "query",
            )
            .stateless(),
        ),
        (
            "baton.v1.EventService/GetContent",
            entry(&content, &["session_id", "sha256"])
                .extra(
                    Malformed,
                    "not a digest",
                    &v1::GetContentRequest {
                        sha256: "../../etc/passwd".to_owned(),
                        ..content.clone()
                    },
                    "sha256",
                )
                .state("content of nobody", &content, GONE),
        ),
        (
            "baton.v1.PromptService/GetPrompt",
            entry(
                &v1::GetPromptRequest {
                    prompt_id: world.prompt.clone(),
                },
                &["prompt_id"],
            ),
        ),
        (
            "baton.v1.PromptService/ListPrompts",
            entry(&v1::ListPromptsRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.PromptService/AnswerPrompt",
            entry(&answer, &["prompt_id", "answer"])
                .extra(
                    Malformed,
                    "not JSON",
                    &v1::AnswerPromptRequest {
                        answer: Some(v1::answer_prompt_request::Answer::Decision(v1::Decision {
                            allow: true,
                            updated_input: Some(v1::Json {
                                text: "{".to_owned(),
                            }),
                            ..Default::default()
                        })),
                        ..answer.clone()
                    },
                    "decision.updated_input",
                )
                .extra(
                    Malformed,
                    "no object",
                    &v1::AnswerPromptRequest {
                        answer: Some(v1::answer_prompt_request::Answer::Decision(v1::Decision {
                            allow: true,
                            updated_input: Some(v1::Json {
                                text: "7".to_owned(),
                            }),
                            ..Default::default()
                        })),
                        ..answer.clone()
                    },
                    "decision.updated_input",
                )
                .extra(Missing, "no answers", &answers(vec![]), "decision")
                .extra(
                    Malformed,
                    "answers to a permission",
                    &answers(vec![v1::QuestionAnswer {
                        question: "?".to_owned(),
                        text: "x".to_owned(),
                        ..Default::default()
                    }]),
                    "decision",
                )
                .extra(
                    Oversize,
                    "an answer of 2 MiB",
                    &answers(vec![v1::QuestionAnswer {
                        question: "?".to_owned(),
                        text: "x".repeat(BIG),
                        ..Default::default()
                    }]),
                    "decision",
                )
                .state(
                    "answered",
                    &v1::AnswerPromptRequest {
                        prompt_id: world.answered.clone(),
                        ..answer.clone()
                    },
                    &[Code::PromptAnswered],
                )
                .extra(
                    Malformed,
                    "of another session",
                    &v1::AnswerPromptRequest {
                        session_id: session(&world.idle),
                        ..answer
                    },
                    "session_id",
                ),
        ),
        (
            "baton.v1.PromptService/ListPromptRules",
            entry(&v1::ListPromptRulesRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.PromptService/CreatePromptRule",
            entry(&rule, &["pattern"])
                .extra(
                    Malformed,
                    "a pattern",
                    &v1::CreatePromptRuleRequest {
                        pattern: "Bash(".to_owned(),
                        ..rule.clone()
                    },
                    "pattern",
                )
                .extra(
                    Malformed,
                    "a relative directory",
                    &v1::CreatePromptRuleRequest {
                        directory: "a".to_owned(),
                        ..rule.clone()
                    },
                    "directory",
                )
                .state(
                    "for no session",
                    &v1::CreatePromptRuleRequest {
                        session_id: SessionId::generate(now).to_string(),
                        ..rule
                    },
                    GONE,
                ),
        ),
        (
            "baton.v1.PromptService/DeletePromptRule",
            entry(
                &v1::DeletePromptRuleRequest {
                    rule_id: world.rule.clone(),
                },
                &["rule_id"],
            ),
        ),
        (
            "baton.v1.BudgetService/SetBudget",
            entry(&set_budget(5), &["scope"])
                .extra(
                    Malformed,
                    "of everything, and not",
                    &v1::SetBudgetRequest {
                        scope: Some(v1::BudgetScope {
                            of: Some(v1::budget_scope::Of::Everything(false)),
                        }),
                        ..set_budget(5)
                    },
                    "scope.everything",
                )
                .extra(
                    Malformed,
                    "a soft limit above the hard one",
                    &v1::SetBudgetRequest {
                        soft: Some(v1::Allowance {
                            cost_micro_usd: 6,
                            ..Default::default()
                        }),
                        ..set_budget(5)
                    },
                    "soft.cost_micro_usd",
                )
                .state(
                    "with an old etag",
                    &v1::SetBudgetRequest {
                        etag: "1".to_owned(),
                        ..set_budget(5)
                    },
                    &[Code::Stale],
                )
                .state(
                    "of an agent that is none",
                    &v1::SetBudgetRequest {
                        scope: Some(v1::BudgetScope {
                            of: Some(v1::budget_scope::Of::AgentId(unknown("agent_id"))),
                        }),
                        ..set_budget(5)
                    },
                    GONE,
                ),
        ),
        (
            "baton.v1.BudgetService/GetBudget",
            entry(
                &v1::GetBudgetRequest {
                    budget_id: world.budget.clone(),
                },
                &["budget_id"],
            ),
        ),
        (
            "baton.v1.BudgetService/ListBudgets",
            entry(&v1::ListBudgetsRequest::default(), &[]).state(
                "of no session",
                &v1::ListBudgetsRequest {
                    session_id: unknown("session_id"),
                    ..Default::default()
                },
                GONE,
            ),
        ),
        (
            "baton.v1.BudgetService/GetUsage",
            entry(&v1::GetUsageRequest::default(), &[])
                .extra(
                    Malformed,
                    "no day",
                    &v1::GetUsageRequest {
                        from_day: "2026-02-30".to_owned(),
                        ..Default::default()
                    },
                    "from_day",
                )
                .extra(
                    Malformed,
                    "a page of another list",
                    &v1::GetUsageRequest {
                        page_token: "c2VzXzE".to_owned(),
                        ..Default::default()
                    },
                    "page_token",
                )
                .stateless(),
        ),
        (
            "baton.v1.AgentService/CreateAgent",
            entry(&create_agent, &["settings"])
                .extra(
                    Malformed,
                    "a name that looks like an option",
                    &with_settings(|settings| settings.name = "-evil".to_owned()),
                    "settings.name",
                )
                .extra(
                    Malformed,
                    "no role",
                    &with_settings(|settings| settings.role = 0),
                    "settings.role",
                )
                .extra(
                    Malformed,
                    "a steward's focus for a worker",
                    &with_settings(|settings| settings.focus = 1),
                    "settings.focus",
                )
                .state(
                    "a name that is taken",
                    &with_settings(|settings| settings.name = "IDLE".to_owned()),
                    &[Code::AlreadyExists],
                ),
        ),
        (
            "baton.v1.AgentService/GetAgent",
            entry(
                &v1::GetAgentRequest {
                    agent_id: world.agent.clone(),
                },
                &["agent_id"],
            ),
        ),
        (
            "baton.v1.AgentService/ListAgents",
            entry(&v1::ListAgentsRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.AgentService/UpdateAgent",
            entry(&update_agent, &["agent_id", "settings"])
                .extra(
                    Malformed,
                    "a mask with a field that is none",
                    &v1::UpdateAgentRequest {
                        update_mask: Some(prost_types::FieldMask {
                            paths: vec!["nonsense".to_owned()],
                        }),
                        ..update_agent.clone()
                    },
                    "update_mask",
                )
                .state(
                    "with an old etag",
                    &v1::UpdateAgentRequest {
                        etag: "1".to_owned(),
                        ..update_agent.clone()
                    },
                    &[Code::Stale],
                ),
        ),
        (
            "baton.v1.AgentService/DeleteAgent",
            entry(
                &v1::DeleteAgentRequest {
                    agent_id: world.running_agent.clone(),
                    ..Default::default()
                },
                &["agent_id"],
            )
            .state(
                "that runs",
                &v1::DeleteAgentRequest {
                    agent_id: world.running_agent.clone(),
                    ..Default::default()
                },
                STATE,
            ),
        ),
        (
            "baton.v1.AgentService/StartAgent",
            entry(
                &v1::StartAgentRequest {
                    agent_id: world.running_agent.clone(),
                    ..Default::default()
                },
                &["agent_id"],
            )
            .state(
                "that runs",
                &v1::StartAgentRequest {
                    agent_id: world.running_agent.clone(),
                    ..Default::default()
                },
                &[Code::SessionExists],
            ),
        ),
        (
            "baton.v1.AgentService/StopAgent",
            entry(
                &v1::StopAgentRequest {
                    agent_id: world.agent.clone(),
                    ..Default::default()
                },
                &["agent_id"],
            ),
        ),
        (
            "baton.v1.AgentService/ResumeAgent",
            entry(
                &v1::ResumeAgentRequest {
                    agent_id: world.agent.clone(),
                    ..Default::default()
                },
                &["agent_id"],
            )
            .extra(
                Malformed,
                "two names of a conversation",
                &v1::ResumeAgentRequest {
                    agent_id: world.agent.clone(),
                    session_id: session(&world.agent_session),
                    provider_session_id: "x".to_owned(),
                    ..Default::default()
                },
                "provider_session_id",
            )
            .state(
                "that never ran",
                &v1::ResumeAgentRequest {
                    agent_id: world.agent.clone(),
                    ..Default::default()
                },
                NO_RESUME,
            )
            .state(
                "a session of another",
                &v1::ResumeAgentRequest {
                    agent_id: world.agent.clone(),
                    session_id: session(&world.ended),
                    ..Default::default()
                },
                NO_RESUME,
            ),
        ),
        (
            "baton.v1.AgentService/GetAgentStatus",
            entry(
                &v1::GetAgentStatusRequest {
                    agent_id: world.agent.clone(),
                    history: 0,
                },
                &["agent_id"],
            )
            .extra(
                Oversize,
                "more history than there is to ask for",
                &v1::GetAgentStatusRequest {
                    agent_id: world.agent.clone(),
                    history: 101,
                },
                "history",
            ),
        ),
        (
            "baton.v1.DaemonService/GetDaemon",
            entry(
                &v1::GetDaemonRequest {
                    daemon_id: world.daemon.clone(),
                },
                &["daemon_id"],
            ),
        ),
        (
            "baton.v1.DaemonService/ListDaemons",
            entry(&v1::ListDaemonsRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.DaemonService/DrainDaemon",
            entry(
                &v1::DrainDaemonRequest {
                    daemon_id: world.daemon.clone(),
                    undo: true,
                },
                &["daemon_id"],
            ),
        ),
        (
            "baton.v1.DaemonService/RemoveDaemon",
            entry(
                &v1::RemoveDaemonRequest {
                    daemon_id: world.daemon.clone(),
                    force: false,
                },
                &["daemon_id"],
            )
            .state(
                "with living sessions",
                &v1::RemoveDaemonRequest {
                    daemon_id: world.daemon.clone(),
                    force: false,
                },
                STATE,
            ),
        ),
        (
            "baton.v1.DaemonService/ListDirectory",
            entry(&directory, &["daemon_id"])
                .extra(
                    Malformed,
                    "a relative path",
                    &v1::ListDirectoryRequest {
                        path: "a".to_owned(),
                        ..directory.clone()
                    },
                    "path",
                )
                .state(
                    "a path with ..",
                    &v1::ListDirectoryRequest {
                        path: format!("{}/..", world.cwd),
                        ..directory.clone()
                    },
                    &[Code::Forbidden, Code::InvalidInput],
                )
                .state(
                    "outside of the roots",
                    &v1::ListDirectoryRequest {
                        path: "/etc".to_owned(),
                        ..directory.clone()
                    },
                    &[Code::Forbidden, Code::InvalidInput, Code::NotFound],
                )
                .state(
                    "not there",
                    &v1::ListDirectoryRequest {
                        path: format!("{}/nope", world.cwd),
                        ..directory.clone()
                    },
                    &[Code::Forbidden, Code::NotFound],
                )
                .state(
                    "not linked",
                    &v1::ListDirectoryRequest {
                        daemon_id: world.offline.clone(),
                        ..directory
                    },
                    &[Code::DaemonDisconnected],
                ),
        ),
        (
            "baton.v1.WorktreeService/CreateWorktree",
            entry(&worktree, &["repository", "agent_name"])
                .extra(
                    Malformed,
                    "an agent that is an option",
                    &v1::CreateWorktreeRequest {
                        agent_name: "-evil".to_owned(),
                        ..worktree.clone()
                    },
                    "agent_name",
                )
                .extra(
                    Malformed,
                    "a branch that is an expression",
                    &v1::CreateWorktreeRequest {
                        branch: "a@{1}".to_owned(),
                        ..worktree.clone()
                    },
                    "branch",
                )
                .extra(
                    Malformed,
                    "a directory that leads upwards",
                    &v1::CreateWorktreeRequest {
                        directory: "..".to_owned(),
                        ..worktree.clone()
                    },
                    "directory",
                )
                .extra(
                    Malformed,
                    "a copied file from elsewhere",
                    &v1::CreateWorktreeRequest {
                        copy_files: vec!["../x".to_owned()],
                        ..worktree.clone()
                    },
                    "copy_files[0]",
                )
                .state(
                    "no repository",
                    &v1::CreateWorktreeRequest {
                        repository: world.cwd.clone(),
                        ..worktree.clone()
                    },
                    &[Code::WorktreesDisabled],
                )
                .state(
                    "outside of the roots",
                    &v1::CreateWorktreeRequest {
                        repository: "/etc".to_owned(),
                        ..worktree.clone()
                    },
                    &[Code::Forbidden],
                )
                .state(
                    "not linked",
                    &v1::CreateWorktreeRequest {
                        daemon_id: world.offline.clone(),
                        ..worktree.clone()
                    },
                    &[Code::DaemonDisconnected],
                ),
        ),
        (
            "baton.v1.WorktreeService/GetWorktree",
            entry(
                &v1::GetWorktreeRequest {
                    worktree_id: world.worktree.clone(),
                },
                &["worktree_id"],
            ),
        ),
        (
            "baton.v1.WorktreeService/ListWorktrees",
            entry(&v1::ListWorktreesRequest::default(), &[])
                .extra(
                    Malformed,
                    "a relative path",
                    &v1::ListWorktreesRequest {
                        repository: "a".to_owned(),
                        ..Default::default()
                    },
                    "repository",
                )
                .stateless(),
        ),
        (
            "baton.v1.WorktreeService/MergeWorktree",
            entry(&merge, &["worktree_id"])
                .extra(
                    Malformed,
                    "a target that is an expression",
                    &v1::MergeWorktreeRequest {
                        target: "main^".to_owned(),
                        ..merge.clone()
                    },
                    "target",
                )
                .state(
                    "another etag",
                    &v1::MergeWorktreeRequest {
                        etag: "1".to_owned(),
                        ..merge
                    },
                    &[Code::Stale],
                ),
        ),
        (
            "baton.v1.WorktreeService/DeleteWorktree",
            entry(&delete, &["worktree_id"]).state(
                "another etag",
                &v1::DeleteWorktreeRequest {
                    etag: "1".to_owned(),
                    ..delete.clone()
                },
                &[Code::Stale],
            ),
        ),
        (
            "baton.v1.WorktreeService/GetWorktreeDiff",
            entry(
                &v1::GetWorktreeDiffRequest {
                    worktree_id: world.worktree.clone(),
                    max_bytes: 0,
                },
                &["worktree_id"],
            )
            .extra(
                Oversize,
                "more than 1 MiB",
                &v1::GetWorktreeDiffRequest {
                    worktree_id: world.worktree.clone(),
                    max_bytes: (1 << 20) + 1,
                },
                "max_bytes",
            ),
        ),
        (
            "baton.v1.WorktreeService/PruneWorktrees",
            entry(
                &v1::PruneWorktreesRequest {
                    daemon_id: world.daemon.clone(),
                    dry_run: true,
                    ..Default::default()
                },
                &[],
            )
            .state(
                "not linked",
                &v1::PruneWorktreesRequest {
                    daemon_id: world.offline.clone(),
                    dry_run: true,
                    ..Default::default()
                },
                &[Code::DaemonDisconnected],
            ),
        ),
        (
            "baton.v1.WorktreeService/ListRecoverable",
            entry(
                &v1::ListRecoverableRequest {
                    daemon_id: world.daemon.clone(),
                    repository: world.repository.clone(),
                },
                &["repository"],
            )
            .state(
                "no repository",
                &v1::ListRecoverableRequest {
                    daemon_id: world.daemon.clone(),
                    repository: world.cwd.clone(),
                },
                &[Code::WorktreesDisabled],
            ),
        ),
        (
            "baton.v1.WorktreeService/RecoverWorktree",
            entry(&recover, &["repository", "recover_ref"])
                .extra(
                    Malformed,
                    "another ref",
                    &v1::RecoverWorktreeRequest {
                        recover_ref: "refs/heads/main".to_owned(),
                        ..recover.clone()
                    },
                    "recover_ref",
                )
                .state("no such snapshot", &recover, &[Code::NotFound]),
        ),
        (
            "baton.v1.AccessService/CreateToken",
            entry(
                &v1::CreateTokenRequest {
                    scope: v1::TokenScope::Viewer.into(),
                    name: "n".to_owned(),
                    ..Default::default()
                },
                &["scope"],
            )
            .extra(
                Malformed,
                "a scope that is not given out",
                &v1::CreateTokenRequest {
                    scope: v1::TokenScope::Daemon.into(),
                    name: "n".to_owned(),
                    ..Default::default()
                },
                "scope",
            )
            .extra(
                Malformed,
                "a name of two lines",
                &v1::CreateTokenRequest {
                    scope: v1::TokenScope::Viewer.into(),
                    name: "a\nb".to_owned(),
                    ..Default::default()
                },
                "name",
            )
            .stateless(),
        ),
        (
            "baton.v1.AccessService/ListTokens",
            entry(&v1::ListTokensRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.AccessService/RevokeToken",
            entry(
                &v1::RevokeTokenRequest {
                    token_id: world.token.clone(),
                },
                &["token_id"],
            ),
        ),
        (
            "baton.v1.AccessService/GetCaller",
            entry(&v1::GetCallerRequest {}, &[]).stateless(),
        ),
        (
            "baton.v1.AccessService/CreateJoinToken",
            entry(&v1::CreateJoinTokenRequest::default(), &[])
                .extra(
                    Malformed,
                    "a name of two lines",
                    &v1::CreateJoinTokenRequest {
                        name: "a\nb".to_owned(),
                        ..Default::default()
                    },
                    "name",
                )
                .stateless(),
        ),
        (
            "baton.v1.AccessService/CreateSignInCode",
            entry(&v1::CreateSignInCodeRequest::default(), &[])
                .extra(
                    Malformed,
                    "a daemon's scope",
                    &v1::CreateSignInCodeRequest {
                        scope: v1::TokenScope::Daemon.into(),
                    },
                    "scope",
                )
                .stateless(),
        ),
        (
            "baton.v1.SchedulerService/GetScheduler",
            entry(&v1::GetSchedulerRequest {}, &[]).stateless(),
        ),
        (
            "baton.v1.SchedulerService/PauseScheduler",
            entry(&v1::PauseSchedulerRequest::default(), &[])
                .stateless()
                .extra(
                    Malformed,
                    "too long a reason",
                    &v1::PauseSchedulerRequest {
                        reason: "x".repeat(2_000),
                    },
                    "reason",
                ),
        ),
        (
            "baton.v1.SchedulerService/ResumeScheduler",
            entry(&v1::ResumeSchedulerRequest {}, &[]).stateless(),
        ),
        (
            "baton.v1.SystemService/GetServerInfo",
            entry(&v1::GetServerInfoRequest {}, &[]).stateless(),
        ),
        (
            "baton.v1.SystemService/GetMetrics",
            entry(&v1::GetMetricsRequest {}, &[]).stateless(),
        ),
        (
            "baton.link.v1.LinkService/Enroll",
            entry(
                &link_v1::EnrollRequest {
                    name: "n".to_owned(),
                    hostname: "h".to_owned(),
                    nonce: vec![9; 16].into(),
                },
                &["nonce"],
            )
            .extra(
                Malformed,
                "a name of two lines",
                &link_v1::EnrollRequest {
                    name: "a\nb".to_owned(),
                    hostname: "h".to_owned(),
                    nonce: vec![9; 16].into(),
                },
                "name",
            )
            // A join token that is spent is refused at the door, which tests/it/access.rs proves.
            .stateless(),
        ),
        ("baton.link.v1.LinkService/Connect", link_entry(world)),
        (
            "baton.v1.TerminalService/OpenTerminal",
            entry(
                &v1::OpenTerminalRequest {
                    cwd: world.cwd.clone(),
                    ..Default::default()
                },
                &[],
            )
            .extra(
                Malformed,
                "a size of nothing",
                &v1::OpenTerminalRequest {
                    size: Some(v1::TerminalSize { cols: 80, rows: 0 }),
                    ..Default::default()
                },
                "size",
            )
            .extra(
                Malformed,
                "a program for another harness",
                &v1::OpenTerminalRequest {
                    harness: "claude-code".to_owned(),
                    argv: vec!["sh".to_owned()],
                    ..Default::default()
                },
                "argv",
            )
            .state(
                "a harness without a terminal",
                &v1::OpenTerminalRequest {
                    harness: "demo".to_owned(),
                    daemon_id: world.daemon.clone(),
                    ..Default::default()
                },
                &[Code::NotInteractive],
            ),
        ),
        (
            "baton.v1.TerminalService/GetTerminal",
            entry(
                &v1::GetTerminalRequest {
                    terminal_id: world.terminal.clone(),
                },
                &["terminal_id"],
            )
            .state(
                "of a session without one",
                &v1::GetTerminalRequest {
                    terminal_id: world.idle.clone(),
                },
                GONE,
            ),
        ),
        (
            "baton.v1.TerminalService/ListTerminals",
            entry(&v1::ListTerminalsRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.TerminalService/WriteTerminal",
            entry(
                &v1::WriteTerminalRequest {
                    terminal_id: world.terminal.clone(),
                    data: Bytes::from_static(b"x"),
                    ..Default::default()
                },
                &["terminal_id", "data"],
            )
            .state(
                "ended",
                &v1::WriteTerminalRequest {
                    terminal_id: world.closed.clone(),
                    data: Bytes::from_static(b"x"),
                    ..Default::default()
                },
                STATE,
            ),
        ),
        (
            "baton.v1.TerminalService/ResizeTerminal",
            entry(
                &v1::ResizeTerminalRequest {
                    terminal_id: world.terminal.clone(),
                    size: Some(v1::TerminalSize { cols: 80, rows: 24 }),
                    ..Default::default()
                },
                &["terminal_id"],
            )
            .extra(
                Malformed,
                "a side too long",
                &v1::ResizeTerminalRequest {
                    terminal_id: world.terminal.clone(),
                    size: Some(v1::TerminalSize {
                        cols: 100_000,
                        rows: 24,
                    }),
                    ..Default::default()
                },
                "size",
            )
            .state(
                "ended",
                &v1::ResizeTerminalRequest {
                    terminal_id: world.closed.clone(),
                    size: Some(v1::TerminalSize { cols: 80, rows: 24 }),
                    ..Default::default()
                },
                STATE,
            ),
        ),
        (
            "baton.v1.TerminalService/CloseTerminal",
            entry(
                &v1::CloseTerminalRequest {
                    terminal_id: world.terminal.clone(),
                    ..Default::default()
                },
                &["terminal_id"],
            ),
        ),
        (
            "baton.v1.TerminalService/WatchTerminal",
            entry(
                &v1::WatchTerminalRequest {
                    view: Some(view(&world.terminal)),
                },
                &["view"],
            )
            .extra(
                Malformed,
                "a size of nothing",
                &v1::WatchTerminalRequest {
                    view: Some(v1::TerminalView {
                        size: Some(v1::TerminalSize { cols: 0, rows: 24 }),
                        ..view(&world.terminal)
                    }),
                },
                "view",
            )
            .state(
                "of no terminal",
                &v1::WatchTerminalRequest {
                    view: Some(view(&unknown("terminal_id"))),
                },
                GONE,
            )
            .state(
                "in the future",
                &v1::WatchTerminalRequest {
                    view: Some(v1::TerminalView {
                        offset: 1 << 40,
                        ..view(&world.terminal)
                    }),
                },
                &[Code::OutOfRange],
            ),
        ),
        ("baton.v1.TerminalService/Attach", attach_entry(world)),
    ])
    .into_iter()
    .chain(task_table(&world.tasks))
    .collect()
}

/// The same of tasks.
#[allow(clippy::too_many_lines)]
fn task_table(tasks: &Tasks) -> BTreeMap<&'static str, Entry> {
    use Kinds::{Malformed, Missing, Oversize};
    let create = v1::CreateTaskRequest {
        title: "must not be".to_owned(),
        ..Default::default()
    };
    let attached = |attachment: v1::TaskAttachment, count: usize| v1::CreateTaskRequest {
        attachments: vec![attachment; count],
        ..create.clone()
    };
    let uri = |uri: &str| v1::TaskAttachment {
        name: "x".to_owned(),
        body: Some(v1::task_attachment::Body::Uri(uri.to_owned())),
    };
    let depends = |on: Vec<v1::DependencyTarget>| v1::CreateTaskRequest {
        dependencies: on,
        ..create.clone()
    };
    let update = v1::UpdateTaskRequest {
        task_id: tasks.open.clone(),
        update_mask: Some(prost_types::FieldMask {
            paths: [
                "title",
                "body",
                "type",
                "priority",
                "complexity",
                "status",
                "labels",
                "scheduled_for",
                "required_capabilities",
                "preferred_capabilities",
                "acceptance",
                "attachments",
                "skip_review",
            ]
            .map(str::to_owned)
            .to_vec(),
        }),
        title: "changed".to_owned(),
        ..Default::default()
    };
    let blocks = |id: &str| on_task(v1::DependencyKind::Blocks, id);
    let gate = |gate| v1::DependencyTarget {
        kind: v1::DependencyKind::Awaits.into(),
        on_task_id: String::new(),
        gate: Some(gate),
    };
    let unknown = TaskId::generate(SystemClock.now()).to_string();
    let add = v1::AddDependencyRequest {
        task_id: tasks.open.clone(),
        on: Some(blocks(&tasks.held)),
        ..Default::default()
    };
    let adds = |on| v1::AddDependencyRequest {
        on: Some(on),
        ..add.clone()
    };
    let remove = v1::RemoveDependencyRequest {
        task_id: tasks.waiting.clone(),
        on: Some(blocks(&tasks.held)),
        ..Default::default()
    };
    let agent_id = tasks.agent.clone();
    let assign = v1::AssignTaskRequest {
        task_id: tasks.open.clone(),
        agent_id: agent_id.clone(),
        ..Default::default()
    };
    let hand_off = v1::HandOffTaskRequest {
        task_id: tasks.held.clone(),
        ..Default::default()
    };
    let complete = v1::CompleteTaskRequest {
        task_id: tasks.open.clone(),
        ..Default::default()
    };
    let reopen = v1::ReopenTaskRequest {
        task_id: tasks.closed.clone(),
        ..Default::default()
    };
    let delete = v1::DeleteTaskRequest {
        task_id: tasks.open.clone(),
        ..Default::default()
    };
    const CLOSED_TASK: &[Code] = &[Code::InvalidState];
    const STALE: &[Code] = &[Code::Stale];
    let stale = "1".to_owned();
    BTreeMap::from([
        (
            "baton.v1.TaskService/CreateTask",
            entry(&create, &["title"])
                .extra(
                    Malformed,
                    "a priority of 6",
                    &v1::CreateTaskRequest {
                        priority: 6,
                        ..create.clone()
                    },
                    "priority",
                )
                .extra(
                    Malformed,
                    "a complexity of 300",
                    &v1::CreateTaskRequest {
                        complexity: 300,
                        ..create.clone()
                    },
                    "complexity",
                )
                .extra(
                    Malformed,
                    "in review",
                    &v1::CreateTaskRequest {
                        status: v1::TaskStatus::Review.into(),
                        ..create.clone()
                    },
                    "status",
                )
                .extra(
                    Malformed,
                    "NUL in the body",
                    &v1::CreateTaskRequest {
                        body: "a\0b".to_owned(),
                        ..create.clone()
                    },
                    "body",
                )
                .extra(
                    Malformed,
                    "a relative directory",
                    &v1::CreateTaskRequest {
                        directory: "a/b".to_owned(),
                        ..create.clone()
                    },
                    "directory",
                )
                .extra(
                    Malformed,
                    "an attachment that a browser runs",
                    &attached(uri("javascript:alert(1)"), 1),
                    "attachments",
                )
                .extra(
                    Missing,
                    "an attachment of nothing",
                    &attached(v1::TaskAttachment::default(), 1),
                    "attachments",
                )
                .extra(
                    Oversize,
                    "100 attachments",
                    &attached(uri("https://x"), 100),
                    "attachments",
                )
                .extra(
                    Oversize,
                    "500 dependencies",
                    &depends(vec![blocks(&tasks.open); 500]),
                    "dependencies",
                )
                .extra(
                    Malformed,
                    "a junk dependency",
                    &depends(vec![blocks("x\u{1}")]),
                    "dependencies[0]",
                )
                .extra(
                    Missing,
                    "a dependency of no kind",
                    &depends(vec![v1::DependencyTarget::default()]),
                    "dependencies[0]",
                )
                .state(
                    "after a task that is not there",
                    &depends(vec![blocks(&unknown)]),
                    GONE,
                ),
        ),
        (
            "baton.v1.TaskService/GetTask",
            entry(
                &v1::GetTaskRequest {
                    task_id: tasks.open.clone(),
                },
                &["task_id"],
            ),
        ),
        (
            "baton.v1.TaskService/ListTasks",
            entry(&v1::ListTasksRequest::default(), &[])
                .extra(
                    Malformed,
                    "a priority of 0",
                    &v1::ListTasksRequest {
                        priorities: vec![0],
                        ..Default::default()
                    },
                    "priorities",
                )
                .extra(
                    Oversize,
                    "100 priorities",
                    &v1::ListTasksRequest {
                        priorities: vec![1; 100],
                        ..Default::default()
                    },
                    "priorities",
                )
                .extra(
                    Malformed,
                    "of an agent and of nobody",
                    &v1::ListTasksRequest {
                        agent_id: agent_id.clone(),
                        unassigned: true,
                        ..Default::default()
                    },
                    "unassigned",
                )
                .stateless(),
        ),
        (
            "baton.v1.TaskService/ListReadyTasks",
            entry(&v1::ListReadyTasksRequest::default(), &[]).stateless(),
        ),
        (
            "baton.v1.TaskService/UpdateTask",
            entry(&update, &["task_id", "update_mask"])
                .extra(
                    Malformed,
                    "a field that is not changed so",
                    &v1::UpdateTaskRequest {
                        update_mask: Some(prost_types::FieldMask {
                            paths: vec!["directory".to_owned()],
                        }),
                        ..update.clone()
                    },
                    "update_mask",
                )
                .state(
                    "changed meanwhile",
                    &v1::UpdateTaskRequest {
                        etag: stale.clone(),
                        ..update.clone()
                    },
                    STALE,
                )
                .state(
                    "closed without a verb",
                    &v1::UpdateTaskRequest {
                        status: v1::TaskStatus::Closed.into(),
                        ..update.clone()
                    },
                    CLOSED_TASK,
                ),
        ),
        (
            "baton.v1.TaskService/AddDependency",
            entry(&add, &["task_id", "on"])
                .extra(
                    Missing,
                    "a gate of no kind",
                    &adds(gate(v1::Gate::default())),
                    "on",
                )
                .extra(
                    Missing,
                    "a timer without a time",
                    &adds(gate(v1::Gate {
                        kind: v1::GateKind::Timer.into(),
                        ..Default::default()
                    })),
                    "on",
                )
                .extra(
                    Oversize,
                    "an approval of 2 MiB",
                    &adds(gate(v1::Gate {
                        kind: v1::GateKind::Approval.into(),
                        name: "x".repeat(BIG),
                        until: None,
                    })),
                    "on",
                )
                .state("in a circle", &adds(blocks(&tasks.waiting)), &[Code::Cycle])
                .state("on itself", &adds(blocks(&tasks.open)), &[Code::Cycle])
                .state("on nothing", &adds(blocks(&unknown)), GONE)
                .state(
                    "changed meanwhile",
                    &v1::AddDependencyRequest {
                        etag: stale.clone(),
                        ..add.clone()
                    },
                    STALE,
                ),
        ),
        (
            "baton.v1.TaskService/RemoveDependency",
            entry(&remove, &["task_id", "on"]).state("that is not there", &remove, GONE),
        ),
        (
            "baton.v1.TaskService/AssignTask",
            entry(&assign, &["task_id", "agent_id"])
                .extra(
                    Missing,
                    "to nobody",
                    &v1::AssignTaskRequest {
                        agent_id: String::new(),
                        ..assign.clone()
                    },
                    "agent_id",
                )
                .extra(
                    Malformed,
                    "a branch like an option",
                    &v1::AssignTaskRequest {
                        branch: "-evil".to_owned(),
                        ..assign.clone()
                    },
                    "branch",
                )
                .state(
                    "held",
                    &v1::AssignTaskRequest {
                        task_id: tasks.held.clone(),
                        ..assign.clone()
                    },
                    &[Code::AlreadyExists],
                )
                .state(
                    "closed",
                    &v1::AssignTaskRequest {
                        task_id: tasks.closed.clone(),
                        ..assign
                    },
                    CLOSED_TASK,
                ),
        ),
        (
            "baton.v1.TaskService/DispatchTask",
            entry(
                &v1::DispatchTaskRequest {
                    task_id: tasks.open.clone(),
                    ..Default::default()
                },
                &["task_id"],
            )
            .extra(
                Malformed,
                "a checkout that nobody knows",
                &v1::DispatchTaskRequest {
                    task_id: tasks.open.clone(),
                    checkout: 99,
                    ..Default::default()
                },
                "checkout",
            )
            .state(
                "closed",
                &v1::DispatchTaskRequest {
                    task_id: tasks.closed.clone(),
                    ..Default::default()
                },
                CLOSED_TASK,
            ),
        ),
        (
            "baton.v1.TaskService/HandOffTask",
            entry(&hand_off, &["task_id"]).state(
                "that nobody has",
                &v1::HandOffTaskRequest {
                    task_id: tasks.open.clone(),
                    ..hand_off.clone()
                },
                CLOSED_TASK,
            ),
        ),
        (
            "baton.v1.TaskService/CompleteTask",
            entry(&complete, &["task_id"])
                .state("that nobody began", &complete, CLOSED_TASK)
                .state(
                    "closed",
                    &v1::CompleteTaskRequest {
                        task_id: tasks.closed.clone(),
                        outcome: v1::CompleteOutcome::Closed.into(),
                        ..Default::default()
                    },
                    CLOSED_TASK,
                ),
        ),
        (
            "baton.v1.TaskService/ReopenTask",
            entry(&reopen, &["task_id"])
                .state(
                    "open",
                    &v1::ReopenTaskRequest {
                        task_id: tasks.open.clone(),
                        ..Default::default()
                    },
                    CLOSED_TASK,
                )
                .state(
                    "for an agent that there was not",
                    &v1::ReopenTaskRequest {
                        same_agent: true,
                        ..reopen.clone()
                    },
                    CLOSED_TASK,
                ),
        ),
        (
            "baton.v1.TaskService/DeleteTask",
            entry(&delete, &["task_id"])
                .state("that another waits for", &delete, CLOSED_TASK)
                .state(
                    "changed meanwhile",
                    &v1::DeleteTaskRequest {
                        etag: stale,
                        force: true,
                        ..delete.clone()
                    },
                    STALE,
                ),
        ),
        (
            "baton.v1.TaskService/ExplainTask",
            entry(
                &v1::ExplainTaskRequest {
                    task_id: tasks.open.clone(),
                },
                &["task_id"],
            ),
        ),
    ])
}

fn view(terminal: &str) -> v1::TerminalView {
    v1::TerminalView {
        terminal_id: terminal.to_owned(),
        ..Default::default()
    }
}

/// An attachment: what the first message may not be.
fn attach_entry(world: &World) -> Entry {
    use v1::attach_request::Body;
    let first = |body| v1::AttachRequest { body: Some(body) };
    let open = |view, window_bytes| first(Body::Open(v1::AttachOpen { view, window_bytes }));
    entry(&open(Some(view(&world.terminal)), 0), &[])
        .extra(
            Kinds::Missing,
            "nothing in it",
            &v1::AttachRequest::default(),
            "open",
        )
        .extra(Kinds::Missing, "no view", &open(None, 0), "view")
        .extra(
            Kinds::Malformed,
            "a junk terminal",
            &open(Some(view("x\u{1}")), 0),
            "view",
        )
        .extra(
            Kinds::Oversize,
            "a terminal of 2 MiB",
            &open(Some(view(&"t".repeat(BIG))), 0),
            "view",
        )
        .extra(
            Kinds::Oversize,
            "a window without bound",
            &open(Some(view(&world.terminal)), u32::MAX),
            "open.window_bytes",
        )
        .extra(
            Kinds::Malformed,
            "input first",
            &first(Body::Input(Bytes::from_static(b"x"))),
            "open",
        )
        .state(
            "of no terminal",
            &open(Some(view(&unknown("terminal_id"))), 0),
            GONE,
        )
}

/// The link's stream: what the first message may not be.
fn link_entry(world: &World) -> Entry {
    use link_v1::connect_request::Body;
    let first = |body| link_v1::ConnectRequest { body: Some(body) };
    let hello = |protocol_min, protocol_max, daemon_id: &str| {
        first(Body::Hello(link_v1::Hello {
            attempt: 1,
            protocol_min,
            protocol_max,
            daemon_id: daemon_id.to_owned(),
            boot_generation: 1,
            capabilities: Some(link_v1::Capabilities {
                hostname: "h".to_owned(),
                max_permission_mode: v1::PermissionMode::Ask.into(),
                ..Default::default()
            }),
            sessions: Vec::new(),
        }))
    };
    let mut entry = entry(&hello(1, 1, &world.offline), &[])
        .state(
            "a heartbeat first",
            &first(Body::Heartbeat(link_v1::Heartbeat::default())),
            &[Code::InvalidInput, Code::InvalidState],
        )
        .state(
            "the id of another daemon",
            &hello(1, 1, &world.daemon),
            &[Code::InvalidInput, Code::Forbidden],
        )
        .state(
            "a protocol of the future",
            &hello(900, 901, &world.offline),
            &[Code::InvalidInput, Code::InvalidState, Code::Unavailable],
        );
    for (kind, label, request) in [
        (
            Kinds::Missing,
            "nothing in it",
            link_v1::ConnectRequest::default(),
        ),
        (Kinds::Missing, "no daemon", hello(1, 1, "")),
        (Kinds::Malformed, "a junk daemon", hello(1, 1, "dmn_\u{1}")),
        (
            Kinds::Oversize,
            "a daemon of 2 MiB",
            hello(1, 1, &"d".repeat(BIG)),
        ),
    ] {
        entry.extra.push((kind, label, request.encode_to_vec(), ""));
    }
    entry
}

/// Larger than any field may be, smaller than a message may be.
const BIG: usize = 2 * 1024 * 1024;

/// An id of this field's kind that nothing has.
fn unknown(field: &str) -> String {
    let now = SystemClock.now();
    match field {
        "session_id" => SessionId::generate(now).to_string(),
        "daemon_id" => DaemonId::generate(now).to_string(),
        "input_id" => InputId::generate(now).to_string(),
        "prompt_id" => PromptId::generate(now).to_string(),
        "rule_id" => RuleId::generate(now).to_string(),
        "agent_id" => AgentId::generate(now).to_string(),
        "budget_id" => BudgetId::generate(now).to_string(),
        "token_id" => TokenId::generate(now).to_string(),
        "terminal_id" => TerminalId::generate(now).to_string(),
        "task_id" => TaskId::generate(now).to_string(),
        "worktree_id" => WorktreeId::generate(now).to_string(),
        other => panic!("which kind of id is {other}?"),
    }
}

/// Bad values of a field, each as the value it gets.
fn bad_values(field: &FieldDescriptor) -> Vec<(Kinds, String, Value)> {
    use Kinds::{Malformed, Oversize};
    let text = |text: &str| Value::String(text.to_owned());
    let name = field.name();
    let mut bad = Vec::new();
    let mut add = |kind, label: &str, value| bad.push((kind, format!("{name}: {label}"), value));
    if field.is_map() {
        let one =
            |key: String, value: &str| Value::Map([(MapKey::String(key), text(value))].into());
        add(Malformed, "an empty key", one(String::new(), "v"));
        add(
            Malformed,
            "a control character",
            one("a\u{1}".to_owned(), "v"),
        );
        add(
            Malformed,
            "a value with a control character",
            one("a".to_owned(), "v\n"),
        );
        add(
            Oversize,
            "a key of 5,000 bytes",
            one("k".repeat(5_000), "v"),
        );
        add(
            Oversize,
            "a value of 2 MiB",
            one("k".to_owned(), &"v".repeat(BIG)),
        );
        let many = (0..1_000).map(|n| (MapKey::String(format!("k{n}")), text("v")));
        add(Oversize, "1,000 entries", Value::Map(many.collect()));
        return bad;
    }
    let wrap = |value: Value| match field.is_list() {
        true => Value::List(vec![value]),
        false => value,
    };
    match field.kind() {
        Kind::Enum(_) => add(Malformed, "no such value", wrap(Value::EnumNumber(999))),
        Kind::String if name == "page_token" => {
            add(Malformed, "junk", text("%%%"));
            add(Oversize, "5,000 bytes", text(&"A".repeat(5_000)));
        }
        // A harness's own id is any line of text.
        Kind::String if name.ends_with("_id") && name != "provider_session_id" => {
            add(Malformed, "a control character", text("a\u{1}b"));
            add(Oversize, "5,000 bytes", text(&"a".repeat(5_000)));
            if name != "request_id" {
                add(Malformed, "junk", text("junk"));
                add(Malformed, "a path", text("../../x"));
                add(
                    Malformed,
                    "a wrong prefix",
                    text("zzz_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
                );
            }
        }
        Kind::String => {
            add(Oversize, "2 MiB", wrap(text(&"x".repeat(BIG))));
            if field.is_list() {
                add(
                    Oversize,
                    "100,000 entries",
                    Value::List(vec![text("x"); 100_000]),
                );
                add(Malformed, "NUL", Value::List(vec![text("a\0b")]));
            }
        }
        Kind::Bytes => add(Oversize, "2 MiB", Value::Bytes(vec![1; BIG].into())),
        Kind::Int32 if name == "page_size" => {
            add(Malformed, "-1", Value::I32(-1));
            add(Oversize, "1,001", Value::I32(1_001));
        }
        _ => {}
    }
    bad
}

/// Bad requests of a message, its nested messages included.
fn generated(path: &str, message: &DynamicMessage) -> Vec<(Kinds, String, String, DynamicMessage)> {
    use Kinds::{Malformed, Oversize};
    let mut all = Vec::new();
    for field in message.descriptor().fields() {
        let at = match path {
            "" => field.name().to_owned(),
            _ => format!("{path}.{}", field.name()),
        };
        for (kind, label, value) in bad_values(&field) {
            let mut bad = message.clone();
            bad.set_field(&field, value);
            all.push((kind, label, at.clone(), bad));
        }
        let Kind::Message(inner) = field.kind() else {
            continue;
        };
        if field.is_map() || field.is_list() {
            continue;
        }
        let nested: Vec<_> = match inner.full_name() {
            "google.protobuf.Duration" => {
                let made = |seconds: i64, nanos: i32| {
                    let duration = prost_types::Duration { seconds, nanos };
                    DynamicMessage::decode(inner.clone(), &*duration.encode_to_vec()).unwrap()
                };
                vec![
                    (
                        Malformed,
                        format!("{at}: negative"),
                        at.clone(),
                        made(-1, 0),
                    ),
                    (
                        Malformed,
                        format!("{at}: nanos"),
                        at.clone(),
                        made(1, 2_000_000_000),
                    ),
                    (
                        Oversize,
                        format!("{at}: for ever"),
                        at.clone(),
                        made(i64::MAX, 0),
                    ),
                ]
            }
            _ => {
                let value = message.get_field(&field);
                generated(&at, value.as_message().unwrap())
            }
        };
        for (kind, label, at, value) in nested {
            let mut bad = message.clone();
            bad.set_field(&field, Value::Message(value));
            all.push((kind, label, at, bad));
        }
    }
    all
}

fn cases(path: &str, input: &MessageDescriptor, entry: &Entry) -> Vec<Case> {
    let mut cases = Vec::new();
    let invalid = || vec![Code::InvalidInput];
    // Whatever the method takes, it is a message and of a size.
    cases.push(Case {
        kind: Kinds::Malformed,
        label: "not protobuf".to_owned(),
        request: Bytes::from_static(&[0xff; 64]),
        codes: invalid(),
        field: None,
    });
    cases.push(Case {
        kind: Kinds::Oversize,
        label: "a message of 40 MiB".to_owned(),
        request: vec![0; 40 << 20].into(),
        codes: vec![Code::InvalidInput, Code::LimitExceeded],
        field: None,
    });
    for (kind, label, request, field) in &entry.extra {
        cases.push(Case {
            kind: *kind,
            label: (*label).to_owned(),
            request: request.clone().into(),
            codes: invalid(),
            field: (!field.is_empty()).then(|| (*field).to_owned()),
        });
    }
    for (label, request, codes) in &entry.state {
        cases.push(Case {
            kind: Kinds::OutOfState,
            label: (*label).to_owned(),
            request: request.clone().into(),
            codes: codes.to_vec(),
            field: None,
        });
    }
    if path.ends_with("/Connect") || path.ends_with("/Attach") {
        return cases;
    }
    let base = DynamicMessage::decode(input.clone(), &*entry.base).unwrap();
    for (kind, label, field, request) in generated("", &base) {
        cases.push(Case {
            kind,
            label,
            request: request.encode_to_vec().into(),
            codes: invalid(),
            field: Some(field),
        });
    }
    for required in entry.required {
        let mut bad = base.clone();
        match input.get_field_by_name(required) {
            Some(field) => bad.clear_field(&field),
            None => {
                let oneof = input.oneofs().find(|oneof| oneof.name() == *required);
                for field in oneof.expect("a required field exists").fields() {
                    bad.clear_field(&field);
                }
            }
        }
        cases.push(Case {
            kind: Kinds::Missing,
            label: format!("{required}: missing"),
            request: bad.encode_to_vec().into(),
            codes: invalid(),
            field: Some((*required).to_owned()),
        });
        if required.ends_with("_id") {
            let mut bad = base.clone();
            bad.set_field_by_name(required, Value::String(unknown(required)));
            cases.push(Case {
                kind: Kinds::OutOfState,
                label: format!("{required}: unknown"),
                request: bad.encode_to_vec().into(),
                codes: GONE.to_vec(),
                field: None,
            });
        }
    }
    cases
}

/// One call with one message: what came first, `None` for the end of a stream without anything.
pub(crate) async fn call(
    baton: &Baton,
    path: &str,
    token: &Secret,
    message: Bytes,
    open: bool,
) -> Result<Option<Bytes>, Status> {
    let channel = tonic::transport::Endpoint::from_shared(baton.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut grpc = tonic::client::Grpc::new(channel).max_encoding_message_size(usize::MAX);
    grpc.ready().await.unwrap();
    let sent = futures_util::stream::iter([message]);
    let sent = match open {
        true => sent.chain(futures_util::stream::pending()).boxed(),
        false => sent.boxed(),
    };
    let mut request = Request::new(sent);
    let bearer = format!("Bearer {}", token.expose());
    request
        .metadata_mut()
        .insert("authorization", bearer.parse().unwrap());
    let talk = async {
        let path = path.parse().unwrap();
        let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
        answers.message().await
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(outcome) => outcome,
        Err(_) => Ok(None),
    }
}

/// What is wrong with an answer, if anything.
fn judge(case: &Case, outcome: &Result<Option<Bytes>, Status>) -> Option<String> {
    let status = match outcome {
        Ok(_) => return Some("was accepted".to_owned()),
        Err(status) => status,
    };
    let Some(info) = status.get_details_error_info() else {
        return Some(format!("has no ErrorInfo: {status:?}"));
    };
    let Some(code) = Code::parse(&info.reason) else {
        return Some(format!("has the unknown reason {}", info.reason));
    };
    if matches!(
        status.code(),
        tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::Ok
    ) || !case.codes.contains(&code)
    {
        return Some(format!(
            "is {code} ({:?}), wanted {:?}: {}",
            status.code(),
            case.codes,
            status.message()
        ));
    }
    if status.message().len() > 2_048 {
        return Some(format!("says {} bytes", status.message().len()));
    }
    let field = case.field.as_ref()?;
    let named: Vec<String> = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    let top = field.split(['.', '[']).next().unwrap_or_default();
    let names = |name: &String| {
        name.strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    (!named.iter().any(names))
        .then(|| format!("does not name {field}, but {named:?}: {}", status.message()))
}

/// Everything that bad input must not change.
pub(crate) async fn picture(baton: &Baton) -> Vec<String> {
    let client = baton.client();
    let mut picture = Vec::new();
    let sessions = client
        .list_sessions(v1::ListSessionsRequest::default())
        .await
        .unwrap()
        .sessions;
    for session in sessions {
        let events = baton.events(&session.id).await;
        picture.push(format!("{session:?}"));
        picture.push(format!("{events:?}"));
    }
    picture.push(format!(
        "{:?}",
        client
            .list_prompts(v1::ListPromptsRequest::default())
            .await
            .unwrap()
            .prompts
    ));
    picture.push(format!(
        "{:?}",
        client
            .list_prompt_rules(v1::ListPromptRulesRequest::default())
            .await
            .unwrap()
            .rules
    ));
    let agents = client.list_agents(v1::ListAgentsRequest::default()).await;
    picture.push(format!("{:?}", agents.unwrap().agents));
    let budgets = client.list_budgets(v1::ListBudgetsRequest::default()).await;
    picture.push(format!("{:?}", budgets.unwrap().budgets));
    let tasks = client.list_tasks(v1::ListTasksRequest::default()).await;
    picture.push(format!("{:?}", tasks.unwrap().tasks));
    let tokens = client.list_tokens(v1::ListTokensRequest::default()).await;
    for mut token in tokens.unwrap().tokens {
        // To look is to use one.
        token.last_used_at = None;
        picture.push(format!("{token:?}"));
    }
    picture
}

#[tokio::test]
async fn every_rpc_refuses_bad_input_and_goes_on() {
    let baton = Baton::start().await;
    let (world, credential) = world(&baton).await;
    let join = baton
        .client()
        .create_join_token(v1::CreateJoinTokenRequest::default())
        .await
        .unwrap();
    let join = Secret::new(join.secret);
    let admin = baton.admin();
    // Heads move a moment after what made them; wait for quiet.
    let last = std::cell::RefCell::new(picture(&baton).await);
    let before = eventually("nothing changes by itself", || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = picture(&baton).await;
        let earlier = last.replace(now.clone());
        (earlier == now).then_some(now)
    })
    .await;

    let pool = DescriptorPool::decode(baton::wire::DESCRIPTORS).unwrap();
    let mut table = table(&world);
    let mut wrong = Vec::new();
    let mut count = 0;
    let methods: Vec<_> = pool
        .services()
        .filter(|service| {
            ["baton.v1", "baton.link.v1"].contains(&service.parent_file().package_name())
        })
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    assert!(methods.len() >= 39, "{} RPCs", methods.len());
    for method in methods {
        let path = format!("{}/{}", method.parent_service().full_name(), method.name());
        let Some(entry) = table.remove(path.as_str()) else {
            wrong.push(format!("{path}: has no entry"));
            continue;
        };
        let cases = cases(&path, &method.input(), &entry);
        let kinds: BTreeSet<Kinds> = cases.iter().map(|case| case.kind).collect();
        let mut needed = BTreeSet::from([Kinds::Oversize, Kinds::Malformed]);
        if !entry.required.is_empty() {
            needed.insert(Kinds::Missing);
        }
        if !entry.stateless {
            needed.insert(Kinds::OutOfState);
        }
        for kind in needed.difference(&kinds) {
            wrong.push(format!("{path}: has no case of {kind:?}"));
        }
        let (token, open) = match path.as_str() {
            "baton.link.v1.LinkService/Enroll" => (&join, false),
            "baton.link.v1.LinkService/Connect" => (&credential, true),
            _ => (&admin, false),
        };
        for case in cases {
            count += 1;
            let outcome = call(
                &baton,
                &format!("/{path}"),
                token,
                case.request.clone(),
                open,
            )
            .await;
            if let Some(problem) = judge(&case, &outcome) {
                wrong.push(format!(
                    "{path} [{:?}] {}: {problem}",
                    case.kind, case.label
                ));
            }
        }
    }
    wrong.extend(
        table
            .keys()
            .map(|path| format!("{path}: there is no such RPC")),
    );
    assert!(
        wrong.is_empty(),
        "{} of {count} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 300, "only {count} cases");
    let after = picture(&baton).await;
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(was, is, "bad input changed something");
    }
    assert_eq!(before.len(), after.len());
    assert!(!baton.logged("server.log").contains("panicked"));
    assert!(!baton.logged("daemon.log").contains("panicked"));
}
