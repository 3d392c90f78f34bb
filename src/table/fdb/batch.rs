//! Many keys at once: what is far away is asked for first and used later, so that the waiting overlaps.

use super::group::WIDTH;
pub use super::record::Known;
use super::record::{Key, Slot, Window, stamp, ticks, unlikely};
use super::room::Place;
use super::{EntryKind, Fdb, Learned, Probe, Quota, SlotGroup, TagGroup};
use crate::addr::{Destination, MacAddr, Vni};
use crate::table::Store;
use crate::table::tags::Tags;
use crate::time::Instant;

/// A table with fewer groups (2 MB, 50,000 entries) is near: there one lookup after the other is faster.
pub(super) const FAR: usize = 1 << 14;

/// A table with as many (15 MB) is beyond the second cache with its tags too, and its slots are in memory.
pub(super) const FARTHER: usize = 1 << 17;

/// The same for [`Fdb::learn_batch`], which changes what it finds: to look twice pays in a table of 8 MB (200,000
/// entries) and more.
pub(super) const FAR_TO_LEARN: usize = 1 << 16;

/// Keys that wait together. More would leave the first-level cache and the core's window.
const LANES: usize = 32;

/// What a bridge asks of the FDB about one frame: where its sender is known, and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// The VNI.
    pub vni: Vni,
    // The two addresses in the order that they have in a frame: one copy takes both.
    /// The frame's destination address.
    pub destination: MacAddr,
    /// The frame's source address.
    pub source: MacAddr,
}

/// What the FDB says to a [`Crossing`]: where its source is known, and where its destination lives.
pub type Crossed = (Option<Known>, Option<Destination>);

/// What a frame teaches the FDB: its sender, and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)] // VNI and address side by side: one load takes most of both.
pub struct Sighting {
    /// The VNI.
    pub vni: Vni,
    /// The frame's source address.
    pub mac: MacAddr,
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

