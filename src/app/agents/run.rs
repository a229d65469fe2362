//! Starting, stopping and continuing agents.

use super::ready::{ReadyCheck, ReadyFirst, Resumed};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::idempotency::{Begin, digest};
use crate::app::sessions::{Ask, Attempts, Begun, NewSession, Resume, fields, joined};
use crate::base::id::{AgentId, DaemonId, SessionId};
use crate::base::{Code, Error, Result};
use crate::domain::field;
use crate::domain::session::Mode;
use crate::domain::terminal::{Screen, Size};
use crate::domain::{Actor, Agent, Session};

/// The longest conversation id that is looked for, in bytes.
const MAX_CONVERSATION_BYTES: usize = 1_024;

/// How an agent is to be started.
#[derive(Clone, Debug, Default)]
pub struct StartAgent {
    /// The first input, after what its definition says at start-up; may be empty.
    pub input: String,
    /// Working directory; empty is the agent's own.
    pub cwd: String,
    /// Headless or interactive; `None` is as the agent is set.
    pub mode: Option<Mode>,
    /// The daemon whose directory `cwd` is; `None` is as the agent is set.
    pub daemon_id: Option<DaemonId>,
    /// How large the terminal of an interactive session is; `None` is the usual.
    pub size: Option<Size>,
    /// Whether to give up the process of a lost session.
    pub force: bool,
}

/// Which conversation of an agent is to be continued, and how.
#[derive(Clone, Debug, Default)]
pub struct ResumeAgent {
    /// The session; `None` is the newest that can be.
    pub session_id: Option<SessionId>,
    /// The same by the harness's own conversation id; empty where the session is named or any will do.
    pub provider_session_id: String,
    /// The directory in which the conversation is, as the caller takes it; empty is not said. It goes on nowhere else.
    pub cwd: String,
    /// The first input; may be empty.
    pub input: String,
    /// Whether to give up the process of a lost session.
    pub force: bool,
    /// Whether not to look for ready tasks of the agent first.
    pub unchecked: bool,
}

