//! Following a session's log for as long as it takes.
//!
//! A follow is a cursor and the stream that moves it. When the stream is lost, whatever the reason, a
//! new one is opened at the cursor after a pause with full jitter; nothing is seen twice and a hole is
//! never passed over: a hole that stays is an error.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tonic::Streaming;

use super::calls::Client;
use super::failure::{error_of, is_lasting};
use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::domain::{Event, EventKind, Transient};
use crate::wire::enums::event_kind_to_pb;
use crate::wire::event::event_from_pb;
use crate::wire::transient::transient_from_pb;
use crate::wire::v1;

/// The server promises progress every 15 s; after three times that the stream is dead, whatever TCP thinks.
const SILENCE: Duration = Duration::from_secs(45);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A place in a session's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The log's epoch; 0 if it is not known yet.
    pub log_epoch: u64,
    /// The last seq that was seen; 0 is before the first.
    pub seq: u64,
}

/// How to follow.
#[derive(Clone, Debug, Default)]
pub struct FollowOptions {
    /// Where to start.
    pub from: Cursor,
    /// Start at the end instead.
    pub tail: bool,
    /// Only these kinds; empty means all.
    pub kinds: Vec<EventKind>,
    /// Whether to leave out what later events replace.
    pub conflate: bool,
    /// Whether to see transients.
    pub transients: bool,
}

/// What a follow saw.
#[derive(Clone, Debug)]
pub enum Followed {
    /// A stream is open: the log's oldest and newest seq.
    Started {
        /// The oldest seq there is.
        first: u64,
        /// The newest seq there was.
        head: u64,
    },
    /// The next event.
    Event(Box<Event>),
    /// Something live.
    Transient(Transient),
    /// Everything up to this seq was seen.
    Progress(u64),
    /// What was between the cursor and this seq is gone for good.
    Truncated {
        /// The oldest seq there is.
        oldest: u64,
    },
    /// The stream was lost; it is tried again after a pause.
    Lost {
        /// Why.
        error: Error,
        /// How long the pause is.
        pause: Duration,
    },
}

/// A session's log, one step after the other.
pub struct Follow {
    client: Client,
    session: SessionId,
    options: FollowOptions,
    cursor: Cursor,
    /// Whether a stream was ever open: before that, a failure is the caller's to see.
    begun: bool,
    /// Failures since something was last received.
    failures: u32,
    /// The seq before the last hole that was found, so that the same hole found again is an error.
    hole: Option<u64>,
    state: State,
    ready: VecDeque<Followed>,
}

enum State {
    Waiting(Option<Instant>),
    // Kept across calls, so that a caller that gives up waiting (in a `select!`) does not start it anew.
    Opening(BoxFuture<'static, Result<Streaming<v1::WatchResponse>>>),
    Open(Box<Streaming<v1::WatchResponse>>),
}

impl Follow {
    pub(super) fn new(client: Client, session: SessionId, options: FollowOptions) -> Self {
        Follow {
            client,
            session,
            cursor: options.from,
            options,
            begun: false,
            failures: 0,
            hole: None,
            state: State::Waiting(None),
            ready: VecDeque::new(),
        }
    }

