//! Where the server may listen.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::options::Options;
use crate::base::{Code, Error, Result};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Refuses to listen beyond loopback in clear text, unless told to.
pub fn guard(options: &Options) -> Result<()> {
    if options.listen.ip().to_canonical().is_loopback() || options.tls.is_some() || options.insecure
    {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidInput,
        format!(
            "{} can be reached from other machines and there is no TLS: give tls.cert and tls.key, listen on \
             127.0.0.1, or say --insecure if something in front of the server encrypts",
            options.listen
        ),
    )
    .with("listen", options.listen))
}

/// Listens at an address.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|problem: std::io::Error| {
        // Not UNAVAILABLE: no server was called that could not be reached.
        let why = match problem.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there, perhaps a server of yours that runs already; end it, or listen elsewhere".to_owned()
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "this user may not use that port; take one above 1023".to_owned()
            }
            _ => problem.to_string(),
        };
        Error::new(
            Code::InternalError,
            format!("cannot listen on {address}: {why}"),
        )
        .caused_by(problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::options::TlsFiles;

    #[test]
    fn beyond_loopback_needs_tls_or_a_word() {
        let mut options = Options::local("/nowhere").unwrap();
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            options.listen = open.parse().unwrap();
            options.insecure = false;
            options.tls = None;
            assert_eq!(
                guard(&options).unwrap_err().code(),
                Code::InvalidInput,
                "{open}"
            );
            options.insecure = true;
            assert!(guard(&options).is_ok());
            options.insecure = false;
            options.tls = Some(TlsFiles {
                cert: "c".into(),
                key: "k".into(),
            });
            assert!(guard(&options).is_ok());
        }
        options.tls = None;
        for local in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            options.listen = local.parse().unwrap();
            assert!(guard(&options).is_ok(), "{local}");
        }
    }
}
