//! What `/metrics` says of sessions, prompts, queues and links: counted now and then from the records, so that
//! a count is right again by itself whatever was missed before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::app::{App, records};
use crate::base::Result;
use crate::domain::{Lifecycle, Session};

/// How often it is counted.
const EVERY: Duration = Duration::from_secs(5);

/// Counts for as long as the server runs.
pub async fn run(app: App) {
    loop {
        match count(&app).await {
            Ok(tally) => tally.publish(),
            Err(error) => tracing::warn!(?error, "what is shown at /metrics could not be counted"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    sessions: BTreeMap<&'static str, u32>,
    detached: u32,
    pending_prompts: u32,
    queued_inputs: u32,
    daemons_linked: u32,
}

async fn count(app: &App) -> Result<Tally> {
    let mut tally = Tally {
        daemons_linked: u32::try_from(app.relay().linked()).unwrap_or(u32::MAX),
        ..Tally::default()
    };
    for id in app.sessions().living(None) {
        let found =
            records::get::<Session>(app.store().as_ref(), &records::session_key(id)).await?;
        // One that was deleted since it was listed counts no more.
        if let Some((session, _)) = found {
            tally.add(&session);
        }
    }
    Ok(tally)
}

impl Tally {
    fn add(&mut self, session: &Session) {
        *self.sessions.entry(session.lifecycle.as_str()).or_default() += 1;
        self.detached += u32::from(session.detached_since.is_some());
        self.pending_prompts = self.pending_prompts.saturating_add(session.pending_prompts);
        self.queued_inputs = self.queued_inputs.saturating_add(session.queued_inputs);
    }

    fn publish(&self) {
        for lifecycle in Lifecycle::ALL.into_iter().filter(|state| state.is_living()) {
            let name = lifecycle.as_str();
            let count = self.sessions.get(name).copied().unwrap_or_default();
            metrics::gauge!("baton_sessions", "lifecycle" => name).set(f64::from(count));
        }
        metrics::gauge!("baton_sessions_detached").set(f64::from(self.detached));
        metrics::gauge!("baton_prompts_pending").set(f64::from(self.pending_prompts));
        metrics::gauge!("baton_inputs_queued").set(f64::from(self.queued_inputs));
        metrics::gauge!("baton_daemons_linked").set(f64::from(self.daemons_linked));
    }
}
