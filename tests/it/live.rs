//! Text while it is being written, with real processes: who joins in the middle gets the text so far, whoever
//! was killed before, and nothing twice.

use baton::base::id::SessionId;
use baton::client::{Follow, FollowOptions, Followed};
use baton::domain::EventBody;
use baton::domain::event::TransientBody;
use baton::wire::v1;

use crate::support::baton::{Baton, PATIENCE};

/// What the demo agent writes, piece by piece; far more than a test waits for.
const PIECES: usize = 5_000;

fn whole() -> String {
    (1..=PIECES).map(|n| format!("chunk {n}. ")).collect()
}

/// A reader of the one block that is written, who joins now.
struct Reader {
    follow: Follow,
    whole: String,
    /// The part of the block that was seen.
    seen: Option<(usize, usize)>,
}

impl Reader {
    fn join(baton: &Baton, session: &str) -> Self {
        let id: SessionId = session.parse().unwrap();
        let options = FollowOptions {
            transients: true,
            ..FollowOptions::default()
        };
        Reader {
            follow: baton.client().follow(id, options),
            whole: whole(),
            seen: None,
        }
    }

    /// Takes the next piece; every piece stands where it says it does.
    async fn piece(&mut self) -> (usize, usize) {
        loop {
            let step = tokio::time::timeout(PATIENCE, self.follow.next()).await;
            let (offset, text) = match step.expect("live text").unwrap() {
                Followed::Transient(transient) => match transient.body {
                    TransientBody::MessageDelta { offset, text, .. } => (offset as usize, text),
                    TransientBody::Progress { .. } => continue,
                },
                Followed::Event(event) => {
                    let over = matches!(event.body, EventBody::TurnEnded { .. });
                    assert!(!over, "the turn ended before the test did");
                    continue;
                }
                _ => continue,
            };
            let end = offset + text.len();
            assert_eq!(self.whole.get(offset..end), Some(text.as_str()));
            self.seen = Some(match self.seen {
                Some((start, seen)) if offset <= seen => (start.min(offset), seen.max(end)),
                _ => (offset, end),
            });
            return (offset, end);
        }
    }

    /// Reads until the block was seen beyond this byte.
    async fn beyond(&mut self, byte: usize) -> (usize, usize) {
        loop {
            self.piece().await;
            if let Some(seen) = self.seen.filter(|(_, end)| *end > byte) {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn who_joins_in_the_middle_gets_the_text_so_far_whoever_was_killed() {
    let mut baton = Baton::start().await;
    let session = baton.session("demo", &format!("stream: {PIECES} 20")).await;
    let mut early = Reader::join(&baton, &session.id);
    let (start, before) = early.beyond(100).await;
    assert_eq!(start, 0);

    // The server: the daemon has the text.
    baton.kill_server();
    baton.start_server().await;
    let mut late = Reader::join(&baton, &session.id);
    let (start, end) = late.piece().await;
    assert_eq!(start, 0, "the text so far, from its beginning");
    assert!(end >= before, "as much as was seen before");
    assert_eq!(late.beyond(end + 50).await.0, 0);
    assert_eq!(early.beyond(end).await.0, 0, "who was there misses nothing");

    // The daemon: the server has the text, and the harness wrote on.
    let before = early.seen.unwrap().1;
    baton.kill_daemon();
    baton.start_daemon().await;
    assert_eq!(early.beyond(before + 100).await.0, 0, "nothing is missed");
    let mut late = Reader::join(&baton, &session.id);
    assert_eq!(late.piece().await.0, 0);

    // Both: what nobody has any more is not made up, and what there is says where it stands.
    let before = early.seen.unwrap().1;
    baton.kill_daemon();
    baton.kill_server();
    baton.start_server().await;
    baton.start_daemon().await;
    let mut late = Reader::join(&baton, &session.id);
    late.beyond(before + 100).await;

    baton
        .client()
        .end_session(v1::EndSessionRequest {
            session_id: session.id.clone(),
            force: true,
            ..Default::default()
        })
        .await
        .unwrap();
}
