//! The same captures, two unwinders: the walk against framehop, which reads call-frame information itself, frame by frame.
//!
//! Compared are captures of registers and stack of real programs, all from one recording, also those that end early for both.
//! Where framehop gives up or guesses is counted apart, by what it says: it can't be right or wrong there.
//! `EVERFLAME_LONG=1` records a minute, with an interpreter, compilers and a run-time compiler's process, and asks the aim: of 10,000
//! captures or more 99.9 % are the same.

mod live;

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::Arc;

use fixtures::{Flavour, build_or_skip, skip};
use framehop::x86_64::{CacheX86_64, Reg, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use live::Running;
use object::{Object as _, ObjectSection as _};
use profiler::engine::{Capture, Options};
use profiler::process::{Backing, Mapping, Mappings, read_header, vdso};
use profiler_common::filter;
use unwind::end::{End, provenance};

/// So many captures that framehop finished are compared at least.
const CAPTURES: u64 = 10_000;
const CAPTURES_OF_A_SHORT_RUN: u64 = 1_000;

type Bytes = Arc<[u8]>;

/// Sections of a file, and what tells its bias.
struct Sections {
    info: ExplicitModuleSectionInfo<Bytes>,
    header: Option<profiler::process::Header>,
}

/// Every file once.
#[derive(Default)]
struct Files {
    known: HashMap<Arc<str>, Option<Sections>>,
}

impl Files {
    fn sections(&mut self, mapping: &Mapping) -> Option<&Sections> {
        self.known.entry(mapping.path.clone()).or_insert_with(|| read_sections(mapping)).as_ref()
    }

    /// An unwinder for a process; its anonymous memory is in no module.
    fn unwinder(&mut self, mappings: &Mappings) -> UnwinderX86_64<Bytes> {
        let mut unwinder = UnwinderX86_64::new();
        for mapping in mappings.iter() {
            if !matches!(mapping.backing, Backing::File | Backing::Vdso) {
                continue;
            }
            let Some(sections) = self.sections(mapping) else { continue };
            let in_file = match &sections.header {
                Some(header) => header.address_of_mapping(mapping.file_offset, mapping.end - mapping.start),
                None => Some(0),
            };
            let Some(address) = in_file else { continue };
            let base = mapping.start.wrapping_sub(address);
            unwinder.add_module(Module::new(
                mapping.path.to_string(),
                mapping.start..mapping.end,
                base,
                clone(&sections.info),
            ));
        }
        unwinder
    }
}

fn clone(info: &ExplicitModuleSectionInfo<Bytes>) -> ExplicitModuleSectionInfo<Bytes> {
    ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: info.text_svma.clone(),
        text: info.text.clone(),
        got_svma: info.got_svma.clone(),
        eh_frame_svma: info.eh_frame_svma.clone(),
        eh_frame: info.eh_frame.clone(),
        eh_frame_hdr_svma: info.eh_frame_hdr_svma.clone(),
        eh_frame_hdr: info.eh_frame_hdr.clone(),
        debug_frame: info.debug_frame.clone(),
        ..Default::default()
    }
}

fn read_sections(mapping: &Mapping) -> Option<Sections> {
    let (bytes, header) = if mapping.backing == Backing::Vdso {
        (vdso::image().to_vec(), None)
    } else {
        let file = std::fs::File::open(&*mapping.path).ok()?;
        let size = file.metadata().ok()?.len();
        (std::fs::read(&*mapping.path).ok()?, Some(read_header(&file, size)?))
    };
    let elf = object::File::parse(&*bytes).ok()?;
    let range = |name: &str| {
        let section = elf.section_by_name(name)?;
        Some(section.address()..section.address() + section.size())
    };
    let data = |name: &str| -> Option<Bytes> {
        let section = elf.section_by_name(name)?;
        section.uncompressed_data().ok().map(|data| data.as_ref().into())
    };
    let info = ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: range(".text"),
        text: data(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        eh_frame: data(".eh_frame"),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        debug_frame: data(".debug_frame"),
        ..Default::default()
    };
    Some(Sections { info, header })
}

