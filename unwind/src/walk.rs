//! One frame up: find the rule for a pc, apply it.
//!
//! Constraint: this source runs under the kernel's verifier, so state lives behind one pointer ([`Walk`], in per-CPU memory
//! there), searches have fixed step counts without branches, and paths that differ meet again at once.
//! It does not resolve names or touch files, and does not know what stores its frames.

use crate::end::{End, provenance};
use crate::rule::{CALLER_IS_EXACT, Kind, PackedRule, dwarf, escape_flags};
use crate::slab::{
    CHUNK_MAPPINGS, DESCRIPTOR_NOT_LOADED, MAX_CHUNKS, PAGE_SHIFT, ROOT_ENTRY_WORDS, RULE_BITS, SEGMENT_SHIFT, Segment,
    Slab, TABLE_HEADER_WORDS, double_word, less_or_equal, word,
};

/// Most user frames in one stack; deeper ones keep the leaf and end as truncated.
pub const MAX_USER_FRAMES: usize = 1024;

/// Farthest that a frame pointer may lie above the stack pointer: the usual stack limit of a thread.
pub const MAX_FRAME_POINTER_DISTANCE: u64 = 8 << 20;

/// Bits of a user address that a cache key holds; the rest is the process's tag. Addresses above (5-level paging, given only
/// to programs that ask for them) are looked up without the cache.
pub const CACHE_ADDRESS_BITS: u32 = 47;

/// "Read the target's memory": `bpf_probe_read_user` in the kernel, a copied stack or `/proc/PID/mem` in the agent.
pub trait Memory {
    /// The word at `address`, or `None` if it can't be read.
    fn word(&mut self, address: u64) -> Option<u64>;
    /// The words at `address` and `address + 8`: one read where memory is read by system or helper call.
    fn pair(&mut self, address: u64) -> Option<(u64, u64)>;
    /// The words at `cfa − 16` (only meant when `both`; else it may be anything) and `cfa − 8`. This is what every ordinary
    /// frame is read by, and each is a little higher than the one before: worth reading ahead where a read is dear.
    #[inline(always)]
    fn frame(&mut self, cfa: u64, both: bool) -> Option<(u64, u64)> {
        if both { self.pair(cfa.wrapping_sub(16)) } else { Some((0, self.word(cfa.wrapping_sub(8))?)) }
    }
}

/// Remembers the rule of a (process, pc): return addresses repeat, and this takes one cache line where the search takes five.
pub trait RuleCache {
    /// The rule stored under `key`.
    fn get(&mut self, key: u64) -> Option<PackedRule>;
    /// Stores a rule, in place of whatever shares its slot.
    fn put(&mut self, key: u64, rule: PackedRule);
}

/// No cache at all, for the agent.
pub struct NoCache;
impl RuleCache for NoCache {
    fn get(&mut self, _key: u64) -> Option<PackedRule> {
        None
    }
    fn put(&mut self, _key: u64, _rule: PackedRule) {}
}

/// Where the walk is: registers of the current frame, and the mapping that the last lookup used.
///
/// rbp, rbx and r12 are restored *lazily*: a rule gives the address where the caller's value was saved, and it is read only
/// when a later CFA needs it. Code without frame pointers then costs one read a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Program counter of the current frame.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// rbp, valid when `fp_at` is 0.
    pub fp: u64,
    /// Where rbp was saved, or 0.
    pub fp_at: u64,
    /// rbx, valid when `rbx_at` is 0.
    pub rbx: u64,
    /// Where rbx was saved, or 0.
    pub rbx_at: u64,
    /// r12, valid when `r12_at` is 0.
    pub r12: u64,
    /// Where r12 was saved, or 0.
    pub r12_at: u64,
    /// General registers of the leaf in DWARF order; which of them hold is in `leaf_known`.
    pub leaf: [u64; 16],
    /// Bit n: `leaf[n]` is the current frame's register n.
    pub leaf_known: u32,
    /// 1 if `pc` is where execution is (the leaf, a frame that a signal interrupted), 0 if it is a return address.
    pub exact: u32,
    /// Root of the process table.
    pub process: u32,
    /// How the frames were found so far: bits of [`provenance`].
    pub provenance: u32,
    /// The process's cache tag, already shifted above the address bits; 0 switches the cache off.
    pub tag: u64,
    /// Frames whose rule came out of the cache.
    pub cache_hits: u32,
    /// Descriptor of `map_*`'s executable, 0 if none.
    pub descriptor: u32,
    /// Start of the mapping that the last lookup used.
    pub map_start: u64,
    /// Its length, bytes; 0 before the first lookup.
    pub map_bytes: u64,
    /// Its bias: ELF address = pc − bias.
    pub map_bias: u64,
    /// Copied from the descriptor: page table.
    pub page_table: u32,
    /// Copied from the descriptor: number of pages.
    pub pages: u32,
    /// Copied from the descriptor: first page.
    pub first_page: u32,
    /// Copied from the descriptor: rules.
    pub rules: u32,
    /// Copied from the descriptor: flags.
    pub flags: u32,
    /// Keeps what follows aligned.
    pub padding: u32,
    /// The rule of the current frame, between finding and applying it.
    pub rule: u64,
}
const _: () = assert!(size_of::<Walk>() == 8 * 8 + 16 * 8 + 16 + 8 + 8 + 24 + 24 + 8);

