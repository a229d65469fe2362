//! Who calls, from a request.

use tonic::{Request, Status};

use crate::app::access::Caller;
use crate::base::{Code, Error};

/// Who calls, as the server's layers found out. Refused if they did not run.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| {
            super::status(Error::new(
                Code::Unauthenticated,
                "the request has no token",
            ))
        })
}
