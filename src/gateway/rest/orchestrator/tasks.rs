//! Tasks: what is to be done, what it waits for, and who has it.

use serde_json::{Value, json};

use super::call::{Answer, Call, Named, created, done, ok, renamed, task_id};
use super::fields::{Asked, Fields, missing};
use super::paged;
use crate::app::dispatch::Dispatch;
use crate::app::tasks::{ReadyFilter, ShownTask, Target, TaskFilter};
use crate::base::id::{AgentId, TaskId, WorktreeId};
use crate::base::{Error, Result, Timestamp};
use crate::domain::task::{
    Attachment, AttachmentBody, Draft, Gate, On, Outcome, Relation, Status, Type, Update,
};
use crate::gateway::views::orchestrator as view;

/// What the fields of a task are called here.
const NAMES: &[(&str, &str)] = &[
    ("body", "description"),
    ("type", "taskType"),
    ("acceptance", "acceptanceCriteria"),
];

/// The word for a task that waits for others, which no record has.
const BLOCKED: &str = "blocked";

fn status(word: &str) -> Result<Status> {
    Status::ALL
        .into_iter()
        .find(|status| status.as_str() == word)
        .ok_or_else(|| {
            Error::invalid(
                "status",
                "must be open, in_progress, deferred, backlog, review or closed",
            )
        })
}

fn kind(word: &str) -> Result<Type> {
    Ok(match word {
        "bug" => Type::Bug,
        "feature" => Type::Feature,
        "task" => Type::Task,
        "chore" => Type::Chore,
        _ => {
            return Err(Error::invalid(
                "taskType",
                "must be bug, feature, task or chore",
            ));
        }
    })
}

fn time(name: &str, text: &str) -> Result<Timestamp> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| Error::invalid(name, "must be a time such as 2026-11-21T08:00:00Z"))?;
    Ok(Timestamp::from_micros(time.as_microsecond()))
}

fn agent(name: &str, text: &str) -> Result<AgentId> {
    AgentId::parse(name, text)
}

fn outcome(word: Option<&str>) -> Result<Outcome> {
    match word {
        None | Some("done") => Ok(Outcome::Done),
        Some("closed") => Ok(Outcome::Closed),
        Some("merged") => Ok(Outcome::Merged),
        Some(_) => Err(Error::invalid("outcome", "must be done, closed or merged")),
    }
}

impl Call {
    /// The task that a path names, to be changed as a body asks.
    async fn target<'a>(&self, path: &Named, asked: &'a Fields) -> Result<Target<'a>> {
        Ok(Target {
            id: self.task(path).await?.task.id,
            revision: asked.etag()?,
            request_id: asked.request_id()?,
        })
    }

    /// The same, as a query asks.
    async fn target_of_query(&self, path: &Named, asked: &Asked) -> Result<Target<'static>> {
        Ok(Target {
            id: self.task(path).await?.task.id,
            revision: asked.etag()?,
            request_id: "",
        })
    }
}

fn one(shown: &ShownTask) -> Value {
    json!({ "success": true, "task": view::task(shown, true) })
}

fn many(found: &[ShownTask]) -> Value {
    let tasks: Vec<Value> = found.iter().map(|it| view::task(it, false)).collect();
    json!({ "tasks": tasks })
}

pub(super) async fn list(call: Call, asked: Asked) -> Answer {
    let mut filter = TaskFilter {
        unassigned: asked.flag("unassigned")?,
        title_contains: asked.text("search")?.unwrap_or_default().to_owned(),
        ..TaskFilter::default()
    };
    let words = asked.words("status")?;
    let blocked = words == [BLOCKED];
    if blocked {
        filter.statuses = vec![Status::Open, Status::InProgress];
    } else {
        for word in words {
            filter.statuses.push(status(word)?);
        }
    }
    for word in asked.words("taskType")? {
        filter.kinds.push(kind(word)?);
    }
    for word in asked.words("priority")? {
        let priority = word.parse();
        filter
            .priorities
            .push(priority.map_err(|_| Error::invalid("priority", "must be 1 to 5"))?);
    }
    let nothing = json!({ "tasks": [] });
    if let Some(text) = asked.text("assignee")? {
        // Somebody who is nobody has no tasks.
        let Ok(id) = agent("assignee", text) else {
            return ok(nothing);
        };
        filter.agent_id = Some(id);
    }
    if let Some(text) = asked.text("parentId")? {
        let Ok(id) = task_id(text) else {
            return ok(nothing);
        };
        filter.parent_id = Some(id);
    }
    let page = asked.page()?;
    let found = call.app.list_tasks(&call.caller, &filter, &page).await?;
    let mut items = found.items;
    if blocked {
        // A page of those that could be blocked, of which those that are are shown.
        items.retain(|shown| shown.standing.blocked);
    }
    ok(paged(many(&items), found.next.as_deref()))
}

