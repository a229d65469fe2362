//! Live daemon links: registry, epochs, outbox delivery, command tracking.
use crate::base::{id::DaemonId, Result};
use crate::domain::daemon::Directory;
#[derive(Clone)]
pub struct Relay;
impl Relay {
    pub fn nudge(&self, _d: DaemonId) {}
    pub fn is_linked(&self, _d: DaemonId) -> bool { false }
    pub fn close(&self, _d: DaemonId, _r: &str) {}
    pub async fn list_directory(&self, _d: DaemonId, _p: String, _h: bool, _t: std::time::Duration) -> Result<Directory> { Ok(Directory::default()) }
}
