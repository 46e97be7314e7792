//! A whole segment from its bytes, without index or files.

use super::bytes::Malformed;
use super::chunk;
use super::columns;
use super::dictionary::{Part, Tables};
use super::result::ResultTables;
use super::segment::{Beginning, SEGMENT_HEADER_BYTES, beginning};
use profiles::profile::Batch;

/// Gives each batch of a segment's bytes to `visit`, in order: what can still be had from a file that was set aside.
///
/// # Errors
/// What is wrong with the first chunk that can't be read; those before it were given.
pub fn decode_segment(bytes: &[u8], mut visit: impl FnMut(Batch)) -> Result<(), Malformed> {
    match beginning(bytes) {
        Beginning::Ours => {}
        Beginning::OtherVersion(_) => return Err(Malformed("a segment of another version")),
        Beginning::Unfinished | Beginning::NotASegment => return Err(Malformed("not a segment")),
    }
    let mut rest = bytes.get(SEGMENT_HEADER_BYTES as usize..).unwrap_or_default();
    let mut tables = Tables::default();
    while !rest.is_empty() {
        let (header, [samples, owners, code]) = chunk::decode(rest)?;
        tables.add(Part::Owners, &owners)?;
        tables.add(Part::Code, &code)?;
        let (facts, mut samples) = columns::decode(&samples)?;
        samples.sort_by_key(|sample| (sample.time_ns, sample.cpu));
        visit(ResultTables::default().batch_of_chunk(&tables, &facts, &samples)?);
        rest = usize::try_from(header.chunk_bytes()).ok().and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    Ok(())
}
