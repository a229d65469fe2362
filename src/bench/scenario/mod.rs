//! The scenarios, a file each.

mod append;
mod fanout;
mod figure;
mod flat;
mod idle;
mod latency;
mod list;
mod load;
mod overload;
mod relay;
mod replay;
mod slow;
mod startup;
mod storm;
mod tls;

pub use append::append;
pub use fanout::fanout;
pub use flat::flat;
pub use idle::idle;
pub use latency::latency;
pub use list::list;
pub use overload::overload;
pub use relay::relay;
pub use replay::replay;
pub use slow::slow_readers;
pub use startup::startup;
pub use storm::storm;
pub use tls::tls;
