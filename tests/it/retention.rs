//! What is not kept: logs that lose their beginning under their readers, and the disk space that comes back.

use std::path::Path;

use baton::base::{Code, Error};
use baton::domain::EventBody;
use baton::wire::v1;
use baton::wire::v1::watch_response::Body;

use crate::support::baton::{Baton, PATIENCE, eventually};
use crate::support::sessions::watch;

type Stream = tonic::Streaming<v1::WatchResponse>;

/// A server that trims ended sessions to about `keep`, and looks for them all the time.
async fn trimming(keep: &str) -> Baton {
    let mut baton = Baton::new().server_flags(&[
        "--set",
        &format!("retention.max_session_bytes={keep}"),
        "--set",
        "retention.every=200ms",
        "--set",
        "compaction.every=500ms",
    ]);
    baton.start_server().await;
    baton.start_daemon().await;
    baton
}

/// A script that writes `lines` numbered lines of 30,000 characters, waits for a word, and ends.
fn writes(lines: u32) -> String {
    format!(
        r#"s=$(head -c 30000 /dev/zero | tr '\0' x); i=0
        while [ $i -lt {lines} ]; do i=$((i + 1)); echo "$i $s"; done; read word"#
    )
}

async fn next(stream: &mut Stream) -> Body {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    let message = message.expect("in time").unwrap().expect("no end");
    message.body.expect("a body")
}

/// The seqs of a batch.
fn seqs(batch: &baton::wire::EventBatch) -> Vec<u64> {
    let events = batch.events().unwrap();
    events.iter().map(|event| event.seq).collect()
}

