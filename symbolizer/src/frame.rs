//! [`Frame`]: one function at an address, and [`Frames`]: the whole inlined chain there.

use std::sync::Arc;

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// For people: demangled.
    pub function: Arc<str>,
    /// As the linker knows it; equal to `function` where there is nothing to demangle.
    pub linkage_name: Arc<str>,
    /// Source file, as the compiler wrote it (made absolute with the compilation directory).
    pub file: Option<Arc<str>>,
    /// Source line; 0 if unknown.
    pub line: u32,
    /// Source column; 0 if unknown.
    pub column: u32,
    /// Line on which the function is declared; 0 if unknown.
    pub start_line: u32,
}

/// All functions at one address: the innermost inlined one first, the one that they were all inlined into last.
///
/// Empty = the address has no name.
pub type Frames = Arc<[Frame]>;

/// What a frame chain costs in memory, in bytes: an upper bound, since texts shared between chains are counted in each.
pub(crate) fn weight(frames: &Frames) -> usize {
    let texts: usize = frames
        .iter()
        .map(|frame| {
            let Frame { function, linkage_name, file, line: _, column: _, start_line: _ } = frame;
            let shared = Arc::ptr_eq(function, linkage_name);
            function.len()
                + if shared { 0 } else { linkage_name.len() + ARC_HEADER }
                + file.as_ref().map_or(0, |file| file.len() + ARC_HEADER)
                + ARC_HEADER
        })
        .sum();
    texts + frames.len() * size_of::<Frame>() + ARC_HEADER
}

/// Two reference counts before each shared text.
const ARC_HEADER: usize = 16;
