//! Member offsets and enumerators out of the kernel's BTF (`/sys/kernel/btf/vmlinux`): what C programs get by CO-RE.
//!
//! Reads just enough of the format (`Documentation/bpf/btf.rst`): type headers, names, struct members, anonymous members, enums.
//! Takes bytes; every offset is checked, and the nesting of anonymous members is bounded.

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
/// Depth to which anonymous structs and unions are followed; the kernel's `task_struct` needs 1.
const MAX_NESTING: u32 = 8;

/// A parsed view of a BTF blob.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Byte offset of each type in `types`; index 0 is `void`.
    index: Vec<u32>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

impl<'a> Btf<'a> {
    /// Indexes the types of `data`; `None` if it is not BTF or is cut short.
    pub fn parse(data: &'a [u8]) -> Option<Btf<'a>> {
        if u16::from_le_bytes(data.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(data, 4)? as usize;
        let section = |offset: usize, length: usize| {
            let from = header.checked_add(word(data, offset)? as usize)?;
            data.get(from..from.checked_add(word(data, length)? as usize)?)
        };
        let (types, strings) = (section(8, 12)?, section(16, 20)?);
        let mut index = vec![0];
        let mut at = 0usize;
        while at < types.len() {
            index.push(at as u32);
            let info = word(types, at + 4)?;
            let (count, kind) = ((info & 0xffff) as usize, (info >> 24) & 0x1f);
            // Bytes that follow the 12-byte header, by kind: int, array, struct, union, enum, func_proto, var, datasec, decl_tag, enum64.
            let follows = match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
            at = at.checked_add(12 + follows)?;
        }
        Some(Btf { types, strings, index })
    }

    fn name(&self, offset: u32) -> Option<&'a [u8]> {
        let tail = self.strings.get(offset as usize..)?;
        Some(&tail[..tail.iter().position(|byte| *byte == 0)?])
    }

    /// Byte offset of `member` in `struct structure`.
    pub fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.member_of(self.find(KIND_STRUCT, structure)?, member, 0).map(|bits| bits / 8)
    }

    /// The value of `enumerator` in `enum enumeration`.
    pub fn enumerator(&self, enumeration: &str, enumerator: &str) -> Option<u32> {
        let at = self.find(KIND_ENUM, enumeration)?;
        for number in 0..(word(self.types, at + 4)? & 0xffff) as usize {
            let entry = at + 12 + 8 * number;
            if self.name(word(self.types, entry)?)? == enumerator.as_bytes() {
                return word(self.types, entry + 4);
            }
        }
        None
    }

    /// Where the type of that kind and name is, if it has members.
    fn find(&self, kind: u32, name: &str) -> Option<usize> {
        for at in self.index.iter().skip(1) {
            let at = *at as usize;
            let info = word(self.types, at + 4)?;
            let wanted = (info >> 24) & 0x1f == kind && info & 0xffff != 0;
            if wanted && self.name(word(self.types, at)?)? == name.as_bytes() {
                return Some(at);
            }
        }
        None
    }

    fn member_of(&self, at: usize, member: &str, depth: u32) -> Option<u32> {
        if depth > MAX_NESTING {
            return None;
        }
        let info = word(self.types, at + 4)?;
        let bitfields = info >> 31 != 0;
        for number in 0..(info & 0xffff) as usize {
            let entry = at + 12 + 12 * number;
            let offset = word(self.types, entry + 8)?;
            let offset = if bitfields { offset & 0xff_ffff } else { offset };
            let name = self.name(word(self.types, entry)?)?;
            if name == member.as_bytes() {
                return Some(offset);
            }
            let inner = *self.index.get(word(self.types, entry + 4)? as usize)? as usize;
            if name.is_empty()
                && matches!((word(self.types, inner + 4)? >> 24) & 0x1f, KIND_STRUCT | KIND_UNION)
                && let Some(found) = self.member_of(inner, member, depth + 1)
            {
                return offset.checked_add(found);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Btf;

    /// `struct outer { u64 a; struct { u64 b; u64 c; }; }; enum order { a, b = 7 };`, types numbered 1 (int), 2 (anonymous),
    /// 3 (outer), 4 (order).
    fn blob() -> Vec<u8> {
        let strings = b"\0u64\0outer\0a\0b\0c\0order\0";
        let (u64_name, outer, a, b, c, order) = (1u32, 5, 11, 13, 15, 17);
        let mut types: Vec<u32> = vec![u64_name, 1 << 24, 8, 64];
        types.extend([0, 4 << 24 | 2, 16, b, 1, 0, c, 1, 64]);
        types.extend([outer, 4 << 24 | 2, 24, a, 1, 0, 0, 2, 64]);
        types.extend([order, 6 << 24 | 2, 4, a, 0, b, 7]);
        let type_bytes: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, type_bytes.len() as u32, type_bytes.len() as u32, strings.len() as u32] {
            data.extend(word.to_le_bytes());
        }
        data.extend(type_bytes);
        data.extend(strings);
        data
    }

    #[test]
    fn members_are_found_also_inside_anonymous_structs() {
        let data = blob();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.member_offset("outer", "a"), Some(0));
        assert_eq!(btf.member_offset("outer", "b"), Some(8));
        assert_eq!(btf.member_offset("outer", "c"), Some(16));
        assert_eq!(btf.member_offset("outer", "d"), None);
        assert_eq!(btf.member_offset("inner", "a"), None);
    }

    #[test]
    fn enumerators_are_found_by_the_name_of_their_enum() {
        let data = blob();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.enumerator("order", "a"), Some(0));
        assert_eq!(btf.enumerator("order", "b"), Some(7));
        assert_eq!(btf.enumerator("order", "c"), None);
        assert_eq!(btf.enumerator("outer", "a"), None);
    }

    #[test]
    fn cut_data_gives_nothing_and_no_panic() {
        let data = blob();
        for end in 0..data.len() {
            if let Some(btf) = Btf::parse(&data[..end]) {
                assert_eq!(btf.member_offset("outer", "zzz"), None);
                assert_eq!(btf.enumerator("order", "zzz"), None);
            }
        }
    }
}
