//! How gRPC messages are put into bytes: protobuf, with buffers that suit many silent streams.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What a stream's buffers hold before there is anything in them, in bytes, one each way. tonic's own 8 KiB are most of
/// what an open and silent stream costs; a buffer that is used grows to what it needs.
const IDLE_BYTES: usize = 512;
/// How many bytes of messages that are ready go out as one piece; tonic's own value.
const PIECE_BYTES: usize = 32 * 1024;

/// protobuf over gRPC, named in `build.rs` as the codec of all services.
#[derive(Debug)]
pub struct ProtobufCodec<T, U> {
    messages: PhantomData<(T, U)>,
}

impl<T, U> Default for ProtobufCodec<T, U> {
    fn default() -> Self {
        ProtobufCodec {
            messages: PhantomData,
        }
    }
}

impl<T, U> Codec for ProtobufCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(IDLE_BYTES, PIECE_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(IDLE_BYTES, PIECE_BYTES))
    }
}
