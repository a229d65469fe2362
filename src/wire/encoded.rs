//! Events in their encoded form, for rooms that carry them without knowing protobuf.

use bytes::Bytes;
use prost::Message as _;

use super::event::event_to_pb;
use super::time::time_to_pb;
use super::v1;
use super::v1::event::Body;
use crate::base::Timestamp;
use crate::domain::{Event, EventKind};

/// An event as it is stored and sent.
pub fn encode_event(event: &Event) -> Bytes {
    Bytes::from(event_to_pb(event).encode_to_vec())
}

/// Writes an event's seq and time, as its encoding begins with them. What a daemon sent has neither: with these before
/// it, it is the event as it is stored.
pub fn put_place(out: &mut Vec<u8>, seq: u64, time: Timestamp) {
    let place = v1::Event {
        seq,
        time: Some(time_to_pb(time)),
        ..v1::Event::default()
    };
    place.encode_raw(out);
}

/// How many bytes an event is when it is sent.
pub fn encoded_len(event: &v1::Event) -> usize {
    event.encoded_len()
}

/// The kind of an event that was not converted; `None` for one that this version does not know.
pub fn kind_of(event: &v1::Event) -> Option<EventKind> {
    Some(match event.body.as_ref()? {
        Body::SessionCreated(_) => EventKind::SessionCreated,
        Body::Started(_) => EventKind::Started,
        Body::LifecycleChanged(_) => EventKind::LifecycleChanged,
        Body::ActivityChanged(_) => EventKind::ActivityChanged,
        Body::LinkChanged(_) => EventKind::LinkChanged,
        Body::InputAccepted(_) => EventKind::InputAccepted,
        Body::InputChanged(_) => EventKind::InputChanged,
        Body::Message(_) => EventKind::Message,
        Body::ToolCall(_) => EventKind::ToolCall,
        Body::ToolResult(_) => EventKind::ToolResult,
        Body::TurnStarted(_) => EventKind::TurnStarted,
        Body::TurnEnded(_) => EventKind::TurnEnded,
        Body::PlanUpdated(_) => EventKind::PlanUpdated,
        Body::Output(_) => EventKind::Output,
        Body::Stderr(_) => EventKind::Stderr,
        Body::UsageUpdated(_) => EventKind::UsageUpdated,
        Body::RateLimited(_) => EventKind::RateLimited,
        Body::LimitExceeded(_) => EventKind::LimitExceeded,
        Body::LimitLifted(_) => EventKind::LimitLifted,
        Body::PromptRequested(_) => EventKind::PromptRequested,
        Body::PromptAnswered(_) => EventKind::PromptAnswered,
        Body::PromptExpired(_) => EventKind::PromptExpired,
        Body::PromptWithdrawn(_) => EventKind::PromptWithdrawn,
        Body::PromptDelivered(_) => EventKind::PromptDelivered,
        Body::OptionsChanged(_) => EventKind::OptionsChanged,
        Body::CommandFailed(_) => EventKind::CommandFailed,
        Body::Notice(_) => EventKind::Notice,
        Body::Gap(_) => EventKind::Gap,
        Body::Ended(_) => EventKind::Ended,
    })
}
