//! What is for people, on standard output.

use std::io::Write as _;

/// A closed pipe (`| head`) is the reader's choice, and no error.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
