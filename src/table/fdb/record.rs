//! One entry in 16 octets, and the clock that its stamp counts on.

use core::num::NonZeroU32;
use core::time::Duration;

use super::{EntryKind, FdbEntry, Probe};
use crate::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use crate::time::Instant;

/// A tick of the stamps is 2^7 ms.
pub(super) const TICK_SHIFT: u32 = 7;
/// A stamp has 31 bits of ticks.
const STAMP: u32 = u32::MAX >> 1;
/// Differences of stamps are read as signed: half of their range lies behind, half ahead.
const MAX_AGE: u32 = STAMP >> 1;

/// The clock's reading in whole ticks, not yet cut to a stamp.
#[inline]
pub(super) const fn ticks(now: Instant) -> u64 {
    now.as_millis() >> TICK_SHIFT
}

/// The stamp of a reading in ticks.
#[inline]
pub(super) const fn stamp(ticks: u64) -> u32 {
    ticks as u32 & STAMP
}

/// How many ticks old an entry must be to be sure that `ageing` has passed.
///
/// One more than the division gives, because the entry's stamp was rounded down.
pub(super) fn ageing_ticks(ageing: Duration) -> u32 {
    let ticks = ageing.as_millis().div_ceil(1 << TICK_SHIFT).saturating_add(1);
    u32::try_from(ticks).unwrap_or(MAX_AGE).min(MAX_AGE)
}

/// Ticks from `stamp` to `now`; zero where the clock has stepped back behind the stamp.
#[inline]
const fn age(now: u32, stamp: u32) -> u32 {
    let age = now.wrapping_sub(stamp) & STAMP;
    if age > MAX_AGE { 0 } else { age }
}

/// The instant of `stamp`, which lies within half the stamps' range of `reference` (in ticks).
fn instant(reference: u64, stamp: u32) -> Instant {
    let offset = (stamp.wrapping_sub(reference as u32) << 1) as i32 >> 1;
    let ticks = reference.saturating_add_signed(offset as i64);
    Instant::from_millis(ticks.saturating_mul(1 << TICK_SHIFT))
}

/// Called on a path that is seldom taken, so that the usual one is compiled without jumps.
#[cold]
#[inline(always)]
pub(super) const fn unlikely() {}

/// What an entry is found by: a MAC address and a VNI, in the places that they have in a [`Slot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// From the top: the VNI (24); the first four octets of the address, the first one lowest so that none is
    /// turned round (32); zeros (8).
    pub(super) low: u64,
    /// The last two octets of the address (16); zeros (48).
    pub(super) high: u64,
}

impl Key {
    #[inline]
    pub(super) const fn new(vni: Vni, mac: MacAddr) -> Key {
        let [a, b, c, d, e, f] = mac.0;
        let head = u32::from_le_bytes([a, b, c, d]) as u64;
        let tail = u16::from_le_bytes([e, f]) as u64;
        // Put together as a pair of VNI and address lies in memory, where one load gets both.
        Key { low: (head << 32 | vni.get() as u64).rotate_left(32 + FLAGS), high: tail << TAIL_AT }
    }

    /// Whether it may be learned: see [`MacAddr::is_unicast`].
    #[inline]
    pub(super) const fn is_unicast(self) -> bool {
        self.low & 1 << FLAGS == 0 && ((self.low >> FLAGS) as u32 != 0 || self.high != 0)
    }
}

/// An entry, packed. `low`, from the top: VNI and first four octets of the MAC address as in the [`Key`] (56), port
/// or VTEP (1), unused (4), whether it lives in its secondary group (1), kind (2). `high`: the last two
/// octets (16), 0 (1), stamp (31), id of the port or VTEP (16).
///
/// The 0 keeps a sum with a stamp from reaching the octets above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Slot {
    low: u64,
    high: u64,
}

/// Bits of `low` below the key.
const FLAGS: u32 = 8;
const VNI_AT: u32 = 40;
const VTEP: u64 = 1 << 7;
const UNUSED: u64 = 0xf << 3;
const KIND: u64 = 3;
/// The kind of a static entry.
const STATIC: u64 = 2;
/// The lower bit of the kind: the entry expires. Nothing else has it, a free slot least of all.
const AGES: u64 = 1;
const AWAY: u64 = 1 << 2;
const ID: u64 = 0xffff;
const STAMP_AT: u32 = 16;
const TAIL_AT: u32 = 48;

/// The stamps that are surely alive, as they are in a `high`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    oldest: u64,
    span: u64,
}

