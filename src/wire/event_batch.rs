//! `baton.v1.EventBatch` as the bytes it is stored as.
//!
//! A batch on its way to a reader is a slice of the journal: it was encoded once, when it was written,
//! and every reader of every transport is sent the same bytes. So this type implements the message by
//! hand: encoding copies the slice, decoding keeps it, and only who looks inside decodes the events.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{
    DecodeContext, WireType, decode_varint, encode_varint, encoded_len_varint, skip_field,
};
use prost::{DecodeError, Message};

use super::v1::Event;

/// Tag of `EventBatch.events`: field 1, length-delimited.
const EVENTS_TAG: u32 = 1;
/// The tag's encoding.
const EVENTS_KEY: u8 = 0x0a;

/// Writes what stands before an entry of `length` bytes in an encoded batch. Into a buffer that grows.
pub fn put_entry_head(out: &mut impl BufMut, length: usize) {
    out.put_u8(EVENTS_KEY);
    encode_varint(length as u64, out);
}

/// Events, oldest first, in their encoded form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventBatch {
    encoded: Bytes,
}

impl EventBatch {
    /// The batch whose encoding is `encoded`.
    pub fn from_encoded(encoded: Bytes) -> Self {
        EventBatch { encoded }
    }

    /// A batch of events that are not encoded yet.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut encoded = BytesMut::new();
        for event in events {
            put_entry_head(&mut encoded, event.encoded_len());
            event.encode_raw(&mut encoded);
        }
        EventBatch {
            encoded: encoded.freeze(),
        }
    }

    /// The batch's encoding.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Each event's own encoding, sharing the batch's memory.
    pub fn entries(&self) -> Result<Vec<Bytes>, DecodeError> {
        self.slices()
            .map(|entry| Ok(self.encoded.slice_ref(entry?)))
            .collect()
    }

    /// The events.
    pub fn events(&self) -> Result<Vec<Event>, DecodeError> {
        self.each_event().collect()
    }

    /// The events, each decoded when it is asked for: who goes through them once never has them all.
    pub fn each_event(&self) -> impl Iterator<Item = Result<Event, DecodeError>> {
        self.slices().map(|entry| Event::decode(entry?))
    }

    /// Each event's own encoding. Nothing comes after an error.
    fn slices(&self) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
        let mut rest: &[u8] = &self.encoded;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let entry = take_entry(&mut rest);
            if entry.is_err() {
                rest = &[];
            }
            Some(entry)
        })
    }
}

/// Takes the first entry of an encoded batch.
fn take_entry<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let key = decode_varint(rest)?;
    let length = decode_varint(rest)?;
    if key != u64::from(EVENTS_KEY) {
        return Err(malformed());
    }
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let (entry, after) = rest.split_at_checked(length).ok_or_else(malformed)?;
    *rest = after;
    Ok(entry)
}

impl Message for EventBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.encoded);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != EVENTS_TAG || wire_type != WireType::LengthDelimited {
            return skip_field(wire_type, tag, buf, ctx);
        }
        let length = decode_varint(buf)?;
        if length > buf.remaining() as u64 {
            return Err(malformed());
        }
        let mut encoded = BytesMut::with_capacity(
            self.encoded.len() + 1 + encoded_len_varint(length) + length as usize,
        );
        encoded.put_slice(&self.encoded);
        put_entry_head(&mut encoded, length as usize);
        encoded.put(buf.take(length as usize));
        self.encoded = encoded.freeze();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    fn clear(&mut self) {
        self.encoded = Bytes::new();
    }
}

/// prost has no public constructor for its error, so one is had from bytes that cannot be a message
/// (a key with wire type 7).
fn malformed() -> DecodeError {
    match <() as Message>::decode(&[0x07_u8][..]) {
        Err(error) => error,
        Ok(()) => DecodeError::new_unexpected_type_url("", "baton.v1.EventBatch"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        (1..=3)
            .map(|seq| Event {
                seq,
                session_id: "ses".to_owned(),
                ..Event::default()
            })
            .collect()
    }

    #[test]
    fn a_batch_keeps_its_bytes_and_shows_its_events() {
        let batch = EventBatch::from_events(&events());
        let again = EventBatch::decode(batch.encode_to_vec().as_slice()).unwrap();
        assert_eq!(again, batch);
        assert_eq!(again.events().unwrap(), events());
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let batch = EventBatch::from_events(&events());
        for cut in 1..batch.encoded().len() {
            let cut = EventBatch::from_encoded(batch.encoded().slice(..cut));
            let _ = cut.events();
        }
        assert!(
            EventBatch::from_encoded(Bytes::from_static(&[0x0a, 0xff, 0x01]))
                .events()
                .is_err()
        );
    }
}
