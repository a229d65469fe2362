//! `baton tasks`: what is to be done, and who has it.

use std::collections::HashMap;
use std::time::Duration;

use super::{request_id, text};
use crate::base::Timestamp;
use crate::cli::args::{
    Global, TaskCreateArgs, TaskDependArgs, TaskListArgs, TaskReadyArgs, TaskUpdateArgs,
    TasksAction, TasksArgs,
};
use crate::cli::connection::connect;
use crate::cli::exit::{DONE, usage};
use crate::cli::output::Out;
use crate::cli::output::style::{Tone, visible_line};
use crate::cli::output::task as shown;
use crate::cli::resolve;
use crate::client::Client;
use crate::wire::field::required;
use crate::wire::time::time_to_pb;
use crate::wire::v1;

/// The longest that an agent's worktree takes to be made, with its set-up.
const PATIENCE: Duration = Duration::from_secs(3 * 3_600);
/// The most tasks of one page.
const PAGE: usize = 500;

/// `baton tasks`
pub async fn run(global: &Global, out: &Out, args: TasksArgs) -> anyhow::Result<u8> {
    let client = &connect(global).await?;
    let default = TaskListArgs {
        limit: 100,
        ..TaskListArgs::default()
    };
    match args.action.unwrap_or(TasksAction::List(default)) {
        TasksAction::List(args) => list(client, out, args).await,
        TasksAction::Ready(args) => ready(client, out, args).await,
        TasksAction::Show(args) => {
            let request = v1::GetTaskRequest {
                task_id: id(client, &args.task).await?,
            };
            show(out, client.get_task(request).await?.task)
        }
        TasksAction::Create(args) => create(client, out, *args).await,
        TasksAction::Update(args) => update(client, out, *args).await,
        TasksAction::Assign(args) => {
            let request = v1::AssignTaskRequest {
                request_id: request_id(),
                task_id: id(client, &args.task).await?,
                agent_id: args.agent,
                branch: args.branch.unwrap_or_default(),
                worktree_id: args.worktree.unwrap_or_default(),
                ..Default::default()
            };
            said(out, client.assign_task(request).await?.task)
        }
        TasksAction::Dispatch(args) => {
            let agent_id = match &args.agent {
                Some(typed) => super::agents::found(client, typed).await?.id,
                None => String::new(),
            };
            let checkout = match (args.in_worktree, args.in_directory) {
                (true, _) => v1::TaskCheckout::Worktree,
                (_, true) => v1::TaskCheckout::Directory,
                _ => v1::TaskCheckout::Unspecified,
            };
            let request = v1::DispatchTaskRequest {
                request_id: request_id(),
                task_id: id(client, &args.task).await?,
                agent_id,
                note: long(args.note)?,
                checkout: checkout.into(),
            };
            // A worktree may have to be made first.
            let patient = client.clone().with_deadline(PATIENCE);
            let dispatched = patient.dispatch_task(request).await?;
            let task = dispatched.task.unwrap_or_default();
            let value = serde_json::json!({
                "task": shown::task(&task),
                "session_id": dispatched.session_id,
            });
            out.show(&value, || {
                format!(
                    "{}: {} works on it, in session {}",
                    task.id,
                    task.assignment.as_ref().map_or("nobody", |a| &a.agent_id),
                    dispatched.session_id
                )
            })?;
            Ok(DONE)
        }
        TasksAction::HandOff(args) => {
            let request = v1::HandOffTaskRequest {
                request_id: request_id(),
                task_id: id(client, &args.task).await?,
                agent_id: args.to.unwrap_or_default(),
                note: long(args.note)?,
                ..Default::default()
            };
            said(out, client.hand_off_task(request).await?.task)
        }
        TasksAction::Complete(args) => {
            let outcome = match (args.merged, args.close) {
                (true, _) => v1::CompleteOutcome::Merged,
                (_, true) => v1::CompleteOutcome::Closed,
                _ => v1::CompleteOutcome::Unspecified,
            };
            let request = v1::CompleteTaskRequest {
                request_id: request_id(),
                task_id: id(client, &args.task).await?,
                summary: long(args.summary)?,
                outcome: outcome.into(),
                ..Default::default()
            };
            said(out, client.complete_task(request).await?.task)
        }
        TasksAction::Reopen(args) => {
            let request = v1::ReopenTaskRequest {
                request_id: request_id(),
                task_id: id(client, &args.task).await?,
                note: long(args.note)?,
                same_agent: args.same_agent,
                ..Default::default()
            };
            said(out, client.reopen_task(request).await?.task)
        }
        TasksAction::Depend(args) => {
            let request = v1::AddDependencyRequest {
                request_id: request_id(),
                task_id: id(client, &args.task).await?,
                on: Some(on(client, &args).await?),
                ..Default::default()
            };
            said(out, client.add_dependency(request).await?.task)
        }
        TasksAction::Undepend(args) => {
            let request = v1::RemoveDependencyRequest {
                request_id: request_id(),
                task_id: id(client, &args.task).await?,
                on: Some(on(client, &args).await?),
                ..Default::default()
            };
            said(out, client.remove_dependency(request).await?.task)
        }
        TasksAction::Delete(args) => {
            let id = id(client, &args.task).await?;
            let request = v1::DeleteTaskRequest {
                request_id: request_id(),
                task_id: id.clone(),
                force: args.force,
                ..Default::default()
            };
            client.delete_task(request).await?;
            out.show(&serde_json::json!({ "deleted": id }), || {
                format!("{id} is gone")
            })?;
            Ok(DONE)
        }
        TasksAction::Why(args) => {
            let request = v1::ExplainTaskRequest {
                task_id: id(client, &args.task).await?,
            };
            why(out, &client.explain_task(request).await?)
        }
    }
}