/// Lookup addresses, leaf first, and how it ended.
fn unwind_again(
    unwinder: &UnwinderX86_64<Bytes>,
    cache: &mut CacheX86_64,
    capture: &Capture,
) -> (Vec<u64>, Result<(), framehop::Error>) {
    const DWARF_ORDER: [Reg; 16] = [
        Reg::RAX,
        Reg::RDX,
        Reg::RCX,
        Reg::RBX,
        Reg::RSI,
        Reg::RDI,
        Reg::RBP,
        Reg::RSP,
        Reg::R8,
        Reg::R9,
        Reg::R10,
        Reg::R11,
        Reg::R12,
        Reg::R13,
        Reg::R14,
        Reg::R15,
    ];
    let copy = &capture.copy;
    let sp = copy.registers[7];
    let mut registers = UnwindRegsX86_64::new(copy.pc, sp, copy.registers[6]);
    for (register, value) in DWARF_ORDER.into_iter().zip(copy.registers) {
        registers.set(register, value);
    }
    let mut read = |address: u64| {
        let at = usize::try_from(address.checked_sub(sp).ok_or(())?).map_err(|_| ())?;
        let word = copy.stack.get(at..at.checked_add(8).ok_or(())?).ok_or(())?;
        Ok(u64::from_le_bytes(word.try_into().map_err(|_| ())?))
    };
    let mut frames = Vec::new();
    let mut iterator = unwinder.iter_frames(copy.pc, registers, cache, &mut read);
    loop {
        match iterator.next() {
            Ok(Some(FrameAddress::InstructionPointer(address))) => frames.push(address),
            Ok(Some(FrameAddress::ReturnAddress(address))) => frames.push(address.get() - 1),
            Ok(None) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        }
        if frames.len() >= unwind::walk::MAX_USER_FRAMES {
            return (frames, Ok(()));
        }
    }
}

/// An interrupted frame's address is exact; framehop subtracts one from every address but the leaf's.
fn same_place(ours: u64, theirs: u64) -> bool {
    ours == theirs || ours == theirs + 1
}

/// Whether framehop says itself that it could not go on where ours did, or went to where no code is: it has no rule for a CFA
/// from another register or from a double indirection (realigned stacks), and none for the entries of threads and of Go.
fn gave_up(capture: &Capture, theirs: &[u64], end: Result<(), framehop::Error>) -> bool {
    let in_a_circle = theirs.windows(2).any(|two| two[0] == two[1]) && theirs.len() > capture.agent.0.len();
    let in_nothing = theirs.iter().any(|address| capture.mappings.find(*address).is_none());
    in_nothing || in_a_circle || matches!(end, Err(error) if !matches!(error, framehop::Error::CouldNotReadStack(_)))
}

/// How two walks of one capture compare.
fn class(capture: &Capture, theirs: &[u64], their_end: Result<(), framehop::Error>) -> String {
    let (ours, our_end) = &capture.agent;
    let same = ours.iter().zip(theirs).take_while(|(ours, theirs)| same_place(**ours, **theirs)).count();
    let where_at = |address: Option<&u64>| {
        let found = address.and_then(|address| capture.mappings.find(*address).map(|(_, mapping)| (address, mapping)));
        found.map_or("nothing".to_owned(), |(address, mapping)| {
            let name = mapping.path.rsplit('/').next().unwrap_or("");
            if name.is_empty() {
                "anonymous memory".to_owned()
            } else {
                format!("{name}+{:#x}", address - mapping.start + mapping.file_offset)
            }
        })
    };
    if same == ours.len() && same == theirs.len() {
        return "same".to_owned();
    }
    let end = match their_end {
        Ok(()) => "end".to_owned(),
        Err(framehop::Error::CouldNotReadStack(_)) => "unreadable".to_owned(),
        Err(error) => error.to_string(),
    };
    let at = where_at(ours.get(same.saturating_sub(1)));
    if same == theirs.len() {
        format!("ours goes on ({}) where framehop says {end}: above {at}", our_end.name())
    } else if same == ours.len() {
        format!("framehop goes on ({end}) where ours says {}: above {at}", our_end.name())
    } else {
        format!(
            "another caller ({}/{end}) of {at}: ours {} theirs {}",
            our_end.name(),
            where_at(ours.get(same)),
            where_at(theirs.get(same))
        )
    }
}

