//! The executable table: each executable once per node, whatever its path or container; its file kept open, its rows built by
//! a worker when a process that maps it is first sampled.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use unwind::build::{BuildStats, Limits, Plan, rows_of_elf};

use super::early_files::EarlyFiles;
use super::identity::{FileKey, Header, read_header};
use super::mappings::{Backing, Mapping};
use crate::sampler::SamplerError;
use crate::tables::{LoadedExecutable, Tables};

/// Most executables that are known at a time; each holds a file descriptor and about 500 bytes.
pub const MAX_EXECUTABLES: usize = 16384;
/// Row builds that may wait for the worker; more are asked for again at the next sample.
const BUILD_QUEUE: usize = 1024;
/// Largest file that rows are built from; it is mapped, not read.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Into the executable table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ExecutableIndex(pub u32);

/// How far an executable's unwind rows are.
#[derive(Debug)]
pub enum RowState {
    /// Not asked for yet.
    Unbuilt,
    /// With the worker.
    Building,
    /// In the slab.
    Loaded(LoadedExecutable),
    /// The file has none, or none that could be read; why is in the text.
    None(String),
    /// The slab's budget is used up.
    Refused,
}

/// One executable.
pub struct Executable {
    /// Path as the first process that mapped it saw it.
    pub path: Arc<str>,
    /// `/proc/PID/root` of that process: debug files are looked for there first.
    pub root: Option<PathBuf>,
    /// What its head tells; `None` for the vDSO.
    pub header: Option<Header>,
    /// GNU build id, hex; empty if there is none.
    pub build_id: String,
    /// The open file; `None` for the vDSO.
    pub file: Option<Arc<File>>,
    /// Its rows.
    pub rows: RowState,
    /// Whether it is a Go program (known once its rows are built).
    pub is_go: bool,
    /// Its descriptor's word address, once a process that maps it was published.
    pub descriptor: Option<u32>,
    /// The engine's tick at which it was last sampled: the least recently sampled one is evicted first.
    pub last_sampled: u64,
    size: u64,
}

/// What could not be had, for the user to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecutableCounters {
    /// Mapped files that could not be opened (gone with their process, or no permission).
    pub not_opened: u64,
    /// Files found at the path, but not the ones that were mapped.
    pub replaced: u64,
    /// Mapped files that are not ELF.
    pub not_elf: u64,
    /// Executables left out because [`MAX_EXECUTABLES`] were known.
    pub too_many: u64,
    /// Executables without usable rows.
    pub without_rows: u64,
    /// Executables whose rows did not fit the slab's budget.
    pub refused: u64,
    /// Executables whose rows were dropped to make room.
    pub evicted: u64,
    /// Rows in the slab, ever.
    pub rows: u64,
    /// Rows with rules that can't be expressed.
    pub unsupported_rows: u64,
    /// Time spent building rows, ns.
    pub build_ns: u64,
}

/// What the worker made of one file.
pub struct Built {
    index: ExecutableIndex,
    result: Result<(Plan, BuildStats, bool), String>,
    nanoseconds: u64,
}

struct Job {
    index: ExecutableIndex,
    input: Input,
}

