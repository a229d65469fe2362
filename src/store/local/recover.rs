//! Opening: find out what the journal holds, cut off a torn tail, and bring the index up to date.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::disk::{io_error, sync_dir};
use super::frame;
use super::helper::write_footer;
use super::index::{Index, Indexed};
use super::runs::Contents;
use super::segment::{self, HEADER, Scan, SegmentId};
use super::segments::{Fresh, Room, Sealed, Segments};
use super::snapshot::{self, Snapshot};
use super::writer;
use crate::store::{Error, Head, Result, Stream};

/// Commits that are applied to the index together while catching up.
const CATCH_UP: usize = 512;

/// Something that was found damaged at open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A range of a segment cannot be read. The commits in it are lost; what follows was kept.
    Segment {
        /// The file.
        file: String,
        /// Where.
        range: Range<u64>,
    },
    /// A stream's stored entries do not cover what its head says. It was set apart.
    Stream {
        /// The stream.
        stream: Stream,
        /// What is missing.
        problem: String,
    },
    /// Commits are missing, and no index could tell which streams and records they changed.
    Commits {
        /// Between these.
        range: Range<u64>,
    },
    /// The index knew commits that the journal does not have: its end is lost. The store is as the journal says.
    End {
        /// The newest commit that the index knew.
        known: u64,
        /// The newest commit of the journal.
        last: u64,
    },
    /// A snapshot was damaged and was not used.
    Snapshot {
        /// The file.
        file: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Segment { file, range } => write!(
                f,
                "{file} is damaged from byte {} to {}",
                range.start, range.end
            ),
            Damage::Stream { stream, problem } => {
                write!(f, "stream {stream} is set apart: {problem}")
            }
            Damage::Commits { range } => {
                write!(f, "commits {} to {} are lost", range.start, range.end - 1)
            }
            Damage::End { known, last } => write!(
                f,
                "the journal ends at commit {last}, but there were commits up to {known}"
            ),
            Damage::Snapshot { file } => write!(f, "{file} is damaged"),
        }
    }
}

/// A store that was recovered.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) segments: Segments,
    pub(super) active: Arc<Fresh>,
    pub(super) offset: u64,
    pub(super) lsn: u64,
    pub(super) damage: Vec<Damage>,
}

/// Whether the index may be used at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It was closed, and is on disk.
    Settled,
    /// It is in use. After a killed process it is as good as before (the system has its writes); after a
    /// power failure it is not.
    InUse,
    /// It is damaged.
    Bad,
}

fn index_file(dir: &Path) -> PathBuf {
    dir.join("INDEX")
}

fn index_dir(dir: &Path) -> PathBuf {
    dir.join("index")
}

/// Tells one run of the machine from another; empty where the system does not say.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Notes how far the index may be trusted. On disk before this returns.
pub(super) fn mark_index(dir: &Path, trust: Trust) -> Result<()> {
    let text = match trust {
        Trust::Settled => "settled\n".to_owned(),
        Trust::InUse => format!("in use {}\n", boot_id()),
        Trust::Bad => "bad\n".to_owned(),
    };
    let path = index_file(dir);
    let temp = dir.join("INDEX.tmp");
    let marked = (|| {
        let mut file = File::create(&temp)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temp, &path)?;
        sync_dir(dir)
    })();
    marked.map_err(|error| io_error("writing", &path, &error))
}

fn is_trusted(dir: &Path) -> bool {
    let text = fs::read_to_string(index_file(dir)).unwrap_or_default();
    match text.trim() {
        "settled" => true,
        // Without an id of this run of the machine nothing is known: the word alone must not match.
        text => {
            let boot = boot_id();
            !boot.is_empty() && text.strip_prefix("in use ") == Some(boot.as_str())
        }
    }
}

/// Syncs a closed index and notes that it may be trusted from now on.
pub(super) fn settle_index(dir: &Path) -> Result<()> {
    fn sync_tree(dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                sync_tree(&path)?;
            } else {
                File::open(&path)?.sync_all()?;
            }
        }
        sync_dir(dir)
    }
    let index = index_dir(dir);
    sync_tree(&index).map_err(|error| io_error("syncing", &index, &error))?;
    mark_index(dir, Trust::Settled)
}

