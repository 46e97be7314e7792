//! Why a user stack stopped, and how its frames were found. One reason = one variant = one counter = one line of docs.

/// Why the walk of a user stack ended. Every record carries one; nothing ends in silence.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum End {
    /// No user part at all: a kernel thread, or a borrowed address space.
    NoUser = 0,
    /// The row says that the return address is undefined, or the pc is a known entry (`_start`, `clone`, `runtime.goexit`).
    Complete = 1,
    /// More frames than [`MAX_USER_FRAMES`](crate::walk::MAX_USER_FRAMES).
    Truncated = 2,
    /// The process has no table yet (its first sample): the agent finishes it from the copied stack.
    NoProcess = 3,
    /// The pc is in no executable mapping that the table knows.
    NoMapping = 4,
    /// Code without rows, and the frame pointer did not lead on.
    NoRows = 5,
    /// The row exists, but its rule can't be expressed (an exotic DWARF expression).
    Unsupported = 6,
    /// The target's memory could not be read where the rule pointed.
    BadRead = 7,
    /// The rule led down the stack instead of up: wrong rule or a corrupted stack.
    NotUp = 8,
    /// The return address read was zero, in a frame whose row does not say that it is the last.
    NullReturn = 9,
    /// The rule needs a register whose value is not known in this frame.
    NoRegister = 10,
    /// A 32-bit task: only its leaf is recorded.
    Compat = 11,
    /// Kernel-mode sample whose user registers could not be had.
    NoRegisters = 12,
    /// Code without rows and a frame pointer of zero, which the ABI defines as the outermost frame.
    FramePointerZero = 13,
    /// The executable's rows were not loaded yet, or evicted: the agent finishes it from the copied stack.
    NoTable = 14,
    /// The walk could not continue in the kernel (a tail call was refused).
    Aborted = 15,
    /// The sample hit the kernel while it exchanged the program's memory (exec) or had given it up (exit): the registers are of a
    /// program that is gone, so there is no user part. Told by the agent: an empty copy, and a record of that exec or exit.
    NoMemory = 16,
}

impl End {
    /// How many variants, from the first, the kernel's program gives; the others are the agent's.
    pub const OF_THE_KERNEL: usize = 16;

    /// Every variant, in order of its number.
    pub const ALL: [End; 17] = [
        End::NoUser,
        End::Complete,
        End::Truncated,
        End::NoProcess,
        End::NoMapping,
        End::NoRows,
        End::Unsupported,
        End::BadRead,
        End::NotUp,
        End::NullReturn,
        End::NoRegister,
        End::Compat,
        End::NoRegisters,
        End::FramePointerZero,
        End::NoTable,
        End::Aborted,
        End::NoMemory,
    ];

    /// The variant of a number that came over the kernel boundary; `None` if it is none of ours.
    pub fn from_number(number: u8) -> Option<End> {
        Self::ALL.get(number as usize).copied()
    }

    /// The name used in counters, labels and reports.
    pub fn name(self) -> &'static str {
        match self {
            End::NoUser => "no_user",
            End::Complete => "complete",
            End::Truncated => "truncated",
            End::NoProcess => "no_process",
            End::NoMapping => "no_mapping",
            End::NoRows => "no_rows",
            End::Unsupported => "unsupported_rule",
            End::BadRead => "bad_read",
            End::NotUp => "not_up",
            End::NullReturn => "null_return",
            End::NoRegister => "no_register",
            End::Compat => "compat_32bit",
            End::NoRegisters => "no_registers",
            End::FramePointerZero => "frame_pointer_zero",
            End::NoTable => "no_table",
            End::Aborted => "aborted",
            End::NoMemory => "no_memory",
        }
    }

    /// Whether there was a user stack to walk.
    pub fn has_user_part(self) -> bool {
        !matches!(self, End::NoUser | End::NoMemory)
    }

    /// Whether the agent can do better than the kernel did, given registers, a copy of the stack and fresh tables.
    pub fn worth_a_copy(self) -> bool {
        matches!(
            self,
            End::NoProcess
                | End::NoMapping
                | End::NoTable
                | End::BadRead
                | End::NoRegister
                | End::NoRegisters
                | End::Aborted
        )
    }
}

/// How the frames of a stack were found: a set of bits, since one stack may mix them.
pub mod provenance {
    /// At least one frame came from an unwind table.
    pub const TABLE: u8 = 1;
    /// At least one frame came from the frame pointer, in code without rows.
    pub const FRAME_POINTER: u8 = 2;
    /// Unwound by the agent from perf core's copy of registers and stack.
    pub const COPIED: u8 = 4;
    /// Unwound with tables that do not match the mapping history at the sample's time.
    pub const STALE: u8 = 8;
}

#[cfg(all(test, feature = "build"))]
mod tests {
    use super::End;

    #[test]
    fn every_number_gives_its_own_variant() {
        for (number, end) in End::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, number);
            assert_eq!(End::from_number(number as u8), Some(end));
        }
        assert_eq!(End::from_number(End::ALL.len() as u8), None);
    }
}
