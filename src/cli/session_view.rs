//! A session as a person watches it: what happens, what the agent writes right now, what it asks, and
//! what they type. `run`, `attach` and `logs -f` are this view with different settings.

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ask::{Asking, Step};
use super::exit::{DONE, FAILED, code_of_end};
use super::live::{Live, Piece};
use super::output::style::{Tone, visible_line};
use super::output::{Out, event, json};
use crate::base::id::{PromptId, SessionId};
use crate::base::{Code, Error};
use crate::client::{Client, Cursor, Follow, FollowOptions, Followed};
use crate::domain::event::{Event, EventBody, Role};
use crate::domain::prompt::{Prompt, PromptState};
use crate::domain::session::{Activity, EndInfo, EndReason, Lifecycle};
use crate::domain::{EventKind, InputState};
use crate::wire::prompt::answer_body_to_pb;
use crate::wire::v1;

/// Within this time a second Ctrl-C detaches.
const TWICE: Duration = Duration::from_secs(10);
/// Typed lines that wait to be looked at; a terminal waits beyond that.
const TYPED_LINES: usize = 16;

/// How to watch.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where to start.
    pub after_seq: u64,
    /// Only these kinds.
    pub kinds: Vec<EventKind>,
    /// As a log: a line an event with number and time, nothing live, nothing asked.
    pub log: bool,
    /// Whether to stop when the agent waits for input and nobody is there to type it.
    pub until_idle: bool,
    /// Whether the session ends by itself after its turn; its end is waited for then.
    pub one_shot: bool,
    /// Whether typed lines answer prompts and are sent as input.
    pub interactive: bool,
}

/// Whether somebody sits at this terminal who could answer.
pub fn has_person(out: &Out) -> bool {
    !out.json && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Watches a session until it ends or whatever else the settings say; the exit code.
pub async fn watch(
    client: &Client,
    out: &Out,
    session: SessionId,
    settings: Settings,
) -> anyhow::Result<u8> {
    let mut kinds = settings.kinds.clone();
    if !kinds.is_empty() {
        // Whatever is shown, the end of the session must be seen.
        for kind in [EventKind::Ended, EventKind::LifecycleChanged] {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    let follow = client.follow(
        session,
        FollowOptions {
            from: Cursor {
                log_epoch: 0,
                seq: settings.after_seq,
            },
            tail: false,
            kinds,
            conflate: false,
            transients: !settings.log,
        },
    );
    let (typed, lines) = mpsc::channel(TYPED_LINES);
    if settings.interactive {
        read_lines(typed);
    } else {
        drop(typed);
    }
    View::new(client, out, session, settings)
        .run(follow, lines)
        .await
}

/// Reads lines of a terminal on a thread of its own. It cannot be ended while it waits for a line and
/// ends with the process; what it has read and nobody wants is dropped.
fn read_lines(typed: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if typed.blocking_send(line).is_err() {
                break;
            }
        }
    });
}

struct View<'a> {
    client: &'a Client,
    out: &'a Out,
    session: SessionId,
    settings: Settings,
    live: Live,
    /// Prompts that wait, oldest first.
    open: Vec<Prompt>,
    /// The one that is being asked.
    asking: Option<Asking>,
    /// The newest seq when the first stream was opened.
    head: Option<u64>,
    /// Whether the past is behind us: only then is anything asked.
    caught_up: bool,
    activity: Option<Activity>,
    /// Whether the last turn that ended did so with an error; `None` while one runs.
    turn_ended: Option<bool>,
    ended: Option<EndInfo>,
    interrupted: Option<Instant>,
    /// Whether the cursor stands within a line of live text.
    within_line: bool,
}

impl<'a> View<'a> {
    fn new(client: &'a Client, out: &'a Out, session: SessionId, settings: Settings) -> Self {
        View {
            client,
            out,
            session,
            settings,
            live: Live::default(),
            open: Vec::new(),
            asking: None,
            head: None,
            caught_up: false,
            activity: None,
            turn_ended: None,
            ended: None,
            interrupted: None,
            within_line: false,
        }
    }

