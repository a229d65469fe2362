//! The only room where protobuf types and domain types meet.
//!
//! Absent by design: rules. A conversion checks what a type can express (an id is an id, an enum value
//! is one of the known) and leaves all other judgement to `app` and `domain`.

mod codec;
mod event_batch;

pub mod time;

pub mod field;

pub mod enums;

pub mod agent;
pub mod budget;

pub mod common;

pub mod prompt;

pub mod session;

pub mod input;

pub mod event;

pub mod transient;

mod encoded;

pub mod daemon;

pub mod token;

pub mod task;
pub mod terminal;
mod trigger;
pub mod worktree;

pub mod link;
mod link_command;
mod link_record;

pub mod status;

pub mod unreachable;

#[cfg(test)]
mod fuzz;

pub use codec::ProtobufCodec;
pub use encoded::{encode_event, encoded_len, kind_of, put_place};
pub use event_batch::{EventBatch, put_entry_head};
pub use link_record::LinkRecord;

/// The generated code, in modules as the packages are: `pb::v1` is the public API, the others are the
/// link between daemon and server, the protocol between daemon and runner, and what the store writes.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    pub mod v1 {
        tonic::include_proto!("baton.v1");
    }
    pub mod link {
        pub mod v1 {
            tonic::include_proto!("baton.link.v1");
        }
    }
    pub mod runner {
        pub mod v1 {
            tonic::include_proto!("baton.runner.v1");
        }
    }
    pub mod storage {
        pub mod v1 {
            tonic::include_proto!("baton.storage.v1");
        }
    }
}

pub use pb::link::v1 as link_v1;
pub use pb::runner::v1 as runner_v1;
pub use pb::storage::v1 as storage_v1;
pub use pb::v1;

/// The descriptors of every proto file, encoded as a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::tests::Gen;