    /// Where the source of each of `frames` is known, and what [`lookup`](Self::lookup) gives for its
    /// destination, into the same places of `out`; as many as the shorter of the two has.
    ///
    /// The table is the same for all of them: what the first would have taught the second is not there yet.
    #[inline]
    pub fn cross_batch(&self, now: Instant, frames: &[Crossing], out: &mut [Crossed]) {
        let times = Times::new(now, self.ageing);
        if self.tags.as_slice().len() < FAR {
            for (out, f) in out.iter_mut().zip(frames) {
                *out = (
                    self.known(Key::new(f.vni, f.source), times),
                    self.lookup_any_kind(Key::new(f.vni, f.destination), times),
                );
            }
            return;
        }
        for (frames, out) in frames.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let sources = self.slots_of(frames, |f| Key::new(f.vni, f.source));
            let destinations = self.slots_of(frames, |f| Key::new(f.vni, f.destination));
            let pairs = sources.0.iter().zip(&sources.1).zip(destinations.0.iter().zip(&destinations.1));
            for ((out, (source, destination)), _) in out.iter_mut().zip(pairs).zip(frames) {
                out.0 = match times.known(source.1, *source.0) {
                    Some(known) => Some(known),
                    None => self.known_anyhow(*source.0, times.now),
                };
                out.1 = match times.found(destination.1, *destination.0) {
                    Some(found) => Some(found),
                    None => self.found_anyhow(*destination.0, times.now),
                };
            }
        }
    }

    /// [`learn`](Self::learn) of each of `sightings` in turn, as [`Learned`](EntryKind::Learned) entries; tells
    /// `learned` what each did. In a large table their waiting for memory overlaps, from a few on.
    ///
    /// The outcome is that of single calls: what the first has changed, the second finds.
    #[inline]
    pub fn learn_batch(
        &mut self,
        now: Instant,
        sightings: &[Sighting],
        mut learned: impl FnMut(&Sighting, Learned),
    ) {
        if self.tags.as_slice().len() < FAR_TO_LEARN {
            for s in sightings {
                learned(s, self.learn(now, s.vni, s.mac, s.from, EntryKind::Learned));
            }
        } else {
            self.learn_far(ticks(now), sightings, learned);
        }
    }

    /// [`learn_batch`](Self::learn_batch) in a table that is far. Apart, so that neither has the other's registers.
    #[inline(never)]
    fn learn_far(&mut self, now: u64, sightings: &[Sighting], mut learned: impl FnMut(&Sighting, Learned)) {
        let kind = EntryKind::Learned;
        let mut pupils = [Pupil::NOBODY; LANES];
        for sightings in sightings.chunks(LANES) {
            for (pupil, s) in pupils.iter_mut().zip(sightings) {
                let key = Key::new(s.vni, s.mac);
                let (home, new) = (self.home(key), Slot::new(key, s.from, kind, stamp(now)));
                let group = home.primary();
                let tags = self.tags.as_slice().get(group).copied().unwrap_or(TagGroup::EMPTY);
                let slot = tags.first_or_free(home.tags()) as u32;
                *pupil = Pupil { new, tags: home.tags(), group: group as u32, slot };
            }
            let slots = self.slots.as_slice();
            let mut touched = 0;
            for (pupil, _) in pupils.iter().zip(sightings) {
                if let Some(slot) = slots.get(pupil.group as usize).and_then(|g| g.get(pupil.slot as usize)) {
                    touched ^= slot.word();
                }
            }
            core::hint::black_box(touched);
            for (pupil, s) in pupils.iter().zip(sightings) {
                let (group, slot) = (pupil.group as usize, pupil.slot as usize);
                // A slot that holds all of this is the entry, whatever has happened to others meanwhile.
                if self.refresh(Place { group, slot }, pupil.new) {
                    learned(s, Learned::Refreshed);
                } else {
                    learned(s, self.learn_at(now, group, pupil.tags, pupil.new, kind));
                }
            }
        }
    }

    /// The keys of up to [`LANES`] questions, and a copy of the slot that is nearly always the entry of each.
    ///
    /// What is far is copied by loops that do little else, and nothing waits for it before they end: so nearly all
    /// loads are under way together.
    #[inline(always)]
    fn slots_of<K>(&self, questions: &[K], key: impl Fn(&K) -> Key) -> ([Key; LANES], [Slot; LANES]) {
        let (mut keys, mut slots) = ([Key { low: 0, high: 0 }; LANES], [Slot::NOBODYS; LANES]);
        let (mut places, mut hashes, mut tags) = ([0; LANES], [0; LANES], [TagGroup::EMPTY; LANES]);
        let homes = places.iter_mut().zip(&mut hashes);
        for ((to, question), (group, tag)) in keys.iter_mut().zip(questions).zip(homes) {
            *to = key(question);
            let home = self.home(*to);
            (*group, *tag) = (home.primary(), home.tag());
        }
        let groups = self.tags.as_slice();
        for ((to, group), _) in tags.iter_mut().zip(&places).zip(questions) {
            *to = groups.get(*group).copied().unwrap_or(TagGroup::EMPTY);
        }
        let first = |tag: u64, tags: &TagGroup| tags.matching(Tags::new(tag)).first();
        let (far, groups) = (groups.len() >= FARTHER, self.slots.as_slice());
        let (lanes, found) = (slots.iter_mut().zip(&mut places), hashes.iter().zip(&tags).zip(questions));
        if !far {
            for ((to, group), ((tag, tags), _)) in lanes.zip(found) {
                if let Some(slot) = first(*tag, tags)
                    && let Some(slot) = groups.get(*group).and_then(|group| group.get(slot))
                {
                    *to = *slot;
                }
            }
            return (keys, slots);
        }
        for ((_, place), ((tag, tags), _)) in lanes.zip(found) {
            *place = *place << 3 | first(*tag, tags).unwrap_or(WIDTH);
        }
        for ((to, place), _) in slots.iter_mut().zip(&places).zip(questions) {
            if let Some(slot) = groups.get(*place >> 3).and_then(|group| group.get(*place & 7)) {
                *to = *slot;
            }
        }
        (keys, slots)
    }

    /// Where the sender with this key is known.
    #[inline(always)]
    fn known(&self, key: Key, times: Times) -> Option<Known> {
        if let Some(known) = self.look(key)?.and_then(|slot| times.known(slot, key)) {
            return Some(known);
        }
        unlikely();
        self.known_anyhow(key, times.now)
    }

    #[inline(never)]
    fn known_anyhow(&self, key: Key, now: u32) -> Option<Known> {
        self.look(key)?;
        let slot = self.find(key, now)?;
        slot.known(slot.probe(now, self.ageing, slot.destination()) == Probe::Fresh)
    }

    #[inline(never)]
    fn found_anyhow(&self, key: Key, now: u32) -> Option<Destination> {
        self.look(key)?;
        self.find(key, now).map(Slot::destination)
    }

    /// [`lookup`](Self::lookup) where static entries are as frequent as others: those of pods that a host has
    /// pinned. A test more, which a loop over learned ones alone need not pay.
    #[inline(always)]
    fn lookup_any_kind(&self, key: Key, times: Times) -> Option<Destination> {
        if let Some(found) = self.look(key)?.and_then(|slot| times.found(slot, key)) {
            return Some(found);
        }
        unlikely();
        self.find(key, times.now).map(Slot::destination)
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
}

/// The clock's reading, and the stamps that count as seen and as just seen.
#[derive(Clone, Copy)]
struct Times {
    now: u32,
    alive: Window,
    young: Window,
}

impl Times {
    #[inline]
    fn new(now: Instant, ageing: u32) -> Times {
        let now = stamp(ticks(now));
        Times { now, alive: Window::new(now, ageing), young: Window::new(now, (ageing >> 4) + 1) }
    }

    /// What the slot says of the key's station, where that is soon told: nearly always.
    #[inline(always)]
    fn known(&self, slot: &Slot, key: Key) -> Option<Known> {
        let found = slot.without(key);
        if found.is_surely(self.alive) {
            return found.known(found.is_surely(self.young));
        }
        if found.is_static() { found.known(false) } else { None }
    }

    /// Where the slot leads, where it is soon told that it is the key's.
    #[inline(always)]
    fn found(&self, slot: &Slot, key: Key) -> Option<Destination> {
        let found = slot.without(key);
        if found.is_surely(self.alive) || found.is_static() { Some(found.destination()) } else { None }
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

/// A sighting on its way. Half a cache line, so that few stores make it.
#[derive(Clone, Copy)]
struct Pupil {
    /// The entry that it would make.
    new: Slot,
    tags: Tags,
    group: u32,
    slot: u32,
}

impl Pupil {
    const NOBODY: Pupil = Pupil { new: Slot::FREE, tags: Tags::new(0), group: 0, slot: 0 };
}