impl Window {
    /// Of the `ageing` ticks up to `now`. Where the stamps have wrapped meanwhile, it lacks those from before.
    #[inline]
    pub(super) const fn new(now: u32, ageing: u32) -> Window {
        // Below zero in the first ticks.
        let oldest = (now as u64).wrapping_sub(ageing as u64).wrapping_add(1);
        Window { oldest: oldest << STAMP_AT, span: (ageing as u64) << STAMP_AT }
    }
}

/// A slot without what it has in common with a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found(Slot);

impl Found {
    /// Whether the slot is the entry of the key, with a stamp in `alive`. Nearly always the answer for what is
    /// looked up; where it is not true, nothing is said.
    #[inline]
    pub(super) const fn is_surely(self, alive: Window) -> bool {
        // Octets that differ are far above any stamp.
        self.0.high.wrapping_sub(alive.oldest) < alive.span && self.0.low >> FLAGS == 0
    }

    /// Whether the slot is a static entry of the key, in its primary group: such a one is alive at any age.
    #[inline]
    pub(super) const fn is_static(self) -> bool {
        self.0.low & !(VTEP | UNUSED) == STATIC && self.0.high >> TAIL_AT == 0
    }

    /// Of the slot, where it is the entry of the key.
    #[inline]
    pub(super) const fn destination(self) -> Destination {
        self.0.destination()
    }

    /// What the slot says of the key's station; `young` where it was seen a short time ago.
    #[inline]
    pub(super) const fn known(self, young: bool) -> Option<Known> {
        self.0.known(young)
    }
}

/// Where the sender of a frame is known, and what [`Fdb::probe`](super::Fdb::probe) says of that, wherever the
/// frame came from.
// The id; the lowest octet of a slot, which has kind and VTEP; whether it is young; and a bit that is always set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known(NonZeroU32);

impl Known {
    const FRESH: u32 = 1 << 24;

    /// Where it is known.
    #[inline]
    pub const fn at(self) -> Destination {
        let id = self.0.get() as u16;
        if self.octet() & VTEP != 0 { Destination::Vtep(VtepId(id)) } else { Destination::Port(PortId(id)) }
    }

    /// Whether it was seen there within a sixteenth of the ageing time, or is static.
    #[inline]
    pub const fn is_fresh(self) -> bool {
        self.0.get() & Self::FRESH != 0 || self.octet() & KIND == STATIC
    }

    /// Whether it is known there.
    #[inline]
    pub const fn is_at(self, place: Destination) -> bool {
        let (vtep, id) = pack(place);
        (self.0.get() ^ (id | vtep << 16) as u32) & (ID | VTEP << 16) as u32 == 0
    }

    /// What [`Fdb::probe`](super::Fdb::probe) says of a frame that came from `from`.
    #[inline]
    pub const fn probe(self, from: Destination) -> Probe {
        match (self.is_at(from), self.octet() & KIND) {
            (true, _) if self.is_fresh() => Probe::Fresh,
            (true, _) => Probe::Stale,
            (false, AGES) => Probe::Moved,
            (false, _) => Probe::Pinned,
        }
    }

    const fn octet(self) -> u64 {
        (self.0.get() >> 16) as u64
    }
}

/// A destination as its parts of `low` and `high`.
#[inline]
const fn pack(destination: Destination) -> (u64, u64) {
    match destination {
        Destination::Port(p) => (0, p.0 as u64),
        Destination::Vtep(v) => (VTEP, v.0 as u64),
    }
}

impl Slot {
    /// No entry. Its tag is 0, so no scan for a key's tag comes here.
    pub(super) const FREE: Slot = Slot { low: 0, high: 0 };

    /// What is in no slot: the entry of no key, and never alive.
    pub(super) const NOBODYS: Slot = Slot { low: u64::MAX, high: u64::MAX };

    #[inline]
    pub(super) const fn new(key: Key, destination: Destination, kind: EntryKind, stamp: u32) -> Slot {
        let kind = match kind {
            EntryKind::Learned => AGES,
            EntryKind::Sticky => AGES | 2,
            EntryKind::Static => STATIC,
        };
        let (vtep, id) = pack(destination);
        Slot { low: key.low | kind | vtep, high: key.high | (stamp as u64) << STAMP_AT | id }
    }

    /// The same entry, as it stands in its primary or its secondary group.
    #[inline]
    pub(super) const fn placed(self, away: bool) -> Slot {
        Slot { low: if away { self.low | AWAY } else { self.low & !AWAY }, ..self }
    }

    /// Whether it lives in its secondary group.
    #[inline]
    pub(super) const fn is_away(&self) -> bool {
        self.low & AWAY != 0
    }