/// Reads up to `head`: what was seen, piece by piece, and what each `truncated` said was the oldest.
async fn read_to(stream: &mut Stream, head: u64, seen: &mut Vec<u64>) -> Vec<(u64, u64)> {
    let mut truncated = Vec::new();
    while seen.last() != Some(&head) {
        match next(stream).await {
            Body::Events(batch) => seen.extend(seqs(&batch)),
            Body::Truncated(told) => {
                truncated.push((seen.last().copied().unwrap_or(0), told.oldest_seq));
            }
            Body::Started(_) | Body::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    truncated
}

fn out_of_range(error: &Error, session: &v1::Session) {
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
    let detail = |key: &str| error.details().get(key).and_then(|text| text.parse().ok());
    assert_eq!(
        ["first", "head", "epoch"].map(detail),
        [
            Some(session.first_seq),
            Some(session.head_seq),
            Some(session.log_epoch)
        ],
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reader_of_a_trimmed_log_is_told_what_is_gone_and_goes_on() {
    let mut baton = trimming("1MiB").await;
    let client = baton.client();
    let id = baton.create(baton.shell(&writes(500))).await;
    let full = baton
        .record_is(&id, "all is written", |session| session.head_seq > 500)
        .await;
    assert_eq!(full.first_seq, 1, "a living session is never trimmed");
    // One reader in the middle of the log, which takes nothing for now; another between two pages.
    let mut slow = watch(&client, &id, 0, 0).await.unwrap();
    let mut seen = Vec::new();
    while seen.is_empty() {
        if let Body::Events(batch) = next(&mut slow).await {
            seen.extend(seqs(&batch));
        }
    }
    assert_eq!(seen[0], 1);
    let list = |after_seq: u64, log_epoch: u64, page_token: &str| v1::ListEventsRequest {
        session_id: id.clone(),
        after_seq,
        log_epoch,
        page_size: 10,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let page = client.list_events(list(0, 0, "")).await.unwrap();
    assert_eq!(page.events.len(), 10);

    baton.say(&id, "end").await;
    baton.reaches(&id, v1::Lifecycle::Ended).await;
    let session = baton
        .record_is(&id, "the log is trimmed", |session| session.first_seq > 1)
        .await;
    let (first, head, epoch) = (session.first_seq, session.head_seq, session.log_epoch);
    assert!(first > 300 && first < head, "{first} of {head}");

    // The reader in mid-stream: what it had, then the word that a part is gone, then all the rest.
    let truncated = read_to(&mut slow, head, &mut seen).await;
    let (before, oldest) = truncated[0];
    assert_eq!((truncated.len(), oldest), (1, first), "{truncated:?}");
    assert!(before < first - 1, "{before}: it had read too much");
    let expected: Vec<u64> = (1..=before).chain(first..=head).collect();
    assert_eq!(seen, expected);

    // Readers that come now, after a restart as well.
    for round in ["at once", "after a restart"] {
        for (after_seq, log_epoch, is_told) in [
            (0, 0, true),
            (1, epoch, true),
            (first - 2, epoch, true),
            (first - 1, epoch, false),
            (first, epoch, false),
            // A log of another epoch has nothing to do with this one, wherever its reader was.
            (first, epoch + 1, true),
            (head + 100, epoch + 1, true),
        ] {
            let what = format!("{round}: {log_epoch}, {after_seq}");
            let mut stream = watch(&baton.client(), &id, log_epoch, after_seq)
                .await
                .unwrap();
            let Body::Started(started) = next(&mut stream).await else {
                panic!("{what}: it begins with something else");
            };
            assert_eq!(
                (started.first, started.head, started.log_epoch),
                (first, head, epoch),
                "{what}"
            );
            let mut seen = Vec::new();
            let truncated = read_to(&mut stream, head, &mut seen).await;
            let expected = if is_told {
                vec![(0, first)]
            } else {
                Vec::new()
            };
            assert_eq!(truncated, expected, "{what}");
            let from = if is_told { first } else { after_seq + 1 };
            assert_eq!(seen, (from..=head).collect::<Vec<_>>(), "{what}");
        }
        let future = watch(&baton.client(), &id, epoch, head + 1).await;
        out_of_range(&future.unwrap_err(), &session);
        for (what, request) in [
            ("what is gone", list(1, 0, "")),
            ("just before the first", list(first - 2, epoch, "")),
            ("the future", list(head + 1, epoch, "")),
            ("another epoch", list(first, epoch + 1, "")),
            ("a page from before", list(0, 0, &page.next_page_token)),
        ] {
            let refused = baton.client().list_events(request).await;
            let refused = refused.expect_err(what);
            out_of_range(&refused, &session);
        }
        let kept = baton.client().list_events(list(first - 1, epoch, "")).await;
        assert_eq!(kept.unwrap().events[0].seq, first);
        assert_eq!(baton.kept(&id).await[0].seq, first);
        if round == "at once" {
            assert_eq!(baton.stop_server().await, Some(0));
            baton.start_server().await;
        }
    }
}

/// Bytes that the files of a directory take on the disk.
fn on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let path = entry.path();
            match path.is_dir() {
                true => Some(on_disk(&path)),
                // It may be gone in between.
                false => Some(path.metadata().ok()?.blocks() * 512),
            }
        })
        .sum()
}

#[tokio::test]
async fn the_server_gives_disk_space_back_by_itself_and_logs_stay_right() {
    const MIB: u64 = 1 << 20;
    let mut baton = trimming("4MiB").await;
    // Its events lie among those that will go.
    let small = baton.create(baton.demo("say: I stay")).await;
    baton.turns(&small, 1).await;
    // More than a segment of the journal, so that one is sealed.
    let large = baton.create(baton.shell(&writes(2_500))).await;
    baton
        .record_is(&large, "all is written", |session| session.head_seq > 2_500)
        .await;
    let journal = baton.data_dir().join("store/journal");
    let before = on_disk(&journal);
    assert!(before > 64 * MIB, "{} MiB", before / MIB);
    let stays = baton.events(&small).await;

    baton.say(&large, "end").await;
    baton.reaches(&large, v1::Lifecycle::Ended).await;
    let trimmed = baton
        .record_is(&large, "the log is trimmed", |session| {
            session.first_seq > 2_000
        })
        .await;
    let after = eventually("the space comes back", || async {
        Some(on_disk(&journal)).filter(|bytes| *bytes < before / 2)
    })
    .await;
    println!("{} MiB became {} MiB", before / MIB, after / MIB);
    for round in ["at once", "after a stop", "after a kill"] {
        // What came since is news of the link.
        let now = baton.events(&small).await;
        assert_eq!(now[..stays.len()], stays, "{round}");
        let kept = baton.kept(&large).await;
        assert_eq!(kept[0].seq, trimmed.first_seq, "{round}");
        let last = kept.last().unwrap();
        assert_eq!(last.seq, trimmed.head_seq, "{round}");
        assert!(kept.iter().any(
            |event| matches!(&event.body, EventBody::Output { text, .. } if text.starts_with("2500 "))
        ));
        match round {
            "at once" => assert_eq!(baton.stop_server().await, Some(0)),
            "after a stop" => baton.kill_server(),
            _ => continue,
        }
        baton.start_server().await;
    }
    // The session that lives takes input as before, and the store is sound.
    baton.say(&small, "say: still").await;
    baton.turns(&small, 2).await;
    baton.stop_server().await;
    let check = baton
        .command(&["store", "check", "--data-dir"])
        .arg(baton.data_dir())
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[tokio::test]
async fn what_is_too_old_is_deleted_and_what_lives_is_not() {
    let mut baton = Baton::new().server_flags(&[
        "--set",
        "retention.max_age=1s",
        "--set",
        "retention.every=200ms",
    ]);
    baton.start_server().await;
    baton.start_daemon().await;
    let over = baton.create(baton.demo("say: over")).await;
    let lives = baton.create(baton.demo("say: lives")).await;
    baton.turns(&lives, 1).await;
    baton.end(&over).await;
    eventually("it is deleted", || async {
        let request = v1::GetSessionRequest {
            session_id: over.clone(),
        };
        let answer = baton.client().get_session(request).await;
        answer
            .is_err_and(|error| error.code() == Code::NotFound)
            .then_some(())
    })
    .await;
    // By now it is as old as the other was.
    assert_eq!(
        baton.record(&lives).await.lifecycle(),
        v1::Lifecycle::Running
    );
    baton.say(&lives, "say: on").await;
    baton.turns(&lives, 2).await;
}