async fn id(client: &Client, typed: &str) -> anyhow::Result<String> {
    Ok(resolve::task(client, typed).await?.to_string())
}

/// A long text from an argument, or from standard input for `-`.
fn long(argument: Option<String>) -> anyhow::Result<String> {
    argument.map_or(Ok(String::new()), |argument| text(&argument))
}

fn status(word: &str) -> i32 {
    let name = format!("TASK_STATUS_{}", word.to_uppercase());
    v1::TaskStatus::from_str_name(&name)
        .unwrap_or_default()
        .into()
}

fn kind(word: &str) -> i32 {
    let name = format!("TASK_TYPE_{}", word.to_uppercase());
    v1::TaskType::from_str_name(&name)
        .unwrap_or_default()
        .into()
}

async fn list(client: &Client, out: &Out, args: TaskListArgs) -> anyhow::Result<u8> {
    let statuses: Vec<i32> = match (args.status.is_empty(), args.all) {
        (false, _) => args.status.iter().map(|word| status(word)).collect(),
        (true, true) => Vec::new(),
        (true, false) => ["open", "in_progress", "deferred", "backlog", "review"]
            .map(status)
            .to_vec(),
    };
    let parent_id = match &args.parent {
        Some(parent) => id(client, parent).await?,
        None => String::new(),
    };
    let mut request = v1::ListTasksRequest {
        statuses,
        types: args.types.iter().map(|word| kind(word)).collect(),
        priorities: args.priority,
        agent_id: args.agent.unwrap_or_default(),
        unassigned: args.unassigned,
        labels: args.labels.into_iter().collect(),
        parent_id,
        title_contains: args.title.unwrap_or_default(),
        ..Default::default()
    };
    let mut tasks = Vec::new();
    let mut more = true;
    while more && tasks.len() < args.limit {
        request.page_size = page_size(args.limit - tasks.len());
        let page = client.list_tasks(request.clone()).await?;
        tasks.extend(page.tasks);
        more = !page.next_page_token.is_empty();
        request.page_token = page.next_page_token;
    }
    table(out, &tasks, more, "there are no such tasks")
}

