//! The hash index of the VNI and VTEP tables: from a key's hash to a record's id.
//!
//! A lookup reads one slot, which is half a cache line, and a second one only where keys of the first
//! had to go elsewhere. It never reads a third, so the bound holds even against somebody who knows
//! the [`Seed`](super::Seed) and chooses the keys: all that such keys reach is a refused insert.

use super::Store;
use super::hash::{Hash, scale};
use super::tags::{TagGroup, Tags};
use crate::error::CapacityError;

/// Entries of one slot. With their tags, the last of which no entry has, they are half a cache line.
const LANES: usize = 6;

/// Half a cache line of an index's memory: room for six entries.
///
/// Lend a table [`index_slots_for`] its capacity many.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct IndexSlot {
    /// Counts the entries whose first slot is this one and that are kept in their second.
    tags: TagGroup,
    ids: [u32; LANES],
}

const _: () = assert!(size_of::<IndexSlot>() == 32);

impl IndexSlot {
    /// A slot without entries.
    pub const EMPTY: IndexSlot = IndexSlot { tags: TagGroup::EMPTY, ids: [0; LANES] };

    #[inline]
    fn find(&self, hash: Hash, is: &impl Fn(u32) -> bool) -> Option<u32> {
        for lane in self.tags.matching(Tags::new(hash.tag)) {
            let id = *self.ids.get(lane)?;
            if is(id) {
                return Some(id);
            }
        }
        None
    }

    /// Puts an entry into a free lane; false where there is none.
    fn put(&mut self, tags: Tags, id: u32) -> bool {
        let Some(lane) = self.tags.free() else { return false };
        let Some(i) = self.ids.get_mut(lane) else { return false };
        *i = id;
        self.tags.set(lane, Some(tags));
        true
    }

    fn take(&mut self, tags: Tags, id: u32) -> bool {
        let Some(lane) = self.tags.matching(tags).find(|lane| self.ids.get(*lane) == Some(&id)) else {
            return false;
        };
        self.clear(lane);
        true
    }

    fn clear(&mut self, lane: usize) {
        if let Some(i) = self.ids.get_mut(lane) {
            *i = 0;
        }
        self.tags.set(lane, None);
    }
}

impl Default for IndexSlot {
    fn default() -> IndexSlot {
        IndexSlot::EMPTY
    }
}

/// How many [`IndexSlot`]s a table of `entries` records should be lent: one for every three.
///
/// Then half of the places are used, and the chance that any key of a whole table finds
/// no room is below one in a billion. Fewer slots are allowed: then the table may refuse a key as `Full` before its records run out.
///
/// ```
/// use overlane::table::index_slots_for;
/// assert_eq!([1, 3, 4, 100_000].map(index_slots_for), [1, 1, 2, 33_334]);
/// ```
pub const fn index_slots_for(entries: usize) -> usize {
    if entries == 0 { 1 } else { entries.div_ceil(3) }
}

