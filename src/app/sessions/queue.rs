//! The queue: inputs that wait for an agent, in order.

use super::step::Step;
use super::{fields, index};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::budgets;
use crate::app::failure;
use crate::app::idempotency::{Begin, digest};
use crate::app::records;
use crate::base::id::{InputId, SessionId};
use crate::base::page::{Page, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::input::MAX_QUEUED_INPUTS;
use crate::domain::{CommandBody, Delivery, EventBody, Input, InputState, Lifecycle};

/// How many records are read at once.
const CHUNK: usize = 200;
/// How many records one call looks at before it gives back a shorter page.
const SCAN_LIMIT: usize = 10_000;

impl App {
    /// Sends text to an agent: now if it is idle, into the turn if asked for and possible, else queued.
    pub async fn send_input(
        &self,
        caller: &Caller,
        request_id: &str,
        session: SessionId,
        text: String,
        delivery: Delivery,
    ) -> Result<(Input, u64)> {
        fields::input("text", &text, false)?;
        self.require_session(caller, session).await?;
        let request = digest(format!("{session}{delivery:?}{text}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, "SendInput", request_id, request)
            .await?;
        let pending = match begun {
            Begin::Repeat(answer) => {
                let id = std::str::from_utf8(&answer).map_err(Error::internal)?;
                return self.get_input(session, id.parse()?).await;
            }
            Begin::Fresh(pending) => pending,
        };
        let id = InputId::generate(self.clock().now());
        let mark = pending.op(id.to_string().as_bytes());
        let actor = caller.actor();
        self.sessions()
            .step(session, move |step| {
                takes_input(step)?;
                let input = Input {
                    id,
                    session_id: session,
                    text,
                    delivery,
                    state: InputState::Queued,
                    actor,
                    created_at: step.now,
                    position: 0,
                    reason: String::new(),
                    command_id: None,
                };
                if let Some(op) = mark {
                    step.op(op);
                }
                let steer = delivery == Delivery::Steer;
                step.accept_input(input, steer)?;
                let session = &step.live.session;
                let reachable =
                    session.lifecycle == Lifecycle::Running && session.detached_since.is_none();
                match steer && session.capabilities.steer && reachable {
                    true => step.deliver(id, true)?,
                    false => step.deliver_next()?,
                }
                // Held until the commit is through, also when whoever asked has gone: a repeat waits for it.
                Ok(pending)
            })
            .await?;
        self.get_input(session, id).await
    }

    /// One input of a session, whoever asks.
    pub(crate) async fn get_input(&self, session: SessionId, id: InputId) -> Result<(Input, u64)> {
        records::get(self.store().as_ref(), &records::input_key(session, id))
            .await?
            .ok_or_else(|| Error::not_found("input", id))
    }

    /// The inputs of a session: the queue first, in order, then the newest of the rest.
    pub async fn list_inputs(
        &self,
        caller: &Caller,
        session: SessionId,
        states: &[InputState],
        page: &PageRequest,
    ) -> Result<Page<(Input, u64)>> {
        self.get_session(caller, session).await?;
        // A page's key says which part of the list it is in: `q/` the queue, `o/` the others.
        let (in_queue, after) = match page.after.as_deref() {
            None => (true, None),
            Some(key) => match key.split_once('/') {
                Some((part @ ("q" | "o"), id)) => (part == "q", Some(id.parse::<InputId>()?)),
                _ => return Err(Error::invalid("page_token", "is not one of this list")),
            },
        };
        let wanted = |state: InputState| states.is_empty() || states.contains(&state);
        let mut items = Vec::new();
        if in_queue && wanted(InputState::Queued) {
            let queue = self.queue(session).await?;
            // One that has left the queue meanwhile was before all that still wait.
            let start = after
                .and_then(|after| queue.iter().position(|(input, _)| input.id == after))
                .map_or(0, |index| index + 1);
            let more = queue.len() > start + page.size;
            items.extend(queue.into_iter().skip(start).take(page.size));
            if more {
                let next = items.last().map(|(input, _)| format!("q/{}", input.id));
                return Ok(Page { items, next });
            }
        }
        if states == [InputState::Queued] {
            return Ok(Page { items, next: None });
        }
        let mut before = after
            .filter(|_| !in_queue)
            .map(|id| records::input_key(session, id));
        let prefix = records::input_prefix(session);
        let mut looked_at = 0;
        loop {
            let chunk = self
                .store()
                .scan_back(&prefix, before.as_deref(), CHUNK)
                .await
                .map_err(failure::from_store)?;
            for record in &chunk {
                if items.len() >= page.size || looked_at >= SCAN_LIMIT {
                    let last = before.as_deref().and_then(|key| key.strip_prefix(&prefix));
                    // Where nothing of this part was looked at yet, it begins with the newest.
                    let last = last
                        .map_or_else(|| InputId::from_bits(u128::MAX).to_string(), str::to_owned);
                    return Ok(Page {
                        items,
                        next: Some(format!("o/{last}")),
                    });
                }
                looked_at += 1;
                before = Some(record.key.clone());
                let input: Input = records::decode(record)?;
                if input.state != InputState::Queued && wanted(input.state) {
                    items.push((input, record.revision));
                }
            }
            if chunk.len() < CHUNK {
                return Ok(Page { items, next: None });
            }
        }
    }

    /// The inputs that wait, in order.
    async fn queue(&self, session: SessionId) -> Result<Vec<(Input, u64)>> {
        let mut queue = Vec::new();
        let prefix = index::open_input_prefix(session);
        for id in index::ids::<InputId>(self.store().as_ref(), &prefix).await? {
            let key = records::input_key(session, id);
            let found = records::get::<Input>(self.store().as_ref(), &key).await?;
            queue.extend(found.filter(|(input, _)| input.state == InputState::Queued));
        }
        queue.sort_by_key(|(input, _)| input.position);
        Ok(queue)
    }

    /// Changes the text of a queued input. `revision`: only if its record is still at that.
    pub async fn update_input(
        &self,
        caller: &Caller,
        session: SessionId,
        id: InputId,
        text: String,
        revision: Option<u64>,
    ) -> Result<(Input, u64)> {
        fields::input("text", &text, false)?;
        self.require_session(caller, session).await?;
        let (read, current) = self.get_input(session, id).await?;
        if revision.is_some_and(|revision| revision != current) {
            return Err(changed_since());
        }
        let actor = caller.actor();
        self.sessions()
            .step(session, move |step| {
                let mut input = queued(step, id)?.clone();
                // Asked here and not by the commit, which would refuse all steps that share it.
                if revision.is_some() && input != read {
                    return Err(changed_since());
                }
                input.text.clone_from(&text);
                step.keep_input(&input)?;
                step.live.inputs.insert(id, input);
                step.emit_by(
                    &actor,
                    EventBody::InputChanged {
                        input_id: id,
                        state: InputState::Queued,
                        text,
                        reason: String::new(),
                    },
                );
                Ok(())
            })
            .await?;
        self.get_input(session, id).await
    }

    /// Moves a queued input to a place in the queue, from 1; beyond the end is last.
    pub async fn move_input(
        &self,
        caller: &Caller,
        session: SessionId,
        id: InputId,
        position: u32,
    ) -> Result<Vec<(Input, u64)>> {
        if position == 0 {
            return Err(Error::invalid("position", "counts from 1"));
        }
        self.require_session(caller, session).await?;
        self.get_input(session, id).await?;
        self.sessions()
            .step(session, move |step| {
                queued(step, id)?;
                let order = &mut step.live.order;
                order.retain(|other| *other != id);
                let index = (position as usize - 1).min(order.len());
                order.insert(index, id);
                step.renumber()
            })
            .await?;
        let page = PageRequest {
            size: MAX_QUEUED_INPUTS as usize,
            after: None,
        };
        let queue = self
            .list_inputs(caller, session, &[InputState::Queued], &page)
            .await?;
        Ok(queue.items)
    }

    /// Takes an input back: from the queue, or from an agent that has it queued.
    pub async fn withdraw_input(
        &self,
        caller: &Caller,
        session: SessionId,
        id: InputId,
    ) -> Result<(Input, u64)> {
        self.require_session(caller, session).await?;
        self.get_input(session, id).await?;
        let by = caller.actor().name;
        self.sessions()
            .step(session, move |step| {
                match step.live.inputs.get(&id).map(|input| input.state) {
                    Some(InputState::Queued) => {
                        step.input_moved(id, InputState::Withdrawn, &format!("taken back by {by}"))
                    }
                    // The agent has it and has not begun with it: it may still give it back.
                    Some(InputState::Delivered) if step.live.session.capabilities.steer => step
                        .command(CommandBody::CancelInput { input_id: id })
                        .map(|_| ()),
                    _ => queued(step, id).map(|_| ()),
                }
            })
            .await?;
        self.get_input(session, id).await
    }
}

fn changed_since() -> Error {
    Error::new(
        Code::Stale,
        "the input changed since it was read; read it again and repeat",
    )
}

fn takes_input(step: &Step<'_>) -> Result<()> {
    let session = &step.live.session;
    if session.lifecycle == Lifecycle::Ended && !session.is_lost()
        || session.stopping.is_some() && !session.suspending
    {
        return Err(
            Error::state("the session is over; resume it to go on, or start a new one")
                .with("lifecycle", session.lifecycle.as_str()),
        );
    }
    if !session.capabilities.queue {
        return Err(Error::new(
            Code::NotInteractive,
            format!("the harness {} takes no input", session.harness),
        ));
    }
    budgets::not_spent(step)?;
    if step.live.session.queued_inputs >= MAX_QUEUED_INPUTS {
        return Err(Error::new(
            Code::LimitExceeded,
            format!("{MAX_QUEUED_INPUTS} inputs wait already; withdraw some, or wait"),
        ));
    }
    Ok(())
}

fn queued<'a>(step: &'a Step<'_>, id: InputId) -> Result<&'a Input> {
    match step.live.inputs.get(&id) {
        Some(input) if input.state == InputState::Queued => Ok(input),
        Some(input) => Err(Error::state(format!(
            "the input is {}; only one that waits in the queue can be changed",
            input.state.as_str()
        ))),
        None => Err(Error::state(
            "the input has left the queue; only one that waits there can be changed",
        )),
    }
}
