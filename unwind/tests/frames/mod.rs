//! Makes call-frame information by hand.

/// `.eh_frame` under construction, for a section that is loaded at `address`.
pub(crate) struct EhFrame {
    address: u64,
    bytes: Vec<u8>,
    cie: usize,
}

/// CFA = rsp + 8, return address at CFA − 8: how every function begins.
pub(crate) const USUAL_START: [u8; 5] = [0x0c, 7, 8, 0x90, 1];

impl EhFrame {
    pub(crate) fn new(address: u64) -> Self {
        Self { address, bytes: Vec::new(), cie: 0 }
    }

    /// Adds a CIE; the FDEs after it refer to it. Its augmentation is `zR` and then `more`, with pc-relative 32-bit pointers.
    pub(crate) fn cie(mut self, more: &str, program: &[u8]) -> Self {
        self.cie = self.bytes.len();
        let mut body = vec![0, 0, 0, 0, 1];
        body.extend(b"zR");
        body.extend(more.as_bytes());
        // The end of the text; code factor 1; data factor -8; return address in column 16; one byte of augmentation data.
        body.extend([0, 1, 0x78, 16, 1, 0x1b]);
        body.extend(program);
        self.entry(&body);
        self
    }

    /// Adds the FDE of `start..start + length`.
    pub(crate) fn fde(mut self, start: u64, length: u32, program: &[u8]) -> Self {
        let id_at = self.bytes.len() + 4;
        let place = self.address + id_at as u64 + 4;
        let mut body = ((id_at - self.cie) as u32).to_le_bytes().to_vec();
        body.extend((start.wrapping_sub(place) as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.push(0);
        body.extend(program);
        self.entry(&body);
        self
    }

    /// Adds a terminator, as crtend.o does.
    pub(crate) fn terminator(mut self) -> Self {
        self.bytes.extend([0; 4]);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn entry(&mut self, body: &[u8]) {
        let padded = body.len().next_multiple_of(4);
        self.bytes.extend((padded as u32).to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
    }
}