    async fn run(
        &mut self,
        mut follow: Follow,
        mut lines: mpsc::Receiver<String>,
    ) -> anyhow::Result<u8> {
        let typing = self.settings.interactive;
        loop {
            tokio::select! {
                step = follow.next() => {
                    if let Some(code) = self.step(step?)? {
                        return Ok(code);
                    }
                }
                line = lines.recv(), if typing => match line {
                    Some(line) => self.typed(&line).await?,
                    // Ctrl-D: nothing more will be typed.
                    None => return self.detach(),
                },
                signal = tokio::signal::ctrl_c() => {
                    signal?;
                    if let Some(code) = self.ctrl_c().await? {
                        return Ok(code);
                    }
                }
            }
        }
    }

    fn step(&mut self, step: Followed) -> anyhow::Result<Option<u8>> {
        match step {
            Followed::Started { head, .. } => {
                let first = self.head.is_none();
                self.head.get_or_insert(head);
                if !first {
                    self.note("— connected again —")?;
                }
                if head <= self.settings.after_seq {
                    return self.reached_head();
                }
            }
            Followed::Event(event) => return self.event(&event),
            Followed::Transient(transient) if self.out.json => {
                self.out.value(&json::transient(&transient))?;
            }
            Followed::Transient(transient) => {
                if self.caught_up
                    && self.asking.is_none()
                    && let Some(piece) = self.live.transient(&transient)
                {
                    self.piece(&piece)?;
                }
            }
            Followed::Progress(through) => {
                if self.head.is_some_and(|head| through >= head) {
                    return self.reached_head();
                }
            }
            Followed::Truncated { oldest } => {
                if self.out.json {
                    self.out
                        .value(&serde_json::json!({ "type": "truncated", "oldest_seq": json::number(oldest) }))?;
                } else {
                    self.note(&format!(
                        "— what was before {oldest} was removed by retention —"
                    ))?;
                }
            }
            Followed::Lost { error, pause } => {
                self.note(&format!(
                    "— {}; trying again in {:.0} s —",
                    error.message(),
                    pause.as_secs_f64().ceil()
                ))?;
            }
        }
        Ok(None)
    }

    fn event(&mut self, event: &Event) -> anyhow::Result<Option<u8>> {
        self.track(&event.body);
        let is_wanted =
            self.settings.kinds.is_empty() || self.settings.kinds.contains(&event.body.kind());
        if !is_wanted {
            // Asked for only to see the end.
        } else if self.out.json {
            self.out.value(&json::event(event))?;
        } else if self.settings.log {
            self.out.line(&event::log_line(event, self.out.style))?;
        } else {
            self.show(&event.body)?;
        }
        if let Some(end) = &self.ended {
            // A session that ended as lost may come back; a follower of its log stays for that.
            let is_final = end.reason != EndReason::Lost || !self.settings.log;
            let is_behind = self.head.is_some_and(|head| event.seq < head);
            if is_final && !is_behind {
                return Ok(Some(code_of_end(end)));
            }
        }
        if self.head.is_some_and(|head| event.seq >= head) {
            return self.reached_head();
        }
        Ok(None)
    }

