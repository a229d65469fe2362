//! What the journal asks of the disk, as a seam: tests put a faulty or watched disk beneath the store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Options;
use crate::store::Error;

/// Writing to files of the journal.
pub trait Disk: Send + Sync + 'static {
    /// Writes all of `data` at `offset`.
    fn write_at(&self, file: &File, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written to `file` survive a power failure.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Bytes that may still be written beneath `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// A disk that many owners hold.
pub type SharedDisk = Arc<dyn Disk>;

/// The machine's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn write_at(&self, file: &File, data: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(feature = "failpoints")]
        if super::fault::is_on(super::fault::NO_SPACE) {
            // Half of it is written, as a full disk does.
            file.write_all_at(&data[..data.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(data, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(dir)?;
        #[allow(
            clippy::useless_conversion,
            reason = "the types differ between systems"
        )]
        let free = u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size().into());
        Ok(free)
    }
}

/// For so long it is believed that the disk has as much room as it had, where that was plenty.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// So many times the reserve is plenty.
const PLENTY: u64 = 4;

/// How much room the disk was seen to have. Asking costs about as much as writing a small group.
#[derive(Debug, Default)]
pub(super) struct Headroom {
    /// When it was asked last, and what was free beyond what was written since.
    seen: Option<(Instant, u64)>,
}

impl Headroom {
    /// Whether so little is free that only commits that let go of something are taken. The index and
    /// snapshots need some of the rest.
    pub(super) fn is_low(&mut self, options: &Options) -> bool {
        let reserve = options.reserve_bytes;
        if reserve == 0 {
            return false;
        }
        let is_plenty = self.seen.is_some_and(|(at, free)| {
            at.elapsed() < BELIEVED_FOR && free >= reserve.saturating_mul(PLENTY)
        });
        if is_plenty {
            return false;
        }
        // Where the system does not say, a write that fails does.
        let free = options.disk.free_bytes(&options.dir).ok();
        self.seen = free.map(|free| (Instant::now(), free));
        free.is_some_and(|free| free < reserve)
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        if let Some((_, free)) = &mut self.seen {
            *free = free.saturating_sub(bytes);
        }
    }
}

/// Whether the error says that there is no room: a full disk, a quota, or a file size limit.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The store's error for a failed call, with what was being done.
pub(super) fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    if is_full(error) {
        return Error::Full;
    }
    let name = path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.display().to_string(),
    );
    Error::Io(format!("{what} {name}: {error}"))
}

/// Makes the names in a directory survive a power failure.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
