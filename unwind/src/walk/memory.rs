//! What the walk asks of the target's memory.

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
