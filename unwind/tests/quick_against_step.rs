//! The quick walk answers as the complete step does, frame by frame, over stacks that a generator makes.

use std::collections::HashMap;

use unwind::end::End;
use unwind::rule::{CALLER_IS_EXACT, Kind, PackedRule};
use unwind::slab::{Segment, Slab};
use unwind::walk::{CACHE_ADDRESS_BITS, Memory, Quick, RuleCache, Walk, quick_step, step};

/// A generator of numbers, the same each time (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A stack whose words can't be confused, with holes where nothing can be read.
#[derive(Clone)]
struct Stack {
    words: HashMap<u64, u64>,
}

impl Memory for Stack {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.words.get(&address).copied()
    }
    fn pair(&mut self, address: u64) -> Option<(u64, u64)> {
        Some((self.word(address)?, self.word(address.wrapping_add(8))?))
    }
}

/// The rules of all code, without a limit.
#[derive(Clone, Default)]
struct Rules(HashMap<u64, PackedRule>);

impl RuleCache for Rules {
    fn get(&mut self, key: u64) -> Option<PackedRule> {
        self.0.get(&key).copied()
    }
    fn put(&mut self, key: u64, rule: PackedRule) {
        self.0.insert(key, rule);
    }
}

/// No tables: every rule is in the cache.
struct Nothing;

impl Slab for Nothing {
    fn segment(&self, _index: u32) -> Option<&Segment> {
        None
    }
}

const TAG: u64 = 5 << CACHE_ADDRESS_BITS;
const STACK: u64 = 0x7ff0_0000_0000;
const WORDS: u64 = 512;

/// A rule of any kind that a cache may hold, mostly ordinary ones.
fn rule(numbers: &mut Numbers) -> PackedRule {
    let slot = |numbers: &mut Numbers| if numbers.below(2) == 0 { 0 } else { 2 + numbers.below(6) as u8 };
    let (fp, rbx, r12) = (slot(numbers), slot(numbers), slot(numbers));
    match numbers.below(64) {
        0 => PackedRule::plain(Kind::End),
        1 => PackedRule::plain(Kind::Gap),
        2 => PackedRule::plain(Kind::Signal),
        3 => PackedRule::plain(Kind::Unsupported),
        4 => PackedRule::plt(11),
        5 => PackedRule(PackedRule::frame(Kind::Sp, 16, fp, rbx, r12).0 | CALLER_IS_EXACT),
        6..20 => PackedRule::frame(Kind::Fp, 16, 2, rbx, r12),
        _ => PackedRule::frame(Kind::Sp, 8 * (1 + numbers.below(12)), fp, rbx, r12),
    }
}

/// A stack with rules for every return address on it, and a walk at its leaf.
fn machine(seed: u64) -> (Stack, Rules, Walk) {
    let mut numbers = Numbers(seed * 2 + 1);
    let (mut words, mut rules) = (HashMap::new(), Rules::default());
    for number in 0..WORDS {
        let address = STACK + number * 8;
        let value = match numbers.below(400) {
            // A hole, a return address of zero, one that no cache key holds.
            0 => continue,
            1 => 0,
            2 => 1 << CACHE_ADDRESS_BITS | number,
            // Higher on the stack: what a saved frame pointer is like. Odd return addresses are as good as any.
            3..200 => address + 8 * (1 + numbers.below(40)),
            _ => 0x5000_0000_0000 + number * 16 + numbers.below(16),
        };
        words.insert(address, value);
        // Some are not in the cache.
        if numbers.below(200) != 0 {
            let key = TAG | (value.wrapping_sub(1) & ((1 << CACHE_ADDRESS_BITS) - 1));
            rules.0.insert(key, rule(&mut numbers));
        }
    }
    let mut registers = [0; 16];
    for (number, register) in registers.iter_mut().enumerate() {
        *register = 0x1000 + number as u64;
    }
    registers[7] = STACK + 8 * numbers.below(8);
    registers[6] = registers[7] + 8 * numbers.below(64);
    let mut walk = Walk::at_leaf(&registers, 0x5000_ffff_0000, 0);
    walk.tag = TAG;
    rules.0.insert(TAG | walk.pc, rule(&mut numbers));
    (Stack { words }, rules, walk)
}

