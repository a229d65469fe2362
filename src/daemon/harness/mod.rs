//! The kinds of agent program a daemon can run, behind one trait.

pub mod demo;
