//! Tasks: what is to be done, what it waits for, and who has it.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::fields::{Asked, Fields, RawQuery, missing};
use super::{Named, Orchestrator, answer, named, paged, renamed, success};
use crate::app::access::Caller;
use crate::app::dispatch::Dispatch;
use crate::app::tasks::{ReadyFilter, ShownTask, Target, TaskFilter};
use crate::base::id::{AgentId, SessionId, TaskId, WorktreeId};
use crate::base::{Code, Error, Result, Timestamp};
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

fn no_task() -> Error {
    Error::new(Code::NotFound, "Task not found")
}

/// A task's id; one that cannot be an id names no task.
fn task_id(text: &str) -> Result<TaskId> {
    TaskId::parse("id", text).map_err(|_| no_task())
}

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

fn target<'a>(id: TaskId, asked: &'a Fields) -> Result<Target<'a>> {
    Ok(Target {
        id,
        revision: asked.etag()?,
        request_id: asked.request_id()?,
    })
}

fn one(shown: &ShownTask) -> Value {
    json!({ "success": true, "task": view::task(shown, true) })
}

fn many(found: &[ShownTask]) -> Value {
    let tasks: Vec<Value> = found.iter().map(|it| view::task(it, false)).collect();
    json!({ "tasks": tasks })
}

