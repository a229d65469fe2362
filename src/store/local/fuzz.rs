//! Files of the store in any state: what is believed was written so, and lies within its file.

use bytes::Bytes;
use prost::Message as _;

use super::check::check;
use super::export::import;
use super::segment::{self, HEADER, SegmentId};
use super::snapshot::{head_from, head_message};
use super::tests::options;
use super::{LocalStore, frame, items};
use crate::base::Timestamp;
use crate::base::fuzz::Target;
use crate::store::{Append, Commit, Committed, Expect, Head, Origin, RecordOp, Stream, Trim};
use crate::wire::storage_v1 as pb;
use pb::item::Item;

fn stream(name: &str) -> Stream {
    Stream::new(name).expect("a valid name")
}

fn head(first_seq: u64, last_seq: u64) -> Head {
    Head {
        log_epoch: 11,
        first_seq,
        last_seq,
        fence: 3,
        origin: Origin { epoch: 5, seq: 9 },
        last_time: Timestamp::EPOCH,
    }
}

/// The payload of a commit with everything in it.
fn payload() -> Vec<u8> {
    let commit = Commit {
        appends: vec![Append {
            stream: stream("ses_1"),
            expected_last: 6,
            fence: 3,
            entries: vec![
                Bytes::from_static(b"one"),
                Bytes::new(),
                Bytes::from_static(b"three"),
            ]
            .into(),
            origin: Some(Origin { epoch: 5, seq: 9 }),
            time: Timestamp::from_micros(-3),
        }],
        ops: vec![
            RecordOp {
                key: "a/b".into(),
                expect: Expect::Any,
                value: Some(Bytes::from_static(b"value")),
            },
            RecordOp {
                key: "gone".into(),
                expect: Expect::Any,
                value: None,
            },
        ],
        trims: vec![Trim {
            stream: stream("old"),
            first_seq: 4,
            drop: true,
        }],
    };
    let committed = Committed {
        revision: 700,
        heads: vec![head(1, 9)],
    };
    let mut out = Vec::new();
    frame::encode(&mut out, 7, 1, &commit, &committed);
    out.split_off(frame::FRAME_HEADER)
}

#[test]
fn frames() {
    Target::new("store_frames").seeds([payload()]).run(|bytes| {
        if let Some(read) = frame::decode(bytes) {
            assert!(read.lsn > 0);
            let within = |range: &std::ops::Range<usize>| {
                range.start <= range.end && range.end <= bytes.len()
            };
            for append in &read.appends {
                assert!(within(&append.entries) && within(&append.raw));
                let batch = &bytes[append.entries.clone()];
                assert_eq!(frame::count_entries(batch), Some(append.count));
                assert_eq!(
                    frame::entries(batch).map(|all| all.len() as u64),
                    Some(append.count)
                );
                assert_eq!(frame::skip_entries(batch, append.count), Some(batch.len()));
                assert!(Stream::new(append.stream.as_str()).is_some());
            }
            for op in &read.ops {
                assert!(within(&op.raw) && op.value.as_ref().is_none_or(within));
            }
            // It is a commit for whoever reads it by the proto too.
            assert!(
                pb::Commit::decode(bytes).is_ok() || !read.appends.is_empty() || bytes.len() > 2
            );
        }
        let _ = frame::count_entries(bytes);
        // As a file: good frames, these bytes, good frames. The good ones are found, whatever lies between.
        let salt = 99;
        let mut file = segment::header(
            SegmentId {
                id: 3,
                generation: 1,
            },
            salt,
        )
        .to_vec();
        let good = |file: &mut Vec<u8>, lsn: u64| {
            frame::seal_frame(file, salt, |out| frame::put_number(out, 1, lsn));
        };
        good(&mut file, 700);
        let before = file.len();
        file.extend_from_slice(bytes);
        let behind = file.len();
        good(&mut file, u64::MAX);
        let scan = segment::scan(&file, file.len(), salt);
        assert_eq!(scan.frames[0].lsn, 700);
        assert!(
            scan.end <= file.len()
                && scan
                    .bad
                    .iter()
                    .all(|bad| bad.start < bad.end && bad.end <= file.len())
        );
        assert!(
            scan.frames
                .windows(2)
                .all(|pair| pair[0].payload().end <= pair[1].at)
        );
        let is_found = scan
            .frames
            .iter()
            .any(|found| found.at == behind + frame::FRAME_HEADER);
        // A length in the damage may only hide what lies within a frame whose checksum is right.
        assert!(
            is_found || scan.frames.len() > 1,
            "{before}..{behind}: {scan:?}"
        );
        assert_eq!(
            segment::parse_header(
                &file,
                SegmentId {
                    id: 3,
                    generation: 1
                }
            ),
            Some(salt)
        );
        // And with a checksum that is right.
        let mut sealed = segment::header(
            SegmentId {
                id: 3,
                generation: 1,
            },
            salt,
        )
        .to_vec();
        frame::seal_frame(&mut sealed, salt, |out| out.extend_from_slice(bytes));
        let scan = segment::scan(&sealed, sealed.len(), salt);
        assert_eq!(
            !scan.frames.is_empty(),
            !bytes.is_empty() && frame::decode(bytes).is_some()
        );
    });
}

