//! Which form a profile is written in: the file's name says it.

use std::path::Path;

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// pprof in gzip: `.pb.gz`, `.pprof`.
    PprofGzip,
    /// pprof without compression: `.pb`.
    Pprof,
    /// A page that shows the flame graph, in one file: `.html`.
    Html,
    /// A flame graph as a picture: `.svg`.
    Svg,
    /// One line per stack: `.folded`, `.txt`.
    Folded,
}

/// A name whose suffix says nothing that we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}`: the form of the output follows from its suffix, which must be one of {}",
    OutputFormat::SUFFIXES.map(|(suffix, _)| suffix).join(", ")
)]
pub struct UnknownSuffix {
    /// The name as it was given.
    pub name: String,
}

impl OutputFormat {
    /// Every suffix, the first one of a form being the usual one.
    pub const SUFFIXES: [(&'static str, OutputFormat); 7] = [
        (".pb.gz", OutputFormat::PprofGzip),
        (".pprof", OutputFormat::PprofGzip),
        (".pb", OutputFormat::Pprof),
        (".html", OutputFormat::Html),
        (".svg", OutputFormat::Svg),
        (".folded", OutputFormat::Folded),
        (".txt", OutputFormat::Folded),
    ];

    /// The form that a path's name asks for, whatever its case.
    ///
    /// # Errors
    /// No suffix, or another one.
    pub fn of_path(path: &Path) -> Result<OutputFormat, UnknownSuffix> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let found = Self::SUFFIXES.iter().find(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix));
        found.map(|(_, format)| *format).ok_or_else(|| UnknownSuffix { name: path.display().to_string() })
    }

    /// What it is, in a word or two for people.
    pub fn name(self) -> &'static str {
        match self {
            OutputFormat::PprofGzip | OutputFormat::Pprof => "pprof",
            OutputFormat::Html | OutputFormat::Svg => "flame graph",
            OutputFormat::Folded => "folded stacks",
        }
    }

    /// Whether a terminal would show garbage.
    pub fn is_binary(self) -> bool {
        matches!(self, OutputFormat::PprofGzip | OutputFormat::Pprof)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::OutputFormat::{self, *};

    #[test]
    fn the_suffix_says_the_form() {
        let cases: &[(&str, Option<OutputFormat>)] = &[
            ("profile.pb.gz", Some(PprofGzip)),
            ("a/b.c/CPU.PB.GZ", Some(PprofGzip)),
            ("cpu.pprof", Some(PprofGzip)),
            ("cpu.pb", Some(Pprof)),
            ("cpu.html", Some(Html)),
            ("cpu.svg", Some(Svg)),
            ("cpu.folded", Some(Folded)),
            ("cpu.txt", Some(Folded)),
            (".svg", None),
            ("svg", None),
            ("cpu.gz", None),
            ("cpu", None),
            ("", None),
            ("..", None),
        ];
        for (path, expected) in cases {
            assert_eq!(OutputFormat::of_path(Path::new(path)).ok(), *expected, "{path:?}");
        }
    }

    #[test]
    fn an_unknown_suffix_is_answered_with_the_known_ones() {
        let error = OutputFormat::of_path(Path::new("out/cpu.png")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`out/cpu.png`: the form of the output follows from its suffix, which must be one of \
             .pb.gz, .pprof, .pb, .html, .svg, .folded, .txt"
        );
    }
}