/// Where a key's entry may be: `first`, or `second` when `first` had no room.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    second: usize,
    tags: Tags,
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
    #[inline]
    fn place(slots: usize, hash: Hash) -> Place {
        let first = scale(hash.place, slots);
        let second = first.wrapping_add(1).wrapping_add(scale(hash.place << 32, slots.saturating_sub(1)));
        let second = if second >= slots { second.wrapping_sub(slots) } else { second };
        Place { first, second, tags: Tags::new(hash.tag) }
    }

    /// The id filed under `hash` for which `is` holds. At most two slots, so at most 12 calls of `is`.
    #[inline]
    pub(crate) fn find(&self, hash: Hash, is: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = self.slots.as_slice();
        let slot = slots.get(scale(hash.place, slots.len()))?;
        let found = slot.find(hash, &is);
        if found.is_some() || slot.tags.overflow() == 0 {
            return found;
        }
        self.find_away(hash, is)
    }

    #[cold]
    #[inline(never)]
    fn find_away(&self, hash: Hash, is: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = self.slots.as_slice();
        slots.get(Self::place(slots.len(), hash).second)?.find(hash, &is)
    }

    /// Files `id` under `hash`; false, and nothing changed, where there is no room.
    ///
    /// The key must not be filed already. `hash_of` is the hash under which an id was filed. Where
    /// both slots are full, one of their 12 entries is moved to its own other slot, if that has room.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: Hash, id: u32, hash_of: impl Fn(u32) -> Hash) -> bool {
        let slots = self.slots.as_mut_slice();
        let count = slots.len();
        let place = Self::place(count, hash);
        if put(slots, place.first, place.tags, id) {
            return true;
        }
        // The count of what is away never saturates.
        let may_go_away =
            |slots: &[IndexSlot], from: usize| slots.get(from).is_some_and(|s| s.tags.may_overflow());
        let away = may_go_away(slots, place.first);
        if away && put(slots, place.second, place.tags, id) {
            leave(slots, place.first);
            return true;
        }
        for here in [place.first, place.second] {
            if here != place.first && !away {
                break;
            }
            for lane in 0..LANES {
                let Some(resident) = slots.get(here).and_then(|slot| slot.ids.get(lane)).copied() else {
                    return false;
                };
                let its = Self::place(count, hash_of(resident));
                let at_home = its.first == here;
                if at_home && !may_go_away(slots, here) {
                    continue;
                }
                if !put(slots, if at_home { its.second } else { its.first }, its.tags, resident) {
                    continue;
                }
                if at_home {
                    leave(slots, its.first)
                } else {
                    come_back(slots, its.first)
                }
                if let Some(slot) = slots.get_mut(here) {
                    slot.clear(lane);
                    slot.put(place.tags, id);
                }
                if here != place.first {
                    leave(slots, place.first);
                }
                return true;
            }
        }
        false
    }

    /// Takes out what [`insert`](Self::insert) filed; false where there is no such entry.
    pub(crate) fn remove(&mut self, hash: Hash, id: u32) -> bool {
        let slots = self.slots.as_mut_slice();
        let place = Self::place(slots.len(), hash);
        if slots.get_mut(place.first).is_some_and(|slot| slot.take(place.tags, id)) {
            return true;
        }
        if slots.get_mut(place.second).is_some_and(|slot| slot.take(place.tags, id)) {
            come_back(slots, place.first);
            return true;
        }
        false
    }
}

fn put(slots: &mut [IndexSlot], at: usize, tags: Tags, id: u32) -> bool {
    slots.get_mut(at).is_some_and(|slot| slot.put(tags, id))
}

/// Counts one more entry of a slot that is kept elsewhere.
fn leave(slots: &mut [IndexSlot], from: usize) {
    if let Some(slot) = slots.get_mut(from) {
        slot.tags.overflow_add();
    }
}

