//! The FDB: which destination each MAC address of each VNI is behind.
//!
//! # Layout
//!
//! Two arrays of the same length: tag groups of 8 octets ([`TagGroup`]) and slot groups of 112
//! octets ([`SlotGroup`]), each for seven entries. A tag group holds one octet of each entry's
//! hash (7 bits of it, another octet for each slot), 0 where the slot is free, and in its lowest octet a
//! count of the entries that belong here first and live elsewhere because this group was full when
//! they came: so one word of 8 octets tells all that a search needs. A slot is 16 octets: the key (48
//! bits MAC, 24 bits VNI), the destination (17 bits), the kind (2 bits) and the stamp of the last
//! sighting (31 bits of 128 ms ticks).
//!
//! The keyed hash of (VNI, MAC) names a primary group, a secondary group and the tags. An entry lives
//! in one of these two groups and nowhere else, which bounds every search; the secondary is
//! looked at only where the primary's count of overflowed entries is not zero.
//!
//! A newcomer takes a free slot of the primary group; else one of the secondary; else that of an
//! expired entry of the primary; else that of an entry of the primary which has room in its own other
//! group and moves there (one step, never a chain); else that of an expired entry of the
//! secondary; else it evicts a learned entry of the two groups: the one unseen for longest, ties
//! broken from a slot that changes each time, but one of its own destination's where this has as many
//! learned entries there as any other. A static entry is never evicted, a sticky one not before it expires. A
//! flooder thus soon evicts its own entries only; a limit ([`Fdb::set_limit`]) stops it before that.
//!
//! An entry that lives in its secondary group returns to its primary when it is refreshed and a slot
//! is free there; so the counts of overflowed entries fall again as addresses come and go.
//!
//! # Costs
//!
//! | call | cache lines touched |
//! |---|---|
//! | hit | one of tags, one of slots; one more of tags for entries in their secondary group (1 in 150 in a table just filled to 44 %) |
//! | miss | one of tags; one more where the primary has overflowed (1 in 69 at 44 %, 1 in 34 at 50 %, 1 in 14 at 60 %; more often after many generations of addresses none of which was ever refreshed); one of slots for each tag that is equal by chance (1 in 41 misses) |
//! | learn, refreshing | as a hit, and the slot is written |
//! | learn, new | as a miss, and one slot is written; in a full group at most both groups' 4 lines of slots and one of tags for each entry of the primary |
//! | sweep | the slots; one of tags per group that something is removed from |
//!
//! A hit in a loop takes about 45 instructions on x86-64-v3. What has expired is told by the compare that tells
//! the address: one subtraction serves the last octets of the address and the age, so that no time is spent
//! on it. [`lookup_batch`](Fdb::lookup_batch), [`cross_batch`](Fdb::cross_batch) and
//! [`learn_batch`](Fdb::learn_batch) ask a large table for the lines of up to 32 keys before they use the first:
//! more instructions, but the waiting for memory overlaps.
//!
//! Tags of 7 bits are equal by chance, and a search that meets such a one first has the processor guess wrong. So the
//! lowest slot of a group, where a search begins, is filled last, or by a newcomer which has met an equal tag: one entry in
//! 700 stands behind an equal tag, where it were one in 80 if each took the lowest slot.
//!
//! # Hash
//!
//! One folded multiplication of the key with both words of the secret seed, as foldhash does it, gives the tags. The
//! group is taken from its product with the seed's second word: straight from the fold, addresses
//! assigned in order crowd together under one seed in twelve, up to four in five of them beyond their groups.
//!
//! # Memory
//!
//! 120 octets per group of seven, so 17.1 per slot. [`groups_for`] plans for a load of 44 %: 38.6
//! octets per entry, and 8 for each port and VTEP ([`Quota`]). A table lent half as many groups holds
//! nearly as many entries, but a third of its groups overflow.
//!
//! # Time
//!
//! A stamp counts ticks of 128 ms in 31 bits; differences wrap. An entry expires when it was not
//! seen for the ageing time: never sooner, at most 256 ms later. Where the clock has stepped back
//! behind a stamp, the entry's age is zero. This reading holds for differences below 2^30 ticks
//! (4.3 years), which is also the longest ageing time.
//!
//! # Accounts
//!
//! Each port and each VTEP has an account of the learned and sticky entries that lead to it, exact at
//! any time; an expired entry counts until it is swept or its place is taken. Static entries are
//! in no account.