    /// What the events say about prompts, turn and end.
    fn track(&mut self, body: &EventBody) {
        match body {
            EventBody::PromptRequested { prompt } if prompt.state == PromptState::Pending => {
                self.open.push((**prompt).clone());
            }
            EventBody::PromptAnswered { prompt_id, .. }
            | EventBody::PromptExpired { prompt_id }
            | EventBody::PromptWithdrawn { prompt_id, .. } => self.close(*prompt_id),
            EventBody::ActivityChanged { activity, .. } => self.activity = Some(*activity),
            EventBody::TurnStarted { .. } => {
                self.turn_ended = None;
                self.activity = Some(Activity::Working);
            }
            EventBody::TurnEnded { is_error, .. } => {
                self.turn_ended = Some(*is_error);
                self.live.forget();
            }
            EventBody::InputAccepted { .. } => self.turn_ended = None,
            EventBody::LifecycleChanged {
                to: Lifecycle::Running,
                ..
            } => self.ended = None,
            EventBody::LifecycleChanged {
                to: Lifecycle::Suspended,
                ..
            } => {
                self.ended = Some(EndInfo::because(EndReason::Stopped, "suspended"));
            }
            EventBody::Ended { end } => {
                self.ended = Some(end.clone());
                self.open.clear();
            }
            _ => {}
        }
    }

    fn close(&mut self, prompt: PromptId) {
        self.open.retain(|open| open.id != prompt);
    }

    fn reached_head(&mut self) -> anyhow::Result<Option<u8>> {
        self.caught_up = true;
        if let Some(end) = &self.ended
            && (end.reason != EndReason::Lost || !self.settings.log)
        {
            return Ok(Some(code_of_end(end)));
        }
        self.ask_next()?;
        if self.settings.until_idle
            && !self.settings.one_shot
            && self.open.is_empty()
            && self.activity == Some(Activity::AwaitingInput)
            && let Some(is_error) = self.turn_ended
        {
            self.out.note(&format!(
                "the turn is over and the session lives on: baton attach {0} · baton end {0}",
                self.session
            ));
            return Ok(Some(if is_error { FAILED } else { DONE }));
        }
        Ok(None)
    }

    /// Takes up the oldest prompt that waits, and drops the one that was answered elsewhere.
    fn ask_next(&mut self) -> anyhow::Result<()> {
        if !self.settings.interactive || !self.caught_up {
            return Ok(());
        }
        if let Some(asking) = &self.asking {
            if self.open.iter().any(|open| open.id == asking.prompt.id) {
                return Ok(());
            }
            self.asking = None;
        }
        if let Some(prompt) = self.open.first() {
            let asking = Asking::new(prompt.clone());
            let opening = asking.opening(self.out.style);
            self.fresh_line()?;
            self.out.line(&opening)?;
            self.asking = Some(asking);
        }
        Ok(())
    }

    fn show(&mut self, body: &EventBody) -> anyhow::Result<()> {
        if let Some(pieces) = self.live.message(body) {
            for piece in &pieces {
                self.piece(piece)?;
            }
            if !pieces.is_empty() || self.live.is_open() {
                self.fresh_line()?;
            }
            return Ok(());
        }
        let is_quiet = match body {
            EventBody::ActivityChanged { .. }
            | EventBody::UsageUpdated { .. }
            | EventBody::TurnStarted { .. }
            | EventBody::LifecycleChanged { .. }
            | EventBody::SessionCreated { .. } => true,
            // Only what went wrong, or was changed by somebody else, is worth a line.
            EventBody::InputChanged { state, .. } => !matches!(
                state,
                InputState::Rejected | InputState::Indeterminate | InputState::Withdrawn
            ),
            EventBody::PromptDelivered { delivery, .. } => matches!(
                delivery,
                crate::domain::prompt::AnswerDelivery::Applied
                    | crate::domain::prompt::AnswerDelivery::Queued
            ),
            // What a person typed comes back as a message of the user.
            EventBody::Message { role, .. } => *role == Role::User,
            // The asking itself shows it.
            EventBody::PromptRequested { .. } => self.settings.interactive && self.caught_up,
            _ => false,
        };
        if is_quiet {
            return Ok(());
        }
        self.fresh_line()?;
        let words = event::words(body);
        let style = self.out.style;
        let line = match body {
            EventBody::Output { .. } => words.text,
            EventBody::ToolResult { .. } => {
                let text = format!("  ⎿ {}", words.text.trim_end().replace('\n', "\n    "));
                style.paint(words.tone, &text)
            }
            _ => format!(
                "{} {}",
                style.paint(words.tone, &format!("● {}", words.tag)),
                words.text.trim_end().replace('\n', "\n    ")
            ),
        };
        self.out.line(&line)
    }

