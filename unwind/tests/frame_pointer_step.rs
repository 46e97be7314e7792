//! Code without rows: what the frame pointer tells of the caller, and what it does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use unwind::end::{End, provenance};
use unwind::rule::{ESCAPE_WORDS, Kind, PackedRule, dwarf};
use unwind::slab::{SEGMENT_WORDS, Segment, Slab};
use unwind::walk::{Memory, RuleCache, Walk, step};

const STACK: u64 = 0x7ff0_0000_0000;
/// Code without rows, and its callers.
const JIT: u64 = 0x5000_0000_1000;
const CALLER: u64 = 0x5000_0000_2001;
const OUTER: u64 = 0x5000_0000_3001;
/// Where the escape record is.
const RECORD: u32 = 64;

struct Words(HashMap<u64, u64>);

impl Memory for Words {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.0.get(&address).copied()
    }
    fn pair(&mut self, address: u64) -> Option<(u64, u64)> {
        Some((self.word(address)?, self.word(address + 8)?))
    }
}

/// Rules by address, whatever the process.
struct Rules(Vec<(u64, PackedRule)>);

impl RuleCache for Rules {
    fn get(&mut self, key: u64) -> Option<PackedRule> {
        self.0.iter().find(|(address, _)| key & 0x7fff_ffff_ffff == *address).map(|(_, rule)| *rule)
    }
    fn put(&mut self, _key: u64, _rule: PackedRule) {}
}

/// A slab with one escape record: CFA = `register` + 0, return address at CFA − 8.
struct OneRecord(Box<Segment>);

impl OneRecord {
    fn based_on(register: u32) -> OneRecord {
        let mut words = vec![0u32; SEGMENT_WORDS];
        words[RECORD as usize..][..ESCAPE_WORDS as usize].copy_from_slice(&[register, 0, 0, 0, -8i32 as u32, 0, 0, 0]);
        OneRecord(words.into_boxed_slice().try_into().unwrap())
    }
}

impl Slab for OneRecord {
    fn segment(&self, index: u32) -> Option<&Segment> {
        (index == 0).then_some(&*self.0)
    }
}

/// A leaf without rows whose frame pointer is in order; everything around is one known mapping.
fn leaf() -> (Words, Walk) {
    let mut registers = [0; 16];
    registers[dwarf::RSP as usize] = STACK;
    registers[dwarf::RBP as usize] = STACK + 16;
    registers[dwarf::RBX as usize] = STACK + 64;
    registers[dwarf::R12 as usize] = STACK + 64;
    let mut walk = Walk::at_leaf(&registers, JIT, 0);
    walk.tag = 1 << 47;
    (walk.map_start, walk.map_bytes) = (0x5000_0000_0000, 0x10_0000);
    // The caller's rbp and the way back; where it saved rbx and r12; the frame that a base of STACK + 64 leads to.
    let words =
        [(16, STACK + 64), (24, CALLER), (32, STACK + 96), (40, STACK + 96), (48, OUTER), (56, OUTER), (88, OUTER)];
    (Words(words.map(|(at, word)| (STACK + at, word)).into()), walk)
}

#[test]
fn rbp_is_what_was_read_and_the_other_registers_are_unknown() {
    for (register, wanted) in [
        (dwarf::RBP, Ok(())),
        (dwarf::RBX, Err(End::NoRegister)),
        (dwarf::R12, Err(End::NoRegister)),
        (dwarf::RSP, Err(End::NotUp)),
    ] {
        let (mut words, mut walk) = leaf();
        let escape = PackedRule::escape(RECORD);
        let mut rules = Rules(vec![(JIT, PackedRule::plain(Kind::Gap)), (CALLER - 1, escape)]);
        let slab = OneRecord::based_on(register);
        assert_eq!(step(&mut words, &slab, &mut rules, &mut walk), Ok(()));
        assert_eq!((walk.pc, walk.sp, walk.fp, walk.fp_at), (CALLER, STACK + 32, STACK + 64, 0));
        assert_eq!((walk.rbx_at, walk.r12_at), (Walk::UNKNOWN, Walk::UNKNOWN));
        assert_eq!(walk.provenance, provenance::FRAME_POINTER.into());
        assert_eq!(step(&mut words, &slab, &mut rules, &mut walk), wanted, "register {register}");
    }
}

#[test]
fn a_register_that_a_caller_saved_is_known_again() {
    for register in [dwarf::RBX, dwarf::R12] {
        let (mut words, mut walk) = leaf();
        // The caller's frame of 24 bytes saved both, and has the outer one's address on top.
        let saves = PackedRule::frame(Kind::Sp, 24, 0, 3, 2);
        let rules =
            vec![(JIT, PackedRule::plain(Kind::Gap)), (CALLER - 1, saves), (OUTER - 1, PackedRule::escape(RECORD))];
        let mut rules = Rules(rules);
        let slab = OneRecord::based_on(register);
        for frame in 0..3 {
            assert_eq!(step(&mut words, &slab, &mut rules, &mut walk), Ok(()), "register {register}, frame {frame}");
        }
        assert_eq!((walk.pc, walk.sp), (OUTER, STACK + 96));
    }
}
