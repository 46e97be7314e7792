//! Turn one executable's bytes into rows, and rows into the words of the slab.
//!
//! ```no_run
//! use unwind::build::{Limits, Plan, rows_of_elf};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limits = Limits::default();
//! let rows = rows_of_elf(&std::fs::read("/bin/true")?, &limits)?;
//! let plan = Plan::new(&rows, &limits)?;
//! println!("{} rows, {} words of rules", rows.len(), plan.rule_words());
//! # Ok(())
//! # }
//! ```
//!
//! **Constraint.** Input is hostile: whatever the bytes, there is no panic, time and memory are bounded by [`Limits`], and
//! everything left out is counted in [`BuildStats`] or is a [`BuildError`]. What can be made to be read more than once draws on
//! [`Limits::work`]; what is read once, such as headers, is bounded by the file's size.
//!
//! **Does not:** open files, look for separate debug files, know of load addresses.

mod bytes;
mod cfi;
mod compressed;
mod elf;
mod expression;
mod frame;
mod go_table;
mod gopclntab;
mod intern;
mod known;
mod limits;
mod names;
mod plan;
mod pointer;
mod program;
mod rows;
mod switches;
mod table;

pub use limits::{BuildError, BuildStats, Limits, MAX_SEGMENTS, Unsupported};
pub use plan::{MAX_CHUNK_WORDS, Placement, Plan, Written};
pub use rows::{ElfRows, rows_of_elf, rows_of_vdso};
