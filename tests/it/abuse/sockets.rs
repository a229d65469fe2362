//! WebSockets by hand.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Siege, push, rest};
use crate::serving::{bearer, soon};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CONTINUES: u8 = 0;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FIN: u8 = 0x80;

/// The sockets of the dialects.
const PATHS: [&str; 2] = ["/ws", "/ws/events"];

/// Opens a socket.
async fn open(siege: &Siege, path: &str) -> TcpStream {
    let mut stream = siege.dial().await;
    let token = bearer(&siege.baton.admin());
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        siege.baton.address()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = soon("an answer", stream.read_u8()).await.unwrap();
        answer.push(byte);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    stream
}

/// The head of a frame, masked with zeros, that says it has so many bytes.
fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | u8::try_from(length).unwrap()),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, payload.len() as u64), payload.to_vec()].concat()
}

/// The code of the close frame that the server ended with, if it sent one. Its frames are not masked.
fn code(mut said: &[u8]) -> Option<u16> {
    while let [first, length, tail @ ..] = said {
        let (length, tail) = match length & 0x7f {
            126 => (
                usize::from(u16::from_be_bytes([*tail.first()?, *tail.get(1)?])),
                tail.get(2..)?,
            ),
            127 => (
                usize::try_from(u64::from_be_bytes(tail.get(..8)?.try_into().ok()?)).ok()?,
                tail.get(8..)?,
            ),
            short => (usize::from(short), tail),
        };
        if first & 0x0f == CLOSE {
            return Some(u16::from_be_bytes([*tail.first()?, *tail.get(1)?]));
        }
        said = tail.get(length..)?;
    }
    None
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_their_socket() {
    let siege = Siege::begin().await;
    let mut unmasked = frame(FIN | TEXT, b"{}");
    unmasked[1] &= 0x7f;
    let broken: [(&str, Vec<u8>); 10] = [
        (
            "64 MiB in one frame, as it says",
            head(FIN | TEXT, 64 << 20),
        ),
        ("more than there is", head(FIN | TEXT, u64::MAX)),
        ("a frame without a mask", unmasked),
        ("bits that mean nothing", frame(FIN | 0x40 | TEXT, b"{}")),
        ("a kind that is none", frame(FIN | 3, b"{}")),
        ("a ping of 200 bytes", frame(FIN | PING, &[0; 200])),
        ("a ping in pieces", frame(PING, b"x")),
        ("more of what never began", frame(FIN | CONTINUES, b"{}")),
        (
            "a text that begins twice",
            [frame(TEXT, b"{"), frame(TEXT, b"}")].concat(),
        ),
        (
            "a text that is none",
            frame(FIN | TEXT, b"{\"type\":\"\xff\"}"),
        ),
    ];
    for path in PATHS {
        for (what, bytes) in &broken {
            let mut stream = open(&siege, path).await;
            push(&mut stream, bytes).await;
            let said = rest(&mut stream).await;
            let code = code(&said);
            assert!(code.is_none_or(|code| code >= 1_002), "{what}: {code:?}");
        }
    }
    siege.end().await;
}

#[tokio::test]
async fn messages_without_end_close_their_socket() {
    let siege = Siege::begin().await;
    for path in PATHS {
        // A message in pieces for ever: one byte each, none each, and large ones.
        for (piece, most) in [
            (&b"x"[..], 4 << 20),
            (&b""[..], 600_000),
            (&[b'x'; 60_000][..], 2_000),
        ] {
            let mut stream = open(&siege, path).await;
            push(&mut stream, &frame(TEXT, b"{")).await;
            let more = frame(CONTINUES, piece).repeat((60_000 / (piece.len() + 6)).max(1));
            let mut sent = 0;
            while sent < most && push(&mut stream, &more).await {
                sent += more.len() / (piece.len() + 6);
            }
            // Pieces of nothing are no message that grows; the others are longer than one may be.
            assert!(
                sent < most || piece.is_empty(),
                "a message of {sent} pieces of {} bytes",
                piece.len()
            );
            siege.others_are_served().await;
        }
        // Pings in a flood, none of whose answers is read.
        let mut stream = open(&siege, path).await;
        let pings = frame(FIN | PING, &[0; 100]).repeat(500);
        let mut sent = 0;
        while sent < 64 << 20 {
            let taken =
                tokio::time::timeout(std::time::Duration::from_secs(2), stream.write(&pings)).await;
            match taken {
                Ok(Ok(more)) if more > 0 => sent += more,
                _ => break,
            }
        }
    }
    siege.end().await;
}

#[tokio::test]
async fn what_is_said_deep_or_wrong_is_answered_and_the_socket_goes_on() {
    let siege = Siege::begin().await;
    let deep = 100_000;
    let said: [Vec<u8>; 5] = [
        vec![b'['; deep],
        b"{\"type\":".repeat(deep / 10),
        [
            b"{\"type\":\"subscribe\",\"channels\":".to_vec(),
            vec![b'['; deep],
            vec![b']'; deep],
            b"}".to_vec(),
        ]
        .concat(),
        b"{\"type\":\"\\ud800\"}".to_vec(),
        b"null".to_vec(),
    ];
    for path in PATHS {
        let mut stream = open(&siege, path).await;
        for text in &said {
            push(&mut stream, &frame(FIN | TEXT, text)).await;
            let answer = next(&mut stream).await;
            assert!(answer.contains("\"error\""), "{answer}");
        }
        // What is no text is more than a mistake; the socket is closed in order, or goes on until it is asked to.
        push(&mut stream, &frame(FIN | BINARY, &[0xff; 10])).await;
        push(&mut stream, &frame(FIN | CLOSE, &1_000_u16.to_be_bytes())).await;
        let said = rest(&mut stream).await;
        assert!(code(&said).is_none_or(|code| code >= 1_000), "{said:?}");
    }
    siege.end().await;
}

/// The next frame of the server, as text.
async fn next(stream: &mut TcpStream) -> String {
    let frame = async {
        stream.read_u8().await?;
        let length = match stream.read_u8().await? & 0x7f {
            126 => usize::from(stream.read_u16().await?),
            127 => usize::try_from(stream.read_u64().await?).expect("a length"),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        std::io::Result::Ok(payload)
    };
    let payload = soon("an answer", frame).await.unwrap();
    String::from_utf8_lossy(&payload).into_owned()
}
