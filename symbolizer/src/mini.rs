//! Mini debug information: an xz-compressed ELF file with more symbols, in `.gnu_debugdata`.

use std::io::Read;
use std::sync::Arc;

use crate::elf::{self, DecompressionBudget};
use crate::image::Image;
use crate::limits::{Deadline, MAX_XZ_MEMORY_KIB};
use crate::statistics::{Counters, Failure};
use crate::symbols::SymbolIndex;

/// The symbols in `.gnu_debugdata` of `file`, whose bytes are `image`, with the image that they are in.
pub(crate) fn load(
    file: &object::File<'_>,
    image: &[u8],
    budget: &mut DecompressionBudget,
    deadline: &Deadline,
    counters: &Counters,
) -> Option<(Arc<Image>, SymbolIndex)> {
    let section = elf::section(file, ".gnu_debugdata", budget).ok()?;
    let compressed = section.bytes(image);
    if compressed.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    let limited = lzma_rust2::XzReader::new_mem_limit(compressed, false, MAX_XZ_MEMORY_KIB);
    let outcome = limited.take(budget.0.saturating_add(1)).read_to_end(&mut bytes);
    if outcome.is_err() || bytes.len() as u64 > budget.0 {
        counters.fail(Failure::Decompression);
        return None;
    }
    budget.0 -= bytes.len() as u64;
    let image = Arc::new(Image::Memory(bytes.into()));
    let file = object::File::parse(&**image).ok()?;
    let symbols = SymbolIndex::build(&file, deadline).ok().filter(|symbols| !symbols.is_empty())?;
    Some((image.clone(), symbols))
}
