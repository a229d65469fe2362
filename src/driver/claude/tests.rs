//! The driver over recordings of the real program and over lines made to be odd.

mod commands;
mod lines;
mod odd;
mod recordings;
mod requests;
mod rig;
