//! A profile to a file or to standard output, in the form that the name asks for.
//!
//! `-` is standard output and takes gzipped pprof, which is what every reader of a pipe takes; a terminal gets none of it.

mod file;
mod format;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use pprof_proto::Profile;

pub use file::{check, replace};
pub use format::{OutputFormat, UnknownSuffix};

use crate::page::{self, PageError, PageOptions};
use crate::profile::pprof::{DecodeError, MAX_COMPRESSED_BYTES, decode, to_gzip, to_raw};
use crate::report::folded::{self, FoldedOptions, TooMuchText};
use crate::report::svg::{self, SvgError};
use crate::report::{StackTable, TooManyFrames};

/// The name of standard input and output.
pub const STANDARD: &str = "-";

/// Why a profile could not be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The output's name does not say a form.
    #[error(transparent)]
    Suffix(#[from] UnknownSuffix),
    /// The input can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The input.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The input is not a profile.
    #[error("{}: {source}", path.display())]
    Decode {
        /// The input.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The profile is too large for anything but pprof.
    #[error(transparent)]
    TooLarge(#[from] TooManyFrames),
    /// The folded lines are too much text.
    #[error(transparent)]
    TooMuchText(#[from] TooMuchText),
    /// The picture can't be drawn.
    #[error(transparent)]
    Svg(#[from] SvgError),
    /// The page can't be made.
    #[error(transparent)]
    Page(#[from] PageError),
    /// The profile can't be given the form that a file's name asks for.
    #[error("can't make {}: {source}", path.display())]
    Make {
        /// The output.
        path: PathBuf,
        /// Why not.
        source: Box<OutputError>,
    },
    /// Standard output is a terminal.
    #[error(
        "a profile is binary, and standard output is a terminal: name a file (such as profile.pb.gz) or use a pipe"
    )]
    Terminal,
    /// The output can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A file that can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}: {source}; {}", path.display(), advice(path, source))]
pub struct WriteError {
    /// The output as it was named.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

impl WriteError {
    fn new(path: &Path, source: io::Error) -> Self {
        WriteError { path: path.to_owned(), source }
    }
}

/// What to do about it.
fn advice(path: &Path, error: &io::Error) -> String {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.display().to_string(),
        _ => "the current folder".to_owned(),
    };
    match error.raw_os_error() {
        Some(libc::ENOENT) if path.parent().is_some_and(Path::is_dir) => {
            format!("{folder} takes no files: choose another folder")
        }
        Some(libc::ENOENT) => format!("make the folder first: mkdir -p {folder}"),
        Some(libc::ENOTDIR) => format!("{folder} is not a folder: choose another one"),
        Some(libc::EISDIR) => format!("name a file in it, such as {}", path.join("profile.pb.gz").display()),
        Some(libc::EACCES | libc::EPERM) => format!("you may not write in {folder}: choose another folder"),
        Some(libc::EROFS) => format!("{folder} is read-only: choose another folder"),
        Some(libc::ENOSPC | libc::EDQUOT) => {
            "free some space or choose another folder; an older file is as it was".to_owned()
        }
        Some(libc::EPIPE) => "the reader of the pipe has gone".to_owned(),
        Some(libc::ENAMETOOLONG) => "choose a shorter name".to_owned(),
        _ => "choose another place".to_owned(),
    }
}

/// Checks before a recording that its result can be written to `path` (`-` for standard output), and in which form.
///
/// # Errors
/// [`OutputError`]: unknown suffix, a terminal, or a place that can't be written.
pub fn prepare(path: &Path) -> Result<OutputFormat, OutputError> {
    if path == Path::new(STANDARD) {
        return if io::stdout().is_terminal() { Err(OutputError::Terminal) } else { Ok(OutputFormat::PprofGzip) };
    }
    let format = OutputFormat::of_path(path)?;
    check(path)?;
    Ok(format)
}

/// Writes a profile to `path` in the form that its suffix asks for; `-` is standard output. `title` is shown by forms for
/// people: the host, the command or the file that was profiled.
///
/// # Errors
/// [`OutputError`]; an older file of that name is then as it was.
pub fn write(profile: &Profile, path: &Path, title: &str) -> Result<(), OutputError> {
    if path == Path::new(STANDARD) {
        let mut out = io::stdout().lock();
        let is_terminal = out.is_terminal();
        return write_stream(profile, &mut out, is_terminal);
    }
    let format = OutputFormat::of_path(path)?;
    let made = match render(profile, format, title) {
        // A file that was asked for is there, and does not keep showing what was recorded before.
        Err(OutputError::Svg(SvgError::Empty)) => svg::without_samples(profile, title).map_err(OutputError::from),
        made => made,
    };
    let bytes = made.map_err(|error| OutputError::Make { path: path.to_owned(), source: Box::new(error) })?;
    replace(path, &bytes)?;
    Ok(())
}

fn write_stream(profile: &Profile, out: &mut impl Write, is_terminal: bool) -> Result<(), OutputError> {
    if is_terminal {
        return Err(OutputError::Terminal);
    }
    let written = out.write_all(&to_gzip(profile)).and_then(|()| out.flush());
    written.map_err(|error| WriteError::new(Path::new("standard output"), error).into())
}

/// The bytes of a profile in a form, with a title if the form shows one.
///
/// # Errors
/// A form that can't be made of this profile.
pub fn render(profile: &Profile, format: OutputFormat, title: &str) -> Result<Vec<u8>, OutputError> {
    match format {
        OutputFormat::PprofGzip => Ok(to_gzip(profile)),
        OutputFormat::Pprof => Ok(to_raw(profile)),
        OutputFormat::Svg => Ok(svg::render(profile, None, title)?),
        OutputFormat::Folded => {
            let table = StackTable::from_profile(profile)?;
            Ok(folded::render(&table, table.default_type, FoldedOptions::default())?.into_bytes())
        }
        OutputFormat::Html => {
            let table = StackTable::from_profile(profile)?;
            let notes = if table.samples.is_empty() { vec!["There are no samples.".to_owned()] } else { Vec::new() };
            Ok(page::render(&table, &PageOptions { title: title.to_owned(), notes })?)
        }
    }
}

/// Reads a profile from a file; `-` is standard input.
///
/// # Errors
/// [`OutputError::Read`] or [`OutputError::Decode`].
pub fn read(path: &Path) -> Result<Profile, OutputError> {
    let failed = |source| OutputError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more.
    let limit = MAX_COMPRESSED_BYTES as u64 + 1;
    if path == Path::new(STANDARD) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    decode(&bytes).map_err(|source| OutputError::Decode { path: path.to_owned(), source })
}

/// Reads a profile and writes it in the form that the output's suffix asks for.
///
/// # Errors
/// [`OutputError`]; the output's name is checked before the input is read.
pub fn convert(input: &Path, output: &Path) -> Result<(), OutputError> {
    prepare(output)?;
    let title = input.file_name().filter(|name| *name != STANDARD).map(|name| name.to_string_lossy());
    write(&read(input)?, output, &title.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::{OutputError, write_stream};
    use crate::profile::pprof::decode;
    use pprof_proto::Profile;

    fn profile() -> Profile {
        Profile { string_table: vec![String::new()], period: 5, ..Profile::default() }
    }

    #[test]
    fn a_pipe_gets_gzipped_pprof_and_a_terminal_nothing() {
        let mut out = Vec::new();
        assert!(matches!(write_stream(&profile(), &mut out, true), Err(OutputError::Terminal)));
        assert_eq!(out, b"");
        write_stream(&profile(), &mut out, false).unwrap();
        assert_eq!(decode(&out).unwrap(), profile());
    }

    #[test]
    fn a_full_device_and_a_reader_that_has_gone_are_errors() {
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(
            write_stream(&profile(), &mut full, false).unwrap_err().to_string(),
            "can't write standard output: No space left on device (os error 28); \
             free some space or choose another folder; an older file is as it was"
        );
        let (reader, mut writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(
            write_stream(&profile(), &mut writer, false).unwrap_err().to_string(),
            "can't write standard output: Broken pipe (os error 32); the reader of the pipe has gone"
        );
    }
}