fn programs() -> Vec<Running> {
    let mut wanted: Vec<(&str, Flavour, &[&str])> = vec![
        ("chain", Flavour::OmitFp, &[]),
        ("recursion", Flavour::OmitFp, &["100", "600"]),
        ("realigned", Flavour::OmitFp, &[]),
        ("exceptions", Flavour::OmitFp, &[]),
        ("generics", Flavour::OmitFp, &[]),
        ("goroutines", Flavour::Static, &[]),
        ("plt", Flavour::OmitFp, &[]),
        ("vdso", Flavour::OmitFp, &[]),
    ];
    if live::long() {
        wanted.push(("exceptions", Flavour::StaticPie, &[]));
        wanted.push(("generics", Flavour::Static, &[]));
        wanted.push(("plugin", Flavour::OmitFp, &[]));
        wanted.push(("syscalls", Flavour::Static, &[]));
    }
    let files: Vec<_> = wanted.iter().map(|(name, flavour, _)| build_or_skip(name, *flavour)).collect();
    let start = |((.., arguments), file): (&(&str, Flavour, &[&str]), Option<_>)| {
        let file: std::path::PathBuf = file?;
        Some(Running::fixture(&file, arguments))
    };
    wanted.iter().zip(files).filter_map(start).collect()
}

const PYTHON: &str = "import json\nwhile True: json.loads(json.dumps([{'a': i, 'b': str(i)} for i in range(1000)]))";
const COMPILE: &str = "while :; do echo '#include <regex>\nint main(){std::regex r(\"a*b\");return r.mark_count();}' | c++ -O2 -xc++ -c -o /dev/null -; done";

/// Programs that nobody built for the test; those that are not installed are left out, and it is said.
fn big_programs() -> Vec<Running> {
    // What has to be there, what is run, and its words.
    let commands: [(&str, &str, &[&str]); 4] = [
        ("python3", "python3", &["-c", PYTHON]),
        ("c++", "sh", &["-c", COMPILE]),
        (
            "rustc",
            "sh",
            &[
                "-c",
                "while :; do echo 'fn main(){let v:Vec<u32>=(0..9).collect();println!(\"{:?}\",v)}' | rustc -O -o /dev/null - 2>/dev/null; done",
            ],
        ),
        ("node", "node", &["-e", "for(;;) JSON.parse(JSON.stringify([...Array(1000).keys()].map(i=>({a:i,b:''+i}))))"]),
    ];
    let start = |(needed, program, words): (&str, &str, &[&str])| {
        let is_there = Command::new("which").arg(needed).output().is_ok_and(|done| done.status.success());
        if !is_there {
            skip(format_args!("{needed} is not installed"));
        }
        is_there.then(|| Running::start_silent(Command::new(program).args(words)))
    };
    commands.into_iter().filter_map(start).collect()
}

