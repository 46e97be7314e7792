//! The name of a debugging entry: its linkage name, else its name, found through abstract origins and specifications.

use std::collections::HashMap;

use gimli::{AttributeValue, DebugInfoOffset, UnitOffset, constants};

use super::{Dwarf, DwarfError, Reader, Unit, View};
use crate::frame::Frame;
use crate::limits::{MAX_CACHED_NAMES, MAX_REFERENCES};
use crate::text::Texts;

/// Names already found, by the entry that has them.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<Key, Frame>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Offset in the executable's `.debug_info`.
    Own(usize),
    /// Unit number and offset in its split unit.
    Split(u32, usize),
    /// Offset in the supplementary file's `.debug_info`.
    Supplementary(usize),
}

/// What the entries looked at so far say: the first word on each matter holds.
#[derive(Default)]
struct Said<'a> {
    linkage: Option<Reader<'a>>,
    name: Option<Reader<'a>>,
    line: Option<u32>,
}

impl<'a> Said<'a> {
    /// Takes what the entry says; gives the entry that it refers to.
    fn hear(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        entry: UnitOffset<usize>,
    ) -> Result<Option<AttributeValue<Reader<'a>>>, DwarfError> {
        let entry = unit.entry(entry)?;
        let mut next = None;
        for attribute in entry.attrs() {
            match attribute.name() {
                constants::DW_AT_linkage_name | constants::DW_AT_MIPS_linkage_name if self.linkage.is_none() => {
                    self.linkage = dwarf.attr_string(unit, attribute.value()).ok();
                }
                constants::DW_AT_name if self.name.is_none() => {
                    self.name = dwarf.attr_string(unit, attribute.value()).ok();
                }
                constants::DW_AT_decl_line if self.line.is_none() => {
                    self.line = attribute.udata_value().and_then(|line| u32::try_from(line).ok());
                }
                constants::DW_AT_abstract_origin | constants::DW_AT_specification => next = Some(attribute.value()),
                _ => {}
            }
        }
        Ok(next)
    }

    fn frame(&self, texts: &mut Texts<'_>) -> Frame {
        let name = self.linkage.or(self.name).map_or(&b""[..], |name| name.slice());
        texts.frame(name, self.line.unwrap_or(0))
    }
}

impl Names {
    pub(crate) fn weight(&self) -> usize {
        self.0.capacity() * (size_of::<Key>() + size_of::<Frame>() + 1)
    }

    /// A frame with the name of the entry at `entry`, and no place yet.
    ///
    /// Instances of one function share an abstract origin, so the name is kept for that entry, not for each instance.
    ///
    /// # Errors
    /// [`DwarfError::TimeUp`] alone; whatever else goes wrong costs a part of the name.
    pub(crate) fn resolve<'a, 'v: 'a>(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &Unit<'a>,
        view: Option<&View<'v>>,
        (number, split): (u32, bool),
        entry: UnitOffset<usize>,
        texts: &mut Texts<'_>,
    ) -> Result<Frame, DwarfError> {
        let mut said = Said::default();
        // A broken reference leaves what was said before it.
        let Ok(Some(next)) = said.hear(dwarf, unit, entry) else { return Ok(said.frame(texts)) };
        let key = match next {
            AttributeValue::UnitRef(offset) if split => Some(Key::Split(number, offset.0)),
            AttributeValue::UnitRef(offset) => {
                offset.to_debug_info_offset(&unit.header).map(|offset| Key::Own(offset.0))
            }
            AttributeValue::DebugInfoRef(offset) if !split => Some(Key::Own(offset.0)),
            AttributeValue::DebugInfoRefSup(offset) => Some(Key::Supplementary(offset.0)),
            _ => None,
        };
        let untouched = said.linkage.is_none() && said.name.is_none() && said.line.is_none();
        if untouched && let Some(frame) = key.and_then(|key| self.0.get(&key)) {
            return Ok(frame.clone());
        }
        if let Err(DwarfError::TimeUp) = follow(dwarf, unit, view, next, &mut said) {
            return Err(DwarfError::TimeUp);
        }
        let frame = said.frame(texts);
        if untouched && let Some(key) = key {
            if self.0.len() >= MAX_CACHED_NAMES {
                self.0.clear();
            }
            self.0.insert(key, frame.clone());
        }
        Ok(frame)
    }
}

/// Hears the entry that `reference` names, and those that it refers to in turn.
fn follow<'a, 'v: 'a>(
    dwarf: &Dwarf<'a>,
    unit: &Unit<'a>,
    view: Option<&View<'v>>,
    reference: AttributeValue<Reader<'a>>,
    said: &mut Said<'a>,
) -> Result<(), DwarfError> {
    let mut next = Some(reference);
    let mut other: Option<std::rc::Rc<Unit<'v>>> = None;
    for _ in 0..MAX_REFERENCES {
        let Some(reference) = next else { break };
        let entry = match reference {
            AttributeValue::UnitRef(offset) => offset,
            AttributeValue::DebugInfoRef(offset) => {
                let view = view.ok_or(DwarfError::Missing)?;
                let number = view.index.unit_at(offset.0).ok_or(DwarfError::Missing)?;
                let unit = view.unit(number)?;
                let entry = offset.to_unit_offset(&unit.header).ok_or(DwarfError::Missing)?;
                other = Some(unit);
                entry
            }
            AttributeValue::DebugInfoRefSup(offset) => return supplementary(view, offset, said),
            _ => return Err(DwarfError::Missing),
        };
        next = said.hear(dwarf, other.as_deref().unwrap_or(unit), entry)?;
    }
    Ok(())
}

/// The same in the supplementary (dwz) file, which refers only to itself.
fn supplementary<'a, 'v: 'a>(
    view: Option<&View<'v>>,
    offset: DebugInfoOffset<usize>,
    said: &mut Said<'a>,
) -> Result<(), DwarfError> {
    let view = view.ok_or(DwarfError::Missing)?;
    let dwarf = view.dwarf.sup().ok_or(DwarfError::Missing)?;
    let mut next = offset;
    for _ in 0..MAX_REFERENCES {
        let unit = view.supplementary_unit(dwarf, next)?;
        let entry = next.to_unit_offset(&unit.header).ok_or(DwarfError::Missing)?;
        next = match said.hear(dwarf, &unit, entry)? {
            Some(AttributeValue::UnitRef(offset)) => {
                offset.to_debug_info_offset(&unit.header).ok_or(DwarfError::Missing)?
            }
            Some(AttributeValue::DebugInfoRef(offset)) => offset,
            _ => break,
        };
    }
    Ok(())
}
