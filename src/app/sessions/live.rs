//! The live state of one session: what its actor holds while it decides.

use std::collections::BTreeMap;
use std::time::Duration;

use super::index;
use crate::app::failure;
use crate::app::records;
use crate::base::id::{CommandId, InputId, PromptId, SessionId};
use crate::base::{Result, Timestamp};
use crate::domain::prompt::PromptState;
use crate::domain::spending::Booking;
use crate::domain::{
    Activity, Command, CommandBody, Input, InputState, Lifecycle, Prompt, Session,
};
use crate::store::{Head, Origin, Store, Stream};

/// Everything about a session that is not over and done with.
#[derive(Clone, Debug)]
pub struct Live {
    /// The session's record.
    pub session: Session,
    /// Seq of its newest event.
    pub last_seq: u64,
    /// How far its spool is stored.
    pub origin: Origin,
    /// Inputs that wait or are on their way.
    pub inputs: BTreeMap<InputId, Input>,
    /// The queue: ids of the inputs that wait, in order.
    pub order: Vec<InputId>,
    /// Prompts that wait for an answer, or whose answer is on its way.
    pub prompts: BTreeMap<PromptId, Prompt>,
    /// Commands without an outcome.
    pub commands: BTreeMap<CommandId, Command>,
    /// How long a prompt of this session waits before it expires; `None` is for ever.
    pub prompt_expiry: Option<std::time::Duration>,
    /// How far its terminal's stream goes; `None` for a session without a terminal.
    pub terminal: Option<Shown>,
    /// What is booked and not stored yet.
    pub unsettled: Vec<Booking>,
    /// Whether the session was deleted.
    pub deleted: bool,
    last_command: Option<CommandId>,
}

/// How far a terminal's stream goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Seq of its newest entry.
    pub last_seq: u64,
    /// How many bytes were shown.
    pub end: u64,
}

impl Live {
    /// The live state of a session that is being made.
    pub fn new(session: Session) -> Self {
        Live {
            terminal: session.screen.map(|_| Shown::default()),
            session,
            last_seq: 0,
            origin: Origin::default(),
            inputs: BTreeMap::new(),
            order: Vec::new(),
            prompts: BTreeMap::new(),
            commands: BTreeMap::new(),
            prompt_expiry: None,
            unsettled: Vec::new(),
            deleted: false,
            last_command: None,
        }
    }

    /// Reads a session's live state from the store; `None` if there is no such session.
    pub async fn load(store: &dyn Store, id: SessionId) -> Result<Option<Self>> {
        let Some((session, _)) = records::get::<Session>(store, &records::session_key(id)).await?
        else {
            return Ok(None);
        };
        let mut live = Live::new(session);
        if let Some(Head {
            last_seq,
            origin,
            last_time,
            ..
        }) = store
            .head(&Stream::session(id))
            .await
            .map_err(failure::from_store)?
        {
            live.last_seq = last_seq;
            live.origin = origin;
            // The record may be behind: the log knows.
            live.session.last_event_at = live.session.last_event_at.max(last_time);
        }
        if live.session.screen.is_some() {
            let extent = crate::app::terminals::extent(store, id).await?;
            let end = extent.next_offset;
            live.terminal = Some(Shown {
                last_seq: extent.last_seq,
                end,
            });
            // What it shows is counted with the next change of its record.
            live.session.output_bytes = live.session.output_bytes.max(end);
        }
        // A session that is over for good has let go of everything.
        if live.session.lifecycle != Lifecycle::Ended || live.session.is_lost() {
            live.load_inputs(store).await?;
            live.load_prompts(store).await?;
            live.load_commands(store).await?;
        }
        Ok(Some(live))
    }

    async fn load_inputs(&mut self, store: &dyn Store) -> Result<()> {
        // Only what is not settled is kept, and only that is read.
        let prefix = index::open_input_prefix(self.session.id);
        for id in index::ids::<InputId>(store, &prefix).await? {
            let key = records::input_key(self.session.id, id);
            if let Some((input, _)) = records::get::<Input>(store, &key).await?
                && index::is_open_input(&input)
            {
                self.inputs.insert(id, input);
            }
        }
        let mut queued: Vec<&Input> = self
            .inputs
            .values()
            .filter(|input| input.state == InputState::Queued)
            .collect();
        queued.sort_by_key(|input| (input.position, input.id));
        self.order = queued.into_iter().map(|input| input.id).collect();
        Ok(())
    }

