//! The tower stack around every route, outermost first: gRPC-Web made gRPC; request id, tracing and panic
//! boundary; capacity;
//! Host and Origin; authentication; rate; body bound; the end of streams (revocation, deadline,
//! closing connection); and, innermost, what cannot be read.

mod ending;
mod gates;
mod observe;
pub mod policy;
mod reject;
mod unread;
mod web;

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;

#[cfg(test)]
mod fuzz;

pub(crate) use gates::check_host;
pub use observe::{REQUEST_ID, RequestId};
pub use policy::{Need, Policy};
pub use reject::{Shape, reject};

use super::options::Options;
use crate::app::access::Access;
use crate::base::id::TokenId;
use crate::base::{Error, Result};

/// Largest body of a request of plain HTTP, in bytes.
pub const MAX_HTTP_BODY_BYTES: usize = 4 * 1024 * 1024;

/// What the layers need.
pub struct Guards {
    policy: Policy,
    access: Access,
    hosts: Vec<String>,
    origins: Vec<String>,
    capacity: Semaphore,
    rate: DefaultKeyedRateLimiter<TokenId>,
}

impl Guards {
    /// The guards that the options ask for.
    pub fn new(options: &Options, policy: Policy, access: Access) -> Result<Arc<Self>> {
        let positive = |number: u32| {
            NonZeroU32::new(number).ok_or_else(|| Error::invalid("rate", "must be above zero"))
        };
        let quota = Quota::per_second(positive(options.rate.per_second)?)
            .allow_burst(positive(options.rate.burst)?);
        Ok(Arc::new(Guards {
            policy,
            access,
            hosts: options.hosts.clone(),
            origins: options.origins.clone(),
            capacity: Semaphore::new(options.max_requests.min(Semaphore::MAX_PERMITS)),
            rate: RateLimiter::keyed(quota),
        }))
    }

    /// Forgets callers that have not called for a while. To be called from time to time.
    pub fn sweep(&self) {
        self.rate.retain_recent();
        self.rate.shrink_to_fit();
    }

    /// The router behind all guards.
    pub fn around(self: &Arc<Self>, router: Router) -> Router {
        let guards = || self.clone();
        router.layer(
            ServiceBuilder::new()
                .layer(from_fn(web::web))
                .layer(from_fn_with_state(guards(), observe::observe))
                .layer(from_fn_with_state(guards(), gates::capacity))
                .layer(from_fn_with_state(guards(), gates::origin))
                .layer(from_fn_with_state(guards(), gates::authenticate))
                .layer(from_fn_with_state(guards(), gates::rate))
                .layer(from_fn(gates::body))
                .layer(from_fn_with_state(guards(), ending::end))
                .layer(from_fn(unread::unread)),
        )
    }
}
