//! The rows of real files say what gimli says, around every boundary of either.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod machine;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EndianSlice, EvaluationResult, LittleEndian, Location, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow, Value,
};
use machine::{Caller, Frame, caller, memory, register};
use object::{Object, ObjectSection};
use unwind::build::{ElfRows, Limits, rows_of_elf, rows_of_vdso};
use unwind::rule::dwarf;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A row as gimli sees it.
struct OracleRow<'a> {
    start: u64,
    end: u64,
    is_signal: bool,
    row: UnwindTableRow<usize>,
    section: &'a EhFrame<Slice<'a>>,
}

/// All rows of `.eh_frame` by address.
fn oracle<'a>(section: &'a EhFrame<Slice<'a>>, bases: &'a BaseAddresses) -> Vec<OracleRow<'a>> {
    let mut rows = Vec::new();
    let mut context = UnwindContext::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(EhFrame::cie_from_offset).expect("real files have no malformed FDE");
        let is_signal = fde.is_signal_trampoline();
        if fde.initial_address() == 0 {
            continue;
        }
        let mut table = fde.rows(section, bases, &mut context).expect("real files have no malformed CIE");
        // gimli refuses what libgcc allows: a register for the CFA after an expression.
        while let Ok(Some(row)) = table.next_row() {
            let (start, end) = (row.start_address(), row.end_address());
            if start < end {
                rows.push(OracleRow { start, end, is_signal, row: row.clone(), section });
            }
        }
    }
    rows.sort_by_key(|row| row.start);
    rows
}

impl OracleRow<'_> {
    fn evaluate(&self, expression: UnwindExpression<usize>, pc: u64, initial: Option<u64>) -> u64 {
        let expression = expression.get(self.section).expect("gimli has validated it");
        let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
        let mut evaluation = expression.evaluation(encoding);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut state = evaluation.evaluate().expect("the expression is sound");
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register: Register(16), .. } => {
                    evaluation.resume_with_register(Value::Generic(pc)).expect("the expression is sound")
                }
                EvaluationResult::RequiresRegister { register: number, .. } => {
                    evaluation.resume_with_register(Value::Generic(register(number.0.into()))).expect("it is sound")
                }
                EvaluationResult::RequiresMemory { address, .. } => {
                    evaluation.resume_with_memory(Value::Generic(memory(address))).expect("the expression is sound")
                }
                other => panic!("an expression that unwinding does not have: {other:?}"),
            };
        }
        match evaluation.result().first().map(|piece| &piece.location) {
            Some(Location::Address { address }) => *address,
            other => panic!("an expression without a result: {other:?}"),
        }
    }

    fn has_rare_rules_for_rbx_or_r12(&self) -> bool {
        [dwarf::RBX, dwarf::R12].iter().any(|number| {
            let rule = self.row.register(Register(*number as u16));
            matches!(rule, Some(RegisterRule::Expression(_) | RegisterRule::Register(_)))
        })
    }

    fn caller(&self, pc: u64) -> Caller {
        if self.is_signal {
            return Caller::Signal;
        }
        let cfa = match self.row.cfa() {
            CfaRule::RegisterAndOffset { register: number, offset } => {
                register(number.0.into()).wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(*expression, pc, None),
        };
        let value = |number: u32| {
            Some(match self.row.register(Register(number as u16)) {
                None | Some(RegisterRule::Undefined | RegisterRule::SameValue) if number == dwarf::RA => return None,
                None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => register(number),
                Some(RegisterRule::Offset(offset)) => memory(cfa.wrapping_add_signed(offset)),
                Some(RegisterRule::ValOffset(offset)) => cfa.wrapping_add_signed(offset),
                Some(RegisterRule::Register(other)) => register(other.0.into()),
                Some(RegisterRule::Expression(expression)) => memory(self.evaluate(expression, pc, Some(cfa))),
                Some(RegisterRule::ValExpression(expression)) => self.evaluate(expression, pc, Some(cfa)),
                Some(other) => panic!("a rule that unwinding does not have: {other:?}"),
            })
        };
        let Some(return_address) = value(dwarf::RA) else { return Caller::End };
        let saved = |number: u32| value(number).expect("only the return address can be without a value");
        let sp = match self.row.register(Register(dwarf::RSP as u16)) {
            None => cfa,
            Some(_) => saved(dwarf::RSP),
        };
        Caller::Frame(Frame {
            sp,
            pc: return_address,
            fp: saved(dwarf::RBP),
            rbx: saved(dwarf::RBX),
            r12: saved(dwarf::R12),
        })
    }
}

/// How many probes said what.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    equal: u64,
    unsupported: u64,
    approximated: u64,
    gaps: u64,
    bridged: u64,
    known: u64,
}

