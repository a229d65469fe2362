//! Transients on the wire.

use super::field::required;
use crate::base::Result;
use crate::base::id::SessionId;
use crate::domain::event::{Transient, TransientBody};
use crate::wire::v1;

/// A transient as protobuf writes it.
pub fn transient_to_pb(transient: &Transient) -> v1::Transient {
    use v1::transient::Body;
    v1::Transient {
        session_id: transient.session_id.to_string(),
        body: Some(match &transient.body {
            TransientBody::MessageDelta {
                message_id,
                block,
                offset,
                text,
                thinking,
            } => Body::MessageDelta(v1::MessageDelta {
                message_id: message_id.clone(),
                block: *block,
                offset: *offset,
                text: text.clone(),
                thinking: *thinking,
            }),
            TransientBody::Progress { text } => {
                Body::Progress(v1::ProgressNote { text: text.clone() })
            }
        }),
    }
}

/// A transient from the wire. Whoever gets an error may drop it: a transient is never owed.
pub fn transient_from_pb(transient: v1::Transient) -> Result<Transient> {
    use v1::transient::Body;
    Ok(Transient {
        session_id: SessionId::parse("session_id", &transient.session_id)?,
        body: match required(transient.body, "body")? {
            Body::MessageDelta(delta) => TransientBody::MessageDelta {
                message_id: delta.message_id,
                block: delta.block,
                offset: delta.offset,
                text: delta.text,
                thinking: delta.thinking,
            },
            Body::Progress(note) => TransientBody::Progress { text: note.text },
        },
    })
}
