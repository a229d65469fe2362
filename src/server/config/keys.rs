//! Every key there is, with its default.
//!
//! No key holds a secret: certificates and keys are named by their path, and tokens live in the store.

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, as in `baton.toml`; a dot is a table there and an underscore in the environment.
    pub name: &'static str,
    /// What it is when nobody says.
    pub default: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("BATON_{}", self.name.replace('.', "_").to_uppercase())
    }
}

const fn key(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        default,
        about,
    }
}

/// Every key, in the order they are shown. An empty default of `data_dir` is the platform's data directory.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("listen", "127.0.0.1:7420", "address and port of the server"),
    key("insecure", "false", "listen beyond loopback without TLS"),
    key("tls.cert", "", "file with the certificate chain (PEM)"),
    key("tls.key", "", "file with the private key (PEM)"),
    key("metrics_listen", "127.0.0.1:7421", "address and port of /metrics, or off"),
    key("data_dir", "", "directory of the store"),
    key("durability", "fsync", "fsync, or an interval between syncs (like 50ms)"),
    key("grace", "5m", "how long a lost daemon may stay away before its sessions count as lost"),
    key("prompt_expiry", "none", "how long a prompt waits for an answer before it expires"),
    key("hosts", "", "host names under which the server is reached, besides loopback"),
    key("origins", "", "web origins that may call"),
    key("max_sessions", "1000", "most living sessions"),
    key("terminals.scrollback", "1MiB", "about how much is kept of what a terminal showed"),
    key("scheduler.every", "5s", "how often the scheduler looks at what is to be done, if nothing wakes it before"),
    key("scheduler.max_running", "8", "most agents of the scheduler that run at a time"),
    key("scheduler.max_per_daemon", "8", "most of them on one machine"),
    key("scheduler.max_restarts", "3", "how often a task is taken up again by itself after its session failed"),
    key("worktrees.prune_every", "1h", "how often worktrees that can go without loss are removed, or none"),
    key("drain_deadline", "10s", "longest time a shutdown takes"),
    key("retention.max_age", "none", "age at which an ended session is removed"),
    key("retention.max_session_bytes", "none", "size of a session's log above which its beginning is trimmed"),
    key("retention.every", "1h", "how often the server looks for what need not be kept"),
    key("compaction.every", "1h", "how often the store gives disk space back"),
    key("readers.gather", "19ms", "how long what a busy session says is gathered before it is stored, where 16 or more read it; 0s for not at all"),
    key("store.cache", "64MiB", "how much of the records on disk is kept in memory, too"),
    key("search.every", "1s", "how long changes are gathered before they are indexed for search, unless somebody searches"),
    key("limits.runtime", "none", "default: longest time of a session"),
    key("limits.idle", "none", "default: longest time a session waits for input"),
    key("limits.output", "none", "default: most bytes of output of a session"),
    key("limits.turns", "none", "default: most turns of a session"),
    key("limits.cost", "none", "default: highest cost of a session in US dollars"),
    key("limits.action", "end", "default: what follows a limit, end or suspend"),
    key("prices", "", "file with what models cost (TOML or JSON), instead of the table in the program"),
    key("rate.requests_per_second", "500", "requests a second a caller may make for long"),
    key("rate.burst", "1000", "requests a caller may make at once"),
    key("relay.starts_per_minute", "5", "relay's dialect: sessions a caller may start in a minute, 0 for any number"),
    key("relay.inputs_per_minute", "60", "relay's dialect: inputs a session takes in a minute, 0 for any number"),
    key("requests.max", "4096", "most requests being answered at once"),
    key("connections.max", "4096", "most connections"),
    key("connections.max_age", "30m", "age at which a connection is asked to be made anew, give or take a tenth"),
    key("connections.age_grace", "60s", "how long an aged connection may finish what runs"),
    key("connections.header_timeout", "5s", "longest time for the head of a request"),
    key("connections.handshake_timeout", "10s", "longest time for a TLS handshake"),
    key("connections.unauthenticated", "30s", "how long a connection may live without a valid token"),
    key("log.format", "auto", "pretty, json, or auto (pretty on a terminal)"),
    key("log.level", "info", "level, or directives like info,baton=debug"),
];

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}
