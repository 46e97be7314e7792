//! [`StackTable`]: a profile as plain tables, the one form that every view (page, SVG, folded lines, top) starts from.
//!
//! Made from any pprof profile, ours or another's, CPU or heap. Names are made ready for showing here, once: an unsymbolized
//! place becomes `[unknown] libfoo.so+0x1234`. Nothing is merged beyond exact equality and nothing is sorted away: the order
//! of samples is that of the profile. Views merge frames by [`Frame::function`], since a function called from two lines is
//! two frames.
//!
//! ```text
//! samples[i] ──► stack ──► frames (root first) ──► functions ──► strings
//!      └───────► owner (process and thread), values by sample type
//! ```

use super::shown::shown;
use crate::profile::LocationKind;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default)]
        pub struct $name(pub u32);
    };
}
index!(/** Into [`StackTable::strings`]; 0 is the empty text. */ TextId);
index!(/** Into [`StackTable::functions`]. */ FunctionId);
index!(/** Into [`StackTable::frames`]. */ FrameId);
index!(/** Into [`StackTable::stacks`]. */ StackId);
index!(/** Into [`StackTable::owners`]. */ OwnerId);

/// A profile as plain tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackTable {
    /// Every text once; the first one is empty.
    pub strings: Vec<String>,
    /// Every function once: what a flame graph's box stands for.
    pub functions: Vec<TableFunction>,
    /// Every (function, line, inlined or not) once: two addresses on one line are one frame.
    pub frames: Vec<Frame>,
    /// Every stack once, frames **root first**. May be empty (a sample without a stack).
    pub stacks: Vec<Vec<FrameId>>,
    /// Every process and thread once; empty if the profile has no such labels.
    pub owners: Vec<Owner>,
    /// Stacks with their values, in the profile's order.
    pub samples: Vec<StackSample>,
    /// What the values mean: as many as each sample has.
    pub sample_types: Vec<SampleType>,
    /// Which of `sample_types` to show first.
    pub default_type: usize,
    /// Wall clock at the start, ns since the Unix epoch; 0 if unknown.
    pub time_ns: i64,
    /// Length, ns; 0 if unknown.
    pub duration_ns: i64,
    /// Events (ns for a CPU profile) between two samples; 0 if unknown.
    pub period: i64,
    /// The profile's comments; ours carry the ledger.
    pub comments: Vec<String>,
    /// Basename of the main binary's path; empty if there is none.
    pub main_binary: TextId,
    /// Stacks that were cut because they expand to more than [`MAX_STACK_FRAMES`] frames; their leaf side is kept.
    pub cut_stacks: u64,
}

/// What a value means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleType {
    /// Such as `cpu`, `inuse_space`.
    pub name: String,
    /// Such as `nanoseconds`, `bytes`, `count`.
    pub unit: String,
}

/// A function for showing. Two functions are the same when all fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableFunction {
    /// Never empty: the demangled name, or `[unknown] basename+0xaddress`, or a marker such as `[truncated]`.
    pub name: TextId,
    /// Source file; empty if unknown.
    pub file: TextId,
    /// Line on which it starts; 0 if unknown.
    pub start_line: i64,
    /// Basename of the executable; empty if there is none.
    pub mapping: TextId,
    /// What sort of code.
    pub kind: LocationKind,
    /// Whether a name was known: `false` for `[unknown] …`.
    pub named: bool,
}

/// One level of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Which function.
    pub function: FunctionId,
    /// Source line in it (of the call, or of the sample for the leaf); 0 if unknown.
    pub line: i64,
    /// Whether it was inlined into the frame on its root side.
    pub inlined: bool,
}

/// Who a sample belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Process id; 0 if unknown.
    pub pid: i64,
    /// Name of the process; empty if unknown.
    pub process: TextId,
    /// Thread id; 0 if unknown.
    pub tid: i64,
    /// Name of the thread; empty if unknown.
    pub thread: TextId,
}

/// A stack with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSample {
    /// Which stack.
    pub stack: StackId,
    /// Whose; `None` if the profile does not say.
    pub owner: Option<OwnerId>,
    /// Why the stack is not complete, such as `bad_read` (our label `unwind`); empty if it is, or if the profile does not say.
    pub unwind: TextId,
    /// One value for each of [`StackTable::sample_types`]. May be negative in a difference of two profiles.
    pub values: Vec<i64>,
}

/// A sample type that the profile does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the profile has no sample type `{wanted}`; it has: {available}")]
pub struct UnknownSampleType {
    /// What was asked for.
    pub wanted: String,
    /// What there is, joined by commas.
    pub available: String,
}

/// Frames that one stack may have after expanding inlined ones. Ours have at most 1,024 places.
pub const MAX_STACK_FRAMES: usize = 16 * 1024;

impl StackTable {
    /// The text at `id`; empty for an index that is not from this table.
    pub fn text(&self, id: TextId) -> &str {
        self.strings.get(id.0 as usize).map_or("", |text| text)
    }

    /// The function of a frame; `None` for an index that is not from this table.
    pub fn function_of(&self, frame: FrameId) -> Option<&TableFunction> {
        let frame = self.frames.get(frame.0 as usize)?;
        self.functions.get(frame.function.0 as usize)
    }

    /// The name of a frame's function.
    pub fn name_of(&self, frame: FrameId) -> &str {
        self.function_of(frame).map_or("", |function| self.text(function.name))
    }

    /// The frames of a stack, root first.
    pub fn frames_of(&self, stack: StackId) -> &[FrameId] {
        self.stacks.get(stack.0 as usize).map_or(&[], |frames| frames)
    }

    /// Which sample type is called `name`.
    pub fn sample_type(&self, name: &str) -> Option<usize> {
        self.sample_types.iter().position(|sample_type| sample_type.name == name)
    }

    /// Which sample type to show: the one called `wanted`, or the default one.
    ///
    /// # Errors
    /// The profile has none of that name.
    pub fn choose(&self, wanted: Option<&str>) -> Result<usize, UnknownSampleType> {
        let Some(wanted) = wanted else { return Ok(self.default_type) };
        self.sample_type(wanted).ok_or_else(|| UnknownSampleType {
            wanted: wanted.to_owned(),
            available: self.sample_types.iter().map(|known| shown(&known.name)).collect::<Vec<_>>().join(", "),
        })
    }

    /// Sum of all samples' values of one type, saturating.
    pub fn total(&self, sample_type: usize) -> i64 {
        let values = self.samples.iter().filter_map(|sample| sample.values.get(sample_type));
        values.fold(0, |sum, value| sum.saturating_add(*value))
    }
}
