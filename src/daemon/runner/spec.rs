//! What a runner is told: the file `spec.json` in its session's directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Name of the file.
pub const SPEC_FILE: &str = "spec.json";
/// The environment variable by which a runner's processes can be proven to be its own.
pub const MARKER_VARIABLE: &str = "BATON_RUNNER";
/// The environment variable that tells a harness its session.
pub const SESSION_VARIABLE: &str = "BATON_SESSION_ID";
/// The most of the file that is read, in bytes.
const MAX_SPEC_BYTES: u64 = 8 << 20;

/// What to run, and how.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The session.
    pub session_id: String,
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// The whole environment of the harness, but for the two variables a runner adds. May hold secrets.
    pub env: Vec<(String, String)>,
    /// Random text that marks the processes of this runner.
    pub marker: String,
    /// Size at which the spool counts as full, in bytes.
    #[serde(default = "default_spool_bytes")]
    pub spool_bytes: u64,
    /// The longest part of a line in one record, in bytes.
    #[serde(default = "default_part_bytes")]
    pub part_bytes: usize,
    /// How long a runner waits for a daemon before it ends the harness, and then itself, in milliseconds.
    #[serde(default = "default_orphan_ms")]
    pub orphan_ms: u64,
    /// The size of the harness's terminal; without it the harness has pipes.
    #[serde(default)]
    pub window: Option<Window>,
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

fn default_spool_bytes() -> u64 {
    256 << 20
}

fn default_part_bytes() -> usize {
    1 << 20
}

fn default_orphan_ms() -> u64 {
    24 * 3_600 * 1_000
}

impl Spec {
    /// A spec with the default bounds and a new marker.
    pub fn new(
        session_id: String,
        argv: Vec<String>,
        cwd: String,
        env: Vec<(String, String)>,
    ) -> Self {
        Spec {
            session_id,
            argv,
            cwd,
            env,
            marker: format!("{:032x}", rand::random::<u128>()),
            spool_bytes: default_spool_bytes(),
            part_bytes: default_part_bytes(),
            orphan_ms: default_orphan_ms(),
            window: None,
        }
    }

    /// How long a runner waits for a daemon.
    pub fn orphan_after(&self) -> Duration {
        Duration::from_millis(self.orphan_ms)
    }

    /// Reads the spec of the session directory `dir`.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(dir.join(SPEC_FILE))?
            .take(MAX_SPEC_BYTES)
            .read_to_end(&mut text)?;
        let spec: Spec = serde_json::from_slice(&text)?;
        if spec.argv.is_empty() || spec.marker.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "spec.json names no program or no marker",
            ));
        }
        Ok(spec)
    }

    /// Writes the spec into `dir`, whole or not at all, readable by its owner only.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_private(&dir.join(SPEC_FILE), &serde_json::to_vec(self)?)
    }
}

impl std::fmt::Debug for Spec {
    /// Without the values of the environment: they may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Spec")
            .field("session_id", &self.session_id)
            .field("argv", &self.argv)
            .field("cwd", &self.cwd)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}

/// Replaces the file at `path`, whole or not at all and on disk when this returns; mode 0600.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&beside, path)?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
