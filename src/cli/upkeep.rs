//! Looking after a store that no server has open: checking, compacting, exporting, importing.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::args::StoreAction;
use super::exit::{DONE, FAILED, usage};
use crate::store::local::{self, Options, Progress};

/// How often progress is shown at most.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Runs one action. Blocks.
pub fn run(dir: &Path, action: StoreAction, json: bool) -> anyhow::Result<u8> {
    let mut shown = Shown::default();
    let mut progress = |progress: Progress| shown.show(progress);
    let answer = match action {
        StoreAction::Check => {
            let report = local::check::check(&Options::new(dir), &mut progress)?;
            shown.end();
            let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            let code = if problems.is_empty() { DONE } else { FAILED };
            let text = if problems.is_empty() {
                format!(
                    "sound: {} segments, {} commits, {} contents, {} bytes read",
                    report.segments, report.commits, report.contents, report.bytes
                )
            } else {
                format!("damaged:\n{}", problems.join("\n"))
            };
            Answer {
                code,
                text,
                value: json!({
                    "sound": problems.is_empty(),
                    "segments": report.segments,
                    "commits": report.commits,
                    "contents": report.contents,
                    "bytes": report.bytes,
                    "problems": problems,
                }),
            }
        }
        StoreAction::Compact => {
            let done = local::compact::compact(Options::new(dir), &mut progress)?;
            shown.end();
            Answer {
                code: DONE,
                text: format!(
                    "gave back {} bytes: {} segments deleted, {} rewritten, {} contents removed",
                    done.freed_bytes, done.deleted, done.rewritten, done.contents
                ),
                value: json!({
                    "freed_bytes": done.freed_bytes,
                    "deleted": done.deleted,
                    "rewritten": done.rewritten,
                    "damaged": done.damaged,
                    "contents": done.contents,
                }),
            }
        }
        StoreAction::Export { file } => {
            let (temporary, mut out) = create(&file)?;
            let moved = local::export::export(Options::new(dir), &mut out, &mut progress)?;
            out.flush()?;
            out.get_ref().sync_all()?;
            // Only a whole export has the name that was asked for.
            fs::rename(&temporary, &file)
                .with_context(|| format!("naming the export {}", file.display()))?;
            shown.end();
            moved_answer("exported", &moved)
        }
        StoreAction::Import { file } => {
            let from = File::open(&file).with_context(|| format!("opening {}", file.display()))?;
            let mut from = BufReader::with_capacity(1 << 20, from);
            let moved = local::export::import(&Options::new(dir), &mut from, &mut progress)?;
            shown.end();
            moved_answer("imported", &moved)
        }
    };
    if json {
        println!("{}", answer.value);
    } else {
        println!("{}", answer.text);
    }
    Ok(answer.code)
}

struct Answer {
    code: u8,
    text: String,
    value: serde_json::Value,
}

fn moved_answer(verb: &str, moved: &local::export::Moved) -> Answer {
    let damaged: Vec<String> = moved
        .damaged
        .iter()
        .map(|(stream, why)| format!("{stream}: {why}"))
        .collect();
    let mut text = format!(
        "{verb} {} logs with {} events, {} records, {} contents",
        moved.streams, moved.entries, moved.records, moved.contents
    );
    if !damaged.is_empty() {
        text.push_str(&format!(
            "\nleft out, since damaged:\n{}",
            damaged.join("\n")
        ));
    }
    Answer {
        code: if damaged.is_empty() { DONE } else { FAILED },
        text,
        value: json!({
            "streams": moved.streams,
            "entries": moved.entries,
            "records": moved.records,
            "contents": moved.contents,
            "damaged": damaged,
        }),
    }
}

fn create(file: &Path) -> anyhow::Result<(PathBuf, BufWriter<File>)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if file.exists() {
        return Err(usage(format!(
            "{} exists; an export does not replace a file",
            file.display()
        )));
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let temporary = PathBuf::from(name);
    let out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("making {}", temporary.display()))?;
    Ok((temporary, BufWriter::with_capacity(1 << 20, out)))
}

/// Progress on standard error: one line that is written over, on a terminal only.
#[derive(Default)]
struct Shown {
    last: Option<Instant>,
    open: bool,
}

impl Shown {
    fn show(&mut self, progress: Progress) {
        let due = self.last.is_none_or(|last| last.elapsed() >= SHOW_EVERY);
        if !due || !std::io::stderr().is_terminal() {
            return;
        }
        self.last = Some(Instant::now());
        self.open = true;
        match progress.total {
            Some(total) if total > 0 => eprint!(
                "\r{} {}%\x1b[K",
                progress.phase,
                progress.done.saturating_mul(100) / total
            ),
            _ => eprint!("\r{} {}\x1b[K", progress.phase, progress.done),
        }
    }

    fn end(&mut self) {
        if self.open {
            eprint!("\r\x1b[K");
        }
    }
}
