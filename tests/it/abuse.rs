//! Peers that attack the one port, frame by frame: each costs its own connection at most, and costs the server a
//! bounded amount. Others are served meanwhile, and nothing panics.

mod http1;
mod http2;
mod sockets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::{Method, Request};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::serving::{bearer, soon};
use crate::support::baton::Baton;
use crate::support::http::{Got, h1};

/// How much more memory than before an attack the server may have behind it.
const MAX_GROWTH_BYTES: u64 = 96 * 1024 * 1024;

/// A server under attack, and somebody who only wants to be served.
struct Siege {
    baton: Baton,
    memory: u64,
    served: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    bystander: JoinHandle<()>,
}

impl Siege {
    async fn begin() -> Self {
        Self::with(&[]).await
    }

    async fn with(variables: &[(&str, &str)]) -> Self {
        let mut baton = Baton::new();
        baton.spawn_server_with(variables);
        baton.server_answers().await;
        let (served, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let bystander = {
            let (address, token) = (baton.address(), bearer(&baton.admin()));
            let (served, over) = (served.clone(), over.clone());
            tokio::spawn(async move {
                let mut connection = h1(address).await;
                while !over.load(Ordering::Relaxed) {
                    let request = Request::builder()
                        .method(Method::GET)
                        .uri("/api/agents")
                        .header("host", address.to_string())
                        .header("authorization", &token)
                        .body(Full::default())
                        .unwrap();
                    let answer = connection.send_request(request);
                    let answer = soon("others are served", answer).await.unwrap();
                    let got = soon("others get their answer", Got::of(answer)).await;
                    // Their own rate is theirs to keep; being asked to slow down is being served.
                    assert!(matches!(got.status, 200 | 429), "{}", got.status);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let memory = baton.server_memory();
        Siege {
            baton,
            memory,
            served,
            over,
            bystander,
        }
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.baton.address()).await.unwrap()
    }

    /// Waits until the others were served anew, so that what was done before was done beside them.
    async fn others_are_served(&self) {
        let before = self.served.load(Ordering::Relaxed);
        soon("others are served", async {
            while self.served.load(Ordering::Relaxed) < before + 2 {
                assert!(
                    !self.bystander.is_finished(),
                    "the bystander was not served"
                );
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The attack is over: the others were served all the time, and the server is as it was.
    async fn end(self) {
        self.others_are_served().await;
        self.over.store(true, Ordering::Relaxed);
        soon("the bystander is done", self.bystander).await.unwrap();
        let mut baton = self.baton;
        let log = baton.logged("server.log");
        assert!(!log.contains("panicked"), "{log}");
        let grown = baton.server_memory().saturating_sub(self.memory);
        assert!(
            grown < MAX_GROWTH_BYTES,
            "the server has grown by {grown} bytes"
        );
        assert_eq!(baton.stop_server().await, Some(0));
    }
}

/// Sends bytes as long as the peer takes them; whether it took all.
async fn push(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) -> bool {
    soon("the peer takes it or closes", stream.write_all(bytes))
        .await
        .is_ok()
}

/// Everything that the peer still says, until it closes. A reset is an end too.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = soon("the peer closes", stream.read_to_end(&mut bytes)).await;
    bytes
}