/// Counts one fewer.
fn come_back(slots: &mut [IndexSlot], to: usize) {
    if let Some(slot) = slots.get_mut(to) {
        slot.tags.overflow_sub();
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::table::Seed;
    use alloc::vec;
    use alloc::vec::Vec;

    const SAME: Hash = Hash { tag: 0xdead_beef_0bad_cafe, place: 0xdead_beef_0bad_cafe };

    /// Finds exactly the ids that are `present`, and counts what is away from home; `hashes[id]` is the hash of `id`.
    fn check(index: &Index<Vec<IndexSlot>>, hashes: &[Hash], present: impl Fn(u32) -> bool) {
        let mut away = 0;
        for (id, hash) in hashes.iter().enumerate() {
            let id = id as u32;
            assert_eq!(index.find(*hash, |i| i == id), present(id).then_some(id));
            let place = Index::<Vec<IndexSlot>>::place(index.slots.len(), *hash);
            let first = &index.slots[place.first];
            let at_home = first.tags.occupied().any(|lane| first.ids[lane] == id);
            away += u32::from(present(id) && !at_home);
        }
        assert_eq!(
            index.slots.iter().map(|s| u32::from(s.tags.overflow())).sum::<u32>(),
            away,
            "entries not in their first slot"
        );
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
        assert!(used.insert(SAME, 3, |_| SAME));
        assert_eq!(Index::new(used.slots, "index").unwrap().find(SAME, |_| true), None);
    }

    #[test]
    fn one_and_two_slots_fill_to_the_last_lane() {
        for slots in [1, 2] {
            let mut index = index(slots);
            let hashes: Vec<Hash> = (0..100).map(|k| Seed::fixed(1).hash(k, 9)).collect();
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
        let hashes: Vec<Hash> = (0..200).map(|k| Seed::fixed(2).hash(k, 9)).collect();
        let mut present = [false; 200];
        for (id, hash) in hashes.iter().enumerate() {
            let before = index.slots.clone();
            present[id] = index.insert(*hash, id as u32, |i| hashes[i as usize]);
            if !present[id] {
                assert!(before.iter().zip(&index.slots).all(|(a, b)| a.ids == b.ids && a.tags == b.tags));
            }
        }
        check(&index, &hashes, |id| present[id as usize]);
        let full = present.iter().filter(|p| **p).count();
        assert!((36..=42).contains(&full), "{full} of 42 lanes");
        for id in (0..200).step_by(2) {
            assert_eq!(index.remove(hashes[id], id as u32), present[id]);
            present[id] = false;
        }
        check(&index, &hashes, |id| present[id as usize]);
        for (id, p) in present.iter().enumerate().filter(|(_, p)| **p) {
            assert_eq!(index.remove(hashes[id], id as u32), *p);
        }
        check(&index, &hashes, |_| false);
        assert!(index.slots.iter().all(|s| s.tags == TagGroup::EMPTY));
    }

    #[test]
    fn entries_that_give_way_go_elsewhere_and_home_again() {
        let mut index = index(7);
        let hashes: Vec<Hash> = (0..84).map(|k| Seed::fixed(3).hash(k, 9)).collect();
        let mut present = [false; 84];
        let mut x = 1u32;
        // Twice as many keys as lanes: about nine lanes in ten are taken.
        for _ in 0..20_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = (x >> 8) % 84;
            let (hash, here) = (hashes[id as usize], &mut present[id as usize]);
            *here =
                if *here { !index.remove(hash, id) } else { index.insert(hash, id, |i| hashes[i as usize]) };
        }
        check(&index, &hashes, |id| present[id as usize]);
    }

    #[test]
    fn a_full_count_of_what_is_away_sends_no_more_away() {
        let mut index = index(100);
        // The first 300 and the last 100 have the same first slot and any second one.
        let first_slot = |id: u64| !(300..600).contains(&id);
        let hashes: Vec<Hash> = (0..700)
            .map(|id| Hash {
                place: Seed::fixed(4).hash(id, 9).place >> if first_slot(id) { 32 } else { 0 },
                ..Seed::fixed(4).hash(id, 9)
            })
            .collect();
        let mut present = vec![false; hashes.len()];
        for (id, hash) in hashes.iter().enumerate() {
            present[id] = index.insert(*hash, id as u32, |i| hashes[i as usize]);
            check(&index, &hashes, |id| present[id as usize]);
        }
        assert_eq!(index.slots[0].tags.overflow(), u8::MAX);
        assert!(present[..300].iter().filter(|p| **p).count() >= 255 && present[600..].iter().any(|p| !p));
        for (id, here) in present.iter().enumerate().filter(|(_, here)| **here) {
            assert_eq!(index.remove(hashes[id], id as u32), *here);
        }
        assert!(index.slots.iter().all(|s| s.tags == TagGroup::EMPTY));
    }

    #[test]
    fn equal_hashes_cost_two_slots_and_then_refusals() {
        let mut index = index(100);
        let taken = (0..1000).filter(|id| index.insert(SAME, *id, |_| SAME)).count();
        assert_eq!(taken, 2 * LANES);
        let calls = core::cell::Cell::new(0);
        let is = |_| {
            calls.set(calls.get() + 1);
            false
        };
        assert_eq!(index.find(SAME, is), None);
        assert_eq!(calls.get(), 2 * LANES);
    }
}
