//! The nginx example of the documentation, run as it stands there in front of the real programs.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use baton::domain::EventBody;
use baton::wire::v1;
use http::Method;
use http_body_util::BodyExt as _;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpStream;

use crate::serving::{bearer, frame, soon};
use crate::support::baton::{Baton, eventually};
use crate::support::http::{Got, Ws, frames};
use crate::support::tls::{Https, certificate, connect_tls, hear, pair};

const PAGE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/docs/operating/reverse-proxy.md"
);
/// The name in the example.
const NAME: &str = "baton.example.com";
const GET_CALLER: &str = "/baton.v1.AccessService/GetCaller";

/// The part of the page between a fence of this language and the next.
fn example(language: &str) -> String {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let begin = format!("```{language}\n");
    let (_, rest) = page.split_once(&begin).expect("the page has an example");
    let (text, _) = rest.split_once("```").expect("the example ends");
    text.to_owned()
}

/// The example with ports and files of this test, and what a whole configuration has around it.
fn configuration(dir: &Path, listen: SocketAddr, server: SocketAddr) -> String {
    let mut text = example("nginx");
    for (theirs, ours) in [
        ("server 127.0.0.1:7420;", format!("server {server};")),
        ("listen 443 ", format!("listen {listen} ")),
        ("/etc/ssl/baton.pem", format!("{}/cert.pem", dir.display())),
        ("/etc/ssl/baton.key", format!("{}/key.pem", dir.display())),
    ] {
        assert!(text.contains(theirs), "the example has no {theirs:?}");
        text = text.replace(theirs, &ours);
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {}/{what};\n", dir.display()))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.log info;\n\
         events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}\n}}\n",
        dir = dir.display()
    )
}

struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    async fn start(dir: &Path, server: SocketAddr, port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let file = dir.join("nginx.conf");
        std::fs::write(&file, configuration(dir, address, server)).unwrap();
        let log = std::fs::File::create(dir.join("nginx.err")).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(dir)
            .arg("-e")
            .arg(dir.join("nginx.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nginx is there (Debian: nginx; scripts/test installs it)");
        let mut nginx = Nginx { child, address };
        eventually("nginx answers", || {
            let ended = nginx.child.try_wait().unwrap();
            let said = std::fs::read_to_string(dir.join("nginx.err")).unwrap_or_default();
            assert!(ended.is_none(), "nginx ended: {said}");
            async move { TcpStream::connect(address).await.ok() }
        })
        .await;
        nginx
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn the_nginx_example_streams_everything_that_the_page_promises() {
    let dir = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(dir.path());
    let port = free_port();
    let origin = format!("https://{NAME}:{port}");
    // As the page says to start it.
    let serve = example("sh");
    for flag in ["--listen 127.0.0.1:7420", "--host baton.example.com"] {
        assert!(serve.contains(flag), "{serve}");
    }
    assert!(
        serve.contains("--origin https://baton.example.com"),
        "{serve}"
    );
    let front = format!("https://localhost:{port}");
    let mut baton = Baton::new()
        .server_flags(&["--host", NAME, "--origin", &origin])
        .daemon_dials(&front)
        .daemon_env("BATON_CA_FILE", files.cert.to_string_lossy());
    baton.start_server().await;
    let nginx = Nginx::start(dir.path(), baton.address(), port).await;
    let site = Https {
        address: nginx.address,
        trusted: trusted.clone(),
        name: NAME,
    };

    // The daemon's link and the command line go through it.
    baton.start_daemon().await;
    let cwd = baton.project();
    let run = |arguments: &[&str]| {
        let mut command = baton.cli(arguments);
        command
            .env("BATON_SERVER", &front)
            .env("BATON_CA_FILE", &files.cert)
            .current_dir(&cwd);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let session = run(&["run", "--harness", "demo", "--no-follow", "say: one"]);
    baton
        .wait_for(&session, "the turn ends", |body| {
            matches!(body, EventBody::TurnEnded { .. })
        })
        .await;
    let link = run(&["console-link", "--url", &origin]);
    let code = link.split_once("/#code=").unwrap().1;
    let set = site.sign_in("h2", code, &[("origin", &origin)]).await;
    assert!(set.ends_with("; Secure"), "the cookie's attributes");

    let cookie = ("cookie", pair(&set));
    let page = ("origin", origin.as_str());
    let token = bearer(&baton.admin());
    let token = ("authorization", token.as_str());
    let web = ("content-type", "application/grpc-web+proto");
    let native = ("content-type", "application/grpc");
    let te = ("te", "trailers");
    let watch = frame(&v1::WatchRequest {
        scopes: vec![v1::Scope {
            scope: Some(v1::scope::Scope::Session(v1::SessionScope {
                session_id: session.clone(),
                ..Default::default()
            })),
        }],
        ..Default::default()
    });
    let path = "/baton.v1.EventService/Watch";
    let mut streams = Vec::new();
    for version in ["h2", "http/1.1"] {
        let headers = [cookie, ("sec-fetch-site", "same-origin")];
        let sse = format!("/api/sessions/{session}/stream");
        let sse = site.send(version, Method::GET, &sse, &headers, "").await;
        assert_eq!(sse.headers()["content-type"], "text/event-stream");
        streams.push((format!("server-sent events, {version}"), sse.into_body()));

        let body = watch.clone();
        let said = site
            .send(version, Method::POST, path, &[cookie, page, web], body)
            .await;
        assert_eq!(said.headers()["content-type"], web.1);
        streams.push((format!("gRPC-Web, {version}"), said.into_body()));
    }
    let said = site
        .send("h2", Method::POST, path, &[token, native, te], watch)
        .await;
    assert_eq!(said.headers()["content-type"], native.1);
    streams.push(("gRPC".to_owned(), said.into_body()));

    let offered = ["http/1.1"];
    let stream = connect_tls(site.address, &trusted, &offered).await.unwrap();
    let url = format!(
        "{}/api/sessions/{session}/ws",
        origin.replace("https", "wss")
    );
    let mut ws = Ws::over(stream, &url, &[cookie, page]).await.unwrap();
    ws.until("connected").await;

    // None of these streams ends while the session lives, so what arrives was held back by nobody: what had
    // happened, and then, one after the other, what happens, with nothing behind it that would push it out.
    for (name, body) in &mut streams {
        hear(name, body, "one").await;
    }
    for word in ["two", "three"] {
        let said = format!("say: {word}");
        ws.send(json!({ "type": "user_message", "content": said }))
            .await;
        while !ws.until("message").await.to_string().contains(word) {}
        for (name, body) in &mut streams {
            hear(name, body, word).await;
        }
    }

    // gRPC and plain HTTP by turns, each answered as what it is: nginx keeps connections to the server, and
    // one that speaks HTTP/2 must not be taken for one that speaks HTTP/1.1.
    let asked = frame(&v1::GetCallerRequest {});
    for round in 0..20 {
        let headers = [token, native, te];
        let body = asked.clone();
        let got = site
            .send("h2", Method::POST, GET_CALLER, &headers, body)
            .await;
        let whole = soon("an answer", got.into_body().collect()).await.unwrap();
        let trailers = whole.trailers().cloned().unwrap_or_default();
        assert_eq!(trailers["grpc-status"], "0", "round {round}");

        let headers = [token, web];
        let body = asked.clone();
        let got = site
            .send("http/1.1", Method::POST, GET_CALLER, &headers, body)
            .await;
        let (messages, trailers) = frames(Got::of(got).await.body);
        assert_eq!(trailers.trim(), "grpc-status:0", "round {round}");
        let caller = v1::GetCallerResponse::decode(messages[0].clone()).unwrap();
        assert_eq!(caller.token.unwrap().name, "bootstrap");

        let got = site
            .send("h2", Method::GET, "/auth/caller", &[token], "")
            .await;
        assert_eq!(got.status(), 200, "round {round}");
    }

    // Pages of others get no further than without it, and the console is there.
    let evil = ("origin", "https://evil.example");
    let got = site
        .send("h2", Method::GET, "/auth/caller", &[cookie, evil], "")
        .await;
    assert_eq!(got.status(), 403);
    let got = site.send("h2", Method::GET, "/", &[], "").await;
    assert_eq!(got.headers()["content-type"], "text/html; charset=utf-8");
}
