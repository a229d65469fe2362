//! The ground every room stands on: ids, time, quantities, errors, pages and secrets.
//!
//! Nothing here does IO, and nothing here knows a noun of the product beyond its id.

pub mod clock;
pub mod error;
pub mod fault;
#[cfg(test)]
pub(crate) mod fuzz;
pub mod id;
pub mod json;
pub mod page;
pub mod quantity;
pub mod secret;
pub mod woken;

pub use clock::{Clock, SharedClock, SystemClock, Timestamp};
pub use error::{Code, Effect, Error, Result};
pub use json::Json;
pub use secret::Secret;
pub use woken::{Woken, until};
