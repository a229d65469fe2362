//! Where a server under test listens, and how one comes there: in clear text, or with TLS that trusts its certificate
//! and nothing else.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::certificate::provider;

/// Where all servers under test listen.
const HOST: &str = "127.0.0.1";

/// A connection's bytes.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Address {
    /// Its port on the loopback address.
    pub port: u16,
    /// What its clients trust; `None` in clear text.
    pub trust: Option<Trust>,
}

/// What clients of a server with TLS trust.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The certificate as PEM.
    pub pem: String,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Trusts one certificate, which comes in both forms.
    pub fn of(pem: String, certificate: &CertificateDer<'static>) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone())?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust {
            pem,
            config: Arc::new(config),
        })
    }
}

impl Address {
    /// In clear text.
    pub fn clear(port: u16) -> Self {
        Address { port, trust: None }
    }

    /// As a URL, without a path.
    pub fn url(&self) -> String {
        let scheme = match self.trust {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{HOST}:{}", self.port)
    }

    /// As the head of a request over HTTP/1.1 names it.
    pub fn host(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    /// For tonic's clients.
    pub fn endpoint(&self) -> Result<Endpoint> {
        let endpoint = Endpoint::from_shared(self.url())?.tcp_nodelay(true);
        Ok(match &self.trust {
            Some(trust) => {
                let authority = tonic::transport::Certificate::from_pem(&trust.pem);
                endpoint.tls_config(ClientTlsConfig::new().ca_certificate(authority))?
            }
            None => endpoint,
        })
    }

    /// A connection without TLS, whatever the server speaks.
    pub async fn dial(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect((HOST, self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection over which this protocol (as ALPN names it) is to be spoken.
    pub async fn connect(&self, protocol: &str) -> Result<Stream> {
        let stream = self.dial().await?;
        let Some(trust) = &self.trust else {
            return Ok(Either::Left(stream));
        };
        let mut config = ClientConfig::clone(&trust.config);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(HOST)?, stream)
            .await
            .context("speaking TLS")?;
        Ok(Either::Right(Box::new(stream)))
    }
}
