//! What is done to a task. Each verb moves it by an edge of [`Status`], says so in the history, or refuses
//! and changes nothing.

use super::dependency::MAX_DEPENDENCIES;
use super::{
    Assignment, AssignmentState, Dependency, MAX_ASSIGNMENT_SESSIONS, MAX_ASSIGNMENTS, MergeStatus,
    On, Relation, Status, Task, What,
};
use crate::base::id::{AgentId, AssignmentId, SessionId, WorktreeId};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::Actor;

/// What a completed task becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// To be looked at, or closed where nobody needs to.
    #[default]
    Done,
    /// Closed, whoever would have looked at it.
    Closed,
    /// Closed, its branch merged.
    Merged,
}

impl Task {
    /// Moves it by an edge.
    pub(super) fn go(&mut self, to: Status, now: Timestamp) -> Result<()> {
        if !self.status.may_become(to) {
            return Err(Error::state(format!(
                "the task is {} and cannot become {}",
                self.status.as_str(),
                to.as_str()
            ))
            .with("status", self.status.as_str()));
        }
        self.status = to;
        self.closed_at = (to == Status::Closed).then_some(now);
        Ok(())
    }

    /// ALREADY_EXISTS, naming who has it, while somebody has.
    fn nobody_has_it(&self) -> Result<()> {
        match self.living() {
            None => Ok(()),
            Some(holder) => Err(Error::new(
                Code::AlreadyExists,
                format!(
                    "{} has the task already; hand it off to take it from them",
                    holder.agent_id
                ),
            )
            .with("holder", holder.agent_id)
            .with("assignment", holder.id)),
        }
    }

    fn living_mut(&mut self) -> Result<&mut Assignment> {
        self.assignments
            .last_mut()
            .filter(|assignment| assignment.state.is_living())
            .ok_or_else(|| Error::state("nobody has the task"))
    }

    /// What an agent that begins now goes on from: the last one's branch and worktree.
    fn place(&self) -> (String, Option<WorktreeId>) {
        self.assignments
            .last()
            .map(|last| (last.branch.clone(), last.worktree_id))
            .unwrap_or_default()
    }

    fn give(
        &mut self,
        id: AssignmentId,
        agent: AgentId,
        (branch, worktree_id): (String, Option<WorktreeId>),
        by: &Actor,
        now: Timestamp,
    ) {
        if self.assignments.len() >= MAX_ASSIGNMENTS {
            let excess = self.assignments.len() + 1 - MAX_ASSIGNMENTS;
            self.assignments.drain(..excess);
        }
        self.assignments.push(Assignment {
            branch,
            worktree_id,
            ..Assignment::new(id, agent, by, now)
        });
        self.note(What::Assigned, "", Some(agent), by, now);
    }

    /// Gives it to an agent, which does not begin yet. Branch and worktree are those of who had it last, unless
    /// others are named. ALREADY_EXISTS: somebody has it; `holder` says who.
    pub fn assign(
        &mut self,
        id: AssignmentId,
        agent: AgentId,
        branch: &str,
        worktree: Option<WorktreeId>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        self.nobody_has_it()?;
        if self.status != Status::InProgress && !self.status.may_become(Status::InProgress)
            || self.status == Status::Review
        {
            return Err(Error::state(format!(
                "the task is {}; only one that is open or deferred can be assigned",
                self.status.as_str()
            ))
            .with("status", self.status.as_str()));
        }
        let mut place = self.place();
        if !branch.is_empty() {
            branch.clone_into(&mut place.0);
        }
        place.1 = worktree.or(place.1);
        self.give(id, agent, place, by, now);
        Ok(())
    }

    /// The agent begins, in a session. One that has nobody is given to it, as the assignment `id`; beginning
    /// again links the session. ALREADY_EXISTS: somebody else has it.
    pub fn start(
        &mut self,
        id: AssignmentId,
        agent: AgentId,
        session: SessionId,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        match self.living() {
            Some(holder) if holder.agent_id != agent => self.nobody_has_it()?,
            Some(_) => {}
            None => self.assign(id, agent, "", None, by, now)?,
        }
        if self.status != Status::InProgress {
            self.go(Status::InProgress, now)?;
        }
        let assignment = self.living_mut()?;
        let begins = assignment.state == AssignmentState::Assigned;
        if begins {
            assignment.state = AssignmentState::InProgress;
            assignment.started_at = Some(now);
        }
        let is_new = link(assignment, session);
        let text = session.to_string();
        if begins {
            self.note(What::Started, &text, Some(agent), by, now);
        } else if is_new {
            self.note(What::SessionLinked, &text, Some(agent), by, now);
        }
        Ok(())
    }

