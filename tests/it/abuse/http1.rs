//! HTTP/1.1 by hand, and bodies that are larger or deeper than they look.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use serde_json::Value;

use super::{Siege, push, rest};
use crate::serving::bearer;
use crate::support::http::ask;

#[tokio::test]
async fn slow_and_half_open_peers_are_let_go_of() {
    let siege = Siege::with(&[("BATON_CONNECTIONS_HEADER_TIMEOUT", "1s")]).await;
    let mut peers = Vec::new();
    // Two hundred that say nothing, or half of something, and wait.
    for n in 0..200_usize {
        let mut stream = siege.dial().await;
        let begun: [&[u8]; 5] = [
            b"",
            b"G",
            b"GET / HTTP/1.1\r\n",
            b"POST /api/tasks HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
            b"PRI * HTTP/2.0\r\n",
        ];
        push(&mut stream, begun[n % begun.len()]).await;
        peers.push(stream);
    }
    // And one that goes on with a byte now and then: the time is that of the whole head.
    let mut slow = siege.dial().await;
    push(&mut slow, b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await;
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut sent = 0;
    while push(&mut slow, b"y").await {
        beat.tick().await;
        sent += 1;
        assert!(sent < 600, "a head that never ends is read for ever");
    }
    siege.others_are_served().await;
    for mut peer in peers {
        rest(&mut peer).await;
    }
    siege.end().await;
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let siege = Siege::begin().await;
    let giant = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
        "y".repeat(200_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
        "x: y\r\n".repeat(10_000)
    );
    let path = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "a".repeat(200_000)
    );
    let broken: [&[u8]; 12] = [
        giant.as_bytes(),
        many.as_bytes(),
        path.as_bytes(),
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /api/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /api/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 18446744073709551616\r\n\r\n",
        b"POST /api/tasks HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"POST /api/tasks HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked, identity\r\ncontent-length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n",
    ];
    for request in broken {
        let mut stream = siege.dial().await;
        push(&mut stream, request).await;
        // Whoever waits for the rest of the body is told that the peer sends no more.
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        let answer = rest(&mut stream).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    siege.end().await;
}

/// Each is answered with an error that is the caller's, and in the dialect's form.
#[tokio::test]
async fn bodies_that_are_deep_or_no_text_or_a_bomb_are_refused() {
    let mut siege = Siege::begin().await;
    // Without one, nobody looks at what is to be spawned.
    siege.baton.start_daemon().await;
    let token = bearer(&siege.baton.admin());
    let deep = 100_000;
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let bodies: [(&str, Vec<u8>, &str); 9] = [
        (
            "arrays in arrays",
            [vec![b'['; deep], vec![b']'; deep]].concat(),
            "",
        ),
        (
            "objects in objects",
            [b"{\"a\":".repeat(deep), b"1".to_vec(), vec![b'}'; deep]].concat(),
            "",
        ),
        (
            "deep within a field",
            [
                b"{\"title\":".to_vec(),
                vec![b'['; deep],
                vec![b']'; deep],
                b"}".to_vec(),
            ]
            .concat(),
            "",
        ),
        ("deep and never closed", vec![b'['; deep], ""),
        ("no text", b"{\"title\":\"\xff\xfe\"}".to_vec(), ""),
        ("half a character", b"{\"title\":\"\\ud800\"}".to_vec(), ""),
        (
            "a number beyond all",
            [
                b"{\"priority\":".to_vec(),
                vec![b'9'; 100_000],
                b"}".to_vec(),
            ]
            .concat(),
            "",
        ),
        ("a bomb that says so", bomb.clone(), "gzip"),
        ("a bomb that does not", bomb, ""),
    ];
    for path in [
        "/api/tasks",
        "/api/agents",
        "/api/worktrees",
        "/api/sessions/spawn",
        "/auth/exchange",
    ] {
        for (what, body, encoding) in &bodies {
            let mut headers = vec![
                ("authorization", token.as_str()),
                ("content-type", "application/json"),
            ];
            if !encoding.is_empty() {
                headers.push(("content-encoding", encoding));
            }
            let got = ask(
                siege.baton.address(),
                Method::POST,
                path,
                &headers,
                body.clone(),
            )
            .await;
            assert!(
                (400..500).contains(&got.status),
                "{what} at {path}: {}",
                got.status
            );
            let _: Value = got.json();
        }
    }
    // More than a body may have. It is refused by its length, and whoever sends it all the same is cut in the middle: what was
    // answered is there to be read.
    let large = 5 << 20;
    let mut peer = siege.dial().await;
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\ncontent-length: {large}\r\n\r\n"
    );
    push(&mut peer, head.as_bytes()).await;
    push(&mut peer, &vec![b' '; large]).await;
    let answer = rest(&mut peer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer:?}");
    siege.end().await;
}