async fn ready(client: &Client, out: &Out, args: TaskReadyArgs) -> anyhow::Result<u8> {
    let mut request = v1::ListReadyTasksRequest {
        agent_id: args.agent.unwrap_or_default(),
        unassigned: args.unassigned,
        capabilities: args.capabilities,
        types: args.types.iter().map(|word| kind(word)).collect(),
        labels: args.labels.into_iter().collect(),
        ..Default::default()
    };
    let mut tasks = Vec::new();
    let mut more = true;
    while more && tasks.len() < args.limit {
        request.page_size = page_size(args.limit - tasks.len());
        let page = client.list_ready_tasks(request.clone()).await?;
        tasks.extend(page.tasks);
        more = !page.next_page_token.is_empty();
        request.page_token = page.next_page_token;
    }
    table(out, &tasks, more, "nothing is ready")
}

fn page_size(room: usize) -> i32 {
    i32::try_from(room.min(PAGE)).unwrap_or(1)
}

fn table(out: &Out, tasks: &[v1::Task], more: bool, nothing: &str) -> anyhow::Result<u8> {
    if out.json {
        for task in tasks {
            out.value(&shown::task(task))?;
        }
        return Ok(DONE);
    }
    if tasks.is_empty() {
        out.note(nothing);
        return Ok(DONE);
    }
    out.line(&shown::table(tasks, out.style, out.width))?;
    if more {
        out.note("there are more");
    }
    Ok(DONE)
}

async fn create(client: &Client, out: &Out, args: TaskCreateArgs) -> anyhow::Result<u8> {
    let mut dependencies = Vec::new();
    let parent = args.parent.iter();
    let parent = parent.map(|id| (id, v1::DependencyKind::ParentChild));
    let after = args.after.iter().map(|id| (id, v1::DependencyKind::Blocks));
    for (other, kind) in parent.chain(after) {
        dependencies.push(v1::DependencyTarget {
            kind: kind.into(),
            on_task_id: id(client, other).await?,
            gate: None,
        });
    }
    let request = v1::CreateTaskRequest {
        request_id: request_id(),
        title: args.title,
        body: long(args.body)?,
        r#type: args.kind.as_deref().map_or(0, kind),
        priority: level(args.priority)?,
        complexity: level(args.complexity)?,
        status: args.status.as_deref().map_or(0, status),
        labels: args.labels.into_iter().collect(),
        scheduled_for: args.schedule.map(time_to_pb),
        required_capabilities: args.required,
        preferred_capabilities: args.preferred,
        acceptance: args.acceptance.unwrap_or_default(),
        attachments: args
            .attachments
            .into_iter()
            .map(|(name, uri)| v1::TaskAttachment {
                name,
                body: Some(v1::task_attachment::Body::Uri(uri)),
            })
            .collect(),
        skip_review: args.skip_review,
        directory: args.directory.unwrap_or_default(),
        dependencies,
    };
    said(out, client.create_task(request).await?.task)
}

/// A priority or complexity: one that is given is not 0, which would be the default.
fn level(given: Option<u32>) -> anyhow::Result<u32> {
    match given {
        Some(0) => Err(usage("priority and complexity are 1 to 5")),
        given => Ok(given.unwrap_or_default()),
    }
}

async fn update(client: &Client, out: &Out, args: TaskUpdateArgs) -> anyhow::Result<u8> {
    let mut paths: Vec<String> = Vec::new();
    let mut mask = |name: &str, is_given: bool| {
        if is_given {
            paths.push(name.to_owned());
        }
    };
    mask("title", args.title.is_some());
    mask("body", args.body.is_some());
    mask("type", args.kind.is_some());
    mask("priority", args.priority.is_some());
    mask("complexity", args.complexity.is_some());
    mask("status", args.status.is_some());
    mask("labels", args.no_labels || !args.labels.is_empty());
    mask("scheduled_for", args.no_schedule || args.schedule.is_some());
    mask("required_capabilities", !args.required.is_empty());
    mask("preferred_capabilities", !args.preferred.is_empty());
    mask("acceptance", args.acceptance.is_some());
    mask("skip_review", args.skip_review.is_some());
    if paths.is_empty() {
        return Err(usage("say what is to be changed; --help lists it"));
    }
    let labels: HashMap<String, String> = args.labels.into_iter().collect();
    let schedule: Option<Timestamp> = args.schedule;
    let request = v1::UpdateTaskRequest {
        request_id: request_id(),
        task_id: id(client, &args.task).await?,
        etag: args.etag.unwrap_or_default(),
        update_mask: Some(prost_types::FieldMask { paths }),
        title: args.title.unwrap_or_default(),
        body: long(args.body)?,
        r#type: args.kind.as_deref().map_or(0, kind),
        priority: level(args.priority)?,
        complexity: level(args.complexity)?,
        status: args.status.as_deref().map_or(0, status),
        labels,
        scheduled_for: schedule.map(time_to_pb),
        required_capabilities: args.required,
        preferred_capabilities: args.preferred,
        acceptance: args.acceptance.unwrap_or_default(),
        attachments: Vec::new(),
        skip_review: args.skip_review.unwrap_or_default(),
    };
    said(out, client.update_task(request).await?.task)
}

