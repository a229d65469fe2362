//! The server's options, typed and checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::config::{Value, Values, value};
use crate::app::dispatch;
use crate::app::pace::PaceLimits;
use crate::base::{Code, Error, Result};
use crate::domain::price::Prices;
use crate::domain::session::{LimitAction, Limits};
use crate::store::Durability;

/// The server's options.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether it may listen beyond loopback without TLS.
    pub insecure: bool,
    /// Certificate and key; `None` is no TLS.
    pub tls: Option<TlsFiles>,
    /// Where `/metrics` listens; `None` is nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// When a commit counts as done.
    pub durability: Durability,
    /// How long a lost daemon may stay away before its sessions count as lost.
    pub grace: Duration,
    /// How long a prompt waits for an answer before it expires; `None` is for ever.
    pub prompt_expiry: Option<Duration>,
    /// Host names under which the server is reached, besides loopback.
    pub hosts: Vec<String>,
    /// Web origins that may call.
    pub origins: Vec<String>,
    /// Most living sessions.
    pub max_sessions: u32,
    /// About how many of the newest bytes are kept of what a terminal showed.
    pub scrollback_bytes: u64,
    /// What the scheduler may do.
    pub scheduler: dispatch::Options,
    /// How often worktrees are pruned; `None` leaves that to people.
    pub prune_every: Option<Duration>,
    /// Longest time a shutdown takes.
    pub drain_deadline: Duration,
    /// What is kept.
    pub retention: Retention,
    /// How often the store gives disk space back.
    pub compaction_every: Duration,
    /// How many bytes of the records on disk are kept in memory, too.
    pub cache_bytes: u64,
    /// How long changes are gathered before they are indexed for search, unless somebody searches.
    pub search_every: Duration,
    /// How long what a busy session says is gathered before it is stored, where many read it; zero stores each event at once.
    pub gather: Duration,
    /// Limits of a session that names none.
    pub limits: Limits,
    /// What models cost.
    pub prices: Arc<Prices>,
    /// How often a caller may call.
    pub rate: Rate,
    /// How often sessions are started and inputs typed through the relay's dialect.
    pub relay: PaceLimits,
    /// Most requests being answered at once; a stream counts until it has begun.
    pub max_requests: usize,
    /// Bounds of connections.
    pub connections: Connections,
    /// Logs.
    pub log: Log,
}

/// Files with certificate and key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Age at which an ended session is removed.
    pub max_age: Option<Duration>,
    /// Size of a session's log above which its beginning is trimmed.
    pub max_session_bytes: Option<u64>,
    /// How often it is looked for.
    pub every: Duration,
}

/// How often a caller may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second for long.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// Bounds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Most at a time; more wait in the kernel's backlog.
    pub max: usize,
    /// Age at which one is asked to be made anew, give or take a tenth.
    pub max_age: Duration,
    /// How long an aged one may finish what runs.
    pub age_grace: Duration,
    /// Longest time for the head of a request.
    pub header_timeout: Duration,
    /// Longest time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// How long one may live without a valid token.
    pub unauthenticated: Duration,
}

/// Form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Reads a form's name; the error reads after the name of what was set.
    pub fn parse(text: &str) -> std::result::Result<LogFormat, String> {
        match text {
            "auto" => Ok(LogFormat::Auto),
            "pretty" => Ok(LogFormat::Pretty),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("is {text:?}; it must be auto, pretty or json")),
        }
    }
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Form.
    pub format: LogFormat,
    /// Level, or directives.
    pub level: String,
}

impl Options {
    /// The defaults with a data directory, listening on a free port of loopback, without metrics.
    pub fn local(data_dir: impl Into<PathBuf>) -> Result<Self> {
        let flags = super::config::FlagValues {
            listen: Some("127.0.0.1:0".to_owned()),
            metrics_listen: Some("off".to_owned()),
            data_dir: Some(data_dir.into()),
            ..Default::default()
        };
        Ok(super::config::Config::resolve(&flags, &Default::default(), None)?.options)
    }

