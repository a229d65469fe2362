//! One socket from its first word to its last, whatever is said on it.

use std::future::poll_fn;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, close_code};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde_json::Value;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::Timing;
use super::outbox::{FULL_BYTES, Outbox, Priority};
use crate::base::{Code, Error, Result, Woken};

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Something to say.
pub struct Frame {
    /// The message; those that many are told share their memory.
    pub text: Utf8Bytes,
    /// Whether it may be left out.
    pub priority: Priority,
}

impl Frame {
    /// One that must be said.
    pub fn must(value: Value) -> Self {
        Frame::text(value.to_string())
    }

    /// One that must be said, as it is.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Frame {
            text: text.into(),
            priority: Priority::Must,
        }
    }

    /// One that may be left out when the reader does not keep up.
    pub fn low(value: Value) -> Self {
        Frame {
            text: value.to_string().into(),
            priority: Priority::Low,
        }
    }
}

/// What a dialect says and understands.
pub trait Talk: Send + 'static {
    /// What comes next; waits for it. Dropping the wait loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Frame>>> + Send;

    /// Does what a message asks, and what is to be said to it.
    fn hear(&mut self, text: &str) -> impl Future<Output = Vec<Frame>> + Send;

    /// A sign of life, in dialects that have one.
    fn heartbeat(&self) -> Option<Value>;

    /// Everything that was to be said is in the socket.
    fn written(&mut self) {}

    /// What is said when something goes wrong.
    fn error(&self, error: &Error) -> Value;

    /// Whether everything was said.
    fn is_over(&self) -> bool;
}

/// How a socket ends.
enum Ending {
    /// The peer left, or cannot be reached.
    Gone,
    /// Everything was said.
    Done,
    /// For a reason that the peer is told.
    Because(Error),
}

pub(super) async fn run<S, T, E>(
    socket: S,
    mut talk: Box<T>,
    timing: Timing,
    end: impl Future<Output = Error>,
    closing: CancellationToken,
) where
    S: Stream<Item = std::result::Result<Message, E>> + Sink<Message, Error = E>,
    T: Talk,
{
    let (mut sink, mut stream) = Box::pin(socket).split();
    let mut outbox = Outbox::default();
    let mut beat = interval_at(Instant::now() + timing.heartbeat, timing.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    // Asked when it rings, and not with every event.
    let mut end = Woken::new(async move {
        tokio::select! {
            error = end => error,
            () = closing.cancelled() => Error::closing(),
        }
    });
    let ending = loop {
        if talk.is_over() && outbox.is_empty() {
            break Ending::Done;
        }
        tokio::select! {
            // Its end and its heart before what may always be ready; what the peer says before what it is told.
            biased;
            error = poll_fn(|cx| end.poll(cx)) => break Ending::Because(error),
            _ = beat.tick() => {
                // Who takes what is written lives, even if it says nothing.
                if outbox.has_moved() && !outbox.is_empty() {
                    heard = Instant::now();
                }
                if heard.elapsed() >= timing.dead_after {
                    tracing::debug!("a socket was cut: its peer is silent");
                    return;
                }
                if let Some(sign) = talk.heartbeat() {
                    push(&mut outbox, Frame::low(sign));
                }
                outbox.push(Message::Ping(axum::body::Bytes::new()), Priority::Low);
            }
            said = stream.next(), if outbox.bytes() < FULL_BYTES => {
                heard = Instant::now();
                match said {
                    Some(Ok(Message::Text(text))) => {
                        // Boxed: it is seldom, and what it does needs room.
                        for frame in Box::pin(talk.hear(text.as_str())).await {
                            push(&mut outbox, frame);
                        }
                    }
                    Some(Ok(Message::Binary(_))) => {
                        let error = Error::invalid("message", "must be a text, not binary");
                        push(&mut outbox, Frame::must(talk.error(&error)));
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break Ending::Gone,
                }
            }
            said = talk.next(), if outbox.takes_more() => match said {
                Ok(frames) => frames.into_iter().for_each(|frame| push(&mut outbox, frame)),
                Err(error) => break Ending::Because(error),
            },
            written = poll_fn(|cx| outbox.poll_drain(&mut sink, cx)), if !outbox.is_empty() => {
                if written.is_err() {
                    break Ending::Gone;
                }
                talk.written();
            }
        }
    };
    let (code, reason) = match &ending {
        Ending::Gone => {
            // Answers a close frame, if that is what came.
            let _ = timeout(FAREWELL, sink.close()).await;
            return;
        }
        Ending::Done => (close_code::NORMAL, String::new()),
        Ending::Because(error) => {
            push(&mut outbox, Frame::must(talk.error(error)));
            (code_of(error), error.code().as_str().to_owned())
        }
    };
    let close = Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }));
    outbox.push(close, Priority::Must);
    // Whoever does not listen misses it.
    let _ = timeout(FAREWELL, async {
        poll_fn(|cx| outbox.poll_drain(&mut sink, cx)).await?;
        sink.close().await
    })
    .await;
}

