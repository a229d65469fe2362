//! Dispatch: one assignment whoever asks, the scheduler, what it takes up again and what it leaves to a person.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use baton::base::Code;
use baton::client::Client;
use baton::domain::EventBody;
use baton::wire::v1;
use futures_util::future::join_all;

use crate::support::baton::{Baton, eventually};
use crate::support::claude::Place;
use crate::worktrees::{git, repository};

/// A server whose scheduler looks often, and a daemon.
async fn quick(variables: &[(&str, &str)]) -> Baton {
    let mut baton = Baton::new();
    let mut all = vec![("BATON_SCHEDULER_EVERY", "1s")];
    all.extend(variables);
    baton.spawn_server_with(&all);
    baton.server_answers().await;
    baton.start_daemon().await;
    baton
}

async fn resume_scheduler(client: &Client) {
    let request = v1::ResumeSchedulerRequest {};
    let answer = client.resume_scheduler(request).await.unwrap();
    assert!(!answer.scheduler.unwrap().paused);
}

fn worker(name: &str, directory: &Path) -> v1::AgentSettings {
    v1::AgentSettings {
        name: name.to_owned(),
        role: v1::AgentRole::Worker.into(),
        harness: "demo".to_owned(),
        directory: directory.to_string_lossy().into_owned(),
        permission_mode: v1::PermissionMode::Auto.into(),
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

async fn disable(client: &Client, id: &str) {
    let disabled = v1::AgentSettings {
        disabled: true,
        ..Default::default()
    };
    let request = v1::UpdateAgentRequest {
        agent_id: id.to_owned(),
        settings: Some(disabled),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["disabled".to_owned()],
        }),
        ..Default::default()
    };
    client.update_agent(request).await.unwrap();
}

fn draft(title: &str, body: &str) -> v1::CreateTaskRequest {
    v1::CreateTaskRequest {
        title: title.to_owned(),
        body: body.to_owned(),
        ..Default::default()
    }
}

async fn create(client: &Client, request: v1::CreateTaskRequest) -> String {
    client.create_task(request).await.unwrap().task.unwrap().id
}

async fn task(client: &Client, id: &str) -> v1::Task {
    let request = v1::GetTaskRequest {
        task_id: id.to_owned(),
    };
    client.get_task(request).await.unwrap().task.unwrap()
}

async fn task_is(
    client: &Client,
    id: &str,
    what: &str,
    is: impl Fn(&v1::Task) -> bool,
) -> v1::Task {
    eventually(what, || async { Some(task(client, id).await).filter(&is) }).await
}

async fn in_review(client: &Client, id: &str) -> v1::Task {
    task_is(client, id, "the task is in review", |task| {
        task.status() == v1::TaskStatus::Review
    })
    .await
}

fn dispatch(task: &str, agent: &str) -> v1::DispatchTaskRequest {
    v1::DispatchTaskRequest {
        task_id: task.to_owned(),
        agent_id: agent.to_owned(),
        ..Default::default()
    }
}

async fn why(client: &Client, id: &str) -> v1::ExplainTaskResponse {
    let request = v1::ExplainTaskRequest {
        task_id: id.to_owned(),
    };
    client.explain_task(request).await.unwrap()
}

fn said(explained: &v1::ExplainTaskResponse) -> String {
    let reasons = explained
        .reasons
        .iter()
        .map(|reason| reason.message.as_str());
    reasons.collect::<Vec<_>>().join("\n")
}

/// Every assignment that a task has had.
fn assignments(task: &v1::Task) -> Vec<&v1::Assignment> {
    let living = task.assignment.iter();
    task.past_assignments.iter().chain(living).collect()
}

