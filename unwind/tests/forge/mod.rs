//! Makes small ELF files by hand.

/// A section of the file to be made; its file offset equals its address.
pub(crate) struct Section<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) executable: bool,
}

/// What a file is made of.
pub(crate) struct File<'a> {
    pub(crate) entry: u64,
    pub(crate) sections: &'a [Section<'a>],
    pub(crate) with_section_headers: bool,
    /// Address of `.eh_frame_hdr` for `PT_GNU_EH_FRAME`.
    pub(crate) eh_frame_header: Option<u64>,
}

impl File<'_> {
    /// The file's bytes: one `PT_LOAD` for each section.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let extra = usize::from(self.eh_frame_header.is_some());
        let programs = self.sections.len() + extra;
        let mut data = vec![0u8; 64 + 56 * programs];
        let mut put = |at: usize, bytes: &[u8]| data[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[3, 0, 62, 0, 1, 0, 0, 0]);
        put(24, &self.entry.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(52, &[64, 0, 56, 0, programs as u8, 0, 64, 0]);
        for (index, section) in self.sections.iter().enumerate() {
            let length = section.bytes.len() as u64;
            put(64 + 56 * index, &program(1, 4 | u32::from(section.executable), section.address, length));
        }
        if let Some(address) = self.eh_frame_header {
            put(64 + 56 * self.sections.len(), &program(0x6474_e550, 4, address, 12));
        }
        for section in self.sections {
            let start = section.address as usize;
            assert!(start >= 64 + 56 * programs, "sections come after the headers");
            data.resize(data.len().max(start + section.bytes.len()), 0);
            data[start..start + section.bytes.len()].copy_from_slice(section.bytes);
        }
        if self.with_section_headers {
            self.add_section_headers(&mut data);
        }
        data
    }

    fn add_section_headers(&self, data: &mut Vec<u8>) {
        let mut names = vec![0u8];
        let mut headers = vec![0u8; 64];
        for section in self.sections {
            let flags = 2 | (u64::from(section.executable) << 2);
            let length = section.bytes.len() as u64;
            headers.extend(header(names.len() as u32, 1, flags, section.address, section.address, length));
            names.extend(section.name.as_bytes());
            names.push(0);
        }
        let name = names.len() as u32;
        names.extend(b".shstrtab\0");
        let names_at = data.len() as u64;
        headers.extend(header(name, 3, 0, 0, names_at, names.len() as u64));
        data.extend(&names);
        let headers_at = data.len() as u64;
        data.extend(&headers);
        let count = self.sections.len() as u16 + 2;
        data[40..48].copy_from_slice(&headers_at.to_le_bytes());
        data[60..62].copy_from_slice(&count.to_le_bytes());
        data[62..64].copy_from_slice(&(count - 1).to_le_bytes());
    }
}

fn program(kind: u32, flags: u32, address: u64, length: u64) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    for word in [address, address, address, length, length, 1] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

fn header(name: u32, kind: u32, flags: u64, address: u64, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = [name.to_le_bytes(), kind.to_le_bytes()].concat();
    for word in [flags, address, offset, length, 0, 1, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}
