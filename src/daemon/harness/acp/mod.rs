//! Agents that speak the Agent Client Protocol: those that are known by name and found on the daemon's `PATH`, and
//! those that the machine's owner configured. [`crate::driver::acp`] reads what they write.

mod agent;
mod kind;
mod known;

pub use agent::AcpAgent;
pub use kind::Acp;
pub use known::Machine;

/// The agents of a machine: the known ones, then the owner's own, which take the place of a known one of their name.
pub fn agents(own: &[AcpAgent], machine: &Machine) -> Vec<Acp> {
    let is_own = |name: &str| own.iter().any(|agent| agent.name() == name);
    let known = known::KNOWN
        .iter()
        .filter(|known| !is_own(known.name))
        .map(|known| Acp::known(known, machine.clone()));
    let own = own
        .iter()
        .map(|agent| Acp::own(agent.clone(), machine.clone()));
    known.chain(own).collect()
}