#[test]
#[ignore = "profiles the whole machine as root: cargo xtask test runs it, one at a time"]
fn framehop_finds_the_same_frames_in_the_same_captures() {
    let _alone = live::alone();
    let mut running = programs();
    let mut options = Options {
        frequency_hz: 999,
        filter: filter::COPY_ALL,
        verify: true,
        keep_captures: 100_000,
        ..Options::default()
    };
    if live::long() {
        running.extend(big_programs());
    }
    // Trees, not pids: the compilers start others.
    for running in &running {
        options.target.follow(running.pid());
    }
    let Some(mut engine) = live::engine(options) else { return };
    live::record_while(&mut engine, live::seconds(4, 60), |_| true);
    let recording = engine.finish().unwrap();
    drop(running);

    let mut files = Files::default();
    let mut unwinders: Vec<(Arc<Mappings>, UnwinderX86_64<Bytes>, CacheX86_64)> = Vec::new();
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    let mut given_up: BTreeMap<String, u64> = BTreeMap::new();
    let (mut compared, mut same, mut guessed, mut gave_up_count) = (0_u64, 0_u64, 0_u64, 0_u64);
    for capture in &recording.captures {
        let (ours, our_end) = &capture.agent;
        if ours.is_empty() || matches!(our_end, End::NoUser | End::Compat) {
            continue;
        }
        // Neither has rows for code like that: both guess, by the frame pointer.
        if capture.provenance & provenance::FRAME_POINTER != 0 {
            guessed += 1;
            continue;
        }
        let known = unwinders.iter().position(|(mappings, ..)| **mappings == *capture.mappings);
        let at = known.unwrap_or_else(|| {
            unwinders.push((capture.mappings.clone(), files.unwinder(&capture.mappings), CacheX86_64::new()));
            unwinders.len() - 1
        });
        let (_, unwinder, cache) = &mut unwinders[at];
        let (theirs, end) = unwind_again(unwinder, cache, capture);
        compared += 1;
        match class(capture, &theirs, end) {
            class if class == "same" => same += 1,
            _ if gave_up(capture, &theirs, end) => {
                gave_up_count += 1;
                *given_up.entry(class(capture, &theirs, end)).or_default() += 1;
            }
            class => *classes.entry(class).or_default() += 1,
        }
    }
    let share = 100.0 * same as f64 / compared.max(1) as f64;
    println!(
        "{compared} captures unwound twice: {same} the same ({share:.3} %); {guessed} more through code without rows, by frame pointer"
    );
    println!("framehop gave up or left the code in {gave_up_count} of the others:");
    for (what, classes) in [("gave up", given_up), ("differs", classes)] {
        let mut worst: Vec<_> = classes.into_iter().collect();
        worst.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (class, count) in worst.iter().take(30) {
            println!("    {count:>6} {what}: {class}");
        }
    }
    let counters = &recording.counters;
    println!(
        "kernel and agent: {} the same, {} different, {} deeper than the copy",
        counters.verified_same, counters.verified_different, counters.verified_cut
    );
    let mut differ: BTreeMap<String, u64> = BTreeMap::new();
    for capture in &recording.captures {
        let ((kernel, kernel_end), (agent, agent_end)) = (&capture.kernel, &capture.agent);
        if !kernel_end.worth_a_copy() && (kernel, kernel_end) != (agent, agent_end) && *agent_end != End::BadRead {
            let same = kernel.iter().zip(agent).take_while(|(one, other)| one == other).count();
            let at = agent.get(same.saturating_sub(1)).and_then(|address| {
                let (_, mapping) = capture.mappings.find(*address)?;
                Some(format!("{}+{:#x}", mapping.path, address - mapping.start + mapping.file_offset))
            });
            let class = format!(
                "{} {} / {} {} after {same} at {at:?}",
                kernel.len(),
                kernel_end.name(),
                agent.len(),
                agent_end.name()
            );
            *differ.entry(class).or_default() += 1;
        }
    }
    for (class, count) in differ.iter().take(40) {
        println!("    {count:>6} kernel/agent {class}");
    }
    assert_eq!(counters.verified_different, 0, "the kernel's walk and the agent's are the same code");
    let judged = compared - gave_up_count;
    println!("of {judged} that framehop finished: {:.3} % the same", 100.0 * same as f64 / judged.max(1) as f64);
    let wanted = if live::long() { CAPTURES } else { CAPTURES_OF_A_SHORT_RUN };
    assert!(judged >= wanted, "too few captures to say anything: {judged}, not {wanted}");
    // A short run has some 3,000 captures, of which a handful are of framehop's own kind of trouble.
    let allowed_per_mille = if live::long() { 1 } else { 10 };
    assert!((judged - same) * 1000 <= judged * allowed_per_mille, "too few are the same: {same} of {judged}");
}
