//! A word of tags: seven octets that tell keys apart, and a count. What the FDB and the hash index scan.

/// Tags in a word.
pub(super) const WIDTH: usize = 7;

/// The tags of one group of entries: 8 octets, an eighth of a cache line.
///
/// Seven one-octet tags, 0 for a free slot and at least 0x80 for any other, and a count of the entries
/// whose primary group this is and which live in their secondary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct TagGroup {
    /// Slot `i` has bits `8 i + 8` to `8 i + 15`, the count the lowest eight.
    word: u64,
}

/// What the tags of one key are: a different one for each slot, so that no octet has to be spread
/// over a word before it can be compared with the tags of a group. The lowest octet means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tags(u64);

impl Tags {
    #[inline]
    pub(super) const fn new(hash: u64) -> Tags {
        Tags(hash | SLOTS)
    }

    #[cfg(test)]
    pub(super) const fn first(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// How many of the seven tags are equal.
    #[cfg(test)]
    pub(super) fn in_common(self, other: Tags) -> usize {
        let octets = (self.0 ^ other.0).to_le_bytes();
        octets[1..].iter().filter(|o| **o == 0).count()
    }
}

/// The highest bit of each slot's octet.
const SLOTS: u64 = 0x8080_8080_8080_8000;
/// The lowest bit of each slot's octet.
const ONES: u64 = SLOTS >> 7;
/// The highest bit of the lowest slot's octet.
const LOWEST: u64 = 0x8000;
/// The lowest octet.
const COUNT: u64 = 0xff;

/// A set of slots of a group: slot `i` is bit `8 i + 15`. Gives them in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matches(u64);

impl Matches {
    #[inline]
    pub(super) const fn first(self) -> Option<usize> {
        if self.0 == 0 { None } else { Some((self.0.trailing_zeros() >> 3).wrapping_sub(1) as usize) }
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
        Matches(differ.wrapping_sub(ONES) & !differ & SLOTS)
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

    /// The free slot in which a key with these tags is found first, where there is one: below any slot
    /// whose tag is equal by chance. The lowest slot is kept for such keys as long as others are free; so
    /// whoever comes later takes a place behind those that are there, and gets in the way of nobody.
    #[inline]
    pub(super) const fn place(&self, tags: Tags) -> Option<usize> {
        let free = !self.word & SLOTS;
        let equal = self.matching(tags).0;
        // Nothing is below no slot.
        let before = free & (equal & equal.wrapping_neg()).saturating_sub(1);
        if before != 0 { Matches(before).first() } else { self.place_behind() }
    }

    /// [`place`](Self::place) for a key none of whose tags is there.
    #[inline]
    pub(super) const fn place_behind(&self) -> Option<usize> {
        Matches(self.free_behind()).first()
    }

    /// The free slots but for the lowest, unless that is the only one.
    #[inline]
    const fn free_behind(&self) -> u64 {
        let free = !self.word & SLOTS;
        let behind = free & !LOWEST;
        if behind != 0 { behind } else { free }
    }

    /// The first slot with the key's tag, if any; else where it would be [put](Self::place_behind), which is no
    /// slot in a full group.
    #[inline]
    pub(super) const fn first_or_free(&self, tags: Tags) -> usize {
        let equal = self.matching(tags).0;
        let slot = if equal != 0 { equal } else { self.free_behind() };
        (slot.trailing_zeros() >> 3).wrapping_sub(1) as usize
    }

    /// Marks a slot below [`WIDTH`] as that of a key with these tags, or as free.
    #[inline]
    pub(super) const fn set(&mut self, slot: usize, tags: Option<Tags>) {
        if slot < WIDTH {
            let octet = 0xff00 << (8 * slot as u32);
            let tags = if let Some(tags) = tags { tags.0 } else { 0 };
            self.word = self.word & !octet | tags & octet;
        }
    }

    /// [`set`](Self::set) for a slot that is free.
    #[inline]
    pub(super) const fn fill(&mut self, slot: usize, tags: Tags) {
        if slot < WIDTH {
            self.word |= tags.0 & 0xff00 << (8 * slot as u32);
        }
    }

    /// How many entries of this group live in their secondary group.
    #[inline]
    pub(super) const fn overflow(&self) -> u8 {
        (self.word & COUNT) as u8
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
            self.word += 1;
        }
    }

    #[inline]
    pub(super) const fn overflow_sub(&mut self) {
        if self.overflow() != 0 {
            self.word -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let equal = set(&mut (0..WIDTH).filter(|&i| octets[i] == tags[i + 1]));
            let taken = set(&mut (0..WIDTH).filter(|&i| octets[i] != 0));
            assert_eq!((equal & !found, found & !taken), (0, 0), "{octets:x?} {tags:x?}");
            let first = equal.trailing_zeros();
            assert_eq!(found.trailing_zeros(), first, "below the first that is equal nothing borrows");
            assert!(group.occupied().eq((0..WIDTH).filter(|&i| octets[i] != 0)));
            assert_eq!(group.free(), (0..WIDTH).find(|&i| octets[i] == 0));
            assert_eq!(group.overflow() as usize, count);

            let free = |slots: core::ops::Range<usize>| slots.into_iter().find(|&i| octets[i] == 0);
            let behind = free(1..WIDTH).or(free(0..1));
            let tags = Tags::new(u64::from_le_bytes(tags));
            let (before, first) = match group.matching(tags).first() {
                Some(first) => (free(0..first), first),
                None => (None, behind.unwrap_or(WIDTH)),
            };
            assert_eq!(group.place_behind(), behind);
            assert_eq!(group.place(tags), before.or(behind));
            assert_eq!(group.first_or_free(tags).min(WIDTH), first);
            if let Some(slot) = group.place(tags) {
                let mut filled = group;
                filled.fill(slot, tags);
                group.set(slot, Some(tags));
                assert_eq!(filled, group);
                let found = filled.matching(tags).first();
                assert!(found == Some(slot) || before.is_none() && found < Some(slot));
            }
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