#[tokio::test]
async fn of_fifty_dispatches_of_a_task_one_assignment_is_made() {
    let baton = Baton::start().await;
    let client = baton.client();
    let mut agents = vec![String::new()];
    for name in ["One", "Two", "Three", "Four"] {
        agents.push(make(&client, worker(name, &baton.project())).await.id);
    }
    let id = create(&client, draft("wanted by all", "stream: 400 50")).await;
    let calls = (0..50).map(|at| {
        let (client, request) = (baton.client(), dispatch(&id, &agents[at % agents.len()]));
        async move { client.dispatch_task(request).await }
    });
    let mut sessions = Vec::new();
    for outcome in join_all(calls).await {
        match outcome {
            Ok(answer) => sessions.push(answer.session_id),
            Err(error) => assert!(
                matches!(error.code(), Code::AlreadyExists | Code::InvalidState),
                "{error}"
            ),
        }
    }
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let task = task(&client, &id).await;
    let [assignment] = assignments(&task)[..] else {
        panic!("one assignment: {task:?}");
    };
    assert_eq!(assignment.session_ids, sessions);
    let listed = client
        .list_sessions(v1::ListSessionsRequest::default())
        .await
        .unwrap();
    assert_eq!(listed.sessions.len(), 1);
    assert_eq!(listed.sessions[0].task.as_ref().unwrap().task_id, id);
}

