//! Who runs what: processes with their executable mappings over time, and the executables behind them.
//!
//! State follows perf's side-band records in the order of time; `/proc` is read for processes that were there before us, and to
//! open files. Decides which executables get unwind tables; the words themselves are `tables`' business.

mod early_files;
mod executables;
mod identity;
pub mod mapped_file;
mod mappings;
pub mod maps;
mod processes;
pub mod vdso;

pub use executables::{Built, Executable, ExecutableCounters, ExecutableIndex, Executables, MAX_EXECUTABLES, RowState};
pub use identity::{FileKey, Header, Load, build_id_of_notes, read_header};
pub use mappings::{Backing, MAX_MAPPINGS, Mapping, Mappings};
pub use processes::{MAX_PROCESSES, Process, ProcessCounters, Processes, Published, mapping_of};