fn push(outbox: &mut Outbox, frame: Frame) {
    outbox.push(Message::Text(frame.text), frame.priority);
}

fn code_of(error: &Error) -> u16 {
    match error.code() {
        Code::Unauthenticated | Code::Forbidden => close_code::POLICY,
        Code::Unavailable => close_code::RESTART,
        Code::InternalError => close_code::ERROR,
        _ => close_code::AWAY,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    /// A peer on two channels; when `out` is full it does not read.
    struct Peer {
        said: mpsc::Receiver<Message>,
        out: tokio_util::sync::PollSender<Message>,
    }

    impl Stream for Peer {
        type Item = std::result::Result<Message, Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.said.poll_recv(cx).map(|said| said.map(Ok))
        }
    }

    impl Sink<Message> for Peer {
        type Error = Infallible;

        fn poll_ready(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Infallible>> {
            self.out.poll_reserve(cx).map(|_| Ok(()))
        }

        fn start_send(
            mut self: Pin<&mut Self>,
            item: Message,
        ) -> std::result::Result<(), Infallible> {
            let _ = self.out.send_item(item);
            Ok(())
        }

        fn poll_flush(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Infallible>> {
            self.out.close();
            Poll::Ready(Ok(()))
        }
    }

    /// Counts up for as long as it is asked.
    struct Counting(Arc<AtomicUsize>);

    impl Talk for Counting {
        async fn next(&mut self) -> Result<Vec<Frame>> {
            tokio::task::yield_now().await;
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let must = Frame::must(json!({ "n": number, "pad": "x".repeat(1_000) }));
            Ok(vec![must, Frame::low(json!({ "low": number }))])
        }

        async fn hear(&mut self, text: &str) -> Vec<Frame> {
            vec![Frame::must(json!({ "heard": text }))]
        }

        fn heartbeat(&self) -> Option<Value> {
            Some(json!({ "type": "heartbeat" }))
        }

        fn error(&self, error: &Error) -> Value {
            json!({ "error": error.code().as_str() })
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    fn timing() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(50),
            dead_after: Duration::from_millis(100),
        }
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_a_bounded_amount_and_is_cut() {
        let (_tell, said) = mpsc::channel(1);
        let (out, mut read) = mpsc::channel(1);
        let fetched = Arc::new(AtomicUsize::new(0));
        let peer = Peer {
            said,
            out: tokio_util::sync::PollSender::new(out),
        };
        let talk = Counting(fetched.clone());
        let token = CancellationToken::new();
        // It returns by itself: the peer is silent and takes nothing.
        let end = std::future::pending();
        run(peer, Box::new(talk), timing(), end, token).await;
        let fetched = fetched.load(Ordering::Relaxed);
        assert!(
            (30..=80).contains(&fetched),
            "{fetched} of about a kilobyte"
        );
        assert!(matches!(read.recv().await, Some(Message::Text(_))));
    }

    #[tokio::test]
    async fn what_must_be_said_is_said_to_a_slow_reader_in_order_and_without_a_gap() {
        let (tell, said) = mpsc::channel(1);
        let (out, mut read) = mpsc::channel(1);
        let peer = Peer {
            said,
            out: tokio_util::sync::PollSender::new(out),
        };
        let token = CancellationToken::new();
        let long = Timing::default();
        let talk = Box::new(Counting(Arc::default()));
        let job = tokio::spawn(run(peer, talk, long, std::future::pending(), token.clone()));
        tell.send(Message::text("hello")).await.unwrap();
        let (mut next, mut lows, mut answered) = (0, 0, false);
        while next < 500 {
            let Some(Message::Text(text)) = read.recv().await else {
                panic!("it ended");
            };
            let value: Value = serde_json::from_str(&text).unwrap();
            if let Some(number) = value["n"].as_u64() {
                assert_eq!(number, next);
                next += 1;
            }
            lows += u64::from(!value["low"].is_null());
            answered |= value["heard"] == "hello";
            // Slower than what comes.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        assert!(answered);
        assert!(
            lows < next,
            "some of what may be left out was: {lows} of {next}"
        );
        token.cancel();
        let mut last = None;
        while let Some(message) = read.recv().await {
            last = Some(message);
        }
        assert!(
            matches!(last, Some(Message::Close(Some(frame))) if frame.code == close_code::RESTART)
        );
        job.await.unwrap();
    }
}
