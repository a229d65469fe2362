//! The one port: hostile peers, aged connections, shutdown, upgrades, TLS.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use baton::app::access::Need;
use baton::base::SystemClock;
use baton::gateway::Routes;
use baton::server::{Builder, Ended, Options};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::serving::*;
use crate::support::tls::{certificate, connect_tls};

/// One HTTP/1.1 exchange on a connection that ends with it.
async fn http1(running: &Running, head: &str) -> String {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!("{head}\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    soon("an answer", stream.read_to_string(&mut text))
        .await
        .unwrap();
    text
}

async fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = soon("the server closes", stream.read_to_end(&mut rest)).await;
}

async fn is_well(running: &Running) {
    assert_eq!(running.call(HEALTH, &[]).await.code, tonic::Code::Ok);
}

#[tokio::test]
async fn a_peer_that_sends_its_request_slowly_or_not_at_all_is_closed() {
    let running = start(|options| {
        options.connections.header_timeout = Duration::from_millis(300);
    })
    .await;
    for bytes in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx:",
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        is_closed(&mut stream).await;
    }
    is_well(&running).await;
}

#[tokio::test]
async fn nobody_stays_long_without_a_token() {
    let running = start(|options| {
        options.connections.unauthenticated = Duration::from_millis(200);
        options.connections.age_grace = Duration::from_millis(200);
    })
    .await;
    // It is older than the stranger, so it would be sent away before it.
    let mut live = open_live(&running, &running.admin).await;
    let mut stranger = running.h2().await;
    let request = running.request(HEALTH, &[], frame(&()));
    answer(stranger.send_request(request).await.unwrap()).await;
    soon("the stranger is sent away", async {
        while stranger.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(live.client.clone().ready().await.is_ok());
    live.send.send_data(list_services(0), false).unwrap();
    live.hear().await;
}

#[tokio::test]
async fn a_drain_ends_in_time_with_silent_and_unreading_peers() {
    let running = start(|options| {
        options.drain_deadline = Duration::from_secs(1);
        options.connections.header_timeout = Duration::from_secs(60);
    })
    .await;
    let _silent = TcpStream::connect(running.address).await.unwrap();
    let mut half = TcpStream::connect(running.address).await.unwrap();
    half.write_all(b"GET / HT").await.unwrap();
    let mut live = open_live(&running, &running.admin).await;
    let began = Instant::now();
    running.drain.begin();
    // Who listens is told why, before the cut.
    let status = live.status().await;
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let mut running = running;
    soon("the server ends", &mut running.serving).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn an_aged_connection_is_asked_to_go_and_its_stream_goes_on() {
    let running = start(|options| {
        options.connections.max_age = Duration::from_millis(300);
        options.connections.age_grace = Duration::from_secs(4);
    })
    .await;
    let mut live = open_live(&running, &running.admin).await;
    soon("GOAWAY", async {
        while live.client.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    live.send.send_data(list_services(0), false).unwrap();
    live.hear().await;
    // What does not end by itself is ended, with a word, before the connection is cut.
    assert_eq!(live.status().await.code(), tonic::Code::Unavailable);
    let ended = soon("the connection ends", live.connection).await.unwrap();
    assert!(ended.is_ok(), "{ended:?}");
}

/// An HTTP/2 frame.
fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Sends a flood of streams, each followed by `then`; whether the server ended the connection with GOAWAY.
async fn flood(running: &Running, then: impl Fn(u32) -> Vec<u8>) -> bool {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let reader = tokio::spawn(async move {
        let mut head = [0_u8; 9];
        while read.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0_u8; length];
            if read.read_exact(&mut payload).await.is_err() {
                break;
            }
            // GOAWAY that is not "no error".
            if head[3] == 7 && payload.len() >= 8 && payload[4..8] != [0, 0, 0, 0] {
                return true;
            }
        }
        false
    });
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(h2_frame(4, 0, 0, &[]));
    // :method POST, :scheme http, :path /, :authority localhost
    let mut headers = vec![0x83, 0x86, 0x84, 0x41, 9];
    headers.extend_from_slice(b"localhost");
    for n in 0..5_000_u32 {
        let id = 1 + 2 * n;
        bytes.extend(h2_frame(1, 4, id, &headers));
        bytes.extend(then(id));
        // An error says that the server has closed, which is the point.
        if bytes.len() > 16_384 && write.write_all(&std::mem::take(&mut bytes)).await.is_err() {
            break;
        }
    }
    let _ = write.write_all(&bytes).await;
    soon("the flood is over", reader).await.unwrap()
}

#[tokio::test]
async fn floods_of_resets_end_their_own_connection_only() {
    let running = start(|_| {}).await;
    // A window that overflows makes the server reset the stream itself (MadeYouReset).
    let made = flood(&running, |id| {
        h2_frame(8, 0, id, &0x7fff_ffff_u32.to_be_bytes())
    })
    .await;
    assert!(
        made,
        "resets of the server's own making must end the connection"
    );
    // Streams that are reset as soon as they are opened (rapid reset).
    let rapid = flood(&running, |id| h2_frame(3, 0, id, &8_u32.to_be_bytes())).await;
    assert!(
        rapid,
        "resets before the stream was looked at must end the connection"
    );
    is_well(&running).await;
}

#[tokio::test]
async fn unread_streams_do_not_stop_another_call_on_their_connection() {
    let running = start(|_| {}).await;
    let mut live = open_live(&running, &running.admin).await;
    let mut second = live.beside(&running, &running.admin).await;
    let sent = live.fill().await + second.fill().await;
    assert!(sent >= 400 * 1024, "the windows were never full: {sent}");
    // A call too large to slip through what a full window leaves over.
    let message = frame(&tonic_health::pb::HealthCheckRequest {
        service: "x".repeat(40_000),
    });
    let request = http::Request::post(format!("http://{}{HEALTH}", running.address))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, mut send) = live.client.send_request(request, false).unwrap();
    send.send_data(message, true).unwrap();
    let response = soon("a call beside unread streams", response)
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn an_unknown_path_is_not_found_over_both_protocols() {
    let running = start(|_| {}).await;
    let answer = http1(&running, "GET /nowhere HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(
        answer.contains(r#"{"error":{"code":"UNKNOWN_METHOD","message":"#),
        "{answer}"
    );

    let mut send = running.h2().await;
    let request = http::Request::get(format!("http://{}/nowhere", running.address))
        .body(Default::default())
        .unwrap();
    assert_eq!(send.send_request(request).await.unwrap().status(), 404);

    let grpc = running
        .call("/baton.v1.SessionService/NoSuchMethod", &[])
        .await;
    assert_eq!((grpc.http, grpc.code), (200, tonic::Code::Unimplemented));
}

#[tokio::test]
async fn liveness_is_open() {
    let running = start(|_| {}).await;
    for path in ["/healthz", "/readyz"] {
        let answer = http1(&running, &format!("GET {path} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("x-request-id: "), "{answer}");
    }
    is_well(&running).await;
}

async fn echo(request: Request) -> Response {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut bytes = [0; 4];
        io.read_exact(&mut bytes).await.unwrap();
        io.write_all(&bytes).await.unwrap();
    });
    let headers = [("connection", "upgrade"), ("upgrade", "echo")];
    (http::StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[tokio::test]
async fn http_1_upgrades_work_through_the_loop() {
    let running = start_with(
        |_| {},
        SystemClock::shared(),
        |builder| builder.add_http(Routes::default().get("/echo", Need::Token, echo)),
    )
    .await;
    let head = "GET /echo HTTP/1.1\r\nconnection: upgrade\r\nupgrade: echo\r\nhost: localhost\r\n";
    // The token is looked at before the upgrade.
    assert!(
        http1(&running, "GET /echo HTTP/1.1\r\nupgrade: echo")
            .await
            .starts_with("HTTP/1.1 401")
    );

    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!("{head}authorization: {}\r\n\r\n", bearer(&running.admin));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon("the answer", stream.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    stream.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    soon("the echo", stream.read_exact(&mut bytes))
        .await
        .unwrap();
    assert_eq!(&bytes, b"ping");
}

#[tokio::test]
async fn a_panic_ends_one_request_only() {
    async fn fall() -> &'static str {
        panic!("canary in the panic")
    }
    let running = start_with(
        |_| {},
        SystemClock::shared(),
        |builder| builder.add_http(Routes::default().get("/fall", Need::Open, fall)),
    )
    .await;
    let mut send = running.h2().await;
    let request = |path: &str| {
        http::Request::get(format!("http://{}{path}", running.address))
            .body(Default::default())
            .unwrap()
    };
    let fell = answer(send.send_request(request("/fall")).await.unwrap()).await;
    assert_eq!(fell.http, 500);
    assert!(!String::from_utf8_lossy(&fell.body).contains("canary"));
    // The same connection goes on.
    assert_eq!(
        send.send_request(request("/healthz"))
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn tls_speaks_both_protocols_and_takes_new_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (files, first) = certificate(dir.path());
    let running = start(|options| options.tls = Some(files)).await;
    // A peer that never says hello holds up nobody.
    let _silent = TcpStream::connect(running.address).await.unwrap();

    let stream = soon("h2", connect_tls(running.address, &first, &["h2"]))
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get("https://localhost/healthz")
        .body(())
        .unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(soon("an answer", response).await.unwrap().status(), 200);
    let _: &h2::client::SendRequest<Bytes> = &client;

    let mut stream = connect_tls(running.address, &first, &["http/1.1"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    soon("an answer", stream.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    // Broken files change nothing; good ones are used from the next connection on.
    std::fs::write(dir.path().join("cert.pem"), "junk").unwrap();
    let tls = running.tls.clone().unwrap();
    assert!(tls.reload().is_err());
    assert!(connect_tls(running.address, &first, &["h2"]).await.is_ok());
    let (_, second) = certificate(dir.path());
    tls.reload().unwrap();
    assert!(connect_tls(running.address, &second, &["h2"]).await.is_ok());
    assert!(connect_tls(running.address, &first, &["h2"]).await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_the_server_at_once() {
    use nix::sys::signal::{Signal, kill};
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::local(dir.path()).unwrap();
    options.drain_deadline = Duration::from_secs(600);
    let builder = Builder::new(
        options,
        baton::store::memory::shared(baton::base::SystemClock::shared()),
        SystemClock::shared(),
    );
    let drain = builder.drain().clone();
    let (announce, announced) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(baton::server::run(builder, |server| {
        announce.send(server.address()).unwrap();
    }));
    let address = soon("the port", announced).await.unwrap();
    // A live stream keeps the drain from being over at once.
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Watch"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data(frame(&()), true).unwrap();
    let _live = soon("a live stream", response).await.unwrap();

    let this = nix::unistd::getpid();
    kill(this, Signal::SIGHUP).unwrap();
    kill(this, Signal::SIGTERM).unwrap();
    soon("the drain begins", drain.begun()).await;
    kill(this, Signal::SIGINT).unwrap();
    let ended = soon("the server ends", running).await.unwrap().unwrap();
    assert_eq!(ended, Ended::Forced);
}
