//! [`Module`]: everything parsed of one executable, and the order in which its sources of names are asked.
//!
//! As `llvm-symbolizer` does: debug information gives the inlined chain, files and lines; the symbol table has the last word on
//! the name of the outermost function. Go's own table speaks where there is no debug information, and mini debug information
//! or the debug file's symbols where the executable's table is silent.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::debug_file::{Lookup, Supplementary};
use crate::demangle::Demangle;
use crate::dwarf::{Context, DebugInformation, DwarfFile, Loaded};
use crate::elf::{self, DecompressionBudget};
use crate::executable::Executable;
use crate::frame::{Frame, Frames};
use crate::go::GoTable;
use crate::image::Image;
use crate::limits::{Deadline, TimeUp};
use crate::mini;
use crate::plt::{Stubs, Target};
use crate::statistics::{self, Counters, Failure};
use crate::symbols::SymbolIndex;
use crate::text::{TextStore, Texts};
use crate::watch::Watch;

/// What parsing needs to know.
pub(crate) struct Setup<'s> {
    pub(crate) debug_directories: &'s [PathBuf],
    pub(crate) demangle: Demangle,
    pub(crate) inlined: bool,
    pub(crate) counters: &'s Counters,
    pub(crate) watch: &'s Watch,
}

/// One executable's sources of names.
#[derive(Debug)]
pub(crate) struct Module {
    image: Arc<Image>,
    code: Vec<Range<u64>>,
    symbols: SymbolIndex,
    /// Symbols from elsewhere: mini debug information, the debug file.
    more_symbols: Vec<(Arc<Image>, SymbolIndex)>,
    stubs: Stubs,
    debug: Option<DebugInformation>,
    go: Option<GoTable>,
    texts: TextStore,
}

impl Module {
    /// Opens an executable; `Err` if it can have no names at all.
    pub(crate) fn open(executable: &Executable, setup: &Setup<'_>, deadline: &Deadline) -> Result<Self, Failure> {
        let image = Arc::new(Image::of(&executable.content).map_err(|_| Failure::Unreadable)?);
        let file = object::File::parse(&**image).map_err(|_| Failure::NotElf)?;
        let code = elf::executable_ranges(&file);
        let symbols = SymbolIndex::build(&file, deadline).map_err(|TimeUp| Failure::TimeLimit)?;
        if symbols.cut {
            setup.counters.fail(Failure::TooManySymbols);
        }
        let stubs = Stubs::load(&file, &image, deadline).map_err(|TimeUp| Failure::TimeLimit)?;
        if stubs.cut {
            setup.counters.fail(Failure::TooManyStubs);
        }
        let mut more_symbols = Vec::new();
        let mut budget = DecompressionBudget::default();
        if let Some(found) = mini::load(&file, &image, &mut budget, deadline, setup.counters) {
            more_symbols.push(found);
        }
        let debug = match debug_information(executable, &image, &file, &mut more_symbols, &mut budget, setup, deadline)
        {
            Ok(debug) => debug,
            Err(failure) => {
                setup.counters.fail(failure);
                None
            }
        };
        let go = GoTable::load(&file, &image, deadline, setup.counters).map_err(|TimeUp| Failure::TimeLimit)?;
        if image.damaged() {
            return Err(Failure::Truncated);
        }
        let nameless = symbols.is_empty() && more_symbols.is_empty() && stubs.is_empty();
        if nameless && debug.is_none() && go.is_none() {
            return Err(Failure::NoSymbols);
        }
        Ok(Self { image: image.clone(), code, symbols, more_symbols, stubs, debug, go, texts: TextStore::default() })
    }

    /// Frames for each address (ascending, each once).
    pub(crate) fn symbolize(
        &mut self,
        executable: &Executable,
        addresses: &[u64],
        setup: &Setup<'_>,
        deadline: &Deadline,
    ) -> Result<Vec<Frames>, Failure> {
        let Self { image, code, symbols, more_symbols, stubs, debug, go, texts } = self;
        let Ok(file) = object::File::parse(&***image) else { return Err(Failure::NotElf) };
        let mut texts = Texts::new(texts, setup.demangle, setup.counters);
        let Setup { inlined, counters, watch, .. } = *setup;
        let context = Context { executable, code, deadline, counters, watch, inlined };
        let mut described = match debug.as_mut().map(|debug| debug.frames(addresses, &mut texts, &context)) {
            Some(Ok(frames)) => frames,
            Some(Err(error)) => {
                // From here on the file is known by its symbols only: a second try would cost as much as the first.
                *debug = None;
                error.count(setup.counters);
                vec![Vec::new(); addresses.len()]
            }
            None => vec![Vec::new(); addresses.len()],
        };
        for (address, frames) in addresses.iter().zip(&mut described) {
            if frames.is_empty()
                && let Some(table) = &*go
            {
                *frames = table
                    .frames(image, *address, setup.inlined, &mut texts, deadline)
                    .map_err(|TimeUp| Failure::TimeLimit)?;
                if !frames.is_empty() {
                    continue;
                }
            }
            name_outermost(*address, frames, &file, symbols, more_symbols, &mut texts);
            if frames.is_empty() {
                frames.extend(stub(*address, &file, symbols, stubs, &mut texts));
            }
        }
        let damaged = image.damaged()
            || debug.as_ref().is_some_and(DebugInformation::damaged)
            || more_symbols.iter().any(|(image, _)| image.damaged());
        if damaged { Err(Failure::Truncated) } else { Ok(described.into_iter().map(Frames::from).collect()) }
    }

