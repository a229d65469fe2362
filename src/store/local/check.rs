//! Checking: reads everything and changes nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use super::content::Contents;
use super::disk::io_error;
use super::frame;
use super::lock;
use super::runs::{Contents as SegmentContents, block_runs};
use super::segment::{self, SegmentId};
use super::snapshot;
use super::{LocalStore, Options, Progress};
use crate::base::SystemClock;
use crate::store::Result;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments that were read.
    pub segments: u64,
    /// Commits in them.
    pub commits: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Contents that were read.
    pub contents: u64,
    /// What is wrong; empty if nothing is.
    pub problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, below the store's directory.
    pub file: String,
    /// What is wrong with it.
    pub text: String,
    /// Streams of which entries are lost, as far as the footer tells.
    pub streams: Vec<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.text)?;
        if !self.streams.is_empty() {
            write!(f, " (streams {})", self.streams.join(", "))?;
        }
        Ok(())
    }
}

/// Checks a store that nobody has open.
pub fn check(options: &Options, progress: &mut dyn FnMut(Progress)) -> Result<Report> {
    let _lock = lock::take(&options.dir, false)?;
    let dir = &options.dir;
    check_files(dir, None, progress)
}

impl LocalStore {
    /// Checks while the store is in use. Blocks for long.
    pub fn check(&self, progress: &mut dyn FnMut(Progress)) -> Result<Report> {
        let _turn = self.core.maintenance.lock();
        let mut report = check_files(&self.core.options.dir, Some(&self.core.contents), progress)?;
        for (stream, problem) in self.set_apart() {
            report.problems.push(Problem {
                file: "index".into(),
                text: format!("set apart: {problem}"),
                streams: vec![stream.to_string()],
            });
        }
        Ok(report)
    }
}

fn check_files(
    dir: &Path,
    contents: Option<&Contents>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report> {
    let mut report = Report::default();
    let journal = dir.join("journal");
    let snapshots = dir.join("snapshots");
    if journal.is_dir() {
        let (ids, _) =
            segment::list(&journal).map_err(|error| io_error("listing", &journal, &error))?;
        let newest = ids.last().copied();
        for id in ids {
            let data = match fs::read(id.path(&journal)) {
                Ok(data) => data,
                // Compacted meanwhile, or sealed and moved on.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("reading", &id.path(&journal), &error)),
            };
            check_segment(id, &data, Some(id) == newest, &mut report);
            progress(Progress {
                phase: "segments",
                done: report.bytes,
                total: None,
            });
        }
    }
    if snapshots.is_dir() {
        for snapshot in snapshot::list(&snapshots)? {
            if let Err(error) = snapshot::verify(&snapshot) {
                report.problems.push(Problem {
                    file: relative(dir, &snapshot.path),
                    text: error.to_string(),
                    streams: Vec::new(),
                });
            }
        }
    }
    let opened;
    let contents = match contents {
        Some(contents) => Some(contents),
        None if dir.join("content").is_dir() => {
            opened = Contents::look(dir.join("content"), SystemClock::shared());
            Some(&opened)
        }
        None => None,
    };
    if let Some(contents) = contents {
        contents.each(&mut |sha256, _| {
            match contents.verify(sha256) {
                Ok(true) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(false) => report.problems.push(Problem {
                    file: format!("content/{sha256}"),
                    text: "it is not what its name says".into(),
                    streams: Vec::new(),
                }),
                Err(error) => report.problems.push(Problem {
                    file: format!("content/{sha256}"),
                    text: error.to_string(),
                    streams: Vec::new(),
                }),
            }
            report.contents += 1;
            progress(Progress {
                phase: "contents",
                done: report.contents,
                total: None,
            });
            Ok(())
        })?;
    }
    Ok(report)
}

fn check_segment(id: SegmentId, data: &[u8], is_newest: bool, report: &mut Report) {
    report.segments += 1;
    report.bytes += data.len() as u64;
    let file = format!("journal/{}", id.file_name());
    let mut problem = |text: String, streams: Vec<String>| {
        report.problems.push(Problem {
            file: file.clone(),
            text,
            streams,
        });
    };
    let footer = segment::footer_in(data);
    let header_salt = segment::parse_header(data, id);
    if header_salt.is_none()
        && (footer.is_some() || !is_newest || data.iter().any(|byte| *byte != 0))
    {
        problem("its header is damaged".into(), Vec::new());
    }
    if footer.is_none() && segment::ends_with_mark(data) {
        problem("its footer is damaged".into(), Vec::new());
    }
    let Some(salt) = header_salt.or(footer.as_ref().map(|footer| footer.salt)) else {
        return;
    };
    let data_end = footer
        .as_ref()
        .map_or(data.len(), |footer| footer.data_end as usize);
    let scan = segment::scan(data, data_end, salt);
    report.commits += scan.frames.len() as u64;
    let mut held = SegmentContents::default();
    for found in &scan.frames {
        let payload = &data[found.payload()];
        if let Some(frame) = frame::decode(payload) {
            held.add(&frame, payload, found.at as u64);
        }
    }
    let held = held.footer();
    for range in &scan.bad {
        // The end of the newest segment may be torn, or just be written.
        if is_newest && footer.is_none() && range.end == data_end {
            continue;
        }
        // So may a footer, which the next start then makes anew.
        if footer.is_none()
            && range.end == data_end
            && segment::is_footer_left(data, scan.end, &held, salt)
        {
            continue;
        }
        let streams = footer
            .iter()
            .flat_map(|footer| &footer.message.blocks)
            .filter(|block| {
                block_runs(block).any(|run| {
                    run.offset < range.end as u64
                        && run.offset + u64::from(run.len) > range.start as u64
                })
            })
            .map(|block| block.stream.clone())
            .collect();
        report.problems.push(Problem {
            file: file.clone(),
            text: format!("bytes {} to {} are damaged", range.start, range.end),
            streams,
        });
    }

    let Some(footer) = footer.filter(|_| scan.bad.is_empty()) else {
        return;
    };
    if held.blocks != footer.message.blocks || held.large != footer.message.large {
        report.problems.push(Problem {
            file,
            text: "its footer does not say what is in it".into(),
            streams: Vec::new(),
        });
    }
}

fn relative(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}
