//! `baton bench`: what this program does on this machine, held in the same run against what one would use instead.
//!
//! Server and load are processes of their own, on a processor each where there are two. The figure that counts is
//! processor time of the server for each thing done: it hardly depends on who else uses the machine, which times and
//! rates do. Each point is measured in rounds that take turns (ours, the bare one, the older design, ours again …) after
//! one that is not counted; reported are medians and spreads, and ratios of medians. Readers check every event for order,
//! gaps and doubles, and one fault makes a figure void. `docs/performance.md` has the method and the last results.

mod address;
mod bare;
mod certificate;
mod disk;
mod drain;
mod machine;
mod pace;
mod plan;
mod process;
mod publish;
mod report;
mod run;
mod scenario;
mod stamp;
mod subject;

pub use bare::serve as serve_bare;
pub use certificate::Files as TlsFiles;
pub use plan::{Plan, Scenario};
pub use report::Report;
pub use run::run;
