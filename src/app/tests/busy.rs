//! A session whose log grows all the time: what of that its record says, and when.

use super::facts::{DAEMON, Rig};
use super::*;
use crate::app::sessions::Stored;
use crate::base::id::TurnId;

/// Output that each record counts.
const BYTES: u64 = 10;

/// A session that has just had its first output, and how much its record says there was.
struct Busy {
    rig: Rig,
    id: SessionId,
    seq: u64,
}

impl Busy {
    async fn begun() -> Self {
        let session = session(1, 1, Lifecycle::Running);
        let rig = Rig::new(&[session], sessions::Options::default()).await;
        let mut busy = Busy {
            rig,
            id: SessionId::from_bits(1),
            seq: 0,
        };
        // The first after a quiet time is in the record at once.
        busy.says(output()).await;
        assert_eq!(busy.recorded().await, BYTES);
        busy
    }

    async fn says(&mut self, body: EventBody) {
        self.seq += 1;
        let record = Stored {
            output: None,
            origin_seq: self.seq,
            events: vec![Event::new(self.id, Origin::Harness, NOW, body).into()],
            bytes: BYTES,
            contents: Vec::new(),
        };
        let (app, rules) = (&self.rig.app, self.rig.app.rules().current());
        let stored = app
            .sessions()
            .store_records(DAEMON, self.id, 1, vec![record], rules);
        stored.await.unwrap();
    }

    async fn record(&self) -> Session {
        self.rig.session(self.id).await
    }

    /// The output that its record counts.
    async fn recorded(&self) -> u64 {
        self.record().await.output_bytes
    }
}

fn output() -> EventBody {
    EventBody::Output {
        text: "line".to_owned(),
        continues: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_sessions_record_is_written_about_once_a_second() {
    let mut busy = Busy::begun().await;
    for _ in 0..50 {
        busy.says(output()).await;
    }
    assert_eq!(busy.recorded().await, BYTES, "its log alone has grown");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(busy.recorded().await, 51 * BYTES, "and then it was quiet");
    busy.says(output()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(busy.recorded().await, 52 * BYTES);
}

#[tokio::test(start_paused = true)]
async fn what_else_changes_is_written_at_once() {
    let mut busy = Busy::begun().await;
    busy.says(output()).await;
    busy.says(EventBody::TurnStarted {
        turn_id: TurnId::from_bits(1),
        input_ids: Vec::new(),
    })
    .await;
    let record = busy.record().await;
    assert!(record.in_turn);
    assert_eq!(record.output_bytes, 3 * BYTES, "with all that was behind");
}

#[tokio::test(start_paused = true)]
async fn who_asks_which_logs_have_grown_is_told_of_all() {
    let mut busy = Busy::begun().await;
    busy.says(output()).await;
    let revision = busy.rig.app.newest_revision();
    busy.rig.app.sessions().write_records().await;
    assert_eq!(busy.recorded().await, 2 * BYTES);
    assert_ne!(busy.rig.app.newest_revision(), revision);
    // Nothing is behind now, and nothing is written.
    let revision = busy.rig.app.newest_revision();
    busy.rig.app.sessions().write_records().await;
    assert_eq!(busy.rig.app.newest_revision(), revision);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_leaves_no_record_behind() {
    let mut busy = Busy::begun().await;
    busy.says(output()).await;
    busy.rig.app.sessions().stop().await;
    assert_eq!(busy.recorded().await, 2 * BYTES);
}
