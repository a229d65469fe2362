//! Damaged journals: torn tails, flipped bits, lost files. Never a panic, never a silent loss.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::check::check;
use super::super::recover::{Trust, mark_index};
use super::super::segment::{self, SegmentId};
use super::super::{Damage, LocalStore};
use super::{add, copy_tree, entry, options, put, segments, trim};
use crate::store::conformance::{dump, read_all, rounds, stream};
use crate::store::{Error, Journal as _, Records as _, SharedStore};

/// Without the index, so that only the journal counts.
fn forget_index(dir: &Path) {
    mark_index(dir, Trust::Bad).expect("marked");
}

/// Where the frames of an unsealed segment lie.
fn frames(path: &Path) -> Vec<Range<usize>> {
    let data = fs::read(path).expect("readable");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let id = SegmentId::parse(name).expect("a segment");
    let salt = segment::parse_header(&data, id).expect("a good header");
    segment::scan(&data, data.len(), salt)
        .frames
        .iter()
        .map(|found| found.at - 8..found.at + found.len)
        .collect()
}

fn open_copy(
    from: &Path,
    change: impl FnOnce(&Path),
) -> (tempfile::TempDir, Result<Arc<LocalStore>, Error>) {
    let copy = tempfile::tempdir().expect("a directory");
    copy_tree(from, copy.path());
    change(copy.path());
    let opened = LocalStore::open(options(copy.path())).map(Arc::new);
    (copy, opened)
}

async fn entries_of(store: &Arc<LocalStore>, name: &str) -> Result<Vec<Bytes>, Error> {
    read_all(&(store.clone() as SharedStore), &stream(name), 0, 5_000).await
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_loses_only_what_is_torn() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..6 {
        add(&store, "a", last, 30).await;
    }
    drop(store);
    let path = segments(dir.path()).pop().expect("a segment");
    let frames = frames(&path);
    assert_eq!(frames.len(), 6);
    let name = path.file_name().expect("a name").to_owned();
    for cut in frames[4].start..=frames[5].end {
        let whole = frames.iter().filter(|frame| frame.end <= cut).count();
        // Cut short; cut and followed by the zeros that were there; cut and followed by rubbish.
        for way in 0..3 {
            let (_copy, store) = open_copy(dir.path(), |copy| {
                forget_index(copy);
                let path = copy.join("journal").join(&name);
                let mut data = fs::read(&path).expect("readable");
                match way {
                    0 => data.truncate(cut),
                    1 => data[cut..].fill(0),
                    _ => {
                        data.truncate(cut);
                        data.resize(cut + 5, 0xa5);
                    }
                }
                fs::write(&path, data).expect("written");
            });
            let store = store.expect("a torn tail is no damage");
            assert_eq!(store.damage(), [], "cut at {cut}, way {way}");
            assert_eq!(
                entries_of(&store, "a").await.expect("readable").len(),
                whole
            );
            // It goes on from there, also after another start.
            add(&store, "a", whole as u64, 30).await;
            let dir = store.core.options.dir.clone();
            store.close_blocking().expect("closed");
            let store = Arc::new(LocalStore::open(options(&dir)).expect("opened"));
            assert_eq!(
                entries_of(&store, "a").await.expect("readable").len(),
                whole + 1
            );
        }
    }
}

#[tokio::test]
async fn a_torn_group_is_cut_off_whole_and_not_taken_for_damage() {
    // A power failure may keep later pages of a group and lose earlier ones.
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    add(&store, "a", 0, 30).await;
    drop(store);
    let path = segments(dir.path()).pop().expect("a segment");
    let mut data = fs::read(&path).expect("readable");
    let first = frames(&path).pop().expect("a frame");
    // Two more of one group: neither knows that the other is synced.
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(SegmentId::parse)
        .expect("a segment");
    let salt = segment::parse_header(&data, name).expect("a good header");
    let mut group = Vec::new();
    for lsn in 2..4u64 {
        super::super::frame::seal_frame(&mut group, salt, |out| {
            super::super::frame::put_number(out, 1, lsn);
            super::super::frame::put_append(
                out,
                &stream("a"),
                1,
                lsn,
                0,
                Default::default(),
                b"\x0a\x01x",
            );
            super::super::frame::put_number(out, 5, 1);
        });
    }
    data[first.end..first.end + group.len()].copy_from_slice(&group);
    fs::write(&path, &data).expect("written");
    let (_copy, whole) = open_copy(dir.path(), forget_index);
    assert_eq!(
        entries_of(&whole.expect("opened"), "a")
            .await
            .expect("readable")
            .len(),
        3
    );
    data[first.end + 9] ^= 1;
    fs::write(&path, &data).expect("written");
    let (_copy, torn) = open_copy(dir.path(), forget_index);
    let torn = torn.expect("opened");
    assert_eq!(torn.damage(), []);
    assert_eq!(entries_of(&torn, "a").await.expect("readable").len(), 1);
}