#[tokio::test]
async fn the_scheduler_is_paused_until_it_is_wanted_and_gives_each_task_to_who_fits_best() {
    let baton = quick(&[]).await;
    let client = baton.client();
    let repo = repository(&baton.project().join("repo"));
    let with = |name: &str, words: &[&str]| v1::AgentSettings {
        capabilities: words.iter().map(|word| (*word).to_owned()).collect(),
        ..worker(name, &repo)
    };
    let plain = make(&client, with("Plain", &["rust"])).await;
    let best = make(&client, with("Best", &["rust", "docs"])).await;
    let mut persistent = with("Persistent", &["rust", "docs"]);
    persistent.worker_mode = v1::WorkerMode::Persistent.into();
    make(&client, persistent).await;
    let other = make(&client, with("Other", &["docs"])).await;
    let mut off = with("Off", &["rust", "docs"]);
    off.disabled = true;
    make(&client, off).await;

    let id = create(
        &client,
        v1::CreateTaskRequest {
            required_capabilities: vec!["rust".to_owned()],
            preferred_capabilities: vec!["docs".to_owned()],
            ..draft("a thing", "write: made.txt by the worker\nsay: it is made")
        },
    )
    .await;
    // What it would do, and that it does nothing.
    let explained = why(&client, &id).await;
    assert!(
        said(&explained).contains("the scheduler is paused"),
        "{}",
        said(&explained)
    );
    let order: Vec<(&str, bool)> = explained
        .candidates
        .iter()
        .map(|candidate| (candidate.name.as_str(), candidate.eligible))
        .collect();
    assert_eq!(
        order,
        [
            ("Best", true),
            ("Plain", true),
            ("Off", false),
            ("Other", false)
        ]
    );
    let obstacle = |name: &str| {
        let found = explained
            .candidates
            .iter()
            .find(|candidate| candidate.name == name);
        found.unwrap().obstacle.clone()
    };
    assert_eq!(obstacle("Other"), "lacks rust");
    assert_eq!(obstacle("Off"), "is disabled");
    assert_eq!(explained.candidates[0].score, 100);
    assert_eq!(explained.candidates[1].score, 50);

    resume_scheduler(&client).await;
    let done = in_review(&client, &id).await;
    let [assignment] = assignments(&done)[..] else {
        panic!("one assignment");
    };
    assert_eq!(assignment.agent_id, best.id);
    assert_eq!(assignment.assigned_by.as_ref().unwrap().name, "scheduler");
    assert_eq!(done.summary, "it is made");
    assert_eq!(done.merge_status(), v1::MergeStatus::Pending);
    // It worked in a worktree of its own, with the task's id in its path and in its branch.
    let worktree = client
        .get_worktree(v1::GetWorktreeRequest {
            worktree_id: assignment.worktree_id.clone(),
        })
        .await
        .unwrap()
        .worktree
        .unwrap();
    let place = worktree.place.unwrap();
    assert!(place.path.contains(&id), "{}", place.path);
    assert!(place.branch.starts_with("agent/best/"), "{}", place.branch);
    assert!(PathBuf::from(&place.path).join("made.txt").exists());
    assert!(!repo.join("made.txt").exists());
    let session = baton.record(&assignment.session_ids[0]).await;
    assert_eq!(session.cwd, place.path);

    // What an agent was given by a person comes before what nobody has; paused again, nothing is begun.
    let request = v1::PauseSchedulerRequest {
        reason: "lunch".to_owned(),
    };
    client.pause_scheduler(request).await.unwrap();
    let given = create(&client, draft("given", "say: done")).await;
    let request = v1::AssignTaskRequest {
        task_id: given.clone(),
        agent_id: plain.id.clone(),
        ..Default::default()
    };
    client.assign_task(request).await.unwrap();
    let text = said(&why(&client, &given).await);
    assert!(
        text.contains("was paused by") && text.contains("lunch"),
        "{text}"
    );
    resume_scheduler(&client).await;
    let done = in_review(&client, &given).await;
    assert_eq!(assignments(&done)[0].agent_id, plain.id);

    // Nobody can: it waits, and says for what.
    let odd = create(
        &client,
        v1::CreateTaskRequest {
            required_capabilities: vec!["cobol".to_owned()],
            ..draft("odd", "say: done")
        },
    )
    .await;
    let explained = why(&client, &odd).await;
    assert!(
        explained.ready
            && explained
                .candidates
                .iter()
                .all(|candidate| !candidate.eligible)
    );
    let error = client.dispatch_task(dispatch(&odd, "")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    assert!(error.message().contains("lacks cobol"), "{error}");
    // A person may know better.
    client
        .dispatch_task(dispatch(&odd, &other.id))
        .await
        .unwrap();
    in_review(&client, &odd).await;
}

#[tokio::test]
async fn a_session_that_crashes_is_taken_up_again_under_the_same_assignment_and_then_is_a_persons()
{
    let baton = quick(&[("BATON_SCHEDULER_MAX_RESTARTS", "1")]).await;
    let client = baton.client();
    make(&client, worker("Crashing", &baton.project())).await;
    resume_scheduler(&client).await;
    let id = create(&client, draft("once", "say: begun\ncrash: 3")).await;
    let done = in_review(&client, &id).await;
    let [assignment] = assignments(&done)[..] else {
        panic!("one assignment");
    };
    assert_eq!(assignment.restarts, 1);
    let [first, second] = &assignment.session_ids[..] else {
        panic!("two sessions: {assignment:?}");
    };
    let (first, second) = (baton.record(first).await, baton.record(second).await);
    assert_eq!(second.resumed_from, first.id);
    assert_eq!(first.task.unwrap().assignment_id, assignment.id);
    assert_eq!(second.task.unwrap().assignment_id, assignment.id);

    // One that a person ended is a person's.
    let stopped = create(&client, draft("stopped", "stream: 2000 50")).await;
    let begun = task_is(&client, &stopped, "it is begun", |task| {
        let living = task.assignment.as_ref();
        living.is_some_and(|living| !living.session_ids.is_empty())
    })
    .await;
    let session = begun.assignment.unwrap().session_ids[0].clone();
    let request = v1::EndSessionRequest {
        session_id: session.clone(),
        ..Default::default()
    };
    client.end_session(request).await.unwrap();
    let left = task_is(&client, &stopped, "it is a person's", |task| {
        let living = task.assignment.as_ref();
        living.is_some_and(|living| !living.escalation.is_empty())
    })
    .await;
    let request = v1::GetSchedulerRequest {};
    let scheduler = client
        .get_scheduler(request)
        .await
        .unwrap()
        .scheduler
        .unwrap();
    assert_eq!(scheduler.escalated_task_ids, std::slice::from_ref(&stopped));
    let text = said(&why(&client, &stopped).await);
    assert!(text.contains("a person must look at it"), "{text}");
    let living = left.assignment.unwrap();
    assert_eq!(living.session_ids, [session]);
    // Dispatched again by a person, it goes on under the same assignment.
    let request = v1::UpdateTaskRequest {
        task_id: stopped.clone(),
        body: "say: now it is done".to_owned(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["body".to_owned()],
        }),
        ..Default::default()
    };
    client.update_task(request).await.unwrap();
    client.dispatch_task(dispatch(&stopped, "")).await.unwrap();
    let done = in_review(&client, &stopped).await;
    assert_eq!(assignments(&done)[0].id, living.id);
    assert_eq!(assignments(&done)[0].session_ids.len(), 2);
    assert!(assignments(&done)[0].escalation.is_empty());
}

