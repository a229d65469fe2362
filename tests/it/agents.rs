//! Agents: one session at a time, whoever starts it, and what they are told.

use baton::base::Code;
use baton::client::Client;
use baton::domain::EventBody;
use baton::domain::event::Role;
use baton::wire::v1;
use futures_util::future::join_all;

use crate::crash::{kill, parent};
use crate::support::baton::{Baton, PATIENCE};
use crate::support::claude::{Place, is_alive};

fn settings(baton: &Baton, name: &str) -> v1::AgentSettings {
    v1::AgentSettings {
        name: name.to_owned(),
        role: v1::AgentRole::Worker.into(),
        harness: "demo".to_owned(),
        directory: baton.project().to_string_lossy().into_owned(),
        ..Default::default()
    }
}

async fn make(client: &Client, settings: v1::AgentSettings) -> v1::Agent {
    let request = v1::CreateAgentRequest {
        request_id: String::new(),
        settings: Some(settings),
    };
    client.create_agent(request).await.unwrap().agent.unwrap()
}

fn start(agent: &v1::Agent, input: &str) -> v1::StartAgentRequest {
    v1::StartAgentRequest {
        agent_id: agent.id.clone(),
        input: input.to_owned(),
        ..Default::default()
    }
}

async fn started(client: &Client, agent: &v1::Agent, input: &str) -> v1::Session {
    let response = client.start_agent(start(agent, input)).await.unwrap();
    response.session.unwrap()
}

fn resume(agent: &v1::Agent, input: &str) -> v1::ResumeAgentRequest {
    v1::ResumeAgentRequest {
        agent_id: agent.id.clone(),
        input: input.to_owned(),
        ..Default::default()
    }
}

async fn stop(baton: &Baton, agent: &v1::Agent) {
    let request = v1::StopAgentRequest {
        agent_id: agent.id.clone(),
        ..Default::default()
    };
    let stopped = baton.client().stop_agent(request).await.unwrap();
    if let Some(session) = stopped.session {
        baton.reaches(&session.id, v1::Lifecycle::Ended).await;
    }
}

async fn status(client: &Client, agent: &v1::Agent) -> v1::GetAgentStatusResponse {
    let request = v1::GetAgentStatusRequest {
        agent_id: agent.id.clone(),
        history: 0,
    };
    client.get_agent_status(request).await.unwrap()
}

/// What an agent said, all of it.
async fn said(baton: &Baton, session: &str) -> String {
    let events = baton.events(session).await;
    let messages = events.iter().filter_map(|event| match &event.body {
        EventBody::Message {
            role: Role::Agent,
            blocks,
            ..
        } => Some(format!("{blocks:?}")),
        _ => None,
    });
    messages.collect()
}

