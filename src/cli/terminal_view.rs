//! Somebody at this terminal attached to another: keys there, bytes back, until the program ends or they detach.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::exit::{DONE, FAILED, code_of_end};
use super::output::Out;
use super::output::style::visible_line;
use super::raw::{self, Raw};
use super::sequences::Sequences;
use crate::client::{Attached, Client};
use crate::wire::session::end_from_pb;
use crate::wire::v1;

/// Reads of the keyboard that wait to be sent; the keyboard waits beyond that.
const TYPED: usize = 16;
/// How long keys have to reach the server before they are given up.
const SEND: Duration = Duration::from_secs(5);

/// The key that detaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetachKey(Option<u8>);

impl DetachKey {
    /// Reads `ctrl-\\`, `ctrl-]` and their like, or `none`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower == "none" {
            return Ok(DetachKey(None));
        }
        let key = lower
            .strip_prefix("ctrl-")
            .or_else(|| lower.strip_prefix('^'))
            .and_then(|key| <[u8; 1]>::try_from(key.as_bytes()).ok());
        match key {
            Some([key @ (b'a'..=b'z' | b'\\' | b']' | b'^' | b'_' | b'@')]) => {
                Ok(DetachKey(Some(key)))
            }
            _ => Err(format!(
                "{text:?} is no key to detach with; say ctrl-\\, ctrl-], ctrl-a to ctrl-z, or none"
            )),
        }
    }

    /// Where in what was typed the key is. Programs may have asked the terminal to say keys in another way.
    fn find(self, typed: &[u8]) -> Option<usize> {
        let key = self.0?;
        let byte = key & 0x1f;
        let spelled = format!("\x1b[{key};5u");
        let spelled = spelled.as_bytes();
        let plain = typed.iter().position(|&typed| typed == byte);
        let other = typed
            .windows(spelled.len())
            .position(|window| window == spelled);
        plain.into_iter().chain(other).min()
    }

    fn name(self) -> String {
        self.0
            .map_or("none".to_owned(), |key| format!("ctrl-{}", char::from(key)))
    }
}

/// How to attach.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The key that detaches.
    pub key: DetachKey,
    /// At most this many of the newest bytes first; `None` is all that is kept.
    pub tail: Option<u64>,
}

/// Shows a terminal until its program ends, or somebody detaches; the exit code.
pub async fn attach(
    client: &Client,
    out: &Out,
    terminal_id: &str,
    settings: Settings,
) -> anyhow::Result<u8> {
    let has_person = !out.json && raw::is_terminal();
    if has_person {
        out.note(&match settings.key.0 {
            Some(_) => format!("{terminal_id}: {} detaches", settings.key.name()),
            None => format!("{terminal_id}: no key detaches"),
        });
    }
    let mut signals = Signals::new()?;
    let mut view = View {
        out,
        sequences: Sequences::default(),
        live: 0,
        offset: 0,
        raw: None,
    };
    let (typed, mut keys) = mpsc::channel(TYPED);
    let size = raw::size().filter(|_| has_person);
    let mut attachment = client.attach(terminal_id.to_owned(), size, settings.tail);
    if has_person {
        view.raw = Some(Raw::enter()?);
        read_keys(typed);
    } else {
        drop(typed);
    }
    let mut keyboard = has_person;
    // What is typed before there is a stream waits for it, the first time.
    let mut begun = false;
    let end = loop {
        tokio::select! {
            attached = attachment.next() => match attached {
                Err(error) => break Err(error.into()),
                Ok(Attached::Exit(exit)) => {
                    view.leave();
                    break exited(out, terminal_id, exit);
                }
                Ok(attached) => {
                    begun = true;
                    view.show(attached)?;
                    attachment.consumed().await;
                }
            },
            keys = keys.recv(), if keyboard && begun => match keys {
                None => keyboard = false,
                Some(keys) => {
                    let at = settings.key.find(&keys);
                    let rest = keys.slice(..at.unwrap_or(keys.len()));
                    if !rest.is_empty() {
                        // While there is no server nobody takes them; what was typed blindly is not kept.
                        let _ = tokio::time::timeout(SEND, attachment.input(rest)).await;
                    }
                    if at.is_some() {
                        view.leave();
                        out.note(&format!(
                            "detached; baton attach {terminal_id} comes back"
                        ));
                        break Ok(DONE);
                    }
                }
            },
            told = signals.next() => match told {
                Told::Resized => {
                    if let Some(size) = raw::size().filter(|_| has_person) {
                        let _ = tokio::time::timeout(SEND, attachment.resize(size)).await;
                    }
                }
                Told::End(name) => {
                    view.leave();
                    out.note(&format!(
                        "detached by {name}; baton attach {terminal_id} comes back"
                    ));
                    break Ok(FAILED);
                }
            },
        }
    };
    view.leave();
    end
}

