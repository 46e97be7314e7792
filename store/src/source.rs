//! Where a [`Transfer`](super::transfer::Transfer) takes things from: a batch, or a segment's tables.

use std::borrow::Cow;

use super::bytes::Malformed;
use super::dictionary::Table;
use super::entry;
use super::tables::Tables;
use profiles::profile::{Batch, Function, Location, Mapping, Process, StringIndex};

/// What is transferred, each remembered by itself.
#[derive(Clone, Copy)]
pub(super) enum Thing {
    OwnerText,
    Text,
    Identity,
    Process,
    Mapping,
    Function,
    Location,
    Place,
    /// A frame of the exact tree.
    Node,
}

pub(super) const THINGS: usize = 9;

/// One of an identity's texts: itself, or its index among the owners' texts.
pub(super) enum IdentityText<'source> {
    Itself(&'source str),
    Index(u32),
}

type VisitText<'visit> = &'visit mut dyn FnMut(IdentityText<'_>) -> Result<(), Malformed>;

/// Where things come from, each by its index.
pub(super) trait Source {
    /// How many there are of a thing: an index is smaller.
    fn length(&self, thing: Thing) -> usize;
    fn owner_text(&self, index: u32) -> Result<&str, Malformed>;
    fn text(&self, index: u32) -> Result<&str, Malformed>;
    fn identity_texts(&self, index: u32, visit: VisitText<'_>) -> Result<(), Malformed>;
    fn process(&self, index: u32) -> Result<Cow<'_, Process>, Malformed>;
    fn mapping(&self, index: u32) -> Result<Cow<'_, Mapping>, Malformed>;
    fn function(&self, index: u32) -> Result<Cow<'_, Function>, Malformed>;
    fn location(&self, index: u32) -> Result<Cow<'_, Location>, Malformed>;

    /// Whether a location has functions, and all of them have names.
    fn is_named(&self, location: &Location) -> Result<bool, Malformed> {
        for line in &location.lines {
            if self.text(self.function(line.function.0)?.name.0)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(!location.lines.is_empty())
    }
}

fn of<'batch, T: Clone>(all: &'batch [T], index: u32, missing: &'static str) -> Result<Cow<'batch, T>, Malformed> {
    all.get(index as usize).map(Cow::Borrowed).ok_or(Malformed(missing))
}

impl Source for Batch {
    fn length(&self, thing: Thing) -> usize {
        match thing {
            Thing::OwnerText | Thing::Text => self.strings.len(),
            Thing::Identity => self.identities.len(),
            Thing::Process => self.processes.len(),
            Thing::Mapping => self.mappings.len(),
            Thing::Function => self.functions.len(),
            Thing::Location => self.locations.len(),
            Thing::Place | Thing::Node => 0,
        }
    }
    fn owner_text(&self, index: u32) -> Result<&str, Malformed> {
        Ok(self.strings.get(StringIndex(index)))
    }
    fn text(&self, index: u32) -> Result<&str, Malformed> {
        Ok(self.strings.get(StringIndex(index)))
    }
    fn identity_texts(&self, index: u32, visit: VisitText<'_>) -> Result<(), Malformed> {
        let identity = self.identities.get(index as usize);
        let identity = identity.ok_or(Malformed("an identity that is not in the batch"))?;
        entry::identity_texts(identity).try_for_each(|text| visit(IdentityText::Itself(text)))
    }
    fn process(&self, index: u32) -> Result<Cow<'_, Process>, Malformed> {
        of(&self.processes, index, "a process that is not in the batch")
    }
    fn mapping(&self, index: u32) -> Result<Cow<'_, Mapping>, Malformed> {
        of(&self.mappings, index, "a mapping that is not in the batch")
    }
    fn function(&self, index: u32) -> Result<Cow<'_, Function>, Malformed> {
        of(&self.functions, index, "a function that is not in the batch")
    }
    fn location(&self, index: u32) -> Result<Cow<'_, Location>, Malformed> {
        of(&self.locations, index, "a location that is not in the batch")
    }
}

impl Source for Tables {
    fn length(&self, thing: Thing) -> usize {
        self.len(match thing {
            Thing::OwnerText => Table::OwnerTexts,
            Thing::Text => Table::Texts,
            Thing::Identity => Table::Identities,
            Thing::Process => Table::Processes,
            Thing::Mapping => Table::Mappings,
            Thing::Function => Table::Functions,
            Thing::Location => Table::Locations,
            Thing::Place => Table::Places,
            Thing::Node => return self.node_count(),
        })
    }
    fn owner_text(&self, index: u32) -> Result<&str, Malformed> {
        Tables::text(self, Table::OwnerTexts, index)
    }
    fn text(&self, index: u32) -> Result<&str, Malformed> {
        Tables::text(self, Table::Texts, index)
    }
    fn identity_texts(&self, index: u32, visit: VisitText<'_>) -> Result<(), Malformed> {
        entry::identity_numbers(self.get(Table::Identities, index)?, |number| visit(IdentityText::Index(number)))
    }
    fn process(&self, index: u32) -> Result<Cow<'_, Process>, Malformed> {
        Ok(Cow::Owned(entry::process(self.get(Table::Processes, index)?)?))
    }
    fn mapping(&self, index: u32) -> Result<Cow<'_, Mapping>, Malformed> {
        Ok(Cow::Owned(entry::mapping(self.get(Table::Mappings, index)?)?))
    }
    fn function(&self, index: u32) -> Result<Cow<'_, Function>, Malformed> {
        Ok(Cow::Owned(entry::function(self.get(Table::Functions, index)?)?))
    }
    fn location(&self, index: u32) -> Result<Cow<'_, Location>, Malformed> {
        let place = |number| entry::place(self.get(Table::Places, number)?);
        Ok(Cow::Owned(entry::location(self.get(Table::Locations, index)?, place)?))
    }
}