    /// Where it is: what would be given as `from` to go on later.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next step. Dropping the future loses nothing. Errors are lasting: the session does not
    /// exist, the token is not valid, the log has a hole, or (before anything was received) the server
    /// cannot be reached.
    pub async fn next(&mut self) -> Result<Followed> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(step);
            }
            match &mut self.state {
                State::Waiting(until) => {
                    if let Some(until) = *until {
                        tokio::time::sleep_until(until).await;
                    }
                    self.state = State::Opening(self.open());
                }
                State::Opening(opening) => match opening.await {
                    Ok(stream) => self.state = State::Open(Box::new(stream)),
                    Err(error) => self.lost(error)?,
                },
                State::Open(stream) => {
                    let received = tokio::time::timeout(SILENCE, stream.message()).await;
                    match received {
                        Ok(Ok(Some(message))) => self.take(message)?,
                        Ok(Ok(None)) => self.lost(unavailable("the server ended the stream"))?,
                        Ok(Err(status)) => {
                            let error = error_of(self.client.url(), &status);
                            self.lost(error)?;
                        }
                        Err(_) => self.lost(unavailable("the server fell silent"))?,
                    }
                }
            }
        }
    }

    fn open(&self) -> BoxFuture<'static, Result<Streaming<v1::WatchResponse>>> {
        let request = v1::WatchRequest {
            scopes: vec![v1::Scope {
                scope: Some(v1::scope::Scope::Session(v1::SessionScope {
                    session_id: self.session.to_string(),
                    log_epoch: self.cursor.log_epoch,
                    after_seq: self.cursor.seq,
                    // Once begun, the cursor knows where the end was.
                    tail: self.options.tail && !self.begun,
                })),
            }],
            kinds: self
                .options
                .kinds
                .iter()
                .map(|kind| event_kind_to_pb(*kind).into())
                .collect(),
            conflate: self.options.conflate,
            transients: self.options.transients,
        };
        let client = self.client.clone();
        Box::pin(async move {
            let mut service = client.events();
            client.bounded(service.watch(request)).await
        })
    }

    fn is_whole(&self) -> bool {
        self.options.kinds.is_empty() && !self.options.conflate
    }

    fn take(&mut self, message: v1::WatchResponse) -> Result<()> {
        use v1::watch_response::Body;
        let Some(body) = message.body else {
            // Something newer than this program; a progress will follow.
            return Ok(());
        };
        match body {
            Body::Started(started) => {
                if self.options.tail && !self.begun {
                    self.cursor.seq = started.head;
                }
                if self.cursor.log_epoch == 0 {
                    self.cursor.log_epoch = started.log_epoch;
                }
                self.begun = true;
                self.ready.push_back(Followed::Started {
                    first: started.first,
                    head: started.head,
                });
            }
            Body::Events(batch) => {
                let events = batch.events().map_err(|problem| {
                    Error::new(
                        Code::InternalError,
                        "the server sent events that cannot be read",
                    )
                    .caused_by(problem)
                })?;
                for event in events {
                    if event.seq <= self.cursor.seq {
                        continue;
                    }
                    if self.is_whole() && event.seq != self.cursor.seq + 1 {
                        return self.hole(event.seq);
                    }
                    let seq = event.seq;
                    let event = event_from_pb(event)?;
                    self.advance(seq);
                    self.ready.push_back(Followed::Event(Box::new(event)));
                }
            }
            Body::Progress(progress) => {
                if self.is_whole() && progress.through > self.cursor.seq {
                    return self.hole(progress.through + 1);
                }
                if progress.through > self.cursor.seq {
                    self.advance(progress.through);
                }
                self.failures = 0;
                self.ready.push_back(Followed::Progress(self.cursor.seq));
            }
            Body::Truncated(truncated) => {
                self.cursor = Cursor {
                    log_epoch: truncated.log_epoch,
                    seq: truncated.oldest_seq.saturating_sub(1),
                };
                self.hole = None;
                self.ready.push_back(Followed::Truncated {
                    oldest: truncated.oldest_seq,
                });
            }
            Body::Transient(transient) => {
                // A transient is never owed: one that cannot be read is left out.
                if let Ok(transient) = transient_from_pb(transient) {
                    self.ready.push_back(Followed::Transient(transient));
                }
            }
            Body::Changes(_) => {}
        }
        Ok(())
    }

    fn advance(&mut self, seq: u64) {
        self.cursor.seq = seq;
        self.failures = 0;
        self.hole = None;
    }

    /// Something is missing before `next`: asked for once more, and then an error.
    fn hole(&mut self, next: u64) -> Result<()> {
        let problem = format!(
            "events {} to {} of {} are missing",
            self.cursor.seq + 1,
            next.saturating_sub(1),
            self.session
        );
        if self.hole == Some(self.cursor.seq) {
            return Err(Error::new(Code::InternalError, problem));
        }
        self.hole = Some(self.cursor.seq);
        self.lost(unavailable(&problem))
    }

    fn lost(&mut self, error: Error) -> Result<()> {
        if !self.begun || is_lasting(error.code()) {
            // What comes next, if anybody asks, is a new try.
            self.state = State::Waiting(None);
            return Err(error);
        }
        let pause = error
            .retry_delay()
            .unwrap_or_else(|| pause(self.failures, rand::random()));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(Some(Instant::now() + pause));
        self.ready.push_back(Followed::Lost { error, pause });
        Ok(())
    }
}

fn unavailable(problem: &str) -> Error {
    Error::new(Code::Unavailable, problem)
}

/// Full jitter: anything between nothing and a bound that doubles with every failure. `random` is 0 to 1.
pub(super) fn pause(failures: u32, random: f64) -> Duration {
    FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(failures.min(16)))
        .min(LONGEST_PAUSE)
        .mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
