//! Sorted rows of one source, made from functions in any order, and the joining of two sources.

use super::intern::GAP;
use super::limits::{BuildError, BuildStats, Limits};

/// A row while building: an offset from the first code byte, and the number of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CompactRow {
    /// From [`Code::base`](super::elf::Code).
    pub(crate) offset: u32,
    /// In the [`Interner`](super::intern::Interner).
    pub(crate) rule: u32,
}

/// One function's rows among those of its source. They ascend, and the first is at `start`.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
    first: u32,
    count: u32,
}

/// Functions as they come from a section.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    spans: Vec<Span>,
    rows: Vec<CompactRow>,
    open: usize,
}

impl Functions {
    /// Begins a function; rows of one that was begun and not closed are forgotten.
    #[inline(always)]
    pub(crate) fn open(&mut self) {
        self.rows.truncate(self.open);
    }

    /// Adds a row to the open function; a row at the same offset takes the older one's place.
    #[inline(always)]
    pub(crate) fn row(&mut self, offset: u32, rule: u32) {
        if self.rows.len() > self.open
            && let Some(last) = self.rows.last_mut()
        {
            if last.rule == rule {
                return;
            }
            if last.offset == offset {
                last.rule = rule;
                return;
            }
        }
        self.rows.push(CompactRow { offset, rule });
    }

    /// Whether there are too many rows, with those of the open function: it may never be closed.
    #[inline(always)]
    pub(crate) fn check_rows(&self, limits: &Limits) -> Result<(), BuildError> {
        if self.rows.len() > limits.rows { Err(BuildError::TooManyRows { limit: limits.rows }) } else { Ok(()) }
    }

    /// Ends the open function, which covers `start..end`.
    #[inline(always)]
    pub(crate) fn close(&mut self, start: u32, end: u32, limits: &Limits) -> Result<(), BuildError> {
        self.check_rows(limits)?;
        if self.spans.len() >= limits.functions {
            return Err(BuildError::TooManyFunctions { limit: limits.functions });
        }
        let count = (self.rows.len() - self.open) as u32;
        if count > 0 && start < end {
            self.spans.push(Span { start, end, first: self.open as u32, count });
        }
        self.open = self.rows.len();
        Ok(())
    }

    /// The rows of all functions in order of address, with gaps between them.
    ///
    /// Where functions overlap, the one that starts last wins from its start on; of two with the same start, the one that
    /// came last. What the earlier one covered beyond it is lost and counted.
    ///
    /// `joins(end, start)` says whether the gap from `end` to `start` is padding that may belong to the function before it.
    pub(crate) fn into_rows(
        mut self,
        stats: &mut BuildStats,
        mut joins: impl FnMut(u32, u32) -> bool,
    ) -> Vec<CompactRow> {
        if !self.spans.is_sorted_by_key(|span| span.start) {
            self.spans.sort_by_key(|span| span.start);
        }
        let mut out = Rows { rows: Vec::with_capacity(self.rows.len().min(self.spans.len() * 16) + 1) };
        let mut previous_end = 0u32;
        for (index, span) in self.spans.iter().enumerate() {
            let next_start = self.spans.get(index + 1).map_or(u32::MAX, |next| next.start);
            let end = span.end.min(next_start);
            if end < span.end {
                stats.fdes_overlapping += 1;
            }
            if end <= span.start {
                continue;
            }
            if previous_end < span.start && !(index > 0 && joins(previous_end, span.start)) {
                out.push(previous_end, GAP);
            }
            let first = span.first as usize;
            for row in self.rows.get(first..first + span.count as usize).unwrap_or_default() {
                if row.offset >= end {
                    break;
                }
                out.push(row.offset, row.rule);
            }
            previous_end = end;
        }
        out.push(previous_end, GAP);
        out.rows
    }
}

/// Rows under construction: ascending, no two equal neighbours.
#[derive(Debug, Default)]
struct Rows {
    rows: Vec<CompactRow>,
}

impl Rows {
    /// Rows must come in ascending order; a row with the rule of the one before it adds nothing.
    #[inline(always)]
    fn push(&mut self, offset: u32, rule: u32) {
        match self.rows.last_mut() {
            Some(last) if last.rule == rule => {}
            Some(last) if last.offset >= offset => {
                last.rule = rule;
                self.join_last();
            }
            None if rule == GAP => {}
            _ => self.rows.push(CompactRow { offset, rule }),
        }
    }

    /// A replaced last row may now equal the one before it.
    fn join_last(&mut self) {
        if let [.., before, last] = self.rows.as_slice()
            && before.rule == last.rule
        {
            self.rows.pop();
        }
    }
}

/// `above`, and `below` wherever `above` has a gap.
pub(crate) fn fill(above: Vec<CompactRow>, below: Vec<CompactRow>) -> Vec<CompactRow> {
    if below.is_empty() {
        return above;
    }
    if above.is_empty() {
        return below;
    }
    let mut out = Rows { rows: Vec::with_capacity(above.len() + below.len()) };
    let (mut upper, mut lower) = (above.iter().copied().peekable(), below.iter().copied().peekable());
    let (mut upper_rule, mut lower_rule) = (GAP, GAP);
    loop {
        let offset = match (upper.peek(), lower.peek()) {
            (None, None) => return out.rows,
            (Some(row), None) | (None, Some(row)) => row.offset,
            (Some(one), Some(other)) => one.offset.min(other.offset),
        };
        while let Some(row) = upper.next_if(|row| row.offset == offset) {
            upper_rule = row.rule;
        }
        while let Some(row) = lower.next_if(|row| row.offset == offset) {
            lower_rule = row.rule;
        }
        out.push(offset, if upper_rule == GAP { lower_rule } else { upper_rule });
    }
}

/// Where `rows` say nothing: before the first one, and from each gap to the next row. `length` is the end of the code.
pub(crate) fn gaps(rows: &[CompactRow], length: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
    let leading = rows.first().map(|row| (0, row.offset)).filter(|(start, end)| start < end);
    let whole = rows.is_empty().then_some((0, length));
    let rest = rows.iter().enumerate().filter(|(_, row)| row.rule == GAP).filter_map(move |(index, row)| {
        let end = rows.get(index + 1).map_or(length, |next| next.offset);
        (row.offset < end).then_some((row.offset, end))
    });
    whole.into_iter().chain(leading).chain(rest)
}
