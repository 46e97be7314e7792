//! [`DwarfFile`]: the DWARF sections of a file, and of the supplementary file that it shares entries with.

use std::sync::Arc;

use gimli::{DwarfSections, EndianSlice, RunTimeEndian};
use object::Object;

use super::Dwarf;
use crate::elf::{self, DecompressionBudget, Section, Undecompressable};
use crate::image::Image;

/// Sections of one file.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) image: Arc<Image>,
    pub(crate) sections: DwarfSections<Section>,
    pub(crate) endian: RunTimeEndian,
}

impl Loaded {
    /// The DWARF sections of `file`, whose bytes are `image`; `None` if it has no `.debug_info`.
    pub(crate) fn load(
        image: &Arc<Image>,
        file: &object::File<'_>,
        budget: &mut DecompressionBudget,
    ) -> Result<Option<Self>, Undecompressable> {
        if file.section_by_name(".debug_info").is_none() {
            return Ok(None);
        }
        let sections = DwarfSections::load(|id| {
            // Neither is needed for names and places, and both are large.
            if matches!(id, gimli::SectionId::DebugLoc | gimli::SectionId::DebugLocLists) {
                return Ok(Section::EMPTY);
            }
            elf::section(file, id.name(), budget)
        })?;
        Ok(Some(Self { image: image.clone(), sections, endian: endian(file) }))
    }

    pub(crate) fn dwarf(&self) -> Dwarf<'_> {
        self.sections.borrow(|section| EndianSlice::new(section.bytes(&self.image), self.endian))
    }

    pub(crate) fn weight(&self) -> usize {
        weight(&self.sections)
    }
}

pub(crate) fn endian(file: &object::File<'_>) -> RunTimeEndian {
    if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big }
}

/// Heap bytes of decompressed sections.
pub(crate) fn weight(sections: &DwarfSections<Section>) -> usize {
    let mut sum = 0;
    // `borrow` is the one way to visit all sections; the view made of nothing is thrown away.
    let _ = sections.borrow(|section| {
        sum += section.weight();
        EndianSlice::new(&[], RunTimeEndian::Little)
    });
    sum
}

/// A file with DWARF.
#[derive(Debug)]
pub(crate) struct DwarfFile {
    pub(crate) main: Loaded,
    pub(crate) supplementary: Option<Loaded>,
}

impl DwarfFile {
    /// A view of all sections. Cheap: a handful of slices.
    pub(crate) fn dwarf(&self) -> Dwarf<'_> {
        let mut dwarf = self.main.dwarf();
        if let Some(supplementary) = &self.supplementary {
            dwarf.set_sup(supplementary.dwarf());
        }
        dwarf
    }

    pub(crate) fn weight(&self) -> usize {
        self.main.weight() + self.supplementary.as_ref().map_or(0, Loaded::weight)
    }

    pub(crate) fn release(&self) {
        self.main.image.release();
        if let Some(supplementary) = &self.supplementary {
            supplementary.image.release();
        }
    }

    pub(crate) fn damaged(&self) -> bool {
        self.main.image.damaged() || self.supplementary.as_ref().is_some_and(|file| file.image.damaged())
    }
}
