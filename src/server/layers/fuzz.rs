//! Headers of any bytes: who is let in is ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue, Uri};

use super::{ending, gates, observe};
use crate::base::fuzz::Target;

/// Whether `name:port` is this machine, the address that was dialled, or the configured name.
fn is_ours(authority: &str, local: IpAddr) -> bool {
    let is_port = |rest: &str| {
        let digits = rest.strip_prefix(':').unwrap_or_default();
        rest.is_empty()
            || digits.len() + 1 == rest.len() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let is_ours = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.to_canonical() == local;
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']').expect("a closing bracket");
        return is_port(port) && address.parse().is_ok_and(|ip| is_ours(IpAddr::V6(ip)));
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let (name, port) = authority.split_at(end);
    let name = name.strip_suffix('.').unwrap_or(name);
    is_port(port)
        && (matches!(name, "localhost" | "baton.example.com")
            || name.parse().is_ok_and(|ip| is_ours(IpAddr::V4(ip))))
}

#[test]
fn headers() {
    let hosts = ["baton.example.com".to_owned()];
    let local = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let own = gates::Own {
        local: SocketAddr::new(local, 7420),
        tls: false,
        hosts: &hosts,
    };
    let seeds = [
        "localhost:7420",
        "[::1]:7420",
        "[::ffff:127.0.0.1]",
        "baton.example.com.",
        "192.0.2.7:1",
        "user@localhost",
        "http://localhost:7420",
        "https://baton.example.com",
        "null",
        "Bearer bt_x",
        "bearer  x ",
        "a=b; baton_session=x; c",
        "__Host-baton_session=a",
        "99999999H",
        "1S",
        "req-1.2_3",
    ];
    Target::new("server_headers")
        .seeds(seeds)
        .words(&[
            "localhost",
            "127.0.0.1",
            "baton.example.com",
            "evil.example",
            "@",
            ":7420",
            "[",
            "]",
            "=",
        ])
        .run(|bytes| {
            let Ok(value) = HeaderValue::from_bytes(bytes) else {
                return;
            };
            let mut headers = HeaderMap::new();
            headers.insert("host", value.clone());
            headers.insert("grpc-timeout", value.clone());
            headers.insert("x-request-id", value.clone());
            let uri = Uri::from_static("/");
            if gates::check_host(&hosts, Some(local), &headers, &uri).is_ok() {
                let text = value.to_str().expect("a host is text").to_ascii_lowercase();
                assert!(is_ours(&text, local), "{text:?}");
            }
            if let Ok(uri) = Uri::try_from(bytes) {
                let _ = gates::check_host(&hosts, Some(local), &HeaderMap::new(), &uri);
            }
            if let Ok(text) = value.to_str()
                && own.is(text)
            {
                let rest = text
                    .strip_prefix("http://")
                    .or_else(|| text.strip_prefix("https://"));
                let rest = rest.expect("an origin has a scheme").to_ascii_lowercase();
                assert!(is_ours(&rest, local), "{text:?}");
                assert!(!rest.contains(['@', '/', '?', '#', ' ']), "{text:?}");
            }
            let one = std::slice::from_ref(&value);
            if let Ok(token) = gates::bearer(one) {
                assert!(
                    !token.expose().contains(['\r', '\n'])
                        && token.expose().trim() == token.expose()
                );
            }
            assert!(
                gates::bearer(&[value.clone(), value.clone()]).is_err(),
                "one token only"
            );
            if let Ok(Some(cookie)) = gates::session_cookie(one) {
                assert!(!cookie.expose().contains(';'));
                assert!(
                    gates::session_cookie(&[value.clone(), value.clone()]).is_err(),
                    "one cookie only"
                );
            }
            let _ = ending::timeout(&headers);
            let id = observe::RequestId::of(&headers);
            assert!((1..=64).contains(&id.0.len()));
            assert!(
                id.0.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
                "it goes into the log"
            );
        });
}