mod batch;
mod group;
mod quota;
mod record;
mod room;
#[cfg(all(test, feature = "alloc"))]
mod tests;

use core::ops::Range;
use core::time::Duration;

pub use batch::{Crossed, Crossing, Known, Sighting};
pub use group::{SlotGroup, TagGroup};
pub use quota::Quota;

use self::group::WIDTH;
use self::quota::Accounts;
use self::record::{Key, Slot, TICK_SHIFT, Window, ageing_ticks, stamp, ticks, unlikely};
use self::room::Place;
use crate::addr::{Destination, MacAddr, Vni};
use crate::error::{CapacityError, FdbError};
use crate::table::tags::Tags;
use crate::table::{Seed, Store};
use crate::time::Instant;

/// The most groups that a table can use: 2^26, a thousand million entries.
pub const MAX_GROUPS: usize = 1 << 26;

/// How many groups hold `entries` entries at a load of 44 %, where few groups overflow and none evicts
/// before the table holds so many. At least 1; up to 14 entries fit exactly.
///
/// ```
/// use overlane::table::fdb::groups_for;
/// assert_eq!(groups_for(14), 2);
/// assert_eq!(groups_for(65_536) * 120, 2_527_920); // octets
/// ```
pub const fn groups_for(entries: usize) -> usize {
    let groups = if entries <= 2 * WIDTH {
        entries.div_ceil(WIDTH)
    } else {
        // Nine groups, of seven, for 28 entries; in two steps, so that no product overflows.
        entries / 28 * 9 + (entries % 28 * 9).div_ceil(28)
    };
    if groups == 0 { 1 } else { groups }
}

/// How an entry came to be, and what may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Learned from traffic: expires, and moves to where its address is seen next.
    Learned,
    /// Expires too; but while it lives, nothing that is learned moves it.
    Sticky,
    /// Neither expires nor moves.
    Static,
}

/// An entry, as read out of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// The VNI.
    pub vni: Vni,
    /// The MAC address in it.
    pub mac: MacAddr,
    /// Where the address is.
    pub destination: Destination,
    /// What may change the entry.
    pub kind: EntryKind,
    /// When the address was last seen, rounded down to 128 ms; for a static entry, when it was made.
    pub last_seen: Instant,
}

/// What [`Fdb::learn`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// The address is new; also where the table still held an expired entry for it.
    New {
        /// The entry whose place was taken: one evicted, or one that had expired unswept.
        evicted: Option<FdbEntry>,
    },
    /// It was known there; now it is younger.
    Refreshed,
    /// It was known elsewhere.
    Moved {
        /// Where it was.
        from: Destination,
    },
    /// It is known elsewhere by an entry that does not move; nothing changed.
    Pinned,
    /// The destination may learn no more (or has no account); nothing changed.
    QuotaHit,
    /// Every place for it holds an entry that may not be evicted; nothing changed.
    Full,
    /// Not an address of one station; nothing changed.
    NotUnicast,
}

/// What [`Fdb::learn`] would find; see [`Fdb::probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Known there, and seen within a sixteenth of the ageing time, or static: no need to learn.
    Fresh,
    /// Known there, and due to be refreshed.
    Stale,
    /// Known elsewhere, by an entry that may move.
    Moved,
    /// Not known, or expired, or no unicast address.
    Missing,
    /// Known elsewhere, by an entry that does not move.
    Pinned,
}

