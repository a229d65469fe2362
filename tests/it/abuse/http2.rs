//! Frames of HTTP/2 by hand.

use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::JoinHandle;

use super::{Siege, push};
use crate::serving::{bearer, soon};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// How many frames a flood has.
const FLOOD: u32 = 60_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `:method POST, :scheme http, :path /, :authority localhost`, as HPACK has it.
fn head() -> Vec<u8> {
    let mut headers = vec![0x83, 0x86, 0x84, 0x41, 9];
    headers.extend_from_slice(b"localhost");
    headers
}

/// A header that is not kept in the table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0x00];
    for text in [name, value] {
        let length = text.len();
        if length < 127 {
            field.push(u8::try_from(length).unwrap());
        } else {
            field.push(127);
            let mut left = length - 127;
            while left >= 128 {
                field.push(u8::try_from(left % 128).unwrap() | 0x80);
                left /= 128;
            }
            field.push(u8::try_from(left).unwrap());
        }
        field.extend_from_slice(text.as_bytes());
    }
    field
}

fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// What the server said before it closed: how often each kind of frame, and the error of its GOAWAY.
#[derive(Debug, Default)]
struct Heard {
    kinds: [u64; 16],
    goaway: Option<u32>,
}

fn listen(mut read: OwnedReadHalf) -> JoinHandle<Heard> {
    tokio::spawn(async move {
        let mut heard = Heard::default();
        let mut head = [0_u8; 9];
        while read.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0_u8; length];
            if read.read_exact(&mut payload).await.is_err() {
                break;
            }
            heard.kinds[usize::from(head[3] & 15)] += 1;
            if head[3] == GOAWAY && payload.len() >= 8 {
                heard.goaway = Some(u32::from_be_bytes([
                    payload[4], payload[5], payload[6], payload[7],
                ]));
            }
        }
        heard
    })
}

/// One connection that sends what `frames` gives until the server closes or all are sent.
async fn flood(siege: &Siege, frames: impl Fn(u32) -> Vec<u8>) -> Heard {
    let (read, mut write) = siege.dial().await.into_split();
    let heard = listen(read);
    let mut bytes = preface();
    for n in 0..FLOOD {
        bytes.extend(frames(n));
        if bytes.len() > 16_384 && !push(&mut write, &std::mem::take(&mut bytes)).await {
            break;
        }
    }
    push(&mut write, &bytes).await;
    siege.others_are_served().await;
    drop(write);
    soon("the connection is over", heard).await.unwrap()
}

/// Whether the server ended the connection with an error of its own.
fn was_cut(heard: &Heard) -> bool {
    heard.goaway.is_some_and(|error| error != 0)
}

#[tokio::test]
async fn resets_of_either_side_end_their_connection() {
    let siege = Siege::begin().await;
    let rapid = flood(&siege, |n| {
        let id = 1 + 2 * n;
        [
            frame(HEADERS, END_HEADERS, id, &head()),
            frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()),
        ]
        .concat()
    })
    .await;
    assert!(was_cut(&rapid), "{rapid:?}");
    let window = 0x7fff_ffff_u32.to_be_bytes();
    let made_you_reset = [
        // A window that overflows, a window that grows by nothing, data behind the end, a stream that hangs on itself.
        frame(WINDOW_UPDATE, 0, 1, &window),
        frame(WINDOW_UPDATE, 0, 1, &[0; 4]),
        frame(DATA, 0, 1, b"x"),
    ];
    for made in made_you_reset {
        let heard = flood(&siege, |n| {
            let id = 1 + 2 * n;
            let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, id, &head());
            let mut frame = made.clone();
            frame[5..9].copy_from_slice(&id.to_be_bytes());
            bytes.extend(frame);
            bytes
        })
        .await;
        assert!(
            was_cut(&heard) || heard.goaway.is_none() && heard.kinds[3] < u64::from(FLOOD),
            "{heard:?}"
        );
    }
    siege.end().await;
}