    /// Heap bytes, about.
    pub(crate) fn weight(&self) -> usize {
        self.symbols.weight()
            + self.stubs.weight()
            + self.more_symbols.iter().map(|(_, symbols)| symbols.weight()).sum::<usize>()
            + self.debug.as_ref().map_or(0, DebugInformation::weight)
            + self.texts.weight()
    }

    /// Drops what can be had again cheaply.
    pub(crate) fn shrink(&mut self) {
        self.texts = TextStore::default();
        if let Some(debug) = &mut self.debug {
            debug.shrink();
        }
    }

    /// Gives touched pages back.
    pub(crate) fn release(&self) {
        self.image.release();
        self.more_symbols.iter().for_each(|(image, _)| image.release());
        if let Some(debug) = &self.debug {
            debug.release();
        }
    }
}

/// The debug information in the executable, or in its debug file (whose symbols are then added to `more_symbols`).
fn debug_information(
    executable: &Executable,
    image: &Arc<Image>,
    file: &object::File<'_>,
    more_symbols: &mut Vec<(Arc<Image>, SymbolIndex)>,
    budget: &mut DecompressionBudget,
    setup: &Setup<'_>,
    deadline: &Deadline,
) -> Result<Option<DebugInformation>, Failure> {
    let lookup = Lookup::with_directories(executable, setup.counters, setup.watch, setup.debug_directories);
    if let Some(main) = Loaded::load(image, file, budget).map_err(|_| Failure::Decompression)? {
        return Ok(Some(with_supplementary(main, file, image, &executable.path, &lookup, budget, setup)));
    }
    let Some(found) = lookup.debug_file(file, deadline).map_err(|TimeUp| Failure::TimeLimit)? else { return Ok(None) };
    let debug_file = object::File::parse(&**found.image).map_err(|_| Failure::DebugFileUnreadable)?;
    statistics::add(&setup.counters.debug_files);
    let symbols = SymbolIndex::build(&debug_file, deadline).map_err(|TimeUp| Failure::TimeLimit)?;
    if !symbols.is_empty() {
        more_symbols.push((found.image.clone(), symbols));
    }
    let main = Loaded::load(&found.image, &debug_file, budget).map_err(|_| Failure::Decompression)?;
    Ok(main.map(|main| with_supplementary(main, &debug_file, &found.image, &found.path, &lookup, budget, setup)))
}

fn with_supplementary(
    main: Loaded,
    file: &object::File<'_>,
    image: &Arc<Image>,
    path: &std::path::Path,
    lookup: &Lookup<'_>,
    budget: &mut DecompressionBudget,
    setup: &Setup<'_>,
) -> DebugInformation {
    let supplementary = Supplementary::of(file, image).and_then(|link| {
        let image = lookup.supplementary(&link, path)?;
        let file = object::File::parse(&**image).ok()?;
        Loaded::load(&image, &file, budget).inspect_err(|_| setup.counters.fail(Failure::Decompression)).ok().flatten()
    });
    DebugInformation::new(DwarfFile { main, supplementary })
}

/// Lets the symbol tables name the outermost function.
fn name_outermost(
    address: u64,
    frames: &mut Vec<Frame>,
    file: &object::File<'_>,
    symbols: &SymbolIndex,
    more_symbols: &[(Arc<Image>, SymbolIndex)],
    texts: &mut Texts<'_>,
) {
    let found = symbols.find(file, address);
    if let Some(found) = found {
        let named = texts.frame(found.name, 0);
        match frames.last_mut() {
            Some(outermost) => {
                outermost.function = named.function;
                outermost.linkage_name = named.linkage_name;
                if outermost.file.is_none() {
                    outermost.file = found.file.map(|file| texts.text(file));
                }
            }
            None => frames.push(Frame { file: found.file.map(|file| texts.text(file)), ..named }),
        }
        return;
    }
    if frames.last().is_some_and(|outermost| !outermost.linkage_name.is_empty()) {
        return;
    }
    let elsewhere = more_symbols.iter().find_map(|(image, symbols)| {
        let file = object::File::parse(&***image).ok()?;
        Some(texts.frame(symbols.find(&file, address)?.name, 0))
    });
    match (elsewhere, frames.last_mut()) {
        (Some(named), Some(outermost)) => {
            outermost.function = named.function;
            outermost.linkage_name = named.linkage_name;
        }
        (Some(named), None) => frames.push(named),
        // A place without a name is no frame.
        (None, Some(_)) => frames.clear(),
        (None, None) => {}
    }
}

/// The frame of a stub of the procedure linkage table.
fn stub(
    address: u64,
    file: &object::File<'_>,
    symbols: &SymbolIndex,
    stubs: &Stubs,
    texts: &mut Texts<'_>,
) -> Option<Frame> {
    match stubs.find(address)? {
        target @ Target::Symbol(_) => Some(texts.stub_frame(target.symbol(file)?)),
        Target::ChosenBy(function) => Some(match symbols.find(file, function) {
            Some(found) => texts.stub_frame(found.name),
            None => texts.stub_frame(format!("*ABS*+{function:#x}").as_bytes()),
        }),
    }
}