    #[inline]
    pub(super) const fn key(&self) -> Key {
        Key { low: self.low >> FLAGS << FLAGS, high: self.high >> TAIL_AT << TAIL_AT }
    }

    #[inline]
    pub(super) const fn holds(&self, key: Key) -> bool {
        (self.low ^ key.low) >> FLAGS == 0 && (self.high ^ key.high) >> TAIL_AT == 0
    }

    #[inline]
    pub(super) const fn without(&self, key: Key) -> Found {
        Found(Slot { low: self.low ^ key.low, high: self.high ^ key.high })
    }

    /// Ticks since this entry was seen, where it differs from `now` in the stamp alone and `now` is not
    /// before it; otherwise more than any age.
    #[inline]
    pub(super) const fn age_if_equal(&self, now: &Slot) -> u64 {
        // What differs in the id goes to the highest bits.
        let age = now.high.wrapping_sub(self.high).rotate_right(STAMP_AT);
        if self.low == now.low { age } else { u64::MAX }
    }

    /// What [`probe`](Self::probe) says of a sighting, as of a learned entry, where that is soon told: nearly always.
    #[inline(always)]
    pub(super) const fn probe_learned(&self, now: &Slot, ageing: u32) -> Option<Probe> {
        let age = self.age_if_equal(now);
        if age <= (ageing >> 4) as u64 || self.is_pinned_there(now) {
            return Some(Probe::Fresh);
        }
        if age < ageing as u64 { Some(Probe::Stale) } else { None }
    }

    /// Whether this entry is static and differs from the sighting `now`, a learned entry's, in kind and stamp alone.
    #[inline]
    pub(super) const fn is_pinned_there(&self, now: &Slot) -> bool {
        let stamp = (STAMP as u64) << STAMP_AT;
        self.low ^ now.low == AGES ^ STATIC && (self.high ^ now.high) & !stamp == 0
    }

    #[inline]
    pub(super) const fn is_free(&self) -> bool {
        self.low & KIND == 0
    }

    #[inline]
    pub(super) const fn kind(&self) -> EntryKind {
        match self.low & KIND {
            STATIC => EntryKind::Static,
            3 => EntryKind::Sticky,
            _ => EntryKind::Learned,
        }
    }

    #[inline]
    pub(super) const fn destination(&self) -> Destination {
        let id = self.high as u16;
        if self.low & VTEP != 0 { Destination::Vtep(VtepId(id)) } else { Destination::Port(PortId(id)) }
    }

    /// What the entry says of its station; always something.
    #[inline]
    pub(super) const fn known(&self, young: bool) -> Option<Known> {
        let young = (young as u32) << Known::FRESH.trailing_zeros();
        let bits = self.high as u16 as u32 | (self.low as u8 as u32) << 16 | young | Known::FRESH << 1;
        match NonZeroU32::new(bits) {
            Some(bits) => Some(Known(bits)),
            None => None,
        }
    }

    #[inline]
    pub(super) const fn leads_to(&self, destination: Destination) -> bool {
        let (vtep, id) = pack(destination);
        self.low & VTEP == vtep && self.high & ID == id
    }

    /// In 32 bits, the highest 0.
    #[inline]
    const fn stamp(&self) -> u32 {
        (self.high >> STAMP_AT) as u32
    }

    #[inline]
    pub(super) const fn age(&self, now: u32) -> u32 {
        age(now, self.stamp())
    }

    /// Whether lookups still see the entry: a static one always, any other until `ageing` ticks.
    #[inline]
    pub(super) const fn is_alive(&self, now: u32, ageing: u32) -> bool {
        self.age(now) < ageing || matches!(self.kind(), EntryKind::Static)
    }

    /// The entry, where lookups still see it.
    #[inline]
    pub(super) const fn if_alive(&self, now: u32, ageing: u32) -> Option<&Slot> {
        if self.is_alive(now, ageing) { Some(self) } else { None }
    }

    /// Anything of the slot.
    #[inline]
    pub(super) const fn word(&self) -> u64 {
        self.low
    }

    /// Notes what [`age_if_equal`](Self::age_if_equal) has found equal.
    #[inline]
    pub(super) const fn see(&mut self, now: &Slot) {
        self.high = now.high;
    }

    /// What a sighting from there would find in this entry, which is alive.
    pub(super) fn probe(&self, now: u32, ageing: u32, from: Destination) -> Probe {
        let kind = self.kind();
        if !self.leads_to(from) {
            return if kind == EntryKind::Learned { Probe::Moved } else { Probe::Pinned };
        }
        let fresh = kind == EntryKind::Static || self.age(now) <= ageing >> 4;
        if fresh { Probe::Fresh } else { Probe::Stale }
    }

