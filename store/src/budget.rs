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
/// A frame in the tree of places, with its hash and the stack that has it in the answer.
pub(super) const PLACE_NODE: usize = 24;
/// A frame in the exact tree, with its number in the answer.
pub(super) const NODE: usize = 16;

/// Entries of a table that have so many bytes together.
pub(super) fn entries(table: Table, count: usize, bytes: usize) -> usize {
    let each = match table {
        Table::OwnerTexts | Table::Texts | Table::Processes | Table::Locations => 64,
        Table::Places => 40,
        Table::Identities | Table::Threads | Table::Mappings | Table::Functions => 16,
    };
    // A byte may be half a line, half a label, or a function that becomes a line.
    let becomes = match table {
        Table::Identities | Table::Places => 16,
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
    use std::sync::Arc;

    use super::*;
    use profiles::profile::{FunctionIndex, Line};

    #[test]
    fn a_budget_ends_and_does_not_come_back() {
        let mut budget = Budget::default();
        assert_eq!(budget.take(MAX_DICTIONARY), Ok(()));
        assert!(budget.take(1).is_err() && budget.take(usize::MAX).is_err() && budget.take(0).is_err());
        assert_eq!(entries(Table::Identities, usize::MAX, usize::MAX), usize::MAX);
    }

    #[test]
    fn a_byte_of_an_entry_costs_what_an_answer_makes_of_it() {
        let of_a_byte = |table| entries(table, 0, 1);
        // A function's number in a place becomes a line, of a column and a function's number.
        assert!(of_a_byte(Table::Places) >= size_of::<Line>() + size_of::<FunctionIndex>());
        // A line's number and its column, a byte each.
        assert!(of_a_byte(Table::Locations) * 2 >= size_of::<Line>());
        // A label's key or value.
        assert!(of_a_byte(Table::Identities) >= size_of::<Arc<str>>());
    }
}
