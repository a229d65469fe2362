//! What waits to be written to one socket, counted in bytes.
//!
//! Overflow policy: above the high mark nothing new is fetched, so that a reader who cannot keep up is
//! gone on with from its cursor later, and what is of low priority is left out; below the low mark it goes on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Message;
use futures_util::Sink;

/// Above it, nothing more is fetched for the socket.
pub const HIGH_BYTES: usize = 64 * 1024;
/// Below it, fetching goes on.
pub const LOW_BYTES: usize = 16 * 1024;
/// Above it, nothing is read from the socket either: its peer asks and does not read the answers.
pub const FULL_BYTES: usize = 256 * 1024;

/// Whether a message may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Never.
    Must,
    /// When the reader does not keep up: a later one says the same better.
    Low,
}

/// What waits to be written.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Message>,
    queued_bytes: usize,
    /// Given to the socket, and not known to be written.
    unwritten_bytes: usize,
    held_back: bool,
    skipped: u64,
    moved: bool,
}

impl Outbox {
    /// Takes a message, or leaves it out.
    pub fn push(&mut self, message: Message, priority: Priority) {
        if priority == Priority::Low && self.held_back {
            self.skipped += 1;
            tracing::debug!(
                buffered_bytes = self.bytes(),
                skipped = self.skipped,
                "left out an update: the reader does not keep up"
            );
            return;
        }
        self.queued_bytes += size(&message);
        self.queue.push_back(message);
        self.weigh();
    }

    /// Bytes that are not written yet.
    pub fn bytes(&self) -> usize {
        self.queued_bytes + self.unwritten_bytes
    }

    /// Whether there is nothing left to write.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.unwritten_bytes == 0
    }

    /// Whether there is room for what may come.
    pub fn takes_more(&self) -> bool {
        !self.held_back
    }

    /// Whether anything was written since this was asked last.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    fn weigh(&mut self) {
        let bytes = self.bytes();
        if bytes >= HIGH_BYTES {
            self.held_back = true;
        } else if bytes <= LOW_BYTES {
            self.held_back = false;
        }
    }

    /// Writes until all is written. What was begun is kept when this is not polled to its end.
    pub fn poll_drain<S, E>(&mut self, sink: &mut S, cx: &mut Context<'_>) -> Poll<Result<(), E>>
    where
        S: Sink<Message, Error = E> + Unpin,
    {
        loop {
            if self.queue.is_empty() {
                break;
            }
            ready!(Pin::new(&mut *sink).poll_ready(cx))?;
            let Some(message) = self.queue.pop_front() else {
                break;
            };
            let bytes = size(&message);
            self.queued_bytes -= bytes;
            self.unwritten_bytes += bytes;
            self.moved = true;
            Pin::new(&mut *sink).start_send(message)?;
        }
        ready!(Pin::new(&mut *sink).poll_flush(cx))?;
        self.unwritten_bytes = 0;
        self.moved = true;
        self.weigh();
        Poll::Ready(Ok(()))
    }
}

/// A message's size, with what its frame adds.
fn size(message: &Message) -> usize {
    const FRAME: usize = 10;
    FRAME
        + match message {
            Message::Text(text) => text.len(),
            Message::Binary(data) | Message::Ping(data) | Message::Pong(data) => data.len(),
            Message::Close(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Message {
        Message::text("x".repeat(bytes))
    }

    /// Takes `room` messages, and then none.
    struct Stuck {
        room: usize,
        taken: usize,
    }

    impl Sink<Message> for Stuck {
        type Error = std::convert::Infallible;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            if self.taken < self.room {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }

        fn start_send(mut self: Pin<&mut Self>, _: Message) -> Result<(), Self::Error> {
            self.taken += 1;
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            if self.taken < self.room {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn low_priority_is_left_out_between_the_marks_and_must_never() {
        let mut outbox = Outbox::default();
        outbox.push(text(HIGH_BYTES - 20), Priority::Must);
        assert!(outbox.takes_more());
        outbox.push(text(10), Priority::Low);
        assert!(!outbox.takes_more(), "the high mark is reached");
        let before = outbox.bytes();
        outbox.push(text(10), Priority::Low);
        assert_eq!((outbox.bytes(), outbox.skipped), (before, 1));
        outbox.push(text(10), Priority::Must);
        assert!(outbox.bytes() > before);

        // It stays so until the low mark, not only until the high one.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut stuck = Stuck { room: 1, taken: 0 };
        assert!(outbox.poll_drain(&mut stuck, &mut cx).is_pending());
        assert!(!outbox.takes_more() && outbox.has_moved());
        stuck.room = 10;
        assert!(outbox.poll_drain(&mut stuck, &mut cx).is_ready());
        assert!(outbox.takes_more() && outbox.is_empty());
        assert_eq!(stuck.taken, 3);
    }
}