#[tokio::test]
async fn floods_of_small_frames_cost_nobody_else_anything() {
    let siege = Siege::begin().await;
    let opened = |n: u32, flags| {
        if n == 0 {
            frame(HEADERS, flags, 1, &head())
        } else {
            Vec::new()
        }
    };
    // Data that is none, on a stream that never ends.
    flood(&siege, |n| {
        [opened(n, END_HEADERS), frame(DATA, 0, 1, &[])].concat()
    })
    .await;
    // Data that is padding only.
    flood(&siege, |n| {
        [opened(n, END_HEADERS), frame(DATA, 8, 1, &[3, 0, 0, 0])].concat()
    })
    .await;
    // Pings that want an answer, from somebody who does read the answers.
    let pinged = flood(&siege, |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes())).await;
    assert!(
        pinged.kinds[usize::from(PING)] <= u64::from(FLOOD),
        "{pinged:?}"
    );
    // Settings that want an acknowledgement, each another size of the table.
    flood(&siege, |n| {
        let mut setting = vec![0, 1];
        setting.extend_from_slice(&(n % 4_096).to_be_bytes());
        frame(SETTINGS, 0, 0, &setting)
    })
    .await;
    // Windows, acknowledgements of nothing, priorities and kinds that nobody knows.
    flood(&siege, |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())).await;
    flood(&siege, |_| frame(SETTINGS, ACK, 0, &[])).await;
    flood(&siege, |n| frame(2, 0, 1 + 2 * (n % 100), &[0, 0, 0, 0, 1])).await;
    flood(&siege, |n| frame(0xfa, 0, n, b"what")).await;
    siege.end().await;
}

#[tokio::test]
async fn who_never_reads_the_answers_gets_no_more_room() {
    let siege = Siege::begin().await;
    // Nothing is read: pings and settings pile up answers until the server stops reading or closes.
    for what in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
    ] {
        let stream = siege.dial().await;
        let (_unread, mut write) = stream.into_split();
        push(&mut write, &preface()).await;
        let many = what.repeat(4_096);
        let mut sent = 0_usize;
        // A socket takes what its buffers hold; what goes on being taken is held by the server.
        while sent < 64 << 20 {
            let taken = tokio::time::timeout(
                std::time::Duration::from_secs(2),
                tokio::io::AsyncWriteExt::write(&mut write, &many),
            );
            match taken.await {
                Ok(Ok(more)) if more > 0 => sent += more,
                _ => break,
            }
        }
        siege.others_are_served().await;
    }
    siege.end().await;
}