    fn piece(&mut self, piece: &Piece) -> anyhow::Result<()> {
        let tone = if piece.thinking {
            Tone::Dim
        } else {
            Tone::Plain
        };
        let text = self.out.style.paint(tone, &piece.text);
        // The cursor stands in a line only while live text is open; a fresh piece then begins anew.
        if piece.fresh && self.within_line {
            self.out.part("\n")?;
        }
        self.out.part(&text)?;
        self.within_line = true;
        Ok(())
    }

    /// Ends a line of live text, so that something else can be shown.
    fn fresh_line(&mut self) -> anyhow::Result<()> {
        self.live.closed();
        if self.within_line {
            self.out.part("\n")?;
            self.within_line = false;
        }
        Ok(())
    }

    fn note(&mut self, text: &str) -> anyhow::Result<()> {
        self.fresh_line()?;
        self.out
            .note(&self.out.style.paint(Tone::Dim, &visible_line(text)));
        Ok(())
    }

    async fn typed(&mut self, line: &str) -> anyhow::Result<()> {
        let Some(asking) = &mut self.asking else {
            if line.trim().is_empty() {
                return Ok(());
            }
            let sent = self
                .client
                .send_input(v1::SendInputRequest {
                    request_id: super::command::request_id(),
                    session_id: self.session.to_string(),
                    text: line.to_owned(),
                    delivery: v1::Delivery::Unspecified.into(),
                })
                .await;
            return match sent {
                Ok(_) => Ok(()),
                Err(error) => self.refused(&error),
            };
        };
        match asking.line(line, self.out.style) {
            Step::Show(text) => self.out.line(&text),
            Step::Answer(body) => {
                let prompt = asking.prompt.id;
                self.asking = None;
                let answered = self
                    .client
                    .answer_prompt(v1::AnswerPromptRequest {
                        request_id: super::command::request_id(),
                        prompt_id: prompt.to_string(),
                        session_id: self.session.to_string(),
                        answer: Some(answer_body_to_pb(&body)),
                    })
                    .await;
                match answered {
                    Ok(_) => self.close(prompt),
                    // Somebody was first, or it is gone: the log says so in a moment.
                    Err(error)
                        if matches!(error.code(), Code::PromptAnswered | Code::InvalidState) =>
                    {
                        self.close(prompt);
                        self.refused(&error)?;
                    }
                    // It still waits: it is asked again.
                    Err(error) => self.refused(&error)?,
                }
                self.ask_next()
            }
        }
    }

    fn refused(&mut self, error: &Error) -> anyhow::Result<()> {
        self.fresh_line()?;
        let text = self
            .out
            .style
            .paint(Tone::Bad, &visible_line(error.message()));
        self.out.note(&text);
        Ok(())
    }

    async fn ctrl_c(&mut self) -> anyhow::Result<Option<u8>> {
        let again = self.interrupted.is_some_and(|at| at.elapsed() < TWICE);
        if self.settings.log || again {
            return self.detach().map(Some);
        }
        self.interrupted = Some(Instant::now());
        self.note(
            "interrupting the turn; Ctrl-C once more leaves the session running and ends this view",
        )?;
        // What it asks is withdrawn by the interrupt.
        let interrupted = self
            .client
            .interrupt_turn(v1::InterruptTurnRequest {
                request_id: super::command::request_id(),
                session_id: self.session.to_string(),
            })
            .await;
        if let Err(error) = interrupted {
            self.refused(&error)?;
        }
        Ok(None)
    }

    fn detach(&mut self) -> anyhow::Result<u8> {
        if !self.settings.log {
            self.note(&format!(
                "the session lives on; come back with: baton attach {}",
                self.session
            ))?;
        }
        Ok(DONE)
    }
}

#[cfg(test)]
mod tests;