#[tokio::test]
async fn what_a_provider_refuses_waits_until_it_takes_something_again() {
    let baton = quick(&[]).await;
    let client = baton.client();
    make(&client, worker("Limited", &baton.project())).await;
    resume_scheduler(&client).await;
    let id = create(&client, draft("limited", "limit: 4")).await;
    let parked = task_is(&client, &id, "it is parked", |task| {
        let living = task.assignment.as_ref();
        living.is_some_and(|living| living.parked_until.is_some())
    })
    .await;
    let living = parked.assignment.unwrap();
    let first = baton.record(&living.session_ids[0]).await;
    assert_eq!(first.end.unwrap().reason(), v1::EndReason::RateLimited);
    // Nothing else is given to the agent meanwhile.
    let other = create(&client, draft("other", "say: done")).await;
    let done = in_review(&client, &id).await;
    let assignment = assignments(&done)[0].clone();
    assert_eq!(
        (assignment.id, assignment.session_ids.len()),
        (living.id, 2)
    );
    let second = baton.record(&assignment.session_ids[1]).await;
    let until = living.parked_until.unwrap().seconds;
    assert!(second.created_at.unwrap().seconds >= until);
    let other = in_review(&client, &other).await;
    let began = assignments(&other)[0].assigned_at.unwrap().seconds;
    assert!(began >= until, "{began} {until}");
}

/// The server is killed again and again while tasks are given out: each is done once, under one assignment.
#[tokio::test]
async fn a_server_that_is_killed_while_it_gives_tasks_out_gives_each_once() {
    let mut baton = quick(&[]).await;
    let client = baton.client();
    for name in ["A", "B", "C"] {
        make(&client, worker(name, &baton.project())).await;
    }
    let mut ids = Vec::new();
    for at in 0..6 {
        let body = format!("write: made-{at}.txt once\nsay: made");
        ids.push(create(&client, draft(&format!("number {at}"), &body)).await);
    }
    resume_scheduler(&client).await;
    for pause in [0, 40, 120, 300, 700] {
        tokio::time::timeout(
            std::time::Duration::from_millis(pause),
            std::future::pending::<()>(),
        )
        .await
        .ok();
        baton.kill_server();
        baton.spawn_server_with(&[("BATON_SCHEDULER_EVERY", "1s")]);
        baton.server_answers().await;
    }
    let client = baton.client();
    let mut worked = Vec::new();
    for id in &ids {
        let done = in_review(&client, id).await;
        let [assignment] = assignments(&done)[..] else {
            panic!("one assignment: {done:?}");
        };
        assert_eq!(assignment.session_ids.len(), 1, "{done:?}");
        worked.extend(assignment.session_ids.clone());
    }
    let request = v1::ListSessionsRequest {
        page_size: 100,
        ..Default::default()
    };
    let sessions = client.list_sessions(request).await.unwrap().sessions;
    let mut all: Vec<String> = sessions.into_iter().map(|session| session.id).collect();
    all.sort();
    worked.sort();
    assert_eq!(all, worked, "no session but those of the tasks");
}

#[tokio::test]
async fn a_worker_that_is_busy_is_not_disturbed_and_a_persistent_one_is_told() {
    let baton = Baton::start().await;
    let client = baton.client();
    let busy = make(&client, worker("Busy", &baton.project())).await;
    let long = create(&client, draft("long", "stream: 2000 50")).await;
    client
        .dispatch_task(dispatch(&long, &busy.id))
        .await
        .unwrap();
    let next = create(&client, draft("next", "say: done")).await;
    let error = client
        .dispatch_task(dispatch(&next, &busy.id))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::SessionExists);
    assert!(error.details().contains_key("existing_session"), "{error}");
    assert!(
        task(&client, &next).await.assignment.is_none(),
        "it is still to be had"
    );

    let mut settings = worker("Pair", &baton.project());
    settings.worker_mode = v1::WorkerMode::Persistent.into();
    let pair = make(&client, settings).await;
    let request = v1::DispatchTaskRequest {
        request_id: "once".to_owned(),
        ..dispatch(&next, &pair.id)
    };
    let begun = client.dispatch_task(request.clone()).await.unwrap();
    let again = client.dispatch_task(request).await.unwrap();
    assert_eq!(again.session_id, begun.session_id);
    baton.turns(&begun.session_id, 1).await;
    let more = create(&client, draft("more", "say: done too")).await;
    let told = client
        .dispatch_task(dispatch(&more, &pair.id))
        .await
        .unwrap();
    assert_eq!(told.session_id, begun.session_id);
    // Once: the same again is the same.
    let again = client
        .dispatch_task(dispatch(&more, &pair.id))
        .await
        .unwrap();
    assert_eq!(again.session_id, begun.session_id);
    baton.turns(&begun.session_id, 2).await;
    let inputs = baton.events(&begun.session_id).await;
    let inputs = inputs
        .iter()
        .filter(|event| matches!(event.body, EventBody::InputAccepted { .. }));
    assert_eq!(inputs.count(), 2);
    let task = task(&client, &more).await;
    assert_eq!(task.assignment.unwrap().session_ids, [begun.session_id]);
}

