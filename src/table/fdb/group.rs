//! Groups of seven: the slots that the tags stand for.

use super::record::Slot;
pub use crate::table::tags::TagGroup;
pub(super) use crate::table::tags::WIDTH;

/// The entries of one group: seven slots of 16 octets. No slot crosses a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct SlotGroup {
    pub(super) slots: [Slot; WIDTH],
}

impl SlotGroup {
    /// A group of free slots.
    pub const EMPTY: SlotGroup = SlotGroup { slots: [Slot::FREE; WIDTH] };

    #[inline]
    pub(super) fn get(&self, slot: usize) -> Option<&Slot> {
        self.slots.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.slots.get_mut(slot)
    }
}

impl Default for SlotGroup {
    fn default() -> SlotGroup {
        SlotGroup::EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_120_octets_and_a_slot_crosses_no_cache_line() {
        assert_eq!((size_of::<TagGroup>(), size_of::<SlotGroup>()), (8, 112));
        assert_eq!((align_of::<SlotGroup>(), size_of::<Slot>()), (16, 16));
    }
}
