//! [`Files`]: what a recording leaves: its files, its lines for people, and an exit code. What fails is said and costs nothing but
//! itself: whatever can be written is written.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::say::say;
use crate::output;

/// What was written, and whether something failed.
#[derive(Default)]
pub(super) struct Files {
    failed: bool,
    written: Vec<String>,
}

impl Files {
    /// Says what failed.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        say(super::sentence(error));
        self.failed = true;
    }

    /// What there is, or nothing after saying why.
    pub(super) fn checked<T, E: Into<anyhow::Error>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fail(&error.into())).ok()
    }

    /// Writes one.
    pub(super) fn write(&mut self, profile: &pprof_proto::Profile, path: &Path, title: &str) {
        if self.checked(output::write(profile, path, title)).is_some() {
            self.written.push(describe(path));
        }
    }

    /// A line that names them.
    pub(super) fn text(&self) -> String {
        if self.written.is_empty() { String::new() } else { format!("wrote {}\n", self.written.join(" and ")) }
    }

    /// Says something to people: on standard output, unless a profile goes there.
    pub(super) fn say(&mut self, outputs: &[PathBuf], text: &str) {
        if has_standard_output(outputs) {
            self.say_beside(text);
        } else {
            self.checked(super::print::print(text));
        }
    }

    /// Says it on standard error: standard output is somebody else's.
    pub(super) fn say_beside(&mut self, text: &str) {
        let said = super::print::print_to(&mut std::io::stderr().lock(), "standard error", text);
        self.checked(said);
    }

    /// Whether something failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// That of the command that was profiled if it failed, else whether we did.
    pub(super) fn exit_code(&self, of_command: ExitCode) -> ExitCode {
        if self.failed && of_command == ExitCode::SUCCESS { ExitCode::FAILURE } else { of_command }
    }
}

/// Whether standard output is taken by a profile.
pub(super) fn has_standard_output(outputs: &[PathBuf]) -> bool {
    outputs.iter().any(|path| path == Path::new(output::STANDARD))
}

/// `cpu.pb.gz` of a part: `cpu-PART.pb.gz`.
pub(super) fn beside(path: &Path, part: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let suffixes = output::OutputFormat::SUFFIXES.iter().map(|(suffix, _)| suffix);
    let suffix = suffixes.filter(|suffix| lower.ends_with(**suffix)).map(|suffix| suffix.len()).max().unwrap_or(0);
    let (stem, suffix) = name.split_at(name.len() - suffix);
    path.with_file_name(format!("{stem}-{part}{suffix}"))
}

fn describe(path: &Path) -> String {
    let name = path.display();
    if path == Path::new(output::STANDARD) {
        return "standard output (pprof)".to_owned();
    }
    match output::OutputFormat::of_path(path) {
        Ok(format) => format!("{name} ({})", format.name()),
        Err(_) => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_s_file_keeps_folder_and_suffix() {
        for (path, expected) in [
            ("cpu.html", "cpu-a.html"),
            ("/x/cpu.pb.gz", "/x/cpu-a.pb.gz"),
            ("CPU.PB.GZ", "CPU-a.PB.GZ"),
            ("../a.b/é.svg", "../a.b/é-a.svg"),
        ] {
            assert_eq!(beside(Path::new(path), "a"), PathBuf::from(expected));
        }
    }

    #[test]
    fn a_command_s_own_failure_goes_before_ours() {
        let (fine, mut failed) = (Files::default(), Files::default());
        failed.fail(&anyhow::anyhow!("a test's"));
        for (files, own, expected) in [(&fine, 0, 0), (&fine, 7, 7), (&failed, 0, 1), (&failed, 7, 7)] {
            assert_eq!(files.exit_code(ExitCode::from(own)), ExitCode::from(expected), "{own}");
        }
    }
}
