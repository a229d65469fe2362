//! A whole store as one portable file, and back: for backups, for moving to another machine, and for
//! what comes after this layout.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::content::Contents;
use super::disk::{io_error, sync_dir};
use super::frame;
use super::items;
use super::runs::{Contents as SegmentContents, MAX_INDEXED_VALUE};
use super::segment::{self, SegmentId};
use super::snapshot::{self, head_from, head_message};
use super::{LocalStore, Options, Progress, lock};
use crate::store::{Error, Head, Result, Stream};
use crate::wire::storage_v1 as pb;
use pb::item::Item;
use pb::snapshot_entry::Entry;

const FORMAT: u32 = 1;
const PAGE: usize = 256;
/// Bytes of entries that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Bytes of a piece of content.
const PIECE_BYTES: usize = 256 << 10;

/// What an export or import moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Streams.
    pub streams: u64,
    /// Their entries.
    pub entries: u64,
    /// Records.
    pub records: u64,
    /// Contents.
    pub contents: u64,
    /// Streams that an export left out since they are damaged, and why.
    pub damaged: Vec<(String, String)>,
}

/// Writes a store that nobody has open to `out`.
pub fn export(
    options: Options,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Moved> {
    let store = LocalStore::open_existing(options)?;
    let exported = export_store(&store, out, progress)?;
    store.close_blocking()?;
    Ok(exported)
}

struct Exporter<'a> {
    out: &'a mut dyn Write,
    items: u64,
}

impl Exporter<'_> {
    fn put(&mut self, item: Item) -> Result<()> {
        self.items += 1;
        let item = pb::Item { item: Some(item) };
        items::write(&mut self.out, &item)
            .map_err(|error| io_error("writing", Path::new("the export"), &error))
    }
}

