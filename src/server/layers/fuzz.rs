//! Headers of any bytes: who is let in is ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue, Uri};

use super::{ending, gates, observe};
use crate::base::fuzz::Target;

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
                let name = text.trim_start_matches('[');
                let ours = [
                    "localhost",
                    "127.",
                    "::1",
                    "::ffff:",
                    "0:",
                    "baton.example.com",
                    "192.0.2.7",
                ];
                assert!(ours.iter().any(|own| name.starts_with(own)), "{text:?}");
                assert!(!text.contains(['@', '/', ' ', '\t']), "{text:?}");
                // Nothing stands behind the name but a dot and a port.
                let rest = name
                    .strip_prefix("baton.example.com")
                    .or_else(|| name.strip_prefix("localhost"));
                assert!(
                    rest.is_none_or(|rest| rest.is_empty() || rest.starts_with([':', '.'])),
                    "{text:?}"
                );
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
                let ours = [
                    "localhost",
                    "127.",
                    "[::1]",
                    "baton.example.com",
                    "192.0.2.7",
                    "[::ffff:",
                ];
                assert!(ours.iter().any(|own| rest.starts_with(own)), "{text:?}");
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