    /// Reads every value; the error names key and source.
    pub(super) fn from_values(values: &Values) -> Result<Self> {
        let read = Reader { values };
        let options = Options {
            listen: read.with("listen", value::address)?,
            insecure: read.with("insecure", value::boolean)?,
            tls: read.tls()?,
            metrics_listen: read.with("metrics_listen", value::optional_address)?,
            data_dir: PathBuf::from(&read.value("data_dir")?.text),
            durability: read.with("durability", durability)?,
            grace: read.with("grace", value::duration)?,
            prompt_expiry: read.with("prompt_expiry", prompt_expiry)?,
            hosts: read.with("hosts", hosts)?,
            origins: read.with("origins", origins)?,
            max_sessions: read.number("max_sessions", 1, 1_000_000)? as u32,
            scrollback_bytes: read.with("terminals.scrollback", scrollback)?,
            scheduler: dispatch::Options {
                every: read.with("scheduler.every", interval)?,
                max_running: read.number("scheduler.max_running", 1, 100_000)? as usize,
                max_per_daemon: read.number("scheduler.max_per_daemon", 1, 100_000)? as usize,
                max_restarts: read.number("scheduler.max_restarts", 0, 1_000)? as u32,
            },
            prune_every: read.with("worktrees.prune_every", optional_interval)?,
            drain_deadline: read.with("drain_deadline", value::duration)?,
            retention: Retention {
                max_age: read.with("retention.max_age", value::optional_duration)?,
                max_session_bytes: read
                    .with("retention.max_session_bytes", value::optional_bytes)?,
                every: read.with("retention.every", interval)?,
            },
            compaction_every: read.with("compaction.every", interval)?,
            cache_bytes: read.with("store.cache", cache)?,
            search_every: read.with("search.every", interval)?,
            gather: read.with("readers.gather", gather)?,
            limits: Limits {
                runtime: read.with("limits.runtime", value::optional_duration)?,
                idle: read.with("limits.idle", value::optional_duration)?,
                output_bytes: read.with("limits.output", value::optional_bytes)?,
                turns: read.with("limits.turns", turns)?,
                cost_micro_usd: read.with("limits.cost", value::optional_micro_usd)?,
                action: read.with("limits.action", action)?,
            },
            prices: Arc::new(read.with("prices", super::prices::read)?),
            rate: Rate {
                per_second: read.number("rate.requests_per_second", 1, 1_000_000)? as u32,
                burst: read.number("rate.burst", 1, 1_000_000)? as u32,
            },
            relay: PaceLimits {
                starts_per_minute: read.number("relay.starts_per_minute", 0, 1_000_000)? as u32,
                inputs_per_minute: read.number("relay.inputs_per_minute", 0, 1_000_000)? as u32,
            },
            max_requests: read.number("requests.max", 1, 1_000_000)? as usize,
            connections: Connections {
                max: read.number("connections.max", 1, 1_000_000)? as usize,
                max_age: read.with("connections.max_age", value::duration)?,
                age_grace: read.with("connections.age_grace", value::duration)?,
                header_timeout: read.with("connections.header_timeout", value::duration)?,
                handshake_timeout: read.with("connections.handshake_timeout", value::duration)?,
                unauthenticated: read.with("connections.unauthenticated", value::duration)?,
            },
            log: Log {
                format: read.with("log.format", LogFormat::parse)?,
                level: read.value("log.level")?.text.clone(),
            },
        };
        Ok(options)
    }
}

struct Reader<'a> {
    values: &'a Values,
}

impl Reader<'_> {
    fn value(&self, key: &'static str) -> Result<&Value> {
        self.values
            .get(key)
            .ok_or_else(|| Error::internal(format!("the key {key} is not in the table of keys")))
    }

    fn with<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let value = self.value(key)?;
        read(value.text.trim())
            .map_err(|problem| Error::invalid(key, format!("{problem} (from {})", value.source)))
    }

    fn number(&self, key: &'static str, least: u64, most: u64) -> Result<u64> {
        self.with(key, |text| value::number(text, least, most))
    }

    fn tls(&self) -> Result<Option<TlsFiles>> {
        let cert = &self.value("tls.cert")?.text;
        let key = &self.value("tls.key")?.text;
        match (cert.is_empty(), key.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(TlsFiles {
                cert: cert.into(),
                key: key.into(),
            })),
            _ => Err(Error::new(
                Code::InvalidInput,
                "tls.cert and tls.key go together; one of them is missing",
            )),
        }
    }
}

