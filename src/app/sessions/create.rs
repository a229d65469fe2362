//! Making sessions: new ones, continued ones, branched ones.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Room, fault, fields, index, lost, writer};
use crate::app::App;
use crate::app::access::Caller;
use crate::app::idempotency::{Begin, Fresh, digest};
use crate::app::records;
use crate::app::sight::beyond;
use crate::base::id::{AgentId, CommandId, DaemonId, InputId, SessionId};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::command::StartCommand;
use crate::domain::event::Origin as EventOrigin;
use crate::domain::field;
use crate::domain::harness::PermissionMode;
use crate::domain::session::{Limits, Mode, SessionTask};
use crate::domain::terminal::Screen;
use crate::domain::{
    Actor, Capabilities, Command, CommandBody, Daemon, Delivery, EndInfo, EndReason, Event,
    EventBody, Input, InputState, Lifecycle, Session,
};
use crate::store::{Append, Commit, Expect, Outbox, RecordOp, Stream};

/// What a caller wants of a new session.
#[derive(Clone, Debug, Default)]
pub struct NewSession {
    /// The first input; may be empty.
    pub input: String,
    /// Working directory; empty is the daemon's first root.
    pub cwd: String,
    /// Kind of agent program.
    pub harness: String,
    /// The model; empty is the harness's default.
    pub model: String,
    /// The permission mode; `None` is ask.
    pub permission_mode: Option<PermissionMode>,
    /// Headless or interactive.
    pub mode: Mode,
    /// Whether it ends after its first turn.
    pub one_shot: bool,
    /// The daemon; `None` is any that fits.
    pub daemon_id: Option<DaemonId>,
    /// Labels that the daemon must have.
    pub selector: BTreeMap<String, String>,
    /// Names of environment variables to pass on.
    pub env_names: Vec<String>,
    /// What it may use.
    pub limits: Limits,
    /// A short title.
    pub title: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Program and arguments, for `command`.
    pub argv: Vec<String>,
    /// How large the terminal of an interactive session is, and whose size holds.
    pub screen: Screen,
    /// The task it is made for.
    pub task: Option<SessionTask>,
}

/// Who asks for a new session, as what, and for which agent.
#[derive(Clone, Debug)]
pub(in crate::app) struct Ask<'a> {
    /// Who.
    pub(in crate::app) caller: &'a Caller,
    /// The method.
    pub(in crate::app) method: &'static str,
    /// The caller's name for this request.
    pub(in crate::app) request_id: &'a str,
    /// What tells this request from another of the same name.
    pub(in crate::app) detail: String,
    /// The agent that is to run the session.
    pub(in crate::app) agent: Option<AgentId>,
}

/// How a request to make a session begins.
pub(in crate::app) enum Begun {
    /// It was made before.
    Repeat(Box<Session>),
    /// It is to be made; the mark belongs in its commit, and it has a place among the living.
    Fresh(Fresh, Room),
}

/// A session about to be stored for the first time.
struct Birth {
    session: Session,
    events: Vec<Event>,
    ops: Vec<RecordOp>,
}

impl App {
    /// Makes a session and places it on a daemon.
    pub async fn create_session(
        &self,
        caller: &Caller,
        request_id: &str,
        new: NewSession,
    ) -> Result<Session> {
        let ask = Ask {
            caller,
            method: "CreateSession",
            request_id,
            detail: format!("{new:?}"),
            agent: None,
        };
        self.make_session(ask, new, &[]).await
    }

