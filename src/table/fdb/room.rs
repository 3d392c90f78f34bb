//! Where an entry may live, and whose place it takes where the table is full.

use super::group::{SlotGroup, TagGroup, WIDTH};
use super::quota::Quota;
use super::record::{Key, Slot, stamp};
use super::{EntryKind, Fdb, FdbEntry};
use crate::addr::Destination;
use crate::table::Store;
use crate::table::hash::{Hash, scale};
use crate::table::tags::Tags;

/// The two groups and the tags of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Home {
    hash: Hash,
    groups: usize,
}

impl Home {
    #[inline]
    pub(super) const fn new(hash: Hash, groups: usize) -> Home {
        Home { hash, groups }
    }

    #[inline]
    pub(super) const fn tags(self) -> Tags {
        Tags::new(self.hash.tag)
    }

    #[inline]
    pub(super) const fn tag(self) -> u64 {
        self.hash.tag
    }

    #[inline]
    pub(super) const fn primary(self) -> usize {
        scale(self.hash.place, self.groups)
    }

    /// The low half of the hash, scaled to a distance from the primary group: never the same group,
    /// unless there is one only.
    #[inline]
    pub(super) const fn secondary(self) -> usize {
        let group = self.primary();
        if self.groups < 2 {
            return group;
        }
        let distance = scale(self.hash.place << 32, self.groups - 1);
        let group = group.wrapping_add(1).wrapping_add(distance);
        if group >= self.groups { group.wrapping_sub(self.groups) } else { group }
    }
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

    /// Where the entry of `key` is, by one group of tags: in this slot, unless that is another key's, which is seldom;
    /// or further away (`Some(None)`). `None` where there is no entry.
    ///
    /// Always inlined, as half of what it costs is not done again in a caller's loop: nearly always
    /// the first tag that is equal is that of the entry, and where none is there is no entry.
    #[inline(always)]
    pub(super) fn look(&self, key: Key) -> Option<Option<&Slot>> {
        let home = self.home(key);
        let slots = self.slots.as_slice().get(..home.groups)?;
        let tags = self.tags.as_slice().get(home.primary())?;
        match tags.matching(home.tags()).first() {
            Some(slot) => Some(Some(slots.get(home.primary())?.get(slot)?)),
            None if tags.overflow() == 0 => None,
            None => Some(None),
        }
    }

    /// The entry of `key`, if it is alive.
    #[cold]
    #[inline(never)]
    pub(super) fn find(&self, key: Key, now: u32) -> Option<&Slot> {
        let place = self.locate(key, self.home(key))?.0;
        self.slots.as_slice().get(place.group)?.get(place.slot)?.if_alive(now, self.ageing)
    }

    /// The entry of `key` and where it is, for what changes the table beyond that entry.
    pub(super) fn locate(&self, key: Key, home: Home) -> Option<(Place, Slot)> {
        [home.primary(), home.secondary()].into_iter().find_map(|group| {
            let slots = self.slots.as_slice().get(group)?;
            let tags = self.tags.as_slice().get(group)?;
            tags.matching(home.tags()).find_map(|slot| {
                let s = slots.get(slot)?;
                if s.holds(key) { Some((Place { group, slot }, *s)) } else { None }
            })
        })
    }

    pub(super) fn at(&self, place: Place) -> Option<Slot> {
        self.slots.as_slice().get(place.group)?.get(place.slot).copied()
    }

    #[inline]
    pub(super) fn write(&mut self, place: Place, slot: Slot) {
        if let Some(slots) = self.slots.as_mut_slice().get_mut(place.group)
            && let Some(s) = slots.get_mut(place.slot)
        {
            *s = slot;
        }
    }

    #[inline]
    fn write_tag(&mut self, place: Place, tags_of: Option<Tags>) {
        if let Some(tags) = self.tags.as_mut_slice().get_mut(place.group) {
            tags.set(place.slot, tags_of);
        }
    }

