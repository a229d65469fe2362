//! Giving a task to an agent, and letting it begin.

use super::Giving;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::agents::StartAgent;
use crate::app::failure;
use crate::app::idempotency::{Begin, digest};
use crate::app::sessions::{Ask, Attempts, NewSession, joined};
use crate::app::tasks::ShownTask;
use crate::base::id::{AgentId, SessionId, TaskId, WorktreeId};
use crate::base::{Code, Error, Result};
use crate::domain::dispatch::Checkout;
use crate::domain::session::{Mode, SessionTask};
use crate::domain::task::{Assignment, Status};
use crate::domain::worktree::{Create, State};
use crate::domain::{Agent, Delivery, Session, Task, dispatch};
use crate::store::Commit;

/// How a task is to be given.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    /// To whom; `None` is the agent that fits best.
    pub agent: Option<AgentId>,
    /// What the agent is told beside the task.
    pub note: String,
    /// Where it works.
    pub checkout: Checkout,
}

/// A task that was begun.
#[derive(Clone, Debug)]
pub struct Dispatched {
    /// The task.
    pub task: ShownTask,
    /// The session that works on it.
    pub session: SessionId,
}

impl App {
    /// Gives a task to an agent and lets it begin; what was left half done is taken up. `ALREADY_EXISTS`: somebody else
    /// has it; `INVALID_STATE`; `SESSION_EXISTS`: the agent is busy; else what starting it answers.
    pub async fn dispatch_task(
        &self,
        caller: &Caller,
        request_id: &str,
        id: TaskId,
        how: Dispatch,
    ) -> Result<Dispatched> {
        crate::domain::task::note("note", &how.note)?;
        let request = digest(format!("{id}{how:?}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, "DispatchTask", request_id, request)
            .await?;
        let fresh = match begun {
            Begin::Repeat(answer) => {
                let session = std::str::from_utf8(&answer).map_err(Error::internal)?;
                return Ok(Dispatched {
                    session: session.parse()?,
                    task: self.get_task(caller, id).await?,
                });
            }
            Begin::Fresh(fresh) => fresh,
        };
        let shown = self.get_task(caller, id).await?;
        may_begin(&shown)?;
        let agent = match (how.agent, shown.task.living()) {
            (Some(agent), _) => self.get_agent(caller, agent).await?.agent,
            (None, Some(living)) => self.get_agent(caller, living.agent_id).await?.agent,
            (None, None) => self.best_agent(caller, &shown.task).await?,
        };
        let session = self.give(caller, &agent, id, &how, None).await?;
        if let Some(op) = fresh.op(session.to_string().as_bytes()) {
            let commit = Commit {
                ops: vec![op],
                ..Commit::default()
            };
            let done = self.store().commit(commit).await;
            done.map_err(failure::from_store)?;
        }
        Ok(Dispatched {
            task: self.get_task(caller, id).await?,
            session,
        })
    }

    /// Gives a task to an agent, as a job that is finished though its caller has gone.
    pub(super) async fn give(
        &self,
        caller: &Caller,
        agent: &Agent,
        task: TaskId,
        how: &Dispatch,
        keeping: Option<Giving>,
    ) -> Result<SessionId> {
        let (app, caller, agent, how) = (self.clone(), caller.clone(), agent.clone(), how.clone());
        let job = self.dispatching().jobs.spawn(async move {
            let given = app.give_now(&caller, &agent, task, &how).await;
            match &given {
                Ok(_) => app.dispatching().given(task),
                Err(error) => {
                    let now = app.clock().now();
                    app.dispatching().refused(task, agent.id, error, now);
                }
            }
            drop(keeping);
            given
        });
        job.await.map_err(Error::internal)?
    }

    async fn give_now(
        &self,
        caller: &Caller,
        agent: &Agent,
        id: TaskId,
        how: &Dispatch,
    ) -> Result<SessionId> {
        let by = caller.actor();
        if agent.settings.disabled {
            // Said before anything is given.
            self.hold_agent(agent.id, None).await?;
        }
        let active = self.active_session(agent.id).await?;
        if let Some(active) = &active {
            takes_more(agent, active, id)?;
        }
        let had = self.task(id).await?.and_then(|task| task.living().cloned());
        let task = self.take_task(id, agent.id, &by).await?;
        let Some(assignment) = task.living().cloned() else {
            return Err(Error::state("the task was taken back meanwhile"));
        };
        let done = match active {
            Some(active) => {
                self.tell(caller, agent, &task, &assignment, &active, how)
                    .await
            }
            None => self.begin(caller, agent, &task, &assignment, how).await,
        };
        match done {
            Ok(session) => {
                self.change_assignment(id, &by, |task, _, _| task.settle(assignment.id))
                    .await
                    .ok();
                Ok(session)
            }
            Err(error) => {
                // What was given for this only is taken back: others may take it.
                if had.is_none() {
                    let why = format!("it could not be begun: {}", error.message());
                    let why = why.chars().take(1_000).collect::<String>();
                    if let Err(other) = self.release_assignment(id, &why, &by).await {
                        tracing::warn!(task = %id, ?other, "a task that was not begun stays given");
                    }
                }
                Err(error)
            }
        }
    }

    /// Tells a running agent of a task.
    async fn tell(
        &self,
        caller: &Caller,
        agent: &Agent,
        task: &Task,
        assignment: &Assignment,
        active: &Session,
        how: &Dispatch,
    ) -> Result<SessionId> {
        if active.task.map(|task| task.assignment_id) == Some(assignment.id) {
            // It works on it already: this is a repeat, or what a crash left.
            self.note_begun(active, &caller.actor()).await;
            return Ok(active.id);
        }
        let text = joined(told(agent, task), &how.note);
        let request_id = format!(
            "dispatch/{}/{}",
            assignment.id,
            assignment.session_ids.len()
        );
        self.send_input(caller, &request_id, active.id, text, Delivery::Queue)
            .await?;
        self.begin_assignment(task.id, assignment.id, agent.id, active.id, &caller.actor())
            .await?;
        Ok(active.id)
    }

    /// Starts an idle agent with a task.
    pub(super) async fn begin(
        &self,
        caller: &Caller,
        agent: &Agent,
        task: &Task,
        assignment: &Assignment,
        how: &Dispatch,
    ) -> Result<SessionId> {
        let mut new = self.new_work(agent, task, assignment)?;
        let daemon = self.place(caller, &new).await?;
        new.daemon_id = Some(daemon.id);
        if let Some((worktree, path, branch)) = self
            .checkout(caller, agent, task, assignment, &new, how.checkout)
            .await?
        {
            self.set_assignment_place(task.id, &branch, Some(worktree), &caller.actor())
                .await?;
            new.cwd = path;
        }
        let told = self.task(task.id).await?.map(|task| told(agent, &task));
        new.input = joined(
            joined(
                agent.settings.definition.on_startup.clone(),
                &told.unwrap_or_default(),
            ),
            &how.note,
        );
        let start = format!("{}/{}", assignment.id, assignment.session_ids.len());
        let mut attempts = Attempts::default();
        let session = loop {
            let ask = Ask {
                caller,
                method: "StartAgent",
                // One start for each session that the assignment has had: after a crash it is found.
                request_id: &format!("dispatch/{start}"),
                detail: start.clone(),
                agent: Some(agent.id),
            };
            let done = self.make_session(ask, new.clone()).await;
            if !attempts.once_more(&done) {
                break done?;
            }
        };
        self.note_begun(&session, &caller.actor()).await;
        Ok(session.id)
    }

    /// The session in which an agent would work on a task; its input and checkout come later.
    pub(super) fn new_work(
        &self,
        agent: &Agent,
        task: &Task,
        assignment: &Assignment,
    ) -> Result<NewSession> {
        if agent.settings.mode == Mode::Interactive {
            return Err(Error::new(
                Code::InvalidState,
                format!(
                    "{} works in a terminal, where a person types; assign the task instead",
                    agent.settings.name
                ),
            ));
        }
        let Some(cwd) = dispatch::workplace(task, agent) else {
            return Err(Error::state(format!(
                "{} works in {}, and the task is about {}",
                agent.settings.name, agent.settings.directory, task.directory
            )));
        };
        let start = StartAgent {
            cwd: cwd.to_owned(),
            ..StartAgent::default()
        };
        let new = crate::app::agents::new_session(agent, start);
        Ok(NewSession {
            input: String::new(),
            title: crate::app::agents::title(&agent.settings.name, &task.title),
            one_shot: dispatch::is_scheduled(agent),
            task: Some(SessionTask {
                id: task.id,
                assignment_id: assignment.id,
            }),
            ..new
        })
    }

    /// The worktree in which a task is worked on: the one that it has, or a new one. `None`: in the directory itself.
    async fn checkout(
        &self,
        caller: &Caller,
        agent: &Agent,
        task: &Task,
        assignment: &Assignment,
        new: &NewSession,
        wanted: Checkout,
    ) -> Result<Option<(WorktreeId, String, String)>> {
        let usual = dispatch::is_scheduled(agent) && !new.cwd.is_empty();
        let wants = match wanted {
            Checkout::Directory => false,
            Checkout::Worktree => true,
            Checkout::Usual => usual,
        };
        if !wants {
            return Ok(None);
        }
        if new.cwd.is_empty() {
            return Err(Error::invalid(
                "checkout",
                "is a worktree, and neither the task nor the agent names a directory",
            ));
        }
        if let Some(id) = assignment.worktree_id
            && let Ok((worktree, _)) = self.worktree_record(caller, id).await
            && Some(worktree.daemon_id) == new.daemon_id
            && matches!(worktree.state, State::Active | State::Suspended)
        {
            return Ok(Some((id, worktree.place.path, worktree.place.branch)));
        }
        let create = Create {
            repository: new.cwd.clone(),
            agent_name: agent.settings.name.clone(),
            task_id: task.id.to_string(),
            title: task.title.clone(),
            ..Create::default()
        };
        // Made once for each session that the assignment has had.
        let request_id = format!("{}/{}", assignment.id, assignment.session_ids.len());
        let made = self
            .create_worktree(caller, &request_id, new.daemon_id, create)
            .await;
        match made {
            Ok(shown) => {
                let place = shown.worktree.place;
                Ok(Some((shown.worktree.id, place.path, place.branch)))
            }
            Err(error) if wanted == Checkout::Usual && error.code() == Code::WorktreesDisabled => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What an agent is told of a task.
pub(super) fn told(agent: &Agent, task: &Task) -> String {
    joined(
        agent.settings.definition.on_task_assigned.clone(),
        &task.brief(),
    )
}

/// Whether a task may be begun by somebody.
fn may_begin(shown: &ShownTask) -> Result<()> {
    let task = &shown.task;
    if !matches!(
        task.status,
        Status::Open | Status::InProgress | Status::Deferred
    ) {
        return Err(Error::state(format!(
            "the task is {}; only one that is open, deferred or in progress can be dispatched",
            task.status.as_str()
        ))
        .with("status", task.status.as_str()));
    }
    if shown.standing.blocked {
        return Err(Error::state(
            "the task waits for other tasks or gates; `baton tasks why` says for which",
        ));
    }
    Ok(())
}

/// Whether an agent that runs can be told of a task.
fn takes_more(agent: &Agent, active: &Session, task: TaskId) -> Result<()> {
    if active.task.map(|task| task.id) == Some(task) {
        return Ok(());
    }
    let name = &agent.settings.name;
    if active.mode == Mode::Interactive {
        return Err(Error::state(format!(
            "{name} works in a terminal, where a person types; assign the task instead"
        )));
    }
    if dispatch::is_scheduled(agent) {
        return Err(Error::new(
            Code::SessionExists,
            format!(
                "{name} does one task at a time and is busy, in session {}; assign the task, and it comes next",
                active.id
            ),
        )
        .with("existing_session", active.id));
    }
    Ok(())
}