enum Input {
    File(Arc<File>, u64),
    Bytes(&'static [u8]),
}

/// All executables, and the worker that builds rows.
pub struct Executables {
    all: Vec<Executable>,
    by_file: HashMap<FileKey, Option<ExecutableIndex>>,
    by_identity: HashMap<[u8; 32], ExecutableIndex>,
    vdso: Option<ExecutableIndex>,
    early: EarlyFiles,
    jobs: SyncSender<Job>,
    built: Receiver<Built>,
    waiting: usize,
    /// What could not be had.
    pub counters: ExecutableCounters,
}

impl Executables {
    /// Starts the worker.
    pub fn new() -> std::io::Result<Executables> {
        let (jobs, todo) = sync_channel::<Job>(BUILD_QUEUE);
        let (done, built) = sync_channel::<Built>(BUILD_QUEUE);
        // Never joined: it ends when the queues do, and a file system that does not answer must not keep us.
        std::thread::Builder::new().name("everflame-rows".into()).spawn(move || {
            for job in todo {
                let started = std::time::Instant::now();
                let result = build(&job.input);
                let nanoseconds = started.elapsed().as_nanos() as u64;
                if done.send(Built { index: job.index, result, nanoseconds }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Executables {
            all: Vec::new(),
            by_file: HashMap::new(),
            by_identity: HashMap::new(),
            vdso: None,
            early: EarlyFiles::default(),
            jobs,
            built,
            waiting: 0,
            counters: ExecutableCounters::default(),
        })
    }

    /// The executable at `index`.
    pub fn get(&self, index: ExecutableIndex) -> Option<&Executable> {
        self.all.get(index.0 as usize)
    }

    /// Notes that it was sampled.
    pub fn touch(&mut self, index: ExecutableIndex, tick: u64) {
        if let Some(executable) = self.all.get_mut(index.0 as usize) {
            executable.last_sampled = tick;
        }
    }

    /// All, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (ExecutableIndex, &Executable)> {
        self.all.iter().enumerate().map(|(index, executable)| (ExecutableIndex(index as u32), executable))
    }

    /// Row builds that are under way.
    pub fn building(&self) -> usize {
        self.waiting
    }

    /// A record told of a mapping just made: its file is opened now, as long as the process lives.
    pub fn open_early(&mut self, proc_root: &Path, pid: u32, mapping: &Mapping, now_ns: u64) {
        if mapping.backing == Backing::File {
            self.early.open(proc_root, pid, mapping, now_ns);
        }
    }

    /// A round of the engine is over.
    pub fn end_round(&mut self, now_ns: u64) {
        self.early.end_round(now_ns);
    }

    /// The executable behind a mapping of process `pid`; `roots` are other places to look for its file, best first.
    pub fn resolve(&mut self, proc_root: &Path, pid: u32, roots: &[u32], mapping: &Mapping) -> Option<ExecutableIndex> {
        match mapping.backing {
            Backing::Vdso => return self.vdso(),
            Backing::Anonymous | Backing::Special => return None,
            Backing::File => {}
        }
        let early = self.early.find(pid, roots, mapping);
        let early = early.and_then(|(file, key)| Some((file.try_clone().ok()?, key)));
        let root = || Some(proc_root.join(format!("{pid}/root")));
        let opened = match early {
            Some((file, key)) => Some((file, key, root())),
            None => open_mapped(proc_root, pid, roots, mapping, &mut self.counters),
        };
        let Some((file, key, root)) = opened else {
            self.counters.not_opened += 1;
            return None;
        };
        self.early.is_known(mapping);
        if let Some(known) = self.by_file.get(&key) {
            return *known;
        }
        let found = self.add(file, key.size(), root, mapping);
        self.by_file.insert(key, found);
        found
    }

    fn add(&mut self, file: File, size: u64, root: Option<PathBuf>, mapping: &Mapping) -> Option<ExecutableIndex> {
        let Some(header) = read_header(&file, size) else {
            self.counters.not_elf += 1;
            return None;
        };
        if let Some(known) = self.by_identity.get(&header.identity) {
            return Some(*known);
        }
        if self.all.len() >= MAX_EXECUTABLES {
            self.counters.too_many += 1;
            return None;
        }
        let index = ExecutableIndex(self.all.len() as u32);
        self.by_identity.insert(header.identity, index);
        self.all.push(Executable {
            path: mapping.path.clone(),
            root,
            build_id: header.build_id.clone(),
            header: Some(header),
            file: Some(Arc::new(file)),
            rows: RowState::Unbuilt,
            is_go: false,
            descriptor: None,
            last_sampled: 0,
            size,
        });
        Some(index)
    }

    fn vdso(&mut self) -> Option<ExecutableIndex> {
        if self.vdso.is_none() && !super::vdso::image().is_empty() {
            self.vdso = Some(ExecutableIndex(self.all.len() as u32));
            self.all.push(Executable {
                path: "[vdso]".into(),
                root: None,
                header: None,
                build_id: String::new(),
                file: None,
                rows: RowState::Unbuilt,
                is_go: false,
                descriptor: None,
                last_sampled: 0,
                size: super::vdso::image().len() as u64,
            });
        }
        self.vdso
    }

    /// pc − ELF address for code of `mapping`: what the walk subtracts from a pc.
    pub fn bias(&self, index: ExecutableIndex, mapping: &Mapping) -> Option<u64> {
        match &self.get(index)?.header {
            Some(header) => Some(
                mapping
                    .start
                    .wrapping_sub(header.address_of_mapping(mapping.file_offset, mapping.end - mapping.start)?),
            ),
            None => Some(mapping.start),
        }
    }

    /// The descriptor of an executable, which is reserved, and its rows asked for, if this is the first time.
    pub fn descriptor(&mut self, index: ExecutableIndex, tables: &mut Tables) -> Result<u32, SamplerError> {
        let Some(executable) = self.all.get_mut(index.0 as usize) else { return Ok(0) };
        let descriptor = match executable.descriptor {
            Some(known) => known,
            None => {
                let Some(reserved) = tables.reserve_descriptor()? else {
                    self.counters.refused += 1;
                    return Ok(0);
                };
                executable.descriptor = Some(reserved);
                reserved
            }
        };
        self.ask(index);
        Ok(descriptor)
    }

    fn ask(&mut self, index: ExecutableIndex) {
        let Some(executable) = self.all.get_mut(index.0 as usize) else { return };
        if !matches!(executable.rows, RowState::Unbuilt) {
            return;
        }
        let input = match &executable.file {
            Some(file) => Input::File(file.clone(), executable.size),
            None => Input::Bytes(super::vdso::image()),
        };
        match self.jobs.try_send(Job { index, input }) {
            Ok(()) => {
                executable.rows = RowState::Building;
                self.waiting += 1;
            }
            // The next sample of it asks again.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Puts finished rows into the slab; true if there were any.
    pub fn take_built(&mut self, tables: &mut Tables) -> Result<bool, SamplerError> {
        let mut any = false;
        while let Ok(built) = self.built.try_recv() {
            self.waiting = self.waiting.saturating_sub(1);
            self.load(built, tables)?;
            any = true;
        }
        Ok(any)
    }

    /// Waits for the next finished build, but not longer than `timeout`.
    pub fn wait_built(&mut self, tables: &mut Tables, timeout: std::time::Duration) -> Result<bool, SamplerError> {
        match self.built.recv_timeout(timeout) {
            Ok(built) => {
                self.waiting = self.waiting.saturating_sub(1);
                self.load(built, tables)?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    fn load(&mut self, built: Built, tables: &mut Tables) -> Result<(), SamplerError> {
        self.counters.build_ns += built.nanoseconds;
        let index = built.index.0 as usize;
        let Some(descriptor) = self.all.get(index).and_then(|executable| executable.descriptor) else {
            return Ok(());
        };
        let state = match built.result {
            Ok((plan, stats, is_go)) => {
                self.counters.rows += stats.rows_kept;
                self.counters.unsupported_rows += stats.rows_unsupported;
                if let Some(executable) = self.all.get_mut(index) {
                    executable.is_go = is_go;
                }
                if plan.is_empty() {
                    tables.mark_without_rows(descriptor);
                    self.counters.without_rows += 1;
                    RowState::None("the file has no unwind information".into())
                } else {
                    self.place(descriptor, &plan, built.index, tables)?
                }
            }
            Err(why) => {
                tables.mark_without_rows(descriptor);
                self.counters.without_rows += 1;
                RowState::None(why)
            }
        };
        if let Some(executable) = self.all.get_mut(index) {
            executable.rows = state;
        }
        Ok(())
    }

    /// Loads a plan, evicting the least recently sampled executables until it fits.
    fn place(
        &mut self,
        descriptor: u32,
        plan: &Plan,
        keep: ExecutableIndex,
        tables: &mut Tables,
    ) -> Result<RowState, SamplerError> {
        loop {
            if let Some(loaded) = tables.load_executable(descriptor, plan)? {
                return Ok(RowState::Loaded(loaded));
            }
            let victim = self
                .all
                .iter()
                .enumerate()
                .filter(|(index, executable)| {
                    *index != keep.0 as usize && matches!(executable.rows, RowState::Loaded(_))
                })
                .min_by_key(|(_, executable)| executable.last_sampled)
                .map(|(index, _)| index);
            let Some(victim) = victim.and_then(|index| self.all.get_mut(index)) else {
                self.counters.refused += 1;
                return Ok(RowState::Refused);
            };
            if let RowState::Loaded(loaded) = std::mem::replace(&mut victim.rows, RowState::Unbuilt) {
                tables.unload_executable(loaded);
                self.counters.evicted += 1;
            }
        }
    }
}

fn build(input: &Input) -> Result<(Plan, BuildStats, bool), String> {
    let limits = Limits::default();
    let of_bytes = |bytes: &[u8]| {
        let rows = rows_of_elf(bytes, &limits).map_err(|error| error.to_string())?;
        let plan = Plan::new(&rows, &limits).map_err(|error| error.to_string())?;
        Ok((plan, rows.stats, rows.is_go))
    };
    match input {
        Input::Bytes(bytes) => of_bytes(bytes),
        Input::File(_, size) if *size > MAX_FILE_BYTES => Err(format!("the file has {size} bytes, more than 4 GiB")),
        Input::File(file, _) => crate::process::mapped_file::with_bytes(file, of_bytes)
            .map_err(|error| format!("cannot map the file: {error}"))?,
    }
}

/// Opens the very file that is mapped: through `map_files`, which reaches deleted files and other mount namespaces; when the
/// process is gone, by path in the roots of its relatives and in ours, and then only if the inode is the one that was mapped.
fn open_mapped(
    proc_root: &Path,
    pid: u32,
    roots: &[u32],
    mapping: &Mapping,
    counters: &mut ExecutableCounters,
) -> Option<(File, FileKey, Option<PathBuf>)> {
    let process = proc_root.join(pid.to_string());
    let through = process.join(format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
    if let Some((file, key)) = open_regular(&through, 0) {
        return Some((file, key, Some(process.join("root"))));
    }
    if !mapping.path.starts_with('/') {
        return None;
    }
    let relative = mapping.path.trim_start_matches('/');
    let candidates =
        std::iter::once(pid).chain(roots.iter().copied()).map(|pid| proc_root.join(pid.to_string()).join("root"));
    for root in candidates.map(Some).chain([None]) {
        let path = root.as_deref().unwrap_or(Path::new("/")).join(relative);
        let Some((file, key)) = open_regular(&path, libc::O_NOFOLLOW) else { continue };
        if mapping.inode != 0 && key.inode() != mapping.inode {
            counters.replaced += 1;
            continue;
        }
        return Some((file, key, root));
    }
    None
}

/// Opens a regular file without ever blocking on a FIFO or a device.
pub(super) fn open_regular(path: &Path, flags: i32) -> Option<(File, FileKey)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | flags)
        .open(path)
        .ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() {
        return None;
    }
    let key = FileKey::of(&file).ok()?;
    Some((file, key))
}