#[test]
fn headers_and_footers() {
    let footer = pb::SegmentFooter {
        blocks: vec![pb::RunBlock {
            counts: vec![1],
            offsets: vec![40],
            lens: vec![3],
            crcs: vec![7],
            ..pb::RunBlock::default()
        }],
        ..pb::SegmentFooter::default()
    };
    let mut file = segment::header(
        SegmentId {
            id: 1,
            generation: 0,
        },
        5,
    )
    .to_vec();
    file.extend(segment::footer_bytes(&footer, HEADER as u64, 5));
    Target::new("store_segments")
        .seeds([
            footer.encode_to_vec(),
            file,
            b"0000000000000001-00000000.seg".to_vec(),
        ])
        .run(|bytes| {
            let _ = segment::parse_header(
                bytes,
                SegmentId {
                    id: 1,
                    generation: 0,
                },
            );
            let _ = segment::ends_with_mark(bytes);
            if let Some(found) = segment::footer_in(bytes) {
                assert!(found.data_end as usize <= bytes.len());
            }
            if let Ok(message) = pb::SegmentFooter::decode(bytes) {
                let mut file = vec![0; HEADER];
                file.extend(segment::footer_bytes(&message, HEADER as u64, 5));
                if let Some(found) = segment::footer_in(&file) {
                    assert_eq!(found.message, message);
                    let alike = found
                        .message
                        .blocks
                        .iter()
                        .all(|block| block.counts.len() == block.crcs.len());
                    assert!(alike && found.salt == 5);
                }
            }
            if let Ok(name) = std::str::from_utf8(bytes)
                && let Some(id) = SegmentId::parse(name)
            {
                assert_eq!(id.file_name(), name);
            }
            if let Ok(message) = pb::StreamHead::decode(bytes)
                && let Some((stream, head)) = head_from(&message)
            {
                let again = head_from(&head_message(&stream, &head)).expect("it was just made");
                assert_eq!((again.0, again.1), (stream, head));
            }
        });
}

fn item(item: Item) -> Vec<u8> {
    pb::Item { item: Some(item) }.encode_to_vec()
}

/// A small export, item by item, without their lengths and checksums.
fn export_items() -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for entry in [&b"one"[..], b"two"] {
        entries.push(0x0a);
        entries.push(entry.len() as u8);
        entries.extend_from_slice(entry);
    }
    vec![
        item(Item::Header(pb::ExportHeader { format: 1, lsn: 9 })),
        item(Item::Record(pb::RecordEntry {
            key: "a/b".to_owned(),
            revision: 3,
            value: Bytes::from_static(b"value"),
            ..pb::RecordEntry::default()
        })),
        item(Item::Stream(head_message(&stream("ses_1"), &head(1, 2)))),
        item(Item::Run(pb::ExportRun {
            first_seq: 1,
            last_seq: 2,
            entries: entries.into(),
        })),
        item(Item::Content(pb::ExportContent {
            sha256: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae".to_owned(),
            size: 3,
            offset: 0,
            data: Bytes::from_static(b"foo"),
        })),
        item(Item::End(pb::ExportEnd {
            items: 5,
            ..pb::ExportEnd::default()
        })),
    ]
}

#[test]
fn items_of_snapshots_and_exports() {
    Target::new("store_items")
        .seeds(export_items())
        .run(|bytes| {
            let _ = items::read::<pb::SnapshotEntry>(&mut &bytes[..]);
            let mut sealed = (bytes.len() as u32).to_le_bytes().to_vec();
            sealed.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
            sealed.extend_from_slice(bytes);
            let read = items::read::<pb::Item>(&mut &sealed[..]);
            assert_eq!(read.is_ok(), pb::Item::decode(bytes).is_ok());
            if let Ok(Some(read)) = read {
                let mut again = Vec::new();
                items::write(&mut again, &read).expect("written");
                assert_eq!(
                    items::read::<pb::Item>(&mut &again[..]).expect("readable"),
                    Some(read)
                );
            }
            // Cut short anywhere, it is an error and no item.
            let cut = &sealed[..sealed.len() - 1];
            assert!(items::read::<pb::Item>(&mut &*cut).is_err());
        });
}

/// What an import makes of a file is a whole store, or it says what is wrong with the file.
#[test]
fn imports() {
    let root = tempfile::tempdir().expect("a directory");
    let mut whole = Vec::new();
    for item in export_items() {
        put_item(&mut whole, &item);
    }
    let dir = tempfile::tempdir_in(root.path()).expect("a directory");
    import(&options(dir.path()), &mut &whole[..], &mut |_| {}).expect("the seeds are an export");
    let seeds = export_items();
    Target::new("store_import")
        .seeds(seeds.clone())
        .pieces(6)
        .weighs(40)
        .run_all(|pieces| {
            // The seeds in their order, the pieces in the places of some.
            let mut file = Vec::new();
            for (n, seed) in seeds.iter().enumerate() {
                let other = pieces
                    .get(n)
                    .filter(|piece| piece.first() == seed.first() || piece.len() % 4 == 0);
                put_item(&mut file, other.unwrap_or(seed));
            }
            let dir = tempfile::tempdir_in(root.path()).expect("a directory");
            let options = options(&dir.path().join("store"));
            if import(&options, &mut &file[..], &mut |_| {}).is_ok() {
                let report = check(&options, &mut |_| {}).expect("it can be checked");
                assert!(report.problems.is_empty(), "{:?}", report.problems);
                let store = LocalStore::open_existing(options).expect("what was imported opens");
                assert!(store.damage().is_empty(), "{:?}", store.damage());
                store.close_blocking().expect("closed");
            }
            let beside = std::fs::read_dir(dir.path()).expect("readable").count();
            assert!(beside <= 1, "an import writes into its directory only");
        });
}

fn put_item(file: &mut Vec<u8>, payload: &[u8]) {
    file.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    file.extend_from_slice(payload);
}
