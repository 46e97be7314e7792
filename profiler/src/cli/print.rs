//! What is for people, on standard output: written whole, or the command fails.

use std::io::{self, ErrorKind, Write};

use anyhow::Context as _;

/// Writes to standard output.
pub(super) fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    print_to(&mut io::stdout().lock(), "standard output", text)
}

/// Writes to one of the two streams, which is called `name`.
pub(super) fn print_to(stream: &mut impl Write, name: &'static str, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let result = stream.write_all(text.as_ref()).and_then(|()| stream.flush());
    written(result).with_context(|| format!("cannot write to {name}"))
}

/// A closed pipe (`| head`) is the reader's choice; whatever else kept the text from being written is an error.
pub(super) fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_device_is_one() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        print_to(&mut writer, "standard output", "x").unwrap();
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = print_to(&mut full, "standard output", "x").unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot write to standard output: No space left"), "{error:#}");
        // What is only buffered is not written.
        let error = print_to(&mut io::BufWriter::new(full), "standard output", "x").unwrap_err();
        assert!(format!("{error:#}").contains("No space left"), "{error:#}");
    }
}
