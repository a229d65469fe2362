//! How the server is: a word for everybody, more for whoever has a token.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use serde_json::json;

use super::Orchestrator;
use super::call::{Answer, told};
use crate::app::access::Caller;
use crate::domain::Scope;
use crate::gateway::views::iso;

/// How long a daemon has to say whether it has a repository.
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) async fn health(
    State(orchestrator): State<Orchestrator>,
    caller: Option<Extension<Caller>>,
) -> Answer {
    let (code, status) = match orchestrator.app.access().probe().await {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(error) => {
            tracing::warn!(?error, "not healthy");
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
    };
    let caller = caller.filter(|Extension(caller)| caller.require(Scope::Viewer).is_ok());
    let Some(Extension(caller)) = caller else {
        return told(code, json!({ "status": status }));
    };
    // All of them are parts of this one process and its store.
    let service = if status == "ok" { "ready" } else { status };
    let repository = orchestrator.app.home_repository(&caller, None, None);
    let has_repository = matches!(tokio::time::timeout(DEADLINE, repository).await, Ok(Ok(_)));
    let body = json!({
        "status": status,
        "timestamp": iso(orchestrator.app.clock().now()),
        "database": orchestrator.data_dir.to_string_lossy(),
        "services": {
            "agentRegistry": service,
            "sessionManager": service,
            "spawnerService": service,
            "worktreeManager": if has_repository { service } else { "disabled" },
            "taskAssignment": service,
            "dispatch": service,
            "roleDefinition": service,
        },
    });
    told(code, body)
}