impl App {
    /// Starts a session of an agent. `SESSION_EXISTS` (with `existing_session`): it runs one.
    pub async fn start_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
        start: StartAgent,
    ) -> Result<Session> {
        field::path("cwd", &start.cwd)?;
        let agent = self.get_agent(caller, id).await?.agent;
        if start.force {
            self.give_up_lost(caller, id).await?;
        }
        let ask = Ask {
            caller,
            method: "StartAgent",
            request_id,
            detail: format!("{id}{start:?}"),
            agent: Some(id),
        };
        self.make_session_of(&ask, new_session(&agent, start), &[])
            .await
    }

    /// Ends an agent's session, gracefully or by force; answers which. An idle agent is stopped already.
    pub async fn stop_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
        force: bool,
    ) -> Result<Option<SessionId>> {
        self.stop_agent_because(caller, request_id, id, force, "")
            .await
    }

    /// The same, with a reason for people; empty if none is given.
    pub async fn stop_agent_because(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
        force: bool,
        reason: &str,
    ) -> Result<Option<SessionId>> {
        let active = self.get_agent(caller, id).await?.active;
        let request = digest(format!("{id}{force}{reason}").as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, "StopAgent", request_id, request)
            .await?;
        let pending = match begun {
            // What was started since is not meant.
            Begin::Repeat(stopped) => return session_in(&stopped),
            Begin::Fresh(pending) => pending,
        };
        if let Some(active) = active {
            self.end_session_because(caller, "", active, force, reason)
                .await?;
        }
        let stopped = active.map(|id| id.to_string()).unwrap_or_default();
        self.remember(pending, stopped.as_bytes()).await?;
        Ok(active)
    }

    /// Continues a conversation of an agent in a new session. What is ready for the agent comes first: the most urgent
    /// task that it has goes before the input, and is begun. `NO_RESUMABLE_SESSION`: there is nothing to continue.
    pub async fn resume_agent(
        &self,
        caller: &Caller,
        request_id: &str,
        id: AgentId,
        resume: ResumeAgent,
    ) -> Result<Resumed> {
        if resume.session_id.is_some() && !resume.provider_session_id.is_empty() {
            return Err(Error::invalid(
                "provider_session_id",
                "and session_id both name what to continue; give one of them",
            ));
        }
        fields::input("input", &resume.input, true)?;
        field::path("cwd", &resume.cwd)?;
        field::line(
            "provider_session_id",
            &resume.provider_session_id,
            MAX_CONVERSATION_BYTES,
        )?;
        let agent = self.get_agent(caller, id).await?.agent;
        let ask = Ask {
            caller,
            method: "ResumeAgent",
            request_id,
            detail: format!("{id}{resume:?}"),
            agent: Some(id),
        };
        let mut attempts = Attempts::default();
        loop {
            let done = self.try_resume(&ask, &agent, &resume).await;
            if !attempts.once_more(&done) {
                let resumed = done?;
                self.note_begun(&resumed.session, &caller.actor()).await;
                return Ok(resumed);
            }
        }
    }

    /// Notes at its task that a session works on it. That it does is in the session's record already: where the task
    /// has moved on meanwhile, nothing is to be said.
    pub(in crate::app) async fn note_begun(&self, session: &Session, by: &Actor) {
        let (Some(task), Some(agent)) = (session.task, &session.agent) else {
            return;
        };
        let begun = self
            .begin_assignment(task.id, task.assignment_id, agent.id, session.id, by)
            .await;
        if let Err(error) = begun {
            tracing::debug!(session = %session.id, task = %task.id, ?error, "the task is not begun");
        }
    }

    async fn try_resume(
        &self,
        ask: &Ask<'_>,
        agent: &Agent,
        resume: &ResumeAgent,
    ) -> Result<Resumed> {
        let caller = ask.caller;
        let (pending, room) = match self.begin_birth(ask).await? {
            Begun::Repeat(session) => return self.resumed_before(caller, agent, *session).await,
            Begun::Fresh(pending, room) => (pending, room),
        };
        let continued = match resume.session_id {
            Some(session) => self.session_of(caller, agent, session).await?,
            None => {
                // Before what could be continued: that it runs is why most often nothing can.
                self.may_continue(agent.id).await?;
                self.newest_resumable(caller, agent, &resume.provider_session_id)
                    .await?
            }
        };
        if !resume.cwd.is_empty() {
            let (session, _) = self.get_session(caller, continued).await?;
            if session.cwd != resume.cwd {
                return Err(Error::invalid(
                    "cwd",
                    format!(
                        "is not where the conversation goes on: that is {}",
                        session.cwd
                    ),
                ));
            }
        }
        let first = match resume.unchecked {
            true => ReadyFirst {
                input: resume.input.clone(),
                ..ReadyFirst::default()
            },
            false => {
                self.ready_first(caller, agent, continued, &resume.input)
                    .await?
            }
        };
        fields::input("input", &first.input, true)?;
        let how = Resume {
            input: first.input,
            force: resume.force,
            task: first.task,
            ..Resume::default()
        };
        let session = self
            .resume_into(caller, continued, how, pending, room)
            .await?;
        Ok(Resumed {
            session,
            ready: first.ready,
        })
    }

    /// The answer to a request that was answered before: the same session, and what is ready now.
    async fn resumed_before(
        &self,
        caller: &Caller,
        agent: &Agent,
        session: Session,
    ) -> Result<Resumed> {
        let ready = self.ready_check(caller, agent).await?;
        let process_first = session.task.is_some();
        Ok(Resumed {
            session,
            ready: ReadyCheck {
                process_first,
                ..ready
            },
        })
    }

    /// The session that an agent runs. `NO_SESSION`: it is idle.
    pub async fn running_session(&self, caller: &Caller, id: AgentId) -> Result<SessionId> {
        let shown = self.get_agent(caller, id).await?;
        shown.active.ok_or_else(|| {
            Error::new(
                Code::NoSession,
                format!("the agent {} runs no session", shown.agent.settings.name),
            )
        })
    }

    async fn session_of(
        &self,
        caller: &Caller,
        agent: &Agent,
        session: SessionId,
    ) -> Result<SessionId> {
        let (found, _) = self.get_session(caller, session).await?;
        if found.agent.as_ref().is_some_and(|of| of.id == agent.id) {
            return Ok(session);
        }
        Err(Error::new(
            Code::NoResumableSession,
            format!(
                "the session {session} is not one of the agent {}",
                agent.settings.name
            ),
        ))
    }

    /// Whether an agent may go on with an earlier conversation. A lost session does not keep it from that: whether it
    /// may be continued, and if by force, is said where it is.
    async fn may_continue(&self, id: AgentId) -> Result<()> {
        match self.hold_agent(id, None).await {
            Err(error) if error.code() != Code::InvalidState => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives the agent's last session up, if it was lost: should its process be found, it is ended.
    async fn give_up_lost(&self, caller: &Caller, id: AgentId) -> Result<()> {
        let last = self
            .agent_run(id)
            .await?
            .and_then(|(run, _)| run.session_id);
        let Some(last) = last else {
            return Ok(());
        };
        match self.session_record(last).await? {
            Some((session, _)) if session.is_lost() => {
                self.end_session(caller, "", last, true).await
            }
            _ => Ok(()),
        }
    }
}

/// The session in the answer that a request was given.
fn session_in(answer: &[u8]) -> Result<Option<SessionId>> {
    match std::str::from_utf8(answer).map_err(Error::internal)? {
        "" => Ok(None),
        id => id.parse().map(Some),
    }
}

/// A session of an agent, as its settings say.
pub(in crate::app) fn new_session(agent: &Agent, start: StartAgent) -> NewSession {
    let settings = &agent.settings;
    let cwd = match start.cwd.is_empty() {
        true => settings.directory.clone(),
        false => start.cwd,
    };
    let mode = start.mode.unwrap_or(settings.mode);
    let first = match mode {
        Mode::Headless => settings.definition.on_startup.clone(),
        // A person types there.
        Mode::Interactive => String::new(),
    };
    NewSession {
        input: joined(first, &start.input),
        cwd,
        harness: settings.harness.clone(),
        model: settings.model.clone(),
        permission_mode: Some(settings.permission_mode),
        mode,
        screen: Screen {
            size: start.size.unwrap_or_default(),
            ..Screen::default()
        },
        task: None,
        one_shot: false,
        daemon_id: start.daemon_id.or(settings.daemon_id),
        selector: settings.selector.clone(),
        env_names: settings.env_names.clone(),
        limits: settings.limits.clone(),
        title: title(settings.name.as_str(), &start.input),
        labels: settings.labels.clone(),
        argv: settings.argv.clone(),
    }
}

/// Who it is and what it was told first.
pub(in crate::app) fn title(name: &str, input: &str) -> String {
    let line = input.lines().next().unwrap_or_default().trim();
    let line: String = line
        .chars()
        .filter(|c| !crate::domain::visible::is_hidden(*c))
        .take(40)
        .collect();
    match line.as_str() {
        "" => name.to_owned(),
        line => format!("{name}: {line}"),
    }
}
