//! The flame-graph page: one HTML file with everything in it, made from a [`StackTable`].
//!
//! The page itself is built ahead (`web/`, TypeScript) and embedded; this module puts a profile into it. The file makes no
//! request: its content security policy allows exactly the script and the style that it carries, by hash.
//! The same table and options give the same bytes.

mod base64;
mod facts;
mod tree;
mod wire;

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::report::StackTable;

pub use tree::MAX_NODES;
pub use wire::container;

/// The page but for the profile.
const PAGE: &str = include_str!("../../../web/dist/page.html");
/// Where the profile goes.
const PLACE: &str = "<!--everflame-profile-->";
/// Above this the page refuses to unpack the profile (`MAX_BYTES` in `web/src/data/embedded.ts`).
pub const MAX_CONTAINER_BYTES: usize = 1 << 30;

/// What the page shows that a profile does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageOptions {
    /// Shown beside the product's name and in the window's title: the host, the command, the file.
    pub title: String,
    /// What its maker left out, a sentence each.
    pub notes: Vec<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The profile has no sample type, so that there is no value to show.
    #[error("the profile has no sample type")]
    NoSampleType,
    /// The tree of all stacks has more than [`MAX_NODES`] nodes.
    #[error("the profile's stacks make a tree of more than {MAX_NODES} nodes, which no browser shows")]
    TooManyNodes,
    /// A stack has more frames than the page's format can count.
    #[error("a stack has more than {} frames", u16::MAX)]
    TooDeep,
    /// The page's data are larger than [`MAX_CONTAINER_BYTES`].
    #[error("the page's data are {bytes} bytes, more than the {MAX_CONTAINER_BYTES} that the page unpacks")]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
    /// An index of the table leads nowhere.
    #[error("the table's {0} points outside of its table")]
    Dangling(&'static str),
    /// The embedded page has no place for the profile.
    #[error("the embedded page is not the one that this version fills")]
    Template,
    /// The data could not be written as JSON.
    #[error("the page's head can't be written: {0}")]
    Head(#[source] serde_json::Error),
    /// Packing failed.
    #[error("the page's data can't be packed: {0}")]
    Pack(#[source] std::io::Error),
}

/// Makes the whole file.
///
/// # Errors
/// [`PageError`]: nothing to show, too much, or a table that is not consistent.
pub fn render(table: &StackTable, options: &PageOptions) -> Result<Vec<u8>, PageError> {
    let data = container(table, options)?;
    if data.len() > MAX_CONTAINER_BYTES {
        return Err(PageError::TooLarge { bytes: data.len() });
    }
    let (before, after) = PAGE.split_once(PLACE).ok_or(PageError::Template)?;
    let packed = deflate(&data).map_err(PageError::Pack)?;
    let mut page = Vec::with_capacity(PAGE.len() + packed.len() / 3 * 4 + 256);
    page.extend_from_slice(before.as_bytes());
    let opening = format!(
        "<script type=\"application/octet-stream\" id=\"everflame-profile\" data-encoding=\"deflate-raw;base64\" \
         data-length=\"{}\">",
        data.len()
    );
    page.extend_from_slice(opening.as_bytes());
    base64::encode(&packed, &mut page);
    page.extend_from_slice(b"</script>");
    page.extend_from_slice(after.as_bytes());
    Ok(page)
}

fn deflate(data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(data)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