    /// Makes a session, of an agent or of none. `also` is changed in the commit that makes it.
    pub(in crate::app) async fn make_session(
        &self,
        ask: Ask<'_>,
        mut new: NewSession,
        also: &[RecordOp],
    ) -> Result<Session> {
        let caller = ask.caller;
        fields::input("input", &new.input, true)?;
        field::path("cwd", &new.cwd)?;
        field::word("model", &new.model)?;
        field::argv("argv", &new.argv)?;
        field::env_names("env_names", &new.env_names)?;
        field::labels("labels", &new.labels)?;
        field::labels("selector", &new.selector)?;
        if new.harness.is_empty() {
            return Err(Error::invalid(
                "harness",
                "is missing: name one that the daemon has, such as claude-code, command or demo",
            ));
        }
        field::word("harness", &new.harness)?;
        let takes_argv = new.harness == "command";
        let is_interactive = new.mode == Mode::Interactive;
        let is_shell = takes_argv && is_interactive && new.argv.is_empty();
        if takes_argv == new.argv.is_empty() && !is_shell {
            return Err(Error::invalid(
                "argv",
                if takes_argv {
                    "is missing: the harness command needs a program"
                } else {
                    "goes with the harness command only"
                },
            ));
        }
        if is_interactive {
            interactive(&mut new)?;
        }
        confine(caller, &mut new)?;
        let limits = fields::limits(
            "limits",
            new.limits.clone(),
            &self.sessions().options().limits,
        )?;
        let title = fields::title(&new.title, &new.input, &new.argv)?;

        let (pending, room) = match self.begin_birth(&ask).await? {
            Begun::Repeat(session) => return Ok(*session),
            Begun::Fresh(pending, room) => (pending, room),
        };
        self.budget_allows(ask.agent, new.task.map(|task| task.id))?;
        let hold = match ask.agent {
            Some(agent) => Some(self.hold_agent(agent, None).await?),
            None => None,
        };
        let daemon = self.place_in(caller, &new, &room).await?;
        let now = self.clock().now();
        let actor = caller.actor();
        let cwd = if new.cwd.is_empty() {
            daemon.offer.roots.first().cloned().unwrap_or_default()
        } else {
            new.cwd.clone()
        };
        let capabilities = capabilities(&daemon, &new.harness, new.mode);
        let mut instructions = hold
            .as_ref()
            .map(|hold| hold.instructions.clone())
            .unwrap_or_default();
        if !capabilities.instructions && !instructions.is_empty() {
            // A plain command reads inputs and not advice, and in a terminal a person types; every other agent is told
            // with its first input.
            let told = std::mem::take(&mut instructions);
            if new.harness != "command" && !is_interactive {
                new.input = joined(told, &new.input);
                fields::input("input", &new.input, true)?;
            }
        }
        let session = Session {
            title,
            capabilities,
            screen: is_interactive.then_some(new.screen),
            agent: hold.as_ref().map(|hold| hold.agent.clone()),
            task: new.task,
            model: new.model,
            permission_mode: new.permission_mode.unwrap_or_default(),
            mode: new.mode,
            one_shot: new.one_shot,
            cwd,
            argv: new.argv,
            env_names: new.env_names,
            limits,
            labels: new.labels,
            ..Session::new(room.id(), daemon.id, new.harness, actor.clone(), now)
        };
        let beginning = Beginning {
            instructions,
            ..Beginning::default()
        };
        let mut birth = Birth::new(self.store().as_ref(), session, beginning, &actor, now)?;
        if let Some(hold) = hold {
            birth.ops.push(hold.op(birth.session.id)?);
        }
        if !self.sessions().is_linked(daemon.id) {
            birth.detached();
        }
        if !new.input.is_empty() {
            birth.input(new.input, actor, 1)?;
        }
        birth.ops.extend_from_slice(also);
        birth
            .ops
            .extend(pending.op(birth.session.id.to_string().as_bytes()));
        self.store_birth(birth, now, (pending, room)).await
    }

    /// Continues a session's conversation in a new session.
    pub async fn resume_session(
        &self,
        caller: &Caller,
        request_id: &str,
        id: SessionId,
        resume: Resume,
    ) -> Result<Session> {
        fields::input("input", &resume.input, true)?;
        field::word("model", &resume.model)?;
        self.require_session(caller, id).await?;
        let ask = Ask {
            caller,
            method: "ResumeSession",
            request_id,
            detail: format!("{id}{resume:?}"),
            agent: None,
        };
        self.continue_session(&ask, id, resume).await
    }

    /// Continues a session's conversation, once for each request; again, where another change came before.
    pub(in crate::app) async fn continue_session(
        &self,
        ask: &Ask<'_>,
        id: SessionId,
        resume: Resume,
    ) -> Result<Session> {
        let mut attempts = Attempts::default();
        loop {
            let (pending, room) = match self.begin_birth(ask).await? {
                Begun::Repeat(session) => return Ok(*session),
                Begun::Fresh(pending, room) => (pending, room),
            };
            let resume = resume.clone();
            let done = self
                .resume_into(ask.caller, id, resume, pending, room)
                .await;
            if !attempts.once_more(&done) {
                return done;
            }
        }
    }

