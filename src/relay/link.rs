//! The actor of one live link: moves frames between the transport and the state machine, and has the
//! handler do what they ask.
//!
//! It always takes what the transport brings, so that nothing unread piles up in HTTP/2; a handler that
//! is slow with one session holds up that session alone. Its own calls into the handler are futures it
//! owns and polls; none is dropped half-way, also when the link ends.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::handler::{Claim, Introduction};
use super::lane::{Lanes, Work};
use super::registry::{Ask, Ending, Live, Shared, at_capacity, disconnected};
use super::{epoch, fault, outbox};
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::daemon::Offer;
use crate::domain::link::{
    ContentChunk, Down, Found, Goodbye, Hello, Position, ServerEvent, ServerLink, Up,
};
use crate::domain::{Command, CommandResult};
use crate::store::Origin;

/// Entries of the outbox read at once.
const OUTBOX_PAGE: usize = 100;
/// How long a new link waits for the old one's last calls.
const HANDOVER: Duration = Duration::from_secs(5);
/// How long the last words to a daemon may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Most frames that are taken in one turn of the actor.
const FRAMES_A_TURN: usize = 64;

/// Frames from a daemon. An error (a malformed frame) ends the link with it; the end without Goodbye loses the link.
pub type UpFrames = BoxStream<'static, Result<Box<Up>>>;

/// Frames for a daemon. An error is the stream's status; the end is the stream's end. Dropping it without Goodbye loses
/// the link. Frames are boxed: a channel keeps room for 32 of them, also on a link that is silent.
pub type DownFrames = mpsc::Receiver<Result<Box<Down>>>;

/// What a call into the handler or the store led to.
enum Done {
    Hello(u64, Result<Vec<(SessionId, Claim)>>),
    Records(SessionId, Position, Instant, Result<Origin>),
    Content(ContentChunk, Result<u64>),
    Result(CommandResult, Result<()>),
    Report(SessionId, Result<Claim>),
    Outbox(Option<String>, Vec<Command>),
    Deadline(u64),
    /// A session has rested; which rest it was.
    Rested(SessionId, u64),
    Nothing,
}

/// What an actor waited for.
enum Wake {
    Ending,
    Done(Done),
    Nudge,
    Ask(Box<Ask>),
    Frame(Option<Result<Box<Up>>>),
    Tick,
}

/// The actor.
pub(super) struct LinkJob {
    shared: Arc<Shared>,
    daemon: DaemonId,
    link: ServerLink,
    frames: UpFrames,
    down: mpsc::Sender<Result<Box<Down>>>,
    /// The frame that the transport takes next: it has no room now.
    next: Option<Down>,
    /// Rings when the state machine wants to be looked at. Kept, since a timer that is made for each wait costs more than
    /// the wait.
    bell: Pin<Box<Sleep>>,
    /// When the bell will ring; `None` after it rang.
    rings_at: Option<Timestamp>,
    lanes: Lanes,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    live: Option<Arc<Live>>,
    /// Brings `live` once the link is registered.
    live_rx: Option<oneshot::Receiver<Arc<Live>>>,
    /// Cancelled when the link ends.
    over: CancellationToken,
    nudge: Arc<Notify>,
    ending: watch::Receiver<Option<Ending>>,
    ending_tx: Option<watch::Sender<Option<Ending>>>,
    asks: mpsc::Receiver<Box<Ask>>,
    asks_tx: mpsc::Sender<Box<Ask>>,
    questions: HashMap<u64, oneshot::Sender<Result<Found>>>,
    /// Whether the outbox is to be read (again) from its beginning.
    outbox_due: bool,
    offer_busy: bool,
    offer_next: Option<Offer>,
    done: CancellationToken,
    attached: Option<u64>,
    goodbye: Option<Goodbye>,
    error: Option<Error>,
}

impl LinkJob {
    pub(super) fn new(
        shared: Arc<Shared>,
        daemon: DaemonId,
        frames: UpFrames,
    ) -> (Box<Self>, DownFrames) {
        let options = &shared.options;
        let (down, down_rx) = mpsc::channel(options.channel.max(1));
        let (asks_tx, asks) = mpsc::channel(64);
        let (ending_tx, ending) = watch::channel(None);
        let link = ServerLink::new(
            daemon,
            options.limits.clone(),
            options.server_version.clone(),
            shared.clock.now(),
        );
        let job = LinkJob {
            daemon,
            link,
            frames,
            down,
            next: None,
            bell: Box::pin(tokio::time::sleep(Duration::ZERO)),
            rings_at: None,
            lanes: Lanes::default(),
            jobs: FuturesUnordered::new(),
            live: None,
            live_rx: None,
            over: CancellationToken::new(),
            nudge: Arc::new(Notify::new()),
            ending,
            ending_tx: Some(ending_tx),
            asks,
            asks_tx,
            questions: HashMap::new(),
            outbox_due: false,
            offer_busy: false,
            offer_next: None,
            done: CancellationToken::new(),
            attached: None,
            goodbye: None,
            error: None,
            shared,
        };
        (Box::new(job), down_rx)
    }

