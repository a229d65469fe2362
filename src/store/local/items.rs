//! Files of items: snapshots and exports. An item is `len` (u32, little endian), CRC-32C of the payload
//! (u32, little endian), payload.

use std::io::{self, Read, Write};

use prost::Message;

/// Most bytes of an item.
const MAX_ITEM: usize = 64 << 20;

/// Writes one item.
pub(super) fn write<M: Message>(out: &mut impl Write, message: &M) -> io::Result<()> {
    let payload = message.encode_to_vec();
    out.write_all(&(payload.len() as u32).to_le_bytes())?;
    out.write_all(&crc32c::crc32c(&payload).to_le_bytes())?;
    out.write_all(&payload)
}

/// Reads one item; `None` at the end. [`io::ErrorKind::InvalidData`] if it is damaged or cut short.
pub(super) fn read<M: Message + Default>(from: &mut impl Read) -> io::Result<Option<M>> {
    let damaged = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let mut header = [0; 8];
    let mut have = 0;
    while have < header.len() {
        match from.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(damaged("it ends within an item")),
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let [a, b, c, d, e, f, g, h] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let crc = u32::from_le_bytes([e, f, g, h]);
    if len > MAX_ITEM {
        return Err(damaged("an item is too long"));
    }
    // Not allocated before it is there: a damaged length must not cost memory.
    let mut payload = Vec::new();
    from.by_ref().take(len as u64).read_to_end(&mut payload)?;
    if payload.len() != len {
        return Err(damaged("it ends within an item"));
    }
    if crc32c::crc32c(&payload) != crc {
        return Err(damaged("an item's checksum is wrong"));
    }
    match M::decode(&payload[..]) {
        Ok(message) => Ok(Some(message)),
        Err(_) => Err(damaged("an item cannot be read")),
    }
}