/// The MAC addresses of all VNIs. See the [module](self) for layout, bounds and costs.
///
/// `T` and `S` lend the groups, `P` and `V` the accounts of ports and VTEPs, indexed by their ids.
///
/// ```
/// use core::time::Duration;
/// use overlane::addr::{Destination, MacAddr, PortId, Vni};
/// use overlane::table::Seed;
/// use overlane::table::fdb::{EntryKind, Fdb, Learned, Quota, SlotGroup, TagGroup, groups_for};
/// use overlane::time::Instant;
///
/// const GROUPS: usize = groups_for(100);
/// let mut fdb = Fdb::new(
///     [TagGroup::EMPTY; GROUPS],
///     [SlotGroup::EMPTY; GROUPS],
///     [Quota::UNLIMITED; 4], // ports
///     [Quota::UNLIMITED; 8], // VTEPs
///     Seed::fixed(1),        // random in earnest
///     Duration::from_secs(300),
/// )?;
/// let (vni, mac) = (Vni::new(42)?, MacAddr([2, 0, 0, 0, 0, 1]));
/// let port = Destination::Port(PortId(3));
/// let now = Instant::from_secs(1);
///
/// assert_eq!(fdb.lookup(now, vni, mac), None);
/// assert_eq!(fdb.learn(now, vni, mac, port, EntryKind::Learned), Learned::New { evicted: None });
/// assert_eq!(fdb.lookup(now, vni, mac), Some(port));
/// assert_eq!(fdb.lookup(Instant::from_secs(302), vni, mac), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fdb<T, S, P, V> {
    tags: T,
    slots: S,
    accounts: Accounts<P, V>,
    seed: Seed,
    /// In ticks, at least 1.
    ageing: u32,
    len: usize,
    /// The slot that the sweep looks at next.
    cursor: usize,
    /// Where the next search for somebody to evict or move starts.
    turn: u32,
    /// The last reading of the clock that made or swept entries, in ticks: what turns a stamp back
    /// into an instant where the caller gives none.
    clock: u64,
}

impl<T: Store<TagGroup>, S: Store<SlotGroup>, P: Store<Quota>, V: Store<Quota>> Fdb<T, S, P, V> {
    /// An empty table over this memory, whatever that held; limits are reset too.
    ///
    /// `tags` and `slots` must have the same length, 1 to [`MAX_GROUPS`]. `ageing` is cut to the range
    /// of the stamps, one tick to 4.3 years.
    pub fn new(
        mut tags: T,
        mut slots: S,
        port_quotas: P,
        vtep_quotas: V,
        seed: Seed,
        ageing: Duration,
    ) -> Result<Self, CapacityError> {
        let table = "fdb";
        let (first, second) = (tags.as_slice().len(), slots.as_slice().len());
        if first != second {
            return Err(CapacityError::Mismatch { table, first, second });
        }
        if first == 0 {
            return Err(CapacityError::Empty { table });
        }
        if first > MAX_GROUPS {
            return Err(CapacityError::TooLarge {
                table,
                entries: first.saturating_mul(WIDTH),
                max: MAX_GROUPS * WIDTH,
            });
        }
        tags.as_mut_slice().fill(TagGroup::EMPTY);
        slots.as_mut_slice().fill(SlotGroup::EMPTY);
        Ok(Fdb {
            tags,
            slots,
            accounts: Accounts::new(port_quotas, vtep_quotas),
            seed,
            ageing: ageing_ticks(ageing),
            len: 0,
            cursor: 0,
            turn: 0,
            clock: 0,
        })
    }

    /// Where `mac` is. An entry that has expired is a miss, swept or not.
    #[inline(always)]
    pub fn lookup(&self, now: Instant, vni: Vni, mac: MacAddr) -> Option<Destination> {
        let (key, now) = (Key::new(vni, mac), stamp(ticks(now)));
        if let Some(slot) = self.look(key)? {
            let found = slot.without(key);
            if found.is_surely(Window::new(now, self.ageing)) {
                return Some(found.destination());
            }
        }
        unlikely();
        self.find(key, now).map(Slot::destination)
    }

    /// The whole entry; `None` where [`lookup`](Self::lookup) would miss.
    pub fn entry(&self, now: Instant, vni: Vni, mac: MacAddr) -> Option<FdbEntry> {
        Some(self.find(Key::new(vni, mac), stamp(ticks(now)))?.entry(ticks(now)))
    }

    /// What [`learn`](Self::learn) with these arguments would find. It changes nothing, so that
    /// readers which share the table can tell what they need not pass to the one that writes.
    #[inline(always)]
    pub fn probe(&self, now: Instant, vni: Vni, mac: MacAddr, from: Destination) -> Probe {
        let (key, now) = (Key::new(vni, mac), stamp(ticks(now)));
        let Some(near) = self.look(key) else { return Probe::Missing };
        if let Some(slot) = near {
            let seen = Slot::new(key, from, EntryKind::Learned, now);
            if let Some(probe) = slot.probe_learned(&seen, self.ageing) {
                return probe;
            }
        }
        unlikely();
        self.probe_anyhow(key, now, from)
    }

