//! The figures of the link. Every queue of both sides is bounded by one of these.

use std::time::Duration;

use super::credit::Credit;

/// Figures that the server chooses and tells, or holds a daemon to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// What a session may have unacknowledged. What exceeds twice this is dropped and asked for again.
    pub session_credit: Credit,
    /// What all sessions together may have unacknowledged.
    pub link_credit: Credit,
    /// How often each side sends a heartbeat; the server's goes with the daemon's, or an eighth later.
    pub heartbeat_interval: Duration,
    /// Silence that makes a link lost.
    pub lease: Duration,
    /// How long after the stream began Hello must have come.
    pub hello_timeout: Duration,
    /// How long after a refused record it is asked for again.
    pub retry_delay: Duration,
    /// Most sessions on a link; a daemon that names more is refused.
    pub max_sessions: usize,
    /// Most commands of a session that were sent and have no result; the others wait in the outbox.
    pub session_commands: usize,
    /// The same for the whole link.
    pub link_commands: usize,
    /// Most results and other small frames that wait for the application; more end the link.
    pub max_waiting: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            session_credit: Credit::SESSION,
            link_credit: Credit::LINK,
            heartbeat_interval: Duration::from_secs(30),
            lease: Duration::from_secs(90),
            hello_timeout: Duration::from_secs(10),
            retry_delay: Duration::from_secs(1),
            max_sessions: 4_096,
            session_commands: 64,
            link_commands: 1_024,
            max_waiting: 8_192,
        }
    }
}

/// Figures that the daemon chooses for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonLimits {
    /// How long a small record may wait for company.
    pub batch_delay: Duration,
    /// Records of this many bytes together are not delayed, and a message ends once it has them.
    pub batch_bytes: u64,
    /// How long after dialling Welcome must have come.
    pub welcome_timeout: Duration,
    /// Silence that makes a link lost until Welcome says otherwise.
    pub lease: Duration,
    /// Most commands remembered until their result is acknowledged; more end the link.
    pub max_commands: usize,
    /// The largest piece of content in one message.
    pub content_chunk_bytes: usize,
    /// Bounds of the pause before dialling again.
    pub backoff: (Duration, Duration),
    /// A link that lived this long starts the pauses anew.
    pub stable_after: Duration,
    /// The longest pause after a link that the server welcomed and that did not live that long: the server
    /// is there, so nobody is to wait long for it, but a link that breaks at once must not be dialled without end
    /// at the smallest pause.
    pub short_link_pause: Duration,
}

impl Default for DaemonLimits {
    fn default() -> Self {
        DaemonLimits {
            batch_delay: Duration::from_millis(10),
            batch_bytes: 32 * 1024,
            welcome_timeout: Duration::from_secs(10),
            lease: Duration::from_secs(90),
            max_commands: 8_192,
            content_chunk_bytes: crate::domain::content::CONTENT_CHUNK_BYTES,
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            stable_after: Duration::from_secs(5),
            short_link_pause: Duration::from_secs(4),
        }
    }
}
