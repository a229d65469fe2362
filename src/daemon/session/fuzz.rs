//! What a session's directory holds, as any bytes, and what an agent's end says.

use std::fs;

use super::ending::{StopNote, end_info};
use super::state::{Meta, Saved};
use crate::base::fuzz::Target;
use crate::domain::session::EndReason;
use crate::wire::runner_v1::Exited;
use prost::Message as _;

#[test]
fn files() {
    let dir = tempfile::tempdir().expect("a directory");
    let saved = Saved {
        origin_epoch: 3,
        seq: 9,
        driver: Some(b"state\n\xff".to_vec()),
        stop: Some(StopNote {
            reason: EndReason::Stopped,
            message: "m".to_owned(),
            suspend: false,
            driver: vec![1],
        }),
        ..Saved::default()
    };
    let stop = saved
        .stop
        .as_ref()
        .map(StopNote::encode)
        .unwrap_or_default();
    saved.write(dir.path()).expect("written");
    let file = fs::read_dir(dir.path())
        .expect("readable")
        .next()
        .expect("a file")
        .expect("an entry")
        .path();
    let exited = Exited {
        code: Some(1),
        message: "m".to_owned(),
        step: "term".to_owned(),
        ..Exited::default()
    };
    let seeds = [
        fs::read(&file).expect("readable"),
        stop,
        exited.encode_to_vec(),
    ];
    let meta = dir.path().join("session.json");
    Target::new("session_files")
        .seeds(seeds)
        .weighs(4)
        .run(|bytes| {
            fs::write(&file, bytes).expect("written");
            let read = Saved::read(dir.path());
            read.write(dir.path()).expect("written");
            assert_eq!(
                Saved::read(dir.path()),
                read,
                "what was read is kept as it is"
            );
            fs::write(&meta, bytes).expect("written");
            let _ = Meta::read(dir.path());
            let note = StopNote::decode(bytes);
            if let Some(note) = &note {
                let again = StopNote::decode(&note.encode()).expect("it was just made");
                assert_eq!(again.message, note.message);
            }
            if let Ok(exited) = Exited::decode(bytes) {
                let end = end_info(&exited, note.as_ref(), "tail");
                assert_eq!(end.exit_code, exited.code);
            }
        });
}