    /// Whether there is an entry and it is not alive. Without a branch, for the sweep.
    #[inline]
    pub(super) const fn has_expired(&self, now: u32, ageing: u32) -> bool {
        let age = now.wrapping_sub(self.stamp()) << 1;
        (age as i32 >= (ageing << 1) as i32) & (self.low & AGES != 0)
    }

    /// The entry; `reference` is a reading of the clock, in ticks, not far from the stamp.
    pub(super) fn entry(&self, reference: u64) -> FdbEntry {
        let ([_, a, b, c, d, ..], [.., e, f]) = (self.low.to_le_bytes(), self.high.to_le_bytes());
        FdbEntry {
            vni: Vni::truncate((self.low >> VNI_AT) as u32),
            mac: MacAddr([a, b, c, d, e, f]),
            destination: self.destination(),
            kind: self.kind(),
            last_seen: instant(reference, self.stamp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_slot() {
        for vni in [0, 1, 0xffff, 0x10000, 0xff0000, 0xffffff] {
            for mac in [1, 0x0200_0000_0001, 0xfeff_ffff_ffff] {
                for destination in [
                    Destination::Port(PortId(0)),
                    Destination::Port(PortId(0xffff)),
                    Destination::Vtep(VtepId(0)),
                    Destination::Vtep(VtepId(0xffff)),
                ] {
                    for kind in [EntryKind::Learned, EntryKind::Sticky, EntryKind::Static] {
                        let (vni, mac) = (Vni::truncate(vni), MacAddr::from_u64(mac));
                        let key = Key::new(vni, mac);
                        let slot = Slot::new(key, destination, kind, 0x7fff_fff0);
                        assert!(!slot.is_free() && slot.holds(key) && slot.leads_to(destination));
                        assert_eq!(slot.key(), key);
                        let last_seen = Instant::from_millis(0x7fff_fff0 << 7);
                        assert_eq!(
                            slot.entry(0x8000_0010),
                            FdbEntry { vni, mac, destination, kind, last_seen }
                        );
                    }
                }
            }
        }
        assert!(Slot::FREE.is_free());
    }

    #[test]
    fn a_static_entry_is_told_at_any_age() {
        let (port, vtep) = (Destination::Port(PortId(7)), Destination::Vtep(VtepId(7)));
        let keys = [1, 2, 0x0100_0000].map(|mac| Key::new(Vni::truncate(5), MacAddr::from_u64(mac)));
        let kinds = [EntryKind::Learned, EntryKind::Sticky, EntryKind::Static];
        for (kind, made) in kinds.into_iter().flat_map(|kind| [0, 9, STAMP].map(|made| (kind, made))) {
            for (key, at) in keys.into_iter().flat_map(|key| [port, vtep].map(|at| (key, at))) {
                let slot = Slot::new(keys[0], port, kind, made);
                let known = kind == EntryKind::Static && key == keys[0];
                assert_eq!(slot.without(key).is_static(), known, "{slot:?}");
                let seen = Slot::new(key, at, EntryKind::Learned, 3);
                assert_eq!(slot.is_pinned_there(&seen), known && at == port, "{slot:?}");
            }
        }
    }

    #[test]
    fn an_age_wraps_with_the_stamp_and_is_zero_where_the_clock_stepped_back() {
        for (now, stamp, expected) in [
            (10, 3, 7),
            (3, 0x7fff_fffe, 5),
            (3, 10, 0),
            (0x7fff_fffe, 3, 0),
            (0x3fff_ffff, 0, 0x3fff_ffff),
            (0x4000_0000, 0, 0),
        ] {
            assert_eq!(age(now, stamp), expected, "{now:#x} {stamp:#x}");
        }
    }

    #[test]
    fn an_ageing_time_rounds_up_and_stays_in_range() {
        for (ms, expected) in [(0, 1), (1, 2), (128, 2), (129, 3), (300_000, 2345), (u64::MAX, MAX_AGE)] {
            assert_eq!(ageing_ticks(Duration::from_millis(ms)), expected, "{ms}");
        }
    }

    #[test]
    fn a_stamp_from_before_the_epoch_reads_as_the_epoch() {
        assert_eq!(instant(5, 0x7fff_fff0), Instant::ZERO);
        assert_eq!(instant(u64::MAX >> 7, 0x7fff_ffff), Instant::from_millis(!127));
    }
}