    /// [`probe`](Self::probe) in all its cases.
    #[inline(never)]
    fn probe_anyhow(&self, key: Key, now: u32, from: Destination) -> Probe {
        self.find(key, now).map_or(Probe::Missing, |slot| slot.probe(now, self.ageing, from))
    }

    /// Notes that `mac` was seen coming from `from`.
    ///
    /// `kind` is [`Learned`](EntryKind::Learned) or [`Sticky`](EntryKind::Sticky); traffic makes no
    /// static entries, so [`Static`](EntryKind::Static) is taken for sticky. A sticky sighting makes
    /// a learned entry sticky; never the other way round while it lives.
    ///
    /// A destination at its limit learns nothing new, by moving an address least of all: it
    /// gets [`QuotaHit`](Learned::QuotaHit) and evicts nobody. Only the place of one of its own entries
    /// that has expired is still open to it.
    #[inline(always)]
    pub fn learn(
        &mut self,
        now: Instant,
        vni: Vni,
        mac: MacAddr,
        from: Destination,
        kind: EntryKind,
    ) -> Learned {
        // Traffic makes no static entries.
        let kind = if kind == EntryKind::Learned { kind } else { EntryKind::Sticky };
        let (key, now) = (Key::new(vni, mac), ticks(now));
        let (home, new) = (self.home(key), Slot::new(key, from, kind, stamp(now)));
        self.learn_at(now, home.primary(), home.tags(), new, kind)
    }

    /// [`learn`](Self::learn) of a sighting, as the entry of this kind that it would make.
    ///
    /// Nearly every sighting of a learned address ends here: a refresh, or a newcomer that its primary group
    /// has room for, in the first place looked at. Nothing but unicast is ever in the table.
    #[inline(always)]
    fn learn_at(&mut self, now: u64, group: usize, tags: Tags, new: Slot, kind: EntryKind) -> Learned {
        if kind == EntryKind::Learned
            && let Some(word) = self.tags.as_slice().get(group)
        {
            match word.matching(tags).first() {
                Some(slot) => {
                    if self.refresh(Place { group, slot }, new) {
                        return Learned::Refreshed;
                    }
                }
                None => {
                    if word.overflow() == 0
                        && let Some(slot) = word.place_behind()
                        && self.settle_at_home(now, Place { group, slot }, tags, new)
                    {
                        return Learned::New { evicted: None };
                    }
                }
            }
        }
        unlikely();
        self.learn_anyhow(now, new)
    }

    /// Makes the entry at `place` as young as `new`, where it is alive and differs in nothing else.
    #[inline(always)]
    fn refresh(&mut self, place: Place, new: Slot) -> bool {
        if let Some(slots) = self.slots.as_mut_slice().get_mut(place.group)
            && let Some(slot) = slots.get_mut(place.slot)
            && slot.age_if_equal(&new) < self.ageing as u64
        {
            slot.see(&new);
            return true;
        }
        false
    }

    /// Puts a newcomer into this free slot of its primary group, where it may be learned.
    #[inline(always)]
    fn settle_at_home(&mut self, now: u64, place: Place, tags: Tags, new: Slot) -> bool {
        if let Some(word) = self.tags.as_mut_slice().get_mut(place.group)
            && let Some(slots) = self.slots.as_mut_slice().get_mut(place.group)
            && let Some(slot) = slots.get_mut(place.slot)
            && new.key().is_unicast()
            && self.accounts.admit(new.destination())
        {
            *slot = new;
            word.fill(place.slot, tags);
            self.len = self.len.wrapping_add(1);
            self.clock = now;
            return true;
        }
        false
    }

    /// [`learn`](Self::learn) in all its cases.
    #[inline(never)]
    fn learn_anyhow(&mut self, now: u64, new: Slot) -> Learned {
        let key = new.key();
        if !key.is_unicast() {
            return Learned::NotUnicast;
        }
        let home = self.home(key);
        let (from, kind) = (new.destination(), new.kind());
        let found = self.locate(key, home);
        if let Some((place, slot)) = found
            && slot.is_alive(stamp(now), self.ageing)
            && slot.leads_to(from)
        {
            let kind = match (slot.kind(), kind) {
                (EntryKind::Static, _) => return Learned::Refreshed,
                (EntryKind::Learned, EntryKind::Learned) => EntryKind::Learned,
                _ => EntryKind::Sticky,
            };
            let new = Slot::new(key, from, kind, stamp(now)).placed(slot.is_away());
            self.write(place, new);
            if slot.is_away() {
                self.bring_home(place, home, new);
            }
            return Learned::Refreshed;
        }
        self.learn_change(now, key, found, from, kind)
    }

