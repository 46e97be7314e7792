//! The executable mappings of one address space: ascending, never overlapping. There is no record of munmap: what a later
//! mapping covers is gone.

use std::sync::Arc;

/// Most executable mappings that are kept for a process; what `tables` can hold. More are counted.
pub const MAX_MAPPINGS: usize = 16384;

/// Top of the user half of the address space, with 5-level paging.
const MAX_USER_ADDRESS: u64 = 1 << 56;

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// A file (also a deleted one, or a memfd).
    File,
    /// Anonymous memory: code made at run time.
    Anonymous,
    /// The kernel's vDSO.
    Vdso,
    /// Something else of the kernel's (`[vsyscall]`, `[uprobes]`).
    Special,
}

/// One executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Offset in the file of `start`.
    pub file_offset: u64,
    /// Device of the file: major, minor.
    pub device: (u32, u32),
    /// Inode of the file; 0 if unknown or none.
    pub inode: u64,
    /// Path as the process sees it, without ` (deleted)`.
    pub path: Arc<str>,
    /// What is behind it.
    pub backing: Backing,
}

impl Mapping {
    /// What a path in a record or in `/proc/PID/maps` stands for.
    pub fn backing_of(path: &str) -> Backing {
        match path {
            "" | "//anon" | "//deleted" => Backing::Anonymous,
            "[vdso]" => Backing::Vdso,
            _ if path.starts_with("[anon") || path.starts_with("[heap") || path.starts_with("[stack") => {
                Backing::Anonymous
            }
            _ if path.starts_with('[') => Backing::Special,
            // Shared anonymous memory shows as a deleted /dev/zero.
            _ if path.starts_with("/dev/zero") || path.starts_with("/SYSV") => Backing::Anonymous,
            // .NET maps its code twice through a memfd; huge pages have a file of their own.
            _ if path.starts_with("/memfd:doublemapper") || path.starts_with("/anon_hugepage") => Backing::Anonymous,
            _ => Backing::File,
        }
    }
}

/// All of them; cheap to share among forked processes. A clone is 16,384 counts at most, and an insertion moves as many words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    sorted: Vec<Arc<Mapping>>,
}

impl Mappings {
    /// From mappings in any order.
    pub fn from_unsorted(mappings: Vec<Mapping>) -> Mappings {
        let mut all = Mappings::default();
        for mapping in mappings {
            all.insert(mapping);
        }
        all
    }

    /// Whether a mapping would take the place of other code.
    pub fn displaces(&self, new: &Mapping) -> bool {
        let from = self.sorted.partition_point(|old| old.end <= new.start);
        let overlapped = self.sorted[from..].iter().take_while(|old| old.start < new.end);
        overlapped.into_iter().any(|old| (old.inode, &old.path) != (new.inode, &new.path) || old.backing != new.backing)
    }

    /// Adds a mapping; what it covers of others is cut away. False if there are too many.
    pub fn insert(&mut self, new: Mapping) -> bool {
        // The vsyscall page lies in the kernel's half, and searches compare by subtraction: both sides must be below 2⁶³.
        if new.end <= new.start || new.end > MAX_USER_ADDRESS {
            return true;
        }
        let from = self.sorted.partition_point(|old| old.end <= new.start);
        let to = self.sorted.partition_point(|old| old.start < new.end);
        let mut pieces = Vec::with_capacity(3);
        if from < to {
            let (first, last) = (&self.sorted[from], &self.sorted[to - 1]);
            if first.start < new.start {
                pieces.push(Arc::new(Mapping { end: new.start, ..Mapping::clone(first) }));
            }
            let piece_behind = (last.end > new.end).then(|| {
                let cut = new.end - last.start;
                let file_offset = last.file_offset.wrapping_add(cut);
                Arc::new(Mapping { start: new.end, file_offset, ..Mapping::clone(last) })
            });
            pieces.push(Arc::new(new));
            pieces.extend(piece_behind);
        } else {
            pieces.push(Arc::new(new));
        }
        if self.sorted.len() - (to - from) + pieces.len() > MAX_MAPPINGS {
            return false;
        }
        self.sorted.splice(from..to, pieces);
        true
    }

