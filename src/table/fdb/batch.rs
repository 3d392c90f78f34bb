//! Many keys at once: what is far away is asked for first and used later, so that the waiting overlaps.

use super::record::{Key, Slot, Window, stamp, ticks, unlikely};
use super::room::Look;
use super::{EntryKind, Fdb, Probe, Quota, SlotGroup, TagGroup};
use crate::addr::{Destination, MacAddr, Vni};
use crate::table::Store;
use crate::time::Instant;

/// A table with fewer groups (2 MB, 50,000 entries) is near: there one lookup after the other is faster.
pub(super) const FAR: usize = 1 << 14;

/// Keys that wait together. More would leave the first-level cache and the core's window.
const LANES: usize = 32;

/// What a bridge asks of the FDB about one frame: whether its sender is known there, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// The VNI.
    pub vni: Vni,
    // The two addresses in the order that they have in a frame: one copy takes both.
    /// The frame's destination address.
    pub destination: MacAddr,
    /// The frame's source address.
    pub source: MacAddr,
    /// Where it came from.
    pub from: Destination,
}

impl<T: Store<TagGroup>, S: Store<SlotGroup>, P: Store<Quota>, V: Store<Quota>> Fdb<T, S, P, V> {
    /// What [`lookup`](Self::lookup) gives for each of `keys`, into the same places of `out`; as many as the
    /// shorter of the two has. In a large table their waiting for memory overlaps, from a few keys on.
    #[inline]
    pub fn lookup_batch(&self, now: Instant, keys: &[(Vni, MacAddr)], out: &mut [Option<Destination>]) {
        if self.tags.as_slice().len() < FAR {
            for (out, (vni, mac)) in out.iter_mut().zip(keys) {
                *out = self.lookup(now, *vni, *mac);
            }
            return;
        }
        let now = stamp(ticks(now));
        for (keys, out) in keys.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let lanes = self.gather(keys, |(vni, mac)| Key::new(*vni, *mac));
            for ((out, lane), _) in out.iter_mut().zip(&lanes).zip(keys) {
                *out = self.answer(lane, now);
            }
        }
    }

    /// What [`probe`](Self::probe) gives for the source of each of `frames` and [`lookup`](Self::lookup) for its
    /// destination, into the same places of `out`; as many as the shorter of the two has.
    ///
    /// The table is the same for all of them: what the first would have taught the second is not there yet.
    #[inline]
    pub fn cross_batch(&self, now: Instant, frames: &[Crossing], out: &mut [(Probe, Option<Destination>)]) {
        if self.tags.as_slice().len() < FAR {
            for (out, f) in out.iter_mut().zip(frames) {
                out.0 = self.probe(now, f.vni, f.source, f.from);
                out.1 = self.lookup_any_kind(now, f.vni, f.destination);
            }
            return;
        }
        let now = stamp(ticks(now));
        for (frames, out) in frames.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let sources = self.gather(frames, |f| Key::new(f.vni, f.source));
            let destinations = self.gather(frames, |f| Key::new(f.vni, f.destination));
            let lanes = sources.iter().zip(&destinations);
            for ((out, (source, destination)), frame) in out.iter_mut().zip(lanes).zip(frames) {
                out.0 = self.probe_of(source, now, frame.from);
                out.1 = self.answer(destination, now);
            }
        }
    }

    /// [`lookup`](Self::lookup) where static entries are as frequent as others: those of pods that a host has
    /// pinned. A test more, which a loop over learned ones alone need not pay.
    #[inline(always)]
    fn lookup_any_kind(&self, now: Instant, vni: Vni, mac: MacAddr) -> Option<Destination> {
        let (key, now) = (Key::new(vni, mac), stamp(ticks(now)));
        match self.look(key) {
            Look::Nothing => return None,
            Look::Probably(slot) => {
                let found = slot.without(key);
                if found.is_surely(Window::new(now, self.ageing)) || found.is_static() {
                    return Some(found.destination());
                }
            }
            Look::Further => {}
        }
        unlikely();
        self.find(key, now).map(Slot::destination)
    }

    /// Looks at the tags of up to [`LANES`] keys, then at the first slot of each that may be its.
    ///
    /// Neither pass branches on what it has just loaded, so the core runs ahead to the next load. In a loop
    /// of whole lookups it does so too, but then its window holds a few of them only. The second pass
    /// does nothing but load, in as few instructions as can be: then nearly all of them fit.
    #[inline(always)]
    fn gather<K>(&self, keys: &[K], key: impl Fn(&K) -> Key) -> [Lane; LANES] {
        let mut lanes = [Lane::EMPTY; LANES];
        for (lane, key) in lanes.iter_mut().zip(keys.iter().map(key)) {
            let home = self.home(key);
            let group = home.primary();
            let tags = self.tags.as_slice().get(group).copied().unwrap_or(TagGroup::EMPTY);
            let first = tags.matching(home.tags()).first();
            // What has no slot to look at looks at the first of all, which is near.
            let (group, slot) = if let Some(slot) = first { (group, slot) } else { (0, 0) };
            *lane = Lane { key, group, slot, found: first.is_some(), overflow: tags.overflow() };
        }
        let slots = self.slots.as_slice();
        let mut touched = 0;
        for (lane, _) in lanes.iter().zip(keys) {
            if let Some(slot) = slots.get(lane.group).and_then(|group| group.get(lane.slot)) {
                touched ^= slot.word();
            }
        }
        core::hint::black_box(touched);
        lanes
    }

    /// What [`lookup`](Self::lookup) gives for a lane's key.
    #[inline(always)]
    fn answer(&self, lane: &Lane, now: u32) -> Option<Destination> {
        if lane.found {
            let found = self.slots.as_slice().get(lane.group)?.get(lane.slot)?.without(lane.key);
            if found.is_surely(Window::new(now, self.ageing)) || found.is_static() {
                return Some(found.destination());
            }
        } else if lane.overflow == 0 {
            return None;
        }
        unlikely();
        self.find(lane.key, now).map(Slot::destination)
    }

    /// What [`probe`](Self::probe) gives for a lane's key.
    #[inline(always)]
    fn probe_of(&self, lane: &Lane, now: u32, from: Destination) -> Probe {
        if lane.found {
            let slot = self.slots.as_slice().get(lane.group).and_then(|slots| slots.get(lane.slot));
            let seen = Slot::new(lane.key, from, EntryKind::Learned, now);
            if let Some(probe) = slot.and_then(|slot| slot.probe_learned(&seen, self.ageing)) {
                return probe;
            }
        } else if lane.overflow == 0 {
            return Probe::Missing;
        }
        unlikely();
        self.probe_anyhow(lane.key, now, from)
    }
}

/// What is known of one key on its way.
#[derive(Clone, Copy)]
struct Lane {
    key: Key,
    group: usize,
    slot: usize,
    found: bool,
    overflow: u8,
}

impl Lane {
    const EMPTY: Lane = Lane { key: Key { low: 0, high: 0 }, group: 0, slot: 0, found: false, overflow: 0 };
}
