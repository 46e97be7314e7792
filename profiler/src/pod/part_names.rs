//! [`PartNames`]: what pods are called in the names of their own files (`--split pod`). Free of I/O.

use std::collections::HashSet;

/// Longest part of a file's name that is made of a pod's, bytes: file systems take 255.
const MAX_PART_NAME: usize = 200;

/// Names that are given out, each once: `a/b-c` and `a-b/c` make the same one, and the second pod's file would replace the first's.
#[derive(Debug, Default)]
pub struct PartNames(HashSet<String>);

impl PartNames {
    /// A name for this text in which names from elsewhere can do no harm.
    pub fn of(&mut self, text: &str) -> String {
        let plain = file_name(text);
        let (mut name, mut number) = (plain.clone(), self.0.len());
        // With a number it may be another pod's name as it is: at most as many are taken as were given out.
        while !self.0.insert(name.clone()) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        name
    }
}

fn file_name(text: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-.".contains(letter) { letter } else { '_' };
    text.chars().map(plain).take(MAX_PART_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else_and_is_given_out_once() {
        let mut names = PartNames::default();
        for (text, expected) in [
            ("a-b-c", "a-b-c"),
            ("a-b-c-2", "a-b-c-2"),
            // Its number would make it the one before.
            ("a-b-c", "a-b-c-3"),
            ("../etc-a/b\n", ".._etc-a_b_"),
        ] {
            assert_eq!(names.of(text), expected);
        }
        assert_eq!(names.of(&"n".repeat(300)).len(), MAX_PART_NAME);
    }
}
