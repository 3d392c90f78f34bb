//! Many keys at once: what is far away is asked for first and used later, so that the waiting overlaps.

use super::group::Matches;
use super::record::{Key, Slot, stamp, ticks, unlikely};
use super::{Fdb, Probe, Quota, SlotGroup, TagGroup};
use crate::addr::{Destination, MacAddr, Vni};
use crate::table::Store;
use crate::time::Instant;

/// Keys that wait together. More would leave the first-level cache and the core's window.
const LANES: usize = 32;

/// What a bridge asks of the FDB about one frame: whether its sender is known there, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// The VNI.
    pub vni: Vni,
    /// The frame's source address.
    pub source: MacAddr,
    /// Where it came from.
    pub from: Destination,
    /// The frame's destination address.
    pub destination: MacAddr,
}

impl<T: Store<TagGroup>, S: Store<SlotGroup>, P: Store<Quota>, V: Store<Quota>> Fdb<T, S, P, V> {
    /// What [`lookup`](Self::lookup) gives for each of `keys`, into the same places of `out`; as many as the
    /// shorter of the two has. Worth it from a few keys on, where the table is larger than the caches.
    #[inline]
    pub fn lookup_batch(&self, now: Instant, keys: &[(Vni, MacAddr)], out: &mut [Option<Destination>]) {
        let now = stamp(ticks(now));
        for (keys, out) in keys.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let lanes = self.gather(keys, |(vni, mac)| Key::new(*vni, *mac));
            for ((out, lane), _) in out.iter_mut().zip(&lanes).zip(keys) {
                *out = self.answer(lane, now).map(Slot::destination);
            }
        }
    }

    /// What [`probe`](Self::probe) gives for the source of each of `frames` and [`lookup`](Self::lookup) for its
    /// destination, into the same places of `out`; as many as the shorter of the two has.
    ///
    /// The table is the same for all of them: what the first would have taught the second is not there yet.
    #[inline]
    pub fn cross_batch(&self, now: Instant, frames: &[Crossing], out: &mut [(Probe, Option<Destination>)]) {
        let now = stamp(ticks(now));
        for (frames, out) in frames.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let sources = self.gather(frames, |f| Key::new(f.vni, f.source));
            let destinations = self.gather(frames, |f| Key::new(f.vni, f.destination));
            let lanes = sources.iter().zip(&destinations);
            for ((out, (source, destination)), frame) in out.iter_mut().zip(lanes).zip(frames) {
                out.0 = match self.answer(source, now) {
                    Some(slot) => slot.probe(source.key, now, self.ageing, frame.from),
                    None => Probe::Missing,
                };
                out.1 = self.answer(destination, now).map(Slot::destination);
            }
        }
    }

    /// Looks at the tags of up to [`LANES`] keys, then at the first slot of each that may be its.
    ///
    /// Neither pass branches on what it has just loaded, so the core runs ahead to the next load. In a loop
    /// of whole lookups it does so too, but then its window holds a few of them only.
    #[inline(always)]
    fn gather<K>(&self, keys: &[K], key: impl Fn(&K) -> Key) -> [Lane; LANES] {
        let mut lanes = [Lane::EMPTY; LANES];
        for (lane, key) in lanes.iter_mut().zip(keys.iter().map(key)) {
            let home = self.home(key);
            lane.key = key;
            lane.group = home.primary();
            let tags = self.tags.as_slice().get(lane.group).copied().unwrap_or(TagGroup::EMPTY);
            lane.matches = tags.matching(home.tags());
            lane.overflow = tags.overflow();
        }
        for (lane, _) in lanes.iter_mut().zip(keys) {
            if let Some(i) = lane.matches.first()
                && let Some(slot) = self.slots.as_slice().get(lane.group).and_then(|slots| slots.get(i))
            {
                lane.slot = *slot;
            }
        }
        lanes
    }

    /// The living entry of a lane's key.
    #[inline(always)]
    fn answer<'a>(&'a self, lane: &'a Lane, now: u32) -> Option<&'a Slot> {
        if lane.matches == Matches::NONE {
            if lane.overflow == 0 {
                return None;
            }
        } else if lane.slot.surely_holds(lane.key, now, self.ageing) {
            return Some(&lane.slot);
        }
        unlikely();
        self.find_further(lane.key, now)
    }
}

/// What is known of one key on its way.
#[derive(Clone, Copy)]
struct Lane {
    slot: Slot,
    key: Key,
    group: usize,
    matches: Matches,
    overflow: u8,
}

impl Lane {
    const EMPTY: Lane =
        Lane { slot: Slot::FREE, key: Key { mac: 0, vni: 0 }, group: 0, matches: Matches::NONE, overflow: 0 };
}