impl Walk {
    /// A walk whose every field is zero; set the registers, `exact` = 1, `process` and `tag` before the first step.
    pub const ZERO: Walk = Walk {
        pc: 0,
        sp: 0,
        fp: 0,
        fp_at: 0,
        rbx: 0,
        rbx_at: 0,
        r12: 0,
        r12_at: 0,
        leaf: [0; 16],
        leaf_known: 0,
        exact: 0,
        process: 0,
        provenance: 0,
        tag: 0,
        cache_hits: 0,
        descriptor: 0,
        map_start: 0,
        map_bytes: 0,
        map_bias: 0,
        page_table: 0,
        pages: 0,
        first_page: 0,
        rules: 0,
        flags: 0,
        padding: 0,
        rule: 0,
    };

    /// A walk that starts at a leaf with these registers (DWARF order) and pc.
    pub fn at_leaf(registers: &[u64; 16], pc: u64, process: u32) -> Walk {
        Walk {
            pc,
            sp: registers[dwarf::RSP as usize],
            fp: registers[dwarf::RBP as usize],
            rbx: registers[dwarf::RBX as usize],
            r12: registers[dwarf::R12 as usize],
            leaf: *registers,
            leaf_known: 0xffff,
            exact: 1,
            process,
            ..Walk::ZERO
        }
    }

    /// The address to look up and to record: inside the call instruction for a caller, exact for an interrupted frame.
    #[inline(always)]
    pub fn lookup_address(&self) -> u64 {
        self.pc.wrapping_sub((self.exact ^ 1) as u64)
    }

    #[inline(always)]
    fn read_fp<M: Memory>(&mut self, memory: &mut M) -> Option<u64> {
        if self.fp_at != 0 {
            self.fp = memory.word(self.fp_at)?;
            self.fp_at = 0;
        }
        Some(self.fp)
    }

    #[inline(always)]
    fn enter_caller(&mut self, return_address: u64, cfa: u64) -> Result<(), End> {
        if return_address == 0 {
            return Err(End::NullReturn);
        }
        self.pc = return_address;
        self.sp = cfa;
        self.exact = 0;
        self.leaf_known = 0;
        Ok(())
    }
}

/// One frame up: on `Ok`, `walk` is the caller. On `Err`, the frame it was at is the last.
#[inline(always)]
pub fn step<M: Memory, S: Slab, C: RuleCache>(
    memory: &mut M,
    slab: &S,
    cache: &mut C,
    walk: &mut Walk,
) -> Result<(), End> {
    let address = walk.lookup_address();
    let (key, cacheable) = cache_key(walk, address);
    if let Some(rule) = cache.get(key) {
        walk.cache_hits += 1;
        walk.rule = rule.0;
    } else {
        let rule = find_rule(slab, walk, address)?;
        cache.put(key & cacheable, rule);
        walk.rule = rule.0;
    }
    // The paths meet here: read back from memory, the rule is the same unknown number to the verifier whichever way it came,
    // and it goes on once instead of once for each way. With the other joins of this file: 621,000 → 113,000 verified instructions
    // for 32 frames on 6.18.
    // SAFETY: a field of `walk`, by a reference that is valid.
    let rule = PackedRule(unsafe { core::ptr::read_volatile(&raw const walk.rule) });
    apply(memory, slab, walk, rule)
}

/// What [`quick_step`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quick {
    /// One frame up.
    Up,
    /// This was the outermost frame.
    Outermost,
    /// Nothing was done: it takes a [`step`].
    Step,
}

