//! A reader of records: what sessions, prompts, daemons, agents, worktrees and tasks are, and how they change.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Open;
use super::reader::PROGRESS_EVERY;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::agents::ShownAgent;
use crate::app::daemons::ShownDaemon;
use crate::app::failure;
use crate::app::records;
use crate::app::sessions::Shown;
use crate::app::tasks::{GoneTask, ShownTask};
use crate::app::worktrees::ShownWorktree;
use crate::base::id::{AgentId, DaemonId, TaskId};
use crate::base::{Code, Error, Result};
use crate::domain::session::Gone;
use crate::domain::worktree::State as WorktreeState;
use crate::domain::{Agent, Daemon, Lifecycle, Prompt, Session, Task, Worktree};
use crate::store;

/// How many changes one message holds at most.
const BATCH: usize = 200;
/// How long changes are gathered: a busy session's record changes with every event.
const GATHER_FOR: Duration = Duration::from_millis(100);

/// What the tables of tasks begin with: the tasks, which were closed or opened, which are gone.
const TASK_TABLES: &str = "task";

/// Which records a reader follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// Sessions, prompts, daemons, agents and worktrees.
    All,
    /// Prompts.
    Prompts,
    /// One daemon.
    Daemon(DaemonId),
    /// Tasks, or one of them.
    Tasks(Option<TaskId>),
}

/// One record that changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// The commit that changed it.
    pub revision: u64,
    /// What it is now.
    pub changed: Changed,
}

/// What a record is now.
#[derive(Clone, Debug)]
pub enum Changed {
    /// A session.
    Session(Box<Shown>),
    /// A prompt.
    Prompt(Box<Prompt>),
    /// A daemon.
    Daemon(Box<ShownDaemon>),
    /// An agent.
    Agent(Box<ShownAgent>),
    /// A worktree.
    Worktree(Box<ShownWorktree>),
    /// A task.
    Task(Box<ShownTask>),
    /// The id of one that is gone.
    Deleted(String),
}

/// What a reader of records is given.
#[derive(Clone, Debug)]
pub enum ChangeBatch {
    /// The records are being followed; this is the newest revision.
    Started(u64),
    /// It is forgotten what was deleted up to this revision: every record comes again.
    Truncated(u64),
    /// Records that changed, oldest change first.
    Changes(Vec<Change>),
    /// Everything up to this revision was given.
    Progress(u64),
}

/// A reader of records.
pub struct ChangesReader {
    app: App,
    caller: Caller,
    tables: Tables,
    phase: Phase,
    wake: watch::Receiver<u64>,
    /// Everything up to this revision was given.
    through: u64,
    /// When the reader was last given something.
    told: Instant,
    _open: Open,
}

enum Phase {
    Start { from: u64 },
    Snapshot { table: usize, after: Option<String> },
    Follow,
}

impl App {
    /// The number of the newest commit that changed records.
    pub fn newest_revision(&self) -> u64 {
        *self.store().watch_revision().borrow()
    }

    /// Follows the records that the caller sees after a revision; 0 gives what there is first (of prompts:
    /// what waits; of tasks: what is not closed).
    pub async fn follow_changes(
        &self,
        caller: &Caller,
        tables: Tables,
        from: u64,
    ) -> Result<ChangesReader> {
        if let Tables::Daemon(id) = tables {
            self.get_daemon(id).await?;
        }
        if let Tables::Tasks(Some(id)) = tables {
            self.get_task(caller, id).await?;
        }
        let wake = self.store().watch_revision();
        let newest = *wake.borrow();
        if from > newest {
            return Err(Error::new(
                Code::OutOfRange,
                format!("from_revision {from} lies in the future: the newest is {newest}"),
            )
            .with("head", newest));
        }
        Ok(ChangesReader {
            app: self.clone(),
            caller: caller.clone(),
            tables,
            phase: Phase::Start { from },
            wake,
            through: if from == 0 { newest } else { from },
            told: Instant::now(),
            _open: Open::of("changes"),
        })
    }
}

