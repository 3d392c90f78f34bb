//! Where an entry may live, and whose place it takes where the table is full.

use super::group::{SlotGroup, TagGroup, WIDTH};
use super::quota::Quota;
use super::record::{Key, Slot};
use super::{EntryKind, Fdb, FdbEntry};
use crate::addr::Destination;
use crate::table::Store;

/// The two groups and the tag of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    hash: u64,
    groups: usize,
}

impl Home {
    #[inline]
    pub(super) const fn new(hash: u64, groups: usize) -> Home {
        Home { hash, groups }
    }

    /// Never 0, which marks a free slot; so 1 is twice as frequent as any other tag.
    #[inline]
    pub(super) const fn tag(self) -> u8 {
        let tag = self.hash as u8;
        if tag == 0 { 1 } else { tag }
    }

    /// The high half of the hash, scaled to the number of groups (no power of two needed).
    #[inline]
    pub(super) const fn primary(self) -> usize {
        scale(self.hash >> 32, self.groups)
    }

    /// The low half of the hash, scaled to a distance from the primary group: never the same group,
    /// unless there is one only.
    #[inline]
    pub(super) const fn secondary(self) -> usize {
        let group = self.primary();
        if self.groups < 2 {
            return group;
        }
        let group = group.wrapping_add(1).wrapping_add(scale(self.hash & 0xffff_ffff, self.groups - 1));
        if group >= self.groups { group.wrapping_sub(self.groups) } else { group }
    }

    /// The group of the two that `group` is not.
    const fn other(self, group: usize) -> usize {
        if group == self.primary() { self.secondary() } else { self.primary() }
    }
}

/// `half` of 32 bits, scaled to `0..groups`, where `groups` has at most 32 bits.
#[inline]
const fn scale(half: u64, groups: usize) -> usize {
    (half.wrapping_mul(groups as u64) >> 32) as usize
}

/// One slot of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: usize,
    pub(super) slot: usize,
}

impl<T: Store<TagGroup>, S: Store<SlotGroup>, P: Store<Quota>, V: Store<Quota>> Fdb<T, S, P, V> {
    #[inline]
    pub(super) fn home(&self, key: Key) -> Home {
        Home::new(self.seed.hash(key.low, key.high), self.tags.as_slice().len())
    }

    /// The entry of `key`, expired or not, and where it is: one group, or two where the first one
    /// has overflowed. Always inlined: called, it would hand its result over through memory.
    #[inline(always)]
    pub(super) fn find(&self, key: Key, home: Home) -> Option<(Place, Slot)> {
        let primary = home.primary();
        let tags = self.tags.as_slice().get(primary)?;
        if let Some(found) = self.find_in(key, home, primary, tags) {
            return Some(found);
        }
        if tags.overflow() == 0 {
            return None;
        }
        let secondary = home.secondary();
        self.find_in(key, home, secondary, self.tags.as_slice().get(secondary)?)
    }

    #[inline(always)]
    fn find_in(&self, key: Key, home: Home, group: usize, tags: &TagGroup) -> Option<(Place, Slot)> {
        let slots = self.slots.as_slice().get(group)?;
        for slot in tags.matching(home.tag()) {
            if let Some(s) = slots.get(slot)
                && s.holds(key)
            {
                return Some((Place { group, slot }, *s));
            }
        }
        None
    }

    pub(super) fn at(&self, place: Place) -> Option<Slot> {
        self.slots.as_slice().get(place.group)?.get(place.slot).copied()
    }

    #[inline]
    pub(super) fn write(&mut self, place: Place, slot: Slot) {
        if let Some(slots) = self.slots.as_mut_slice().get_mut(place.group) {
            slots.set(place.slot, slot);
        }
    }

    fn write_tag(&mut self, place: Place, tag: u8) {
        if let Some(tags) = self.tags.as_mut_slice().get_mut(place.group) {
            tags.set(place.slot, tag);
        }
    }

    fn free_in(&self, group: usize) -> Option<Place> {
        let slot = self.tags.as_slice().get(group)?.free()?;
        Some(Place { group, slot })
    }

    /// Whether an entry with this home may live in its secondary group.
    fn may_overflow(&self, home: Home) -> bool {
        home.groups > 1 && self.tags.as_slice().get(home.primary()).is_some_and(TagGroup::may_overflow)
    }

    /// Puts an entry into a free slot of one of its groups. Counts only the overflow.
    fn put(&mut self, place: Place, home: Home, slot: Slot) {
        self.write(place, slot);
        self.write_tag(place, home.tag());
        if place.group != home.primary()
            && let Some(tags) = self.tags.as_mut_slice().get_mut(home.primary())
        {
            tags.overflow_add();
        }
    }

    /// Takes an entry out of its slot. Counts only the overflow.
    fn take(&mut self, place: Place, home: Home) {
        self.write(place, Slot::FREE);
        self.write_tag(place, 0);
        if place.group != home.primary()
            && let Some(tags) = self.tags.as_mut_slice().get_mut(home.primary())
        {
            tags.overflow_sub();
        }
    }

    /// Adds an entry in a free slot of one of its groups, with all its accounts.
    pub(super) fn settle(&mut self, place: Place, home: Home, slot: Slot) {
        self.put(place, home, slot);
        self.len = self.len.saturating_add(1);
        self.count(&slot);
    }

    /// Removes the entry `slot`, which is at `place`, with all its accounts.
    pub(super) fn vacate(&mut self, place: Place, slot: &Slot) {
        self.take(place, self.home(slot.key()));
        self.len = self.len.saturating_sub(1);
        self.uncount(slot);
    }

