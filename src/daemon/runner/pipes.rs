//! From the harness's pipes into the spool.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::lines::{Lines, Part};
use super::recorder::Recorder;
use crate::wire::runner_v1::{Line, Pipe, spool_record::Body};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How long the start of a line may stay in memory only.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a pipe must be silent to be given up once the harness and all its descendants are gone.
const SILENCE: Duration = Duration::from_millis(100);

/// Reads a pipe to its end. While the spool is full nothing is read, so that the harness waits. Once
/// `give_up` is set, a pipe that somebody else holds open is left when it is silent.
pub async fn record_pipe(
    mut pipe: impl AsyncRead + Unpin,
    which: Pipe,
    part_bytes: usize,
    recorder: Arc<Recorder>,
    give_up: CancellationToken,
) {
    let mut lines = Lines::new(part_bytes);
    let mut buffer = vec![0; READ_BYTES];
    let mut held = false;
    loop {
        recorder.wait_for_room().await;
        let wait = match (give_up.is_cancelled(), held) {
            (true, _) => Some(SILENCE),
            (false, true) => Some(PATIENCE),
            (false, false) => None,
        };
        // A read that is dropped has taken nothing from the pipe.
        let read = match wait {
            Some(wait) => timeout(wait, pipe.read(&mut buffer)).await,
            None => tokio::select! {
                read = pipe.read(&mut buffer) => Ok(read),
                () = give_up.cancelled() => continue,
            },
        };
        match read {
            Ok(Ok(0)) => break,
            Ok(Ok(n)) => {
                for part in lines.push(&buffer[..n]) {
                    append(&recorder, which, part).await;
                }
                held = true;
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => {
                super::log(&format!("a pipe of the harness could not be read: {error}"));
                break;
            }
            Err(_) if give_up.is_cancelled() => break,
            Err(_) => {
                if let Some(part) = lines.flush() {
                    append(&recorder, which, part).await;
                }
                held = false;
            }
        }
    }
    if let Some(part) = lines.finish() {
        append(&recorder, which, part).await;
    }
}

async fn append(recorder: &Recorder, which: Pipe, part: Part) {
    let line = Line {
        pipe: which.into(),
        data: part.data,
        continues: part.continues,
    };
    recorder.append(Body::Line(line)).await;
}
