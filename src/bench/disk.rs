//! What reaches the disk below a directory, file system and all.
//!
//! The system's own count of what a process writes (`write_bytes`) counts whole folios of the page cache, however little of
//! one was changed, and nothing of the file system's journal; the device counts sectors.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::stat::{major, minor};

/// Bytes of a sector, as the kernel counts them.
const SECTOR: u64 = 512;

/// A block device.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    major: u64,
    minor: u64,
}

impl Disk {
    /// The device that a directory is on; `None` where it is none of its own (an overlay, a file system in memory).
    pub fn of(dir: &Path) -> Result<Option<Self>> {
        let meta =
            std::fs::metadata(dir).with_context(|| format!("looking at {}", dir.display()))?;
        let disk = Disk {
            major: major(meta.dev()),
            minor: minor(meta.dev()),
        };
        Ok(disk.sectors()?.map(|_| disk))
    }

    /// Bytes that were ever written to it, by everybody.
    pub fn written(self) -> Result<u64> {
        let sectors = self.sectors()?.context("the disk is gone")?;
        Ok(sectors * SECTOR)
    }

    /// See the kernel's `Documentation/admin-guide/iostats.rst`: the tenth column is sectors written.
    fn sectors(self) -> Result<Option<u64>> {
        let Ok(stats) = std::fs::read_to_string("/proc/diskstats") else {
            return Ok(None);
        };
        let line = stats.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_it = fields.first() == Some(&self.major.to_string().as_str())
                && fields.get(1) == Some(&self.minor.to_string().as_str());
            is_it.then_some(fields)
        });
        let sectors = line.and_then(|fields| fields.get(9)?.parse().ok());
        Ok(sectors)
    }
}

/// Lets go of everything that the system has read from its disks. Only root may: false if it was not done.
pub fn drop_caches() -> bool {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
