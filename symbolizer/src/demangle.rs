//! Linkage names to names for people: Rust (v0 and legacy) and C++ (Itanium).
//!
//! Rust names lose their hash. C++ names lose parameters and return type by default: in a flame graph the template arguments
//! tell functions apart, the parameters make them unreadable. Output is bounded, and so is recursion.

use std::fmt::{self, Write};

use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions};

use crate::limits::{MAX_DISPLAY_NAME, MAX_NAME};

/// How names are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Demangle {
    /// As the linker knows them.
    None,
    /// Whole signatures.
    Full,
    /// C++ without parameters and return types; Rust as with `Full`.
    #[default]
    NoParameters,
}

/// What became of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to demangle.
    AsIs,
    Demangled(String),
    /// Demangled, but longer than [`MAX_DISPLAY_NAME`]: cut, with `…` at the end.
    Cut(String),
    /// It looks mangled, but could not be demangled within the limits.
    Failed,
}

/// Nested productions followed in a C++ name.
const RECURSION: u32 = 192;

/// Demangles `name`.
pub(crate) fn demangle(name: &str, mode: Demangle) -> Outcome {
    if mode == Demangle::None || name.len() > MAX_NAME {
        return Outcome::AsIs;
    }
    if (name.starts_with("_R") || name.starts_with("_ZN"))
        && let Ok(symbol) = rustc_demangle::try_demangle(name)
    {
        return render(|writer| write!(writer, "{symbol:#}"));
    }
    if !(name.starts_with("_Z") || name.starts_with("__Z") || name.starts_with("_GLOBAL_")) {
        return Outcome::AsIs;
    }
    let parse = ParseOptions::default().recursion_limit(RECURSION);
    // What follows the mangled name proper (`.cold`, `.part.0`, `.llvm.123`, `@@VERSION`) is no part of the grammar.
    let Ok((symbol, suffix)) = BorrowedSymbol::with_tail_and_options(name.as_bytes(), &parse) else {
        return Outcome::Failed;
    };
    let mut options = DemangleOptions::new().recursion_limit(RECURSION);
    if mode == Demangle::NoParameters {
        options = options.no_params().no_return_type();
    }
    let suffix = String::from_utf8_lossy(suffix);
    render(|writer| {
        symbol.structured_demangle(writer, &options)?;
        if suffix.is_empty() { Ok(()) } else { write!(writer, " [{suffix}]") }
    })
}

/// Text up to a bound.
struct Bounded {
    text: String,
    full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = MAX_DISPLAY_NAME - self.text.len();
        if piece.len() <= room {
            self.text.push_str(piece);
            return Ok(());
        }
        let end = piece.floor_char_boundary(room);
        self.text.push_str(&piece[..end]);
        self.full = true;
        Err(fmt::Error)
    }
}

fn render(write: impl FnOnce(&mut Bounded) -> fmt::Result) -> Outcome {
    let mut bounded = Bounded { text: String::new(), full: false };
    let result = write(&mut bounded);
    match result {
        _ if bounded.full => {
            bounded.text.push('…');
            Outcome::Cut(bounded.text)
        }
        Ok(()) if bounded.text.is_empty() => Outcome::Failed,
        Ok(()) => Outcome::Demangled(bounded.text),
        Err(_) => Outcome::Failed,
    }
}
