//! The executables by index. An index outlives its executable harmlessly: a slot that is used again has another generation.

use super::executable::{Executable, ExecutableIndex};

struct Slot {
    generation: u32,
    executable: Option<Executable>,
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// Puts an executable into a free slot.
    pub(super) fn add(&mut self, executable: Executable) -> ExecutableIndex {
        let slot = self.free.pop().unwrap_or(self.all.len() as u32);
        if slot as usize == self.all.len() {
            self.all.push(Slot { generation: 0, executable: None });
        }
        let place = &mut self.all[slot as usize];
        place.executable = Some(executable);
        ExecutableIndex { slot, generation: place.generation }
    }

    /// Takes an executable out; its index finds nothing from now on.
    pub(super) fn remove(&mut self, index: ExecutableIndex) -> Option<Executable> {
        let place = self.all.get_mut(index.slot as usize).filter(|place| place.generation == index.generation)?;
        let executable = place.executable.take()?;
        // 4 billion turns of one slot would take longer than any machine runs.
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index.slot);
        Some(executable)
    }

    pub(super) fn get(&self, index: ExecutableIndex) -> Option<&Executable> {
        self.all
            .get(index.slot as usize)
            .filter(|place| place.generation == index.generation)
            .and_then(|place| place.executable.as_ref())
    }

    pub(super) fn get_mut(&mut self, index: ExecutableIndex) -> Option<&mut Executable> {
        self.all
            .get_mut(index.slot as usize)
            .filter(|place| place.generation == index.generation)
            .and_then(|place| place.executable.as_mut())
    }

    /// All, with their indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ExecutableIndex, &Executable)> {
        self.all.iter().enumerate().filter_map(|(slot, place)| {
            let index = ExecutableIndex { slot: slot as u32, generation: place.generation };
            Some((index, place.executable.as_ref()?))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ExecutableIndex, &mut Executable)> {
        self.all.iter_mut().enumerate().filter_map(|(slot, place)| {
            let index = ExecutableIndex { slot: slot as u32, generation: place.generation };
            Some((index, place.executable.as_mut()?))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }
}