    /// The agent begins, or goes on, under an assignment that it was given before. INVALID_STATE: that is over.
    pub fn begin(
        &mut self,
        id: AssignmentId,
        agent: AgentId,
        session: SessionId,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        match self.living() {
            Some(living) if living.id == id && living.agent_id == agent => {
                self.start(id, agent, session, by, now)
            }
            _ => Err(Error::state(format!("the assignment {id} is over"))),
        }
    }

    /// Its work is to be taken up again after a session has failed. INVALID_STATE: the assignment is over.
    pub fn retry(&mut self, id: AssignmentId, why: &str, by: &Actor, now: Timestamp) -> Result<()> {
        let assignment = self.living_as(id)?;
        assignment.restarts = assignment.restarts.saturating_add(1);
        assignment.parked_until = None;
        let agent = assignment.agent_id;
        self.note(What::Retried, why, Some(agent), by, now);
        Ok(())
    }

    /// It waits until the provider takes something of its agent again. INVALID_STATE: the assignment is over.
    pub fn park(
        &mut self,
        id: AssignmentId,
        until: Timestamp,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        let assignment = self.living_as(id)?;
        if assignment.parked_until == Some(until) {
            return Ok(());
        }
        assignment.parked_until = Some(until);
        let agent = assignment.agent_id;
        self.note(What::Parked, &until.to_string(), Some(agent), by, now);
        Ok(())
    }

    /// A person must look at it; nothing is done for it until one has. INVALID_STATE: the assignment is over.
    pub fn escalate(
        &mut self,
        id: AssignmentId,
        why: &str,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        let assignment = self.living_as(id)?;
        if assignment.escalation == why {
            return Ok(());
        }
        why.clone_into(&mut assignment.escalation);
        let agent = assignment.agent_id;
        self.note(What::Escalated, why, Some(agent), by, now);
        Ok(())
    }

    /// A person has looked at it: it is worked on as if nothing had failed. INVALID_STATE: the assignment is over.
    pub fn settle(&mut self, id: AssignmentId) -> Result<()> {
        let assignment = self.living_as(id)?;
        assignment.restarts = 0;
        assignment.parked_until = None;
        assignment.escalation.clear();
        Ok(())
    }

    fn living_as(&mut self, id: AssignmentId) -> Result<&mut Assignment> {
        self.living_mut()
            .ok()
            .filter(|living| living.id == id)
            .ok_or_else(|| Error::state(format!("the assignment {id} is over")))
    }

    /// Making its worktree was refused for good. INVALID_STATE: the assignment is over.
    pub fn checkout_refused(&mut self, id: AssignmentId) -> Result<()> {
        let assignment = self.living_as(id)?;
        assignment.checkouts_refused = assignment.checkouts_refused.saturating_add(1);
        Ok(())
    }

    /// Says where it is worked on. INVALID_STATE: the assignment is over.
    pub fn set_place(
        &mut self,
        id: AssignmentId,
        branch: &str,
        worktree: Option<WorktreeId>,
    ) -> Result<()> {
        let assignment = self.living_as(id)?;
        branch.clone_into(&mut assignment.branch);
        assignment.worktree_id = worktree;
        Ok(())
    }

    fn end_assignment(
        &mut self,
        state: AssignmentState,
        note: &str,
        now: Timestamp,
    ) -> Result<AgentId> {
        let assignment = self.living_mut()?;
        assignment.state = state;
        note.clone_into(&mut assignment.note);
        assignment.ended_at = Some(now);
        let agent = assignment.agent_id;
        if self.status == Status::InProgress
            && matches!(
                state,
                AssignmentState::HandedOff | AssignmentState::Released
            )
        {
            self.go(Status::Open, now)?;
        }
        Ok(agent)
    }

    /// Takes it back: it is open again, for anybody. INVALID_STATE: nobody has it.
    pub fn release(&mut self, reason: &str, by: &Actor, now: Timestamp) -> Result<()> {
        let agent = self.end_assignment(AssignmentState::Released, reason, now)?;
        self.note(What::Released, reason, Some(agent), by, now);
        Ok(())
    }

    /// Hands it on, with branch and worktree: to another agent, or to the ready queue. INVALID_STATE: nobody
    /// has it.
    pub fn hand_off(
        &mut self,
        note: &str,
        next: Option<(AssignmentId, AgentId)>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        let agent = self.end_assignment(AssignmentState::HandedOff, note, now)?;
        self.note(What::HandedOff, note, Some(agent), by, now);
        if let Some((id, next)) = next {
            self.give(id, next, self.place(), by, now);
        }
        Ok(())
    }

