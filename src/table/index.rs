//! The hash index of the VNI and VTEP tables: from a key's hash to a record's id.
//!
//! A lookup reads one slot, which is one cache line, and a second one only where keys of the first
//! had to go elsewhere. It never reads a third, so the bound holds even against somebody who knows
//! the [`Seed`](super::Seed) and chooses the keys: all that such keys reach is a refused insert.

use super::Store;
use crate::error::CapacityError;

/// Entries of one slot. Ten tags, ten ids and one count fill a cache line of 64 octets.
const LANES: usize = 10;

/// The tag of a free lane; no entry has it.
const FREE: u16 = 0;

/// One cache line of an index's memory: room for ten entries.
///
/// Lend a table [`index_slots_for`] its capacity many.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct IndexSlot {
    tags: [u16; LANES],
    ids: [u32; LANES],
    /// Entries whose first slot is this one and that are kept in their second.
    away: u32,
}

const _: () = assert!(size_of::<IndexSlot>() == 64);

impl IndexSlot {
    /// A slot without entries.
    pub const EMPTY: IndexSlot = IndexSlot { tags: [FREE; LANES], ids: [0; LANES], away: 0 };

    #[inline]
    fn find(&self, tag: u16, is: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        // All tags are compared before any is looked into: this part becomes vector code.
        let mut hits = 0u32;
        for (lane, t) in self.tags.iter().enumerate() {
            hits |= u32::from(*t == tag) << lane;
        }
        while hits != 0 {
            let id = *self.ids.get(hits.trailing_zeros() as usize)?;
            if is(id) {
                return Some(id);
            }
            hits &= hits - 1;
        }
        None
    }

    /// Puts an entry into a free lane; false where there is none.
    fn put(&mut self, tag: u16, id: u32) -> bool {
        for (t, i) in self.tags.iter_mut().zip(&mut self.ids) {
            if *t == FREE {
                (*t, *i) = (tag, id);
                return true;
            }
        }
        false
    }

    fn take(&mut self, tag: u16, id: u32) -> bool {
        for (t, i) in self.tags.iter_mut().zip(&mut self.ids) {
            if *t == tag && *i == id {
                (*t, *i) = (FREE, 0);
                return true;
            }
        }
        false
    }
}

impl Default for IndexSlot {
    fn default() -> IndexSlot {
        IndexSlot::EMPTY
    }
}

/// How many [`IndexSlot`]s a table of `entries` records should be lent: one for every seven.
///
/// Then at most seven places in ten are used, and the chance that any key of a whole table finds
/// no room is below one in a billion. Fewer slots are allowed: then the table may refuse a key as `Full` before its records run out.
///
/// ```
/// use overlane::table::index_slots_for;
/// assert_eq!([1, 7, 8, 100_000].map(index_slots_for), [1, 1, 2, 14_286]);
/// ```
pub const fn index_slots_for(entries: usize) -> usize {
    if entries == 0 { 1 } else { entries.div_ceil(7) }
}

/// Where a key's entry may be: `first`, or `second` when `first` had no room.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    second: usize,
    tag: u16,
}

/// A hash index over lent slots. It stores no keys: the caller says which record an id names.
#[derive(Debug, Clone)]
pub(crate) struct Index<S> {
    slots: S,
}

impl<S: Store<IndexSlot>> Index<S> {
    /// An empty index over `slots`, which are reset; `table` names the owner in errors.
    pub(crate) fn new(mut slots: S, table: &'static str) -> Result<Index<S>, CapacityError> {
        let entries = slots.as_slice().len();
        let max = u32::MAX as usize;
        if entries == 0 {
            return Err(CapacityError::Empty { table });
        }
        if entries > max {
            return Err(CapacityError::TooLarge { table, entries, max });
        }
        slots.as_mut_slice().fill(IndexSlot::EMPTY);
        Ok(Index { slots })
    }

