//! [`Interval`]: what was sampled between two cuts, with what its names need. It borrows nothing of the engine, so that naming and
//! shipping go on in other threads while sampling does.

use std::sync::Arc;

use symbolizer::perf_map::locate::Place;
use symbolizer::{Content, Executable as SymbolSource};

use super::account::Moment;
use super::options::EngineError;
use super::run::Engine;
use super::timers::monotonic_ns;
use crate::process::ExecutableIndex;
use crate::sampler::perf_record::KernelSymbol;
use profiles::profile::{Batch, MappingIndex};

/// Most records of kernel code that came or went that one interval keeps, about 100 bytes each; later ones are counted.
pub(super) const MAX_KERNEL_SYMBOLS: usize = 65536;

/// Most new cgroups that one interval keeps, about 200 bytes each; later ones are counted, and found by walking the tree.
pub(super) const MAX_CGROUPS: usize = 16384;

/// Samples of a period of time, unnamed, and where their names are to be found.
pub struct Interval {
    /// Samples; locations have no lines yet.
    pub batch: Batch,
    /// What stands behind each of the batch's mappings; `None` where nothing can be asked for names.
    pub code: Vec<Option<Code>>,
    /// Kernel code that came or went in this interval, in order.
    pub kernel_symbols: Vec<KernelSymbol>,
    /// cgroups that were made in this interval: id and path, as the kernel writes it.
    pub cgroups: Vec<(u64, Vec<u8>)>,
}

/// What stands behind a mapping.
#[derive(Clone, Debug)]
pub enum Code {
    /// A file that is held open, or the vDSO.
    Executable {
        /// Its content, and where its debug files may be.
        source: Arc<SymbolSource>,
        /// Whether it is a Go program.
        is_go: bool,
        /// Whether its file system did not answer a short time ago: what is not known by now is not read.
        is_silent: bool,
    },
    /// Anonymous memory of this process: code made at run time.
    RunTime {
        /// Whose.
        pid: u32,
        /// When it was made, ns, as its [`Process`](crate::process::Process) has it: a reused pid is another process.
        start_time_ns: u64,
        /// Where its perf map is, also when it has ended; `None` if it ended before that was found out.
        place: Option<Arc<Place>>,
    },
}

impl Engine {
    /// Ends the batch and begins the next one; sampling goes on. Samples that still wait for a copy or for tables, and records
    /// that are not read yet, belong to the next interval, and so do the hits that they stand for.
    pub fn cut(&mut self) -> Result<Interval, EngineError> {
        let now = self.moment()?;
        Ok(self.cut_at(now))
    }

    pub(super) fn cut_at(&mut self, now: Moment) -> Interval {
        let ledger = now.since(&self.cut_before);
        let ended_ns = monotonic_ns();
        let code = self.code_of_mappings();
        let mut batch = std::mem::take(&mut self.builder).finish(self.period_ns, ledger);
        batch.monotonic_start_ns = std::mem::replace(&mut self.interval_started_ns, ended_ns);
        batch.duration_ns = ended_ns.saturating_sub(batch.monotonic_start_ns);
        // One reading of the wall clock for the whole run would drift from it; one an interval may step back, durations don't.
        batch.wall_start_ns = super::timers::wall_ns().saturating_sub(batch.duration_ns);
        self.executable_mappings.clear();
        self.run_time_code.clear();
        self.cut_before = now;
        Interval {
            batch,
            code,
            kernel_symbols: std::mem::take(&mut self.kernel_symbols),
            cgroups: std::mem::take(&mut self.cgroups),
        }
    }

    fn code_of_mappings(&self) -> Vec<Option<Code>> {
        let mut code = vec![None; self.builder.mappings()];
        let mut put = |MappingIndex(at): MappingIndex, found: Option<Code>| {
            if let Some(slot) = code.get_mut(at as usize) {
                *slot = found;
            }
        };
        for (executable, mapping) in &self.executable_mappings {
            put(*mapping, self.code_of(*executable));
        }
        for (mapping, pid, start_time_ns, place) in self.run_time_code.iter() {
            put(mapping, Some(Code::RunTime { pid, start_time_ns, place }));
        }
        code
    }

    fn code_of(&self, index: ExecutableIndex) -> Option<Code> {
        let executable = self.executables.get(index)?;
        let content = match &executable.file {
            Some(file) => Content::File(file.clone()),
            None => Content::Bytes(crate::process::vdso::image().into()),
        };
        let source = SymbolSource {
            key: index.number(),
            content,
            path: executable.path.as_ref().into(),
            root: executable.root.upgrade(),
        };
        let is_silent = self.executables.is_silent(executable);
        Some(Code::Executable { source: Arc::new(source), is_go: executable.is_go, is_silent })
    }
}
