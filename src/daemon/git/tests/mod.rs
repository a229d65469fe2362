//! The room with real git in real repositories.

mod hostile;
mod life;
mod property;
mod rig;
