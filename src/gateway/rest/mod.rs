//! Requests and answers of plain HTTP, one file a dialect.

pub mod relay;

pub mod orchestrator;