    /// Makes a session of an agent, once for each request; again, where another start came before. `also` is changed in
    /// the commit that makes it.
    pub(in crate::app) async fn make_session_of(
        &self,
        ask: &Ask<'_>,
        new: NewSession,
        also: &[RecordOp],
    ) -> Result<Session> {
        let mut attempts = Attempts::default();
        loop {
            let done = self.make_session(ask.clone(), new.clone(), also).await;
            if !attempts.once_more(&done) {
                return done;
            }
        }
    }

    /// Continues a session's conversation in the session that `room` is kept for. A session of an agent is continued
    /// as the agent's, if that is still there.
    pub(in crate::app) async fn resume_into(
        &self,
        caller: &Caller,
        id: SessionId,
        resume: Resume,
        pending: Fresh,
        room: Room,
    ) -> Result<Session> {
        let (app, caller) = (self.clone(), caller.clone());
        self.to_its_end(async move { app.resume_whole(&caller, id, resume, pending, room).await })
            .await
    }

    async fn resume_whole(
        &self,
        caller: &Caller,
        id: SessionId,
        resume: Resume,
        pending: Fresh,
        room: Room,
    ) -> Result<Session> {
        let (old, _) = self.get_session(caller, id).await?;
        // Said before what the daemon says; what decides is the same check in the session's own step.
        may_resume(&old, resume.force)?;
        self.budget_allows_again(&old)?;
        if old.mode == Mode::Interactive && !resume.input.is_empty() {
            return Err(typed_only("input"));
        }
        let mode = resume.permission_mode.unwrap_or(old.permission_mode);
        // That its daemon is away is why a session is lost: the one that follows it waits for the daemon.
        self.placed_again(&old, mode, old.is_lost(), &room).await?;
        let hold = match &old.agent {
            Some(agent) => self.hold_agent_still_there(agent.id, id).await?,
            None => None,
        };
        let actor = caller.actor();
        let new_id = room.id();
        let mark = pending.op(new_id.to_string().as_bytes());
        let outbox = self.store().clone();
        let is_linked = self.sessions().is_linked(old.daemon_id);
        let session = self
            .sessions()
            .step(id, move |step| {
                may_resume(&step.live.session, resume.force)?;
                let was_lost = step.live.session.is_lost();
                let old = step.live.session.clone();
                let model = if resume.model.is_empty() {
                    old.model.clone()
                } else {
                    resume.model
                };
                let session = Session {
                    resumed_from: Some(old.id),
                    model,
                    permission_mode: resume.permission_mode.unwrap_or(old.permission_mode),
                    agent: hold.as_ref().map(|hold| hold.agent.clone()),
                    task: resume.task.or(old.task),
                    ..successor(&old, new_id, &actor, step.now)
                };
                let beginning = Beginning {
                    conversation: old.provider_session_id.clone(),
                    replaces: was_lost.then_some(old.id),
                    // What was told with the first input is part of the conversation.
                    instructions: hold
                        .as_ref()
                        .filter(|_| old.capabilities.instructions)
                        .map(|hold| hold.instructions.clone())
                        .unwrap_or_default(),
                    ..Beginning::default()
                };
                let mut birth = Birth::new(outbox.as_ref(), session, beginning, &actor, step.now)?;
                if let Some(hold) = &hold {
                    birth.ops.push(hold.op(new_id)?);
                }
                if !is_linked {
                    birth.detached();
                }
                // What still waits in the old queue goes first, in its order.
                let mut position = 0;
                for input_id in step.live.order.clone() {
                    if let Some(input) = step.live.inputs.get(&input_id).cloned() {
                        position += 1;
                        birth.input(input.text, input.actor, position)?;
                        step.input_moved(
                            input_id,
                            InputState::Withdrawn,
                            &format!("moved to {new_id}"),
                        )?;
                    }
                }
                if !resume.input.is_empty() {
                    birth.input(resume.input, actor.clone(), position + 1)?;
                }
                if was_lost {
                    lost::give_up(step)?;
                }
                if step.live.session.lifecycle == Lifecycle::Suspended {
                    let end =
                        EndInfo::because(EndReason::Resumed, format!("continued in {new_id}"));
                    step.live.session.end = Some(end.clone());
                    step.live.session.ended_at = Some(step.now);
                    step.emit(EventBody::Ended { end });
                    step.move_to(Lifecycle::Ended)?;
                }
                step.live.session.resumed_by = Some(new_id);
                step.touch();
                step.op(writer::pass_on(&birth.session, was_lost));
                birth.ops.extend(mark);
                let session = birth.session.clone();
                let (append, ops) = birth.into_parts(step.now)?;
                for op in ops {
                    step.op(op);
                }
                step.also(append);
                Ok(session)
            })
            .await?;
        drop((pending, room));
        self.relay().nudge(session.daemon_id);
        self.sessions().born(session.id).await?;
        Ok(session)
    }

