//! The process on a machine that runs agents: link, supervisor, runner, spool, harnesses.

pub mod kin;

pub mod spool;

pub mod runner;

pub mod paths;

pub mod policy;

pub mod directory;

pub mod harness;
