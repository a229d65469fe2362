//! What every record of Claude Code has in common: turns, activity, and what the driver writes by itself.

use bytes::Bytes;

use super::state::{Note, OpenTurn, State};
use crate::base::id::InputId;
use crate::domain::EventBody;
use crate::domain::session::Activity;
use crate::driver::step;

pub(super) use crate::driver::step::cut;

/// The interpretation of one record.
pub(super) type Step<'a> = step::Step<'a, State>;

impl Step<'_> {
    /// Writes to the harness by itself.
    pub(super) fn write(&mut self, data: Bytes) {
        self.write_noted(data, Note::Own.encode());
    }

    /// The turn that is open; one begins if none is.
    pub(super) fn turn(&mut self, input: Option<InputId>) -> &mut OpenTurn {
        self.state.ready = true;
        let turn = match self.state.turn.take() {
            Some(turn) => turn,
            None => {
                self.state.notified = false;
                let turn = OpenTurn {
                    id: self.next_turn_id(),
                    inputs: input.into_iter().collect(),
                };
                self.event(EventBody::TurnStarted {
                    turn_id: turn.id,
                    input_ids: turn.inputs.clone(),
                });
                turn
            }
        };
        let turn = self.state.turn.insert(turn);
        if let Some(input) = input.filter(|id| !turn.inputs.contains(id)) {
            turn.inputs.push(input);
        }
        turn
    }

    /// Tells the activity if this record changed it.
    pub(super) fn settle_activity(&mut self) {
        let state = &*self.state;
        if state.exited {
            return;
        }
        let activity = if state.open.iter().any(|open| !open.doubtful) {
            Activity::AwaitingPrompt
        } else if state.turn.is_some() || state.tasks > 0 || state.notified || state.has_queue() {
            Activity::Working
        } else if state.ready {
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