/// One frame up if that is easy: the rule is in the cache, its CFA lies above rsp or rbp, and the stack can be read. Most
/// frames are, and in the kernel a program with nothing but this is short to run, to load into the processor, and to verify.
///
/// The caller counts: each frame up came from a table, and each that is not left to [`step`] was a hit of the cache.
#[inline(always)]
pub fn quick_step<M: Memory, C: RuleCache>(memory: &mut M, cache: &mut C, walk: &mut Walk) -> Quick {
    let address = walk.lookup_address();
    let Some(rule) = cache.get(cache_key(walk, address).0) else {
        return Quick::Step;
    };
    let kind = rule.kind();
    // What stands above the slots is not for here either.
    if kind != Kind::Sp as u8 && kind != Kind::Fp as u8 || rule.0 >> 56 != 0 {
        return if kind == Kind::End as u8 { Quick::Outermost } else { Quick::Step };
    }
    let from_fp = less_or_equal(Kind::Fp as u64, kind as u64).wrapping_neg();
    if walk.fp_at & from_fp != 0 && walk.read_fp(memory).is_none() {
        return Quick::Step;
    }
    let cfa = (walk.sp ^ ((walk.sp ^ walk.fp) & from_fp)).wrapping_add(rule.operand() as u64 * 8);
    if cfa <= walk.sp {
        return Quick::Step;
    }
    let Some((below, return_address)) = memory.frame(cfa, rule.fp_slot() == 2) else {
        return Quick::Step;
    };
    if return_address == 0 {
        return Quick::Step;
    }
    save(walk, cfa, rule, below);
    walk.rule = rule.0;
    // It fails for a return address of zero only.
    match walk.enter_caller(return_address, cfa) {
        Ok(()) => Quick::Up,
        Err(_) => Quick::Step,
    }
}

/// The key of (process, address) in the cache, and a mask of all ones if it may be stored.
///
/// Addresses that don't fit beside the tag, and processes without one, go around the cache: a key of all ones is never stored,
/// a key of zero is never looked up. Arithmetic, for the verifier's sake.
#[inline(always)]
fn cache_key(walk: &Walk, address: u64) -> (u64, u64) {
    let cacheable = (less_or_equal(address >> CACHE_ADDRESS_BITS, 0) & less_or_equal(1, walk.tag >> 1)).wrapping_neg();
    ((walk.tag | address) | !cacheable, cacheable)
}

