//! Terminals on the wire.

use prost::Message as _;

use super::field::required;
use super::{storage_v1, v1};
use crate::base::{Error, Result};
use crate::domain::terminal::{MAX_OUTPUT_BYTES, Output, Size, SizePolicy};

/// A size as protobuf writes it.
pub fn size_to_pb(size: Size) -> v1::TerminalSize {
    v1::TerminalSize {
        cols: size.cols.into(),
        rows: size.rows.into(),
    }
}

/// A size from the wire.
pub fn size_from_pb(size: v1::TerminalSize, field: &str) -> Result<Size> {
    Size::checked(field, size.cols, size.rows)
}

/// A size that may be absent.
pub fn optional_size_from_pb(size: Option<v1::TerminalSize>, field: &str) -> Result<Option<Size>> {
    size.map(|size| size_from_pb(size, field)).transpose()
}

/// A policy as protobuf writes it.
pub fn size_policy_to_pb(policy: SizePolicy) -> v1::TerminalSizePolicy {
    match policy {
        SizePolicy::Smallest => v1::TerminalSizePolicy::Smallest,
        SizePolicy::Typist => v1::TerminalSizePolicy::Typist,
    }
}

/// A policy from the wire; `None` if it is unspecified.
pub fn size_policy_from_pb(policy: i32, field: &str) -> Result<Option<SizePolicy>> {
    Ok(match v1::TerminalSizePolicy::try_from(policy) {
        Ok(v1::TerminalSizePolicy::Unspecified) => None,
        Ok(v1::TerminalSizePolicy::Smallest) => Some(SizePolicy::Smallest),
        Ok(v1::TerminalSizePolicy::Typist) => Some(SizePolicy::Typist),
        Err(_) => {
            return Err(Error::invalid(
                field,
                "is not a value that this version knows",
            ));
        }
    })
}

/// Output as protobuf writes it.
pub fn output_to_pb(output: &Output) -> v1::TerminalOutput {
    v1::TerminalOutput {
        offset: output.offset,
        data: output.data.clone(),
    }
}

/// Output from the wire.
pub fn output_from_pb(output: v1::TerminalOutput, field: &str) -> Result<Output> {
    let end = output.offset.checked_add(output.data.len() as u64);
    if output.data.is_empty() || output.data.len() > MAX_OUTPUT_BYTES || end.is_none() {
        return Err(Error::invalid(
            field,
            format!("must have 1 to {MAX_OUTPUT_BYTES} bytes within the range of offsets"),
        ));
    }
    Ok(Output {
        offset: output.offset,
        data: output.data,
    })
}

/// Output as it is kept in a terminal's stream.
pub fn output_entry(output: &Output) -> bytes::Bytes {
    output_to_pb(output).encode_to_vec().into()
}

/// A run of a terminal's stream.
pub fn outputs_from_entries(run: bytes::Bytes) -> Result<Vec<Output>> {
    let log = storage_v1::TerminalLog::decode(run).map_err(Error::internal)?;
    log.outputs
        .into_iter()
        .map(|output| {
            Ok(Output {
                offset: output.offset,
                data: output.data,
            })
        })
        .collect()
}

/// The view that a viewer asked for.
pub fn required_view(view: Option<v1::TerminalView>) -> Result<v1::TerminalView> {
    required(view, "view")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_run_of_entries_reads_back() {
        let outputs = [(0, "abc"), (3, "d"), (9, "later")].map(|(offset, data)| Output {
            offset,
            data: Bytes::from(data),
        });
        let mut run = Vec::new();
        for output in &outputs {
            let entry = output_entry(output);
            run.push(0x0a);
            prost::encoding::encode_varint(entry.len() as u64, &mut run);
            run.extend_from_slice(&entry);
        }
        assert_eq!(outputs_from_entries(run.into()).unwrap(), outputs);
    }

    #[test]
    fn output_out_of_bounds_is_refused() {
        for (offset, length) in [(0, 0), (0, MAX_OUTPUT_BYTES + 1), (u64::MAX, 1)] {
            let output = v1::TerminalOutput {
                offset,
                data: vec![b'x'; length].into(),
            };
            assert!(output_from_pb(output, "output").is_err());
        }
    }
}
