//! Groups of seven: the tags that a lookup scans, and the slots that they stand for.

use super::record::Slot;

/// Entries per group.
pub(super) const WIDTH: usize = 7;

/// The tags of one group of entries: 8 octets, an eighth of a cache line.
///
/// Seven one-octet tags, 0 for a free slot and at least 0x80 for any other, and a count of the entries
/// whose primary group this is and which live in their secondary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct TagGroup {
    /// Slot `i` has bits `8 i` to `8 i + 7`, the count the highest eight.
    word: u64,
}

/// What the tags of one key are: a different one for each slot, so that no octet has to be spread
/// over a word before it can be compared with the tags of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tags(u64);

impl Tags {
    #[inline]
    pub(super) const fn new(hash: u64) -> Tags {
        Tags(hash | SLOTS)
    }

    #[cfg(test)]
    pub(super) const fn first(self) -> u8 {
        self.0 as u8
    }

    /// How many of the seven tags are equal.
    #[cfg(test)]
    pub(super) fn in_common(self, other: Tags) -> usize {
        let octets = (self.0 ^ other.0).to_le_bytes();
        octets[..WIDTH].iter().filter(|o| **o == 0).count()
    }
}

/// The highest bit of each slot's octet.
const SLOTS: u64 = 0x0080_8080_8080_8080;
const COUNT_AT: u32 = 8 * WIDTH as u32;

/// The entries of one group: seven slots of 16 octets. No slot crosses a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct SlotGroup {
    pub(super) slots: [Slot; WIDTH],
}

/// A set of slots of a group: slot `i` is bit `8 i + 7`. Gives them in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matches(u64);

impl Matches {
    #[inline]
    pub(super) const fn first(self) -> Option<usize> {
        if self.0 == 0 { None } else { Some((self.0.trailing_zeros() >> 3) as usize) }
    }
}

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let slot = self.first()?;
        self.0 &= self.0.wrapping_sub(1);
        Some(slot)
    }
}

impl TagGroup {
    /// A group of free slots.
    pub const EMPTY: TagGroup = TagGroup { word: 0 };

    /// Slots with the key's tag: the whole scan of a group, without a branch. Never a free slot; every
    /// slot with the tag; and a few others, as a tag above one that is equal may borrow from it.
    ///
    /// One word of 8 octets, so SIMD would have nothing to gain.
    #[inline]
    pub(super) const fn matching(&self, tags: Tags) -> Matches {
        let differ = self.word ^ tags.0;
        Matches(differ.wrapping_sub(0x0101_0101_0101_0101) & !differ & SLOTS)
    }

    /// Slots that hold an entry.
    #[cfg(test)]
    pub(super) const fn occupied(&self) -> Matches {
        Matches(self.word & SLOTS)
    }

    /// A free slot.
    #[inline]
    pub(super) const fn free(&self) -> Option<usize> {
        Matches(!self.word & SLOTS).first()
    }

    /// Marks a slot below [`WIDTH`] as that of a key with these tags, or as free.
    #[inline]
    pub(super) const fn set(&mut self, slot: usize, tags: Option<Tags>) {
        if slot < WIDTH {
            let octet = 0xff << (8 * slot as u32);
            let tags = if let Some(tags) = tags { tags.0 } else { 0 };
            self.word = self.word & !octet | tags & octet;
        }
    }

    /// How many entries of this group live in their secondary group.
    #[inline]
    pub(super) const fn overflow(&self) -> u8 {
        (self.word >> COUNT_AT) as u8
    }

    /// Whether the count can take one more. It never saturates, so that it stays exact: a group
    /// whose count is at its end sends no further entry away.
    #[inline]
    pub(super) const fn may_overflow(&self) -> bool {
        self.overflow() != u8::MAX
    }

    #[inline]
    pub(super) const fn overflow_add(&mut self) {
        if self.may_overflow() {
            self.word += 1 << COUNT_AT;
        }
    }

    #[inline]
    pub(super) const fn overflow_sub(&mut self) {
        if self.overflow() != 0 {
            self.word -= 1 << COUNT_AT;
        }
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
        assert_eq!((align_of::<SlotGroup>(), align_of::<Slot>(), size_of::<Slot>()), (16, 16, 16));
    }

    /// Tags that differ in one bit, or follow one that is equal, are where a scan by word arithmetic
    /// goes wrong.
    #[test]
    fn a_scan_finds_what_a_loop_finds_and_no_free_slot() {
        let near = [0x80u8, 0x81, 0x82, 0xc0, 0xfe, 0xff];
        let mut state = 1u32;
        let mut next = |range: usize| {
            state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            (state >> 16) as usize % range
        };
        for _ in 0..20_000 {
            let mut octets = [0u8; 8];
            let mut group = TagGroup::EMPTY;
            let count = next(256);
            (0..count).for_each(|_| group.overflow_add());
            for (i, octet) in octets[..WIDTH].iter_mut().enumerate() {
                let tag = near[next(near.len())];
                group.set(i, Some(Tags::new(u64::from_le_bytes([tag; 8]))));
                if next(4) == 0 {
                    group.set(i, None);
                } else {
                    *octet = tag;
                }
            }
            let tags: [u8; 8] = core::array::from_fn(|_| near[next(near.len())]);
            let set = |slots: &mut dyn Iterator<Item = usize>| slots.fold(0u8, |set, i| set | 1 << i);
            let found = set(&mut group.matching(Tags::new(u64::from_le_bytes(tags))));
            let equal = set(&mut (0..WIDTH).filter(|&i| octets[i] == tags[i]));
            let taken = set(&mut (0..WIDTH).filter(|&i| octets[i] != 0));
            assert_eq!((equal & !found, found & !taken), (0, 0), "{octets:x?} {tags:x?}");
            let first = equal.trailing_zeros();
            assert_eq!(found.trailing_zeros(), first, "below the first that is equal nothing borrows");
            assert!(group.occupied().eq((0..WIDTH).filter(|&i| octets[i] != 0)));
            assert_eq!(group.free(), (0..WIDTH).find(|&i| octets[i] == 0));
            assert_eq!(group.overflow() as usize, count);
        }
    }

    #[test]
    fn the_count_of_overflowed_entries_is_no_slot() {
        let mut group = TagGroup::EMPTY;
        group.set(WIDTH, Some(Tags::new(7)));
        assert_eq!(group, TagGroup::EMPTY);
        for _ in 0..u8::MAX {
            assert!(group.may_overflow());
            group.overflow_add();
        }
        assert!(!group.may_overflow());
        group.overflow_add();
        assert_eq!((group.overflow(), group.occupied().count()), (u8::MAX, 0));
        for _ in 0..300 {
            group.overflow_sub();
        }
        assert_eq!(group, TagGroup::EMPTY);
    }
}
