mod rig;

mod lines;
mod odd;
mod recordings;