/// Recovers the store.
pub(super) fn recover(options: &Options) -> Result<Recovered> {
    let dir = &options.dir;
    for name in ["journal", "snapshots"] {
        let path = dir.join(name);
        fs::create_dir_all(&path).map_err(|error| io_error("creating", &path, &error))?;
    }
    sync_dir(dir).map_err(|error| io_error("syncing", dir, &error))?;
    let files = Files::find(&dir.join("journal"))?;
    let snapshots = snapshot::list(&dir.join("snapshots"))?;

    let mut damage = Vec::new();
    let trusted = is_trusted(dir) && index_dir(dir).is_dir();
    if trusted {
        match Index::open(&index_dir(dir), options.cache_bytes).and_then(|index| {
            let applied = index.applied()?;
            let indexed = index.segments()?;
            Ok((index, applied, indexed))
        }) {
            Ok((index, applied, indexed)) => {
                let journal = Journal::read(&files, &indexed, applied)?;
                let floor = snapshots.first().map_or(0, |snapshot| snapshot.lsn);
                if applied > journal.last_lsn {
                    tracing::warn!(
                        applied,
                        last = journal.last_lsn,
                        "the index is ahead of the journal"
                    );
                    damage.push(Damage::End {
                        known: applied,
                        last: journal.last_lsn,
                    });
                } else if applied < floor {
                    tracing::info!(applied, floor, "the index is behind the newest snapshot");
                } else {
                    mark_index(dir, Trust::InUse)?;
                    match journal.finish(options, index, applied, &indexed, false, &mut damage) {
                        Err(Error::Io(problem)) => {
                            tracing::warn!(problem, "the index could not be caught up")
                        }
                        done => return done.map(|done| done.with(damage)),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the index cannot be opened"),
        }
    } else if index_dir(dir).exists() {
        tracing::info!("the index may have suffered from a power failure or was damaged");
    }
    rebuild(options, &files, &snapshots, damage)
}

/// Builds the index anew from the newest snapshot and the journal. The old one is only let go of when
/// that has worked.
fn rebuild(
    options: &Options,
    files: &Files,
    snapshots: &[Snapshot],
    mut damage: Vec<Damage>,
) -> Result<Recovered> {
    let dir = &options.dir;
    let index_dir = index_dir(dir);
    let mut base = None;
    for snapshot in snapshots {
        match snapshot::verify(snapshot) {
            Ok(end) => {
                base = Some((snapshot, end));
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                damage.push(Damage::Snapshot {
                    file: snapshot.path.display().to_string(),
                })
            }
            Err(error) => return Err(io_error("reading", &snapshot.path, &error)),
        }
    }
    let journal = Journal::read(files, &BTreeMap::new(), 0)?;
    if base.is_none() && (!snapshots.is_empty() || journal.begins_late()) {
        // Compaction relied on the snapshot: the journal alone is not everything.
        return Err(Error::Unusable(format!(
            "{}: the index and the snapshots are both lost or damaged; restore a backup",
            dir.display()
        )));
    }

    mark_index(dir, Trust::Bad)?;
    let aside = dir.join("index.old");
    let moved = (|| {
        if index_dir.exists() {
            remove_any(&aside)?;
            fs::rename(&index_dir, &aside)?;
        }
        Ok(())
    })();
    moved.map_err(|error: io::Error| io_error("moving", &index_dir, &error))?;

    let index = Index::open(&index_dir, options.cache_bytes)?;
    let mut applied = 0;
    if let Some((snapshot, end)) = base {
        snapshot::load(snapshot, &index)?;
        applied = end.lsn;
        if end.whole_lsn > journal.last_lsn.max(end.lsn) {
            damage.push(Damage::End {
                known: end.whole_lsn,
                last: journal.last_lsn,
            });
        }
    }
    let recovered = journal.finish(options, index, applied, &BTreeMap::new(), true, &mut damage)?;
    // Unsynced, it is good until a power failure.
    mark_index(dir, Trust::InUse)?;
    if let Err(error) = remove_any(&aside) {
        tracing::warn!(%error, "the old index could not be removed");
    }
    Ok(recovered.with(damage))
}

fn remove_any(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The files of the journal: of each segment the generation that counts.
struct Files {
    journal: PathBuf,
    segments: Vec<SegmentId>,
}

impl Files {
    fn find(journal: &Path) -> Result<Self> {
        let failed = |error: io::Error| io_error("listing", journal, &error);
        let (found, others) = segment::list(journal).map_err(failed)?;
        for path in others {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path).map_err(failed)?;
            } else {
                tracing::warn!(path = %path.display(), "this file in the journal's directory is not ours");
            }
        }
        let mut segments: Vec<SegmentId> = Vec::new();
        for id in found {
            match segments.last().copied() {
                // A rewritten segment takes its name when it is whole and synced, so the newer one counts,
                // unless it has been damaged since.
                Some(former) if former.id == id.id => {
                    let is_whole = File::open(id.path(journal))
                        .and_then(|file| segment::read_footer(&file))
                        .map_err(failed)?
                        .is_some();
                    let loser = if is_whole { former } else { id };
                    fs::remove_file(loser.path(journal)).map_err(failed)?;
                    if is_whole {
                        segments.pop();
                        segments.push(id);
                    }
                }
                _ => segments.push(id),
            }
        }
        Ok(Files {
            journal: journal.to_owned(),
            segments,
        })
    }
}

/// What the journal holds.
struct Journal {
    dir: PathBuf,
    parts: Vec<Part>,
    last_lsn: u64,
    damage: Vec<Damage>,
}

/// A segment of the journal.
struct Part {
    id: SegmentId,
    state: PartState,
}

enum PartState {
    /// Its blocks are in the index already.
    Indexed(Sealed),
    /// Sealed; the footer says what it holds.
    Sealed(Sealed, crate::wire::storage_v1::SegmentFooter),
    /// Not sealed, or its footer is damaged: it was scanned.
    Open(Open),
}

struct Open {
    data: Vec<u8>,
    salt: Option<u32>,
    scan: Scan,
    contents: Contents,
    /// Where it ends and the next frame goes; what lies behind is torn and is cut off.
    end: usize,
    is_torn: bool,
}

impl Journal {
    /// Reads footers and scans what has none. `applied` is how far the index was, which proves that these
    /// commits were synced.
    fn read(files: &Files, indexed: &BTreeMap<u64, Indexed>, applied: u64) -> Result<Self> {
        let mut journal = Journal {
            dir: files.journal.clone(),
            parts: Vec::new(),
            last_lsn: 0,
            damage: Vec::new(),
        };
        let newest = files.segments.last().copied();
        for id in &files.segments {
            let state = journal
                .read_part(*id, indexed, applied, Some(*id) == newest)
                .map_err(|error| io_error("reading", &id.path(&files.journal), &error))?;
            let last_lsn = match &state {
                PartState::Indexed(sealed) | PartState::Sealed(sealed, _) => sealed.last_lsn,
                PartState::Open(open) => open.contents.last_lsn,
            };
            journal.last_lsn = journal.last_lsn.max(last_lsn);
            journal.parts.push(Part { id: *id, state });
        }
        journal.note_damage();
        Ok(journal)
    }

    /// Notes the damage in segments that are not sealed. What is behind the last frame of a segment that
    /// another follows is none if no commit can have been there: sealing did not come to its end, or the
    /// footer is damaged. A new one is made from the frames.
    fn note_damage(&mut self) {
        let mut next: Option<(u64, u64)> = None;
        for part in self.parts.iter_mut().rev() {
            let Part { id, state } = part;
            if let PartState::Open(open) = state
                && open
                    .scan
                    .bad
                    .last()
                    .is_some_and(|range| range.end == open.data.len())
            {
                let is_followed = open.contents.last_lsn > 0
                    && next == Some((id.id + 1, open.contents.last_lsn + 1));
                let is_footer = open.salt.is_some_and(|salt| {
                    segment::is_footer_left(&open.data, open.end, &open.contents.footer(), salt)
                });
                if is_followed || is_footer {
                    open.scan.bad.pop();
                }
            }
            next = match state {
                PartState::Indexed(_) => None,
                PartState::Sealed(_, footer) => Some((id.id, footer.first_lsn)),
                PartState::Open(open) => Some((id.id, open.contents.first_lsn)),
            };
        }
        for part in &self.parts {
            if let PartState::Open(open) = &part.state {
                for range in &open.scan.bad {
                    self.damage.push(Damage::Segment {
                        file: part.id.file_name(),
                        range: range.start as u64..range.end as u64,
                    });
                }
            }
        }
    }

    fn read_part(
        &mut self,
        id: SegmentId,
        indexed: &BTreeMap<u64, Indexed>,
        applied: u64,
        is_newest: bool,
    ) -> io::Result<PartState> {
        let file = File::open(id.path(&self.dir))?;
        let bytes = file.metadata()?.len();
        if let Some(indexed) = indexed
            .get(&id.id)
            .filter(|indexed| indexed.generation == id.generation)
        {
            return Ok(PartState::Indexed(Sealed {
                generation: id.generation,
                last_lsn: indexed.last_lsn,
                bytes,
            }));
        }
        if let Some(footer) = segment::read_footer(&file)? {
            let sealed = Sealed {
                generation: id.generation,
                last_lsn: footer.message.last_lsn,
                bytes,
            };
            return Ok(PartState::Sealed(sealed, footer.message));
        }
        let data = fs::read(id.path(&self.dir))?;
        Ok(PartState::Open(
            self.scan_part(id, data, applied, is_newest),
        ))
    }

    fn scan_part(&mut self, id: SegmentId, data: Vec<u8>, applied: u64, is_newest: bool) -> Open {
        let salt = segment::parse_header(&data, id);
        let mut scan = match salt {
            Some(salt) => segment::scan(&data, data.len(), salt),
            None => Scan {
                bad: data
                    .iter()
                    .skip(HEADER)
                    .any(|byte| *byte != 0)
                    .then_some(0..data.len())
                    .into_iter()
                    .collect(),
                end: HEADER,
                ..Scan::default()
            },
        };
        let mut end = scan.end;
        let mut is_torn = false;
        if is_newest
            && salt.is_some()
            && let Some(cut) = torn_at(&scan, self.last_lsn, applied)
        {
            scan.frames.retain(|found| found.at < cut);
            scan.bad.retain(|range| range.start < cut);
            end = cut;
            is_torn = true;
        }

        let mut contents = Contents::default();
        for found in &scan.frames {
            let payload = &data[found.payload()];
            if let Some(frame) = frame::decode(payload) {
                contents.add(&frame, payload, found.at as u64);
            }
        }
        Open {
            data,
            salt,
            scan,
            contents,
            end,
            is_torn,
        }
    }

    /// Whether its beginning is missing, so that it can only be used with a snapshot.
    fn begins_late(&self) -> bool {
        match self.parts.first() {
            None => false,
            Some(part) => {
                let rewritten = self.parts.iter().any(|part| part.id.generation > 0);
                let holes = self
                    .parts
                    .windows(2)
                    .any(|pair| pair[0].id.id + 1 != pair[1].id.id);
                rewritten || holes || part.id.id > 1
            }
        }
    }

    /// Catches the index up and makes everything ready for the writer.
    fn finish(
        mut self,
        options: &Options,
        index: Index,
        applied: u64,
        indexed: &BTreeMap<u64, Indexed>,
        rebuilt: bool,
        damage: &mut Vec<Damage>,
    ) -> Result<Recovered> {
        self.catch_up(&index, applied)?;

        let segments = Segments::new(self.dir.clone());
        let mut lost_segment = false;
        for id in indexed.keys() {
            if !self.parts.iter().any(|part| part.id.id == *id) {
                damage.push(Damage::Segment {
                    file: format!("segment {id} (the file is gone)"),
                    range: 0..0,
                });
                index.forget_segment(*id)?;
                lost_segment = true;
            }
        }
        let is_suspect = rebuilt || lost_segment || !self.damage.is_empty();
        let mut lsn = self.last_lsn.max(applied);
        damage.append(&mut self.damage);

        let mut active = None;
        let last_id = self.parts.last().map_or(0, |part| part.id.id);
        for part in self.parts {
            match part.state {
                PartState::Indexed(sealed) => segments.add_sealed(part.id.id, sealed),
                PartState::Sealed(sealed, footer) => {
                    index.put_segment(part.id, &footer, None)?;
                    segments.add_sealed(part.id.id, sealed);
                }
                PartState::Open(open) => {
                    let is_newest = part.id.id == last_id && part.id.generation == 0;
                    if is_newest && open.salt.is_some() && open.scan.bad.is_empty() {
                        active = Some(reopen(&self.dir, part.id, open)?);
                    } else {
                        let sealed = reseal(&self.dir, part.id, &open, &index)?;
                        if let Some(sealed) = sealed {
                            segments.add_sealed(part.id.id, sealed);
                        }
                    }
                }
            }
        }
        let (active, offset) = match active {
            Some(active) => active,
            None => (
                writer::create(&self.dir, last_id + 1, options.fill_bytes)?,
                HEADER as u64,
            ),
        };
        let active = Arc::new(active);
        segments.add_fresh(active.clone());
        if is_suspect {
            set_apart_uncovered(&index, &segments, damage)?;
        }
        // A lost end must not have its numbers used again.
        for damage in damage.iter() {
            if let Damage::End { known, .. } = damage {
                lsn = lsn.max(*known);
            }
        }
        Ok(Recovered {
            index,
            segments,
            active,
            offset,
            lsn,
            damage: Vec::new(),
        })
    }

    /// Applies the commits after `applied`.
    fn catch_up(&mut self, index: &Index, applied: u64) -> Result<()> {
        let mut last_lsn = applied;
        let mut damage = Vec::new();
        let mut former_id = None;
        for part in &self.parts {
            let follows = former_id.is_none_or(|former| former + 1 == part.id.id);
            former_id = Some(part.id.id);
            match &part.state {
                PartState::Indexed(sealed) | PartState::Sealed(sealed, _) => {
                    if sealed.last_lsn <= applied {
                        continue;
                    }
                    let path = part.id.path(&self.dir);
                    let data =
                        fs::read(&path).map_err(|error| io_error("reading", &path, &error))?;
                    let footer = segment::footer_in(&data);
                    let end = footer
                        .as_ref()
                        .map_or(data.len(), |footer| footer.data_end as usize);
                    let salt =
                        segment::parse_header(&data, part.id).or(footer.map(|footer| footer.salt));
                    let scan =
                        salt.map_or_else(Scan::default, |salt| segment::scan(&data, end, salt));
                    for range in &scan.bad {
                        damage.push(Damage::Segment {
                            file: part.id.file_name(),
                            range: range.start as u64..range.end as u64,
                        });
                    }
                    replay(
                        index,
                        part.id,
                        &data,
                        &scan,
                        !follows,
                        &mut last_lsn,
                        &mut damage,
                    )?;
                    if last_lsn < sealed.last_lsn {
                        damage.push(Damage::Commits {
                            range: last_lsn + 1..sealed.last_lsn + 1,
                        });
                        last_lsn = sealed.last_lsn;
                    }
                }
                PartState::Open(open) => replay(
                    index,
                    part.id,
                    &open.data,
                    &open.scan,
                    !follows,
                    &mut last_lsn,
                    &mut damage,
                )?,
            }
        }
        self.damage.append(&mut damage);
        Ok(())
    }
}

impl Recovered {
    fn with(mut self, damage: Vec<Damage>) -> Self {
        self.damage = damage;
        self
    }
}

/// Where a torn tail begins: at the first damage of which nothing proves that it was ever synced. A later
/// commit proves it that was written when this one was known to be synced; so does the index if it has it
/// and something follows.
fn torn_at(scan: &Scan, base_lsn: u64, applied: u64) -> Option<usize> {
    for range in &scan.bad {
        let lost_lsn = scan
            .frames
            .iter()
            .take_while(|found| found.at < range.start)
            .last()
            .map_or(base_lsn, |found| found.lsn)
            + 1;
        let mut later = scan
            .frames
            .iter()
            .filter(|found| found.at >= range.end)
            .peekable();
        let is_proven = later.peek().is_some()
            && (applied >= lost_lsn || later.any(|found| found.synced_lsn >= lost_lsn));
        if !is_proven {
            return Some(range.start);
        }
    }
    None
}

/// Applies the scanned commits after `last_lsn`, which moves along. Missing numbers are only damage where
/// something can be missing: behind a damaged range, or (`after_hole`) a missing segment.
fn replay(
    index: &Index,
    id: SegmentId,
    data: &[u8],
    scan: &Scan,
    mut after_hole: bool,
    last_lsn: &mut u64,
    damage: &mut Vec<Damage>,
) -> Result<()> {
    for frames in scan.frames.chunks(CATCH_UP) {
        let mut projection = index.begin();
        for found in frames {
            let is_suspect = found.after_bad || std::mem::take(&mut after_hole);
            if found.lsn <= *last_lsn {
                continue;
            }
            let payload = &data[found.payload()];
            let Some(frame) = frame::decode(payload) else {
                continue;
            };
            if is_suspect && frame.lsn > *last_lsn + 1 {
                damage.push(Damage::Commits {
                    range: *last_lsn + 1..frame.lsn,
                });
            }
            *last_lsn = frame.lsn;
            projection.add(&frame, payload, id, found.at as u64)?;
        }
        projection.finish()?;
        index.settle_if_behind()?;
    }
    Ok(())
}

/// Takes the tail up again where it ends.
fn reopen(journal: &Path, id: SegmentId, open: Open) -> Result<(Fresh, u64)> {
    let path = id.path(journal);
    let failed = |error: io::Error| io_error("opening", &path, &error);
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    let end = open.end as u64;
    let mut filled = open.data.len() as u64;
    if open.is_torn {
        tracing::info!(file = id.file_name(), at = end, "a torn tail was cut off");
        file.set_len(end).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        filled = end;
    }
    let fresh = Fresh {
        id: id.id,
        salt: open.salt.unwrap_or_default(),
        file: Arc::new(file),
        contents: open.contents.into(),
        room: Room::new(filled),
    };
    Ok((fresh, end))
}

/// Seals a segment that was left unsealed, or whose footer or middle is damaged; what is damaged stays as
/// it is. A file without anything in it is removed.
fn reseal(journal: &Path, id: SegmentId, open: &Open, index: &Index) -> Result<Option<Sealed>> {
    let path = id.path(journal);
    let failed = |error: io::Error| io_error("sealing", &path, &error);
    if open.scan.frames.is_empty() && open.scan.bad.is_empty() {
        fs::remove_file(&path)
            .and_then(|()| sync_dir(journal))
            .map_err(failed)?;
        return Ok(None);
    }
    let message = open.contents.footer();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    // Behind the damage, so that it can still be looked at.
    let bad_end = open.scan.bad.last().map_or(0, |range| range.end);
    let data_end = open.end.max(bad_end) as u64;
    let bytes =
        write_footer(&file, &message, data_end, open.salt.unwrap_or_default()).map_err(failed)?;
    index.put_segment(id, &message, None)?;
    Ok(Some(Sealed {
        generation: id.generation,
        last_lsn: message.last_lsn,
        bytes,
    }))
}

/// Compares what the segments hold of every stream with its head, and sets apart those of which something
/// is missing.
fn set_apart_uncovered(index: &Index, segments: &Segments, damage: &mut Vec<Damage>) -> Result<()> {
    let known = index.apart()?;
    let mut after: Option<Stream> = None;
    loop {
        let heads = index.heads(after.as_ref(), CATCH_UP)?;
        let Some((last, _)) = heads.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        for (stream, head) in heads {
            if known.contains_key(&stream) {
                continue;
            }
            if let Some(missing) = uncovered(index, segments, &stream, &head)? {
                let problem = format!(
                    "entries {} to {} are missing",
                    missing.start,
                    missing.end - 1
                );
                index.set_apart(&stream, &problem)?;
                damage.push(Damage::Stream { stream, problem });
            }
        }
    }
}

/// The first range of a stream's entries that no segment holds.
fn uncovered(
    index: &Index,
    segments: &Segments,
    stream: &Stream,
    head: &Head,
) -> Result<Option<Range<u64>>> {
    let mut next_seq = head.first_seq;
    while next_seq <= head.last_seq {
        let mut places = index.runs(stream, head.log_epoch, next_seq, 1 << 30)?;
        if places.is_empty() {
            places = segments.fresh_runs(stream, head.log_epoch, next_seq, u64::MAX);
        }
        // Of a segment whose file is gone, the index may still have the blocks.
        places.retain(|place| segments.has(place.segment));
        let from = next_seq;
        for place in places {
            if place.run.first_seq > next_seq {
                return Ok(Some(next_seq..place.run.first_seq));
            }
            next_seq = next_seq.max(place.run.last_seq + 1);
        }
        if next_seq == from {
            return Ok(Some(next_seq..head.last_seq + 1));
        }
    }
    Ok(None)
}
