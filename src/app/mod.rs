//! The rules, one file a capability.

pub mod fault;

pub mod access;

pub mod idempotency;

pub mod system;