    /// It is done. INVALID_STATE: it is not worked on and not in review, or is in review and `outcome` does
    /// not say how that ended.
    pub fn complete(
        &mut self,
        summary: &str,
        outcome: Outcome,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        let before = self.status;
        let to = match outcome {
            Outcome::Done if before == Status::Review => {
                return Err(Error::state(
                    "the task is in review; say whether it was merged or is to be closed, or reopen it",
                )
                .with("status", before.as_str()));
            }
            Outcome::Done if before == Status::Open && !self.skip_review => {
                return Err(Error::state(
                    "nobody has begun the task, so there is nothing to review; it can be closed",
                )
                .with("status", before.as_str()));
            }
            Outcome::Done if !self.skip_review => Status::Review,
            _ => Status::Closed,
        };
        self.go(to, now)?;
        if !summary.is_empty() {
            summary.clone_into(&mut self.summary);
        }
        let merged = outcome == Outcome::Merged;
        let state = match merged {
            true => AssignmentState::Merged,
            false => AssignmentState::Completed,
        };
        let mut agent = None;
        if self.living().is_some() {
            agent = Some(self.end_assignment(state, summary, now)?);
        } else if let Some(last) = self.assignments.last_mut()
            && before == Status::Review
        {
            agent = Some(last.agent_id);
            if merged && last.state == AssignmentState::Completed {
                last.state = AssignmentState::Merged;
            }
        }
        if merged {
            self.merge_status = MergeStatus::Merged;
        } else if to == Status::Review {
            let has_branch = self
                .assignments
                .last()
                .is_some_and(|last| !last.branch.is_empty());
            self.merge_status = match has_branch {
                true => MergeStatus::Pending,
                false => MergeStatus::NotApplicable,
            };
        }
        let text = match (to, merged) {
            (Status::Review, _) => "to review",
            (_, true) => "merged and closed",
            (_, false) => "closed",
        };
        self.note(What::Completed, text, agent, by, now);
        Ok(())
    }

    /// Opens it again, from review or closed. With `again`, who had it last has it again, under a new
    /// assignment. INVALID_STATE: it is not over, or nobody had it.
    pub fn reopen(
        &mut self,
        note: &str,
        again: Option<AssignmentId>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        if !matches!(self.status, Status::Review | Status::Closed) {
            return Err(Error::state(format!(
                "the task is {}; only one in review or closed can be reopened",
                self.status.as_str()
            ))
            .with("status", self.status.as_str()));
        }
        let last = self.assignments.last().map(|last| last.agent_id);
        let next = match (again, last) {
            (None, _) => None,
            (Some(id), Some(agent)) => Some((id, agent)),
            (Some(_), None) => return Err(Error::state("nobody had the task before")),
        };
        self.go(Status::Open, now)?;
        self.merge_status = MergeStatus::NotApplicable;
        self.note(What::Reopened, note, last, by, now);
        if let Some((id, agent)) = next {
            self.give(id, agent, self.place(), by, now);
        }
        Ok(())
    }

    /// What became of its branch.
    pub fn set_merge_status(&mut self, to: MergeStatus, note: &str, by: &Actor, now: Timestamp) {
        self.merge_status = to;
        self.note(What::MergeMoved, note, None, by, now);
    }

    /// Adds a dependency; that it makes no cycle is to be seen to before. ALREADY_EXISTS: it is there, or
    /// there is another parent. LIMIT_EXCEEDED: there are too many.
    pub fn depend(&mut self, on: On, by: &Actor, now: Timestamp) -> Result<()> {
        if self.dependencies.iter().any(|known| known.on == on) {
            return Err(Error::new(
                Code::AlreadyExists,
                "the task has this dependency already",
            ));
        }
        if let On::Task {
            relation: Relation::ParentChild,
            ..
        } = on
            && let Some(parent) = self.parent()
        {
            return Err(Error::new(
                Code::AlreadyExists,
                "the task has a parent already; remove that dependency first",
            )
            .with("parent", parent));
        }
        if self.dependencies.len() >= MAX_DEPENDENCIES {
            return Err(Error::new(
                Code::LimitExceeded,
                format!("the task has {MAX_DEPENDENCIES} dependencies, the most there may be"),
            ));
        }
        let text = on.describe();
        self.dependencies.push(Dependency {
            on,
            by: by.clone(),
            at: now,
        });
        self.note(What::DependencyAdded, &text, None, by, now);
        Ok(())
    }

    /// Removes a dependency. NOT_FOUND: it is not there.
    pub fn undepend(&mut self, on: &On, by: &Actor, now: Timestamp) -> Result<()> {
        let before = self.dependencies.len();
        self.dependencies.retain(|known| known.on != *on);
        if self.dependencies.len() == before {
            return Err(Error::new(
                Code::NotFound,
                "the task has no such dependency",
            ));
        }
        self.note(What::DependencyRemoved, &on.describe(), None, by, now);
        Ok(())
    }
}

/// Notes a session; whether it is a new one.
fn link(assignment: &mut Assignment, session: SessionId) -> bool {
    if assignment.session_ids.contains(&session) {
        return false;
    }
    if assignment.session_ids.len() >= MAX_ASSIGNMENT_SESSIONS {
        assignment.session_ids.remove(0);
    }
    assignment.session_ids.push(session);
    true
}
