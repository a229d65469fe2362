//! What every record has in common: activity, and what the driver writes by itself.

use bytes::Bytes;

use super::state::{Note, Phase, State};
use crate::domain::EventBody;
use crate::domain::session::Activity;
use crate::driver::step;

pub(super) use crate::driver::step::cut;

/// The interpretation of one record.
pub(super) type Step<'a> = step::Step<'a, State>;

impl Step<'_> {
    /// Writes to the agent by itself.
    pub(super) fn write(&mut self, data: Bytes) {
        self.write_noted(data, Note::Own.encode());
    }

    /// Says what is known of the agent and the conversation.
    pub(super) fn announce(&mut self) {
        let state = &*self.state;
        let body = EventBody::Started {
            provider_session_id: state.conversation.clone(),
            model: state.models.current.clone(),
            cwd: state.cwd.clone(),
            tools: Vec::new(),
            pid: state.pid,
            version: state.agent.version.clone(),
        };
        self.event(body);
    }

    /// Tells the activity if this record changed it.
    pub(super) fn settle_activity(&mut self) {
        let state = &*self.state;
        if state.exited {
            return;
        }
        let activity = if state.open.iter().any(|open| !open.doubtful) {
            Activity::AwaitingPrompt
        } else if state.turn.is_some() || !state.held.is_empty() {
            Activity::Working
        } else if matches!(state.phase, Phase::Ready | Phase::Failed { .. }) {
            Activity::AwaitingInput
        } else {
            Activity::Unknown
        };
        if activity != state.activity {
            self.state.activity = activity;
            self.activity(activity);
        }
    }
}