/// The whole way with the real Claude Code: a ready task, a worker in a worktree that edits and commits, the merge.
#[tokio::test]
async fn the_real_claude_code_does_a_task_in_a_worktree_and_it_is_merged() {
    let place = Place::new().await;
    let baton = &place.baton;
    let client = baton.client();
    let repo = repository(&baton.project().join("repo"));
    let mut settings = worker("Real", &repo);
    settings.harness = "claude-code".to_owned();
    make(&client, settings).await;
    resume_scheduler(&client).await;
    let body = "run: printf 'fixed\\n' > fix.txt && git add fix.txt && git -c user.name=R -c user.email=r@example.org commit -qm 'Fix it'\nsay: fixed and committed";
    let id = create(&client, draft("Fix it", body)).await;
    let done = in_review(&client, &id).await;
    let assignment = assignments(&done)[0].clone();
    assert_eq!(done.merge_status(), v1::MergeStatus::Pending);
    let merged = client
        .merge_worktree(v1::MergeWorktreeRequest {
            worktree_id: assignment.worktree_id,
            ..Default::default()
        })
        .await
        .unwrap();
    assert!(!merged.report.unwrap_or_default().commit.is_empty());
    assert_eq!(git(&repo, &["show", "main:fix.txt"]), "fixed");
    assert!(git(&repo, &["log", "-1", "--format=%s", "main"]).contains("Fix it"));
    // The task knows, before anybody says so.
    let told = task(&client, &id).await;
    assert_eq!(told.merge_status(), v1::MergeStatus::Merged);
    let complete = v1::CompleteTaskRequest {
        task_id: id.clone(),
        outcome: v1::CompleteOutcome::Merged.into(),
        ..Default::default()
    };
    let closed = client.complete_task(complete).await.unwrap().task.unwrap();
    assert_eq!(closed.status(), v1::TaskStatus::Closed);
    assert_eq!(closed.merge_status(), v1::MergeStatus::Merged);
}

#[tokio::test]
async fn a_task_pays_for_its_session_and_what_is_spent_is_given_nothing() {
    let baton = quick(&[]).await;
    let client = baton.client();
    let spender = make(&client, worker("Spender", &baton.project())).await;
    let dear = create(&client, draft("dear", "cost: 0.30\nsay: spent")).await;
    client
        .dispatch_task(dispatch(&dear, &spender.id))
        .await
        .unwrap();
    // The scheduler is paused: what is done is done all the same.
    in_review(&client, &dear).await;
    resume_scheduler(&client).await;
    let usage = v1::GetUsageRequest {
        group_by: v1::UsageGroup::Task.into(),
        ..Default::default()
    };
    let rows = client.get_usage(usage).await.unwrap().rows;
    let paid = rows.iter().find(|row| row.task_id == dear).unwrap();
    assert!(paid.spent.unwrap().cost_micro_usd >= 300_000, "{paid:?}");

    let of = v1::budget_scope::Of::AgentId(spender.id.clone());
    let mut budget = v1::SetBudgetRequest {
        scope: Some(v1::BudgetScope { of: Some(of) }),
        hard: Some(v1::Allowance {
            cost_micro_usd: 250_000,
            ..Default::default()
        }),
        ..Default::default()
    };
    client.set_budget(budget.clone()).await.unwrap();
    let next = create(&client, draft("next", "say: done")).await;
    let error = client
        .dispatch_task(dispatch(&next, &spender.id))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::BudgetExceeded, "{error:?}");
    assert!(assignments(&task(&client, &next).await).is_empty());
    let explained = why(&client, &next).await;
    assert!(
        explained.candidates[0].obstacle.contains("budget"),
        "{explained:?}"
    );
    // As soon as there is something left, the scheduler gives it.
    budget.hard = Some(v1::Allowance {
        cost_micro_usd: 5_000_000,
        ..Default::default()
    });
    client.set_budget(budget).await.unwrap();
    in_review(&client, &next).await;
}

