//! An attachment to a terminal for as long as it takes.
//!
//! Like [`super::Follow`] for logs: an offset and the stream that moves it. When the stream is lost, a new one is
//! opened at the offset after a pause; nothing is shown twice. What was typed and not taken is not typed again:
//! nobody can know whether the program has it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::calls::Client;
use super::failure::{error_of, is_lasting};
use super::follow::pause;
use crate::base::{Code, Error, Result};
use crate::wire::v1;
use crate::wire::v1::attach_request::Body as Sent;
use crate::wire::v1::attach_response::Body as Answer;
use crate::wire::v1::watch_terminal_response::Body as Shown;

/// The server has a word every 15 s; after three times that the stream is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// Messages on their way to the server; who types more waits.
const OUTGOING: usize = 64;
/// Every so many bytes the server is told how far they were consumed.
const ACK_EVERY: u64 = 64 * 1024;

/// What an attachment saw.
#[derive(Clone, Debug)]
pub enum Attached {
    /// A stream is open. What comes before `live` was shown before.
    Started {
        /// The offset of the first byte that follows.
        offset: u64,
        /// The offset of the first byte that is new.
        live: u64,
    },
    /// Bytes.
    Output(v1::TerminalOutput),
    /// The size that holds changed.
    Size(v1::TerminalSize),
    /// Bytes are missing.
    Truncated,
    /// Input was not typed.
    Refused(v1::InputRefused),
    /// The program has ended; nothing follows.
    Exit(v1::TerminalExit),
    /// The stream was lost; it is tried again after a pause.
    Lost {
        /// Why.
        error: Error,
        /// How long the pause is.
        pause: Duration,
    },
}

enum State {
    Waiting(Instant),
    Opening(BoxFuture<'static, Result<Streaming<v1::AttachResponse>>>),
    Open(Box<Streaming<v1::AttachResponse>>),
}

/// An attachment to a terminal.
pub struct Attachment {
    client: Client,
    terminal_id: String,
    size: Option<v1::TerminalSize>,
    /// How many of the newest bytes to begin with, until something was shown.
    tail: Option<u64>,
    offset: u64,
    acked: u64,
    to: mpsc::Sender<v1::AttachRequest>,
    state: State,
    failures: u32,
    heard: Instant,
}

impl Client {
    /// Attaches to a terminal, over restarts of the server. `size` is that of the viewer, `None` for one that has
    /// none; `tail` begins with at most so many of the newest bytes instead of all that is kept.
    pub fn attach(
        &self,
        terminal_id: String,
        size: Option<v1::TerminalSize>,
        tail: Option<u64>,
    ) -> Attachment {
        let (to, _) = mpsc::channel(1);
        Attachment {
            client: self.clone(),
            terminal_id,
            size,
            tail,
            offset: 0,
            acked: 0,
            to,
            state: State::Waiting(Instant::now()),
            failures: 0,
            heard: Instant::now(),
        }
    }
}

impl Attachment {
    /// What comes next. Cancelling the wait loses nothing. An error is final.
    pub async fn next(&mut self) -> Result<Attached> {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    self.state = State::Opening(self.open());
                }
                State::Opening(opening) => match opening.await {
                    Ok(stream) => {
                        self.heard = Instant::now();
                        self.state = State::Open(Box::new(stream));
                    }
                    Err(error) => return self.lost(error),
                },
                State::Open(stream) => {
                    let message =
                        tokio::time::timeout_at(self.heard + SILENCE, stream.message()).await;
                    let url = self.client.url();
                    let message = match message {
                        Err(_) => Err(Error::new(Code::Unavailable, "the server fell silent")),
                        Ok(Err(status)) => Err(error_of(url, &status)),
                        Ok(Ok(None)) => Err(Error::new(Code::Unavailable, "the stream ended")),
                        Ok(Ok(Some(message))) => Ok(message),
                    };
                    match message {
                        Err(error) => return self.lost(error),
                        Ok(message) => {
                            self.heard = Instant::now();
                            self.failures = 0;
                            if let Some(attached) = self.take(message) {
                                return Ok(attached);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Types bytes; false while there is no stream, and then they are gone.
    pub async fn input(&self, data: Bytes) -> bool {
        self.send(Sent::Input(data)).await
    }

    /// The viewer has another size.
    pub async fn resize(&mut self, size: v1::TerminalSize) {
        self.size = Some(size);
        self.send(Sent::Size(size)).await;
    }

    /// Everything that was given out was consumed: more may come.
    pub async fn consumed(&mut self) {
        if self.offset >= self.acked + ACK_EVERY && self.send(Sent::AckOffset(self.offset)).await {
            self.acked = self.offset;
        }
    }

    async fn send(&self, body: Sent) -> bool {
        let request = v1::AttachRequest { body: Some(body) };
        matches!(self.state, State::Open(_)) && self.to.send(request).await.is_ok()
    }

    fn open(&mut self) -> BoxFuture<'static, Result<Streaming<v1::AttachResponse>>> {
        let (to, outgoing) = mpsc::channel(OUTGOING);
        let first = v1::AttachRequest {
            body: Some(Sent::Open(v1::AttachOpen {
                view: Some(v1::TerminalView {
                    terminal_id: self.terminal_id.clone(),
                    offset: self.offset,
                    tail: self.tail,
                    size: self.size,
                }),
                window_bytes: 0,
            })),
        };
        // There is room: the channel is new.
        let _ = to.try_send(first);
        self.to = to;
        let client = self.client.clone();
        Box::pin(async move {
            let mut service = client.terminals();
            client
                .bounded(service.attach(ReceiverStream::new(outgoing)))
                .await
        })
    }

    fn take(&mut self, message: v1::AttachResponse) -> Option<Attached> {
        match message.body? {
            Answer::InputRefused(refused) => Some(Attached::Refused(refused)),
            Answer::Shown(shown) => match shown.body? {
                Shown::Started(started) => {
                    self.tail = None;
                    let live = started.next_offset.max(self.offset);
                    (self.offset, self.acked) = (started.offset, started.offset);
                    Some(Attached::Started {
                        offset: started.offset,
                        live,
                    })
                }
                Shown::Output(output) => {
                    self.offset = output.offset + output.data.len() as u64;
                    Some(Attached::Output(output))
                }
                Shown::Size(size) => Some(Attached::Size(size)),
                Shown::Truncated(truncated) => {
                    self.offset = truncated.oldest_offset;
                    Some(Attached::Truncated)
                }
                Shown::Progress(_) => None,
                Shown::Exit(exit) => Some(Attached::Exit(exit)),
            },
        }
    }

    fn lost(&mut self, error: Error) -> Result<Attached> {
        if is_lasting(error.code()) {
            return Err(error);
        }
        self.failures += 1;
        let pause = error
            .retry_delay()
            .unwrap_or_else(|| pause(self.failures, rand::random()));
        self.state = State::Waiting(Instant::now() + pause);
        Ok(Attached::Lost { error, pause })
    }
}
