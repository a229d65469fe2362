//! What becomes of a task that an idle agent has: whether it is begun, gone on with, done, or a person's.

use std::time::Duration;

use super::give::start_of;
use super::{Dispatch, Giving};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::sessions::{Ask, Resume, joined};
use crate::base::id::{SessionId, TaskId};
use crate::base::page::PageRequest;
use crate::base::{Result, Timestamp};
use crate::domain::session::{Mode, SessionTask};
use crate::domain::task::{Assignment, Outcome, Status};
use crate::domain::{Agent, EndReason, Lifecycle, Session, Task};
use crate::wire::v1::event::Body;

/// How long a provider that does not say for how long it refuses is left alone.
const PARKED_AT_LEAST: Duration = Duration::from_secs(15 * 60);
/// The longest that it is left alone, whatever it says.
const PARKED_AT_MOST: Duration = Duration::from_secs(24 * 3_600);
/// How long a task rests after the first failure of its session; each time twice as long.
const REST: Duration = Duration::from_secs(5);
/// The longest that is told of how a session ended, in characters.
const WHY_CHARS: usize = 500;
/// The longest summary that is taken from what an agent said last, in characters.
const SUMMARY_CHARS: usize = 4_000;
/// How many of an agent's tasks are looked at.
const IN_HAND: usize = 20;
/// Events that are looked through for what an agent said last.
const LAST_EVENTS: usize = 200;

/// What is to be done for a task that an idle agent has.
#[derive(Debug)]
pub(super) enum Next {
    /// It is begun.
    Begin,
    /// Its conversation goes on after a failure.
    GoOn(Box<Session>, String),
    /// It is begun anew after a failure, without the conversation.
    Anew(String),
    /// It is done, in this session.
    Done(SessionId),
    /// The provider refuses.
    Park(Timestamp),
    /// A person must look at it.
    Escalate(String),
    /// Nothing; the text says why.
    Wait(String),
}

impl Next {
    /// Whether it starts a session of the agent.
    pub(super) fn starts(&self) -> bool {
        matches!(self, Next::Begin | Next::GoOn(..) | Next::Anew(_))
    }
}

impl App {
    /// What is to be done for a task that an idle agent has, as far as budgets leave something for it.
    pub(super) async fn next(&self, agent: &Agent, task: &Task) -> Result<Next> {
        let next = self.next_if_paid(agent, task).await?;
        if next.starts()
            && let Err(error) = self.budget_allows(Some(agent.id), Some(task.id))
        {
            return Ok(Next::Wait(error.message().to_owned()));
        }
        Ok(next)
    }

    async fn next_if_paid(&self, agent: &Agent, task: &Task) -> Result<Next> {
        let Some(assignment) = task.living().filter(|living| living.agent_id == agent.id) else {
            return Ok(Next::Wait("the agent does not have it any more".to_owned()));
        };
        if !assignment.escalation.is_empty() {
            return Ok(Next::Wait(format!(
                "a person must look at it: {}",
                assignment.escalation
            )));
        }
        let now = self.clock().now();
        if let Some(until) = assignment.parked_until.filter(|until| now < *until) {
            return Ok(Next::Wait(format!("its provider refuses until {until}")));
        }
        let Some(session) = self.last_session(agent, assignment).await? else {
            return Ok(match task.status {
                Status::InProgress => Next::Wait(
                    "it is worked on in no session that is known; dispatch it again, or hand it off"
                        .to_owned(),
                ),
                _ => Next::Begin,
            });
        };
        Ok(self.after(assignment, session, now))
    }

