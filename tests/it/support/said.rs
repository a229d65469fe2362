//! What a record says, however it is carried.

use baton::domain::Event;
use baton::domain::link::RecordEvent;
use baton::wire::event::event_from_pb;
use baton::wire::v1;
use prost::Message as _;

/// An event of a record, read where it is carried as it came.
pub fn said(event: &RecordEvent) -> Event {
    match event {
        RecordEvent::Whole { event, .. } => (**event).clone(),
        RecordEvent::Kept(came) => event_from_pb(v1::Event::decode(&came[..]).unwrap()).unwrap(),
    }
}
