//! What browsers do, over TLS: signing in, gRPC-Web, server-sent events and WebSockets, on both versions of HTTP.

use baton::base::SystemClock;
use baton::domain::EventBody;
use baton::wire::v1;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::serving::*;
use crate::support::baton::Baton;
use crate::support::http::{Got, Ws};
use crate::support::tls::{Https, certificate, connect_tls, hear, pair};

#[tokio::test]
async fn the_cookie_of_a_port_that_encrypts_is_never_sent_in_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(dir.path());
    let running = start_with(
        |options| options.tls = Some(files),
        SystemClock::shared(),
        |builder| builder.add_console(),
    )
    .await;
    let server = Https {
        address: running.address,
        trusted: trusted.clone(),
        name: "localhost",
    };
    let own = server.origin();
    let admin = running.access.authenticate(&running.admin).await.unwrap();
    for version in ["h2", "http/1.1"] {
        // With the page's origin and without any.
        for headers in [&[("origin", own.as_str())] as &[_], &[]] {
            let code = running
                .access
                .create_sign_in_code(&admin, None)
                .await
                .unwrap();
            let set = server.sign_in(version, code.code.expose(), headers).await;
            let attributes: Vec<&str> = set.split("; ").skip(1).collect();
            for wanted in ["HttpOnly", "SameSite=Strict", "Path=/", "Secure"] {
                assert!(attributes.contains(&wanted), "{version} {attributes:?}");
            }

            let page = [("cookie", pair(&set)), ("sec-fetch-site", "same-origin")];
            let caller = server.send(version, Method::GET, "/auth/caller", &page, "");
            assert_eq!(caller.await.status(), 200, "{version}");
            // The same name and port in clear text is another origin.
            let clear = own.replace("https", "http");
            let other = [("cookie", pair(&set)), ("origin", clear.as_str())];
            let refused = server.send(version, Method::GET, "/auth/caller", &other, "");
            assert_eq!(refused.await.status(), 403, "{version}");

            let page = [("cookie", pair(&set)), ("origin", own.as_str())];
            let out = server.send(version, Method::POST, "/auth/sign-out", &page, "");
            let out = Got::of(out.await).await;
            assert_eq!(out.status, 204);
            let set = out.header("set-cookie");
            assert!(
                set.contains("; Max-Age=0") && set.ends_with("; Secure"),
                "{set}"
            );
        }
    }
    // In clear text the port answers nothing that a browser would take.
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the server hangs up", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test]
async fn browsers_stream_over_tls_on_both_versions_of_http() {
    let mut baton = Baton::new().with_tls();
    baton.start_server().await;
    baton.start_daemon().await;
    let trusted = baton.trusted().to_vec();
    let server = Https {
        address: baton.address(),
        trusted: trusted.clone(),
        name: "localhost",
    };
    // Who offers both gets HTTP/2, who offers neither HTTP/1.1.
    for (offered, agreed) in [
        (&["h2", "http/1.1"] as &[&str], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&[], None),
    ] {
        let stream = connect_tls(server.address, &trusted, offered)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed, "{offered:?}");
    }

    let session = baton.session("demo", "say: one").await;
    baton
        .wait_for(&session.id, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let output = baton.cli(&["console-link"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let link = String::from_utf8(output.stdout).unwrap();
    let (base, code) = link.trim().split_once("/#code=").unwrap();
    assert_eq!(base, baton.url());
    let own = server.origin();
    let set = server
        .sign_in("h2", code, &[("origin", own.as_str())])
        .await;
    let cookie = ("cookie", pair(&set));
    let page = ("origin", own.as_str());

    let watch = v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::Session(v1::SessionScope {
                session_id: session.id.clone(),
                ..Default::default()
            })),
        }],
        ..Default::default()
    };
    let mut streams = Vec::new();
    for version in ["h2", "http/1.1"] {
        let path = format!("/api/sessions/{}/stream", session.id);
        let headers = [cookie, ("sec-fetch-site", "same-origin")];
        let sse = server.send(version, Method::GET, &path, &headers, "").await;
        assert_eq!(sse.headers()["content-type"], "text/event-stream");
        streams.push((format!("server-sent events, {version}"), sse.into_body()));

        let headers = [cookie, page, ("content-type", "application/grpc-web+proto")];
        let path = "/baton.v1.EventService/Watch";
        let body = frame(&watch);
        let web = server
            .send(version, Method::POST, path, &headers, body)
            .await;
        assert_eq!(web.status(), 200);
        streams.push((format!("gRPC-Web, {version}"), web.into_body()));
    }
    for (name, body) in &mut streams {
        hear(name, body, "one").await;
    }
    // A WebSocket begins with HTTP/1.1, which a browser then offers alone.
    let stream = connect_tls(server.address, &trusted, &["http/1.1"])
        .await
        .unwrap();
    let url = format!(
        "{}/api/sessions/{}/ws",
        own.replace("https", "wss"),
        session.id
    );
    let mut ws = Ws::over(stream, &url, &[cookie, page]).await.unwrap();
    ws.until("connected").await;

    // All are live, and the socket speaks both ways.
    ws.send(json!({ "type": "user_message", "content": "say: two" }))
        .await;
    loop {
        if ws.until("message").await.to_string().contains("two") {
            break;
        }
    }
    for (name, body) in &mut streams {
        hear(name, body, "two").await;
    }

    // A page in clear text does not get the socket.
    let clear = own.replace("https", "http");
    let stream = connect_tls(server.address, &trusted, &["http/1.1"])
        .await
        .unwrap();
    let refused = Ws::over(stream, &url, &[cookie, ("origin", clear.as_str())]).await;
    assert_eq!(refused.err().map(|(status, _)| status), Some(403));
}
