//! Giving a task to an agent, and letting it begin.

use super::Giving;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::agents::{StartAgent, new_session, title};
use crate::app::idempotency::{Begin, digest};
use crate::app::sessions::{Ask, NewSession, joined};
use crate::app::tasks::ShownTask;
use crate::base::id::{AgentId, SessionId, TaskId, WorktreeId};
use crate::base::{Code, Effect, Error, Result};
use crate::domain::dispatch::Checkout;
use crate::domain::session::{Mode, SessionTask};
use crate::domain::task::{Assignment, Status};
use crate::domain::worktree::{Create, State};
use crate::domain::{Agent, Delivery, Session, Task, dispatch};

/// The longest that is told of why something could not be begun, in characters.
const WHY_CHARS: usize = 1_000;

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
        let keeping = self.dispatching().keep_after_others(&agent).await;
        let session = self.give(caller, &agent, id, &how, keeping).await?;
        self.remember(fresh, session.to_string().as_bytes()).await?;
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
        keeping: Giving,
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
        let active = self.active_session(agent.id).await?;
        // What refuses is said before anything is given.
        match &active {
            Some(active) => takes_more(agent, active, id)?,
            None => {
                self.hold_agent(agent.id, None).await?;
                self.budget_allows(Some(agent.id), Some(id))?;
                let found = self.task(id).await?;
                let task = found.ok_or_else(|| Error::not_found("task", id))?;
                self.work_place(caller, &new_work(agent, &task)?).await?;
            }
        }
        let (task, is_new) = self.take_task(id, agent.id, &by).await?;
        let Some(assignment) = task.living().cloned() else {
            return Err(taken_back());
        };
        let done = match active {
            Some(active) => {
                self.tell(caller, agent, &task, &assignment, &active, how)
                    .await
            }
            None => self.begin(caller, agent, &task, &assignment, how).await,
        };
        match &done {
            Ok(_) => {
                let settled = self
                    .change_own(id, &by, |task, _, _| task.settle(assignment.id))
                    .await;
                if let Err(error) = settled {
                    // It is over already, or was taken away: then there is nothing to settle.
                    tracing::debug!(task = %id, ?error, "a task that was begun is not settled");
                }
            }
            // What was given for this only is taken back: others may take it.
            Err(error) if is_new => {
                let why = format!("it could not be begun: {}", error.message());
                let why: String = why.chars().take(WHY_CHARS).collect();
                let taken_back = self.release_assignment(id, assignment.id, &why, &by).await;
                if let Err(other) = taken_back {
                    tracing::warn!(task = %id, ?other, "a task that was not begun stays given");
                }
            }
            Err(_) => {}
        }
        done
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
        let was_told = assignment.session_ids.contains(&active.id);
        if was_told || active.task.map(|task| task.assignment_id) == Some(assignment.id) {
            // It works on it already: this is a repeat, or what a crash left.
            self.note_begun(active, &caller.actor()).await;
            return Ok(active.id);
        }
        let text = joined(told(agent, task), &how.note);
        let start = start_of(assignment);
        self.send_input(caller, &start, active.id, text, Delivery::Queue)
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
        let mut new = new_work(agent, task)?;
        new.task = Some(SessionTask {
            id: task.id,
            assignment_id: assignment.id,
        });
        let (daemon, _) = self.work_place(caller, &new).await?;
        new.daemon_id = Some(daemon.id);
        if let Some((worktree, path, branch)) = self
            .checkout(caller, agent, task, assignment, &new, how.checkout)
            .await?
        {
            let by = caller.actor();
            self.set_assignment_place(task.id, assignment.id, &branch, Some(worktree), &by)
                .await?;
            new.cwd = path;
        }
        // Making a worktree takes its time, in which the task may have been handed on.
        let now = self.task(task.id).await?;
        let now = now.filter(|task| has(task, assignment));
        let now = now.ok_or_else(taken_back)?;
        new.input = joined(
            joined(
                agent.settings.definition.on_startup.clone(),
                &told(agent, &now),
            ),
            &how.note,
        );
        let start = start_of(assignment);
        let ask = Ask {
            caller,
            method: "StartAgent",
            request_id: &start,
            detail: start.clone(),
            agent: Some(agent.id),
        };
        let session = self.make_session_of(&ask, new, &[]).await?;
        self.begun(caller, task.id, assignment, &session).await
    }

    /// Notes that a task is worked on in a session that was just made. If it was taken from its agent at the same moment,
    /// the session is ended: somebody else may be at work in the same place.
    pub(super) async fn begun(
        &self,
        caller: &Caller,
        task: TaskId,
        assignment: &Assignment,
        session: &Session,
    ) -> Result<SessionId> {
        self.note_begun(session, &caller.actor()).await;
        let now = self.task(task).await?;
        if now.is_some_and(|task| has(&task, assignment)) {
            return Ok(session.id);
        }
        let why = "its task was taken back";
        self.end_session_because(caller, "", session.id, true, why)
            .await?;
        Err(taken_back())
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
        let attempt = match assignment.checkouts_refused {
            0 => start_of(assignment),
            refused => format!("{}/{refused}", start_of(assignment)),
        };
        let made = self
            .create_worktree(caller, &attempt, new.daemon_id, create)
            .await;
        match made {
            Ok(shown) => {
                let place = shown.worktree.place;
                Ok(Some((shown.worktree.id, place.path, place.branch)))
            }
            Err(error) if wanted == Checkout::Usual && error.code() == Code::WorktreesDisabled => {
                Ok(None)
            }
            Err(error) => {
                // What was asked under this name has this answer for good. Where it is certain that nothing was made, the
                // next attempt is another one: a cause that is gone must not keep the task.
                if error.effect() == Effect::NotDone {
                    let by = caller.actor();
                    let noted = self.change_own(task.id, &by, |task, _, _| {
                        task.checkout_refused(assignment.id)
                    });
                    if let Err(error) = noted.await {
                        tracing::debug!(task = %task.id, ?error, "a refused checkout is not noted");
                    }
                }
                Err(error)
            }
        }
    }
}

fn taken_back() -> Error {
    Error::state("the task was taken back meanwhile")
}

/// Whether a task is given under an assignment still.
fn has(task: &Task, assignment: &Assignment) -> bool {
    task.living().map(|living| living.id) == Some(assignment.id)
}

/// The name of what begins the next session of an assignment: one for each session that it has had, so that after a
/// crash what was begun is found and not begun again.
pub(super) fn start_of(assignment: &Assignment) -> String {
    format!(
        "dispatch/{}/{}",
        assignment.id,
        assignment.session_ids.len()
    )
}

/// The session in which an agent would work on a task; its input, checkout and assignment come later. `INVALID_STATE`:
/// the agent works in a terminal, or elsewhere.
pub(super) fn new_work(agent: &Agent, task: &Task) -> Result<NewSession> {
    if agent.settings.mode == Mode::Interactive {
        return Err(works_in_terminal(agent));
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
    Ok(NewSession {
        input: String::new(),
        title: title(&agent.settings.name, &task.title),
        one_shot: dispatch::is_scheduled(agent),
        ..new_session(agent, start)
    })
}

fn works_in_terminal(agent: &Agent) -> Error {
    Error::state(format!(
        "{} works in a terminal, where a person types; assign the task instead",
        agent.settings.name
    ))
}

/// What an agent is told of a task.
fn told(agent: &Agent, task: &Task) -> String {
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
    if active.mode == Mode::Interactive {
        return Err(works_in_terminal(agent));
    }
    if dispatch::is_scheduled(agent) {
        let name = &agent.settings.name;
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