/// Compares `rows` with gimli's around every boundary of both.
fn compare(data: &[u8], rows: &ElfRows) -> Tally {
    let file = object::File::parse(data).expect("the file is ELF");
    let section = file.section_by_name(".eh_frame").expect("the file has unwind information");
    let bytes = section.uncompressed_data().expect("the section is sound");
    let eh_frame = EhFrame::new(&bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let oracle = oracle(&eh_frame, &bases);
    let mut probes: Vec<u64> = Vec::with_capacity(oracle.len() * 6 + rows.len() * 3);
    for row in &oracle {
        probes.extend([row.start - 1, row.start, row.start + 1, row.end - 1, row.end, row.end + 1]);
    }
    for row in rows.iter() {
        probes.extend([row.address - 1, row.address, row.address + 1]);
    }
    probes.sort_unstable();
    probes.dedup();
    let mut tally = Tally::default();
    for pc in probes {
        let ours = caller(rows.lookup(pc), pc);
        let after = oracle.partition_point(|row| row.start <= pc);
        let before = after.checked_sub(1).map(|index| &oracle[index]);
        match before.filter(|row| pc < row.end) {
            Some(row) => {
                let theirs = row.caller(pc);
                if ours == Caller::Unsupported {
                    tally.unsupported += 1;
                } else if let (Caller::Frame(ours), Caller::Frame(theirs)) = (ours, theirs)
                    && ours != theirs
                    && row.has_rare_rules_for_rbx_or_r12()
                {
                    // Documented: such a row says that they are unchanged.
                    let (rbx, r12) = (register(dwarf::RBX), register(dwarf::R12));
                    assert_eq!((ours.sp, ours.pc, ours.fp), (theirs.sp, theirs.pc, theirs.fp), "at {pc:#x}");
                    assert!(ours.rbx == theirs.rbx || ours.rbx == rbx, "at {pc:#x}");
                    assert!(ours.r12 == theirs.r12 || ours.r12 == r12, "at {pc:#x}");
                    tally.approximated += 1;
                } else {
                    assert_eq!(ours, theirs, "at {pc:#x}, in gimli's row from {:#x}", row.start);
                    tally.equal += 1;
                }
            }
            None if ours == Caller::Gap => tally.gaps += 1,
            // Alignment between two functions belongs to the first.
            None if before.is_some_and(|row| oracle.get(after).is_some_and(|next| next.start - row.end <= 16)) => {
                tally.bridged += 1;
            }
            None => tally.known += 1,
        }
    }
    tally
}

/// In continuous integration (`CI` is set) nothing may be left out.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "can't be skipped in CI: {why}");
    println!("SKIPPED: {why}");
}

/// Compares one file; there must be `least` probes at least.
fn check(path: &str, least: u64) {
    let Ok(data) = std::fs::read(path) else {
        return skip(&format!("{path} is not on this machine"));
    };
    let rows = rows_of_elf(&data, &Limits::default()).expect("the file is sound");
    let tally = compare(&data, &rows);
    println!("{path}: {tally:?} {:?}", rows.stats);
    assert!(tally.equal >= least, "{path}: {tally:?}");
    assert!(tally.unsupported * 10 <= tally.equal, "{path}: {tally:?}");
}

#[test]
fn this_executable_unwinds_as_gimli_says() {
    check("/proc/self/exe", 1000);
}

#[test]
fn libc_unwinds_as_gimli_says() {
    check("/lib/x86_64-linux-gnu/libc.so.6", 1000);
}

#[test]
fn libraries_written_in_assembler_unwind_as_gimli_says() {
    check("/lib/x86_64-linux-gnu/libcrypto.so.3", 1000);
    check("/lib64/ld-linux-x86-64.so.2", 1000);
    check("/usr/bin/gcc", 1000);
}

/// `UNWIND_TEST_FILES` names more files, separated by colons.
#[test]
fn files_named_in_the_environment_unwind_as_gimli_says() {
    let files = std::env::var("UNWIND_TEST_FILES").unwrap_or_default();
    files.split(':').filter(|path| !path.is_empty()).for_each(|path| check(path, 0));
}

#[test]
fn rows_ascend_and_differ_from_their_neighbours() {
    let data = std::fs::read("/proc/self/exe").expect("every process has an executable");
    let rows: Vec<_> = rows_of_elf(&data, &Limits::default()).expect("the file is sound").iter().collect();
    assert!(rows.len() > 1000);
    for pair in rows.windows(2) {
        assert!(pair[0].address < pair[1].address, "{pair:x?}");
        assert_ne!(pair[0].rule, pair[1].rule, "{pair:x?}");
    }
    assert_eq!(rows.last().map(|row| row.rule), Some(unwind::rule::RowRule::GAP));
}

/// The vDSO's image in this process.
fn vdso() -> Option<Vec<u8>> {
    // SAFETY: getauxval only reads the auxiliary vector.
    let address = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    assert_eq!(start, address);
    // SAFETY: the mapping is readable, and the vDSO never goes away.
    Some(unsafe { std::slice::from_raw_parts(start as *const u8, (end - start) as usize) }.to_vec())
}

#[test]
fn the_vdso_unwinds_as_gimli_says() {
    let Some(image) = vdso() else {
        return skip("no vDSO in this process");
    };
    let rows = rows_of_vdso(&image).expect("the vDSO is sound");
    let tally = compare(&image, &rows);
    println!("{tally:?} {:?}", rows.stats);
    assert!(tally.equal > 20, "{tally:?}");
    assert_eq!(tally.unsupported, 0);
}
