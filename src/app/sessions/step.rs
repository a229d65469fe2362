//! One change of a session: what it decides, gathered until it is committed.
//!
//! A [`Step`] works on a copy of the session's live state. Every method that changes the state also
//! notes the event, the record or the command that says so, so that a commit carries all of it or none.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::live::Live;
use super::{index, writer};
use crate::app::budgets::{self, Budgets};
use crate::app::records;
use crate::base::id::{CommandId, InputId, PromptId, SessionId};
use crate::base::{Error, Result, Timestamp};
use crate::domain::event::Origin as EventOrigin;
use crate::domain::prompt::{AnswerDelivery, PromptState};
use crate::domain::session::LimitAction;
use crate::domain::terminal::Output;
use crate::domain::{
    Activity, Actor, Command, CommandBody, EndInfo, EndReason, Event, EventBody, Input, InputState,
    Lifecycle, Prompt,
};
use crate::store::{Append, Expect, Origin, RecordOp, Store, Stream, Trim};
use crate::wire::terminal::output_entry;

/// A change under way.
pub struct Step<'a> {
    /// The session as this step leaves it.
    pub live: &'a mut Live,
    /// The time of the step; all its events carry it.
    pub now: Timestamp,
    store: &'a dyn Store,
    budgets: &'a Budgets,
    changes: &'a mut Changes,
}

/// An event for the session's log.
#[derive(Clone, Debug)]
pub enum Logged {
    /// One that somebody looks at when it is stored.
    Whole {
        /// The event, with its number.
        event: Box<Event>,
        /// Its encoding without number and time, where it came so and was not changed; else empty.
        came: Bytes,
    },
    /// One that is [only kept](Event::is_only_kept).
    Kept {
        /// Its number.
        seq: u64,
        /// When it was accepted.
        time: Timestamp,
        /// Its encoding without them.
        came: Bytes,
    },
}

impl Logged {
    /// The event, unless it is only kept.
    pub fn whole(&self) -> Option<&Event> {
        match self {
            Logged::Whole { event, .. } => Some(event),
            Logged::Kept { .. } => None,
        }
    }

    /// Its number, its time, and its encoding without them, where it came so and was not changed; else empty.
    pub fn placed(&self) -> (u64, Timestamp, &Bytes) {
        match self {
            Logged::Whole { event, came } => (event.seq, event.time, came),
            Logged::Kept { seq, time, came } => (*seq, *time, came),
        }
    }
}

/// What the steps of one commit have gathered.
#[derive(Default, Clone)]
pub struct Changes {
    /// Events, numbered.
    pub events: Vec<Logged>,
    /// Changes of records, by key: the last one counts.
    pub ops: BTreeMap<String, RecordOp>,
    /// How far the spool is stored with this commit.
    pub origin: Option<Origin>,
    /// Whether the session's log is dropped.
    pub trim: Option<Trim>,
    /// Whether there is something new for the daemon.
    pub nudge: bool,
    /// Whether the session's own record changed.
    pub session_changed: bool,
    /// Whether that is to be written with this commit, however little it is.
    pub write_record: bool,
    /// Entries for the stream of the session's terminal.
    pub shown: Vec<Bytes>,
    /// Whether the beginning of that stream goes, or all of it.
    pub terminal_trim: Option<Trim>,
    /// What is appended to another, new session's log in the same commit.
    pub also: Vec<Append>,
    /// Bytes of what daemons said, as far as it came encoded; what the server says itself is little.
    pub bytes: usize,
}

impl Changes {
    /// Adds the changes of a step that came after these.
    pub(super) fn absorb(&mut self, later: Changes) {
        let came = later.events.iter().map(|event| event.placed().2);
        self.bytes += came.chain(&later.shown).map(Bytes::len).sum::<usize>();
        match self.events.is_empty() {
            true => self.events = later.events,
            false => self.events.extend(later.events),
        }
        self.ops.extend(later.ops);
        self.origin = later.origin.or(self.origin);
        self.trim = later.trim.or(self.trim.take());
        self.nudge |= later.nudge;
        self.session_changed |= later.session_changed;
        self.write_record |= later.write_record;
        self.shown.extend(later.shown);
        self.terminal_trim = later.terminal_trim.or(self.terminal_trim.take());
        self.also.extend(later.also);
    }
}