    /// Runs the link to its end. Boxed, so that the task of a silent link is small.
    pub(super) async fn run(mut self: Box<Self>) {
        loop {
            self.settle();
            if self.link.is_over() {
                break;
            }
            if !self.step().await {
                break;
            }
        }
        self.finish().await;
    }

    /// Handles all that the state machine says, and starts what can be started.
    fn settle(&mut self) {
        while let Some(event) = self.link.event() {
            self.event(event);
        }
        while let Some((session, work)) = self.lanes.next() {
            self.start(session, work);
        }
        self.read_outbox(None);
        self.send();
    }

    /// Hands over what is to be sent, as far as the transport has room.
    fn send(&mut self) {
        loop {
            if self.next.is_none() {
                self.next = self.link.send(self.shared.clock.now());
            }
            if self.next.is_none() {
                return;
            }
            let Ok(room) = self.down.try_reserve() else {
                return;
            };
            hand_over(room, &mut self.next);
        }
    }

    /// Waits for one thing. False: the transport is gone.
    async fn step(&mut self) -> bool {
        let due = self.link.next_deadline();
        if let Some(at) = due
            && self.rings_at != due
        {
            let pause = at.saturating_since(self.shared.clock.now());
            self.bell.as_mut().reset(Instant::now() + pause);
            self.rings_at = due;
        }
        let wake = tokio::select! {
            biased;
            Ok(()) = self.ending.changed() => Wake::Ending,
            Some(done) = self.jobs.next() => Wake::Done(done),
            Ok(room) = self.down.reserve(), if self.next.is_some() => {
                hand_over(room, &mut self.next);
                Wake::Tick
            }
            () = self.nudge.notified() => Wake::Nudge,
            // Whoever asks before the welcome is patient.
            Some(ask) = self.asks.recv(), if self.attached.is_some() => Wake::Ask(ask),
            frame = self.frames.next() => Wake::Frame(frame),
            () = self.down.closed() => Wake::Frame(None),
            () = self.bell.as_mut(), if due.is_some() => {
                self.rings_at = None;
                Wake::Tick
            }
        };
        match wake {
            Wake::Ending => {
                let ending = self.ending.borrow_and_update().clone();
                match ending {
                    Some(Ending::Drain { after, reason }) => self.link.drain(after, reason),
                    Some(Ending::Close(error)) => self.link.close(error),
                    Some(Ending::Superseded) => self.link.superseded(),
                    None => {}
                }
            }
            Wake::Done(done) => self.finished(done),
            Wake::Nudge => self.outbox_due = true,
            Wake::Ask(ask) => self.ask(*ask),
            Wake::Frame(frame) => {
                if !self.take(frame).await {
                    return false;
                }
            }
            Wake::Tick => {}
        }
        self.link.tick(self.shared.clock.now());
        true
    }

    /// Takes what the transport brought, and what it has at hand behind that: a turn of the actor costs more than a small
    /// frame. False: the transport is gone.
    async fn take(&mut self, brought: Option<Result<Box<Up>>>) -> bool {
        let now = self.shared.clock.now();
        let mut brought = brought;
        let mut taken = 0;
        loop {
            match brought {
                Some(Ok(frame)) => self.link.received(now, *frame),
                Some(Err(error)) => self.link.close(error),
                None => {
                    // What came before the end counts: the answer to a question does not come again.
                    self.settle();
                    return false;
                }
            }
            taken += 1;
            if taken == FRAMES_A_TURN || self.link.is_over() {
                return true;
            }
            let frames = &mut self.frames;
            match poll_fn(|task| Poll::Ready(frames.poll_next_unpin(task))).await {
                Poll::Ready(next) => brought = next,
                Poll::Pending => return true,
            }
        }
    }

