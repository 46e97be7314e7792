//! The page itself: one file, with a policy that allows the script and the style that it carries and requests to its own address.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use sha2::{Digest as _, Sha256};

use super::respond::compress;

/// Built from `web/`.
pub(super) const LIVE: &str = include_str!("../../../web/dist/live.html");

/// Shown to who has no token.
pub(super) const NEEDS_TOKEN: &str = include_str!("needs_token.html");

/// A document with the policy that belongs to it.
pub(super) struct Document {
    text: &'static str,
    pub(super) policy: String,
    /// Made when somebody wants it: 300 KB that most agents never need.
    packed: OnceLock<Option<Bytes>>,
}

impl Document {
    pub(super) fn new(text: &'static str) -> Document {
        let list = |element: &str| {
            let hashes: Vec<String> = contents(text, element).map(hash).collect();
            if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
        };
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data: blob:; connect-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
            list("script"),
            list("style")
        );
        Document { text, policy, packed: OnceLock::new() }
    }

    /// The document, by gzip if wanted, and whether it is.
    pub(super) fn bytes(&self, gzip: bool) -> (Bytes, bool) {
        let pack = || compress(self.text.as_bytes(), Compression::best()).map(Bytes::from);
        let packed = if gzip { self.packed.get_or_init(pack).clone() } else { None };
        let gzipped = packed.is_some();
        (packed.unwrap_or(Bytes::from_static(self.text.as_bytes())), gzipped)
    }
}

/// What stands in each `<element …>…</element>`.
fn contents<'text>(text: &'text str, element: &str) -> impl Iterator<Item = &'text str> {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let after = &rest[rest.find(&open)? + open.len()..];
        let content = &after[after.find('>')? + 1..];
        let end = content.find(&close)?;
        rest = &content[end + close.len()..];
        Some(&content[..end])
    })
}

/// A source of the policy (Content Security Policy 3 §2.3.1, `hash-source`).
fn hash(content: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_exactly_what_the_page_carries() {
        let document = Document::new("<style>a</style><script type=\"module\">b</script>c<script>d</script>");
        assert_eq!(
            document.policy,
            "default-src 'none'; script-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0=' \
             'sha256-GKw+c0PwFokMUQ6T+TUmEWnZ4/VlQ2Qpgw+vCTT0+OQ='; style-src \
             'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='; img-src data: blob:; connect-src 'self'; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        );
    }

    #[test]
    fn every_script_and_style_of_the_pages_is_found() {
        for text in [LIVE, NEEDS_TOKEN] {
            for element in ["script", "style"] {
                let opened = text.matches(&format!("<{element}")).count();
                assert_eq!(contents(text, element).count(), opened, "{element}");
            }
            // What the policy would refuse.
            for forbidden in [" style=\"", " onclick", " onload", " src=\"http", " href=\"http"] {
                assert!(!text.contains(forbidden), "{forbidden}");
            }
        }
    }
}
