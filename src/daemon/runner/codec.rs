//! Frames on the runner's socket: a 4-byte big-endian length and one message.

use std::io;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The largest message, in bytes. The largest write to a harness and the largest record fit.
pub const MAX_FRAME_BYTES: usize = 20 << 20;

/// Reads a message; `None` at the end of the stream. Not safe to cancel in mid-message.
pub async fn read_frame<M: Message + Default>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is larger than allowed"),
        ));
    }
    // Read as it comes, so that a length alone does not take memory.
    let mut bytes = Vec::with_capacity(length.min(64 * 1024));
    from.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Ok(None);
    }
    M::decode(bytes::Bytes::from(bytes))
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a message.
pub async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> io::Result<()> {
    let length = message.encoded_len();
    if length > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is larger than a frame may be",
        ));
    }
    let mut bytes = Vec::with_capacity(4 + length);
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode_raw(&mut bytes);
    to.write_all(&bytes).await
}