impl<'a> Step<'a> {
    pub(super) fn new(
        live: &'a mut Live,
        changes: &'a mut Changes,
        now: Timestamp,
        store: &'a dyn Store,
        budgets: &'a Budgets,
    ) -> Self {
        Step {
            live,
            now,
            store,
            budgets,
            changes,
        }
    }

    /// What may be spent.
    pub fn budgets(&self) -> &'a Budgets {
        self.budgets
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.live.session.id
    }

    /// Adds an event that the server made.
    pub fn emit(&mut self, body: EventBody) {
        self.push(Event::new(self.id(), EventOrigin::Server, self.now, body));
    }

    /// Adds an event that somebody caused.
    pub fn emit_by(&mut self, actor: &Actor, body: EventBody) {
        self.push(Event::new(self.id(), EventOrigin::Server, self.now, body).by(actor.clone()));
    }

    /// So many events are about to be added.
    pub fn expect(&mut self, events: usize) {
        self.changes.events.reserve(events);
    }

    /// Adds an event, giving it the next number.
    pub fn push(&mut self, event: impl Into<Box<Event>>) {
        self.push_as_it_came(event.into(), Bytes::new());
    }

    /// Adds an event that a daemon sent as `came`; empty if it is not to be stored so.
    pub fn push_as_it_came(&mut self, mut event: Box<Event>, came: Bytes) {
        event.seq = self.next_seq();
        event.time = self.now;
        self.changes.events.push(Logged::Whole { event, came });
    }

    /// Adds an event that a daemon sent as `came` and that is [only kept](Event::is_only_kept).
    pub fn keep(&mut self, came: Bytes) {
        let (seq, time) = (self.next_seq(), self.now);
        self.changes.events.push(Logged::Kept { seq, time, came });
    }

    /// The number of an event that is about to be added.
    fn next_seq(&mut self) -> u64 {
        self.live.last_seq += 1;
        self.live.session.last_event_at = self.now;
        self.changes.session_changed = true;
        self.live.last_seq
    }

    /// Notes that the session's record changed.
    pub fn touch(&mut self) {
        self.changes.session_changed = true;
    }

    /// Has the session's record written with this commit, if only because its log grew.
    pub fn write_record(&mut self) {
        self.changes.session_changed = true;
        self.changes.write_record = true;
    }

    /// Adds a change of a record.
    pub fn op(&mut self, op: RecordOp) {
        self.changes.ops.insert(op.key.clone(), op);
    }

    /// Notes that the session's log refers to content.
    pub fn refer(&mut self, sha256: &str) {
        let op = self.store.refer_op(&Stream::session(self.id()), sha256);
        self.op(op);
    }

    /// Notes that the session's log refers to content no longer.
    pub fn unrefer(&mut self, sha256: &str) {
        let refer = self.store.refer_op(&Stream::session(self.id()), sha256);
        self.op(records::remove(refer.key));
    }

    /// Says how far the spool is stored with this step.
    pub fn stored_through(&mut self, origin: Origin) {
        self.live.origin = origin;
        self.changes.origin = Some(origin);
    }

    /// Appends to another, new session's log in the same commit.
    pub fn also(&mut self, append: Append) {
        self.changes.also.push(append);
    }

    /// Takes the beginning of the session's log away.
    pub fn trim(&mut self, trim: Trim) {
        self.changes.trim = Some(trim);
    }

    /// Adds what the session's terminal is to show. What was shown before is not shown again.
    pub fn show(&mut self, output: Output) -> Result<()> {
        let Some(shown) = &mut self.live.terminal else {
            return Err(Error::invalid(
                "terminal_output",
                "is of a session without a terminal",
            ));
        };
        if let Some(output) = output.from(shown.end) {
            shown.end = output.end();
            shown.last_seq += 1;
            self.changes.shown.push(output_entry(&output));
        }
        Ok(())
    }

    /// Takes the beginning of what the terminal showed away.
    pub fn trim_terminal(&mut self, first_seq: u64) {
        self.changes.terminal_trim = Some(Trim {
            stream: Stream::terminal(self.id()),
            first_seq,
            drop: false,
        });
    }

    /// Drops what the terminal showed.
    pub fn drop_terminal(&mut self) {
        self.changes.terminal_trim = Some(Trim {
            stream: Stream::terminal(self.id()),
            first_seq: 0,
            drop: true,
        });
    }

    /// Drops the session's log.
    pub fn drop_log(&mut self) {
        self.changes.trim = Some(Trim {
            stream: Stream::session(self.id()),
            first_seq: 0,
            drop: true,
        });
    }

    /// Puts a command into the outbox.
    pub fn command(&mut self, body: CommandBody) -> Result<CommandId> {
        let command = Command {
            id: self.live.next_command_id(self.now),
            session_id: self.id(),
            deadline: None,
            body,
        };
        let value = serde_json::to_vec(&command).map_err(Error::internal)?;
        let op = self.store.put_op(
            &self.live.session.daemon_id.to_string(),
            &command.id.to_string(),
            Bytes::from(value),
        );
        self.op(op);
        self.live.commands.insert(command.id, command.clone());
        self.changes.nudge = true;
        Ok(command.id)
    }

    /// Takes a command out of the outbox: its outcome is known.
    pub fn settle(&mut self, id: CommandId) -> Option<Command> {
        let command = self.live.commands.remove(&id)?;
        let op = self
            .store
            .remove_op(&self.live.session.daemon_id.to_string(), &id.to_string());
        self.op(op);
        Some(command)
    }

    /// Moves the lifecycle and says so.
    pub fn move_to(&mut self, to: Lifecycle) -> Result<()> {
        let from = self.live.session.lifecycle;
        self.live.session.move_to(to)?;
        let living = records::living_key(self.live.session.daemon_id, self.id());
        match (from.is_living(), to.is_living()) {
            (true, false) => self.op(records::remove(living)),
            (false, true) => self.op(records::mark(living, "")),
            _ => {}
        }
        for op in index::moved(self.id(), from, to) {
            self.op(op);
        }
        self.emit(EventBody::LifecycleChanged { from, to });
        Ok(())
    }

    /// Writes an input's record as it is in the live state, and says that it moved on.
    pub fn input_moved(&mut self, id: InputId, state: InputState, reason: &str) -> Result<()> {
        let Some(input) = self.live.inputs.get_mut(&id) else {
            return Ok(());
        };
        if input.state == state {
            return Ok(());
        }
        input.state = state;
        input.reason = reason.to_owned();
        if state != InputState::Queued {
            input.position = 0;
        }
        let input = input.clone();
        self.keep_input(&input)?;
        // What has reached its last state is the store's to remember.
        if !index::is_open_input(&input) {
            self.live.inputs.remove(&id);
        }
        self.live
            .order
            .retain(|queued| *queued != id || state == InputState::Queued);
        self.renumber()?;
        self.emit(EventBody::InputChanged {
            input_id: id,
            state,
            text: String::new(),
            reason: reason.to_owned(),
        });
        Ok(())
    }

    /// Writes an input's record and its mark.
    pub fn keep_input(&mut self, input: &Input) -> Result<()> {
        let key = records::input_key(input.session_id, input.id);
        self.op(records::put(key, input, Expect::Any)?);
        self.op(index::input(input));
        Ok(())
    }

    /// Adds an input to the queue and says so.
    pub fn accept_input(&mut self, input: Input, first: bool) -> Result<()> {
        let id = input.id;
        self.emit_by(
            &input.actor.clone(),
            EventBody::InputAccepted {
                input_id: id,
                text: input.text.clone(),
                delivery: input.delivery,
            },
        );
        self.live.inputs.insert(id, input);
        if first {
            self.live.order.insert(0, id);
        } else {
            self.live.order.push(id);
        }
        self.renumber()
    }

    /// Gives every queued input its place and writes the records that changed.
    pub fn renumber(&mut self) -> Result<()> {
        let order = self.live.order.clone();
        for (index, id) in order.iter().enumerate() {
            let position = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let Some(input) = self.live.inputs.get_mut(id) else {
                continue;
            };
            if input.position != position {
                input.position = position;
                let input = input.clone();
                self.keep_input(&input)?;
            }
        }
        let queued = u32::try_from(order.len()).unwrap_or(u32::MAX);
        if self.live.session.queued_inputs != queued {
            self.live.session.queued_inputs = queued;
            self.touch();
        }
        Ok(())
    }

    /// Writes a prompt's record and its marks, and counts those that wait.
    pub fn keep_prompt(&mut self, prompt: Prompt) -> Result<()> {
        let id = prompt.id;
        self.op(records::put(records::prompt_key(id), &prompt, Expect::Any)?);
        self.op(records::mark(
            records::session_prompt_key(prompt.session_id, id),
            "",
        ));
        let pending = prompt.state == PromptState::Pending;
        let mark = records::pending_prompt_key(id);
        self.op(if pending {
            records::mark(mark, prompt.session_id)
        } else {
            records::remove(mark)
        });
        self.op(index::prompt(&prompt));
        if index::is_open_prompt(&prompt) {
            self.live.prompts.insert(id, prompt);
        } else {
            self.live.prompts.remove(&id);
        }
        self.live.session.pending_prompts = self.live.pending_prompts();
        self.touch();
        Ok(())
    }

    /// Withdraws a prompt that waits for an answer.
    pub fn withdraw_prompt(&mut self, id: PromptId, reason: &str) -> Result<()> {
        let Some(prompt) = self.live.prompts.get(&id) else {
            return Ok(());
        };
        if prompt.state != PromptState::Pending {
            return Ok(());
        }
        let mut prompt = prompt.clone();
        prompt.state = PromptState::Withdrawn;
        prompt.note = reason.to_owned();
        self.keep_prompt(prompt)?;
        self.emit(EventBody::PromptWithdrawn {
            prompt_id: id,
            reason: reason.to_owned(),
        });
        Ok(())
    }

    /// Says what became of an answer on its way.
    pub fn answer_moved(
        &mut self,
        id: PromptId,
        delivery: AnswerDelivery,
        reason: &str,
    ) -> Result<()> {
        let Some(prompt) = self.live.prompts.get(&id) else {
            return Ok(());
        };
        if prompt.delivery == delivery {
            return Ok(());
        }
        let mut prompt = prompt.clone();
        prompt.delivery = delivery;
        prompt.note = reason.to_owned();
        self.keep_prompt(prompt)?;
        self.emit(EventBody::PromptDelivered {
            prompt_id: id,
            delivery,
            reason: reason.to_owned(),
        });
        Ok(())
    }

    /// Gives the agent its next input, if it waits for one and its machine is linked: while the machine is
    /// away the queue stays a person's to change.
    pub fn deliver_next(&mut self) -> Result<()> {
        let session = &self.live.session;
        let takes = match session.activity {
            _ if session.held_idle => true,
            Activity::AwaitingInput | Activity::Unknown => true,
            // Only tasks in the background: they may never end, and the agent takes input beside them.
            Activity::Working => session.turns > 0 && !session.in_turn,
            Activity::AwaitingPrompt => false,
        };
        let ready = session.lifecycle == Lifecycle::Running
            && session.detached_since.is_none()
            && takes
            && !self.live.has_input_on_its_way();
        match self.live.order.first().copied().filter(|_| ready) {
            // Held while a budget leaves nothing for it.
            Some(id) if !budgets::check(self)? => self.deliver(id, false),
            _ => {
                self.settle_activity();
                Ok(())
            }
        }
    }

    /// Takes what the harness says of its activity. What would be out of date by the time anybody reads it is
    /// not said: that the agent waits for input while its next input is on its way, and that it waits for an
    /// answer which it has been given.
    pub fn activity_said(&mut self, mut event: Event) {
        let EventBody::ActivityChanged {
            activity,
            source,
            confidence,
        } = &mut event.body
        else {
            return;
        };
        let has_input = self.live.has_input_on_its_way() || self.live.has_deliverable_input();
        let has_prompt = self.live.pending_prompts() > 0;
        let session = &mut self.live.session;
        session.held_idle = *activity == Activity::AwaitingInput && has_input;
        let said = *activity;
        *activity = match said {
            Activity::AwaitingInput if has_input => session.activity,
            Activity::AwaitingPrompt if !has_prompt => Activity::Working,
            other => other,
        };
        let is_same = session.activity == *activity;
        let is_known = is_same
            && session.activity_source == *source
            && session.activity_confidence == *confidence;
        session.activity = *activity;
        session.activity_source = *source;
        session.activity_confidence = *confidence;
        // The event says nothing any more, or the server said so before; what the harness wrote is kept.
        let is_told = (is_same && said != *activity) || (is_known && said == Activity::Working);
        if !is_told || event.raw.is_some() || event.raw_content.is_some() {
            self.push(event);
        } else {
            self.touch();
        }
    }

    /// Shows an agent that waits for input as working while its next input is on its way, and as waiting
    /// again when it turns out that it does not take that input.
    fn settle_activity(&mut self) {
        let on_its_way = self.live.has_input_on_its_way();
        let session = &mut self.live.session;
        let waits = session.held_idle || session.activity == Activity::AwaitingInput;
        if !waits {
            return;
        }
        session.held_idle = on_its_way;
        let activity = match on_its_way {
            true => Activity::Working,
            false => Activity::AwaitingInput,
        };
        if session.activity == activity {
            return;
        }
        session.activity = activity;
        let said = EventBody::ActivityChanged {
            activity,
            source: session.activity_source,
            confidence: session.activity_confidence,
        };
        self.emit(said);
    }

    /// Gives the daemon an input.
    pub fn deliver(&mut self, id: InputId, steer: bool) -> Result<()> {
        let Some(input) = self.live.inputs.get(&id) else {
            return Ok(());
        };
        let text = input.text.clone();
        let command_id = self.command(CommandBody::Input {
            input_id: id,
            text,
            steer,
        })?;
        if let Some(input) = self.live.inputs.get_mut(&id) {
            input.command_id = Some(command_id);
        }
        // From here on the input is the daemon's; the queue no longer has it.
        self.input_moved(id, InputState::Delivered, "")?;
        self.settle_activity();
        Ok(())
    }

    /// Tells the daemon to end the process. `suspend`: the session is to be resumed later.
    pub fn stop(&mut self, end: EndInfo, force: bool, suspend: bool) -> Result<()> {
        let body = CommandBody::End {
            force,
            reason: end.reason,
            suspend,
            message: end.message.clone(),
        };
        self.live.session.stopping = Some(end);
        self.live.session.suspending = suspend;
        self.command(body)?;
        if self.live.session.lifecycle == Lifecycle::Running {
            self.move_to(Lifecycle::Stopping)?;
        }
        self.touch();
        Ok(())
    }

    /// Ends the session's own bookkeeping: nothing waits any more, and whatever was on its way is settled.
    pub fn end(&mut self, end: EndInfo, suspended: bool) -> Result<()> {
        budgets::ended(self)?;
        let prompts: Vec<PromptId> = self.live.prompts.keys().copied().collect();
        for id in prompts {
            self.withdraw_prompt(id, "the session ended")?;
            self.answer_moved(
                id,
                AnswerDelivery::Undeliverable,
                "the agent ended before it had the answer",
            )?;
        }
        let commands: Vec<CommandId> = self.live.commands.keys().copied().collect();
        for id in commands {
            self.settle(id);
        }
        let on_their_way: Vec<InputId> = self
            .live
            .inputs
            .values()
            .filter(|input| input.state == InputState::Delivered)
            .map(|input| input.id)
            .collect();
        for id in on_their_way {
            self.input_moved(
                id,
                InputState::Indeterminate,
                "the agent ended before it said that it took the input",
            )?;
        }
        if !suspended {
            for id in self.live.order.clone() {
                self.input_moved(id, InputState::Withdrawn, "the session ended")?;
            }
        }
        let was_lost = end.reason == EndReason::Lost;
        let holds = self.live.session.holds_conversation();
        self.live.session.ended_at = Some(self.now);
        self.live.session.stopping = None;
        self.live.session.suspending = false;
        self.live.session.activity = Activity::Unknown;
        self.live.session.held_idle = false;
        self.live.session.in_turn = false;
        self.live.session.end = Some(end.clone());
        self.emit(EventBody::Ended { end });
        self.move_to(if suspended {
            Lifecycle::Suspended
        } else {
            Lifecycle::Ended
        })?;
        if !was_lost {
            self.live.session.detached_since = None;
            if holds {
                writer::let_go(self);
            }
        }
        Ok(())
    }

    /// Notes that a limit was reached, and does what the session says about it.
    pub fn limit_reached(&mut self, limit: &str, value: u64, allowed: u64) -> Result<()> {
        let session = &self.live.session;
        if session.lifecycle != Lifecycle::Running || session.stopping.is_some() {
            return Ok(());
        }
        let suspend = session.limits.action == LimitAction::Suspend && session.capabilities.resume;
        let action = if suspend {
            LimitAction::Suspend
        } else {
            LimitAction::End
        };
        self.emit(EventBody::LimitExceeded {
            limit: limit.to_owned(),
            value,
            allowed,
            action,
            budget_id: None,
        });
        let message = format!("the limit {limit} is reached: {value} of {allowed}");
        self.stop(EndInfo::because(EndReason::Limit, message), false, suspend)
    }
}
