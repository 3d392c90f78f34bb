//! One entry in 16 octets, and the clock that its stamp counts on.

use core::time::Duration;

use super::{EntryKind, FdbEntry, Probe};
use crate::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use crate::time::Instant;

/// A tick of the stamps is 2^7 ms.
const TICK_SHIFT: u32 = 7;
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

/// What an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// The MAC address, its first octet lowest, so that none is turned round, in the high 48 bits.
    pub(super) mac: u64,
    pub(super) vni: u32,
}

impl Key {
    #[inline]
    pub(super) const fn new(vni: Vni, mac: MacAddr) -> Key {
        let [a, b, c, d, e, f] = mac.0;
        Key { mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) << MAC_AT, vni: vni.get() }
    }

    /// Whether it may be learned: see [`MacAddr::is_unicast`].
    #[inline]
    pub(super) const fn is_unicast(self) -> bool {
        self.mac & 1 << MAC_AT == 0 && self.mac != 0
    }
}

/// An entry, packed. `low`, from the top: MAC address as in the [`Key`] (48), id of the port or VTEP
/// (16). `high`: unused (4), whether it lives in its secondary group (1), kind (2), port or VTEP (1), VNI
/// (24), 0 (1), stamp (31).
///
/// The 0 makes one subtraction of two `high`s tell both whether the VNIs are equal and how old the stamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub(super) struct Slot {
    low: u64,
    high: u64,
}

const MAC_AT: u32 = 16;
const ID: u64 = 0xffff;
const VNI_AT: u32 = 32;
const FLAGS_AT: u32 = 56;
const VTEP: u64 = 1 << FLAGS_AT;
const KIND_AT: u32 = FLAGS_AT + 1;
/// The lower bit of the kind: the entry expires. Nothing else has it, a free slot least of all.
const AGES: u64 = 1 << KIND_AT;
const AWAY: u64 = 1 << (FLAGS_AT + 3);

/// A destination as its parts of `low` and `high`.
#[inline]
const fn pack(destination: Destination) -> (u64, u64) {
    match destination {
        Destination::Port(p) => (p.0 as u64, 0),
        Destination::Vtep(v) => (v.0 as u64, VTEP),
    }
}

impl Slot {
    /// No entry. Its tag is 0, so no scan for a key's tag comes here.
    pub(super) const FREE: Slot = Slot { low: 0, high: 0 };

    #[inline]
    pub(super) const fn new(key: Key, destination: Destination, kind: EntryKind, stamp: u32) -> Slot {
        let kind = match kind {
            EntryKind::Learned => AGES,
            EntryKind::Sticky => AGES | 2 << KIND_AT,
            EntryKind::Static => 2 << KIND_AT,
        };
        let (id, vtep) = pack(destination);
        Slot { low: key.mac | id, high: kind | vtep | (key.vni as u64) << VNI_AT | stamp as u64 }
    }

    /// The same entry, as it stands in its primary or its secondary group.
    #[inline]
    pub(super) const fn placed(self, away: bool) -> Slot {
        Slot { high: if away { self.high | AWAY } else { self.high & !AWAY }, ..self }
    }

    /// Whether it lives in its secondary group.
    #[inline]
    pub(super) const fn is_away(&self) -> bool {
        self.high & AWAY != 0
    }

    #[inline]
    pub(super) const fn key(&self) -> Key {
        Key { mac: self.low & !ID, vni: (self.high >> VNI_AT) as u32 & Vni::MAX.get() }
    }

    #[inline]
    pub(super) const fn holds(&self, key: Key) -> bool {
        self.low & !ID == key.mac && (self.high >> VNI_AT) as u32 & Vni::MAX.get() == key.vni
    }

    /// Whether this is the entry of `key`, seen less than `ageing` ticks before `now`. Nearly always the
    /// answer for what is looked up; where it is not true, nothing is said.
    #[inline]
    pub(super) const fn surely_holds(&self, key: Key, now: u32, ageing: u32) -> bool {
        let now = (key.vni as u64) << VNI_AT | now as u64;
        (self.low ^ key.mac) <= ID && now.wrapping_sub(self.high) << 8 < (ageing as u64) << 8
    }

    /// Ticks since this entry was seen, where it differs from `now` in the stamp alone and `now` is not
    /// before it; otherwise more than any age.
    #[inline]
    pub(super) const fn age_if_equal(&self, now: &Slot) -> u64 {
        if self.low == now.low { now.high.wrapping_sub(self.high) } else { u64::MAX }
    }

    #[inline]
    pub(super) const fn is_free(&self) -> bool {
        self.high >> KIND_AT & 3 == 0
    }

    #[inline]
    pub(super) const fn kind(&self) -> EntryKind {
        match self.high >> KIND_AT & 3 {
            2 => EntryKind::Static,
            3 => EntryKind::Sticky,
            _ => EntryKind::Learned,
        }
    }

    #[inline]
    pub(super) const fn destination(&self) -> Destination {
        let id = self.low as u16;
        if self.high & VTEP != 0 { Destination::Vtep(VtepId(id)) } else { Destination::Port(PortId(id)) }
    }

    #[inline]
    pub(super) const fn leads_to(&self, destination: Destination) -> bool {
        let (id, vtep) = pack(destination);
        self.low & ID == id && self.high & VTEP == vtep
    }

    #[inline]
    const fn stamp(&self) -> u32 {
        self.high as u32
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

    /// What a sighting from there would find in this entry, which is that of `key` and alive.
    #[inline(always)]
    pub(super) fn probe(&self, key: Key, now: u32, ageing: u32, from: Destination) -> Probe {
        // Nearly always; the rest is left to a call.
        if self.age_if_equal(&Slot::new(key, from, EntryKind::Learned, now)) <= (ageing >> 4) as u64 {
            return Probe::Fresh;
        }
        unlikely();
        self.probe_closely(now, ageing, from)
    }

    #[inline(never)]
    fn probe_closely(&self, now: u32, ageing: u32, from: Destination) -> Probe {
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
        (age as i32 >= (ageing << 1) as i32) & (self.high & AGES != 0)
    }

    /// The entry; `reference` is a reading of the clock, in ticks, not far from the stamp.
    pub(super) fn entry(&self, reference: u64) -> FdbEntry {
        let [_, _, a, b, c, d, e, f] = self.low.to_le_bytes();
        FdbEntry {
            vni: Vni::truncate(self.key().vni),
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
