//! What all agents do, and which records change.

use axum::response::Response;
use http::HeaderMap;

use super::call::{Call, Refused};
use super::fields::Asked;
use crate::gateway::sse;

pub(super) async fn stream(
    call: Call,
    asked: Asked,
    headers: HeaderMap,
) -> std::result::Result<Response, Refused> {
    let category = sse::Category::parse(asked.text("category")?)?;
    let after = asked.text("after")?;
    Ok(sse::agents(&call.app, &call.caller, &headers, after, category).await?)
}