    async fn load_prompts(&mut self, store: &dyn Store) -> Result<()> {
        let prefix = index::open_prompt_prefix(self.session.id);
        for id in index::ids::<PromptId>(store, &prefix).await? {
            if let Some((prompt, _)) =
                records::get::<Prompt>(store, &records::prompt_key(id)).await?
                && index::is_open_prompt(&prompt)
            {
                self.prompts.insert(id, prompt);
            }
        }
        Ok(())
    }

    async fn load_commands(&mut self, store: &dyn Store) -> Result<()> {
        let daemon = self.session.daemon_id.to_string();
        let mut after: Option<String> = None;
        loop {
            let page = store
                .pending(&daemon, after.as_deref(), 500)
                .await
                .map_err(failure::from_store)?;
            for entry in &page {
                let command: Command =
                    serde_json::from_slice(&entry.value).map_err(crate::base::Error::internal)?;
                if command.session_id == self.session.id {
                    self.last_command = self.last_command.max(Some(command.id));
                    self.commands.insert(command.id, command);
                }
            }
            match page.last() {
                Some(last) if page.len() == 500 => after = Some(last.key.clone()),
                _ => break,
            }
        }
        Ok(())
    }

    /// A command id above all others of this session, so that commands are done in the order they were made.
    pub fn next_command_id(&mut self, now: Timestamp) -> CommandId {
        let fresh = CommandId::generate(now);
        let next = match self.last_command {
            Some(last) if fresh <= last => CommandId::from_bits(last.bits().wrapping_add(1)),
            _ => fresh,
        };
        self.last_command = Some(next);
        next
    }

    /// How many prompts wait for an answer.
    pub fn pending_prompts(&self) -> u32 {
        let waiting = self
            .prompts
            .values()
            .filter(|prompt| prompt.state == PromptState::Pending)
            .count();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }

    /// Whether an input was given to the daemon and the harness has not taken it yet.
    pub fn has_input_on_its_way(&self) -> bool {
        self.inputs
            .values()
            .any(|input| input.state == InputState::Delivered)
    }

    /// Whether an input waits that may be given to the daemon now, as far as it is not the agent's to say.
    pub fn has_deliverable_input(&self) -> bool {
        self.session.lifecycle == Lifecycle::Running
            && self.session.detached_since.is_none()
            && !self.order.is_empty()
    }

    /// Whether the command that starts the session has no outcome yet.
    pub fn waits_for_start(&self) -> bool {
        let is_start = |command: &Command| matches!(command.body, CommandBody::Start(_));
        self.commands.values().any(is_start)
    }

    /// Whether the session has not begun: nothing says that its daemon has ever had the start.
    pub fn is_unstarted(&self) -> bool {
        self.session.lifecycle == Lifecycle::Pending && self.waits_for_start()
    }

    /// When the session ends as lost, if its daemon does not come back before. One that has not begun has
    /// nothing to lose: its start waits for the daemon, however long that takes.
    pub fn lost_at(&self, grace: Duration) -> Option<Timestamp> {
        let may_be_lost = self.session.lifecycle.is_living() && !self.is_unstarted();
        let since = self.session.detached_since.filter(|_| may_be_lost)?;
        Some(since.saturating_add(grace))
    }

    /// When something is due by itself: a prompt's expiry, a limit, the end of the grace period.
    pub fn next_due(&self, grace: Duration) -> Option<Timestamp> {
        let session = &self.session;
        let mut due: Vec<Timestamp> = self
            .prompts
            .values()
            .filter(|prompt| prompt.state == PromptState::Pending)
            .filter_map(|prompt| prompt.expires_at)
            .collect();
        due.extend(self.lost_at(grace));
        if session.lifecycle == Lifecycle::Running && session.stopping.is_none() {
            if let (Some(runtime), Some(start)) = (session.limits.runtime, session.started_at) {
                due.push(start.saturating_add(runtime));
            }
            if let Some(idle) = session.limits.idle
                && session.activity == Activity::AwaitingInput
            {
                due.push(session.last_event_at.saturating_add(idle));
            }
        }
        due.into_iter().min()
    }
}
