//! Narrowed tokens: to them, what is not theirs is not there. The RPCs and the ids in their requests are read
//! from the descriptors, so that one that is added without an entry here fails.

use std::collections::BTreeMap;

use base64::Engine as _;
use baton::base::id::{
    AgentId, BudgetId, InputId, PromptId, RuleId, SessionId, TaskId, TerminalId, WorktreeId,
};
use baton::base::{Clock as _, Code, Secret, SystemClock};
use baton::client::{Client, ServerAddress};
use baton::domain::EventBody;
use baton::wire::{link_v1, v1};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, ReflectMessage as _, Value};
use tonic::Status;
use tonic_types::StatusExt as _;

use baton::wire::v1::budget_scope::Of;

use crate::coverage::{call, picture};
use crate::support::baton::{Baton, eventually};
use crate::worktrees::repository;

/// A word that only foreign sessions have said.
const FOREIGN_WORD: &str = "secretquince";

/// A server with things of ours and things of others, in two projects on one daemon.
struct World {
    baton: Baton,
    own_dir: String,
    foreign_dir: String,
    /// Ours: its turn has ended.
    own: String,
    own_prompt: String,
    own_input: String,
    own_rule: String,
    own_terminal: v1::Terminal,
    own_task: String,
    /// Another's: it asks, has an input in its queue, and content beside its log.
    foreign: String,
    foreign_ended: String,
    foreign_prompt: String,
    foreign_input: String,
    foreign_rule: String,
    foreign_content: String,
    foreign_terminal: v1::Terminal,
    own_agent: String,
    foreign_agent: String,
    foreign_task: String,
    foreign_worktree: String,
    own_budget: String,
    foreign_budget: String,
    /// Of everything.
    common_budget: String,
}

async fn task_in(baton: &Baton, dir: &str, title: &str) -> String {
    let request = v1::CreateTaskRequest {
        title: title.to_owned(),
        directory: dir.to_owned(),
        ..Default::default()
    };
    let made = baton.client().create_task(request).await.unwrap();
    made.task.unwrap().id
}

async fn budget_of(baton: &Baton, of: v1::budget_scope::Of) -> String {
    let made = baton.client().set_budget(budget_request(of)).await.unwrap();
    made.budget.unwrap().id
}

