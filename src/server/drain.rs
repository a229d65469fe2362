//! The shutdown as something that many can watch.

use std::time::Duration;

use tokio::sync::watch;

/// Starts the shutdown, and tells who asks whether it has begun. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    begun: watch::Sender<bool>,
    deadline: Duration,
}

impl Drain {
    /// A drain that takes `deadline` at the longest.
    pub fn new(deadline: Duration) -> Self {
        Drain {
            begun: watch::Sender::new(false),
            deadline,
        }
    }

    /// Begins the shutdown. Repeating it changes nothing.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// How long it takes at the longest.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns when it has begun.
    pub async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = begun.wait_for(|begun| *begun).await;
    }
}
