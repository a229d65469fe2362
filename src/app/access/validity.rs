//! The end of a token, for what was opened with it.

use std::time::Duration;

use super::{Access, Caller};
use crate::base::{Code, Error};

/// The shortest wait between two looks, so that clocks that disagree do not make a busy loop.
const LEAST_WAIT: Duration = Duration::from_millis(20);

impl Access {
    /// Completes with the error to end with when the caller's token is revoked or expires: at once when it
    /// was revoked here, otherwise within 30 s. While the store cannot be read, the token counts as valid.
    pub fn watch_validity(&self, caller: &Caller) -> impl Future<Output = Error> + Send + 'static {
        let access = self.clone();
        let caller = caller.clone();
        let mut revocations = self.inner.revocations.subscribe();
        async move {
            loop {
                // Marked as seen before the look, so that a revocation during it causes another.
                revocations.borrow_and_update();
                match access.check(&caller).await {
                    Err(error) if error.code() == Code::Unauthenticated => return error,
                    Err(error) => tracing::warn!(%error, "cannot look at a token again"),
                    Ok(()) => {}
                }
                let mut wait = access.inner.recheck_every;
                if let Some(at) = caller.expires_at {
                    wait = wait.min(at.saturating_since(access.inner.clock.now()));
                }
                tokio::select! {
                    // The sender lives in `access`.
                    _ = revocations.changed() => {}
                    () = tokio::time::sleep(wait.max(LEAST_WAIT)) => {}
                }
            }
        }
    }
}