    /// The two slots that `hash` may use, different ones where there are two.
    ///
    /// The low half picks the first slot; the high half picks the second by its upper bits and the
    /// tag by its lower ones, so that neither tells the other.
    #[inline]
    fn place(slots: usize, hash: u64) -> Place {
        let n = slots as u64;
        let (low, high) = (hash & 0xffff_ffff, hash >> 32);
        let first = low.wrapping_mul(n) >> 32;
        let second = first + 1 + (high.wrapping_mul(n.saturating_sub(1)) >> 32);
        let second = if second >= n { second.wrapping_sub(n) } else { second };
        Place { first: first as usize, second: second as usize, tag: (high as u16).max(1) }
    }

    /// The id filed under `hash` for which `is` holds. At most two slots, so at most 20 calls of `is`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let slots = self.slots.as_slice();
        let place = Self::place(slots.len(), hash);
        let first = slots.get(place.first)?;
        let found = first.find(place.tag, &mut is);
        if found.is_some() || first.away == 0 {
            return found;
        }
        slots.get(place.second)?.find(place.tag, &mut is)
    }

    /// Files `id` under `hash`; false, and nothing changed, where there is no room.
    ///
    /// The key must not be filed already. `hash_of` is the hash under which an id was filed. Where
    /// both slots are full, one of their 20 entries is moved to its own other slot, if that has room.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: u64, id: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let slots = self.slots.as_mut_slice();
        let count = slots.len();
        let place = Self::place(count, hash);
        if put(slots, place.first, place.tag, id) {
            return true;
        }
        if put(slots, place.second, place.tag, id) {
            adjust(slots, place.first, 1);
            return true;
        }
        for here in [place.first, place.second] {
            for lane in 0..LANES {
                let Some(resident) = slots.get(here).map(|slot| slot.ids[lane]) else { return false };
                let its = Self::place(count, hash_of(resident));
                let (there, step) = if its.first == here { (its.second, 1) } else { (its.first, -1) };
                if !put(slots, there, its.tag, resident) {
                    continue;
                }
                adjust(slots, its.first, step);
                if let Some(slot) = slots.get_mut(here) {
                    (slot.tags[lane], slot.ids[lane]) = (place.tag, id);
                }
                if here != place.first {
                    adjust(slots, place.first, 1);
                }
                return true;
            }
        }
        false
    }

    /// Takes out what [`insert`](Self::insert) filed; false where there is no such entry.
    pub(crate) fn remove(&mut self, hash: u64, id: u32) -> bool {
        let slots = self.slots.as_mut_slice();
        let place = Self::place(slots.len(), hash);
        if slots.get_mut(place.first).is_some_and(|slot| slot.take(place.tag, id)) {
            return true;
        }
        if slots.get_mut(place.second).is_some_and(|slot| slot.take(place.tag, id)) {
            adjust(slots, place.first, -1);
            return true;
        }
        false
    }
}

fn put(slots: &mut [IndexSlot], at: usize, tag: u16, id: u32) -> bool {
    slots.get_mut(at).is_some_and(|slot| slot.put(tag, id))
}

