//! [`Kept`]: what was made of units, within a budget of bytes.

use std::collections::HashMap;

/// By unit number. When it holds too much all of it is dropped: units are asked for in order of address, so that what is there
/// is rarely wanted again.
#[derive(Debug)]
pub(crate) struct Kept<V> {
    by_unit: HashMap<u32, V>,
    bytes: usize,
    most: usize,
}

impl<V> Kept<V> {
    /// Holds about `most` bytes, and what was put in last in any case.
    pub(crate) fn new(most: usize) -> Self {
        Self { by_unit: HashMap::new(), bytes: 0, most }
    }

    /// What is there, or what `make` makes of the unit, with its weight in bytes.
    #[expect(clippy::expect_used, reason = "SANITY: it is put in where it is not there")]
    pub(crate) fn get_or_make<E>(
        &mut self,
        number: u32,
        make: impl FnOnce() -> Result<(V, usize), E>,
    ) -> Result<&mut V, E> {
        if !self.by_unit.contains_key(&number) {
            let (value, bytes) = make()?;
            if self.bytes.saturating_add(bytes) > self.most {
                self.clear();
            }
            self.bytes += bytes;
            self.by_unit.insert(number, value);
        }
        Ok(self.by_unit.get_mut(&number).expect("the unit is there"))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.by_unit.values()
    }

    pub(crate) fn clear(&mut self) {
        self.by_unit = HashMap::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    #[test]
    fn what_is_too_much_together_is_dropped_and_made_again() {
        let mut kept = Kept::new(10);
        let mut made = Vec::new();
        for number in [1, 2, 1, 3, 1, 4, 4] {
            let value = kept.get_or_make(number, || {
                made.push(number);
                // The fourth alone is more than may be held.
                Ok::<_, ()>((number, if number == 4 { 11 } else { 5 }))
            });
            assert_eq!(value.copied(), Ok(number));
        }
        assert_eq!(made, [1, 2, 3, 1, 4]);
        assert_eq!(kept.values().collect::<Vec<_>>(), [&4]);
        assert_eq!(kept.get_or_make(5, || Err("broken")), Err("broken"));
        assert_eq!(kept.values().collect::<Vec<_>>(), [&4]);
    }
}
