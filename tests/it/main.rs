//! The integration tests: one binary, one module a capability.

mod access;
mod listener;
mod serving;
