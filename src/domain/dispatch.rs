//! Which agent a task is given to: how well one fits, and where it would work.

use super::policy::is_within;
use super::{Agent, AgentRole, Task, WorkerMode};

/// In which checkout a task is worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkout {
    /// A worktree for an ephemeral worker whose directory is in a repository, else the directory.
    #[default]
    Usual,
    /// A worktree.
    Worktree,
    /// The directory itself.
    Directory,
}

/// The score of an agent that can do what a task requires and nothing of what it prefers.
pub const BASE_SCORE: u8 = 50;

/// What a task requires and an agent cannot do.
pub fn missing<'a>(task: &'a Task, capabilities: &[String]) -> Vec<&'a str> {
    let lacks = |word: &&String| !capabilities.contains(word);
    let missing = task.required_capabilities.iter().filter(lacks);
    missing.map(String::as_str).collect()
}

/// How well an agent fits a task whose requirements it meets: [`BASE_SCORE`] to 100, by how much it can do of what
/// the task prefers. A task that prefers nothing is fitted by all alike.
pub fn score(task: &Task, capabilities: &[String]) -> u8 {
    let preferred = &task.preferred_capabilities;
    if preferred.is_empty() {
        return 100;
    }
    let has = preferred.iter().filter(|word| capabilities.contains(word));
    let share = (100 - usize::from(BASE_SCORE)) * has.count() / preferred.len();
    BASE_SCORE + u8::try_from(share).unwrap_or_default()
}

/// The directory in which an agent works on a task: the narrower of the two, empty if neither names one. `None`: the
/// agent works elsewhere.
pub fn workplace<'a>(task: &'a Task, agent: &'a Agent) -> Option<&'a str> {
    common_place(&task.directory, &agent.settings.directory)
}

/// The narrower of the directories that a task and an agent name; empty is any. `None`: they have nothing in common.
pub(super) fn common_place<'a>(wanted: &'a str, own: &'a str) -> Option<&'a str> {
    if own.is_empty() || (!wanted.is_empty() && is_within(wanted, own)) {
        Some(wanted)
    } else if wanted.is_empty() || is_within(own, wanted) {
        Some(own)
    } else {
        None
    }
}

/// Whether the scheduler may give an agent tasks at all. Persistent workers and directors work with people, and
/// stewards are started by their triggers.
pub fn is_scheduled(agent: &Agent) -> bool {
    let settings = &agent.settings;
    settings.role == AgentRole::Worker && settings.worker_mode != Some(WorkerMode::Persistent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::id::{AgentId, TaskId};
    use crate::domain::task::Draft;
    use crate::domain::{Actor, AgentSettings};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn task(required: &str, preferred: &str, directory: &str) -> Task {
        let draft = Draft {
            required_capabilities: words(required),
            preferred_capabilities: words(preferred),
            directory: directory.to_owned(),
            ..Draft::default()
        };
        Task::new(
            TaskId::from_bits(1),
            draft,
            &Actor::server(),
            Timestamp::EPOCH,
        )
    }

    fn agent(directory: &str) -> Agent {
        let mut settings = AgentSettings::new("a", AgentRole::Worker, "demo");
        settings.directory = directory.to_owned();
        Agent {
            id: AgentId::from_bits(1),
            settings,
            created_by: Actor::server(),
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn what_is_required_must_be_there_and_what_is_preferred_counts() {
        let task = task("rust sql", "grpc docs", "");
        assert_eq!(missing(&task, &words("rust docs")), ["sql"]);
        assert!(missing(&task, &words("docs sql rust")).is_empty());
        let scores = ["rust sql", "rust sql docs", "rust sql docs grpc"]
            .map(|can| score(&task, &words(can)));
        assert_eq!(scores, [50, 75, 100]);
        assert_eq!(score(&self::task("", "", ""), &[]), 100);
    }

    #[test]
    fn it_works_in_the_narrower_directory_or_not_at_all() {
        let at = |wanted: &str, own: &str| {
            workplace(&task("", "", wanted), &agent(own)).map(str::to_owned)
        };
        assert_eq!(at("", ""), Some(String::new()));
        assert_eq!(at("/p", ""), Some("/p".to_owned()));
        assert_eq!(at("", "/p"), Some("/p".to_owned()));
        assert_eq!(at("/p/web", "/p"), Some("/p/web".to_owned()));
        assert_eq!(at("/p", "/p/web"), Some("/p/web".to_owned()));
        assert_eq!(at("/p", "/q"), None);
        assert_eq!(at("/p", "/pq"), None);
    }

    #[test]
    fn only_ephemeral_workers_are_given_tasks() {
        let with = |role, mode| {
            let mut agent = agent("");
            agent.settings.role = role;
            agent.settings.worker_mode = mode;
            is_scheduled(&agent)
        };
        assert!(with(AgentRole::Worker, Some(WorkerMode::Ephemeral)));
        assert!(!with(AgentRole::Worker, Some(WorkerMode::Persistent)));
        assert!(!with(AgentRole::Director, None));
        assert!(!with(AgentRole::Steward, None));
    }
}