#[tokio::test]
async fn damage_in_the_middle_sets_its_stream_apart_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..5 {
        add(&store, "a", last, 30).await;
        add(&store, "b", last, 30).await;
        put(&store, "t/x", &last.to_string()).await;
    }
    // The last of `c` is what gets lost: only its head can tell.
    add(&store, "c", 0, 30).await;
    add(&store, "c", 1, 30).await;
    put(&store, "t/x", "end").await;
    drop(store);
    let path = segments(dir.path()).pop().expect("a segment");
    let frames = frames(&path);
    let name = path.file_name().expect("a name").to_owned();
    for (lost, apart) in [(6, "a"), (7, "b"), (16, "c")] {
        let (copy, store) = open_copy(dir.path(), |copy| {
            let path = copy.join("journal").join(&name);
            let mut data = fs::read(&path).expect("readable");
            data[frames[lost].start + 20] ^= 4;
            fs::write(&path, data).expect("written");
            let report = check(&options(copy), &mut |_| {}).expect("checked");
            assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        });
        let store = store.expect("it opens");
        assert!(!store.damage().is_empty());
        let others: Vec<&str> = ["a", "b", "c"]
            .into_iter()
            .filter(|name| *name != apart)
            .collect();
        for name in others {
            let all = entries_of(&store, name).await.expect("readable");
            assert_eq!(all.len(), if name == "c" { 2 } else { 5 });
        }
        assert!(
            matches!(entries_of(&store, apart).await, Err(Error::Corrupt { .. })),
            "{lost}"
        );
        assert!(matches!(
            store.head(&stream(apart)).await,
            Err(Error::Corrupt { .. })
        ));
        let refused = store
            .commit(crate::store::Commit {
                appends: vec![crate::store::conformance::append(apart, 5, &["x"])],
                ..Default::default()
            })
            .await;
        assert!(matches!(refused, Err(Error::Corrupt { .. })));
        assert_eq!(
            store
                .get("t/x")
                .await
                .expect("readable")
                .expect("there")
                .value,
            "end"
        );
        let streams = store.streams(None, 9).await.expect("readable");
        assert_eq!(streams.len(), 3, "it is still listed");

        // It stays apart over a start, with the others going on, until it is dropped.
        add(&store, if apart == "b" { "a" } else { "b" }, 5, 30).await;
        drop(store);
        let store = LocalStore::open(options(copy.path())).expect("opened");
        assert!(matches!(
            store.head(&stream(apart)).await,
            Err(Error::Corrupt { .. })
        ));
        trim(&store, apart, None).await;
        assert_eq!(store.head(&stream(apart)).await, Ok(None));
        add(&store, apart, 0, 30).await;
        drop(store);
        let store = Arc::new(LocalStore::open(options(copy.path())).expect("opened"));
        assert_eq!(entries_of(&store, apart).await.expect("readable").len(), 1);
        assert_eq!(store.set_apart(), []);
    }
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..60 {
        add(&store, "a", last, 1000).await;
        add(&store, "b", last, 10).await;
    }
    drop(store);
    let first = segments(dir.path())[0].clone();
    let mut data = fs::read(&first).expect("readable");
    let at = data
        .windows(6)
        .position(|window| window == b"a 5 ..")
        .expect("the entry");
    data[at + 9] ^= 1;
    fs::write(&first, data).expect("written");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(store.damage(), []);
    assert_eq!(entries_of(&store, "b").await.expect("readable").len(), 60);
    assert!(matches!(
        entries_of(&store, "a").await,
        Err(Error::Corrupt { .. })
    ));
    assert_eq!(entries_of(&store, "b").await.expect("readable").len(), 60);
    add(&store, "b", 60, 10).await;
    let report = store.check(&mut |_| {}).expect("checked");
    assert!(
        report
            .problems
            .iter()
            .any(|problem| problem.streams == ["a"]),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_lost_segment_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..20 {
        add(&store, "early", last, 1000).await;
    }
    for last in 0..40 {
        add(&store, "late", last, 1000).await;
    }
    drop(store);
    for forget in [false, true] {
        let (_copy, store) = open_copy(dir.path(), |copy| {
            fs::remove_file(&segments(copy)[0]).expect("removed");
            if forget {
                forget_index(copy);
            }
        });
        match store {
            // With neither the index nor a snapshot the journal must be whole.
            Err(Error::Unusable(_)) if forget => {}
            Err(error) => panic!("{error}"),
            Ok(store) => {
                assert!(!forget);
                assert!(!store.damage().is_empty());
                assert!(matches!(
                    entries_of(&store, "early").await,
                    Err(Error::Corrupt { .. })
                ));
                assert_eq!(
                    entries_of(&store, "late").await.expect("readable").len(),
                    40
                );
            }
        }
    }
}

