//! [`Split`]: units whose entries live in a `.dwo` file, or in a `.dwp` package beside the executable.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use gimli::{DwarfPackageSections, DwarfSections, EndianSlice, RunTimeEndian, UnitType};

use super::opening::UnitOpener;
use super::sections::endian;
use super::{Context, Dwarf, DwarfError, Reader, Unit, View};
use crate::debug_file::Lookup;
use crate::elf::{self, DecompressionBudget, Section};
use crate::image::Image;
use crate::statistics::Failure;

/// Split files in use.
#[derive(Debug, Default)]
pub(crate) struct Split {
    /// By unit number; `None` = looked for and not found.
    objects: HashMap<u32, Option<SplitObject>>,
    /// Outer `None` = not looked for yet.
    package: Option<Option<Package>>,
}

/// Split files open at one time for one executable; more are dropped and opened again.
const MAX_OBJECTS: usize = 64;

#[derive(Debug)]
enum SplitObject {
    File { image: Arc<Image>, sections: Box<DwarfSections<Section>>, endian: RunTimeEndian },
    Packaged,
}

#[derive(Debug)]
struct Package {
    image: Arc<Image>,
    sections: Box<DwarfPackageSections<Section>>,
    endian: RunTimeEndian,
}

impl Split {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn weight(&self) -> usize {
        self.objects
            .values()
            .map(|object| match object {
                Some(SplitObject::File { sections, .. }) => super::sections::weight(sections),
                _ => 0,
            })
            .sum()
    }

    pub(crate) fn release(&self) {
        self.images().for_each(Image::release);
    }

    pub(crate) fn damaged(&self) -> bool {
        self.images().any(Image::damaged)
    }

    fn images(&self) -> impl Iterator<Item = &Image> {
        let packages = self.package.iter().flatten().map(|package| &*package.image);
        packages.chain(self.objects.values().filter_map(|object| match object {
            Some(SplitObject::File { image, .. }) => Some(&**image),
            _ => None,
        }))
    }

    /// Finds the split unit of a skeleton; the number to pass to [`Split::view`] if there is one.
    pub(crate) fn load(
        &mut self,
        view: &View<'_>,
        number: u32,
        skeleton: &Unit<'_>,
        context: &Context<'_>,
    ) -> Option<u32> {
        let id = skeleton.dwo_id?;
        let name = skeleton.dwo_name().ok().flatten()?;
        if !self.objects.contains_key(&number) {
            if self.objects.len() >= MAX_OBJECTS {
                self.objects.clear();
            }
            let lookup = Lookup::new(context.executable, context.counters, context.watch);
            let package = self.package.get_or_insert_with(|| open_package(&lookup));
            let packaged = package.as_ref().is_some_and(|package| {
                package.view().is_some_and(|view_| view_.find_cu(id, &view.dwarf).is_ok_and(|unit| unit.is_some()))
            });
            let object = if packaged {
                Some(SplitObject::Packaged)
            } else {
                view.dwarf.attr_string(skeleton, name).ok().and_then(|name| {
                    let mut path = PathBuf::new();
                    if let Some(directory) = skeleton.comp_dir {
                        path.push(&*directory.to_string_lossy());
                    }
                    path.push(&*name.to_string_lossy());
                    open_object(&lookup, &path)
                })
            };
            if object.is_none() {
                context.counters.fail(Failure::SplitUnitMissing);
            }
            self.objects.insert(number, object);
        }
        self.objects.get(&number)?.as_ref().map(|_| number)
    }

    /// Views of the split unit of that number, for one batch; `None` if it is not there or can't be read.
    ///
    /// # Errors
    /// [`DwarfError::TimeUp`] alone: without its functions, what would be kept of the unit is what is never true of it.
    pub(crate) fn view<'a>(
        &'a self,
        number: u32,
        parent: &Dwarf<'a>,
        skeleton: &Unit<'a>,
        context: &'a Context<'a>,
    ) -> Result<Option<(Dwarf<'a>, Unit<'a>)>, DwarfError> {
        let Some(dwarf) = self.dwarf(number, parent, skeleton) else { return Ok(None) };
        let opener = UnitOpener::new(context);
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            context.deadline.tick()?;
            if matches!(header.type_(), UnitType::Type { .. } | UnitType::SplitType { .. }) {
                continue;
            }
            let mut unit = match opener.open(&dwarf, header) {
                Ok((unit, _)) => unit,
                Err(DwarfError::TimeUp) => return Err(DwarfError::TimeUp),
                Err(_) => continue,
            };
            if unit.dwo_id == skeleton.dwo_id {
                unit.copy_relocated_attributes(skeleton);
                return Ok(Some((dwarf, unit)));
            }
        }
        Ok(None)
    }

    /// The sections that the split unit of that number is in.
    fn dwarf<'a>(&'a self, number: u32, parent: &Dwarf<'a>, skeleton: &Unit<'a>) -> Option<Dwarf<'a>> {
        match self.objects.get(&number)?.as_ref()? {
            SplitObject::Packaged => {
                let package = self.package.as_ref()?.as_ref()?;
                package.view()?.find_cu(skeleton.dwo_id?, parent).ok().flatten()
            }
            SplitObject::File { image, sections, endian } => {
                let mut dwarf = sections.borrow(|section| EndianSlice::new(section.bytes(image), *endian));
                dwarf.make_dwo(parent);
                Some(dwarf)
            }
        }
    }

    /// With the file of one unit in it.
    #[cfg(test)]
    pub(super) fn of_file(number: u32, file: super::Loaded) -> Self {
        let super::Loaded { image, sections, endian } = file;
        let object = SplitObject::File { image, sections: Box::new(sections), endian };
        Self { objects: HashMap::from([(number, Some(object))]), package: None }
    }
}

impl Package {
    fn view(&self) -> Option<gimli::DwarfPackage<Reader<'_>>> {
        let empty = EndianSlice::new(&[], self.endian);
        self.sections.borrow(|section| EndianSlice::new(section.bytes(&self.image), self.endian), empty).ok()
    }
}

fn open_package(lookup: &Lookup<'_>) -> Option<Package> {
    let image = lookup.beside_executable("dwp")?;
    let file = object::File::parse(&**image).ok()?;
    let mut budget = DecompressionBudget::default();
    let sections = DwarfPackageSections::load(|id| {
        id.dwo_name().map_or(Ok(Section::EMPTY), |name| elf::section(&file, name, &mut budget))
    })
    .ok()?;
    let endian = endian(&file);
    Some(Package { sections: Box::new(sections), endian, image })
}

fn open_object(lookup: &Lookup<'_>, path: &std::path::Path) -> Option<SplitObject> {
    let image = lookup.open(path)?;
    let file = object::File::parse(&**image).ok()?;
    let mut budget = DecompressionBudget::default();
    let sections = DwarfSections::load(|id| {
        id.dwo_name().map_or(Ok(Section::EMPTY), |name| elf::section(&file, name, &mut budget))
    })
    .ok()?;
    let endian = endian(&file);
    Some(SplitObject::File { sections: Box::new(sections), endian, image })
}
