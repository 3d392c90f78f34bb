//! Groups of fifteen: the tags that a lookup scans, and the slots that they stand for.

use super::record::Slot;

/// Entries per group.
pub(super) const WIDTH: usize = 15;

/// The tags of one group of entries: 16 octets, a quarter of a cache line.
///
/// Fifteen one-octet tags, 0 for a free slot, and a count of the entries whose primary group this
/// is and which live in their secondary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C, align(16))]
pub struct TagGroup {
    octets: [u8; 16],
}

/// The entries of one group: fifteen slots of 16 octets. No slot crosses a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct SlotGroup {
    slots: [Slot; WIDTH],
}

/// Slots of a group. Slot `i` is bit `8 i`, and from slot 8 on bit `8 (i - 8) + 4`: so the scan of two
/// 8-octet words makes one mask without moving bits together. The order is 0, 8, 1, 9, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matches(u64);

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        Some(bit >> 3 | (bit & 4) << 1)
    }
}

/// Which of the first fifteen octets equal `tag`, without a branch: the whole scan of a group.
///
/// Exact: no carry passes from one octet to the next. SIMD code for it belongs here and nowhere else.
#[inline]
const fn scan(octets: [u8; 16], tag: u8) -> Matches {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let both = u128::from_le_bytes(octets);
    let pattern = tag as u64 * 0x0101_0101_0101_0101;
    let low = both as u64 ^ pattern;
    let high = (both >> 64) as u64 ^ pattern;
    let low = !((low & LOW).wrapping_add(LOW) | low) & !LOW;
    let high = !((high & LOW).wrapping_add(LOW) | high) & (!LOW >> 8);
    Matches(low >> 7 | high >> 3)
}

impl TagGroup {
    /// A group of free slots.
    pub const EMPTY: TagGroup = TagGroup { octets: [0; 16] };

    /// Slots with this tag, which must not be 0.
    #[inline]
    pub(super) const fn matching(&self, tag: u8) -> Matches {
        scan(self.octets, tag)
    }

    /// Slots that hold an entry.
    #[inline]
    pub(super) const fn occupied(&self) -> Matches {
        const ALL: u64 = 0x0111_1111_1111_1111;
        Matches(scan(self.octets, 0).0 ^ ALL)
    }

    /// Whether the slot holds an entry.
    pub(super) fn is_taken(&self, slot: usize) -> bool {
        slot < WIDTH && self.octets.get(slot).is_some_and(|tag| *tag != 0)
    }

    /// A free slot.
    #[inline]
    pub(super) fn free(&self) -> Option<usize> {
        scan(self.octets, 0).next()
    }

    #[inline]
    pub(super) fn set(&mut self, slot: usize, tag: u8) {
        if let Some(octet) = self.octets.get_mut(..WIDTH).and_then(|tags| tags.get_mut(slot)) {
            *octet = tag;
        }
    }

    /// How many entries of this group live in their secondary group.
    #[inline]
    pub(super) const fn overflow(&self) -> u8 {
        self.octets[WIDTH]
    }

    /// Whether the count can take one more. It never saturates, so that it stays exact: a group
    /// whose count is at its end sends no further entry away.
    #[inline]
    pub(super) const fn may_overflow(&self) -> bool {
        self.overflow() != u8::MAX
    }

    #[inline]
    pub(super) const fn overflow_add(&mut self) {
        self.octets[WIDTH] = self.octets[WIDTH].saturating_add(1);
    }

    #[inline]
    pub(super) const fn overflow_sub(&mut self) {
        self.octets[WIDTH] = self.octets[WIDTH].saturating_sub(1);
    }
}

impl SlotGroup {
    /// A group of free slots.
    pub const EMPTY: SlotGroup = SlotGroup { slots: [Slot::FREE; WIDTH] };

    #[inline]
    pub(super) fn get(&self, slot: usize) -> Option<&Slot> {
        self.slots.get(slot)
    }

    #[inline]
    pub(super) fn set(&mut self, slot: usize, to: Slot) {
        if let Some(s) = self.slots.get_mut(slot) {
            *s = to;
        }
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

    fn slots(m: Matches) -> impl Iterator<Item = usize> {
        let mut found = [false; 16];
        m.for_each(|slot| found[slot] = true);
        (0..16).filter(move |&i| found[i])
    }

    #[test]
    fn a_group_is_256_octets_and_a_slot_crosses_no_cache_line() {
        assert_eq!((size_of::<TagGroup>(), size_of::<SlotGroup>()), (16, 240));
        assert_eq!((align_of::<TagGroup>(), align_of::<SlotGroup>(), size_of::<Slot>()), (16, 16, 16));
    }

    /// Octets that differ from the tag in one bit, or follow one that is equal, are where a scan
    /// by word arithmetic goes wrong.
    #[test]
    fn a_scan_finds_what_a_loop_finds() {
        let near = [0u8, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff];
        let mut state = 1u32;
        for round in 0..20_000 {
            let mut octets = [0; 16];
            for o in &mut octets {
                state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
                *o = if round % 2 == 0 { near[(state >> 29) as usize] } else { (state >> 24) as u8 };
            }
            let group = TagGroup { octets };
            for tag in near {
                let naive = (0..WIDTH).filter(|&i| octets[i] == tag);
                assert!(slots(scan(octets, tag)).eq(naive), "{octets:x?} {tag:x}");
            }
            assert!(slots(group.occupied()).eq((0..WIDTH).filter(|&i| octets[i] != 0)));
            let free = |slot| octets[slot] == 0 && slot < WIDTH;
            assert!(group.free().map_or(!(0..WIDTH).any(free), free));
            assert_eq!(group.overflow(), octets[15]);
        }
    }

    #[test]
    fn the_count_of_overflowed_entries_is_no_slot() {
        let mut group = TagGroup::EMPTY;
        group.set(WIDTH, 7);
        assert_eq!(group, TagGroup::EMPTY);
        for _ in 0..u8::MAX {
            assert!(group.may_overflow());
            group.overflow_add();
        }
        assert!(!group.may_overflow());
        assert_eq!(group.occupied().count(), 0);
    }
}
