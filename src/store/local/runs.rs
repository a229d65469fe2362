//! Runs: where the entries of one append lie, and how they are gathered into blocks.

use std::collections::HashMap;

use super::frame::Frame;
use super::segment::SegmentId;
use crate::store::Stream;
use crate::wire::storage_v1 as pb;

/// Most runs of a block: it stays far below what the index may hold in one value.
const MAX_BLOCK_RUNS: usize = 256;

/// The entries of one append in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) log_epoch: u64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// A run and the file that it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) run: Run,
}

/// What a segment holds, gathered frame by frame.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) first_lsn: u64,
    pub(super) last_lsn: u64,
    pub(super) streams: HashMap<Stream, Vec<Run>>,
    pub(super) large: Vec<pb::LargeValue>,
}

/// Values longer than this stay in the journal.
pub(super) const MAX_INDEXED_VALUE: usize = 16 << 10;

impl Contents {
    /// Adds a frame whose payload begins at `at` in the file.
    pub(super) fn add(&mut self, frame: &Frame, payload: &[u8], at: u64) {
        if self.first_lsn == 0 {
            self.first_lsn = frame.lsn;
        }
        self.last_lsn = self.last_lsn.max(frame.lsn);
        for append in frame.appends.iter().filter(|append| append.count > 0) {
            let entries = &payload[append.entries.clone()];
            let run = Run {
                log_epoch: append.log_epoch,
                first_seq: append.first_seq,
                last_seq: append.first_seq + append.count - 1,
                offset: at + append.entries.start as u64,
                len: entries.len() as u32,
                crc: crc32c::crc32c(entries),
            };
            match self.streams.get_mut(&append.stream) {
                Some(runs) => runs.push(run),
                None => {
                    self.streams.insert(append.stream.clone(), vec![run]);
                }
            }
        }
        for op in &frame.ops {
            if let Some(value) = op
                .value
                .clone()
                .filter(|value| value.len() > MAX_INDEXED_VALUE)
            {
                self.large.push(pb::LargeValue {
                    key: op.key.clone(),
                    lsn: frame.lsn,
                    offset: at + value.start as u64,
                    len: value.len() as u64,
                    crc: crc32c::crc32c(&payload[value]),
                });
            }
        }
    }

    /// The footer that says the same.
    pub(super) fn footer(&self) -> pb::SegmentFooter {
        let mut streams: Vec<_> = self.streams.iter().collect();
        streams.sort_unstable_by_key(|(stream, _)| *stream);
        let mut blocks = Vec::new();
        for (stream, runs) in streams {
            let mut next_seq = None;
            for run in runs {
                let joins = blocks.last().is_some_and(|block: &pb::RunBlock| {
                    next_seq == Some((run.log_epoch, run.first_seq))
                        && block.counts.len() < MAX_BLOCK_RUNS
                });
                if !joins {
                    blocks.push(pb::RunBlock {
                        stream: stream.as_str().to_owned(),
                        log_epoch: run.log_epoch,
                        first_seq: run.first_seq,
                        ..Default::default()
                    });
                }
                if let Some(block) = blocks.last_mut() {
                    block.counts.push(run.last_seq - run.first_seq + 1);
                    block.offsets.push(run.offset);
                    block.lens.push(run.len.into());
                    block.crcs.push(run.crc);
                }
                next_seq = Some((run.log_epoch, run.last_seq + 1));
            }
        }
        pb::SegmentFooter {
            first_lsn: self.first_lsn,
            last_lsn: self.last_lsn,
            blocks,
            large: self.large.clone(),
        }
    }
}

/// The runs of a block.
pub(super) fn block_runs(block: &pb::RunBlock) -> impl DoubleEndedIterator<Item = Run> + '_ {
    let mut first_seq = block.first_seq;
    let mut runs = Vec::with_capacity(block.counts.len());
    for (at, count) in block.counts.iter().enumerate() {
        let (Some(offset), Some(len), Some(crc)) = (
            block.offsets.get(at),
            block.lens.get(at),
            block.crcs.get(at),
        ) else {
            break;
        };
        let Some(next) = first_seq
            .checked_add(*count)
            .filter(|next| *next > first_seq)
        else {
            break;
        };
        runs.push(Run {
            log_epoch: block.log_epoch,
            first_seq,
            last_seq: next - 1,
            offset: *offset,
            len: u32::try_from(*len).unwrap_or(u32::MAX),
            crc: *crc,
        });
        first_seq = next;
    }
    runs.into_iter()
}

/// The last seq of a block.
pub(super) fn block_last_seq(block: &pb::RunBlock) -> u64 {
    let count = block
        .counts
        .iter()
        .fold(0u64, |sum, count| sum.saturating_add(*count));
    block.first_seq.saturating_add(count).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(log_epoch: u64, first_seq: u64, last_seq: u64) -> Run {
        Run {
            log_epoch,
            first_seq,
            last_seq,
            offset: first_seq * 10,
            len: 7,
            crc: 1,
        }
    }

    #[test]
    fn blocks_end_at_gaps_epochs_and_their_limit() {
        let stream = Stream::new("s").expect("a valid name");
        let mut runs: Vec<Run> = (1..=300).map(|seq| run(1, seq, seq)).collect();
        runs.push(run(1, 400, 402));
        runs.push(run(2, 1, 5));
        let contents = Contents {
            streams: HashMap::from([(stream, runs.clone())]),
            ..Contents::default()
        };
        let footer = contents.footer();
        let ranges: Vec<_> = footer
            .blocks
            .iter()
            .map(|block| (block.log_epoch, block.first_seq, block_last_seq(block)))
            .collect();
        assert_eq!(
            ranges,
            [(1, 1, 256), (1, 257, 300), (1, 400, 402), (2, 1, 5)]
        );
        let back: Vec<Run> = footer.blocks.iter().flat_map(block_runs).collect();
        assert_eq!(back, runs);
    }
}
