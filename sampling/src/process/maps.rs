//! `/proc/PID/maps` as text: executable mappings only (`proc(5)`).

use super::mappings::{MAX_MAPPINGS, Mapping};

/// What the kernel appends to the path of a file that was unlinked.
const DELETED: &str = " (deleted)";

/// The executable mappings of a maps file. Lines that are not understood are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// As they come: ascending. At most [`MAX_MAPPINGS`].
    pub mappings: Vec<Mapping>,
    /// Executable mappings beyond those.
    pub dropped: u64,
}

impl Maps {
    /// Reads `/proc/PID/maps` as text.
    pub fn parse(text: &[u8]) -> Maps {
        let mut lines = text.split(|byte| *byte == b'\n').filter_map(parse_line);
        let mappings = lines.by_ref().take(MAX_MAPPINGS).collect();
        Maps { mappings, dropped: lines.count() as u64 }
    }
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let text = String::from_utf8_lossy(line);
    let mut fields = text.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let file_offset = hex(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let inode: u64 = fields.next()?.parse().ok()?;
    let path = fields.next().unwrap_or("").trim_start_matches(' ');
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        file_offset,
        device: (hex(major)? as u32, hex(minor)? as u32),
        inode,
        path: path.into(),
        backing: Mapping::backing_of(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Backing;

    #[test]
    fn executable_lines_become_mappings_and_the_rest_is_skipped() {
        let text = b"55d0c0000000-55d0c0001000 r--p 00000000 fe:01 123                        /usr/bin/some thing\n\
            55d0c0001000-55d0c0003000 r-xp 00001000 fe:01 123                        /usr/bin/some thing\n\
            7f0000000000-7f0000001000 rwxp 00000000 00:00 0 \n\
            7f0000002000-7f0000003000 r-xp 00002000 00:1f 77                         /tmp/gone.so (deleted)\n\
            7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]\n\
            garbage\n";
        let found: Vec<_> = Maps::parse(text)
            .mappings
            .into_iter()
            .map(|m| (m.start, m.end, m.file_offset, m.device, m.inode, m.path.to_string(), m.backing))
            .collect();
        assert_eq!(
            found,
            vec![
                (0x55d0c0001000, 0x55d0c0003000, 0x1000, (0xfe, 1), 123, "/usr/bin/some thing".into(), Backing::File),
                (0x7f0000000000, 0x7f0000001000, 0, (0, 0), 0, String::new(), Backing::Anonymous),
                (0x7f0000002000, 0x7f0000003000, 0x2000, (0, 0x1f), 77, "/tmp/gone.so".into(), Backing::File),
                (0x7ffd00000000, 0x7ffd00002000, 0, (0, 0), 0, "[vdso]".into(), Backing::Vdso),
            ]
        );
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted() {
        let line = |at: usize| format!("{:x}-{:x} r-xp 00000000 00:00 0 \n", at << 13, (at << 13) + 4096);
        let text: String = (1..=MAX_MAPPINGS + 3).map(line).collect();
        let maps = Maps::parse(text.as_bytes());
        assert_eq!((maps.mappings.len(), maps.dropped), (MAX_MAPPINGS, 3));
    }
}
