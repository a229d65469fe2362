//! Tasks as a client and a person use them: a real server, killed in the middle.

use std::collections::BTreeSet;
use std::process::Output;

use baton::base::id::TaskId;
use baton::base::{Clock as _, Code, SystemClock};
use baton::client::Client;
use baton::wire::v1;
use serde_json::Value;

use crate::support::baton::{Baton, PATIENCE};

async fn server() -> Baton {
    let mut baton = Baton::new();
    baton.start_server().await;
    baton
}

/// A new agent; its id.
async fn agent(client: &Client) -> String {
    let name = format!("agent {:x}", rand::random::<u64>());
    let request = v1::CreateAgentRequest {
        request_id: String::new(),
        settings: Some(v1::AgentSettings {
            name,
            role: v1::AgentRole::Worker.into(),
            harness: "demo".to_owned(),
            ..Default::default()
        }),
    };
    client
        .create_agent(request)
        .await
        .unwrap()
        .agent
        .unwrap()
        .id
}

fn on(kind: v1::DependencyKind, id: &str) -> v1::DependencyTarget {
    v1::DependencyTarget {
        kind: kind.into(),
        on_task_id: id.to_owned(),
        gate: None,
    }
}

async fn make(client: &Client, title: &str, priority: u32, after: &[&str]) -> v1::Task {
    let request = v1::CreateTaskRequest {
        title: title.to_owned(),
        priority,
        dependencies: after
            .iter()
            .map(|id| on(v1::DependencyKind::Blocks, id))
            .collect(),
        ..Default::default()
    };
    client.create_task(request).await.unwrap().task.unwrap()
}

async fn get(client: &Client, id: &str) -> v1::Task {
    let request = v1::GetTaskRequest {
        task_id: id.to_owned(),
    };
    client.get_task(request).await.unwrap().task.unwrap()
}

async fn assign(client: &Client, id: &str, agent: &str) -> Result<v1::Task, baton::base::Error> {
    let request = v1::AssignTaskRequest {
        task_id: id.to_owned(),
        agent_id: agent.to_owned(),
        branch: "agent/a/work".to_owned(),
        ..Default::default()
    };
    Ok(client.assign_task(request).await?.task.unwrap())
}

async fn close(client: &Client, id: &str) -> v1::Task {
    let request = v1::CompleteTaskRequest {
        task_id: id.to_owned(),
        outcome: v1::CompleteOutcome::Closed.into(),
        ..Default::default()
    };
    client.complete_task(request).await.unwrap().task.unwrap()
}