/// More than a test spends.
fn budget_request(of: v1::budget_scope::Of) -> v1::SetBudgetRequest {
    v1::SetBudgetRequest {
        scope: Some(v1::BudgetScope { of: Some(of) }),
        hard: Some(v1::Allowance {
            cost_micro_usd: 1 << 50,
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn session_in(baton: &Baton, dir: &str, input: &str) -> v1::Session {
    let request = v1::CreateSessionRequest {
        harness: "demo".to_owned(),
        input: input.to_owned(),
        cwd: dir.to_owned(),
        ..Default::default()
    };
    let made = baton.client().create_session(request).await.unwrap();
    made.session.unwrap()
}

fn agent_request(name: &str, dir: &str) -> v1::CreateAgentRequest {
    v1::CreateAgentRequest {
        request_id: String::new(),
        settings: Some(v1::AgentSettings {
            name: name.to_owned(),
            role: v1::AgentRole::Worker.into(),
            harness: "demo".to_owned(),
            directory: dir.to_owned(),
            ..Default::default()
        }),
    }
}

async fn agent_in(baton: &Baton, name: &str, dir: &str) -> String {
    let made = baton.client().create_agent(agent_request(name, dir)).await;
    made.unwrap().agent.unwrap().id
}

async fn ended_in(baton: &Baton, dir: &str, word: &str) -> v1::Session {
    let request = v1::CreateSessionRequest {
        harness: "command".to_owned(),
        cwd: dir.to_owned(),
        argv: vec!["echo".to_owned(), word.to_owned()],
        ..Default::default()
    };
    let made = baton.client().create_session(request).await.unwrap();
    let session = made.session.unwrap();
    baton
        .wait_for(&session.id, "the command ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    session
}

/// A terminal in which a word was shown.
async fn terminal_in(baton: &Baton, dir: &str, word: &str) -> v1::Terminal {
    let request = v1::OpenTerminalRequest {
        cwd: dir.to_owned(),
        argv: ["sh", "-c", &format!("echo {word}; exec sleep 1000000")]
            .map(str::to_owned)
            .to_vec(),
        ..Default::default()
    };
    let made = baton.client().open_terminal(request).await.unwrap();
    let id = made.terminal.unwrap().id;
    eventually("the word was shown", || async {
        let shown = baton.shown(&id).await;
        (shown.next_offset > 0).then_some(shown)
    })
    .await
}

async fn turn_ends(baton: &Baton, id: &str) {
    baton
        .wait_for(id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
}

async fn waiting(baton: &Baton, id: &str) -> String {
    let prompt = eventually("a prompt", || async { baton.pending(id).await.pop() }).await;
    prompt.id
}

async fn rule_for(baton: &Baton, session: &str, pattern: &str) -> String {
    let request = v1::CreatePromptRuleRequest {
        pattern: pattern.to_owned(),
        session_id: session.to_owned(),
        ..Default::default()
    };
    let made = baton.client().create_prompt_rule(request).await.unwrap();
    made.rule.unwrap().id
}

async fn world() -> World {
    let baton = Baton::start().await;
    let dir = |name: &str| {
        let dir = baton.project().join(name);
        std::fs::create_dir(&dir).unwrap();
        dir.to_string_lossy().into_owned()
    };
    let (own_dir, foreign_dir) = (dir("own"), dir("foreign"));
    let own = session_in(&baton, &own_dir, "say: plum").await.id;
    turn_ends(&baton, &own).await;
    let foreign = session_in(
        &baton,
        &foreign_dir,
        &format!("say: {FOREIGN_WORD}\nbig: 200000\nrun: touch {FOREIGN_WORD}"),
    )
    .await
    .id;
    let foreign_prompt = waiting(&baton, &foreign).await;
    let own_request = v1::SendInputRequest {
        session_id: own.clone(),
        text: "run: touch plum".to_owned(),
        ..Default::default()
    };
    let own_input = baton.client().send_input(own_request).await.unwrap();
    let own_prompt = waiting(&baton, &own).await;
    let later = v1::SendInputRequest {
        session_id: foreign.clone(),
        text: format!("say: {FOREIGN_WORD} later"),
        ..Default::default()
    };
    let foreign_input = baton.client().send_input(later).await.unwrap();
    let foreign_ended = ended_in(&baton, &foreign_dir, FOREIGN_WORD).await.id;
    let own_rule = rule_for(&baton, &own, "Bash(plum:*)").await;
    let foreign_rule = rule_for(&baton, &foreign, &format!("Bash({FOREIGN_WORD}:*)")).await;
    // A rule for everybody may tell what others do, too.
    rule_for(&baton, "", &format!("Bash({FOREIGN_WORD}-all:*)")).await;
    let said = format!("{:?}", baton.events(&foreign).await);
    let at = said.find("sha256: \"").expect("content beside the log") + 9;
    let foreign_content = said[at..at + 64].to_owned();
    let own_agent = agent_in(&baton, "plum", &own_dir).await;
    let foreign_agent = agent_in(&baton, FOREIGN_WORD, &foreign_dir).await;
    // One without a directory is of no project.
    agent_in(&baton, &format!("{FOREIGN_WORD}-2"), "").await;
    let own_task = task_in(&baton, &own_dir, "plum").await;
    let foreign_task = task_in(&baton, &foreign_dir, FOREIGN_WORD).await;
    // One of nowhere tells what others do, too.
    task_in(&baton, "", FOREIGN_WORD).await;
    repository(std::path::Path::new(&foreign_dir));
    let foreign_worktree = baton
        .client()
        .create_worktree(v1::CreateWorktreeRequest {
            repository: foreign_dir.clone(),
            agent_name: FOREIGN_WORD.to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .worktree
        .unwrap();
    let [own_budget, foreign_budget, common_budget] = [
        Of::SessionId(own.clone()),
        Of::SessionId(foreign.clone()),
        Of::Everything(true),
    ]
    .map(|of| budget_of(&baton, of));
    let (own_budget, foreign_budget) = (own_budget.await, foreign_budget.await);
    let common_budget = common_budget.await;
    World {
        own_budget,
        foreign_budget,
        common_budget,
        own_terminal: v1::Terminal::default(),
        foreign_terminal: v1::Terminal::default(),
        own_agent,
        foreign_agent,
        own_task,
        foreign_task,
        own_dir,
        foreign_dir,
        own,
        own_prompt,
        own_input: own_input.input.unwrap().id,
        own_rule,
        foreign,
        foreign_ended,
        foreign_prompt,
        foreign_input: foreign_input.input.unwrap().id,
        foreign_rule,
        foreign_content,
        foreign_worktree: foreign_worktree.id,
        baton,
    }
}

impl World {
    /// What a narrowed token must never be shown.
    fn needles(&self) -> Vec<&str> {
        let needles = vec![
            FOREIGN_WORD,
            &self.foreign_dir,
            &self.foreign,
            &self.foreign_ended,
            &self.foreign_prompt,
            &self.foreign_input,
            &self.foreign_rule,
            &self.foreign_content,
            &self.foreign_agent,
            &self.foreign_task,
            &self.foreign_worktree,
            &self.foreign_budget,
            &self.common_budget,
            &self.foreign_terminal.id,
        ];
        needles
            .into_iter()
            .filter(|needle| !needle.is_empty())
            .collect()
    }

    /// The foreign id that a field could be given, and one of that kind that nothing has.
    fn ids(&self, field: &str) -> Option<(String, String)> {
        let now = SystemClock.now();
        Some(match field {
            "session_id" => (self.foreign.clone(), SessionId::generate(now).to_string()),
            "prompt_id" => (
                self.foreign_prompt.clone(),
                PromptId::generate(now).to_string(),
            ),
            "input_id" => (
                self.foreign_input.clone(),
                InputId::generate(now).to_string(),
            ),
            "terminal_id" => (
                self.foreign_terminal.id.clone(),
                TerminalId::generate(now).to_string(),
            ),
            "agent_id" => (
                self.foreign_agent.clone(),
                AgentId::generate(now).to_string(),
            ),
            "rule_id" => (self.foreign_rule.clone(), RuleId::generate(now).to_string()),
            "task_id" | "on_task_id" | "parent_id" => {
                (self.foreign_task.clone(), TaskId::generate(now).to_string())
            }
            "worktree_id" => (
                self.foreign_worktree.clone(),
                WorktreeId::generate(now).to_string(),
            ),
            "budget_id" => (
                self.foreign_budget.clone(),
                BudgetId::generate(now).to_string(),
            ),
            "sha256" => (self.foreign_content.clone(), "0".repeat(64)),
            // A harness's id, looked for among the sessions of an agent that the caller sees.
            "provider_session_id" => return None,
            // Of these, everybody sees all, or only an admin any; the first is the caller's own.
            // A viewer is named within its terminal only.
            "request_id" | "daemon_id" | "token_id" | "viewer_id" => return None,
            other if other.ends_with("_id") || other.ends_with("_ids") => {
                panic!("may a narrowed token see every {other}? say so here")
            }
            _ => return None,
        })
    }
}

async fn token(baton: &Baton, name: &str, narrowing: v1::Narrowing) -> v1::CreateTokenResponse {
    let request = v1::CreateTokenRequest {
        name: name.to_owned(),
        scope: v1::TokenScope::Operator.into(),
        narrowing: Some(narrowing),
        ..Default::default()
    };
    baton.client().create_token(request).await.unwrap()
}

fn to_project(directory: &str) -> v1::Narrowing {
    v1::Narrowing {
        projects: vec![v1::TokenProject {
            directory: directory.to_owned(),
            daemon_id: String::new(),
        }],
        session_ids: Vec::new(),
    }
}

fn to_sessions(ids: &[&str]) -> v1::Narrowing {
    v1::Narrowing {
        projects: Vec::new(),
        session_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    }
}

fn client(baton: &Baton, made: &v1::CreateTokenResponse) -> Client {
    let secret = Secret::new(made.secret.clone());
    Client::lazy(ServerAddress::new(baton.url()).with_token(secret)).unwrap()
}

/// A daemon that never links; its id.
/// A daemon that has joined and was never there; its id.
pub async fn enroll(baton: &Baton, join: &str) -> String {
    let request = link_v1::EnrollRequest {
        name: "elsewhere".to_owned(),
        hostname: "elsewhere".to_owned(),
        nonce: vec![7; 16].into(),
    };
    let request = request.encode_to_vec().into();
    let path = "/baton.link.v1.LinkService/Enroll";
    let answer = call(baton, path, &Secret::new(join), request, false).await;
    let answer = link_v1::EnrollResponse::decode(answer.unwrap().unwrap());
    answer.unwrap().daemon_id
}

/// What is known of one RPC.
struct Entry {
    /// A request about things of ours.
    base: Vec<u8>,
    /// Requests that ask for more than the projects, without an id.
    forbidden: Vec<(&'static str, Vec<u8>)>,
    /// Whether it only looks.
    looks: bool,
    /// Whether a foreign id, as a filter, gives an empty list.
    filters: bool,
    /// Whether it is an admin's.
    admin: bool,
    /// Whether it is about what is of projects, of which a token for single sessions sees nothing.
    of_projects: bool,
}

fn entry(base: &impl prost::Message) -> Entry {
    Entry {
        base: base.encode_to_vec(),
        forbidden: Vec::new(),
        looks: false,
        filters: false,
        admin: false,
        of_projects: false,
    }
}

impl Entry {
    fn looks(mut self) -> Self {
        self.looks = true;
        self
    }

    fn filters(mut self) -> Self {
        self.filters = true;
        self
    }

    fn admin(mut self) -> Self {
        self.admin = true;
        self
    }

    fn of_projects(mut self) -> Self {
        self.of_projects = true;
        self
    }

    fn forbidden(mut self, label: &'static str, request: &impl prost::Message) -> Self {
        self.forbidden.push((label, request.encode_to_vec()));
        self
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn table(world: &World, daemon_id: &str) -> BTreeMap<&'static str, Entry> {
    let session_id = world.own.clone();
    let create = |cwd: &str| v1::CreateSessionRequest {
        harness: "demo".to_owned(),
        cwd: cwd.to_owned(),
        ..Default::default()
    };
    let terminal_id = world.own_terminal.id.clone();
    let view = v1::TerminalView {
        terminal_id: terminal_id.clone(),
        ..Default::default()
    };
    let open = |cwd: &str| v1::OpenTerminalRequest {
        cwd: cwd.to_owned(),
        ..Default::default()
    };
    let parent = world.baton.project().to_string_lossy().into_owned();
    let rule = |directory: &str| v1::CreatePromptRuleRequest {
        pattern: "Bash(ls:*)".to_owned(),
        directory: directory.to_owned(),
        ..Default::default()
    };
    let update_agent = |directory: &str| v1::UpdateAgentRequest {
        agent_id: world.own_agent.clone(),
        settings: agent_request("plum", directory).settings,
        ..Default::default()
    };
    let start_agent = |cwd: &str| v1::StartAgentRequest {
        agent_id: world.own_agent.clone(),
        cwd: cwd.to_owned(),
        ..Default::default()
    };
    let task_id = world.own_task.clone();
    let new_task = |directory: &str| v1::CreateTaskRequest {
        title: "new".to_owned(),
        directory: directory.to_owned(),
        ..Default::default()
    };
    let on_own = v1::DependencyTarget {
        kind: v1::DependencyKind::RelatesTo.into(),
        on_task_id: task_id.clone(),
        gate: None,
    };
    let worktree = |repository: &str| v1::CreateWorktreeRequest {
        daemon_id: daemon_id.to_owned(),
        repository: repository.to_owned(),
        agent_name: "alice".to_owned(),
        ..Default::default()
    };
    let list = |path: String| v1::ListDirectoryRequest {
        daemon_id: daemon_id.to_owned(),
        path,
        hidden: true,
        brief: false,
    };
    BTreeMap::from([
        (
            "SessionService/CreateSession",
            entry(&create(&world.own_dir))
                .forbidden("in another project", &create(&world.foreign_dir))
                .forbidden("above the projects", &create(&parent))
                .forbidden(
                    "in a directory that begins alike",
                    &create(&format!("{}2", world.own_dir)),
                ),
        ),
        (
            "TerminalService/OpenTerminal",
            entry(&open(&world.own_dir))
                .forbidden("in another project", &open(&world.foreign_dir))
                .forbidden("above the projects", &open(&parent)),
        ),
        (
            "TerminalService/GetTerminal",
            entry(&v1::GetTerminalRequest {
                terminal_id: terminal_id.clone(),
            })
            .looks(),
        ),
        (
            "TerminalService/ListTerminals",
            entry(&v1::ListTerminalsRequest::default()).looks(),
        ),
        (
            "TerminalService/WriteTerminal",
            entry(&v1::WriteTerminalRequest {
                terminal_id: terminal_id.clone(),
                data: Bytes::from_static(b"x"),
                ..Default::default()
            }),
        ),
        (
            "TerminalService/ResizeTerminal",
            entry(&v1::ResizeTerminalRequest {
                terminal_id: terminal_id.clone(),
                size: Some(v1::TerminalSize { cols: 9, rows: 9 }),
                ..Default::default()
            }),
        ),
        (
            "TerminalService/CloseTerminal",
            entry(&v1::CloseTerminalRequest {
                terminal_id: terminal_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "TerminalService/WatchTerminal",
            entry(&v1::WatchTerminalRequest {
                view: Some(view.clone()),
            })
            .looks(),
        ),
        (
            "TerminalService/Attach",
            entry(&v1::AttachRequest {
                body: Some(v1::attach_request::Body::Open(v1::AttachOpen {
                    view: Some(view),
                    window_bytes: 0,
                })),
            })
            .looks(),
        ),
        (
            "SessionService/GetSession",
            entry(&v1::GetSessionRequest {
                session_id: session_id.clone(),
            })
            .looks(),
        ),
        (
            "SessionService/ListSessions",
            entry(&v1::ListSessionsRequest::default()).looks().filters(),
        ),
        (
            "SessionService/SendInput",
            entry(&v1::SendInputRequest {
                session_id: session_id.clone(),
                text: "say: x".to_owned(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/InterruptTurn",
            entry(&v1::InterruptTurnRequest {
                session_id: session_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/SuspendSession",
            entry(&v1::SuspendSessionRequest {
                session_id: session_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/ResumeSession",
            entry(&v1::ResumeSessionRequest {
                session_id: session_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/ForkSession",
            entry(&v1::ForkSessionRequest {
                session_id: session_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/ListInputs",
            entry(&v1::ListInputsRequest {
                session_id: session_id.clone(),
                ..Default::default()
            })
            .looks(),
        ),
        (
            "SessionService/UpdateInput",
            entry(&v1::UpdateInputRequest {
                session_id: session_id.clone(),
                input_id: world.own_input.clone(),
                text: "say: x".to_owned(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/MoveInput",
            entry(&v1::MoveInputRequest {
                session_id: session_id.clone(),
                input_id: world.own_input.clone(),
                position: 1,
            }),
        ),
        (
            "SessionService/WithdrawInput",
            entry(&v1::WithdrawInputRequest {
                session_id: session_id.clone(),
                input_id: world.own_input.clone(),
            }),
        ),
        (
            "SessionService/EndSession",
            entry(&v1::EndSessionRequest {
                session_id: session_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/SetSessionOptions",
            entry(&v1::SetSessionOptionsRequest {
                session_id: session_id.clone(),
                permission_mode: v1::PermissionMode::Deny.into(),
                ..Default::default()
            }),
        ),
        (
            "SessionService/DeleteSession",
            entry(&v1::DeleteSessionRequest {
                session_id: session_id.clone(),
            }),
        ),
        (
            "EventService/ListEvents",
            entry(&v1::ListEventsRequest {
                session_id: session_id.clone(),
                ..Default::default()
            })
            .looks(),
        ),
        (
            "EventService/Watch",
            entry(&v1::WatchRequest {
                scopes: vec![v1::Scope {
                    scope: Some(v1::scope::Scope::Session(v1::SessionScope {
                        session_id: session_id.clone(),
                        ..Default::default()
                    })),
                }],
                transients: true,
                ..Default::default()
            })
            .looks(),
        ),
        (
            "EventService/SearchEvents",
            entry(&v1::SearchEventsRequest {
                query: FOREIGN_WORD.to_owned(),
                ..Default::default()
            })
            .looks(),
        ),
        (
            "EventService/GetContent",
            entry(&v1::GetContentRequest {
                session_id: session_id.clone(),
                sha256: world.foreign_content.clone(),
                offset: 0,
            }),
        ),
        (
            "PromptService/GetPrompt",
            entry(&v1::GetPromptRequest {
                prompt_id: world.own_prompt.clone(),
            })
            .looks(),
        ),
        (
            "PromptService/ListPrompts",
            entry(&v1::ListPromptsRequest::default()).looks().filters(),
        ),
        (
            "PromptService/AnswerPrompt",
            entry(&v1::AnswerPromptRequest {
                prompt_id: world.own_prompt.clone(),
                answer: Some(v1::answer_prompt_request::Answer::Decision(v1::Decision {
                    allow: true,
                    ..Default::default()
                })),
                ..Default::default()
            }),
        ),
        (
            "PromptService/ListPromptRules",
            entry(&v1::ListPromptRulesRequest::default())
                .looks()
                .filters(),
        ),
        (
            "PromptService/CreatePromptRule",
            entry(&v1::CreatePromptRuleRequest {
                session_id: session_id.clone(),
                ..rule("")
            })
            .forbidden("for everything", &rule(""))
            .forbidden("in another project", &rule(&world.foreign_dir))
            .forbidden("above the projects", &rule(&parent)),
        ),
        (
            "PromptService/DeletePromptRule",
            entry(&v1::DeletePromptRuleRequest {
                rule_id: world.own_rule.clone(),
            }),
        ),
        (
            "AgentService/CreateAgent",
            entry(&agent_request("pear", &world.own_dir))
                .of_projects()
                .forbidden(
                    "in another project",
                    &agent_request("a", &world.foreign_dir),
                )
                .forbidden("in no project", &agent_request("b", ""))
                .forbidden("above the projects", &agent_request("c", &parent)),
        ),
        (
            "AgentService/GetAgent",
            entry(&v1::GetAgentRequest {
                agent_id: world.own_agent.clone(),
            })
            .of_projects()
            .looks(),
        ),
        (
            "AgentService/ListAgents",
            entry(&v1::ListAgentsRequest::default()).looks(),
        ),
        (
            "AgentService/UpdateAgent",
            entry(&update_agent(&world.own_dir))
                .of_projects()
                .forbidden("into another project", &update_agent(&world.foreign_dir)),
        ),
        (
            "AgentService/DeleteAgent",
            entry(&v1::DeleteAgentRequest {
                agent_id: world.own_agent.clone(),
                ..Default::default()
            }),
        ),
        (
            "AgentService/StartAgent",
            entry(&start_agent(""))
                .of_projects()
                .forbidden("elsewhere", &start_agent(&world.foreign_dir)),
        ),
        (
            "AgentService/StopAgent",
            entry(&v1::StopAgentRequest {
                agent_id: world.own_agent.clone(),
                ..Default::default()
            }),
        ),
        (
            "AgentService/ResumeAgent",
            entry(&v1::ResumeAgentRequest {
                agent_id: world.own_agent.clone(),
                ..Default::default()
            }),
        ),
        (
            "AgentService/GetAgentStatus",
            entry(&v1::GetAgentStatusRequest {
                agent_id: world.own_agent.clone(),
                history: 0,
            })
            .of_projects()
            .looks(),
        ),
        (
            "BudgetService/SetBudget",
            entry(&budget_request(Of::SessionId(session_id.clone())))
                .forbidden("of everything", &budget_request(Of::Everything(true))),
        ),
        (
            "BudgetService/GetBudget",
            entry(&v1::GetBudgetRequest {
                budget_id: world.own_budget.clone(),
            })
            .looks(),
        ),
        (
            "BudgetService/ListBudgets",
            entry(&v1::ListBudgetsRequest::default()).looks(),
        ),
        (
            "BudgetService/GetUsage",
            entry(&v1::GetUsageRequest {
                group_by: v1::UsageGroup::Session.into(),
                ..Default::default()
            })
            .looks(),
        ),
        (
            "DaemonService/GetDaemon",
            entry(&v1::GetDaemonRequest {
                daemon_id: daemon_id.to_owned(),
            })
            .looks(),
        ),
        (
            "DaemonService/ListDaemons",
            entry(&v1::ListDaemonsRequest::default()).looks(),
        ),
        (
            "DaemonService/DrainDaemon",
            entry(&v1::DrainDaemonRequest::default()).admin(),
        ),
        (
            "DaemonService/RemoveDaemon",
            entry(&v1::RemoveDaemonRequest::default()).admin(),
        ),
        (
            "DaemonService/ListDirectory",
            entry(&list(String::new()))
                .looks()
                .forbidden("of another project", &list(world.foreign_dir.clone()))
                .forbidden("above the projects", &list(parent.clone()))
                .forbidden(
                    "by a way around",
                    &list(format!("{}/../foreign", world.own_dir)),
                )
                .forbidden("by a link", &list(format!("{}/link", world.own_dir))),
        ),
        (
            "WorktreeService/CreateWorktree",
            entry(&v1::CreateWorktreeRequest::default())
                .forbidden("of another project", &worktree(&world.foreign_dir))
                .forbidden("above the projects", &worktree(&parent))
                .forbidden("in a repository around", &worktree(&world.own_dir)),
        ),
        (
            "WorktreeService/GetWorktree",
            entry(&v1::GetWorktreeRequest {
                worktree_id: world.foreign_worktree.clone(),
            }),
        ),
        (
            "WorktreeService/ListWorktrees",
            entry(&v1::ListWorktreesRequest {
                all: true,
                ..Default::default()
            })
            .looks(),
        ),
        (
            "WorktreeService/MergeWorktree",
            entry(&v1::MergeWorktreeRequest {
                worktree_id: world.foreign_worktree.clone(),
                ..Default::default()
            }),
        ),
        (
            "WorktreeService/DeleteWorktree",
            entry(&v1::DeleteWorktreeRequest {
                worktree_id: world.foreign_worktree.clone(),
                force: true,
                ..Default::default()
            }),
        ),
        (
            "WorktreeService/GetWorktreeDiff",
            entry(&v1::GetWorktreeDiffRequest {
                worktree_id: world.foreign_worktree.clone(),
                max_bytes: 0,
            }),
        ),
        (
            "WorktreeService/PruneWorktrees",
            entry(&v1::PruneWorktreesRequest {
                daemon_id: daemon_id.to_owned(),
                grace: Some(prost_types::Duration::default()),
                ..Default::default()
            })
            .looks()
            .forbidden(
                "of another project",
                &v1::PruneWorktreesRequest {
                    daemon_id: daemon_id.to_owned(),
                    repository: world.foreign_dir.clone(),
                    ..Default::default()
                },
            ),
        ),
        (
            "WorktreeService/ListRecoverable",
            entry(&v1::ListRecoverableRequest::default()).forbidden(
                "of another project",
                &v1::ListRecoverableRequest {
                    daemon_id: daemon_id.to_owned(),
                    repository: world.foreign_dir.clone(),
                },
            ),
        ),
        (
            "WorktreeService/RecoverWorktree",
            entry(&v1::RecoverWorktreeRequest::default()).forbidden(
                "of another project",
                &v1::RecoverWorktreeRequest {
                    daemon_id: daemon_id.to_owned(),
                    repository: world.foreign_dir.clone(),
                    recover_ref: format!(
                        "refs/baton/recover/{}/20260101000000",
                        world.foreign_worktree
                    ),
                    ..Default::default()
                },
            ),
        ),
        (
            "AccessService/CreateToken",
            entry(&v1::CreateTokenRequest::default()).admin(),
        ),
        (
            "AccessService/ListTokens",
            entry(&v1::ListTokensRequest::default()).admin(),
        ),
        (
            "AccessService/RevokeToken",
            entry(&v1::RevokeTokenRequest::default()).admin(),
        ),
        (
            "AccessService/GetCaller",
            entry(&v1::GetCallerRequest {}).looks(),
        ),
        (
            "AccessService/CreateJoinToken",
            entry(&v1::CreateJoinTokenRequest::default()).admin(),
        ),
        (
            // What comes of the code is looked at with the gateway.
            "AccessService/CreateSignInCode",
            entry(&v1::CreateSignInCodeRequest::default()),
        ),
        (
            "TaskService/CreateTask",
            entry(&new_task(&world.own_dir))
                .forbidden("of nowhere", &new_task(""))
                .forbidden("in another project", &new_task(&world.foreign_dir))
                .forbidden("above the projects", &new_task(&parent)),
        ),
        (
            "TaskService/GetTask",
            entry(&v1::GetTaskRequest {
                task_id: task_id.clone(),
            }),
        ),
        (
            "TaskService/ListTasks",
            entry(&v1::ListTasksRequest::default()).looks().filters(),
        ),
        (
            "TaskService/ListReadyTasks",
            entry(&v1::ListReadyTasksRequest::default())
                .looks()
                .filters(),
        ),
        (
            "TaskService/UpdateTask",
            entry(&v1::UpdateTaskRequest {
                task_id: task_id.clone(),
                title: "changed".to_owned(),
                update_mask: Some(prost_types::FieldMask {
                    paths: vec!["title".to_owned()],
                }),
                ..Default::default()
            }),
        ),
        (
            "TaskService/AddDependency",
            entry(&v1::AddDependencyRequest {
                task_id: task_id.clone(),
                on: Some(on_own.clone()),
                ..Default::default()
            }),
        ),
        (
            "TaskService/RemoveDependency",
            entry(&v1::RemoveDependencyRequest {
                task_id: task_id.clone(),
                on: Some(on_own),
                ..Default::default()
            }),
        ),
        (
            "TaskService/AssignTask",
            entry(&v1::AssignTaskRequest {
                task_id: task_id.clone(),
                agent_id: world.own_agent.clone(),
                ..Default::default()
            }),
        ),
        (
            "TaskService/DispatchTask",
            entry(&v1::DispatchTaskRequest {
                task_id: task_id.clone(),
                agent_id: world.own_agent.clone(),
                ..Default::default()
            }),
        ),
        (
            "TaskService/HandOffTask",
            entry(&v1::HandOffTaskRequest {
                task_id: task_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "TaskService/CompleteTask",
            entry(&v1::CompleteTaskRequest {
                task_id: task_id.clone(),
                outcome: v1::CompleteOutcome::Closed.into(),
                ..Default::default()
            }),
        ),
        (
            "TaskService/ReopenTask",
            entry(&v1::ReopenTaskRequest {
                task_id: task_id.clone(),
                ..Default::default()
            }),
        ),
        (
            "TaskService/DeleteTask",
            entry(&v1::DeleteTaskRequest {
                task_id: task_id.clone(),
                force: true,
                ..Default::default()
            }),
        ),
        (
            "TaskService/ExplainTask",
            entry(&v1::ExplainTaskRequest { task_id }),
        ),
        (
            "SchedulerService/GetScheduler",
            entry(&v1::GetSchedulerRequest {})
                .forbidden("of the whole server", &v1::GetSchedulerRequest {}),
        ),
        (
            "SchedulerService/PauseScheduler",
            entry(&v1::PauseSchedulerRequest::default())
                .forbidden("of the whole server", &v1::PauseSchedulerRequest::default()),
        ),
        (
            "SchedulerService/ResumeScheduler",
            entry(&v1::ResumeSchedulerRequest {})
                .forbidden("of the whole server", &v1::ResumeSchedulerRequest {}),
        ),
        (
            "SystemService/GetServerInfo",
            entry(&v1::GetServerInfoRequest {}).looks(),
        ),
        (
            "SystemService/GetMetrics",
            entry(&v1::GetMetricsRequest {})
                .forbidden("of the whole server", &v1::GetMetricsRequest {}),
        ),
    ])
}

/// Where the ids in a request are: the fields from the outermost in; of a list, its first entry.
fn id_paths(world: &World, message: &DynamicMessage, admin: bool) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for field in message.descriptor().fields() {
        let name = field.name().to_owned();
        match field.kind() {
            Kind::String if !admin && world.ids(&name).is_some() => paths.push(vec![name]),
            Kind::Message(_) if !field.is_map() && message.has_field(&field) => {
                let value = message.get_field(&field);
                let inner = match value.as_ref() {
                    Value::List(list) => list.first().and_then(Value::as_message),
                    value => value.as_message(),
                };
                for mut path in inner.map_or_else(Vec::new, |m| id_paths(world, m, admin)) {
                    path.insert(0, name.clone());
                    paths.push(path);
                }
            }
            _ => {}
        }
    }
    paths
}

fn with(message: &DynamicMessage, path: &[String], id: &str) -> DynamicMessage {
    let mut changed = message.clone();
    let (name, rest) = path.split_first().expect("a path has a field");
    let value = if rest.is_empty() {
        Value::String(id.to_owned())
    } else {
        match message.get_field_by_name(name).unwrap().into_owned() {
            Value::List(mut list) => {
                list[0] = Value::Message(with(list[0].as_message().unwrap(), rest, id));
                Value::List(list)
            }
            value => Value::Message(with(value.as_message().unwrap(), rest, id)),
        }
    };
    changed.set_field_by_name(name, value);
    changed
}

type Outcome = Result<Option<Bytes>, Status>;

/// All that an answer says, as text.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Ok(None) => "the end of a stream".to_owned(),
        Ok(Some(bytes)) => format!("answer {}", String::from_utf8_lossy(bytes)),
        Err(status) => format!(
            "{:?} {} {}",
            status.code(),
            status.message(),
            String::from_utf8_lossy(status.details())
        ),
    }
}

fn reason(outcome: &Outcome) -> Option<Code> {
    let info = outcome.as_ref().err()?.get_details_error_info()?;
    Code::parse(&info.reason)
}

/// What an answer shows that it must not. What the request itself said is no news.
fn leak<'a>(world: &'a World, request: &[u8], told: &str) -> Option<&'a str> {
    let asked = String::from_utf8_lossy(request);
    world
        .needles()
        .into_iter()
        .find(|needle| told.contains(needle) && !asked.contains(needle))
}

#[tokio::test]
async fn to_a_narrowed_token_what_is_not_its_own_is_not_there() {
    let mut world = world().await;
    world.own_terminal = terminal_in(&world.baton, &world.own_dir, "plum").await;
    world.foreign_terminal = terminal_in(&world.baton, &world.foreign_dir, FOREIGN_WORD).await;
    let world = world;
    let baton = &world.baton;
    std::os::unix::fs::symlink(&world.foreign_dir, format!("{}/link", world.own_dir)).unwrap();
    let daemons = baton.client().list_daemons(Default::default()).await;
    let daemon_id = daemons.unwrap().daemons.remove(0).id;
    let own_terminal_session = world.own_terminal.session.as_ref().unwrap().id.clone();
    let tokens = [
        token(baton, "project", to_project(&world.own_dir)).await,
        token(
            baton,
            "session",
            to_sessions(&[&world.own, &own_terminal_session]),
        )
        .await,
    ];
    let before = eventually("nothing changes by itself", || async {
        let before = picture(baton).await;
        (picture(baton).await == before).then_some(before)
    })
    .await;

    let pool = DescriptorPool::decode(baton::wire::DESCRIPTORS).unwrap();
    let methods: Vec<_> = pool
        .services()
        .filter(|service| service.parent_file().package_name() == "baton.v1")
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    let mut table = table(&world, &daemon_id);
    let mut wrong = Vec::new();
    let mut count = 0;
    for method in methods {
        let name = format!("{}/{}", method.parent_service().name(), method.name());
        let Some(entry) = table.remove(name.as_str()) else {
            wrong.push(format!("{name}: has no entry"));
            continue;
        };
        let path = format!("/baton.v1.{name}");
        let base = DynamicMessage::decode(method.input(), &*entry.base).unwrap();
        let ids = id_paths(&world, &base, entry.admin);
        for made in &tokens {
            let who = &made.token.as_ref().unwrap().name;
            let secret = Secret::new(made.secret.clone());
            let send = async |request: Bytes| call(baton, &path, &secret, request, false).await;
            if entry.admin {
                count += 1;
                let outcome = send(entry.base.clone().into()).await;
                if reason(&outcome) != Some(Code::Forbidden) {
                    wrong.push(format!("{name} [{who}]: {}", told(&outcome)));
                }
                continue;
            }
            // Each id alone, and all of them at once.
            let mut foreign_all = base.clone();
            let mut unknown_all = base.clone();
            let mut pairs = Vec::new();
            let mut renamed = Vec::new();
            for id in &ids {
                let (foreign, unknown) = world.ids(id.last().unwrap()).unwrap();
                foreign_all = with(&foreign_all, id, &foreign);
                unknown_all = with(&unknown_all, id, &unknown);
                pairs.push((
                    id.join("."),
                    with(&base, id, &foreign),
                    with(&base, id, &unknown),
                ));
                renamed.push((unknown, foreign));
            }
            if !ids.is_empty() {
                pairs.push(("all".to_owned(), foreign_all, unknown_all));
            }
            for (label, foreign, unknown) in pairs {
                count += 1;
                let request = Bytes::from(foreign.encode_to_vec());
                let outcome = send(request.clone()).await;
                let missing = send(unknown.encode_to_vec().into()).await;
                let mut expected = told(&missing);
                for (unknown, foreign) in &renamed {
                    expected = expected.replace(unknown, foreign);
                }
                let said = told(&outcome);
                if said != expected {
                    wrong.push(format!(
                        "{name} [{who}] {label}: a foreign id says\n    {said}\n  a missing one\n    {expected}"
                    ));
                }
                let good = match reason(&outcome) {
                    Some(Code::NotFound) => true,
                    // As a check beside the id of what it belongs to, it is wrong whatever it is.
                    Some(Code::InvalidInput) => label != "all",
                    None => entry.filters && matches!(&outcome, Ok(Some(list)) if list.is_empty()),
                    _ => false,
                };
                if !good {
                    wrong.push(format!("{name} [{who}] {label}: {said}"));
                }
                if let Some(needle) = leak(&world, &request, &said) {
                    wrong.push(format!("{name} [{who}] {label}: shows {needle}: {said}"));
                }
            }
            if entry.of_projects && who == "session" {
                continue;
            }
            for (label, request) in &entry.forbidden {
                count += 1;
                let outcome = send(request.clone().into()).await;
                let said = told(&outcome);
                if reason(&outcome) != Some(Code::Forbidden) {
                    wrong.push(format!("{name} [{who}] {label}: {said}"));
                }
                if let Some(needle) = leak(&world, request, &said) {
                    wrong.push(format!("{name} [{who}] {label}: shows {needle}: {said}"));
                }
            }
            if !entry.looks {
                continue;
            }
            // What it may ask for, in pages of one: neither what is shown nor where the next page begins
            // tells of anybody else.
            let mut page = base.clone();
            let paged = method.input().get_field_by_name("page_token").is_some();
            if paged {
                page.set_field_by_name("page_size", Value::I32(1));
            }
            for _ in 0..1_000 {
                count += 1;
                let outcome = send(page.encode_to_vec().into()).await;
                let Ok(Some(bytes)) = &outcome else {
                    wrong.push(format!("{name} [{who}] its own: {}", told(&outcome)));
                    break;
                };
                let said = told(&outcome);
                let answer = DynamicMessage::decode(method.output(), &**bytes).unwrap();
                let next = answer
                    .get_field_by_name("next_page_token")
                    .and_then(|token| token.as_str().map(str::to_owned))
                    .unwrap_or_default();
                let key = base64::engine::general_purpose::URL_SAFE_NO_PAD
                    .decode(&next)
                    .unwrap();
                let key = String::from_utf8_lossy(&key).into_owned();
                // The word that is searched for is the request's own, and so no leak: hits are.
                let hits = name.ends_with("/SearchEvents") && !bytes.is_empty();
                if hits || leak(&world, &[], &format!("{said} {key}")).is_some() {
                    wrong.push(format!("{name} [{who}] its own: shows {said} {key}"));
                }
                // Another page was promised: an empty one tells that others had what was passed over.
                let mut items = answer;
                if paged {
                    items.clear_field_by_name("next_page_token");
                    let continued = page.has_field_by_name("page_token");
                    if continued && items.encode_to_vec().is_empty() {
                        wrong.push(format!("{name} [{who}] its own: an empty page"));
                    }
                }
                if next.is_empty() {
                    break;
                }
                page.set_field_by_name("page_token", Value::String(next));
            }
        }
    }
    wrong.extend(
        table
            .keys()
            .map(|name| format!("{name}: there is no such RPC")),
    );
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 100, "only {count} calls");
    assert_eq!(picture(baton).await, before, "something was changed");
}

/// Everything that a watch gave until something came that `done` waits for.
async fn watched(client: Client, request: v1::WatchRequest, done: impl Fn(&str) -> bool) -> String {
    let mut stream = client.events().watch(request).await.unwrap().into_inner();
    let mut all = String::new();
    while !done(&all) {
        let next = tokio::time::timeout(crate::support::baton::PATIENCE, stream.message());
        let message = next
            .await
            .unwrap_or_else(|_| panic!("waited in vain: {all}"));
        all.push_str(&format!("{:?}\n", message.unwrap().unwrap()));
    }
    all
}

fn everything_after(revision: u64) -> v1::WatchRequest {
    let scopes = [
        v1::scope::Scope::All(v1::AllScope {
            from_revision: revision,
        }),
        v1::scope::Scope::Prompts(v1::PromptScope {
            from_revision: revision,
        }),
    ];
    v1::WatchRequest {
        scopes: scopes
            .map(|scope| v1::Scope { scope: Some(scope) })
            .to_vec(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_watch_of_everything_is_of_everything_that_is_seen() {
    let world = world().await;
    let baton = &world.baton;
    let own_ended = ended_in(baton, &world.own_dir, "plum").await.id;
    let project = token(baton, "project", to_project(&world.own_dir)).await;
    let session = token(baton, "session", to_sessions(&[&world.own, &own_ended])).await;
    let start = own_ended_revision(baton, &own_ended).await;
    let gone = format!("DeletedId(\"{own_ended}\")");
    let watches = [&project, &session].map(|made| {
        let (client, gone, own) = (client(baton, made), gone.clone(), world.own_prompt.clone());
        tokio::spawn(watched(client, everything_after(0), move |all| {
            all.contains(&gone) && all.contains(&own)
        }))
    });
    // Others live on: they ask, are answered, end and are deleted.
    let admin = baton.client();
    let more = session_in(
        baton,
        &world.foreign_dir,
        &format!("run: touch {FOREIGN_WORD}2"),
    )
    .await;
    let asked = waiting(baton, &more.id).await;
    let answer = v1::AnswerPromptRequest {
        prompt_id: asked.clone(),
        answer: Some(v1::answer_prompt_request::Answer::Decision(v1::Decision {
            allow: false,
            ..Default::default()
        })),
        ..Default::default()
    };
    admin.answer_prompt(answer).await.unwrap();
    let end = v1::EndSessionRequest {
        session_id: more.id.clone(),
        force: true,
        ..Default::default()
    };
    admin.end_session(end).await.unwrap();
    baton
        .wait_for(&more.id, "it ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    for id in [&more.id, &world.foreign_ended, &own_ended] {
        let request = v1::DeleteSessionRequest {
            session_id: id.clone(),
        };
        admin.delete_session(request).await.unwrap();
    }
    let mut all = Vec::new();
    for watch in watches {
        all.push(watch.await.unwrap());
    }
    // Who comes back later is told of the same deletions, after a restart too.
    let mut world = world;
    world.baton.kill_server();
    world.baton.start_server().await;
    for made in [&project, &session] {
        let request = everything_after(start);
        let (client, gone) = (client(&world.baton, made), gone.clone());
        all.push(watched(client, request, move |all| all.contains(&gone)).await);
    }
    for said in &all {
        assert!(said.contains(&world.own), "{said}");
        for needle in world.needles().into_iter().chain([&*more.id, &*asked]) {
            assert!(!said.contains(needle), "{needle} in\n{said}");
        }
    }
    // An admin sees all of it.
    let whole = watched(world.baton.client(), everything_after(start), |all| {
        all.contains(&gone)
    })
    .await;
    assert!(
        whole.contains(&format!("DeletedId(\"{}\")", more.id)),
        "{whole}"
    );
}

/// The revision at which a session that has ended stands: its etag.
async fn own_ended_revision(baton: &Baton, id: &str) -> u64 {
    let request = v1::GetSessionRequest {
        session_id: id.to_owned(),
    };
    let shown = baton.client().get_session(request).await.unwrap();
    // Before it, so that a watch from there shows something of ours besides.
    shown.session.unwrap().etag.parse::<u64>().unwrap() - 1
}

#[tokio::test]
async fn a_narrowed_token_has_the_use_of_what_it_sees() {
    let world = world().await;
    let baton = &world.baton;
    let project = token(baton, "project", to_project(&format!("{}/", world.own_dir))).await;
    let session = token(baton, "session", to_sessions(&[&world.own])).await;
    let (project_id, by_project) = (
        project.token.as_ref().unwrap().id.clone(),
        client(baton, &project),
    );
    let by_session = client(baton, &session);

    // Lists, counts and searches hold what is seen and nothing else.
    for client in [&by_project, &by_session] {
        let listed = client.list_sessions(Default::default()).await.unwrap();
        let ids: Vec<_> = listed.sessions.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids, [world.own.as_str()]);
        let prompts = client.list_prompts(Default::default()).await.unwrap();
        let ids: Vec<_> = prompts.prompts.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(ids, [world.own_prompt.as_str()]);
        let rules = client.list_prompt_rules(Default::default()).await.unwrap();
        let ids: Vec<_> = rules.rules.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, [world.own_rule.as_str()]);
        let info = client.get_server_info(v1::GetServerInfoRequest {}).await;
        let info = info.unwrap();
        assert_eq!((info.living_sessions, info.pending_prompts), (1, 1));
        let daemons = client.list_daemons(Default::default()).await.unwrap();
        assert_eq!(daemons.daemons[0].living_sessions, 1);
        let search = |query: &str| {
            client.search_events(v1::SearchEventsRequest {
                query: query.to_owned(),
                ..Default::default()
            })
        };
        assert!(!search("plum").await.unwrap().hits.is_empty());
        assert!(search(FOREIGN_WORD).await.unwrap().hits.is_empty());
    }
    let admin = baton.client();
    let whole = admin.get_server_info(v1::GetServerInfoRequest {}).await;
    let whole = whole.unwrap();
    assert_eq!((whole.living_sessions, whole.pending_prompts), (2, 2));

    // A rule for good is for the project only; beneath it, one may be made.
    let answer = v1::AnswerPromptRequest {
        prompt_id: world.own_prompt.clone(),
        answer: Some(v1::answer_prompt_request::Answer::Decision(v1::Decision {
            allow: true,
            remember: v1::Remember::Rule.into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let refused = by_session.answer_prompt(answer.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden, "{refused}");
    let made = by_project
        .answer_prompt(answer)
        .await
        .unwrap()
        .rule
        .unwrap();
    assert_eq!(made.directory, world.own_dir);
    let beneath = v1::CreatePromptRuleRequest {
        pattern: "Bash(ls:*)".to_owned(),
        directory: format!("{}/src", world.own_dir),
        ..Default::default()
    };
    by_project
        .create_prompt_rule(beneath.clone())
        .await
        .unwrap();
    let refused = by_session.create_prompt_rule(beneath).await.unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden);
    baton
        .wait_for(&world.own, "the tool has run", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;

    // It starts sessions in its project, also without saying where; by sessions alone, none.
    let new = v1::CreateSessionRequest {
        harness: "demo".to_owned(),
        ..Default::default()
    };
    let started = by_project.create_session(new.clone()).await.unwrap();
    assert_eq!(started.session.unwrap().cwd, world.own_dir);
    let refused = by_session.create_session(new).await.unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden);

    // What branches off, and what continues that, is seen by the token of the first, whoever did it; what is
    // beside it is not.
    eventually("the turn is over", || async {
        let request = v1::GetSessionRequest {
            session_id: world.own.clone(),
        };
        let shown = by_session.get_session(request).await.unwrap();
        (shown.session.unwrap().activity() == v1::Activity::AwaitingInput).then_some(())
    })
    .await;
    let fork = |id: &str| v1::ForkSessionRequest {
        session_id: id.to_owned(),
        input: "say: branch".to_owned(),
        ..Default::default()
    };
    let forked = by_session.fork_session(fork(&world.own)).await.unwrap();
    let forked = forked.session.unwrap().id;
    turn_ends(baton, &forked).await;
    let end = v1::EndSessionRequest {
        session_id: forked.clone(),
        ..Default::default()
    };
    by_session.end_session(end).await.unwrap();
    baton
        .wait_for(&forked, "it ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    let resume = v1::ResumeSessionRequest {
        session_id: forked.clone(),
        input: "say: further".to_owned(),
        ..Default::default()
    };
    let resumed = baton.client().resume_session(resume).await.unwrap();
    let resumed = resumed.session.unwrap().id;
    let get = |id: &str| v1::GetSessionRequest {
        session_id: id.to_owned(),
    };
    by_session.get_session(get(&resumed)).await.unwrap();
    let narrower = token(baton, "branch", to_sessions(&[&forked])).await;
    let narrower = client(baton, &narrower);
    narrower.get_session(get(&resumed)).await.unwrap();
    let above = narrower.get_session(get(&world.own)).await.unwrap_err();
    assert_eq!(above.code(), Code::NotFound);
    // A parent that is deleted takes nothing away.
    let delete = v1::DeleteSessionRequest {
        session_id: forked.clone(),
    };
    by_session.delete_session(delete).await.unwrap();
    by_session.get_session(get(&resumed)).await.unwrap();

    // Directories: the projects in the place of the roots.
    std::fs::create_dir(format!("{}/.git", world.own_dir)).unwrap();
    let daemons = by_project.list_daemons(Default::default()).await.unwrap();
    let directory = |path: &str| v1::ListDirectoryRequest {
        daemon_id: daemons.daemons[0].id.clone(),
        path: path.to_owned(),
        ..Default::default()
    };
    let roots = by_project.list_directory(directory("")).await.unwrap();
    let entry = &roots.entries[0];
    assert_eq!(
        (roots.entries.len(), &entry.path, entry.is_repository),
        (1, &world.own_dir, true)
    );
    let own = by_project.list_directory(directory(&world.own_dir)).await;
    assert_eq!(own.unwrap().repository, world.own_dir);
    // A repository around a project is not told of.
    std::fs::remove_dir(format!("{}/.git", world.own_dir)).unwrap();
    std::fs::create_dir(baton.project().join(".git")).unwrap();
    let own = by_project.list_directory(directory(&world.own_dir)).await;
    assert_eq!(own.unwrap().repository, "");
    let seen = baton
        .client()
        .list_directory(directory(&world.own_dir))
        .await;
    assert_eq!(seen.unwrap().repository, baton.project().to_string_lossy());
    std::fs::remove_dir(baton.project().join(".git")).unwrap();
    let roots = by_session.list_directory(directory("")).await.unwrap();
    assert!(roots.entries.is_empty());

    // A project that holds a root shows the root; one on another machine shows nothing here.
    let daemon_id = daemons.daemons[0].id.clone();
    let join = baton.client().create_join_token(Default::default()).await;
    let elsewhere = enroll(baton, &join.unwrap().secret).await;
    let above = |daemon_id: &str| {
        let mut narrowing = to_project("/");
        narrowing.projects[0].daemon_id = daemon_id.to_owned();
        narrowing
    };
    let here = client(baton, &token(baton, "here", above(&daemon_id)).await);
    let there = client(baton, &token(baton, "there", above(&elsewhere)).await);
    let roots = here.list_directory(directory("")).await.unwrap();
    let root = baton.project().to_string_lossy().into_owned();
    assert_eq!(roots.entries[0].path, root);
    assert!(
        !here
            .list_sessions(Default::default())
            .await
            .unwrap()
            .sessions
            .is_empty()
    );
    let roots = there.list_directory(directory("")).await.unwrap();
    assert!(roots.entries.is_empty());
    assert!(
        there
            .list_sessions(Default::default())
            .await
            .unwrap()
            .sessions
            .is_empty()
    );
    let new = v1::CreateSessionRequest {
        harness: "demo".to_owned(),
        cwd: world.own_dir.clone(),
        daemon_id,
        ..Default::default()
    };
    let refused = there.create_session(new.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden);
    // Without a daemon it is meant for that machine, which is away.
    let new = v1::CreateSessionRequest {
        daemon_id: String::new(),
        ..new
    };
    let refused = there.create_session(new).await.unwrap_err();
    assert_eq!(refused.code(), Code::NoDaemon);

    // A revocation ends what it has open.
    let mut live = by_project
        .events()
        .watch(everything_after(0))
        .await
        .unwrap()
        .into_inner();
    live.message().await.unwrap().unwrap();
    let revoke = v1::RevokeTokenRequest {
        token_id: project_id,
    };
    baton.client().revoke_token(revoke).await.unwrap();
    let ended = loop {
        match live.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn what_a_token_is_narrowed_to_is_the_servers_own_record() {
    let mut baton = Baton::start().await;
    let own = baton.project().join("own");
    std::fs::create_dir(&own).unwrap();
    let own_dir = own.to_string_lossy().into_owned();
    let session = session_in(&baton, &own_dir, "say: plum").await.id;
    let other = baton.session("demo", "say: quince").await.id;
    let short = |id: &str| id[id.len() - 6..].to_owned();
    let create = |arguments: &[&str]| {
        let mut command = baton.cli(&["--json", "token", "create"]);
        command.args(arguments);
        command.output().unwrap()
    };

    // What makes no sense is refused, and what is not there is not found.
    let unknown = SessionId::generate(SystemClock.now()).to_string();
    for (arguments, code) in [
        (&["x", "--scope", "admin", "--session", &session][..], 2),
        (&["x", "--session", &unknown], 3),
        (&["x", "--project", "nobody:/srv"], 3),
    ] {
        let refused = create(arguments);
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{arguments:?} {refused:?}"
        );
    }

    // Relative to here, and by the end of an id.
    let made = create(&["ci", "--project", "own", "--session", &short(&session)]);
    assert!(made.status.success(), "{made:?}");
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let expected = serde_json::json!({
        "projects": [{"directory": own_dir, "daemon_id": null}],
        "session_ids": [session],
    });
    assert_eq!(made["token"]["narrowing"], expected);
    let secret = Secret::new(made["secret"].as_str().unwrap());
    let listed = baton.cli(&["token", "list"]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let line = listed.lines().find(|line| line.contains("ci")).unwrap();
    assert!(
        line.contains(&own_dir) && line.contains(&short(&session)),
        "{listed}"
    );

    for round in ["as it is", "after a restart"] {
        if round != "as it is" {
            baton.kill_server();
            baton.start_server().await;
        }
        let narrowed = Client::lazy(ServerAddress::new(baton.url()).with_token(secret.clone()));
        let narrowed = narrowed.unwrap();
        let caller = narrowed.get_caller(v1::GetCallerRequest {}).await.unwrap();
        let narrowing = caller.token.unwrap().narrowing.unwrap();
        assert_eq!(narrowing.projects[0].directory, own_dir, "{round}");
        assert_eq!(narrowing.session_ids, [session.as_str()], "{round}");
        // A short id of another's is no more found than one of nobody.
        let look = |id: &str| {
            let mut command = baton.cli(&["logs", id]);
            command.env("BATON_TOKEN", secret.expose());
            command.output().unwrap()
        };
        assert!(look(&short(&session)).status.success(), "{round}");
        let (foreign, missing) = (look(&short(&other)), look("ZZZZZZ"));
        assert_eq!(foreign.status.code(), Some(3), "{round}");
        let said = |output: &std::process::Output, id: &str| {
            String::from_utf8_lossy(&output.stderr).replace(id, "ID")
        };
        assert_eq!(said(&foreign, &short(&other)), said(&missing, "ZZZZZZ"));
    }
}