    /// Branches a session's conversation off into a new session.
    pub async fn fork_session(
        &self,
        caller: &Caller,
        request_id: &str,
        id: SessionId,
        input: String,
    ) -> Result<Session> {
        fields::input("input", &input, true)?;
        self.require_session(caller, id).await?;
        let ask = Ask {
            caller,
            method: "ForkSession",
            request_id,
            detail: format!("{id}{input}"),
            agent: None,
        };
        let (pending, room) = match self.begin_birth(&ask).await? {
            Begun::Repeat(session) => return Ok(*session),
            Begun::Fresh(pending, room) => (pending, room),
        };
        let (old, _) = self.get_session(caller, id).await?;
        self.budget_allows_again(&old)?;
        if !old.capabilities.fork {
            return Err(Error::new(
                Code::NoResumableSession,
                format!(
                    "the harness {} cannot branch a conversation off",
                    old.harness
                ),
            ));
        }
        if old.mode == Mode::Interactive && !input.is_empty() {
            return Err(typed_only("input"));
        }
        // How many turns a conversation in a terminal has had, nobody knows.
        let is_empty = old.turns == 0 && old.mode == Mode::Headless;
        if old.provider_session_id.is_empty() || is_empty {
            return Err(Error::new(
                Code::NoResumableSession,
                "the session has no finished turn to branch off from",
            ));
        }
        self.placed_again(&old, old.permission_mode, false, &room)
            .await?;
        let actor = caller.actor();
        let now = self.clock().now();
        let session = Session {
            forked_from: Some(old.id),
            // The harness names the new conversation itself.
            provider_session_id: String::new(),
            ..successor(&old, room.id(), &actor, now)
        };
        let beginning = Beginning {
            conversation: old.provider_session_id.clone(),
            fork: true,
            ..Beginning::default()
        };
        let mut birth = Birth::new(self.store().as_ref(), session, beginning, &actor, now)?;
        if !self.sessions().is_linked(old.daemon_id) {
            birth.detached();
        }
        if !input.is_empty() {
            birth.input(input, actor, 1)?;
        }
        birth
            .ops
            .extend(pending.op(birth.session.id.to_string().as_bytes()));
        self.store_birth(birth, now, (pending, room)).await
    }

    /// What making a session begins with, whatever it is made from: a repeated request gets its first answer, and
    /// a new one must find room.
    pub(in crate::app) async fn begin_birth(&self, ask: &Ask<'_>) -> Result<Begun> {
        let caller = ask.caller;
        let request = digest(ask.detail.as_bytes());
        let begun = self
            .idempotency()
            .begin(caller, ask.method, ask.request_id, request)
            .await?;
        match begun {
            Begin::Repeat(answer) => {
                let id = std::str::from_utf8(&answer).map_err(Error::internal)?;
                let (session, _) = self.get_session(caller, id.parse()?).await?;
                Ok(Begun::Repeat(Box::new(session)))
            }
            Begin::Fresh(pending) => {
                let room = SessionId::generate(self.clock().now());
                Ok(Begun::Fresh(pending, self.sessions().reserve(room)?))
            }
        }
    }

    async fn store_birth(
        &self,
        birth: Birth,
        now: Timestamp,
        held: (Fresh, Room),
    ) -> Result<Session> {
        let session = birth.session.clone();
        let (append, ops) = birth.into_parts(now)?;
        let app = self.clone();
        self.to_its_end(async move {
            app.sessions()
                .commit(Commit {
                    appends: vec![append],
                    ops,
                    ..Commit::default()
                })
                .await?;
            drop(held);
            fault::point(fault::AFTER_BIRTH);
            app.relay().nudge(session.daemon_id);
            app.sessions().born(session.id).await?;
            Ok(session)
        })
        .await
    }
}

/// What an interactive session cannot have, and the title of one that says nothing of itself.
fn interactive(new: &mut NewSession) -> Result<()> {
    if !new.input.is_empty() {
        return Err(typed_only("input"));
    }
    if new.one_shot {
        return Err(Error::invalid(
            "one_shot",
            "is for headless sessions: nobody tells where a turn ends in a terminal",
        ));
    }
    if new.title.is_empty() && new.argv.is_empty() {
        new.title = match new.harness.as_str() {
            "command" => "shell".to_owned(),
            harness => harness.to_owned(),
        };
    }
    Ok(())
}

