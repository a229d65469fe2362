//! What comes over a runner's socket and lies in its directory, as any bytes.

use std::fs;
use std::io;

use prost::Message as _;

use super::codec::{read_frame, write_frame};
use super::ledger::{LEDGER_FILE, Ledger};
use super::lines::Lines;
use super::spec::Spec;
use crate::base::fuzz::Target;
use crate::daemon::spool;
use crate::wire::runner_v1::{
    Follow, RunnerRequest, RunnerResponse, Status, WriteOutcome, Written, runner_request,
    runner_response,
};

#[test]
fn frames() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let framed = |bytes: Vec<u8>| [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
    let request = RunnerRequest {
        body: Some(runner_request::Body::Follow(Follow::default())),
    };
    let response = RunnerResponse {
        body: Some(runner_response::Body::Status(Status::default())),
    };
    let seeds = [
        framed(request.encode_to_vec()),
        framed(response.encode_to_vec()),
    ];
    Target::new("runner_frames").seeds(seeds).run(|bytes| {
        runtime.block_on(async {
            let mut rest = bytes;
            let mut frames = 0;
            // As many as there are; none reads beyond what is there.
            while let Ok(Some(read)) = read_frame::<RunnerRequest>(&mut rest).await {
                frames += 1;
                let mut out = Vec::new();
                write_frame(&mut out, &read).await.expect("it fits");
                let again: Option<RunnerRequest> = read_frame(&mut &out[..])
                    .await
                    .expect("it was just written");
                assert_eq!(again, Some(read));
            }
            assert!(frames <= bytes.len() / 4);
            let _: io::Result<Option<RunnerResponse>> = read_frame(&mut &bytes[..]).await;
        });
        let mut lines = Lines::new(100);
        let mut parts = Vec::new();
        for piece in bytes.chunks(37) {
            parts.extend(lines.push(piece));
        }
        parts.extend(lines.finish());
        let total: usize = parts
            .iter()
            .map(|part| part.data.len() + usize::from(!part.continues))
            .sum();
        assert!(
            parts
                .iter()
                .all(|part| part.data.len() <= 100 && !part.data.contains(&b'\n'))
        );
        assert!(
            total == bytes.len() || total == bytes.len() + 1,
            "every byte comes out once"
        );
    });
}

#[test]
fn directories() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = |id: &str, outcome: WriteOutcome| {
        let entry = Written {
            command_id: id.to_owned(),
            note: "note".into(),
            outcome: outcome.into(),
            reason: String::new(),
        };
        let mut bytes = Vec::new();
        spool::encode(1, &entry.encode_to_vec(), &mut bytes);
        bytes
    };
    let spec = Spec::new(
        "ses_x".to_owned(),
        vec!["true".to_owned()],
        "/".to_owned(),
        Vec::new(),
    );
    spec.write(dir.path()).expect("written");
    let file = fs::read_dir(dir.path())
        .expect("readable")
        .next()
        .expect("a file")
        .expect("an entry")
        .path();
    let seeds = [
        [
            written("a", WriteOutcome::Unspecified),
            written("a", WriteOutcome::Done),
        ]
        .concat(),
        written("b", WriteOutcome::Unspecified),
        fs::read(&file).expect("readable"),
    ];
    Target::new("runner_directory")
        .seeds(seeds)
        .weighs(4)
        .run(|bytes| {
            fs::write(dir.path().join(LEDGER_FILE), bytes).expect("written");
            let open = Ledger::open_intents(dir.path()).expect("a ledger reads, whatever is in it");
            assert!(open.len() <= bytes.len() / spool::HEADER_BYTES);
            assert!(
                open.iter()
                    .all(|entry| entry.outcome() == WriteOutcome::Unspecified)
            );
            fs::write(&file, bytes).expect("written");
            if let Ok(spec) = Spec::read(dir.path()) {
                assert!(!spec.argv.is_empty() && !spec.marker.is_empty());
                let _ = spec.orphan_after();
                spec.write(dir.path()).expect("written");
                let again = Spec::read(dir.path()).expect("it was just written");
                assert_eq!(format!("{again:?}"), format!("{spec:?}"));
            }
        });
}