fn exited(out: &Out, terminal_id: &str, exit: v1::TerminalExit) -> anyhow::Result<u8> {
    let Some(end) = exit.end else {
        out.note(&format!("{terminal_id} is suspended; baton resume goes on"));
        return Ok(DONE);
    };
    let how = match (end.exit_code, end.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, signal) if signal != 0 => format!("signal {signal}"),
        _ => visible_line(&end.message),
    };
    if out.json {
        out.value(&json!({ "type": "exit", "exit_code": end.exit_code, "signal": end.signal, "message": end.message }))?;
    }
    out.note(&format!("{terminal_id} ended: {how}"));
    Ok(code_of_end(&end_from_pb(end)?))
}

struct View<'a> {
    out: &'a Out,
    sequences: Sequences,
    /// Bytes before this offset were shown to somebody before.
    live: u64,
    offset: u64,
    raw: Option<Raw>,
}

impl View<'_> {
    fn show(&mut self, attached: Attached) -> anyhow::Result<()> {
        match attached {
            Attached::Started { offset, live } => {
                (self.offset, self.live) = (offset, live.max(self.live));
            }
            Attached::Output(output) => self.output(&output)?,
            Attached::Truncated => self.remark("some of the output is no longer kept"),
            Attached::Refused(refused) => {
                let unsure = if refused.maybe_typed {
                    " (some may have been)"
                } else {
                    ""
                };
                self.remark(&format!(
                    "not typed{unsure}: {}",
                    visible_line(&refused.message)
                ));
            }
            Attached::Lost { error, pause } => self.remark(&format!(
                "{}; trying again in {:.0} s",
                visible_line(error.message()),
                pause.as_secs_f64()
            )),
            Attached::Size(_) | Attached::Exit(_) => {}
        }
        Ok(())
    }

    fn output(&mut self, output: &v1::TerminalOutput) -> anyhow::Result<()> {
        self.offset = output.offset + output.data.len() as u64;
        if self.out.json {
            return self.out.value(&json!({
                "type": "output",
                "offset": output.offset,
                "data": STANDARD.encode(&output.data),
            }));
        }
        let mut stdout = io::stdout().lock();
        match self.raw {
            None => stdout.write_all(&output.data)?,
            Some(_) => {
                let old = self.live.saturating_sub(output.offset);
                let old = usize::try_from(old)
                    .unwrap_or(usize::MAX)
                    .min(output.data.len());
                let (old, new) = output.data.split_at(old);
                stdout.write_all(&self.sequences.pass(old, true))?;
                stdout.write_all(&self.sequences.pass(new, false))?;
            }
        }
        stdout.flush()?;
        Ok(())
    }

    /// A word of ours, on lines of its own.
    fn remark(&self, text: &str) {
        match self.raw {
            Some(_) => self.out.note(&format!("\r\n[baton: {text}]\r")),
            None => self.out.note(text),
        }
    }

    /// Gives the terminal back as it was.
    fn leave(&mut self) {
        if let Some(raw) = self.raw.take() {
            let mut stdout = io::stdout().lock();
            let _ = stdout.write_all(self.sequences.undo().as_bytes());
            let _ = stdout.write_all(b"\r\n");
            let _ = stdout.flush();
            drop(raw);
        }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Reads the keyboard on a thread of its own, which ends with the process.
fn read_keys(typed: mpsc::Sender<Bytes>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4 * 1024];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let keys = Bytes::copy_from_slice(&buffer[..count]);
                    if typed.blocking_send(keys).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
}

/// What a signal asks for.
enum Told {
    Resized,
    End(&'static str),
}

struct Signals {
    window: Signal,
    term: Signal,
    hangup: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            window: signal(SignalKind::window_change())?,
            term: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            // Sent by others: the key is the program's.
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.window.recv() => Told::Resized,
            _ = self.term.recv() => Told::End("SIGTERM"),
            _ = self.hangup.recv() => Told::End("SIGHUP"),
            _ = self.interrupt.recv() => Told::End("SIGINT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_detaches_is_found_however_it_is_spelled() {
        let key = DetachKey::parse("ctrl-\\").unwrap();
        assert_eq!(key.find(b"ab\x1cc"), Some(2));
        assert_eq!(key.find(b"ab\x1b[92;5uc"), Some(2));
        assert_eq!(key.find(b"abc"), None);
        assert_eq!(DetachKey::parse("CTRL-A").unwrap().find(b"\x01"), Some(0));
        assert_eq!(DetachKey::parse("none").unwrap().find(b"\x1c"), None);
        for bad in ["", "x", "ctrl-", "ctrl-1", "alt-a"] {
            assert!(DetachKey::parse(bad).is_err(), "{bad}");
        }
    }
}
