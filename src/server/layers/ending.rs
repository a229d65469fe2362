//! Innermost: ends what still streams when its token is revoked, its deadline passes, or its connection
//! is about to be cut. Both directions end, so that nobody reads on from a caller that is no longer let in.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Guards;
use super::observe::last_frame;
use super::reject::{Shape, reject};
use crate::app::access::Caller;
use crate::base::{Code, Error, Woken};
use crate::server::connection::ConnectionInfo;
use crate::wire::status::status_from_error;

pub(super) async fn end(
    State(guards): State<Arc<Guards>>,
    request: Request,
    next: Next,
) -> Response {
    let shape = Shape::of(&request);
    let deadline = match timeout(request.headers()) {
        Ok(timeout) => timeout.map(|timeout| Instant::now() + timeout),
        Err(error) => return reject(shape, &error),
    };
    let cause = Cause {
        guards,
        caller: request.extensions().get::<Caller>().cloned(),
        connection: request.extensions().get::<ConnectionInfo>().cloned(),
        deadline,
    };
    let ended = Arc::new(OnceLock::new());
    let request = request.map(|inner| {
        Body::new(EndingBody::new(
            inner,
            cause.watch(),
            OnEnd::Fail,
            ended.clone(),
        ))
    });
    let answer = next.run(request);
    let response = match deadline {
        None => answer.await,
        Some(deadline) => match timeout_at(deadline, answer).await {
            Ok(response) => response,
            Err(_) => return reject(shape, &too_late()),
        },
    };
    response.map(|inner| {
        Body::new(EndingBody::new(
            inner,
            cause.watch(),
            OnEnd::Frame(shape),
            ended,
        ))
    })
}

/// Why a stream may have to end.
struct Cause {
    guards: Arc<Guards>,
    caller: Option<Caller>,
    connection: Option<ConnectionInfo>,
    deadline: Option<Instant>,
}

impl Cause {
    fn watch(&self) -> BoxFuture<'static, Error> {
        let validity = self
            .caller
            .as_ref()
            .map(|caller| Box::pin(self.guards.access.watch_validity(caller)));
        let connection = self.connection.clone();
        let deadline = self.deadline.map(|at| Box::pin(sleep_until(at)));
        // Two for each stream, and most streams are silent: what they wait for lies in boxes, so that it is there once.
        Box::pin(async move {
            let ending = connection.map(|it| Box::pin(async move { it.ending().await }));
            tokio::select! {
                error = or_never(validity) => error,
                () = or_never(ending) => Error::closing().maybe_done(),
                () = or_never(deadline) => too_late(),
            }
        })
    }
}

async fn or_never<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn too_late() -> Error {
    Error::new(Code::Timeout, "the caller's deadline has passed").maybe_done()
}

/// The deadline that a gRPC caller sets: at most eight digits and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let bad = || {
        Error::invalid(
            "grpc-timeout",
            "must be 1 to 8 digits and one of H, M, S, m, u, n",
        )
    };
    let text = value.to_str().map_err(|_| bad())?;
    let split = text.len().checked_sub(1).ok_or_else(bad)?;
    let (digits, unit) = text.split_at_checked(split).ok_or_else(bad)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(bad()),
    }))
}

/// How a body ends that is made to.
#[derive(Clone, Copy)]
enum OnEnd {
    /// An answer: with the status.
    Frame(Shape),
    /// A request: with an error for who reads it.
    Fail,
}

/// A body that can be made to end.
struct EndingBody {
    inner: Option<Body>,
    end: Woken<BoxFuture<'static, Error>>,
    on_end: OnEnd,
    /// Why one direction was ended: then the other ends for the same reason, and not because its service
    /// took the end of its requests for a polite one.
    ended: Arc<OnceLock<Error>>,
    /// Whether it was asked for a frame before.
    is_long: bool,
}

impl EndingBody {
    fn new(
        inner: Body,
        end: BoxFuture<'static, Error>,
        on_end: OnEnd,
        ended: Arc<OnceLock<Error>>,
    ) -> Self {
        EndingBody {
            inner: Some(inner),
            end: Woken::new(end),
            on_end,
            ended,
            is_long: false,
        }
    }
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(inner) = this.inner.as_mut() else {
            return Poll::Ready(None);
        };
        // Most bodies are over at once: only one that comes a second time, or waits, is worth a look.
        if !std::mem::replace(&mut this.is_long, true) {
            let polled = http_body::Body::poll_frame(Pin::new(&mut *inner), cx);
            if polled.is_ready() {
                return polled;
            }
        }
        // Before the next frame: a busy stream must not put its end off.
        if this.ended.get().is_none()
            && let Poll::Ready(error) = this.end.poll(cx)
        {
            // Only the first reason counts.
            let _ = this.ended.set(error);
        }
        if let Some(error) = this.ended.get() {
            this.inner = None;
            return Poll::Ready(Some(match this.on_end {
                OnEnd::Frame(shape) => last_frame(shape, error),
                OnEnd::Fail => Err(axum::Error::new(status_from_error(error))),
            }));
        }
        http_body::Body::poll_frame(Pin::new(inner), cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_read_as_the_protocol_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("5S").unwrap(), Some(Duration::from_secs(5)));
        assert_eq!(
            read("99999999H").unwrap(),
            Some(Duration::from_secs(99_999_999 * 3_600))
        );
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
        for bad in ["", "S", "5", "5s", "123456789S", "-1S", "5 S"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