impl ChangesReader {
    /// What comes, as a stream, which ends after an error.
    pub fn into_stream(self) -> BoxStream<'static, Result<ChangeBatch>> {
        let next = |reader: Option<Self>| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(batch) => Some((Ok(batch), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        };
        stream::unfold(Some(self), next).boxed()
    }

    /// What comes next; waits for it. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Result<ChangeBatch> {
        let batch = self.find().await?;
        self.told = Instant::now();
        Ok(batch)
    }

    async fn find(&mut self) -> Result<ChangeBatch> {
        loop {
            match &self.phase {
                Phase::Start { from } => {
                    self.phase = if *from == 0 {
                        Phase::Snapshot {
                            table: 0,
                            after: None,
                        }
                    } else {
                        Phase::Follow
                    };
                    return Ok(ChangeBatch::Started(*self.wake.borrow()));
                }
                Phase::Snapshot { table, after } => {
                    let (table, after) = (*table, after.clone());
                    if let Some(batch) = self.snapshot(table, after).await? {
                        return Ok(batch);
                    }
                }
                Phase::Follow => {
                    self.wake.mark_unchanged();
                    if let Some(batch) = self.changes().await? {
                        return Ok(batch);
                    }
                    if let Some(progress) = self.wait().await? {
                        return Ok(progress);
                    }
                }
            }
        }
    }

    fn prefixes(&self) -> Vec<String> {
        match self.tables {
            Tables::All => vec![
                records::DAEMONS.to_owned(),
                records::AGENTS.to_owned(),
                records::SESSIONS.to_owned(),
                records::PENDING_PROMPTS.to_owned(),
                records::WORKTREES.to_owned(),
            ],
            Tables::Prompts => vec![records::PENDING_PROMPTS.to_owned()],
            Tables::Daemon(id) => vec![records::daemon_key(id)],
            Tables::Tasks(Some(id)) => vec![records::task_key(id)],
            Tables::Tasks(None) => vec![records::TASKS.to_owned()],
        }
    }

    async fn snapshot(
        &mut self,
        table: usize,
        after: Option<String>,
    ) -> Result<Option<ChangeBatch>> {
        let prefixes = self.prefixes();
        let Some(prefix) = prefixes.get(table) else {
            self.phase = Phase::Follow;
            return Ok(Some(ChangeBatch::Progress(self.through)));
        };
        let page = match self.tables {
            // Most tasks are closed: those that are not are known without reading the others.
            Tables::Tasks(None) => self.app.open_tasks(after.as_deref(), BATCH).await?,
            _ => self
                .app
                .store()
                .scan(prefix, after.as_deref(), BATCH)
                .await
                .map_err(failure::from_store)?,
        };
        self.phase = match page.last() {
            Some(last) if page.len() == BATCH => Phase::Snapshot {
                table,
                after: Some(last.key.clone()),
            },
            _ => Phase::Snapshot {
                table: table + 1,
                after: None,
            },
        };
        let mut changes = Vec::new();
        if prefix == records::WORKTREES {
            self.worktrees(&page, &mut changes).await?;
            return Ok((!changes.is_empty()).then_some(ChangeBatch::Changes(changes)));
        }
        for record in page {
            let record = match record.key.strip_prefix(records::PENDING_PROMPTS) {
                Some(id) => {
                    let key = format!("{}{id}", records::PROMPTS);
                    match self
                        .app
                        .store()
                        .get(&key)
                        .await
                        .map_err(failure::from_store)?
                    {
                        Some(prompt) => prompt,
                        None => continue,
                    }
                }
                None => record,
            };
            self.change(&record.key, record.revision, Some(&record), &mut changes)
                .await?;
        }
        Ok((!changes.is_empty()).then_some(ChangeBatch::Changes(changes)))
    }

    async fn changes(&mut self) -> Result<Option<ChangeBatch>> {
        let prefix = match self.tables {
            Tables::All => String::new(),
            // Of deletions, a narrowed caller is told by another table.
            Tables::Prompts if self.caller.narrowing.is_some() => String::new(),
            Tables::Prompts => records::PROMPTS.to_owned(),
            Tables::Daemon(id) => records::daemon_key(id),
            Tables::Tasks(_) => TASK_TABLES.to_owned(),
        };
        let newest = *self.wake.borrow();
        let page = match self.app.store().changes(&prefix, self.through, BATCH).await {
            Ok(page) => page,
            Err(store::Error::Forgotten { through }) => {
                self.through = newest;
                self.phase = Phase::Snapshot {
                    table: 0,
                    after: None,
                };
                return Ok(Some(ChangeBatch::Truncated(through)));
            }
            Err(error) => return Err(failure::from_store(error)),
        };
        let Some(last) = page.last().map(|change| change.revision) else {
            self.through = self.through.max(newest);
            return Ok(None);
        };
        let mut changes = Vec::new();
        for change in &page {
            let record = change.value.clone().map(|value| store::Record {
                key: change.key.clone(),
                revision: change.revision,
                value,
            });
            self.change(&change.key, change.revision, record.as_ref(), &mut changes)
                .await?;
        }
        self.through = last;
        Ok((!changes.is_empty()).then_some(ChangeBatch::Changes(changes)))
    }

    /// Adds a record's change as the reader sees it: nothing for a record that is not of a followed table, or
    /// not the caller's to see.
    async fn change(
        &self,
        key: &str,
        revision: u64,
        record: Option<&store::Record>,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let Some((table, id)) = key.split_once('/') else {
            return Ok(());
        };
        let narrowed = self.caller.narrowing.as_ref();
        let followed = match self.tables {
            Tables::All => matches!(
                table,
                "session" | "prompt" | "daemon" | "gone" | "agent" | "agent-run" | "worktree"
            ),
            Tables::Prompts => matches!(table, "prompt" | "gone"),
            Tables::Daemon(daemon) => key == records::daemon_key(daemon),
            Tables::Tasks(_) => matches!(table, "task" | "task-turned" | "task-gone"),
        };
        if !followed {
            return Ok(());
        }
        if let Tables::Tasks(only) = self.tables {
            let id: TaskId = id.parse().map_err(Error::internal)?;
            return self
                .task_change(table, id, only, revision, record, changes)
                .await;
        }
        let mut push = |changed| changes.push(Change { revision, changed });
        let Some(record) = record else {
            // That a record is gone does not say whose it was; what is remembered of its session does.
            let is_told = match table {
                "daemon" => true,
                // Gone with its agent.
                "gone" | "agent-run" => false,
                _ => narrowed.is_none(),
            };
            if is_told {
                push(Changed::Deleted(id.to_owned()));
            }
            return Ok(());
        };
        match table {
            "session" => {
                let session: Session = records::decode(record)?;
                if self.caller.sees(&session) {
                    let agent = session.agent.as_ref().map(|agent| agent.id);
                    let ended = session.lifecycle == Lifecycle::Ended;
                    let shown = self.app.shown(session, revision).await?;
                    push(Changed::Session(Box::new(shown)));
                    // Its agent is idle now, and has no record of its own that says so.
                    if let Some(agent) = agent
                        && ended
                        && matches!(self.phase, Phase::Follow)
                        && let Ok(shown) = self.app.get_agent(&self.caller, agent).await
                    {
                        push(Changed::Agent(Box::new(shown)));
                    }
                }
            }
            "agent" => {
                let agent: Agent = records::decode(record)?;
                if self.caller.sees_agent(&agent) {
                    let shown = self.app.show_agent(agent, revision).await?;
                    push(Changed::Agent(Box::new(shown)));
                }
            }
            // That it started a session is shown with the agent.
            "agent-run" => {
                let id: AgentId = id.parse().map_err(Error::internal)?;
                if let Ok(shown) = self.app.get_agent(&self.caller, id).await {
                    push(Changed::Agent(Box::new(shown)));
                }
            }
            "worktree" => {
                let worktree: Worktree = records::decode(record)?;
                let told = vec![(worktree, revision)];
                for shown in self.app.show_worktrees(&self.caller, told).await? {
                    push(Changed::Worktree(Box::new(shown)));
                }
            }
            "prompt" => {
                let prompt: Prompt = records::decode(record)?;
                if self.app.sees(&self.caller, prompt.session_id).await? {
                    push(Changed::Prompt(Box::new(prompt)));
                }
            }
            "gone" => {
                let gone: Gone = records::decode(record)?;
                if narrowed.is_some_and(|narrowing| narrowing.saw(&gone)) {
                    if self.tables == Tables::All {
                        push(Changed::Deleted(gone.id.to_string()));
                    }
                    for prompt in gone.prompts {
                        push(Changed::Deleted(prompt.to_string()));
                    }
                }
            }
            _ => {
                let daemon: Daemon = records::decode(record)?;
                let shown = self
                    .app
                    .show_daemon_record(&self.caller, daemon, revision)
                    .await?;
                push(Changed::Daemon(Box::new(shown)));
            }
        }
        Ok(())
    }

    /// Adds the worktrees of a page of records: those that are archived are asked for by whoever wants them.
    async fn worktrees(&self, page: &[store::Record], changes: &mut Vec<Change>) -> Result<()> {
        let mut living = Vec::new();
        for record in page {
            let worktree: Worktree = records::decode(record)?;
            if worktree.state != WorktreeState::Archived {
                living.push((worktree, record.revision));
            }
        }
        for shown in self.app.show_worktrees(&self.caller, living).await? {
            changes.push(Change {
                revision: shown.revision,
                changed: Changed::Worktree(Box::new(shown)),
            });
        }
        Ok(())
    }

    /// Adds what a change in one of the tables of tasks says.
    async fn task_change(
        &self,
        table: &str,
        id: TaskId,
        only: Option<TaskId>,
        revision: u64,
        record: Option<&store::Record>,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let wanted = |id| only.is_none_or(|only| only == id);
        let narrowed = self.caller.narrowing.is_some();
        if record.is_some() && table != "task-gone" {
            self.app.tasks().applied(id, revision).await;
        }
        match (table, record) {
            ("task", Some(record)) if wanted(id) => {
                let task: Task = records::decode(record)?;
                if self.caller.sees_tasks_of(&task.directory) {
                    let shown = self.app.shown_task(&self.caller, task, record.revision);
                    let changed = Changed::Task(Box::new(shown));
                    changes.push(Change { revision, changed });
                }
            }
            // That a record is gone does not say whose it was; what is remembered of it does.
            ("task", None) if wanted(id) && !narrowed => {
                let changed = Changed::Deleted(id.to_string());
                changes.push(Change { revision, changed });
            }
            ("task-gone", Some(record)) if wanted(id) && narrowed => {
                let gone: GoneTask = records::decode(record)?;
                if self.caller.sees_tasks_of(&gone.directory) {
                    let changed = Changed::Deleted(gone.id.to_string());
                    changes.push(Change { revision, changed });
                }
            }
            // It was closed or opened again: what waits for it may be blocked no longer, or is again.
            ("task-turned", Some(_)) => {
                for waiter in self
                    .app
                    .tasks()
                    .waiters(id)
                    .into_iter()
                    .filter(|id| wanted(*id))
                {
                    let Ok(shown) = self.app.get_task(&self.caller, waiter).await else {
                        continue;
                    };
                    let changed = Changed::Task(Box::new(shown));
                    changes.push(Change { revision, changed });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for a change of any record. How long the reader has heard nothing counts, not how long nothing
    /// changed: other tables may be busy all the time.
    async fn wait(&mut self) -> Result<Option<ChangeBatch>> {
        let due = self.told + PROGRESS_EVERY;
        if due <= Instant::now() {
            return Ok(Some(ChangeBatch::Progress(self.through)));
        }
        tokio::select! {
            changed = self.wake.changed() => {
                if changed.is_err() {
                    return Err(Error::new(Code::Unavailable, "the server is shutting down; come back and go on from the last revision"));
                }
                // Slept once for many changes; if the wait is cancelled, nothing was taken yet.
                tokio::time::sleep(GATHER_FOR).await;
                Ok(None)
            }
            () = tokio::time::sleep_until(due) => Ok(Some(ChangeBatch::Progress(self.through))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::access::Access;
    use crate::app::search::Search;
    use crate::app::sessions;
    use crate::base::Timestamp;
    use crate::base::clock::SystemClock;
    use crate::base::id::TokenId;
    use crate::domain::Scope;
    use crate::domain::daemon::Offer;
    use crate::relay;
    use crate::store::{Commit, memory};

    async fn app() -> App {
        let clock = SystemClock::shared();
        let store = memory::shared(clock.clone());
        let access = Access::new(store.clone(), clock.clone());
        App::new(
            store,
            clock,
            access,
            relay::Options::default(),
            Search::in_memory().unwrap(),
            sessions::Options::default(),
            Default::default(),
        )
        .await
        .unwrap()
    }

    fn admin() -> Caller {
        Caller {
            token_id: TokenId::from_bits(1),
            name: "admin".to_owned(),
            scope: Scope::Admin,
            daemon_id: None,
            narrowing: None,
            expires_at: None,
            kind: Default::default(),
            made_with: None,
        }
    }

    /// A table that never changes on a server that is busy all the time: its reader is told in time that
    /// it is up to date, and from where to go on.
    #[tokio::test(start_paused = true)]
    async fn progress_is_told_in_time_while_only_other_tables_change() {
        let app = app().await;
        let mut reader = app
            .follow_changes(&admin(), Tables::Prompts, 0)
            .await
            .unwrap();
        assert!(matches!(reader.next().await, Ok(ChangeBatch::Started(_))));
        assert!(matches!(reader.next().await, Ok(ChangeBatch::Progress(_))));
        let busy = tokio::spawn({
            let app = app.clone();
            async move {
                loop {
                    let commit = Commit {
                        ops: vec![records::mark("living/other".to_owned(), "")],
                        ..Commit::default()
                    };
                    app.store().commit(commit).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        });
        for _ in 0..3 {
            let told = tokio::time::timeout(PROGRESS_EVERY * 3 / 2, reader.next()).await;
            assert!(matches!(told, Ok(Ok(ChangeBatch::Progress(_)))), "{told:?}");
        }
        busy.abort();
    }

    /// A reader that was away while more was deleted than is remembered is told so, and is sent everything
    /// anew: it can see what is gone.
    #[tokio::test]
    async fn a_reader_that_missed_forgotten_deletions_is_sent_everything_anew() {
        let app = app().await;
        let daemon = |id: DaemonId| {
            records::put(
                records::daemon_key(id),
                &Daemon {
                    id,
                    name: id.to_string(),
                    token_id: TokenId::from_bits(1),
                    offer: Offer::default(),
                    attached: false,
                    since: Timestamp::EPOCH,
                    link_epoch: 0,
                    boot_generation: 0,
                    draining: false,
                    created_at: Timestamp::EPOCH,
                    link_changes: Vec::new(),
                },
                store::Expect::Any,
            )
            .unwrap()
        };
        let (stays, goes) = (DaemonId::from_bits(1), DaemonId::from_bits(2));
        let commit = |ops| async {
            let commit = Commit {
                ops,
                ..Commit::default()
            };
            app.store().commit(commit).await.unwrap();
        };
        commit(vec![daemon(stays), daemon(goes)]).await;
        let from = *app.store().watch_revision().borrow();
        commit(vec![records::remove(records::daemon_key(goes))]).await;
        for lot in 0..12 {
            let keys = (0..1_000).map(|n| format!("other/{lot}/{n}"));
            commit(keys.clone().map(|key| records::mark(key, "")).collect()).await;
            commit(keys.map(records::remove).collect()).await;
        }
        let mut reader = app
            .follow_changes(&admin(), Tables::All, from)
            .await
            .unwrap();
        assert!(matches!(reader.next().await, Ok(ChangeBatch::Started(_))));
        assert!(matches!(reader.next().await, Ok(ChangeBatch::Truncated(at)) if at > from));
        let mut seen = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                ChangeBatch::Changes(changes) => seen.extend(changes),
                ChangeBatch::Progress(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(
            matches!(&seen[..], [Change { changed: Changed::Daemon(shown), .. }] if shown.daemon.id == stays),
            "{seen:?}"
        );
    }
}
