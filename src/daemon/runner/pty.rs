//! The harness's terminal: a PTY that the runner owns.
//!
//! The harness leads a session of its own with the PTY as its controlling terminal. What it writes is recorded as
//! it comes, in pieces of at most 32 KiB or 10 ms, each with its byte offset. While the spool is full nothing is
//! read, and the kernel makes the harness wait.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pty_process::{OwnedReadPty, OwnedWritePty};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::spec::{MARKER_VARIABLE, SESSION_VARIABLE, Spec, Window};
use crate::wire::runner_v1::{Output, Resize, spool_record::Body};

/// The most bytes of one record.
const PIECE_BYTES: usize = 32 * 1024;
/// How long output is gathered.
const GATHER: Duration = Duration::from_millis(10);
/// How long a terminal must be silent to be given up once the harness and all its descendants are gone.
const SILENCE: Duration = Duration::from_millis(100);

/// A harness in its terminal.
pub struct Started {
    /// The harness.
    pub child: Child,
    /// What it shows.
    pub read: OwnedReadPty,
    /// What it is typed.
    pub write: OwnedWritePty,
    /// The terminal once more, for its size.
    pub window: OwnedFd,
}

/// Starts the harness of `spec` in a new PTY of the size `window`.
pub fn spawn(spec: &Spec, window: Window) -> Result<Started, pty_process::Error> {
    let (pty, pts) = pty_process::open()?;
    pty.resize(pty_process::Size::new(window.rows, window.cols))?;
    let child = pty_process::Command::new(&spec.argv[0])
        .args(&spec.argv[1..])
        .current_dir(&spec.cwd)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(MARKER_VARIABLE, &spec.marker)
        .env(SESSION_VARIABLE, &spec.session_id)
        .spawn(pts)?;
    let window = pty.as_fd().try_clone_to_owned()?;
    let (read, write) = pty.into_split();
    Ok(Started {
        child,
        read,
        write,
        window,
    })
}

/// Reads the terminal to its end. Once `give_up` is set, a terminal that somebody else holds open is left when it
/// is silent.
pub async fn record(mut pty: OwnedReadPty, recorder: Arc<Recorder>, give_up: CancellationToken) {
    let mut offset = 0;
    let mut over = false;
    while !over {
        recorder.wait_for_room().await;
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        // A read that is dropped has taken nothing.
        let first = match give_up.is_cancelled() {
            true => match timeout(SILENCE, pty.read_buf(&mut piece)).await {
                Ok(read) => read,
                Err(_) => break,
            },
            false => tokio::select! {
                read = pty.read_buf(&mut piece) => read,
                () = give_up.cancelled() => continue,
            },
        };
        over = is_end(first);
        let due = Instant::now() + GATHER;
        while !over && piece.len() < PIECE_BYTES {
            // As much as is left of the piece, and no more.
            let mut rest = (&mut pty).take((PIECE_BYTES - piece.len()) as u64);
            match timeout_at(due, rest.read_buf(&mut piece)).await {
                Ok(read) => over = is_end(read),
                Err(_) => break,
            }
        }
        if !piece.is_empty() {
            let data = piece.freeze();
            let length = data.len() as u64;
            recorder.append(Body::Output(Output { offset, data })).await;
            offset += length;
        }
    }
}

/// Whether a read says that nothing more will come: where no process has the terminal open, Linux says EIO.
fn is_end(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(count) => count == 0,
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => false,
        Err(error) => {
            if error.raw_os_error() != Some(nix::errno::Errno::EIO as i32) {
                super::log(&format!("the terminal could not be read: {error}"));
            }
            true
        }
    }
}

/// Gives the terminal the sizes that come; the program in it is told by SIGWINCH.
pub async fn follow_size(window: OwnedFd, mut sizes: watch::Receiver<Option<Resize>>) {
    // One that came before this job began counts too.
    sizes.mark_changed();
    while sizes.changed().await.is_ok() {
        let size = *sizes.borrow_and_update();
        let Some(size) = size else { continue };
        let (Ok(ws_row), Ok(ws_col)) = (u16::try_from(size.rows), u16::try_from(size.cols)) else {
            continue;
        };
        if ws_row == 0 || ws_col == 0 {
            continue;
        }
        let size = Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Err(error) = tcsetwinsize(&window, size) {
            super::log(&format!("the terminal does not take another size: {error}"));
        }
    }
}