/// What nobody can begin, however urgent and however much of it, does not keep back what somebody can.
#[tokio::test]
async fn what_cannot_be_begun_keeps_nothing_back() {
    let baton = quick(&[]).await;
    let client = baton.client();
    // Those who are there for longer are bound to a machine that is off.
    let join = client.create_join_token(Default::default()).await.unwrap();
    let off = crate::narrowing::enroll(&baton, &join.secret).await;
    for n in 0..30 {
        let bound = v1::AgentSettings {
            daemon_id: off.clone(),
            ..worker(&format!("Off {n}"), Path::new(""))
        };
        make(&client, bound).await;
    }
    make(&client, worker("Any", Path::new(""))).await;
    let made = join_all((0..520).map(|n| {
        let client = baton.client();
        async move {
            let request = v1::CreateTaskRequest {
                directory: "/nowhere/at/all".to_owned(),
                priority: 1,
                ..draft(&format!("lost {n}"), "say: never")
            };
            create(&client, request).await
        }
    }))
    .await;
    let good = v1::CreateTaskRequest {
        priority: 5,
        ..draft("good", "say: done")
    };
    let good = create(&client, good).await;
    resume_scheduler(&client).await;
    in_review(&client, &good).await;
    let explained = why(&client, &made[0]).await;
    assert!(!explained.candidates[0].eligible, "{explained:?}");
}

/// As many run on a machine as may, whether they are bound to it or placed there, and whether they are given something new
/// or go on with what they have; and as many in all.
#[tokio::test]
async fn no_more_run_than_may() {
    let baton = quick(&[("BATON_SCHEDULER_MAX_PER_DAEMON", "1")]).await;
    let client = baton.client();
    let repo = repository(&baton.project().join("repo"));
    let names = ["One", "Two", "Three"];
    let made = names.map(|name| make(&client, worker(name, &repo)));
    let agents = join_all(made).await;
    for name in ["a", "b"] {
        create(&client, draft(name, "say: done")).await;
    }
    let given = create(&client, draft("given", "say: done")).await;
    let request = v1::AssignTaskRequest {
        task_id: given.clone(),
        agent_id: agents[2].id.clone(),
        ..Default::default()
    };
    client.assign_task(request).await.unwrap();
    resume_scheduler(&client).await;
    let all = |client: Client| async move {
        let listed = client.list_tasks(v1::ListTasksRequest::default()).await;
        listed.unwrap().tasks
    };
    eventually("all are done", || async {
        let tasks = all(client.clone()).await;
        let reviewed = |task: &v1::Task| task.status() == v1::TaskStatus::Review;
        tasks.iter().all(reviewed).then_some(())
    })
    .await;
    // No two sessions lived at the same time: each was made after the one before had ended.
    let mut sessions = client
        .list_sessions(v1::ListSessionsRequest::default())
        .await
        .unwrap()
        .sessions;
    assert_eq!(sessions.len(), 3);
    let nanos = |time: Option<prost_types::Timestamp>| {
        let time = time.unwrap();
        (time.seconds, time.nanos)
    };
    sessions.sort_by_key(|session| nanos(session.created_at));
    for pair in sessions.windows(2) {
        let (ended, made) = (nanos(pair[0].ended_at), nanos(pair[1].created_at));
        assert!(ended <= made, "{pair:#?}");
    }
}

