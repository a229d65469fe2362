//! Inputs on the wire.

use super::common::{actor_from_pb, actor_to_pb};
use super::enums::{self, required as required_enum};
use super::field::{self, required};
use super::time::{required_time, time_to_pb};
use crate::base::Result;
use crate::base::id::{InputId, SessionId};
use crate::domain::Input;
use crate::wire::v1;

/// An input as protobuf writes it; `revision` becomes the etag.
pub fn input_to_pb(input: &Input, revision: u64) -> v1::Input {
    v1::Input {
        id: input.id.to_string(),
        session_id: input.session_id.to_string(),
        text: input.text.clone(),
        delivery: enums::delivery_to_pb(input.delivery).into(),
        state: enums::input_state_to_pb(input.state).into(),
        actor: Some(actor_to_pb(&input.actor)),
        created_at: Some(time_to_pb(input.created_at)),
        position: input.position,
        reason: input.reason.clone(),
        etag: field::etag_of(revision),
    }
}

/// An input from the wire. Which command carries it is the server's own affair and not in it.
pub fn input_from_pb(input: v1::Input) -> Result<Input> {
    Ok(Input {
        id: InputId::parse("input.id", &input.id)?,
        session_id: SessionId::parse("input.session_id", &input.session_id)?,
        text: input.text,
        delivery: enums::delivery_from_pb(input.delivery, "input.delivery")?.unwrap_or_default(),
        state: required_enum(
            enums::input_state_from_pb(input.state, "input.state"),
            "input.state",
        )?,
        actor: actor_from_pb(required(input.actor, "input.actor")?)?,
        created_at: required_time(input.created_at, "input.created_at")?,
        position: input.position,
        reason: input.reason,
        command_id: None,
    })
}
