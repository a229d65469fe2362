//! The look at an agent's ready queue before it goes on with an earlier conversation.

use crate::app::App;
use crate::app::access::Caller;
use crate::app::sessions::joined;
use crate::app::tasks::ShownTask;
use crate::base::Result;
use crate::base::id::SessionId;
use crate::domain::session::{Mode, SessionTask};
use crate::domain::task::ready_brief;
use crate::domain::{Agent, Session, Task};

/// The most tasks that are looked at.
const MAX_TASKS: usize = 10;

/// What a look at an agent's ready queue found, before it was resumed.
#[derive(Clone, Debug, Default)]
pub struct ReadyCheck {
    /// Whether it was looked at.
    pub checked: bool,
    /// What the agent has and could go on with or begin, the most urgent first.
    pub tasks: Vec<ShownTask>,
    /// Whether the first of them goes before the input.
    pub process_first: bool,
}

/// A session that was continued.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// The new session.
    pub session: Session,
    /// What was looked at before.
    pub ready: ReadyCheck,
}

/// What an agent is to be told first, and which task that is.
#[derive(Default)]
pub(super) struct ReadyFirst {
    pub(super) ready: ReadyCheck,
    /// The input with the instructions before it.
    pub(super) input: String,
    pub(super) task: Option<SessionTask>,
}

impl App {
    /// Looks for tasks that an agent has and could go on with or begin, for the caller. The most urgent goes before `input`, unless
    /// it is a person who types.
    pub(super) async fn ready_first(
        &self,
        caller: &Caller,
        agent: &Agent,
        continued: SessionId,
        input: &str,
    ) -> Result<ReadyFirst> {
        let ready = self.ready_check(caller, agent).await?;
        let untold = |ready| ReadyFirst {
            ready,
            input: input.to_owned(),
            task: None,
        };
        let Some((session, _)) = self.session_record(continued).await? else {
            // Continuing it says what is wrong.
            return Ok(untold(ready));
        };
        let tasks: Vec<Task> = ready.tasks.iter().map(|shown| shown.task.clone()).collect();
        let first = tasks.first().and_then(|task| {
            Some(SessionTask {
                id: task.id,
                assignment_id: task.living()?.id,
            })
        });
        if first.is_none() || session.mode == Mode::Interactive {
            return Ok(untold(ready));
        }
        let known = session.task.map(|task| task.id) == first.map(|task| task.id);
        let told = joined(
            agent.settings.definition.on_task_assigned.clone(),
            &ready_brief(&tasks, known),
        );
        Ok(ReadyFirst {
            ready: ReadyCheck {
                process_first: true,
                ..ready
            },
            input: joined(told, input),
            task: first,
        })
    }

    /// The tasks that an agent has and could begin, as far as the caller sees them.
    pub(super) async fn ready_check(&self, caller: &Caller, agent: &Agent) -> Result<ReadyCheck> {
        let capabilities = &agent.settings.capabilities;
        let found = self
            .tasks_in_hand(agent.id, capabilities, MAX_TASKS)
            .await?;
        let mut tasks = Vec::with_capacity(found.len());
        for task in found {
            // One that was deleted meanwhile, or that is not the caller's to see, is not told of.
            tasks.extend(self.get_task(caller, task.id).await.ok());
        }
        Ok(ReadyCheck {
            checked: true,
            tasks,
            process_first: false,
        })
    }
}
