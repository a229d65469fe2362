//! The rules, one file a capability.