    /// What follows from how the last session of an assignment is.
    fn after(&self, assignment: &Assignment, session: Session, now: Timestamp) -> Next {
        let id = session.id;
        if session.lifecycle == Lifecycle::Suspended {
            return Next::Wait(format!("session {id} is suspended; resume it, or end it"));
        }
        let Some(end) = session.end.clone().filter(|_| session.is_over()) else {
            return Next::Wait(format!("session {id} has not ended"));
        };
        let said = match end.message.as_str() {
            "" => end.reason.as_str().to_owned(),
            message => format!("{}: {message}", end.reason.as_str()),
        };
        let why: String = said.chars().take(WHY_CHARS).collect();
        match end.reason {
            EndReason::Completed => Next::Done(id),
            EndReason::Lost => Next::Wait(format!(
                "session {id} was lost with its machine; when that is back, it goes on"
            )),
            EndReason::Stopped | EndReason::Canceled | EndReason::Resumed | EndReason::Limit => {
                Next::Escalate(format!("session {id} did not finish it ({why})"))
            }
            EndReason::RateLimited if assignment.parked_until.is_none() => {
                Next::Park(asked_again_at(&session, now))
            }
            EndReason::RateLimited
            | EndReason::Failed
            | EndReason::Crashed
            | EndReason::Timeout => {
                let options = &self.dispatching().options;
                if assignment.restarts >= options.max_restarts {
                    return Next::Escalate(format!(
                        "it was taken up again {} times, and session {id} failed too ({why})",
                        assignment.restarts
                    ));
                }
                let rest = REST.saturating_mul(2_u32.saturating_pow(assignment.restarts.min(10)));
                let ended = session.ended_at.unwrap_or(now);
                if end.reason != EndReason::RateLimited && now < ended.saturating_add(rest) {
                    return Next::Wait(format!(
                        "session {id} failed ({why}); it is taken up again in a moment"
                    ));
                }
                match session.is_resumable() && session.mode == Mode::Headless {
                    true => Next::GoOn(Box::new(session), why),
                    false => Next::Anew(why),
                }
            }
        }
    }

    /// Does what is to be done for a task that an idle agent has. What does not work is tried again later.
    pub(super) async fn follow(&self, agent: &Agent, task: &Task, next: Next, keeping: Giving) {
        if let Err(error) = self.follow_now(agent, task, next, keeping).await {
            tracing::info!(task = %task.id, agent = %agent.id, ?error, "it could not be taken up");
            let now = self.clock().now();
            self.dispatching().refused(task.id, agent.id, &error, now);
        }
    }

