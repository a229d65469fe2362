//! One task per live session: everything that changes a session happens here, one step after another.
//!
//! Steps that wait together are committed together. A step that fails leaves no trace; a commit that
//! fails undoes all its steps and tells each caller. An actor whose session is over, and that has had
//! nothing to do for a while, goes away; the next call brings it back from the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::live::Live;
use super::step::{Changes, Logged, Step};
use super::{Shared, fault, timers};
use crate::app::records;
use crate::base::id::SessionId;
use crate::base::{Error, Result};
use crate::domain::{EventBody, Lifecycle};
use crate::store::{Append, Commit, Entries, Expect, Stream};
use crate::wire;

/// How many steps may wait for a session; a caller beyond that waits for its turn.
pub(super) const QUEUE: usize = 256;
/// How many steps go into one commit.
const BATCH: usize = 64;
/// With so many bytes of events no further step goes into a commit. A reader who is behind takes what one commit has added
/// to a log as a whole, each for itself.
const BATCH_BYTES: usize = 128 << 10;
/// About what an event's seq, time and length take where it is stored.
const PLACE_BYTES: usize = 32;
/// How long an actor whose session is over stays.
const LINGER: Duration = Duration::from_secs(10);
/// How long a session's record may be behind its log in what every event moves.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// The longest an actor sleeps before it looks at the clock again: a machine may have slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Tells a caller how its step ended, after the commit.
pub(super) type Finish = Box<dyn FnOnce(&Result<()>) + Send>;
/// A step: returns what to tell the caller after the commit, or nothing if the caller has been told.
pub(super) type Job = Box<dyn FnOnce(&mut Step<'_>) -> Option<Finish> + Send>;

/// What is known of a session's record in the store.
///
/// A busy session's log grows hundreds of times a second, and its record with it: by when that was, and by how much. That
/// much of it is written at most once in [`RECORD_EVERY`]; whatever else changes is written with its cause.
#[derive(Default)]
struct Recorded {
    /// When it was last written; `None` if that is long ago.
    at: Option<Instant>,
    /// Whether the log has grown since then.
    is_behind: bool,
}

impl Recorded {
    /// When it is to be written, if it is behind.
    fn due(&self) -> Option<Instant> {
        self.is_behind
            .then(|| self.at.map_or_else(Instant::now, |at| at + RECORD_EVERY))
    }

    fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// Whether it may be written now for no more than that the log grew.
    fn is_old(&self) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= RECORD_EVERY)
    }
}

/// Runs a session's steps until nothing needs it any more. Most sessions are silent most of the time, so what a commit needs
/// lies in boxes beside the task, and only as long as it lasts.
pub(super) async fn run(shared: Arc<Shared>, mut live: Box<Live>, mut jobs: mpsc::Receiver<Job>) {
    let id = live.session.id;
    let mut recorded = Recorded::default();
    let mut idle_since = Instant::now();
    // What a commit has left to the next.
    let mut batch = VecDeque::new();
    loop {
        let sleep = next_wake(&shared, &live, &recorded, idle_since);
        let mut is_last = false;
        if batch.is_empty() {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => batch.push_back(job),
                    None if recorded.is_behind => is_last = true,
                    None => return,
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(job) => batch.push_back(job),
                Err(_) => break,
            }
        }
        let is_written = is_last || recorded.is_due();
        if batch.is_empty() && !is_written && !is_due(&shared, &live) {
            let lingered = idle_since.elapsed() >= LINGER;
            if lingered && !live.session.lifecycle.is_living() && shared.retire(id, &jobs) {
                return;
            }
            continue;
        }
        idle_since = Instant::now();
        let committed = commit_batch(&shared, &mut live, &mut batch, &mut recorded, is_written);
        let committed = Box::pin(committed).await;
        if batch.is_empty() {
            // Most sessions are silent for long after they said something.
            batch = VecDeque::new();
        }
        match committed {
            Ok(()) if is_last => return,
            Ok(()) if live.deleted => {
                shared.forget(id);
                return;
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(session = %id, ?error, "a change of the session could not be stored");
                if is_last {
                    return;
                }
                // A record that is behind still is, and is tried again.
                recorded.at = Some(Instant::now());
                // The store's word decides: what this actor believed may be behind.
                match Box::pin(Live::load(shared.store.as_ref(), id)).await {
                    Ok(Some(mut fresh)) => {
                        fresh.prompt_expiry = shared.options.prompt_expiry;
                        *live = fresh;
                    }
                    Ok(None) | Err(_) => {
                        shared.forget(id);
                        return;
                    }
                }
            }
        }
    }
}