pub(super) async fn list(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    query: RawQuery,
) -> Response {
    let made = async {
        let asked = Asked::read(query)?;
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
                return Ok(nothing);
            };
            filter.agent_id = Some(id);
        }
        if let Some(text) = asked.text("parentId")? {
            let Ok(id) = task_id(text) else {
                return Ok(nothing);
            };
            filter.parent_id = Some(id);
        }
        let page = asked.page()?;
        let found = orchestrator.app.list_tasks(&caller, &filter, &page).await?;
        let mut items = found.items;
        if blocked {
            // A page of those that could be blocked, of which those that are are shown.
            items.retain(|shown| shown.standing.blocked);
        }
        Ok(paged(many(&items), found.next.as_deref()))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn unassigned(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    query: RawQuery,
) -> Response {
    let made = async {
        let asked = Asked::read(query)?;
        let filter = TaskFilter {
            unassigned: true,
            statuses: vec![Status::Open],
            ..TaskFilter::default()
        };
        let page = asked.page()?;
        let found = orchestrator.app.list_tasks(&caller, &filter, &page).await?;
        Ok(paged(many(&found.items), found.next.as_deref()))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn ready(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    query: RawQuery,
) -> Response {
    let made = async {
        let asked = Asked::read(query)?;
        let mut filter = ReadyFilter {
            unassigned: asked.flag("unassigned")?,
            ..ReadyFilter::default()
        };
        if let Some(text) = asked.text("assignee")? {
            match agent("assignee", text) {
                Ok(id) => filter.agent_id = Some(id),
                Err(_) => return Ok(json!({ "tasks": [] })),
            }
        }
        let capabilities = asked.words("capabilities")?;
        if !capabilities.is_empty() {
            filter.capabilities = Some(capabilities.into_iter().map(str::to_owned).collect());
        }
        let page = asked.page()?;
        let app = &orchestrator.app;
        let found = app.list_ready_tasks(&caller, &filter, &page).await?;
        Ok(paged(many(&found.items), found.next.as_deref()))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn create(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let made = async {
        let asked = Fields::read(&body)?;
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
        let made = orchestrator
            .app
            .create_task(&caller, request, draft)
            .await
            .map_err(|error| renamed(error, NAMES))?;
        Ok(one(&made))
    };
    answer(StatusCode::CREATED, made.await)
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

pub(super) async fn get(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
) -> Response {
    let made = async {
        let shown = orchestrator.task(&caller, path).await?;
        Ok(json!({ "task": view::task(&shown, true) }))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn update(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Fields::read(&body)?;
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
            return Err(Error::invalid("body", "names nothing that can be changed"));
        }
        let target = target(id, &asked)?;
        let changed = orchestrator.app.update_task(&caller, target, update).await;
        Ok(one(&changed.map_err(|error| renamed(hide(error), NAMES))?))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn delete(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    query: RawQuery,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Asked::read(query)?;
        let target = Target {
            id,
            revision: asked.etag()?,
            request_id: "",
        };
        let force = asked.flag("force")?;
        orchestrator.app.delete_task(&caller, target, force).await?;
        Ok(success())
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn assign(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Fields::read(&body)?;
        let to = asked.either(&["agentId", "assignee"])?;
        let to = agent("agentId", to.ok_or_else(|| missing("agentId"))?)?;
        let worktree = asked.text("worktreeId")?;
        let worktree = worktree
            .map(|text| WorktreeId::parse("worktreeId", text))
            .transpose()?;
        let branch = asked.text("branch")?.unwrap_or_default();
        let assigned = orchestrator
            .app
            .assign_task(&caller, target(id, &asked)?, to, branch, worktree)
            .await?;
        Ok(one(&assigned))
    };
    answer(StatusCode::OK, made.await)
}

/// The agent that has the task begins it, in the session that it runs.
pub(super) async fn start(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
) -> Response {
    let made = async {
        let shown = orchestrator.task(&caller, path).await?;
        let id = shown.task.id;
        let holder = shown.task.living().map(|holder| holder.agent_id);
        let holder = holder
            .ok_or_else(|| Error::state("nobody has the task; assign it to an agent first"))?;
        let app = &orchestrator.app;
        let session: SessionId = app.running_session(&caller, holder).await?;
        app.start_assignment(id, holder, session, &caller.actor())
            .await?;
        Ok(one(&app.get_task(&caller, id).await?))
    };
    answer(StatusCode::OK, made.await)
}

/// Gives a task to an agent and lets it begin; without an agent, to the one that fits best.
pub(super) async fn dispatch(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Fields::read(&body)?;
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
        let done = orchestrator
            .app
            .dispatch_task(&caller, asked.request_id()?, id, how)
            .await?;
        Ok(json!({
            "success": true,
            "task": view::task(&done.task, true),
            "sessionId": done.session.to_string(),
        }))
    };
    answer(StatusCode::CREATED, made.await)
}

pub(super) async fn complete(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Fields::read(&body)?;
        let outcome = match asked.text("outcome")? {
            None | Some("done") => Outcome::Done,
            Some("closed") => Outcome::Closed,
            Some("merged") => Outcome::Merged,
            Some(_) => return Err(Error::invalid("outcome", "must be done, closed or merged")),
        };
        let summary = asked.text("summary")?.unwrap_or_default();
        let done = orchestrator
            .app
            .complete_task(&caller, target(id, &asked)?, summary, outcome)
            .await?;
        Ok(one(&done))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn reopen(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Fields::read(&body)?;
        let note = asked
            .either(&["note", "message", "reason"])?
            .unwrap_or_default();
        let same = asked.flag("sameAgent")?.unwrap_or_default();
        let opened = orchestrator
            .app
            .reopen_task(&caller, target(id, &asked)?, note, same)
            .await?;
        Ok(one(&opened))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn hand_off(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Fields::read(&body)?;
        let note = asked.either(&["note", "message"])?.unwrap_or_default();
        let to = asked.text("agentId")?;
        let to = to.map(|text| agent("agentId", text)).transpose()?;
        let handed = orchestrator
            .app
            .hand_off_task(&caller, target(id, &asked)?, note, to)
            .await?;
        Ok(one(&handed))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn dependencies(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
) -> Response {
    let made = async {
        let shown = orchestrator.task(&caller, path).await?;
        let blocked_by: Vec<String> = shown
            .standing
            .blocked_by
            .iter()
            .map(TaskId::to_string)
            .collect();
        Ok(json!({
            "dependencies": view::dependencies(&shown.task), "blockedBy": blocked_by,
        }))
    };
    answer(StatusCode::OK, made.await)
}

pub(super) async fn depend(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: Named,
    body: Bytes,
) -> Response {
    let made = async {
        let id = task_id(&named(path)?)?;
        let asked = Fields::read(&body)?;
        let target = target(id, &asked)?;
        let made = orchestrator
            .app
            .add_dependency(&caller, target, on(&asked)?);
        Ok(one(&made.await?))
    };
    answer(StatusCode::CREATED, made.await)
}

/// Takes a dependency away: on a task by its id and `?type=`, on a gate by its word and `?name=` or `?until=`.
pub(super) async fn undepend(
    State(orchestrator): State<Orchestrator>,
    Extension(caller): Extension<Caller>,
    path: std::result::Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
    query: RawQuery,
) -> Response {
    let made = async {
        let Ok(Path((id, other))) = path else {
            return Err(Error::new(Code::InvalidInput, "the path is not a text"));
        };
        let asked = Asked::read(query)?;
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
        let target = Target {
            id: task_id(&id)?,
            revision: asked.etag()?,
            request_id: "",
        };
        let left = orchestrator
            .app
            .remove_dependency(&caller, target, on)
            .await?;
        Ok(one(&left))
    };
    answer(StatusCode::OK, made.await)
}

fn hide(error: Error) -> Error {
    match error.code() {
        Code::NotFound => no_task(),
        _ => error,
    }
}

impl Orchestrator {
    async fn task(&self, caller: &Caller, path: Named) -> Result<ShownTask> {
        let id = task_id(&named(path)?)?;
        self.app.get_task(caller, id).await.map_err(hide)
    }
}
