//! Names for an interval's samples: every distinct location once, by executable, never by process.
//!
//! [`Namer`] lives as long as the agent: what it read for one interval serves the next. What can't be named keeps its mapping,
//! build id and address; missing kernel symbols or perf maps cost names, never samples. It runs on a thread of its own, since
//! other people's files may take their time, and none of them is touched by that thread itself: the symbolizer's workers read
//! executables, debug files and perf maps. A file system that falls silent costs a wait or two, and its own files' names.

mod functions;
mod kernel;
mod run_time;

use hashbrown::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use symbolizer::{Request, Symbolizer};

use crate::engine::{Code, Interval};
use functions::Functions;
use kernel::Kernel;
use profiles::profile::{LocationKind, MappingIndex};
use run_time::RunTimeCode;

/// How a finished recording is symbolized: nobody samples meanwhile, so files may take their time on a busy machine.
pub fn unhurried() -> symbolizer::Options {
    symbolizer::Options {
        wait: Duration::from_secs(120),
        file_time_limit: Duration::from_secs(60),
        ..symbolizer::Options::default()
    }
}

/// Gives names to intervals, one after the other.
pub struct Namer {
    symbolizer: Symbolizer,
    kernel: Kernel,
    run_time: RunTimeCode,
}

impl Namer {
    /// Starts the symbolizer's threads; `/proc` is at `proc_root`.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn new(options: symbolizer::Options, proc_root: &Path) -> std::io::Result<Namer> {
        Ok(Namer {
            symbolizer: Symbolizer::new(options)?,
            kernel: Kernel::new(proc_root),
            run_time: RunTimeCode::default(),
        })
    }

    /// Fills in the lines of every location that has a name.
    pub fn name(&mut self, interval: &mut Interval) {
        let mut functions = Functions::default();
        self.name_executables(interval, &mut functions);
        self.run_time.name(interval, &self.symbolizer, &mut functions);
        self.kernel.name(&mut interval.batch, &interval.kernel_symbols, &mut functions);
    }

    /// What the symbolizer counted.
    pub fn statistics(&self) -> symbolizer::Statistics {
        let mut statistics = self.symbolizer.statistics();
        self.run_time.count_into(&mut statistics);
        statistics
    }

    /// Bytes that perf maps take now.
    pub fn perf_map_bytes(&self) -> u64 {
        self.run_time.bytes() as u64
    }

    fn name_executables(&self, interval: &mut Interval, functions: &mut Functions) {
        let Interval { batch, code, .. } = interval;
        let mut by_mapping: HashMap<MappingIndex, Vec<usize>> = HashMap::new();
        for (number, location) in batch.locations.iter_mut().enumerate() {
            let Some(mapping) = location.mapping else { continue };
            if let Some(Some(Code::Executable { is_go, .. })) = code.get(mapping.0 as usize) {
                by_mapping.entry(mapping).or_default().push(number);
                if *is_go {
                    location.kind = LocationKind::Go;
                }
            }
        }
        let mut wanted: Vec<(MappingIndex, Vec<usize>)> = by_mapping.into_iter().collect();
        wanted.sort_unstable_by_key(|(mapping, _)| *mapping);
        for (mapping, locations) in wanted {
            let Some(Some(Code::Executable { source, is_silent, .. })) = code.get(mapping.0 as usize) else { continue };
            let addresses = locations.iter().map(|number| batch.locations[*number].address).collect();
            let request = Request { executable: Arc::clone(source), addresses };
            let found = match is_silent {
                true => self.symbolizer.remembered(&request),
                false => self.symbolizer.symbolize(&[request]).into_iter().flatten().collect(),
            };
            for (number, frames) in locations.into_iter().zip(found) {
                let lines = frames.iter().map(|frame| functions.line_of(batch, frame)).collect();
                batch.locations[number].lines = lines;
            }
        }
    }
}