/// Whoever is disabled gets nothing new, and what is done is noted all the same.
#[tokio::test]
async fn what_a_disabled_agent_has_finished_is_noted() {
    let baton = quick(&[]).await;
    let client = baton.client();
    let agent = make(&client, worker("Leaving", &baton.project())).await;
    resume_scheduler(&client).await;
    let last = create(&client, draft("last", "stream: 20 50\nsay: done")).await;
    task_is(&client, &last, "it is worked on", |task| {
        task.status() == v1::TaskStatus::InProgress
    })
    .await;
    disable(&client, &agent.id).await;
    let next = create(&client, draft("next", "say: never")).await;
    in_review(&client, &last).await;
    let next = task(&client, &next).await;
    assert_eq!(next.status(), v1::TaskStatus::Open);
}

/// A worktree that could not be made is made when its cause is gone, and not refused by what was answered then.
#[tokio::test]
async fn a_worktree_that_was_refused_is_asked_for_anew() {
    let baton = quick(&[]).await;
    let client = baton.client();
    let empty = baton.project().join("empty");
    std::fs::create_dir(&empty).unwrap();
    git(&empty, &["init", "-q", "-b", "main"]);
    let agent = make(&client, worker("Patient", &empty)).await;
    let id = create(&client, draft("wait for it", "say: done")).await;
    let request = v1::AssignTaskRequest {
        task_id: id.clone(),
        agent_id: agent.id.clone(),
        ..Default::default()
    };
    client.assign_task(request).await.unwrap();
    let refused = client
        .dispatch_task(dispatch(&id, &agent.id))
        .await
        .unwrap_err();
    git(&empty, &["commit", "-q", "--allow-empty", "-m", "first"]);
    let begun = client.dispatch_task(dispatch(&id, &agent.id)).await;
    assert!(begun.is_ok(), "{refused}: {begun:?}");
    in_review(&client, &id).await;
}

/// Of two machines the one that has the repository is chosen, for whoever is bound to none and among those who are
/// bound to one, though the other has less to do and its agent is older.
#[tokio::test]
async fn a_task_goes_to_the_machine_that_has_its_repository() {
    let baton = quick(&[]).await;
    let client = baton.client();
    let site = repository(&baton.project().join("site"));
    let docs = site.join("docs");
    std::fs::create_dir(&docs).unwrap();
    std::os::unix::fs::symlink(baton.project(), docs.join("out")).unwrap();
    let list = || async {
        client
            .list_daemons(Default::default())
            .await
            .unwrap()
            .daemons
    };
    let whole = list().await.remove(0);
    // This one may work in a directory of the repository, and not in the repository.
    let join = client.create_join_token(Default::default()).await.unwrap();
    let mut part = baton
        .command(&["daemon", "--server", &baton.url(), "--name", "part"])
        .arg("--data-dir")
        .arg(baton.dir().join("part"))
        .arg("--root")
        .arg(&docs)
        .env("BATON_JOIN_TOKEN", join.secret)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let part_id = eventually("the other daemon is linked", || async {
        let mut daemons = list().await;
        daemons.retain(|daemon| daemon.name == "part" && daemon.attached);
        daemons.pop().map(|daemon| daemon.id)
    })
    .await;
    let request = v1::CreateSessionRequest {
        harness: "demo".to_owned(),
        input: "say: here".to_owned(),
        cwd: site.to_string_lossy().into_owned(),
        ..Default::default()
    };
    let busy = client.create_session(request).await.unwrap().session;
    assert_eq!(busy.unwrap().daemon_id, whole.id);

    let free = make(&client, worker("Free", &docs)).await;
    let first = create(&client, draft("first", "say: done")).await;
    let explained = why(&client, &first).await;
    assert_eq!(
        explained.candidates[0].place,
        format!("on {}, in the repository at {}", whole.name, docs.display())
    );
    let begun = client
        .dispatch_task(dispatch(&first, &free.id))
        .await
        .unwrap();
    assert_eq!(baton.record(&begun.session_id).await.daemon_id, whole.id);
    in_review(&client, &first).await;
    disable(&client, &free.id).await;

    let bound = |name, directory: &Path, daemon: &str| v1::AgentSettings {
        daemon_id: daemon.to_owned(),
        ..worker(name, directory)
    };
    make(&client, bound("Nowhere", &docs.join("out"), &part_id)).await;
    make(&client, bound("Part", &docs, &part_id)).await;
    let best = make(&client, bound("Whole", &docs, &whole.id)).await;
    let second = create(&client, draft("second", "say: done")).await;
    let explained = why(&client, &second).await;
    let of = |name: &str| {
        let mut found = explained.candidates.iter();
        found.find(|candidate| candidate.name == name).unwrap()
    };
    assert_eq!(explained.candidates[0].name, "Whole");
    assert!(of("Part").place.ends_with("which is in no git repository"));
    assert!(of("Nowhere").obstacle.contains("part has no directory"));
    resume_scheduler(&client).await;
    let done = in_review(&client, &second).await;
    part.kill().unwrap();
    part.wait().unwrap();
    assert_eq!(assignments(&done)[0].agent_id, best.id);
}

