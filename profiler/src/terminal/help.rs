//! What `?` shows: the keys, what the columns mean, and the ledger since the start.

use super::keys::BINDINGS;
use super::state::State;
use crate::report::summary::ledger_text;
use crate::report::thousands;

/// What is not in the keys' table.
const WORDS: &[&str] = &[
    "",
    "cpu: of one CPU. self, total: of the samples shown. Enter on a function",
    "shows the call tree of the stacks that it is in.",
];

/// Calls `put` with a line's number and text, at most `height` times.
pub(super) fn draw(state: &State, height: u16, mut put: impl FnMut(u16, &str)) {
    let keys = BINDINGS.iter().map(|binding| format!("{:<17} {}", binding.keys, binding.help));
    let words = WORDS.iter().map(|words| (*words).to_owned());
    let mut since = vec!["Since the start:".to_owned(), ledger_text(&state.since_start)];
    if state.unnamed_samples > 0 {
        since.push(format!("{} samples were dropped because naming was behind.", thousands(state.unnamed_samples)));
    }
    for (y, line) in (1..height).zip(keys.chain(words).chain(since)) {
        put(y, &line);
    }
}
