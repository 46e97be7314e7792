//! Texts from processes, pods and cgroups on their way into headers, tags and labels. All of them are hostile: cut to a bound,
//! stripped of what a wire can't carry, and counted.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::profile::beginning;

/// What was changed so that it could be sent. Shared by the encoders of all wires; only ever grows.
#[derive(Debug, Default)]
pub struct TextCounters {
    /// Texts in which characters were replaced.
    pub replaced: AtomicU64,
    /// Texts that were cut.
    pub cut: AtomicU64,
    /// Tags, labels and headers that were left out: no legal form, a name taken already, or too many.
    pub left_out: AtomicU64,
    /// Series beyond [`MAX_SERIES`](super::series::MAX_SERIES), sent under one name.
    pub folded: AtomicU64,
}

impl TextCounters {
    /// Every counter with its name.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        // Taken apart by name, so that a new counter can't be forgotten here.
        let TextCounters { replaced, cut, left_out, folded } = self;
        [("replaced", replaced), ("cut", cut), ("left_out", left_out), ("folded", folded)]
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .into()
    }

    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// As much of a text as fits into `bytes`.
    pub(super) fn cut<'text>(&self, text: &'text str, bytes: usize) -> &'text str {
        if text.len() > bytes {
            Self::count(&self.cut);
        }
        beginning(text, bytes)
    }

    /// The text with `_` for each character that `legal` refuses, cut to `bytes`.
    pub(super) fn legal<'text>(&self, text: &'text str, bytes: usize, legal: impl Fn(char) -> bool) -> Cow<'text, str> {
        let text = self.cut(text, bytes);
        if text.chars().all(&legal) {
            return Cow::Borrowed(text);
        }
        Self::count(&self.replaced);
        Cow::Owned(text.chars().map(|character| if legal(character) { character } else { '_' }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_before_it_is_searched_and_each_change_is_counted_once() {
        // (text, bytes, expected, replaced, cut)
        let cases = [
            ("fine", 10, "fine", 0, 0),
            ("a,b\nc", 10, "a_b_c", 1, 0),
            ("abcdef", 3, "abc", 0, 1),
            ("ab,\u{0}", 3, "ab_", 1, 1),
            ("é,", 1, "", 0, 1),
        ];
        for (text, bytes, expected, replaced, cut) in cases {
            let counters = TextCounters::default();
            assert_eq!(counters.legal(text, bytes, |character| character != ',' && !character.is_control()), expected);
            let counted = (counters.replaced.into_inner(), counters.cut.into_inner());
            assert_eq!(counted, (replaced, cut), "{text:?}");
        }
    }
}
