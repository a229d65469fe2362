//! A typed client of the gRPC API, used by the command line and by tests.
//!
//! [`Client`] has one method a unary RPC, each with a deadline and with [`crate::base::Error`] as its
//! error. [`Follow`] reads a session's log for as long as it takes, over restarts of the server. Absent
//! by design: retries of calls that change something; whoever makes them knows the `request_id`.

mod address;
mod attach;
mod calls;
mod failure;
mod follow;

pub use address::{DEFAULT_URL, ServerAddress};
pub use attach::{Attached, Attachment};
pub use calls::{Client, Transport};
pub use failure::is_lasting;
pub use follow::{Cursor, Follow, FollowOptions, Followed};
