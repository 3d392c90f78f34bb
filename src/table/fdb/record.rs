//! One entry in 16 octets, and the clock that its stamp counts on.

use core::time::Duration;

use super::{EntryKind, FdbEntry};
use crate::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use crate::time::Instant;

/// A tick of the stamps is 2^7 ms.
const TICK_SHIFT: u32 = 7;
/// Differences of stamps are read as signed: half of the 32-bit range lies behind, half ahead.
const MAX_AGE: u32 = i32::MAX as u32;

/// The clock's reading in whole ticks, not yet cut to a stamp.
#[inline]
pub(super) const fn ticks(now: Instant) -> u64 {
    now.as_millis() >> TICK_SHIFT
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
pub(super) const fn age(now: u32, stamp: u32) -> u32 {
    let age = now.wrapping_sub(stamp);
    if age > MAX_AGE { 0 } else { age }
}

/// The instant of `stamp`, which lies within half the stamps' range of `reference` (in ticks).
fn instant(reference: u64, stamp: u32) -> Instant {
    let offset = stamp.wrapping_sub(reference as u32) as i32;
    let ticks = reference.saturating_add_signed(offset as i64);
    Instant::from_millis(ticks.saturating_mul(1 << TICK_SHIFT))
}

/// What an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// MAC in the high 48 bits, low 16 bits of the VNI.
    pub(super) low: u64,
    /// High 8 bits of the VNI.
    pub(super) high: u64,
}

impl Key {
    #[inline]
    pub(super) const fn new(vni: Vni, mac: MacAddr) -> Key {
        let vni = vni.get() as u64;
        Key { low: mac.to_u64() << 16 | vni & 0xffff, high: vni >> 16 }
    }
}

/// An entry, packed. `a`: MAC (48 bits), VNI low (16). `b`, from the top: VNI high (8), unused (5),
/// kind (2), destination (1 bit VTEP or port, 16 bits id), stamp (32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub(super) struct Slot {
    a: u64,
    b: u64,
}

const VNI_HIGH_AT: u32 = 56;
const KIND_AT: u32 = 49;
const VTEP_BIT: u64 = 1 << 48;
const ID_AT: u32 = 32;

/// A destination as the 17 bits that a slot holds.
#[inline]
const fn pack(destination: Destination) -> u64 {
    match destination {
        Destination::Port(p) => (p.0 as u64) << ID_AT,
        Destination::Vtep(v) => (v.0 as u64) << ID_AT | VTEP_BIT,
    }
}

impl Slot {
    /// No entry. Its tag is 0, so no scan for a key's tag comes here.
    pub(super) const FREE: Slot = Slot { a: 0, b: 0 };

    #[inline]
    pub(super) const fn new(key: Key, destination: Destination, kind: EntryKind, stamp: u32) -> Slot {
        let kind = match kind {
            EntryKind::Learned => 1,
            EntryKind::Sticky => 2,
            EntryKind::Static => 3,
        };
        Slot { a: key.low, b: key.high << VNI_HIGH_AT | kind << KIND_AT | pack(destination) | stamp as u64 }
    }

    #[inline]
    pub(super) const fn key(&self) -> Key {
        Key { low: self.a, high: self.b >> VNI_HIGH_AT }
    }

    #[inline]
    pub(super) const fn holds(&self, key: Key) -> bool {
        self.a == key.low && self.b >> VNI_HIGH_AT == key.high
    }

    #[inline]
    pub(super) const fn is_free(&self) -> bool {
        self.b >> KIND_AT & 3 == 0
    }

    #[inline]
    pub(super) const fn kind(&self) -> EntryKind {
        match self.b >> KIND_AT & 3 {
            3 => EntryKind::Static,
            2 => EntryKind::Sticky,
            _ => EntryKind::Learned,
        }
    }

    #[inline]
    pub(super) const fn destination(&self) -> Destination {
        let id = (self.b >> ID_AT) as u16;
        if self.b & VTEP_BIT != 0 { Destination::Vtep(VtepId(id)) } else { Destination::Port(PortId(id)) }
    }

    #[inline]
    pub(super) const fn leads_to(&self, destination: Destination) -> bool {
        (self.b ^ pack(destination)) & (VTEP_BIT | 0xffff << ID_AT) == 0
    }

    #[inline]
    pub(super) const fn age(&self, now: u32) -> u32 {
        age(now, self.b as u32)
    }

    /// Whether lookups still see the entry: a static one always, any other until `ageing` ticks.
    #[inline]
    pub(super) const fn is_alive(&self, now: u32, ageing: u32) -> bool {
        self.age(now) < ageing || matches!(self.kind(), EntryKind::Static)
    }

    /// The entry; `reference` is a reading of the clock, in ticks, not far from the stamp.
    pub(super) fn entry(&self, reference: u64) -> FdbEntry {
        let vni_low = self.a as u32 & 0xffff;
        FdbEntry {
            vni: Vni::truncate((self.key().high as u32) << 16 | vni_low),
            mac: MacAddr::from_u64(self.a >> 16),
            destination: self.destination(),
            kind: self.kind(),
            last_seen: instant(reference, self.b as u32),
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
                        let slot = Slot::new(key, destination, kind, 0xffff_fff0);
                        assert!(!slot.is_free() && slot.holds(key) && slot.leads_to(destination));
                        assert_eq!(slot.key(), key);
                        let last_seen = Instant::from_millis(0xffff_fff0 << 7);
                        assert_eq!(
                            slot.entry(0x1_0000_0010),
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
            (3, 0xffff_fffe, 5),
            (3, 10, 0),
            (0xffff_fffe, 3, 0),
            (0x7fff_ffff, 0, 0x7fff_ffff),
            (0x8000_0000, 0, 0),
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
        assert_eq!(instant(5, 0xffff_fff0), Instant::ZERO);
        assert_eq!(instant(u64::MAX >> 7, 0xffff_ffff), Instant::from_millis(!127));
    }
}
