//! The bare servers that figures are held against: the same messages over the same libraries, without Baton.
//!
//! What is published is broadcast to who watches; nothing is stored, nobody is authenticated. It is what a
//! careful engineer would write in an afternoon, with the settings that measured best.

mod codec;
mod encrypted;
mod grpc;
mod http;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;

use super::certificate::Files;
use encrypted::Encrypted;

pub use codec::BytesCodec;
pub use grpc::{PUBLISH, REPLAY, WATCH};
pub use http::{EVENTS, SOCKET};

/// How far the slowest reader may be behind before it is cut.
const ROOM: usize = 16_384;

/// What is published: a message as it was sent. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    to: broadcast::Sender<Bytes>,
}

impl Hub {
    fn new() -> Self {
        Hub {
            to: broadcast::channel(ROOM).0,
        }
    }

    /// Gives a message to all who watch.
    pub fn publish(&self, message: Bytes) {
        // With nobody there it is for nobody.
        let _ = self.to.send(message);
    }

    /// What is published from now on.
    pub fn watch(&self) -> broadcast::Receiver<Bytes> {
        self.to.subscribe()
    }
}

/// Serves until the process is ended, with TLS where there are files for it; says first on which port, as `{"port":N}` on a
/// line of standard output.
pub async fn serve(tls: Option<Files>) -> anyhow::Result<()> {
    let tls = tls.map(|files| files.server_config()).transpose()?;
    let hub = Hub::new();
    let router: Router = grpc::routes(hub.clone()).merge(http::routes(hub));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{{\"port\":{}}}", listener.local_addr()?.port());
    let listener = listener.tap_io(|stream| {
        // Small messages are not to wait for each other; where that cannot be set, they do.
        let _ = stream.set_nodelay(true);
    });
    match tls {
        None => axum::serve(listener, router).await?,
        Some(config) => {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            axum::serve(Encrypted::new(listener, acceptor), router).await?;
        }
    }
    Ok(())
}