pub(super) async fn unassigned(call: Call, asked: Asked) -> Answer {
    let filter = TaskFilter {
        unassigned: true,
        statuses: vec![Status::Open],
        ..TaskFilter::default()
    };
    let page = asked.page()?;
    let found = call.app.list_tasks(&call.caller, &filter, &page).await?;
    ok(paged(many(&found.items), found.next.as_deref()))
}

pub(super) async fn ready(call: Call, asked: Asked) -> Answer {
    let mut filter = ReadyFilter {
        unassigned: asked.flag("unassigned")?,
        ..ReadyFilter::default()
    };
    if let Some(text) = asked.text("assignee")? {
        match agent("assignee", text) {
            Ok(id) => filter.agent_id = Some(id),
            Err(_) => return ok(json!({ "tasks": [] })),
        }
    }
    let capabilities = asked.words("capabilities")?;
    if !capabilities.is_empty() {
        filter.capabilities = Some(capabilities.into_iter().map(str::to_owned).collect());
    }
    let page = asked.page()?;
    let app = &call.app;
    let found = app.list_ready_tasks(&call.caller, &filter, &page).await?;
    ok(paged(many(&found.items), found.next.as_deref()))
}

pub(super) async fn create(call: Call, asked: Fields) -> Answer {
    let usual = Draft::default();
    let texts = |name: &str| Ok::<_, Error>(asked.texts(name)?.unwrap_or_default());
    let mut dependencies = match asked.list("dependencies")? {
        Some(list) => list.iter().map(on).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    if let Some(parent) = asked.text("parentId")? {
        dependencies.push(On::Task {
            relation: Relation::ParentChild,
            id: TaskId::parse("parentId", parent)?,
        });
    }
    let draft = Draft {
        title: asked.required("title")?.to_owned(),
        body: asked.text("description")?.unwrap_or_default().to_owned(),
        kind: asked
            .text("taskType")?
            .map(kind)
            .transpose()?
            .unwrap_or_default(),
        priority: asked.number("priority")?.unwrap_or(usual.priority),
        complexity: asked.number("complexity")?.unwrap_or(usual.complexity),
        status: asked
            .text("status")?
            .map(status)
            .transpose()?
            .unwrap_or(usual.status),
        labels: asked.map("labels")?.unwrap_or_default(),
        scheduled_for: asked
            .text("scheduledFor")?
            .map(|text| time("scheduledFor", text))
            .transpose()?,
        required_capabilities: texts("requiredCapabilities")?,
        preferred_capabilities: texts("preferredCapabilities")?,
        acceptance: asked
            .text("acceptanceCriteria")?
            .unwrap_or_default()
            .to_owned(),
        attachments: attachments(&asked)?.unwrap_or_default(),
        skip_review: asked.flag("skipReview")?.unwrap_or_default(),
        directory: asked.text("directory")?.unwrap_or_default().to_owned(),
        dependencies,
    };
    let request = asked.request_id()?;
    let made = call
        .app
        .create_task(&call.caller, request, draft)
        .await
        .map_err(|error| renamed(error, NAMES))?;
    created(one(&made))
}

fn attachments(asked: &Fields) -> Result<Option<Vec<Attachment>>> {
    let Some(list) = asked.list("attachments")? else {
        return Ok(None);
    };
    let read = |attachment: &Fields| {
        let body = match (attachment.text("uri")?, attachment.text("text")?) {
            (Some(uri), None) => AttachmentBody::Uri(uri.to_owned()),
            (None, Some(text)) => AttachmentBody::Text(text.to_owned()),
            _ => return Err(Error::invalid("attachments", "have either uri or text")),
        };
        let name = attachment.text("name")?.unwrap_or_default().to_owned();
        Ok(Attachment { name, body })
    };
    list.iter().map(read).collect::<Result<_>>().map(Some)
}

/// What a dependency is on: `{type, taskId}`, or `{gate, name | until}`.
fn on(asked: &Fields) -> Result<On> {
    let gate = |name: &str| Ok::<_, Error>(asked.required(name)?.to_owned());
    match asked.text("gate")? {
        Some("timer") => Ok(On::Gate(Gate::Timer {
            until: time("until", asked.required("until")?)?,
        })),
        Some("approval") => Ok(On::Gate(Gate::Approval {
            name: gate("name")?,
        })),
        Some("external") => Ok(On::Gate(Gate::External {
            name: gate("name")?,
        })),
        Some(_) => Err(Error::invalid(
            "gate",
            "must be timer, approval or external",
        )),
        None => Ok(On::Task {
            relation: relation(asked.text("type")?)?,
            id: TaskId::parse("taskId", asked.required("taskId")?)?,
        }),
    }
}

fn relation(word: Option<&str>) -> Result<Relation> {
    const ALL: [Relation; 8] = [
        Relation::Blocks,
        Relation::ParentChild,
        Relation::RelatesTo,
        Relation::References,
        Relation::Supersedes,
        Relation::Duplicates,
        Relation::CausedBy,
        Relation::Validates,
    ];
    let word = word.unwrap_or(Relation::Blocks.as_str());
    ALL.into_iter().find(|it| it.as_str() == word).ok_or_else(|| {
        Error::invalid(
            "type",
            "must be blocks, parent-child, relates-to, references, supersedes, duplicates, caused-by or validates",
        )
    })
}

pub(super) async fn get(call: Call, path: Named) -> Answer {
    let shown = call.task(&path).await?;
    ok(json!({ "task": view::task(&shown, true) }))
}

pub(super) async fn update(call: Call, path: Named, asked: Fields) -> Answer {
    let target = call.target(&path, &asked).await?;
    let text = |name: &str| Ok::<_, Error>(asked.text(name)?.map(str::to_owned));
    let update = Update {
        title: text("title")?,
        body: text("description")?,
        kind: asked.text("taskType")?.map(kind).transpose()?,
        priority: asked.number("priority")?,
        complexity: asked.number("complexity")?,
        status: asked.text("status")?.map(status).transpose()?,
        labels: asked.map("labels")?,
        scheduled_for: match asked.has("scheduledFor") {
            false => None,
            // Null takes it away.
            true => Some(
                asked
                    .text("scheduledFor")?
                    .map(|text| time("scheduledFor", text))
                    .transpose()?,
            ),
        },
        required_capabilities: asked.texts("requiredCapabilities")?,
        preferred_capabilities: asked.texts("preferredCapabilities")?,
        acceptance: text("acceptanceCriteria")?,
        attachments: attachments(&asked)?,
        skip_review: asked.flag("skipReview")?,
    };
    if update == Update::default() {
        return Err(Error::invalid("body", "names nothing that can be changed").into());
    }
    let changed = call.app.update_task(&call.caller, target, update).await;
    ok(one(&changed.map_err(|error| renamed(error, NAMES))?))
}

pub(super) async fn delete(call: Call, path: Named, asked: Asked) -> Answer {
    let target = call.target_of_query(&path, &asked).await?;
    let force = asked.flag("force")?;
    call.app.delete_task(&call.caller, target, force).await?;
    done()
}

pub(super) async fn assign(call: Call, path: Named, asked: Fields) -> Answer {
    let target = call.target(&path, &asked).await?;
    let to = asked.either(&["agentId", "assignee"])?;
    let to = agent("agentId", to.ok_or_else(|| missing("agentId"))?)?;
    let worktree = asked.text("worktreeId")?;
    let worktree = worktree
        .map(|text| WorktreeId::parse("worktreeId", text))
        .transpose()?;
    let branch = asked.text("branch")?.unwrap_or_default();
    let assigned = call
        .app
        .assign_task(&call.caller, target, to, branch, worktree)
        .await?;
    ok(one(&assigned))
}

/// The agent that has the task begins it, in the session that it runs.
pub(super) async fn start(call: Call, path: Named) -> Answer {
    let id = call.task(&path).await?.task.id;
    ok(one(&call.app.start_task(&call.caller, id).await?))
}

/// Gives a task to an agent and lets it begin; without an agent, to the one that fits best.
pub(super) async fn dispatch(call: Call, path: Named, asked: Fields) -> Answer {
    let id = call.task(&path).await?.task.id;
    let how = Dispatch {
        agent: asked
            .either(&["agentId", "agent"])?
            .map(|text| agent("agentId", text))
            .transpose()?,
        note: asked
            .either(&["note", "message"])?
            .unwrap_or_default()
            .to_owned(),
        ..Dispatch::default()
    };
    let done = call
        .app
        .dispatch_task(&call.caller, asked.request_id()?, id, how)
        .await?;
    created(json!({
        "success": true,
        "task": view::task(&done.task, true),
        "sessionId": done.session.to_string(),
    }))
}

pub(super) async fn complete(call: Call, path: Named, asked: Fields) -> Answer {
    let target = call.target(&path, &asked).await?;
    let outcome = outcome(asked.text("outcome")?)?;
    let summary = asked.text("summary")?.unwrap_or_default();
    let done = call
        .app
        .complete_task(&call.caller, target, summary, outcome)
        .await?;
    ok(one(&done))
}

pub(super) async fn reopen(call: Call, path: Named, asked: Fields) -> Answer {
    let target = call.target(&path, &asked).await?;
    let note = asked
        .either(&["note", "message", "reason"])?
        .unwrap_or_default();
    let same = asked.flag("sameAgent")?.unwrap_or_default();
    let opened = call
        .app
        .reopen_task(&call.caller, target, note, same)
        .await?;
    ok(one(&opened))
}

pub(super) async fn hand_off(call: Call, path: Named, asked: Fields) -> Answer {
    let target = call.target(&path, &asked).await?;
    let note = asked.either(&["note", "message"])?.unwrap_or_default();
    let to = asked.text("agentId")?;
    let to = to.map(|text| agent("agentId", text)).transpose()?;
    let handed = call
        .app
        .hand_off_task(&call.caller, target, note, to)
        .await?;
    ok(one(&handed))
}

pub(super) async fn dependencies(call: Call, path: Named) -> Answer {
    let shown = call.task(&path).await?;
    let blocked_by: Vec<String> = shown
        .standing
        .blocked_by
        .iter()
        .map(TaskId::to_string)
        .collect();
    ok(json!({
        "dependencies": view::dependencies(&shown.task), "blockedBy": blocked_by,
    }))
}

pub(super) async fn depend(call: Call, path: Named, asked: Fields) -> Answer {
    let target = call.target(&path, &asked).await?;
    let made = call.app.add_dependency(&call.caller, target, on(&asked)?);
    created(one(&made.await?))
}

/// Takes a dependency away: on a task by its id and `?type=`, on a gate by its word and `?name=` or `?until=`.
pub(super) async fn undepend(
    call: Call,
    Named((id, other)): Named<(String, String)>,
    asked: Asked,
) -> Answer {
    let name = || {
        asked
            .text("name")?
            .map(str::to_owned)
            .ok_or_else(|| missing("name"))
    };
    let on = match other.as_str() {
        "timer" => {
            let until = asked.text("until")?.ok_or_else(|| missing("until"))?;
            On::Gate(Gate::Timer {
                until: time("until", until)?,
            })
        }
        "approval" => On::Gate(Gate::Approval { name: name()? }),
        "external" => On::Gate(Gate::External { name: name()? }),
        other => On::Task {
            relation: relation(asked.text("type")?)?,
            id: task_id(other)?,
        },
    };
    let target = call.target_of_query(&Named(id), &asked).await?;
    let left = call.app.remove_dependency(&call.caller, target, on).await?;
    ok(one(&left))
}
