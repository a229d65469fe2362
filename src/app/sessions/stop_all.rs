//! Stopping all that agents do.

use super::SessionFilter;
use super::steer::MAX_REASON_BYTES;
use crate::app::App;
use crate::app::access::Caller;
use crate::base::id::{AgentId, SessionId};
use crate::base::page::{MAX_PAGE_SIZE, PageRequest};
use crate::base::{Code, Error, Result};
use crate::domain::{Lifecycle, field};

/// An agent's session that was to be stopped with all others.
#[derive(Clone, Debug)]
pub struct StopOfMany {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// Why it was not stopped.
    pub refused: Option<Error>,
}

impl App {
    /// Ends every session that an agent runs and the caller sees, gracefully or by force, with a reason for people.
    /// What one of them refuses does not keep the others from it. Who may begin sessions may begin others meanwhile:
    /// those that begin later are not meant.
    pub async fn stop_agents(
        &self,
        caller: &Caller,
        force: bool,
        reason: &str,
    ) -> Result<Vec<StopOfMany>> {
        field::line("reason", reason, MAX_REASON_BYTES)?;
        let mut stops = Vec::new();
        for (session, agent) in self.agents_at_work(caller, force).await? {
            let ended = self
                .end_session_because(caller, "", session, force, reason)
                .await;
            let refused = match ended {
                Ok(()) => None,
                // Deleted meanwhile: there is nothing to stop.
                Err(error) if error.code() == Code::NotFound => continue,
                Err(error) => Some(error),
            };
            stops.push(StopOfMany {
                session,
                agent,
                refused,
            });
        }
        Ok(stops)
    }

    /// The sessions that agents run; also those that are being stopped, where that is to be done by force now.
    async fn agents_at_work(
        &self,
        caller: &Caller,
        force: bool,
    ) -> Result<Vec<(SessionId, AgentId)>> {
        let mut lifecycles = vec![Lifecycle::Pending, Lifecycle::Starting, Lifecycle::Running];
        if force {
            lifecycles.push(Lifecycle::Stopping);
        }
        let filter = SessionFilter {
            lifecycles,
            ..SessionFilter::default()
        };
        let mut page = PageRequest {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        let mut at_work = Vec::new();
        loop {
            let found = self.list_sessions(caller, &filter, &page).await?;
            at_work.extend(found.items.iter().filter_map(|shown| {
                let agent = shown.session.agent.as_ref()?;
                Some((shown.session.id, agent.id))
            }));
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(at_work),
            }
        }
    }
}
