//! (executable identity, address) to frames: function names, files, lines and inlined callers.
//!
//! The measure is `llvm-symbolizer`: for the same file and address the same names, inlined chain and lines. Files are hostile
//! input: bounded in memory and time, no panic reaches the caller, and everything left out is counted ([`Failure`]).
//!
//! It does not know processes: the caller turns addresses into (executable, ELF virtual address) and subtracts one from return
//! addresses.

mod debug_file;
mod demangle;
mod dwarf;
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
pub mod perf_map;
mod statistics;
mod symbolizer;
mod symbols;
mod text;
mod worker;

pub use demangle::Demangle;
pub use executable::{Content, Executable};
pub use frame::{Frame, Frames};
pub use statistics::{Failure, Statistics};
pub use symbolizer::{Options, Request, Symbolizer};