    fn event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello(hello) => self.hello(*hello),
            ServerEvent::Records(records) => {
                self.lanes.push(records.session_id, Work::Records(records));
            }
            ServerEvent::Content(chunk) => self.lanes.push(chunk.session_id, Work::Content(chunk)),
            ServerEvent::Result(result) => {
                self.lanes.push(result.session_id, Work::Result(result));
            }
            ServerEvent::Report(report) => {
                self.lanes.push(report.session_id, Work::Report(report));
            }
            ServerEvent::Transient(transient) => {
                self.shared.handler.transient(self.daemon, transient);
            }
            ServerEvent::Offer(offer) => {
                self.offer_next = Some(*offer);
                self.tell_offer();
            }
            ServerEvent::QueryResult(result) => {
                if let Some(answer) = self.questions.remove(&result.id) {
                    // Whoever asked may have gone.
                    let _ = answer.send(result.result);
                }
            }
            ServerEvent::Goodbye(goodbye) => self.goodbye = Some(goodbye),
            ServerEvent::Close(error) => self.error = Some(error),
        }
    }

    fn hello(&mut self, hello: Hello) {
        let (shared, daemon) = (self.shared.clone(), self.daemon);
        let Some(ending) = self.ending_tx.take() else {
            return;
        };
        let (nudge, asks, done) = (self.nudge.clone(), self.asks_tx.clone(), self.done.clone());
        let (told, live) = oneshot::channel();
        self.jobs.push(Box::pin(async move {
            let mut epoch = 0;
            let result = async {
                epoch = epoch::next(&shared.store, daemon).await?;
                fault::point(fault::AFTER_EPOCH);
                let live = Arc::new(Live {
                    epoch,
                    attempt: (hello.boot_generation, hello.attempt),
                    attached: AtomicBool::new(false),
                    nudge,
                    ending,
                    asks,
                    done,
                });
                if let Some(old) = shared.register(daemon, live.clone())? {
                    // Calls of the old link are over before those of the new one begin, unless they hang.
                    let _ = tokio::time::timeout(HANDOVER, old.done.cancelled()).await;
                }
                let _ = told.send(live.clone());
                let introduction = Introduction {
                    daemon_id: daemon,
                    epoch,
                    boot_generation: hello.boot_generation,
                    offer: hello.offer,
                    reports: hello.sessions.clone(),
                };
                let mut claims: HashMap<SessionId, Claim> = shared
                    .handler
                    .hello(introduction)
                    .await?
                    .into_iter()
                    .collect();
                // Before anybody can read that the daemon is linked: who acts on it is not told that it is not.
                live.attached.store(true, Ordering::Release);
                shared.handler.attached(daemon, epoch).await;
                // In the order of the reports, each once.
                Ok(hello
                    .sessions
                    .iter()
                    .map(|report| report.session_id)
                    .filter_map(|id| claims.remove(&id).map(|claim| (id, claim)))
                    .collect())
            }
            .await;
            Done::Hello(epoch, result)
        }));
        self.live_rx = Some(live);
    }

    fn start(&mut self, session: SessionId, work: Work) {
        let (shared, daemon, epoch) = (self.shared.clone(), self.daemon, self.link.epoch());
        let retry = shared.options.limits.retry_delay;
        self.jobs.push(match work {
            Work::Records(records) => Box::pin(async move {
                let last = Position::new(
                    records.origin_epoch,
                    records.records.last().map_or(0, |record| record.origin_seq),
                );
                let begun = Instant::now();
                fault::point(fault::BEFORE_RECORDS);
                let result = shared.handler.records(daemon, epoch, records).await;
                Done::Records(session, last, begun, result)
            }),
            Work::Content(chunk) => Box::pin(async move {
                let result = shared.handler.content(daemon, epoch, chunk.clone()).await;
                if result.is_err() {
                    tokio::time::sleep(retry).await;
                }
                Done::Content(chunk, result)
            }),
            Work::Result(result) => Box::pin(async move {
                let stored = shared.handler.command_result(daemon, result.clone()).await;
                if stored.as_ref().is_err_and(|error| !settles(error)) {
                    tokio::time::sleep(retry).await;
                }
                Done::Result(result, stored)
            }),
            Work::Report(report) => Box::pin(async move {
                let claim = shared.handler.session_report(daemon, epoch, report).await;
                Done::Report(session, claim)
            }),
        });
    }

    fn finished(&mut self, done: Done) {
        match done {
            Done::Hello(epoch, result) => self.greeted(epoch, result),
            Done::Records(session, last, begun, result) => {
                self.stored(session, last, result);
                self.rest(session, begun);
            }
            Done::Rested(session, turn) => self.lanes.rested(session, turn),
            Done::Content(chunk, result) => {
                let session = chunk.session_id;
                match result {
                    Ok(next) => self.link.content_staged(&chunk, next, true),
                    Err(error) => {
                        tracing::warn!(%session, ?error, "content could not be staged");
                        self.lanes.drop_content(session);
                        self.link.content_staged(&chunk, 0, false);
                    }
                }
                self.lanes.done(session, None);
            }
            Done::Result(result, stored) => {
                let again = match stored {
                    Err(error) if !settles(&error) => {
                        tracing::warn!(command = %result.command_id, ?error, "a result could not be stored");
                        (!self.link.is_over()).then_some(result.clone())
                    }
                    _ => {
                        fault::point(fault::BEFORE_RESULT_ACK);
                        let was_full = self.link.is_full();
                        self.link
                            .result_stored(result.session_id, result.command_id);
                        self.outbox_due |= was_full;
                        None
                    }
                };
                self.lanes.done(result.session_id, again.map(Work::Result));
            }
            Done::Report(session, claim) => {
                match claim {
                    Ok(Claim::Own(origin)) => self.link.own(session, position(origin)),
                    Ok(Claim::Foreign) => self.foreign(session, "the session is not this daemon's"),
                    // The daemon reports again on its next link.
                    Err(error) => self.link.close(error),
                }
                self.lanes.done(session, None);
            }
            Done::Outbox(after, commands) => {
                if !commands.is_empty() {
                    fault::point(fault::BEFORE_COMMANDS);
                }
                for command in commands {
                    self.link.command(command);
                }
                self.link.page_ends();
                if after.is_some() {
                    self.read_outbox(after);
                }
            }
            Done::Deadline(query) => {
                self.link.query_dropped(query);
                // Whoever asked knows by itself that it is too late.
                self.questions.remove(&query);
            }
            Done::Nothing => {
                self.offer_busy = false;
                self.tell_offer();
            }
        }
    }

    fn greeted(&mut self, epoch: u64, result: Result<Vec<(SessionId, Claim)>>) {
        self.live = self
            .live_rx
            .take()
            .and_then(|mut live| live.try_recv().ok());
        match result {
            Ok(claims) => {
                self.attached = Some(epoch);
                let claims = claims.into_iter().map(|(session, claim)| match claim {
                    Claim::Own(origin) => (session, Some(position(origin))),
                    Claim::Foreign => (session, None),
                });
                self.link.welcome(self.shared.clock.now(), epoch, claims);
                self.outbox_due = true;
            }
            Err(error) => self.link.close(error),
        }
    }

    fn stored(&mut self, session: SessionId, last: Position, result: Result<Origin>) {
        match result {
            Ok(origin) => {
                fault::point(fault::BEFORE_ACK);
                self.link.stored(session, position(origin));
                if position(origin) < last {
                    self.lanes.drop_records(session);
                    self.link.refused(self.shared.clock.now(), session);
                }
            }
            Err(error) => {
                self.lanes.drop_records(session);
                match error.code() {
                    Code::Stale => self.link.superseded(),
                    Code::NotFound | Code::NoSession | Code::Forbidden => {
                        self.foreign(session, "the session is not this daemon's any more");
                    }
                    _ => {
                        tracing::warn!(%session, ?error, "records could not be stored");
                        self.link.refused(self.shared.clock.now(), session);
                    }
                }
            }
        }
    }

    /// Records of a session were stored, which began at `begun`: the next are, at once or when what comes was gathered long
    /// enough since then.
    fn rest(&mut self, session: SessionId, begun: Instant) {
        let until = self.shared.gather(session).map(|gather| begun + gather);
        let Some(until) = until.filter(|until| Instant::now() < *until) else {
            return self.lanes.done(session, None);
        };
        let Some(turn) = self.lanes.rest(session) else {
            return;
        };
        let over = self.over.clone();
        self.jobs.push(Box::pin(async move {
            // The end of the link waits for nothing more to come.
            let _ = tokio::time::timeout_at(until, over.cancelled()).await;
            Done::Rested(session, turn)
        }));
    }

    fn foreign(&mut self, session: SessionId, reason: &str) {
        self.lanes.drop_records(session);
        self.link.foreign(session, reason);
    }

    fn tell_offer(&mut self) {
        if self.offer_busy {
            return;
        }
        let Some(offer) = self.offer_next.take() else {
            return;
        };
        self.offer_busy = true;
        let (shared, daemon, epoch) = (self.shared.clone(), self.daemon, self.link.epoch());
        self.jobs.push(Box::pin(async move {
            if let Err(error) = shared.handler.offer(daemon, epoch, offer).await {
                tracing::warn!(%daemon, ?error, "what a daemon offers could not be noted");
            }
            Done::Nothing
        }));
    }

    /// Reads the outbox, from its beginning if that is due, or goes on after an entry.
    fn read_outbox(&mut self, after: Option<String>) {
        if self.link.reads_page() || !self.link.is_live() || (after.is_none() && !self.outbox_due) {
            return;
        }
        if after.is_none() {
            self.outbox_due = false;
            self.link.outbox_begins();
        }
        self.link.page_begins();
        let (shared, daemon, nudge) = (self.shared.clone(), self.daemon, self.nudge.clone());
        self.jobs.push(Box::pin(async move {
            let page = shared
                .store
                .pending(&daemon.to_string(), after.as_deref(), OUTBOX_PAGE)
                .await;
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%daemon, %error, "the outbox could not be read");
                    tokio::time::sleep(shared.options.limits.retry_delay).await;
                    nudge.notify_one();
                    return Done::Outbox(None, Vec::new());
                }
            };
            let more = (page.len() >= OUTBOX_PAGE)
                .then(|| page.last().map(|entry| entry.key.clone()))
                .flatten();
            let commands = page
                .iter()
                .filter_map(|entry| {
                    outbox::read(&entry.value)
                        .inspect_err(|error| {
                            tracing::error!(%daemon, entry = %entry.key, ?error, "a command cannot be read");
                        })
                        .ok()
                })
                .collect();
            Done::Outbox(more, commands)
        }));
    }

    fn ask(&mut self, ask: Ask) {
        if ask.answer.is_closed() {
            return;
        }
        let Some(id) = self.link.query(ask.body) else {
            let error = match self.link.is_live() {
                true => at_capacity(),
                false => disconnected(),
            };
            let _ = ask.answer.send(Err(error));
            return;
        };
        self.questions.insert(id, ask.answer);
        let deadline = ask.deadline;
        let over = self.over.clone();
        self.jobs.push(Box::pin(async move {
            // The end of the link does not wait for an answer.
            let _ = tokio::time::timeout_at(deadline, over.cancelled()).await;
            Done::Deadline(id)
        }));
    }

    /// The link is over: last words, what is under way, and the handler told.
    async fn finish(mut self: Box<Self>) {
        self.over.cancel();
        if let Some(error) = self.error.take() {
            tracing::info!(daemon = %self.daemon, %error, "a daemon's link was ended");
            let words = self.down.send(Err(error));
            let _ = tokio::time::timeout(LAST_WORDS, words).await;
        }
        if self.goodbye.is_none() {
            self.lanes.clear();
        }
        self.questions.clear();
        self.asks.close();
        while let Ok(ask) = self.asks.try_recv() {
            let _ = ask.answer.send(Err(disconnected()));
        }
        // The transport sees the end now; the rest is between us and the store.
        let (closed, _) = mpsc::channel(1);
        self.down = closed;
        self.frames = stream::empty().boxed();
        loop {
            while let Some((session, work)) = self.lanes.next() {
                self.start(session, work);
            }
            match self.jobs.next().await {
                Some(done) => self.finished(done),
                None => break,
            }
        }
        if let Some(live) = self.live.take().or_else(|| {
            let mut told = self.live_rx.take()?;
            told.try_recv().ok()
        }) {
            self.shared.unregister(self.daemon, live.epoch);
        }
        if let Some(epoch) = self.attached {
            let goodbye = self.goodbye.take();
            self.shared.handler.lost(self.daemon, epoch, goodbye).await;
        }
        self.done.cancel();
    }
}

/// Gives the transport the frame that is next.
fn hand_over(room: mpsc::Permit<'_, Result<Box<Down>>>, next: &mut Option<Down>) {
    let Some(frame) = next.take() else {
        return;
    };
    let is_command = matches!(frame, Down::Command(_));
    room.send(Ok(Box::new(frame)));
    if is_command {
        fault::point(fault::AFTER_COMMAND);
    }
}

/// Whether an error about a result says that there is nothing to store.
fn settles(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::NotFound | Code::NoSession | Code::Forbidden
    )
}

fn position(origin: Origin) -> Position {
    Position::new(origin.epoch, origin.seq)
}
