//! What a dictionary takes in memory once it is read, bytes, with what a question keeps beside it. It is counted while a segment is
//! written as well, so that nothing is written that could not be read; and a small file, which packing makes of a large one, can't ask
//! for more than the agent may take.

use super::bytes::Malformed;
use super::dictionary::Table;

/// The dictionary of one segment, or of one answer. That of a segment is some 30 MiB; a batch that is the first of a node with 64 busy
/// CPUs brings twice as much.
pub(super) const MAX_DICTIONARY: usize = 256 << 20;

/// A stack by function, with its sums.
pub(super) const SHAPE: usize = 44;
/// An exact stack.
pub(super) const TRACE: usize = 16;
/// A frame in the tree of places, with its hash.
pub(super) const PLACE_NODE: usize = 20;
/// A frame in the exact tree, with its number in the answer.
pub(super) const NODE: usize = 16;

/// Entries of a table that have so many bytes together.
pub(super) fn entries(table: Table, count: usize, bytes: usize) -> usize {
    let each = match table {
        Table::OwnerTexts | Table::Texts | Table::Processes | Table::Locations => 64,
        Table::Places => 40,
        Table::Identities | Table::Threads | Table::Mappings | Table::Functions => 16,
    };
    // A byte may be half a line, or half a label.
    let becomes = match table {
        Table::Identities => 16,
        Table::Locations => 8,
        _ => 1,
    };
    count.saturating_mul(each).saturating_add(bytes.saturating_mul(becomes))
}

/// What is taken of [`MAX_DICTIONARY`].
#[derive(Default)]
pub(super) struct Budget {
    used: usize,
}

impl Budget {
    /// Before memory is taken.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.used = self.used.saturating_add(bytes);
        if self.used <= MAX_DICTIONARY { Ok(()) } else { Err(Malformed("a dictionary that takes too much memory")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_and_does_not_come_back() {
        let mut budget = Budget::default();
        assert_eq!(budget.take(MAX_DICTIONARY), Ok(()));
        assert!(budget.take(1).is_err() && budget.take(usize::MAX).is_err() && budget.take(0).is_err());
        assert_eq!(entries(Table::Identities, usize::MAX, usize::MAX), usize::MAX);
    }
}