/// What a dependency is on.
async fn on(client: &Client, args: &TaskDependArgs) -> anyhow::Result<v1::DependencyTarget> {
    let gate = |kind: v1::GateKind, name: &str, until: Option<Timestamp>| v1::DependencyTarget {
        kind: v1::DependencyKind::Awaits.into(),
        on_task_id: String::new(),
        gate: Some(v1::Gate {
            kind: kind.into(),
            name: name.to_owned(),
            until: until.map(time_to_pb),
        }),
    };
    if let Some(until) = args.until {
        return Ok(gate(v1::GateKind::Timer, "", Some(until)));
    }
    if let Some(name) = &args.approval {
        return Ok(gate(v1::GateKind::Approval, name, None));
    }
    if let Some(name) = &args.external {
        return Ok(gate(v1::GateKind::External, name, None));
    }
    let Some(other) = &args.other else {
        return Err(usage("name the other task, or a gate"));
    };
    let name = args.kind.replace('-', "_").to_uppercase();
    let kind = v1::DependencyKind::from_str_name(&format!("DEPENDENCY_KIND_{name}"));
    Ok(v1::DependencyTarget {
        kind: kind.unwrap_or_default().into(),
        on_task_id: id(client, other).await?,
        gate: None,
    })
}

fn show(out: &Out, task: Option<v1::Task>) -> anyhow::Result<u8> {
    let task = required(task, "task")?;
    out.show(&shown::task(&task), || shown::everything(&task, out.style))?;
    Ok(DONE)
}

/// A task in a line, after it was changed.
fn said(out: &Out, task: Option<v1::Task>) -> anyhow::Result<u8> {
    let task = required(task, "task")?;
    out.show(&shown::task(&task), || {
        shown::table(std::slice::from_ref(&task), out.style, out.width)
    })?;
    Ok(DONE)
}

fn why(out: &Out, explained: &v1::ExplainTaskResponse) -> anyhow::Result<u8> {
    out.show(&shown::explained(explained), || {
        let task = explained.task.clone().unwrap_or_default();
        let (tone, word) = match explained.ready {
            true => (Tone::Good, "ready"),
            false => (Tone::Warn, "not ready"),
        };
        let mut lines = vec![format!(
            "{} {}: {}",
            task.id,
            visible_line(&task.title),
            out.style.paint(tone, word)
        )];
        for reason in &explained.reasons {
            lines.push(format!("  {}", visible_line(&reason.message)));
        }
        for candidate in &explained.candidates {
            let name = visible_line(&candidate.name);
            lines.push(match candidate.eligible {
                true => format!(
                    "  {name} could take it, score {}, {}",
                    candidate.score,
                    visible_line(&candidate.place)
                ),
                false => format!("  {name} {}", visible_line(&candidate.obstacle)),
            });
        }
        if task.effective_priority != task.priority {
            lines.push(format!(
                "  priority {} instead of {}, from {}",
                task.effective_priority,
                task.priority,
                explained.priority_from_ids.join(", ")
            ));
        }
        lines.join("\n")
    })?;
    Ok(DONE)
}
