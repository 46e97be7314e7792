//! A whole segment from its bytes, without index or files.

use std::sync::atomic::AtomicBool;

use super::bytes::Malformed;
use super::chunk::{self, Section};
use super::columns::{self, Facts};
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
    each_chunk(bytes, |section| {
        tables.add(Part::Owners, &section(Section::Owners)?)?;
        tables.add(Part::Shapes, &section(Section::Shapes)?)?;
        tables.add(Part::Exact, &section(Section::Exact)?)?;
        let (facts, mut samples) = columns::decode(&section(Section::Samples)?)?;
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
    each_chunk(bytes, |section| {
        tables.add(Part::Owners, &section(Section::Owners)?)?;
        tables.add(Part::Shapes, &section(Section::Shapes)?)
    })?;
    let mut answer = FunctionAnswer::default();
    let mut transfer = Transfer::new(&tables);
    let mut sums = SegmentSums::new(&tables, &answer.dictionary);
    let mut first: Option<Facts> = None;
    each_chunk(bytes, |section| {
        let (facts, samples) = columns::decode(&section(Section::Samples)?)?;
        first.get_or_insert(facts);
        samples.iter().try_for_each(|sample| sums.add(&mut transfer, (&tables, &mut answer.dictionary), sample))
    })?;
    answer.add(&tables, &mut transfer, sums, &AtomicBool::new(false))?;
    let facts = first.unwrap_or_default();
    let sums = answer.finish();
    let left_out_ns = sums.left_out_ns;
    let (batch, counts) = sums.into_batch(&facts)?;
    Ok(StackSums { batch, counts, grouping: Grouping::Functions, left_out_ns, skipped: Skipped::default() })
}

/// Visits a segment's chunks with what gives a section of each.
fn each_chunk(
    bytes: &[u8],
    mut visit: impl FnMut(&dyn Fn(Section) -> Result<Vec<u8>, Malformed>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    match beginning(bytes) {
        Beginning::Ours => {}
        Beginning::OtherVersion(_) => return Err(Malformed("a segment of another version")),
        Beginning::Unfinished | Beginning::NotASegment => return Err(Malformed("not a segment")),
    }
    let mut rest = bytes.get(SEGMENT_HEADER_BYTES as usize..).unwrap_or_default();
    while !rest.is_empty() {
        let header = chunk::header(rest)?;
        visit(&|section| chunk::section_of(rest, &header, section))?;
        rest = usize::try_from(header.chunk_bytes()).ok().and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    Ok(())
}