fn next_wake(shared: &Shared, live: &Live, recorded: &Recorded, idle_since: Instant) -> Duration {
    let now = shared.clock.now();
    let due = live
        .next_due(shared.options.grace)
        .map(|due| due.saturating_since(now));
    let linger =
        (!live.session.lifecycle.is_living()).then(|| LINGER.saturating_sub(idle_since.elapsed()));
    let record = recorded
        .due()
        .map(|due| due.saturating_duration_since(Instant::now()));
    due.into_iter()
        .chain(linger)
        .chain(record)
        .min()
        .unwrap_or(LONGEST_SLEEP)
        .min(LONGEST_SLEEP)
        .max(Duration::from_millis(1))
}

fn is_due(shared: &Shared, live: &Live) -> bool {
    live.next_due(shared.options.grace)
        .is_some_and(|due| due <= shared.clock.now())
}

async fn commit_batch(
    shared: &Shared,
    live: &mut Live,
    batch: &mut VecDeque<Job>,
    recorded: &mut Recorded,
    write_record: bool,
) -> Result<()> {
    let now = shared.clock.now();
    let expected = Expected {
        log: live.last_seq,
        terminal: live.terminal.unwrap_or_default().last_seq,
    };
    // What the steps leave; `None` while there is none that changed anything.
    let mut working: Option<Live> = None;
    let mut changes = Changes {
        session_changed: write_record,
        write_record,
        ..Changes::default()
    };
    let mut finishes = Vec::new();

    if is_due(shared, live) {
        let mut next = live.clone();
        let mut own = Changes::default();
        let mut step = shared.begin(&mut next, &mut own, now);
        match timers::fire(&mut step, shared.options.grace) {
            Ok(()) => {
                working = Some(next);
                changes.absorb(own);
            }
            Err(error) => tracing::warn!(session = %live.session.id, ?error, "a timer failed"),
        }
    }
    while changes.bytes < BATCH_BYTES
        && let Some(job) = batch.pop_front()
    {
        let mut next = working.as_ref().unwrap_or(live).clone();
        let mut own = Changes::default();
        let mut step = shared.begin(&mut next, &mut own, now);
        if let Some(finish) = job(&mut step) {
            working = Some(next);
            changes.absorb(own);
            finishes.push(finish);
        }
    }
    let after = working.as_ref().unwrap_or(live);
    let grew = changes.session_changed;
    changes.session_changed = grew
        && (changes.write_record
            || recorded.is_old()
            || !after.session.is_only_busier_than(&live.session));
    let is_written = changes.session_changed;
    if grew && !is_written && !recorded.is_behind {
        // Before anybody is told: who searches from then on has the record written first.
        recorded.is_behind = true;
        shared.behind(after.session.id, true);
    }
    let (nudge, daemon) = (changes.nudge, after.session.daemon_id);
    let outcome = store(shared, after, changes, expected).await;
    for finish in finishes {
        finish(&outcome);
    }
    // Last, so that it is seen to first: who is woken last runs next, and an agent waits for its command longer than whoever
    // gave it waits for the answer.
    if nudge && outcome.is_ok() {
        shared.nudges.nudge(daemon);
    }
    if outcome.is_ok() {
        if is_written {
            recorded.at = Some(Instant::now());
            if std::mem::take(&mut recorded.is_behind) {
                shared.behind(live.session.id, false);
            }
        }
        if let Some(mut working) = working {
            working.unsettled.clear();
            *live = working;
        }
    }
    outcome
}

