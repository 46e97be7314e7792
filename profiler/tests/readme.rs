//! README shows the same help as the program: one table makes both.

use std::path::Path;

const BEGIN: &str = "```text\n";
const END: &str = "\n```";
const MARK: &str = "<!-- help:";

/// Set to rewrite README instead of checking it.
const UPDATE: &str = "EVERFLAME_UPDATE_README";

#[test]
fn readme_and_help_are_equal() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let mark = readme.find(MARK).expect("README has a place for the help");
    let start = mark + readme[mark..].find(BEGIN).unwrap() + BEGIN.len();
    let end = start + readme[start..].find(END).unwrap();
    let help = profiler::cli::record_help();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, format!("{}{}{}", &readme[..start], help.trim_end(), &readme[end..])).unwrap();
        return;
    }
    assert_eq!(&readme[start..end], help.trim_end(), "run this test with {UPDATE}=1 and commit README.md");
}