fn export_store(
    store: &LocalStore,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Moved> {
    let core = &store.core;
    let index = core.index()?;
    let mut moved = Moved::default();
    let mut out = Exporter { out, items: 0 };
    out.put(Item::Header(pb::ExportHeader {
        format: FORMAT,
        lsn: index.applied()?.max(*core.revision.borrow()),
    }))?;

    let mut after: Option<String> = None;
    loop {
        let records = core.records(|index| index.scan("", after.as_deref(), PAGE))?;
        let Some(last) = records.last() else {
            break;
        };
        after = Some(last.key.clone());
        moved.records += records.len() as u64;
        for record in records {
            out.put(Item::Record(pb::RecordEntry {
                key: record.key,
                value: record.value,
                revision: record.revision,
                in_journal: false,
            }))?;
        }
        progress(Progress {
            phase: "records",
            done: moved.records,
            total: None,
        });
    }
    let mut after: Option<String> = None;
    loop {
        let tombstones = index.tombstones(after.as_deref(), PAGE)?;
        let Some(last) = tombstones.last() else {
            break;
        };
        after = Some(last.key.clone());
        for tombstone in tombstones {
            out.put(Item::Tombstone(tombstone))?;
        }
    }
    let mut after: Option<Stream> = None;
    loop {
        let heads = index.heads(after.as_ref(), PAGE)?;
        let Some((last, _)) = heads.last() else {
            break;
        };
        after = Some(last.clone());
        for (stream, head) in heads {
            export_stream(store, &stream, &head, &mut out, &mut moved)?;
            progress(Progress {
                phase: "entries",
                done: moved.entries,
                total: None,
            });
        }
    }
    core.contents.each(&mut |sha256, size| {
        let mut offset = 0;
        loop {
            let data = core.contents.read(sha256, offset, PIECE_BYTES)?;
            let len = data.len() as u64;
            out.put(Item::Content(pb::ExportContent {
                sha256: sha256.to_owned(),
                size,
                offset,
                data,
            }))?;
            offset += len;
            if offset >= size || len == 0 {
                break;
            }
        }
        moved.contents += 1;
        progress(Progress {
            phase: "contents",
            done: moved.contents,
            total: None,
        });
        Ok(())
    })?;
    let items = out.items;
    out.put(Item::End(pb::ExportEnd {
        items,
        forgotten: index.forgotten(),
    }))?;
    out.out
        .flush()
        .map_err(|error| io_error("writing", Path::new("the export"), &error))?;
    Ok(moved)
}

fn export_stream(
    store: &LocalStore,
    stream: &Stream,
    head: &Head,
    out: &mut Exporter<'_>,
    moved: &mut Moved,
) -> Result<()> {
    let core = &store.core;
    // Damage is looked for before anything is written: a stream is exported whole or not at all.
    let mut after_seq = head.first_seq - 1;
    let mut is_read = false;
    for pass in [false, true] {
        if pass {
            moved.streams += 1;
            out.put(Item::Stream(head_message(stream, head)))?;
            after_seq = head.first_seq - 1;
        }
        while after_seq < head.last_seq {
            let chunks = match core.read_disk(stream, after_seq, READ_BYTES) {
                Ok(chunks) => chunks,
                Err(Error::Corrupt { problem, .. }) if !is_read => {
                    moved.damaged.push((stream.to_string(), problem));
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            for chunk in chunks {
                after_seq = chunk.last_seq;
                if pass {
                    moved.entries += chunk.last_seq - chunk.first_seq + 1;
                    out.put(Item::Run(pb::ExportRun {
                        first_seq: chunk.first_seq,
                        last_seq: chunk.last_seq,
                        entries: chunk.bytes,
                    }))?;
                }
            }
        }
        // A stream that is set apart without a gap in its entries shows it here.
        if !pass && let Err(Error::Corrupt { problem, .. }) = core.check_apart(stream) {
            moved.damaged.push((stream.to_string(), problem));
            return Ok(());
        }
        is_read = pass;
    }
    Ok(())
}

/// Makes a store in `options.dir`, which must be empty or not there, from an export. Until it is done,
/// the directory cannot be opened as a store.
pub fn import(
    options: &Options,
    from: &mut dyn Read,
    progress: &mut dyn FnMut(Progress),
) -> Result<Moved> {
    let dir = &options.dir;
    fs::create_dir_all(dir).map_err(|error| io_error("creating", dir, &error))?;
    let is_empty = fs::read_dir(dir)
        .map_err(|error| io_error("listing", dir, &error))?
        .next()
        .is_none();
    if !is_empty {
        return Err(Error::Unusable(format!(
            "{} is not empty: an import makes a new store",
            dir.display()
        )));
    }
    let journal = dir.join("journal");
    let snapshots = dir.join("snapshots");
    for path in [&journal, &snapshots] {
        fs::create_dir(path).map_err(|error| io_error("creating", path, &error))?;
    }
    let contents = Contents::open(dir.join("content"), options.clock.clone())?;

    let mut reader = Importer { from, items: 0 };
    let Some(Item::Header(header)) = reader.next()? else {
        return Err(unreadable("it does not begin with a header"));
    };
    if header.format != FORMAT {
        return Err(unreadable(&format!(
            "its format is {}, not {FORMAT}",
            header.format
        )));
    }
    let mut moved = Moved::default();
    let mut snapshot = snapshot::Writer::create(&snapshots)?;
    let mut segments = SegmentWriter::new(&journal, header.lsn, options.segment_bytes);
    let mut stream: Option<(Stream, Head, u64)> = None;
    let forgotten = loop {
        let items = reader.items;
        let Some(item) = reader.next()? else {
            return Err(unreadable("it has no end"));
        };
        if !matches!(item, Item::Run(_)) {
            check_whole(stream.take())?;
        }
        match item {
            Item::Header(_) => return Err(unreadable("it has two headers")),
            Item::Record(mut record) => {
                if record.value.len() > MAX_INDEXED_VALUE {
                    segments.add_value(&record)?;
                    record.value = bytes::Bytes::new();
                    record.in_journal = true;
                }
                snapshot.add(Entry::Record(record))?;
                moved.records += 1;
            }
            Item::Tombstone(tombstone) => snapshot.add(Entry::Tombstone(tombstone))?,
            Item::Stream(message) => {
                let Some((name, head)) = head_from(&message) else {
                    return Err(unreadable("a stream's name cannot be used"));
                };
                stream = Some((name, head, head.first_seq));
                snapshot.add(Entry::Head(message))?;
                moved.streams += 1;
            }
            Item::Run(run) => {
                let Some((name, head, next_seq)) = &mut stream else {
                    return Err(unreadable("entries come without their stream"));
                };
                let count = frame::count_entries(&run.entries);
                let fits = run.first_seq == *next_seq
                    && run.last_seq <= head.last_seq
                    && count.is_some_and(|count| {
                        count > 0 && run.first_seq.checked_add(count - 1) == Some(run.last_seq)
                    });
                if !fits {
                    return Err(unreadable(&format!(
                        "the entries of stream {name} do not follow each other"
                    )));
                }
                segments.add_run(name, head, &run)?;
                // (Of the last number there is, the next run says that it does not follow.)
                *next_seq = run.last_seq.saturating_add(1);
                moved.entries += run.last_seq - run.first_seq + 1;
            }
            Item::Content(piece) => {
                let is_whole =
                    contents.stage(&piece.sha256, piece.size, piece.offset, &piece.data)?;
                moved.contents += u64::from(is_whole);
            }
            Item::End(end) => {
                if end.items != items {
                    return Err(unreadable("items are missing"));
                }
                break end.forgotten;
            }
        }
        progress(Progress {
            phase: "items",
            done: reader.items,
            total: None,
        });
    };
    segments.finish()?;
    snapshot.finish(header.lsn, header.lsn, forgotten)?;
    sync_dir(dir)
        .and_then(|()| lock::write_format(dir))
        .map_err(|error| io_error("writing", dir, &error))?;
    Ok(moved)
}

fn check_whole(stream: Option<(Stream, Head, u64)>) -> Result<()> {
    match stream {
        Some((name, head, next_seq)) if next_seq != head.last_seq.saturating_add(1) => {
            Err(unreadable(&format!("entries of stream {name} are missing")))
        }
        _ => Ok(()),
    }
}

fn unreadable(problem: &str) -> Error {
    Error::Unusable(format!("the export cannot be read: {problem}"))
}

struct Importer<'a> {
    from: &'a mut dyn Read,
    items: u64,
}

impl Importer<'_> {
    fn next(&mut self) -> Result<Option<Item>> {
        let item = items::read::<pb::Item>(&mut self.from).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => unreadable(&error.to_string()),
            _ => Error::Io(format!("reading the export: {error}")),
        })?;
        self.items += 1;
        match item {
            None => Ok(None),
            Some(pb::Item { item: Some(item) }) => Ok(Some(item)),
            Some(pb::Item { item: None }) => Err(unreadable("an item is of no known kind")),
        }
    }
}