/// A steward is told of what happens to tasks, once, though the server is killed between the task and its start.
#[tokio::test]
async fn a_steward_is_started_by_its_triggers_once_though_the_server_dies() {
    let mut baton = Baton::start().await;
    let client = baton.client();
    let made = baton
        .cli(&[
            "agents",
            "create",
            "Keeper",
            "--role",
            "steward",
            "--harness",
            "demo",
            "--permission-mode",
            "auto",
            "--cron",
            "0 7 * * 1-5 Europe/Berlin: say: good morning",
            "--when",
            "task_closed team=web: say: seen",
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    for bad in ["0 7 * *: x", "0 7 30 2 *", "0 7 * * * Europe/Nowhere"] {
        let refused = baton
            .cli(&["agents", "update", "Keeper", "--cron", bad])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{bad}");
        assert!(told.contains("settings.triggers[0].cron"), "{told}");
    }
    let keeper = client
        .list_agents(v1::ListAgentsRequest::default())
        .await
        .unwrap()
        .agents
        .remove(0);
    let status = async |client: &Client| {
        let request = v1::GetAgentStatusRequest {
            agent_id: keeper.id.clone(),
            ..Default::default()
        };
        client.get_agent_status(request).await.unwrap()
    };
    let waits = status(&client).await.triggers;
    assert!(waits[0].next_at.is_some() && waits[0].fired_at.is_none());
    assert!(waits[0].obstacle.contains("paused"), "{waits:?}");
    let mut closed = Vec::new();
    for (title, team) in [("first", "web"), ("other", "core"), ("second", "web")] {
        let mut draft = draft(title, "");
        draft.labels.insert("team".to_owned(), team.to_owned());
        let id = create(&client, draft).await;
        let request = v1::CompleteTaskRequest {
            task_id: id.clone(),
            outcome: v1::CompleteOutcome::Closed.into(),
            ..Default::default()
        };
        client.complete_task(request).await.unwrap();
        closed.push(id);
    }
    assert_eq!(status(&client).await.triggers[1].tasks, 2);
    baton.kill_server();
    baton.start_server().await;
    baton.daemon_is_linked().await;
    let client = baton.client();
    resume_scheduler(&client).await;
    let session = eventually("the steward was started", || async {
        status(&client).await.history.pop()
    })
    .await;
    assert_eq!(session.agent.unwrap().id, keeper.id);
    let inputs = client
        .list_inputs(v1::ListInputsRequest {
            session_id: session.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .inputs;
    let [input] = &inputs[..] else {
        panic!("one input: {inputs:?}")
    };
    assert!(input.text.starts_with("say: seen"), "{}", input.text);
    assert!(input.text.contains(&closed[0]) && input.text.contains(&closed[2]));
    assert!(!input.text.contains(&closed[1]), "{}", input.text);
    // It was told, and is not told again.
    let told = status(&client).await;
    assert_eq!(told.triggers[1].tasks, 0);
    assert!(told.triggers[1].fired_at.is_some());
    assert_eq!(told.history.len() + usize::from(told.active.is_some()), 1);
    let shown = baton.cli(&["agents", "show", "Keeper"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("starts     0 7 * * 1-5 Europe/Berlin, next "),
        "{shown}"
    );
    assert!(
        shown.contains("starts     task_closed team=web, last "),
        "{shown}"
    );
}