#[tokio::test]
async fn of_fifty_starts_at_once_one_wins_and_the_others_are_told_which() {
    let baton = Baton::start().await;
    let agent = make(&baton.client(), settings(&baton, "Alice")).await;
    let starts = (0..50).map(|_| {
        let (client, request) = (baton.client(), start(&agent, "say: hello"));
        async move { client.start_agent(request).await }
    });
    let mut won = Vec::new();
    let mut existing = Vec::new();
    for outcome in join_all(starts).await {
        match outcome {
            Ok(response) => won.push(response.session.unwrap().id),
            Err(error) => {
                assert_eq!(error.code(), Code::SessionExists, "{error}");
                existing.push(error.details()["existing_session"].clone());
            }
        }
    }
    assert_eq!((won.len(), existing.len()), (1, 49));
    assert!(existing.iter().all(|id| *id == won[0]));
    let sessions = baton
        .client()
        .list_sessions(v1::ListSessionsRequest {
            agent_id: agent.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .sessions;
    assert_eq!(sessions.len(), 1);
    let of = sessions[0].agent.clone().unwrap();
    assert_eq!((of.id, of.name), (agent.id.clone(), "Alice".to_owned()));
    assert_eq!(of.role, i32::from(v1::AgentRole::Worker));
}

#[tokio::test]
async fn an_agent_is_started_stopped_and_continued_and_its_history_stays() {
    let mut baton = Baton::start().await;
    let client = baton.client();
    let agent = make(&client, settings(&baton, "Bob")).await;
    stop(&baton, &agent).await;
    let error = client.resume_agent(resume(&agent, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::NoResumableSession);
    // A repeated request is the same start.
    let mut request = start(&agent, "say: first");
    request.request_id = "once".to_owned();
    let first = client.start_agent(request.clone()).await.unwrap();
    let first = first.session.unwrap();
    baton.turns(&first.id, 1).await;
    let again = client.start_agent(request).await.unwrap().session.unwrap();
    assert_eq!(again.id, first.id);
    assert_eq!(status(&client, &agent).await.active.unwrap().id, first.id);
    let error = client.resume_agent(resume(&agent, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::SessionExists);
    stop(&baton, &agent).await;
    assert!(status(&client, &agent).await.active.is_none());

    let mut request = resume(&agent, "recall:");
    request.request_id = "again".to_owned();
    let second = client.resume_agent(request.clone()).await.unwrap();
    let second = second.session.unwrap();
    assert_eq!(second.resumed_from, first.id);
    assert_eq!(second.agent.unwrap().id, agent.id);
    baton.turns(&second.id, 1).await;
    assert!(said(&baton, &second.id).await.contains("first"));
    let repeated = client.resume_agent(request).await.unwrap();
    assert_eq!(repeated.session.unwrap().id, second.id);
    // The same guard for those who continue the session itself.
    stop(&baton, &agent).await;
    let third = client
        .resume_session(v1::ResumeSessionRequest {
            session_id: second.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    assert_eq!(third.agent.unwrap().id, agent.id);
    let error = client.start_agent(start(&agent, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::SessionExists);
    assert_eq!(error.details()["existing_session"], third.id);
    baton.reaches(&third.id, v1::Lifecycle::Running).await;
    stop(&baton, &agent).await;

    // None of it is forgotten with the server.
    baton.kill_server();
    baton.start_server().await;
    let status = status(&baton.client(), &agent).await;
    let history: Vec<String> = status.history.into_iter().map(|it| it.id).collect();
    assert_eq!(history, [third.id, second.id, first.id]);
}

#[tokio::test]
async fn what_an_agent_is_told_reaches_it_beside_its_inputs_or_before_the_first() {
    let baton = Baton::start().await;
    let client = baton.client();
    let mut told = settings(&baton, "Carol");
    told.definition = Some(v1::RoleDefinition {
        instructions: "Mind the gap.".to_owned(),
        on_startup: "say: good morning".to_owned(),
        on_error: "Breathe.".to_owned(),
        ..Default::default()
    });
    let agent = make(&client, told).await;
    let session = started(&client, &agent, "instructions:").await;
    baton.turns(&session.id, 1).await;
    let text = said(&baton, &session.id).await;
    assert!(text.contains("good morning"), "{text}");
    assert!(text.contains("I was told: Mind the gap."), "{text}");
    assert!(text.contains("After an error"), "{text}");
    // Told again when the conversation is continued: the program is a new one.
    stop(&baton, &agent).await;
    let resumed = client.resume_agent(resume(&agent, "instructions:")).await;
    let resumed = resumed.unwrap().session.unwrap();
    baton.turns(&resumed.id, 1).await;
    let text = said(&baton, &resumed.id).await;
    assert!(text.contains("Mind the gap."), "{text}");
    assert!(!text.contains("good morning"), "{text}");
}

async fn given(client: &Client, agent: &v1::Agent, title: &str, priority: u32) -> String {
    let request = v1::CreateTaskRequest {
        title: title.to_owned(),
        body: format!("say: working on {title}"),
        priority,
        ..Default::default()
    };
    let task = client.create_task(request).await.unwrap().task.unwrap().id;
    let request = v1::AssignTaskRequest {
        task_id: task.clone(),
        agent_id: agent.id.clone(),
        ..Default::default()
    };
    client.assign_task(request).await.unwrap();
    task
}

/// What was put into a session's queue, in order.
async fn inputs(baton: &Baton, session: &str) -> Vec<String> {
    let events = baton.events(session).await;
    let inputs = events.into_iter().filter_map(|event| match event.body {
        EventBody::InputAccepted { text, .. } => Some(text),
        _ => None,
    });
    inputs.collect()
}

#[tokio::test]
async fn what_is_ready_for_an_agent_comes_before_what_it_goes_on_with() {
    let baton = Baton::start().await;
    let client = baton.client();
    let mut settings = settings(&baton, "Uma");
    settings.definition = Some(v1::RoleDefinition {
        on_task_assigned: "Read the whole task first.".to_owned(),
        ..Default::default()
    });
    let agent = make(&client, settings).await;
    let session = started(&client, &agent, "say: hello").await;
    baton.turns(&session.id, 1).await;
    stop(&baton, &agent).await;

    // Nothing is ready: it was looked at, and nothing goes first.
    let resumed = client
        .resume_agent(resume(&agent, "say: on"))
        .await
        .unwrap();
    let check = resumed.ready_check.unwrap();
    assert!(check.checked && check.tasks.is_empty() && !check.process_first);
    let second = resumed.session.unwrap();
    assert_eq!(inputs(&baton, &second.id).await, ["say: on"]);
    assert!(second.task.is_none());
    baton.turns(&second.id, 1).await;
    stop(&baton, &agent).await;

    let later = given(&client, &agent, "the other", 4).await;
    let urgent = given(&client, &agent, "the urgent one", 1).await;
    // Not asked for, so not looked at.
    let unchecked = v1::ResumeAgentRequest {
        check_ready_queue: Some(false),
        ..resume(&agent, "say: on")
    };
    let resumed = client.resume_agent(unchecked).await.unwrap();
    assert!(!resumed.ready_check.unwrap().checked);
    let third = resumed.session.unwrap();
    assert_eq!(inputs(&baton, &third.id).await, ["say: on"]);
    baton.turns(&third.id, 1).await;
    stop(&baton, &agent).await;

    let request = v1::ResumeAgentRequest {
        request_id: "once".to_owned(),
        ..resume(&agent, "say: and then on")
    };
    let resumed = client.resume_agent(request.clone()).await.unwrap();
    let check = resumed.ready_check.unwrap();
    let found: Vec<&str> = check.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(found, [urgent.as_str(), later.as_str()]);
    assert!(check.checked && check.process_first);
    let fourth = resumed.session.unwrap();
    let [input] = &inputs(&baton, &fourth.id).await[..] else {
        panic!("one input");
    };
    assert!(
        input.starts_with(&format!(
            "Read the whole task first.\n\n# Task {urgent}: the urgent one"
        )),
        "{input}"
    );
    assert!(input.contains(&format!("- {later}: the other")), "{input}");
    assert!(input.ends_with("\n\nsay: and then on"), "{input}");
    // The task is begun, in this session.
    assert_eq!(fourth.task.as_ref().unwrap().task_id, urgent);
    let request_of = |id: &str| v1::GetTaskRequest {
        task_id: id.to_owned(),
    };
    let task = client
        .get_task(request_of(&urgent))
        .await
        .unwrap()
        .task
        .unwrap();
    assert_eq!(task.status(), v1::TaskStatus::InProgress);
    let assignment = task.assignment.unwrap();
    assert_eq!(assignment.id, fourth.task.unwrap().assignment_id);
    assert_eq!(assignment.session_ids, std::slice::from_ref(&fourth.id));
    // A repeat is the same session.
    let again = client.resume_agent(request).await.unwrap();
    assert_eq!(again.session.unwrap().id, fourth.id);
    baton.turns(&fourth.id, 1).await;
    stop(&baton, &agent).await;

    // The conversation knows the task already.
    let resumed = client.resume_agent(resume(&agent, "")).await.unwrap();
    let fifth = resumed.session.unwrap();
    let [input] = &inputs(&baton, &fifth.id).await[..] else {
        panic!("one input");
    };
    assert!(input.contains("is not done yet"), "{input}");
    assert!(!input.contains("# Task"), "{input}");
}

/// The real program takes what an agent is told as a system prompt: it is part of what the model is sent.
#[tokio::test]
async fn the_real_claude_code_is_told_by_its_system_prompt() {
    let place = Place::new().await;
    let baton = &place.baton;
    let client = baton.client();
    let mut told = settings(baton, "Dora");
    told.harness = "claude-code".to_owned();
    told.definition = Some(v1::RoleDefinition {
        instructions: "You are Dora of the quince orchard.".to_owned(),
        ..Default::default()
    });
    let agent = make(&client, told).await;
    let session = started(&client, &agent, "say: hello").await;
    baton.turns(&session.id, 1).await;
    let system = place.last_request()["system"].to_string();
    assert!(system.contains("quince orchard"), "{system}");
}

/// The whole of a machine's death and return, with the real program: the daemon alone is killed, and its agent works on;
/// then daemon, runner and program go at once, the session has crashed, and the agent is resumed. It remembers, and
/// what has become ready meanwhile comes before what it goes on with.
#[tokio::test]
async fn the_real_claude_code_is_resumed_after_a_killed_daemon_with_what_is_ready_first() {
    let mut place = Place::new().await;
    let client = place.baton.client();
    let mut told = settings(&place.baton, "Rita");
    told.harness = "claude-code".to_owned();
    let agent = make(&client, told).await;
    let session = started(&client, &agent, "say: quince").await;
    place.baton.turns(&session.id, 1).await;
    place.baton.say(&session.id, "stream: 100 50").await;
    place.talk(session.clone()).streaming().await;
    place.baton.kill_daemon();
    place.baton.start_daemon().await;
    place.baton.turns(&session.id, 2).await;
    let pid = place.talk(session.clone()).pid().await;
    assert!(is_alive(pid));

    place.baton.kill_daemon();
    let program = i32::try_from(pid).unwrap();
    kill(parent(program));
    kill(program);
    let ready = given(&client, &agent, "the roof", 1).await;
    place.baton.start_daemon().await;
    let crashed = place.baton.reaches(&session.id, v1::Lifecycle::Ended).await;
    let conversation = crashed.provider_session_id;
    let resumed = client
        .resume_agent(resume(&agent, "then go on with the fence"))
        .await
        .unwrap();
    let check = resumed.ready_check.unwrap();
    assert!(check.checked && check.process_first, "{check:?}");
    assert_eq!(check.tasks[0].id, ready);
    let session = resumed.session.unwrap();
    assert_eq!(session.resumed_from, crashed.id);
    place.baton.turns(&session.id, 1).await;

    // What the model was sent: the talk from before the death, then the task, then the prompt.
    let sent = place.last_request()["messages"].to_string();
    let at = |text: &str| {
        let found = sent.rfind(text);
        found.unwrap_or_else(|| panic!("no {text:?} in {sent}"))
    };
    assert!(at("say: quince") < at(&format!("# Task {ready}: the roof")));
    assert!(at("the roof") < at("then go on with the fence"));
    assert!(at("working on the roof") < at("then go on with the fence"));
    let log = place.talk(session.clone());
    assert_eq!(log.said().await, ["working on the roof"]);
    assert_eq!(log.record().await.provider_session_id, conversation);
    let task = client
        .get_task(v1::GetTaskRequest { task_id: ready })
        .await
        .unwrap()
        .task
        .unwrap();
    assert_eq!(task.status(), v1::TaskStatus::InProgress);
    assert_eq!(task.assignment.unwrap().session_ids, [session.id]);
}

#[tokio::test]
async fn a_name_is_one_agents_own_and_changes_need_what_was_read() {
    let baton = Baton::start().await;
    let client = baton.client();
    let eve = make(&client, settings(&baton, "Eve")).await;
    let other = make(&client, settings(&baton, "Frank")).await;
    let update = |agent: &v1::Agent, name: &str, paths: &[&str]| v1::UpdateAgentRequest {
        agent_id: agent.id.clone(),
        settings: Some(v1::AgentSettings {
            name: name.to_owned(),
            disabled: true,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        etag: agent.etag.clone(),
        ..Default::default()
    };
    let taken = client.update_agent(update(&other, "EVE", &["name"])).await;
    assert_eq!(taken.unwrap_err().code(), Code::AlreadyExists);
    // Its own name in another case is its own still.
    let renamed = client.update_agent(update(&eve, "EVE", &["name"])).await;
    let renamed = renamed.unwrap().agent.unwrap();
    assert_eq!(renamed.settings.clone().unwrap().name, "EVE");
    assert!(!renamed.settings.clone().unwrap().disabled);
    let stale = client.update_agent(update(&eve, "Eva", &["name"])).await;
    assert_eq!(stale.unwrap_err().code(), Code::Stale);

    let disabled = client
        .update_agent(update(&renamed, "", &["disabled"]))
        .await;
    assert!(disabled.unwrap().agent.unwrap().settings.unwrap().disabled);
    let error = client.start_agent(start(&eve, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::AgentDisabled);

    // Fifty agents of one name: one of them is made.
    let made = join_all((0..50).map(|_| {
        let (client, settings) = (baton.client(), settings(&baton, "Grace"));
        async move {
            let request = v1::CreateAgentRequest {
                request_id: String::new(),
                settings: Some(settings),
            };
            client.create_agent(request).await
        }
    }))
    .await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    let codes = refused
        .into_iter()
        .map(|outcome| outcome.unwrap_err().code());
    assert!(codes.into_iter().all(|code| code == Code::AlreadyExists));
}

#[tokio::test]
async fn an_agent_that_runs_is_not_deleted_and_one_that_is_leaves_its_sessions() {
    let baton = Baton::start().await;
    let client = baton.client();
    let agent = make(&client, settings(&baton, "Heidi")).await;
    let session = started(&client, &agent, "say: hi").await;
    baton.turns(&session.id, 1).await;
    let delete = v1::DeleteAgentRequest {
        agent_id: agent.id.clone(),
        ..Default::default()
    };
    let error = client.delete_agent(delete.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    stop(&baton, &agent).await;
    client.delete_agent(delete).await.unwrap();
    let error = client.start_agent(start(&agent, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    // The session is there, and what continues it is nobody's.
    let resumed = client
        .resume_session(v1::ResumeSessionRequest {
            session_id: session.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .session
        .unwrap();
    assert!(resumed.agent.is_none());
    // The name is free.
    make(&client, settings(&baton, "heidi")).await;
}

/// A lost session may still have a process: the agent is started beside it by force only, and the lost process is
/// ended when it is found.
#[tokio::test]
async fn a_lost_session_keeps_its_agent_until_it_is_given_up() {
    let mut baton = Baton::new().server_flags(&["--grace", "1s"]);
    baton.start_server().await;
    baton.start_daemon().await;
    let client = baton.client();
    let agent = make(&client, settings(&baton, "Ivan")).await;
    let lost = started(&client, &agent, "say: hi").await;
    baton.turns(&lost.id, 1).await;
    baton.kill_daemon();
    let ended = baton.reaches(&lost.id, v1::Lifecycle::Ended).await;
    assert_eq!(ended.end.unwrap().reason(), v1::EndReason::Lost);
    let error = client.start_agent(start(&agent, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidState, "{error}");
    let mut forced = start(&agent, "say: anew");
    forced.force = true;
    // Nobody is there to start it; the lost session is given up all the same.
    let error = client.start_agent(forced.clone()).await.unwrap_err();
    assert!(
        matches!(error.code(), Code::NoDaemon | Code::DaemonDisconnected),
        "{error}"
    );
    baton.start_daemon_anew().await;
    let anew = client.start_agent(forced).await.unwrap().session.unwrap();
    baton.turns(&anew.id, 1).await;
    assert_eq!(
        baton.record(&lost.id).await.lifecycle(),
        v1::Lifecycle::Ended,
        "it must not come back beside the new one"
    );
}

#[tokio::test]
async fn the_command_line_keeps_and_runs_agents() {
    let baton = Baton::start().await;
    let run = async |arguments: &[&str]| {
        let mut command = baton.cli(arguments);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text, errors)
    };
    let project = baton.project().to_string_lossy().into_owned();
    let (code, _, errors) = run(&[
        "agents",
        "create",
        "Judy",
        "--role",
        "worker",
        "--harness",
        "demo",
        "--cwd",
        &project,
        "--capability",
        "rust",
    ])
    .await;
    assert_eq!(code, Some(0), "{errors}");
    let (_, listed, _) = run(&["agents"]).await;
    assert!(
        listed.contains("Judy") && listed.contains("worker, ephemeral"),
        "{listed}"
    );
    let (code, started, errors) = run(&["--json", "agents", "start", "judy", "say: hello"]).await;
    assert_eq!(code, Some(0), "{errors}");
    let session: serde_json::Value = serde_json::from_str(&started).unwrap();
    let session = session["id"].as_str().unwrap().to_owned();
    let (code, _, errors) = run(&["agents", "start", "Judy"]).await;
    assert_eq!(code, Some(4), "{errors}");
    assert!(errors.contains(&session), "{errors}");
    baton.turns(&session, 1).await;
    let (code, _, errors) = run(&["agents", "send", "Judy", "say: more"]).await;
    assert_eq!(code, Some(0), "{errors}");
    baton.turns(&session, 2).await;
    let (_, shown, _) = run(&["agents", "show", "Judy"]).await;
    assert!(
        shown.contains(&session) && shown.contains("rust"),
        "{shown}"
    );
    let (_, listed, _) = run(&["ps", "--agent", "Judy", "--quiet"]).await;
    assert_eq!(listed.trim(), session);
    let (code, _, errors) = run(&["agents", "stop", "Judy"]).await;
    assert_eq!(code, Some(0), "{errors}");
    baton.reaches(&session, v1::Lifecycle::Ended).await;
    let (code, _, errors) = run(&["agents", "interrupt", "Judy"]).await;
    assert_eq!(code, Some(3), "{errors}");
    let (code, _, errors) = run(&["agents", "update", "Judy", "--disable"]).await;
    assert_eq!(code, Some(0), "{errors}");
    let (_, listed, _) = run(&["agents"]).await;
    assert!(listed.contains("disabled"), "{listed}");
    let (code, _, errors) = run(&["agents", "delete", "Judy"]).await;
    assert_eq!(code, Some(0), "{errors}");
    let (code, _, _) = run(&["agents", "show", "Judy"]).await;
    assert_eq!(code, Some(3));
}

#[tokio::test]
async fn a_watch_tells_that_an_agent_runs_and_that_it_is_idle_again() {
    let baton = Baton::start().await;
    let client = baton.client();
    let agent = make(&client, settings(&baton, "Alice")).await;
    let watch = v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::All(v1::AllScope::default())),
        }],
        ..Default::default()
    };
    let mut stream = client.events().watch(watch).await.unwrap().into_inner();
    let session = started(&client, &agent, "say: hello").await;
    let mut told: Vec<String> = Vec::new();
    let mut stopped = false;
    while told.last().is_none_or(|last| !last.is_empty()) || !stopped {
        if !stopped && told.contains(&session.id) {
            stop(&baton, &agent).await;
            stopped = true;
        }
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let message = next.unwrap_or_else(|_| panic!("waited in vain: {told:?}"));
        let Some(v1::watch_response::Body::Changes(batch)) = message.unwrap().unwrap().body else {
            continue;
        };
        told.extend(
            batch
                .changes
                .into_iter()
                .filter_map(|change| match change.record {
                    Some(v1::change::Record::Agent(agent)) => Some(agent.active_session_id),
                    _ => None,
                }),
        );
    }
}
