//! TLS: certificates from files, changed without a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::options::TlsFiles;
use crate::base::{Code, Error, Result};

/// Makes ring the provider of this process. Only the first call has an effect.
pub fn install_provider() {
    // The error says that somebody was first, which is what is wanted.
    let _ = ring::default_provider().install_default();
}

/// Accepts TLS with the certificates that were read last. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    config: Arc<RwLock<Arc<ServerConfig>>>,
    timeout: Duration,
}

impl Tls {
    /// Reads the files; a handshake may take `timeout`.
    pub fn load(files: &TlsFiles, timeout: Duration) -> Result<Self> {
        let config = read(files)?;
        Ok(Tls {
            files: files.clone(),
            config: Arc::new(RwLock::new(Arc::new(config))),
            timeout,
        })
    }

    /// Reads the files again; connections from now on use them. If they cannot be used, the old ones stay.
    pub fn reload(&self) -> Result<()> {
        let config = Arc::new(read(&self.files)?);
        *self.config.write() = config;
        Ok(())
    }

    /// The handshake of one connection.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = self.config.read().clone();
        match tokio::time::timeout(self.timeout, TlsAcceptor::from(config).accept(stream)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig> {
    let bad = |path: &Path, problem: &dyn std::fmt::Display| {
        Error::new(
            Code::InvalidInput,
            format!("{} cannot be used for TLS: {problem}", path.display()),
        )
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|problem| bad(&files.cert, &problem))?;
    if chain.is_empty() {
        return Err(bad(&files.cert, &"it has no certificate"));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|problem| bad(&files.key, &problem))?;
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|problem| bad(&files.key, &problem))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