/// No time at all would deny everything before anybody could see it, which the mode `deny` says better.
fn prompt_expiry(text: &str) -> std::result::Result<Option<Duration>, String> {
    match value::optional_duration(text)? {
        Some(Duration::ZERO) => Err(format!(
            "is {text:?}; it must be longer than nothing, or none"
        )),
        expiry => Ok(expiry),
    }
}

fn durability(text: &str) -> std::result::Result<Durability, String> {
    if text == "fsync" {
        return Ok(Durability::Fsync);
    }
    let inner = text
        .strip_prefix("interval(")
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(text);
    match value::duration(inner) {
        Ok(every) if !every.is_zero() => Ok(Durability::Interval(every)),
        _ => Err(format!(
            "is {text:?}; it must be fsync, or an interval like 50ms"
        )),
    }
}

/// A pause between two rounds of a job; without any it would do nothing else.
fn interval(text: &str) -> std::result::Result<Duration, String> {
    match value::duration(text)? {
        every if every < Duration::from_millis(100) => {
            Err(format!("is {text:?}; it must be 100ms or more"))
        }
        every => Ok(every),
    }
}

/// Beyond a second, a reader would take a session for dead.
fn gather(text: &str) -> std::result::Result<Duration, String> {
    match value::duration(text)? {
        long if long > Duration::from_secs(1) => Err(format!("is {text:?}; it must be 1s or less")),
        gather => Ok(gather),
    }
}

fn optional_interval(text: &str) -> std::result::Result<Option<Duration>, String> {
    match value::optional_duration(text)? {
        None => Ok(None),
        Some(_) => interval(text).map(Some),
    }
}

fn scrollback(text: &str) -> std::result::Result<u64, String> {
    match value::bytes(text)? {
        kept if (4 << 10..=1 << 30).contains(&kept) => Ok(kept),
        _ => Err(format!("is {text:?}; it must be 4KiB to 1GiB")),
    }
}

fn cache(text: &str) -> std::result::Result<u64, String> {
    match value::bytes(text)? {
        kept if (1 << 20..=64 << 30).contains(&kept) => Ok(kept),
        _ => Err(format!("is {text:?}; it must be 1MiB to 64GiB")),
    }
}

fn hosts(text: &str) -> std::result::Result<Vec<String>, String> {
    let hosts = value::list(&text.to_ascii_lowercase());
    match hosts
        .iter()
        .find(|host| host.contains(['/', '*', '@', ' ']))
    {
        Some(bad) => Err(format!(
            "has {bad:?}; a host is a bare name, without scheme, port or pattern"
        )),
        None => Ok(hosts),
    }
}

fn origins(text: &str) -> std::result::Result<Vec<String>, String> {
    let origins = value::list(&text.to_ascii_lowercase());
    let is_origin = |text: &&String| {
        text.split_once("://").is_some_and(|(scheme, rest)| {
            matches!(scheme, "http" | "https")
                && !rest.is_empty()
                && !rest.contains(['/', '*', '@'])
        })
    };
    match origins.iter().find(|origin| !is_origin(origin)) {
        Some(bad) => Err(format!(
            "has {bad:?}; an origin is like https://baton.example.com"
        )),
        None => Ok(origins),
    }
}

fn turns(text: &str) -> std::result::Result<Option<u32>, String> {
    match text {
        "" | "none" => Ok(None),
        text => Ok(Some(value::number(text, 1, u64::from(u32::MAX))? as u32)),
    }
}

fn action(text: &str) -> std::result::Result<LimitAction, String> {
    match text {
        "end" => Ok(LimitAction::End),
        "suspend" => Ok(LimitAction::Suspend),
        _ => Err(format!("is {text:?}; it must be end or suspend")),
    }
}
