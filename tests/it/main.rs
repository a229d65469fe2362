//! The integration tests: one binary, a module for each capability.

mod runner;
