//! Unwind tables: how fast rows are built from this machine's executables, and what a row takes in the kernel.

use anyhow::{Context as _, Result, bail};
use profiler::sampler::features::Features;
use profiler::sampler::object::{Object, ObjectOptions};
use profiler::tables::{Segments, Tables};
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use unwind::build::{ElfRows, Limits, Plan, rows_of_elf};
use unwind::rule::ESCAPE_WORDS;
use unwind::slab::DESCRIPTOR_WORDS;

use crate::account::thread_cpu_time;
use crate::figures::Figures;
use crate::{first_unwind, machine};

/// Fewer distinct files do not speak for a machine.
const FEWEST_FILES: usize = 200;
/// The whole slab: as much as the kernel's maps hold, so that nothing is refused.
const SLAB_BYTES: u64 = 256 << 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folders that are searched for ELF files
    #[arg(long, value_delimiter = ',', default_values = ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/local", "/opt"])]
    folders: Vec<PathBuf>,
    /// Most files
    #[arg(long, default_value_t = 2500)]
    most: usize,
    #[command(flatten)]
    first: first_unwind::Options,
}

impl Options {
    /// What shows whether it works, in half a minute.
    pub(crate) fn quick(self) -> Options {
        Options { most: 250, first: self.first.quick(), ..self }
    }
}

const EXPLANATION: &str = "\
ELF files of this machine, each device and inode once, read into memory before. CPU time of one thread: `build` makes rows of the
file, `all` also lays them out and writes them into the kernel's maps, as the agent does. Bytes per row: what the file's tables
need; what the slab holds for them (page tables, rows, rules, escape rules, descriptors); the slab in whole segments of 4 MiB.
Aims: 8 M rows/s or more, 6 bytes or less.";

pub(crate) fn run(options: &Options) -> Result<()> {
    machine::begin("tables: rows per second and core, bytes per row", EXPLANATION);
    let files = elf_files(&options.folders, options.most);
    if files.len() < FEWEST_FILES {
        println!("WARNING: only {} files; {FEWEST_FILES} are wanted", files.len());
    }
    let mut tables = slab()?;
    let mut total = Total::default();
    for file in &files {
        total.add(file, &mut tables)?;
    }
    total.print(&tables);
    first_unwind::run(&options.first)
}

fn slab() -> Result<Tables> {
    let options = ObjectOptions {
        cgroup_controller: None,
        filter: 0,
        own_pid: 0,
        copies_per_second: 0,
        ring_bytes: 1 << 20,
        processes: 1,
        rule_cache: true,
    };
    let mut object = Object::load(&options, &Features::probe()?)?;
    Ok(Tables::new(Segments::new(object.take_segments()?), SLAB_BYTES))
}

/// ELF files below the folders, each once, in the order of their paths; links are not followed.
fn elf_files(folders: &[PathBuf], most: usize) -> Vec<PathBuf> {
    let (mut found, mut seen, mut folders) = (Vec::new(), HashSet::new(), folders.to_vec());
    folders.sort();
    folders.reverse();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let mut inner = Vec::new();
        for path in paths {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                inner.push(path);
            } else if metadata.is_file() && seen.insert((metadata.dev(), metadata.ino())) && is_elf(&path) {
                found.push(path);
                if found.len() == most {
                    return found;
                }
            }
        }
        folders.extend(inner.into_iter().rev());
    }
    found
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"\x7fELF"
}

#[derive(Default)]
struct Total {
    files: u64,
    without_rows: u64,
    refused: u64,
    rows: u64,
    raw: u64,
    words: u64,
    build: Duration,
    all: Duration,
    /// M rows a second of each file with at least 1,000 rows.
    speeds: Vec<f64>,
}

impl Total {
    fn add(&mut self, path: &Path, tables: &mut Tables) -> Result<()> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        // SAFETY: nobody writes to the files of a package while they are measured.
        let data = unsafe { memmap2::Mmap::map(&file) }.with_context(|| path.display().to_string())?;
        let limits = Limits::default();
        // Once to bring the pages in, so that the time is ours and not the disk's.
        drop(rows_of_elf(&data, &limits));
        let begin = thread_cpu_time();
        let built = rows_of_elf(&data, &limits);
        let build = thread_cpu_time() - begin;
        let planned: Result<(ElfRows, Plan), _> =
            built.and_then(|rows| Plan::new(&rows, &limits).map(|plan| (rows, plan)));
        let Ok((rows, plan)) = planned else {
            self.refused += 1;
            return Ok(());
        };
        self.files += 1;
        if plan.is_empty() {
            self.without_rows += 1;
            return Ok(());
        }
        let descriptor = tables.reserve_descriptor()?.context("the slab is full")?;
        if tables.load_executable(descriptor, &plan)?.is_none() {
            bail!("the slab is full: give --most a smaller number than {}", self.files);
        }
        let escapes = plan.escapes().count() as u64 * u64::from(ESCAPE_WORDS);
        self.words += plan.words() + u64::from(DESCRIPTOR_WORDS) + escapes;
        self.all += thread_cpu_time() - begin;
        self.build += build;
        self.rows += rows.stats.rows_kept;
        self.raw += rows.stats.rows_raw;
        if rows.stats.rows_kept >= 1000 {
            self.speeds.push(rows.stats.rows_kept as f64 / build.as_secs_f64() / 1e6);
        }
        Ok(())
    }

    fn print(self, tables: &Tables) {
        let rows = self.rows as f64;
        let speeds = Figures::new(self.speeds);
        machine::head(&[
            "files (without rows, refused)",
            "rows (raw)",
            "M rows/s build",
            "all",
            "per file ≥ 1,000 rows: least / median / most",
            "bytes/row by file",
            "in the slab",
            "in segments",
            "load",
        ]);
        println!(
            "| {} ({}, {}) | {} ({}) | **{:.1}** | {:.1} | {:.1} / {:.1} / {:.1} ({} files) | {:.3} | **{:.3}** | {:.3} | {} |",
            self.files,
            self.without_rows,
            self.refused,
            self.rows,
            self.raw,
            rows / self.build.as_secs_f64() / 1e6,
            rows / self.all.as_secs_f64() / 1e6,
            speeds.least(),
            speeds.median(),
            speeds.most(),
            speeds.count(),
            self.words as f64 * 4.0 / rows,
            tables.used_bytes() as f64 / rows,
            tables.bytes() as f64 / rows,
            machine::load(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elf_files_are_found_once_in_the_order_of_their_paths_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("b")).unwrap();
        for name in ["b/two", "one", "zero"] {
            fs::write(at(name), b"\x7fELF\x02").unwrap();
        }
        fs::write(at("text"), b"#!/bin/sh").unwrap();
        fs::write(at("short"), b"\x7fE").unwrap();
        fs::hard_link(at("one"), at("same")).unwrap();
        std::os::unix::fs::symlink(at("one"), at("link")).unwrap();
        let root = [folder.path().to_path_buf()];
        assert_eq!(elf_files(&root, 9), [at("one"), at("zero"), at("b/two")]);
        assert_eq!(elf_files(&root, 2), [at("one"), at("zero")]);
    }
}
