//! [`say`]: a line on standard error that nobody may be left to read. `eprintln!` panics where the terminal has hung up (EIO) or the
//! pipe is closed (`2>&1 | head -1`), and with it would go what the program still has to do: write files, wait for a command, delete
//! a Job.

use std::fmt::Display;
use std::io::{self, Write};

/// Says a line, which begins with the program's name, as far as somebody listens.
pub(super) fn say(text: impl Display) {
    say_to(&mut io::stderr().lock(), text);
}

fn say_to(stream: &mut impl Write, text: impl Display) {
    // In one piece, so that a command's own words do not come in between. What can't be written is lost, and nothing else.
    let _ = stream.write_all(format!("everflame: {text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_the_program_s_name_and_is_lost_where_nobody_listens() {
        let mut said = Vec::new();
        say_to(&mut said, "nothing of it");
        assert_eq!(said, b"everflame: nothing of it\n");
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        say_to(&mut writer, "nothing of it");
    }
}
