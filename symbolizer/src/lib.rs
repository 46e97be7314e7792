//! (executable identity, address) to frames: function names, files, lines and inlined callers.
//!
//! The measure is `llvm-symbolizer`: for the same file and address the same names, inlined chain and lines. Files are hostile
//! input: bounded in memory and time (what a parser of others would reserve is looked at first, see [`limits`]), no panic
//! reaches the caller, and everything left out is counted ([`Failure`]). A file system that does not answer holds two threads
//! for each way to it, which are replaced, and its own files; a debug file's costs its executable that debug file alone.
//!
//! The reader of DWARF and symbols is our own, over `gimli` and `object`: `examples/compare.rs` finds no difference from
//! `llvm-symbolizer` in 10,000 addresses each of two dozen programs (C++ with every debug option of GCC, Rust, C, Go, with dwz,
//! split, compressed and separate debug files), where a ready-made library named 3 % to 50 % of outermost functions otherwise.
//! Where Go's own table speaks for a stripped program, names lack only the linker's `.abi0`.
//!
//! While an executable is in use its file stays mapped; [`GuardedMapping`] installs a SIGBUS handler (chained to the one before
//! it) for files that are truncated meanwhile, at the first file mapped. Others in the process that map files use it as well.
//!
//! It does not know processes: the caller turns addresses into (executable, ELF virtual address) and subtracts one from return
//! addresses.

mod debug_file;
mod demangle;
mod dwarf;
mod dynamic;
mod elf;
mod executable;
mod frame;
mod go;
mod image;
pub mod kernel;
pub mod limits;
mod memo;
mod mini;
mod module;
mod open_file;
pub mod perf_map;
mod plt;
mod silence;
mod statistics;
mod symbolizer;
mod symbols;
mod text;
mod watch;
mod worker;
mod workers;

pub use demangle::Demangle;
pub use executable::{Content, Executable};
pub use frame::{Frame, Frames};
pub use image::{GuardedMapping, replaced_pages};
pub use open_file::{Closer, OpenFile};
pub use statistics::{Failure, Statistics};
pub use symbolizer::{Options, Request, Symbolizer};