    async fn follow_now(
        &self,
        agent: &Agent,
        task: &Task,
        next: Next,
        keeping: Giving,
    ) -> Result<()> {
        let caller = Caller::scheduler();
        let by = caller.actor();
        let Some(assignment) = task.living().cloned() else {
            return Ok(());
        };
        match next {
            Next::Wait(_) => {}
            Next::Begin => {
                let how = Dispatch::default();
                // What keeps it is remembered there.
                if let Err(error) = self.give(&caller, agent, task.id, &how, keeping).await {
                    tracing::info!(task = %task.id, agent = %agent.id, ?error, "it could not begin");
                }
            }
            Next::Anew(why) => {
                let Some((task, assignment)) = self.retry(task, &assignment, &why).await? else {
                    return Ok(());
                };
                let how = Dispatch {
                    note: format!(
                        "An earlier session of yours began this and ended before it was done ({why}). What it did may be there already: look first."
                    ),
                    ..Dispatch::default()
                };
                self.begin(&caller, agent, &task, &assignment, &how).await?;
            }
            Next::GoOn(session, why) => {
                let Some((task, assignment)) = self.retry(task, &assignment, &why).await? else {
                    return Ok(());
                };
                self.go_on(&caller, agent, &task, &assignment, &session, &why)
                    .await?;
            }
            Next::Done(session) => {
                let summary = self.last_words(session).await?;
                self.change_own(task.id, &by, |task, by, now| {
                    match task.living().map(|living| living.id) == Some(assignment.id) {
                        true => task.complete(&summary, Outcome::Done, by, now),
                        false => Ok(()),
                    }
                })
                .await?;
            }
            Next::Park(until) => {
                self.change_own(task.id, &by, |task, by, now| {
                    task.park(assignment.id, until, by, now)
                })
                .await?;
            }
            Next::Escalate(why) => {
                tracing::warn!(task = %task.id, agent = %agent.id, why, "a person must look at a task");
                self.change_own(task.id, &by, |task, by, now| {
                    task.escalate(assignment.id, &why, by, now)
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Notes that a task is taken up again, before it is: what fails each time must be counted each time. Gives the
    /// task as it is now, with the sessions that it has had.
    async fn retry(
        &self,
        task: &Task,
        assignment: &Assignment,
        why: &str,
    ) -> Result<Option<(Task, Assignment)>> {
        let by = Caller::scheduler().actor();
        let task = self
            .change_own(task.id, &by, |task, by, now| {
                task.retry(assignment.id, why, by, now)
            })
            .await?;
        let living = task.living().cloned();
        Ok(living.map(|living| (task, living)))
    }

    async fn go_on(
        &self,
        caller: &Caller,
        agent: &Agent,
        task: &Task,
        assignment: &Assignment,
        session: &Session,
        why: &str,
    ) -> Result<SessionId> {
        let input = joined(
            agent.settings.definition.on_error.clone(),
            &format!(
                "Your session ended before the task was done ({why}). What you did last may have happened or not: look before you repeat it.\n\n{}",
                task.reminder()
            ),
        );
        let start = start_of(assignment);
        let ask = Ask {
            caller,
            method: "ResumeAgent",
            request_id: &start,
            detail: start.clone(),
            agent: Some(agent.id),
        };
        let how = Resume {
            input,
            task: Some(SessionTask {
                id: task.id,
                assignment_id: assignment.id,
            }),
            ..Resume::default()
        };
        let session = self.continue_session(&ask, session.id, how).await?;
        self.begun(caller, task.id, assignment, &session).await
    }

    /// The newest session that worked under an assignment: as the assignment says, or, if a crash came between, as the
    /// agent's last session does.
    async fn last_session(
        &self,
        agent: &Agent,
        assignment: &Assignment,
    ) -> Result<Option<Session>> {
        let run = self.agent_run(agent.id).await?;
        let last = match run.and_then(|(run, _)| run.session_id) {
            Some(last) => self.session_record(last).await?.map(|(session, _)| session),
            None => None,
        };
        if let Some(last) = last
            && last.task.map(|task| task.assignment_id) == Some(assignment.id)
        {
            self.note_begun(&last, &Caller::scheduler().actor()).await;
            return Ok(Some(last));
        }
        let Some(mut id) = assignment.session_ids.last().copied() else {
            return Ok(None);
        };
        // A person may have continued it, with another agent or none.
        for _ in 0..100 {
            let Some((session, _)) = self.session_record(id).await? else {
                return Ok(None);
            };
            match session.resumed_by {
                Some(next) => id = next,
                None => return Ok(Some(session)),
            }
        }
        Ok(None)
    }

    /// What an agent has and could work on now, the most urgent first.
    pub(super) async fn in_hand(&self, agent: &Agent) -> Result<Vec<Task>> {
        self.tasks_in_hand(agent.id, &agent.settings.capabilities, IN_HAND)
            .await
    }

    /// What the agent said last in a session.
    async fn last_words(&self, session: SessionId) -> Result<String> {
        let newest = PageRequest {
            size: LAST_EVENTS,
            after: None,
        };
        let caller = Caller::scheduler();
        let page = self
            .list_events(&caller, session, 0, 0, u64::MAX, &[], &newest)
            .await?;
        let last = page
            .events
            .iter()
            .rev()
            .find_map(|event| match &event.body {
                Some(Body::TurnEnded(turn)) if !turn.text.is_empty() => Some(&turn.text),
                _ => None,
            });
        let text = last.map(|text| text.chars().take(SUMMARY_CHARS).collect());
        Ok(text.unwrap_or_default())
    }

    /// Tasks at which a person must look.
    pub(super) async fn escalated_tasks(&self, limit: usize) -> Result<Vec<TaskId>> {
        let mut found = Vec::new();
        for task in self.held_tasks().await? {
            if found.len() == limit {
                break;
            }
            if task
                .living()
                .is_some_and(|living| !living.escalation.is_empty())
            {
                found.push(task.id);
            }
        }
        Ok(found)
    }
}

/// Until when an agent is refused by its provider, as far as its tasks say.
pub(super) fn parked_until(tasks: &[Task], now: Timestamp) -> Option<Timestamp> {
    let parked = tasks.iter().filter_map(|task| task.living()?.parked_until);
    parked.filter(|until| now < *until).max()
}

/// When to ask a provider again that refused a session.
fn asked_again_at(session: &Session, now: Timestamp) -> Timestamp {
    let until = session.limited.and_then(|limited| limited.until);
    until
        .unwrap_or_else(|| now.saturating_add(PARKED_AT_LEAST))
        .min(now.saturating_add(PARKED_AT_MOST))
}
