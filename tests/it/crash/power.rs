//! What a power cut, or an old copy of a disk, takes from one side of the link, and what the other side has still.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use baton::daemon::session::state::{DONE_FILE, Saved};
use baton::domain::{EndReason, EventBody};

use super::load::{count, ended, lines, pid, repeater};
use super::{kill, parent, send};
use crate::support::baton::{Baton, eventually};

/// The files below a directory, by their paths in it.
struct Copy(BTreeMap<PathBuf, Vec<u8>>);

impl Copy {
    fn of(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut open = vec![dir.to_owned()];
        while let Some(at) = open.pop() {
            for entry in std::fs::read_dir(at).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => open.push(entry.path()),
                    false => {
                        let name = entry.path().strip_prefix(dir).unwrap().to_owned();
                        files.insert(name, std::fs::read(entry.path()).unwrap());
                    }
                }
            }
        }
        Copy(files)
    }

    /// Makes the directory what it was.
    fn restore(&self, dir: &Path) {
        std::fs::remove_dir_all(dir).unwrap();
        std::fs::create_dir(dir).unwrap();
        for (name, bytes) in &self.0 {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn session_dir(baton: &Baton, session: &str) -> PathBuf {
    baton.dir().join("daemon").join("sessions").join(session)
}

/// Sends a line to a repeater, and waits until the log has its answer.
async fn repeat(baton: &Baton, session: &str, text: &str) {
    send(baton, session, text).await;
    let answer = format!("got {text}");
    baton
        .wait_for(
            session,
            "the answer",
            |body| matches!(body, EventBody::Output { text, .. } if *text == answer),
        )
        .await;
}

/// The daemon, the runner and the program die at once.
async fn cut_power(baton: &mut Baton, name: &str) {
    let program = pid(&baton.project(), name).await;
    let runner = parent(program);
    baton.kill_daemon();
    kill(runner);
    kill(program);
}

async fn is_cleared(baton: &Baton, session: &str) {
    let done = session_dir(baton, session).join(DONE_FILE);
    eventually("the daemon has let it go", || async {
        done.exists().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_whose_spool_lost_what_the_server_has_ends_and_misses_nothing() {
    let mut baton = Baton::start().await;
    let session = repeater(&baton, "power").await.id;
    repeat(&baton, &session, "a").await;
    let dir = session_dir(&baton, &session);
    let spool = Copy::of(&dir.join("spool"));
    let state = std::fs::read(dir.join("state.json")).ok();
    for text in ["b", "c", "d"] {
        repeat(&baton, &session, text).await;
    }
    cut_power(&mut baton, "power").await;
    spool.restore(&dir.join("spool"));
    match state {
        Some(state) => std::fs::write(dir.join("state.json"), state).unwrap(),
        None => {
            let _ = std::fs::remove_file(dir.join("state.json"));
        }
    }
    baton.start_daemon().await;
    let end = ended(&baton, &session).await;
    assert_eq!(end.reason, EndReason::Crashed, "{end:?}");
    assert!(end.message.contains("its machine lost"), "{end:?}");
    is_cleared(&baton, &session).await;
    let log = baton.events(&session).await;
    assert_eq!(lines(&log), ["got a", "got b", "got c", "got d"]);
    let gaps = count(&log, |body| matches!(body, EventBody::Gap { .. }));
    assert_eq!(gaps, 0, "the server has it all");
    let ends = count(&log, |body| matches!(body, EventBody::Ended { .. }));
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn a_dead_session_goes_back_to_what_a_restored_server_has_and_says_what_is_missing() {
    let mut baton = Baton::start().await;
    let session = repeater(&baton, "back").await.id;
    repeat(&baton, &session, "a").await;
    baton.kill_server();
    let backup = Copy::of(&baton.data_dir());
    let dir = session_dir(&baton, &session);
    let before = Saved::read(&dir).seq;
    baton.start_server().await;
    baton.daemon_is_linked().await;
    for text in ["b", "c", "d", "e", "f"] {
        repeat(&baton, &session, text).await;
    }
    eventually("the daemon has let go of what the backup lacks", || async {
        (Saved::read(&dir).seq >= before + 8).then_some(())
    })
    .await;
    baton.kill_server();
    cut_power(&mut baton, "back").await;
    backup.restore(&baton.data_dir());
    baton.start_server().await;
    baton.start_daemon().await;
    let end = ended(&baton, &session).await;
    assert_eq!(end.reason, EndReason::Crashed, "{end:?}");
    is_cleared(&baton, &session).await;
    let log = baton.events(&session).await;
    assert_eq!(lines(&log)[..1], ["got a"]);
    let gaps = count(&log, |body| matches!(body, EventBody::Gap { .. }));
    assert_eq!(gaps, 1, "{log:#?}");
}
