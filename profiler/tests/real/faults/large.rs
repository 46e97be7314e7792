//! Batches whose messages fit into no buffer on their way.

use profiler::profile::{
    Batch, Function, FunctionIndex, Line, Location, LocationIndex, LocationKind, Sample, Stack, StackIndex,
};

/// Samples that each process is given.
const SAMPLES: usize = 1_000;
/// Letters in the name of each one's function.
const LETTERS: usize = 512;
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$";

/// The batch with more samples for each of its processes, each in a function with a long name that no compression makes short.
pub(super) fn enlarged(batch: &Batch) -> Batch {
    let mut batch = batch.clone();
    let mut random = 1_u64;
    for process in 0..batch.processes.len() {
        let Some(sample) = batch.samples.iter().find(|sample| sample.process.0 as usize == process).copied() else {
            continue;
        };
        for _ in 0..SAMPLES {
            let name = batch.strings.intern(&name(&mut random));
            let nothing = batch.strings.intern("");
            let function = FunctionIndex(batch.functions.len() as u32);
            batch.functions.push(Function { name, system_name: name, filename: nothing, start_line: 0 });
            let location = LocationIndex(batch.locations.len() as u32);
            let (lines, address) = (vec![Line { function, line: 0, column: 0 }], u64::from(location.0));
            batch.locations.push(Location { kind: LocationKind::Jit, mapping: None, address, lines });
            let stack = StackIndex(batch.stacks.len() as u32);
            batch.stacks.push(Stack { locations: vec![location] });
            batch.samples.push(Sample { stack, ..sample });
        }
    }
    batch.samples.sort_by_key(|sample| sample.time_ns);
    batch
}

fn name(random: &mut u64) -> String {
    let letters = (0..LETTERS).map(|_| {
        // Knuth's MMIX generator; its upper bits are the good ones.
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(ALPHABET[(*random >> 58) as usize])
    });
    letters.collect()
}
