//! Certificates, and connections that speak TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use baton::server::options::TlsFiles;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::http::Got;
use crate::serving::soon;

/// A certificate for localhost, written as files, and what a client trusts.
pub fn certificate(dir: &Path) -> (TlsFiles, Vec<u8>) {
    let names = ["localhost", "127.0.0.1", "baton.example.com"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let files = TlsFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().to_vec())
}

/// Connects with TLS, offering protocols.
pub async fn connect_tls(
    address: SocketAddr,
    trusted: &[u8],
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let stream = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
}

/// A server that speaks TLS, and what to trust.
pub struct Https {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificate.
    pub trusted: Vec<u8>,
    /// The name that it is called by.
    pub name: &'static str,
}

impl Https {
    /// The origin of its pages.
    pub fn origin(&self) -> String {
        format!("https://{}:{}", self.name, self.address.port())
    }

    /// One request on a connection of its own, over the version of HTTP that ALPN names.
    pub async fn send(
        &self,
        version: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let offered = [version];
        let stream = connect_tls(self.address, &self.trusted, &offered);
        let stream = soon("TLS", stream).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.as_deref(), Some(version.as_bytes()));
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(body.into());
        let answer = if version == "h2" {
            let request = request.uri(format!("{}{path}", self.origin()));
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let request = request.body(body).unwrap();
            soon("the head", send.send_request(request)).await
        } else {
            let host = self.origin().replace("https://", "");
            let request = request.uri(path).header("host", host);
            let (mut send, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let request = request.body(body).unwrap();
            soon("the head", send.send_request(request)).await
        };
        answer.unwrap()
    }

    /// Exchanges a code; gives the whole `set-cookie`.
    pub async fn sign_in(&self, version: &str, code: &str, headers: &[(&str, &str)]) -> String {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let body = json!({ "code": code }).to_string();
        let path = "/auth/exchange";
        let got = Got::of(self.send(version, Method::POST, path, &all, body).await).await;
        assert_eq!(got.status, 204);
        got.header("set-cookie").to_owned()
    }
}

/// The cookie as it is sent back.
pub fn pair(set: &str) -> &str {
    set.split(';').next().unwrap()
}

/// Reads a body until what is looked for is in it.
pub async fn hear(what: &str, body: &mut Incoming, wanted: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let frame = soon(what, body.frame()).await.expect("no end").unwrap();
        if let Ok(data) = frame.into_data() {
            seen.extend_from_slice(&data);
        }
    }
}
