//! The accept loop: our own, since tonic's breaks upgrades and cuts aged connections without a word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{self, Shared};
use super::drain::Drain;
use super::options::Connections;
use super::tls::Tls;
use crate::base::{Error, Result};

/// How long to wait when a connection cannot be accepted, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What connections may take beyond the drain's deadline, for the last of their work.
const LAST_WORK: Duration = Duration::from_millis(250);

/// Accepts connections and serves a router on them, HTTP/1.1 and HTTP/2, with upgrades.
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    name: &'static str,
}

impl Listener {
    /// A listener on a bound socket. `name` tells listeners apart in logs and metrics.
    pub fn new(
        name: &'static str,
        socket: TcpListener,
        router: Router,
        tls: Option<Tls>,
        bounds: Connections,
        drain: Drain,
    ) -> Self {
        Listener {
            socket,
            permits: Arc::new(Semaphore::new(bounds.max.min(Semaphore::MAX_PERMITS))),
            shared: Arc::new(Shared {
                // Routes are built once here instead of at every connection.
                router: router.with_state(()),
                tls,
                bounds,
                drain,
            }),
            name,
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(Error::internal)
    }

    /// Serves until the drain has begun and every connection has ended, or the drain's deadline is over.
    pub async fn serve(self) {
        let Listener {
            socket,
            shared,
            permits,
            name,
        } = self;
        let drain = shared.drain.clone();
        let gauge = metrics::gauge!("baton_connections", "listener" => name);
        let mut connections = JoinSet::new();
        loop {
            // With no permit left nobody is accepted: the kernel's backlog is the queue, and it is bounded.
            let permit = tokio::select! {
                permit = permits.clone().acquire_owned() => permit,
                () = drain.begun() => break,
                Some(ended) = connections.join_next() => {
                    note_panic(name, ended);
                    gauge.set(connections.len() as f64);
                    continue;
                }
            };
            // The semaphore is never closed.
            let Ok(permit) = permit else { break };
            let accepted = loop {
                tokio::select! {
                    accepted = socket.accept() => break Some(accepted),
                    () = drain.begun() => break None,
                    Some(ended) = connections.join_next() => {
                        note_panic(name, ended);
                        gauge.set(connections.len() as f64);
                    }
                }
            };
            match accepted {
                None => break,
                Some(Ok((stream, peer))) => {
                    connections.spawn(connection::serve(stream, peer, permit, shared.clone()));
                    gauge.set(connections.len() as f64);
                }
                Some(Err(problem)) => {
                    tracing::warn!(listener = name, %problem, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(socket);
        let deadline = tokio::time::Instant::now() + drain.deadline() + LAST_WORK;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, connections.join_next()).await
        {
            note_panic(name, ended);
        }
        if !connections.is_empty() {
            tracing::warn!(
                listener = name,
                left = connections.len(),
                "connections cut at the deadline"
            );
            connections.shutdown().await;
        }
        gauge.set(0.0);
    }
}

fn note_panic(name: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(problem) = ended
        && problem.is_panic()
    {
        tracing::error!(listener = name, %problem, "a connection panicked");
    }
}
