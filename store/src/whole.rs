//! A whole segment from its bytes, without index or files.

use super::bytes::Malformed;
use super::chunk::{self, ChunkHeader};
use super::columns::{self, Facts, StoredSample};
use super::dictionary::Part;
use super::functions::{FunctionAnswer, SegmentSums};
use super::reader::Skipped;
use super::result::ResultTables;
use super::segment::{Beginning, SEGMENT_HEADER_BYTES, beginning};
use super::stacks::{Grouping, StackSums};
use super::tables::Tables;
use super::transfer::Transfer;
use profiles::profile::Batch;

/// Gives each batch of a segment's bytes to `visit`, in order: what can still be had from a file that was set aside.
///
/// # Errors
/// What is wrong with the first chunk that can't be read; those before it were given.
pub fn decode_segment(bytes: &[u8], mut visit: impl FnMut(Batch)) -> Result<(), Malformed> {
    let mut tables = Tables::default();
    each_chunk(bytes, |[samples, owners, shapes, exact]| {
        tables.add(Part::Owners, &owners)?;
        tables.add(Part::Shapes, &shapes)?;
        tables.add(Part::Exact, &exact)?;
        let (facts, mut samples) = columns::decode(&samples)?;
        samples.sort_by_key(|sample| (sample.time_ns, sample.cpu));
        visit(ResultTables::default().batch_of_chunk(&tables, &facts, &samples)?);
        Ok(())
    })
}

/// Sums of a segment's bytes by function, as [`Reader::stacks`](crate::Reader::stacks) has them. The batch's times are those of the
/// first chunk.
///
/// # Errors
/// What is wrong with the segment: then there is no sum at all.
pub fn sum_segment(bytes: &[u8]) -> Result<StackSums, Malformed> {
    let mut tables = Tables::default();
    let mut chunks: Vec<(Facts, Vec<StoredSample>)> = Vec::new();
    each_chunk(bytes, |[samples, owners, shapes, _]| {
        tables.add(Part::Owners, &owners)?;
        tables.add(Part::Shapes, &shapes)?;
        chunks.push(columns::decode(&samples)?);
        Ok(())
    })?;
    let mut answer = FunctionAnswer::default();
    let mut transfer = Transfer::new(&tables);
    let mut sums = SegmentSums::new(&tables);
    for sample in chunks.iter().flat_map(|(_, samples)| samples) {
        sums.add(&mut transfer, (&tables, &mut answer.dictionary), sample)?;
    }
    answer.add(&tables, &mut transfer, sums)?;
    let facts = chunks.first().map(|(facts, _)| *facts).unwrap_or_default();
    let sums = answer.finish();
    let left_out_ns = sums.left_out_ns;
    let (batch, counts) = sums.into_batch(&facts)?;
    Ok(StackSums { batch, counts, grouping: Grouping::Functions, left_out_ns, skipped: Skipped::default() })
}

type Sections = [Vec<u8>; chunk::SECTIONS];

fn each_chunk(bytes: &[u8], mut visit: impl FnMut(Sections) -> Result<(), Malformed>) -> Result<(), Malformed> {
    match beginning(bytes) {
        Beginning::Ours => {}
        Beginning::OtherVersion(_) => return Err(Malformed("a segment of another version")),
        Beginning::Unfinished | Beginning::NotASegment => return Err(Malformed("not a segment")),
    }
    let mut rest = bytes.get(SEGMENT_HEADER_BYTES as usize..).unwrap_or_default();
    while !rest.is_empty() {
        let (header, sections): (ChunkHeader, Sections) = chunk::decode(rest)?;
        visit(sections)?;
        rest = usize::try_from(header.chunk_bytes()).ok().and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    Ok(())
}
