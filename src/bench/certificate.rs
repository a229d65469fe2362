//! A certificate that is made for a run, and the files that the servers under test read it from.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use super::address::Trust;
use super::plan::Plan;
use super::subject::data_dir;

/// The files that a server has its TLS from.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate (PEM).
    pub cert: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
}

/// A certificate of this machine's loopback address. Its files go when it is dropped.
#[derive(Debug)]
pub struct Certificate {
    files: Files,
    /// What clients trust.
    pub trust: Trust,
    _dir: TempDir,
}

impl Certificate {
    /// Makes one.
    pub fn make(plan: &Plan) -> Result<Self> {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).context("making a certificate")?;
        let dir = data_dir(plan)?;
        let files = Files {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        std::fs::write(&files.cert, made.cert.pem())?;
        std::fs::write(&files.key, made.signing_key.serialize_pem())?;
        Ok(Certificate {
            files,
            trust: Trust::of(made.cert.pem(), made.cert.der())?,
            _dir: dir,
        })
    }

    /// Tells a server, Baton or the bare one, where the files are.
    pub fn give(&self, command: &mut Command) {
        command.arg("--tls-cert").arg(&self.files.cert);
        command.arg("--tls-key").arg(&self.files.key);
    }
}

impl Files {
    /// What a server speaks with them: the same as Baton.
    pub fn server_config(&self) -> Result<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .with_context(|| format!("reading {}", self.cert.display()))?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("reading {}", self.key.display()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Named, so that it does not matter whether this process has a default.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