    /// Adds the entry to its destination's account; static entries are in none.
    pub(super) fn count(&mut self, slot: &Slot) {
        if slot.kind() != EntryKind::Static {
            self.accounts.add(slot.destination());
        }
    }

    /// Takes the entry out of its destination's account.
    pub(super) fn uncount(&mut self, slot: &Slot) {
        if slot.kind() != EntryKind::Static {
            self.accounts.sub(slot.destination());
        }
    }

    /// Finds a free slot for a newcomer with this home that leads to `to`, or makes one. What had
    /// to go comes back with it. `None` and nothing changed where nothing may go.
    pub(super) fn make_room(
        &mut self,
        now: u64,
        home: Home,
        to: Destination,
    ) -> Option<(Place, Option<FdbEntry>)> {
        let primary = home.primary();
        if let Some(place) = self.free_in(primary) {
            return Some((place, None));
        }
        let secondary = home.secondary();
        let overflow = self.may_overflow(home);
        if overflow && let Some(place) = self.free_in(secondary) {
            return Some((place, None));
        }
        let turn = self.next_turn(home);
        // Before displacing: an expired entry never moves, so the sweep cannot miss it.
        if let Some(place) = self.expired(now, home, turn, false, None) {
            return Some(self.evict(now, place));
        }
        if let Some(place) = self.displace(home, turn) {
            return Some((place, None));
        }
        if overflow && let Some(place) = self.expired(now, home, turn, true, None) {
            return Some(self.evict(now, place));
        }
        let place = self.victim(now, home, turn, overflow, to)?;
        Some(self.evict(now, place))
    }

    /// A slot for a newcomer whose destination is at its limit: that of an expired entry of the same
    /// destination, so that the account does not grow.
    pub(super) fn make_room_within(
        &mut self,
        now: u64,
        home: Home,
        to: Destination,
    ) -> Option<(Place, Option<FdbEntry>)> {
        let (turn, overflow) = (self.next_turn(home), self.may_overflow(home));
        let place = self.expired(now, home, turn, overflow, Some(to))?;
        Some(self.evict(now, place))
    }

    fn evict(&mut self, now: u64, place: Place) -> (Place, Option<FdbEntry>) {
        let Some(slot) = self.at(place) else { return (place, None) };
        self.vacate(place, &slot);
        (place, Some(slot.entry(now)))
    }

    /// Where the next search starts, so that no slot is preferred. Nobody without the seed can tell.
    fn next_turn(&mut self, home: Home) -> u32 {
        self.turn = (self.turn ^ home.hash as u32).wrapping_mul(0x9e37_79b1).rotate_left(15);
        self.turn
    }

    /// The entries of the primary group, and of the secondary too where asked for, from the slot
    /// that `turn` names around to the one before it.
    fn around(&self, home: Home, turn: u32, both: bool) -> impl Iterator<Item = (Place, Slot)> {
        let count = if both { 2 * WIDTH } else { WIDTH };
        let start = scale(turn as u64, count);
        let groups = [home.primary(), home.secondary()];
        (start..count).chain(0..start).filter_map(move |i| {
            let (group, slot) = if i < WIDTH { (groups[0], i) } else { (groups[1], i - WIDTH) };
            let place = Place { group, slot };
            let slot = self.at(place)?;
            if slot.is_free() { None } else { Some((place, slot)) }
        })
    }

    /// An entry that has expired, with `to` as its destination where that is given.
    fn expired(&self, now: u64, home: Home, turn: u32, both: bool, to: Option<Destination>) -> Option<Place> {
        self.around(home, turn, both)
            .find(|(_, s)| !s.is_alive(now as u32, self.ageing) && to.is_none_or(|to| s.leads_to(to)))
            .map(|(place, _)| place)
    }

    /// Moves one entry of the primary group to its other group, one step and no further.
    fn displace(&mut self, home: Home, turn: u32) -> Option<Place> {
        if home.groups < 2 {
            return None;
        }
        let (from, to, slot) = self.around(home, turn, false).find_map(|(place, slot)| {
            let its = self.home(slot.key());
            if place.group == its.primary() && !self.may_overflow(its) {
                return None;
            }
            Some((place, self.free_in(its.other(place.group))?, slot))
        })?;
        let its = self.home(slot.key());
        self.take(from, its);
        self.put(to, its, slot);
        Some(from)
    }

    /// Moves an entry from its secondary group to a free slot of its primary one.
    pub(super) fn bring_home(&mut self, place: Place, home: Home, slot: Slot) {
        if let Some(to) = self.free_in(home.primary()) {
            self.take(place, home);
            self.put(to, home, slot);
        }
    }

    /// Who has to go where all slots hold live entries: of the learned ones the longest unseen; but
    /// a newcomer whose destination has as many of them as any other takes the place of one of these.
    fn victim(&self, now: u64, home: Home, turn: u32, both: bool, to: Destination) -> Option<Place> {
        let learned = || self.around(home, turn, both).filter(|(_, s)| s.kind() == EntryKind::Learned);
        let mut destinations = [None; 2 * WIDTH];
        destinations.iter_mut().zip(learned()).for_each(|(d, (_, s))| *d = Some(s.destination()));
        let of = |to: Destination| destinations.iter().filter(|d| **d == Some(to)).count();
        let own = of(to);
        let own_first = own > 0 && destinations.iter().flatten().all(|d| of(*d) <= own);
        let mut oldest: Option<(Place, u32)> = None;
        for (place, slot) in learned() {
            let age = slot.age(now as u32);
            if (!own_first || slot.leads_to(to)) && oldest.is_none_or(|(_, a)| age > a) {
                oldest = Some((place, age));
            }
        }
        oldest.map(|(place, _)| place)
    }
}
