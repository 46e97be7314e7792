//! [`shown`]: a text of somebody else in a line for people. Names come from perf maps, symbols, processes and profiles of other tools:
//! none of them may move the terminal's cursor, break a line or turn the direction of writing.
//!
//! JSON and the page escape by themselves and get names as they are.

use std::borrow::Cow;

/// Stands for what is not shown.
const INSTEAD: char = '?';

/// The text with `?` for everything that does more than being read.
pub fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|letter| if is_harmless(letter) { letter } else { INSTEAD }).collect()
}

/// Neither a control character nor one that changes the direction of writing, has no width or is none at all.
fn is_harmless(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
pub(super) mod tests {
    use super::shown;

    /// Clears the screen, breaks the line, turns the direction of writing, sets the window's title.
    pub(crate) const HOSTILE: &str = "a\x1b[2Jb\nc\r\u{202e}d\u{9b}0m\x1b]0;e\x07";

    #[test]
    fn what_does_more_than_being_read_becomes_a_question_mark() {
        for (text, expected) in [
            ("std::vec<é, 日本>::push@plt", "std::vec<é, 日本>::push@plt"),
            (HOSTILE, "a?[2Jb?c??d?0m?]0;e?"),
            ("a\u{200b}b\u{2028}\u{feff}\t\u{7f}\u{ffff}", "a?b?????"),
            // What stands for bytes that were no UTF-8.
            ("a\u{fffd}", "a\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
