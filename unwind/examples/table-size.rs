//! Builds the unwind tables of the ELF files named on the command line, and prints what they cost.
//!
//! `cargo run --release -p unwind --features build --example table-size -- /usr/bin/*`
//!
//! Each file counts once (by device and inode); files that are not ELF are left out. `bytes/row` has everything in it: page
//! table, rows, rules, escape records, descriptor. Rows a second are of CPU time, with the file in memory.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use unwind::build::{BuildError, BuildStats, ElfRows, Limits, Plan, rows_of_elf};
use unwind::rule::ESCAPE_WORDS;
use unwind::slab::DESCRIPTOR_WORDS;

#[derive(Default)]
struct Total {
    files: u64,
    empty: u64,
    rows: u64,
    raw: u64,
    unsupported: u64,
    words: u64,
    time: Duration,
    refused: BTreeMap<String, u64>,
}

fn main() {
    let verbose = std::env::var_os("VERBOSE").is_some();
    let (mut total, mut seen) = (Total::default(), HashSet::new());
    println!("{:>9} {:>9} {:>6} {:>5} {:>7} {:>8} file", "rows", "raw", "rules", "B/row", "M row/s", "unsupp.");
    for path in std::env::args_os().skip(1) {
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if !metadata.is_file() || !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        let Ok(file) = std::fs::File::open(&path) else { continue };
        // SAFETY: nobody writes to the files of a package while this example measures them.
        let Ok(data) = (unsafe { memmap2::Mmap::map(&file) }) else { continue };
        if !data.starts_with(b"\x7fELF") {
            continue;
        }
        let limits = Limits::default();
        // Once to bring the pages in, so that the time is ours and not the disk's.
        let first = rows_of_elf(&data, &limits);
        let start = cpu_time();
        let built = rows_of_elf(&data, &limits);
        let time = cpu_time().saturating_sub(start);
        drop(first);
        match built.and_then(|rows| Plan::new(&rows, &limits).map(|plan| (rows, plan))) {
            Ok((rows, plan)) => total.add(&rows, &plan, time, &path.to_string_lossy(), verbose),
            Err(error) => total.refuse(error),
        }
    }
    total.print();
}

/// CPU time of this thread: what counts on a machine that does other things as well.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a valid timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Total {
    fn refuse(&mut self, error: BuildError) {
        *self.refused.entry(error.to_string()).or_default() += 1;
    }

    fn add(&mut self, rows: &ElfRows, plan: &Plan, time: Duration, path: &str, verbose: bool) {
        self.files += 1;
        if plan.is_empty() {
            self.empty += 1;
            return;
        }
        let words =
            plan.words() + u64::from(DESCRIPTOR_WORDS) + plan.escapes().count() as u64 * u64::from(ESCAPE_WORDS);
        let BuildStats { rows_kept, rows_raw, rows_unsupported, .. } = rows.stats;
        println!(
            "{rows_kept:>9} {rows_raw:>9} {:>6} {:>5.2} {:>7.1} {rows_unsupported:>8} {path}",
            plan.rule_words() / 2,
            words as f64 * 4.0 / rows_kept as f64,
            rows_kept as f64 / time.as_secs_f64() / 1e6,
        );
        if verbose {
            println!("          {:?}", rows.stats);
        }
        self.rows += rows_kept;
        self.raw += rows_raw;
        self.unsupported += rows_unsupported;
        self.words += words;
        self.time += time;
    }

    fn print(&self) {
        println!(
            "{} files ({} without rows), {} rows ({} raw), {:.3} bytes/row, {:.1} M rows/s, {} unsupported rows ({:.4} %)",
            self.files,
            self.empty,
            self.rows,
            self.raw,
            self.words as f64 * 4.0 / self.rows.max(1) as f64,
            self.rows as f64 / self.time.as_secs_f64() / 1e6,
            self.unsupported,
            self.unsupported as f64 * 100.0 / self.rows.max(1) as f64,
        );
        for (reason, files) in &self.refused {
            println!("{files} files refused: {reason}");
        }
    }
}