/// Flips bits all over a copy of a store and opens it: what comes back is right or an error.
#[tokio::test]
async fn flipped_bits_are_never_a_panic_and_never_a_silent_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    for last in 0..40 {
        for name in ["a", "b", "c"] {
            add(&store, name, last, 300).await;
        }
        put(&store, &format!("t/{}", last % 7), &last.to_string()).await;
    }
    let expected = dump(&(store.clone() as SharedStore)).await;
    store.close_blocking().expect("closed");
    drop(store);

    let mut rng = SmallRng::seed_from_u64(11);
    let (mut unharmed, mut apart, mut refused) = (0, 0, 0);
    for round in 0..rounds(60) {
        let mut in_index = false;
        let (copy, opened) = open_copy(dir.path(), |copy| {
            let mut files = segments(copy);
            if round % 3 == 0 {
                in_index = true;
                files = fs::read_dir(copy.join("index"))
                    .expect("readable")
                    .map(|entry| entry.expect("readable").path())
                    .filter(|path| path.is_file())
                    .collect();
                files.sort();
            }
            let file = &files[rng.random_range(0..files.len())];
            let mut data = fs::read(file).expect("readable");
            if data.is_empty() {
                return;
            }
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..data.len());
                data[at] ^= 1 << rng.random_range(0..8);
            }
            fs::write(file, data).expect("written");
        });
        let mut store = match opened {
            Ok(store) => store,
            Err(Error::Unusable(_)) => {
                assert!(!in_index, "a damaged index is never a reason to refuse");
                refused += 1;
                continue;
            }
            Err(error) => panic!("round {round}: {error}"),
        };
        if in_index && is_broken(&store).await {
            // Found only while reading: the next start builds it anew.
            store.close_blocking().ok();
            drop(store);
            store = Arc::new(LocalStore::open(options(copy.path())).expect("rebuilt"));
        }
        let mut harmed = false;
        for (stream, (_, entries)) in &expected.streams {
            match entries_of(&store, stream.as_str()).await {
                Ok(found) if &found == entries => {}
                Ok(found) => {
                    // Less than there was is only right when the store says so.
                    assert!(
                        !in_index && !store.damage().is_empty() && entries.starts_with(&found),
                        "round {round}: {} of {} entries of {stream}, damage {:?}",
                        found.len(),
                        entries.len(),
                        store.damage()
                    );
                    harmed = true;
                }
                Err(Error::Corrupt { .. } | Error::NoStream { .. }) => {
                    assert!(!in_index, "round {round}: the journal is whole");
                    harmed = true;
                }
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        for (key, (revision, value)) in &expected.records {
            let found = store.get(key).await.expect("readable");
            let is_same = found
                .as_ref()
                .is_some_and(|found| (&found.revision, &found.value) == (revision, value));
            assert!(
                is_same || !store.damage().is_empty(),
                "round {round}: record {key} is {found:?}"
            );
            assert!(is_same || !in_index, "round {round}");
        }
        if harmed {
            apart += 1;
        } else {
            unharmed += 1;
        }
    }
    println!("{unharmed} unharmed, {apart} with streams set apart, {refused} refused");
}

/// Whether the index turns out to be damaged while everything is read.
async fn is_broken(store: &Arc<LocalStore>) -> bool {
    for stream in store.streams(None, usize::MAX).await.unwrap_or_default() {
        if let Ok(Some(head)) = store.head(&stream).await {
            let mut after = head.first_seq - 1;
            while let Ok(chunks) = store.read(&stream, after, 10_000).await
                && let Some(chunk) = chunks.last()
            {
                after = chunk.last_seq;
            }
        }
    }
    let _ = store.scan("", None, usize::MAX).await;
    let _ = store.changes("", 0, usize::MAX).await;
    store.failure().is_some()
}

#[tokio::test]
async fn a_lost_end_is_told_and_its_numbers_are_not_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..6 {
        add(&store, "a", last, 30).await;
    }
    drop(store);
    let path = segments(dir.path()).pop().expect("a segment");
    let frames = frames(&path);
    let mut data = fs::read(&path).expect("readable");
    data.truncate(frames[3].start);
    fs::write(&path, data).expect("written");
    let store = Arc::new(LocalStore::open(options(dir.path())).expect("opened"));
    assert_eq!(store.damage(), [Damage::End { known: 6, last: 3 }]);
    let all = entries_of(&store, "a").await.expect("readable");
    assert_eq!(
        all,
        (1..=3).map(|seq| entry("a", seq, 30)).collect::<Vec<_>>()
    );
    assert!(add(&store, "a", 3, 30).await.revision > 6);
    drop(store);
    let store = LocalStore::open(options(dir.path())).expect("opened");
    assert_eq!(store.damage(), []);
}

