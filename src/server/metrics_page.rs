//! `/metrics`, on a listener of its own.

use std::net::SocketAddr;
use std::sync::OnceLock;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::layers::{Shape, check_host, reject};
use crate::base::{Code, Error, Result};
use crate::gateway::Dialect;

/// Bounds of the buckets of times, in seconds.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0,
];

/// The metrics of this process, installed at the first call.
pub fn recorder() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<std::result::Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets(SECONDS)
                .and_then(PrometheusBuilder::install_recorder)
                .map_err(|problem| problem.to_string())
        })
        .clone()
        .map_err(Error::internal)
}

/// The page. On loopback it is shown to loopback names only, so that no web page can read it by rebinding
/// a name; beyond loopback it is open to whoever reaches the port.
pub fn router(handle: PrometheusHandle, listen: SocketAddr) -> Router {
    let guarded = listen.ip().to_canonical().is_loopback();
    let show = move || {
        let text = handle.render();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
    };
    let check = move |request: Request, next: Next| async move {
        if guarded && let Err(error) = check_host(&[], None, request.headers(), request.uri()) {
            return reject(Shape::Json(Dialect::Own), &error);
        }
        next.run(request).await
    };
    Router::new()
        .route("/metrics", get(show))
        .fallback(nothing)
        .layer(from_fn(check))
}

async fn nothing() -> Response {
    let error = Error::new(Code::UnknownMethod, "there is only /metrics here");
    reject(Shape::Json(Dialect::Own), &error).into_response()
}