    /// A sighting that is more than a refresh: a new address, one that moved, one that expired.
    fn learn_change(
        &mut self,
        now: u64,
        key: Key,
        found: Option<(Place, Slot)>,
        from: Destination,
        kind: EntryKind,
    ) -> Learned {
        let new = Slot::new(key, from, kind, stamp(now));
        let Some((place, old)) = found else { return self.learn_new(now, key, new) };
        let alive = old.is_alive(stamp(now), self.ageing);
        if alive && old.kind() != EntryKind::Learned {
            return Learned::Pinned;
        }
        if !old.leads_to(from) && !self.accounts.has_room(from) {
            return Learned::QuotaHit;
        }
        self.clock = now;
        self.rewrite(place, &old, new);
        if alive {
            Learned::Moved { from: old.destination() }
        } else {
            Learned::New { evicted: Some(old.entry(now)) }
        }
    }

    fn learn_new(&mut self, now: u64, key: Key, new: Slot) -> Learned {
        let (home, from) = (self.home(key), new.destination());
        let (room, refused) = if self.accounts.has_room(from) {
            (self.make_room(now, home, from), Learned::Full)
        } else {
            (self.make_room_within(now, home, from), Learned::QuotaHit)
        };
        let Some((place, evicted)) = room else { return refused };
        self.clock = now;
        self.settle(place, home, new);
        Learned::New { evicted }
    }

    /// Replaces an entry by one with the same key, in its place.
    fn rewrite(&mut self, place: Place, old: &Slot, new: Slot) {
        self.uncount(old);
        self.count(&new);
        self.write(place, new.placed(old.is_away()));
    }

    /// Makes an entry by hand, in the place of any other for this address. Limits do not bind it,
    /// but unless static it counts.
    ///
    /// Gives back what it replaced: the former entry for the address, or the one evicted for it.
    /// Refuses an address that is not unicast, a destination without account, and a full table: one
    /// whose two groups for this address hold only entries that may not be evicted.
    pub fn insert(
        &mut self,
        now: Instant,
        vni: Vni,
        mac: MacAddr,
        destination: Destination,
        kind: EntryKind,
    ) -> Result<Option<FdbEntry>, FdbError> {
        if !mac.is_unicast() {
            return Err(FdbError::NotUnicast(mac));
        }
        if !self.accounts.exists(destination) {
            return Err(FdbError::NoDestination(destination));
        }
        let now = ticks(now);
        let key = Key::new(vni, mac);
        let home = self.home(key);
        let new = Slot::new(key, destination, kind, stamp(now));
        if let Some((place, old)) = self.locate(key, home) {
            self.clock = now;
            self.rewrite(place, &old, new);
            return Ok(Some(old.entry(now)));
        }
        let (place, evicted) = self.make_room(now, home, destination).ok_or(FdbError::Full { vni, mac })?;
        self.clock = now;
        self.settle(place, home, new);
        Ok(evicted)
    }

    /// Removes the entry of any kind for this address, expired or not.
    pub fn remove(&mut self, vni: Vni, mac: MacAddr) -> Option<FdbEntry> {
        let key = Key::new(vni, mac);
        let (place, slot) = self.locate(key, self.home(key))?;
        self.vacate(place, &slot);
        Some(slot.entry(self.clock))
    }

    /// Looks at the next `budget` slots, removes the entries there that have expired, and tells
    /// `removed` of each. Stops at the end of the table, and is then true: a pass has ended, the next
    /// call starts another. Other calls between do not disturb a pass: an entry that has expired
    /// never moves, so the pass that comes next after it expired meets it.
    pub fn sweep(&mut self, now: Instant, budget: usize, mut removed: impl FnMut(FdbEntry)) -> bool {
        let (now, ageing) = (ticks(now), self.ageing);
        self.clock = now;
        let end = self.cursor.saturating_add(budget).min(self.capacity());
        let mut group = self.cursor / WIDTH;
        while self.cursor < end {
            let start = group.wrapping_mul(WIDTH);
            let slots = self.cursor.wrapping_sub(start)..WIDTH.min(end.wrapping_sub(start));
            self.cursor = start.wrapping_add(slots.end);
            self.clear_group(group, slots, now, |s| s.has_expired(stamp(now), ageing), &mut removed);
            group = group.wrapping_add(1);
        }
        let ended = self.cursor >= self.capacity();
        if ended {
            self.cursor = 0;
        }
        ended
    }