fn adjust(slots: &mut [IndexSlot], at: usize, step: i32) {
    if let Some(slot) = slots.get_mut(at) {
        slot.away = slot.away.wrapping_add_signed(step);
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::table::Seed;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Finds exactly the ids that are `present`, and counts what is away from home; `hashes[id]` is the hash of `id`.
    fn check(index: &Index<Vec<IndexSlot>>, hashes: &[u64], present: impl Fn(u32) -> bool) {
        let mut away = 0;
        for (id, hash) in hashes.iter().enumerate() {
            let id = id as u32;
            assert_eq!(index.find(*hash, |i| i == id), present(id).then_some(id));
            let place = Index::<Vec<IndexSlot>>::place(index.slots.len(), *hash);
            let first = &index.slots[place.first];
            let at_home = first.ids.iter().zip(&first.tags).any(|(i, t)| *t != FREE && *i == id);
            away += u32::from(present(id) && !at_home);
        }
        assert_eq!(index.slots.iter().map(|s| s.away).sum::<u32>(), away, "entries not in their first slot");
    }

    fn index(slots: usize) -> Index<Vec<IndexSlot>> {
        Index::new(vec![IndexSlot::EMPTY; slots], "index").unwrap()
    }

    #[test]
    fn an_index_needs_a_slot() {
        assert_eq!(Index::new(vec![], "index").unwrap_err(), CapacityError::Empty { table: "index" });
    }

    #[test]
    fn lent_slots_are_reset() {
        let mut used = index(1);
        assert!(used.insert(7, 3, |_| 7));
        assert_eq!(Index::new(used.slots, "index").unwrap().find(7, |_| true), None);
    }

    #[test]
    fn one_and_two_slots_fill_to_the_last_lane() {
        for slots in [1, 2] {
            let mut index = index(slots);
            let hashes: Vec<u64> = (0..100).map(|k| Seed::fixed(1).hash(k, 9)).collect();
            let taken = hashes
                .iter()
                .enumerate()
                .take_while(|(id, h)| index.insert(**h, *id as u32, |i| hashes[i as usize]))
                .count();
            assert_eq!(taken, slots * LANES);
            check(&index, &hashes, |id| (id as usize) < taken);
        }
    }

    #[test]
    fn the_advised_slots_take_every_key() {
        for entries in (1..=130).chain([1000, 4099]) {
            for seed in 0..8 {
                let mut index = index(index_slots_for(entries));
                let hash = |id: u32| Seed::fixed(seed).hash(u64::from(id), 1);
                for id in 0..entries as u32 {
                    assert!(index.insert(hash(id), id, hash), "{entries} entries, seed {seed}, id {id}");
                }
            }
        }
    }

    #[test]
    fn a_full_index_refuses_and_stays_as_it_was() {
        let mut index = index(7);
        let hashes: Vec<u64> = (0..200).map(|k| Seed::fixed(2).hash(k, 9)).collect();
        let mut present = [false; 200];
        for (id, hash) in hashes.iter().enumerate() {
            let before = index.slots.clone();
            present[id] = index.insert(*hash, id as u32, |i| hashes[i as usize]);
            if !present[id] {
                assert!(before.iter().zip(&index.slots).all(|(a, b)| a.ids == b.ids && a.away == b.away));
            }
        }
        check(&index, &hashes, |id| present[id as usize]);
        let full = present.iter().filter(|p| **p).count();
        assert!((63..=70).contains(&full), "{full} of 70 lanes");
        for id in (0..200).step_by(2) {
            assert_eq!(index.remove(hashes[id], id as u32), present[id]);
            present[id] = false;
        }
        check(&index, &hashes, |id| present[id as usize]);
        for (id, p) in present.iter().enumerate().filter(|(_, p)| **p) {
            assert_eq!(index.remove(hashes[id], id as u32), *p);
        }
        check(&index, &hashes, |_| false);
        assert!(index.slots.iter().all(|s| s.tags == [FREE; LANES] && s.away == 0));
    }

    #[test]
    fn entries_that_give_way_go_elsewhere_and_home_again() {
        let mut index = index(7);
        let hashes: Vec<u64> = (0..140).map(|k| Seed::fixed(3).hash(k, 9)).collect();
        let mut present = [false; 140];
        let mut x = 1u32;
        // Twice as many keys as lanes: about nine lanes in ten are taken.
        for _ in 0..20_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = (x >> 8) % 140;
            let (hash, here) = (hashes[id as usize], &mut present[id as usize]);
            *here =
                if *here { !index.remove(hash, id) } else { index.insert(hash, id, |i| hashes[i as usize]) };
        }
        check(&index, &hashes, |id| present[id as usize]);
    }

    #[test]
    fn equal_hashes_cost_two_slots_and_then_refusals() {
        let mut index = index(100);
        let taken = (0..1000)
            .filter(|id| index.insert(0xdead_beef_0bad_cafe, *id, |_| 0xdead_beef_0bad_cafe))
            .count();
        assert_eq!(taken, 2 * LANES);
        let mut calls = 0;
        assert_eq!(
            index.find(0xdead_beef_0bad_cafe, |_| {
                calls += 1;
                false
            }),
            None
        );
        assert_eq!(calls, 2 * LANES);
    }
}