/// All pages of three.
async fn ready(client: &Client) -> Vec<v1::Task> {
    let mut all = Vec::new();
    let mut request = v1::ListReadyTasksRequest {
        page_size: 3,
        ..Default::default()
    };
    loop {
        let page = client.list_ready_tasks(request.clone()).await.unwrap();
        all.extend(page.tasks);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

async fn list(client: &Client, request: v1::ListTasksRequest) -> Vec<v1::Task> {
    let mut all = Vec::new();
    let mut request = v1::ListTasksRequest {
        page_size: 3,
        ..request
    };
    loop {
        let page = client.list_tasks(request.clone()).await.unwrap();
        all.extend(page.tasks);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

fn titles(tasks: &[v1::Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.title.as_str()).collect()
}

#[tokio::test]
async fn what_is_ready_is_ordered_by_what_waits_for_it() {
    let baton = server().await;
    let client = baton.client();
    let base = make(&client, "base", 5, &[]).await;
    make(&client, "other", 2, &[]).await;
    let middle = make(&client, "middle", 4, &[&base.id]).await;
    let urgent = make(&client, "urgent", 1, &[&middle.id]).await;
    let first = ready(&client).await;
    assert_eq!(titles(&first), ["base", "other"]);
    assert_eq!((first[0].priority, first[0].effective_priority), (5, 1));
    let asked = v1::GetTaskRequest {
        task_id: base.id.clone(),
    };
    let waiting = client.get_task(asked).await.unwrap().waiter_ids;
    assert_eq!(waiting, std::slice::from_ref(&middle.id));
    let blocked = get(&client, &urgent.id).await;
    assert!(blocked.blocked);
    assert_eq!(blocked.blocked_by_ids, std::slice::from_ref(&middle.id));
    assert_eq!(blocked.status(), v1::TaskStatus::Open);
    close(&client, &base.id).await;
    assert_eq!(titles(&ready(&client).await), ["middle", "other"]);

    // A circle is refused, with what is in it.
    let request = v1::AddDependencyRequest {
        task_id: middle.id.clone(),
        on: Some(on(v1::DependencyKind::Blocks, &urgent.id)),
        ..Default::default()
    };
    let error = client.add_dependency(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Cycle);
    assert_eq!(
        error.details()["cycle"],
        format!("{},{}", middle.id, urgent.id)
    );
}

#[tokio::test]
async fn fifty_at_once_give_a_task_to_one_agent() {
    let baton = server().await;
    let task = make(&baton.client(), "wanted", 3, &[]).await.id;
    let mut given = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let client = baton.client();
        let (task, agent) = (task.clone(), agent(&client).await);
        given.spawn(async move { (assign(&client, &task, &agent).await, agent) });
    }
    let (mut winners, mut holders) = (Vec::new(), BTreeSet::new());
    while let Some(done) = given.join_next().await {
        match done.unwrap() {
            (Ok(_), agent) => winners.push(agent),
            (Err(error), _) => {
                assert_eq!(error.code(), Code::AlreadyExists, "{error}");
                holders.insert(error.details()["holder"].clone());
            }
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(holders.into_iter().collect::<Vec<_>>(), winners);
    let task = get(&baton.client(), &task).await;
    assert_eq!(task.assignment.unwrap().agent_id, winners[0]);
    assert!(task.past_assignments.is_empty());
}

#[tokio::test]
async fn a_task_is_handed_off_reviewed_reopened_and_deleted() {
    let baton = server().await;
    let client = baton.client();
    let id = make(&client, "work", 3, &[]).await.id;
    let (alice, bob) = (agent(&client).await, agent(&client).await);
    assign(&client, &id, &alice).await.unwrap();
    let hand_off = v1::HandOffTaskRequest {
        request_id: "once".to_owned(),
        task_id: id.clone(),
        note: "the tests are left".to_owned(),
        agent_id: bob.clone(),
        ..Default::default()
    };
    for _ in 0..2 {
        let task = client
            .hand_off_task(hand_off.clone())
            .await
            .unwrap()
            .task
            .unwrap();
        let holder = task.assignment.unwrap();
        assert_eq!(
            (holder.agent_id, holder.branch.as_str()),
            (bob.clone(), "agent/a/work")
        );
        assert_eq!(task.past_assignments.len(), 1);
        assert_eq!(task.past_assignments[0].note, "the tests are left");
    }
    let back = v1::HandOffTaskRequest {
        task_id: id.clone(),
        ..Default::default()
    };
    let task = client.hand_off_task(back).await.unwrap().task.unwrap();
    assert!(task.assignment.is_none());
    assert_eq!(titles(&ready(&client).await), ["work"]);

    // Closed, opened again for who had it last, and gone.
    close(&client, &id).await;
    let reopen = v1::ReopenTaskRequest {
        task_id: id.clone(),
        note: "not so fast".to_owned(),
        same_agent: true,
        ..Default::default()
    };
    let task = client.reopen_task(reopen).await.unwrap().task.unwrap();
    assert_eq!(task.assignment.unwrap().agent_id, bob);
    let by: BTreeSet<String> = task
        .history
        .iter()
        .filter_map(|entry| entry.actor.as_ref().map(|actor| actor.name.clone()))
        .collect();
    assert_eq!(by.into_iter().collect::<Vec<_>>(), ["bootstrap"]);
    let waits = make(&client, "waits", 3, &[&id]).await.id;
    let mut delete = v1::DeleteTaskRequest {
        task_id: id.clone(),
        ..Default::default()
    };
    let error = client.delete_task(delete.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidState);
    delete.force = true;
    client.delete_task(delete).await.unwrap();
    assert_eq!(titles(&ready(&client).await), ["waits"]);
    assert!(get(&client, &waits).await.dependencies.is_empty());
    let gone = client.get_task(v1::GetTaskRequest { task_id: id }).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let baton = server().await;
    let client = baton.client();
    let owner = agent(&client).await;
    let parent = make(&client, "Parent", 1, &[]).await.id;
    for n in 0..7 {
        let request = v1::CreateTaskRequest {
            title: format!("Mend door {n}"),
            body: "long".to_owned(),
            r#type: v1::TaskType::Bug.into(),
            priority: 2,
            labels: [(
                "team".to_owned(),
                if n % 2 == 0 { "red" } else { "blue" }.to_owned(),
            )]
            .into(),
            dependencies: vec![on(v1::DependencyKind::ParentChild, &parent)],
            ..Default::default()
        };
        let id = client.create_task(request).await.unwrap().task.unwrap().id;
        match n {
            0 | 1 => drop(assign(&client, &id, &owner).await.unwrap()),
            2 => drop(close(&client, &id).await),
            _ => {}
        }
    }
    let base = v1::ListTasksRequest::default;
    let numbers = |tasks: &[v1::Task]| -> Vec<String> {
        let numbers = tasks
            .iter()
            .map(|t| t.title.chars().last().unwrap().to_string());
        numbers.collect()
    };
    let all = list(&client, base()).await;
    assert_eq!(titles(&all)[7], "Parent");
    assert_eq!(all.len(), 8);
    assert!(all[0].body.is_empty() && all[0].history.is_empty());
    assert_eq!(get(&client, &all[0].id).await.body, "long");
    let cases = [
        (
            v1::ListTasksRequest {
                agent_id: owner.clone(),
                ..base()
            },
            &["1", "0"][..],
        ),
        (
            v1::ListTasksRequest {
                labels: [("team".to_owned(), "red".to_owned())].into(),
                ..base()
            },
            &["6", "4", "2", "0"],
        ),
        (
            v1::ListTasksRequest {
                parent_id: parent.clone(),
                statuses: vec![v1::TaskStatus::Open.into()],
                unassigned: true,
                ..base()
            },
            &["6", "5", "4", "3"],
        ),
        (
            v1::ListTasksRequest {
                title_contains: "DOOR 5".to_owned(),
                types: vec![v1::TaskType::Bug.into()],
                priorities: vec![2, 3],
                ..base()
            },
            &["5"],
        ),
        (
            v1::ListTasksRequest {
                statuses: vec![v1::TaskStatus::Closed.into(), v1::TaskStatus::Review.into()],
                ..base()
            },
            &["2"],
        ),
    ];
    for (request, expected) in cases {
        let found = list(&client, request.clone()).await;
        assert_eq!(numbers(&found), expected, "{request:?}");
    }
    // The parent waits for its children, which are as urgent as it is.
    let shown = get(&client, &parent).await;
    assert_eq!((shown.blocked, shown.blocked_by_ids.len()), (true, 6));
    assert!(
        ready(&client)
            .await
            .iter()
            .all(|task| task.effective_priority == 1)
    );
}

/// What a client sees of everything.
async fn picture(client: &Client) -> String {
    let mut all = format!("{:?}", ready(client).await);
    for task in list(client, v1::ListTasksRequest::default()).await {
        let request = v1::ExplainTaskRequest {
            task_id: task.id.clone(),
        };
        let explained = client.explain_task(request).await.unwrap();
        let mut task = explained.task.clone().unwrap();
        // In no order.
        task.labels.clear();
        let explained = v1::ExplainTaskResponse {
            task: Some(task),
            ..explained
        };
        all.push_str(&format!("{explained:?}\n"));
    }
    all
}

#[tokio::test]
async fn after_a_kill_everything_stands_as_it_was_acknowledged() {
    let mut baton = server().await;
    let client = baton.client();
    let mut ids: Vec<String> = Vec::new();
    for n in 0..40_usize {
        let after: Vec<&str> = match n {
            0..=5 => vec![],
            _ => vec![&ids[n / 2], &ids[n - 1]],
        };
        ids.push(
            make(&client, &n.to_string(), (n % 5) as u32 + 1, &after)
                .await
                .id,
        );
    }
    for id in &ids[..8] {
        close(&client, id).await;
    }
    assign(&client, &ids[9], &agent(&client).await)
        .await
        .unwrap();
    let delete = v1::DeleteTaskRequest {
        task_id: ids[10].clone(),
        force: true,
        ..Default::default()
    };
    client.delete_task(delete).await.unwrap();
    let before = picture(&client).await;
    baton.kill_server();
    baton.start_server().await;
    let after = picture(&baton.client()).await;
    assert_eq!(before, after);

    // And killed while it is being written to: what was acknowledged is there, whole, and nothing waits in a
    // circle.
    let writing = tokio::spawn({
        let client = baton.client();
        let last = ids[39].clone();
        async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let request = v1::CreateTaskRequest {
                    title: format!("late {n}"),
                    dependencies: vec![on(v1::DependencyKind::ParentChild, &last)],
                    ..Default::default()
                };
                match client.create_task(request).await {
                    Ok(made) => acknowledged.push(made.task.unwrap().id),
                    Err(_) => break,
                }
            }
            acknowledged
        }
    });
    let children = |client: Client| {
        let parent_id = ids[39].clone();
        async move {
            let request = v1::ListTasksRequest {
                parent_id,
                ..Default::default()
            };
            list(&client, request).await
        }
    };
    crate::support::baton::eventually("some are written", || async {
        (children(baton.client()).await.len() > 5).then_some(())
    })
    .await;
    baton.kill_server();
    let acknowledged = writing.await.unwrap();
    baton.start_server().await;
    let there: BTreeSet<String> = children(baton.client())
        .await
        .into_iter()
        .map(|task| task.id)
        .collect();
    assert!(acknowledged.iter().all(|id| there.contains(id)));
}

#[tokio::test]
async fn a_watch_follows_tasks() {
    let baton = server().await;
    let client = baton.client();
    let first = make(&client, "first", 3, &[]).await.id;
    let second = make(&client, "second", 3, &[&first]).await.id;
    let watch = |task_id: &str| v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::Task(v1::TaskScope {
                from_revision: 0,
                task_id: task_id.to_owned(),
            })),
        }],
        ..Default::default()
    };
    let missing = TaskId::generate(SystemClock.now()).to_string();
    let refused = client.events().watch(watch(&missing)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    let mut stream = client.events().watch(watch("")).await.unwrap().into_inner();
    let mut seen: Vec<(String, bool)> = Vec::new();
    let mut closed = false;
    // First what there is; then that the second is blocked no longer, though its own record has not changed.
    while !seen.contains(&(second.clone(), false)) {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let message = next.unwrap_or_else(|_| panic!("waited in vain: {seen:?}"));
        match message.unwrap().unwrap().body {
            Some(v1::watch_response::Body::Changes(batch)) => {
                for change in batch.changes {
                    if let Some(v1::change::Record::Task(task)) = change.record {
                        seen.push((task.id, task.blocked));
                    }
                }
            }
            Some(v1::watch_response::Body::Progress(_)) if !closed => {
                assert_eq!(seen, [(first.clone(), false), (second.clone(), true)]);
                close(&client, &first).await;
                closed = true;
            }
            _ => {}
        }
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(baton: &Baton, arguments: &[&str]) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = baton.cli(arguments).output().unwrap();
    Ran {
        code: status.code(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

fn json(baton: &Baton, arguments: &[&str]) -> Value {
    let mut all = vec!["--json", "tasks"];
    all.extend(arguments);
    let ran = run(baton, &all);
    assert_eq!(ran.code, Some(0), "{arguments:?} {} {}", ran.out, ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_keeps_tasks_on_the_command_line() {
    let baton = server().await;
    let nothing = run(&baton, &["tasks"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), ""));
    let first = json(
        &baton,
        &[
            "create",
            "Mend the door",
            "--type",
            "bug",
            "--label",
            "team=red",
        ],
    );
    let first_id = first["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (first["status"].as_str(), first["type"].as_str()),
        (Some("open"), Some("bug"))
    );
    let short = &first_id[first_id.len() - 6..];
    let second = json(
        &baton,
        &[
            "create",
            "Paint it",
            "-p",
            "1",
            "--after",
            short,
            "--schedule",
            "1970-01-01T00:00:00Z",
        ],
    );
    let second_id = second["id"].as_str().unwrap().to_owned();
    assert_eq!(second["blocked"], true);

    let listed = run(&baton, &["tasks", "list"]);
    assert!(
        listed.out.contains("1 (3)") && listed.out.contains("open, blocked"),
        "{}",
        listed.out
    );
    let ready = run(&baton, &["tasks", "ready"]);
    assert!(
        ready.out.contains("Mend the door") && !ready.out.contains("Paint"),
        "{}",
        ready.out
    );
    let why = run(&baton, &["tasks", "why", &second_id]);
    assert!(
        why.out.contains("not ready") && why.out.contains("Mend the door"),
        "{}",
        why.out
    );
    let why = json(&baton, &["why", short]);
    assert_eq!(why["ready"], true);
    assert_eq!(why["priority_from_ids"][0], second_id.as_str());

    // What is refused says so by the exit code.
    let circle = run(&baton, &["tasks", "depend", &first_id, &second_id]);
    assert_eq!(circle.code, Some(4));
    assert!(circle.err.contains("circle"), "{}", circle.err);
    assert_eq!(run(&baton, &["tasks", "show", "ZZZZZZ"]).code, Some(3));
    assert_eq!(run(&baton, &["tasks", "update", short]).code, Some(2));
    assert_eq!(
        run(&baton, &["tasks", "update", short, "-p", "9"]).code,
        Some(2)
    );

    let client = baton.client();
    let (alice, bob) = (agent(&client).await, agent(&client).await);
    let held = json(
        &baton,
        &["assign", short, &alice, "--branch", "agent/a/door"],
    );
    assert_eq!(held["assignment"]["agent_id"], alice.as_str());
    let taken = run(&baton, &["tasks", "assign", short, &bob]);
    assert_eq!(taken.code, Some(4));
    assert!(taken.err.contains(&alice), "{}", taken.err);
    let handed = json(
        &baton,
        &["hand-off", short, "--to", &bob, "--note", "hinges are left"],
    );
    assert_eq!(handed["assignment"]["branch"], "agent/a/door");
    json(
        &baton,
        &[
            "update",
            short,
            "--priority",
            "2",
            "--no-labels",
            "--body",
            "Oil too",
        ],
    );
    let gate = json(&baton, &["depend", short, "--approval", "landlord"]);
    assert_eq!(gate["dependencies"][0]["gate"]["name"], "landlord");
    assert_eq!(gate["blocked"], true);
    json(&baton, &["undepend", short, "--approval", "landlord"]);
    let shown = run(&baton, &["tasks", "show", short]);
    for part in ["Oil too", "hinges are left", &bob, "landlord", "bootstrap"] {
        assert!(shown.out.contains(part), "{part} in {}", shown.out);
    }
    let done = json(&baton, &["complete", short, "--close", "--summary", "done"]);
    assert_eq!(
        (done["status"].as_str(), done["summary"].as_str()),
        (Some("closed"), Some("done"))
    );
    assert!(!run(&baton, &["tasks"]).out.contains("Mend the door"));
    assert!(
        run(&baton, &["tasks", "list", "--all"])
            .out
            .contains("Mend the door")
    );
    let again = json(&baton, &["reopen", short, "--same-agent"]);
    assert_eq!(again["assignment"]["agent_id"], bob.as_str());
    assert_eq!(run(&baton, &["tasks", "delete", short]).code, Some(4));
    json(&baton, &["delete", short, "--force"]);
    assert_eq!(run(&baton, &["tasks", "show", &first_id]).code, Some(3));
    assert_eq!(json(&baton, &["show", &second_id])["blocked"], false);
}
