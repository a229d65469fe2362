//! Where the server is, and what opens it.

use std::net::IpAddr;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::base::{Code, Error, Result, Secret};

/// Where a server listens unless somebody said otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7420";

// A connection's window is shared by all its streams, and small frames are charged against it too: a
// slow reader of one stream must not stall the others.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Where a server is, and the token that opens it.
#[derive(Clone, Debug)]
pub struct ServerAddress {
    /// `http://` or `https://`, host and port.
    pub url: String,
    /// The token; `None` calls without one.
    pub token: Option<Secret>,
    /// Certificate authorities (PEM) to trust instead of the machine's.
    pub ca: Option<Vec<u8>>,
}

impl ServerAddress {
    /// An address without a token.
    pub fn new(url: impl Into<String>) -> Self {
        ServerAddress {
            url: url.into(),
            token: None,
            ca: None,
        }
    }

    /// The same with a token.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    /// Whether a token would travel readable over a network.
    pub fn is_exposed(&self) -> bool {
        let Ok(uri) = self.url.parse::<http::Uri>() else {
            return false;
        };
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        uri.scheme_str() == Some("http") && !is_loopback
    }

    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        let bad = |problem: &str| {
            Error::new(
                Code::InvalidInput,
                format!(
                    "the server's address {:?} {problem}; it looks like {DEFAULT_URL}",
                    self.url
                ),
            )
        };
        let uri: http::Uri = self.url.parse().map_err(|_| bad("is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(bad("has no http:// or https:// and host"));
        }
        if uri
            .path_and_query()
            .is_some_and(|path| !matches!(path.as_str(), "" | "/"))
        {
            return Err(bad("has a path"));
        }
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(bad("has a user; the token comes from elsewhere"));
        }
        let secure = uri.scheme_str() == Some("https");
        let mut endpoint = Endpoint::from(uri)
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_adaptive_window(false)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        if secure {
            let tls = match &self.ca {
                Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|problem| {
                Error::new(
                    Code::InvalidInput,
                    "the certificate authorities cannot be used",
                )
                .caused_by(problem)
            })?;
        }
        Ok(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in [DEFAULT_URL, "https://baton.example:443", "http://[::1]:1/"] {
            assert!(ServerAddress::new(good).endpoint().is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:7420",
            "ftp://x",
            "http://",
            "http://x/path",
            "http://u:p@x",
        ] {
            let error = ServerAddress::new(bad).endpoint().unwrap_err();
            assert_eq!(error.code(), Code::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_token_in_the_clear_is_noticed() {
        assert!(ServerAddress::new("http://10.0.0.1:7420").is_exposed());
        assert!(ServerAddress::new("http://baton.example").is_exposed());
        assert!(!ServerAddress::new("https://baton.example").is_exposed());
        assert!(!ServerAddress::new(DEFAULT_URL).is_exposed());
        assert!(!ServerAddress::new("http://[::1]:1").is_exposed());
    }
}