/// The rule for `address`: mapping, page, row, rule. Absent tables read as zero, which is a gap.
#[inline(always)]
pub fn find_rule<S: Slab>(slab: &S, walk: &mut Walk, address: u64) -> Result<PackedRule, End> {
    if address.wrapping_sub(walk.map_start) >= walk.map_bytes {
        find_mapping(slab, walk, address)?;
    }
    if walk.page_table == 0 {
        if walk.flags & DESCRIPTOR_NOT_LOADED != 0 {
            return Err(End::NoTable);
        }
        return Ok(PackedRule(0));
    }
    let elf_address = address.wrapping_sub(walk.map_bias);
    let page = (elf_address >> PAGE_SHIFT).wrapping_sub(walk.first_page as u64);
    if page >= walk.pages as u64 {
        return Ok(PackedRule(0));
    }
    let at = walk.page_table.wrapping_add(page as u32 * 2);
    let pages = slab.segment(at >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    let first = word(pages, at);
    let rows_here = word(pages, at.wrapping_add(1)) as u64;
    let rows = slab.segment(first >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    let offset = elf_address & ((1 << PAGE_SHIFT) - 1);
    let wanted = (offset << RULE_BITS) | ((1 << RULE_BITS) - 1);
    let mut low = 0u64;
    let mut stride = 1u64 << (PAGE_SHIFT - 1);
    while stride > 0 {
        let next = low + stride;
        let fits = less_or_equal(next + 1, rows_here)
            & less_or_equal(word(rows, first.wrapping_add(next as u32)) as u64, wanted);
        low += stride * fits;
        stride /= 2;
    }
    let row = word(rows, first.wrapping_add(low as u32));
    let rule_at = walk.rules.wrapping_add((row & ((1 << RULE_BITS) - 1)) * 2);
    let rules = slab.segment(rule_at >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    Ok(PackedRule(double_word(rules, rule_at)))
}

/// Largest entry of `count` whose start is at most `address`, over entries of `stride_words` words from `base` on.
#[inline(always)]
fn search_starts(segment: &Segment, base: u32, entry_words: u32, count: u64, capacity: u32, address: u64) -> u32 {
    let mut low = 0u64;
    let mut stride = capacity as u64 / 2;
    while stride > 0 {
        let next = low + stride;
        let fits = less_or_equal(next + 1, count)
            & less_or_equal(double_word(segment, base.wrapping_add(next as u32 * entry_words)), address);
        low += stride * fits;
        stride /= 2;
    }
    low as u32
}

/// Finds the executable mapping that holds `address` and keeps it, with its executable's descriptor, in `walk`.
#[inline(always)]
pub fn find_mapping<S: Slab>(slab: &S, walk: &mut Walk, address: u64) -> Result<(), End> {
    let address = address & (u64::MAX >> 1);
    let root_at = walk.process;
    let root = slab.segment(root_at >> SEGMENT_SHIFT).ok_or(End::NoProcess)?;
    let entries = root_at.wrapping_add(TABLE_HEADER_WORDS);
    let chosen = search_starts(root, entries, ROOT_ENTRY_WORDS, word(root, root_at) as u64, MAX_CHUNKS, address);
    let chunk_at = word(root, entries.wrapping_add(chosen * ROOT_ENTRY_WORDS + 2));
    let chunk = slab.segment(chunk_at >> SEGMENT_SHIFT).ok_or(End::NoProcess)?;
    let count = word(chunk, chunk_at);
    let starts = chunk_at.wrapping_add(TABLE_HEADER_WORDS);
    let index = search_starts(chunk, starts, 2, count as u64, CHUNK_MAPPINGS, address);
    let start = double_word(chunk, starts.wrapping_add(index * 2));
    let info = starts.wrapping_add(count.wrapping_mul(2)).wrapping_add(index * 4);
    let bytes = (word(chunk, info) as u64) << 12;
    if address.wrapping_sub(start) >= bytes {
        return Err(End::NoMapping);
    }
    walk.map_start = start;
    walk.map_bytes = bytes;
    walk.map_bias = double_word(chunk, info.wrapping_add(2));
    let descriptor = word(chunk, info.wrapping_add(1));
    walk.descriptor = descriptor;
    let described = slab.segment(descriptor >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    // Word 0 to 7 of segment 0 are zero for ever, so descriptor 0 needs no branch of its own.
    walk.page_table = word(described, descriptor);
    walk.pages = word(described, descriptor.wrapping_add(1));
    walk.first_page = word(described, descriptor.wrapping_add(2));
    walk.rules = word(described, descriptor.wrapping_add(3));
    walk.flags = word(described, descriptor.wrapping_add(4));
    Ok(())
}

/// Does what the rule says.
#[inline(always)]
fn apply<M: Memory, S: Slab>(memory: &mut M, slab: &S, walk: &mut Walk, rule: PackedRule) -> Result<(), End> {
    const SP: u8 = Kind::Sp as u8;
    const FP: u8 = Kind::Fp as u8;
    const PLT: u8 = Kind::Plt as u8;
    const END: u8 = Kind::End as u8;
    const SIGNAL: u8 = Kind::Signal as u8;
    const ESCAPE: u8 = Kind::Escape as u8;
    const GAP: u8 = Kind::Gap as u8;
    let kind = rule.kind();
    if kind == SP || kind == FP {
        let base = if kind == FP { walk.read_fp(memory).ok_or(End::BadRead)? } else { walk.sp };
        walk.provenance |= provenance::TABLE as u32;
        return frame(memory, walk, base.wrapping_add(rule.operand() as u64 * 8), rule);
    }
    match kind {
        END => Err(End::Complete),
        GAP => frame_pointer_step(memory, slab, walk),
        PLT => {
            let pushed = 8 + 8 * (walk.lookup_address() & 15 >= rule.operand() as u64) as u64;
            let cfa = walk.sp.wrapping_add(pushed);
            walk.provenance |= provenance::TABLE as u32;
            let return_address = memory.word(cfa.wrapping_sub(8)).ok_or(End::BadRead)?;
            walk.enter_caller(return_address, cfa)
        }
        SIGNAL => signal_frame(memory, walk),
        ESCAPE => escape_step(memory, slab, walk, rule.operand()),
        _ => Err(End::Unsupported),
    }
}

/// The common frame: return address at CFA − 8, callee-saved registers at slots below the CFA.
#[inline(always)]
fn frame<M: Memory>(memory: &mut M, walk: &mut Walk, cfa: u64, rule: PackedRule) -> Result<(), End> {
    // A wrong rule or a smashed stack must not make the walk go in circles.
    if cfa <= walk.sp {
        return Err(End::NotUp);
    }
    let return_address;
    let mut below = 0;
    if rule.fp_slot() == 2 {
        // rbp beside the return address: one read fetches both.
        (below, return_address) = memory.pair(cfa.wrapping_sub(16)).ok_or(End::BadRead)?;
    } else {
        return_address = memory.word(cfa.wrapping_sub(8)).ok_or(End::BadRead)?;
    }
    save(walk, cfa, rule, below);
    walk.enter_caller(return_address, cfa)?;
    walk.exact = (rule.0 >> CALLER_IS_EXACT.trailing_zeros()) as u32 & 1;
    Ok(())
}

/// Notes where the caller's registers are; `below` is the word under the return address, if that is rbp.
#[inline(always)]
fn save(walk: &mut Walk, cfa: u64, rule: PackedRule, below: u64) {
    let beside = less_or_equal(rule.fp_slot() ^ 2, 0).wrapping_neg();
    walk.fp ^= (walk.fp ^ below) & beside;
    walk.fp_at = saved_at(walk.fp_at, cfa, rule.fp_slot()) & !beside;
    walk.rbx_at = saved_at(walk.rbx_at, cfa, rule.rbx_slot());
    walk.r12_at = saved_at(walk.r12_at, cfa, rule.r12_slot());
}

/// Where a register is saved now: CFA − 8·slot, or where it was before if the slot is 0. Without a branch: the verifier merges
/// paths only at points at least 100 instructions apart, and each small choice before that doubles its work.
#[inline(always)]
fn saved_at(before: u64, cfa: u64, slot: u64) -> u64 {
    let mask = less_or_equal(1, slot).wrapping_neg();
    before ^ ((before ^ cfa.wrapping_sub(slot * 8)) & mask)
}

/// Code without rows: believe the frame pointer only if it is aligned, lies above sp within a stack's size, and the return
/// address beside it is in executable memory.
#[inline(always)]
fn frame_pointer_step<M: Memory, S: Slab>(memory: &mut M, slab: &S, walk: &mut Walk) -> Result<(), End> {
    let fp = walk.read_fp(memory).ok_or(End::BadRead)?;
    if fp == 0 {
        return Err(End::FramePointerZero);
    }
    if fp & 7 != 0 || fp.wrapping_sub(walk.sp) >= MAX_FRAME_POINTER_DISTANCE {
        return Err(End::NoRows);
    }
    let (caller_fp, return_address) = memory.pair(fp).ok_or(End::BadRead)?;
    if return_address == 0 {
        return Err(if caller_fp == 0 { End::FramePointerZero } else { End::NoRows });
    }
    let inside_call = return_address.wrapping_sub(1);
    if inside_call.wrapping_sub(walk.map_start) >= walk.map_bytes && find_mapping(slab, walk, inside_call).is_err() {
        return Err(End::NoRows);
    }
    walk.fp = caller_fp;
    walk.provenance |= provenance::FRAME_POINTER as u32;
    walk.enter_caller(return_address, fp.wrapping_add(16))
}

/// A signal trampoline: sp points at the `ucontext`, whose general registers begin at byte 40
/// (`struct sigcontext`, arch/x86/include/uapi/asm/sigcontext.h).
#[inline(always)]
fn signal_frame<M: Memory>(memory: &mut M, walk: &mut Walk) -> Result<(), End> {
    const R10: u64 = 40 + 2 * 8;
    const R12: u64 = 40 + 4 * 8;
    const RBP: u64 = 40 + 10 * 8;
    const RBX: u64 = 40 + 11 * 8;
    const RSP: u64 = 40 + 15 * 8;
    let context = walk.sp;
    let (sp, pc) = memory.pair(context.wrapping_add(RSP)).ok_or(End::BadRead)?;
    // GCC bases the CFA on r10 for two instructions of a realigning prologue; the other registers are not worth their reads.
    let r10 = memory.word(context.wrapping_add(R10)).ok_or(End::BadRead)?;
    walk.leaf[10] = r10;
    walk.leaf_known = 1 << 10;
    walk.fp_at = context.wrapping_add(RBP);
    walk.rbx_at = context.wrapping_add(RBX);
    walk.r12_at = context.wrapping_add(R12);
    walk.pc = pc;
    walk.sp = sp;
    walk.exact = 1;
    walk.provenance |= provenance::TABLE as u32;
    Ok(())
}

/// The rare rules: CFA behind a pointer or from another register, return address in a register.
#[inline(always)]
fn escape_step<M: Memory, S: Slab>(memory: &mut M, slab: &S, walk: &mut Walk, at: u32) -> Result<(), End> {
    let segment = slab.segment(at >> SEGMENT_SHIFT).ok_or(End::NoTable)?;
    let register = word(segment, at) & 15;
    let flags = word(segment, at.wrapping_add(1));
    let signed = |index: u32| word(segment, at.wrapping_add(index)) as i32 as i64 as u64;
    let base = if register == dwarf::RSP {
        walk.sp
    } else if register == dwarf::RBP {
        walk.read_fp(memory).ok_or(End::BadRead)?
    } else if register == dwarf::RBX {
        if walk.rbx_at != 0 { memory.word(walk.rbx_at).ok_or(End::BadRead)? } else { walk.rbx }
    } else if register == dwarf::R12 {
        if walk.r12_at != 0 { memory.word(walk.r12_at).ok_or(End::BadRead)? } else { walk.r12 }
    } else {
        leaf_register(walk, register)?
    };
    let mut cfa = base.wrapping_add(signed(2));
    if flags & escape_flags::DEREFERENCE != 0 {
        cfa = memory.word(cfa).ok_or(End::BadRead)?;
    }
    cfa = cfa.wrapping_add(signed(3));
    let return_address = if flags & escape_flags::RETURN_IN_REGISTER != 0 {
        leaf_register(walk, word(segment, at.wrapping_add(4)) & 15)?
    } else {
        // A frame that keeps its return address on the stack is higher than its callee, but for rules based on rbp: Go's stack
        // switches (runtime.systemstack, asmcgocall …) lead from one stack to another, which may lie lower.
        let switches_stack = register == dwarf::RBP && flags & escape_flags::DEREFERENCE == 0;
        if cfa <= walk.sp && !switches_stack {
            return Err(End::NotUp);
        }
        memory.word(cfa.wrapping_add(signed(4))).ok_or(End::BadRead)?
    };
    if flags & escape_flags::FP_AT_CFA != 0 {
        walk.fp_at = cfa.wrapping_add(signed(5));
    } else if flags & escape_flags::FP_AT_BASE != 0 {
        walk.fp_at = base.wrapping_add(signed(5));
    }
    if flags & escape_flags::RBX_AT_CFA != 0 {
        walk.rbx_at = cfa.wrapping_add(signed(6));
    } else if flags & escape_flags::RBX_AT_BASE != 0 {
        walk.rbx_at = base.wrapping_add(signed(6));
    }
    if flags & escape_flags::R12_AT_CFA != 0 {
        walk.r12_at = cfa.wrapping_add(signed(7));
    } else if flags & escape_flags::R12_AT_BASE != 0 {
        walk.r12_at = base.wrapping_add(signed(7));
    }
    walk.provenance |= provenance::TABLE as u32;
    walk.enter_caller(return_address, cfa)
}

#[inline(always)]
fn leaf_register(walk: &Walk, register: u32) -> Result<u64, End> {
    if (walk.leaf_known >> (register & 31)) & 1 == 0 {
        return Err(End::NoRegister);
    }
    // SAFETY: the mask bounds the index by 15, and `leaf` has 16 entries.
    Ok(unsafe { *walk.leaf.as_ptr().add(register as usize & 15) })
}

/// What to add to the address of the frame that the last step left: 1 for a signal trampoline, which is entered by a return to
/// its very first instruction, so that one byte back lies in another function. Its rows begin one byte early for that reason.
#[inline(always)]
pub fn correction(walk: &Walk) -> u64 {
    less_or_equal((walk.rule & 15) ^ Kind::Signal as u64, 0)
}

/// Walks a whole stack in the agent: hands every frame's lookup address to `emit`, leaf first, and says why it ended.
pub fn walk_all<M: Memory, S: Slab>(memory: &mut M, slab: &S, walk: &mut Walk, mut emit: impl FnMut(u64)) -> End {
    // Held back by one, since only the next step tells whether it was a trampoline.
    let mut frame = walk.lookup_address();
    for _ in 0..MAX_USER_FRAMES {
        if let Err(end) = step(memory, slab, &mut NoCache, walk) {
            emit(frame);
            return end;
        }
        emit(frame.wrapping_add(correction(walk)));
        frame = walk.lookup_address();
    }
    End::Truncated
}