    /// A free slot of the group for a key with this home.
    fn free_in(&self, group: usize, home: Home) -> Option<Place> {
        let slot = self.tags.as_slice().get(group)?.place(home.tags())?;
        Some(Place { group, slot })
    }

    /// Whether an entry with this home may live in its secondary group.
    fn may_overflow(&self, home: Home) -> bool {
        home.groups > 1 && self.tags.as_slice().get(home.primary()).is_some_and(TagGroup::may_overflow)
    }

    /// Puts an entry into a free slot of one of its groups. Counts only the overflow.
    fn put(&mut self, place: Place, home: Home, slot: Slot) {
        let away = place.group != home.primary();
        self.write(place, slot.placed(away));
        self.write_tag(place, Some(home.tags()));
        if away && let Some(tags) = self.tags.as_mut_slice().get_mut(home.primary()) {
            tags.overflow_add();
        }
    }

    /// Takes an entry out of its slot. Counts only the overflow.
    #[inline]
    fn take(&mut self, place: Place, slot: &Slot) {
        self.write(place, Slot::FREE);
        self.write_tag(place, None);
        if slot.is_away() {
            let primary = self.home(slot.key()).primary();
            if let Some(tags) = self.tags.as_mut_slice().get_mut(primary) {
                tags.overflow_sub();
            }
        }
    }

    /// Adds an entry in a free slot of one of its groups, with all its accounts.
    pub(super) fn settle(&mut self, place: Place, home: Home, slot: Slot) {
        self.put(place, home, slot);
        self.len = self.len.saturating_add(1);
        self.count(&slot);
    }

    /// Removes the entry `slot`, which is at `place`, with all its accounts.
    #[inline]
    pub(super) fn vacate(&mut self, place: Place, slot: &Slot) {
        self.take(place, slot);
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
    #[inline]
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
        if let Some(place) = self.free_in(primary, home) {
            return Some((place, None));
        }
        let secondary = home.secondary();
        let overflow = self.may_overflow(home);
        if overflow && let Some(place) = self.free_in(secondary, home) {
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
        self.turn = (self.turn ^ home.hash.place as u32).wrapping_mul(0x9e37_79b1).rotate_left(15);
        self.turn
    }

    /// The entries of the primary group, and of the secondary too where asked for, from the slot
    /// that `turn` names around to the one before it.
    fn around(&self, home: Home, turn: u32, both: bool) -> impl Iterator<Item = (Place, Slot)> {
        let count = if both { 2 * WIDTH } else { WIDTH };
        let start = scale((turn as u64) << 32, count);
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
            .find(|(_, s)| !s.is_alive(stamp(now), self.ageing) && to.is_none_or(|to| s.leads_to(to)))
            .map(|(place, _)| place)
    }

    /// Moves one entry of the primary group to its other group, one step and no further.
    fn displace(&mut self, home: Home, turn: u32) -> Option<Place> {
        if home.groups < 2 {
            return None;
        }
        let (from, to, slot) = self.around(home, turn, false).find_map(|(place, slot)| {
            let its = self.home(slot.key());
            if !slot.is_away() && !self.may_overflow(its) {
                return None;
            }
            let other = if slot.is_away() { its.primary() } else { its.secondary() };
            Some((place, self.free_in(other, its)?, slot))
        })?;
        self.take(from, &slot);
        self.put(to, self.home(slot.key()), slot);
        Some(from)
    }

    /// Moves an entry from its secondary group to a free slot of its primary one.
    pub(super) fn bring_home(&mut self, place: Place, home: Home, slot: Slot) {
        if let Some(to) = self.free_in(home.primary(), home) {
            self.take(place, &slot);
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
            let age = slot.age(stamp(now));
            if (!own_first || slot.leads_to(to)) && oldest.is_none_or(|(_, a)| age > a) {
                oldest = Some((place, age));
            }
        }
        oldest.map(|(place, _)| place)
    }
}