/// Text for a program that takes what is typed into its terminal and nothing else.
fn typed_only(field: &str) -> Error {
    Error::invalid(
        field,
        "is for headless sessions: write to the terminal of an interactive one",
    )
}

/// What a harness can do in a session. In a terminal it is its user who steers it, so little is left.
fn capabilities(daemon: &Daemon, harness: &str, mode: Mode) -> Capabilities {
    let harnesses = &daemon.offer.harnesses;
    let found = harnesses.iter().find(|known| known.name == harness);
    let all = found.map(|known| known.capabilities).unwrap_or_default();
    match mode {
        Mode::Headless => Capabilities {
            terminal: false,
            ..all
        },
        Mode::Interactive => Capabilities {
            terminal: true,
            resume: all.resume,
            fork: all.fork,
            ..Capabilities::default()
        },
    }
}

/// A narrowed caller starts sessions in its projects only. Where it names no directory, it means the first of
/// them that the daemon may have.
fn confine(caller: &Caller, new: &mut NewSession) -> Result<()> {
    let Some(narrowing) = &caller.narrowing else {
        return Ok(());
    };
    let mut projects = narrowing.projects.iter().filter(|project| {
        let there = |asked| project.daemon_id.is_none_or(|id| id == asked);
        new.daemon_id.is_none_or(there) && (new.cwd.is_empty() || project.contains(&new.cwd))
    });
    let project = projects
        .next()
        .ok_or_else(|| beyond(caller, "starts sessions in its projects only"))?;
    if new.cwd.is_empty() {
        new.cwd.clone_from(&project.directory);
        new.daemon_id = new.daemon_id.or(project.daemon_id);
    }
    Ok(())
}

/// What a caller wants of a continued session.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// The first input; may be empty.
    pub input: String,
    /// Whether to give up the old process, should it still run somewhere.
    pub force: bool,
    /// The permission mode; `None` is as before.
    pub permission_mode: Option<PermissionMode>,
    /// The model; empty is as before.
    pub model: String,
    /// The task it goes on with; `None` is the one before.
    pub task: Option<SessionTask>,
}

/// How often something was tried that another change came before, of which it must know: the start of an agent that
/// another start came before, say.
#[derive(Debug, Default)]
pub(in crate::app) struct Attempts(usize);

impl Attempts {
    /// The most attempts.
    const MOST: usize = 8;

    /// Whether to try again. After a few times it is told that it was overtaken.
    pub(in crate::app) fn once_more<T>(&mut self, outcome: &Result<T>) -> bool {
        self.0 += 1;
        let is_overtaken = matches!(outcome, Err(error) if error.code() == Code::Stale);
        is_overtaken && self.0 < Self::MOST
    }
}

/// Two texts as one, with a blank line between them if both say something.
pub(in crate::app) fn joined(before: String, after: &str) -> String {
    match (before.is_empty(), after.is_empty()) {
        (true, _) => after.to_owned(),
        (_, true) => before,
        _ => format!("{before}\n\n{after}"),
    }
}

/// Whether a session's conversation may be continued.
fn may_resume(old: &Session, force: bool) -> Result<()> {
    if let Some(by) = old.resumed_by {
        return Err(Error::new(
            Code::SessionExists,
            format!("the session was continued already, in {by}"),
        )
        .with("existing_session", by));
    }
    if !old.capabilities.resume {
        return Err(Error::new(
            Code::NoResumableSession,
            format!("the harness {} cannot continue a conversation", old.harness),
        ));
    }
    if old.provider_session_id.is_empty() {
        return Err(Error::new(
            Code::NoResumableSession,
            "the session ended before its agent had a conversation to continue",
        ));
    }
    if old.is_lost() && !force {
        return Err(Error::state(
            "the session's process may still run on a machine that is away; wait for it, or use force to give it up",
        ));
    }
    if !old.is_over() {
        return Err(Error::state(format!(
            "the session is {}; end or suspend it first",
            old.lifecycle.as_str()
        ))
        .with("lifecycle", old.lifecycle.as_str()));
    }
    Ok(())
}

