//! Outermost: the request's id and span, its place in the metrics, and the boundary no panic crosses.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use tracing::{Instrument as _, Span};

use super::Guards;
use super::reject::{Shape, reject};
use crate::base::Error;
use crate::server::connection::ConnectionInfo;
use crate::wire::status::status_from_error;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: &str = "x-request-id";

/// A request's id; an extension of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// The caller's own id if it is a harmless word, else a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| (1..=64).contains(&id.len()))
            .filter(|id| {
                id.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            });
        RequestId(match given {
            Some(id) => Arc::from(id),
            None => Arc::from(uuid::Uuid::new_v4().simple().to_string()),
        })
    }
}

pub(super) async fn observe(
    State(guards): State<Arc<Guards>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(request.headers());
    let shape = Shape::of(&request);
    let name = guards
        .policy
        .find(&request)
        .map_or("unknown", |(name, _)| name);
    let peer = request
        .extensions()
        .get::<ConnectionInfo>()
        .map(|info| info.peer);
    // Neither headers nor the query are shown: they may hold what must not be logged.
    let span = tracing::info_span!(
        "request",
        id = %id.0,
        rpc = name,
        peer = peer.map(tracing::field::display),
        caller = tracing::field::Empty,
    );
    request.extensions_mut().insert(id.clone());
    let mut account = Account {
        name,
        began: Instant::now(),
        // Unless it comes to an answer.
        code: "Cancelled".to_owned(),
    };
    let answer = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    let mut response = match answer {
        Ok(response) => response,
        Err(panic) => span.in_scope(|| reject(shape, &panicked(panic.as_ref()))),
    };
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    match (grpc_status(response.headers()), shape) {
        (Some(code), _) => account.code = code,
        (None, Shape::Json(_)) => account.code = response.status().as_u16().to_string(),
        // It comes with the trailers.
        (None, Shape::Grpc) => {}
    }
    response.map(|inner| {
        Body::new(ObservedBody {
            inner: Some(inner),
            span,
            shape,
            account,
        })
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned());
    metrics::counter!("baton_panics_total").increment(1);
    Error::internal(format!("panic: {text}"))
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("grpc-status")?.to_str().ok()?;
    Some(format!("{:?}", tonic::Code::from_bytes(value.as_bytes())))
}

/// What is counted of a request, when it is over.
struct Account {
    name: &'static str,
    began: Instant,
    code: String,
}

impl Drop for Account {
    fn drop(&mut self) {
        let code = std::mem::take(&mut self.code);
        let seconds = self.began.elapsed().as_secs_f64();
        metrics::counter!("baton_requests_total", "rpc" => self.name, "code" => code.clone())
            .increment(1);
        metrics::histogram!("baton_request_seconds", "rpc" => self.name).record(seconds);
        tracing::debug!(rpc = self.name, code, seconds, "request ended");
    }
}

/// A body that is counted when it is over, and whose panics end in a status.
struct ObservedBody {
    inner: Option<Body>,
    span: Span,
    shape: Shape,
    account: Account,
}

impl ObservedBody {
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx))) {
            Ok(polled) => polled,
            Err(panic) => {
                self.inner = None;
                let error = panicked(panic.as_ref());
                tracing::error!(?error, "a stream failed within");
                Poll::Ready(Some(last_frame(self.shape, &error)))
            }
        }
    }
}

/// What ends a body with an error: trailers over gRPC, a cut elsewhere.
pub(super) fn last_frame(shape: Shape, error: &Error) -> Result<Frame<Bytes>, axum::Error> {
    if shape == Shape::Grpc {
        let mut trailers = HeaderMap::new();
        if status_from_error(error).add_header(&mut trailers).is_ok() {
            return Ok(Frame::trailers(trailers));
        }
    }
    Err(axum::Error::new(error.clone()))
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let span = this.span.clone();
        let polled = span.in_scope(|| this.poll_inner(cx));
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(code) = frame.trailers_ref().and_then(grpc_status)
        {
            this.account.code = code;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        // What the stream does at its end belongs to the request.
        let span = self.span.clone();
        let _entered = span.enter();
        drop(self.inner.take());
    }
}
