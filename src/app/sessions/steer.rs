//! Steering a session: interrupt, suspend, end, change options, delete.

use super::step::Step;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::idempotency::{Begin, digest};
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::domain::field;
use crate::domain::harness::PermissionMode;
use crate::domain::session::Mode;
use crate::domain::{CommandBody, EndInfo, EndReason, EventBody, Lifecycle};

/// The longest reason for an end, in bytes.
pub(super) const MAX_REASON_BYTES: usize = 1_024;

/// What is to change of a living session.
#[derive(Clone, Debug, Default)]
pub struct NewOptions {
    /// The model; `None` leaves it, empty is the harness's default.
    pub model: Option<String>,
    /// The permission mode; `None` leaves it.
    pub permission_mode: Option<PermissionMode>,
}

impl App {
    /// Runs a step once per request id.
    async fn once(
        &self,
        caller: &Caller,
        method: &'static str,
        request_id: &str,
        id: SessionId,
        detail: &str,
        step: impl FnOnce(&mut Step<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.require_session(caller, id).await?;
        let request = digest(format!("{id}{detail}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, method, request_id, request)
            .await?;
        let pending = match begun {
            Begin::Repeat(_) => return Ok(()),
            Begin::Fresh(pending) => pending,
        };
        let mark = pending.op(b"");
        self.sessions()
            .step(id, move |current| {
                step(current)?;
                if let Some(op) = mark {
                    current.op(op);
                }
                // Held until the commit is through, also when whoever asked has gone: a repeat waits for it.
                Ok(pending)
            })
            .await
            .map(drop)
    }

    /// Interrupts the running turn. Succeeds when there is none.
    pub async fn interrupt_turn(
        &self,
        caller: &Caller,
        request_id: &str,
        id: SessionId,
    ) -> Result<()> {
        self.once(caller, "InterruptTurn", request_id, id, "", |step| {
            alive(step)?;
            let session = &step.live.session;
            if !session.capabilities.interrupt {
                return Err(Error::state(format!(
                    "the harness {} cannot be interrupted; end the session instead",
                    session.harness
                )));
            }
            let waiting = step
                .live
                .commands
                .values()
                .any(|command| matches!(command.body, CommandBody::Interrupt));
            if session.lifecycle == Lifecycle::Running && !waiting {
                step.command(CommandBody::Interrupt)?;
            }
            Ok(())
        })
        .await
    }

    /// Stops the process on purpose, to be resumed later.
    pub async fn suspend_session(
        &self,
        caller: &Caller,
        request_id: &str,
        id: SessionId,
    ) -> Result<()> {
        let by = caller.actor().name;
        self.once(caller, "SuspendSession", request_id, id, "", move |step| {
            let session = &step.live.session;
            if session.lifecycle == Lifecycle::Suspended || session.suspending {
                return Ok(());
            }
            if session.lifecycle != Lifecycle::Running {
                return Err(Error::state(format!(
                    "the session is {}; only a running one can be suspended",
                    session.lifecycle.as_str()
                )));
            }
            if !session.capabilities.resume || session.provider_session_id.is_empty() {
                return Err(Error::state(
                    "the session could not be resumed: its harness has no conversation to continue",
                ));
            }
            let end = EndInfo::because(EndReason::Stopped, format!("suspended by {by}"));
            step.stop(end, false, true)
        })
        .await
    }

    /// Ends a session. Succeeds if it has ended.
    pub async fn end_session(
        &self,
        caller: &Caller,
        request_id: &str,
        id: SessionId,
        force: bool,
    ) -> Result<()> {
        self.end_session_because(caller, request_id, id, force, "")
            .await
    }

    /// The same, with a reason for people; empty if none is given.
    pub async fn end_session_because(
        &self,
        caller: &Caller,
        request_id: &str,
        id: SessionId,
        force: bool,
        reason: &str,
    ) -> Result<()> {
        field::line("reason", reason, MAX_REASON_BYTES)?;
        let by = match reason {
            "" => caller.actor().name,
            reason => format!("{}: {reason}", caller.actor().name),
        };
        let detail = format!("{force}{reason}");
        self.once(caller, "EndSession", request_id, id, &detail, move |step| {
            let session = &step.live.session;
            match session.lifecycle {
                Lifecycle::Ended if session.is_lost() && force => {
                    // Give it up: should the process be found, it is ended.
                    super::lost::give_up(step)?;
                    let end = EndInfo::because(
                        EndReason::Stopped,
                        format!("given up by {by} while its daemon was away"),
                    );
                    step.live.session.end = Some(end);
                    step.touch();
                    Ok(())
                }
                Lifecycle::Ended => Ok(()),
                Lifecycle::Suspended => {
                    let end = EndInfo::because(EndReason::Stopped, format!("ended by {by}"));
                    step.end(end, false)
                }
                _ => {
                    let asked_before = session.stopping.is_some() && !session.suspending;
                    if asked_before && !force {
                        return Ok(());
                    }
                    let end = EndInfo::because(EndReason::Stopped, format!("ended by {by}"));
                    step.stop(end, force, false)
                }
            }
        })
        .await
    }

    /// Changes model or permission mode of a living session.
    pub async fn set_session_options(
        &self,
        caller: &Caller,
        request_id: &str,
        id: SessionId,
        new: NewOptions,
    ) -> Result<()> {
        if new.model.is_none() && new.permission_mode.is_none() {
            return Err(Error::invalid(
                "permission_mode",
                "and model are both missing: there is nothing to change",
            ));
        }
        if let Some(model) = &new.model {
            field::word("model", model)?;
        }
        if let Some(mode) = new.permission_mode {
            let (session, _) = self.get_session(caller, id).await?;
            self.mode_allowed(session.daemon_id, mode).await?;
        }
        let actor = caller.actor();
        let detail = format!("{new:?}");
        self.once(
            caller,
            "SetSessionOptions",
            request_id,
            id,
            &detail,
            move |step| {
                alive(step)?;
                let session = &step.live.session;
                if session.mode == Mode::Interactive {
                    return Err(Error::state(
                        "what runs in a terminal is told its options there",
                    ));
                }
                if new.model.is_some() && !session.capabilities.model_switch {
                    return Err(Error::state(format!(
                        "the harness {} cannot change its model while it runs",
                        session.harness
                    )));
                }
                if let Some(model) = new.model {
                    step.command(CommandBody::Options {
                        model: Some(model),
                        permission_mode: None,
                    })?;
                }
                // The server itself decides by the permission mode, so it holds from this moment.
                if let Some(mode) = new.permission_mode
                    && step.live.session.permission_mode != mode
                {
                    step.live.session.permission_mode = mode;
                    step.emit_by(
                        &actor,
                        EventBody::OptionsChanged {
                            model: None,
                            permission_mode: Some(mode),
                        },
                    );
                }
                Ok(())
            },
        )
        .await
    }
}

fn alive(step: &Step<'_>) -> Result<()> {
    let session = &step.live.session;
    if session.is_over() {
        return Err(Error::new(
            Code::InvalidState,
            format!("the session is {}", session.lifecycle.as_str()),
        )
        .with("lifecycle", session.lifecycle.as_str()));
    }
    Ok(())
}
