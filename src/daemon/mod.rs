//! The process on a machine that runs agents: link, supervisor, runner, spool, harnesses.

pub mod harness;