/// The newest entries of a session's streams before a commit.
struct Expected {
    log: u64,
    terminal: u64,
}

async fn store(shared: &Shared, live: &Live, changes: Changes, expected: Expected) -> Result<()> {
    let id = live.session.id;
    let mut commit = Commit {
        ops: changes.ops.into_values().collect(),
        ..Commit::default()
    };
    commit.trims.extend(changes.trim);
    commit.trims.extend(changes.terminal_trim);
    if !live.deleted {
        if changes.session_changed {
            commit.ops.push(records::put(
                records::session_key(id),
                &live.session,
                Expect::Any,
            )?);
        }
        if !changes.events.is_empty() || changes.origin.is_some() {
            let entries = entries(&changes.events);
            commit.appends.push(Append {
                stream: Stream::session(id),
                expected_last: expected.log,
                fence: 0,
                entries,
                origin: changes.origin,
                time: shared.clock.now(),
            });
        }
    }
    if !live.deleted && !changes.shown.is_empty() {
        commit.appends.push(Append {
            stream: Stream::terminal(id),
            expected_last: expected.terminal,
            fence: 0,
            entries: changes.shown.into(),
            origin: None,
            time: shared.clock.now(),
        });
    }
    commit.appends.extend(changes.also);
    if commit.ops.is_empty() && commit.appends.is_empty() && commit.trims.is_empty() {
        return Ok(());
    }
    fault::point(fault::BEFORE_COMMIT);
    shared.commit(commit).await?;
    fault::point(fault::AFTER_COMMIT);
    shared.budgets.committed(&live.unsettled);
    for event in changes.events.iter().filter_map(Logged::whole) {
        if let EventBody::Ended { end } = &event.body {
            metrics::counter!("baton_sessions_ended_total", "reason" => end.reason.as_str())
                .increment(1);
        }
    }
    shared
        .transients
        .committed(changes.events.iter().filter_map(Logged::whole));
    if live.session.lifecycle == Lifecycle::Ended {
        shared.transients.ended(id);
    }
    Ok(())
}

/// Events as they are stored.
fn entries(events: &[Logged]) -> Entries {
    let sizes = events.iter().map(|event| event.placed().2.len());
    let mut entries = Entries::with_capacity(sizes.map(|size| size + PLACE_BYTES).sum());
    let mut place = Vec::new();
    for logged in events {
        match logged {
            Logged::Whole { event, came } if came.is_empty() => {
                entries.push(&wire::encode_event(event));
            }
            Logged::Whole { .. } | Logged::Kept { .. } => {
                let (seq, time, came) = logged.placed();
                place.clear();
                wire::put_place(&mut place, seq, time);
                entries.push_parts([&place, came]);
            }
        }
    }
    entries
}

/// Turns a function into a job and a receiver of its answer, which comes after the commit.
pub(super) fn job<T: Send + 'static>(
    step: impl FnOnce(&mut Step<'_>) -> Result<T> + Send + 'static,
) -> (Job, tokio::sync::oneshot::Receiver<Result<T>>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let job: Job = Box::new(move |current| match step(current) {
        Ok(value) => {
            let finish: Finish = Box::new(move |outcome| {
                let _ = tell.send(outcome.clone().map(|()| value));
            });
            Some(finish)
        }
        Err(error) => {
            let _ = tell.send(Err(error));
            None
        }
    });
    (job, told)
}

/// What a caller is told whose actor went away without an answer.
pub(super) fn gone(id: SessionId) -> Error {
    Error::internal(format!("the actor of session {id} ended without an answer"))
}