/// A register's value as a later rule would find it: read where it was saved, if that is where it is.
fn value(stack: &mut Stack, register: u64, saved_at: u64) -> Option<u64> {
    if saved_at == 0 { Some(register) } else { stack.word(saved_at) }
}

/// Everything that the next frame depends on.
fn state(stack: &mut Stack, walk: &Walk) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (walk.pc, walk.sp, walk.exact, walk.leaf_known, walk.rule),
        value(stack, walk.fp, walk.fp_at),
        value(stack, walk.rbx, walk.rbx_at),
        value(stack, walk.r12, walk.r12_at),
        (walk.rbx_at, walk.r12_at),
    )
}

/// How often each answer was compared.
#[derive(Default, Debug)]
struct Answers {
    up: u64,
    outermost: u64,
    step: u64,
}

/// Walks one stack by both, as long as there are frames.
fn compare(seed: u64, answers: &mut Answers) {
    let (mut stack, mut rules, mut walk) = machine(seed);
    for frame in 0..200 {
        let (mut quick, mut complete) = (walk, walk);
        let answer = quick_step(&mut stack, &mut rules, &mut quick);
        let end = step(&mut stack, &Nothing, &mut rules, &mut complete);
        let what = format!("seed {seed}, frame {frame}, rule {:?}", PackedRule(complete.rule));
        match answer {
            Quick::Up => {
                assert_eq!(end, Ok(()), "{what}");
                assert_eq!(state(&mut stack, &quick), state(&mut stack, &complete), "{what}");
                answers.up += 1;
            }
            Quick::Outermost => {
                assert_eq!(end, Err(End::Complete), "{what}");
                answers.outermost += 1;
            }
            Quick::Step => {
                // What it touched on the way must not change what the complete step comes to.
                let after = step(&mut stack, &Nothing, &mut rules, &mut quick);
                assert_eq!(after, end, "{what}");
                assert_eq!(state(&mut stack, &quick), state(&mut stack, &complete), "{what}");
                answers.step += 1;
            }
        }
        if end.is_err() {
            return;
        }
        walk = complete;
    }
}

#[test]
fn where_the_quick_walk_answers_the_complete_step_gives_the_same_frame_and_registers() {
    let mut answers = Answers::default();
    for seed in 0..2000 {
        compare(seed, &mut answers);
    }
    // The stacks are the same each time, and so is how often each answer comes; without these a walk that never answers passes.
    assert!(answers.up > 5000, "{answers:?}");
    assert!(answers.outermost > 100, "{answers:?}");
    assert!(answers.step > 1000, "{answers:?}");
}

#[test]
fn an_ordinary_frame_is_answered_at_once() {
    let mut stack = Stack { words: HashMap::from([(STACK, 0x77), (STACK + 8, 0x1235)]) };
    let mut registers = [0; 16];
    registers[7] = STACK;
    let mut walk = Walk::at_leaf(&registers, 0x9000, 0);
    walk.tag = TAG;
    let mut rules = Rules(HashMap::from([(TAG | 0x9000, PackedRule::frame(Kind::Sp, 16, 2, 0, 0))]));
    assert_eq!(quick_step(&mut stack, &mut rules, &mut walk), Quick::Up);
    assert_eq!((walk.pc, walk.sp, walk.fp, walk.fp_at), (0x1235, STACK + 16, 0x77, 0));
    assert_eq!(walk.lookup_address(), 0x1234);
    let found = rules.0.get(&(TAG | 0x9000)).expect("it was put there");
    assert_eq!(walk.rule, found.0);
}
