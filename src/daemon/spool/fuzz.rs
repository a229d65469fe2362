//! Files of a spool in any state: every number is covered once, by its record or by word that it is missing.

use std::fs;

use prost::Message as _;

use super::tests::{all, assert_covered};
use super::{Found, MAGIC, Spool, decode, encode, frame};
use crate::base::fuzz::Target;
use crate::wire::runner_v1::{Line, Pipe, SpoolRecord, spool_record::Body};

fn record(seq: u64, text: &str) -> Vec<u8> {
    SpoolRecord {
        seq,
        time_us: 5,
        body: Some(Body::Line(Line {
            pipe: Pipe::Stdout.into(),
            data: text.to_owned().into(),
            continues: false,
        })),
    }
    .encode_to_vec()
}

fn entry(seq: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(seq, &record(seq, "text"), &mut bytes);
    bytes
}

#[test]
fn frames() {
    Target::new("spool_frames").seeds((1..4).map(entry)).run(|bytes| {
        match decode(bytes) {
            Found::Entry { seq, payload, length } => {
                assert!(length <= bytes.len());
                let mut again = Vec::new();
                encode(seq, payload, &mut again);
                assert_eq!(again, bytes[..length]);
            }
            Found::Short { needs } => assert!(needs > bytes.len()),
            Found::Damaged => {}
        }
        if let Some(at) = frame::resync(bytes, 1, 1 << 40) {
            assert!(matches!(decode(&bytes[at..]), Found::Entry { seq, .. } if (1..1 << 40).contains(&seq)));
        }
        // Behind any damage the next good entry is found.
        let damaged = [bytes, &entry(7)[..]].concat();
        let found = frame::resync(&damaged, 7, 8).expect("it is there");
        assert!(found <= bytes.len());
    });
}

#[test]
fn files() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("spool");
    let header = |epoch: u64| {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&epoch.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    };
    // Each piece is put into the first file or a second one; entries get checksums that are right.
    let seeds: Vec<Vec<u8>> = (1..6)
        .flat_map(|seq| [record(seq, "line"), entry(seq)])
        .collect();
    Target::new("spool_files")
        .seeds(seeds)
        .pieces(8)
        .weighs(20)
        .run_all(|pieces| {
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).expect("a directory");
            let (mut first, mut second) = (header(3), header(3));
            for (n, piece) in pieces.iter().enumerate() {
                let (file, seq) = if n < 5 {
                    (&mut first, n as u64 + 1)
                } else {
                    (&mut second, n as u64 + 3)
                };
                match piece.first() {
                    // A number at which others end, under a checksum that is right.
                    Some(0xff) => encode(u64::MAX - piece.len() as u64 % 2, piece, file),
                    Some(byte) if byte % 4 == 0 => file.extend_from_slice(piece),
                    _ => encode(seq, piece, file),
                }
            }
            fs::write(dir.join(format!("{:020}.spool", 1)), &first).expect("written");
            if pieces.len() > 5 {
                let name = if pieces[5].len() % 7 == 0 {
                    u64::MAX
                } else {
                    8
                };
                fs::write(dir.join(format!("{name:020}.spool")), &second).expect("written");
            }
            let Ok(mut spool) = Spool::open(&dir, 1 << 20, Some(3)) else {
                return;
            };
            let last = spool.last_seq();
            if last <= 1_000 {
                assert_covered(&all(&spool, 0), 1, last);
                // It goes on where it ends.
                let line = Body::Line(Line {
                    pipe: Pipe::Stdout.into(),
                    data: "next".into(),
                    continues: false,
                });
                assert_eq!(
                    spool
                        .append(crate::base::Timestamp::EPOCH, line)
                        .expect("written"),
                    last + 1
                );
                let again = all(&spool, last);
                assert_eq!(again.len(), 1);
            } else {
                let mut cursor = super::Cursor::after(0);
                for _ in 0..100 {
                    if spool.read(&mut cursor).expect("readable").is_empty() {
                        return;
                    }
                }
                panic!("reading does not come to an end");
            }
        });
}