/// Writes sealed segments. They look as compaction leaves them: the snapshot beside them says the rest.
struct SegmentWriter<'a> {
    journal: &'a Path,
    lsn: u64,
    segment_bytes: u64,
    id: u64,
    salt: u32,
    out: Vec<u8>,
    contents: SegmentContents,
}

impl<'a> SegmentWriter<'a> {
    fn new(journal: &'a Path, lsn: u64, segment_bytes: u64) -> Self {
        SegmentWriter {
            journal,
            lsn,
            segment_bytes,
            id: 0,
            salt: 0,
            out: Vec::new(),
            contents: SegmentContents::default(),
        }
    }

    fn segment(&self) -> SegmentId {
        SegmentId {
            id: self.id,
            generation: 1,
        }
    }

    fn add(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        if self.out.is_empty() {
            self.id += 1;
            self.salt = rand::random();
            self.out
                .extend_from_slice(&segment::header(self.segment(), self.salt));
        }
        let start = self.out.len() + frame::FRAME_HEADER;
        frame::seal_frame(&mut self.out, self.salt, fill);
        let payload = &self.out[start..];
        let Some(commit) = frame::decode(payload) else {
            return Err(unreadable("an item cannot be stored"));
        };
        self.contents.add(&commit, payload, start as u64);
        if self.out.len() as u64 >= self.segment_bytes {
            self.finish()?;
        }
        Ok(())
    }

    fn add_run(&mut self, stream: &Stream, head: &Head, run: &pb::ExportRun) -> Result<()> {
        let lsn = self.lsn;
        self.add(|out| {
            frame::put_number(out, 1, lsn);
            frame::put_append(
                out,
                stream,
                head.log_epoch,
                run.first_seq,
                head.fence,
                head.last_time,
                &run.entries,
            );
        })
    }

    fn add_value(&mut self, record: &pb::RecordEntry) -> Result<()> {
        self.add(|out| {
            frame::put_number(out, 1, record.revision);
            frame::put_value(out, &record.key, &record.value);
        })
    }

    fn finish(&mut self) -> Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let message = pb::SegmentFooter {
            first_lsn: 1,
            last_lsn: self.lsn,
            ..std::mem::take(&mut self.contents).footer()
        };
        let data_end = self.out.len() as u64;
        self.out
            .extend(segment::footer_bytes(&message, data_end, self.salt));
        let path = self.segment().path(self.journal);
        let written = (|| {
            let mut file = File::create(&path)?;
            file.write_all(&self.out)?;
            file.sync_all()?;
            sync_dir(self.journal)
        })();
        self.out.clear();
        written.map_err(|error: io::Error| io_error("writing", &path, &error))
    }
}
