//! [`Texts`]: turns names from a file into shared, demangled, bounded texts, each once per file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::demangle::{Demangle, Outcome, demangle};
use crate::frame::Frame;
use crate::limits::{MAX_CACHED_NAMES, MAX_NAME};
use crate::statistics::{Counters, Failure};

/// The texts of one file seen so far. Bounded: dropped and begun anew when there are too many.
#[derive(Debug, Default)]
pub(crate) struct TextStore {
    texts: HashSet<Arc<str>>,
    names: HashMap<Arc<str>, Arc<str>>,
    bytes: usize,
}

impl TextStore {
    /// Heap bytes, about.
    pub(crate) fn weight(&self) -> usize {
        self.bytes + (self.texts.capacity() + 2 * self.names.capacity()) * 17
    }
}

/// The longest prefix of at most `limit` bytes that does not split a character.
pub(crate) fn prefix(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// [`TextStore`] in use, with what demangling needs.
pub(crate) struct Texts<'t> {
    store: &'t mut TextStore,
    mode: Demangle,
    counters: &'t Counters,
}

impl<'t> Texts<'t> {
    pub(crate) fn new(store: &'t mut TextStore, mode: Demangle, counters: &'t Counters) -> Self {
        if store.names.len() + store.texts.len() > MAX_CACHED_NAMES {
            *store = TextStore::default();
        }
        Self { store, mode, counters }
    }

    /// The bytes as text; what is not UTF-8 is replaced, what is too long is cut.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> Arc<str> {
        let cut = &bytes[..bytes.len().min(MAX_NAME)];
        if cut.len() < bytes.len() {
            self.counters.fail(Failure::NameCut);
        }
        let text = String::from_utf8_lossy(cut);
        if let Some(found) = self.store.texts.get(&*text) {
            return found.clone();
        }
        let shared: Arc<str> = (*text).into();
        self.store.bytes += shared.len() + 16;
        self.store.texts.insert(shared.clone());
        shared
    }

    /// A frame with this linkage name, and no place yet.
    pub(crate) fn frame(&mut self, linkage_name: &[u8], start_line: u32) -> Frame {
        let linkage_name = self.text(linkage_name);
        let function = self.display(&linkage_name);
        Frame { function, linkage_name, file: None, line: 0, column: 0, start_line }
    }

    /// A frame of the stub that leads to the function with this linkage name.
    pub(crate) fn stub_frame(&mut self, linkage_name: &[u8]) -> Frame {
        let mut frame = self.frame(linkage_name, 0);
        for name in [&mut frame.function, &mut frame.linkage_name] {
            *name = self.text(format!("{name}@plt").as_bytes());
        }
        frame
    }

    /// The same for a name that is not mangled.
    pub(crate) fn plain_frame(&mut self, name: &[u8], start_line: u32) -> Frame {
        let name = self.text(name);
        Frame { function: name.clone(), linkage_name: name, file: None, line: 0, column: 0, start_line }
    }

    fn display(&mut self, linkage_name: &Arc<str>) -> Arc<str> {
        if let Some(found) = self.store.names.get(linkage_name) {
            return found.clone();
        }
        let shown = match demangle(linkage_name, self.mode) {
            Outcome::AsIs => linkage_name.clone(),
            Outcome::Demangled(text) => self.text(text.as_bytes()),
            Outcome::Cut(text) => {
                self.counters.fail(Failure::NameCut);
                self.text(text.as_bytes())
            }
            Outcome::Failed => {
                self.counters.fail(Failure::Demangle);
                linkage_name.clone()
            }
        };
        self.store.names.insert(linkage_name.clone(), shown.clone());
        shown
    }
}