#[tokio::test]
async fn heads_without_end_are_refused() {
    let siege = Siege::begin().await;
    // CONTINUATION for ever, each frame a header; each frame empty.
    for payload in [literal("x-more", &"y".repeat(1_000)), Vec::new()] {
        let heard = flood(&siege, |n| match n {
            0 => frame(HEADERS, 0, 1, &head()),
            _ => frame(CONTINUATION, 0, 1, &payload),
        })
        .await;
        assert!(was_cut(&heard), "{heard:?}");
    }
    // A field that is larger than all may be, whole and in one frame; a table that makes little into much.
    let giant = flood(&siege, |n| match n {
        0 => frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &[head(), literal("x-big", &"y".repeat(16_000))].concat(),
        ),
        _ => Vec::new(),
    })
    .await;
    assert!(
        giant.kinds[usize::from(HEADERS)] + giant.kinds[usize::from(RST_STREAM)] > 0
            || giant.goaway.is_some(),
        "{giant:?}"
    );
    let bomb = flood(&siege, |n| {
        let mut fields = head();
        // A field of 4,000 bytes put into the table, and named two thousand times.
        let mut field = literal("x-bomb", &"y".repeat(4_000));
        field[0] = 0x40;
        fields.extend(field);
        fields.extend(std::iter::repeat_n(0xbe, 2_000));
        match n {
            0..50 => frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * n, &fields),
            _ => Vec::new(),
        }
    })
    .await;
    assert!(bomb.kinds[usize::from(DATA)] <= 100, "{bomb:?}");
    siege.end().await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_their_connection() {
    let siege = Siege::begin().await;
    let broken: [Vec<u8>; 8] = [
        // Longer than a frame may be, on streams that may not be, with lengths that are wrong.
        frame(DATA, 0, 1, &vec![0; 17_000]),
        frame(HEADERS, END_HEADERS, 2, &head()),
        frame(HEADERS, END_HEADERS, 0, &head()),
        frame(PING, 0, 0, &[1, 2, 3]),
        frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
        frame(
            HEADERS,
            END_HEADERS,
            1,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        frame(CONTINUATION, END_HEADERS, 1, &head()),
    ];
    for frames in broken {
        let (read, mut write) = siege.dial().await.into_split();
        let heard = listen(read);
        push(&mut write, &[preface(), frames.clone()].concat()).await;
        let heard = soon("the connection is over", heard).await.unwrap();
        assert!(was_cut(&heard), "{:?} {heard:?}", &frames[..9]);
    }
    siege.end().await;
}

/// gRPC bodies that are not what they say.
#[tokio::test]
async fn messages_that_lie_about_themselves_are_refused() {
    let siege = Siege::begin().await;
    let token = bearer(&siege.baton.admin());
    let bodies: [(&str, Vec<u8>); 5] = [
        (
            "a length of 4 GiB",
            [&[0_u8][..], &u32::MAX.to_be_bytes(), b"x"].concat(),
        ),
        (
            "compressed, without saying how",
            [&[1_u8][..], &3_u32.to_be_bytes(), b"abc"].concat(),
        ),
        (
            "a length beyond the end",
            [&[0_u8][..], &100_u32.to_be_bytes(), b"abc"].concat(),
        ),
        (
            "no message",
            [&[0_u8][..], &4_u32.to_be_bytes(), &[0xff; 4]].concat(),
        ),
        ("deep in itself", {
            // Each level is field 1, and the next within: protobuf is read to a hundred levels.
            let mut inner = Vec::new();
            for _ in 0..3_000 {
                let mut outer = vec![0x0a];
                let mut length = inner.len();
                while length >= 128 {
                    outer.push(u8::try_from(length % 128).unwrap() | 0x80);
                    length /= 128;
                }
                outer.push(u8::try_from(length).unwrap());
                outer.extend_from_slice(&inner);
                inner = outer;
            }
            [
                &[0_u8][..],
                &u32::try_from(inner.len()).unwrap().to_be_bytes(),
                &inner,
            ]
            .concat()
        }),
    ];
    for encoding in ["", "gzip", "identity", "nothing-known"] {
        for (what, body) in &bodies {
            let stream = siege.dial().await;
            let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
            let driver = tokio::spawn(connection);
            let mut request = http::Request::post(format!(
                "http://{}/baton.v1.SessionService/CreateSession",
                siege.baton.address()
            ))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", &token);
            if !encoding.is_empty() {
                request = request.header("grpc-encoding", encoding);
            }
            let (response, mut body_of) =
                send.send_request(request.body(()).unwrap(), false).unwrap();
            body_of.send_data(body.clone().into(), true).unwrap();
            let response = soon(what, response).await.unwrap();
            let status = response.headers().get("grpc-status").cloned();
            let status = match status {
                Some(status) => status,
                None => {
                    let mut body = response.into_body();
                    while let Some(data) = soon(what, body.data()).await {
                        data.unwrap();
                    }
                    let trailers = soon(what, body.trailers())
                        .await
                        .unwrap()
                        .expect("a status");
                    trailers["grpc-status"].clone()
                }
            };
            assert!(
                status != "0" && status != "2",
                "{what} as {encoding:?}: status {status:?}"
            );
            driver.abort();
        }
    }
    siege.end().await;
}