#[tokio::test]
async fn a_damaged_footer_is_made_anew_from_the_frames() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..60 {
        add(&store, "a", last, 1000).await;
    }
    drop(store);
    let (copy, store) = open_copy(dir.path(), |copy| {
        forget_index(copy);
        let first = &segments(copy)[0];
        let mut data = fs::read(first).expect("readable");
        let at = data.len() - 40;
        data[at] ^= 1;
        fs::write(first, data).expect("written");
    });
    let store = store.expect("opened");
    assert_eq!(entries_of(&store, "a").await.expect("readable").len(), 60);
    drop(store);
    let report = check(&options(copy.path()), &mut |_| {}).expect("checked");
    assert_eq!(report.problems, []);
}

/// A store of twenty entries of a stream, in a sealed segment and the one behind it.
async fn two_segments() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(options(dir.path())).expect("opened");
    for last in 0..20 {
        add(&store, "a", last, 1000).await;
    }
    store.close_blocking().expect("closed");
    drop(store);
    assert_eq!(segments(dir.path()).len(), 2);
    dir
}

/// A crash while a segment is sealed keeps any part of its footer: cut short, or with the zeros still behind
/// it that were filled ahead, or with a page of it lost. No commit was there, and it is no damage.
#[tokio::test]
async fn a_footer_that_was_not_written_whole_is_no_damage() {
    let dir = two_segments().await;
    let files = segments(dir.path());
    let name = |at: usize| files[at].file_name().expect("a name").to_owned();
    let whole = fs::read(&files[0]).expect("readable");
    let data_end = segment::footer_in(&whole).expect("sealed").data_end as usize;
    let first = frames(&files[0]).len();
    for cut in data_end..=whole.len() {
        let ways = (0..4).flat_map(|way| [(way, false), (way, true)]);
        for (turn, (way, is_followed)) in ways.enumerate() {
            // Each byte once, each way often enough.
            if cut % 8 != turn && cut != data_end && cut < whole.len() {
                continue;
            }
            let (_copy, store) = open_copy(dir.path(), |copy| {
                forget_index(copy);
                let mut data = whole[..cut].to_vec();
                match way {
                    0 => {}
                    1 => data.resize(whole.len() + 3_000, 0),
                    2 => data.resize(cut + 1, 0),
                    _ => data[data_end..data_end + (cut - data_end) / 2].fill(0),
                }
                let journal = copy.join("journal");
                fs::write(journal.join(name(0)), data).expect("written");
                if !is_followed {
                    let path = journal.join(name(1));
                    let mut data = fs::read(&path).expect("readable");
                    data[segment::HEADER..].fill(0);
                    fs::write(&path, data).expect("written");
                }
                // A footer that is there and cannot be read is worth a word.
                if way < 3 {
                    let report = check(&options(copy), &mut |_| {}).expect("checked");
                    assert_eq!(report.problems, [], "cut at {cut}, way {way}");
                }
            });
            let store = store.expect("opened");
            assert_eq!(store.damage(), [], "cut at {cut}, way {way}, {is_followed}");
            let count = if is_followed { 20 } else { first };
            let entries = entries_of(&store, "a").await.expect("readable");
            assert_eq!(entries.len(), count, "cut at {cut}, way {way}");
            add(&store, "a", count as u64, 30).await;
        }
    }
}

/// Behind the last frame that can be read lay another one: that is damage, told of also where the header,
/// or the footer, is hurt as well.
#[tokio::test]
async fn a_lost_frame_before_a_damaged_footer_is_told() {
    let dir = two_segments().await;
    let path = segments(dir.path())[0].clone();
    let name = path.file_name().expect("a name").to_owned();
    let lost = frames(&path).pop().expect("a frame");
    let len = fs::metadata(&path).expect("there").len() as usize;
    // The frame and the footer's message; the frame and the trailer; header and footer, and so all.
    for hurt in [
        [lost.start + 20, lost.end + 3],
        [lost.start + 20, len - 30],
        [lost.start + 20, len - 10],
        [3, lost.end + 3],
    ] {
        let (copy, store) = open_copy(dir.path(), |copy| {
            forget_index(copy);
            let path = copy.join("journal").join(&name);
            let mut data = fs::read(&path).expect("readable");
            for at in hurt {
                data[at] ^= 1;
            }
            fs::write(&path, data).expect("written");
        });
        let store = store.expect("opened");
        assert!(
            matches!(store.damage(), [Damage::Segment { .. }, ..]),
            "{hurt:?}: {:?}",
            store.damage()
        );
        let read = entries_of(&store, "a").await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{hurt:?}");
        assert!(copy.path().join("journal").join(&name).exists());
    }
}
