use super::*;
use crate::wire::runner_v1::{Line, Pipe};

fn line(n: u64, size: usize) -> Body {
    let mut data = format!("line {n} ").into_bytes();
    data.resize(size.max(data.len()), b'.');
    Body::Line(Line {
        pipe: Pipe::Stdout.into(),
        data: data.into(),
        continues: false,
    })
}

fn filled(dir: &Path, count: u64, size: usize) -> Spool {
    let mut spool = Spool::create(dir, 1 << 20).unwrap();
    for n in 1..=count {
        assert_eq!(
            spool
                .append(Timestamp::from_micros(5), line(n, size))
                .unwrap(),
            n
        );
    }
    spool
}

pub(super) fn all(spool: &Spool, after: u64) -> Vec<SpoolRecord> {
    let mut cursor = Cursor::after(after);
    let mut records = Vec::new();
    loop {
        let more = spool.read(&mut cursor).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

/// Every number is covered once, by a record or by a `Missing`.
pub(super) fn assert_covered(records: &[SpoolRecord], from: u64, to: u64) {
    let mut next = from;
    for record in records {
        if let Some(Body::Missing(missing)) = &record.body {
            assert_eq!(missing.from_seq, next);
            assert_eq!(missing.to_seq, record.seq);
        } else {
            assert_eq!(record.seq, next);
        }
        next = record.seq + 1;
    }
    assert_eq!(next, to + 1);
}

#[test]
fn records_come_back_from_any_place_over_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let spool = filled(&dir.path().join("s"), 500, 1_000);
    assert!(spool.segments.len() > 2);
    for after in [0, 1, 130, 131, 132, 499, 500] {
        let records = all(&spool, after);
        assert_covered(&records, after + 1, 500);
        assert!(
            records
                .iter()
                .all(|r| matches!(r.body, Some(Body::Line(_))))
        );
    }
}

#[test]
fn a_record_larger_than_a_read_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = filled(&dir.path().join("s"), 3, 10);
    spool.append(Timestamp::EPOCH, line(4, 3 << 20)).unwrap();
    spool.append(Timestamp::EPOCH, line(5, 10)).unwrap();
    let records = all(&spool, 0);
    assert_covered(&records, 1, 5);
    assert!(matches!(&records[3].body, Some(Body::Line(line)) if line.data.len() == 3 << 20));
}

#[test]
fn trimming_removes_whole_files_and_a_reader_behind_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = filled(&dir.path().join("s"), 500, 1_000);
    let before = spool.bytes();
    spool.trim(300).unwrap();
    assert!(spool.bytes() < before && spool.first_seq() <= 301 && spool.first_seq() > 100);
    let records = all(&spool, 10);
    assert_covered(&records, 11, 500);
    assert!(matches!(records[0].body, Some(Body::Missing(_))));
    spool.trim(u64::MAX).unwrap();
    assert_eq!(spool.first_seq(), 501);
    assert_eq!(spool.append(Timestamp::EPOCH, line(501, 5)).unwrap(), 501);
    assert_covered(&all(&spool, 500), 501, 501);
}

#[test]
fn a_full_spool_has_room_again_after_a_trim() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::create(&dir.path().join("s"), 64 * 1024).unwrap();
    let mut n = 0;
    while spool.has_room() {
        n += 1;
        spool.append(Timestamp::EPOCH, line(n, 1_000)).unwrap();
    }
    spool.trim(n).unwrap();
    assert!(spool.has_room() && spool.bytes() < 1_000);
}

#[test]
fn a_torn_tail_is_cut_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let spool = filled(&path, 20, 50);
    let epoch = spool.origin_epoch();
    let file = segment_path(&path, 1);
    let whole = fs::read(&file).unwrap();
    drop(spool);
    for cut in (FILE_HEADER_BYTES as usize..whole.len()).rev() {
        fs::write(&file, &whole[..cut]).unwrap();
        let mut spool = Spool::open(&path, 1 << 20, None).unwrap();
        assert_eq!(spool.origin_epoch(), epoch);
        let last = spool.last_seq();
        assert_covered(&all(&spool, 0), 1, last);
        assert_eq!(
            spool.append(Timestamp::EPOCH, line(0, 9)).unwrap(),
            last + 1
        );
        assert_covered(&all(&spool, 0), 1, last + 1);
    }
}

#[test]
fn a_flipped_bit_costs_one_record_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let spool = filled(&path, 500, 300);
    let file = segment_path(&path, 1);
    let whole = fs::read(&file).unwrap();
    for place in (FILE_HEADER_BYTES as usize..whole.len()).step_by(997) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        let records = all(&spool, 0);
        assert_covered(&records, 1, 500);
        let gaps: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.body {
                Some(Body::Missing(missing)) => Some(missing),
                _ => None,
            })
            .collect();
        assert_eq!(gaps.len(), 1, "at {place}");
        assert_eq!(gaps[0].from_seq, gaps[0].to_seq, "at {place}");
    }
}

#[test]
fn damage_before_the_tail_survives_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(filled(&path, 20, 50));
    let file = segment_path(&path, 1);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let spool = Spool::open(&path, 1 << 20, None).unwrap();
    assert_eq!(spool.last_seq(), 20);
    assert_covered(&all(&spool, 0), 1, 20);
}

#[test]
fn a_lost_file_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let spool = filled(&path, 500, 1_000);
    fs::remove_file(segment_path(&path, spool.segments[1].first)).unwrap();
    assert_covered(&all(&spool, 0), 1, 500);
}
