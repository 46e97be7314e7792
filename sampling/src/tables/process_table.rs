//! A process's executable mappings as words of the slab; the layout is in `unwind::slab`.

use unwind::slab::{CHUNK_MAPPINGS, MAX_CHUNKS, ROOT_ENTRY_WORDS, TABLE_HEADER_WORDS};

/// One executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMapping {
    /// First address, a multiple of 4,096.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The executable's descriptor, 0 for code without a file.
    pub descriptor: u32,
    /// ELF address = pc − bias.
    pub bias: u64,
}

/// Most mappings that a table takes; those above are left out (the caller counts them).
pub const MAX_MAPPINGS: usize = (CHUNK_MAPPINGS * MAX_CHUNKS) as usize;

/// Words that a table of so many mappings takes.
pub fn words(mappings: usize) -> u32 {
    let mappings = mappings.min(MAX_MAPPINGS) as u32;
    let chunks = mappings.div_ceil(CHUNK_MAPPINGS).max(1);
    TABLE_HEADER_WORDS + chunks * (ROOT_ENTRY_WORDS + TABLE_HEADER_WORDS) + mappings * 6
}

/// Writes the table of `mappings` (ascending, not overlapping) as it lies at word address `base`.
pub fn encode(base: u32, mappings: &[TableMapping], out: &mut Vec<u32>) {
    out.clear();
    let mappings = &mappings[..mappings.len().min(MAX_MAPPINGS)];
    let chunks: Vec<&[TableMapping]> =
        if mappings.is_empty() { vec![&[]] } else { mappings.chunks(CHUNK_MAPPINGS as usize).collect() };
    out.extend([chunks.len() as u32, 0]);
    let mut at = base + TABLE_HEADER_WORDS + ROOT_ENTRY_WORDS * chunks.len() as u32;
    for chunk in &chunks {
        let start = chunk.first().map_or(0, |mapping| mapping.start);
        out.extend([start as u32, (start >> 32) as u32, at]);
        at += TABLE_HEADER_WORDS + 6 * chunk.len() as u32;
    }
    for chunk in chunks {
        out.extend([chunk.len() as u32, 0]);
        for mapping in chunk {
            out.extend([mapping.start as u32, (mapping.start >> 32) as u32]);
        }
        for mapping in chunk {
            let pages = ((mapping.end - mapping.start) >> 12).min(u64::from(u32::MAX)) as u32;
            out.extend([pages, mapping.descriptor, mapping.bias as u32, (mapping.bias >> 32) as u32]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unwind::slab::{SEGMENT_WORDS, Segment, Slab};
    use unwind::walk::{Walk, find_mapping};

    struct One(Box<Segment>);
    impl Slab for One {
        fn segment(&self, index: u32) -> Option<&Segment> {
            (index == 0).then_some(&*self.0)
        }
    }

    fn segment_with(base: u32, table: &[u32]) -> One {
        let mut words: Box<Segment> = vec![0u32; SEGMENT_WORDS].into_boxed_slice().try_into().unwrap();
        words[base as usize..base as usize + table.len()].copy_from_slice(table);
        One(words)
    }

    fn mappings(count: u64) -> Vec<TableMapping> {
        (0..count)
            .map(|i| TableMapping {
                start: 0x5555_0000_0000 + i * 0x3000,
                end: 0x5555_0000_0000 + i * 0x3000 + 0x2000,
                descriptor: 0,
                bias: i + 1,
            })
            .collect()
    }

    #[test]
    fn the_walk_finds_every_mapping_at_its_edges_and_nothing_between() {
        for count in [0, 1, 2, 3, 255, 256, 257, 513, MAX_MAPPINGS as u64] {
            let all = mappings(count);
            let mut table = Vec::new();
            encode(64, &all, &mut table);
            assert_eq!(table.len() as u32, words(all.len()), "{count}");
            let slab = segment_with(64, &table);
            let mut walk = Walk { process: 64, ..Walk::ZERO };
            for mapping in &all {
                for (address, inside) in [
                    (mapping.start - 1, false),
                    (mapping.start, true),
                    (mapping.start + 1, true),
                    (mapping.end - 1, true),
                    (mapping.end, false),
                ] {
                    let found = find_mapping(&slab, &mut walk, address);
                    assert_eq!(found.is_ok(), inside, "{count} {address:#x}");
                    if inside {
                        assert_eq!((walk.map_start, walk.map_bias), (mapping.start, mapping.bias));
                    }
                }
            }
            assert!(find_mapping(&slab, &mut walk, 0).is_err());
            assert!(find_mapping(&slab, &mut walk, u64::MAX).is_err());
        }
    }
}