    /// The mapping that holds `address`, with its index.
    pub fn find(&self, address: u64) -> Option<(usize, &Mapping)> {
        let index = self.sorted.partition_point(|mapping| mapping.start <= address).checked_sub(1)?;
        let mapping = &self.sorted[index];
        (address < mapping.end).then_some((index, mapping))
    }

    /// In ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Mapping> {
        self.sorted.iter().map(AsRef::as_ref)
    }

    /// The mapping at `index`, counted from the lowest.
    pub fn at(&self, index: usize) -> Option<&Arc<Mapping>> {
        self.sorted.get(index)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, name: &str) -> Mapping {
        Mapping {
            start,
            end,
            file_offset: 0x1000,
            device: (8, 1),
            inode: 5,
            path: name.into(),
            backing: Mapping::backing_of(name),
        }
    }

    fn shape(mappings: &Mappings) -> Vec<(u64, u64, u64, &str)> {
        mappings.iter().map(|m| (m.start, m.end, m.file_offset, &*m.path)).collect()
    }

    #[test]
    fn a_later_mapping_cuts_away_what_it_covers() {
        let base = || Mappings::from_unsorted(vec![mapping(0x5000, 0x8000, "/b"), mapping(0x1000, 0x4000, "/a")]);
        for (new, wanted) in [
            (
                (0x8000, 0x9000),
                vec![(0x1000, 0x4000, 0x1000, "/a"), (0x5000, 0x8000, 0x1000, "/b"), (0x8000, 0x9000, 0x1000, "/n")],
            ),
            (
                (0x2000, 0x3000),
                vec![
                    (0x1000, 0x2000, 0x1000, "/a"),
                    (0x2000, 0x3000, 0x1000, "/n"),
                    (0x3000, 0x4000, 0x3000, "/a"),
                    (0x5000, 0x8000, 0x1000, "/b"),
                ],
            ),
            (
                (0x3000, 0x6000),
                vec![(0x1000, 0x3000, 0x1000, "/a"), (0x3000, 0x6000, 0x1000, "/n"), (0x6000, 0x8000, 0x2000, "/b")],
            ),
            ((0x0, 0x9000), vec![(0x0, 0x9000, 0x1000, "/n")]),
            ((0x1000, 0x4000), vec![(0x1000, 0x4000, 0x1000, "/n"), (0x5000, 0x8000, 0x1000, "/b")]),
            (
                (0x4000, 0x5000),
                vec![(0x1000, 0x4000, 0x1000, "/a"), (0x4000, 0x5000, 0x1000, "/n"), (0x5000, 0x8000, 0x1000, "/b")],
            ),
        ] {
            let mut all = base();
            assert!(all.insert(mapping(new.0, new.1, "/n")));
            assert_eq!(shape(&all), wanted, "{new:x?}");
        }
    }

    #[test]
    fn find_gives_the_mapping_that_holds_the_address() {
        let all = Mappings::from_unsorted(vec![mapping(0x1000, 0x2000, "/a"), mapping(0x2000, 0x3000, "/b")]);
        for (address, wanted) in
            [(0xfff, None), (0x1000, Some("/a")), (0x1fff, Some("/a")), (0x2000, Some("/b")), (0x3000, None)]
        {
            assert_eq!(all.find(address).map(|(_, m)| &*m.path), wanted, "{address:x}");
        }
    }

    #[test]
    fn paths_tell_what_is_behind_a_mapping() {
        for (path, backing) in [
            ("/usr/bin/x", Backing::File),
            ("/memfd:jit", Backing::File),
            ("", Backing::Anonymous),
            ("//anon", Backing::Anonymous),
            ("[heap]", Backing::Anonymous),
            ("[anon:v8]", Backing::Anonymous),
            ("/dev/zero", Backing::Anonymous),
            ("[vdso]", Backing::Vdso),
            ("[vsyscall]", Backing::Special),
        ] {
            assert_eq!(Mapping::backing_of(path), backing, "{path}");
        }
    }
}
