//! Linkage names to names for people: Rust (v0 and legacy) and C++ (Itanium).
//!
//! Rust names lose their hash. C++ names lose parameters, return type and clone suffix (`.cold`, `.part.0`) by default: in a flame
//! graph the template arguments tell functions apart, the parameters make them unreadable. Output is bounded, and so is recursion.

use std::fmt::{self, Write};

use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions};

use crate::limits::{MAX_DISPLAY_NAME, MAX_NAME};
use crate::text::prefix;

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

/// Nested productions followed while parsing a C++ name, and while printing it: as many as a thread's usual 2 MiB of stack
/// carry even without optimization.
const PARSE_RECURSION: u32 = 96;
const PRINT_RECURSION: u32 = 128;

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
    if !(name.starts_with("_Z") || name.starts_with("__Z")) {
        return Outcome::AsIs;
    }
    let parse = ParseOptions::default().recursion_limit(PARSE_RECURSION);
    // What follows the mangled name proper (`.cold`, `.part.0`, `.llvm.123`, `@@VERSION`) is no part of the grammar.
    let Ok((symbol, suffix)) = BorrowedSymbol::with_tail_and_options(name.as_bytes(), &parse) else {
        return Outcome::Failed;
    };
    let mut options = DemangleOptions::new().recursion_limit(PRINT_RECURSION);
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
        self.text.push_str(prefix(piece, room));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, mode: Demangle) -> String {
        match demangle(name, mode) {
            Outcome::AsIs => name.to_owned(),
            Outcome::Demangled(text) | Outcome::Cut(text) => text,
            Outcome::Failed => "failed".to_owned(),
        }
    }

    #[test]
    fn names_are_shown_as_people_expect_them() {
        for (name, without, full) in [
            ("main", "main", "main"),
            ("_start", "_start", "_start"),
            ("_GLOBAL__sub_I_x.cpp", "_GLOBAL__sub_I_x.cpp", "_GLOBAL__sub_I_x.cpp"),
            ("_ZN5space3fooEibc", "space::foo", "space::foo(int, bool, char)"),
            ("_ZN5space3fooEibc.cold", "space::foo", "space::foo(int, bool, char) [clone .cold]"),
            (
                "_ZNKSt6vectorIiSaIiEE4sizeEv",
                "std::vector<int, std::allocator<int> >::size",
                "std::vector<int, std::allocator<int> >::size() const",
            ),
            (
                "_ZSt4moveIRiEONSt16remove_referenceIT_E4typeEOS2_",
                "std::move<int&>",
                "std::remove_reference<int&>::type&& std::move<int&>(int&)",
            ),
            (
                "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE",
                "core::fmt::Write::write_fmt",
                "core::fmt::Write::write_fmt",
            ),
            (
                "_ZN4core3ptr13drop_in_place17h0123456789abcdefE.llvm.123",
                "core::ptr::drop_in_place",
                "core::ptr::drop_in_place",
            ),
            ("_RNvCs1234_7mycrate3foo", "mycrate::foo", "mycrate::foo"),
            ("_RNCNvCs1234_7mycrate3foo0B3_", "mycrate::foo::{closure#0}", "mycrate::foo::{closure#0}"),
            ("_Z", "failed", "failed"),
            ("_Zwhatever", "failed", "failed"),
        ] {
            assert_eq!(shown(name, Demangle::NoParameters), without, "{name}");
            assert_eq!(shown(name, Demangle::Full), full, "{name}");
            assert_eq!(demangle(name, Demangle::None), Outcome::AsIs, "{name}");
        }
    }

    #[test]
    fn hostile_names_cost_little() {
        let nested = format!("_Z1f{}i", "P".repeat(30_000));
        assert!(matches!(demangle(&nested, Demangle::Full), Outcome::Failed | Outcome::Demangled(_) | Outcome::Cut(_)));
        // Each template argument doubles the output of the one before it.
        let mut doubling = String::from("_Z1fI1AI1BE");
        for number in 0..16 {
            // The template and each of its instances are numbered in base 36; the last instance has this number.
            let last = std::char::from_digit(2 + 2 * number, 36).map(|digit| digit.to_ascii_uppercase()).unwrap();
            doubling.push_str(&format!("1AIS{last}_S{last}_E"));
        }
        doubling.push_str("Evv");
        match demangle(&doubling, Demangle::Full) {
            Outcome::Cut(text) => assert!(text.len() <= MAX_DISPLAY_NAME + '…'.len_utf8()),
            other => panic!("{other:?}"),
        }
        assert_eq!(demangle(&format!("_Z{}", "x".repeat(MAX_NAME)), Demangle::Full), Outcome::AsIs);
    }
}
