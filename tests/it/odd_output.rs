//! Output that is no text, or far too long: not a byte is lost, and none of it reaches a terminal as it is.

use baton::domain::{ContentRef, Event, EventBody};

use crate::support::baton::Baton;

/// What a program wrote, put together again from its events.
async fn written(baton: &Baton, id: &str, events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        let EventBody::Output { text, continues } = &event.body else {
            continue;
        };
        match &event.raw_content {
            Some(whole) => bytes.extend(baton.content(id, whole).await),
            None => bytes.extend_from_slice(text.as_bytes()),
        }
        if !continues {
            bytes.push(b'\n');
        }
    }
    bytes
}

#[tokio::test]
async fn any_bytes_arrive_whole_and_are_shown_safely() {
    let baton = Baton::start().await;
    let mut output: Vec<u8> = Vec::new();
    output.extend_from_slice(b"plain\n\nnul\0inside\nreturn\rover\n\x1b[2Jwiped\x07\n");
    output.extend_from_slice("bidi \u{202e}sesrever\n".as_bytes());
    // No text: bytes that begin nothing, a character that stops half-way, at the end of a line and within.
    output.extend_from_slice(b"bad \xff\xfe here\ncut \xe2\x82\n\xe2\x28\xa1\n");
    // 10 MiB in one line, whose characters are cut wherever a part ends.
    output.push(b'x');
    output.extend("é".repeat(5 * 1024 * 1024).bytes());
    output.push(b'\n');
    // The same of bytes that are no text, longer than a part of a line.
    output.extend(
        (0..1_500_000_u32).map(|n| match n.wrapping_mul(2_654_435_761) >> 24 {
            10 => 11,
            byte => byte as u8,
        }),
    );
    output.push(b'\n');
    output.extend_from_slice(b"the last\n");
    std::fs::write(baton.project().join("odd"), &output).unwrap();

    let id = baton.create(baton.shell("cat odd")).await;
    baton
        .wait_for(&id, "the command ends", |body| {
            matches!(body, EventBody::Ended { .. })
        })
        .await;
    let events = baton.events(&id).await;
    let arrived = written(&baton, &id, &events).await;
    assert_eq!(arrived.len(), output.len());
    let hash = |bytes: &[u8]| ContentRef::of(bytes, "").sha256;
    assert_eq!(hash(&arrived), hash(&output));
    let largest = events
        .iter()
        .map(|event| baton::wire::encode_event(event).len())
        .max();
    assert!(largest < Some(256 * 1024), "{largest:?}");
    // What is text has no copy beside it.
    let copies = events.iter().filter(|event| event.raw_content.is_some());
    for event in copies {
        let EventBody::Output { text, .. } = &event.body else {
            panic!("{event:?}");
        };
        assert!(text.contains('\u{fffd}'), "{}", event.seq);
    }

    for arguments in [&["logs", &id][..], &["logs", "--json", &id]] {
        let shown = baton.cli(arguments).output().unwrap();
        assert!(shown.status.success(), "{shown:?}");
        let text = String::from_utf8(shown.stdout).expect("text");
        let odd = text
            .chars()
            .find(|c| c.is_control() && !matches!(c, '\n' | '\t') || *c == '\u{202e}');
        // JSON may carry what a program reads; a terminal is not a program.
        if arguments.len() == 2 {
            assert_eq!(odd, None);
        } else {
            assert!(odd.is_none_or(|c| c == '\u{202e}'), "{odd:?}");
        }
        for word in ["inside", "over", "wiped", "sesrever", "here", "the last"] {
            assert!(text.contains(word), "{word}");
        }
    }
}
