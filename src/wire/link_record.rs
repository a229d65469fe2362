//! `baton.link.v1.Record` with its events as the bytes that they came as.
//!
//! What a daemon sends is decoded to be judged, and most of it goes into the log as it is. So that it is not encoded
//! once more for that, this message is written by hand: `repeated bytes` is on the wire what `repeated baton.v1.Event`
//! is, and a slice of what was received shares its memory.

use bytes::Bytes;

use super::v1;

/// One record of a runner.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinkRecord {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub origin_seq: u64,
    /// The events, each an encoded `baton.v1.Event` without seq.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
    /// How many records are missing before this one and why; absent if none are.
    #[prost(message, optional, tag = "3")]
    pub gap: Option<v1::Gap>,
    /// When the runner read it.
    #[prost(message, optional, tag = "4")]
    pub time: Option<prost_types::Timestamp>,
    /// What the harness wrote to its terminal; absent for every other record.
    #[prost(message, optional, tag = "5")]
    pub terminal_output: Option<v1::TerminalOutput>,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage as _, Value};

    use super::*;

    /// The message by hand is the one that the proto file describes, field by field.
    #[test]
    fn a_record_is_what_the_proto_file_says() {
        let event = v1::Event {
            session_id: "ses".to_owned(),
            ..Default::default()
        };
        let record = LinkRecord {
            origin_seq: 7,
            events: vec![event.encode_to_vec().into()],
            gap: Some(v1::Gap {
                from_origin_seq: 5,
                to_origin_seq: 6,
                reason: "damaged".to_owned(),
            }),
            time: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 2,
            }),
            terminal_output: Some(v1::TerminalOutput {
                offset: 3,
                data: Bytes::from_static(b"shown"),
            }),
        };
        let pool = DescriptorPool::decode(crate::wire::DESCRIPTORS).unwrap();
        let described = pool.get_message_by_name("baton.link.v1.Record").unwrap();
        let read = DynamicMessage::decode(described, record.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read.unknown_fields().count(), 0);
        let set: Vec<_> = read.fields().map(|(field, _)| field.number()).collect();
        assert_eq!(
            set,
            read.descriptor()
                .fields()
                .map(|field| field.number())
                .collect::<Vec<_>>()
        );
        let Value::List(events) = &*read.get_field_by_name("events").unwrap() else {
            panic!("events are a list");
        };
        let event = events[0].as_message().unwrap();
        assert_eq!(
            event.get_field_by_name("session_id").unwrap().as_str(),
            Some("ses")
        );
        let again = LinkRecord::decode(read.encode_to_vec().as_slice()).unwrap();
        assert_eq!(again, record);
    }
}
