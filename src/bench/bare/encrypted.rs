//! TLS around a listener.

use axum::serve::Listener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Accepts connections one after the other, handshake and all: readers connect before anything is measured.
pub struct Encrypted<L> {
    listener: L,
    acceptor: TlsAcceptor,
}

impl<L> Encrypted<L> {
    /// Around this listener.
    pub fn new(listener: L, acceptor: TlsAcceptor) -> Self {
        Encrypted { listener, acceptor }
    }
}

impl<L: Listener> Listener for Encrypted<L> {
    type Io = TlsStream<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await;
            // Who cannot speak TLS notices it.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
