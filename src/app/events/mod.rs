//! Reading logs: a page, a stream, the live parts beside it. Live and replay are one path.

mod agents;
mod changes;
mod content;
mod list;
mod reader;
mod transients;

pub use agents::{AgentsItem, AgentsReader, Position};
pub use changes::{Change, ChangeBatch, Changed, ChangesReader, Tables};
pub use list::{EventPage, after_what_was_removed};
pub use reader::{Cursor, Item, Reader, ReaderOptions};
pub use transients::Transients;

/// Counts one open reader for as long as it lives.
struct Open {
    gauge: metrics::Gauge,
}

impl Open {
    fn of(what: &'static str) -> Self {
        let gauge = metrics::gauge!("baton_readers", "of" => what);
        gauge.increment(1.0);
        Open { gauge }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}
