//! Live daemon links: registry, epochs, outbox delivery, queries.
//!
//! [`Relay`] knows which daemons are linked now. Each link is an actor (`link`) around the state machine
//! of `domain::link`; what the frames mean is decided by the [`Handler`], which `app` implements. What a
//! daemon is to do lies in the store's outbox; a link reads it when it comes up and when it is nudged.
//!
//! Absent by design: protobuf and gRPC (`rpc::link` converts), sessions and events (`app` knows them).

mod handler;

pub mod fault;
pub mod outbox;

mod epoch;

mod lane;

mod link;

mod registry;

pub use handler::{Claim, Handler, Introduction};
pub use link::{DownFrames, UpFrames};
pub use registry::{Options, Relay};