/// A new session that takes over what an old one was.
fn successor(old: &Session, id: SessionId, actor: &Actor, now: Timestamp) -> Session {
    Session {
        title: old.title.clone(),
        capabilities: old.capabilities,
        model: old.model.clone(),
        permission_mode: old.permission_mode,
        mode: old.mode,
        screen: old.screen,
        one_shot: old.one_shot,
        cwd: old.cwd.clone(),
        argv: old.argv.clone(),
        env_names: old.env_names.clone(),
        provider_session_id: old.provider_session_id.clone(),
        ancestors: old.ancestors_of_next(),
        limits: old.limits.clone(),
        labels: old.labels.clone(),
        ..Session::new(id, old.daemon_id, old.harness.clone(), actor.clone(), now)
    }
}

/// What a harness begins with.
#[derive(Default)]
struct Beginning {
    /// The conversation to continue; empty is a new one.
    conversation: String,
    /// Whether to branch off from that conversation.
    fork: bool,
    /// The session whose process must be gone first.
    replaces: Option<SessionId>,
    /// What the agent is told beside its inputs.
    instructions: String,
}

impl Birth {
    /// A session with its first event and the command that starts it.
    fn new(
        outbox: &dyn Outbox,
        session: Session,
        beginning: Beginning,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Self> {
        let start = Command {
            id: CommandId::generate(now),
            session_id: session.id,
            deadline: None,
            body: CommandBody::Start(Box::new(StartCommand {
                harness: session.harness.clone(),
                cwd: session.cwd.clone(),
                model: session.model.clone(),
                permission_mode: session.permission_mode,
                mode: session.mode,
                argv: session.argv.clone(),
                env_names: session.env_names.clone(),
                provider_session_id: beginning.conversation,
                fork: beginning.fork,
                one_shot: session.one_shot,
                replaces: beginning.replaces,
                instructions: beginning.instructions,
                terminal: session.screen.map(|screen| screen.size),
            })),
        };
        let created = EventBody::SessionCreated {
            daemon_id: session.daemon_id,
            harness: session.harness.clone(),
            cwd: session.cwd.clone(),
            resumed_from: session.resumed_from,
            forked_from: session.forked_from,
        };
        let value = serde_json::to_vec(&start).map_err(Error::internal)?;
        let ops = vec![
            outbox.put_op(
                &session.daemon_id.to_string(),
                &start.id.to_string(),
                Bytes::from(value),
            ),
            records::mark(records::living_key(session.daemon_id, session.id), ""),
        ];
        let event = Event::new(session.id, EventOrigin::Server, now, created).by(actor.clone());
        Ok(Birth {
            session,
            events: vec![event],
            ops,
        })
    }

    /// The session's daemon is not linked: it is detached from its beginning.
    fn detached(&mut self) {
        let (id, now) = (self.session.id, self.session.created_at);
        self.session.detached_since = Some(now);
        let link = EventBody::LinkChanged {
            attached: false,
            epoch: 0,
        };
        self.events
            .push(Event::new(id, EventOrigin::Server, now, link));
    }

    /// Adds an input to the queue the session begins with.
    fn input(&mut self, text: String, actor: Actor, position: u32) -> Result<()> {
        let now = self.session.created_at;
        let input = Input {
            id: InputId::generate(now),
            session_id: self.session.id,
            text,
            delivery: Delivery::Queue,
            state: InputState::Queued,
            actor,
            created_at: now,
            position,
            reason: String::new(),
            command_id: None,
        };
        self.ops.push(records::put(
            records::input_key(input.session_id, input.id),
            &input,
            Expect::Absent,
        )?);
        self.ops.push(index::input(&input));
        let accepted = EventBody::InputAccepted {
            input_id: input.id,
            text: input.text,
            delivery: input.delivery,
        };
        self.events
            .push(Event::new(self.session.id, EventOrigin::Server, now, accepted).by(input.actor));
        self.session.queued_inputs = position;
        Ok(())
    }

    fn into_parts(mut self, now: Timestamp) -> Result<(Append, Vec<RecordOp>)> {
        for (index, event) in self.events.iter_mut().enumerate() {
            event.seq = index as u64 + 1;
        }
        self.ops.extend(index::born(&self.session));
        self.ops.push(records::put(
            records::session_key(self.session.id),
            &self.session,
            Expect::Absent,
        )?);
        let append = Append {
            stream: Stream::session(self.session.id),
            expected_last: 0,
            fence: 0,
            entries: self.events.iter().map(crate::wire::encode_event).collect(),
            origin: None,
            time: now,
        };
        Ok((append, self.ops))
    }
}