    /// Removes every entry, static ones too, that `keep` does not keep, tells `removed` of each and
    /// returns their number. Looks at the whole table; an expired entry is an entry here.
    pub fn flush(
        &mut self,
        mut keep: impl FnMut(&FdbEntry) -> bool,
        mut removed: impl FnMut(FdbEntry),
    ) -> usize {
        let (before, clock) = (self.len, self.clock);
        for group in 0..self.tags.as_slice().len() {
            self.clear_group(
                group,
                0..WIDTH,
                clock,
                |s| !s.is_free() && !keep(&s.entry(clock)),
                &mut removed,
            );
        }
        before.saturating_sub(self.len)
    }

    /// Removes the entries in these slots of a group that `remove` is true for; it never is for a free slot.
    fn clear_group(
        &mut self,
        group: usize,
        slots: Range<usize>,
        clock: u64,
        mut remove: impl FnMut(&Slot) -> bool,
        mut removed: impl FnMut(FdbEntry),
    ) {
        let Some(all) = self.slots.as_slice().get(group) else { return };
        // One bit for each slot, so that the usual pass, which removes little, has no branch to guess.
        let mut doomed = 0u32;
        all.slots.iter().enumerate().for_each(|(i, s)| doomed |= (remove(s) as u32) << i);
        doomed &= (1u32 << slots.end).wrapping_sub(1 << slots.start);
        while doomed != 0 {
            let place = Place { group, slot: doomed.trailing_zeros() as usize };
            doomed &= doomed - 1;
            if let Some(s) = self.at(place) {
                self.vacate(place, &s);
                removed(s.entry(clock));
            }
        }
    }

    /// Removes every entry at once, static ones too. Limits stay.
    pub fn clear(&mut self) {
        self.tags.as_mut_slice().fill(TagGroup::EMPTY);
        self.slots.as_mut_slice().fill(SlotGroup::EMPTY);
        self.accounts.clear();
        self.len = 0;
        self.cursor = 0;
    }

    /// The age, by its [`last_seen`](FdbEntry::last_seen), at which an entry expires.
    pub(crate) fn lifetime(&self) -> Duration {
        Duration::from_millis(u64::from(self.ageing) << TICK_SHIFT)
    }

    /// Sets how many entries `destination` may learn. What it has beyond that stays until it expires.
    pub fn set_limit(&mut self, destination: Destination, limit: u32) -> Result<(), FdbError> {
        if self.accounts.set_limit(destination, limit) {
            Ok(())
        } else {
            Err(FdbError::NoDestination(destination))
        }
    }

    /// How many learned and sticky entries lead to `destination`, expired ones included until swept.
    pub fn learned_by(&self, destination: Destination) -> u32 {
        self.accounts.held(destination)
    }

    /// All entries, expired ones included until swept, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = FdbEntry> + '_ {
        self.iter_from(0).map(|(_, entry)| entry)
    }

    /// The entries from slot `from` on, each with the number of the slot behind it: where to go on
    /// after changes. From slot 0 these are the entries of [`iter`](Self::iter), in
    /// another order. An entry that moves meanwhile may be met twice or not at all.
    pub fn iter_from(&self, from: usize) -> impl Iterator<Item = (usize, FdbEntry)> + '_ {
        let (first, skip) = (from / WIDTH, from % WIDTH);
        let groups = self.slots.as_slice().iter().enumerate().skip(first);
        groups.flat_map(move |(group, slots)| {
            let skip = if group == first { skip } else { 0 };
            let taken = slots.slots.iter().enumerate().skip(skip).filter(|(_, s)| !s.is_free());
            taken.map(move |(slot, s)| (group * WIDTH + slot + 1, s.entry(self.clock)))
        })
    }

    /// How many entries the table holds, expired ones included until swept.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the table holds no entry.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many slots the table has. About 70 % of them can be filled before the first entry is evicted, more in
    /// small tables.
    pub fn capacity(&self) -> usize {
        self.tags.as_slice().len().saturating_mul(WIDTH)
    }
}
