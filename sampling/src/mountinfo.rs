//! How `/proc/PID/mountinfo` writes paths (proc(5)).

/// A path without its escapes: blanks, backslashes and the like are written as three octal digits. What is no escape stays.
pub(crate) fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match byte {
            Some(byte) => {
                plain.push(byte.into());
                plain += &part[3..];
            }
            None => {
                plain.push('\\');
                plain += part;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn escapes_become_what_they_stand_for_and_all_else_stays() {
        for (written, path) in [
            ("", ""),
            ("/a", "/a"),
            (r"/a\040b\011\134040", "/a b\t\\040"),
            (r"/a\9\04", r"/a\9\04"),
            (r"/ä\303\244", r"/ä\303\244"),
        ] {
            assert_eq!(unescaped(written), path, "{written}");
        }
    }
}
