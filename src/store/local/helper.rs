//! The writer's helper: a thread that does what need not hold up a commit: filling the active segment
//! with zeros ahead, sealing full ones, and writing the index to its file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use super::Core;
use super::fault;
use super::segment;
use super::segments::{Fresh, Sealed};
use crate::store::Result;

/// Work for the helper, done in order.
#[derive(Debug)]
pub(super) enum Job {
    /// Fill the segment a step further.
    Fill(Arc<Fresh>),
    /// Seal a segment that nothing is added to any more.
    Seal { fresh: Arc<Fresh>, data_end: u64 },
    /// Write to the index what it only has in memory.
    Settle,
    /// Answer when all before is done.
    Answer(SyncSender<Result<u64>>, Result<u64>),
}

/// How many jobs may wait; beyond that, the writer does.
pub(super) const MAX_JOBS: usize = 8;

/// Serves until the writer is gone.
pub(super) fn run(core: &Core, jobs: &Receiver<Job>) {
    // Sealing fails on a full disk. The segment can be read and opened as it is, so it is tried again later.
    let mut unsealed: Vec<(Arc<Fresh>, u64)> = Vec::new();
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Fill(fresh) => fill_further(core, &fresh),
            Job::Seal { fresh, data_end } => {
                unsealed.push((fresh, data_end));
                seal_all(core, &mut unsealed);
            }
            Job::Settle => {
                // Handed to the system at once, so that a start after a kill has little to catch up with.
                if let Ok(index) = core.index()
                    && let Err(error) = index.flush()
                {
                    core.fail_index(&error);
                }
            }
            Job::Answer(answer, result) => {
                seal_all(core, &mut unsealed);
                let _ = answer.send(result);
            }
        }
    }
}

fn fill_further(core: &Core, fresh: &Fresh) {
    let is_open = fresh.room.filling.lock();
    if !*is_open {
        return;
    }
    let from = fresh.room.filled();
    let filled =
        fill(&fresh.file, from, core.options.fill_bytes).and_then(|()| fresh.file.sync_all());
    match filled {
        Ok(()) => fresh.room.set_filled(from + core.options.fill_bytes),
        // Commits still go through while there is room for them alone.
        Err(error) => tracing::debug!(%error, "filling the journal ahead failed"),
    }
}

/// Writes zeros.
pub(super) fn fill(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; 256 << 10];
    let mut done = 0;
    while done < bytes {
        let step = (bytes - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], from + done)?;
        done += step;
    }
    Ok(())
}

fn seal_all(core: &Core, unsealed: &mut Vec<(Arc<Fresh>, u64)>) {
    while let Some((fresh, data_end)) = unsealed.first() {
        if let Err(error) = seal(core, fresh, *data_end) {
            tracing::warn!(%error, segment = fresh.id, "a journal segment could not be sealed yet");
            return;
        }
        unsealed.remove(0);
    }
}

fn seal(core: &Core, fresh: &Fresh, data_end: u64) -> Result<()> {
    let message = fresh.contents.read().footer();
    let bytes = {
        let mut is_open = fresh.room.filling.lock();
        *is_open = false;
        write_footer(&fresh.file, &message, data_end, fresh.salt)
            .map_err(|error| super::disk::io_error("sealing", core.segments.journal(), &error))?
    };
    core.index()?
        .put_segment(fresh.segment(), &message, None)
        .inspect_err(|error| core.fail_index(error))?;
    let sealed = Sealed {
        generation: 0,
        last_lsn: message.last_lsn,
        bytes,
    };
    core.segments.seal(fresh.id, sealed);
    Ok(())
}

/// Ends a segment with its footer; answers with the file's size.
pub(super) fn write_footer(
    file: &File,
    message: &crate::wire::storage_v1::SegmentFooter,
    data_end: u64,
    salt: u32,
) -> io::Result<u64> {
    let footer = segment::footer_bytes(message, data_end, salt);
    // What was filled ahead goes first: a footer counts only where the file ends with it.
    file.set_len(data_end)?;
    fault::point(fault::MID_SEAL);
    file.write_all_at(&footer, data_end)?;
    file.sync_all()?;
    Ok(data_end + footer.len() as u64)
}
