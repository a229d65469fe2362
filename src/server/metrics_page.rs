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

/// What a metric is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Every metric, with what it says. No label is an id: a page must not grow with what was served.
#[rustfmt::skip]
const METRICS: &[(Kind, &str, &str)] = &[
    (Kind::Counter, "baton_requests_total", "requests and streams that ended, by RPC and code"),
    (Kind::Histogram, "baton_request_seconds", "how long requests and streams took, by RPC"),
    (Kind::Gauge, "baton_connections", "connections that are open, by listener"),
    (Kind::Counter, "baton_refused_total", "requests refused before they reached a service, by code"),
    (Kind::Counter, "baton_panics_total", "requests that failed within by a panic"),
    (Kind::Counter, "baton_tls_handshakes_failed_total", "TLS handshakes that failed"),
    (Kind::Gauge, "baton_sessions", "living sessions, by lifecycle"),
    (Kind::Gauge, "baton_sessions_detached", "living sessions whose daemon is not linked"),
    (Kind::Counter, "baton_sessions_ended_total", "sessions that ended, by reason"),
    (Kind::Gauge, "baton_daemons_linked", "daemons that are linked"),
    (Kind::Counter, "baton_links_total", "links that were made, by kind: a daemon's first, or again"),
    (Kind::Gauge, "baton_readers", "readers that follow something, by what they follow: one session, or changes of records"),
    (Kind::Gauge, "baton_prompts_pending", "prompts of living sessions that wait for an answer"),
    (Kind::Gauge, "baton_inputs_queued", "inputs of living sessions that wait for their agent"),
    (Kind::Counter, "baton_events_appended_total", "entries appended to the journal: events of sessions and changes of other records"),
    (Kind::Counter, "baton_journal_bytes_total", "bytes written to the journal"),
    (Kind::Histogram, "baton_journal_commit_seconds", "how long a commit took, from being asked for to being answered"),
    (Kind::Counter, "baton_journal_commits_failed_total", "commits that were refused or failed, also by a conflict that is tried again"),
    (Kind::Histogram, "baton_journal_sync_seconds", "how long a sync of the journal took; many commits share one"),
    (Kind::Counter, "baton_transients_total", "pieces of live text that came from daemons"),
    (Kind::Counter, "baton_transients_sent_total", "pieces of live text that went to readers; pieces that came faster than a reader took them are one"),
    (Kind::Counter, "baton_transients_dropped_total", "pieces of live text for which text was dropped: what was before them was lost, or too much waited"),
];

/// The metrics of this process, installed at the first call.
pub fn recorder() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<std::result::Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new()
                .set_buckets(SECONDS)
                .and_then(PrometheusBuilder::install_recorder)
                .map_err(|problem| problem.to_string())?;
            for (kind, name, about) in METRICS.iter().copied() {
                match kind {
                    Kind::Counter => metrics::describe_counter!(name, about),
                    Kind::Gauge => metrics::describe_gauge!(name, about),
                    Kind::Histogram => metrics::describe_histogram!(name, about),
                }
            }
            // A counter that nothing has counted yet is 0 and not missing.
            for name in ["session", "changes"] {
                metrics::gauge!("baton_readers", "of" => name).increment(0.0);
            }
            for name in ["first", "again"] {
                metrics::counter!("baton_links_total", "kind" => name).increment(0);
            }
            for name in [
                "baton_panics_total",
                "baton_tls_handshakes_failed_total",
                "baton_events_appended_total",
                "baton_journal_bytes_total",
                "baton_journal_commits_failed_total",
                "baton_transients_total",
                "baton_transients_sent_total",
                "baton_transients_dropped_total",
            ] {
                metrics::counter!(name).increment(0);
            }
            Ok(handle)
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
