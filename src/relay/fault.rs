//! The points at which tests make the relay die.

pub(super) use crate::base::fault::point;

/// A link has its epoch, and nobody knows the link yet.
pub const AFTER_EPOCH: &str = "relay::after_epoch";
/// Records came and the rules have not seen them.
pub const BEFORE_RECORDS: &str = "relay::before_records";
/// Records are stored; they are not acknowledged.
pub const BEFORE_ACK: &str = "relay::before_ack";
/// A command's result is stored; it is not acknowledged.
pub const BEFORE_RESULT_ACK: &str = "relay::before_result_ack";
/// Commands were read from the outbox; none of them is on its way.
pub const BEFORE_COMMANDS: &str = "relay::before_commands";
/// A command was handed to the transport.
pub const AFTER_COMMAND: &str = "relay::after_command";

/// Every point.
pub const ALL: &[&str] = &[
    AFTER_EPOCH,
    BEFORE_RECORDS,
    BEFORE_ACK,
    BEFORE_RESULT_ACK,
    BEFORE_COMMANDS,
    AFTER_COMMAND,
];
