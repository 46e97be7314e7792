//! The body: two parts of `multipart/form-data` (RFC 7578), written, and read back when it has to be split.
//!
//! The boundary is a hash of what lies between, so that it is the same on each try and nobody can put it into a profile.

use crate::export::digest::{digest, hex};

/// Name of the attachment: the part's, the file's and the one in the event.
pub const ATTACHMENT: &str = "cpu.pprof";

const EVENT_HEAD: &str = "Content-Disposition: form-data; name=\"event\"; filename=\"event.json\"\r\n\
                          Content-Type: application/json\r\n\r\n";
const ATTACHMENT_HEAD: &str = "Content-Disposition: form-data; name=\"cpu.pprof\"; filename=\"cpu.pprof\"\r\n\
                               Content-Type: application/octet-stream\r\n\r\n";
const CONTENT_TYPE: &str = "multipart/form-data; boundary=";

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form<'bytes> {
    /// `event.json`.
    pub event: &'bytes [u8],
    /// The gzipped profile.
    pub attachment: &'bytes [u8],
}

impl<'bytes> Form<'bytes> {
    /// The value of `content-type`, and the body.
    pub fn write(&self) -> (String, Vec<u8>) {
        let boundary = hex(&digest(&[self.event, self.attachment]));
        let mut body = Vec::with_capacity(self.event.len() + self.attachment.len() + 512);
        for (head, content) in [(EVENT_HEAD, self.event), (ATTACHMENT_HEAD, self.attachment)] {
            body.extend_from_slice(format!("--{boundary}\r\n{head}").as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        (format!("{CONTENT_TYPE}{boundary}"), body)
    }

    /// What [`Form::write`] wrote; `None` of anything else.
    pub fn read(content_type: &str, body: &'bytes [u8]) -> Option<Form<'bytes>> {
        let boundary = content_type.strip_prefix(CONTENT_TYPE).filter(|boundary| !boundary.is_empty())?;
        let body = body.strip_prefix(format!("--{boundary}\r\n{EVENT_HEAD}").as_bytes())?;
        let body = body.strip_suffix(format!("\r\n--{boundary}--\r\n").as_bytes())?;
        let between = format!("\r\n--{boundary}\r\n{ATTACHMENT_HEAD}");
        let at = body.windows(between.len()).position(|window| window == between.as_bytes())?;
        Some(Form { event: &body[..at], attachment: &body[at + between.len()..] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_this_byte_for_byte_and_comes_back() {
        let form = Form { event: b"{}", attachment: b"\x1f\x8b\r\n--\0" };
        let (content_type, body) = form.write();
        let boundary = hex(&digest(&[form.event, form.attachment]));
        assert_eq!(content_type, format!("multipart/form-data; boundary={boundary}"));
        let expected = [
            b"--",
            boundary.as_bytes(),
            b"\r\nContent-Disposition: form-data; name=\"event\"; filename=\"event.json\"\r\n",
            b"Content-Type: application/json\r\n\r\n{}\r\n--",
            boundary.as_bytes(),
            b"\r\nContent-Disposition: form-data; name=\"cpu.pprof\"; filename=\"cpu.pprof\"\r\n",
            b"Content-Type: application/octet-stream\r\n\r\n\x1f\x8b\r\n--\0\r\n--",
            boundary.as_bytes(),
            b"--\r\n",
        ];
        assert_eq!(body, expected.concat());
        assert_eq!(Form::read(&content_type, &body), Some(form));
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let (content_type, body) = Form { event: b"{}", attachment: b"profile" }.write();
        let cut = &body[..body.len() - 1];
        let cases =
            [("", &body[..]), ("multipart/form-data; boundary=", &body), ("text/plain", &body), (&content_type, cut)];
        for (content_type, body) in cases {
            assert_eq!(Form::read(content_type, body), None, "{content_type}");
        }
        assert_eq!(Form::read(&content_type, b""), None);
    }
}
