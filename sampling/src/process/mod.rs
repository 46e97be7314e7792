//! Who runs what: processes with their executable mappings over time, and the executables behind them.
//!
//! State follows perf's side-band records in the order of time; `/proc` is read for processes that were there before us, and to
//! open files. Decides which executables get unwind tables; the words themselves are `tables`' business.

mod asked_files;
mod busy;
mod closing;
mod early_files;
mod eviction;
mod executable;
mod executables;
mod forget;
mod identity;
mod leaderless;
pub mod mapped_file;
mod mappings;
pub mod maps;
mod mount_list;
mod mounts;
mod one_process;
mod opening;
#[cfg(test)]
mod patience;
mod proc_files;
mod processes;
mod readings;
mod rescan;
mod roots;
mod row_builders;
mod rows;
mod slots;
mod snapshot;
pub mod vdso;
mod workers;
#[cfg(test)]
mod workers_tests;

pub use busy::Busy;
pub use executable::{Executable, ExecutableCounters, ExecutableIndex, Retry, RowState};
pub use executables::{Executables, Finished, MAX_EXECUTABLES};
pub use identity::{FileKey, Header, Load, build_id_of_notes, read_header};
pub use mappings::{Backing, MAX_MAPPINGS, Mapping, Mappings};
pub use one_process::{Process, Published};
pub use processes::{MAX_PROCESSES, ProcessCounters, Processes, mapping_of};
pub use snapshot::{Resolution, Resolved, Snapshot};
