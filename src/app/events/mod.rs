//! Reading logs: a page, a stream, the live parts beside it. Live and replay are one path.

mod changes;
mod content;
mod list;
mod reader;
mod transients;

pub use changes::{Change, ChangeBatch, Changed, ChangesReader, Tables};
pub use list::EventPage;
pub use reader::{Cursor, Item, Reader, ReaderOptions};
pub use transients::Transients;
